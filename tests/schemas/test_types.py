"""The types of answers' columns come from the schema, whatever the answers are."""

import json
from datetime import UTC, date, datetime
from typing import Any, Literal, Optional

import pyarrow as pa
import pytest
from pydantic import BaseModel

from batch_frames.errors import TemplateError
from batch_frames.schemas.answers import Answers
from batch_frames.schemas.strict import answer_schema, to_schema
from tests.support.answers import NULL, TEXT, Node, an_object, one, read


class Mood(BaseModel):
    """A model in a model."""

    tone: Literal["calm", "happy", "angry"]
    since: date | None = None


class Rating(BaseModel):
    """A model with all that is common."""

    stars: int
    complaint: str | None = None
    mood: Mood
    moods: list[Mood] = []
    second: Optional[Mood] = None  # noqa: UP045
    kind: Literal["a", "b"] | None = None
    on: date
    at: datetime | None = None
    counts: dict[str, int] = {}


class Tree(BaseModel):
    """A model that holds itself."""

    value: int
    children: list["Tree"]
    parent: Optional["Tree"] = None


def types_of(schema: Node) -> dict[str, pa.DataType]:
    """Give the types of the columns by their names."""
    answers = Answers(schema)
    return dict(zip(answers.names, answers.types, strict=True))


def category(type: pa.DataType) -> pa.DataType:
    """Give the type of an enum's column."""
    return pa.dictionary(pa.int32(), type)


