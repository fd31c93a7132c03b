"""Values of Arrow become JSON, and what cannot is refused by its row."""

from __future__ import annotations

import datetime as dt
import io
import math
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import batch_frames as bf
from tests.support.frames import (
    ARROW,
    KINDS,
    NASTY,
    as_sliced_chunks,
    bodies,
    error_of,
    line,
    with_text,
    written,
)

UTF8 = "is not valid UTF-8; read the file with its own encoding, or save it as UTF-8"
FORMLESS_TYPE = "values, which JSON cannot hold"

TEXT = pa.string()


def not_utf8(*values: bytes, type: pa.DataType = TEXT) -> pa.Array:
    """Make a text array of bytes that nobody validates."""
    binary = pa.array(values, pa.binary() if type == TEXT else pa.large_binary())
    return pa.Array.from_buffers(type, len(values), binary.buffers())


# The same bytes from every kind of frame


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_narrow_floats_are_written_in_their_own_shortest_form(dtype: str) -> None:
    """A narrow 0.1 is 0.1 from pandas and from Arrow, not the digits of its nearest double."""
    values = np.array([0.1, 2.0, -0.5, 1.5], dtype)
    tables = [pd.DataFrame({"x": values}), pa.table({"x": pa.array(values)})]
    shown = []
    for table in tables:
        ids = pd.Series(list("abcd"))
        frame = table.assign(id=ids, text="t") if isinstance(table, pd.DataFrame) else table
        if isinstance(frame, pa.Table):
            frame = frame.append_column("id", [list("abcd")]).append_column("text", [["t"] * 4])
        shown.append([body["x"] for body in bodies(frame, body={"x": bf.col("x")})])
    assert shown == [[0.1, 2, -0.5, 1.5]] * 2


def test_string_views_and_repeated_runs_are_text() -> None:
    """Arrow's newer layouts of text, at the top and nested, are read as what they hold."""
    views = pa.array(["a", "b", "a long text that no view holds inline"], pa.string_view())
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), pa.array(["x", "y"]))
    frame = pa.table({"id": views, "text": runs, "list": pa.array([["v"], [], [NASTY]])})
    assert written(frame, body={"list": bf.col("list")}) == (
        line("a", "x", list=["v"])
        + line("b", "x", list=[])
        + line("a long text that no view holds inline", "y", list=[NASTY])
    )


# Nested columns


ARROW_VALUES: dict[str, tuple[pa.Array, list[Any]]] = {
    "date": (pa.array([dt.date(2024, 1, 2), None]), ["2024-01-02", None]),
    "timestamp": (
        pa.array([dt.datetime(2024, 1, 2, 3, 4, 5, 6), None], pa.timestamp("us")),
        ["2024-01-02T03:04:05.000006", None],
    ),
    "zoned": (
        pa.array([dt.datetime(2024, 7, 1, 12), None], pa.timestamp("s", "Europe/Berlin")),
        ["2024-07-01T14:00:00+02:00", None],
    ),
    "decimal": (pa.array([Decimal("1.50"), None], pa.decimal128(5, 2)), ["1.50", None]),
    "map": (
        pa.array([[("k", 1), ('"', None)], None], pa.map_(pa.string(), pa.int64())),
        [{"k": 1, '"': None}, None],
    ),
    "fixed list": (pa.array([[1, 2], None], pa.list_(pa.int64(), 2)), [[1, 2], None]),
    "nothing but nulls": (pa.nulls(2), [None, None]),
    "list of dates": (pa.array([[dt.date(2024, 1, 2), None], None]), [["2024-01-02", None], None]),
}


@pytest.mark.parametrize("name", ARROW_VALUES)
def test_arrow_values_without_a_json_type_become_text(name: str) -> None:
    """Dates, times and decimals are text, and maps objects, in lists and slices too."""
    array, meanings = ARROW_VALUES[name]
    table = pa.table({"id": ["a", "b"], "text": ["x", "y"], "v": array})
    for frame in (table, as_sliced_chunks(table), table.to_reader()):
        got = bodies(frame, body={"deep": {"v": bf.col("v")}})
        assert [body["deep"]["v"] for body in got] == meanings


# Missing values


@pytest.mark.parametrize("kind", ARROW)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinities_are_refused_in_arrow_frames(kind: str, value: float) -> None:
    """JSON has no NaN and no infinity, and in an Arrow frame they are no missing values."""
    columns = {"id": ["a", "b", "c"], "text": ["x", "y", "z"], "x": [None, value, 0.5]}
    error = error_of(KINDS[kind](pa.table(columns)), body={"x": bf.col("x")})
    assert str(error) == (f"row 1 (custom_id 'b'): column 'x' is {value}, which JSON cannot hold")
    assert isinstance(error, bf.RequestError)
    assert (error.row, error.column, error.custom_id) == (1, "x", "b")


# Text that is none


@pytest.mark.parametrize(
    "bad",
    [b"\xff", b"caf\xe9", b"\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\x80"],
)
@pytest.mark.parametrize("type", [pa.string(), pa.large_string()], ids=str)
def test_invalid_utf8_from_arrow_is_refused(bad: bytes, type: pa.DataType) -> None:
    """Bytes that are not UTF-8 never reach a file: the error has their row and custom_id."""
    text = not_utf8(b"ok", "é".encode(), bad, b"\xa9", type=type)
    frame = pa.table({"id": ["a", "b", "c", "d"], "text": text})
    pandas = frame.to_pandas(types_mapper=pd.ArrowDtype)
    for one in (frame, frame.to_reader(), as_sliced_chunks(frame), pandas):
        error = error_of(one)
        assert str(error) == f"row 2 (custom_id 'c'): column 'text' {UTF8}"
        assert isinstance(error, bf.RequestError)
        assert (error.row, error.column, error.custom_id) == (2, "text", "c")


