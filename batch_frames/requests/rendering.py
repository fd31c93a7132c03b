"""Render the requests of a table, which may be a stream that can be read only once."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from batch_frames.errors import BatchFramesError
from batch_frames.frames import Chunk, Source
from batch_frames.requests.template import Rendered, Template

__all__ = ["TableRequests"]


class TableRequests:
    """The requests of a table, rendered whenever they are needed.

    A stream is rendered only once, so that its rows are never all in memory, unless something
    looked at it before: then its rows are kept.

    Args:
        source: The rows.
        template: What is asked of each.
        na: ``"raise"`` or ``"skip"``, for rows without a prompt.
    """

    def __init__(self, source: Source, template: Template, na: str) -> None:
        self.template = template
        self._source, self._na = source, na
        self._kept: list[Chunk] | None = None
        self._used = False
        self._rendered: int | None = None

    @property
    def streams(self) -> bool:
        """Whether the rows can be read only once."""
        return self._source.once and self._kept is None

    @property
    def skips(self) -> bool:
        """Whether there may be fewer requests than rows."""
        return self._na == "skip" and self._rendered is None

    @property
    def paths(self) -> Sequence[Path]:
        """The files that the rows are read from."""
        return self._source.paths

    def rows(self) -> int | None:
        """Count the rows where that needs no reading, else None; some may be skipped."""
        return self._source.rows() if self._rendered is None else self._rendered

    def count(self) -> int:
        """Count the requests, by reading the rows if need be."""
        rows = self.rows()
        if rows is not None and not self.skips:
            return rows
        self.keep()
        return sum(len(self.template.prompted(c, na=self._na)) for c in self._chunks())

    def keep(self) -> None:
        """Keep the rows of a stream in memory, so that they can be read again."""
        if self.streams:
            self._kept = list(self._chunks())

    def blocks(self) -> Iterator[Rendered]:
        """Render the rows, chunk by chunk."""
        requests = 0
        # Closed even when a row is refused: a database connection may wait for it.
        with closing(self._chunks()) as chunks:
            for chunk in chunks:
                rendered = self.template.render(chunk, na=self._na)
                requests += len(rendered.ids)
                yield rendered
        if self._source.once:
            self._rendered = requests

    def _chunks(self) -> Generator[Chunk, None, None]:
        if self._kept is not None:
            yield from self._kept
            return
        if self._source.once and self._used:
            raise BatchFramesError(
                "this frame is a stream, which can be read only once, and it has been read",
                hint="pass a table instead, such as pyarrow.table(stream)",
            )
        self._used = True
        yield from self._source.chunks()
