"""Choose how a frame, or a whole CSV or Parquet file, is read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from batch_frames.arrow import TEXT
from batch_frames.errors import ColumnError
from batch_frames.files import arrow_source, as_path
from batch_frames.frames.arrow import ArrowSource, ParquetSource, find_columns, read_stream
from batch_frames.frames.chunks import TO_FRAME, Chunk, Source, id_names, open_arrow, use_stream
from batch_frames.frames.csv import CsvFile
from batch_frames.frames.pandas import PandasSource

__all__ = [
    "DaskSource",
    "is_dask",
    "is_parquet",
    "open_frame",
    "partition_chunks",
    "read_table",
    "whole_frame",
    "whole_table",
]


PARQUET = (".parquet", ".pq")


def open_frame(frame: Any, id_column: str | Sequence[str] | None, columns: Sequence[str]) -> Source:
    """Return the source that reads a frame.

    Args:
        frame: A pandas or Dask DataFrame, or anything with ``__arrow_c_stream__``.
        id_column: The column with the ids, or several; None takes a pandas index.
        columns: The other columns that are needed.

    Raises:
        TypeError: If it is neither.
        ColumnError: If a column is not there.
    """
    if isinstance(frame, pd.DataFrame):
        return PandasSource(frame, id_column, columns)
    if hasattr(frame, "__arrow_c_stream__"):
        return ArrowSource(frame, id_column, columns)
    if is_dask(frame):
        return DaskSource(frame, id_column, columns)
    raise TypeError(
        "frame must be a pandas DataFrame or have __arrow_c_stream__ (pyarrow, polars, DuckDB), "
        f"not {type(frame).__name__}{_advice(frame)}"
    )


def _advice(frame: Any) -> str:
    if isinstance(frame, str) or hasattr(frame, "__fspath__"):
        return "; read a file with from_csv or from_parquet"
    if hasattr(frame, "collect"):
        return "; call its collect() first"
    if hasattr(frame, "to_frame"):
        return TO_FRAME
    if isinstance(frame, (dict, list)):
        return "; make it one with pandas.DataFrame(…)"
    return ""


def is_dask(frame: Any) -> bool:
    """Return whether something is a Dask DataFrame; Dask is not imported for it."""
    is_of_dask = type(frame).__module__.partition(".")[0] == "dask"
    return is_of_dask and all(hasattr(frame, name) for name in ("columns", "partitions"))


class DaskSource:
    """Rows of a Dask DataFrame, which is read here one partition after the other."""

    once = False
    paths: Sequence[Path] = ()

    def __init__(
        self, frame: Any, id_column: str | Sequence[str] | None, columns: Sequence[str]
    ) -> None:
        if id_column is None and frame.index.name is None:
            problem = "the index of this Dask DataFrame has no name, as if it only counted rows"
            raise ColumnError(problem, hint="pass id_column=, or name the index")
        self.names = [str(name) for name in frame.columns]
        ids = [] if id_column is None else id_names(id_column)
        needed = [name for name in (*ids, *columns) if name != frame.index.name]
        find_columns(self.names, needed)
        self.frame, self.id_column, self.columns = frame, id_column, columns
        places = [self.names.index(name) for name in dict.fromkeys(needed)]
        self.needed = frame[[frame.columns[place] for place in places]]

    def rows(self) -> None:
        """Return None, as counting the rows takes reading them."""

    def chunks(self) -> Iterator[Chunk]:
        """Read the rows from the first one on."""
        for number in range(self.needed.npartitions):
            rows = self.needed.partitions[number].compute()
            yield from partition_chunks(rows, number, self.id_column, self.columns)


def partition_chunks(
    rows: pd.DataFrame,
    number: int,
    id_column: str | Sequence[str] | None,
    columns: Sequence[str],
) -> Iterator[Chunk]:
    """Read the rows of one partition, whose number their places have."""
    for chunk in PandasSource(rows, id_column, columns).chunks():
        position = replace(chunk.position, origin=f"partition {number}")
        yield replace(chunk, position=position)


def is_parquet(path: str | os.PathLike[str]) -> bool:
    """Return whether a path, a glob or a folder names Parquet files."""
    path = as_path(path)
    files = path.rglob("*") if path.is_dir() else [path]
    return any(file.suffix in PARQUET for file in files)


def read_table(path: Path, id_column: str | Sequence[str]) -> pa.Table:
    """Read a whole CSV or Parquet file; the columns of CSV are text.

    Raises:
        ColumnError: If there is no column with the ids.
    """
    if path.suffix in PARQUET:
        ParquetSource(path, id_column, [])
        import pyarrow.parquet as pq

        return pq.read_table(arrow_source(path))
    names = CsvFile(path, id_names(id_column)).header
    batches = list(CsvFile(path, names).batches())
    return pa.Table.from_batches(batches, pa.schema([(name, TEXT) for name in names]))


def whole_table(frame: Any) -> pa.Table:
    """Read a frame with ``__arrow_c_stream__`` as a whole.

    Raises:
        BatchFramesError: If it is a stream that was read before, or that fails half-way.
        TypeError: If it is a single column.
    """
    if isinstance(frame, pa.Table):
        return frame
    if not hasattr(frame, "__len__"):
        use_stream(frame)
    with open_arrow(frame) as reader:
        return pa.Table.from_batches(read_stream(reader), reader.schema)


def whole_frame(source: Source) -> Any:
    """Return the frame of a source with all its columns; that of files is read anew each time."""
    if source.frame is not None or source.id_column is None:
        return source.frame
    return pa.concat_tables([read_table(path, source.id_column) for path in source.paths])