class TestTypes:
    """The type of a column follows from the schema alone."""

    @pytest.mark.parametrize(
        ("node", "type"),
        [
            ({"type": "string"}, TEXT),
            ({"type": "integer"}, pa.int64()),
            ({"type": "number"}, pa.float64()),
            ({"type": "boolean"}, pa.bool_()),
            ({"type": ["null", "integer"]}, pa.int64()),
            ({"anyOf": [{"type": "integer"}, NULL], "default": None}, pa.int64()),
            ({"oneOf": [NULL, {"enum": ["a"]}]}, category(TEXT)),
            ({"anyOf": [{"type": ["integer", "null"]}]}, pa.int64()),
            ({"allOf": [{"$ref": "#/$defs/count"}], "title": "Count"}, pa.int64()),
            ({"$ref": "#/definitions/a~1b", "description": "another"}, TEXT),
            ({"enum": ["b", "a"]}, category(TEXT)),
            ({"enum": [1, 2, None]}, category(pa.int64())),
            ({"type": "number", "enum": [1, 0.5]}, category(pa.float64())),
            ({"enum": [2**64, 1]}, category(pa.float64())),
            ({"enum": ["a", 1]}, category(TEXT)),
            ({"enum": [True, False]}, pa.bool_()),
            ({"const": "a"}, category(TEXT)),
            ({"const": None}, TEXT),
            ({"type": "string", "format": "date"}, pa.date32()),
            ({"type": ["string", "null"], "format": "date-time"}, pa.timestamp("us", "UTC")),
            ({"type": "string", "format": "email"}, TEXT),
            ({"type": "array", "items": {"type": "boolean"}}, pa.large_list(pa.bool_())),
            ({"type": "array", "items": {"enum": ["a"]}}, pa.large_list(TEXT)),
            ({"type": "array", "items": {"type": "string", "format": "date"}}, pa.large_list(TEXT)),
            ({"type": "array", "items": {}}, pa.large_list(TEXT)),
            ({"type": "array"}, TEXT),
            (an_object(y={"type": "integer"}), pa.struct([("y", pa.int64())])),
            ({"properties": {"y": {"const": 1}}}, pa.struct([("y", pa.int64())])),
            ({"type": "object"}, TEXT),
            ({"type": "object", "additionalProperties": {"type": "integer"}}, TEXT),
            ({"type": ["string", "integer"]}, TEXT),
            ({"anyOf": [{"type": "string"}, {"type": "integer"}, NULL]}, TEXT),
            ({"allOf": [{"type": "string"}, {"minLength": 1}]}, TEXT),
            ({"$ref": "#/$defs/loop"}, TEXT),
            ({"type": "null"}, TEXT),
            ({}, TEXT),
            (True, TEXT),
        ],
    )
    def test_of_a_property(self, node: Any, type: pa.DataType) -> None:
        """A column has its type whether or not there are answers."""
        schema = an_object(x=node)
        schema["$defs"] = {"count": {"type": "integer"}, "loop": {"$ref": "#/$defs/loop"}}
        schema["definitions"] = {"a/b": {"type": "string"}}
        assert types_of(schema) == {"x": type}
        read(schema, [])

    def test_null_through_what_surrounds_it(self) -> None:
        """A union with null allows it, whatever stands around the other type."""
        inner: Node = {"allOf": [{"anyOf": [{"type": "integer"}]}]}
        assert one({"anyOf": [inner, NULL]}, None) is None
        assert one({"allOf": [{"oneOf": [NULL, inner]}]}, None) is None
        assert one(inner, None) == "'x' is null, not an integer"

    def test_enums_are_complete(self) -> None:
        """The dictionary of an enum has all its values in their order, whatever was answered."""
        schema = an_object(x={"enum": ["c", "a", "b", "a"]}, y={"enum": [{"k": 1}, "a", 1.0]})
        text = pa.array(['{"x": "a", "y": {"k": 1.0}}', '{"x": "a", "y": {"k":1}}'], TEXT)
        table, _ = Answers(schema).read(text)
        (x,), (y,) = table["x"].chunks, table["y"].chunks
        assert x.dictionary.to_pylist() == ["c", "a", "b"]
        assert y.dictionary.to_pylist() == ['{"k":1}', '"a"', "1.0"]
        assert (x.to_pylist(), y.to_pylist()) == ([None, "a"], [None, '{"k":1}'])
        assert one({"enum": ["a", 1.0]}, 1) == "1.0"

    @pytest.mark.parametrize("given", ["model", "strict", "schema"])
    def test_of_a_model(self, given: str) -> None:
        """A model gives the same types by itself, in its strict form, and as a schema."""
        source = {
            "model": Rating,
            "strict": {**to_schema(Mood), "schema": Rating.model_json_schema()},
            "schema": Rating.model_json_schema(),
        }[given]
        mood = pa.struct([("tone", TEXT), ("since", TEXT)])
        assert types_of(answer_schema(source)) == {
            "stars": pa.int64(),
            "complaint": TEXT,
            "mood": mood,
            "moods": pa.large_list(mood),
            "second": mood,
            "kind": category(TEXT),
            "on": pa.date32(),
            "at": pa.timestamp("us", "UTC"),
            "counts": TEXT,
        }

    def test_answers_of_a_model(self) -> None:
        """What pydantic writes of a model is read, all of it and the least of it."""
        mood = Mood(tone="calm", since=date(2024, 2, 29))
        more: Any = {"complaint": "no", "moods": [mood, Mood(tone="angry")], "second": mood}
        more |= {"kind": "b", "at": datetime(2024, 5, 1, 12, tzinfo=UTC), "counts": {"n": 1}}
        full = Rating(stars=5, mood=mood, on=date(2024, 2, 29), **more)
        least = Rating(stars=1, mood=mood, on=date(1, 1, 1))
        texts = [least.model_dump_json(), least.model_dump_json(exclude_defaults=True)]
        schema = answer_schema(Rating)
        rows, reasons = read(schema, [full.model_dump_json(), *texts])
        assert reasons == [None, None, None]
        assert rows[0] == {
            **full.model_dump(mode="json"),
            "on": full.on,
            "at": full.at,
            "counts": '{"n":1}',
        }
        plain = {"stars": 1, "mood": {"tone": "calm", "since": "2024-02-29"}, "on": date(1, 1, 1)}
        empty = dict.fromkeys(["complaint", "second", "kind", "at"])
        assert rows[1] == {**plain, **empty, "moods": [], "counts": "{}"}
        assert rows[2] == {**plain, **empty, "moods": None, "counts": None}

    @pytest.mark.parametrize("source", [Tree, to_schema(Tree), to_schema(Tree.model_json_schema())])
    def test_recursion(self, source: Any) -> None:
        """An object inside itself is JSON text, and a schema means the same made strict."""
        schema = answer_schema(source)
        assert types_of(schema) == {
            "value": pa.int64(),
            "children": pa.large_list(TEXT),
            "parent": TEXT,
        }
        tree = Tree(value=1, children=[Tree(value=2, children=[])])
        rows, reasons = read(schema, [tree.model_dump_json()])
        assert reasons == [None]
        assert rows[0]["value"] == 1
        assert [json.loads(child)["value"] for child in rows[0]["children"]] == [2]
        assert rows[0]["parent"] is None

    @pytest.mark.parametrize(
        ("text", "moment"),
        [
            ("2024-05-01T12:00:00Z", datetime(2024, 5, 1, 12)),
            ("2024-05-01t12:00:00z", datetime(2024, 5, 1, 12)),
            ("2024-05-01T12:00:00", datetime(2024, 5, 1, 12)),
            ("2024-05-01T12:00", datetime(2024, 5, 1, 12)),
            ("2024-05-01T12:00:00.5+02:00", datetime(2024, 5, 1, 10, 0, 0, 500_000)),
            ("2024-05-01T12:00:00.123456789Z", datetime(2024, 5, 1, 12, 0, 0, 123_456)),
            ("2024-02-29T00:30:00+0100", datetime(2024, 2, 28, 23, 30)),
            ("9999-12-31T23:59:59", datetime(9999, 12, 31, 23, 59, 59)),
        ],
    )
    def test_times(self, text: str, moment: datetime) -> None:
        """Times are read in their zone, and in UTC without one."""
        node = {"type": "string", "format": "date-time"}
        assert one(node, text) == moment.replace(tzinfo=UTC)

    @pytest.mark.parametrize("text", ["0001-01-01T00:00:00+01:00", "2024-05-01T25:00:00Z"])
    def test_times_that_are_none(self, text: str) -> None:
        """A time before the first one, or at an hour that no day has, is none."""
        reason = f"'x' is '{text}', not a time like 2026-03-01T09:30:00Z"
        assert one({"type": "string", "format": "date-time"}, text) == reason

    def test_no_properties(self) -> None:
        """An object without properties has no columns, and answers are checked all the same."""
        rows, reasons = read(an_object(), ["{}", '{"x": 1}', "5", None])
        assert reasons == [None, None, "the answer is 5, not an object", None]
        assert rows == [{}] * 4


