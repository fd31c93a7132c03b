"""Read the values of one result line of any shape."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import UNSET

from batch_frames.arrow import dumps, load_text
from batch_frames.results.decode import (
    LONG,
    Body,
    Choice,
    Line,
    Raw,
    Response,
    call_text,
    choices_of,
    citation_text,
    decode_line,
    load_object,
    members,
    objects,
    refuse_foreign,
)
from batch_frames.results.fields import RANKS

__all__ = ["LENGTH_REASONS", "Row", "read_line"]


Row = dict[str, Any]

LENGTH_REASONS = ("length", "max_tokens", "model_length")

DIGITS = re.compile("[0-9]{1,19}")

INT64_END = 2**63

CALLS = ("function_call", "custom_tool_call")

STATUS_OF_CODE = {
    "batch_expired": "expired",
    "batch_cancelled": "cancelled",
    "batch_canceled": "cancelled",
}


def read_line(raw: Raw, *, keep_body: bool = False) -> Row:
    """Read a line; one that is not a result becomes ``malformed``.

    Args:
        raw: Its bytes.
        keep_body: Whether the body is wanted whatever it is; of a malformed line, what there is,
            up to ``LONG`` bytes.

    Returns:
        The columns that are known, by name; what is not there is missing.

    Raises:
        ForeignLine: If it belongs to another service, or is a request.
    """
    try:
        line = decode_line(raw)
        refuse_foreign(line, raw)
        if type(line.custom_id) not in (str, int, float):
            raise ValueError("it has no 'custom_id'")
    except ValueError as error:
        row: Row = {"status": RANKS["malformed"], "error_message": str(error)}
        if keep_body:
            row["body"] = bytes(raw[:LONG]).strip(b"\r\n").decode("utf-8", "replace")
        return row
    row = _read(line, lambda: members(load_object(raw).get("response")), keep_body)
    row["status"] = RANKS[row["status"]]
    return row


Whole = Callable[[], Mapping[str, Any]]
"""Loads the response with all that it holds, of which the decoder keeps what most lines need."""


def _read(line: Line, whole: Whole, keep_body: bool) -> Row:
    """Read a line's status, its answer, and what else there is."""
    response = line.response if isinstance(line.response, Response) else Response()
    code = _whole_number(response.status_code)
    if isinstance(response.body, Body):
        body = response.body
    else:
        body = msgspec.convert(_whole_body(whole()), Body)
        if response.status_code is UNSET and response.body is UNSET and body != Body():
            code = 200
    row: Row = {
        "custom_id": _text(line.custom_id),
        "status_code": code,
        "request_id": _text(response.request_id) or _text(body.request_id) or None,
        "model": _text(body.model) or None,
        "service_tier": _text(body.service_tier) or None,
    }
    if usage := members(body.usage):
        row |= _tokens(usage)
    if keep_body:
        loaded = whole()
        found = _whole_body(loaded) or loaded.get("body")
        row["body"] = None if found is None else _dumps(found)
    error = line.error or body.error
    return row | (_error(error) if error else _outcome(code, body, line.response, whole))


def _whole_body(response: Mapping[str, Any]) -> Mapping[str, Any]:
    """Find the body: an object, JSON text that holds one, or the response itself."""
    body = response.get("body")
    if isinstance(body, str):
        try:
            return members(load_text(body))
        except ValueError:
            return {}
    answers = response.get("choices") is not None or "object" in response
    is_bare = answers and not response.keys() & {"body", "status_code"}
    return response if is_bare else members(body)


def _error(error: Any) -> Row:
    """Read code and message of an error."""
    if isinstance(error, dict) and isinstance(error.get("error"), dict):
        error = error["error"]
    if not isinstance(error, dict):
        return {"status": "http_error", "error_message": _text(error)}
    code, kind, message = error.get("code"), error.get("type"), error.get("message")
    is_named = isinstance(code, str) and code and not code.isdigit()
    if not is_named and isinstance(kind, str) and kind:
        code = kind
    code = _text(code) or None
    return {
        "status": STATUS_OF_CODE.get(code or "", "http_error"),
        "error_code": code,
        "error_message": _dumps(error) if message is None else _text(message),
    }


def _outcome(code: int | None, body: Body, response: Any, whole: Whole) -> Row:
    """Read the answer of a request without an error, or explain why there is none."""
    if code is not None and 200 <= code < 300:
        if answer := _answer(body):
            return answer
        if found := _whole_body(whole()):
            return {"status": "ok", "body": _dumps(found)}
        problem = "the body is empty"
    elif not (whole() if isinstance(response, Response) else response):
        problem = "no response"
    else:
        problem = f"HTTP status {'missing' if code is None else code}"
    return {"status": "http_error", "error_message": problem}


def _answer(body: Body) -> Row | None:
    """Read the answer of an endpoint that is known."""
    choices = choices_of(body)
    if choices and (choices[0].message is not UNSET or choices[0].text is not UNSET):
        return _chat(choices)
    if (vectors := objects(body.data)) and "embedding" in vectors[0]:
        return _embeddings(vectors)
    if (results := objects(body.results)) and "flagged" in results[0]:
        return _moderations(results)
    if body.object == "response" or isinstance(body.output, list):
        return _response(body)
    return None


def _chat(choices: Sequence[Choice]) -> Row:
    first = next((one for one in choices if one.index == 0), choices[0])
    message = members(first.message)
    calls = message.get("tool_calls")
    if not (isinstance(calls, list) and calls):
        called = message.get("function_call")
        calls = [{"type": "function", "function": called}] if called else []
    in_order = sorted(choices, key=lambda one: _place(one.index))
    return {
        **_choice(first),
        "tool_calls": call_text(calls),
        "citations": citation_text([message]),
        "has_choices": True,
        "choices": list(map(_choice, in_order)) if len(choices) > 1 else None,
    }


