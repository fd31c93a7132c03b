"""Find the results that the record knows for requests, and tell which requests they answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.display import counted, some_of
from batch_frames.errors import LineError
from batch_frames.files import (
    LIVE_ENDINGS,
    PUT_ASIDE,
    Job,
    Records,
    Replaced,
    are_among,
    as_path,
    file_hash,
    lines_of,
    live_hashes,
    live_lines,
)
from batch_frames.progress import warn
from batch_frames.requests import Asked
from batch_frames.results.fields import RANKS, STOPPED

__all__ = ["KnownResults"]


Hashes = npt.NDArray[np.uint64]


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
        self._pending: list[tuple[Job, Hashes]] = []
        for job, lines in _recorded([*asked.files, *self._near]):
            for name in (*job.files, *job.earlier_files):
                path = job.path.with_name(name).resolve()
                if path not in self._jobs or job.has_file(name):
                    self._jobs[path] = (job, lines)
            if job.lacks_results:
                self._pending.append((job, lines))
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

    def warn_of_pending(self, ranks: npt.NDArray[np.int8]) -> None:
        """Warn of requests without a result whose batches may still bring one.

        Args:
            ranks: The status of each request.
        """
        if not self._pending:
            return
        missing = self._asked.lines[ranks == RANKS["missing"]]
        lacking = [(job, np.isin(missing, lines)) for job, lines in self._pending]
        names = [f"'{job.path.name}'" for job, mask in lacking if mask.any()]
        if names:
            count = int(np.logical_or.reduce([mask for _, mask in lacking]).sum())
            what = counted(count, "request has", "requests have") + " no result yet"
            of = f"of batches that still run, or whose results are not there: {some_of(names)}"
            warn(f"{what}, {of}", hint="download(wait(load_jobs(path))) fetches it")

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
    paths = map(as_path, files.dictionary.to_pylist())
    return zip(paths, np.split(order, ends)[:-1], strict=True)


def _other_marks(path: Path, lines: npt.NDArray[np.int64], hashes: Hashes) -> npt.NDArray[np.bool_]:
    """Return which lines of live answers have the mark of another request."""
    marks, replaced = dict(live_hashes(path)), Replaced([path.parent])
    own = [one.tobytes() for one in hashes.astype("<u8")]
    pairs = zip(replaced.new.astype("<u8"), replaced.old.astype("<u8"), strict=True)
    same = {(new.tobytes(), old.tobytes()) for new, old in pairs}
    found = [(marks.get(line, mark), mark) for line, mark in zip(lines.tolist(), own, strict=True)]
    return np.array([pair[0] != pair[1] and pair not in same for pair in found], bool)


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
