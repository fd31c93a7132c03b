"""The laws of the project that no behaviour shows: what imports what, and how large things are."""

import ast
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
WINGS = (
    *("display", "errors", "progress", "prices", "arrow", "files", "schemas", "frames"),
    *("requests", "batches", "results", "estimates", "retry", "plans", "run", "cli", "__main__"),
)
"""From the ground up: each may import those before it."""

PATHS = {
    path.relative_to(PACKAGE).with_suffix("").as_posix(): path for path in PACKAGE.rglob("*.py")
}
MODULES = {name: ast.parse(path.read_text("utf-8")) for name, path in sorted(PATHS.items())}
FOLDERS = sorted({name.split("/")[0] for name in MODULES if "/" in name})
MOST_MODULES = 12
LONGEST_MODULE = 350
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
    """List what a module imports of the package, by names without the package's own."""
    found = (n for n in imports(MODULES[name]) if n.split(".")[0] == "batch_frames")
    return {n.removeprefix("batch_frames").removeprefix(".") for n in found}


def code_lines(function: Function) -> int:
    """Count the lines of a function without its docstring."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        lines -= (first.end_lineno or 0) - first.lineno + 1
    return lines


def test_the_package_has_its_wings() -> None:
    """At the top of the package stand the wings that the law of imports orders, and no others."""
    tops = {name.split("/")[0] for name in MODULES} - {"__init__"}
    assert tops == set(WINGS)
    assert len(FOLDERS) <= 8
    assert len([name for name in tops - {"__main__"} if name not in FOLDERS]) <= 8
    assert len([name for name in MODULES if not name.endswith("__init__")]) <= 80


@pytest.mark.parametrize("name", [name for name in MODULES if name != "__init__"])
def test_a_wing_is_entered_by_its_door_and_from_above(name: str) -> None:
    """Another wing is imported by its name alone, and only if it stands lower."""
    wing = name.split("/")[0]
    others = {target for target in own_imports(name) if target.split(".")[0] != wing}
    assert others <= set(WINGS[: WINGS.index(wing)])


@pytest.mark.parametrize("wing", FOLDERS)
def test_wings_are_small(wing: str) -> None:
    """No wing has more than twelve modules beside its door."""
    assert len([name for name in MODULES if name.startswith(f"{wing}/")]) - 1 <= MOST_MODULES


@pytest.mark.parametrize("wing", FOLDERS)
def test_nothing_inside_a_wing_imports_its_own_door(wing: str) -> None:
    """Modules of one wing import each other, so that the door can import them all."""
    inside = [name for name in MODULES if name.startswith(f"{wing}/")]
    assert [name for name in inside if wing in own_imports(name)] == []


@pytest.mark.parametrize("wing", FOLDERS)
def test_no_circle_inside_a_wing(wing: str) -> None:
    """The modules of a wing can be put in an order in which each imports only those before it."""
    inside = {name.replace("/", "."): name for name in MODULES if name.startswith(f"{wing}/")}
    left = {dotted: own_imports(name) & inside.keys() for dotted, name in inside.items()}
    while ready := [dotted for dotted, needs in left.items() if not needs & left.keys()]:
        for dotted in ready:
            del left[dotted]
    assert left == {}


@pytest.mark.parametrize("name", MODULES)
def test_no_module_uses_relative_imports(name: str) -> None:
    """Every import names its module in full."""
    assert [n for n in imports(MODULES[name]) if n.startswith(".")] == []


@pytest.mark.parametrize("name", MODULES)
def test_modules_say_what_they_do(name: str) -> None:
    """Every module begins with one sentence on one line."""
    docstring = ast.get_docstring(MODULES[name]) or ""
    sentence, _, rest = docstring.partition("\n")
    assert re.fullmatch(r"[A-Z].*\.", sentence)
    assert rest == "" or rest.startswith("\n")


@pytest.mark.parametrize("name", MODULES)
def test_modules_and_functions_are_short(name: str) -> None:
    """No module is above 350 lines, no function above 40 beside its docstring."""
    lines = PATHS[name].read_text("utf-8").count("\n")
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
    """The package neither needs nor loads what only some of its users have."""
    script = (
        "import sys; extras = ('polars', 'pydantic', 'openai', 'obstore', 'bpe_openai', "
        "'genai_prices', 'dask', 'distributed', 'pyspark', 'ray'); "
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
