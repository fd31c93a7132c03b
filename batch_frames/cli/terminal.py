"""Show errors, warnings and sizes in a terminal, in the words of the command line."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import shutil
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from batch_frames.display import counted, printable, size_text
from batch_frames.errors import BatchFramesError, BatchFramesWarning
from batch_frames.progress import TO_CONTINUE

if TYPE_CHECKING:
    import pandas as pd

    from batch_frames.files import Shard

__all__ = [
    "EXISTING_FILE",
    "NEW_FILE",
    "PARQUET",
    "STDOUT",
    "body_key",
    "check_csv",
    "check_output",
    "count_text",
    "file_of",
    "json_option",
    "output_option",
    "plain_errors",
    "print_json",
    "print_shards",
    "print_table",
    "read_schema",
    "read_text",
    "renamed",
    "schema_option",
    "schema_source",
    "shard_facts",
]


PARQUET = (".parquet", ".pq")


class _File(click.Path):
    """A file on disk or in object storage."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if "://" not in value:
            return super().convert(value, param, ctx)
        from batch_frames.files import as_path

        with plain_errors():
            path = as_path(value)
            if self.exists and not path.is_file():
                raise click.BadParameter(f"File {value!r} does not exist.", ctx, param)
        return path


EXISTING_FILE = _File(exists=True, dir_okay=False, path_type=Path)
NEW_FILE = _File(dir_okay=False, path_type=Path)
STDOUT = Path("-")


def schema_source(value: str) -> Any:
    """Return the path of a JSON file, or import a class from the current folder or elsewhere."""
    if Path(value).exists() or not re.fullmatch(r"[\w.]+:\w+", value):
        return EXISTING_FILE.convert(value, None, None)
    module, _, name = value.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise click.BadParameter(f"{value!r}: {error}") from None
    finally:
        sys.path.pop(0)


schema_option = click.option(
    "--json-schema",
    type=schema_source,
    metavar="FILE|MODULE:CLASS",
    help="JSON file with the schema of the answers, or the pydantic model class; "
    "without it, that of the requests is used.",
)

output_option = click.option(
    "-o",
    "--output",
    type=NEW_FILE,
    help="Write all columns to this .csv or .parquet file, or with - as CSV to standard output.",
)

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, one object per line, and nothing else."
)

COPY = "batch_frames.stdin"
"""The key in click's context of the folder with a copy of standard input, left out of messages."""

NOT_REACHED = "check the network, or --base-url; what was done is noted"

COMMANDS = {
    "read_requests": "read",
    "read_results": "read",
    "retry_requests": "retry",
    "run_local": "run-local",
}
"""The commands that hints mention by the names of their functions."""

PYTHON = re.compile(
    r"""bf\.(?P<verb>\w+)\(bf\.load_jobs\((?P<paths>.+?)\)\)"""
    rf"""|\b(?P<function>{"|".join(COMMANDS)})\b"""
    r"""|\b(?P<option>[a-z]\w*)=(?P<value>"[^"]*"|'[^']*'|[\w.]*)"""
    r"""|\b(?P<name>[a-z]+_[a-z_]+)\b"""
)

ONLY_PYTHON = re.compile(r"\bbf\.|\b(?:from_csv|from_dataframe|from_parquet|load_jobs|fmt)\b")


@contextmanager
def plain_errors() -> Iterator[None]:
    """Show errors that a user can correct, and warnings, in one line without a traceback."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            yield
        except KeyboardInterrupt as error:
            click.echo(_interrupted(error), err=True)
            raise click.exceptions.Exit(130) from None
        except BrokenPipeError:
            raise
        except (BatchFramesError, OSError, TypeError, ValueError) as error:
            raise click.ClickException(_message(error)) from error
        except Exception as error:
            # The openai SDK's errors, without loading it for the commands that do without.
            kinds = [kind.__name__ for kind in type(error).__mro__]
            if "OpenAIError" not in kinds:
                raise
            problem = _message(error)
            if "APIConnectionError" in kinds:
                said = printable(str(error))
                problem = f"the service is not reached ({said}); {NOT_REACHED}"
            raise click.ClickException(problem) from error
        finally:
            for text in dict.fromkeys(_message(warning.message) for warning in caught):
                click.echo(f"Warning: {text}", err=True)


def _interrupted(error: KeyboardInterrupt) -> str:
    """Return what was done before an interrupt, and the command that continues."""
    context = click.get_current_context()
    notes = getattr(error, "__notes__", None)
    if not notes:
        return "interrupted"
    given = click.core.ParameterSource.COMMANDLINE
    named = [p.name for p in context.command.params if isinstance(p, click.Option) and p.name]
    more = " …" if any(context.get_parameter_source(name) is given for name in named) else ""
    command = f"{context.command_path} {shlex.join(context.params['paths'])}{more}"
    return f"{notes[0].partition(TO_CONTINUE)[0]}{TO_CONTINUE}enter again: {command}"


def _message(problem: Exception | str) -> str:
    """Return a message in one line, with its hint in the words of the command line."""
    text = str(problem)
    text = text.replace(click.get_current_context().meta.get(COPY, "\0"), "")
    if isinstance(problem, (BatchFramesError, BatchFramesWarning)) and problem.hint:
        ways = [way for part in problem.hint.split(", or ") if (way := _in_options(part))]
        text = "; ".join(filter(None, [text.removesuffix(f"; {problem.hint}"), ", or ".join(ways)]))
    return printable(" ".join([*text.split(), *getattr(problem, "__notes__", ())]))


def _in_options(hint: str) -> str | None:
    """Translate a hint from Python; None if this command has nothing like it."""
    context = click.get_current_context()
    commands = getattr(context.find_root().command, "commands", {})
    options = _options(context.command)
    named = set()

    def translate(found: re.Match[str]) -> str:
        if found["verb"]:
            paths = re.findall(r"""["'](.*?)["']""", found["paths"])
            return f"batch-frames {found['verb']} {shlex.join(paths)}"
        if found["function"]:
            command = COMMANDS[found["function"]]
            options.update(_options(commands.get(command, context.command)))
            return f"batch-frames {command}"
        option = "--" + (found["option"] or found["name"]).replace("_", "-")
        if found["name"]:
            return option if option in options else found["name"]
        value = found["value"].strip("\"'")
        if value == "False":
            option, value = option.replace("--", "--no-", 1), ""
        named.add(option)
        return option if value in ("", "True") else f"{option} {value}"

    hint = PYTHON.sub(translate, hint)
    return hint if named <= options and not ONLY_PYTHON.search(hint) else None


def _options(command: click.Command) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts}


