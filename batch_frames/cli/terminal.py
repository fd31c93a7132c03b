"""Show errors, sizes and tables as people at a terminal read them, and write tables to files."""

from __future__ import annotations

import json
import re
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

from batch_frames.arrow import to_json
from batch_frames.display import size_text
from batch_frames.errors import BatchFramesError, CellError, ColumnError
from batch_frames.files import Shard
from batch_frames.frames import to_dataframe

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

SHORTEST = 12

NOT_REACHED = "; check the network, or --base-url; what was done is noted"

OPTIONS = {
    'na="skip"': "--na skip",
    "pass model=": "pass --model",
    "overwrite=True": "--overwrite",
    "retry_requests writes them": "batch-frames retry writes them",
    "correct base_url": "correct --base-url",
    'pass prefix="answer_", or columns= with those that you need': "pass --prefix answer_",
    "json_schema must be a dict or a pydantic model class": "a JSON schema must be an object",
    "pass json_schema=": "pass --json-schema",
    "check id_column=": "check --id-column",
    "read the file with read_results": "pass the file without --requests",
    "read the file with read_requests": "put requests into a file of their own",
    "read it with from_parquet": "its name must end in .parquet",
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
            kinds = [kind.__name__ for kind in type(error).__mro__]
            if "OpenAIError" not in kinds:
                raise
            problem = str(error)
            if "APIConnectionError" in kinds:
                problem = f"the service is not reached ({problem}){NOT_REACHED}"
            raise click.ClickException(_in_options(problem)) from error
        finally:
            for warning in caught:
                click.echo(f"Warning: {_in_options(str(warning.message))}", err=True)


def _in_options(message: str) -> str:
    """Put a message into one line, and name options as the command line does."""
    for ours, theirs in OPTIONS.items():
        message = message.replace(ours, theirs)
    message = re.sub(
        r"""bf\.(\w+)\(bf\.load_jobs\(["']([^"']*)["']\)\)""", r"batch-frames \1 \2", message
    )
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


def check_output(output: Path | None, source: Path | None = None) -> None:
    """Refuse a file that cannot be written, or whose ending does not say how, or that is read."""
    if not output:
        return
    if output.suffix not in (".csv", *PARQUET):
        raise click.ClickException(f"'{output}' must end in .csv or .parquet")
    folder = next(parent for parent in output.parents if parent.exists())
    if not folder.is_dir():
        raise click.ClickException(f"'{folder}' is a file, not a folder; choose another name")
    if source and output.exists() and output.samefile(source):
        problem = "which the rows come from; choose another name"
        raise click.ClickException(f"'{output}' would replace '{source}', {problem}")


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
            pq.write_table(_for_parquet(table), temporary)
        temporary.replace(output)
    finally:
        temporary.unlink(missing_ok=True)


def _for_parquet(table: pa.Table) -> pa.Table:
    """Note dtypes of pandas' own in the file: it cannot read what it notes of lists in Arrow."""
    plain = table.replace_schema_metadata()
    for index, field in enumerate(plain.schema):
        if pa.types.is_fixed_size_list(field.type):
            # Older versions of Arrow cannot write these where one is missing.
            lists = plain.column(index).cast(pa.large_list(field.type.value_type))
            plain = plain.set_column(index, field.name, lists)
    frame = to_dataframe(plain.slice(0, 0), None, nullable=True)
    notes = pa.Table.from_pandas(frame, preserve_index=False).schema.metadata
    return plain.replace_schema_metadata(notes)


def _flat(table: pa.Table) -> pa.Table:
    for index, field in enumerate(table.schema):
        column = table.column(index)
        if pa.types.is_dictionary(field.type):
            column = pa.chunked_array([chunk.dictionary_decode() for chunk in column.chunks])
        elif pa.types.is_nested(field.type):
            column = _json(column, field.name)
        table = table.set_column(index, field.name, column)
    # Older versions of Arrow write the header once more where the first batch is empty.
    batches = [batch for batch in table.to_batches() if len(batch)]
    return pa.Table.from_batches(batches, table.schema)


def _json(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    texts: list[pa.Array] = []
    row = 0
    for chunk in column.chunks:
        try:
            texts.append(to_json(chunk))
        except CellError as error:
            where = f"row {row + error.index:,}: column {name!r}"
            raise ColumnError(f"{where} {error.problem}; write a .parquet file") from None
        except ColumnError as error:
            raise ColumnError(f"column {name!r} {error}, or write a .parquet file") from None
        row += len(chunk)
    return pa.chunked_array(texts, pa.large_string())


def print_frame(frame: pd.DataFrame, columns: Sequence[str]) -> None:
    """Print the first rows of those columns that have something in them."""
    shown = frame[list(columns)].head(SHOWN_ROWS).dropna(axis="columns", how="all")
    if len(shown):
        click.echo(_fitted(shown.astype(object).where(shown.notna(), "")))
    left = len(frame) - len(shown)
    if left:
        click.echo(f"… and {left:,} more; -o table.csv writes them all")


def _fitted(frame: pd.DataFrame) -> str:
    """Shorten long values until a line fits the terminal, but not to nothing."""
    width = shutil.get_terminal_size().columns
    for longest in range(max(width, SHORTEST), SHORTEST - 1, -1):
        text: str = frame.to_string(index=False, max_colwidth=longest)
        if text.index("\n") <= width:
            break
    return text
