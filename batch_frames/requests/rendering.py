"""Render the requests of a table, which may be a stream that can be read only once."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from batch_frames.arrow import extract
from batch_frames.errors import BatchFramesError
from batch_frames.files import Shard, read_lines
from batch_frames.frames import Chunk, Position, Source
from batch_frames.requests.template import Rendered, Template

__all__ = ["Skipped", "TableRequests", "warn_of"]


NAMED = 5


@dataclass
class Skipped:
    """Count rows that were skipped, and name the first."""

    rows: int = 0
    places: list[str] = field(default_factory=list)

    def add(self, rows: int, places: Sequence[str]) -> None:
        """Count more of them."""
        self.rows += rows
        self.places += places[: NAMED - len(self.places)]

    def __str__(self) -> str:
        rows = "1 row" if self.rows == 1 else f"{self.rows:,} rows"
        more = ", …" if self.rows > len(self.places) else ""
        return f"skipped {rows} without a prompt: {', '.join(self.places)}{more}"


def warn_of(requests: int, skipped: Skipped) -> None:
    """Warn the caller of who calls this of rows that were skipped, and of an empty file."""
    if skipped.rows:
        warnings.warn(str(skipped), stacklevel=3)
    if not requests:
        warnings.warn("there are no requests: the file is empty", stacklevel=3)


ONLY_ONCE = "this frame is a stream, which can be read only once"

GONE = -1

AGAIN = "pass the frame anew, or a table instead of a stream"


class TableRequests:
    """Render a source as often as someone asks.

    A stream is kept in memory only from ``keep`` on; once it is saved, its lines are read again
    from the files.

    Args:
        source: The rows.
        template: What is asked of each.
        na: ``"raise"`` or ``"skip"``, for rows without a prompt.
    """

    def __init__(self, source: Source, template: Template, na: str) -> None:
        self._source, self._template, self._na = source, template, na
        self._kept: list[Chunk] | None = None
        self._used = False
        self._saved: list[tuple[Shard, int]] = []
        self._saved_requests = 0

    @property
    def streams(self) -> bool:
        """Tell whether reading now would use the rows up."""
        return self._source.once and self._kept is None and not self._saved

    @property
    def skips(self) -> bool:
        """Tell whether there may be fewer requests than rows."""
        return self._na == "skip" and not self._saved

    @property
    def paths(self) -> Sequence[Path]:
        """List the files that are read for the rows."""
        return self._source.paths

    def rows(self) -> int | None:
        """Count the rows where that needs no reading, else None; some may be skipped."""
        if self._saved:
            return self._saved_requests
        return self._source.rows()

    def count(self) -> int:
        """Count the requests, by reading the rows if need be."""
        rows = self.rows()
        if rows is not None and (self._na == "raise" or self._saved):
            return rows
        self.keep()
        return sum(len(self._template.prompted(c, na=self._na)) for c in self._chunks())

    def keep(self) -> None:
        """Keep the rows of a stream, for something will read them before they are saved."""
        if self.streams:
            self._kept = list(self._chunks())

    def saved(self, shards: Sequence[Shard], requests: int) -> None:
        """Learn which shards begin with all of the table's requests."""
        times = [_changed_at(shard) for shard in shards]
        if self._source.once and self._kept is None and GONE not in times:
            self._saved = list(zip(shards, times, strict=True))
            self._saved_requests = requests

    def blocks(self) -> Iterator[Rendered]:
        """Render the rows, chunk by chunk."""
        if self._saved:
            yield from self._read_back()
            return
        # Closed even when a row is refused: a database connection may wait for it.
        with closing(self._chunks()) as chunks:
            for chunk in chunks:
                yield self._template.render(chunk, na=self._na)

    def _chunks(self) -> Generator[Chunk, None, None]:
        if self._kept is not None:
            yield from self._kept
            return
        if self._source.once and self._used:
            raise BatchFramesError(f"{ONLY_ONCE}, and it is used up; {AGAIN}")
        self._used = True
        yield from self._source.chunks()

    def _read_back(self) -> Iterator[Rendered]:
        left, first = self._saved_requests, 0
        for shard, changed_at in self._saved:
            if _changed_at(shard) != changed_at:
                gone = f"'{shard.path}', where its requests went, is changed or gone"
                raise BatchFramesError(f"{ONLY_ONCE}, and {gone}; {AGAIN}")
            for lines in read_lines(shard.path):
                text = lines.text.slice(0, left)
                ids = extract(text, ["$.custom_id"])["$.custom_id"]
                yield Rendered(text, ids, Chunk(ids, {}, position=Position(first)))
                left, first = left - len(text), first + len(text)


def _changed_at(shard: Shard) -> int:
    try:
        status = shard.path.stat()
    except OSError:
        return GONE
    return status.st_mtime_ns if status.st_size == shard.nbytes else GONE
