"""Arrow arrays become JSON text, as a loop of ``json.dumps`` over their values would write it."""

import datetime as dt
import json
import math
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batch_frames.arrow.encode import to_json, to_prompt, to_text
from batch_frames.arrow.json_text import CheckedText, JsonText, dumps
from batch_frames.arrow.parse import read_type, to_ids
from batch_frames.arrow.text import TEXT
from tests.support.json_text import (
    MIXED,
    Write,
    compact,
    json_text,
    oracle,
    problem,
    refusal,
    write,
)

WRITERS = [to_json, to_text, to_prompt]
NOT_UTF8 = "is not valid UTF-8; read the file with its own encoding, or save it as UTF-8"
HOLDS = "holds a value that"
TO_FLOATS = pa.map_(pa.string(), pa.float64())
NASTY = ['"', "\\", "a\nb\t\x00\x1f\x7f", "日本語 😀", "", "\u2028", "{x}", None, "plain"]
INT_TYPES = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]

TYPES = {
    str(kind): kind
    for kind in (
        pa.string(), pa.large_string(), pa.string_view(), pa.int8(), pa.uint64(), pa.float16(),
        pa.float32(), pa.float64(), pa.bool_(), pa.null(), pa.date32(), pa.date64(),
        pa.time32("s"), pa.time64("ns"), pa.timestamp("s"), pa.timestamp("ns", "Europe/Berlin"),
        pa.decimal128(9, 2), pa.decimal256(50, 2), pa.list_(pa.string()), pa.large_list(pa.int8()),
        pa.list_(pa.float64(), 2), pa.struct([("a", pa.string())]), pa.struct([]),
        pa.map_(pa.string(), pa.int8()), pa.dictionary(pa.int8(), pa.string()),
        pa.list_view(pa.string()), pa.list_(pa.struct([("d", pa.date32())])), pa.uuid(), JsonText(),
    )
}  # fmt: skip


def reread(rows: list[str | None]) -> list[str | None]:
    """Parse JSON and write it again, so that only the forms of floats may differ."""
    return [None if row is None else compact(json.loads(row)) for row in rows]


def categories(indices: list[int | None], values: pa.Array) -> pa.Array:
    """Make a dictionary-encoded column."""
    return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int8()), values)


