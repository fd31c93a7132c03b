"""Match results to requests or rows, and choose the best of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.arrow import NOWHERE, TEXT, Lookup
from batch_frames.display import NAMED, counted, some_of
from batch_frames.errors import ColumnError, RequestError, check_argument
from batch_frames.frames import find_columns, open_frame
from batch_frames.progress import warn
from batch_frames.results.fields import RANKS, RESULTS, STATUSES

__all__ = [
    "SUPERSEDED",
    "Dropped",
    "Places",
    "best_rows",
    "check_names",
    "frame_ids",
    "look_up",
    "match",
    "refuse_names_in_both",
    "result_ids",
    "result_ranks",
    "warn_of_left",
]


Places = npt.NDArray[np.int64]


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


SUPERSEDED = "superseded by a better or later one with the same custom_id"


class Dropped:
    """Results that are dropped, which a warning counts, with the places of the first.

    Args:
        is_given: As for ``match``.
    """

    def __init__(self, *, is_given: bool) -> None:
        self._is_given = is_given
        self._counts: Counter[str] = Counter()
        self._named: dict[str, list[str]] = {}

    def add(self, results: pa.Table, places: Places, others: npt.NDArray[np.bool_]) -> None:
        """Count the results that belong to no request.

        Args:
            results: The results.
            places: The requests that they answer; -1 for none.
            others: Which of them answer another request with the same ``custom_id``.
        """
        malformed = results["status"].to_numpy() == RANKS["malformed"]
        self.add_some(results, malformed, "that are malformed", always=True)
        self.add_some(results, others, "that answer an earlier request with the same custom_id")
        strangers = (places == NOWHERE) & ~malformed & ~others
        self.add_some(results, strangers, "without a request")

    def add_some(
        self, results: pa.Table, mask: npt.NDArray[np.bool_], what: str, *, always: bool = False
    ) -> None:
        """Count the results that a mask chooses."""
        rows = np.flatnonzero(mask)
        if len(rows) and (self._is_given or always):
            named = self._named.setdefault(what, [])
            first = pa.array(rows[: NAMED - len(named)])
            shown = results.select(["custom_id", "file", "line"]).take(first)
            named += map(_place, shown.to_pylist())
            self._counts[what] += len(rows)

    def count(self, what: str, count: int) -> None:
        """Count results whose places are not known any more."""
        if count and self._is_given:
            self._counts[what] += count

    def warn(self) -> None:
        """Issue the warnings."""
        for what, count in self._counts.items():
            named = self._named.get(what)
            where = f": {some_of(named, count)}" if named else ""
            warn(f"dropped {counted(count, 'result')} {what}{where}")


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
    dropped = Dropped(is_given=is_given)
    dropped.add(results, positions, others)
    best = best_rows(positions, ranks, len(requests))
    second = positions != NOWHERE
    second[best[best != NOWHERE]] = False
    dropped.add_some(results, second, SUPERSEDED)
    dropped.warn()
    matched = results.take(pa.array(best, mask=best == NOWHERE))
    columns = {name: matched[name] for name in matched.column_names}
    status = pc.coalesce(columns["status"], pa.array(absent))
    columns |= {"custom_id": pa.chunked_array([requests]), "status": status}
    return pa.table(columns)


def _place(row: dict[str, object]) -> str:
    name = "" if row["custom_id"] is None else f"{row['custom_id']!r} in "
    return f"{name}{row['file']}, line {row['line']:,}"


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
    codes, found = pd.factorize(results["status"])
    ranks = np.array([RANKS.get(status, NOWHERE) for status in found] + [NOWHERE], np.int8)[codes]
    if (ranks == NOWHERE).any():
        strange = results["status"][ranks == NOWHERE].iloc[0]
        known = ", ".join(STATUSES)
        raise ColumnError(f"results have the status {strange!r}, which is none of {known}")
    return ranks


def look_up(ids: pa.Array) -> Lookup:
    """Return how to find ids, none of which may be there twice; nulls may be.

    Raises:
        RequestError: If one is.
    """
    lookup = Lookup(ids)
    if not lookup.is_ambiguous:
        return lookup
    series = pd.Series(ids.to_numpy(zero_copy_only=False))
    again = np.flatnonzero(series.duplicated() & series.notna())
    if not len(again):
        return lookup
    rows = again[:NAMED]
    pairs = [(series[row], int(np.flatnonzero(series == series[row])[0]), row) for row in rows]
    named = [f"{i!r} in row {a:,} and row {b:,}" for i, a, b in pairs]
    message = f"custom_id must be unique: {some_of(named, len(again), between='; ')}"
    raise RequestError(message, row=int(again[0]), custom_id=series[again[0]])


def check_names(columns: Any, prefix: Any) -> list[str] | None:
    """Return which columns of results are wanted, in a list; None for all.

    Raises:
        TypeError: If they are no names, or the prefix is no text.
    """
    check_argument("prefix", prefix, "text", str)
    if columns is None:
        return None
    columns = [columns] if isinstance(columns, str) else columns
    names = list(columns) if isinstance(columns, Iterable) else [columns]
    for name in names:
        check_argument("columns", name, "names of columns of the results", str)
    return names


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


def warn_of_left(
    first: pa.Array, count: int, ids: pa.Array, *, is_counted: bool = False, is_all: bool
) -> None:
    """Warn of results that match no row, a sign of ids from another column or in another form.

    Args:
        first: The ids of the first of them, at least three if there are as many.
        count: How many there are.
        ids: The ids of the rows.
        is_counted: Whether the ids of the rows only count them.
        is_all: Whether no result matches a row.

    Raises:
        ColumnError: If the ids only count the rows.
    """
    what = f"{counted(count, 'result')} {'matches' if count == 1 else 'match'} no row"
    problem = f"{what}: {some_of([repr(one.as_py()) for one in first[:NAMED]], count)}"
    if is_counted:
        raise ColumnError(
            problem, hint="the index only counts the rows; pass id_column=, or name it"
        )
    if is_all:
        ours, theirs = ids[0].as_py(), first[0].as_py()
        problem = "no result matches any row: "
        problem += f"the frame's ids are like {ours!r}, those of the results like {theirs!r}"
    warn(problem, hint="check id_column=")
