"""Cells become part of a request, and those that are missing or bad are told by their row."""

import datetime as dt
import json
import math
import re
import uuid
from decimal import Decimal
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_frames import col, fmt
from batch_frames.errors import ColumnError, RequestError
from batch_frames.frames.chunks import Chunk, Position
from batch_frames.requests.columns import Col
from batch_frames.requests.template import Template
from tests.support.templates import MODEL, OTHER, contents, dumped, lines, table, values

NOT_UTF8 = "is not valid UTF-8; read the file with its own encoding, or save it as UTF-8"


class TestValues:
    """A value is written in its JSON type, and inside a text as text."""

    UUID = uuid.UUID("12345678-9abc-def0-1234-56789abcdef0")

    @pytest.mark.parametrize(
        ("column", "as_value", "in_text"),
        [
            (pa.array(['a"\n']), '"a\\"\\n"', 'a\\"\\n'),
            (pa.array(['a"'], pa.string_view()), '"a\\""', 'a\\"'),
            (pa.array([""]), '""', ""),
            (pa.array([5]), "5", "5"),
            (pa.array([3.0]), "3", "3"),
            (pa.array([0.25]), "0.25", "0.25"),
            (pa.array([True]), "true", "true"),
            (pa.array([Decimal("1.50")]), '"1.50"', "1.50"),
            (pa.array([dt.date(2024, 2, 29)]), '"2024-02-29"', "2024-02-29"),
            (
                pa.array([dt.datetime(2024, 1, 2, 3, 4, 5)]),
                '"2024-01-02T03:04:05"',
                "2024-01-02T03:04:05",
            ),
            (pa.array(["x"]).dictionary_encode(), '"x"', "x"),
            (pa.uuid().wrap_array(pa.array([UUID.bytes], pa.binary(16))), f'"{UUID}"', str(UUID)),
            (pa.array([["a", None]]), '["a",null]', '[\\"a\\",null]'),
            (pa.array([{"a": 'x"'}]), '{"a":"x\\""}', '{\\"a\\":\\"x\\\\\\"\\"}'),
        ],
        ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
    )
    def test_each_kind(self, column: pa.Array, as_value: str, in_text: str) -> None:
        """Bare or in quotes as a value; escaped in a text; a prompt puts words in quotes."""
        assert values(column, col("c")) == [f'"k":{as_value}']
        assert values(column, [col("c"), col("c")]) == [f'"k":[{as_value},{as_value}]']
        assert values(column, fmt("<{c}>{c}")) == [f'"k":"<{in_text}>{in_text}"']
        prompt = as_value if as_value[0] in '"[{' else f'"{as_value}"'
        assert values(column, Col("c", "text")) == [f'"k":{prompt}']

    def test_objects_of_pandas(self) -> None:
        """Columns of Python objects mean the same, row by row."""
        objects = pd.Series([{"a": [1.5, None]}, ["é"], 'x"', 3, None], dtype=object)
        frame = pd.DataFrame({"id": list("abcde"), "p": "Hi", "o": objects})
        rows = [
            json.loads(line)["body"]
            for line in lines(frame, prompt_column="p", body={"k": col("o")})
        ]
        assert [body.get("k", "no key") for body in rows] == [*objects[:4], "no key"]
        rows = [json.loads(line)["body"] for line in lines(frame[:4], prompt_column=fmt("{o}"))]
        texts = [body["messages"][0]["content"] for body in rows]
        assert texts == ['{"a":[1.5,null]}', '["é"]', 'x"', "3"]

    def test_categories_of_polars(self) -> None:
        """A row has its category's text, however many categories there are beside it."""
        names = [f"category {n}" for n in range(700)]
        for kind in (pl.Enum(names), pl.Categorical):
            column = pl.Series(names, dtype=pl.String).cast(kind)
            frame = pl.DataFrame({"id": range(700), "p": column})
            assert contents(frame, "p") == names
            assert contents(frame[5:7], "p") == names[5:7]

    @pytest.mark.parametrize(
        ("type", "texts", "expected"),
        [
            ("number", ["2", " 0.5"], ["2", "0.5"]),
            ("integer", ["2", "007"], ["2", "7"]),
            ("boolean", ["true", "False"], ["true", "false"]),
        ],
    )
    def test_text_read_as_another_type(
        self, type: str, texts: list[str], expected: list[str]
    ) -> None:
        """``type=`` turns text into a bare value; without it text stays text."""
        column = pa.array(texts)
        assert values(column, col("c", type=type)) == [f'"k":{value}' for value in expected]
        assert values(column, [col("c", type=type), col("c")]) == [
            f'"k":[{value},"{text}"]' for value, text in zip(expected, texts, strict=True)
        ]

    @pytest.mark.parametrize(
        ("column", "prompt"),
        [
            (pa.array([5, 6]), ["5", "6"]),
            (pa.array([0.5, 2.0]), ["0.5", "2"]),
            (pa.array([["a"], ["b"]]), [["a"], ["b"]]),
            (pa.array([dt.date(2024, 1, 1)] * 2), ["2024-01-01"] * 2),
        ],
        ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
    )
    def test_prompts(self, column: pa.Array, prompt: list[Any]) -> None:
        """A prompt is text, or the list of parts that the row holds."""
        assert contents(table(p=column), "p") == prompt

    def test_a_name_with_braces(self) -> None:
        """A column's name given as such is never searched for braces."""
        assert contents(table(**{"{p} x": ["Hi"]}), "{p} x") == ["Hi"]


