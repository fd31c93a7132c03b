"""Find the results that the record knows for requests, and tell which requests they answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.errors import LineError
from batch_frames.files import (
    LIVE_ENDINGS,
    Job,
    Records,
    are_among,
    file_hash,
    live_hashes,
    live_lines,
)
from batch_frames.requests import Asked

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
        self._asked = asked
        self._jobs: dict[Path, tuple[Job, Hashes]] = {}
        for path, job, lines in _recorded([*asked.files, *near]):
            self._jobs[path] = (job, lines)
        self._shards: set[str] | None = None

    def files(self) -> list[Path]:
        """List the result files with answers to some of the requests, in order."""
        found = [(path, lines) for path, (_, lines) in self._jobs.items()]
        for folder in sorted({path.parent for path in (*self._asked.files, *self._jobs)}):
            found += live_lines(folder, LIVE_ENDINGS)
        if not found:
            return []
        wanted = are_among([lines for _, lines in found], self._asked.lines)
        own = [path for (path, _), is_wanted in zip(found, wanted, strict=True) if is_wanted]
        return list({path.resolve(): path for path in own if path.is_file()}.values())

    def others(self, results: pa.Table) -> npt.NDArray[np.bool_]:
        """Return which results answer another request of the same id than the one there is now.

        Args:
            results: The results, with at least ``custom_id``, ``file`` and ``line``.
        """
        mask = np.zeros(len(results), bool)
        unsure = [(path, rows) for path, rows in _by_file(results) if self._may_differ(path)]
        if not unsure:
            return mask
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

    def _may_differ(self, path: Path) -> bool:
        """Return whether a file may have answers to other requests of the same ids."""
        known = self._jobs.get(path.resolve())
        return path.name.endswith(LIVE_ENDINGS) if known is None else not self._is_whole(known[0])

    def _is_whole(self, job: Job) -> bool:
        """Return whether a shard is among the request files as it was sent, with all its ids."""
        if self._shards is None:
            self._shards = {file_hash(path) for path in self._asked.files}
        has_unique_ids = len(self._asked.places) == len(self._asked.ids)
        return has_unique_ids and job.sha256 in self._shards


def _by_file(results: pa.Table) -> Iterator[tuple[Path, npt.NDArray[np.int64]]]:
    """Yield the files of results, each with its rows."""
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


def _recorded(paths: Iterable[Path]) -> Iterator[tuple[Path, Job, Hashes]]:
    """Yield the downloaded files next to some files, with their jobs and the lines of these."""
    records = Records()
    seen = set()
    for path in paths:
        try:
            record = records.of(path)
        except (LineError, OSError):
            continue
        if id(record) in seen:
            continue
        seen.add(id(record))
        for job in record.jobs():
            names = (*job.files, *job.earlier_files)
            lines = record.lines(job) if names else None
            if lines is not None:
                for name in names:
                    yield job.path.with_name(name).resolve(), job, lines
