"""Find ``custom_id``s that stand twice, in a few bytes a row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batch_frames.chunks import Position
from batch_frames.errors import RequestError
from batch_frames.text import hash_text

__all__ = ["IdCheck"]

ROWS = 1 << 16
NAMED = 5
PREFIX = len('{"custom_id":')

Hashes = npt.NDArray[np.uint64]
Twice = tuple[str, int, int]


class IdCheck:
    """Remember a 64-bit hash of each id, and where the rows stood.

    Equal hashes only raise a suspicion: the lines written so far tell whether the ids are equal.
    """

    def __init__(self) -> None:
        self._pending: list[pa.Array] = []
        self._waiting = 0
        self._hashes: list[Hashes] = []
        self._positions: list[tuple[int, Position]] = []
        self._count = 0

    def add(self, ids: pa.Array, position: Position) -> None:
        """Remember some ids in the order of their lines."""
        self._positions.append((self._count, position))
        self._count += len(ids)
        self._pending.append(ids)
        self._waiting += len(ids)
        if self._waiting >= ROWS:
            self._hash()

    def check(self, files: Iterator[IO[bytes]]) -> None:
        """Compare all ids.

        Args:
            files: The files with all lines, read only when two hashes are equal.

        Raises:
            RequestError: If ids stand twice; it names the first five with both their rows.
        """
        self._hash()
        if not self._hashes:
            return
        in_order = np.concatenate(self._hashes)
        in_order.sort()
        repeated = np.unique(in_order[1:][in_order[1:] == in_order[:-1]])
        del in_order
        if not len(repeated):
            return
        twice = list(self._twice(repeated, files))
        if twice:
            raise self._error(twice)

    def _hash(self) -> None:
        if self._waiting:
            self._hashes.append(hash_text(pa.concat_arrays(self._pending)))
        self._pending, self._waiting = [], 0

    def _twice(self, repeated: Hashes, files: Iterator[IO[bytes]]) -> Iterator[Twice]:
        """Give ids that stand twice with their line numbers from 0: five, and one for more."""
        first: dict[str, int] = {}
        found: set[str] = set()
        suspects = (suspect for part in self._hashes for suspect in np.isin(part, repeated))
        numbered = enumerate(line for file in files for line in _lines(file))
        for suspect, (number, line) in zip(suspects, numbered, strict=True):
            if not suspect:
                continue
            custom_id = json.JSONDecoder().raw_decode(line.decode(), PREFIX)[0]
            if custom_id in first and custom_id not in found:
                found.add(custom_id)
                yield custom_id, first[custom_id], number
                if len(found) > NAMED:
                    return
            first.setdefault(custom_id, number)

    def _error(self, twice: list[Twice]) -> RequestError:
        named = "; ".join(
            f"{custom_id!r} in {self._position(a)[0]} and {self._position(b)[0]}"
            for custom_id, a, b in twice[:NAMED]
        )
        more = "; and more" if len(twice) > NAMED else ""
        custom_id, _, second = twice[0]
        message = f"each custom_id must stand only once: {named}{more}"
        return RequestError(message, row=self._position(second)[1], custom_id=custom_id)

    def _position(self, number: int) -> tuple[str, int]:
        starts = [start for start, _ in self._positions]
        index = int(np.searchsorted(starts, number, "right")) - 1
        start, position = self._positions[index]
        return position.place(number - start), position.row(number - start)


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        yield from file
