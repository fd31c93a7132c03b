"""Recognize results in any frame, and return frames of the caller's kind."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

from batch_frames.arrow import TEXT, dumps
from batch_frames.display import some_of
from batch_frames.errors import ColumnError
from batch_frames.files import load_text
from batch_frames.frames import find_columns, to_dataframe
from batch_frames.results.fields import RANKS, names_of

__all__ = [
    "OF_ALL",
    "RESULTS",
    "is_frame",
    "lasting",
    "names_in",
    "note",
    "noted",
    "own_results",
    "to_frame",
    "with_columns",
]


ATTRS = "batch_frames"
"""The key of what a frame notes about its results in ``DataFrame.attrs``."""

OF_ALL = b"batch_frames.requests"
"""The key, in Arrow's metadata, of how many results there are if these are of all requests."""

RESULTS = "the table of results"

JSON_LISTS = ("tool_calls", "citations")
"""Columns of lists whose items have no common type, so that they are JSON in Arrow."""


def note(frame: pd.DataFrame, **facts: Any) -> None:
    """Note facts about the results in a frame."""
    frame.attrs[ATTRS] = facts


def noted(frame: pd.DataFrame, fact: str) -> Any:
    """Return a fact about the results in a frame, or None."""
    return frame.attrs.get(ATTRS, {}).get(fact)


def is_frame(given: Any) -> bool:
    """Return whether something is a frame, of pandas or of anything that speaks Arrow."""
    return isinstance(given, pd.DataFrame) or hasattr(given, "__arrow_c_stream__")


def lasting(frame: Any) -> Any:
    """Return a frame of pandas or polars as it is, and any other as Arrow, read only once.

    A lazy frame of polars is collected.
    """
    if hasattr(frame, "collect") and hasattr(frame, "collect_schema"):
        frame = frame.collect()
    is_stream = is_frame(frame) and not isinstance(frame, pd.DataFrame) and not _polars(frame)
    return pa.table(frame) if is_stream else frame


def names_in(frame: Any) -> list[str]:
    """List the names of the columns of a lasting frame, and of its index."""
    if isinstance(frame, pa.Table):
        return list(frame.column_names)
    index = [frame.index.name] if isinstance(frame, pd.DataFrame) else []
    return [str(name) for name in (*frame.columns, *index) if name is not None]


def own_results(frame: Any) -> pd.DataFrame:
    """Return the results in a frame under their own names.

    ``join_results`` notes their columns in ``attrs``. Where this is lost, as in a file, they are
    found by the prefix of the only column of statuses, or of the only one with all columns.

    Args:
        frame: What ``read_results``, ``join_results`` or ``run`` returned.

    Raises:
        TypeError: If it is not a frame.
        ColumnError: If it has no statuses, or several columns may be theirs.
    """
    if not is_frame(frame):
        kind = type(frame).__name__
        raise TypeError(f"results must be the DataFrame that read_results returned, not {kind}")
    if not isinstance(frame, pd.DataFrame):
        # Of what polars hands over by itself, its views of text, Arrow takes no rows.
        table = frame.to_arrow() if _polars(frame) else pa.table(frame)
        frame = to_dataframe(table, "pyarrow")
        if count := (table.schema.metadata or {}).get(OF_ALL):
            note(frame, requests=int(count))
    have = [str(name) for name in frame.columns]
    columns: Mapping[str, str] | None = noted(frame, "columns")
    if columns is None or ("status" in columns and columns["status"] not in have):
        prefix = _prefix(frame, have)
        columns = {name.removeprefix(prefix): name for name in have if name.startswith(prefix)}
    columns = {name: column for name, column in columns.items() if column in have}
    find_columns(list(columns), ["status"], RESULTS)
    own: pd.DataFrame = frame
    if list(columns) != have:
        own = own[list(columns.values())].set_axis(list(columns), axis="columns")
    return own


