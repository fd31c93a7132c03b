"""Decide which requests of a table are to be sent, by all that was sent before, and say so."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batch_frames.arrow import bytes_of, hash_text
from batch_frames.files import Job, ShardWriter, line_hashes, round_of, round_path
from batch_frames.requests import TableRequests, checked_blocks
from batch_frames.results import RANKS, Found, Outcomes

__all__ = ["Selection", "is_wanted", "next_round", "select"]


Hashes = npt.NDArray[np.uint64]

Mask = npt.NDArray[np.bool_]


STATES = ("answered", "under_way", "new", "changed", "failed", "skipped")

ANSWERED, UNDER_WAY, NEW, CHANGED, FAILED, SKIPPED = range(len(STATES))

SAMPLES = 3


@dataclass(frozen=True)
class Selection:
    """What became of the rows of a table, and which requests were selected to be sent.

    Attributes:
        custom_ids: The ids of the requests, as text.
        ids: The hashes of these.
        lines: The hashes of the lines of the requests.
        states: The state of each row, by its place in ``STATES``.
        asked: Which rows are selected.
        sample: The first selected requests.
    """

    custom_ids: pa.ChunkedArray
    ids: Hashes
    lines: Hashes
    states: npt.NDArray[np.int8]
    asked: Mask
    sample: list[dict[str, Any]]

    def under_way(self) -> Hashes:
        """Return the lines of the requests whose answers are still to come."""
        states = self.states[self.states != SKIPPED]
        return np.asarray(self.lines[states == UNDER_WAY], np.uint64)


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
    texts: list[pa.Array] = []
    ids, lines = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]
    states, asked = [np.zeros(0, np.int8)], [np.zeros(0, bool)]
    sample: list[dict[str, Any]] = []

    def rendered() -> Iterator[IO[bytes]]:
        return (io.BytesIO(bytes_of(block.lines).tobytes()) for block in requests.blocks())

    blocks = requests.blocks()
    for block in checked_blocks(blocks, path.name, requests.rows(), rendered, progress):
        ids.append(hash_text(block.ids))
        lines.append(line_hashes(block.lines))
        texts.append(block.ids)
        found = outcomes.find(ids[-1], lines[-1])
        wanted = is_wanted(found, once_more=once_more)
        rows = np.flatnonzero(wanted)
        chosen = block if len(rows) == len(wanted) else block.take(rows)
        writer.write(chosen.lines, chosen.chunk.error)
        sample += map(json.loads, chosen.lines[: SAMPLES - len(sample)].to_pylist())
        states.append(block.spread(_states(found), SKIPPED))
        asked.append(block.spread(wanted, False))
    selection = Selection(
        pa.chunked_array(texts, pa.large_string()),
        np.concatenate(ids),
        np.concatenate(lines),
        np.concatenate(states),
        np.concatenate(asked),
        sample,
    )
    _mark_changed(selection, outcomes, path)
    return selection


def is_wanted(found: Found, *, once_more: bool) -> Mask:
    """Return which requests are to be sent."""
    wanted = found.passes & ~found.pending
    if once_more:
        wanted &= found.sent & (found.ranks != RANKS["cancelled"])
    return wanted


def _states(found: Found) -> npt.NDArray[np.int8]:
    states = np.where(found.sent, FAILED, NEW)
    states[found.pending] = UNDER_WAY
    states[found.ranks < RANKS["http_error"]] = ANSWERED
    return states.astype(np.int8)


def _mark_changed(selection: Selection, outcomes: Outcomes, path: Path) -> None:
    """Tell rows that were asked something else from new ones."""
    states = selection.states
    new = np.flatnonzero(states == NEW)
    if len(new):
        ids = selection.ids[states[states != SKIPPED] == NEW]
        states[new[outcomes.has_asked(ids, path)]] = CHANGED


def next_round(path: Path, jobs: Iterable[Job]) -> Path:
    """Return where the next round of a set is saved: after all rounds of which something was sent.

    Args:
        path: The path of the set.
        jobs: All that was sent from its folder.
    """
    rounds = (round_of(name, path) for job in jobs for name in job.names)
    return round_path(path, max((number for number in rounds if number), default=0) + 1)
