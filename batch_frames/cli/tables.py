"""Print tables to fit a terminal, and write them as CSV, Parquet and JSON."""

from __future__ import annotations

import json
import shutil
import sys
from contextlib import closing
from pathlib import Path
from typing import IO, Any

import click
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from batch_frames.arrow import bytes_of, constant, join, to_json
from batch_frames.cli.terminal import STDOUT, count_text, print_json, print_table
from batch_frames.display import estimate_texts, printable
from batch_frames.errors import CellError, ColumnError, naming
from batch_frames.files import arrow_source, open_store
from batch_frames.frames import write_parquet
from batch_frames.results import summary_line

__all__ = ["print_estimate", "show_frame", "show_written"]


SHOWN_ROWS = 20

SHORTEST = 12


def show_frame(
    frame: pd.DataFrame,
    shown: pd.DataFrame,
    output: Path | None,
    as_json: bool,
    *,
    noun: str,
    results: pd.DataFrame | None = None,
) -> None:
    """Write a table where it is wanted, or print its first rows, and say what it holds.

    Args:
        frame: The table.
        shown: What is printed of it if it is not written.
        output: A CSV or Parquet file, or ``STDOUT`` for CSV; None prints.
        as_json: Whether to write JSON to standard output: the rows or, of a file, what it holds.
        noun: What a row is.
        results: The results in the table.
    """
    table = pa.Table.from_pandas(frame, preserve_index=False)
    said = [] if results is None else [summary_line(results)]
    is_data = as_json or output == STDOUT
    if output and output != STDOUT:
        _write_file(table, output)
        said.insert(0, f"{output}  {count_text(len(frame), noun)}")
    elif is_data:
        _write(table, sys.stdout.buffer, "json" if as_json else "csv")
    else:
        _print_frame(shown)
    if output and output != STDOUT and as_json:
        _print_written(output, len(frame), results)
        return
    for line in said or [count_text(len(frame), noun).strip()]:
        click.echo(printable(line), err=is_data)


def show_written(output: Path, prefix: str, as_json: bool) -> None:
    """Say what a Parquet file holds whose columns of results have a prefix."""
    names = {f"{prefix}status": "status", f"{prefix}error_code": "error_code"}
    rows = (
        pq.read_table(arrow_source(output), columns=list(names)).to_pandas().rename(columns=names)
    )
    results = rows[rows["status"] != "skipped"]
    if as_json:
        _print_written(output, len(rows), results)
        return
    click.echo(f"{output}  {count_text(len(rows), 'row')}")
    click.echo(printable(summary_line(results)))


def _print_written(output: Path, rows: int, results: pd.DataFrame | None) -> None:
    counts = {} if results is None else results["status"].value_counts().to_dict()
    statuses = {"statuses": {status: n for status, n in counts.items() if n}} if counts else {}
    print_json([{"path": output, "rows": rows, **statuses}])


def _write_file(table: pa.Table, output: Path) -> None:
    """Write a table as CSV or Parquet, whole or not at all."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with closing(open_store(output, hashed=True)) as store:
        with naming(output), store.create(1) as file:
            _write(table, file, output.suffix.removeprefix("."))
        store.commit([len(table)])


def _write(table: pa.Table, file: IO[bytes], form: str) -> None:
    """Write a table as JSON, as CSV, in which nested values are JSON, or as Parquet."""
    if form == "json":
        _write_json(table, file)
    elif form == "csv":
        # pandas leaves a lone carriage return unquoted, and empty text like a missing one.
        pacsv.write_csv(_flat(table), file)
    else:
        write_parquet(file, [table])


def _write_json(table: pa.Table, file: IO[bytes]) -> None:
    """Write each row as a JSON object in a line."""
    names = [json.dumps(name, ensure_ascii=False) for name in table.column_names]
    texts = map(_json, table.columns, table.column_names)
    for batch in pa.Table.from_arrays(list(texts), names).to_batches():
        pieces: list[Any] = []
        for place, (name, text) in enumerate(zip(names, batch.columns, strict=True)):
            pieces += [constant(f"{',' if place else '{'}{name}:"), text.fill_null("null")]
        file.write(bytes_of(join([*pieces, constant("}\n")])).tobytes())


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
    """Return the values as JSON, in which a number that it has no word for is missing."""
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_finite(column), column, pa.nulls(1, column.type)[0])
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


def _print_frame(frame: pd.DataFrame) -> None:
    """Print the first rows of those columns that have something in them."""
    shown = frame.head(SHOWN_ROWS).dropna(axis="columns", how="all")
    if len(shown):
        texts = shown.astype(object).where(shown.notna(), "")
        click.echo(_fitted(texts.map(_cell)))
    left = len(frame) - len(shown)
    if left:
        click.echo(f"… and {left:,} more; -o table.csv writes them all")


def _cell(value: Any) -> str:
    """Write a value as one that cannot change the terminal; vectors as lists."""
    return printable(str(value.tolist() if hasattr(value, "tolist") else value))


def _fitted(frame: pd.DataFrame) -> str:
    """Shorten long values until a line fits the terminal, but not to nothing."""
    width = shutil.get_terminal_size().columns
    for longest in range(max(width, SHORTEST), SHORTEST - 1, -1):
        text: str = frame.to_string(index=False, max_colwidth=longest)
        if text.index("\n") <= width:
            break
    return text


def print_estimate(found: pd.DataFrame) -> None:
    """Print the rows of an estimate, and what its prices are from."""
    print_table(estimate_texts(found))
    click.echo(f"prices of {found.attrs['prices']}, {found.attrs['tier']}")
