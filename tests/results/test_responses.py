"""Usual lines of the Responses API, read by their types as any line is read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from batch_frames.results.line import Row, read_line
from batch_frames.results.responses import NAMES, read_usual
from tests.support.results import message, responses, result, text

NOTE = {"type": "url_citation", "url": "https://a.é/\u2028", "title": 'A "b"\n', "start_index": 0}
CALL = {
    "type": "function_call",
    "call_id": "c1",
    "name": "rate",
    "arguments": '{"stars": [3, null]}',
}
THOUGHT = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}
USUAL = {
    "text": [message(text("Good."))],
    "thoughts": [THOUGHT, message(text("é"), text("😀"))],
    "calls": [CALL, {**CALL, "call_id": "c2", "arguments": '{"score": 0.5}'}],
    "arguments that are no JSON": [{**CALL, "arguments": "{"}],
    "search": [
        {"type": "web_search_call"},
        message({**text("Found."), "annotations": [NOTE, NOTE]}),
    ],
}
OTHERS: dict[str, Any] = {
    "a refusal": [message({"type": "refusal", "refusal": "No."})],
    "a part without a type": [message({"text": "Good."})],
    "a text that is a number": [message(text(5))],  # type: ignore[arg-type]
    "a final answer": [message(text("Good."), phase="final_answer")],
    "another item": [{"type": "computer_call"}],
}


def known(row: Row) -> Row:
    """Leave out what is missing."""
    return {name: value for name, value in row.items() if value is not None}


@pytest.mark.parametrize("output", USUAL.values(), ids=list(USUAL))
def test_usual_lines_are_read_as_any_line_is(output: list[Row]) -> None:
    """Each value is the one that the reading of lines of any shape finds."""
    raw = json.dumps(result(responses(*output))).encode()
    found = read_usual(raw)
    assert found is not None
    assert known(dict(zip(NAMES, found, strict=True))) == known(read_line(raw))


@pytest.mark.parametrize("output", OTHERS.values(), ids=list(OTHERS))
def test_other_lines_are_left(output: list[Row]) -> None:
    """What the types do not describe is not read by them."""
    assert read_usual(json.dumps(result(responses(*output))).encode()) is None
