"""Answers read into typed columns, compared with ``json.loads`` and a plain check of each value."""

import json
import math
import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, field_validator, model_validator

from batch_frames.schemas.answers import Answers
from batch_frames.schemas.strict import answer_schema
from tests.support.answers import NULL, TEXT, Node, an_object, expected, one, read
from tests.support.marks import slow

FENCE = "`" * 3


def compare(schema: Node, texts: list[str], wrapped: list[str] | None = None) -> list[str | None]:
    """Compare a reading with the oracle, row by row, and give the reasons."""
    rows, reasons = read(schema, wrapped or texts)
    empty = dict.fromkeys(schema["properties"])
    assert all(list(row) == list(empty) for row in rows)
    for text, row, reason in zip(texts, rows, reasons, strict=True):
        want = expected(text, schema)
        assert (want or empty) == row, (text, reason)
        assert (want is None) == (reason is not None), (text, reason)
    return reasons


NAMES = st.sampled_from(
    ["a", "b", "c d", "é", "x/y", "~0", "0", 'q"', "it's", "$.b", "back\\slash"]
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["5", "true", "null", "{}", "[1]", '"', "NaN", "", "2026-03-01", "\0", "\u2028", "a\nb", ",]"]
)
INTEGERS = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, 1, 5, -1])
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
DAYS = st.dates().map(date.isoformat)
ZONES: Any = (
    st.none() | st.just(UTC) | st.integers(-840, 840).map(lambda m: timezone(timedelta(minutes=m)))
)
MOMENTS = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=ZONES).map(
    datetime.isoformat
)
JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | INTEGERS | FLOATS | TEXTS | st.sampled_from([2**63, 3.0, 10**40]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=4,
)
LEAVES: list[tuple[Node, st.SearchStrategy[Any]]] = [
    ({"type": "string"}, TEXTS),
    ({"type": "integer"}, INTEGERS),
    ({"type": "number"}, FLOATS | INTEGERS),
    ({"type": "boolean"}, st.booleans()),
    ({"type": "integer", "minimum": 1, "maximum": 5}, st.integers(1, 5)),
    ({"type": "integer", "exclusiveMinimum": 0.5, "multipleOf": 2}, st.just(2) | st.just(40)),
    ({"type": "number", "minimum": -0.5, "exclusiveMaximum": 1}, st.floats(-0.5, 0.9)),
    ({"type": "string", "minLength": 1, "maxLength": 3}, TEXTS.filter(lambda t: 0 < len(t) < 4)),
    ({"type": "string", "pattern": "^[a-z ]*$"}, st.sampled_from(["", "a", "is so"])),
    ({"type": "string", "pattern": "(?=a)a"}, st.sampled_from(["a", "xa"])),
    ({"type": "string", "format": "date"}, DAYS),
    ({"type": "string", "format": "date-time"}, MOMENTS),
    ({"type": "string", "enum": ["a", "b", "true"]}, st.sampled_from(["a", "b", "true"])),
    ({"enum": [3, 1, 2]}, st.sampled_from([1, 2, 3])),
    ({"enum": [0.5, 2.0]}, st.sampled_from([0.5, 2])),
    ({"enum": [True]}, st.just(True)),
    ({}, JUNK),
    ({"type": ["string", "integer"]}, TEXTS | INTEGERS),
    ({"$ref": "#/$defs/text"}, TEXTS),
    ({"$ref": "#/$defs/pair"}, st.fixed_dictionaries({"n": INTEGERS, "t": st.none() | TEXTS})),
]
DEFS: Node = {
    "text": {"type": "string"},
    "pair": an_object(n={"type": "integer"}, t={"type": ["string", "null"]}),
}


