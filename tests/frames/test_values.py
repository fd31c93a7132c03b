"""A value becomes the same bytes from every kind of frame."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import batch_frames as bf
from tests.support.frames import (
    ARROW,
    BODY,
    KINDS,
    NASTY,
    SCHEMA,
    Row,
    arrow_backed,
    as_objects,
    as_relation,
    as_sliced_chunks,
    bodies,
    error_of,
    line,
    number,
    objects,
    with_ids,
    with_text,
    written,
)

words = st.text(max_size=20)
# Python and Arrow choose the same notation for these; another test has all the others.
fractions = st.floats(1e-4, 1e9) | st.floats(-1e9, -1e-4) | st.integers(-99, 99).map(float)

# Each kind of frame takes its part of the examples.
SOME = settings(max_examples=settings().max_examples // 3)


def rows_of(*, null: bool, floats: st.SearchStrategy[float]) -> st.SearchStrategy[list[Row]]:
    """Draw rows with ids that are not empty and stand once."""
    maybe: Callable[[Any], Any] = (lambda s: st.none() | s) if null else (lambda s: s)
    columns: dict[str, Any] = {
        "id": st.text(min_size=1, max_size=8),
        "text": words,
        "note": maybe(words),
        "n": maybe(st.integers(-(2**53), 2**53)),
        "flag": maybe(st.booleans()),
        "x": maybe(floats),
    }
    row = st.fixed_dictionaries(columns)
    return st.lists(row, min_size=1, max_size=6, unique_by=lambda r: r["id"])


# The same bytes from every kind of frame


def expected(row: Row) -> bytes:
    """Write the line of a row with ``json.dumps``; keys with a null are left out at the top."""
    x = row["x"] if row["x"] is None else number(row["x"])
    values = {"note": row["note"], "n": row["n"], "flag": row["flag"], "x": x}
    body = {name: value for name, value in values.items() if value is not None}
    body["deep"] = {"list": list(values.values())}
    if None not in values.values():
        body["all"] = f"{{{row['note']}|{row['n']}|{json.dumps(row['flag'])}|{json.dumps(x)}}}"
    return line(row["id"], row["text"], **body)


@pytest.mark.parametrize("kind", KINDS)
@example(rows=[{"id": NASTY, "text": NASTY, "note": NASTY, "n": -5, "flag": True, "x": -0.5}])
@example(rows=[{"id": "a", "text": "", "note": "", "n": 2**53, "flag": False, "x": 3.0}])
@example(rows=[{"id": "a", "text": "x", "note": None, "n": None, "flag": None, "x": None}])
@example(
    rows=[
        {"id": "a", "text": "", "note": None, "n": 7, "flag": None, "x": None},
        {"id": "b", "text": "b", "note": "n", "n": None, "flag": True, "x": -0.0},
    ]
)
@given(rows=rows_of(null=True, floats=fractions))
@SOME
def test_lines_are_those_of_a_json_dumps_loop_over_any_frame(kind: str, rows: list[Row]) -> None:
    """Text, integers, booleans and floats, null or not, become the bytes that json.dumps writes."""
    frame = KINDS[kind](pa.Table.from_pylist(rows, SCHEMA))
    assert written(frame, body=BODY) == b"".join(map(expected, rows))


@given(rows=rows_of(null=False, floats=fractions))
@SOME
def test_lines_are_those_of_add_entry(rows: list[Row]) -> None:
    """A frame's lines equal those of its rows added by hand, byte for byte."""
    options: Any = {
        "model": "m",
        "system_prompt": NASTY.replace("{x}", "{y}"),
        "json_schema": {"name": "a", "schema": {}},
    }
    creator = bf.BatchCreator(**options)
    for row in rows:
        values = f"{row['n']}|{json.dumps(row['flag'])}|{json.dumps(number(row['x']))}"
        creator.add_entry(row["id"], f"{row['text']}|{values}")
    file = io.BytesIO()
    creator.save_to_file(file, progress=False)
    prompt = bf.fmt("{text}|{n}|{flag}|{x}")
    options |= {"prompt_column": prompt, "seed": 334, "reasoning_effort": "medium"}
    table = pa.Table.from_pylist(rows, SCHEMA)
    assert [written(KINDS[kind](table), **options) for kind in KINDS] == [file.getvalue()] * len(
        KINDS
    )


@example(values=[1e-7, 1e22, 2.0**63, -(2.0**63), 5e-324, 1.7976931348623157e308, 1e15, 0.1])
@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=9))
@SOME
def test_every_finite_float_reads_back_equal(values: list[float]) -> None:
    """Floats of any size become the same text in every frame, and that text is the same float."""
    rows = [{"id": str(i), "text": "t", "x": value} for i, value in enumerate(values)]
    table = pa.Table.from_pylist(rows, SCHEMA)
    options = {"body": {"x": bf.col("x"), "s": bf.fmt("{x}")}}
    first, *others = (written(KINDS[kind](table), **options) for kind in KINDS)
    assert others == [first] * len(others)
    for value, request in zip(values, map(json.loads, first.splitlines()), strict=True):
        x, text = request["body"]["x"], request["body"]["s"]
        assert (float(x), float(text)) == (value, value)
        if value.is_integer() and abs(value) < 2**63:
            assert (x, text) == (int(value), str(int(value)))
        else:
            assert Decimal(text) == Decimal(repr(value))


