"""Decide which requests of a table are to be sent, by all that was sent before, and say it."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Literal, Never

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.arrow import NOWHERE, TEXT, bytes_of, hash_text
from batch_frames.display import bar_html, card_html, counted, request_html, size_text
from batch_frames.estimates import estimate_table, shown_cost
from batch_frames.files import (
    DryStore,
    Job,
    Limits,
    Record,
    Shard,
    Shards,
    ShardWriter,
    line_hashes,
    next_round,
    set_path,
)
from batch_frames.frames import to_dataframe
from batch_frames.requests import (
    CHAT,
    EFFORT,
    LIMITS,
    MODEL,
    SEED,
    Endpoint,
    TableRequests,
    Value,
    checked_blocks,
    from_any,
    table_of,
)
from batch_frames.results import RANKS, Found, Outcomes, lasting

__all__ = ["Plan", "Selection", "Table", "is_wanted", "open_table", "plan", "planned", "select"]

Hashes = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

STATES = ("answered", "under_way", "new", "changed", "failed", "skipped")
ANSWERED, UNDER_WAY, NEW, CHANGED, FAILED, SKIPPED = range(len(STATES))
SAMPLES = 3
OF_RUN = {
    "retries", "max_requests", "max_cost", "client", "metadata", "max_enqueued_tokens",
    "timeout", "poll", "confirm", "check", "columns", "prefix", "usage", "dtype_backend",
}  # fmt: skip
"""The options that ``run`` has and ``plan`` has not."""


@dataclass(frozen=True, repr=False)
class Plan:
    """What ``run`` would do with the rows of a table.

    Attributes:
        answered: Number of rows whose request has an answer.
        under_way: Number of rows whose request was sent, and whose answer is still to come.
        new: Number of rows that were never asked.
        changed: Number of rows whose ``custom_id`` was asked something else.
        failed: Number of rows whose request has failed.
        asked_again: Number of these that would be asked again.
        skipped: Number of rows without a prompt.
        shards: The request files that would be sent, first those that wait in the folder for it.
        sample: The first three requests that would be sent.
    """

    answered: int
    under_way: int
    new: int
    changed: int
    failed: int
    asked_again: int
    skipped: int
    shards: Shards
    sample: list[dict[str, Any]] = field(repr=False)
    _table: Table = field(compare=False)
    _selection: Selection = field(compare=False)
    _index: pd.Index[Any] | None = field(compare=False)

    @property
    def requests(self) -> int:
        """Number of requests that would be sent."""
        return sum(shard.requests for shard in self.shards)

    @property
    def nbytes(self) -> int:
        """Size of the request files that would be sent."""
        return sum(shard.nbytes for shard in self.shards)

    @cached_property
    def estimate(self) -> pd.DataFrame:
        """Tokens and cost of what would be sent, as from ``estimate``, when first asked for."""
        of = self._selection
        return estimate_table(self._table.requests, of.asked, self.shards, len(of.waiting))

    @property
    def cost(self) -> str:
        """Tokens and cost in words; empty if they are not known, or not without delay."""
        return shown_cost(self.sample, self.nbytes, lambda: self.estimate)

    def to_frame(self) -> pd.DataFrame:
        """Return a row for each row of the table, with its index if it is of pandas.

        Returns:
            A DataFrame with the columns ``custom_id``, ``plan``, a categorical of ``answered``,
            ``under_way``, ``new``, ``changed``, ``failed`` and ``skipped``, and ``asked``, whether
            the request of the row would be sent.
        """
        of = self._selection
        places = of.of_rows(np.arange(len(of.states)), NOWHERE)
        states = pa.array(of.of_rows(of.states, SKIPPED))
        columns = {
            "custom_id": of.custom_ids.take(pa.array(places, mask=~of.has)),
            "plan": pa.DictionaryArray.from_arrays(states, pa.array(STATES)),
            "asked": pa.array(of.of_rows(of.asked | of.saved, False)),
        }
        frame = to_dataframe(pa.table(columns), None)
        return frame if self._index is None else frame.set_axis(self._index)

    @property
    def _counts(self) -> dict[str, int]:
        return {state: getattr(self, state) for state in STATES}

    def __repr__(self) -> str:
        files = f", {size_text(self.nbytes)} in {counted(len(self.shards), 'file')}"
        sent = counted(self.requests, "request") + " to send" + files * bool(self.requests)
        sent += f", {self.cost}" * bool(self.cost)
        counts = self._counts | {"asked again": self.asked_again}
        facts = "".join(f"; {count:,} {name}" for name, count in counts.items() if count)
        return f"Plan({sent}{facts})"

    def _repr_html_(self) -> str:
        facts = {"to send": counted(self.requests, "request"), "size": size_text(self.nbytes)}
        facts |= {"asked again": f"{self.asked_again:,}"}
        facts |= {"cost": self.cost} if self.cost else {}
        sample = (request_html(one, is_open=not n) for n, one in enumerate(self.sample))
        return card_html("Plan", facts, bar_html(self._counts), self.shards.table(), *sample)


def plan(
    table: Any,
    path: str | os.PathLike[str],
    *,
    id_column: str | Sequence[str] | None = None,
    prompt_column: str | Value | None = None,
    na: Literal["raise", "skip"] = "raise",
    model: str | Value = MODEL,
    reasoning_effort: str | Value | None = EFFORT,
    json_schema: Any = None,
    system_prompt: str | Value | None = None,
    seed: int | Value | None = SEED,
    endpoint: Endpoint = CHAT,
    body: Mapping[str, Any] | None = None,
    dedupe: bool = False,
    limits: Limits = LIMITS,
    progress: bool | None = None,
    **unknown: Never,
) -> Plan:
    """Return what ``run`` would do with a table, without writing or sending anything.

    The arguments are those of ``run`` that say what is sent.

    Raises:
        BatchFramesError: As for ``run``, if the table or the template is wrong.
    """
    given = locals()
    if others := sorted(OF_RUN & unknown.keys()):
        raise TypeError(f"{others[0]!r} is an option of run alone; leave it out")
    if path is None:
        raise TypeError("plan needs the path that run saves the requests to")
    opened, target = open_table(table, given), set_path(path)
    outcomes = Outcomes(Record(target.parent))
    with ShardWriter(DryStore(next_round(target, outcomes.names())), limits) as writer:
        selection = select(opened.requests, outcomes, target, writer, progress=progress)
        return planned(selection, writer, opened)


@dataclass(frozen=True)
class Table:
    """A table: the requests that are made of its rows, and the schema of their answers."""

    requests: TableRequests
    schema: Any


def open_table(table: Any, given: Mapping[str, Any]) -> Table:
    """Open what ``run`` and ``plan`` take as a table, by their other arguments.

    Raises:
        TypeError: If it is not a table.
    """
    return Table(*table_of(from_any(lasting(table), given)))


@dataclass(frozen=True)
class Selection:
    """What became of the requests of a table, and which were selected to be sent.

    Attributes:
        custom_ids: The ids of the requests, as text.
        parts: The hashes of the lines of the requests, in any number of parts.
        states: The states of the requests, by their places in ``STATES``.
        asked: Which requests are selected.
        saved: Which requests were selected by an earlier call, and not sent yet.
        awaited: The jobs with the saved ones and with those whose answers are still to come.
        has: Which rows of the table have a request, each its own in turn.
        shared: For each row its request, -1 for none, if rows may share them; otherwise None.
        sample: The first selected or saved requests.
    """

    custom_ids: pa.ChunkedArray
    parts: Sequence[Hashes]
    states: npt.NDArray[np.int8]
    asked: Mask
    saved: Mask
    awaited: list[Job]
    has: Mask
    shared: npt.NDArray[np.int32] | None
    sample: list[dict[str, Any]]

    @property
    def lines(self) -> Hashes:
        """The hashes of the lines of the requests."""
        return np.concatenate([np.zeros(0, np.uint64), *self.parts])

    def of_rows(self, values: npt.NDArray[Any], without: Any) -> npt.NDArray[Any]:
        """Return for each row the value of its request, and another for rows without one."""
        if self.shared is not None:
            return np.append(values, values.dtype.type(without))[self.shared]
        found = np.full(len(self.has), without, values.dtype)
        found[self.has] = values
        return found

    def find(self, outcomes: Outcomes) -> Found:
        """Look the requests up."""
        return outcomes.find(hash_text(self.custom_ids.combine_chunks()), self.lines)

    @property
    def waiting(self) -> list[Shard]:
        """The files that are still to be sent."""
        return [job.shard for job in self.awaited if not job.may_be_paid]


def select(
    requests: TableRequests,
    outcomes: Outcomes,
    path: Path,
    writer: ShardWriter,
    *,
    once_more: bool = False,
    progress: bool | None = None,
) -> Selection:
    """Write the lines of a table that are to be sent: what has no answer and waits for none.

    What has failed for good is not sent.

    Args:
        requests: The requests of the table.
        outcomes: What became of all that was sent from the folder.
        path: The path of the set.
        writer: Where the lines are written.
        once_more: Whether to send only what was sent before, and was not cancelled.
        progress: As for ``save_requests``.
    """
    texts, lines, sample = list[pa.Array](), list[Hashes](), list[dict[str, Any]]()
    ids, awaited = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]
    states, (asked, saved, has) = [np.zeros(0, np.int8)], ([np.zeros(0, bool)] for _ in range(3))

    def rendered() -> Iterator[IO[bytes]]:
        return (io.BytesIO(bytes_of(block.lines).tobytes()) for block in requests.blocks())

    for block in checked_blocks(requests.blocks(), path.name, requests.rows(), rendered, progress):
        texts.append(block.ids)
        lines.append(line_hashes(block.lines))
        found = outcomes.find(hashes := hash_text(block.ids), lines[-1])
        asked.append(is_wanted(found, once_more=once_more))
        states.append(_states(found))
        saved.append(found.waits & (states[-1] != ANSWERED))
        ids.append(hashes[states[-1] == NEW])
        awaited.append(lines[-1][saved[-1] | (states[-1] == UNDER_WAY)])
        chosen = block if asked[-1].all() else block.take(np.flatnonzero(asked[-1]))
        writer.write(chosen.lines, chosen.chunk.error)
        shown = np.flatnonzero(asked[-1] | saved[-1])[: SAMPLES - len(sample)]
        sample += map(json.loads, block.lines.take(pa.array(shown)).to_pylist())
        has.append(block.spread(np.ones(len(block.ids), bool), False))
    of_all = np.concatenate(states)
    # An id that was asked something else tells changed requests from new ones.
    new = np.flatnonzero(of_all == NEW)
    of_all[new[outcomes.has_asked(np.concatenate(ids), path)]] = CHANGED
    jobs = outcomes.waited_for(np.concatenate(awaited))
    results = (lines, of_all, np.concatenate(asked), np.concatenate(saved), jobs)
    custom_ids = pa.chunked_array(texts, TEXT)
    shared = _shared(requests, custom_ids) if requests.dedupe else None
    mask = np.concatenate(has) if shared is None else shared != NOWHERE
    return Selection(custom_ids, *results, mask, shared, sample)


def _shared(requests: TableRequests, ids: pa.ChunkedArray) -> npt.NDArray[np.int32]:
    index = pc.index_in(requests.row_ids(), value_set=ids, skip_nulls=True)
    return np.asarray(index.fill_null(NOWHERE))


def is_wanted(found: Found, *, once_more: bool) -> Mask:
    """Return which requests are to be sent."""
    wanted = found.passes & ~found.pending & ~found.waits
    if once_more:
        wanted &= found.sent & (found.ranks != RANKS["cancelled"])
    return wanted


def _states(found: Found) -> npt.NDArray[np.int8]:
    states = np.where(found.sent, FAILED, NEW)
    states[found.pending] = UNDER_WAY
    states[found.ranks < RANKS["http_error"]] = ANSWERED
    return states.astype(np.int8)


def planned(selection: Selection, writer: ShardWriter, table: Table) -> Plan:
    """Return the plan of what was selected and written."""
    states = selection.of_rows(selection.states, SKIPPED)
    counts = {name: int((states == n).sum()) for n, name in enumerate(STATES)}
    sent = selection.of_rows(selection.asked | selection.saved, False)
    frame = table.requests.source.frame
    return Plan(
        **counts,
        asked_again=int((sent & (states == FAILED)).sum()),
        shards=Shards([*selection.waiting, *writer.planned()]),
        sample=selection.sample,
        _table=table,
        _selection=selection,
        _index=frame.index if isinstance(frame, pd.DataFrame) else None,
    )
