"""Take pieces of files through a function in threads, and give the results in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import duckdb
import numpy as np

__all__ = ["in_threads"]

Piece = TypeVar("Piece")
Result = TypeVar("Result")

THREADS = min(os.cpu_count() or 1, 8)
LARGE_BLOCK = 31 << 20


def in_threads(
    read: Callable[[Piece, duckdb.DuckDBPyConnection], Result], pieces: Iterable[Piece]
) -> Iterator[Result]:
    """Read pieces side by side, each thread with a connection of its own.

    A thread takes a piece through all its steps, so that the queries need no threads themselves.
    No more pieces are in memory than there are threads, and one that waits.
    """
    # The C library keeps memory for the next piece once it has seen one larger block freed.
    np.empty(LARGE_BLOCK, np.uint8)
    with duckdb.connect() as database, ThreadPoolExecutor(THREADS) as pool:
        database.execute("SET threads = 1")

        def read_one(piece: Piece) -> Result:
            with database.cursor() as connection:
                return read(piece, connection)

        waiting: deque[Future[Result]] = deque()
        for piece in pieces:
            waiting.append(pool.submit(read_one, piece))
            if len(waiting) > THREADS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