class TestMissing:
    """A missing value is never sent as text."""

    @given(
        rows=st.lists(st.tuples(*[st.none() | st.text(max_size=3)] * 3), min_size=1, max_size=6),
        constant=st.booleans(),
        first=st.booleans(),
    )
    def test_top_level_keys_are_left_out(
        self, rows: list[tuple[str | None, ...]], constant: bool, first: bool
    ) -> None:
        """Any keys may be left out of any row: the first, the last, all of them."""
        columns = {
            n: pa.array(v, pa.string()) for n, v in zip("xyz", zip(*rows, strict=True), strict=True)
        }
        body: dict[str, Any] = {"k": 1} if constant and first else {}
        body |= {"x": col("x"), "y": fmt("<{y}>"), "yz": fmt("{y}{z}"), "z": col("z")}
        body |= {"k": 1} if constant else {}
        ids = pa.array([f"r{n}" for n in range(len(rows))])
        rendered = Template(OTHER, body, None).render(Chunk({"custom_id": ids}, columns))
        expected = []
        for number, (x, y, z) in enumerate(rows):
            row = {
                "x": x,
                "y": None if y is None else f"<{y}>",
                "yz": None if y is None or z is None else y + z,
                "z": z,
                "k": 1,
            }
            there = {key: row[key] for key in body if row[key] is not None}
            expected.append(dumped(f"r{number}", there, OTHER) + "\n")
        assert rendered.lines.to_pylist() == expected

    def test_deeper_nulls_are_null(self) -> None:
        """Below the top level a null is JSON's, for values and texts."""
        column = pa.array(["v", None])
        assert values(column, [col("c"), 1]) == ['"k":["v",1]', '"k":[null,1]']
        assert values(column, {"a": col("c")}) == ['"k":{"a":"v"}', '"k":{"a":null}']
        assert values(column, {"a": fmt("<{c}>")}) == ['"k":{"a":"<v>"}', '"k":{"a":null}']
        assert values(column, [{"a": [col("c")]}]) == ['"k":[{"a":["v"]}]', '"k":[{"a":[null]}]']

    @pytest.mark.parametrize(
        "column",
        [
            pa.nulls(2),
            pa.nulls(2, pa.float64()),
            pa.nulls(2, pa.string()),
            pa.nulls(2, pa.list_(pa.string())),
            pa.nulls(2, pa.dictionary(pa.int8(), pa.string())),
            pa.DictionaryArray.from_arrays(pa.array([1, 1]), pa.array(["a", None])),
        ],
        ids=["null", "float", "text", "list", "dictionary", "null in the dictionary"],
    )
    def test_columns_of_nulls(self, column: pa.Array) -> None:
        """Whatever its type, a null is a null."""
        body = {"k": col("c"), "t": fmt("a{c}"), "l": [col("c")]}
        expected = [dumped(i, {"model": MODEL, "l": [None]}, OTHER) for i in "ab"]
        assert lines(table(c=column), endpoint=OTHER, body=body) == expected

    def test_a_missing_number_of_pandas(self) -> None:
        """pandas holds ``[3, None]`` as floats: 3 is written without fraction, NaN is no key."""
        frame = pd.DataFrame({"id": ["a", "b"], "p": ["x", "y"], "n": [3, None]})
        first, second = lines(frame, prompt_column="p", body={"max_completion_tokens": col("n")})
        assert first.endswith(',"max_completion_tokens":3}}')
        assert "max_completion_tokens" not in second

    def test_missing_parts_of_responses(self) -> None:
        """Instructions that a row lacks are left out of it."""
        frame = table(p=["x", "y"], s=["Be brief.", None])
        options = {"prompt_column": "p", "system_prompt": col("s"), "endpoint": "/v1/responses"}
        bodies = [json.loads(line)["body"] for line in lines(frame, **options)]
        assert bodies == [
            {"model": MODEL, "instructions": "Be brief.", "input": "x"},
            {"model": MODEL, "input": "y"},
        ]

    PROMPTS = (
        pytest.param({"prompt_column": "p"}, id="a column"),
        pytest.param({"prompt_column": fmt("Q: {p}")}, id="a text"),
        pytest.param(
            {"body": {"messages": [{"role": "user", "content": col("p")}]}}, id="messages"
        ),
        pytest.param({"body": {"input": [col("p")]}, "endpoint": "/v1/embeddings"}, id="input"),
    )

    @pytest.mark.parametrize("options", PROMPTS)
    def test_no_prompt_is_an_error(self, options: dict[str, Any]) -> None:
        """A null in a prompt is refused with its row and id, wherever the prompt stands."""
        with pytest.raises(RequestError) as caught:
            lines(table(p=["x", "y", None, None]), **options)
        expected = "row 2 (custom_id 'c'): column 'p' is null; drop the row or pass na=\"skip\""
        error = caught.value
        assert str(error) == expected
        assert (error.row, error.column, error.custom_id) == (2, "p", "c")

    @pytest.mark.parametrize("options", PROMPTS)
    def test_rows_without_prompt_skipped(self, options: dict[str, Any]) -> None:
        """With ``na="skip"`` they are dropped, and their number is said."""
        said = "skipped 2 rows without a prompt: row 0 (custom_id 'a'), row 2 (custom_id 'c')"
        with pytest.warns(UserWarning, match=f"^{re.escape(said)}$"):
            written = lines(table(p=[None, "x", None, "y"]), na="skip", **options)
        assert [json.loads(line)["custom_id"] for line in written] == ["b", "d"]

    def test_rows_keep_their_numbers_when_some_are_skipped(self) -> None:
        """An error behind skipped rows names the row of the table, in later chunks too."""
        count = 2_000
        prompts = [None if n % 3 == 0 else "x" for n in range(count)]
        numbers = [0.5] * count
        numbers[1_750] = math.nan
        frame = pa.table({"id": range(count), "p": prompts, "n": numbers})
        with pytest.raises(RequestError) as caught:
            lines(frame, prompt_column="p", na="skip", body={"n": col("n")})
        expected = "row 1,750 (custom_id '1750'): column 'n' is nan, which JSON cannot hold"
        error = caught.value
        assert str(error) == expected
        assert (error.row, error.column, error.custom_id) == (1_750, "n", "1750")

    @pytest.mark.parametrize("na", ["raise", "skip"])
    def test_a_null_hidden_in_a_dictionary(self, na: str) -> None:
        """A category that is itself null is a missing prompt like any other."""
        column = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0]), pa.array(["x", None]))
        frame = table(p=column)
        if na == "skip":
            with pytest.warns(
                UserWarning, match=r"^skipped 1 row without a prompt: row 1 \(custom_id 'b'\)$"
            ):
                assert len(lines(frame, prompt_column="p", na=na)) == 2
        else:
            with pytest.raises(RequestError) as caught:
                lines(frame, prompt_column="p", na=na)
            expected = "row 1 (custom_id 'b'): column 'p' is null; drop the row or pass na=\"skip\""
            assert str(caught.value) == expected

    @pytest.mark.parametrize(
        "column",
        [
            pa.array([["a", None], None, ["b"]], pa.list_(pa.string_view())),
            pa.array([{"a": "x"}, None, {"a": None}], pa.struct([("a", pa.string_view())])),
            pa.array(["a", None, "b"], pa.dictionary(pa.int8(), pa.string())),
            pa.array(["a", None, "b"], pa.string_view()),
            pa.array([{"k": ["v"]}, None, {}], pa.struct([("k", pa.large_list(pa.string_view()))])),
        ],
        ids=lambda column: str(column.type),
    )
    def test_any_column_survives_skipped_rows(self, column: pa.Array) -> None:
        """Columns of every kind are filtered along, as polars hands them over too."""
        frame = table(p=["x", None, "z"], v=column)
        with pytest.warns(
            UserWarning, match=r"^skipped 1 row without a prompt: row 1 \(custom_id 'b'\)$"
        ):
            written = lines(frame, prompt_column="p", na="skip", body={"v": col("v")})
        found = [json.loads(line)["body"].get("v") for line in written]
        assert found == [column[0].as_py(), column[2].as_py()]

    def test_empty_text_is_a_value(self) -> None:
        """An empty prompt is not a missing one."""
        assert contents(table(p=["", "x"]), "p") == ["", "x"]


