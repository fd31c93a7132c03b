"""Take any frame in as chunks of a good size, and give Arrow tables out as DataFrames."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.chunks import Chunk, Position
from batch_frames.errors import CellError, ColumnError
from batch_frames.objects import object_array
from batch_frames.views import settled

__all__ = [
    "ArrowSource",
    "PandasSource",
    "Source",
    "cut",
    "find_columns",
    "open_frame",
    "to_dataframe",
]


CHUNK_BYTES = 768 << 10
"""Text of this size stays in a processor's cache from one step to the next."""

FIRST_ROWS = 512


class Source(Protocol):
    """Give the rows of a table as chunks, in order."""

    once: bool
    """Whether the rows can be read only a single time."""

    paths: Sequence[Path]
    """The files that are read."""

    def rows(self) -> int | None:
        """Count the rows where that needs no reading, else None."""
        ...

    def chunks(self) -> Iterator[Chunk]:
        """Read the rows from the first one on."""
        ...


def open_frame(frame: Any, id_column: str | None, columns: Sequence[str]) -> Source:
    """Find out how to read a frame.

    Args:
        frame: A pandas DataFrame, or anything with ``__arrow_c_stream__``.
        id_column: The column with the ids; None takes a pandas index.
        columns: The other columns that are needed.

    Raises:
        TypeError: If it is neither.
        ColumnError: If a column is not there.
    """
    if isinstance(frame, pd.DataFrame):
        return PandasSource(frame, id_column, columns)
    if hasattr(frame, "__arrow_c_stream__"):
        return ArrowSource(frame, id_column, columns)
    raise TypeError(
        "frame must be a pandas DataFrame or have __arrow_c_stream__ (pyarrow, polars, DuckDB), "
        f"not {type(frame).__name__}{_advice(frame)}"
    )


def _advice(frame: Any) -> str:
    if isinstance(frame, str) or hasattr(frame, "__fspath__"):
        return "; read a file with from_csv or from_parquet"
    if hasattr(frame, "collect"):
        return "; call its collect() first"
    if isinstance(frame, (dict, list)):
        return "; make it one with pandas.DataFrame(…)"
    return ""


class PandasSource:
    """Read a DataFrame block by block, each column as the Arrow type it stands for."""

    once = False
    paths: Sequence[Path] = ()

    def __init__(self, frame: pd.DataFrame, id_column: str | None, columns: Sequence[str]) -> None:
        # A copy that shares all data, until someone changes the frame.
        frame = frame.copy(deep=False)
        names = [str(name) for name in frame.columns]
        self._id_name = id_column or str(frame.index.name or "index")
        from_index = id_column is None or (id_column not in names and id_column == frame.index.name)
        if from_index and isinstance(frame.index, pd.MultiIndex):
            raise ColumnError(
                f"the index has {frame.index.nlevels} levels, and an id is one value; make a "
                "column of them and name it with id_column="
            )
        needed = columns if from_index else [id_column or "", *columns]
        find_columns(names, needed)
        series = {name: frame.iloc[:, names.index(name)] for name in needed}
        self._ids = _readable(frame.index.to_series() if from_index else series[self._id_name])
        self._columns = {name: _readable(series[name]) for name in columns}
        self._frame, self._length = frame, len(frame)

    def rows(self) -> int:
        """Count the rows."""
        return self._length

    def chunks(self) -> Iterator[Chunk]:
        """Read the rows from the first one on."""
        start, size = 0, FIRST_ROWS
        while start < self._length:
            stop = min(start + size, self._length)
            chunk = self._chunk(start, stop)
            yield chunk
            size = next_size([chunk.ids, *chunk.columns.values()])
            start = stop

    def _chunk(self, start: int, stop: int) -> Chunk:
        name = ""
        chunk = Chunk(pa.nulls(stop - start), {}, self._id_name, Position(start))
        try:
            ids = _block(self._ids, start, stop, whole_floats=False)
            chunk = replace(chunk, ids=ids)
            columns = {}
            for name, column in self._columns.items():
                columns[name] = _block(column, start, stop)
        except CellError as error:
            what = f"column {name!r}" if name else self._id_name
            raise chunk.error(error.index, f"{what} {error.problem}", name or None) from None
        return replace(chunk, columns=columns)


class ArrowSource:
    """Read anything that speaks Arrow; what has no length is read only once."""

    paths: Sequence[Path] = ()

    def __init__(self, frame: Any, id_column: str | None, columns: Sequence[str]) -> None:
        kind = type(frame).__name__
        try:
            reader = pa.RecordBatchReader.from_stream(frame)
        except pa.ArrowInvalid as error:
            raise TypeError(f"frame must be a table with columns, not {kind}: {error}") from None
        if id_column is None:
            raise ColumnError(f"a {kind} has no index to take the ids from; pass id_column=")
        self.once = not hasattr(frame, "__len__")
        self._frame = frame
        self._id_column, self._columns = id_column, columns
        self._reader = reader if self.once else reader.close()
        find_columns(reader.schema.names, [id_column, *columns])

    def rows(self) -> int | None:
        """Count the rows where that needs no reading, else None."""
        height = getattr(self._frame, "num_rows", getattr(self._frame, "height", None))
        return height if isinstance(height, int) else None

    def chunks(self) -> Iterator[Chunk]:
        """Read the rows from the first one on."""
        reader = self._reader or pa.RecordBatchReader.from_stream(self._frame)
        try:
            yield from cut(reader, self._id_column, self._columns)
        finally:
            reader.close()