@contextmanager
def file_of(source: str, ending: str = "") -> Iterator[str]:
    """Copy standard input to a file, as rows are read more than once."""
    if source != "-":
        yield source
        return
    with TemporaryDirectory() as folder:
        path = Path(folder).resolve() / f"standard input{ending}"
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        click.get_current_context().meta[COPY] = f"{path.parent}{os.sep}"
        yield str(path)


def read_text(path: Path) -> str:
    """Read a text file that an option names."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        problem = f"'{path}' is not UTF-8 at byte {error.start:,}; save it as UTF-8"
        raise click.ClickException(problem) from None


def read_schema(path: Any) -> Any:
    """Read the JSON schema that an option names, if it is a file."""
    if not isinstance(path, Path):
        return path
    try:
        schema = json.loads(read_text(path))
    except ValueError as error:
        raise click.ClickException(f"'{path}' is not JSON: {error}") from None
    if not isinstance(schema, dict):
        raise click.ClickException(f"a JSON schema must be an object, not {schema!r}")
    return schema


def body_key(text: str) -> tuple[str, Any]:
    """Read what ``--body`` takes, ``KEY=JSON``."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise click.UsageError(f"--body {text!r} must be KEY=JSON, as in --body temperature=0.2")
    try:
        return key, json.loads(value)
    except ValueError:
        hint = f"text needs quotes, as in --body '{key}=\"{value}\"'"
        if "{" in value:
            hint = "it is the same for all rows; only --prompt takes columns"
        raise click.UsageError(f"--body {text!r}: the value is not JSON; {hint}") from None


def print_json(objects: Iterable[Mapping[str, Any]]) -> None:
    """Print one JSON object per line."""
    for one in objects:
        click.echo(json.dumps(one, default=_plain))


def _plain(value: Any) -> Any:
    """Return what JSON has no type for: times in ISO 8601, durations in seconds, else text."""
    if isinstance(value, timedelta):
        return int(value.total_seconds())
    return value.isoformat() if isinstance(value, datetime) else str(value)


def print_shards(shards: list[Shard], as_json: bool, *, to_stderr: bool = False) -> None:
    """List files with their requests and sizes, and the sums where there are several."""
    if as_json:
        print_json(shard_facts(shard) for shard in shards)
        return
    rows = [(str(shard.path), shard.requests, shard.nbytes) for shard in shards]
    if len(rows) > 1:
        sums = (sum(shard.requests for shard in shards), sum(shard.nbytes for shard in shards))
        rows.append(("total", *sums))
    width = max((len(name) for name, *_ in rows), default=0)
    for name, requests, nbytes in rows:
        text = f"{name:{width}}  {count_text(requests)}  {size_text(nbytes):>9}"
        click.echo(text, err=to_stderr)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print columns of text, each as wide as its longest."""
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for row in shown:
        cells = (f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def shard_facts(shard: Shard) -> dict[str, Any]:
    """Return what is printed of a request file as JSON."""
    return {"path": str(shard.path), "requests": shard.requests, "nbytes": shard.nbytes}


def count_text(count: int, noun: str = "request") -> str:
    """Write a number of requests, or of something else, in a column."""
    number, _, noun = counted(count, noun).partition(" ")
    return f"{number:>9} {noun}"


def check_csv(source: str | Path) -> None:
    """Refuse a Parquet file whose name does not say so."""
    from batch_frames.files import as_path

    path = as_path(source)
    if path.is_file() and path.suffix not in PARQUET:
        with path.open("rb") as file:
            is_parquet = file.read(4) == b"PAR1"
        if is_parquet:
            raise click.ClickException(f"'{path}' is a Parquet file; its name must end in .parquet")


def check_output(output: Path | None, source: Path | None = None) -> None:
    """Refuse a file that cannot be written, that is read, or that an earlier call did not write."""
    if not output or output == STDOUT:
        return
    if output.suffix not in (".csv", *PARQUET):
        raise click.ClickException(f"'{output}' must end in .csv or .parquet")
    folder = next(parent for parent in output.parents if parent.exists())
    if not folder.is_dir():
        raise click.ClickException(f"'{folder}' is a file, not a folder; choose another name")
    if source and output.exists() and output.samefile(source):
        problem = "which the rows come from; choose another name"
        raise click.ClickException(f"'{output}' would replace '{source}', {problem}")
    if output.exists():
        from batch_frames.files import open_store

        # It is refused now, and not once everything is paid for, unless it is an earlier table.
        open_store(output, hashed=True).close()


def renamed(frame: pd.DataFrame, stdin: str) -> pd.DataFrame:
    """Name standard input, and not its copy, as the file of its lines."""
    return frame.assign(file=frame["file"].replace(stdin, "-")) if stdin else frame
