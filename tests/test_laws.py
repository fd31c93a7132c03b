"""The laws of the project that no behaviour shows: what imports what, and how large things are."""

import ast
import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import batch_frames as bf
from batch_frames import errors

PACKAGE = Path(bf.__file__).parent
README = Path(__file__).parents[1] / "README.md"
LAYERS = (
    ("csvbytes", "errors", "limits", "locks", "notes", "skipped", "text"),
    ("moments", "nested", "floats", "marks", "views", "columns", "endpoints", "schema", "statuses"),
    ("answertypes", "validation", "structures", "doubts"),
    ("jsontext",),
    ("chunks", "objects"),
    ("template", "lines", "parallel", "answers"),
    ("bodies", "stores", "ids", "shards", "masks", "byhand", "oddlines", "failures", "outputs"),
    ("outcomes", "matching"),
    ("frames", "card"),
    ("csvfile", "files", "tables"),
    ("requests", "requestids", "pieces"),
    ("results", "joins", "summaries"),
    ("jobs", "service"),
    ("ledger", "shardfiles", "rejections", "inflight", "retries"),
    ("finding", "submitting", "control", "waiting", "downloading"),
    ("livefiles", "livecalls", "local"),
    ("creator", "rows", "runs"),
    ("terminal", "clijobs", "cliwrite", "cliread", "cli", "__main__"),
)
"""All modules from the lowest to the highest; in one layer, each may import those before it."""

ORDER = list(itertools.chain(*LAYERS))
MODULES = {path.stem: ast.parse(path.read_text("utf-8")) for path in sorted(PACKAGE.glob("*.py"))}
LONGEST_MODULE = 400
LONGEST_FUNCTION = 40

Function = ast.FunctionDef | ast.AsyncFunctionDef


def imports(tree: ast.Module) -> Iterator[str]:
    """List all that a module imports, at any depth; relative names begin with a dot."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def own_imports(name: str) -> set[str]:
    """List which modules of the package a module imports."""
    return {
        found.split(".")[1] for found in imports(MODULES[name]) if found.startswith("batch_frames.")
    }


def code_lines(function: Function) -> int:
    """Count the lines of a function without its docstring."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        lines -= (first.end_lineno or 0) - first.lineno + 1
    return lines


def test_every_module_has_its_layer() -> None:
    """The table of layers names each module once, and no other."""
    assert sorted(ORDER) == sorted(MODULES.keys() - {"__init__"})
    assert sorted(PACKAGE.rglob("*.py")) == sorted(PACKAGE.glob("*.py"))


@pytest.mark.parametrize("name", ORDER)
def test_imports_point_down(name: str) -> None:
    """A module imports only what stands before it, so that no import can go round in a circle."""
    assert own_imports(name) <= set(ORDER[: ORDER.index(name)])


@pytest.mark.parametrize("name", ORDER)
def test_no_module_imports_the_root(name: str) -> None:
    """No module of the package imports the package itself, nor by a relative name."""
    assert [n for n in imports(MODULES[name]) if n == "batch_frames" or n.startswith(".")] == []


@pytest.mark.parametrize("name", MODULES)
def test_modules_say_what_they_do(name: str) -> None:
    """Every module begins with one sentence on one line."""
    docstring = ast.get_docstring(MODULES[name]) or ""
    sentence, _, rest = docstring.partition("\n")
    assert re.fullmatch(r"[A-Z].*\.", sentence)
    assert rest == "" or rest.startswith("\n")


@pytest.mark.parametrize("name", MODULES)
def test_modules_and_functions_are_short(name: str) -> None:
    """No module is above 400 lines, no function above 40 beside its docstring."""
    lines = (PACKAGE / f"{name}.py").read_text("utf-8").count("\n")
    assert lines <= LONGEST_MODULE
    functions = (node for node in ast.walk(MODULES[name]) if isinstance(node, Function))
    long = {f.name: code_lines(f) for f in functions if code_lines(f) > LONGEST_FUNCTION}
    assert long == {}


@pytest.mark.parametrize("name", bf.__all__)
def test_public_names_are_documented(name: str) -> None:
    """What a user can import has a docstring and its place in the README."""
    assert (getattr(bf, name).__doc__ or "").strip()
    assert re.search(rf"\b{name}\b", README.read_text("utf-8"))


def test_the_root_shows_its_public_names() -> None:
    """Completion in a notebook shows the public names, and none of the modules behind them."""
    assert dir(bf) == sorted([*bf.__all__, "__version__"])
    assert len(set(bf.__all__)) == len(bf.__all__)


def test_importing_needs_no_extras() -> None:
    """The package neither needs nor loads polars, pydantic and openai."""
    script = (
        "import sys; extras = ('polars', 'pydantic', 'openai'); "
        "sys.modules.update(dict.fromkeys(extras)); import batch_frames, batch_frames.cli; "
        "print([name for name in extras if sys.modules[name]])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


@pytest.mark.parametrize(
    ("error", "parents"),
    [
        (bf.BatchFramesError, (Exception,)),
        (bf.TemplateError, (bf.BatchFramesError, ValueError)),
        (bf.ColumnError, (bf.BatchFramesError, LookupError)),
        (bf.RequestError, (bf.BatchFramesError, ValueError)),
        (bf.LineError, (bf.BatchFramesError, ValueError)),
        (bf.JobError, (bf.BatchFramesError, RuntimeError)),
        (bf.WaitTimeout, (bf.JobError, TimeoutError)),
        (bf.MissingExtra, (bf.BatchFramesError, ImportError)),
    ],
)
def test_errors_have_a_builtin_parent(error: type, parents: tuple[type, ...]) -> None:
    """Every error is caught by the package's own class and by the builtin that it resembles."""
    assert error.__bases__ == parents
    assert error.__module__ == errors.__name__


def test_errors_carry_the_place() -> None:
    """Beside their message, errors have what a program needs to find the place."""
    request = bf.RequestError("bad", row=3, column="review", custom_id="a")
    assert (str(request), request.row) == ("bad", 3)
    assert (request.column, request.custom_id) == ("review", "a")
    line = bf.LineError("bad", path=Path("a.jsonl"), line=1_234)
    assert (str(line), line.path, line.line) == ("a.jsonl, line 1,234: bad", Path("a.jsonl"), 1_234)
    assert str(bf.LineError("bad", path=Path("a.jsonl"))) == "a.jsonl: bad"


def test_types_are_shipped() -> None:
    """Type checkers find the mark that says the package has types."""
    assert (PACKAGE / "py.typed").is_file()
