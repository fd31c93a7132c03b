"""Read usual lines of the Responses API by their types, which is quicker than to read any line."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from batch_frames.results.decode import LONG, Raw, call_text
from batch_frames.results.fields import RANKS

__all__ = ["NAMES", "read_usual"]


MARK = b'"output"'
"""What other endpoints do not have in their lines, nor do errors."""

Int = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]

Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]

Name = Annotated[str, Meta(min_length=1)]

Flat = str | Int | bool | None

WRITER = msgspec.json.Encoder()
"""It writes text and whole numbers as ``dumps`` does, which floats would not be."""

ARGUMENTS = msgspec.json.Decoder(dict[str, Flat | list[Flat]])


class Text(msgspec.Struct, gc=False):
    """A text of a message; its type is no tag, as that of a single struct may be missing."""

    type: Literal["output_text"]
    text: str
    annotations: list[dict[str, str | Int]] | None = None


class Message(msgspec.Struct, gc=False, tag="message"):
    """A message that is not marked as a step on the way to the final one."""

    content: list[Text]
    phase: None = None


class Thought(msgspec.Struct, gc=False):
    """A paragraph of a summary."""

    text: str


class Reasoning(msgspec.Struct, gc=False, tag="reasoning"):
    """What the model thought."""

    summary: list[Thought] | None = None


class Call(msgspec.Struct, gc=False, tag="function_call"):
    """A call of a function of the user's."""

    call_id: str
    name: str
    arguments: str
    input: UnsetType = UNSET
    function: UnsetType = UNSET
    custom: UnsetType = UNSET


class Search(msgspec.Struct, gc=False, tag="web_search_call"):
    """A search of the web."""


Item = Message | Reasoning | Call | Search


class InputDetails(msgspec.Struct, gc=False):
    """Of which kinds the input tokens are."""

    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None


class OutputDetails(msgspec.Struct, gc=False):
    """Of which kinds the output tokens are."""

    reasoning_tokens: Count | None = None


class Usage(msgspec.Struct, gc=False):
    """Numbers of tokens."""

    input_tokens: Count
    output_tokens: Count
    input_tokens_details: InputDetails
    output_tokens_details: OutputDetails
    cached_tokens: UnsetType = UNSET
    prompt_tokens: UnsetType = UNSET
    completion_tokens: UnsetType = UNSET
    prompt_tokens_details: UnsetType = UNSET
    completion_tokens_details: UnsetType = UNSET


class Body(msgspec.Struct, gc=False):
    """A response that was completed."""

    object: Literal["response"]
    status: Literal["completed"]
    output: list[Item]
    usage: Usage
    model: Name
    service_tier: Name | None = None
    error: None = None
    choices: UnsetType = UNSET
    data: UnsetType = UNSET
    results: UnsetType = UNSET


class Response(msgspec.Struct, gc=False):
    """The response of a request."""

    status_code: Literal[200]
    request_id: Name
    body: Body
    candidates: UnsetType = UNSET


class Line(msgspec.Struct, gc=False):
    """A line of an output file."""

    custom_id: str
    response: Response
    error: None = None
    request: UnsetType = UNSET
    result: UnsetType = UNSET


LINES = msgspec.json.Decoder(Line)

NAMES = (
    "custom_id",
    "status",
    "finish_reason",
    "status_code",
    "request_id",
    "model",
    "service_tier",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "content",
    "tool_calls",
    "citations",
    "reasoning_summary",
)
"""What usual lines tell of."""


def read_usual(line: Raw) -> tuple[Any, ...] | None:
    """Read the values of ``NAMES`` as ``read_line`` does; return None if a line is not usual."""
    if len(line) > LONG or MARK not in (raw := bytes(line)):
        return None
    try:
        raw.decode()  # the decoder passes over bytes that it does not need
        found = LINES.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    response = found.response
    body, usage = response.body, response.body.usage
    return (
        found.custom_id,
        RANKS["ok"],
        "completed",
        200,
        response.request_id,
        body.model,
        body.service_tier,
        usage.input_tokens,
        usage.output_tokens,
        usage.input_tokens_details.cached_tokens,
        usage.input_tokens_details.cache_write_tokens,
        usage.output_tokens_details.reasoning_tokens,
        *_output(body.output),
    )


def _output(items: list[Item]) -> tuple[str | None, ...]:
    texts: list[str] = []
    calls: list[Call] = []
    notes: list[dict[str, str | int]] = []
    thoughts: list[Thought] = []
    for item in items:
        if type(item) is Message:
            for part in item.content:
                texts.append(part.text)
                notes += part.annotations or ()
        elif type(item) is Reasoning:
            thoughts += item.summary or ()
        elif type(item) is Call:
            calls.append(item)
    return (
        "".join(texts) if texts else None,
        _written_calls(calls) if calls else None,
        _written(list(map(_note, notes))) if notes else None,
        "\n\n".join(thought.text for thought in thoughts) or None if thoughts else None,
    )


def _note(note: dict[str, Any]) -> dict[str, Any]:
    return {"type": note.get("type"), **note}


def _written_calls(calls: list[Call]) -> str | None:
    """Write calls whose arguments are flat and without fractions; ``call_text`` writes others."""
    try:
        found = [
            {
                "id": call.call_id,
                "name": call.name,
                "arguments": ARGUMENTS.decode(call.arguments),
                "text": call.arguments,
            }
            for call in calls
        ]
    except (msgspec.MsgspecError, RecursionError):
        return call_text([msgspec.to_builtins(call) for call in calls])
    return _written(found)


def _written(value: Any) -> str:
    return WRITER.encode(value).decode()