def typed_values() -> st.SearchStrategy[tuple[pa.DataType, st.SearchStrategy[Any]]]:
    """Draw Arrow types, nested ones too, each with a strategy for its values."""
    floats = st.floats(allow_nan=False, allow_infinity=False)
    leaves = st.sampled_from(
        [
            (pa.string(), st.text(max_size=5)),
            (pa.large_string(), st.text('"\\\n,[]{}', max_size=4)),
            (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
            (pa.uint64(), st.integers(0, 2**64 - 1)),
            (pa.bool_(), st.booleans()),
            (pa.float64(), floats | st.integers(-99, 99).map(float)),
            (pa.null(), st.none()),
        ]
    )
    names = st.text(max_size=4)

    def wrap(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        def a_list(item: tuple[pa.DataType, Any], maker: Callable[..., Any]) -> Any:
            return maker(item[0]), st.lists(st.none() | item[1], max_size=3)

        def a_struct(fields: dict[str, tuple[pa.DataType, Any]]) -> Any:
            kind = pa.struct([(name, inner_kind) for name, (inner_kind, _) in fields.items()])
            drawn = {name: st.none() | value for name, (_, value) in fields.items()}
            return kind, st.fixed_dictionaries(drawn)

        lists = st.builds(a_list, inner, st.sampled_from([pa.list_, pa.large_list]))
        return lists | st.dictionaries(names, inner, max_size=3).map(a_struct)

    return st.recursive(leaves, wrap, max_leaves=6)


class TestText:
    """Text stands in quotes, escaped as ``json.dumps`` does it."""

    @pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
    def test_each_kind_of_text(self, kind: pa.DataType) -> None:
        """All of Arrow's text types give the same, whole, sliced, in quotes and without."""
        array = pa.array(NASTY, kind)
        assert write(array) == oracle(NASTY)
        assert write(array, to_prompt) == oracle(NASTY)
        assert write(array[2:7]) == oracle(NASTY[2:7])
        inside = [None if row is None else row[1:-1] for row in oracle(NASTY)]
        assert write(array, to_text) == inside

    def test_text_that_python_made(self) -> None:
        """Text of Python strings, which needs no check, is written as all other text."""
        array = pa.ExtensionArray.from_storage(CheckedText(), pa.array(NASTY, TEXT))
        for writer in (*WRITERS, to_ids):
            expected = write(pa.array(NASTY, TEXT), writer)
            assert write(array, writer) == expected
            assert write(array[2:7], writer) == expected[2:7]
        numbers = pa.ExtensionArray.from_storage(CheckedText(), pa.array(["x", "2.0"], TEXT))
        assert write(read_type(numbers[1:], "number")) == ["2"]

    @given(values=st.lists(st.none() | st.text()))
    def test_any_text(self, values: list[str | None]) -> None:
        """Every text comes out as the standard library writes it."""
        assert write(pa.array(values, pa.string())) == oracle(values)

    @pytest.mark.parametrize("writer", [*WRITERS, to_ids])
    def test_what_is_not_utf8_is_refused(self, writer: Write) -> None:
        """Bytes that are no text are refused with their row, never passed on."""
        array = pa.array([b"a", None, b'\xe9"},{'], pa.binary()).view(pa.string())
        expected = (2, NOT_UTF8)
        assert problem(writer, array) == expected
        assert problem(writer, array[1:]) == (1, expected[1])


class TestNumbers:
    """Integers, booleans and finite floats stand bare."""

    @pytest.mark.parametrize("name", INT_TYPES)
    def test_integers(self, name: str) -> None:
        """The least and the largest value of each type are exact."""
        info = np.iinfo(name)
        array = pa.array([info.min, 0, None, info.max], getattr(pa, name)())
        expected = [str(info.min), "0", None, str(info.max)]
        assert write(array) == write(array, to_text) == expected
        assert write(array[2:]) == expected[2:]
        assert write(array, to_prompt) == [f'"{info.min}"', '"0"', None, f'"{info.max}"']

    def test_booleans(self) -> None:
        """Booleans are JSON's own words."""
        array = pa.array([True, None, False])
        assert write(array) == write(array, to_text) == ["true", None, "false"]
        assert write(array, to_prompt) == ['"true"', None, '"false"']

    @pytest.mark.skipif(not hasattr(pa, "bool8"), reason="this pyarrow has no such type")
    def test_booleans_of_eight_bits(self) -> None:
        """Booleans are bare however Arrow stores them."""
        array = pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, None, 0], pa.int8()))
        assert write(array, to_text) == ["true", None, "false"]
        assert write(array) == ["true", None, "false"]

    @given(values=st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False)))
    @example(values=[5e-324, 1.7976931348623157e308, 2.0**63, -(2.0**63), 2.0**53 + 2, 1e22])
    def test_floats_read_back_equal(self, values: list[float | None]) -> None:
        """Any finite float is valid JSON and reads back as the same number."""
        rows = write(pa.array(values, pa.float64()))
        read = [None if row is None else json.loads(row) for row in rows]
        assert read == values
        assert rows == write(pa.array(values, pa.float64()), to_text)

    @given(value=st.floats(-1e15, 1e15).filter(lambda f: not f.is_integer()))
    def test_floats_have_no_needless_digits(self, value: float) -> None:
        """The digits are the shortest that read back equal, the same that ``repr`` finds."""
        (row,) = write(pa.array([value]))
        assert row is not None
        assert Decimal(row).normalize() == Decimal(repr(value)).normalize()

    @pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()], ids=str)
    def test_whole_floats_have_no_fraction(self, kind: pa.DataType) -> None:
        """A whole number that pandas holds as a float is written as an integer."""
        values = [3.0, -0.0, 0.5, None, -2048.0, 65504.0, 0.1]
        array = pa.array(np.array([v or 0 for v in values], kind.to_pandas_dtype()))
        array = pa.array(array.to_pylist(), kind, mask=np.array([v is None for v in values]))
        expected = ["3", "0", "0.5", None, "-2048", "65504", "0.1"]
        assert write(array) == write(array, to_text) == expected
        assert write(array[3:]) == expected[3:]

    @pytest.mark.parametrize("exponent", range(64))
    def test_whole_floats_of_any_size(self, exponent: int) -> None:
        """Up to the end of 64 bits whole floats are integers to a reader, exactly."""
        values = [2.0**exponent, -(2.0**exponent), 2.0**exponent - 1]
        inside = [value for value in values if abs(value) < 2**63]
        assert write(pa.array(inside)) == [str(int(value)) for value in inside]

    @pytest.mark.parametrize("value", [1e19, 1e22, -3e100, 1.7976931348623157e308])
    def test_huge_whole_floats_have_no_fraction(self, value: float) -> None:
        """Beyond 64 bits there is no ``.0`` either."""
        (row,) = write(pa.array([value]))
        assert row is not None
        assert float(row) == value
        assert not row.endswith(".0")

    def test_single_precision_is_not_blown_up(self) -> None:
        """A float of 32 bits has the digits of 32 bits, as people see them."""
        assert write(pa.array([0.1, 1.1, 3.4e38], pa.float32())) == ["0.1", "1.1", "3.4e+38"]

    @pytest.mark.parametrize("writer", WRITERS)
    @pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()], ids=str)
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_no_nan_and_no_infinity(self, writer: Write, kind: pa.DataType, value: float) -> None:
        """What JSON cannot hold is refused with its row."""
        array = pa.array(np.array([0, 1, 2, value, value], kind.to_pandas_dtype()))
        assert problem(writer, array) == (3, f"is {value!r}, which JSON cannot hold")
        assert problem(writer, array[2:])[0] == 1
        assert write(array[:3]) == ["0", "1", "2"]