@st.composite
def kinds(draw: st.DrawFn, depth: int = 2) -> tuple[Node, st.SearchStrategy[Any]]:
    """Draw a part of a schema, with the values that it allows."""
    choice = draw(st.integers(0, 9)) if depth else 9
    if choice == 0:
        node, values = draw(kinds(depth - 1))
        limits = draw(st.sampled_from([{}, {"minItems": 1}, {"maxItems": 2, "uniqueItems": True}]))
        return {"type": "array", "items": node, **limits}, st.lists(values, max_size=3)
    if choice == 1:
        return draw(objects(depth - 1))
    if choice == 2:
        node, values = draw(kinds(depth - 1))
        return {"anyOf": [node, NULL]}, st.none() | values
    node, values = draw(st.sampled_from(LEAVES))
    if choice == 3 and node.get("type") in ("string", "integer") and "enum" not in node:
        return {**node, "type": [node["type"], "null"]}, st.none() | values
    return node, values


@st.composite
def objects(draw: st.DrawFn, depth: int = 2) -> tuple[Node, st.SearchStrategy[Any]]:
    """Draw the schema of an object, with properties that may be missing."""
    parts = draw(st.dictionaries(NAMES, kinds(depth), min_size=1, max_size=4))
    optional = draw(st.sets(st.sampled_from(sorted(parts)))) if draw(st.booleans()) else set()
    values = {name: strategy for name, (_, strategy) in parts.items()}
    node = an_object(**{name: node for name, (node, _) in parts.items()})
    node["required"] = [name for name in parts if name not in optional]
    return node, st.fixed_dictionaries(
        {name: values[name] for name in node["required"]},
        optional={name: values[name] for name in optional},
    )


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """List all containers in a value with each of their keys."""
    keys = range(len(value)) if isinstance(value, list) else list(value)
    for key in keys if isinstance(value, (list, dict)) else ():
        yield value, key
        if isinstance(value[key], (list, dict)):
            yield from places(value[key])


@st.composite
def tables(draw: st.DrawFn) -> tuple[Node, list[str], list[str]]:
    """Draw a schema and answers to it, some of them broken, some wrapped."""
    schema, values = draw(objects())
    schema["$defs"] = DEFS
    texts, wrapped = [], []
    for _ in range(draw(st.integers(1, 8))):
        value = json.loads(json.dumps(draw(values)))
        found = list(places(value))
        change = draw(st.sampled_from(["no", "no", "junk", "drop", "add", "twice", "cut", "comma"]))
        if found and change in ("junk", "drop"):
            inside, key = draw(st.sampled_from(found))
            inside[key] = draw(JUNK)
            if change == "drop":
                del inside[key]
        if change == "add":
            value[draw(st.sampled_from(["more", "A", "a "]))] = draw(JUNK)
        text = json.dumps(value, ensure_ascii=draw(st.booleans()))
        if change == "twice" and value:
            name = draw(st.sampled_from(sorted(value)))
            text = f"{text[:-1]}, {json.dumps({name: draw(JUNK)})[1:]}"
        if change == "cut":
            text = text[: draw(st.integers(0, len(text) - 1))]
        if change == "comma":
            text = text[:-1] + draw(st.sampled_from([",}", " ,\n }"]))
        texts.append(text)
        wrapped.append(draw(st.sampled_from(["{}", "{}", " \n{}\t", WORDS])).replace("{}", text))
    return schema, texts, wrapped


WORDS = f"Here it is:\n{FENCE}json\n{{}}\n{FENCE}\nAnything else?"


