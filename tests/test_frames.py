"""Any frame becomes the same request lines, and what cannot become one is refused by its row."""

from __future__ import annotations

import datetime as dt
import io
import json
import math
import re
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import batch_frames as bf

UTF8 = "is not valid UTF-8; read the file with its own encoding, or save it as UTF-8"
ADVICE = "an id must be text or a whole number"
NO_PROMPT = "column 'text' is null; drop the row or pass na=\"skip\""
NEEDED = "frame must be a pandas DataFrame or have __arrow_c_stream__ (pyarrow, polars, DuckDB)"
FORMLESS_TYPE = "values, which JSON cannot hold"
NASTY = '"\\\b\f\n\r\t\x00\x1f\x7f\u2028 é 日本語 😀 {x}'

TEXT = pa.string()

Row = dict[str, Any]
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("note", pa.string()),
        ("n", pa.int64()),
        ("flag", pa.bool_()),
        ("x", pa.float64()),
    ]
)
NULLABLE = {"id": "string", "text": "string", "note": "string", "n": "Int64", "flag": "boolean"}


def as_objects(table: pa.Table) -> pd.DataFrame:
    """Hold each value as the Python object it is."""
    columns = table.to_pydict().items()
    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns})


def as_nullable(table: pa.Table) -> pd.DataFrame:
    """Hold each column in a nullable dtype of pandas, text as Python strings."""
    return as_objects(table).astype({**NULLABLE, "x": "Float64"})


def as_arrow_strings(table: pa.Table) -> pd.DataFrame:
    """Hold text as the Arrow-backed strings of pandas."""
    return as_objects(table).astype(dict.fromkeys(["id", "text", "note"], "string[pyarrow]"))


def as_sliced_chunks(table: pa.Table) -> pa.Table:
    """Hold the rows in chunks of one, each a slice of a longer array."""
    return pa.concat_tables(table.slice(row, 1) for row in range(len(table)))


def as_dictionaries(table: pa.Table) -> pa.Table:
    """Hold each column dictionary-encoded."""
    names = table.column_names
    return pa.table({name: table[name].combine_chunks().dictionary_encode() for name in names})


CONNECTIONS: list[duckdb.DuckDBPyConnection] = []
"""Holds the connection of the last relation, which DuckDB itself need not keep open."""


def as_relation(table: pa.Table) -> Any:
    """Make a relation on a connection of its own, where no other result is open."""
    CONNECTIONS[:] = [duckdb.connect()]
    return CONNECTIONS[0].from_arrow(table)