class TestRefused:
    """What JSON cannot hold is refused by type, whether there are values or not."""

    BINARY = (pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(4))
    SPANS = (pa.duration("s"), pa.duration("ns"), pa.month_day_nano_interval())

    @pytest.mark.parametrize("writer", [*WRITERS, to_ids])
    @pytest.mark.parametrize("kind", BINARY, ids=str)
    def test_binary(self, writer: Write, kind: pa.DataType) -> None:
        """Bytes are nobody's text."""
        expected = f"holds {kind} values, which JSON cannot hold; make them text first"
        assert refusal(writer, pa.array([b"abcd"], kind)) == expected
        assert refusal(writer, pa.array([], kind)) == expected

    @pytest.mark.parametrize("writer", [*WRITERS, to_ids])
    @pytest.mark.parametrize("kind", SPANS, ids=str)
    def test_durations(self, writer: Write, kind: pa.DataType) -> None:
        """There is no one way to write a span of time."""
        expected = f"holds {kind} values, which JSON cannot hold; make them numbers or text"
        assert refusal(writer, pa.array([None], kind)) == expected

    @pytest.mark.parametrize("writer", WRITERS)
    @pytest.mark.parametrize(
        "kind",
        [
            pa.list_(pa.binary()),
            pa.struct([("a", pa.struct([("b", pa.binary())]))]),
            pa.map_(pa.string(), pa.binary()),
            pa.dictionary(pa.int8(), pa.binary()),
        ],
        ids=str,
    )
    def test_binary_inside(self, writer: Write, kind: pa.DataType) -> None:
        """A type deep inside is refused as well."""
        expected = "holds binary values, which JSON cannot hold; make them text first"
        assert refusal(writer, pa.array([], kind)) == expected

    @pytest.mark.parametrize("writer", WRITERS)
    def test_unions(self, writer: Write) -> None:
        """A column of several types is refused."""
        array = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([5])])
        expected = f"holds {array.type} values, which JSON cannot hold; make them text first"
        assert refusal(writer, array) == expected


class TestDictionaries:
    """A categorical column is what its rows say."""

    @given(
        values=st.lists(st.none() | st.text(max_size=3), min_size=1, max_size=6),
        data=st.data(),
        writer=st.sampled_from([*WRITERS, to_ids]),
    )
    def test_any_dictionary(
        self, values: list[str | None], data: st.DataObject, writer: Write
    ) -> None:
        """More categories than rows or fewer, unused ones, nulls on both sides, slices."""
        index = st.none() | st.integers(0, len(values) - 1)
        indices = data.draw(st.lists(index, max_size=12))
        start = data.draw(st.integers(0, 3))
        rows = [None if i is None else values[i] for i in indices][start:]
        array = categories(indices, pa.array(values, pa.string()))[start:]
        assert write(array, writer) == write(pa.array(rows, pa.string()), writer)

    @pytest.mark.parametrize("indices", [[1], [1, 0, 1, None, 1]], ids=["few rows", "more rows"])
    @pytest.mark.parametrize(
        "values",
        [
            pytest.param(pa.array(["a", 'é"'], pa.string_view()), id="text views"),
            pytest.param(pa.array([2, 3]), id="integers"),
            pytest.param(pa.array([0.5, 3.0]), id="floats"),
            pytest.param(pa.array([dt.date(2024, 1, 1), dt.date(2024, 1, 2)]), id="dates"),
            pytest.param(pa.array([["a"], ["b", None]]), id="lists"),
            pytest.param(pa.array([{"a": 1}, {"a": None}]), id="structs"),
        ],
    )
    def test_categories_of_any_type(self, values: pa.Array, indices: list[int | None]) -> None:
        """Each row is written as its category is."""
        written = write(values)
        expected = [None if i is None else written[i] for i in indices]
        assert write(categories(indices, values)) == expected

    def test_only_rows_can_be_wrong(self) -> None:
        """An unused category does no harm; a used one is refused at the first row that has it."""
        values = pa.array([0.5, math.nan])
        assert write(categories([0, 0, None], values)) == ["0.5", "0.5", None]
        expected = (2, "is nan, which JSON cannot hold")
        assert problem(to_json, categories([0, None, 1, 1], values)) == expected
        assert problem(to_json, categories([None, 0, 1], values)) == expected

    def test_pandas_categoricals(self) -> None:
        """A pandas categorical is decoded, its missing values null."""
        array = pa.array(pd.Categorical(["b", None, "a", "b"], categories=["b", "x", "a"]))
        assert write(array) == ['"b"', None, '"a"', '"b"']


