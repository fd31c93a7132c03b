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
    file_hash,
    line_hashes,
    live_hashes,
    live_lines,
)
from batch_frames.requests import Asked, lines_with_ids

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
        self._requests, self._ids, self._count = asked.files, asked.ids, asked.count
        self._jobs: dict[Path, tuple[Job, Hashes]] = {}
        for path, job, lines in _recorded([*asked.files, *near]):
            self._jobs[path] = (job, lines)
        self._hashes: Hashes | None = None
        self._marks: dict[Path, dict[int, bytes]] = {}
        self._shards: set[str] | None = None

    def files(self) -> list[Path]:
        """List the result files with answers to some of the requests, in order."""
        found = [(path, lines) for path, (_, lines) in self._jobs.items()]
        for folder in sorted({path.parent for path in (*self._requests, *self._jobs)}):
            found += live_lines(folder, LIVE_ENDINGS)
        own = [path for path, lines in found if np.isin(self._lines(), lines).any()]
        return list({path.resolve(): path for path in own if path.is_file()}.values())

    def others(self, results: pa.Table) -> npt.NDArray[np.bool_]:
        """Return which results answer another request of the same id than the one there is now.

        Args:
            results: The results, with at least ``custom_id``, ``file`` and ``line``.
        """
        mask = np.zeros(len(results), bool)
        files = results["file"].combine_chunks()
        for name in pc.unique(files).drop_null().to_pylist():
            path = Path(name)
            known = self._jobs.get(path.resolve())
            is_local = path.name.endswith(LIVE_ENDINGS)
            if not is_local and (known is None or self._is_whole(known[0])):
                continue
            rows = np.flatnonzero(np.asarray(pc.equal(files, name).fill_null(False)))
            ids = results["custom_id"].take(pa.array(rows))
            index = pc.index_in(ids, value_set=self._ids, skip_nulls=True).fill_null(-1)
            places = np.asarray(index).astype(np.int64)
            hashes = self._lines()[places]
            if known is not None:
                is_other = ~np.isin(hashes, known[1])
            else:
                lines = np.asarray(results["line"].take(pa.array(rows))).astype(np.int64)
                is_other = self._other_marks(path, lines, hashes)
            mask[rows] = is_other & (places >= 0)
        return mask

    def _other_marks(
        self, path: Path, lines: npt.NDArray[np.int64], hashes: Hashes
    ) -> npt.NDArray[np.bool_]:
        """Return which lines of live answers have the mark of another request."""
        if path not in self._marks:
            self._marks[path] = dict(live_hashes(path))
        marks = self._marks[path]
        own = [one.tobytes() for one in hashes.astype("<u8")]
        pairs = zip(lines.tolist(), own, strict=True)
        return np.array([marks.get(line, mark) != mark for line, mark in pairs], bool)

    def _is_whole(self, job: Job) -> bool:
        """Return whether a shard is among the request files as it was sent, with all its ids."""
        if self._shards is None:
            self._shards = {file_hash(path) for path in self._requests}
        return job.sha256 in self._shards and self._count == len(self._ids)

    def _lines(self) -> Hashes:
        """Return for each id the hash of its first line."""
        if self._hashes is None:
            hashes = np.zeros(len(self._ids), np.uint64)
            filled = np.zeros(len(self._ids), bool)
            for lines, ids in lines_with_ids(self._requests):
                places = np.asarray(pc.index_in(ids, value_set=self._ids)).astype(np.int64)
                # Of equal ids in a piece the first is to stay, so it is written last.
                new = np.flatnonzero(~filled[places])[::-1]
                hashes[places[new]] = line_hashes(lines.text)[new]
                filled[places[new]] = True
            self._hashes = hashes
        return self._hashes


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
