"""pydantic models and bare schemas become what the service takes in strict mode."""

import copy
import enum
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Any, Generic, Literal, Optional, TypeVar

import pyarrow as pa
import pytest
from pydantic import BaseModel, ConfigDict, Field, RootModel

from batch_frames import BatchCreator
from batch_frames.arrow import TEXT, dumps
from batch_frames.errors import TemplateError
from batch_frames.schemas import Answers
from batch_frames.schemas.strict import answer_schema, to_schema

SCHEMAS = ("properties", "$defs")
FORBIDDEN = ("default", "allOf", "not", "if", "patternProperties", "dependentRequired")
ITEM = TypeVar("ITEM")


class Mood(enum.Enum):
    """Three moods."""

    GOOD = "good"
    SO_SO = "so-so"
    BAD = "bad"


class Score(BaseModel):
    """How many points."""

    points: int
    best: int = 5


class Flat(BaseModel):
    """Plain fields, with defaults and without."""

    text: str
    number: float = 0.5
    flag: bool = True
    words: list[str] = ["a"]
    maybe: str | None = None
    older: Optional[int] = Field(None, description="in years")  # noqa: UP045
    kind: Literal["x", "y"] = "x"
    bounded: int = Field(3, ge=1, le=5)


class Nested(BaseModel):
    """Models in models, in lists and in unions."""

    score: Score
    described: Score = Field(description="the first")
    defaulted: Score = Score(points=1)
    scores: list[Score] = []
    listed: list[Annotated[Score, Field(description="one of them")]]
    maybe: Score | None = None
    either: Score | Flat | int = 3
    mood: Mood = Mood.GOOD
    said: Mood = Field(Mood.BAD, description="what was said")


class Tricky(BaseModel):
    """Fields named as the words of JSON Schema."""

    default: int = 3
    properties: Score
    required: list[str] = []
    items: Score | None = None
    additionalProperties: bool = True  # noqa: N815
    type: Literal["object"] = "object"
    anyOf: list[Score] = Field([], title="default")  # noqa: N815
    aliased: int = Field(1, alias="$ref")


class Node(BaseModel):
    """A tree."""

    value: int = 0
    children: list["Node"] = []
    parent: Optional["Node"] = None


class Described(BaseModel):
    """A tree that says something of its branches."""

    value: int
    children: list[Annotated["Described", Field(description="a branch")]]


class Mother(BaseModel):
    """One of two that name each other."""

    child: Optional["Child"] = None


class Child(BaseModel):
    """The other one."""

    mother: Mother = Field(description="whose child it is")


class Empty(BaseModel):
    """No fields."""


class Closed(BaseModel):
    """Closed by its own words."""

    model_config = ConfigDict(extra="forbid")
    score: Score


class Page(BaseModel, Generic[ITEM]):
    """Some items."""

    items: list[ITEM]
    more: bool = False


MODELS = [Score, Flat, Nested, Tricky, Node, Described, Mother, Child, Empty, Closed, Page[Score]]


def find(reference: str, root: Any) -> Any:
    """Follow a reference from the root."""
    assert reference.startswith("#")
    for step in reference.split("/")[1:]:
        root = root[step.replace("~1", "/").replace("~0", "~")]
    return root


def faults(node: Any, root: Any, path: str = "#") -> Iterator[str]:
    """List what strict mode would refuse, by the rules of OpenAI's guide, at any depth."""
    if isinstance(node, list):
        for number, child in enumerate(node):
            yield from faults(child, root, f"{path}/{number}")
    if not isinstance(node, dict):
        return
    yield from (f"{path} has {key}" for key in FORBIDDEN if key in node)
    if node.get("type") == "object" or "properties" in node:
        if node.get("additionalProperties") is not False:
            yield f"{path} takes other keys"
        if node.get("required") != list(node.get("properties", ())):
            yield f"{path} does not require what it has"
    if "$ref" in node:
        if set(node) != {"$ref"}:
            yield f"{path} says more beside its reference"
        if not isinstance(find(node["$ref"], root), dict):
            yield f"{path} refers to nothing"
    for key, child in node.items():
        if key in SCHEMAS:
            for name, schema in child.items():
                yield from faults(schema, root, f"{path}/{key}/{name}")
        elif key not in ("enum", "const", "examples", "required"):
            yield from faults(child, root, f"{path}/{key}")


