"""Print tables to fit a terminal, and write them to CSV and Parquet files."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import click
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from batch_frames.arrow import to_json
from batch_frames.errors import CellError, ColumnError
from batch_frames.files import open_store
from batch_frames.frames import to_dataframe

__all__ = ["print_frame", "write_frame"]


SHOWN_ROWS = 20

SHORTEST = 12


def write_frame(frame: pd.DataFrame, output: Path) -> None:
    """Write a table as CSV or Parquet, whole or not at all; in CSV, nested values are JSON."""
    output.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    with closing(open_store(output, hashed=True)) as store:
        with store.create(1) as file:
            if output.suffix == ".csv":
                # pandas leaves a lone carriage return unquoted, and empty text like a missing one.
                pacsv.write_csv(_flat(table), file)
            else:
                pq.write_table(_for_parquet(table), file)
        store.commit([len(table)])


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
