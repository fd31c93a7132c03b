"""Result files with damaged bytes: never a crash, never a lost line, never another reading."""

import json
import random
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import batch_frames as bf
from batch_frames.results import parse
from tests.support.answers import NULL, Json, Node, an_object, expected
from tests.support.marks import slow
from tests.support.oracle import (
    LONE,
    Foreign,
    Row,
    lines_of,
    read,
    rows_of,
    rows_of_line,
)
from tests.support.results import (
    CALL,
    FAULT,
    ITEM,
    OLD_CALL,
    REASONING,
    chat,
    choice,
    dumps,
    embeddings,
    failed,
    message,
    moderated,
    packed,
    refusing,
    responses,
    result,
    text,
)

SIGNS = [*string.ascii_letters, *string.digits, *'{}[]",:\\/ \t-._', "é", "日本", "😀", "\u2028"]
BYTES = [bytes([n]) for n in range(256)]
JSON_BYTES = [bytes([n]) for n in b'{}[]",:\\ \n\r\tnultrefasi0123456789-+.eE']
PIECES = [b"null", b"NaN", b"-Infinity", b"1e400", b"\\ud83d", b"\\u0000", b"[]", b"{}", b'""']
PIECES += [b',"error":"x"', b',"status_code":500', b',"custom_id":"b"', b"\xe2\x80\xa8", b"\r\n"]

ODD: list[Any] = [None, True, 0, 1, 200, -1, 2**63, 2**64, 0.5, 200.0, "", "x", "200", "true"]
ODD += ["null", "ok", [], {}, ["x"], [1, 2], [{}], [None], {"x": 1}, {"error": "x"}]
ODD_SIGNS = [*'"\\/`{}\0\n\r\x1f\x7f\x85\u2028\ufeff\ufffd\ud800\udfff']
TEXTS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(ODD_SIGNS), max_size=9)
NUMBERS = st.integers() | st.sampled_from([2**63, -(2**63) - 1, 10**400, 1.5, -0.0, 123456.789])
NAMES = st.sampled_from(["response", "body", "choices", "message", "content", "text", "id"])
NESTED: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS | st.sampled_from(ODD),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | TEXTS, inner, max_size=3),
    max_leaves=6,
)
# In an object that stands in the place of a text, an exponent may be written in either way.
VALUES = NESTED | st.floats()

ITEMS: Node = {
    "type": "array",
    "items": an_object(price={"type": "number"}, note={"type": ["string", "null"]}),
}
ANSWERS: list[tuple[Node, Row]] = [
    (
        {**an_object(n={"type": "integer"}, t={"type": "string"}), "additionalProperties": False},
        {"n": 5, "t": "é"},
    ),
    (an_object(list=ITEMS, more={}), {"list": [{"price": 0.5, "note": None}], "more": {"x": [1]}}),
    (
        an_object(tone={"enum": ["calm", "ok"]}, level={"enum": [1, 2]}, on={"type": "boolean"}),
        {"tone": "ok", "level": 1, "on": True},
    ),
    (
        an_object(n={"anyOf": [{"type": "integer"}, NULL]}, any={"type": ["string", "number"]}),
        {"n": None, "any": 0.5},
    ),
]
"""Schemas, each with an answer that follows it."""

Random = random.Random
Maker = Callable[[Random], Row]


def words(chance: Random) -> str:
    """Make a text of all sorts of signs."""
    return "".join(chance.choices(SIGNS, k=chance.randrange(30)))


def chats(chance: Random) -> Row:
    """Make a chat's body of any sort."""
    finish = chance.choice(["stop", "stop", "length", "content_filter", None])
    said: Row = chance.choice(
        [
            choice(words(chance), finish),
            choice(words(chance), finish),
            choice(dumps({"stars": chance.randrange(9)}), finish),
            choice(None, finish, refusal=words(chance)),
            choice(None, "tool_calls", tool_calls=[CALL]),
            choice(None, "function_call", function_call=OLD_CALL),
            choice([{"type": "text", "text": words(chance)}], finish),
        ]
    )
    more = [choice(words(chance), finish, index=1)] if chance.random() < 0.1 else []
    return chat(said, *more)


