"""Name the columns and statuses of results, and recognize results in any frame."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from batch_frames.arrow import TEXT, dumps, load_text
from batch_frames.display import some_of
from batch_frames.errors import ColumnError
from batch_frames.frames import is_dask, to_dataframe, whole_table

__all__ = [
    "CHOICE",
    "FIELDS",
    "OF_ALL",
    "RANKS",
    "RESULTS",
    "STATUSES",
    "STOPPED",
    "UNANSWERED",
    "Status",
    "answer_field",
    "answer_names",
    "choices_type",
    "is_frame",
    "lasting",
    "names_in",
    "names_of",
    "note",
    "noted",
    "own_results",
    "status_array",
    "to_frame",
    "with_columns",
]


Status = Literal[
    "ok",
    "truncated",
    "refused",
    "filtered",
    "invalid_json",
    "http_error",
    "expired",
    "cancelled",
    "missing",
    "malformed",
    "skipped",
]

STATUSES: tuple[Status, ...] = get_args(Status)

RANKS: Mapping[str, int] = {status: rank for rank, status in enumerate(STATUSES)}

UNANSWERED: tuple[Status, ...] = ("http_error", "expired", "cancelled", "missing", "malformed")

STOPPED = ("expired", "cancelled")
"""Statuses of batches that may end before all requests have a result."""


def status_array(ranks: npt.NDArray[np.int8]) -> pa.DictionaryArray:
    """Make the column of statuses from their ranks; its categories are always all of them.

    Example:
        >>> status_array(np.array([0, 8], np.int8)).to_pylist()
        ['ok', 'missing']
    """
    return pa.DictionaryArray.from_arrays(pa.array(ranks, pa.int8()), pa.array(STATUSES, TEXT))


Shown = Literal["first", "then", "usage", "sometimes", "never"]
"""``first`` is before the columns of answers, ``usage`` and ``sometimes`` only where wanted."""


class Field(NamedTuple):
    """The type of a column of results, and when it is shown."""

    type: pa.DataType
    shown: Shown


CHOICE = pa.struct(
    [(name, TEXT) for name in ("status", "content", "finish_reason", "refusal", "error_message")]
)
"""The type of a choice of requests with ``n``, before its answer is read."""

FIELDS: Mapping[str, Field] = {
    "custom_id": Field(TEXT, "first"),
    "status": Field(pa.int8(), "first"),  # its rank
    "content": Field(TEXT, "first"),
    "finish_reason": Field(TEXT, "then"),
    "refusal": Field(TEXT, "then"),
    "error_code": Field(TEXT, "then"),
    "error_message": Field(TEXT, "then"),
    "status_code": Field(pa.int64(), "then"),
    "input_tokens": Field(pa.int64(), "usage"),
    "cached_tokens": Field(pa.int64(), "usage"),
    "output_tokens": Field(pa.int64(), "usage"),
    "reasoning_tokens": Field(pa.int64(), "usage"),
    "model": Field(TEXT, "then"),
    "request_id": Field(TEXT, "then"),
    "file": Field(TEXT, "then"),
    "line": Field(pa.int64(), "then"),
    "cache_write_tokens": Field(pa.int64(), "sometimes"),
    "service_tier": Field(TEXT, "sometimes"),
    "tool_calls": Field(TEXT, "sometimes"),
    "choices": Field(pa.large_list(CHOICE), "sometimes"),
    "citations": Field(TEXT, "sometimes"),
    "reasoning_summary": Field(TEXT, "sometimes"),
    "embedding": Field(pa.large_list(pa.large_list(pa.float32())), "sometimes"),
    "flagged": Field(pa.bool_(), "sometimes"),
    "categories": Field(TEXT, "sometimes"),
    "category_scores": Field(TEXT, "sometimes"),
    "body": Field(TEXT, "sometimes"),
    "has_choices": Field(pa.bool_(), "never"),
}
"""What may be known of a line, in the order in which it is shown."""


def names_of(*shown: Shown) -> list[str]:
    """List the columns that are shown at some of these times.

    Example:
        >>> names_of("first")
        ['custom_id', 'status', 'content']
    """
    return [name for name, field in FIELDS.items() if field.shown in shown]


def answer_field(name: str) -> str:
    """Name the column of a property, out of the way of all others."""
    return f"answer.{name}"


def answer_names(names: Sequence[str]) -> dict[str, str]:
    """Name the columns of properties; one that is taken by a column of results gives way."""
    taken = names_of("first", "then", "usage", "sometimes")
    columns: dict[str, str] = {}
    for name in names:
        free = name
        while free in taken or (free != name and free in names):
            free += "_answer"
        columns[name] = free
    return columns


def choices_type(names: Sequence[str], types: Sequence[pa.DataType]) -> pa.DataType:
    """Return the type of the choices of requests with ``n``, with the answer of each."""
    shown = answer_names(names).values()
    kinds = [type_.value_type if pa.types.is_dictionary(type_) else type_ for type_ in types]
    return pa.large_list(pa.struct([*CHOICE, *map(pa.field, shown, kinds)]))


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
    """Return whether something is a frame in memory, of pandas or of what speaks Arrow.

    Raises:
        TypeError: If it is a Dask DataFrame.
    """
    if is_dask(given):
        hint = "pass what its compute() returns"
        raise TypeError(f"a Dask DataFrame has its rows in other processes; {hint}")
    return isinstance(given, pd.DataFrame) or hasattr(given, "__arrow_c_stream__")


def lasting(frame: Any) -> Any:
    """Return a frame of pandas or polars as it is, and any other as Arrow, read only once.

    A lazy frame of polars is collected.
    """
    if hasattr(frame, "collect") and hasattr(frame, "collect_schema"):
        frame = frame.collect()
    is_kept = isinstance(frame, pd.DataFrame) or _polars(frame)
    return frame if is_kept or not hasattr(frame, "__arrow_c_stream__") else whole_table(frame)


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
        table = frame.to_arrow() if _polars(frame) else whole_table(frame)
        frame = to_dataframe(table, "pyarrow")
        if count := (table.schema.metadata or {}).get(OF_ALL):
            note(frame, requests=int(count))
    have = [str(name) for name in frame.columns]
    columns: Mapping[str, str] | None = noted(frame, "columns")
    if columns is None or ("status" in columns and columns["status"] not in have):
        prefix = _prefix(frame, have)
        columns = {name.removeprefix(prefix): name for name in have if name.startswith(prefix)}
    columns = {name: column for name, column in columns.items() if column in have}
    if "status" not in columns:
        hint = "pass what read_results, join_results or run returned"
        raise ColumnError(f"{RESULTS} has no column 'status'", hint=hint)
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
        values = zip(column, column.isna(), strict=True)
        how: dict[str, Any] = {"default": str, "allow_nan": True}
        return pa.array([None if gone else dumps(one, **how) for one, gone in values], TEXT)
