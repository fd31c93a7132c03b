"""What becomes of a cell depends on nothing but the cell: not on its neighbours, not on its chunk.

The dtypes are those that the libraries list.
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import uuid
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import batch_frames as bf
from tests.support.dtypes import (
    arrow_column,
    arrow_types,
    duckdb_query,
    duckdb_types,
    pandas_series,
    polars_series,
)
from tests.support.frames import error_of, ids_written, objects, written

Lines = list[bytes] | None


def lines(frame: Any) -> Lines:
    """Write the values of a column as values, in text and as prompts, or None if that fails."""
    body = {"v": [bf.col("v")], "w": bf.col("v"), "t": [bf.fmt("-{v}")]}
    try:
        return written(frame, prompt_column="id", body=body).splitlines(keepends=True)
    except (bf.ColumnError, bf.RequestError, TypeError):
        return None


def check(cut: Callable[[int, int], Any], rows: int) -> None:
    """Check that all rows together become what they become one by one and two by two."""
    whole = lines(cut(0, rows))
    for step in (1, 2):
        parts = [lines(cut(row, min(row + step, rows))) for row in range(0, rows, step)]
        if whole is None:
            assert None in parts
        else:
            assert [line for part in parts for line in part or [b"refused"]] == whole
    check_ids(cut, rows)


def check_ids(cut: Callable[[int, int], Any], rows: int) -> None:
    """Check that what can be an id is found again, by what was written for it."""
    found: dict[int, str] = {}
    for row in range(rows):
        try:
            (custom_id,) = ids_written(cut(row, row + 1), id_column="v", prompt_column="id")
        except (bf.ColumnError, bf.RequestError, TypeError):
            continue
        found[row] = custom_id
    for row, custom_id in list(found.items())[::4]:
        answers = {"custom_id": [custom_id], "status": ["ok"], "content": ["found"]}
        joined = bf.join_results(cut(row, row + 1), pd.DataFrame(answers), id_column="v")
        assert [str(status) for status in joined["status"]] == ["ok"], custom_id


# Arrow


def arrow_cut(column: Any) -> Callable[[int, int], Any]:
    """Cut tables with a column, whose rows are then slices with offsets."""
    table = pa.table({"id": [f"r{row}" for row in range(len(column))], "v": column})
    return lambda start, stop: table.slice(start, stop - start)


REFUSED = ("binary", "duration", "interval", "union", "opaque")


@pytest.mark.parametrize("kind", [*arrow_types()], ids=str)
def test_each_type_of_arrow(kind: pa.DataType) -> None:
    """Values of each type of Arrow become the same in any slice, or are refused in each."""
    column = arrow_column(kind)
    cut = arrow_cut(column)
    check(cut, len(column))
    assert (lines(cut(0, len(column))) is None) == any(name in str(kind) for name in REFUSED)


WRAPPED: dict[str, Callable[[pa.DataType], pa.DataType]] = {
    "list": pa.list_,
    "struct": lambda kind: pa.struct([("a", kind), ("b", pa.int8())]),
    "dictionary": lambda kind: pa.dictionary(pa.int8(), kind),
    "runs": lambda kind: pa.run_end_encoded(pa.int32(), kind),
    "runs of a dictionary": lambda kind: pa.run_end_encoded(
        pa.int16(), pa.dictionary(pa.int8(), kind)
    ),
    "values of a map": lambda kind: pa.map_(pa.string(), kind),
    "keys of a map": lambda kind: pa.map_(kind, pa.int8()),
    "fixed lists": lambda kind: pa.list_(kind, 2),
    "views": pa.list_view,
    "union": lambda kind: pa.dense_union([pa.field("x", kind), pa.field("y", pa.string())]),
    "dictionary of lists": lambda kind: pa.dictionary(pa.int8(), pa.list_(kind)),
    "list of runs": lambda kind: pa.list_(pa.run_end_encoded(pa.int32(), kind)),
    "list of dictionaries": lambda kind: pa.list_(pa.dictionary(pa.int8(), kind)),
    "list of unions": lambda kind: pa.list_(pa.dense_union([pa.field("x", kind)])),
}


@pytest.mark.slow
@pytest.mark.parametrize("wrap", WRAPPED)
@pytest.mark.parametrize("kind", [*arrow_types()], ids=str)
def test_each_type_of_arrow_inside_another(kind: pa.DataType, wrap: str) -> None:
    """Values inside others become the same in any slice, or are refused in each."""
    try:
        column = arrow_column(WRAPPED[wrap](kind))
    except (pa.ArrowException, TypeError, ValueError):
        pytest.skip("Arrow does not make such values")
    check(arrow_cut(column), len(column))


@pytest.mark.parametrize("wrap", ["runs", "runs of a dictionary", "list of unions", "union"])
@pytest.mark.parametrize("na", ["raise", "skip"])
def test_prompts_in_runs_and_unions(wrap: str, na: str) -> None:
    """Prompts in runs are read, the missing ones found; unions are refused before they do harm."""
    column = arrow_column(WRAPPED[wrap](pa.string()))
    frame = pa.table({"id": list("abcdef"), "text": column})
    if "union" in wrap:
        union = column.type.value_type if pa.types.is_list(column.type) else column.type
        problem = f"column 'text' holds {union} values, which JSON cannot hold"
        assert str(error_of(frame, na=na)) == f"{problem}; make them text first"
    elif na == "raise":
        assert isinstance(error_of(frame, na=na), bf.RequestError)
    else:
        with pytest.warns(UserWarning, match="without a prompt"):
            kept = ids_written(frame, na=na)
        missing = [value is None for value in column.to_pylist()]
        assert kept == [i for i, gone in zip("abcdef", missing, strict=True) if not gone]


# polars, DuckDB, pandas


@pytest.mark.slow
@pytest.mark.parametrize("series", [*polars_series()], ids=lambda series: str(series.dtype))
def test_each_type_of_polars(series: pl.Series) -> None:
    """Values of each data type of polars become the same in any slice, or are refused in each."""
    frame = pl.DataFrame({"id": [f"r{row}" for row in range(len(series))], "v": series})
    check(lambda start, stop: frame[start:stop], len(series))


@pytest.mark.slow
@pytest.mark.parametrize("kind", duckdb_types())
def test_each_type_of_duckdb(kind: str) -> None:
    """Values of each type of DuckDB become the same in any slice, or are refused in each."""
    with duckdb.connect() as connection:
        query = duckdb_query(kind)
        table = connection.sql(query).to_arrow_table()
        check(lambda start, stop: table.slice(start, stop - start), len(table))
        assert lines(connection.sql(query)) == lines(table)


@pytest.mark.slow
@pytest.mark.parametrize("series", [*pandas_series()], ids=lambda series: str(series.dtype))
@pytest.mark.parametrize("categories", [False, True], ids=["", "categories"])
def test_each_dtype_of_pandas(series: pd.Series, categories: bool) -> None:
    """Values of each dtype of pandas become the same in any slice, or are refused in each."""
    try:
        series = series.astype("category") if categories else series
    except (TypeError, ValueError, KeyError, NotImplementedError):
        pytest.skip("pandas makes no categories of these")
    frame = pd.DataFrame({"id": [f"r{row}" for row in range(len(series))], "v": series})
    check(lambda start, stop: frame.iloc[start:stop], len(series))


# Python objects


class Whole(enum.IntEnum):
    """A whole number of a type of its own."""

    ONE = 1


class Word(enum.StrEnum):
    """A text of a type of its own."""

    A = "a"


FIVE = dt.timezone(dt.timedelta(hours=5, minutes=30))
VALUES: list[Any] = [
    *(None, np.nan, pd.NA, pd.NaT, np.float32("nan"), np.datetime64("NaT", "s")),
    *(decimal.Decimal("NaN"), decimal.Decimal("1.0"), decimal.Decimal("1.00")),
    *("x", "", "1", Word.A, np.str_("s"), "\ud800", b"x", np.bytes_(b"x"), bytearray(b"x")),
    *(1, True, False, 2**53 + 1, 2**63, -(2**63), 2**70, Whole.ONE),
    *(1.5, 3.0, 0.1, 1e-5, 1e-7, 1e16, 1e22, 1e300, -0.0, np.inf),
    *(np.float16(0.1), np.float32(0.1), np.float32(3), np.float64(0.1), np.longdouble("0.1")),
    *(np.int8(3), np.int64(7), np.uint64(2**64 - 1), np.bool_(True), np.complex64(1j)),
    *(dt.date(2024, 1, 1), dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, 5, 30)),
    *(dt.datetime(2024, 1, 1, 5, 30, 0, 5, FIVE), dt.time(5, 30), dt.time(5, 0, 0, 1, FIVE)),
    *(dt.timedelta(1), pd.Timestamp("2024-01-01 05:30:00.000000001"), pd.Timedelta(1)),
    *(pd.Timestamp("2024-01-01", tz="Europe/Berlin"), pd.Period("2024-01"), pd.Interval(0, 1)),
    *(np.datetime64("2024-01-01"), np.datetime64("2024-01-01T05:30"), np.timedelta64(1, "s")),
    *(np.datetime64("2024-01-01T05:30:00.000000001"), np.datetime64("2024-01", "M")),
    *(decimal.Decimal("1E+3"), uuid.UUID(int=5)),
    *({"a": 1}, {}, {1: "a", "1": "b"}, {True: 1, "true": 2}, {"a": [{1: 1, "1": 2}]}, {1: 1}),
    *([1], [], (1, 2), [3.0], [np.float32(0.1)], np.array([0.1], "f4"), np.array([1, 2])),
    *(np.array(5), np.array(["2024-01-01"], "M8[D]"), [dt.date(2024, 1, 1)], [pd.NA], {1, 2}),
]


def object_frame(values: Sequence[Any]) -> pd.DataFrame:
    """Make a frame with a column of objects."""
    return pd.DataFrame({"id": [f"r{row}" for row in range(len(values))], "v": objects(*values)})


@settings(max_examples=12)
@given(picked=st.lists(st.integers(0, len(VALUES) - 1), min_size=2, max_size=5))
def test_objects_do_not_depend_on_their_neighbours(picked: list[int]) -> None:
    """A Python object becomes what it becomes alone, whatever stands above and below it."""
    frame = object_frame([VALUES[index] for index in picked])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        check(lambda start, stop: frame.iloc[start:stop], len(frame))


def shown(*values: Any) -> list[str]:
    """List the JSON of the values of a column of objects."""
    text = written(object_frame(values), prompt_column="id", body={"v": bf.col("v")}).decode()
    return [row.split('"v":')[1][:-2] for row in text.splitlines()]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            (dt.date(2024, 1, 1), dt.datetime(2024, 1, 1, 5, 30)),
            ["2024-01-01", "2024-01-01T05:30:00"],
        ),
        ((np.float32(0.1), 0.1, "x"), ["0.1", "0.1", '"x"']),
        ((np.float32(0.1), np.float64(0.1)), ["0.1", "0.1"]),
        ((np.float16(0.1), 1), ["0.1", "1"]),
        ((np.longdouble("0.1"), 1), ["0.1", "1"]),
        ((np.uint64(2**64 - 1), 0.5), [str(2**64 - 1), "0.5"]),
        ((1e-5, 1e-7, 0.0001), ["1e-05", "1e-07", "0.0001"]),
        (([np.float32(0.1)], np.array([0.1], "f4")), ["[0.1]", "[0.1]"]),
    ],
    ids=["dates", "float32", "float64", "float16", "longdouble", "uint64", "small", "lists"],
)
def test_objects_of_several_types_keep_their_values(
    values: tuple[Any, ...], expected: list[str]
) -> None:
    """Dates keep no time and datetimes theirs, and numbers of NumPy keep their digits."""
    expected = [f'"{text}"' if text.startswith("2024") else text for text in expected]
    assert shown(*values) == expected


def test_categories_keep_their_values() -> None:
    """Categories of several types are those values, too."""
    values = [dt.datetime(2024, 1, 1, 5, 30), dt.date(2024, 1, 2), decimal.Decimal("1.0")]
    frame = object_frame(values)
    frame["v"] = pd.Categorical(frame["v"], categories=frame["v"])
    assert ids_written(frame, id_column="v", prompt_column="id") == [
        "2024-01-01T05:30:00",
        "2024-01-02",
        "1.0",
    ]


@pytest.mark.parametrize(
    ("column", "problem"),
    [
        (
            objects({"a": 1}, {1: "a", "1": "b"}),
            "column 'v' has no JSON form: an object has the key '1' twice",
        ),
        (
            pa.array([[], [("a", 1), ("a", 2)]], pa.map_(pa.string(), pa.int64())),
            "column 'v' holds a map with a key twice or missing",
        ),
        (
            pa.array([[], [(0.0, 1), (-0.0, 2)]], pa.map_(pa.float64(), pa.int64())),
            "column 'v' holds a map with a key twice or missing",
        ),
        (
            pa.array([None, 1_000], pa.int64()).view(pa.date64()),
            "column 'v' is a date with a time of day",
        ),
    ],
    ids=["dict", "map", "map of floats", "date64"],
)
def test_values_that_would_be_changed_are_refused(column: Any, problem: str) -> None:
    """What JSON could hold only in part is refused with its row."""
    frame = pd.DataFrame({"id": ["a", "b"], "v": column})
    if isinstance(column, pa.Array):
        frame = pa.table({"id": ["a", "b"], "v": column})
    error = error_of(frame, prompt_column="id", body={"v": bf.col("v")})
    assert str(error) == f"row 1 (custom_id 'b'): {problem}"


def test_structs_with_two_fields_of_a_name_are_refused() -> None:
    """A struct whose fields share a name is refused with its column."""
    fields = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    error = error_of(pa.table({"id": ["r"], "text": fields}))
    assert str(error) == "column 'text' holds structs with two fields of one name; rename one"
    assert isinstance(error, bf.ColumnError)
