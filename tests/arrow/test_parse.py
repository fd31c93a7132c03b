"""Cells are read as ids and as values of a type that was asked for."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from batch_frames.arrow.parse import read_type, to_ids
from tests.support.json_text import MIXED, json_text, problem, refusal, write

ADVICE = "an id must be text, a whole number, a date, a decimal or a UUID"
WHOLE = 'make them whole numbers, in pandas with .astype("Int64")'


class TestToIds:
    """Ids are plain text."""

    @pytest.mark.parametrize(
        ("array", "texts"),
        [
            (pa.array(['a"\\', None, "007", "é", ""]), ['a"\\', None, "007", "é", ""]),
            (pa.array(["a\n"], pa.string_view()), ["a\n"]),
            (pa.array([7, None, -1]), ["7", None, "-1"]),
            (pa.array([2**64 - 1], pa.uint64()), [str(2**64 - 1)]),
            (pa.array([dt.date(2024, 1, 1)]), ["2024-01-01"]),
            (pa.array([dt.datetime(2024, 1, 1)], pa.timestamp("s")), ["2024-01-01T00:00:00"]),
            (pa.array([Decimal("1.50")]), ["1.50"]),
            (pa.array(["b", "a", "b"]).dictionary_encode(), ["b", "a", "b"]),
            (json_text(['"a\\n\\""', None, "12", "-3"]), ['a\n"', None, "12", "-3"]),
            (pa.nulls(2, pa.float64()), [None, None]),
        ],
        ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
    )
    def test_what_can_be_an_id(self, array: pa.Array, texts: list[str | None]) -> None:
        """Text as it is, unescaped, and all that has one form as text."""
        assert write(array, to_ids) == texts
        assert write(array[1:], to_ids) == texts[1:]

    @pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()], ids=str)
    def test_no_floats(self, kind: pa.DataType) -> None:
        """A float is refused though it be whole, for the id was perhaps another before."""
        array = pa.array(np.array([0, 3], kind.to_pandas_dtype()))
        array = pa.array(array.to_pylist(), kind, mask=np.array([True, False]))
        assert problem(to_ids, array) == (1, f"is the float 3.0; {WHOLE}")

    @pytest.mark.parametrize(
        "kind", [pa.bool_(), pa.list_(pa.string()), pa.struct([("a", pa.int8())])], ids=str
    )
    def test_no_other_types(self, kind: pa.DataType) -> None:
        """Booleans, lists and structs name nothing."""
        assert refusal(to_ids, pa.nulls(1, kind)) == f"holds {kind} values; {ADVICE}"

    @pytest.mark.parametrize("row", ["true", "1.5", "1e3", "[1]", '{"a":1}', '["a","b"]'])
    def test_no_other_json(self, row: str) -> None:
        """Of values that are JSON, only texts and integers are ids."""
        assert problem(to_ids, json_text(['"a"', None, row])) == (2, f"is {row}; {ADVICE}")


class TestReadType:
    """Text becomes the type that the user names."""

    @pytest.mark.parametrize(
        ("kind", "texts", "words"),
        [
            ("number", ["2", " 0.5\t", None, "-1e3", "7.0", "07"], "2 0.5 null -1000 7 7"),
            ("integer", ["2", " -5 ", None, "007", f"{2**63 - 1}"], f"2 -5 null 7 {2**63 - 1}"),
            ("boolean", ["true", "False", None, " TRUE", "false"], "true false null true false"),
        ],
    )  # fmt: skip
    def test_text_that_is_one(self, kind: str, texts: list[str | None], words: str) -> None:
        """White space around it is passed over; a missing value stays missing."""
        values = [None if word == "null" else word for word in words.split()]
        for array in (
            pa.array(texts, pa.string()),
            pa.array(texts, pa.string_view()),
            pa.array(texts).dictionary_encode(),
        ):
            assert write(read_type(array, kind)) == values
            assert write(read_type(array[1:], kind)) == values[1:]

    @pytest.mark.parametrize(
        ("kind", "text", "said"),
        [
            ("number", "1,5", "is '1,5', not a number"),
            ("number", "", "is '', not a number"),
            ("number", "n/a", "is 'n/a', not a number"),
            ("integer", "2.5", "is '2.5', not an integer"),
            ("integer", "1_000", "is '1_000', not an integer"),
            ("integer", "0x1f", "is '0x1f', not an integer"),
            ("integer", "0X1F", "is '0X1F', not an integer"),
            ("integer", " ", "is ' ', not an integer"),
            ("boolean", "yes", "is 'yes', not a boolean"),
            ("boolean", "2", "is '2', not a boolean"),
        ],
    )
    def test_text_that_is_none(self, kind: str, text: str, said: str) -> None:
        """The first value that is none is refused with its row, shown as it stands."""
        array = pa.array(["1", None, text, text])
        assert problem(lambda column: read_type(column, kind), array) == (2, said)
        assert problem(lambda column: read_type(column, kind), array[1:]) == (1, said)

    @pytest.mark.parametrize("text", ["nan", "inf", "-Infinity", "1e999"])
    def test_no_nan_from_text(self, text: str) -> None:
        """A text that reads as NaN or infinity is no number for JSON."""
        said = f"is {float(text)!r}, which JSON cannot hold"
        array = pa.array(["1", text])
        assert problem(lambda column: read_type(column, "number"), array) == (1, said)

    @pytest.mark.parametrize("array", [pa.array([1, None]), pa.array([0.5]), MIXED], ids=str)
    def test_other_columns_pass(self, array: pa.Array) -> None:
        """A column that is no text has its type already."""
        assert read_type(array, "integer") is array