def _prefix(frame: pd.DataFrame, have: list[str]) -> str:
    """Find the prefix of the columns of results."""
    every = [name.removesuffix("status") for name in have if name.endswith("status")]
    if len(every) < 2:
        return "".join(every)
    able = [prefix for prefix in every if _holds_statuses(frame[f"{prefix}status"])]
    needed = set(names_of("first", "then")) - {"custom_id"}
    whole = [prefix for prefix in able if {prefix + name for name in needed} <= set(have)]
    found = able if len(able) == 1 else whole
    if len(found) != 1:
        listed = some_of([repr(f"{prefix}status") for prefix in able or every])
        problem = f"the statuses of the results may be in several columns: {listed}"
        raise ColumnError(problem, hint="drop or rename the others")
    return found[0]


def _holds_statuses(column: pd.Series[Any]) -> bool:
    return bool(column.dropna().astype(str).isin(list(RANKS)).all())


def with_columns(frame: Any, columns: pd.DataFrame) -> Any:
    """Return a frame with columns added, as pandas or polars where it is, or else as Arrow."""
    if isinstance(frame, pd.DataFrame):
        return pd.concat([frame, columns.set_axis(frame.index)], axis="columns")
    added = pa.table({str(name): _arrow(column) for name, column in columns.items()})
    if polars := _polars(frame):
        return polars.concat([frame, polars.from_arrow(added)], how="horizontal")
    joined = pa.table(frame)
    for name, column in zip(added.column_names, added.columns, strict=True):
        joined = joined.append_column(name, column)
    return joined


def to_frame(
    table: pa.Table, dtype_backend: str | None, like: Any = None, json_columns: Sequence[str] = ()
) -> Any:
    """Return results as a frame of pandas, or of the kind of another frame.

    Args:
        table: The results.
        dtype_backend: As in ``pandas.read_csv``.
        like: The other frame, or None.
        json_columns: Columns of answers that hold JSON, of which pandas gets the values.

    Raises:
        TypeError: If the other is not a frame.
    """
    if like is not None and not is_frame(like):
        raise TypeError(f"like must be a frame, not {type(like).__name__}")
    if polars := _polars(like):
        # Older versions of polars lose columns where structs come in several chunks.
        return polars.from_arrow(table.combine_chunks())
    is_pandas = like is None or isinstance(like, pd.DataFrame)
    return _to_pandas(table, dtype_backend, json_columns) if is_pandas else table


def _to_pandas(
    table: pa.Table, dtype_backend: str | None, json_columns: Sequence[str]
) -> pd.DataFrame:
    """Make a DataFrame, with Python lists and dicts but for the vectors of NumPy."""
    nested: dict[str, list[Any]] = {}
    for index, field in enumerate(table.schema if dtype_backend != "pyarrow" else ()):
        column = table.column(index)
        if pa.types.is_date32(field.type):
            table = table.set_column(index, field.name, column.cast(pa.timestamp("s")))
        elif field.name in (*JSON_LISTS, *json_columns):
            nested[field.name] = list(map(_loaded, column.to_pylist()))
            table = table.set_column(index, field.name, pa.nulls(len(table)))
        elif pa.types.is_nested(field.type) and field.name != "embedding":
            nested[field.name] = column.to_pylist()
            table = table.set_column(index, field.name, pa.nulls(len(table)))
    frame = to_dataframe(table, dtype_backend, nullable=True)
    for name, values in nested.items():
        frame[name] = pd.Series(values, dtype=object)
    return frame


def _loaded(text: str | None) -> Any:
    """Parse JSON that is known to be JSON; Python may find it nested too deep."""
    try:
        return None if text is None else load_text(text)
    except ValueError:
        return text


def _polars(frame: Any) -> Any:
    """Return the module polars if a frame is of it; it is loaded then."""
    polars = sys.modules.get("polars")
    return polars if polars is not None and isinstance(frame, polars.DataFrame) else None


def _arrow(column: pd.Series[Any]) -> pa.Array | pa.ChunkedArray:
    """Convert a column to Arrow; Python objects without a common type become JSON."""
    try:
        return pa.array(column, from_pandas=True)
    except pa.ArrowException:
        texts = [dumps(one) if isinstance(one, (list, dict)) else None for one in column]
        return pa.array(texts, TEXT)
