"""Run SQL over text columns with DuckDB, piece by piece in threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import duckdb
import numpy as np
import pyarrow as pa

from batch_frames.arrow.text import bytes_of

__all__ = ["extract", "in_threads", "select"]


IN_CACHE, FEWEST = 256 << 10, 64


def select(
    connection: duckdb.DuckDBPyConnection,
    text: pa.Array,
    columns: Sequence[str],
    inner: Sequence[str] = (),
) -> list[pa.Array]:
    """Evaluate SQL expressions over a text column, which they call ``line``.

    Args:
        connection: Where the query runs; opening one costs more than a query.
        text: ``large_string``, not validated.
        columns: DuckDB expressions, one for each column wanted.
        inner: Expressions with names (``… AS found``) that ``columns`` may use by them, and which
            are evaluated only once for all.

    Returns:
        A column for each expression, in the order of ``text``; texts are ``large_string``.
    """
    connection.execute("SET arrow_large_buffer_size = true")
    connection.register("lines", _in_batches(text))
    try:
        source = f"(SELECT {', '.join(['line', *inner])} FROM lines)"
        query = f"SELECT {', '.join(columns)} FROM {source}"
        return [_whole(column) for column in connection.sql(query).to_arrow_table().columns]
    finally:
        connection.unregister("lines")


def extract(
    text: pa.Array,
    paths: Sequence[str],
    types: Sequence[str] = (),
    *,
    connection: duckdb.DuckDBPyConnection | None = None,
) -> dict[str, pa.Array]:
    """Take what JSON paths find out of each line.

    Args:
        text: ``large_string``, one JSON document per row.
        paths: DuckDB JSON paths whose values are wanted as text.
        types: Such paths where the type is wanted: ``VARCHAR``, ``OBJECT``, ``NULL``, ….
        connection: Where the query runs; None opens one.

    Returns:
        A text column for each path, by its name, then one for each type, by ``type of`` its name;
        null where nothing is found or the line is not JSON.
    """
    if connection is None:
        with duckdb.connect() as connection:
            return extract(text, paths, types, connection=connection)
    inner = [f"TRY(json_extract_string(line, {list(paths)}::VARCHAR[])) AS found"]
    inner += [f"TRY(json_type(line, {list(types)}::VARCHAR[])) AS types"] if types else []
    columns = [f"found[{n}]" for n in range(1, len(paths) + 1)]
    columns += [f"types[{n}]" for n in range(1, len(types) + 1)]
    names = [*paths, *(f"type of {path}" for path in types)]
    return dict(zip(names, select(connection, text, columns, inner), strict=True))


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """Give a column as one array; Arrow would copy even what is one."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _in_batches(text: pa.Array) -> pa.Table:
    """Cut lines so small that what DuckDB makes of a batch, which is larger, stays in cache."""
    size = bytes_of(text).nbytes
    rows = max(IN_CACHE * len(text) // max(size, 1), FEWEST)
    table = pa.table({"line": text})
    return pa.Table.from_batches(table.to_batches(max_chunksize=rows), table.schema)


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