def _choice(choice: Choice) -> Row:
    """Read one choice."""
    refusal = _text(members(choice.message).get("refusal")) or None
    finish = _text(choice.finish_reason)
    status = "ok"
    if refusal is not None:
        status = "refused"
    elif finish == "content_filter":
        status = "filtered"
    elif finish in LENGTH_REASONS:
        status = "truncated"
    content = _content(choice)
    return {"status": status, "content": content, "finish_reason": finish, "refusal": refusal}


def _content(choice: Choice) -> str | None:
    """Read the text of one choice."""
    if choice.message is UNSET:
        return None if choice.text is UNSET else _text(choice.text)
    content = members(choice.message).get("content")
    if not isinstance(content, list):
        return _text(content)
    return _joined(part.get("text") if isinstance(part, dict) else part for part in content)


def _response(body: Body) -> Row:
    """Read the output of the Responses API: messages and calls, of which there may be several."""
    items = objects(body.output)
    messages = [item for item in items if item.get("type") == "message"]
    final = [item for item in messages if item.get("phase") == "final_answer"]
    texts, refusals = [], []
    parts = [part for item in final or messages for part in objects(item.get("content"))]
    for part in parts:
        if part.get("type") == "output_text":
            texts.append(part.get("text"))
        elif part.get("type") == "refusal":
            refusals.append(part.get("refusal"))
    refusal = _joined(refusals) or None
    thoughts = [item for item in items if item.get("type") == "reasoning"]
    summary = [part.get("text") for item in thoughts for part in objects(item.get("summary"))]
    state = _text(body.status)
    reason = _text(members(body.incomplete_details).get("reason"))
    row: Row = {
        "status": "ok",
        "content": _joined(texts) if texts else None,
        "finish_reason": reason if state == "incomplete" else state,
        "refusal": refusal,
        "tool_calls": call_text([item for item in items if item.get("type") in CALLS]),
        "citations": citation_text(parts),
        "reasoning_summary": _joined(summary, "\n\n") or None,
    }
    if state in ("failed", "in_progress", "queued"):
        row |= {"status": "http_error", "error_message": f"the response is {state}"}
    elif state == "cancelled":
        row["status"] = "cancelled"
    elif refusal is not None:
        row["status"] = "refused"
    elif state == "incomplete":
        row["status"] = "filtered" if reason == "content_filter" else "truncated"
    return row


def _embeddings(items: Sequence[Mapping[str, Any]]) -> Row:
    in_order = sorted(items, key=lambda one: _place(one.get("index")))
    try:
        return {"status": "ok", "embedding": [_vector(one.get("embedding")) for one in in_order]}
    except (TypeError, ValueError, OverflowError):
        return {"status": "http_error", "error_message": "the embedding is not a list of numbers"}


def _vector(value: Any) -> npt.NDArray[np.float32]:
    if isinstance(value, str):
        return np.frombuffer(base64.b64decode(value, validate=True), "<f4")
    if not isinstance(value, list) or not set(map(type, value)) <= {int, float}:
        raise TypeError
    with np.errstate(over="ignore"):
        return np.array(value, np.float64).astype(np.float32)


def _moderations(results: Sequence[Mapping[str, Any]]) -> Row:
    row: Row = {"status": "ok", "flagged": any(result.get("flagged") for result in results)}
    for name in ("categories", "category_scores"):
        found = [result.get(name) for result in results]
        row[name] = _dumps(found[0] if len(found) == 1 else found)
    return row


def _tokens(usage: Mapping[str, Any]) -> Row:
    """Read numbers of tokens, as chat or as the Responses API names them."""
    get = usage.get
    of_input = {**members(get("input_tokens_details")), **members(get("prompt_tokens_details"))}
    of_output = {
        **members(get("output_tokens_details")),
        **members(get("completion_tokens_details")),
    }
    return {
        "input_tokens": _whole_number(get("prompt_tokens"), get("input_tokens")),
        "cached_tokens": _whole_number(of_input.get("cached_tokens"), get("cached_tokens")),
        "output_tokens": _whole_number(get("completion_tokens"), get("output_tokens")),
        "reasoning_tokens": _whole_number(of_output.get("reasoning_tokens")),
        "cache_write_tokens": _whole_number(of_input.get("cache_write_tokens")),
    }


def _whole_number(*values: Any) -> int | None:
    """Return the first whole number from 0, which some services write as text."""
    for value in values:
        number = int(value) if isinstance(value, str) and DIGITS.fullmatch(value) else value
        if type(number) is int and 0 <= number < INT64_END:
            return number
    return None


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return _float_text(value) if isinstance(value, float) else _dumps(value)


def _float_text(value: float) -> str:
    """Write a float as DuckDB does, which reads large files, and the ids of requests."""
    text = _dumps(value)
    if "e" in text and 1e-6 <= abs(value) < 1e21:
        return np.format_float_positional(value, trim="0")
    mantissa, _, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else text


def _dumps(value: Any) -> str:
    """Write compact JSON, with the infinities that services write though JSON has none."""
    return dumps(value, allow_nan=True)


def _joined(texts: Iterable[Any], between: str = "") -> str:
    return between.join(text for text in texts if isinstance(text, str))


def _place(index: Any) -> int:
    """Return the key by which choices and vectors are sorted."""
    return _whole_number(index) or 0
