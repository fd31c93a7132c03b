"""Schemas checked by the rules of strict mode: each rule with what is taken and what is refused."""

import json
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from batch_frames.schemas import strict_problems, to_schema

TEXT: dict[str, Any] = {"type": "string"}

Schema = dict[str, Any]


def closed(**properties: Any) -> Schema:
    """Make an object as strict mode wants it."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def nested(levels: int) -> Schema:
    """Make objects in objects, some levels below the root."""
    schema = closed(a=TEXT)
    for _ in range(levels):
        schema = closed(a=schema)
    return schema


MATH = {
    "type": "object",
    "properties": {
        "steps": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"explanation": TEXT, "output": TEXT},
                "required": ["explanation", "output"],
                "additionalProperties": False,
            },
        },
        "final_answer": TEXT,
    },
    "required": ["steps", "final_answer"],
    "additionalProperties": False,
}
"""As in OpenAI's guide, like the next ones."""

LIST = {
    **closed(linked_list={"$ref": "#/$defs/node"}),
    "$defs": {
        "node": closed(
            value={"type": "number"}, next={"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}
        )
    },
}

WEATHER = closed(
    location={"type": "string", "description": "Where", "pattern": "^.+$"},
    unit={"type": ["string", "null"], "enum": ["F", "C", None]},
    degrees={"type": "number", "minimum": -130, "maximum": 130},
    emails={"type": "array", "items": {"type": "string", "format": "email"}, "minItems": 1},
)

CONSTANT = closed(kind={"const": "x"}, unit={"enum": ["F", "C"]})

RECURSIVE = closed(children={"type": "array", "items": {"$ref": "#"}})


@pytest.mark.parametrize("schema", [MATH, LIST, WEATHER, CONSTANT, RECURSIVE, closed(), nested(10)])
def test_documented_schemas_are_taken(schema: Schema) -> None:
    """What the guide shows has no problem."""
    assert strict_problems(schema) == []


OPEN = "'additionalProperties' must be false"
ROOT = "the root must be an object, without 'anyOf'"
TYPES = "there are string, number, integer, boolean, object, array, null"
NO_OBJECT = "'properties' must be an object, and 'required' an array"
RULES: dict[str, tuple[Schema, Any, tuple[str, str]]] = {
    "root is an object": (
        closed(a={"type": "array", "items": TEXT}), {"type": "array", "items": TEXT}, ("", ROOT),
    ),
    "root is no anyOf": (
        closed(a={"anyOf": [closed(), TEXT]}), {**closed(), "anyOf": [closed()]}, ("", ROOT),
    ),
    "objects are closed": (
        closed(a=closed()),
        closed(a={"type": "object", "properties": {}, "required": []}),
        ("properties.a", OPEN),
    ),
    "objects that may be null are closed": (
        closed(a={**closed(), "type": ["object", "null"]}),
        closed(a={"type": ["object", "null"]}),
        ("properties.a", OPEN),
    ),
    "all properties are required": (
        closed(a=TEXT, b=TEXT),
        {**closed(a=TEXT, b=TEXT), "required": ["b"]},
        ("", "'required' must list all properties: 'a'"),
    ),
    "only properties are required": (
        closed(a=TEXT),
        {**closed(a=TEXT), "required": ["a", "b"]},
        ("", "'required' lists what is no property: 'b'"),
    ),
    "no default": (
        closed(default=TEXT),
        closed(a={"anyOf": [TEXT, {**TEXT, "default": "x"}]}),
        ("properties.a.anyOf.1", "'default' is not permitted"),
    ),
    "a reference is alone": (
        LIST,
        {**LIST, "properties": {"linked_list": {"$ref": "#/$defs/node", "title": "List"}}},
        ("properties.linked_list", "'$ref' must be alone, without 'title'"),
    ),
    "a reference leads somewhere": (
        RECURSIVE,
        closed(a={"$ref": "#/$defs/none"}),
        ("properties.a", "'#/$defs/none' leads nowhere"),
    ),
    "parts have a type": (
        closed(a={"type": "string", "pattern": "x"}),
        closed(a={"pattern": "x"}),
        ("properties.a", "there is no 'type'"),
    ),
    "types are known": (
        closed(**{
            name: {"type": name}
            for name in ("string", "number", "integer", "boolean", "null")
        }),
        closed(a={"type": "text"}),
        ("properties.a", f"there is no type 'text'; {TYPES}"),
    ),
    "types of a list are known": (
        closed(a={"type": ["string", "null"]}),
        closed(a={"type": ["string", "none"]}),
        ("properties.a", f"there is no type 'none'; {TYPES}"),
    ),
    "properties are an object": (
        closed(), {**closed(), "properties": ["a"]}, ("", NO_OBJECT),
    ),
    "required is an array": (
        closed(), {**closed(), "required": "a"}, ("", NO_OBJECT),
    ),
    "there is a schema": (closed(), None, ("", "None is not a schema")),
    "items are checked": (
        closed(a={"type": "array", "items": closed()}),
        closed(a={"type": "array", "items": {**closed(), "additionalProperties": True}}),
        ("properties.a.items", OPEN),
    ),
    "items of a tuple are checked": (
        closed(a={"type": "array", "prefixItems": [TEXT, closed()]}),
        closed(a={"type": "array", "prefixItems": [TEXT, {"type": "object"}]}),
        ("properties.a.prefixItems.1", OPEN),
    ),
    "older definitions are checked": (
        {**closed(a={"$ref": "#/definitions/b"}), "definitions": {"b": TEXT}},
        {**closed(a={"$ref": "#/definitions/b"}), "definitions": {"b": {}}},
        ("definitions.b", "there is no 'type'"),
    ),
    "arrays have items": (
        closed(a={"type": "array", "items": TEXT}),
        closed(a={"type": "array"}),
        ("properties.a", "an array must have 'items'"),
    ),
    "parts are schemas": (
        closed(a=TEXT), closed(a=True), ("properties.a", "True is not a schema"),
    ),
    "definitions are checked": (
        LIST,
        {**closed(a={"$ref": "#/$defs/b"}), "$defs": {"b": {"type": "array"}}},
        ("$defs.b", "an array must have 'items'"),
    ),
    "levels": (nested(10), nested(11), ("", "11 levels of nesting, at most 10")),
    "levels of lists and choices": (
        closed(a={"type": "array", "items": {"anyOf": [nested(9), {"type": "null"}]}}),
        closed(a={"type": "array", "items": {"anyOf": [nested(10), {"type": "null"}]}}),
        ("", "11 levels of nesting, at most 10"),
    ),
    "properties of all objects": (
        closed(a=closed(**{f"p{n}": TEXT for n in range(4_999)})),
        closed(a=closed(**{f"p{n}": TEXT for n in range(5_000)})),
        ("", "5,001 properties, at most 5,000"),
    ),
    "values of all enums": (
        closed(**{p: {**TEXT, "enum": [f"{n}" for n in range(500)]} for p in "ab"}),
        closed(**{p: {**TEXT, "enum": [f"{n}" for n in range(501)]} for p in "ab"}),
        ("", "1,002 values of 'enum', at most 1,000"),
    ),
    "characters of values and definitions": (
        {**closed(a={**TEXT, "enum": ["v" * 119_990]}), "$defs": {"d" * 9: TEXT}},
        {**closed(a={**TEXT, "enum": ["v" * 119_990]}), "$defs": {"d" * 10: TEXT}},
        ("", "120,001 characters of names and values, at most 120,000"),
    ),
    "properties": (
        closed(**{f"p{n}": TEXT for n in range(5_000)}),
        closed(**{f"p{n}": TEXT for n in range(5_001)}),
        ("", "5,001 properties, at most 5,000"),
    ),
    "values": (
        closed(a={**TEXT, "enum": [f"{n}" for n in range(1_000)]}),
        closed(a={**TEXT, "enum": [f"{n}" for n in range(1_001)]}),
        ("", "1,001 values of 'enum', at most 1,000"),
    ),
    "characters": (
        closed(**{"p" * 120_000: TEXT}),
        closed(**{"p" * 119_990: {**TEXT, "const": "c" * 11}}),
        ("", "120,001 characters of names and values, at most 120,000"),
    ),
    "few values are of any length": (
        closed(a={**TEXT, "enum": ["v" * 61] * 250}),
        closed(a={**TEXT, "enum": ["v" * 61] * 251}),
        (
            "properties.a",
            "the values of 'enum' have 15,311 characters, "
            "at most 15,000 characters where it has more than 250",
        ),
    ),
    "characters of one enum": (
        closed(a={**TEXT, "enum": ["v" * 50] * 300}),
        closed(a={**TEXT, "enum": ["v" * 60] * 251}),
        (
            "properties.a",
            "the values of 'enum' have 15,060 characters, "
            "at most 15,000 characters where it has more than 250",
        ),
    ),
    **{
        f"no {key}": (
            closed(**{key: TEXT}),
            closed(a={**TEXT, key: value}),
            ("properties.a", f"'{key}' is not permitted"),
        )
        for key, value in {
            "allOf": [TEXT], "oneOf": [TEXT], "not": TEXT, "if": TEXT, "then": TEXT, "else": TEXT,
            "dependentRequired": {}, "dependentSchemas": {}, "uniqueItems": True,
        }.items()
    },
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_takes_and_refuses(rule: str) -> None:
    """Next to a schema that is taken, one is refused for just this rule, with its place."""
    taken, refused, problem = RULES[rule]
    assert strict_problems(taken) == []
    assert strict_problems(refused) == [problem]


@pytest.mark.parametrize(
    "schema",
    [None, [], "x", {"properties": 5}, {"required": [[]]}, {"enum": 5}, {"anyOf": {}, "items": 0}],
)
def test_what_is_no_schema_is_refused(schema: Any) -> None:
    """Whatever stands in place of a schema, there is a problem and no exception."""
    assert strict_problems(schema)


def test_deep_schemas_are_checked() -> None:
    """A schema that is deeper than Python can recurse is refused for its levels alone."""
    assert strict_problems(nested(4_000)) == [("", "4,000 levels of nesting, at most 10")]


class Item(BaseModel):
    """A part of the next one."""

    name: str = Field(max_length=5)
    kind: Literal["a", "b"] = "a"


class Rating(BaseModel):
    """Fields with defaults, a reference with a description, and a list."""

    stars: int | None = None
    item: Item = Field(description="What is rated")
    others: list[Item] = []


def test_schemas_made_strict_are_taken() -> None:
    """What this package makes strict has no problem."""
    assert strict_problems(to_schema(Rating)["schema"]) == []
    bare = json.loads(json.dumps(Rating.model_json_schema()))
    assert strict_problems(bare) != []
    assert strict_problems(to_schema(bare)["schema"]) == []


class Tags(BaseModel):
    """Sets, which JSON schemas have as arrays of unique items."""

    tags: set[str]
    numbers: frozenset[int]


def test_sets_made_strict_are_arrays() -> None:
    """That the items of an array are unique, which strict mode refuses, is dropped."""
    schema = to_schema(Tags)["schema"]
    assert strict_problems(schema) == []
    assert schema["properties"]["tags"] == {"items": TEXT, "title": "Tags", "type": "array"}


def test_the_only_part_of_all_of_takes_its_place() -> None:
    """One part means the same without ``allOf``; several, or those that clash, stay as they are."""
    short = {**TEXT, "maxLength": 5}
    count = {"$ref": "#/$defs/count"}
    cases: list[tuple[Schema, Schema]] = [
        ({"allOf": [{"allOf": [short]}], "title": "T"}, {**short, "title": "T"}),
        ({"allOf": [{**TEXT, "title": "X"}], **TEXT, "title": "T"}, {**TEXT, "title": "T"}),
        ({"allOf": [count]}, count),
        ({"allOf": [count], "description": "D"}, {"anyOf": [count], "description": "D"}),
        ({"allOf": [{"properties": {"x": TEXT}, "required": ["x"]}]}, closed(x=TEXT)),
    ]
    kept = [
        {"allOf": [short], **TEXT, "maxLength": 3},
        {"allOf": [count], "anyOf": [TEXT]},
        {"allOf": [TEXT, {"maxLength": 5}]},
    ]
    for part, made in cases + [(part, part) for part in kept]:
        given = {**closed(a=part), "$defs": {"count": {"type": "integer"}}}
        schema = to_schema(given)["schema"]
        assert schema["properties"] == {"a": made}
        assert bool(strict_problems(schema)) == (part in kept)
