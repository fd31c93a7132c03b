"""Render the requests of a table, which may be a stream, and save requests as files."""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batch_frames.arrow import (
    TEXT,
    has_repeats,
    hash_text,
    keep_freed_memory,
    read_ahead,
    repeats,
    split_hashes,
)
from batch_frames.display import NAMED, counted, some_of
from batch_frames.errors import RequestError
from batch_frames.files import Limits, Shard, ShardWriter, open_store
from batch_frames.frames import Chunk, DaskSource, ParquetSource, Position, Source, open_frame
from batch_frames.progress import progress_bar, warn
from batch_frames.requests.template import Rendered, Template

__all__ = [
    "LIMITS",
    "IdCheck",
    "TableRequests",
    "checked_blocks",
    "custom_id_of",
    "not_unique",
    "save_requests",
    "warn_empty",
    "warn_skipped",
]


class TableRequests:
    """The requests of a table, rendered when they are needed.

    A stream can be rendered once, without all its rows in memory. If the requests are counted or
    previewed first, its rows are kept in memory and can be rendered again.

    Args:
        source: The rows.
        template: The request that is made from each row.
        na: ``"raise"`` or ``"skip"``, for rows without a prompt.
        dedupe: Whether rows that ask the same have one request, with an id made of its content.
    """

    def __init__(self, source: Source, template: Template, na: str, dedupe: bool = False) -> None:
        self.template, self.dedupe = template, dedupe
        self.source, self.na = source, na
        self._kept: list[Chunk] | None = None
        self._rendered: int | None = None

    @property
    def streams(self) -> bool:
        """Whether the rows can be read only once."""
        return self.source.once and self._kept is None

    @property
    def in_parts(self) -> bool:
        """Whether the rows are in partitions, which workers of an engine may hold."""
        return isinstance(self.source, DaskSource)

    @property
    def skips(self) -> bool:
        """Whether there may be fewer requests than rows."""
        return (self.na == "skip" or self.dedupe) and self._rendered is None

    @property
    def paths(self) -> Sequence[Path]:
        """The files that the rows are read from."""
        return self.source.paths

    def rows(self) -> int | None:
        """Return the number of rows, or None if that takes reading them; some may be skipped."""
        return self.source.rows() if self._rendered is None else self._rendered

    def count(self) -> int:
        """Return the number of requests, reading the rows if necessary."""
        rows = self.rows()
        if rows is not None and not self.skips:
            return rows
        self.keep()
        if self.dedupe:
            return sum(len(block.ids) for block in self.blocks())
        return sum(len(self.template.prompted(c, na=self.na)) for c in self._chunks())

    def keep(self) -> None:
        """Keep the rows of a stream in memory, so that they can be read again."""
        if self.streams:
            self._kept = list(self._chunks())

    def blocks(self) -> Iterator[Rendered]:
        """Render the requests chunk by chunk."""
        requests, seen = 0, set[str]()
        for rendered in self._every():
            block = _new(rendered, seen) if self.dedupe else rendered
            requests += len(block.ids)
            yield block
        if self.source.once:
            self._rendered = requests

    def row_ids(self, frame: Any = None) -> pa.Array:
        """Return the id of the request of each row, null for a row without.

        Args:
            frame: The rows, if not those that the requests are made of.
        """
        if frame is not None:
            source = open_frame(frame, self.source.id_column, self.template.columns)
            return TableRequests(source, self.template, self.na, self.dedupe).row_ids()
        self.keep()
        ids = [pa.array([], TEXT)]
        for block in self._every():
            places = block.spread(np.arange(len(block.ids)), -1)
            ids.append(block.ids.take(pa.array(places, mask=places < 0)))
        return pa.concat_arrays(ids)

    def _every(self) -> Iterator[Rendered]:
        """Render all rows."""
        # Closed even if a row raises, as a database connection may be waiting for it.
        with closing(self._chunks()) as chunks:
            for chunk in chunks:
                yield self.template.render(chunk, na=self.na, dedupe=self.dedupe)

    def _chunks(self) -> Generator[Chunk, None, None]:
        if self._kept is not None:
            yield from self._kept
        elif isinstance(self.source, ParquetSource):
            # Databases may bind a source to its thread, and CSV is read ahead by Arrow.
            yield from read_ahead(chunk.mark_checked() for chunk in self.source.chunks())
        else:
            yield from self.source.chunks()


def _new(block: Rendered, seen: set[str]) -> Rendered:
    """Drop the requests with an id that was seen, and add all others to these."""
    rows = []
    for row, custom_id in enumerate(block.ids.to_pylist()):
        if custom_id not in seen:
            seen.add(custom_id)
            rows.append(row)
    return block if len(rows) == len(block.ids) else block.take(np.array(rows, np.int64))


LIMITS = Limits()


def save_requests(
    blocks: Iterable[Rendered],
    target: str | os.PathLike[str] | IO[bytes],
    *,
    rows: int | None,
    sources: Sequence[Path] = (),
    limits: Limits = LIMITS,
    progress: bool | None = None,
    check: Callable[[Mapping[Path, Path | None]], None] | None = None,
    overwrite: bool = False,
) -> list[Shard]:
    """Save requests as complete files under the limits, and warn if rows were skipped.

    Args:
        blocks: The requests.
        target: The file, ``-`` or a binary file object.
        rows: The number of rows, or None if it is not known.
        sources: Files that the rows are read from, which must not be replaced.
        limits: The largest file.
        progress: Whether to show a progress bar; None shows it after two seconds.
        check: Called before files are replaced, with the new file for each; it may raise.
        overwrite: Whether to replace files that were not saved by this package, too.

    Raises:
        RequestError: If a row cannot become a request, or a ``custom_id`` is not unique.
        BatchFramesError: As for ``BatchCreator.save_to_file``.
    """
    with ShardWriter(open_store(target, sources, overwrite=overwrite), limits) as writer:
        name = str(getattr(target, "name", target))
        for block in checked_blocks(blocks, name, rows, writer.read_back, progress):
            writer.write(block.lines, block.chunk.error)
        if check:
            check(writer.changes())
        shards = writer.commit()
    warn_empty(shards)
    return shards