def shape(node: Any, root: Any, depth: int = 8) -> Any:
    """Say what a schema means to a reader: references followed, words for humans left out."""
    if isinstance(node, list):
        return [shape(child, root, depth) for child in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return shape(find(node["$ref"], root), root, depth)
    if len(node.get("anyOf", ())) == 1:
        return shape(node["anyOf"][0], root, depth)
    if not depth:
        return "…"
    skipped = ("title", "description", "default", "required", "additionalProperties", "$defs")
    return {
        key: {name: shape(schema, root, depth - 1) for name, schema in child.items()}
        if key == "properties"
        else shape(child, root, depth - 1)
        for key, child in node.items()
        if key not in skipped
    }


def refusal(source: Any) -> str:
    """Give the message with which a source is refused."""
    with pytest.raises(TemplateError) as caught:
        to_schema(source)
    return str(caught.value)


class TestStrict:
    """Every object is closed and requires all it has, without defaults."""

    @pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
    def test_it_is_strict_at_any_depth(self, model: type[BaseModel]) -> None:
        """A checker that knows only the rules finds nothing."""
        schema = to_schema(model)["schema"]
        assert list(faults(schema, schema)) == []
        assert schema["type"] == "object"

    @pytest.mark.parametrize("model", [Flat, Nested, Tricky, Node], ids=lambda m: m.__name__)
    def test_the_checker_finds_faults(self, model: type[BaseModel]) -> None:
        """The same checker refuses what pydantic gives by itself."""
        schema = model.model_json_schema()
        assert list(faults(schema, schema)) != []

    @pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
    def test_the_meaning_stays(self, model: type[BaseModel]) -> None:
        """Names, types, enums and bounds of all fields are those that pydantic gives."""
        ours, given = to_schema(model)["schema"], model.model_json_schema()
        assert shape(ours, ours) == shape(given, given)

    def test_the_whole_of_a_small_one(self) -> None:
        """A schema written by hand."""
        assert to_schema(Score) == {
            "name": "Score",
            "schema": {
                "type": "object",
                "title": "Score",
                "description": "How many points.",
                "properties": {
                    "points": {"title": "Points", "type": "integer"},
                    "best": {"title": "Best", "type": "integer"},
                },
                "required": ["points", "best"],
                "additionalProperties": False,
            },
            "strict": True,
        }

    def test_optional_may_be_null(self) -> None:
        """What is ``Optional`` is required, may be null and has no default."""
        fields = to_schema(Flat)["schema"]["properties"]
        text_or_null = [{"type": "string"}, {"type": "null"}]
        assert fields["maybe"] == {"anyOf": text_or_null, "title": "Maybe"}
        number_or_null = [{"type": "integer"}, {"type": "null"}]
        expected = {"anyOf": number_or_null, "title": "Older", "description": "in years"}
        assert fields["older"] == expected

    def test_enums(self) -> None:
        """An enum keeps its values, referred to or written out."""
        schema = to_schema(Nested)["schema"]
        for name in ("mood", "said"):
            assert shape(schema["properties"][name], schema) == {
                "enum": ["good", "so-so", "bad"],
                "type": "string",
            }
        assert schema["properties"]["said"]["description"] == "what was said"

    def test_a_reference_with_a_description(self) -> None:
        """What is said beside a reference is kept, and so is what it refers to."""
        schema = to_schema(Nested)["schema"]
        fields = schema["properties"]
        assert fields["described"]["description"] == "the first"
        assert fields["listed"]["items"]["description"] == "one of them"
        for node in (fields["score"], fields["described"], fields["listed"]["items"]):
            assert list(shape(node, schema)["properties"]) == ["points", "best"]

    def test_fields_named_as_keywords(self) -> None:
        """A field may be called ``default`` or ``required`` and is a field still."""
        schema = to_schema(Tricky)["schema"]
        names = ["default", "properties", "required", "items"]
        names += ["additionalProperties", "type", "anyOf", "$ref"]
        assert schema["required"] == list(schema["properties"]) == names

    def test_recursion_at_the_root(self) -> None:
        """A model of itself has an object at its root, and references inside."""
        schema = to_schema(Node)["schema"]
        assert schema["properties"]["children"]["items"] == {"$ref": "#/$defs/Node"}
        assert "$ref" not in schema

    @pytest.mark.parametrize(
        ("model", "name"),
        [
            (Score, "Score"),
            (Page[Score], "Page_Score_"),
            (type("Ä" + "x" * 80, (Score,), {}), "_" + "x" * 63),
        ],
        ids=["plain", "generic", "long"],
    )
    def test_names(self, model: type[BaseModel], name: str) -> None:
        """A name has at most 64 letters, digits, ``_`` and ``-``, as the service wants."""
        schema = to_schema(model)
        assert schema["name"] == name
        assert list(schema) == ["name", "schema", "strict"]

    def test_the_model_is_not_changed(self) -> None:
        """pydantic's own schema stays what it was, and each call gives a new one."""
        before = copy.deepcopy(Nested.model_json_schema())
        first = to_schema(Nested)
        first["schema"]["$defs"].clear()
        assert Nested.model_json_schema() == before
        assert to_schema(Nested)["schema"]["$defs"] != {}

    def test_in_a_request(self) -> None:
        """The schema stands in the line as it is."""
        creator = BatchCreator("m", "low", Nested, system_prompt=None)
        creator.add_entry("a", "Hi")
        request = creator.preview_entry()
        assert request["body"]["response_format"] == {
            "type": "json_schema",
            "json_schema": json.loads(json.dumps(to_schema(Nested))),
        }


class TestRefused:
    """What strict mode forbids is refused before anything is sent."""

    KEYS = (
        "takes any keys, which strict mode forbids; "
        "use a model with named fields, or a list of key and value"
    )

    @pytest.mark.parametrize(
        "kind", [dict, dict[str, int], dict[str, Any], dict[str, Score], dict[str, int] | None]
    )
    def test_dicts(self, kind: Any) -> None:
        """A field that takes any keys is named with its path."""
        inner = type("Inner", (BaseModel,), {"__annotations__": {"scores": kind}})
        assert refusal(inner) == f"json_schema: scores {self.KEYS}"
        outer = type("Outer", (BaseModel,), {"__annotations__": {"inner": list[inner]}})  # type: ignore[valid-type]
        assert refusal(outer) == f"json_schema: Inner.scores {self.KEYS}"

    def test_dicts_in_lists(self) -> None:
        """A dict is found inside a list as well."""
        model = type("Rows", (BaseModel,), {"__annotations__": {"rows": list[dict[str, int]]}})
        assert refusal(model) == f"json_schema: rows {self.KEYS}"

    def test_open_models(self) -> None:
        """A model that allows more keys is refused at its root."""
        model = type("Open", (Score,), {"model_config": ConfigDict(extra="allow")})
        assert refusal(model) == f"json_schema: the root {self.KEYS}"

    def test_a_dict_at_the_root(self) -> None:
        """So is a model that is nothing but a dict."""
        assert refusal(RootModel[dict[str, int]]) == f"json_schema: the root {self.KEYS}"

    @pytest.mark.parametrize("source", [5, "Score", int, [Score], Score(points=1), object()])
    def test_other_things(self, source: Any) -> None:
        """Neither instances nor other classes are schemas."""
        expected = f"json_schema must be a dict or a pydantic model class, not {source!r}"
        assert refusal(source) == expected

    @pytest.mark.parametrize(
        "root", [RootModel[list[Score]], RootModel[Score | Flat], RootModel[int]]
    )
    def test_other_roots(self, root: Any) -> None:
        """The root must be an object, as the service wants it."""
        assert refusal(root) == ROOT
        assert refusal(root.model_json_schema()) == ROOT


ROOT = (
    "json_schema: the root is not an object, as strict mode requires; "
    "make it a property of an object"
)


class TestBare:
    """A schema alone is made strict, and gets a name."""

    SHOP: dict[str, Any] = {  # noqa: RUF012
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Shop & more",
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "default": {"type": "string", "default": "x"},
            "type": {"description": "what it is", "type": "string"},
            "properties": {"$ref": "#/definitions/size"},
            "required": {"anyOf": [{"type": "string"}, {"type": "integer"}], "title": "Required"},
            "owner": {"properties": {"age": {"type": "integer"}}},
            "tags": {"type": "array", "items": {"$ref": "#/definitions/size"}},
            "kind": {"enum": ["a", "b"]},
            "maybe": {"type": ["string", "null"]},
            "perhaps": {"anyOf": [{"$ref": "#/definitions/size"}, {"type": "null"}]},
            "nothing": {"$ref": "#/definitions/nothing"},
            "const": {"const": None},
            "none": {"enum": ["a", None]},
            "any": True,
        },
        "required": ["name"],
        "definitions": {
            "size": {"type": "object", "properties": {"cm": {"type": "number"}}, "title": "Size"},
            "nothing": {"oneOf": [{"type": "null"}, {"type": "string"}]},
        },
    }
    NULL: dict[str, Any] = {"type": "null"}  # noqa: RUF012

    def test_the_whole_of_one(self) -> None:
        """What was not required may be null, what had a default is required, nothing else is."""
        before = copy.deepcopy(self.SHOP)
        size = {"$ref": "#/definitions/size"}
        age = {"anyOf": [{"type": "integer"}, self.NULL]}
        closed = {"additionalProperties": False, "type": "object"}
        owner = {"properties": {"age": age}, "required": ["age"], **closed}
        number = {"anyOf": [{"type": "number"}, self.NULL]}
        kept = ("$schema", "title", "type")
        assert to_schema(self.SHOP) == {
            "name": "Shop___more",
            "schema": {
                **{key: self.SHOP[key] for key in kept},
                "properties": {
                    "name": {"type": "string"},
                    "default": {"type": "string"},
                    "type": {"anyOf": [before["properties"]["type"], self.NULL]},
                    "properties": {"anyOf": [size, self.NULL]},
                    "required": {
                        "anyOf": [{"type": "string"}, {"type": "integer"}, self.NULL],
                        "title": "Required",
                    },
                    "owner": {"anyOf": [owner, self.NULL]},
                    "tags": {"anyOf": [{"type": "array", "items": size}, self.NULL]},
                    "kind": {"anyOf": [{"enum": ["a", "b"]}, self.NULL]},
                    "maybe": {"type": ["string", "null"]},
                    "perhaps": {"anyOf": [size, self.NULL]},
                    "nothing": {"$ref": "#/definitions/nothing"},
                    "const": {"const": None},
                    "none": {"enum": ["a", None]},
                    "any": True,
                },
                "required": list(self.SHOP["properties"]),
                "additionalProperties": False,
                "definitions": {
                    "size": {
                        "title": "Size",
                        "properties": {"cm": number},
                        "required": ["cm"],
                        **closed,
                    },
                    "nothing": {"anyOf": [{"type": "null"}, {"type": "string"}]},
                },
            },
            "strict": True,
        }
        assert before == self.SHOP

    @pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
    def test_the_schema_of_a_model(self, model: type[BaseModel]) -> None:
        """The schema that pydantic gives becomes the same as the model itself."""
        made = to_schema(model.model_json_schema())
        assert made == to_schema(model)
        assert list(faults(made["schema"], made["schema"])) == []

    def test_made_strict_twice(self) -> None:
        """A strict schema stays as it is."""
        schema = to_schema(self.SHOP)["schema"]
        assert to_schema(schema)["schema"] == schema

    @pytest.mark.parametrize("title", [None, "", 5, "Ä", "a" * 70, "a.b-c_D 9"])
    def test_names(self, title: Any) -> None:
        """The title becomes a name that the service takes; without one it is ``answer``."""
        schema = {"type": "object", "properties": {}, "title": title}
        names = {None: "answer", "": "answer", 5: "answer", "Ä": "_", "a.b-c_D 9": "a_b-c_D_9"}
        assert to_schema(schema)["name"] == names.get(title, "a" * 64)
        del schema["title"]
        assert to_schema(schema)["name"] == "answer"

    def test_a_reference_at_the_root(self) -> None:
        """A root that only refers is replaced by what it refers to."""
        item = {"type": "object", "properties": {"next": {"$ref": "#/$defs/item"}}}
        schema = to_schema({"$ref": "#/$defs/item", "$defs": {"item": item}})["schema"]
        following = {"anyOf": [{"$ref": "#/$defs/item"}, self.NULL]}
        assert schema["properties"] == {"next": following}
        assert list(faults(schema, schema)) == []

    @pytest.mark.parametrize(
        "schema",
        [
            {"type": "array", "items": {"type": "string"}},
            {"type": ["object", "null"], "properties": {}},
            {"anyOf": [{"type": "object", "properties": {}}]},
            {"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}},
            {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
            {"$ref": "#"},
        ],
    )
    def test_roots(self, schema: dict[str, Any]) -> None:
        """The root must be an object, and neither a list nor a union."""
        assert refusal(schema) == ROOT

    @pytest.mark.parametrize("reference", ["#/$defs/b", "#/$defs/a/type", "b", None])
    def test_references(self, reference: Any) -> None:
        """A reference that leads nowhere is refused, where it stands and how deep ever."""
        node = {"type": "array", "items": {"$ref": reference}}
        schema = {"properties": {"x": node}, "$defs": {"a": {"type": "string"}}}
        assert refusal(schema) == (
            f"json_schema: the reference {reference!r} leads nowhere; it must name a part of the "
            "schema, as in '#/$defs/Item'"
        )

    @pytest.mark.parametrize("keys", [True, {"type": "string"}, {}])
    def test_any_keys(self, keys: Any) -> None:
        """An object that takes any keys is refused with its path."""
        node = {"type": "object", "properties": {}, "additionalProperties": keys}
        schema = {"properties": {"a": {"type": "array", "items": node}}}
        assert refusal(schema) == f"json_schema: a {TestRefused.KEYS}"


class TestDicts:
    """A dict is the user's and passes as it is."""

    @pytest.mark.parametrize(
        "schema",
        [
            {"name": "n", "schema": {"type": "object", "default": {}}, "strict": False},
            {"schema": {"additionalProperties": True}, "x": [None, 1.0], "name": ""},
            {"type": "json_schema", "name": "n", "schema": {}},
        ],
    )
    def test_as_it_is(self, schema: dict[str, Any]) -> None:
        """Nothing is added, taken away or made strict, and the dict stays whole."""
        before = copy.deepcopy(schema)
        assert to_schema(schema) == before
        assert list(to_schema(schema)) == list(before)
        assert schema == before

    ADVICE = "pass both, or a JSON schema alone, with 'type' and 'properties'"

    @pytest.mark.parametrize(
        ("schema", "problem"),
        [
            ({}, f"'name' and 'schema' are missing; {ADVICE}"),
            ({"name": "n"}, f"'schema' is missing; {ADVICE}"),
            ({"schema": {"type": "object"}}, f"'name' is missing; {ADVICE}"),
            ({"name": "n", "schema": "s"}, f"'schema' is 's', not a dict; {ADVICE}"),
            ({"type": "json_schema", "name": "n"}, f"'schema' is missing; {ADVICE}"),
            (
                {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
                "this is the whole response_format; pass what its 'json_schema' holds",
            ),
        ],
    )
    def test_what_is_lacking(self, schema: dict[str, Any], problem: str) -> None:
        """A dict that is neither complete nor a schema is refused, with what it lacks."""
        assert refusal(schema) == f"json_schema: {problem}"

    def test_in_a_request(self) -> None:
        """In the line stands the dict, key for key, in its own order."""
        schema = {"strict": False, "name": "é", "schema": {"b": 1, "a": [1.5, None, '"']}}
        creator = BatchCreator("m", "low", schema, system_prompt=None)
        creator.add_entry("a", "Hi")
        line = json.dumps(creator.preview_entry(), ensure_ascii=False, separators=(",", ":"))
        written = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
        assert f'"response_format":{{"type":"json_schema","json_schema":{written}}}' in line

    def test_what_is_not_json(self) -> None:
        """A dict that JSON cannot hold is refused with the place."""
        with pytest.raises(TemplateError) as caught:
            BatchCreator("m", "low", {"name": "n", "schema": {"enum": [{1}]}}, system_prompt=None)
        place = "body.response_format.json_schema.schema.enum.0"
        assert str(caught.value) == f"{place}: {{1}} is not a JSON value"


class TestAnswerSchema:
    """Whatever says how answers look is understood when they are read."""

    SCHEMA: dict[str, Any] = {"type": "object", "properties": {"x": {"type": "integer"}}}  # noqa: RUF012

    @pytest.mark.parametrize(
        "given",
        [
            SCHEMA,
            {"name": "n", "schema": SCHEMA, "strict": False},
            {"schema": SCHEMA},
            {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}},
            {"type": "json_schema", "name": "n", "schema": SCHEMA},
        ],
    )
    def test_dicts(self, given: dict[str, Any]) -> None:
        """The schema alone comes out of each form, and is not changed."""
        assert answer_schema(given) == self.SCHEMA

    def test_models(self) -> None:
        """A model gives its own schema, in which defaults need not be answered."""
        assert answer_schema(Nested) == Nested.model_json_schema()

    @pytest.mark.parametrize(
        ("given", "problem"),
        [
            ({}, f": 'name' and 'schema' are missing; {TestDicts.ADVICE}"),
            ({"type": "json_schema"}, f": 'name' and 'schema' are missing; {TestDicts.ADVICE}"),
            ([1], " must be a dict or a pydantic model class, not [1]"),
        ],
    )
    def test_other_things(self, given: Any, problem: str) -> None:
        """What is no schema is refused as it is when writing."""
        with pytest.raises(TemplateError) as caught:
            answer_schema(given)
        assert str(caught.value) == f"json_schema{problem}"


ODD: list[Any] = [None, True, 0, -1, 2**70, 10**400, 0.5, float("inf"), float("nan"), "", "x", "#"]
ODD += ["\ud800", [], {}, [None], [1], ["x"], [[]], [{}], {"x": 1}, {"$ref": "#"}, {"$ref": 1}]
ODD += [{"type": {}}, {"type": [{}]}, {"enum": None}, {"properties": []}, {"\ud800": {}}]
WHOLE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "a": {"type": "integer", "minimum": 1},
        "b": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "c": {"$ref": "#/$defs/C"},
        "d": {"type": "array", "items": {"type": "string", "enum": ["x", "y"]}},
        "e": {"allOf": [{"$ref": "#/$defs/C"}]},
        "f": {"type": ["number", "null"], "const": 3},
    },
    "required": ["a"],
    "$defs": {"C": {"type": "object", "properties": {"z": {"type": "string", "pattern": "a"}}}},
}


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """List the places in a JSON value."""
    yield place
    items = enumerate(value) if isinstance(value, list) else ()
    for key, child in value.items() if isinstance(value, dict) else items:
        yield from places(child, (*place, key))