INVALID: dict[str, tuple[Callable[[pa.Array], pa.Array], str]] = {
    "dictionary": (
        lambda text: pa.DictionaryArray.from_arrays(pa.array([0, 1, 0], pa.int32()), text[:2]),
        UTF8,
    ),
    "list": (
        lambda text: pa.ListArray.from_arrays(pa.array([0, 1, 3, 3], pa.int32()), text),
        f"holds a value that {UTF8}",
    ),
    "struct": (lambda text: pa.StructArray.from_arrays([text], ["a"]), UTF8),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_utf8_is_refused_wherever_it_hides(name: str) -> None:
    """Categories, lists and structs are checked as text is."""
    wrap, problem = INVALID[name]
    frame = pa.table({"id": ["a", "b", "c"], "text": wrap(not_utf8(b"ok", b"\xe9", b"ok"))})
    assert str(error_of(frame)) == f"row 1 (custom_id 'b'): column 'text' {problem}"


def test_invalid_utf8_in_an_id_or_a_typed_column_is_refused() -> None:
    """Ids and text that is read as numbers are checked too."""
    bad = not_utf8(b"1", b"\xe9")
    frame = pa.table({"id": bad, "text": ["x", "y"]})
    assert str(error_of(frame)) == f"row 1: id {UTF8}"
    frame = pa.table({"id": ["a", "b"], "text": ["x", "y"], "n": bad})
    error = error_of(frame, body={"n": bf.col("n", type="number")})
    assert str(error) == f"row 1 (custom_id 'b'): column 'n' {UTF8}"


# Values that JSON cannot hold


@pytest.mark.parametrize(
    ("values", "type"),
    [
        (pa.array([b"x"]), "binary"),
        (pa.array([b"x"], pa.large_binary()), "large_binary"),
        (pa.array([b"xy"], pa.binary(2)), "fixed_size_binary[2]"),
    ],
    ids=["binary", "large", "fixed"],
)
def test_binary_columns_are_refused(values: Any, type: str) -> None:
    """Bytes are no text: the column is refused, as a value and as an id."""
    frame = pa.table({"id": ["a"], "text": ["x"], "b": values})
    error = error_of(frame, body={"b": bf.col("b")})
    assert isinstance(error, bf.ColumnError)
    assert str(error) == (
        f"column 'b' holds {type} values, which JSON cannot hold; make them text first"
    )
    assert str(error_of(frame, id_column="b")) == (
        f"b holds {type} values, which JSON cannot hold; make them text first"
    )


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (pd.to_timedelta([1]), f"duration[ns] {FORMLESS_TYPE}; make them numbers or text"),
        (np.array([1j]), f"complex128 {FORMLESS_TYPE}; make them text first"),
    ],
    ids=["durations", "complex"],
)  # fmt: skip
def test_columns_of_other_types_are_refused(values: Any, problem: str) -> None:
    """A dtype without a JSON form is a ColumnError that names column and dtype."""
    error = error_of(with_text(values))
    assert isinstance(error, bf.ColumnError)
    assert str(error) == f"column 'text' holds {problem}"


@pytest.mark.parametrize("kind", [ValueError, RuntimeError, OSError, KeyError, pa.ArrowInvalid])
def test_a_reader_that_fails_half_way_has_its_rows_named(
    tmp_path: Path, kind: type[Exception]
) -> None:
    """Whatever a stream of rows raises, the error says how far it came, and no file is written."""
    table = pa.table({"id": ["a", "b"], "text": ["x", "y"]})

    def batches() -> Iterator[pa.RecordBatch]:
        yield from table.to_batches()
        raise kind("lost")

    reader = pa.RecordBatchReader.from_batches(table.schema, batches())
    batch = bf.from_dataframe(reader, id_column="id", prompt_column="text", model="m")
    with pytest.raises(bf.BatchFramesError) as caught:
        batch.save_to_file(tmp_path / "r.jsonl")
    assert re.fullmatch("the frame failed after 2 rows: .*lost'?", str(caught.value))
    assert not (tmp_path / "r.jsonl").exists()


@pytest.mark.skipif(not hasattr(pa, "json_"), reason="this pyarrow has no such type")
@pytest.mark.parametrize("chunks", [1, 2])
@pytest.mark.parametrize("is_list", [True, False])
def test_nested_runs_of_json_are_refused_by_their_column(is_list: bool, chunks: int) -> None:
    """Arrow cannot put chunks of them together, which is the same error as for one chunk."""
    json_text = pa.ExtensionArray.from_storage(pa.json_(pa.string()), pa.array(["1", "2"]))
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([1, 2], pa.int32()), json_text)
    array: Any = pa.StructArray.from_arrays([runs], ["f"])
    if is_list:
        array = pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), runs)
    column = pa.chunked_array([array] * chunks)
    table = pa.table({"id": list(map(str, range(len(column)))), "w": column})
    with pytest.raises(bf.ColumnError) as caught:
        bf.from_dataframe(
            table, id_column="id", prompt_column="id", model="m", body={"w": bf.col("w")}
        ).save_to_file(io.BytesIO())
    assert str(caught.value) == (
        f"column 'w' holds {array.type} values, which JSON cannot hold; make them text first"
    )