class TestNested:
    """Lists, structs and maps are compact JSON."""

    @given(data=st.data(), typed=typed_values(), start=st.integers(0, 3))
    def test_any_nesting(self, data: st.DataObject, typed: Any, start: int) -> None:
        """Whatever the depth, the meaning is that of ``json.dumps`` of the rows."""
        kind, values = typed
        rows = data.draw(st.lists(st.none() | values, max_size=6))
        array = pa.array(rows, kind)[start:]
        written = write(array)
        assert reread(written) == oracle(array.to_pylist())
        if "float" not in str(kind) and "double" not in str(kind):
            assert written == oracle(array.to_pylist())

    def test_lists_of_structs(self) -> None:
        """A conversation, or anything like it, written by hand."""
        expected = ['[{"a":1,"b":["x\\"",null]}]', None, "[]", '[null,{"a":null,"b":null}]']
        assert write(MIXED) == write(MIXED, to_prompt) == expected
        assert write(MIXED[1:3]) == expected[1:3]
        as_text = [
            None if row is None else row.replace("\\", "\\\\").replace('"', '\\"')
            for row in expected
        ]
        assert write(MIXED, to_text) == as_text

    @pytest.mark.parametrize(
        "kind",
        [
            pa.list_(pa.string()), pa.large_list(pa.string()), pa.list_(pa.string_view()),
            pa.list_(pa.string(), 2), pa.list_(pa.string_view(), 2),
            pa.list_view(pa.string()), pa.large_list_view(pa.string_view()),
            pa.list_(pa.dictionary(pa.int8(), pa.string())),
        ],
        ids=str,
    )  # fmt: skip
    def test_each_kind_of_list(self, kind: pa.DataType) -> None:
        """All of Arrow's list types give the same, sliced too."""
        rows = [["a", None], None, ["é", '"'], [None, None]]
        array = pa.array(rows, kind)
        assert write(array) == oracle(rows)
        assert write(array[1:]) == oracle(rows[1:])
        assert write(array[1:2]) == [None]

    @pytest.mark.parametrize(
        ("kind", "value", "text"),
        [
            (pa.decimal128(5, 2), Decimal("1.50"), '"1.50"'),
            (pa.date32(), dt.date(2024, 2, 29), '"2024-02-29"'),
            (pa.timestamp("us"), dt.datetime(2024, 1, 2, 3, 4, 5), '"2024-01-02T03:04:05"'),
            (pa.float64(), 3.0, "3"),
            (pa.float32(), 0.1, "0.1"),
            (pa.bool_(), True, "true"),
            (pa.uuid(), uuid.UUID(int=5), '"00000000-0000-0000-0000-000000000005"'),
            (pa.string_view(), "a\n", '"a\\n"'),
        ],
        ids=str,
    )
    def test_values_inside(self, kind: pa.DataType, value: Any, text: str) -> None:
        """A value inside lists, structs and maps is written as in a column of its own."""
        storage = pa.array([value.bytes], pa.binary(16)) if kind == pa.uuid() else None
        item = pa.array([value], kind) if storage is None else kind.wrap_array(storage)
        assert write(item) == [text]
        lists = pa.ListArray.from_arrays([0, 0, 1], item)
        assert write(lists) == ["[]", f"[{text}]"]
        assert write(pa.StructArray.from_arrays([item], ["k"])) == [f'{{"k":{text}}}']
        maps = pa.MapArray.from_arrays([0, 0, 1], pa.array(["k"]), item)
        assert write(maps) == ["{}", f'{{"k":{text}}}']

    def test_maps(self) -> None:
        """Maps are objects, their keys always text."""
        array = pa.array(
            [[("a", 1), ('b"', None)], None, [], [("é", 2)]], pa.map_(pa.string(), pa.int64())
        )
        expected = ['{"a":1,"b\\"":null}', None, "{}", '{"é":2}']
        assert write(array) == expected
        assert write(array[1:]) == expected[1:]
        assert write(array[3:]) == expected[3:]

    @pytest.mark.parametrize(
        ("kind", "key", "text"),
        [
            (pa.int64(), 5, "5"),
            (pa.bool_(), True, "true"),
            (pa.date32(), dt.date(2024, 1, 1), "2024-01-01"),
            (pa.float64(), 2.0, "2"),
        ],
        ids=str,
    )
    def test_keys_of_maps(self, kind: pa.DataType, key: Any, text: str) -> None:
        """Keys that are no text become text."""
        array = pa.array([[(key, "v")]], pa.map_(kind, pa.string()))
        assert write(array) == [f'{{"{text}":"v"}}']

    def test_structs_without_fields(self) -> None:
        """An object may be empty."""
        assert write(pa.array([{}, None, {}], pa.struct([]))) == ["{}", None, "{}"]

    def test_names_of_fields_are_escaped(self) -> None:
        """A field's name is text as well."""
        array = pa.array([{'a"\n': 1, "é": None}])
        assert write(array) == ['{"a\\"\\n":1,"é":null}']

    def test_what_a_null_hides_is_not_written(self) -> None:
        """The fields under a missing struct stay unread, were they NaN or not."""
        fields = [pa.array([math.nan, 1.0])]
        structs = pa.StructArray.from_arrays(fields, ["a"], mask=pa.array([True, False]))
        assert write(structs) == [None, '{"a":1}']
        lists = pa.ListArray.from_arrays(
            pa.array([0, 1, 2]), pa.array([math.nan, 1.0]), mask=pa.array([True, False])
        )
        assert write(lists) == [None, "[1]"]

    @pytest.mark.parametrize("writer", WRITERS)
    @pytest.mark.parametrize(
        ("array", "index", "said"),
        [
            (pa.array([[1.0], [], None, [2.0, math.nan]]), 3, f"{HOLDS} is nan"),
            (pa.array([[[1.0]], [], [[2.0], [math.inf]]]), 2, f"{HOLDS} {HOLDS} is inf"),
            (pa.array([{"a": 1.0}, None, {"a": math.nan}]), 2, "is nan"),
            (pa.array([[{"a": math.nan}]]), 0, f"{HOLDS} is nan"),
            (pa.array([[], [("k", -math.inf)]], TO_FLOATS), 1, f"{HOLDS} is -inf"),
        ],
        ids=["list", "list of lists", "struct", "list of structs", "map"],
    )  # fmt: skip
    def test_no_nan_inside(self, writer: Write, array: pa.Array, index: int, said: str) -> None:
        """NaN and infinities are refused at any depth, and it is the row that is named."""
        assert problem(writer, array) == (index, f"{said}, which JSON cannot hold")
        assert problem(writer, pa.concat_arrays([array[:1], array])[1:])[0] == index

    def test_what_is_not_utf8_inside(self) -> None:
        """Bytes that are no text are found inside lists, and the row is named."""
        texts = pa.array([b"a", b"b", b"\xff"], pa.binary()).view(pa.string())
        lists = pa.ListArray.from_arrays([0, 2, 2, 3], texts)
        said = f"{HOLDS} {NOT_UTF8}"
        assert problem(to_json, lists) == (2, said)


