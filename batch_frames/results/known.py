"""Find the results that the record knows for requests, and tell which requests they answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.arrow import hash_text, in_threads
from batch_frames.errors import LineError
from batch_frames.files import (
    LIVE_ENDINGS,
    PUT_ASIDE,
    Job,
    Record,
    Records,
    are_among,
    file_hash,
    lines_of,
    live_hashes,
    live_lines,
    read_lines,
    round_of,
    sent_lines,
)
from batch_frames.requests import Asked, read_asked
from batch_frames.results.fields import RANKS
from batch_frames.results.parse import read_outcomes

__all__ = ["Found", "KnownResults", "Outcomes", "is_lasting"]


Hashes = npt.NDArray[np.uint64]

Mask = npt.NDArray[np.bool_]

STOPPED = ("expired", "cancelled")
"""Statuses of batches that may end before all requests have a result."""


class KnownResults:
    """The result files of shards next to some files, as far as the record knows them.

    A result counts for a request only if it came from a shard with the very line of the request.

    Args:
        asked: The requests.
        near: Other files, next to which there may be records too.
    """

    def __init__(self, asked: Asked, near: Iterable[Path] = ()) -> None:
        self._asked, self._near = asked, list(near)
        self._stopped: dict[str, list[Hashes]] = {status: [] for status in STOPPED}
        self._jobs: dict[Path, tuple[Job, Hashes]] = {}
        for job, lines in _recorded([*asked.files, *self._near]):
            for name in (*job.files, *job.earlier_files):
                self._jobs[job.path.with_name(name).resolve()] = (job, lines)
            if job.status in STOPPED:
                self._stopped[job.status].append(lines)
        self._shards: set[str] | None = None

    def files(self) -> list[Path]:
        """List the result files with answers to some of the requests, in order."""
        found = [(path, lines) for path, (_, lines) in self._jobs.items()]
        for folder in sorted(
            {path.parent for path in (*self._asked.files, *self._near, *self._jobs)}
        ):
            found += live_lines(folder, LIVE_ENDINGS)
        if not found:
            return []
        wanted = are_among([lines for _, lines in found], self._asked.lines)
        own = [path for (path, _), is_wanted in zip(found, wanted, strict=True) if is_wanted]
        return list({path.resolve(): path for path in own if path.is_file()}.values())

    def others(
        self, results: pa.Table, places: npt.NDArray[np.int64] | None = None
    ) -> npt.NDArray[np.bool_]:
        """Return which results answer another request of the same id than the one there is now.

        Args:
            results: The results, with at least ``custom_id``, ``file`` and ``line``.
            places: The places of their ids among those of the requests, -1 for none; None looks
                them up.
        """
        mask = np.zeros(len(results), bool)
        unsure = [(path, rows) for path, rows in _by_file(results) if self._may_differ(path)]
        if not unsure:
            return mask
        if places is None:
            index = pc.index_in(results["custom_id"], value_set=self._asked.ids, skip_nulls=True)
            places = np.asarray(index.fill_null(-1)).astype(np.int64)
        for path, of_file in unsure:
            rows = of_file[places[of_file] >= 0]
            hashes = self._asked.lines[places[rows]]
            if path.resolve() in self._jobs:
                mask[rows] = ~np.isin(hashes, self._jobs[path.resolve()][1])
            else:
                lines = np.asarray(results["line"].take(pa.array(rows))).astype(np.int64)
                mask[rows] = _other_marks(path, lines, hashes)
        return mask

    def absent(self) -> npt.NDArray[np.int8]:
        """Return for each id the status that it has if there is no result."""
        ranks = np.full(len(self._asked.ids), RANKS["missing"], np.int8)
        for status, lines in self._stopped.items():
            if lines:
                ranks[np.isin(self._asked.lines, np.concatenate(lines))] = RANKS[status]
        return ranks

    def _may_differ(self, path: Path) -> bool:
        """Return whether a file may have answers to other requests of the same ids."""
        known = self._jobs.get(path.resolve())
        if known is None:
            return path.name.removesuffix(PUT_ASIDE).endswith(LIVE_ENDINGS)
        return not self._is_whole(known[0])

    def _is_whole(self, job: Job) -> bool:
        """Return whether a shard is among the request files as it was sent, with all its ids."""
        if self._shards is None:
            self._shards = {file_hash(path) for path in self._asked.files}
        has_unique_ids = len(self._asked.places) == len(self._asked.ids)
        return has_unique_ids and job.sha256 in self._shards


def _by_file(results: pa.Table) -> Iterator[tuple[Path, npt.NDArray[np.int64]]]:
    """Yield the files of results, each with its rows."""
    if not len(results):  # older versions of Arrow make no empty array of dictionaries
        return iter(())
    files = results["file"].combine_chunks().dictionary_encode()
    codes = np.asarray(files.indices)
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(files.dictionary)))
    paths = map(Path, files.dictionary.to_pylist())
    return zip(paths, np.split(order, ends)[:-1], strict=True)


def _other_marks(path: Path, lines: npt.NDArray[np.int64], hashes: Hashes) -> npt.NDArray[np.bool_]:
    """Return which lines of live answers have the mark of another request."""
    marks = dict(live_hashes(path))
    own = [one.tobytes() for one in hashes.astype("<u8")]
    pairs = zip(lines.tolist(), own, strict=True)
    return np.array([marks.get(line, mark) != mark for line, mark in pairs], bool)


def _recorded(paths: Iterable[Path]) -> Iterator[tuple[Job, Hashes]]:
    """Yield the jobs that were sent from next to some files, with the hashes of their lines."""
    records, found = Records(), {}
    for path in paths:
        with suppress(LineError, OSError):
            record = records.of(path)
            found[id(record)] = record
    for record in found.values():
        for job in (job for job in record.jobs() if job.may_be_paid or job.earlier_files):
            if (lines := lines_of(record, job)) is not None:
                yield job, lines


PASSING = (408, 409, 425, 429)
"""HTTP statuses from 400 to 499 after which the same request may succeed."""

PASSES = 16
"""What is added to the rank of what may be answered if it is sent again."""

MIX = np.uint64(0x9E3779B97F4A7C15)


def is_lasting(ranks: npt.NDArray[np.int8], codes: npt.NDArray[np.float64]) -> Mask:
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
        sent: Which of them were ever sent.
    """

    ranks: npt.NDArray[np.int8]
    passes: Mask
    pending: Mask
    sent: Mask


