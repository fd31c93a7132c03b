"""Find the one result of each request: the best of those that bear its ``custom_id``."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.statuses import RANKS

__all__ = ["NOWHERE", "best_rows", "match"]


Places = npt.NDArray[np.int64]

NAMED = 5

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


def match(results: pa.Table, requests: pa.Array) -> pa.Table:
    """Give each request its result, and warn of all results that are left out.

    Args:
        results: The results, with at least ``custom_id``, ``status`` (its rank), ``file`` and
            ``line``.
        requests: The ``custom_id``s asked for, each once.

    Returns:
        The same columns with a row for each request, in their order; those without a result are
        ``missing``.
    """
    ids, ranks = results["custom_id"], results["status"].to_numpy().astype(np.int8)
    index = pc.index_in(ids, value_set=requests, skip_nulls=True).fill_null(NOWHERE)
    positions = np.asarray(index).astype(np.int64)
    malformed = ranks == RANKS["malformed"]
    _warn(results, malformed, "malformed and left out")
    _warn(results, (positions == NOWHERE) & ~malformed, "left out, having no request")
    best = best_rows(positions, ranks, len(requests))
    second = positions != NOWHERE
    second[best[best != NOWHERE]] = False
    _warn(results, second, "left out for a better or later one of the same custom_id")
    matched = results.take(pa.array(best, mask=best == NOWHERE))
    columns = {name: matched[name] for name in matched.column_names}
    status = columns["status"].fill_null(RANKS["missing"])
    columns |= {"custom_id": pa.chunked_array([requests]), "status": status}
    return pa.table(columns)


def _warn(results: pa.Table, mask: npt.NDArray[np.bool_], what: str) -> None:
    """Tell how many results a mask has, and where the first of them stand."""
    rows = np.flatnonzero(mask)
    if not len(rows):
        return
    shown = results.select(["custom_id", "file", "line"]).take(pa.array(rows[:NAMED])).to_pylist()
    named = ", ".join(_place(row) for row in shown)
    count = "1 result is" if len(rows) == 1 else f"{len(rows):,} results are"
    more = ", …" if len(rows) > len(shown) else ""
    warnings.warn(f"{count} {what}: {named}{more}", stacklevel=4)


def _place(row: dict[str, object]) -> str:
    name = "" if row["custom_id"] is None else f"{row['custom_id']!r} in "
    return f"{name}{row['file']}, line {row['line']:,}"