class TestOracle:
    """Columns hold what ``json.loads`` and a plain check of each value give."""

    @given(tables())
    def test_any_schema_and_answers(self, drawn: tuple[Node, list[str], list[str]]) -> None:
        """Rows with a valid answer have its values, the others a reason and nothing else."""
        compare(*drawn)

    @pytest.mark.parametrize("count", [5_000, slow(50_000)])
    def test_many_rows(self, count: int) -> None:
        """In up to 50,000 rows, a third of them broken in some way, none is moved or lost."""
        rng = random.Random(7)
        item = an_object(price={"type": "number"}, note={"type": ["string", "null"]})
        schema = an_object(
            stars={"type": "integer"},
            tone={"enum": ["calm", "happy", "angry"]},
            items={"type": "array", "items": item},
            day={"type": "string", "format": "date"},
            more={},
        )
        texts = []
        for row in range(count):
            items = [{"price": rng.random(), "note": rng.choice([None, f"note {row}"])}]
            value = {
                "stars": rng.choice([1, 2, 3, 4, 5, 5.0] if row % 9 == 0 else [1, 5]),
                "tone": "sad" if row % 11 == 0 else rng.choice(["calm", "angry"]),
                "items": rng.choice(["none"] if row % 13 == 0 else [[], items, items * 2]),
                "day": f"2024-02-{rng.randint(1, 31 if row % 7 == 0 else 28):02}",
                "more": {"row": row},
            }
            if row % 17 == 0:
                del value["tone"]
            text = json.dumps(value)
            texts.append(text[: rng.randint(0, 90)] if row % 19 == 0 else text)
        reasons = compare(schema, texts)
        assert 0.24 * count < sum(reason is not None for reason in reasons) < 0.4 * count

    @pytest.mark.parametrize(
        "names", [["a", "A"], [""], ["a\0b"], ["é", "É"], ["a", "b/c~d", '"', "\\", "'", "0", "-1"]]
    )
    def test_any_names(self, names: list[str]) -> None:
        """Properties may have names that a database does not take."""
        schema = an_object(**{name: {"type": ["string", "null"]} for name in names})
        schema = an_object(**schema["properties"], deep={"type": "array", "items": schema})
        inner = {name: f"value of {name}" for name in names}
        texts = [json.dumps({**inner, "deep": [inner]}), json.dumps({**inner, "deep": [{}]})]
        assert compare(schema, texts) == [None, f"{'deep[0].' + names[0]!r} is missing"]