class TestExtensions:
    """Types that Arrow builds on others."""

    IDS = (uuid.UUID(int=0), None, uuid.UUID("12345678-9abc-def0-1234-56789abcdef0"))

    def test_uuids(self) -> None:
        """A UUID is text in its usual form."""
        storage = pa.array([None if i is None else i.bytes for i in self.IDS], pa.binary(16))
        array = pa.uuid().wrap_array(storage)
        texts = [None if i is None else str(i) for i in self.IDS]
        assert write(array) == write(array, to_prompt) == oracle(texts)
        assert write(array, to_text) == write(array, to_ids) == texts
        assert write(array[2:]) == oracle(texts[2:])

    @pytest.mark.parametrize("kind", [pa.string(), pa.large_string()], ids=str)
    @pytest.mark.skipif(not hasattr(pa, "json_"), reason="this pyarrow has no such type")
    def test_json(self, kind: pa.DataType) -> None:
        """JSON of another program keeps its meaning, and loses white space and line ends."""
        rows = [
            '{"a": [1,\n 0.5, null],\r\n"b": "\\u00e9\\n"}',
            None,
            '"x"',
            " true ",
            "null",
            "[]",
        ]
        array = pa.json_(kind).wrap_array(pa.array(rows, kind))
        expected = ['{"a":[1,0.5,null],"b":"é\\n"}', None, '"x"', "true", "null", "[]"]
        assert write(array) == expected
        assert write(array[2:4]) == expected[2:4]
        inside = [None if row is None else compact(row)[1:-1] for row in expected]
        assert write(array, to_text) == [*inside[:2], "x", *inside[3:]]

    @pytest.mark.parametrize(
        "row", ["{", "", "NaN", "[Infinity]", "1e999", "[" * 100_000, '"\\ud800"']
    )
    @pytest.mark.skipif(not hasattr(pa, "json_"), reason="this pyarrow has no such type")
    def test_what_is_not_json(self, row: str) -> None:
        """JSON that is none, or that UTF-8 cannot hold, is refused with its row."""
        array = pa.json_().wrap_array(pa.array(["1", None, row], pa.string()))
        index, said = problem(to_json, array)
        assert index == 2
        assert said.startswith("is not JSON: ")

    def test_ready_json(self) -> None:
        """What already is JSON passes as it is."""
        array = json_text(['{"a":1}', None, '"x"'])
        assert write(array) == ['{"a":1}', None, '"x"']

    def test_ready_json_inside_text(self) -> None:
        """Inside a text a string loses its quotes, and all else is written out, escaped."""
        array = json_text(['"a\\"é"', '{"k":"v\\n"}', None, "5", "true", '""', "[]"])
        inside = ['a\\"é', '{\\"k\\":\\"v\\\\n\\"}', None, "5", "true", "", "[]"]
        assert write(array, to_text) == inside
        assert write(array[1:3], to_text) == inside[1:3]

    def test_ready_json_as_a_prompt(self) -> None:
        """A prompt is a text or a list of parts; words become text."""
        array = json_text(['"a"', '[{"type":"text"}]', None, "5", "true", '{"a":1}'])
        expected = ['"a"', '[{"type":"text"}]', None, '"5"', '"true"', '{"a":1}']
        assert write(array, to_prompt) == expected

    @pytest.mark.parametrize("writer", [*WRITERS, to_ids])
    def test_runs(self, writer: Write) -> None:
        """A run-end encoded column is what its rows say."""
        array = pa.RunEndEncodedArray.from_arrays([2, 3, 4], pa.array(['a"', None, "b"]))
        expected = write(pa.array(['a"', 'a"', None, "b"]), writer)
        assert write(array, writer) == expected
        assert write(array[1:], writer) == expected[1:]