KINDS: dict[str, Callable[[pa.Table], Any]] = {
    "pandas": lambda table: table.to_pandas(),
    "pandas objects": as_objects,
    "pandas nullable": as_nullable,
    "pandas Arrow strings": as_arrow_strings,
    "pandas Arrow dtypes": lambda table: table.to_pandas(types_mapper=pd.ArrowDtype),
    "pandas categories": lambda table: as_objects(table).astype("category"),
    "pandas other index": lambda table: as_objects(table).set_axis(range(9, 9 + len(table))),
    "polars": pl.from_arrow,
    "Arrow table": lambda table: table,
    "Arrow large strings": lambda table: table.cast(
        pa.schema((f.name, pa.large_string() if f.type == pa.string() else f.type) for f in SCHEMA)
    ),
    "Arrow slices": as_sliced_chunks,
    "Arrow dictionaries": as_dictionaries,
    "Arrow record batch": lambda table: table.combine_chunks().to_batches()[0],
    "Arrow stream": lambda table: table.to_reader(max_chunksize=1 + len(table) // 3),
    "DuckDB relation": as_relation,
}
ARROW = ["polars", "Arrow table", "Arrow stream", "DuckDB relation"]


def written(frame: Any, **options: Any) -> bytes:
    """Give the lines that a frame becomes."""
    file = io.BytesIO()
    given = {"id_column": "id", "prompt_column": "text", "model": "m", **options}
    batch = bf.from_dataframe(frame, **{"seed": None, "reasoning_effort": None, **given})
    batch.save_to_file(file, progress=False)
    return file.getvalue()


def bodies(frame: Any, **options: Any) -> list[Row]:
    """Give the body of each line that a frame becomes."""
    return [json.loads(row)["body"] for row in written(frame, **options).split(b"\n")[:-1]]


def line(custom_id: str, prompt: Any, **body: Any) -> bytes:
    """Write one line with ``json.dumps``."""
    messages = [{"role": "user", "content": prompt}]
    url = "/v1/chat/completions"
    body = {"model": "m", "messages": messages, **body}
    request = {"custom_id": custom_id, "method": "POST", "url": url, "body": body}
    return json.dumps(request, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def number(value: float) -> float:
    """Take the fraction from whole numbers."""
    return int(value) if value.is_integer() else value


def with_text(values: Any) -> pd.DataFrame:
    """Make a pandas frame of a column of prompts."""
    return pd.DataFrame({"id": [chr(ord("a") + i) for i in range(len(values))], "text": values})


def with_ids(values: Any) -> pd.DataFrame:
    """Make a pandas frame of a column of ids."""
    return pd.DataFrame({"id": values, "text": ["x"] * len(values)})


def objects(*values: Any) -> pd.Series:
    """Make a column of Python objects, whatever they are."""
    column = np.empty(len(values), object)
    for row, value in enumerate(values):
        column[row] = value
    return pd.Series(column, dtype=object)


def not_utf8(*values: bytes, type: pa.DataType = TEXT) -> pa.Array:
    """Make a text array of bytes that nobody validates."""
    binary = pa.array(values, pa.binary() if type == TEXT else pa.large_binary())
    return pa.Array.from_buffers(type, len(values), binary.buffers())


def error_of(frame: Any, **options: Any) -> bf.BatchFramesError:
    """Give the error that a frame raises."""
    with pytest.raises(bf.BatchFramesError) as caught:
        written(frame, **options)
    return caught.value


def warns(message: str) -> Any:
    """Expect one warning with this whole message."""
    return pytest.warns(UserWarning, match=rf"\A{re.escape(message)}\Z")


words = st.text(max_size=20)
# Python and Arrow choose the same notation for these; another test has all the others.
fractions = st.floats(1e-4, 1e9) | st.floats(-1e9, -1e-4) | st.integers(-99, 99).map(float)


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


BODY = {
    "note": bf.col("note"),
    "n": bf.col("n"),
    "flag": bf.col("flag"),
    "x": bf.col("x"),
    "deep": {"list": [bf.col("note"), bf.col("n"), bf.col("flag"), bf.col("x")]},
    "all": bf.fmt("{{{note}|{n}|{flag}|{x}}}"),
}


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
@settings(deadline=None, max_examples=25)
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
def test_lines_are_those_of_a_json_dumps_loop_over_any_frame(kind: str, rows: list[Row]) -> None:
    """Text, integers, booleans and floats, null or not, become the bytes that json.dumps writes."""
    frame = KINDS[kind](pa.Table.from_pylist(rows, SCHEMA))
    assert written(frame, body=BODY) == b"".join(map(expected, rows))


@settings(deadline=None, max_examples=40)
@given(rows=rows_of(null=False, floats=fractions))
def test_lines_are_those_of_add_entry(rows: list[Row]) -> None:
    """A frame's lines equal those of its rows added by hand, byte for byte."""
    options: Any = {
        "model": "m",
        "system_prompt": NASTY,
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


@settings(deadline=None, max_examples=40)
@example(values=[1e-7, 1e22, 2.0**63, -(2.0**63), 5e-324, 1.7976931348623157e308, 1e15, 0.1])
@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=9))
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
    "Arrow": lambda ids: pd.array(ids, dtype=pd.ArrowDtype(pa.int64())),
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
    nullable = pd.array(ends, dtype=dtype.replace("int", "Int").replace("u", "U"))
    frames = [with_ids(np.array(ends, dtype)), with_ids(nullable)]
    frames += [pa.table({"id": pa.array(ends, dtype), "text": ["x", "x"]})]
    for frame in frames:
        assert written(frame) == line(str(ends[0]), "x") + line(str(ends[1]), "x")


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


@pytest.mark.parametrize("ordered", [True, False])
def test_categoricals_are_decoded(ordered: bool) -> None:
    """A categorical column is its values: unused categories, other orders and nulls do not show."""
    note = pd.Categorical(["b", "a", None], categories=["c", '"', "b", "a"], ordered=ordered)
    mixed = pd.Categorical(["b", 3, "b"], categories=[3, "b"], ordered=ordered)
    frame = pd.DataFrame({"id": pd.Categorical([3, 1, 2]), "text": mixed, "note": note})
    assert written(frame, body={"note": bf.col("note")}) == (
        line("3", "b", note="b") + line("1", "3", note="a") + line("2", "b")
    )


def test_a_null_among_the_categories_is_a_null() -> None:
    """A null that Arrow keeps in the dictionary, not in the rows, is missing all the same."""
    note = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0], pa.int32()), pa.array(["n", None]))
    frame = pa.table({"id": ["a", "b", "c"], "text": ["x", "y", "z"], "note": note})
    assert written(frame, body={"note": bf.col("note")}) == (
        line("a", "x", note="n") + line("b", "y") + line("c", "z", note="n")
    )
    error = error_of(frame, prompt_column="note")
    assert str(error) == (
        "row 1 (custom_id 'b'): column 'note' is null; drop the row or pass na=\"skip\""
    )
    assert (
        str(error_of(frame, id_column="note")) == "row 1: note is null; every request needs an id"
    )


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
@settings(deadline=None, max_examples=25)
@given(values=st.lists(st.tuples(nested, st.lists(st.none() | words)), min_size=1, max_size=4))
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


