"""Read pandas DataFrames as chunks, and make DataFrames of Arrow tables."""

from __future__ import annotations

import contextlib
import datetime
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.arrow import INT64_END, TEXT, CheckedText, JsonText, check_json, dumps, to_json
from batch_frames.errors import CellError, ColumnError
from batch_frames.frames.arrow import FIRST_ROWS, find_columns, next_size, one_array
from batch_frames.frames.chunks import Chunk, Position, id_names

__all__ = [
    "PandasSource",
    "object_array",
    "only_counts",
    "to_dataframe",
    "with_card",
    "write_parquet",
]


ROW_GROUP = 64 << 20
"""Bytes in memory of a row group."""

ARROW_UNITS = ("D", "s", "ms", "us", "ns")

NUMBERS = ("integer", "floating", "mixed-integer-float", "boolean", "empty")

EXACT = {int, float, np.float64, bool, type(None), type(pd.NA)}
"""Types that Arrow converts as ``json.dumps`` does, whichever of them stand side by side."""


def object_array(values: npt.NDArray[np.object_], *, whole_floats: bool = True) -> pa.Array:
    """Convert a block of objects; None, NA, NaT and NaN become null.

    Columns of dicts, lists and of mixed types become JSON row by row, as ``json.dumps`` has it.

    Args:
        values: The objects.
        whole_floats: Whether a float such as 3.0, among other kinds, is the whole number 3.

    Raises:
        CellError: If JSON cannot hold a value.
    """
    kind = pd.api.types.infer_dtype(values, skipna=True)
    with contextlib.suppress(pa.ArrowException, OverflowError, UnicodeEncodeError):
        if kind == "string":
            text = pa.array(values, TEXT, from_pandas=True)
            return pa.ExtensionArray.from_storage(CheckedText(), text)
        is_exact = kind in NUMBERS and set(map(type, values)) <= EXACT
        if is_exact and (whole_floats or kind != "mixed-integer-float"):
            return pa.array(values, from_pandas=True)
    missing = pd.isna(values)
    rows = [
        None if gone else _dumps(i, values[i], whole_floats=whole_floats)
        for i, gone in enumerate(missing)
    ]
    return pa.ExtensionArray.from_storage(JsonText(), pa.array(rows, TEXT))


def _dumps(index: int, value: Any, *, whole_floats: bool) -> str:
    try:
        if isinstance(value, np.floating):
            value = float(str(value))
        if whole_floats and isinstance(value, float) and abs(value) < INT64_END:
            value = int(value) if value.is_integer() else value
        text = dumps(value, default=_plain)
        text.encode()
        if "{" in text:
            check_json(text)
    except UnicodeEncodeError:
        raise CellError(index, "holds a lone surrogate, which is not text") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise CellError(index, f"has no JSON form: {error}") from None
    return text


def _plain(value: Any) -> Any:
    """Convert a value to one that ``json.dumps`` can write."""
    if value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, Decimal) and not value.is_finite():
        raise ValueError(f"JSON cannot hold {value}")
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "mM":
        return _moments(value)
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (Decimal, uuid.UUID)):
        return str(value)
    if isinstance(value, (np.ndarray, np.floating)) and value.dtype.kind == "f":
        # Through text, so that a narrow 0.1 stays 0.1.
        return np.asarray(value).astype("U").astype(float).tolist()
    if isinstance(value, (np.bool_, np.integer)):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} values are not JSON")


def _moments(value: Any) -> Any:
    if value.dtype.kind == "m":
        raise TypeError("durations are not JSON")
    if np.datetime_data(value.dtype)[0] not in ARROW_UNITS:
        value = value.astype("datetime64[s]")
    text = to_json(pa.array(np.atleast_1d(value).ravel())).to_pylist()
    loaded = [None if moment is None else json.loads(moment) for moment in text]
    return loaded if isinstance(value, np.ndarray) else loaded[0]


class PandasSource:
    """Rows of a DataFrame, each column as the Arrow type that it corresponds to."""

    once = False
    paths: Sequence[Path] = ()

    def __init__(
        self, frame: pd.DataFrame, id_column: str | Sequence[str] | None, columns: Sequence[str]
    ) -> None:
        # A copy that shares all data, until someone changes the frame.
        frame = frame.copy(deep=False)
        self.names = names = [str(name) for name in frame.columns]
        ids = _levels(frame.index)
        if id_column is not None:
            named = set(frame.index.names) - set(names)
            ids = {name: ids[name] if name in named else None for name in id_names(id_column)}
        needed = [*(name for name, level in ids.items() if level is None), *columns]
        find_columns(names, needed)
        series = {name: _readable(frame.iloc[:, names.index(name)]) for name in needed}
        self._ids = {
            n: series[n] if level is None else _readable(level) for n, level in ids.items()
        }
        self._columns = {name: series[name] for name in columns}
        self.frame, self._length, self.id_column = frame, len(frame), id_column

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
            size = next_size([*chunk.ids.values(), *chunk.columns.values()])
            start = stop

    def _chunk(self, start: int, stop: int) -> Chunk:
        chunk = Chunk({name: pa.nulls(stop - start) for name in self._ids}, {}, Position(start))
        ids, columns = {}, {}
        for name, column in self._ids.items():
            with chunk.locate(name):
                ids[name] = _block(column, start, stop, whole_floats=False)
        chunk = replace(chunk, ids=ids)
        for name, column in self._columns.items():
            with chunk.locate(f"column {name!r}", name):
                columns[name] = _block(column, start, stop)
        return replace(chunk, columns=columns)


