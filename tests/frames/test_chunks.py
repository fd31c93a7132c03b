"""Frames of many chunks become the lines of one, and errors name their row."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

import batch_frames as bf
from tests.support.frames import (
    ARROW,
    KINDS,
    NO_PROMPT,
    as_objects,
    error_of,
    ids_written,
    line,
    number,
    warns,
    written,
)


def test_huge_rows_stand_among_small_ones() -> None:
    """Rows of five megabytes neither disturb their neighbours nor lose a byte."""
    huge = 'é"\n' * 1_250_000
    texts = [huge if row in (0, 700, 701, 1_203) else f"row {row}" for row in range(1_204)]
    ids = [f"r{row}" for row in range(len(texts))]
    lines = b"".join(map(line, ids, texts))
    for frame in (pd.DataFrame({"id": ids, "text": texts}), pa.table({"id": ids, "text": texts})):
        assert written(frame) == lines


def test_a_stream_of_thousands_of_one_row_batches_is_one_frame() -> None:
    """Record batches of a single row are put together in their order."""
    rows = [{"id": f"r{row}", "text": f"{row} é\n"} for row in range(3_000)]
    schema = pa.schema([("id", pa.string()), ("text", pa.string())])

    def batches() -> Iterator[pa.RecordBatch]:
        for row in rows:
            yield pa.RecordBatch.from_pylist([], schema)
            yield pa.RecordBatch.from_pylist([row], schema)

    stream = pa.RecordBatchReader.from_batches(schema, batches())
    assert written(stream) == b"".join(line(row["id"], row["text"]) for row in rows)


LARGE = 20_011


def large(column: str, row: int, value: Any) -> pa.Table:
    """Make a frame of several chunks, one value of which is another."""
    rows = range(LARGE)
    columns: dict[str, list[Any]] = {
        "id": [f"r{i}" for i in rows],
        "text": [f"text {i} " + "é" * (i % 150) for i in rows],
        "n": [i if i > 15_000 and i % 3 else None for i in rows],
        "x": [i / 4 for i in rows],
    }
    columns[column][row] = value
    return pa.table(columns)


@pytest.mark.parametrize("kind", ["pandas", "pandas objects", *ARROW])
def test_large_frames_are_written_over_several_chunks(kind: str) -> None:
    """Rows, and nulls that begin far into a frame, keep their order and their places."""
    table = large("text", 19_000, "")
    frame = as_objects(table) if kind == "pandas objects" else KINDS[kind](table)
    lines = []
    for row in table.to_pylist():
        n = {} if row["n"] is None else {"n": row["n"]}
        lines.append(line(row["id"], row["text"], **n, x=number(row["x"]), deep=[row["n"]]))
    body = {"n": bf.col("n"), "x": bf.col("x"), "deep": [bf.col("n")]}
    assert written(frame, body=body) == b"".join(lines)


FAR: dict[str, tuple[str, Any, str]] = {
    "null": ("text", None, f"row 17,042 (custom_id 'r17042'): {NO_PROMPT}"),
    "null id": ("id", None, "row 17,042: id is null; every request needs an id"),
    "empty id": ("id", "", "row 17,042: id is empty; every request needs an id"),
    "infinity": (
        "x",
        math.inf,
        "row 17,042 (custom_id 'r17042'): column 'x' is inf, which JSON cannot hold",
    ),
    "same id": ("id", "r9", "custom_id must be unique: 'r9' in row 9 and row 17,042"),
}


@pytest.mark.parametrize("kind", ["pandas", "pandas objects", *ARROW])
@pytest.mark.parametrize("name", FAR)
def test_errors_far_into_a_frame_name_the_row(kind: str, name: str) -> None:
    """A row number is the position in the whole frame, not in its chunk."""
    column, value, message = FAR[name]
    table = large(column, 17_042, value)
    frame = as_objects(table) if kind == "pandas objects" else KINDS[kind](table)
    error = error_of(frame, body={"x": bf.col("x")})
    assert str(error) == message
    assert isinstance(error, bf.RequestError)
    assert error.row == 17_042


def test_rows_are_counted_on_over_skipped_ones() -> None:
    """A row behind skipped ones keeps its own number, and the first skipped ones are named."""
    table = large("x", 19_042, math.inf)
    texts = [None if row in range(100, 18_000, 1_000) else "t" for row in range(LARGE)]
    table = table.set_column(1, "text", [texts])
    error = error_of(table, na="skip", body={"x": bf.col("x")})
    assert str(error) == (
        "row 19,042 (custom_id 'r19042'): column 'x' is inf, which JSON cannot hold"
    )
    places = [f"row {row:,} (custom_id 'r{row}')" for row in (100, 1_100, 2_100)]
    with warns(f"skipped 18 rows without a prompt: {', '.join(places)}, … and 15 more"):
        ids = ids_written(table, na="skip")
    assert ids == [f"r{row}" for row, text in enumerate(texts) if text]