OBJECTS: dict[str, tuple[Any, Any]] = {
    "dict": ({"a": 1, "b": [None, True, 0.5]}, {"a": 1, "b": [None, True, 0.5]}),
    "dict with number keys": ({1: "a"}, {"1": "a"}),
    "nasty text": ({NASTY: [NASTY]}, {NASTY: [NASTY]}),
    "list": ([1, "a", [2.5]], [1, "a", [2.5]]),
    "empty list": ([], []),
    "tuple": ((1, 2), [1, 2]),
    "array": (np.array([1, 2]), [1, 2]),
    "array of arrays": (np.array([[1.5, 2.0], [0.0, -1.0]]), [[1.5, 2.0], [0.0, -1.0]]),
    "array of text": (np.array(["a", "é"]), ["a", "é"]),
    "arrays in a dict": ({"a": np.array([True])}, {"a": [True]}),
    "numpy scalars": ([np.int64(1), np.float64(0.5), np.bool_(True)], [1, 0.5, True]),
    "Decimal": (Decimal("1.50"), "1.50"),
    "Decimal in a list": ([Decimal("0.10")], ["0.10"]),
    "UUID": (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
    "UUID in a dict": ({"u": uuid.UUID(int=7)}, {"u": "00000000-0000-0000-0000-000000000007"}),
    "datetime": (dt.datetime(2024, 1, 2, 3, 4, 5), "2024-01-02T03:04:05"),
    "aware": (dt.datetime(2024, 1, 2, tzinfo=dt.UTC), "2024-01-02T00:00:00+00:00"),
    "Timestamp": (pd.Timestamp("2024-01-02 03:04"), "2024-01-02T03:04:00"),
    "date": (dt.date(2024, 1, 2), "2024-01-02"),
    "time": (dt.time(1, 2, 3), "01:02:03"),
    "dates in a list": ([dt.date(2024, 1, 2), pd.NaT], ["2024-01-02", None]),
    "missing in a list": ([None, pd.NA], [None, None]),
    "true": (True, True),
    "large integer": (2**70, 2**70),
    "whole float": (3.0, 3),
    "text that looks like JSON": ('{"a": 1}', '{"a": 1}'),
}


@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.parametrize("other", [None, "a text", {"a": 1}], ids=["alone", "by text", "by dict"])
def test_python_objects_become_what_json_dumps_makes_of_them(name: str, other: Any) -> None:
    """An object reads back as its JSON value, alone in its column or beside other kinds."""
    value, meaning = OBJECTS[name]
    frame = with_text(["x", "y"]).assign(o=objects(value, other))
    first, second = bodies(frame, body={"o": bf.col("o"), "deep": [bf.col("o")]})
    assert (first["o"], first["deep"]) == (meaning, [meaning])
    assert type(first["o"]) is type(meaning)
    assert (second.get("o"), second["deep"]) == (other, [other])


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


def test_a_column_may_change_its_kind_from_row_to_row() -> None:
    """Where the rows of an object column are cut has no influence on what each becomes."""
    values = [*["text"] * 3_000, {"a": [1]}, 5, True, 0.5, 'a "quote"', *[7] * 3_000, "end"]
    frame = pd.DataFrame({"id": range(len(values)), "text": "t", "o": pd.Series(values)})
    body = {"o": bf.col("o"), "s": bf.fmt("<{o}>")}

    def shown(value: Any) -> str:
        return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))

    assert written(frame, body=body) == b"".join(
        line(str(i), "t", o=value, s=f"<{shown(value)}>") for i, value in enumerate(values)
    )


# Ids

IDS: dict[str, tuple[Any, list[str]]] = {
    "text": (["007", " a ", "é😀", NASTY], ["007", " a ", "é😀", NASTY]),
    "objects": (objects("007", " a "), ["007", " a "]),
    "integers": (np.array([7, -1]), ["7", "-1"]),
    "nullable integers": (pd.array([7, -1], dtype="Int64"), ["7", "-1"]),
    "Python integers": (objects(7, 2**70), ["7", str(2**70)]),
    "categories": (pd.Categorical(["b", "a", "c"]), ["b", "a", "c"]),
    "mixed": (
        objects("a", 7, uuid.UUID(int=1)),
        ["a", "7", "00000000-0000-0000-0000-000000000001"],
    ),
    "mixed dates": (objects("a", dt.date(2024, 1, 2)), ["a", "2024-01-02"]),
    "mixed text": (objects(NASTY, 7), [NASTY, "7"]),
    "dates": (objects(dt.date(2024, 1, 2), dt.date(2024, 1, 3)), ["2024-01-02", "2024-01-03"]),
    "moments": (
        pd.to_datetime(["2024-01-02 00:00", "2024-01-02 03:04"]),
        ["2024-01-02T00:00:00", "2024-01-02T03:04:00"],
    ),
    "Python moments": (objects(dt.datetime(2024, 1, 2, 3)), ["2024-01-02T03:00:00"]),
    "decimals": (objects(Decimal("1.50"), Decimal(2)), ["1.50", "2"]),
    "UUIDs": (objects(uuid.UUID(int=1)), ["00000000-0000-0000-0000-000000000001"]),
}