def _levels(index: pd.Index[Any]) -> dict[str, pd.Series[Any] | None]:
    """Return the levels of an index by their names, or by those that pandas would give them."""
    levels = [index.get_level_values(level).to_series() for level in range(index.nlevels)]
    defaults = ["index"] if len(levels) == 1 else [f"level_{n}" for n in range(len(levels))]
    names = [str(name or other) for name, other in zip(index.names, defaults, strict=True)]
    return dict(zip(names, levels, strict=True))


def only_counts(frame: Any) -> bool:
    """Return whether the index of a pandas frame has no ids, but only numbers that count rows."""
    index = getattr(frame, "index", None)
    return isinstance(index, pd.RangeIndex) and index.name is None


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
    for index, field in enumerate(table.schema):
        kind = field.type
        if pa.types.is_dictionary(kind) and pa.types.is_unsigned_integer(kind.index_type):
            # As polars has them; older versions of Arrow make no categoricals of these.
            signed = pa.dictionary(pa.int32(), kind.value_type, kind.ordered)
            table = table.set_column(index, field.name, table.column(index).cast(signed))
    frame: pd.DataFrame = table.to_pandas(types_mapper=mappers[dtype_backend])
    return frame


def write_parquet(
    file: IO[bytes], tables: Iterable[pa.Table], count: Callable[[int], Any] = int
) -> None:
    """Write tables of one schema as Parquet, in row groups of a bounded size.

    Args:
        file: Where to write to.
        tables: The tables, one at least.
        count: What is called with the numbers of rows.
    """
    import pyarrow.parquet as pq

    tables = iter(tables)
    first = next(tables)
    schema = _parquet_schema(first.schema)

    def write(group: list[pa.Table]) -> None:
        writer.write_table(pa.concat_tables(group).cast(schema))

    group: list[pa.Table] = []
    nbytes = 0
    written: Future[None] | None = None
    with pq.ParquetWriter(file, schema) as writer, ThreadPoolExecutor(1) as pool:
        for table in chain([first], tables):
            group.append(table)
            nbytes += table.nbytes
            count(len(table))
            if nbytes >= ROW_GROUP:
                if written:
                    written.result()
                # The next group is made while this one is written.
                written = pool.submit(write, group)
                group, nbytes = [], 0
        if written:
            written.result()
        if group:
            write(group)


def _parquet_schema(schema: pa.Schema) -> pa.Schema:
    """Return a schema for Parquet, with notes of pandas' own dtypes.

    Without them, pandas makes floats of whole numbers where some are missing.
    """
    plain = schema.remove_metadata()
    for index, field in enumerate(plain):
        if pa.types.is_fixed_size_list(field.type):
            # Older versions of Arrow cannot write these where one is missing.
            plain = plain.set(index, field.with_type(pa.large_list(field.type.value_type)))
    frame = to_dataframe(plain.empty_table(), None, nullable=True)
    return plain.with_metadata(pa.Table.from_pandas(frame, preserve_index=False).schema.metadata)


def _readable(series: pd.Series[Any]) -> Any:
    """Convert a column at once where that costs nothing; leave Python objects for later."""
    dtype = series.dtype
    is_text = isinstance(dtype, pd.StringDtype) and dtype.storage == "python"
    if is_text or series.dtype == object or _has_mixed_categories(dtype):
        return series.to_numpy(object)
    try:
        array = pa.array(series, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError):
        if isinstance(dtype, pd.CategoricalDtype):
            return series.to_numpy(object)
        problem = f"column {series.name!r} holds {dtype} values, which JSON cannot hold"
        raise ColumnError(problem, hint="make them text first") from None
    chunked = array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])
    if pa.types.is_floating(chunked.type):
        not_a_number = pc.is_nan(chunked.cast(pa.float64()))
        if pc.any(not_a_number, min_count=0).as_py():
            return pc.if_else(not_a_number, pa.scalar(None, chunked.type), chunked)
    return chunked


def _has_mixed_categories(dtype: Any) -> bool:
    """Return whether categories are objects of other types than text."""
    if not isinstance(dtype, pd.CategoricalDtype) or dtype.categories.dtype != object:
        return False
    return dtype.categories.inferred_type != "string"


def _block(column: Any, start: int, stop: int, *, whole_floats: bool = True) -> pa.Array:
    if isinstance(column, np.ndarray):
        return object_array(column[start:stop], whole_floats=whole_floats)
    return one_array(column.slice(start, stop - start))


def with_card(frame: pd.DataFrame, draw: Callable[[pd.DataFrame], str]) -> pd.DataFrame:
    """Let notebooks show a frame as a card while it has its columns; copies are as any frame.

    It remains a plain DataFrame, as only those equal others and are pickled without this package.

    Args:
        frame: The frame.
        draw: Draws it.
    """
    shown: Any = frame
    names, plain = frame.columns, shown._repr_html_
    shown._repr_html_ = lambda: draw(frame) if names.equals(frame.columns) else plain()
    return frame
