"""Read one result line of any shape, value by value."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from batch_frames.errors import LineError
from batch_frames.files import Lines, kind_of, load_line
from batch_frames.results.fields import RANKS

__all__ = ["CANCELLED", "CUT", "EXPIRED", "Row", "explain", "members", "read_result"]


Row = dict[str, Any]

EXPIRED = ("batch_expired",)

CANCELLED = ("batch_cancelled", "batch_canceled")

CUT = ("length", "max_tokens", "model_length")

LARGEST = 2**63

CALLS = ("function_call", "custom_tool_call")


def read_result(value: Mapping[str, Any], *, raw: bool = False) -> Row:
    """Say what a line's object means: its status, its answer, and what else there is.

    Returns:
        The columns that are known, by name; what is not there is missing.
    """
    response = members(value.get("response"))
    body = _body(response)
    usage = members(body.get("usage"))
    row: Row = {
        "custom_id": _text(value["custom_id"]),
        "status_code": _whole(response.get("status_code")),
        "request_id": _text(response.get("request_id")) or _text(body.get("request_id")) or None,
        "model": _text(body.get("model")) or None,
        **_tokens(usage),
    }
    if row["status_code"] is None and body is response and body:
        row["status_code"] = 200
    code, message = _error(value.get("error"), body.get("error"))
    if code is None and message is None:
        message = _missing(value.get("response"), row["status_code"], body)
    if raw:
        whole = body or response.get("body")
        row["body"] = None if whole is None else dumps(whole)
    if code is None and message is None:
        return {**row, **_answer(body)}
    status = "expired" if code in EXPIRED else "cancelled" if code in CANCELLED else "http_error"
    return {**row, "status": status, "error_code": code, "error_message": message}


def dumps(value: Any) -> str:
    """Write compact JSON, with the infinities that services write though JSON has none."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _body(response: Mapping[str, Any]) -> Mapping[str, Any]:
    """Find the body: an object, JSON text that holds one, or the response itself."""
    body = response.get("body")
    if isinstance(body, str):
        try:
            return members(load_line(body.encode()))
        except ValueError:
            return {}
    bare = "body" not in response and "status_code" not in response
    if bare and ("choices" in response or "object" in response):
        return response
    return members(body)


def _error(*found: Any) -> tuple[str | None, str | None]:
    """Give code and message of the first error that there is."""
    error = next((one for one in found if one), None)
    if isinstance(error, dict) and isinstance(error.get("error"), dict):
        error = error["error"]
    if not isinstance(error, dict):
        return None, _text(error)
    code, kind = error.get("code"), error.get("type")
    named = isinstance(code, str) and code and not code.isdigit()
    if not named and isinstance(kind, str) and kind:
        code = kind
    message = error.get("message")
    return _text(code) or None, dumps(error) if message is None else _text(message)


def _missing(response: Any, status_code: int | None, body: Mapping[str, Any]) -> str | None:
    """Say why there is no answer where no error says it."""
    if not response:
        return "no response"
    if status_code is None or not 200 <= status_code < 300:
        return f"HTTP status {'missing' if status_code is None else status_code}"
    return None if body else "the body is empty"


def _answer(body: Mapping[str, Any]) -> Row:
    """Read the answer of a request that went well."""
    for key, part, read in (
        ("choices", "message", _chat),
        ("choices", "text", _chat),
        ("data", "embedding", _embeddings),
        ("results", "flagged", _moderations),
    ):
        items = body.get(key)
        if isinstance(items, list) and items and part in members(items[0]):
            return read([members(item) for item in items])
    if body.get("object") == "response" or isinstance(body.get("output"), list):
        return _response(body)
    return {"status": "ok", "body": dumps(body)}


def _chat(choices: Sequence[Mapping[str, Any]]) -> Row:
    in_order = sorted(choices, key=lambda choice: _whole(choice.get("index")) or 0)
    first = next((one for one in choices if one.get("index") == 0), choices[0])
    message = members(first.get("message"))
    refusal = _text(message.get("refusal")) or None
    finish = _text(first.get("finish_reason"))
    status = "ok"
    if refusal is not None:
        status = "refused"
    elif finish == "content_filter":
        status = "filtered"
    elif finish in CUT:
        status = "truncated"
    calls = message.get("tool_calls")
    if not calls and message.get("function_call"):
        calls = [{"type": "function", "function": message["function_call"]}]
    return {
        "status": status,
        "content": _said(first),
        "finish_reason": finish,
        "refusal": refusal,
        "tool_calls": dumps(calls) if calls else None,
        "has_choices": True,
        "choices": [_said(choice) for choice in in_order] if len(in_order) > 1 else None,
    }


def _said(choice: Mapping[str, Any]) -> str | None:
    if "message" not in choice:
        return _text(choice.get("text"))
    content = members(choice["message"]).get("content")
    if isinstance(content, list):
        return "".join(_texts(content))
    return _text(content)


def _texts(parts: Sequence[Any], kind: str = "text") -> Iterator[str]:
    for part in parts:
        text = part.get(kind) if isinstance(part, dict) else part
        if isinstance(text, str):
            yield text


def _response(body: Mapping[str, Any]) -> Row:
    """Read the output of the Responses API: messages and calls, of which there may be several."""
    output = body.get("output")
    items = [item for item in output if isinstance(item, dict)] if isinstance(output, list) else []
    messages = [item for item in items if item.get("type") == "message"]
    final = [item for item in messages if item.get("phase") == "final_answer"]
    parts = [
        part
        for item in final or messages
        if isinstance(item.get("content"), list)
        for part in item["content"]
        if isinstance(part, dict)
    ]
    said = [part for part in parts if part.get("type") == "output_text"]
    refusal = "".join(_texts([p for p in parts if p.get("type") == "refusal"], "refusal")) or None
    calls = [item for item in items if item.get("type") in CALLS]
    state = _text(body.get("status"))
    reason = _text(members(body.get("incomplete_details")).get("reason"))
    status, problem = _state(state, reason, refused=refusal is not None)
    return {
        "status": status,
        "error_message": problem,
        "content": "".join(_texts(said)) if said else None,
        "finish_reason": reason if state == "incomplete" else state,
        "refusal": refusal,
        "tool_calls": dumps(calls) if calls else None,
    }