def ids_written(frame: Any, **options: Any) -> list[str]:
    """List the ids of the lines that a frame becomes."""
    return [json.loads(row)["custom_id"] for row in written(frame, **options).split(b"\n")[:-1]]


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("place", ["column", "index"])
def test_ids_are_written_as_text(name: str, place: str) -> None:
    """Text, whole numbers, dates, decimals and UUIDs are ids, in a column or in the index."""
    values, texts = IDS[name]
    frame = with_ids(values)
    if place == "index":
        frame = frame.set_axis(pd.Index(frame["id"], dtype=frame["id"].dtype))
        assert ids_written(frame, id_column=None) == texts
    else:
        assert ids_written(frame) == texts


ARROW_IDS: dict[str, tuple[pa.Array, list[str]]] = {
    "large integers": (pa.array([2**64 - 1], pa.uint64()), [str(2**64 - 1)]),
    "dates": (pa.array([dt.date(2024, 1, 2)]), ["2024-01-02"]),
    "moments": (pa.array([0], pa.timestamp("s", "UTC")), ["1970-01-01T00:00:00+00:00"]),
    "decimals": (pa.array([Decimal("1.50")]), ["1.50"]),
    "UUIDs": (
        pa.ExtensionArray.from_storage(pa.uuid(), pa.array([bytes(15) + b"\1"], pa.binary(16))),
        ["00000000-0000-0000-0000-000000000001"],
    ),
    "dictionary": (pa.array(["b", "a"]).dictionary_encode(), ["b", "a"]),
}  # fmt: skip


@pytest.mark.parametrize("name", ARROW_IDS)
def test_arrow_ids_are_written_as_text(name: str) -> None:
    """Arrow's ids of the same kinds are written the same."""
    array, texts = ARROW_IDS[name]
    frame = pa.table({"id": array, "text": ["x"] * len(array)})
    assert ids_written(frame) == texts


BAD_IDS: dict[str, tuple[Any, str]] = {
    "null": (["a", None], "row 1: id is null; every request needs an id"),
    "NaN": (objects("a", math.nan), "row 1: id is null; every request needs an id"),
    "NA": (pd.array([1, None], dtype="Int64"), "row 1: id is null; every request needs an id"),
    "null category": (
        pd.Categorical(["a", None]),
        "row 1: id is null; every request needs an id",
    ),
    "NaT": (
        pd.to_datetime(["2024-01-02", None]),
        "row 1: id is null; every request needs an id",
    ),
    "mixed null": (objects("a", 5, None), "row 2: id is null; every request needs an id"),
    "only nulls": (objects(None, None), "row 0: id is null; every request needs an id"),
    "only NaN": ([math.nan, math.nan], "row 0: id is null; every request needs an id"),
    "empty": (["a", ""], "row 1: id is empty; every request needs an id"),
    "empty category": (
        pd.Categorical(["a", ""]),
        "row 1: id is empty; every request needs an id",
    ),
    "mixed empty": (objects("", 5), "row 0: id is empty; every request needs an id"),
    "floats": ([1.0, 2.0], f"row 0: id is the float 1.0; {ADVICE}"),
    "integers with a hole": ([None, 2.0], f"row 1: id is the float 2.0; {ADVICE}"),
    "nullable floats": (
        pd.array([0.5, None], dtype="Float64"),
        f"row 0: id is the float 0.5; {ADVICE}",
    ),
    "float categories": (pd.Categorical([1.0, 2.0]), f"row 0: id is the float 1.0; {ADVICE}"),
    "a float among text": (objects("a", 2.5), f"row 1: id is 2.5; {ADVICE}"),
    "a whole float among text": (objects("a", 2.0), f"row 1: id is 2.0; {ADVICE}"),
    "a float among integers": (objects(1, 2.0), f"row 1: id is 2.0; {ADVICE}"),
    "a boolean among text": (objects("a", True), f"row 1: id is true; {ADVICE}"),
    "a list among text": (objects("a", [1]), f"row 1: id is [1]; {ADVICE}"),
    "a dict": (objects({"a": 1}), f'row 0: id is {{"a":1}}; {ADVICE}'),
    "surrogate": (objects("a", "\ud800"), "row 1: id holds a lone surrogate, which is not text"),
}


@pytest.mark.parametrize("name", BAD_IDS)
def test_a_row_without_a_good_id_is_refused(name: str) -> None:
    """A null, empty, float, boolean or nested id is refused with its row."""
    values, message = BAD_IDS[name]
    error = error_of(with_ids(values))
    assert str(error) == message
    assert isinstance(error, bf.RequestError)
    assert error.row == int(message.split(":")[0].removeprefix("row "))
    assert not error.custom_id