def answers(chance: Random) -> Row:
    """Make a body of the Responses API of any sort."""
    output = [message(text(words(chance)), text(words(chance)), phase="final_answer"), ITEM]
    output = chance.choice([[message(text(words(chance)))], output, [message(refusing("No."))], []])
    reason = {"reason": chance.choice(["max_output_tokens", "content_filter"])}
    state: Row = chance.choice(
        [{}, {}, {"status": "incomplete", "incomplete_details": reason}, {"status": "failed"}]
    )
    return responses(*chance.choice([[], [REASONING]]), *output, **state)


def vectors(chance: Random) -> Row:
    """Make a body of embeddings, as numbers or as base64."""
    numbers = [chance.uniform(-1, 1) for _ in range(chance.choice([3, 3, 3, 4]))]
    vector: Any = chance.choice([packed(*numbers), numbers])
    return embeddings(*[vector] * chance.choice([1, 1, 1, 1, 2]))


def completions(chance: Random) -> Row:
    """Make a body of the older completions."""
    return chat({"text": words(chance), "index": 0, "finish_reason": "stop"})


def moderations(chance: Random) -> Row:
    """Make a body of moderations."""
    return moderated(*chance.choices([True, False], k=chance.choice([1, 1, 2])))


def others(chance: Random) -> Row:
    """Make a body of an endpoint that has no columns of its own."""
    return {"created": 1, "data": [{"b64_json": words(chance)}]}


BODIES: list[Maker] = [chats, answers, vectors, completions, moderations, others]


def envelope(chance: Random, body: Row) -> bytes:
    """Write a body as a result of some provider."""
    whole = result(body, custom_id=f"row-{chance.randrange(1_000_000)}")
    makers: list[Callable[[], Any]] = [
        lambda: whole,
        lambda: whole,
        lambda: {**whole, "response": {**whole["response"], "body": dumps(body)}},
        lambda: {"custom_id": whole["custom_id"], "response": body},
        lambda: {**whole, "custom_id": chance.randrange(10**12)},
        lambda: {**result({"error": FAULT}, code=400), "custom_id": whole["custom_id"]},
        lambda: {**result(None, code=400, error={"error": FAULT}), "id": "vllm-1"},
        lambda: result(None, code=500, error=words(chance)),
        lambda: failed({"code": "batch_expired", "message": words(chance)}),
        lambda: {**failed(None), "response": {"status_code": 0, "request_id": "", "body": {}}},
    ]
    value = chance.choices(makers, [30, 30, 4, 2, 4, 8, 4, 4, 4, 4])[0]()
    is_ascii, is_sorted = chance.random() < 0.5, chance.random() < 0.2
    separators = chance.choice([(",", ":"), (", ", ": ")])
    line = json.dumps(value, ensure_ascii=is_ascii, sort_keys=is_sorted, separators=separators)
    return line.encode() + b"\n"


def damaged(chance: Random, line: bytes) -> bytes:
    """Flip, take out, put in, repeat or cut off some bytes."""
    at = chance.randrange(len(line) + 1)
    to = at + chance.choice([1, 1, 2, 5, 30])
    match chance.randrange(7):
        case 0:
            return (
                line[:at]
                + bytes(b ^ 1 << chance.randrange(8) for b in line[at:to][:1])
                + line[at + 1 :]
            )
        case 1:
            return line[:at] + chance.choice(JSON_BYTES) + line[at + 1 :]
        case 2:
            return line[:at] + line[to:]
        case 3:
            return line[:at] + chance.choice([*BYTES, *JSON_BYTES * 8]) + line[at:]
        case 4:
            return line[:at] + chance.choice(PIECES) + line[at:]
        case 5:
            return line[:to] + line[at:]
        case _:
            return line[:at] + chance.choice([b"\n", b""])


def changed(chance: Random, value: Any, new: Any) -> Any:
    """Put another value in some place of a JSON value, or take a key away."""
    if not isinstance(value, (dict, list)) or not value or chance.random() < 0.2:
        return new
    if isinstance(value, list):
        at = chance.randrange(len(value))
        return [*value[:at], changed(chance, value[at], new), *value[at + 1 :]]
    key = chance.choice(list(value))
    if chance.random() < 0.1:
        return {name: item for name, item in value.items() if name != key}
    return {**value, key: changed(chance, value[key], new)}


def encoded(chance: Random, value: Any) -> bytes:
    """Write JSON, half of it with all signs as they are; a lone surrogate can be but an escape."""
    text = json.dumps(value, ensure_ascii=chance.random() < 0.5)
    return text.encode(errors="backslashreplace")


def is_ours(line: bytes) -> bool:
    """Say whether a line belongs into a file of results at all."""
    try:
        rows_of_line(1, line)
    except Foreign:
        return False
    return True