class TestBadRows:
    """An error names row, column and id."""

    @pytest.mark.parametrize(
        ("column", "value", "said"),
        [
            (pa.array([0.5, math.inf]), col("c"), "is inf, which JSON cannot hold"),
            (pa.array([0.5, math.nan]), fmt("{c}"), "is nan, which JSON cannot hold"),
            (
                pa.array([[0.5], [math.nan]]),
                [col("c")],
                "holds a value that is nan, which JSON cannot hold",
            ),
            (pa.array(["1", "x"]), col("c", type="number"), "is 'x', not a number"),
            (pa.array(["1", "1.5"]), col("c", type="integer"), "is '1.5', not an integer"),
            (pa.array(["true", ""]), col("c", type="boolean"), "is '', not a boolean"),
            (
                pa.array([b"a", b"\xff"]).view(pa.string()),
                col("c"),
                NOT_UTF8,
            ),
        ],
    )  # fmt: skip
    def test_a_bad_value(self, column: pa.Array, value: Any, said: str) -> None:
        """The message names the place and what is wrong there."""
        position = Position(41_202, origin="reviews.csv")
        chunk = Chunk({"custom_id": pa.array(["x", 'a"17'])}, {"c": column}, position=position)
        with pytest.raises(RequestError) as caught:
            Template(OTHER, {"k": value}, None).render(chunk)
        error = caught.value
        place = "row 41,203 of 'reviews.csv' (custom_id 'a\"17')"
        assert str(error) == f"{place}: column 'c' {said}"
        assert (error.row, error.column, error.custom_id) == (41_203, "c", 'a"17')

    @pytest.mark.parametrize(
        ("ids", "message", "custom_id"),
        [
            (pa.array(["a", None]), "row 1: id is null; every request needs an id", None),
            (pa.array(["a", ""]), "row 1: id is empty; every request needs an id", ""),
            (
                pa.array([None, 2.0]),
                "row 1: id is the float 2.0; "
                'make them whole numbers, in pandas with .astype("Int64")',
                None,
            ),
            (
                pa.array([b"a", b"\xff"]).view(pa.string()),
                f"row 1: id {NOT_UTF8}",
                None,
            ),
            (
                pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array(["a", None])),
                "row 1: id is null; every request needs an id",
                None,
            ),
        ],
    )
    def test_a_bad_id(self, ids: pa.Array, message: str, custom_id: str | None) -> None:
        """An id that is null, empty, a float or no text is refused with its row."""
        with pytest.raises(RequestError) as caught:
            Template(OTHER, {"k": 1}, None).render(Chunk({"id": ids}, {}))
        error = caught.value
        assert str(error) == message
        assert (error.row, error.column, error.custom_id or None) == (1, None, custom_id or None)

    def test_a_bad_type(self) -> None:
        """A column that JSON cannot hold is named."""
        with pytest.raises(ColumnError) as caught:
            lines(table(p=["x"], b=[b"y"]), prompt_column="p", body={"k": [col("b")]})
        expected = "column 'b' holds binary values, which JSON cannot hold; make them text first"
        assert str(caught.value) == expected

    def test_a_bad_type_of_ids(self) -> None:
        """So is an id column of a type that names nothing."""
        with pytest.raises(ColumnError) as caught:
            lines(pa.table({"id": [True], "p": ["x"]}), prompt_column="p")
        advice = "an id must be text, a whole number, a date, a decimal or a UUID"
        assert str(caught.value) == f"id holds bool values; {advice}"