@pytest.mark.parametrize(
    "values",
    [[True, False], objects(True, None), pd.array([True, None], dtype="boolean")],
    ids=["numpy", "objects", "nullable"],
)
def test_boolean_ids_are_refused(values: Any) -> None:
    """A column of booleans cannot be ids."""
    error = error_of(with_ids(values))
    assert isinstance(error, bf.ColumnError)
    assert str(error) == f"id holds bool values; {ADVICE}"


@pytest.mark.parametrize("kind", ARROW)
def test_float_ids_are_refused_in_arrow_frames(kind: str) -> None:
    """Floats are no ids in other frames either, not even NaN or whole ones."""
    for value in (3.0, math.nan):
        frame = KINDS[kind](pa.table({"id": [None, value], "text": ["x", "y"]}))
        assert str(error_of(frame)) == f"row 1: id is the float {value}; {ADVICE}"


@pytest.mark.parametrize("type", [pa.list_(pa.int64()), pa.struct([("a", pa.int64())]), pa.bool_()])
def test_nested_arrow_ids_are_refused(type: pa.DataType) -> None:
    """A column of lists, structs or booleans cannot be ids."""
    frame = pa.table({"id": pa.nulls(2, type), "text": ["x", "y"]})
    assert str(error_of(frame)) == f"id holds {type} values; {ADVICE}"


@pytest.mark.parametrize(
    ("index", "ids"),
    [
        (None, ["0", "1"]),
        ([5, 3], ["5", "3"]),
        (["p", "q"], ["p", "q"]),
        (pd.CategoricalIndex(["q", "p"]), ["q", "p"]),
        (
            pd.DatetimeIndex(["2024-01-02", "2024-01-03"]),
            ["2024-01-02T00:00:00", "2024-01-03T00:00:00"],
        ),
        (pd.Index(["p", "q"], name="key"), ["p", "q"]),
    ],
    ids=["range", "integers", "text", "categories", "dates", "named"],
)  # fmt: skip
def test_without_an_id_column_the_index_is_the_id(index: Any, ids: list[str]) -> None:
    """A pandas index gives the ids, whatever its kind and name."""
    frame = pd.DataFrame({"text": ["x", "y"]}, index=index)
    lines = line(ids[0], "x") + line(ids[1], "y")
    assert written(frame, id_column=None) == lines
    if frame.index.name:
        assert written(frame, id_column=frame.index.name) == lines


def test_a_column_goes_before_an_index_of_the_same_name() -> None:
    """A name that both a column and the index have means the column."""
    frame = pd.DataFrame({"id": ["a"], "text": ["x"]}, index=pd.Index(["p"], name="id"))
    assert ids_written(frame) == ["a"]
    assert ids_written(frame, id_column=None) == ["p"]


@pytest.mark.parametrize(("name", "shown"), [("key", "key"), (None, "index")])
def test_errors_of_an_index_carry_its_name(name: str | None, shown: str) -> None:
    """A bad id in the index is named by the index's own name."""
    frame = pd.DataFrame({"text": ["x", "y"]}, index=pd.Index(["p", None], name=name))
    message = f"row 1: {shown} is null; every request needs an id"
    assert str(error_of(frame, id_column=None)) == message


def test_an_index_of_several_levels_is_refused() -> None:
    """A MultiIndex is no id, and the error says what to do."""
    index = pd.MultiIndex.from_tuples([("a", 1), ("a", 2)])
    error = error_of(pd.DataFrame({"text": ["x", "y"]}, index=index), id_column=None)
    assert isinstance(error, bf.ColumnError)
    assert str(error) == (
        "the index has 2 levels, and an id is one value; make a column of them and name it "
        "with id_column="
    )


def test_an_index_of_several_levels_does_no_harm_beside_an_id_column() -> None:
    """A MultiIndex is not looked at when a column holds the ids."""
    frame = with_ids(["a", "b"])
    frame.index = pd.MultiIndex.from_tuples([("a", 1), ("a", 2)])
    assert ids_written(frame) == ["a", "b"]


@pytest.mark.parametrize("kind", ARROW)
def test_a_frame_without_an_index_needs_an_id_column(kind: str) -> None:
    """Only pandas has an index; of other frames the column must be named."""
    frame = KINDS[kind](pa.table({"id": ["a"], "text": ["x"]}))
    assert str(error_of(frame, id_column=None)) == (
        f"a {type(frame).__name__} has no index to take the ids from; pass id_column="
    )


def test_rows_are_counted_whatever_the_index() -> None:
    """Row numbers in errors are positions, as for iloc, in a frame with another index."""
    frame = with_text(["x", "y", None]).sample(frac=1, random_state=3)
    position = int(np.flatnonzero(frame["text"].isna())[0])
    error = error_of(frame.set_axis([70, 70, 70]))
    assert str(error) == f"row {position} (custom_id 'c'): {NO_PROMPT}"