def put(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    """Put another value in a place."""
    if not place:
        return new
    changed = value.copy()
    changed[place[0]] = put(value[place[0]], place[1:], new)
    return changed


@pytest.mark.parametrize("place", list(places(WHOLE)), ids=str)
def test_any_value_in_any_place_is_a_schema_or_refused(place: tuple[Any, ...]) -> None:
    """Whatever is in a schema, it is made strict and read by, or a TemplateError says why not."""
    texts = pa.array(['{"a":1,"b":"x","c":{"z":"a"},"d":["x"],"e":{"z":"a"},"f":3}'], TEXT)
    for value in ODD:
        schema = put(WHOLE, place, value)
        with suppress(TemplateError):
            assert dumps(to_schema(schema))
        with suppress(TemplateError):
            assert len(Answers(answer_schema(schema)).read(texts)[1]) == 1


def test_schemas_that_hold_themselves_or_are_too_deep_are_refused() -> None:
    """Neither a cycle of Python objects nor ten thousand levels end in a RecursionError."""
    cycle: dict[str, Any] = {"type": "object", "properties": {}}
    cycle["properties"]["again"] = cycle
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(10_000):
        deep = {"type": "object", "properties": {"a": deep}}
    for schema in (cycle, deep):
        for function in (to_schema, answer_schema):
            with pytest.raises(TemplateError, match=r"^json_schema: it is nested too deep, or too"):
                function(schema)


def test_values_of_enums_are_data() -> None:
    """What looks like a wrong keyword in the values of an enum is none."""
    schema = {"properties": {"a": {"enum": [{"type": 5, "items": {"enum": 1}}]}}}
    assert answer_schema(schema) == schema