MAYBE: Node = {"type": ["integer", "null"]}
MAYBE_INTEGERS: Node = {"type": "array", "items": MAYBE}
LOOSE: Node = {"type": "object", "properties": {"t": MAYBE}}
BOTH: Node = an_object(n={"type": "integer"}, t=MAYBE)
NO_ARRAY = "'x[2]' is 5, not an array"
DAY = "not a date like 2026-03-01"
TIME = "not a time like 2026-03-01T09:30:00Z"
FAULTS: list[tuple[Node, Any, str]] = [
    ({"type": "integer"}, "five", "'x' is 'five', not an integer"),
    ({"type": "integer"}, 3.7, "'x' is 3.7, not an integer"),
    ({"type": "integer"}, True, "'x' is true, not an integer"),
    ({"type": "integer"}, None, "'x' is null, not an integer"),
    ({"type": "integer"}, "3", "'x' is '3', not an integer"),
    ({"type": "integer"}, [3], "'x' is an array, not an integer"),
    ({"type": "integer"}, 2**63, "'x' is 9223372036854775808, beyond integers of 64 bits"),
    ({"type": "number"}, "0.25", "'x' is '0.25', not a number"),
    ({"type": "number"}, False, "'x' is false, not a number"),
    ({"type": "number"}, math.nan, "'x' is NaN, not a number"),
    ({"type": "number"}, -math.inf, "'x' is -Infinity, beyond numbers of 64 bits"),
    ({"type": "number"}, 10**400, f"'x' is 1{'0' * 39}…, beyond numbers of 64 bits"),
    ({"type": "string"}, 5, "'x' is 5, not a string"),
    ({"type": "string"}, {"a": 1}, "'x' is an object, not a string"),
    ({"type": "boolean"}, "true", "'x' is 'true', not a boolean"),
    ({"type": "boolean"}, 1, "'x' is 1, not a boolean"),
    ({"type": "boolean"}, "n" * 50, f"'x' is '{'n' * 40}…', not a boolean"),
    ({"enum": ["calm", "happy"]}, "sad", "'x' is 'sad', not one of 'calm', 'happy'"),
    ({"enum": ["calm", "happy"]}, None, "'x' is null, not one of 'calm', 'happy'"),
    ({"enum": [1, 2]}, True, "'x' is true, not one of 1, 2"),
    ({"enum": [1, "a", None]}, 2, "'x' is 2, not one of 1, \"a\""),
    ({"enum": list(range(12))}, 12, "'x' is 12, not one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, …"),
    ({"const": "v1"}, "v2", "'x' is 'v2', not 'v1'"),
    ({"type": "string", "format": "date"}, "2026-02-30", f"'x' is '2026-02-30', {DAY}"),
    ({"type": "string", "format": "date"}, "20260203", f"'x' is '20260203', {DAY}"),
    ({"type": "string", "format": "date-time"}, "2026-02-03", f"'x' is '2026-02-03', {TIME}"),
    ({"type": "string", "format": "date-time"}, 5, f"'x' is 5, {TIME}"),
    ({"type": "array", "items": {}}, {}, "'x' is an object, not an array"),
    ({"type": "array", "items": {"type": "string"}}, ["a", None], "'x[1]' is null, not a string"),
    ({"type": "array", "items": {"type": "integer"}}, [1, 2.5], "'x[1]' is 2.5, not an integer"),
    ({"type": "array", "items": {"enum": ["a"]}}, ["a", "b"], "'x[1]' is 'b', not 'a'"),
    ({"type": "array", "items": an_object(p={"type": "number"})}, [{}], "'x[0].p' is missing"),
    (
        {"type": "array", "items": an_object(p={"type": "number"})},
        [5],
        "'x[0]' is 5, not an object",
    ),
    (
        an_object(p=an_object(q={"type": "number"})),
        {"p": {"q": None}},
        "'x.p.q' is null, not a number",
    ),
    (MAYBE_INTEGERS, [None, 1, "a"], "'x[2]' is 'a', not an integer"),
    (MAYBE_INTEGERS, [2**63], "'x[0]' is 9223372036854775808, beyond integers of 64 bits"),
    ({"type": "array", "items": {"anyOf": [MAYBE_INTEGERS, NULL]}}, [[], None, 5], NO_ARRAY),
    ({"type": "array", "items": an_object(t=MAYBE)}, [{"t": None}, {}], "'x[1].t' is missing"),
    ({"type": "array", "items": BOTH}, [{"n": 1, "t": None}, {"n": 1}], "'x[1].t' is missing"),
    ({"type": "array", "items": LOOSE}, [{}, {"t": None}, 5], "'x[2]' is 5, not an object"),
    (LOOSE, 5, "'x' is 5, not an object"),
    (
        {**LOOSE, "properties": {"t": {"type": "string"}}},
        {"t": None},
        "'x.t' is null, not a string",
    ),
    ({}, {"a": [math.nan]}, "'x' holds NaN or a number beyond 64 bits"),
    ({"type": "integer", "minimum": 1}, 0, "'x' is 0, which violates minimum=1"),
    ({"type": "integer", "maximum": 5}, 9, "'x' is 9, which violates maximum=5"),
    ({"type": "number", "exclusiveMinimum": 0}, 0, "'x' is 0, which violates exclusiveMinimum=0"),
    (
        {"type": "number", "exclusiveMaximum": 1},
        1.5,
        "'x' is 1.5, which violates exclusiveMaximum=1",
    ),
    ({"type": "number", "multipleOf": 0.01}, 0.305, "'x' is 0.305, which violates multipleOf=0.01"),
    ({"type": "string", "minLength": 2}, "é", "'x' is 'é', which violates minLength=2"),
    ({"type": "string", "maxLength": 1}, "日本", "'x' is '日本', which violates maxLength=1"),
    ({"type": "string", "pattern": "^a"}, "b", "'x' is 'b', which violates pattern='^a'"),
    ({"type": "string", "format": "uuid"}, "7", "'x' is '7', which violates format='uuid'"),
    (
        {"type": "array", "items": {"type": "string", "format": "date"}},
        ["2024-02-30"],
        "'x[0]' is '2024-02-30', which violates format='date'",
    ),
    (
        {"type": "array", "items": {}, "minItems": 1},
        [],
        "'x' is an array, which violates minItems=1",
    ),
    (
        {"type": "array", "items": {}, "maxItems": 1},
        [1, 2],
        "'x' is an array, which violates maxItems=1",
    ),
    (
        {"type": "array", "items": {}, "uniqueItems": True},
        [1, 1.0],
        "'x' is an array, which violates uniqueItems=True",
    ),
]

