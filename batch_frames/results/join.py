"""Join results to the frame that their requests were made of."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.arrow import NOWHERE
from batch_frames.errors import check_argument
from batch_frames.frames import find_columns, is_dask, only_counts
from batch_frames.requests import BatchCreator, TableRequests
from batch_frames.results.fields import (
    RESULTS,
    STATUSES,
    lasting,
    names_in,
    note,
    noted,
    own_results,
    with_columns,
)
from batch_frames.results.match import (
    Places,
    best_rows,
    check_names,
    frame_ids,
    look_up,
    refuse_names_in_both,
    result_ids,
    result_ranks,
    warn_of_left,
)
from batch_frames.results.scan import join_files

__all__ = ["join_results", "row_ids"]


@overload
def join_results(
    frame: pd.DataFrame,
    results: Any,
    *,
    id_column: str | Sequence[str] | None = ...,
    requests: BatchCreator | TableRequests | None = ...,
    columns: Sequence[str] | None = ...,
    prefix: str = ...,
    out: None = ...,
    progress: bool | None = ...,
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
    out: None = ...,
    progress: bool | None = ...,
) -> Any: ...
@overload
def join_results(
    frame: Any,
    results: Any,
    *,
    id_column: str | Sequence[str] | None = ...,
    columns: Sequence[str] | None = ...,
    prefix: str = ...,
    out: str | os.PathLike[str],
    progress: bool | None = ...,
) -> Path: ...
def join_results(
    frame: Any,
    results: Any,
    *,
    id_column: str | Sequence[str] | None = None,
    requests: BatchCreator | TableRequests | None = None,
    columns: Sequence[str] | None = None,
    prefix: str = "",
    out: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> Any:
    """Left-join results to the frame they were requested for, keeping rows, order, index, dtypes.

    Ids are compared as they are written, so that the whole number 7 or a date finds its text. Of
    several results of an id the better status is taken, then the later row. A row without a
    result gets the status ``missing``, or ``skipped`` if the results are those of all requests (of
    ``read_results`` with ``requests=``), and none of these was its own. Frames of polars cannot say
    that they are; pass the results as pandas or pyarrow to tell the two apart.

    Args:
        frame: What the requests were made of: a pandas DataFrame, or anything with
            ``__arrow_c_stream__``.
        results: What ``read_results``, ``join_results`` or ``run`` returned.
        id_column: The column with the ids, or several, as when writing; None takes the index.
        requests: In place of ids, what ``from_dataframe`` made with ``dedupe=True``, of this frame
            or of one like it: the rows of the frame are compared by what they ask.
        columns: The columns of the results to take; None takes all of them, but ``custom_id`` only
            if the frame has no column of that name.
        prefix: Prefix for their names.
        out: A Parquet file to write the joined rows to, in row groups of a bounded size. The frame
            may then be a path, list, glob or folder of CSV or Parquet files, and the results those
            of output and error files, or a stream such as that of ``scan_results``; of both only
            the ids are in memory as a whole. The columns of CSV files are text.
        progress: Whether to show a progress bar with ``out``; None shows it after two seconds.

    Returns:
        A new frame: the columns of the frame, then those of the results. It is of pandas or polars
        where the frame is, and of pyarrow for all others. With ``out`` its path.

    Raises:
        TypeError: If the frame is none, or a Dask DataFrame, or another argument has a wrong type.
        ColumnError: If a column is missing, a name is in both, or the ids seem to be in a column
            that ``id_column`` does not name.
        RequestError: If an id is twice in the frame.

    Example:
        >>> frame = pd.DataFrame({"review": ["Fits well.", "Too small."]}, index=[7, 8])
        >>> results = pd.DataFrame({"custom_id": ["8"], "status": ["ok"], "content": ["small"]})
        >>> join_results(frame, results)["status"].tolist()
        ['missing', 'ok']
    """
    if is_dask(frame):
        hint = "pass what its compute() returns, or join Parquet files of it with out="
        raise TypeError(f"a Dask DataFrame has its rows in other processes; {hint}")
    if out is not None:
        if requests is not None:
            raise TypeError("requests= is for frames in memory; pass id_column= with out=")
        return join_files(
            frame, results, out,
            id_column=id_column, columns=columns, prefix=prefix, progress=progress,
        )  # fmt: skip
    columns, frame = check_names(columns, prefix), lasting(frame)
    ids = row_ids(frame, id_column, requests)
    is_repeated = requests is not None
    return _joined(frame, ids, results, id_column, columns, prefix, is_repeated=is_repeated)


def _joined(
    frame: Any,
    ids: pa.Array,
    results: Any,
    id_column: str | Sequence[str] | None,
    columns: Sequence[str] | None,
    prefix: str,
    *,
    is_repeated: bool,
) -> Any:
    """Join results to a frame in memory by the ids of its rows."""
    results = own_results(results)
    ranks = result_ranks(results)
    have, names = names_in(frame), [str(name) for name in results.columns]
    if columns is None:
        columns = [n for n in names if n != "custom_id" or prefix + n not in have]
    find_columns(names, columns, RESULTS)
    refuse_names_in_both(have, columns, prefix)
    answered = result_ids(results)
    found = pc.index_in(answered, value_set=ids, skip_nulls=True)
    positions = np.asarray(found.fill_null(NOWHERE)).astype(np.int64)
    left = answered.filter(pa.array(positions == NOWHERE)).drop_null()
    best = best_rows(positions, ranks, len(ids))
    best = _repeated(best, ids) if is_repeated else best
    if len(left) and len(ids):
        # Where some rows have no result and some results no row, counting them was no id.
        by_index = id_column is None and not is_repeated and only_counts(frame)
        counted = by_index and NOWHERE in best
        warn_of_left(left, len(left), ids, is_counted=counted, is_all=(best == NOWHERE).all())
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


def row_ids(
    frame: Any,
    id_column: str | Sequence[str] | None,
    requests: BatchCreator | TableRequests | None,
) -> pa.Array:
    """Return the ids of the rows, which are repeated only where rows share a request."""
    if requests is None:
        ids = frame_ids(frame, id_column)
        look_up(ids)
        return ids
    made = "what from_dataframe made with dedupe=True"
    check_argument("requests", requests, made, BatchCreator, TableRequests)
    return requests.row_ids(frame)


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