WHOLE: dict[str, Callable[[list[int]], Any]] = {
    "numpy": lambda ids: pd.Series(ids, dtype="int64"),
    "objects": lambda ids: pd.Series(ids, dtype=object),
    "nullable": lambda ids: pd.array(ids, dtype="Int64"),
    "Arrow": lambda ids: arrow_backed(ids, pa.int64()),
    "categories": pd.Categorical,
}


@pytest.mark.parametrize("dtype", WHOLE)
def test_integers_of_64_bits_stay_exact(dtype: str) -> None:
    """Integers beyond the whole floats are written digit by digit, as ids and as values."""
    numbers = [-(2**63), 2**63 - 1, 2**53 + 1, 0]
    frame = pd.DataFrame({"id": WHOLE[dtype](numbers), "text": "x"})
    assert written(frame, body={"n": bf.col("id")}) == b"".join(
        line(str(n), "x", n=n) for n in numbers
    )


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "uint64"])
def test_integers_of_every_width_reach_their_ends(dtype: str) -> None:
    """The least and the greatest number of each integer type are written exactly."""
    ends = [int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)]
    nullable = pd.Series(ends, dtype=dtype.replace("int", "Int").replace("u", "U"))
    frames = [with_ids(np.array(ends, dtype)), with_ids(nullable)]
    frames += [pa.table({"id": pa.array(ends, dtype), "text": ["x", "x"]})]
    for frame in frames:
        assert written(frame) == line(str(ends[0]), "x") + line(str(ends[1]), "x")


# Nested columns


NESTED = pa.struct(
    [
        ("role", pa.string()),
        ("parts", pa.list_(pa.struct([("t", pa.string()), ("n", pa.int64())]))),
        ("on", pa.bool_()),
        ("x", pa.float64()),
    ]
)
nested = st.fixed_dictionaries(
    {
        "role": st.none() | words,
        "parts": st.none()
        | st.lists(
            st.fixed_dictionaries({"t": st.none() | words, "n": st.integers(-9, 9)}), max_size=3
        ),
        "on": st.none() | st.booleans(),
        "x": st.none() | st.floats(allow_nan=False, allow_infinity=False),
    }
)
NESTED_KINDS: dict[str, Callable[[pa.Table], Any]] = {
    "pandas objects": as_objects,
    "pandas Arrow dtypes": KINDS["pandas Arrow dtypes"],
    "polars": pl.from_arrow,
    "Arrow table": lambda table: table,
    "Arrow slices": as_sliced_chunks,
    "Arrow stream": lambda table: table.to_reader(max_chunksize=2),
    "DuckDB relation": as_relation,
}


@pytest.mark.parametrize("kind", NESTED_KINDS)
@given(values=st.lists(st.tuples(nested, st.lists(st.none() | words)), min_size=1, max_size=4))
@SOME
def test_nested_values_mean_the_same_in_any_frame(kind: str, values: list[Any]) -> None:
    """Structs and lists read back as the values they were, whatever the frame."""
    columns: dict[str, Any] = {
        "id": [str(i) for i in range(len(values))],
        "text": ["t"] * len(values),
        "s": pa.array([s for s, _ in values], NESTED),
        "l": pa.array([row for _, row in values], pa.list_(pa.string())),
    }
    frame = NESTED_KINDS[kind](pa.table(columns))
    body = {"s": bf.col("s"), "deep": [bf.col("l")], "text": bf.fmt("{s}")}
    got = bodies(frame, body=body)
    assert [(row["s"], row["deep"]) for row in got] == [(s, [row]) for s, row in values]
    assert [json.loads(row["text"]) for row in got] == [s for s, _ in values]


CONVERSATIONS = [
    [{"role": "system", "content": NASTY}, {"role": "user", "content": "Hi"}],
    [{"role": "user", "content": "日本語"}],
]


@pytest.mark.parametrize("kind", NESTED_KINDS)
def test_a_messages_column_is_a_conversation(kind: str) -> None:
    """A column of message lists becomes the messages, as they are."""
    frame = NESTED_KINDS[kind](pa.table({"id": ["a", "b"], "talk": CONVERSATIONS}))
    got = bodies(frame, prompt_column=None, body={"messages": bf.col("talk")})
    assert got == [{"model": "m", "messages": talk} for talk in CONVERSATIONS]


def test_a_column_of_content_parts_is_a_prompt() -> None:
    """A prompt column of lists stays a list, such as a text with an image's address."""
    parts = [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": "http://a"}}]
    assert written(with_text(objects(parts, "y"))) == line("a", parts) + line("b", "y")


# Missing values


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("wrap", [lambda x: [x], lambda x: {"a": [1.5, x]}], ids=["list", "struct"])
@pytest.mark.parametrize("kind", ["pandas objects", *ARROW])
def test_nan_and_infinities_inside_nested_values_are_refused(
    kind: str, value: float, wrap: Callable[[float], Any]
) -> None:
    """A NaN deep inside a value is refused with its row, in pandas too."""
    columns = {"id": ["a", "b"], "text": ["x", "y"], "v": [wrap(0.5), wrap(value)]}
    frame = NESTED_KINDS[kind](pa.table(columns))
    error = error_of(frame, body={"v": bf.col("v")})
    problem = f"column 'v' holds a value that is {value}, which JSON cannot hold"
    if kind == "pandas objects":
        with pytest.raises(ValueError) as refusal:
            json.dumps(value, allow_nan=False)
        problem = f"column 'v' has no JSON form: {refusal.value}"
    assert str(error) == f"row 1 (custom_id 'b'): {problem}"
    assert isinstance(error, bf.RequestError)
    assert (error.row, error.column, error.custom_id) == (1, "v", "b")