FORMATS = {
    "date": ["2024-02-29", "0001-01-01"],
    "date-time": ["2024-02-29T23:59:59Z", "2024-02-29 23:59"],
    "time": ["23:59:59", "23:59:59.5+01:00"],
    "duration": ["P1D", "PT1H30M", "P1Y2M3DT4H"],
    "email": ["a@example.org", "é.b+c@example.org"],
    "hostname": ["localhost", "a-1.example.org"],
    "ipv4": ["127.0.0.1", "255.255.255.0"],
    "ipv6": ["::1", "2001:db8::ff00:42:8329"],
    "uri": ["https://example.org/a?b#c", "mailto:a@example.org"],
    "uuid": ["123e4567-e89b-12d3-a456-426614174000"],
    "regex": ["(", "anything that is not known"],
}


class TestLimits:
    """Values within the limits of the schema are as they were; what cannot be checked is."""

    @pytest.mark.parametrize("name", FORMATS)
    def test_formats(self, name: str) -> None:
        """Each format takes its values, and none of the others where it is known."""
        node = {"type": "array", "items": {"type": "string", "format": name}}
        assert [one(node, [text]) for text in FORMATS[name]] == [[t] for t in FORMATS[name]]
        wrong = f"'x[0]' is ' ', which violates format={name!r}"
        assert one(node, [" "]) == ([" "] if name == "regex" else wrong)

    @pytest.mark.parametrize(
        "limits",
        [
            {"minimum": "1", "maximum": None, "exclusiveMaximum": True, "multipleOf": 0},
            {"maximum": 2**63 - 1, "minimum": -(10**400)},
            {"minLength": 100, "pattern": "^a", "format": "date"},
        ],
    )
    def test_what_limits_nothing(self, limits: Node) -> None:
        """Keywords with odd values, or of another type, leave numbers alone."""
        assert one({"type": "integer", **limits}, 2**62 + 1) == 2**62 + 1

    def test_a_pattern_that_is_none(self) -> None:
        """A pattern that Python does not know is not checked."""
        assert one({"type": "string", "pattern": r"\p{L}("}, "7") == "7"


class Part(BaseModel):
    """A model in a model, with a validator."""

    size: int

    @field_validator("size")
    @classmethod
    def check(cls, size: int) -> int:
        """Refuse odd sizes."""
        if size % 2:
            raise ValueError("Must be even")
        return size


class Box(BaseModel):
    """A model whose parts must fit."""

    parts: list[Part]
    room: int

    @model_validator(mode="after")
    def check(self) -> "Box":
        """Refuse what does not fit."""
        if sum(part.size for part in self.parts) > self.room:
            raise ValueError("parts do not fit")
        return self


def test_validators_of_a_model_are_called() -> None:
    """What a validator refuses is invalid with its words; the others are as they would be."""
    boxes: list[tuple[list[Any], int]] = [([2, 4], 6), ([2, 3], 6), ([4, 4], 6), (["2"], 6)]
    texts = [json.dumps({"parts": [{"size": s} for s in p], "room": r}) for p, r in boxes]
    table, reasons = Answers(answer_schema(Box), Box).read(pa.array([*texts, "?", None], TEXT))
    assert reasons.to_pylist() == [
        None,
        "'parts[1].size' is not valid: must be even",
        "the answer is not valid: parts do not fit",
        "'parts[0].size' is '2', not an integer",
        "not JSON: Expecting value at character 0",
        None,
    ]
    assert table["room"].to_pylist() == [6, None, None, None, None, None]
    _, reasons = Answers(answer_schema(Box)).read(pa.array(texts, TEXT))
    assert [reason is None for reason in reasons.to_pylist()] == [True, True, True, False]


