"""Tell what became of each request that was ever sent from a folder."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batch_frames.arrow import hash_text, in_threads, split_hashes
from batch_frames.files import (
    LIVE_ENDINGS,
    Job,
    Record,
    distinct,
    live_hashes,
    live_lines,
    read_lines,
    round_of,
    sent_lines,
)
from batch_frames.requests import read_asked
from batch_frames.results.fields import RANKS, STOPPED
from batch_frames.results.parse import read_outcomes

__all__ = ["Found", "Outcomes", "is_lasting"]


Hashes = npt.NDArray[np.uint64]

Codes = npt.NDArray[np.int8]

Mask = npt.NDArray[np.bool_]

PASSING = (408, 409, 425, 429)
"""HTTP statuses from 400 to 499 after which the same request may succeed."""

PASSES = 16
"""What is added to the rank of what may be answered if it is sent again."""

KEPT = "outcomes-1"
"""The folder of what was read of result files; another whenever they are read in another way."""

FEWEST_BYTES = 1 << 20
"""A smaller file is read again as quickly as what is kept of it."""

AT_REST = 2_000_000_000
"""Nanoseconds without a change after which a file would have another time if it changed again."""

DIGEST, KEY = 16, 8


def is_lasting(ranks: Codes, codes: npt.NDArray[np.float64]) -> Mask:
    """Return which results are errors that would only come again.

    Args:
        ranks: Their statuses.
        codes: Their HTTP statuses, NaN or 0 where there is none.
    """
    is_permanent = (codes >= 400) & (codes < 500) & ~np.isin(codes, PASSING)
    found: Mask = is_permanent & (ranks == RANKS["http_error"])
    return found


class Found(NamedTuple):
    """What became of some requests.

    Attributes:
        ranks: Their best statuses; ``missing`` where there is no result.
        passes: Which of them may be answered if they are sent again.
        pending: Which of them may still get answers, or have some that were not downloaded.
        waits: Which of them stand in files that were saved to be sent, and were not yet.
        sent: Which of them were ever sent.
    """

    ranks: Codes
    passes: Mask
    pending: Mask
    waits: Mask
    sent: Mask


class Results(NamedTuple):
    """The results of a shard.

    Attributes:
        keys: The hashes of their ids, or of the lines that live answers are for, each once, sorted.
        codes: Their best statuses.
    """

    keys: Hashes
    codes: Codes


NO_RESULTS = Results(np.zeros(0, np.uint64), np.zeros(0, np.int8))


class Outcomes:
    """What became of each request that was ever sent from a folder, found by its content.

    Of each request the hash of its line is in memory, and of each result a hash of its id, so that
    a million rows take some twenty bytes each. What was sent in the place of a request may answer
    it, but its lasting errors are not those of the request.

    Args:
        record: The record of the folder.
        keep: Whether to write down what large result files say, for the next time; otherwise
            nothing is written, but what was is used as long as the files are as they were.
    """

    def __init__(self, record: Record, *, keep: bool = False) -> None:
        self.jobs: list[Job] = []
        lines: list[Hashes] = []
        of_others: list[bool] = []
        for job, every in sent_lines(record):
            for is_other, part in enumerate((every[: job.requests], every[job.requests :])):
                if len(part):
                    self.jobs.append(job)
                    lines.append(part)
                    of_others.append(bool(is_other))
        live = {p: dict(live_hashes(p)) for p, _ in live_lines(record.folder, LIVE_ENDINGS)}
        lines += [record.replaced.with_earlier(_as_hashes(m.values())) for m in live.values()]
        self._lines, self._owners = _sorted(lines)
        self._is_unique = bool((self._lines[1:] != self._lines[:-1]).all())
        self._is_live = np.array([False] * len(self.jobs) + [True] * len(live), bool)
        without = [job.status if job.status in STOPPED else "missing" for job in self.jobs]
        without += ["missing"] * len(live)
        self._without = np.array([RANKS[status] + PASSES for status in without], np.int8)
        read = cache(partial(_of_job, record, keep=keep))
        of_jobs = [read(job) for job in self.jobs]
        self._pending = np.array([lacks for _, lacks in of_jobs] + [False] * len(live), bool)
        waits = [job.is_pending and not job.may_be_paid for job in self.jobs]
        self._waits = np.array(waits + [False] * len(live), bool)
        was_sent = [bool(job.earlier_files) for job in self.jobs]
        self._sent = ~self._waits | np.array(was_sent + [True] * len(live), bool)
        found = zip(of_jobs, of_others, strict=True)
        self._results = [_passing(one) if is_other else one for (one, _), is_other in found]
        self._results += [_of_live(record, path, marks) for path, marks in live.items()]

    def find(self, ids: Hashes, lines: Hashes) -> Found:
        """Look requests up.

        Args:
            ids: The hashes of their ``custom_id``s, by ``hash_text``.
            lines: The hashes of their lines.
        """
        best = np.full(len(lines), RANKS["missing"] + PASSES, np.int8)
        pending, waits, sent = np.zeros((3, len(lines)), bool)
        for rows, owners in self._senders(lines):
            order = np.argsort(owners, kind="stable")
            for own in np.split(order, np.flatnonzero(np.diff(owners[order])) + 1):
                owner, of_owner = int(owners[own[0]]), rows[own]
                keys = (lines if self._is_live[owner] else ids)[of_owner]
                best[of_owner] = np.minimum(best[of_owner], self._codes(owner, keys))
            pending[rows] |= (self._pending & ~self._waits)[owners]
            waits[rows] |= self._waits[owners]
            sent[rows] |= self._sent[owners]
        return Found(best % PASSES, best >= PASSES, pending, waits, sent)

    def names(self) -> Iterator[str]:
        """Yield the names that all shards have had."""
        return (name for job in self.jobs for name in job.names)

    def waited_for(self, lines: Hashes) -> list[Job]:
        """List the jobs that may still bring answers to some of these lines."""
        found: set[int] = set()
        for _, owners in self._senders(lines):
            found.update(np.unique(owners[self._pending[owners]]).tolist())
        return distinct(self.jobs[number] for number in sorted(found))

    def has_asked(self, ids: Hashes, path: Path) -> Mask:
        """Return which ids had some request in a round of the set under a path."""
        unique, rows = np.unique(ids, return_inverse=True)
        seen = np.zeros(len(unique), bool)
        for job, results, was_sent in zip(self.jobs, self._results, self._sent, strict=False):
            if len(ids) and was_sent and round_of(job.path.name, path):
                known = results.keys if len(results.keys) else _ids_of(job)
                places = np.searchsorted(unique, known) % len(unique)
                seen[places[unique[places] == known]] = True
        found: Mask = seen[rows]
        return found

    def _codes(self, owner: int, keys: Hashes) -> Codes:
        """Return the best status of each request of one shard."""
        known, codes = self._results[owner]
        if not len(known):
            return np.full(len(keys), self._without[owner])
        places = np.searchsorted(known, keys) % len(known)
        found: Codes = np.where(known[places] == keys, codes[places], self._without[owner])
        return found

    def _senders(self, lines: Hashes) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[Any]]]:
        """Yield rows with the numbers of what sent them, until each was with all of its own."""
        place = np.searchsorted(self._lines, lines, "left")
        if self._is_unique:
            after = place.copy()
            within = np.flatnonzero(place < len(self._lines))
            after[within] += self._lines[place[within]] == lines[within]
        else:
            after = np.searchsorted(self._lines, lines, "right")
        rows = np.flatnonzero(place < after)
        while len(rows):
            yield rows, self._owners[place[rows]]
            place[rows] += 1
            rows = rows[place[rows] < after[rows]]


def _sorted(groups: list[Hashes]) -> tuple[Hashes, npt.NDArray[Any]]:
    """Sort the hashes of all groups, which are dropped, with the number of the group of each."""
    numbers, end = np.arange(len(groups), dtype=np.min_scalar_type(len(groups))), 0
    every = np.empty(sum(map(len, groups)), np.uint64)
    owners = np.empty(len(every), numbers.dtype)
    for parts in split_hashes(groups):
        part = np.concatenate([np.zeros(0, np.uint64), *parts])
        order = np.argsort(part, kind="stable")
        start, end = end, end + len(part)
        every[start:end] = part[order]
        owners[start:end] = np.repeat(numbers, list(map(len, parts)))[order]
    groups.clear()
    return every, owners


def _of_job(record: Record, job: Job, *, keep: bool) -> tuple[Results, bool]:
    """Read the results of a shard, or what was kept of them.

    Returns:
        The results, and whether there are, or may be, others that have to be downloaded.
    """
    found, lacks = [], job.is_pending
    for name in (*job.files, *job.earlier_files):
        path = record.folder / name
        results = _kept(record, path) if path.is_file() else None
        if results is None:
            is_whole = name not in job.files or job.has_file(name)
            lacks |= not is_whole
            results = _read(record, path, keep=keep and is_whole) if path.is_file() else NO_RESULTS
        found.append(results)
    return _best_of(found), lacks


def _of_live(record: Record, path: Path, marks: Mapping[int, bytes]) -> Results:
    """Read live answers, which count for the lines that they have the marks of.

    They count as well for those in whose place these were sent, but for lasting errors.
    """
    found = []
    for piece in _brief(path):
        own = _as_hashes(marks.get(line, bytes(KEY)) for line in piece["line"].to_pylist())
        found.append(Results(own, _codes_of(piece)))
    keys, codes = own_results = _best_of(found)
    new, old = record.replaced.new, record.replaced.old
    if not len(new) or not len(keys):
        return own_results
    places = np.searchsorted(keys, new) % len(keys)
    is_own = keys[places] == new
    return _best_of([own_results, _passing(Results(old[is_own], codes[places[is_own]]))])


def _passing(results: Results) -> Results:
    """Return results with none of their errors as lasting."""
    lasts = results.codes == RANKS["http_error"]
    return Results(results.keys, results.codes + lasts.astype(np.int8) * np.int8(PASSES))


def _kept(record: Record, path: Path) -> Results | None:
    """Return what was kept of a file, None unless it is as it was when it was read."""
    stamp, data = _stamp(path), None
    with suppress(OSError):  # the result file is read instead
        data = record.kept(KEPT, path.name)
    if data is None or data[: DIGEST + len(stamp)] != _digest(data[DIGEST:]) + stamp:
        return None
    count = (len(data) - DIGEST - len(stamp)) // (KEY + 1)
    keys = np.frombuffer(data, "<u8", count, DIGEST + len(stamp))
    return Results(keys, np.frombuffer(data, np.int8, offset=len(data) - count))


def _read(record: Record, path: Path, *, keep: bool) -> Results:
    """Read the results of a file, and keep them if it is large."""
    stamp, at = _stamp(path), time.time_ns()
    found = _best_of(
        [
            Results(hash_text(piece["custom_id"].combine_chunks()), _codes_of(piece))
            for piece in _brief(path)
        ]
    )
    known = path.stat()
    is_large = known.st_size >= FEWEST_BYTES
    if keep and is_large and known.st_mtime_ns + AT_REST < at and _stamp(path) == stamp:
        data = stamp + found.keys.astype("<u8").tobytes() + found.codes.tobytes()
        with suppress(OSError):
            record.keep(KEPT, path.name, _digest(data) + data)
    return found


def _stamp(path: Path) -> bytes:
    """Return what tells whether a file was changed, or another was put in its place."""
    found = path.stat()
    facts = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino % (1 << 63))
    return np.array(facts, "<i8").tobytes()


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST).digest()


def _best_of(found: list[Results]) -> Results:
    """Put results together: sorted, each key once with the lowest of its codes."""
    if len(found) == 1:
        keys, codes = found[0]
    else:
        keys = np.concatenate([one.keys for one in (NO_RESULTS, *found)])
        codes = np.concatenate([one.codes for one in (NO_RESULTS, *found)])
    if (keys[1:] > keys[:-1]).all():
        return Results(keys, codes)
    order = np.argsort(keys, kind="stable")
    keys, codes = keys[order], codes[order]
    firsts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    return Results(keys[firsts], np.minimum.reduceat(codes, firsts))


def _brief(path: Path) -> Iterator[pa.Table]:
    """Read of each result that has an id whether it is an answer."""
    for table in in_threads(lambda lines: read_outcomes([lines], brief=True), read_lines(path)):
        yield table.filter(table["custom_id"].is_valid())


def _codes_of(piece: pa.Table) -> Codes:
    """Return the statuses of results, those that may pass apart."""
    ranks = piece["status"].to_numpy().astype(np.int8)
    status = np.nan_to_num(piece["status_code"].to_numpy().astype(float))
    is_over = (ranks < RANKS["http_error"]) | is_lasting(ranks, status)
    codes: Codes = np.where(is_over, ranks, ranks + PASSES).astype(np.int8)
    return codes


def _ids_of(job: Job) -> Hashes:
    """Read the ids of a shard that is still where it was."""
    is_there = job.path.is_file() and job.path.stat().st_size == job.nbytes
    return hash_text(read_asked(job.shard).ids) if is_there else np.zeros(0, np.uint64)


def _as_hashes(marks: Iterable[bytes]) -> Hashes:
    return np.frombuffer(b"".join(marks), "<u8").astype(np.uint64)
