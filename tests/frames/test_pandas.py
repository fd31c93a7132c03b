"""Columns of pandas become JSON, and what cannot is refused by its row."""

from __future__ import annotations

import datetime as dt
import json
import math
import uuid
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import batch_frames as bf
from tests.support.frames import (
    NASTY,
    NO_PROMPT,
    arrow_backed,
    bodies,
    error_of,
    ids_written,
    line,
    objects,
    warns,
    with_text,
    written,
)

# The same bytes from every kind of frame


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
    "Arrow dtype": arrow_backed(["x", None], pa.string()),
    "category": pd.Categorical(["x", None]),
    "category of floats": pd.Categorical([0.5, None]),
    "Int64": pd.array([1, None], dtype="Int64"),
    "boolean": pd.array([True, None], dtype="boolean"),
    "Float64": pd.array([0.5, None], dtype="Float64"),
    "float64": np.array([0.5, math.nan]),
    "float32": np.array([0.5, math.nan], "float32"),
    "NaN in Float64": pd.Series([1.0, 0.0], dtype="Float64") / pd.Series([2.0, 0.0]),
    "NaN in Arrow": pd.arrays.ArrowExtensionArray(pa.array([0.5, math.nan])),
    "Arrow float": arrow_backed([0.5, math.nan], pa.float64()),
    "Decimal": objects(Decimal("1.5"), Decimal("NaN")),
    "datetime64": pd.Series(["2024-01-02", None], dtype="datetime64[ns]"),
    "Arrow list": arrow_backed([[1], None], pa.list_(pa.int64())),
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
    with warns("skipped 1 row without a prompt: row 1 (custom_id 'b')"):
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
    places = "row 1 (custom_id 'b'), row 2 (custom_id 'c')"
    with warns(f"skipped 2 rows without a prompt: {places}"):
        assert ids_written(frame, prompt_column=bf.fmt("{text}: {note}"), na="skip") == ["a"]


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