def find_columns(have: Sequence[str], need: Iterable[str], where: str = "the frame") -> None:
    """Check that each needed column is there once.

    Raises:
        ColumnError: If not; it names the nearest, or what there is.
    """
    for name in need:
        if have.count(name) > 1:
            raise ColumnError(f"{where} has {have.count(name)} columns named {name!r}; rename one")
        if name not in have:
            raise ColumnError(f"{where} has no column {name!r}; {_hint(name, have)}")


def _hint(name: str, have: Sequence[str]) -> str:
    if "{" in name:
        return "a text with columns in it is fmt('… {column} …')"
    if '"' in name or ":" in name:
        return "in fmt, write {{ and }} for braces that stand for themselves"
    near = difflib.get_close_matches(name, have, 1)
    listed = ", ".join(map(repr, have[:20])) or "no columns"
    return f"did you mean {near[0]!r}?" if near else f"it has {listed}"


def cut(
    batches: Iterable[pa.RecordBatch], id_column: str, columns: Sequence[str], origin: str = ""
) -> Iterator[Chunk]:
    """Cut record batches of any size into chunks of a good one, small batches put together."""
    first, size = 0, FIRST_ROWS
    needed = list(dict.fromkeys([id_column, *columns]))
    for table in _gathered(batches, needed):
        start = 0
        while start < len(table):
            part = table.slice(start, size)
            arrays = {n: one_array(part.column(n)) for n in needed}
            others = {name: arrays[name] for name in columns}
            yield Chunk(arrays[id_column], others, id_column, Position(first, origin))
            start, first = start + len(part), first + len(part)
            size = next_size(arrays.values())


def to_dataframe(
    table: pa.Table, dtype_backend: str | None, *, nullable: bool = False
) -> pd.DataFrame:
    """Make a DataFrame, its dtypes chosen as in ``pandas.read_csv(dtype_backend=…)``.

    Args:
        table: The columns; dictionaries become categoricals.
        dtype_backend: ``"numpy_nullable"``, ``"pyarrow"`` or None for pandas' own.
        nullable: Whether whole numbers and booleans are nullable among pandas' own dtypes too.

    Raises:
        ValueError: If ``dtype_backend`` is something else.
    """
    whole = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    others = dict.fromkeys([pa.string(), pa.large_string()], pd.StringDtype())
    mappers: dict[str | None, Any] = {
        None: whole.get if nullable else None,
        "pyarrow": lambda kind: None if pa.types.is_dictionary(kind) else pd.ArrowDtype(kind),
        "numpy_nullable": {**whole, **others, pa.float64(): pd.Float64Dtype()}.get,
    }
    if dtype_backend not in mappers:
        raise ValueError(
            f"dtype_backend must be 'numpy_nullable', 'pyarrow' or None, not {dtype_backend!r}"
        )
    frame: pd.DataFrame = table.to_pandas(types_mapper=mappers[dtype_backend])
    return frame


def _readable(series: pd.Series[Any]) -> Any:
    """Convert a column at once where that costs nothing; leave Python objects for later."""
    is_text = isinstance(series.dtype, pd.StringDtype) and series.dtype.storage == "python"
    if is_text or series.dtype == object:
        return series.to_numpy(object)
    try:
        array = pa.array(series, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError):
        if isinstance(series.dtype, pd.CategoricalDtype):
            return series.to_numpy(object)
        problem = f"column {series.name!r} holds {series.dtype} values, which JSON cannot hold"
        raise ColumnError(f"{problem}; make them text first") from None
    chunked = array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])
    if pa.types.is_floating(chunked.type):
        not_a_number = pc.is_nan(chunked.cast(pa.float64()))
        if pc.any(not_a_number, min_count=0).as_py():
            return pc.if_else(not_a_number, pa.scalar(None, chunked.type), chunked)
    return chunked


def _block(column: Any, start: int, stop: int, *, whole_floats: bool = True) -> pa.Array:
    if isinstance(column, np.ndarray):
        return object_array(column[start:stop], whole_floats=whole_floats)
    return one_array(column.slice(start, stop - start))


def one_array(column: pa.ChunkedArray) -> pa.Array:
    try:
        array = column.combine_chunks()
    except pa.ArrowInvalid:  # dictionaries that have no room for each other's values
        chunks = [chunk.dictionary_decode() for chunk in column.chunks]
        array = pa.chunked_array(chunks).combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], column.type)
    return settled(array)


def next_size(arrays: Iterable[pa.Array]) -> int:
    """Choose how many rows come next by how large the last ones were."""
    arrays = list(arrays)
    per_row = sum(_bytes_per_row(array) for array in arrays)
    return max(1, int(CHUNK_BYTES / max(per_row, 1)))


def _bytes_per_row(array: pa.Array) -> float:
    values = array.dictionary if pa.types.is_dictionary(array.type) else array
    return float(values.nbytes / max(len(values), 1))


def _gathered(batches: Iterable[pa.RecordBatch], needed: list[str]) -> Iterator[pa.Table]:
    pending: list[pa.RecordBatch] = []
    waiting = 0
    for batch in batches:
        if len(batch):
            pending.append(batch.select(needed))
            waiting += pending[-1].get_total_buffer_size()
        if waiting >= CHUNK_BYTES:
            yield pa.Table.from_batches(pending)
            pending, waiting = [], 0
    if pending:
        yield pa.Table.from_batches(pending)