def damaged_file(seed: int, count: int) -> bytes:
    """Make a file of many lines, most of them damaged."""
    chance = Random(seed)
    bodies = BODIES if seed % 2 else [BODIES[seed // 2 % len(BODIES)]]
    lines = []
    for _ in range(count):
        line = envelope(chance, chance.choice(bodies)(chance))
        for _ in range(chance.choice([0, 0, 1, 1, 1, 2, 3])):
            line = damaged(chance, line)
        lines.append(line)
    return b"\n".join(line for line in b"".join(lines).split(b"\n") if is_ours(line))


def changed_line(chance: Random, answer: Row | None, values: list[Any]) -> bytes:
    """Make a line that has other values in some places, of the answer in it or of the rest."""
    body = chance.choice(BODIES)(chance)
    of_answer = values[:1] if answer is not None and chance.random() < 0.8 else None
    if of_answer is not None:
        for new in of_answer:
            answer = changed(chance, answer, new)
        said = [choice(encoded(chance, answer).decode(), index=n) for n in (0, 1)]
        body = chat(*said[: 1 + (chance.random() < 0.2)])
    value = json.loads(envelope(chance, body))
    for new in values[len(of_answer or ()) :]:
        value = changed(chance, value, new)
    return encoded(chance, value)


@pytest.mark.parametrize(
    ("seed", "count"), [(1, 3_000), *(slow(seed, 10_000) for seed in range(10))]
)
def test_damaged_files_read_as_the_oracle_reads_them(tmp_path: Path, seed: int, count: int) -> None:
    """A frame of damaged lines equals the plain reading, row by row and value by value."""
    assert check(tmp_path, damaged_file(seed, count)) > 0.9 * count


@pytest.mark.filterwarnings("ignore:none of the")
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
@given(
    answers=st.sampled_from([(None, None), *ANSWERS]),
    drawn=st.lists(st.tuples(st.integers(0), st.lists(VALUES, max_size=3)), max_size=20),
)
def test_files_with_other_values_read_as_the_oracle_reads_them(
    tmp_path: Path, answers: Any, drawn: list[tuple[int, list[Any]]]
) -> None:
    """The same holds for lines that are JSON, but have any value in any place, and for answers."""
    schema, answer = answers
    lines = [changed_line(Random(seed), answer, values) for seed, values in drawn]
    data = b"\n".join(line for line in lines if is_ours(line))
    for fewest in (0, parse.FEWEST):
        with patch.object(parse, "FEWEST", fewest):
            check(tmp_path, data, schema)


def check(folder: Path, data: bytes, schema: Node | None = None) -> int:
    """Compare the frame of a file with the plain reading, and count its rows."""
    path = folder / "results.jsonl"
    path.write_bytes(data)
    rows = rows_of(bf.read_results(path, json_schema=schema))
    wanted = [{**row, "file": str(path)} for row in read(data, found=rows)]
    assert len(rows) == len(wanted)
    for row, right, (_, line) in zip(rows, wanted, lines_of(data), strict=True):
        if schema is not None:
            add_answer(right, schema, row, is_row=True)
            for one, found in zip(right["choices"] or (), row["choices"] or (), strict=True):
                add_answer(one, schema, found, is_row=False)
        assert written(row) == written(right), line
    return len(rows)


def add_answer(row: Row, schema: Node, found: Row, *, is_row: bool) -> None:
    """Add the cells of an answer by ``json.loads``, and mark what has none; any reason will do.

    What may have any type is a value in a column of pandas, and JSON in the list of choices.
    """
    cells: Row | None = dict.fromkeys(schema["properties"])
    if row["status"] == "ok" and (row["content"] is not None or (is_row and not row["tool_calls"])):
        text = LONE.sub(
            lambda escape: r"\ufffd" if escape["lone"] else escape[0], row["content"] or ""
        )
        if (cells := expected(text, schema)) is None:
            row |= {"status": "invalid_json", "error_message": found["error_message"] or "a reason"}
    for name in schema["properties"]:
        cell = cells and cells[name]
        if isinstance(cell, Json):
            if not is_row:
                found[name] = json.loads(found[name] or "null")
            cell = cell.value
        row[name] = cell


def written(row: Row) -> str:
    """Write a row such that NaN equals NaN, and 1 does not equal 1.0."""
    return json.dumps(row, sort_keys=True)