class TestEmptyAndMissing:
    """Columns without rows or without values are columns."""

    @pytest.mark.parametrize("writer", WRITERS)
    @pytest.mark.parametrize("name", TYPES)
    def test_no_rows(self, writer: Write, name: str) -> None:
        """No rows give no rows, for every type, an empty slice too."""
        assert write(pa.array([], TYPES[name]), writer) == []
        assert write(pa.nulls(3, TYPES[name])[3:], writer) == []

    @pytest.mark.parametrize("writer", WRITERS)
    @pytest.mark.parametrize("name", TYPES)
    def test_only_nulls(self, writer: Write, name: str) -> None:
        """A missing value is null, never text."""
        assert write(pa.nulls(3, TYPES[name]), writer) == [None, None, None]
        assert write(pa.nulls(3, TYPES[name])[1:], writer) == [None, None]


class TestDumps:
    """Constants are compact JSON."""

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        )
    )
    def test_it_reads_back(self, value: Any) -> None:
        """Any value reads back equal, and there is no white space between its parts."""
        assert json.loads(dumps(value)) == value
        assert dumps(value) == compact(value)

    @pytest.mark.parametrize("value", [math.nan, [math.inf], {"a": -math.inf}])
    def test_no_nan(self, value: Any) -> None:
        """NaN and infinities are not JSON."""
        with pytest.raises(ValueError, match=r"^Out of range float values are not JSON compliant"):
            dumps(value)
