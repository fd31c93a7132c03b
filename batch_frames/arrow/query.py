"""Run SQL over text columns with DuckDB, and read pieces of files in threads."""

from __future__ import annotations

import atexit
import ctypes
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pyarrow as pa

from batch_frames.arrow.text import bytes_of

if TYPE_CHECKING:
    import duckdb

__all__ = ["extract", "in_threads", "read_ahead", "select"]


IN_CACHE, FEWEST = 256 << 10, 64


class _Database:
    """The one database of this process, opened when it is first needed."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.opened: duckdb.DuckDBPyConnection | None = None

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Return a connection of its own for one query; opening a database costs far more."""
        import duckdb

        with self.lock:
            if self.opened is None:
                self.opened = duckdb.connect()
                # Pieces are read side by side, so that one query needs no threads itself.
                self.opened.execute("SET threads = 1; SET arrow_large_buffer_size = true")
            return self.opened.cursor()

    def close(self) -> None:
        if self.opened is not None:
            self.opened.close()


DATABASE = _Database()


def _leave_to_parent() -> None:
    """Let a forked process open its own database."""
    global DATABASE
    if DATABASE.opened is not None:
        # It is never closed here, not even at exit: that would wait for threads of the parent.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(DATABASE.opened))
    DATABASE = _Database()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)

atexit.register(lambda: DATABASE.close())


def select(text: pa.Array, columns: Sequence[str], inner: Sequence[str] = ()) -> list[pa.Array]:
    """Evaluate SQL expressions over a text column, which they call ``line``.

    Args:
        text: ``large_string``, not validated.
        columns: DuckDB expressions, one for each column wanted.
        inner: Expressions with names (``… AS found``) that ``columns`` may use by them, and which
            are evaluated only once for all.

    Returns:
        A column for each expression, in the order of ``text``; texts are ``large_string``.
    """
    source = f"(SELECT {', '.join(['line', *inner])} FROM lines)"
    with DATABASE.cursor() as connection:
        connection.register("lines", _in_batches(text))
        found = connection.sql(f"SELECT {', '.join(columns)} FROM {source}").to_arrow_table()
    return [_whole(column) for column in found.columns]


def extract(text: pa.Array, paths: Sequence[str], types: Sequence[str] = ()) -> dict[str, pa.Array]:
    """Extract what JSON paths find in each line.

    Args:
        text: ``large_string``, one JSON document per row.
        paths: DuckDB JSON paths whose values are wanted as text.
        types: Such paths where the type is wanted: ``VARCHAR``, ``OBJECT``, ``NULL``, ….

    Returns:
        A text column for each path, by its name, then one for each type, by ``type of`` its name;
        null where nothing is found or the line is not JSON.
    """
    inner = [f"TRY(json_extract_string(line, {list(paths)}::VARCHAR[])) AS found"]
    inner += [f"TRY(json_type(line, {list(types)}::VARCHAR[])) AS types"] if types else []
    columns = [f"found[{n}]" for n in range(1, len(paths) + 1)]
    columns += [f"types[{n}]" for n in range(1, len(types) + 1)]
    names = [*paths, *(f"type of {path}" for path in types)]
    return dict(zip(names, select(text, columns, inner), strict=True))


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array; Arrow would copy even what is one."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _in_batches(text: pa.Array) -> pa.Table:
    """Cut lines so small that what DuckDB makes of a batch, which is larger, stays in cache."""
    size = bytes_of(text).nbytes
    rows = max(IN_CACHE * len(text) // max(size, 1), FEWEST)
    table = pa.table({"line": text})
    return pa.Table.from_batches(table.to_batches(max_chunksize=rows), table.schema)


Piece = TypeVar("Piece")

Result = TypeVar("Result")

HAS_AFFINITY = hasattr(os, "sched_getaffinity")

CPUS = len(os.sched_getaffinity(0)) if HAS_AFFINITY else os.cpu_count() or 1
"""How many processors this process may use."""

THREADS = min(CPUS, 8)

LARGE_BLOCK = 31 << 20

AHEAD = 2
"""How many pieces are read before they are asked for."""


def read_ahead(pieces: Generator[Piece, None, None]) -> Generator[Piece, None, None]:
    """Yield pieces in order while a thread reads the next ones, if there is a processor for it."""
    if CPUS == 1:
        yield from pieces
        return
    with ThreadPoolExecutor(1) as pool:
        waiting = deque(pool.submit(list, islice(pieces, 1)) for _ in range(AHEAD))
        try:
            while piece := waiting.popleft().result():
                waiting.append(pool.submit(list, islice(pieces, 1)))
                yield piece[0]
        finally:
            for one in waiting:
                one.cancel()
            # In the thread that reads them, as no other may close them meanwhile.
            pool.submit(pieces.close)


def in_threads(read: Callable[[Piece], Result], pieces: Iterable[Piece]) -> Iterator[Result]:
    """Read pieces side by side, each in one thread from beginning to end, and keep their order.

    No more pieces are in memory than there are threads, and two that wait.
    """
    pieces = iter(pieces)
    first = list(islice(pieces, 2))
    if len(first) < 2:
        yield from map(read, first)
        return
    # The C library keeps memory for the next piece once it has seen one larger block freed.
    np.empty(LARGE_BLOCK, np.uint8)
    with ThreadPoolExecutor(THREADS) as pool:
        waiting: deque[Future[Result]] = deque()
        for piece in chain(first, pieces):
            waiting.append(pool.submit(read, piece))
            if len(waiting) > THREADS + 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