class TestReasons:
    """What is wrong is said in one sentence, with the place inside the answer."""

    @pytest.mark.parametrize(("node", "value", "reason"), FAULTS)
    def test_faults(self, node: Node, value: Any, reason: str) -> None:
        """Each kind of fault has its words."""
        assert one(node, value) == reason

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "not JSON: Expecting value at character 0"),
            ("five stars", "not JSON: Expecting value at character 0"),
            ('{"x": ', "not JSON: Expecting value at character 6"),
            ('{"x": 1}}', "not JSON: Extra data at character 8"),
            ('{"x": 1} {"x": 2}', "not JSON: Extra data at character 9"),
            ('{"x": ' + "9" * 5_000 + "}", "not JSON: a number has too many digits"),
            ("[" * 100_000, "nested too deep"),
            ('{"x": ' + "[" * 100_000, "nested too deep"),
            ('{"x": ' * 100_000, "nested too deep"),
            ("null", "the answer is null, not an object"),
            ('"{}"', "the answer is '{}', not an object"),
            ("[1]", "the answer is an array, not an object"),
            ("{}", "'x' is missing"),
            ('{"X": 1}', "'x' is missing"),
        ],
    )
    def test_other_texts(self, text: str, reason: str) -> None:
        """What is no JSON object at all has its reason too, and its neighbours are read."""
        schema = an_object(x={"type": "integer"})
        rows, reasons = read(schema, ['{"x": 1}', text, None, '{"x": 2}'])
        assert [row["x"] for row in rows] == [1, None, None, 2]
        assert reasons == [None, reason, None, None]

    @pytest.mark.parametrize("blank", ["", " ", "\r\n\t", " " * 500])
    @pytest.mark.parametrize("text", ['{"x": 1,<>}', '{"x": 1, "more": [1,<>]}', '{"x": 1,<>,}'])
    def test_trailing_commas(self, text: str, blank: str) -> None:
        """A comma before a closing bracket is not JSON; in a string it is text."""
        schema = an_object(x={"type": "integer"}, y={"type": "string"})
        schema["required"] = ["x"]
        texts = [text.replace("<>", blank), json.dumps({"x": 2, "y": f",{blank}}}"})]
        rows, reasons = read(schema, texts)
        assert rows == [{"x": None, "y": None}, {"x": 2, "y": f",{blank}}}"}]
        assert [str(reason)[:10] for reason in reasons] == ["not JSON: ", "None"]


