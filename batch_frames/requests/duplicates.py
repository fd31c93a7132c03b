"""Find repeated ``custom_id``s, in a few bytes a row."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batch_frames.arrow import hash_text
from batch_frames.display import NAMED, some_of
from batch_frames.errors import RequestError
from batch_frames.frames import Position

__all__ = ["IdCheck"]


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
        if not self._hashes:
            return
        hashes = np.concatenate(self._hashes)
        self._hashes = [hashes]
        again = _repeats(hashes)
        while len(again):
            suspects = np.unique(hashes[again[:SUSPECTS]])
            if twice := list(self._twice(_isin(hashes, suspects), files())):
                raise self._error(twice, max(len(twice), len(again)))
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
            custom_id = json.JSONDecoder().raw_decode(line.decode(), PREFIX)[0]
            if custom_id in first and custom_id not in found:
                found.add(custom_id)
                yield custom_id, first[custom_id], number
                if len(found) == NAMED:
                    return
            first.setdefault(custom_id, number)

    def _error(self, twice: list[Twice], total: int) -> RequestError:
        named = [
            f"{custom_id!r} in {self._position(a)[0]} and {self._position(b)[0]}"
            for custom_id, a, b in twice
        ]
        custom_id, _, second = twice[0]
        message = f"custom_id must be unique: {some_of(named, total, between='; ')}"
        return RequestError(message, row=self._position(second)[1], custom_id=custom_id)

    def _position(self, number: int) -> tuple[str, int]:
        index = bisect_right(self._positions, number, key=itemgetter(0)) - 1
        start, position = self._positions[index]
        return position.place(number - start), position.row(number - start)


def _repeats(hashes: Hashes) -> npt.NDArray[np.intp]:
    """Return the second row of each repeated hash, in order."""
    in_order = np.sort(hashes)
    if not (in_order[1:] == in_order[:-1]).any():
        return np.zeros(0, np.intp)
    del in_order
    order = np.argsort(hashes, kind="stable")
    in_order = hashes[order]
    same = in_order[1:] == in_order[:-1]
    del in_order
    # Of each hash only the second row: one that is repeated very often must not hide the others.
    same[1:] &= ~same[:-1].copy()
    return np.sort(order[1:][same])


def _isin(hashes: Hashes, suspects: Hashes) -> npt.NDArray[np.bool_]:
    starts = range(0, len(hashes), ROWS)
    return np.concatenate([np.isin(hashes[s : s + ROWS], suspects) for s in starts])


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        yield from file
