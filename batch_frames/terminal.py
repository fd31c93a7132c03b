"""Show errors, sizes and tables as people at a terminal read them, and write tables to files."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from batch_frames.card import size_text
from batch_frames.errors import BatchFramesError
from batch_frames.jsontext import to_json
from batch_frames.shards import Shard

__all__ = [
    "PARQUET",
    "check_output",
    "count_text",
    "json_file",
    "plain_errors",
    "print_frame",
    "print_shards",
    "text_of",
    "write_frame",
]

PARQUET = (".parquet", ".pq")
SHOWN_ROWS = 20
OPTIONS = {
    'na="skip"': "--na skip",
    "pass model=": "pass --model",
    "overwrite=True": "--overwrite",
    "correct base_url": "correct --base-url",
    'pass prefix="answer_", or columns= with those that you need': "pass --prefix answer_",
}


@contextmanager
def plain_errors() -> Iterator[None]:
    """Show what a user can mend in one line, without a traceback; warnings likewise."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            yield
        except BrokenPipeError:
            raise
        except (BatchFramesError, OSError, TypeError, ValueError) as error:
            raise click.ClickException(_in_options(str(error))) from error
        except Exception as error:
            # The openai SDK's errors, without loading it for the commands that do without.
            if not any(kind.__name__ == "OpenAIError" for kind in type(error).__mro__):
                raise
            raise click.ClickException(_in_options(str(error))) from error
        finally:
            for warning in caught:
                click.echo(f"Warning: {_in_options(str(warning.message))}", err=True)


def _in_options(message: str) -> str:
    """Put a message into one line, and name options as the command line does."""
    for ours, theirs in OPTIONS.items():
        message = message.replace(ours, theirs)
    return " ".join(message.split())


def text_of(path: Path) -> str:
    """Read a text file that an option names."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        problem = f"'{path}' is not UTF-8 at byte {error.start:,}; save it as UTF-8"
        raise click.ClickException(problem) from None


def json_file(path: Path) -> Any:
    """Read a JSON file that an option names."""
    try:
        return json.loads(text_of(path))
    except ValueError as error:
        raise click.ClickException(f"'{path}' is not JSON: {error}") from None


def print_shards(shards: list[Shard], *, to_stderr: bool = False) -> None:
    """List files with their requests and sizes, and the sums where there are several."""
    width = max(len(str(shard.path)) for shard in shards)
    for shard in shards:
        size = size_text(shard.nbytes)
        click.echo(
            f"{shard.path!s:{width}}  {count_text(shard.requests)}  {size:>9}", err=to_stderr
        )
    if len(shards) > 1:
        total = count_text(sum(shard.requests for shard in shards))
        size = size_text(sum(shard.nbytes for shard in shards))
        click.echo(f"{'total':{width}}  {total}  {size:>9}", err=to_stderr)


def count_text(requests: int, noun: str = "request") -> str:
    """Write a number of requests, or of something else, in a column."""
    return f"{requests:>9,} {noun}{'' if requests == 1 else 's'}"


def check_output(output: Path | None) -> None:
    """Refuse a file whose ending does not say how to write it."""
    if output and output.suffix not in (".csv", *PARQUET):
        raise click.ClickException(f"'{output}' must end in .csv or .parquet")


def write_frame(frame: pd.DataFrame, output: Path) -> None:
    """Write a table as CSV or Parquet, whole or not at all; in CSV, what is nested is JSON."""
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_name(f".{output.name}.tmp")
    table = pa.Table.from_pandas(frame, preserve_index=False)
    try:
        if output.suffix == ".csv":
            # pandas leaves a lone carriage return unquoted, and empty text like what is missing.
            pacsv.write_csv(_flat(table), temporary)
        else:
            pq.write_table(table, temporary)
        temporary.replace(output)
    finally:
        temporary.unlink(missing_ok=True)


def _flat(table: pa.Table) -> pa.Table:
    for index, field in enumerate(table.schema):
        column = table.column(index)
        if pa.types.is_dictionary(field.type):
            column = pa.chunked_array([chunk.dictionary_decode() for chunk in column.chunks])
        elif pa.types.is_nested(field.type):
            column = pa.chunked_array(
                [to_json(chunk) for chunk in column.chunks], pa.large_string()
            )
        table = table.set_column(index, field.name, column)
    return table


def print_frame(frame: pd.DataFrame, columns: Sequence[str]) -> None:
    """Print the first rows of some columns, as wide as the terminal allows."""
    shown = frame[list(columns)].head(SHOWN_ROWS)
    width = max(12, (shutil.get_terminal_size().columns - 40) // 2)
    if len(shown):
        click.echo(shown.to_string(index=False, max_colwidth=width))
    left = len(frame) - len(shown)
    if left:
        click.echo(f"… and {left:,} more; -o table.csv writes them all")