class Outcomes:
    """What became of each request that was ever sent from a folder, found by its content.

    Of each request the hash of its line is kept, and of each result a hash of its id and its file,
    so that a million rows take some thirty bytes each.

    Args:
        record: The record of the folder.
    """

    def __init__(self, record: Record) -> None:
        sent = list(sent_lines(record))
        self.jobs = [job for job, _ in sent]
        self._folder = record.folder
        live = {p: dict(live_hashes(p)) for p, _ in live_lines(record.folder, LIVE_ENDINGS)}
        lines = [own for _, own in sent] + [_as_hashes(marks) for marks in live.values()]
        owners = np.repeat(np.arange(len(lines), dtype=np.int32), list(map(len, lines)))
        every = np.concatenate([np.zeros(0, np.uint64), *lines])
        order = np.argsort(every, kind="stable")
        self._lines, self._owners = every[order], owners[order]
        self._is_unique = bool((self._lines[1:] != self._lines[:-1]).all())
        is_live = np.arange(len(lines)) >= len(sent)
        self._pending = ~is_live
        self._pending[: len(sent)] = [_lacks_results(job) for job in self.jobs]
        self._without = np.full(len(lines), RANKS["missing"] + PASSES, np.int8)
        for number, job in enumerate(self.jobs):
            status = job.status if job.status in STOPPED else "missing"
            self._without[number] = RANKS[status] + PASSES
        self._is_live = is_live
        self._ids: dict[int, list[Hashes]] = {}
        self._keys, self._codes = self._results(live)

    def find(self, ids: Hashes, lines: Hashes) -> Found:
        """Look requests up.

        Args:
            ids: The hashes of their ``custom_id``s, by ``hash_text``.
            lines: The hashes of their lines.
        """
        best = np.full(len(lines), RANKS["missing"] + PASSES, np.int8)
        pending, sent = np.zeros(len(lines), bool), np.zeros(len(lines), bool)
        for rows, owners in self._senders(lines):
            keys = np.where(self._is_live[owners], lines[rows], ids[rows]) ^ _mixed(owners)
            codes = self._without[owners]
            if len(self._keys):
                places = np.searchsorted(self._keys, keys) % len(self._keys)
                codes = np.where(self._keys[places] == keys, self._codes[places], codes)
            best[rows] = np.minimum(best[rows], codes)
            pending[rows] |= self._pending[owners]
            sent[rows] = True
        return Found(best % PASSES, best >= PASSES, pending, sent)

    def names(self) -> Iterator[str]:
        """Yield the names that all shards have had."""
        return (name for job in self.jobs for name in job.names)

    def waited_for(self, lines: Hashes) -> list[Job]:
        """List the jobs that may still bring answers to some of these lines."""
        found: set[int] = set()
        for _, owners in self._senders(lines):
            found.update(np.unique(owners[self._pending[owners]]).tolist())
        return [self.jobs[number] for number in sorted(found)]

    def has_asked(self, ids: Hashes, path: Path) -> Mask:
        """Return which ids had some request in a round of the set under a path."""
        unique, rows = np.unique(ids, return_inverse=True)
        seen = np.zeros(len(unique), bool)
        for number, job in enumerate(self.jobs if len(ids) else ()):
            if round_of(job.path.name, path):
                for known in self._ids.get(number) or _ids_of(job):
                    places = np.searchsorted(unique, known) % len(unique)
                    seen[places[unique[places] == known]] = True
        found: Mask = seen[rows]
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

    def _results(
        self, live: Mapping[Path, Mapping[int, bytes]]
    ) -> tuple[Hashes, npt.NDArray[np.int8]]:
        """Read the results: a key for each, in order, and its status."""
        keys, codes = [np.zeros(0, np.uint64)], [np.zeros(0, np.int8)]
        names = [[*job.files, *job.earlier_files] for job in self.jobs]
        files = [[self._folder / name for name in own] for own in names] + [[f] for f in live]
        for number, paths in enumerate(files):
            for piece in _brief(path for path in paths if path.is_file()):
                own = hash_text(piece["custom_id"].combine_chunks())
                if self._is_live[number]:
                    marks = live[paths[0]]
                    lines = piece["line"].to_pylist()
                    own = _as_hashes({line: marks.get(line, bytes(8)) for line in lines})
                else:
                    self._ids.setdefault(number, []).append(own)
                ranks = piece["status"].to_numpy().astype(np.int8)
                status = np.nan_to_num(piece["status_code"].to_numpy().astype(float))
                is_over = (ranks < RANKS["http_error"]) | is_lasting(ranks, status)
                keys.append(own ^ _mixed(np.full(len(own), number)))
                codes.append(np.where(is_over, ranks, ranks + PASSES).astype(np.int8))
        return _best_of(np.concatenate(keys), np.concatenate(codes))