def test_ids_that_are_equal_only_as_text_stand_twice() -> None:
    """The number 1 and the text "1" are the same custom_id."""
    error = error_of(with_ids(objects(1, "x", "1")))
    assert str(error) == "each custom_id must stand only once: '1' in row 0 and row 2"


# Missing values

MISSING: dict[str, Any] = {
    "None": objects("x", None),
    "NaN": objects("x", math.nan),
    "NA": objects("x", pd.NA),
    "NaT": objects(dt.datetime(2024, 1, 2), pd.NaT),
    "beside a dict": objects({"a": 1}, None),
    "text": ["x", None],
    "string": pd.array(["x", None], dtype="string"),
    "Arrow strings": pd.array(["x", None], dtype="string[pyarrow]"),
    "Arrow dtype": pd.array(["x", None], dtype=pd.ArrowDtype(pa.string())),
    "category": pd.Categorical(["x", None]),
    "category of floats": pd.Categorical([0.5, None]),
    "Int64": pd.array([1, None], dtype="Int64"),
    "boolean": pd.array([True, None], dtype="boolean"),
    "Float64": pd.array([0.5, None], dtype="Float64"),
    "float64": np.array([0.5, math.nan]),
    "float32": np.array([0.5, math.nan], "float32"),
    "Arrow float": pd.array([0.5, math.nan], dtype=pd.ArrowDtype(pa.float64())),
    "Decimal": objects(Decimal("1.5"), Decimal("NaN")),
    "datetime64": pd.to_datetime(["2024-01-02", None]),
    "Arrow list": pd.array([[1], None], dtype=pd.ArrowDtype(pa.list_(pa.int64()))),
}


@pytest.mark.parametrize("name", MISSING)
def test_missing_values_of_pandas_are_null(name: str) -> None:
    """None, NA, NaN and NaT are never text: the key is left out, the prompt refused or skipped."""
    frame = pd.DataFrame({"id": ["a", "b"], "text": MISSING[name], "key": MISSING[name]})
    present, missing = bodies(
        frame.assign(ok="y"),
        prompt_column="ok",
        body={"key": bf.col("key"), "deep": [bf.col("key")]},
    )
    assert present["deep"] == [present["key"]]
    assert missing == {
        "model": "m",
        "messages": [{"role": "user", "content": "y"}],
        "deep": [None],
    }
    error = error_of(frame)
    assert str(error) == f"row 1 (custom_id 'b'): {NO_PROMPT}"
    assert isinstance(error, bf.RequestError)
    assert (error.row, error.column, error.custom_id) == (1, "text", "b")
    with warns("skipped 1 row without a prompt: row 1"):
        assert ids_written(frame, na="skip") == ["a"]


def test_a_prompt_of_several_columns_lacks_what_the_first_of_them_lacks() -> None:
    """A null in any column of a fmt prompt is a null in the prompt, named by row and column."""
    frame = pd.DataFrame(
        {"id": ["a", "b", "c"], "text": ["x", "y", None], "note": ["n", None, "n"]}
    )
    error = error_of(frame, prompt_column=bf.fmt("{text}: {note}"))
    assert str(error) == (
        "row 1 (custom_id 'b'): column 'note' is null; drop the row or pass na=\"skip\""
    )
    with warns("skipped 2 rows without a prompt: row 1, row 2"):
        assert ids_written(frame, prompt_column=bf.fmt("{text}: {note}"), na="skip") == ["a"]


@pytest.mark.parametrize("kind", ARROW)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinities_are_refused_in_arrow_frames(kind: str, value: float) -> None:
    """JSON has no NaN and no infinity, and in an Arrow frame they are no missing values."""
    columns = {"id": ["a", "b", "c"], "text": ["x", "y", "z"], "x": [None, value, 0.5]}
    error = error_of(KINDS[kind](pa.table(columns)), body={"x": bf.col("x")})
    assert str(error) == (f"row 1 (custom_id 'b'): column 'x' is {value}, which JSON cannot hold")
    assert isinstance(error, bf.RequestError)
    assert (error.row, error.column, error.custom_id) == (1, "x", "b")


@pytest.mark.parametrize(
    "values",
    [
        [0.5, math.inf],
        np.array([0.5, math.inf], "float32"),
        objects(0.5, math.inf),
        objects(1, math.inf),
        pd.array([0.5, math.inf], dtype="Float64"),
    ],
    ids=["float64", "float32", "objects", "integers", "Float64"],
)
def test_infinities_are_refused_in_pandas(values: Any) -> None:
    """An infinity is no missing value in pandas, and JSON cannot hold it."""
    error = error_of(with_text(values))
    assert str(error) == "row 1 (custom_id 'b'): column 'text' is inf, which JSON cannot hold"


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


# Text that is none

SURROGATE = "row 1 (custom_id 'b'): column 'text' holds a lone surrogate, which is not text"