def warn_empty(shards: Sequence[Shard]) -> None:
    """Warn if nothing was saved."""
    if not any(shard.requests for shard in shards):
        warn("there are no requests: the file is empty")


def warn_skipped(skipped: int, places: Sequence[str]) -> None:
    """Warn if rows were skipped; ``places`` is where the first of them are."""
    if skipped:
        named = some_of(places, skipped)
        warn(f"skipped {counted(skipped, 'row')} without a prompt: {named}")


def checked_blocks(
    blocks: Iterable[Rendered],
    name: str,
    rows: int | None,
    files: Callable[[], Iterator[IO[bytes]]],
    progress: bool | None,
) -> Iterator[Rendered]:
    """Yield blocks under a progress bar, check that ids are unique, and warn of skipped rows.

    Args:
        blocks: The requests.
        name: Text in front of the bar.
        rows: The number of rows, or None if it is not known.
        files: As for ``IdCheck.check``.
        progress: As for ``save_requests``.

    Raises:
        RequestError: At the end, if a ``custom_id`` is not unique.
    """
    keep_freed_memory()
    ids, skipped = IdCheck(), 0
    places: list[str] = []
    with progress_bar(name, rows, progress) as bar:
        for block in blocks:
            yield block
            ids.add(block.ids, block.chunk.position)
            skipped += block.skipped
            places += block.places[: NAMED - len(places)]
            bar.update(len(block.ids) + block.skipped)
        ids.check(files)
    warn_skipped(skipped, places)


ROWS = 1 << 16

SUSPECTS = 1_024

PREFIX = len('{"custom_id":')

Hashes = npt.NDArray[np.uint64]

Twice = tuple[str, int, int]


class IdCheck:
    """A check that ids are unique, which keeps a 64-bit hash of each and the places of the rows.

    Equal hashes are only a suspicion: whether the ids are equal is read from the lines written.
    """

    def __init__(self) -> None:
        self._hashes: list[Hashes] = []
        self._positions: list[tuple[int, Position]] = []
        self._count = 0

    def add(self, ids: pa.Array, position: Position) -> None:
        """Add ids in the order of their lines."""
        self._hashes.append(hash_text(ids))
        self._positions.append((self._count, position))
        self._count += len(ids)

    def check(self, files: Callable[[], Iterator[IO[bytes]]]) -> None:
        """Compare all ids.

        Args:
            files: Opens the files with all lines; called only when two hashes are equal.

        Raises:
            RequestError: If ids are repeated; it names the first three with both their rows.
        """
        if not any(map(has_repeats, split_hashes(self._hashes))):
            return
        hashes = np.concatenate(self._hashes)
        again = repeats(hashes)
        while len(again):
            suspects = np.unique(hashes[again[:SUSPECTS]])
            if found := list(self._twice(_isin(hashes, suspects), files())):
                twice = [(name, self._position(a), self._position(b)) for name, a, b in found]
                raise not_unique(twice, max(len(twice), len(again)))
            again = again[~np.isin(hashes[again], suspects)]

    def _twice(
        self, suspects: npt.NDArray[np.bool_], files: Iterator[IO[bytes]]
    ) -> Iterator[Twice]:
        """Yield the first few repeated ids with their line numbers from 0."""
        first: dict[str, int] = {}
        found: set[str] = set()
        numbered = enumerate(line for file in files for line in _lines(file))
        for suspect, (number, line) in zip(suspects, numbered, strict=True):
            if not suspect:
                continue
            custom_id = custom_id_of(line)
            if custom_id in first and custom_id not in found:
                found.add(custom_id)
                yield custom_id, first[custom_id], number
                if len(found) == NAMED:
                    return
            first.setdefault(custom_id, number)

    def _position(self, number: int) -> Position:
        index = bisect_right(self._positions, number, key=itemgetter(0)) - 1
        start, position = self._positions[index]
        return replace(position, first=position.row(number - start), kept=None)


def custom_id_of(line: bytes) -> str:
    """Read the ``custom_id`` of a line that was rendered."""
    custom_id: str = json.JSONDecoder().raw_decode(line.decode(), PREFIX)[0]
    return custom_id


def not_unique(twice: Sequence[tuple[str, Position, Position]], total: int) -> RequestError:
    """Make the error for ids that are repeated, of which the first few have both their places."""
    named = [f"{custom_id!r} in {a.place(0)} and {b.place(0)}" for custom_id, a, b in twice]
    custom_id, _, second = twice[0]
    message = f"custom_id must be unique: {some_of(named, total, between='; ')}"
    return RequestError(message, row=second.row(0), custom_id=custom_id)


def _isin(hashes: Hashes, suspects: Hashes) -> npt.NDArray[np.bool_]:
    starts = range(0, len(hashes), ROWS)
    return np.concatenate([np.isin(hashes[s : s + ROWS], suspects) for s in starts])


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        yield from file
