"""Decode one result line into the parts of it that are read."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from batch_frames.arrow import dumps, load_text
from batch_frames.files import kind_of, load_line

__all__ = [
    "LONG",
    "Body",
    "Choice",
    "ForeignLine",
    "Line",
    "Raw",
    "Response",
    "call_text",
    "choices_of",
    "citation_text",
    "decode_line",
    "is_chat",
    "load_object",
    "members",
    "objects",
    "refuse_foreign",
    "shared_calls",
]


Raw = bytes | memoryview

Other = list[Any] | str | int | float | bool | None
"""What may be in the place of an object: no value makes a line unreadable."""


class Choice(msgspec.Struct):
    """A choice of a chat, or of the older completions."""

    index: Any = None
    message: Any = UNSET
    text: Any = UNSET
    finish_reason: Any = None


class Body(msgspec.Struct):
    """What is read of the body of a response, whatever its endpoint."""

    object: Any = UNSET
    model: Any = None
    request_id: Any = None
    status: Any = None
    error: Any = None
    incomplete_details: Any = None
    choices: list[Choice | Other] | dict[str, Any] | str | int | float | bool | None = None
    data: Any = None
    results: Any = None
    output: Any = None
    usage: Any = None
    service_tier: Any = None


class Response(msgspec.Struct):
    """The response of a request."""

    status_code: Any = UNSET
    request_id: Any = None
    body: Body | Other | msgspec.UnsetType = UNSET
    candidates: Any = UNSET


class Line(msgspec.Struct):
    """A line of an output or error file."""

    custom_id: Any = None
    response: Response | Other | msgspec.UnsetType = UNSET
    error: Any = UNSET
    request: Any = None
    result: Any = None


class ForeignLine(Exception):  # noqa: N818
    """A line of another service, or one that is not a result; with a problem and a hint."""


LINES = msgspec.json.Decoder(Line)

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

LONG = 8 << 20
"""What the decoder refuses of a longer line is not parsed again, in many times its size."""


def decode_line(raw: Raw) -> Line:
    """Decode a line; what msgspec refuses, such as a lone surrogate, Python's own reader decides.

    Raises:
        ValueError: If it is not a JSON object, or is long and msgspec refuses it; the message says
            what it is.
    """
    try:
        _check(raw)  # the decoder passes over bytes that it does not need
        return LINES.decode(raw)
    except UNREADABLE as error:
        if len(raw) <= LONG:
            return msgspec.convert(load_object(raw), Line)
        names = {UnicodeDecodeError: "not UTF-8", RecursionError: "nested too deep"}
        problem = names.get(type(error), str(error))
    raise ValueError(f"the line has {len(raw):,} bytes, and cannot be read: {problem}")


def _check(raw: Raw) -> None:
    """Check that a line is UTF-8, and without a copy of a long one that it is JSON."""
    if len(raw) <= LONG:
        str(raw, "utf-8")
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(raw), LONG):
        decoder.decode(raw[start : start + LONG], final=start + LONG >= len(raw))
    msgspec.json.decode(raw, type=msgspec.Raw)


def load_object(raw: Raw) -> dict[str, Any]:
    """Parse a line with all that it holds."""
    value = load_line(bytes(raw).rstrip(b"\r\n"))
    if not isinstance(value, dict):
        raise ValueError(f"the line is {kind_of(value)}, not an object")  # noqa: TRY004
    return value


def is_chat(raw: Raw) -> bool:
    """Return whether a line holds the answer of a chat, a text or tool calls."""
    try:
        response = decode_line(raw).response
    except ValueError:
        return False
    body = response.body if isinstance(response, Response) else None
    choices: list[Choice] = choices_of(body) if isinstance(body, Body) else []
    message = members(choices[0].message) if choices else {}
    return isinstance(message.get("content"), str) or bool(message.get("tool_calls"))


def choices_of(body: Body) -> list[Choice]:
    """Return the choices of a body; what is not an object has no members."""
    choices = body.choices if isinstance(body.choices, list) else []
    return [one if isinstance(one, Choice) else Choice() for one in choices]


def members(value: Any) -> Mapping[str, Any]:
    """Return the members of an object; anything else has none."""
    return value if isinstance(value, dict) else {}


def objects(value: Any) -> list[Mapping[str, Any]]:
    """Return the items of a list; what is not an object has no members."""
    return [members(item) for item in value] if isinstance(value, list) else []


def shared_calls(text: str) -> str | None:
    """Rewrite tool calls, given as JSON, as ``call_text`` does; None if this fails."""
    try:
        return call_text(load_text(text))
    except ValueError:
        return None


def call_text(items: Sequence[Any]) -> str | None:
    """Write tool calls, parsed, as JSON under the names that both APIs share."""
    calls = [_call(members(one)) for one in items]
    try:
        return dumps(calls, allow_nan=True) if calls else None
    except RecursionError:
        return dumps([{**one, "arguments": None} for one in calls], allow_nan=True)


def _call(item: Mapping[str, Any]) -> dict[str, Any]:
    said = members(item.get("function")) or members(item.get("custom")) or item
    arguments, text = said.get("arguments"), said.get("input")
    if isinstance(arguments, str):
        text = arguments
        try:
            arguments = load_text(text)
        except ValueError:
            arguments = None
    call_id = item.get("call_id", item.get("id"))
    return {"id": call_id, "name": said.get("name"), "arguments": arguments, "text": text}


def citation_text(parts: Iterable[Mapping[str, Any]]) -> str | None:
    """Write the annotations of texts, which a chat holds one level deeper, as JSON."""
    notes = [note for part in parts for note in objects(part.get("annotations"))]
    found = [
        {"type": one.get("type"), **(members(one.get("url_citation")) or one)} for one in notes
    ]
    return dumps(found, allow_nan=True) if found else None


def _is_ours(line: Line) -> bool:
    """Return whether a line is surely a result of the Batch API, as nearly all are."""
    response, error = line.response, line.error
    is_theirs = line.request or line.result or getattr(response, "candidates", UNSET) is not UNSET
    answers = response is not UNSET or error is not UNSET
    return type(line.custom_id) in (str, int, float) and answers and not is_theirs


def refuse_foreign(line: Line, raw: Raw) -> None:
    """Check that a line is a result of this API.

    Raises:
        ForeignLine: If it is of another service's own format, or a request.
        ValueError: If it is no result, and too long to look for what it is.
    """
    if _is_ours(line):
        return
    if len(raw) > LONG:
        raise ValueError(f"the line has {len(raw):,} bytes, and is not a result")
    if found := _foreign(load_object(raw)):
        raise ForeignLine(*found)


def _foreign(value: Mapping[str, Any]) -> tuple[str, str] | None:
    """Describe a line that is not a result of this API, and what to do with it."""
    result, response = members(value.get("result")), members(value.get("response"))
    answers = "response" in value or "error" in value
    is_gemini = "key" in value and "custom_id" not in value
    is_vertex = "contents" in members(value.get("request")) or "candidates" in response
    if value.get("object") == "batch":
        return "a batch object, not a result", "pass the files that it names"
    if result.get("type") in ("succeeded", "errored", "canceled", "expired"):
        what, company = "a result of Anthropic's Message Batches", "Anthropic"
    elif is_gemini and (is_vertex or answers):
        what, company = "a result of Gemini's Batch API", "Google"
    elif is_vertex:
        what, company = "a result of a Vertex AI batch prediction", "Google"
    elif "recordId" in value and {"modelOutput", "modelInput"} & value.keys():
        what, company = "a record of Amazon Bedrock", "Amazon"
    elif not answers and ("body" in value or {"method", "url"} <= value.keys()):
        return "a request, not a result", "put requests in a file of their own"
    else:
        return None
    return f"{what}, not of the OpenAI Batch API", f"use {company}'s SDK for it"