class TestTexts:
    """Answers are read in all the forms in which models write them."""

    SCHEMA = an_object(x={"type": "string"})

    @pytest.mark.parametrize(
        "form",
        [
            "{}",
            "\n  {}  \r\n",
            f"{FENCE}json\n{{}}\n{FENCE}",
            f"{FENCE}\n{{}}\n{FENCE}\n",
            f"{FENCE}JSON {{}}{FENCE}",
            f"Sure, here you are:\n\n{FENCE}json\n{{}}\n{FENCE}\n\nAnything else?",
        ],
    )
    @pytest.mark.parametrize("indent", [None, 4])
    def test_forms(self, form: str, indent: int | None) -> None:
        """White space and code fences are passed over, also where the answer holds a fence."""
        value = {"x": f"a {FENCE}b{FENCE} }}\n"}
        text = form.replace("{}", json.dumps(value, indent=indent))
        assert read(self.SCHEMA, [text, None]) == ([value, {"x": None}], [None, None])

    @pytest.mark.parametrize(
        "text", ['Here: {"x": "a"}', f'{FENCE}\n"x"\n{FENCE}', f'{FENCE}a{FENCE} {{"x": "a"}}']
    )
    def test_what_is_not_read(self, text: str) -> None:
        """An answer is not searched for JSON."""
        reason = "not JSON: Expecting value at character 0"
        assert read(self.SCHEMA, [text]) == ([{"x": None}], [reason])

    def test_escapes(self) -> None:
        """Half a surrogate becomes U+FFFD, wherever it stands; a backslash before a u stays."""
        texts = [
            r"\ud83d",
            r"\ud83d\ude00",
            r"\\ud83d",
            r"\ude00\ud83d",
            r"\ud83d\u0041",
            r"\u0000",
        ]
        rows, reasons = read(self.SCHEMA, [f'{{"x": "{text}"}}' for text in texts])
        assert reasons == [None] * len(texts)
        cells = ["\ufffd", "😀", r"\ud83d", "\ufffd\ufffd", "\ufffdA", "\0"]
        assert [row["x"] for row in rows] == cells

    def test_the_last_of_two_keys_counts(self) -> None:
        """A key that stands twice has its last value, at any depth, as in the standard library."""
        schema = an_object(x=an_object(y={"type": "integer"}))
        texts = ['{"x": 5, "x": {"y": "2", "y": 1}}', '{"x": 5, "x": {"y": "2", "y": 1.0}}']
        assert read(schema, texts) == ([{"x": {"y": 1}}] * 2, [None] * 2)

    def test_numbers(self) -> None:
        """A whole number may be written with a point, and a number without."""
        schema = an_object(x={"type": "integer"}, y={"type": "number"})
        texts = ['{"x": 3.0, "y": 2}', '{"x": 3, "y": 2.0}', '{"x": 3e0, "y": 20e-1}']
        assert read(schema, texts) == ([{"x": 3, "y": 2.0}] * 3, [None] * 3)

    def test_large_answers(self) -> None:
        """An answer of megabytes is one like any other, valid or not."""
        large = "wörd \n" * 400_000
        texts = [json.dumps({"x": large}), json.dumps({"x": large})[:-1], json.dumps({"x": 5})]
        rows, reasons = read(self.SCHEMA, [*texts, '{"x": "a"}'])
        assert [row["x"] for row in rows] == [large, None, None, "a"]
        end = f"not JSON: Expecting ',' delimiter at character {len(texts[1]):,}"
        assert reasons == [None, end, "'x' is 5, not a string", None]

    @pytest.mark.parametrize("texts", [[], [None], [None, None, None]])
    def test_nothing_to_read(self, texts: list[None]) -> None:
        """Without any text the columns are there, empty or null."""
        assert read(self.SCHEMA, list(texts)) == ([{"x": None}] * len(texts), texts)

    def test_chunks_and_slices(self) -> None:
        """A text column may come in chunks, and each may be a slice."""
        whole = pa.array(['{"x": "a"}', None, "b", '{"x": "c"}', '{"x": 1}'], TEXT)
        text = pa.chunked_array([whole.slice(1, 2), whole.slice(3), whole.slice(0, 0)])
        table, reasons = Answers(self.SCHEMA).read(text)
        sliced, _ = Answers(self.SCHEMA).read(whole.slice(3))
        assert table["x"].to_pylist() == [None, None, "c", None]
        assert [reason is None for reason in reasons.to_pylist()] == [True, False, True, False]
        assert sliced["x"].to_pylist() == ["c", None]


def test_properties_that_a_closed_object_does_not_have() -> None:
    """Where ``additionalProperties`` is false, at any depth, what is too much is named."""
    item = {**an_object(n={"type": "integer"}), "additionalProperties": False}
    schema = {**an_object(x={"type": "array", "items": item}), "additionalProperties": False}
    texts = ['{"x":[{"n":1}]}', '{"x":[{"n":1,"m":2}]}', '{"x":[],"b":1,"c":null}']
    assert read(schema, texts) == (
        [{"x": [{"n": 1}]}, {"x": None}, {"x": None}],
        [
            None,
            "'x[0]' has 'm', which the schema does not allow",
            "the answer has 'b', 'c', which the schema does not allow",
        ],
    )
    opened = an_object(x={"type": "array", "items": an_object(n={"type": "integer"})})
    assert read(opened, texts)[1] == [None] * 3
