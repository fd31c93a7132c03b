"""Match results to requests, and join them to the frame that these were made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.arrow import TEXT
from batch_frames.display import NAMED, counted, some_of
from batch_frames.errors import ColumnError, RequestError
from batch_frames.frames import find_columns, only_counts, open_frame
from batch_frames.progress import warn
from batch_frames.requests import BatchCreator, TableRequests
from batch_frames.results.fields import RANKS, STATUSES
from batch_frames.results.frames import (
    RESULTS,
    lasting,
    names_in,
    note,
    noted,
    own_results,
    with_columns,
)

__all__ = [
    "NOWHERE",
    "best_rows",
    "join_results",
    "match",
    "refuse_names_in_both",
    "result_ids",
    "result_ranks",
]


Places = npt.NDArray[np.int64]

NOWHERE = -1


def best_rows(positions: Places, ranks: npt.NDArray[np.int8], requests: int) -> Places:
    """Choose a result for each request: the better status wins, then the later row.

    Args:
        positions: For each result, the request that it answers; -1 for none.
        ranks: The statuses of the results.
        requests: How many requests there are.

    Returns:
        For each request the row of its result, -1 where there is none.
    """
    rows = np.flatnonzero(positions != NOWHERE)
    best = np.full(requests, NOWHERE, np.int64)
    # Written in this order, the best result of a request is the last one and stays.
    in_order = rows[np.lexsort((rows, -ranks[rows].astype(np.int64)))]
    best[positions[in_order]] = in_order
    return best


def match(
    results: pa.Table,
    requests: pa.Array,
    others: npt.NDArray[np.bool_],
    absent: npt.NDArray[np.int8],
    *,
    is_given: bool = True,
) -> pa.Table:
    """Find the result of each request, and warn of all results that are dropped.

    Args:
        results: The results, with at least ``custom_id``, ``status`` (its rank), ``file`` and
            ``line``.
        requests: The ``custom_id``s asked for, each once.
        others: Which results answer another request with the same ``custom_id``.
        absent: The status of each request that has no result.
        is_given: Whether a user has named the files; otherwise it is no news that some results
            are of earlier or other requests.

    Returns:
        The same columns with a row for each request, in their order.
    """
    ids, ranks = results["custom_id"], results["status"].to_numpy().astype(np.int8)
    index = pc.index_in(ids, value_set=requests, skip_nulls=True).fill_null(NOWHERE)
    positions = np.asarray(index).astype(np.int64)
    positions[others] = NOWHERE
    malformed = ranks == RANKS["malformed"]
    _warn(results, malformed, "that are malformed")
    best = best_rows(positions, ranks, len(requests))
    if is_given:
        _warn(results, others, "that answer an earlier request with the same custom_id")
        strangers = (positions == NOWHERE) & ~malformed & ~others
        _warn(results, strangers, "without a request")
        second = positions != NOWHERE
        second[best[best != NOWHERE]] = False
        _warn(results, second, "superseded by a better or later one with the same custom_id")
    matched = results.take(pa.array(best, mask=best == NOWHERE))
    columns = {name: matched[name] for name in matched.column_names}
    status = pc.coalesce(columns["status"], pa.array(absent))
    columns |= {"custom_id": pa.chunked_array([requests]), "status": status}
    return pa.table(columns)


def _warn(results: pa.Table, mask: npt.NDArray[np.bool_], what: str) -> None:
    """Warn of the results that a mask chooses, with the places of the first."""
    rows = np.flatnonzero(mask)
    if len(rows):
        shown = results.select(["custom_id", "file", "line"]).take(pa.array(rows[:NAMED]))
        named = some_of([_place(row) for row in shown.to_pylist()], len(rows))
        warn(f"dropped {counted(len(rows), 'result')} {what}: {named}")


def _place(row: dict[str, object]) -> str:
    name = "" if row["custom_id"] is None else f"{row['custom_id']!r} in "
    return f"{name}{row['file']}, line {row['line']:,}"


@overload
def join_results(
    frame: pd.DataFrame,
    results: Any,
    *,
    id_column: str | Sequence[str] | None = ...,
    requests: BatchCreator | TableRequests | None = ...,
    columns: Sequence[str] | None = ...,
    prefix: str = ...,
) -> pd.DataFrame: ...
@overload
def join_results(
    frame: Any,
    results: Any,
    *,
    id_column: str | Sequence[str] | None = ...,
    requests: BatchCreator | TableRequests | None = ...,
    columns: Sequence[str] | None = ...,
    prefix: str = ...,
) -> Any: ...
def join_results(
    frame: Any,
    results: Any,
    *,
    id_column: str | Sequence[str] | None = None,
    requests: BatchCreator | TableRequests | None = None,
    columns: Sequence[str] | None = None,
    prefix: str = "",
) -> Any:
    """Left-join results to the frame they were requested for, keeping rows, order, index, dtypes.

    Ids are compared as they are written, so that the whole number 7 or a date finds its text. Of
    several results of an id the better status is taken, then the later row. A row without a
    result gets the status ``missing``, or ``skipped`` if the results are those of all requests (of
    ``read_results`` with ``requests=``), and none of these was its own.

    Args:
        frame: What the requests were made of: a pandas DataFrame, or anything with
            ``__arrow_c_stream__``.
        results: What ``read_results``, ``join_results`` or ``run`` returned.
        id_column: The column with the ids, or several, as when writing; None takes the index.
        requests: In place of ids, what ``from_dataframe`` made of the frame with ``dedupe=True``.
        columns: The columns of the results to take; None takes all of them, but ``custom_id`` only
            if the frame has no column of that name.
        prefix: Prefix for their names.

    Returns:
        A new frame: the columns of the frame, then those of the results. It is of pandas or polars
        where the frame is, and of pyarrow for all others.

    Raises:
        ColumnError: If a column is missing, a name is in both, or the ids seem to be in a column
            that ``id_column`` does not name.
        RequestError: If an id is twice in the frame.

    Example:
        >>> frame = pd.DataFrame({"review": ["Fits well.", "Too small."]}, index=[7, 8])
        >>> results = pd.DataFrame({"custom_id": ["8"], "status": ["ok"], "content": ["small"]})
        >>> join_results(frame, results)["status"].tolist()
        ['missing', 'ok']
    """
    frame = lasting(frame)
    ids = _row_ids(frame, id_column, requests)
    results = own_results(results)
    ranks = result_ranks(results)
    have, names = names_in(frame), [str(name) for name in results.columns]
    if columns is None:
        columns = [n for n in names if n != "custom_id" or prefix + n not in have]
    columns = [columns] if isinstance(columns, str) else list(columns)
    find_columns(names, columns, RESULTS)
    refuse_names_in_both(have, columns, prefix)
    answered = result_ids(results)
    found = pc.index_in(answered, value_set=ids, skip_nulls=True)
    positions = np.asarray(found.fill_null(NOWHERE)).astype(np.int64)
    left = answered.filter(pa.array(positions == NOWHERE)).drop_null()
    best = best_rows(positions, ranks, len(ids))
    best = best if requests is None else _repeated(best, ids)
    if len(left) and len(ids):
        # Where some rows have no result and some results no row, counting them was no id.
        counted = id_column is None and only_counts(frame) and NOWHERE in best
        _warn_of_left(left, ids, is_counted=counted, is_all=(best == NOWHERE).all())
    unanswered = "skipped" if noted(results, "requests") == len(results) else "missing"
    picked = _picked(results[columns], best, unanswered)
    if "custom_id" in columns:
        picked["custom_id"] = _as_text(ids, picked["custom_id"].dtype)
    joined = with_columns(frame, picked.add_prefix(prefix))
    if isinstance(frame, pd.DataFrame):
        joined.attrs.update(frame.attrs)
        own_id = id_column if isinstance(id_column, str) else "custom_id"
        own = {name: prefix + name for name in columns}
        note(joined, columns={"custom_id": own_id, **own})
    return joined


def _as_text(ids: pa.Array, dtype: Any) -> pd.Series[Any]:
    """Convert ids to a column of text, of a given dtype if this is one of text."""
    is_text = isinstance(dtype, (pd.StringDtype, pd.ArrowDtype)) or dtype.kind == "O"
    return pd.Series(ids.to_numpy(zero_copy_only=False), dtype=dtype if is_text else None)


def _repeated(best: Places, ids: pa.Array) -> Places:
    """Give all rows of an id the result of the first."""
    first = pc.index_in(ids, value_set=ids, skip_nulls=True).fill_null(NOWHERE)
    found: Places = np.append(best, NOWHERE)[np.asarray(first)]
    return found


def _row_ids(
    frame: Any,
    id_column: str | Sequence[str] | None,
    requests: BatchCreator | TableRequests | None,
) -> pa.Array:
    """Return the ids of the rows, which are repeated only where rows share a request."""
    if requests is None:
        ids = frame_ids(frame, id_column)
        _refuse_duplicates(ids)
        return ids
    ids = requests.row_ids()
    if len(ids) != len(frame):
        problem = (
            f"the frame has {counted(len(frame), 'row')}, and the requests are of {len(ids):,}"
        )
        raise ColumnError(problem, hint="pass the frame that they were made of")
    return ids


def frame_ids(frame: Any, id_column: str | Sequence[str] | None) -> pa.Array:
    """Write the ids of a frame as requests have them; ``large_string``, null where missing.

    Raises:
        ColumnError: If there is no such column, or it holds what is not an id.
        RequestError: If one of them is not an id.
    """
    ids = (chunk.id_text() for chunk in open_frame(frame, id_column, []).chunks())
    return pa.concat_arrays([pa.array([], TEXT), *ids])


def result_ids(results: pd.DataFrame) -> pa.Array:
    """Write the ids of results as requests have them.

    Raises:
        ColumnError: If there is no ``custom_id``, or it holds what is no id.
        RequestError: If one of them is no id.
    """
    find_columns([str(name) for name in results.columns], ["custom_id"], RESULTS)
    return frame_ids(results, "custom_id")


def result_ranks(results: pd.DataFrame) -> npt.NDArray[np.int8]:
    """Rank the statuses of results, the best first.

    Raises:
        ColumnError: If one of them is not a status.
    """
    ranks = results["status"].astype(object).map(RANKS)
    if ranks.isna().any():
        strange = results["status"][ranks.isna()].iloc[0]
        known = ", ".join(STATUSES)
        raise ColumnError(f"results have the status {strange!r}, which is none of {known}")
    return np.asarray(ranks, np.int8)


def _refuse_duplicates(ids: pa.Array) -> None:
    series = pd.Series(ids.to_numpy(zero_copy_only=False))
    again = np.flatnonzero(series.duplicated() & series.notna())
    if not len(again):
        return
    rows = again[:NAMED]
    pairs = [(series[row], int(np.flatnonzero(series == series[row])[0]), row) for row in rows]
    named = [f"{i!r} in row {a:,} and row {b:,}" for i, a, b in pairs]
    message = f"custom_id must be unique: {some_of(named, len(again), between='; ')}"
    raise RequestError(message, row=int(again[0]), custom_id=series[again[0]])


def refuse_names_in_both(have: Sequence[str], columns: Sequence[str], prefix: str) -> None:
    """Check that a frame has no column of the name that one of results would get.

    Raises:
        ColumnError: If it has.
    """
    both = [prefix + name for name in columns if prefix + name in have]
    if both:
        listed = ", ".join(map(repr, both))
        hint = 'pass prefix="answer_", or columns= with those that you need'
        raise ColumnError(f"the frame and the results both have {listed}", hint=hint)


def _warn_of_left(left: pa.Array, ids: pa.Array, *, is_counted: bool, is_all: bool) -> None:
    """Warn of results that match no row, a sign of ids from another column or in another form."""
    count = f"{counted(len(left), 'result')} {'matches' if len(left) == 1 else 'match'} no row"
    problem = f"{count}: {some_of([repr(one.as_py()) for one in left[:NAMED]], len(left))}"
    if is_counted:
        raise ColumnError(
            problem, hint="the index only counts the rows; pass id_column=, or name it"
        )
    if is_all:
        ours, theirs = ids[0].as_py(), left[0].as_py()
        problem = "no result matches any row: "
        problem += f"the frame's ids are like {ours!r}, those of the results like {theirs!r}"
    warn(problem, hint="check id_column=")


def _picked(results: pd.DataFrame, best: npt.NDArray[np.int64], unanswered: str) -> pd.DataFrame:
    """Take the chosen rows, null where there is none; nothing turns to float for it."""
    picked: dict[str, Any] = {}
    for name, column in results.items():
        if column.dtype.kind in "iu" and isinstance(column.dtype, np.dtype):
            column = column.astype("UInt64" if column.dtype == np.uint64 else "Int64")
        elif column.dtype == np.bool_:
            column = column.astype("boolean")
        picked[str(name)] = column.array.take(best, allow_fill=True)
    if "status" in picked:
        statuses = pd.Series(picked["status"]).astype(object).where(best != NOWHERE, unanswered)
        picked["status"] = pd.Categorical(statuses, STATUSES)
    return pd.DataFrame(picked, index=range(len(best)))