def _state(state: str | None, reason: str | None, *, refused: bool) -> tuple[str, str | None]:
    if state in ("failed", "in_progress", "queued"):
        return "http_error", f"the response is {state}"
    if state == "cancelled":
        return "cancelled", None
    if refused:
        return "refused", None
    if state == "incomplete":
        return "filtered" if reason == "content_filter" else "truncated", None
    return "ok", None


def _embeddings(items: Sequence[Mapping[str, Any]]) -> Row:
    in_order = sorted(items, key=lambda item: _whole(item.get("index")) or 0)
    try:
        return {"status": "ok", "embedding": [_vector(item["embedding"]) for item in in_order]}
    except (KeyError, TypeError, ValueError, binascii.Error):
        return {"status": "http_error", "error_message": "the embedding is not a list of numbers"}


def _vector(value: Any) -> list[float]:
    if isinstance(value, str):
        floats: list[float] = np.frombuffer(base64.b64decode(value, validate=True), "<f4").tolist()
        return floats
    if not isinstance(value, list) or not all(type(number) in (int, float) for number in value):
        raise TypeError
    return [float(number) for number in value]


def _moderations(results: Sequence[Mapping[str, Any]]) -> Row:
    row: Row = {"status": "ok", "flagged": any(result.get("flagged") for result in results)}
    for name in ("categories", "category_scores"):
        found = [result.get(name) for result in results]
        row[name] = dumps(found[0] if len(found) == 1 else found)
    return row


def _tokens(usage: Mapping[str, Any]) -> Row:
    def first(*found: Any) -> int | None:
        return next((n for n in map(_whole, found) if n is not None), None)

    of_input = [members(usage.get(f"{kind}_tokens_details")) for kind in ("prompt", "input")]
    of_output = [members(usage.get(f"{kind}_tokens_details")) for kind in ("completion", "output")]
    cached = [details.get("cached_tokens") for details in of_input]
    return {
        "input_tokens": first(usage.get("prompt_tokens"), usage.get("input_tokens")),
        "cached_tokens": first(*cached, usage.get("cached_tokens")),
        "output_tokens": first(usage.get("completion_tokens"), usage.get("output_tokens")),
        "reasoning_tokens": first(*(details.get("reasoning_tokens") for details in of_output)),
    }


def members(value: Any) -> Mapping[str, Any]:
    """Give the members of an object; anything else has none."""
    return value if isinstance(value, dict) else {}


def _whole(value: Any) -> int | None:
    """Read a whole number from 0, which some services write as text."""
    if isinstance(value, str) and re.fullmatch("[0-9]{1,19}", value):
        value = int(value)
    return value if type(value) is int and 0 <= value < LARGEST else None


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else dumps(value)


OURS = "not of the OpenAI Batch API"


def explain(lines: Lines, index: int, normal: str | None, *, raw: bool = False) -> Row:
    """Read the line of an index; one that is no result becomes ``malformed``.

    Args:
        lines: Where it stands.
        index: Which one it is.
        normal: What DuckDB read there, as JSON; None where that is no JSON for it.
        raw: Whether the body is wanted whatever it is; of a malformed line, all of it.

    Raises:
        LineError: If it belongs to another service, or is a request.
    """
    data = lines.raw(index)
    problem = None
    try:
        value = load_line(data if normal is None else normal.encode())
        problem = _no_result(value)
    except ValueError as error:
        problem = str(error)
    if problem:
        row: Row = {"status": RANKS["malformed"], "error_message": problem}
        return {**row, "body": data.decode("utf-8", "replace")} if raw else row
    if foreign := _foreign(value):
        raise LineError(foreign, path=lines.path, line=int(lines.numbers[index]))
    row = read_result(value, raw=raw)
    return {**row, "status": RANKS[row["status"]]}


def _no_result(value: Any) -> str | None:
    if not isinstance(value, dict):
        return f"the line is {kind_of(value)}, not an object"
    if type(value.get("custom_id")) not in (str, int, float) and not _foreign(value):
        return "it has no 'custom_id'"
    return None


def _foreign(value: Mapping[str, Any]) -> str | None:
    """Say what a line is that is no result of this API."""
    result, response = members(value.get("result")), members(value.get("response"))
    if result.get("type") in ("succeeded", "errored", "canceled", "expired"):
        return f"a result of Anthropic's Message Batches, {OURS}; use Anthropic's SDK for it"
    if "contents" in members(value.get("request")) or "candidates" in response:
        if "key" in value and "custom_id" not in value:
            return f"a result of Gemini's Batch API, {OURS}; use Google's SDK for it"
        return f"a result of a Vertex AI batch prediction, {OURS}; use Google's SDK for it"
    if "key" in value and "custom_id" not in value and {"response", "error"} & value.keys():
        return f"a result of Gemini's Batch API, {OURS}; use Google's SDK for it"
    if "recordId" in value and {"modelOutput", "modelInput"} & value.keys():
        return f"a record of Amazon Bedrock, {OURS}; use Amazon's SDK for it"
    if value.get("object") == "batch":
        return "a batch object, not a result; pass the files that it names"
    asks = "body" in value or {"method", "url"} <= value.keys()
    if asks and not {"response", "error"} & value.keys():
        return "a request, not a result; read the file with read_requests"
    return None
