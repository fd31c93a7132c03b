"""Ids are written as text, and a row without a good one is refused."""

from __future__ import annotations

import datetime as dt
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
    ARROW,
    KINDS,
    NASTY,
    NO_PROMPT,
    error_of,
    ids_written,
    line,
    objects,
    warns,
    with_ids,
    with_text,
    written,
)

ADVICE = "an id must be text, a whole number, a date, a decimal or a UUID"
WHOLE = 'make them whole numbers, in pandas with .astype("Int64")'


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
        pd.Series(["2024-01-02", None], dtype="datetime64[ns]"),
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
    "floats": ([1.0, 2.0], f"row 0: id is the float 1.0; {WHOLE}"),
    "integers with a hole": ([None, 2.0], f"row 1: id is the float 2.0; {WHOLE}"),
    "nullable floats": (
        pd.array([0.5, None], dtype="Float64"),
        f"row 0: id is the float 0.5; {ADVICE}",
    ),
    "float categories": (pd.Categorical([1.0, 2.0]), f"row 0: id is the float 1.0; {WHOLE}"),
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
    for value, advice in ((3.0, WHOLE), (math.nan, ADVICE)):
        frame = KINDS[kind](pa.table({"id": [None, value], "text": ["x", "y"]}))
        assert str(error_of(frame)) == f"row 1: id is the float {value}; {advice}"


@pytest.mark.parametrize("type", [pa.list_(pa.int64()), pa.struct([("a", pa.int64())]), pa.bool_()])
def test_nested_arrow_ids_are_refused(type: pa.DataType) -> None:
    """A column of lists, structs or booleans cannot be ids."""
    frame = pa.table({"id": pa.nulls(2, type), "text": ["x", "y"]})
    assert str(error_of(frame)) == f"id holds {type} values; {ADVICE}"


@pytest.mark.parametrize(
    ("index", "ids"),
    [
        (pd.RangeIndex(2, name="row"), ["0", "1"]),
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


def test_an_index_that_only_counts_is_warned_of() -> None:
    """Numbers of rows are ids until the rows are in another order."""
    frame = pd.DataFrame({"text": ["x", "y"]})
    message = (
        "the ids only count the rows: once these are sorted and numbered anew, answers meet other "
        "rows; pass id_column=, or name the index"
    )
    with warns(message):
        lines = written(frame, id_column=None)
    assert lines == line("0", "x") + line("1", "y")
    assert ids_written(frame.set_axis([1, 0]), id_column=None) == ["1", "0"]


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


@pytest.mark.parametrize(
    "kind", ["index", "levels", "level and column", "pandas", "Arrow dictionaries", *ARROW]
)
def test_several_columns_are_one_id(kind: str) -> None:
    """Columns, levels of an index, or both are joined; no two rows of them get the same id."""
    pairs = [(7, "a"), (8, "a"), (7, "b|a"), (7, "b\\|a"), (7, "b\\"), (7, "é")]
    frame = pd.DataFrame(pairs, columns=["id", "model"]).assign(text="x")
    expected = ["7|a", "8|a", "7|b\\|a", "7|b\\\\\\|a", "7|b\\\\", "7|é"]
    assert [tuple(taken_apart(one)) for one in expected] == [(str(n), text) for n, text in pairs]
    levels = {"index": ["id", "model"], "levels": ["id", "model"], "level and column": ["model"]}
    if kind in levels:
        table: Any = frame.set_index(levels[kind])
    else:
        table = KINDS[kind](pa.Table.from_pandas(frame))
    names = None if kind == "index" else ["id", "model"]
    assert ids_written(table, id_column=names) == expected
    assert ids_written(frame[2:], id_column=("model",)) == [text for _, text in pairs[2:]]


def taken_apart(custom_id: str) -> list[str]:
    """Take an id of several columns apart, as its description has it."""
    marked = custom_id.replace("\\\\", "\0").replace("\\|", "\1")
    return [part.replace("\1", "|").replace("\0", "\\") for part in marked.split("|")]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([("a", "x"), ("b", None)], "row 1: n is null; every request needs an id"),
        ([("a", 1), (None, 2)], "row 1: level_0 is null; every request needs an id"),
        ([("a", 1), ("b", 0.5)], f"row 0: n is the float 1.0; {WHOLE}"),
        ([("a", 1), ("b", 2), ("a", 1)], "custom_id must be unique: 'a|1' in row 0 and row 2"),
    ],
)
def test_each_part_of_an_id_is_checked(ids: list[tuple[Any, Any]], message: str) -> None:
    """The part that is missing or no id is named; the whole must be unique."""
    columns = [pd.array(column, object) for column in zip(*ids, strict=True)]
    index = pd.MultiIndex.from_arrays(columns, names=[None, "n"])
    frame = pd.DataFrame({"text": ["x"] * len(ids)}, index=index)
    assert str(error_of(frame, id_column=None)) == message


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
    assert str(error) == "custom_id must be unique: '1' in row 0 and row 2"