@pytest.mark.parametrize(
    "values",
    [
        objects("x", "\ud800"),
        objects("x", "a\udfffb"),
        objects("x", ["\udc00"]),
        objects({"a": 1}, {"\ud800": 1}),
        objects("x", "\ud83d\ude00"),
        pd.Categorical.from_codes([0, 1], pd.Index(["x", "\ud800"], dtype=object)),
    ],
    ids=["high", "inside", "list", "key", "pair of halves", "category"],
)
def test_lone_surrogates_are_refused(values: Any) -> None:
    """Half of a UTF-16 pair is no text, and is refused with its row."""
    error = error_of(with_text(values))
    assert str(error) == SURROGATE
    assert isinstance(error, bf.RequestError)
    assert (error.row, error.custom_id) == (1, "b")


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

FORMLESS: dict[str, tuple[Any, str]] = {
    "bytes beside text": (b"x", "bytes values are not JSON"),
    "set": ({1, 2}, "set values are not JSON"),
    "object": (object(), "object values are not JSON"),
    "timedelta": (dt.timedelta(1), "timedelta values are not JSON"),
    "bytes in a dict": ({"a": b"x"}, "bytes values are not JSON"),
    "tuple as a key": ({(1, 2): 3}, "keys must be str, int, float, bool or None, not tuple"),
}


@pytest.mark.parametrize("name", FORMLESS)
def test_an_object_without_a_json_form_is_refused(name: str) -> None:
    """An object that JSON cannot hold is refused with its row and what it is."""
    value, problem = FORMLESS[name]
    error = error_of(with_text(objects("x", value)))
    assert str(error) == f"row 1 (custom_id 'b'): column 'text' has no JSON form: {problem}"
    assert isinstance(error, bf.RequestError)
    assert (error.row, error.column, error.custom_id) == (1, "text", "b")


def test_a_value_that_holds_itself_is_refused() -> None:
    """A list inside itself has no end, and is refused with its row."""
    endless: list[Any] = []
    endless.append(endless)
    error = error_of(with_text(objects("x", endless)))
    assert str(error) == (
        "row 1 (custom_id 'b'): column 'text' has no JSON form: Circular reference detected"
    )


@pytest.mark.parametrize(
    ("values", "type"),
    [
        (pa.array([b"x"]), "binary"),
        (pa.array([b"x"], pa.large_binary()), "large_binary"),
        (pa.array([b"xy"], pa.binary(2)), "fixed_size_binary[2]"),
        (objects(b"x"), "binary"),
    ],
    ids=["binary", "large", "fixed", "pandas"],
)
def test_binary_columns_are_refused(values: Any, type: str) -> None:
    """Bytes are no text: the column is refused, as a value and as an id."""
    frame = pa.table({"id": ["a"], "text": ["x"], "b": values})
    if isinstance(values, pd.Series):
        frame = with_text(["x"]).assign(b=values)
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


# Columns and frames

COLUMNS = ["id", "title", "review_text", "stars"]


@pytest.mark.parametrize("kind", ["pandas", *ARROW])
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("review_txt", "did you mean 'review_text'?"),
        ("Title", "did you mean 'title'?"),
        ("zzz", "it has 'id', 'title', 'review_text', 'stars'"),
    ],
)
def test_a_missing_column_is_named_with_its_nearest(kind: str, name: str, hint: str) -> None:
    """A column that is not there is a ColumnError with the nearest name, wherever it is asked."""
    frame = KINDS[kind](pa.table({column: ["a"] for column in COLUMNS}))
    message = f"the frame has no column {name!r}; {hint}"
    for options in (
        {"prompt_column": name},
        {"prompt_column": bf.fmt(f"{{title}} {{{name}}}")},
        {"id_column": name, "prompt_column": "title"},
        {"prompt_column": "title", "body": {"a": [{"b": bf.col(name)}]}},
    ):
        with pytest.raises(bf.ColumnError) as caught:
            bf.from_dataframe(frame, **{"id_column": "id", "model": "m", **options})
        assert str(caught.value) == message


@pytest.mark.parametrize("kind", ["pandas", "Arrow"])
def test_a_name_that_stands_twice_is_refused_where_it_is_needed(kind: str) -> None:
    """Of two columns with one name neither is chosen; where nobody asks, they do no harm."""

    def frame(*names: str) -> Any:
        if kind == "pandas":
            return pd.DataFrame([list("abcd")], columns=list(names))
        return pa.table([["a"], ["b"], ["c"], ["d"]], names=list(names))

    for names, twice in (("id id text u", "id"), ("id text text u", "text")):
        error = error_of(frame(*names.split()))
        assert isinstance(error, bf.ColumnError)
        assert str(error) == f"the frame has 2 columns named {twice!r}; rename one"
    assert written(frame("id", "text", "u", "u")) == line("a", "b")


def test_pandas_columns_may_be_named_by_numbers() -> None:
    """A column of a frame without names is found by its number, as text."""
    assert written(pd.DataFrame([["a", "x"]]), id_column="0", prompt_column="1") == line("a", "x")