def _best_of(keys: Hashes, codes: npt.NDArray[np.int8]) -> tuple[Hashes, npt.NDArray[np.int8]]:
    """Sort keys, and keep each once, with the lowest of its codes."""
    order = np.argsort(keys, kind="stable")
    keys, codes = keys[order], codes[order]
    is_first = np.ones(len(keys), bool)
    is_first[1:] = keys[1:] != keys[:-1]
    if is_first.all():
        return keys, codes
    return keys[is_first], np.minimum.reduceat(codes, np.flatnonzero(is_first))


def _mixed(owners: npt.NDArray[Any]) -> Hashes:
    return (owners.astype(np.uint64) + np.uint64(1)) * MIX


def _brief(paths: Iterable[Path]) -> Iterator[pa.Table]:
    """Read of each result that has an id whether it is an answer."""
    pieces = (lines for path in paths for lines in read_lines(path))
    for table in in_threads(lambda lines: read_outcomes(lines, brief=True), pieces):
        yield table.filter(table["custom_id"].is_valid())


def _ids_of(job: Job) -> list[Hashes]:
    """Read the ids of a shard that is still where it was."""
    is_there = job.path.is_file() and job.path.stat().st_size == job.nbytes
    return [hash_text(read_asked(job.shard).ids)] if is_there else []


def _lacks_results(job: Job) -> bool:
    """Return whether there are, or may be, results that have to be downloaded."""
    return job.is_pending or not all(map(job.has_file, job.files))


def _as_hashes(marks: Mapping[int, bytes]) -> Hashes:
    return np.frombuffer(b"".join(marks.values()), "<u8").astype(np.uint64)
