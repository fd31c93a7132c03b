"""Lines of result files, and the rows that they become."""

import base64
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.oracle import (
    COLUMNS,
    SOMETIMES,
    Row,
)

DEEP = b"[" * 100_000


def dumps(value: Any) -> str:
    """Write compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def write(path: Path, *values: Any) -> Path:
    """Write JSON values, or bytes as they are, as lines."""
    lines = [v if isinstance(v, bytes) else dumps(v).encode() for v in values]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def result(body: Any = None, custom_id: Any = "a", code: Any = 200, error: Any = None) -> Row:
    """Make a result as the service writes it."""
    response = {"status_code": code, "request_id": "r1", "body": body}
    return {"id": "batch_req_1", "custom_id": custom_id, "response": response, "error": error}


def failed(error: Any, **others: Any) -> Row:
    """Make a result that has an error and no response."""
    return {"id": "batch_req_1", "custom_id": "a", "response": None, "error": error, **others}


def choice(content: Any = "hi", finish: Any = "stop", index: int = 0, **message: Any) -> Row:
    """Make a choice of a chat."""
    said = {"role": "assistant", "content": content, "refusal": None, **message}
    return {"index": index, "message": said, "logprobs": None, "finish_reason": finish}


def chat(*choices: Row, **others: Any) -> Row:
    """Make the body of a chat."""
    body = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m"}
    return {**body, "choices": list(choices) or [choice()], "usage": USAGE, **others}


def responses(*output: Row, status: str = "completed", **others: Any) -> Row:
    """Make the body of the Responses API."""
    body = {"id": "resp_1", "object": "response", "status": status, "error": None, "model": "m"}
    return {**body, "output": list(output), "usage": OTHER_USAGE, **others}


def message(*parts: Row, **others: Any) -> Row:
    """Make an output item that is a message."""
    return {"type": "message", "role": "assistant", "content": list(parts), **others}


def text(value: str) -> Row:
    """Make a part of a message that is text."""
    return {"type": "output_text", "text": value, "annotations": []}


def refusing(value: str) -> Row:
    """Make a part of a message that refuses."""
    return {"type": "refusal", "refusal": value}


def embeddings(*vectors: Any) -> Row:
    """Make the body of embeddings."""
    data = [{"object": "embedding", "index": n, "embedding": v} for n, v in enumerate(vectors)]
    usage = {"prompt_tokens": 3, "total_tokens": 3}
    return {"object": "list", "data": data, "model": "m", "usage": usage}


def packed(*numbers: float) -> str:
    """Write a vector as the service does with ``encoding_format=base64``."""
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def floats(*numbers: float) -> list[float]:
    """Round numbers to the 32 bits that an embedding has."""
    return [float(number) for number in np.array(numbers, np.float32)]


def moderated(*flags: bool) -> Row:
    """Make the body of moderations."""
    results = [
        {"flagged": f, "categories": {"hate": f}, "category_scores": {"hate": 0.25}} for f in flags
    ]
    return {"id": "modr-1", "model": "m", "results": results}


USAGE = {
    "prompt_tokens": 3,
    "completion_tokens": 5,
    "total_tokens": 8,
    "prompt_tokens_details": {"cached_tokens": 1, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 2, "audio_tokens": 0},
}
OTHER_USAGE = {
    "input_tokens": 3,
    "input_tokens_details": {"cached_tokens": 1},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 8,
}
COUNTS = {"input_tokens": 3, "cached_tokens": 1, "output_tokens": 5, "reasoning_tokens": 2}
FOUND = {"custom_id": "a", "status_code": 200, "request_id": "r1"}
OK = {**FOUND, "status": "ok", "model": "m", **COUNTS, "content": "hi", "finish_reason": "stop"}
CUT = {**OK, "status": "truncated", "finish_reason": "length"}
DONE = {**OK, "finish_reason": "completed"}
ANSWERED = {**FOUND, "status": "ok", "model": "m"}
EMBEDDED = {**ANSWERED, "input_tokens": 3}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}
OLD_CALL = {"name": "f", "arguments": "{}"}
ITEM = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
CALLED = {"id": "c", "name": "f", "arguments": {"x": 1}, "text": '{"x":1}'}
OLD_CALLED: Row = {"id": None, "name": "f", "arguments": {}, "text": "{}"}
ITEM_CALLED = {**OLD_CALLED, "id": "c"}
CUSTOM_CALLED = {"id": "c", "name": "f", "arguments": None, "text": "x"}
CUSTOM = {"type": "custom_tool_call", "call_id": "c", "name": "f", "input": "x"}
REASONING = {"type": "reasoning", "summary": [], "encrypted_content": "x"}
FAULT = {"message": "Bad model.", "type": "invalid_request_error", "param": None, "code": "bad"}
FAILED = {"custom_id": "a", "status": "http_error", "error_code": "bad"}
FAILED["error_message"] = "Bad model."
REFUSED = {**FAILED, "status_code": 400, "request_id": "r1"}
NO_VECTOR = {"status": "http_error", "error_message": "the embedding is not a list of numbers"}
NO_BODY = {**FOUND, "status": "http_error", "error_message": "the body is empty"}


def chosen(content: Any = "hi", finish: Any = "stop", status: str = "ok", **others: Any) -> Row:
    """Make the item of a choice."""
    row = {"status": status, "content": content, "finish_reason": finish, "refusal": None}
    return {**row, "error_message": None, **others}


def malformed(problem: str) -> Row:
    """Make the row of a line that is no result."""
    return {"status": "malformed", "error_message": problem}


NO_ID = malformed("it has no 'custom_id'")
GOOD = dumps(result(chat())).encode()


def whole(row: Row, path: Path, line: int) -> Row:
    """Add what is missing to a row."""
    place = {"file": str(path), "line": line}
    return {**dict.fromkeys((*COLUMNS, *SOMETIMES)), **row, **place}


def without_file(rows: list[Row]) -> list[Row]:
    """Take the file out of rows, of which the oracle knows nothing."""
    return [{name: value for name, value in row.items() if name != "file"} for row in rows]