class TestRefused:
    """A schema that cannot be one of answers is refused at once."""

    @pytest.mark.parametrize(
        "schema",
        [
            {},
            {"type": "array", "items": {}},
            {"type": ["object", "null"], "properties": {}},
            {"anyOf": [{"type": "object", "properties": {}}, NULL]},
            {"$ref": "#"},
        ],
    )
    def test_roots(self, schema: Node) -> None:
        """The root must be an object and nothing else."""
        with pytest.raises(TemplateError) as caught:
            Answers(schema)
        expected = "json_schema: the root is not an object; make it a property of an object"
        assert str(caught.value) == expected

    @pytest.mark.parametrize("reference", ["#/$defs/Item", "Item", "https://example.org/item", 5])
    def test_references(self, reference: Any) -> None:
        """A reference must lead to a part of the schema."""
        with pytest.raises(TemplateError) as caught:
            Answers(an_object(x={"$ref": reference}))
        assert str(caught.value) == (
            f"json_schema: the reference {reference!r} leads nowhere; it must name a part of the "
            "schema, as in '#/$defs/Item'"
        )


def test_objects_that_all_refer_to_each_other_stay_few() -> None:
    """Written out in all orders, a dozen of them would be half a billion; they become JSON text."""
    names = [f"M{number}" for number in range(12)]
    schema = {
        "$ref": "#/$defs/M0",
        "$defs": {
            name: {
                "type": "object",
                "properties": {other: {"$ref": f"#/$defs/{other}"} for other in names},
            }
            for name in names
        },
    }
    types = [str(type_) for type_ in Answers(schema).types]
    assert len(types) == len(names)
    assert sum(map(len, types)) < 100_000


def doubling(levels: int) -> Node:
    """Make a schema in which each level refers to the next one twice."""
    parts: dict[str, Node] = {
        f"D{n}": an_object(a={"$ref": f"#/$defs/D{n + 1}"}, b={"$ref": f"#/$defs/D{n + 1}"})
        for n in range(levels)
    }
    parts[f"D{levels}"] = {"type": "integer"}
    return {**an_object(x={"$ref": "#/$defs/D0"}), "$defs": parts}


def chained(levels: int) -> Node:
    """Make a schema in which each level refers to the next one."""
    parts = {f"D{n}": an_object(a={"$ref": f"#/$defs/D{n + 1}"}) for n in range(levels)}
    last: dict[str, Node] = {f"D{levels}": {"type": "integer"}}
    return {**an_object(x={"$ref": "#/$defs/D0"}), "$defs": {**parts, **last}}


@pytest.mark.parametrize("schema", [doubling(13), doubling(60), chained(59), chained(5_000)])
def test_references_that_make_too_many_parts_are_refused(schema: Node) -> None:
    """A schema of some kilobytes is not written out to millions of columns, or levels."""
    with pytest.raises(TemplateError) as caught:
        Answers(schema)
    assert str(caught.value) == (
        "json_schema: it is nested too deep, or too large, when its references are written out"
    )


def test_answers_as_deep_as_arrow_can_hold_are_read() -> None:
    """A schema with one level less than is refused reads its answers."""
    answer: Any = 1
    for _ in range(58):
        answer = {"a": answer}
    table, reasons = Answers(chained(58)).read(pa.array([json.dumps({"x": answer})], TEXT))
    assert (table.to_pylist(), reasons.to_pylist()) == ([{"x": answer}], [None])


def test_references_that_double_are_followed() -> None:
    """A part that is referred to twice has its columns twice."""
    assert str(Answers(doubling(2)).types[0]) == (
        "struct<a: struct<a: int64, b: int64>, b: struct<a: int64, b: int64>>"
    )