def test_one_column_may_be_everything() -> None:
    """The ids' column may be the prompt and a value too."""
    frame = pd.DataFrame({"id": ["a", "b"]})
    assert written(frame, prompt_column="id", body={"n": bf.col("id")}) == (
        line("a", "a", n="a") + line("b", "b", n="b")
    )


NO_FRAMES: dict[str, tuple[Any, str]] = {
    "dict": ({"id": ["a"]}, f"{NEEDED}, not dict; make it one with pandas.DataFrame(…)"),
    "list": ([{"id": "a"}], f"{NEEDED}, not list; make it one with pandas.DataFrame(…)"),
    "path": ("reviews.csv", f"{NEEDED}, not str; read a file with from_csv or from_parquet"),
    "LazyFrame": (
        pl.LazyFrame({"id": ["a"], "text": ["x"]}),
        f"{NEEDED}, not LazyFrame; call its collect() first",
    ),
    "None": (None, f"{NEEDED}, not NoneType"),
    "array": (np.zeros((2, 2)), f"{NEEDED}, not ndarray"),
}


@pytest.mark.parametrize("name", NO_FRAMES)
def test_what_is_no_frame_is_refused_with_advice(name: str) -> None:
    """Something else than a frame is a TypeError at once, which says what would be right."""
    frame, message = NO_FRAMES[name]
    with pytest.raises(TypeError) as caught:
        bf.from_dataframe(frame, id_column="id", prompt_column="text", model="m")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "column", [pl.Series("text", ["x"]), pa.chunked_array([["x"]])], ids=["polars", "Arrow"]
)
def test_a_single_column_is_no_frame(column: Any) -> None:
    """A series speaks Arrow too, but it is no table, and the error says so."""
    kind = re.escape(type(column).__name__)
    with pytest.raises(TypeError, match=rf"\Aframe must be a table with columns, not {kind}: .+\Z"):
        bf.from_dataframe(column, id_column="id", prompt_column="text", model="m")


def look_ahead(frame: Any) -> None:
    """Look at the first request of a long frame."""
    batch = bf.from_dataframe(frame, id_column="id", prompt_column="text", model="m")
    assert batch.preview_entry()["custom_id"] == "0"
    raise bf.BatchFramesError("only for the sake of the traceback")


@pytest.mark.parametrize(
    "act",
    [
        lambda frame: written(frame, prompt_column="txt"),
        lambda frame: written(frame, body={"x": bf.col("x")}),
        look_ahead,
    ],
    ids=["missing column", "refused row", "preview"],
)
def test_a_duckdb_connection_is_free_after_an_error(act: Callable[[Any], Any]) -> None:
    """A connection can run its next query even while someone still holds the error."""
    with duckdb.connect() as connection:
        x = "if(range = 5, 'inf'::DOUBLE, 0)"
        frame = connection.sql(f"SELECT range::TEXT id, 't' AS text, {x} x FROM range(100_000)")
        with pytest.raises(bf.BatchFramesError) as held:
            act(frame)
        assert connection.sql("SELECT 1").fetchall() == [(1,)]
        assert held.value.__traceback__ is not None


@pytest.mark.parametrize("kind", [*KINDS, "no batches"])
def test_an_empty_frame_makes_an_empty_file(kind: str) -> None:
    """A frame without rows makes an empty file, and a warning says so."""
    table = SCHEMA.empty_table()
    if kind == "no batches":
        frame = pa.RecordBatchReader.from_batches(SCHEMA, [])
    elif kind == "Arrow slices":
        frame = table
    elif kind == "Arrow record batch":
        frame = pa.RecordBatch.from_pylist([], SCHEMA)
    else:
        frame = KINDS[kind](table)
    with warns("there are no requests: the file is empty"):
        assert written(frame, body=BODY) == b""


# Frames of many chunks


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
    "same id": ("id", "r9", "each custom_id must stand only once: 'r9' in row 9 and row 17,042"),
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
    skipped = (
        "skipped 18 rows without a prompt: row 100, row 1,100, row 2,100, row 3,100, row 4,100, …"
    )
    with warns(skipped):
        ids = ids_written(table, na="skip")
    assert ids == [f"r{row}" for row, text in enumerate(texts) if text]


def test_the_frame_is_left_as_it_was() -> None:
    """Reading a frame changes neither its values nor its dtypes."""
    frame = with_text(objects("x", [1.5])).assign(n=[1.0, math.nan], c=pd.Categorical(["a", None]))
    before = frame.copy(deep=True)
    body = {"n": bf.col("n"), "c": bf.col("c")}
    assert written(frame, body=body) == written(frame, body=body)
    pd.testing.assert_frame_equal(frame, before)


def test_columns_that_nobody_asks_for_are_not_read() -> None:
    """A column that JSON cannot hold does no harm where the template has no use for it."""
    frame = with_text(["x", "y"]).assign(o=objects(object(), b"x"), c=[1j, 2j])
    assert written(frame) == line("a", "x") + line("b", "y")
