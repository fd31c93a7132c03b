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
    No more pieces are in memory than there are threads, and two that wait.
    """
    # The C library keeps memory for the next piece once it has seen one larger block freed.
    np.empty(LARGE_BLOCK, np.uint8)
    pool = ThreadPoolExecutor(THREADS)
    # Opening one takes as long as reading the first piece.
    opened = pool.submit(_database)
    try:
        with pool:
            yield from _in_order(pool, lambda piece: _read_one(read, piece, opened), pieces)
    finally:
        opened.result().close()


def _database() -> duckdb.DuckDBPyConnection:
    database = duckdb.connect()
    database.execute("SET threads = 1")
    return database


def _read_one(
    read: Callable[[Piece, duckdb.DuckDBPyConnection], Result],
    piece: Piece,
    opened: Future[duckdb.DuckDBPyConnection],
) -> Result:
    with opened.result().cursor() as connection:
        return read(piece, connection)


def _in_order(
    pool: ThreadPoolExecutor, read: Callable[[Piece], Result], pieces: Iterable[Piece]
) -> Iterator[Result]:
    waiting: deque[Future[Result]] = deque()
    for piece in pieces:
        waiting.append(pool.submit(read, piece))
        if len(waiting) > THREADS + 1:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
