"""Results of every shape read into one row each, compared with rows written out by hand."""

import base64
import gzip
import json
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from oracle import (
    COLUMNS,
    JSON_COLUMNS,
    SOMETIMES,
    STATUSES,
    TOKENS,
    Foreign,
    Row,
    plain,
    read,
    rows_of,
)

import batch_frames as bf

OURS = "not of the OpenAI Batch API"
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
CUSTOM = {"type": "custom_tool_call", "call_id": "c", "name": "f", "input": "x"}
REASONING = {"type": "reasoning", "summary": [], "encrypted_content": "x"}
FAULT = {"message": "Bad model.", "type": "invalid_request_error", "param": None, "code": "bad"}
FAILED = {"custom_id": "a", "status": "http_error", "error_code": "bad"}
FAILED["error_message"] = "Bad model."
REFUSED = {**FAILED, "status_code": 400, "request_id": "r1"}
NO_VECTOR = {"status": "http_error", "error_message": "the embedding is not a list of numbers"}
NO_BODY = {**FOUND, "status": "http_error", "error_message": "the body is empty"}

FIVE_SHAPES = [
    ("normal", result(chat()), OK),
    (
        "error in the body",
        result({"error": FAULT}, code=400),
        REFUSED,
    ),
    (
        "expired",
        failed({"code": "batch_expired", "message": "Too late."}),
        {
            "custom_id": "a",
            "status": "expired",
            "error_code": "batch_expired",
            "error_message": "Too late.",
        },
    ),
    (
        "status 0",
        {**failed(None), "response": {"status_code": 0, "request_id": "", "body": {}}},
        {
            "custom_id": "a",
            "status": "http_error",
            "status_code": 0,
            "error_message": "HTTP status 0",
        },
    ),
    (
        "vllm nested",
        result(None, code=400, error={"error": {**FAULT, "type": "BadRequestError", "code": 400}}),
        {**FAILED, "error_code": "BadRequestError", "status_code": 400, "request_id": "r1"},
    ),
    (
        "vllm text",
        result(None, code=400, error="No such model."),
        {
            **FOUND,
            "status": "http_error",
            "status_code": 400,
            "error_message": "No such model.",
        },
    ),
]

JUNK = [
    ("no id", {k: v for k, v in result(chat()).items() if k != "id"}, OK),
    ("no error", {k: v for k, v in result(chat()).items() if k != "error"}, OK),
    ("error {}", result(chat(), error={}), OK),
    ("error empty text", result(chat(), error=""), OK),
    ("body error null", result(chat(error=None)), OK),
    ("body error {}", result(chat(error={})), OK),
    ("body as text", result(dumps(chat())), OK),
    ("body as text with an error", result(dumps({"error": FAULT}), code=400), REFUSED),
    (
        "body as text beside an error",
        result(dumps(chat()), error="Bad model."),
        {**FOUND, **COUNTS, **FAILED, "error_code": None, "model": "m"},
    ),
    (
        "body as text, status 500",
        result(dumps(chat()), code=500),
        {
            **FOUND,
            **COUNTS,
            "status_code": 500,
            "model": "m",
            "status": "http_error",
            "error_message": "HTTP status 500",
        },
    ),
    ("body as other text", result("Bad Gateway"), NO_BODY),
    ("body as text of a list", result("[1]"), NO_BODY),
    ("body a list", result([chat()]), NO_BODY),
    ("body null", result(None), NO_BODY),
    (
        "body a page",
        result("<html>Bad Gateway</html>", code=502),
        {
            **FOUND,
            "status": "http_error",
            "status_code": 502,
            "error_message": "HTTP status 502",
        },
    ),
    ("body {}", result({}), NO_BODY),
    (
        "status 200, no body",
        {**result(), "response": {"status_code": 200}},
        {**NO_BODY, "request_id": None},
    ),
    (
        "status 502, no body",
        result(None, code=502),
        {
            **FOUND,
            "status": "http_error",
            "status_code": 502,
            "error_message": "HTTP status 502",
        },
    ),
    ("status 200 as text", result(chat(), code="200"), OK),
    ("status 201", result(chat(), code=201), {**OK, "status_code": 201}),
    (
        "status 300",
        result(chat(), code=300),
        {
            **FOUND,
            **COUNTS,
            "model": "m",
            "status": "http_error",
            "status_code": 300,
            "error_message": "HTTP status 300",
        },
    ),
    (
        "status 200 with an error",
        result(chat(), error=FAULT),
        {**FOUND, **COUNTS, **FAILED, "model": "m"},
    ),
    (
        "request id empty",
        {**result(), "response": {"status_code": 200, "request_id": "", "body": {}}},
        {**NO_BODY, "request_id": None},
    ),
    (
        "request id in the body",
        {"custom_id": "a", "response": {"status_code": 200, "body": chat(request_id="z")}},
        {**OK, "request_id": "z"},
    ),
    ("model empty", result(chat(model="")), {**OK, "model": None}),
    ("old vllm", {"id": "v", "custom_id": "a", "response": chat()}, {**OK, "request_id": None}),
    ("id a number", result(chat(), custom_id=17), {**OK, "custom_id": "17"}),
    ("id a fraction", result(chat(), custom_id=1.5), {**OK, "custom_id": "1.5"}),
    ("id with zeros", result(chat(), custom_id="00123"), {**OK, "custom_id": "00123"}),
    ("id like a date", result(chat(), custom_id="2024-01-01"), {**OK, "custom_id": "2024-01-01"}),
    ("id like a float", result(chat(), custom_id="1e5"), {**OK, "custom_id": "1e5"}),
    ("id empty", result(chat(), custom_id=""), {**OK, "custom_id": ""}),
    *(
        (f"id {name}", result(chat(), custom_id=name), {**OK, "custom_id": name})
        for name in ("true", "null", "task-1", "false-1", "[1]", "{}", '"', "-1", "1", "NaN")
    ),
    ("id with signs", result(chat(), custom_id='é"\\\n😀'), {**OK, "custom_id": 'é"\\\n😀'}),
    (
        "azure",
        {
            "custom_id": "a",
            "error": None,
            "response": {
                "body": chat(
                    {**choice(), "content_filter_results": {"hate": {"filtered": False}}},
                    prompt_filter_results=[{"prompt_index": 0}],
                ),
                "request_id": "r1",
                "status_code": 200,
            },
        },
        OK,
    ),
    (
        "groq",
        result(chat(usage={**USAGE, "queue_time": 0.25, "prompt_time": 0.5}, x_groq={"id": "g"})),
        OK,
    ),
    (
        "zhipu",
        {
            "response": {
                "status_code": 200,
                "body": {
                    "created": 1,
                    "model": "m",
                    "choices": [choice()],
                    "request_id": "r1",
                    "usage": USAGE,
                },
            },
            "custom_id": "a",
            "id": "batch_1",
        },
        OK,
    ),
    ("ogx error", {"id": "o", "custom_id": "a", "error": FAULT}, FAILED),
    (
        "error text only",
        {"custom_id": "a", "error": "Connection refused.", "elapsed_time": 0.5},
        {"custom_id": "a", "status": "http_error", "error_message": "Connection refused."},
    ),
]

NO_RESPONSE = {"custom_id": "a", "status": "http_error", "error_message": "no response"}
ERRORS = [
    ("response null", failed(None), NO_RESPONSE),
    ("response {}", {**failed(None), "response": {}}, NO_RESPONSE),
    ("response absent", {"custom_id": "a", "error": None}, NO_RESPONSE),
    ("only an id", {"custom_id": "a"}, NO_RESPONSE),
    (
        "no status code",
        {"custom_id": "a", "response": {"body": chat()}},
        {
            **COUNTS,
            "custom_id": "a",
            "status": "http_error",
            "error_message": "HTTP status missing",
            "model": "m",
        },
    ),
    *(
        (
            f"status {code!r}",
            result({}, code=code),
            {
                **FOUND,
                "status_code": None,
                "status": "http_error",
                "error_message": "HTTP status missing",
            },
        )
        for code in (None, "", "x200", 200.0, 200.5, True, [200], -1, "-1", 2**63)
    ),
    *(
        (
            code,
            failed({"code": code, "message": "Stopped."}),
            {
                "custom_id": "a",
                "status": status,
                "error_code": code,
                "error_message": "Stopped.",
            },
        )
        for code, status in (
            ("batch_cancelled", "cancelled"),
            ("batch_canceled", "cancelled"),
            ("batch_expired", "expired"),
            ("rate_limit_exceeded", "http_error"),
        )
    ),
    ("code null", failed({**FAULT, "code": None}), {**FAILED, "error_code": FAULT["type"]}),
    ("code empty", failed({**FAULT, "code": ""}), {**FAILED, "error_code": FAULT["type"]}),
    ("code digits", failed({**FAULT, "code": "429"}), {**FAILED, "error_code": FAULT["type"]}),
    ("code a number", failed({**FAULT, "code": 429}), {**FAILED, "error_code": FAULT["type"]}),
    ("code alone", failed({"code": 429, "message": "Bad model."}), {**FAILED, "error_code": "429"}),
    (
        "code digits alone",
        failed({"code": "429", "message": "Bad model."}),
        {**FAILED, "error_code": "429"},
    ),
    *(
        (f"code {code!r}", failed({**FAULT, "code": code}), {**FAILED, "error_code": FAULT["type"]})
        for code in (-1, 0.5, 1e3, True, [1], {"x": 1})
    ),
    ("no code", failed({"message": "Bad model."}), {**FAILED, "error_code": None}),
    *(
        (
            f"text {error}",
            failed(error),
            {**FAILED, "error_code": None, "error_message": error},
        )
        for error in ("true", "null", "[]", "{}", "429", '{"code":"x"}', "The server is busy.")
    ),
    (
        "no message",
        failed({"code": "bad", "param": "x"}),
        {**FAILED, "error_message": '{"code":"bad","param":"x"}'},
    ),
    ("nested", failed({"type": "error", "error": FAULT}), FAILED),
    (
        "nested text",
        failed({"error": "Bad model."}),
        {**FAILED, "error_code": None, "error_message": '{"error":"Bad model."}'},
    ),
    ("text", failed("Bad model."), {**FAILED, "error_code": None}),
    ("list", failed(["Bad"]), {**FAILED, "error_code": None, "error_message": '["Bad"]'}),
    (
        "both",
        result({"error": {"message": "inner"}}, code=400, error=FAULT),
        REFUSED,
    ),
    (
        "body error text",
        result({"error": "Bad model."}, code=500),
        {**FAILED, "error_code": None, "status_code": 500, "request_id": "r1"},
    ),
    (
        "body error nested",
        result({"error": {"error": FAULT}}, code=500),
        {**FAILED, "status_code": 500, "request_id": "r1"},
    ),
]

CHATS = [
    ("length", result(chat(choice('{"a":', "length"))), {**CUT, "content": '{"a":'}),
    (
        "max_tokens",
        result(chat(choice("hi", "max_tokens"))),
        {**CUT, "finish_reason": "max_tokens"},
    ),
    (
        "model_length",
        result(chat(choice("hi", "model_length"))),
        {**CUT, "finish_reason": "model_length"},
    ),
    (
        "content_filter",
        result(chat(choice("", "content_filter"))),
        {**OK, "status": "filtered", "finish_reason": "content_filter", "content": ""},
    ),
    (
        "refusal",
        result(chat(choice(None, refusal="I cannot."))),
        {**OK, "status": "refused", "content": None, "refusal": "I cannot."},
    ),
    (
        "refusal cut",
        result(chat(choice(None, "length", refusal="I"))),
        {**CUT, "status": "refused", "content": None, "refusal": "I"},
    ),
    ("refusal empty", result(chat(choice(refusal=""))), OK),
    ("finish null", result(chat(choice("hi", None))), {**OK, "finish_reason": None}),
    ("finish other", result(chat(choice("hi", "eos"))), {**OK, "finish_reason": "eos"}),
    ("content empty", result(chat(choice(""))), {**OK, "content": ""}),
    ("content null", result(chat(choice(None))), {**OK, "content": None}),
    (
        "content parts",
        result(chat(choice([{"type": "text", "text": "a"}, {"type": "image"}, "b"]))),
        {**OK, "content": "ab"},
    ),
    ("content object", result(chat(choice({"é": [1, "x"]}))), {**OK, "content": '{"é":[1,"x"]}'}),
    ("content number", result(chat(choice(5))), {**OK, "content": "5"}),
    (
        "content signs",
        result(chat(choice('\x00\u2028\u2029\x85 "\\/\n😀\ufeff'))),
        {**OK, "content": '\x00\u2028\u2029\x85 "\\/\n😀\ufeff'},
    ),
    (
        "tool calls",
        result(chat(choice(None, "tool_calls", tool_calls=[CALL, CALL]))),
        {**OK, "content": None, "finish_reason": "tool_calls", "tool_calls": [CALL, CALL]},
    ),
    ("no tool calls", result(chat(choice(tool_calls=[]))), OK),
    (
        "function call",
        result(chat(choice(None, "function_call", tool_calls=None, function_call=OLD_CALL))),
        {
            **OK,
            "content": None,
            "finish_reason": "function_call",
            "tool_calls": [{"type": "function", "function": OLD_CALL}],
        },
    ),
    (
        "two choices",
        result(chat(choice("x", "length", 1), choice("y"))),
        {**OK, "content": "y", "choices": ["y", "x"]},
    ),
    (
        "no first choice",
        result(chat(choice("x", index=2), choice("y", index=1))),
        {**OK, "content": "x", "choices": ["y", "x"]},
    ),
    (
        "a choice without text",
        result(chat(choice(), choice(None, index=1))),
        {**OK, "choices": ["hi", None]},
    ),
    ("no index", result(chat({"message": {"content": "hi"}})), {**OK, "finish_reason": None}),
    (
        "no usage",
        result({"choices": [choice()], "model": "m"}),
        {**OK, **dict.fromkeys(COUNTS)},
    ),
    ("usage null", result(chat(usage=None)), {**OK, **dict.fromkeys(COUNTS)}),
    (
        "kimi",
        result(chat(usage={"cached_tokens": 7})),
        {**OK, **dict.fromkeys(COUNTS), "cached_tokens": 7},
    ),
    (
        "usage odd",
        result(chat(usage={"prompt_tokens": "3", "completion_tokens": 5.0})),
        {**OK, **dict.fromkeys(COUNTS), "input_tokens": 3},
    ),
    (
        "usage large",
        result(chat(usage={"prompt_tokens": 2**63 - 1, "completion_tokens": 2**63})),
        {**OK, **dict.fromkeys(COUNTS), "input_tokens": 2**63 - 1},
    ),
    (
        "usage negative",
        result(chat(usage={"prompt_tokens": -3, "completion_tokens": 0})),
        {**OK, **dict.fromkeys(COUNTS), "output_tokens": 0},
    ),
    (
        "completion",
        result(
            {
                "object": "text_completion",
                "model": "m",
                "choices": [
                    {"text": " hi", "index": 0, "logprobs": None, "finish_reason": "length"}
                ],
                "usage": USAGE,
            }
        ),
        {**CUT, "content": " hi"},
    ),
    (
        "completions",
        result(
            chat(
                {"text": "b", "index": 1, "finish_reason": "stop"},
                {"text": "a", "index": 0, "finish_reason": "stop"},
            )
        ),
        {**OK, "content": "a", "choices": ["a", "b"]},
    ),
]

RESPONSES = [
    ("one message", result(responses(message(text("hi")))), DONE),
    ("after reasoning", result(responses(REASONING, message(text("hi")))), DONE),
    (
        "several parts",
        result(responses(message(text("a"), text("b")), {"type": "new"}, message(text("c")))),
        {**DONE, "content": "abc"},
    ),
    (
        "phases",
        result(
            responses(
                message(text("Let me see. "), phase="commentary"),
                message(text("hi"), phase="final_answer"),
            )
        ),
        DONE,
    ),
    ("no message", result(responses(REASONING)), {**DONE, "content": None}),
    ("no output", result(responses()), {**DONE, "content": None}),
    (
        "calls",
        result(responses(REASONING, ITEM, CUSTOM)),
        {**DONE, "content": None, "tool_calls": [ITEM, CUSTOM]},
    ),
    (
        "refusal",
        result(responses(message(refusing("I "), refusing("cannot.")))),
        {**DONE, "status": "refused", "content": None, "refusal": "I cannot."},
    ),
    (
        "cut",
        result(
            responses(
                message(text("hi")),
                status="incomplete",
                incomplete_details={"reason": "max_output_tokens"},
            )
        ),
        {**CUT, "finish_reason": "max_output_tokens"},
    ),
    (
        "cut within reasoning",
        result(
            responses(
                REASONING, status="incomplete", incomplete_details={"reason": "max_output_tokens"}
            )
        ),
        {**CUT, "finish_reason": "max_output_tokens", "content": None},
    ),
    (
        "filtered",
        result(
            responses(
                message(text("hi")),
                status="incomplete",
                incomplete_details={"reason": "content_filter"},
            )
        ),
        {**OK, "status": "filtered", "finish_reason": "content_filter"},
    ),
    (
        "incomplete without a reason",
        result(responses(message(text("hi")), status="incomplete", incomplete_details=None)),
        {**CUT, "finish_reason": None},
    ),
    (
        "failed",
        result(responses(status="failed", error={"code": "server_error", "message": "Sorry."})),
        {
            **FOUND,
            **COUNTS,
            "status": "http_error",
            "model": "m",
            "error_code": "server_error",
            "error_message": "Sorry.",
        },
    ),
    *(
        (
            state,
            result(responses(status=state)),
            {
                **DONE,
                "content": None,
                "status": "http_error",
                "finish_reason": state,
                "error_message": f"the response is {state}",
            },
        )
        for state in ("failed", "in_progress", "queued")
    ),
    (
        "cancelled",
        result(responses(status="cancelled")),
        {**DONE, "content": None, "status": "cancelled", "finish_reason": "cancelled"},
    ),
    (
        "no object",
        result({"output": [message(text("hi"))], "model": "m", "usage": OTHER_USAGE}),
        {**OK, "finish_reason": None},
    ),
]

OTHERS = [
    (
        "embedding",
        result(embeddings([0.1, -2, 3e-8])),
        {**EMBEDDED, "embedding": floats(0.1, -2, 3e-8)},
    ),
    ("base64", result(embeddings(packed(0.1, -2))), {**EMBEDDED, "embedding": floats(0.1, -2)}),
    (
        "embeddings",
        result(embeddings([1, 2], [3, 4])),
        {**EMBEDDED, "embedding": [[1, 2], [3, 4]]},
    ),
    (
        "embeddings without names",
        result({"object": "list", "data": [{"embedding": [1]}, {"embedding": [2]}], "model": "m"}),
        {**ANSWERED, "embedding": [[1], [2]]},
    ),
    (
        "embedding without a number",
        result(embeddings([0.5, None])),
        {**EMBEDDED, **NO_VECTOR},
    ),
    ("embedding of texts", result(embeddings(["x"])), {**EMBEDDED, **NO_VECTOR}),
    ("embedding an object", result(embeddings({})), {**EMBEDDED, **NO_VECTOR}),
    ("embedding null", result(embeddings(None)), {**EMBEDDED, **NO_VECTOR}),
    ("embedding a number", result(embeddings(0.5)), {**EMBEDDED, **NO_VECTOR}),
    ("embedding empty", result(embeddings([])), {**EMBEDDED, "embedding": []}),
    ("embedding large", result(embeddings([1e39])), {**EMBEDDED, "embedding": [float("inf")]}),
    *(
        (f"base64 {packed}", result(embeddings(packed)), {**EMBEDDED, **NO_VECTOR})
        for packed in ("AACAP", "AACAPw=", "AACA?w==", "AACAPwAA", "AACAPwA=", "ÄACAPw==")
    ),
    (
        "embeddings of other lengths",
        result(embeddings([1], packed(3, 4))),
        {**EMBEDDED, "embedding": [[1], [3, 4]]},
    ),
    (
        "moderation",
        result(moderated(True)),
        {
            **ANSWERED,
            "flagged": True,
            "categories": {"hate": True},
            "category_scores": {"hate": 0.25},
        },
    ),
    (
        "moderations",
        result(moderated(False, True)),
        {
            **ANSWERED,
            "flagged": True,
            "categories": [{"hate": False}, {"hate": True}],
            "category_scores": [{"hate": 0.25}, {"hate": 0.25}],
        },
    ),
    (
        "not flagged",
        result(moderated(False)),
        {
            **ANSWERED,
            "flagged": False,
            "categories": {"hate": False},
            "category_scores": {"hate": 0.25},
        },
    ),
    (
        "image",
        result({"created": 1, "data": [{"b64_json": "iVBO"}], "usage": OTHER_USAGE}),
        {
            **FOUND,
            **COUNTS,
            "status": "ok",
            "body": {"created": 1, "data": [{"b64_json": "iVBO"}], "usage": OTHER_USAGE},
        },
    ),
    (
        "rerank",
        result({"results": [{"index": 0, "relevance_score": 0.5}], "model": "m"}),
        {
            **ANSWERED,
            "body": {"results": [{"index": 0, "relevance_score": 0.5}], "model": "m"},
        },
    ),
    (
        "no choices",
        result({"choices": [], "model": "m"}),
        {**ANSWERED, "body": {"choices": [], "model": "m"}},
    ),
]


def malformed(problem: str) -> Row:
    """Make the row of a line that is no result."""
    return {"status": "malformed", "error_message": problem}


NO_ID = malformed("it has no 'custom_id'")
GOOD = dumps(result(chat())).encode()
TEXTS = [
    ("null", b"null", malformed("the line is null, not an object")),
    ("list", b"[]", malformed("the line is an array, not an object")),
    ("number", b"1", malformed("the line is a number, not an object")),
    ("fraction", b"1e400", malformed("the line is a number, not an object")),
    ("text", b'"x"', malformed("the line is text, not an object")),
    ("boolean", b"true", malformed("the line is a boolean, not an object")),
    ("empty object", b"{}", NO_ID),
    ("id null", b'{"custom_id":null,"error":null}', NO_ID),
    ("id boolean", b'{"custom_id":true,"error":null}', NO_ID),
    ("id list", b'{"custom_id":["a"],"error":null}', NO_ID),
    ("id object", b'{"custom_id":{"a":1},"error":null}', NO_ID),
    ("ours", b"<<<<<<< HEAD", malformed("not JSON: Expecting value at character 0")),
    ("middle", b"=======", malformed("not JSON: Expecting value at character 0")),
    ("theirs", b">>>>>>> main", malformed("not JSON: Expecting value at character 0")),
    ("comment", b"// x", malformed("not JSON: Expecting value at character 0")),
    (
        "cut",
        GOOD[:-1],
        malformed(f"not JSON: Expecting ',' delimiter at character {len(GOOD) - 1}"),
    ),
    ("two in one", GOOD * 2, malformed(f"not JSON: Extra data at character {len(GOOD)}")),
    (
        "far",
        b'{"a":"' + b"x" * 1_500 + b'"]',
        malformed("not JSON: Expecting ',' delimiter at character 1,507"),
    ),
    (
        "control",
        b'{"custom_id":"a\x01"}',
        malformed("not JSON: Invalid control character at character 15"),
    ),
    ("nul", b"\x00", malformed("not JSON: Expecting value at character 0")),
    ("latin", b'{"custom_id":"\xe9"}', malformed("not UTF-8 at byte 14")),
    ("surrogate bytes", b'{"custom_id":"\xed\xa0\x80"}', malformed("not UTF-8 at byte 14")),
    ("deep", DEEP, malformed("not JSON: nested too deep")),
    ("comma", GOOD[:-1] + b",}", OK),
    (
        "commas",
        b'{"custom_id":"a",,}',
        malformed("not JSON: Expecting property name enclosed in double quotes at character 17"),
    ),
    ("crlf", GOOD + b"\r", OK),
    ("spaces", b" \t" + GOOD + b" \r", OK),
    ("mark", b"\xef\xbb\xbf" + GOOD, OK),
    ("nan", GOOD.replace(b'"logprobs":null', b'"logprobs":NaN'), OK),
    ("small nan", GOOD.replace(b'"logprobs":null', b'"logprobs":[nan,-inf]'), OK),
    ("infinity", GOOD.replace(b'"logprobs":null', b'"logprobs":-Infinity'), OK),
    ("large", GOOD.replace(b'"logprobs":null', b'"logprobs":1e400'), OK),
    ("many digits", GOOD.replace(b'"created":1', b'"created":' + b"1" * 5_000), OK),
    (
        "id large",
        GOOD.replace(b'"custom_id":"a"', b'"custom_id":1e400'),
        {**OK, "custom_id": "1e400"},
    ),
    (
        "id long",
        GOOD.replace(b'"custom_id":"a"', b'"custom_id":123456789012345678901234567890'),
        {**OK, "custom_id": "123456789012345678901234567890"},
    ),
    (
        "tokens large",
        GOOD.replace(b'"prompt_tokens":3', b'"prompt_tokens":1e400'),
        {**OK, "input_tokens": None},
    ),
    (
        "escapes",
        GOOD.replace(b'"hi"', rb'"\u0068\u0000\ud83d\ude00\/"'),
        {**OK, "content": "h\0😀/"},
    ),
    ("lone high", GOOD.replace(b'"hi"', rb'"a\ud83db"'), {**OK, "content": "a\ufffdb"}),
    ("lone low", GOOD.replace(b'"hi"', rb'"\ude00"'), {**OK, "content": "\ufffd"}),
    (
        "lone id",
        GOOD.replace(b'"custom_id":"a"', rb'"custom_id":"\uD800"'),
        {**OK, "custom_id": "\ufffd"},
    ),
    ("keys escaped", GOOD.replace(b'"custom_id"', rb'"custom\u005fid"'), OK),
    ("twice id", GOOD.replace(b'"custom_id":"a"', b'"custom_id":"a","custom_id":"b"'), OK),
    ("twice deep", GOOD.replace(b'"content":"hi"', b'"content":"hi","content":"ho"'), OK),
    ("twice object", GOOD[:-1] + b',"response":null}', OK),
    (
        "twice and lone",
        GOOD.replace(b'"content":"hi"', rb'"content":"\ud800","content":"ho"'),
        {**OK, "content": "\ufffd"},
    ),
    (
        "body cut short",
        GOOD.replace(b'"message":', b'"massage":').replace(b'"object":"chat.completion",', b""),
        {
            **ANSWERED,
            **COUNTS,
            "body": json.loads(
                dumps(chat())
                .replace('"message":', '"massage":')
                .replace('"object":"chat.completion",', "")
            ),
        },
    ),
]

SHAPES = [*FIVE_SHAPES, *JUNK, *ERRORS, *CHATS, *RESPONSES, *OTHERS, *TEXTS]
every_shape = pytest.mark.parametrize(
    ("value", "expected"), [pytest.param(*shape[1:], id=shape[0]) for shape in SHAPES]
)


def whole(row: Row, path: Path, line: int) -> Row:
    """Add what is missing to a row."""
    place = {"file": str(path), "line": line}
    return {**dict.fromkeys((*COLUMNS, *SOMETIMES)), **row, **place}


def without_file(rows: list[Row]) -> list[Row]:
    """Take the file out of rows, of which the oracle knows nothing."""
    return [{name: value for name, value in row.items() if name != "file"} for row in rows]


@every_shape
def test_one_line_is_one_row(tmp_path: Path, value: Any, expected: Row) -> None:
    """Each shape is read as it should be, whatever stands beside it, and harms no neighbour."""
    good = [result(chat(), custom_id=name) for name in "xy"]
    path = write(tmp_path / "a.jsonl", good[0], value, good[1])
    listed = {"choices": ["hi"]} if expected.get("choices") else {}
    first, last = ({**OK, "custom_id": name, **listed} for name in "xy")
    rows = [whole(row, path, n) for n, row in enumerate((first, expected, last), 1)]
    frame = bf.read_results(path)
    assert rows_of(frame) == rows
    assert list(frame.columns) == [*COLUMNS, *(n for n in SOMETIMES if rows[1][n] is not None)]
    assert without_file(rows) == read(path.read_bytes())


@every_shape
def test_a_line_alone_is_one_row(tmp_path: Path, value: Any, expected: Row) -> None:
    """Each shape is read as it should be when there is no other line, and none behind it."""
    path = write(tmp_path / "a.jsonl", value)
    path.write_bytes(path.read_bytes()[:-1])
    assert rows_of(bf.read_results(path)) == [whole(expected, path, 1)]


@every_shape
def test_raw_adds_the_body(tmp_path: Path, value: Any, expected: Row) -> None:
    """With ``raw=True``, every row has its body, and the text of a line that is no result."""
    path = write(tmp_path / "a.jsonl", value)
    frame = bf.read_results(path, raw=True)
    assert "body" in frame.columns
    assert without_file(rows_of(frame)) == read(path.read_bytes(), raw=True)


@pytest.mark.parametrize("repeated", [1, 300])
def test_all_shapes_in_one_file(tmp_path: Path, repeated: int) -> None:
    """Lines of all endpoints and all faults in one file are each read by their own shape."""
    path = write(tmp_path / "a.jsonl", *[value for _, value, _ in SHAPES] * repeated)
    frame = bf.read_results(path)
    assert list(frame.columns) == [*COLUMNS, *SOMETIMES]
    assert without_file(rows_of(frame)) == read(path.read_bytes())


@pytest.mark.parametrize(
    "place", ["x", '"logprobs"', '"usage"', '"error"', '"content"', '"custom_id"']
)
def test_deep_nesting_harms_no_row(tmp_path: Path, place: str) -> None:
    """A value nested 100,000 deep anywhere gives a row, and leaves those beside it as they are."""
    deep = DEEP + b"]" * len(DEEP)
    line: bytes = re.sub(f"{place}:[^,}}]*".encode(), place.encode() + b":" + deep, GOOD)
    if place == "x":
        line = GOOD[:-1] + b',"x":' + deep + b"}"
    path = write(tmp_path / "a.jsonl", GOOD, line, GOOD)
    rows = rows_of(bf.read_results(path))
    assert [rows[0], rows[2]] == [whole(OK, path, 1), whole(OK, path, 3)]
    if place in ("x", '"logprobs"'):
        assert rows[1] == whole(OK, path, 2)
    assert (rows[1]["status"], rows[1]["line"]) in [(status, 2) for status in STATUSES]


@pytest.mark.parametrize("code", [200.0, "200.0", "", " 200"])
def test_a_status_code_is_a_whole_number(tmp_path: Path, code: Any) -> None:
    """A status code that is a fraction, or text of more than digits, is none beside an answer."""
    path = write(tmp_path / "a.jsonl", result(chat(), code=code))
    row = rows_of(bf.read_results(path))[0]
    assert (row["status"], row["error_message"]) == ("http_error", "HTTP status missing")


VERTEX: list[Row] = [
    {"request": {"contents": []}, "status": "Bad request."},
    {"status": "", "response": {"candidates": []}},
]
REQUESTS: list[Row] = [
    {"method": "POST", "url": "/v1/chat/completions", "body": {"messages": []}},
    {"body": {}},
    {"method": "POST", "url": "/v1/chat/completions"},
]
FOREIGN: list[tuple[Row, str]] = [
    *(
        (
            {"custom_id": "a", "result": {"type": kind, "message": {}}},
            f"a result of Anthropic's Message Batches, {OURS}; use Anthropic's SDK for it",
        )
        for kind in ("succeeded", "errored", "canceled", "expired")
    ),
    *(
        ({"key": "a", name: {}}, f"a result of Gemini's Batch API, {OURS}; use Google's SDK for it")
        for name in ("response", "error")
    ),
    *(
        (
            {"custom_id": "a", **others},
            f"a result of a Vertex AI batch prediction, {OURS}; use Google's SDK for it",
        )
        for others in VERTEX
    ),
    *(
        (
            {"recordId": "a", name: {}},
            f"a record of Amazon Bedrock, {OURS}; use Amazon's SDK for it",
        )
        for name in ("modelOutput", "modelInput")
    ),
    *(
        (
            {"custom_id": "a", **others},
            "a request, not a result; read the file with read_requests",
        )
        for others in REQUESTS
    ),
    (
        {"id": "batch_1", "object": "batch", "status": "completed", "errors": None},
        "a batch object, not a result; pass the files that it names",
    ),
]


@pytest.mark.parametrize(
    ("value", "problem", "line"),
    [*((*shape, at) for shape in FOREIGN for at in (1, 2)), (*FOREIGN[-1], 30_001)],
)
def test_files_of_another_kind_are_refused(
    tmp_path: Path, value: Row, problem: str, line: int
) -> None:
    """A line of another service, or that is no result, refuses the file wherever it stands."""
    path = tmp_path / "a.jsonl"
    path.write_bytes((GOOD + b"\n") * (line - 1) + dumps(value).encode())
    with pytest.raises(bf.LineError) as caught:
        bf.read_results(path)
    assert str(caught.value) == f"{path}, line {line:,}: {problem}"
    assert (caught.value.path, caught.value.line) == (path, line)
    with pytest.raises(Foreign, match=f"^{re.escape(problem)}$"):
        read(path.read_bytes())


def test_a_file_without_results_is_warned_of(tmp_path: Path) -> None:
    """A table that is taken for a result file has its rows, and a word on what it is not."""
    table, torn, output = (tmp_path / name for name in ("a.csv", "b.jsonl", "c.jsonl"))
    table.write_text("id,review\na,good\n\nb,bad\n", encoding="utf-8")
    torn.write_bytes(GOOD[:-1])
    output.write_bytes(GOOD + b"\nnull\n")
    said = f"none of the 3 lines of '{table}' is a result; pass output and error files"
    with pytest.warns(UserWarning, match=f"^{re.escape(said)}$") as caught:
        frame = bf.read_results([output, table, torn])
    assert [warning.filename for warning in caught] == [__file__]
    assert list(frame["status"]) == ["ok", *["malformed"] * 5]


PANDAS_TEXT = pd.Series(["a"]).dtype
ARROW_TEXT = pd.ArrowDtype(pa.large_string())


@pytest.mark.parametrize("values", [(), (b"null",), (GOOD,), (GOOD, b"", result({}), GOOD)])
@pytest.mark.parametrize("usage", [True, False])
@pytest.mark.parametrize(
    ("backend", "words", "numbers"),
    [
        (None, PANDAS_TEXT, "Int64"),
        ("numpy_nullable", "string", "Int64"),
        ("pyarrow", ARROW_TEXT, pd.ArrowDtype(pa.int64())),
    ],
)
def test_columns_and_dtypes(
    tmp_path: Path, values: tuple[Any], usage: bool, backend: str | None, words: Any, numbers: Any
) -> None:
    """Columns and dtypes are the same whether all, some or none of the values are there."""
    path = write(tmp_path / "a.jsonl", *values)
    frame = bf.read_results(path, usage=usage, dtype_backend=backend)
    assert list(frame.columns) == [n for n in COLUMNS if usage or n not in TOKENS]
    assert frame.index.equals(pd.RangeIndex(sum(value != b"" for value in values)))
    for name in frame.columns.drop("status"):
        is_number = name in (*TOKENS, "status_code", "line")
        assert frame[name].dtype == (numbers if is_number else words), name
    kind = frame["status"].dtype
    assert isinstance(kind, pd.CategoricalDtype)
    assert (tuple(kind.categories), kind.ordered) == (STATUSES, False)


@pytest.mark.parametrize(
    ("backend", "words", "flags"),
    [
        (None, PANDAS_TEXT, "boolean"),
        ("numpy_nullable", "string", "boolean"),
        ("pyarrow", ARROW_TEXT, pd.ArrowDtype(pa.bool_())),
    ],
)
def test_dtypes_of_columns_that_are_there_sometimes(
    tmp_path: Path, backend: str | None, words: Any, flags: Any
) -> None:
    """The columns of single endpoints have the dtypes of their kind, missing values or not."""
    path = write(tmp_path / "a.jsonl", *(value for _, value, _ in SHAPES))
    frame = bf.read_results(path, dtype_backend=backend)
    for name in JSON_COLUMNS:
        assert frame[name].dtype == words, name
    assert frame["flagged"].dtype == flags


@pytest.mark.parametrize(
    ("bodies", "kind"),
    [
        ([embeddings([1, 2]), embeddings(packed(3, 4)), {}], pa.list_(pa.float32(), 2)),
        ([embeddings([1, 2]), embeddings([3]), {}], pa.large_list(pa.float32())),
        (
            [embeddings([1, 2]), embeddings([3, 4], [5, 6]), {}],
            pa.large_list(pa.large_list(pa.float32())),
        ),
    ],
    ids=["regular", "ragged", "several"],
)
def test_embeddings_are_vectors(tmp_path: Path, bodies: list[Row], kind: pa.DataType) -> None:
    """Vectors of one size are a column of fixed size in Arrow, and arrays of NumPy in pandas."""
    path = write(tmp_path / "a.jsonl", *map(result, bodies))
    right = [row["embedding"] for row in read(path.read_bytes())]
    column = bf.read_results(path, dtype_backend="pyarrow")["embedding"]
    assert column.dtype == pd.ArrowDtype(kind)
    assert [plain(value) for value in column] == right
    for backend in (None, "numpy_nullable"):
        column = bf.read_results(path, dtype_backend=backend)["embedding"]
        assert [plain(value) for value in column] == right
        vector = column[0][0] if kind.value_type != pa.float32() else column[0]
        assert (type(vector), vector.dtype) == (np.ndarray, np.dtype("float32"))


def test_damaged_base64_shifts_no_vector(tmp_path: Path) -> None:
    """Vectors beside base64 that is cut short are as they were, however much is missing."""
    cut = [base64.b64encode(b"x" * size).decode() for size in (5, 7, 4, 6, 10)]
    bodies = [embeddings(vector) for one in cut for vector in (packed(1, 2), one)]
    path = write(tmp_path / "a.jsonl", *map(result, [*bodies, embeddings(packed(3, 4))]))
    rows = rows_of(bf.read_results(path))
    assert without_file(rows) == read(path.read_bytes())
    assert [row["embedding"] for row in rows[::2]] == [[1, 2]] * 5 + [[3, 4]]


def test_an_unknown_backend_is_refused(tmp_path: Path) -> None:
    """Another name than the three for the dtypes is an error that lists them."""
    message = "dtype_backend must be 'numpy_nullable', 'pyarrow' or None, not 'polars'"
    with pytest.raises(ValueError, match=f"^{message}$"):
        bf.read_results(write(tmp_path / "a.jsonl", GOOD), dtype_backend="polars")


def test_no_file_is_an_error(tmp_path: Path) -> None:
    """A path that leads nowhere is named."""
    with pytest.raises(FileNotFoundError) as caught:
        bf.read_results(tmp_path / "none.jsonl")
    assert str(caught.value) == f"no file '{tmp_path / 'none.jsonl'}'; check the path"


ENDS = [b"\n", b"\r\n", b"\n\n", b"\r\n \t\r\n\n"]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("last", [b"", b"\n", b'\n{"id":"batch_req_1","cust'])
@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".txt"])
def test_files_of_any_line_ends(
    tmp_path: Path, end: bytes, mark: bytes, last: bytes, ending: str
) -> None:
    """Marks, ends and blank lines change no row, and the numbers of lines still count them."""
    data = mark + end.join([GOOD, b"=======", GOOD]) + last
    path = tmp_path / f"a{ending}"
    path.write_bytes(gzip.compress(data) if ending.endswith("gz") else data)
    step = end.count(b"\n")
    fault = malformed("not JSON: Expecting value at character 0")
    rows = [whole(OK, path, 1), whole(fault, path, 1 + step), whole(OK, path, 1 + 2 * step)]
    if last.strip():
        cut = malformed("not JSON: Unterminated string starting at character 20")
        rows.append(whole(cut, path, 2 + 2 * step))
    assert rows_of(bf.read_results(path)) == rows


@pytest.mark.parametrize("data", [b"", b"\n", b"\xef\xbb\xbf", b" \r\n\t\n"])
def test_a_file_without_lines_has_no_rows(tmp_path: Path, data: bytes) -> None:
    """An empty file, as Azure gives when nothing failed, is a frame with columns and no rows."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(data)
    frame = bf.read_results([path])
    assert list(frame.columns) == list(COLUMNS)
    assert len(frame) == 0


def named(name: str, **others: Any) -> Row:
    """Make a good result of an id."""
    return result(chat(choice(**others)), custom_id=name)


def ids(frame: pd.DataFrame) -> list[str | None]:
    """List the ids of a frame."""
    return [row["custom_id"] for row in rows_of(frame)]


def test_files_stand_in_the_order_in_which_they_are_named(tmp_path: Path) -> None:
    """Paths keep their order; globs and folders are sorted; no line is merged with another."""
    for name in "cab":
        write(tmp_path / f"{name}.jsonl", named(name), named("x"))
    a, b, c = (tmp_path / f"{name}.jsonl" for name in "abc")
    assert ids(bf.read_results([c, str(a), b])) == ["c", "x", "a", "x", "b", "x"]
    for paths in (tmp_path, str(tmp_path / "*.jsonl"), [tmp_path / "[ab].jsonl", c]):
        frame = bf.read_results(paths)
        assert ids(frame) == ["a", "x", "b", "x", "c", "x"]
        assert frame["file"].tolist() == [str(path) for path in (a, a, b, b, c, c)]
        assert frame["line"].tolist() == [1, 2] * 3


def test_a_file_named_twice_is_read_once(tmp_path: Path) -> None:
    """A file that two of the paths lead to does not double its rows."""
    path = write(tmp_path / "a.jsonl", named("a"))
    assert ids(bf.read_results([path, tmp_path / "*.jsonl"])) == ["a"]


def test_many_lines_keep_their_rows(tmp_path: Path) -> None:
    """Rows stand as their lines do, over the borders of what is read at once."""
    values = [named(f"row-{n}", content=f"answer {n}") for n in range(50_000)]
    path = write(tmp_path / "a.jsonl", *values)
    frame = bf.read_results(path)
    assert frame["custom_id"].tolist() == [f"row-{n}" for n in range(50_000)]
    assert frame["content"].tolist() == [f"answer {n}" for n in range(50_000)]
    assert frame["line"].tolist() == list(range(1, 50_001))
    assert set(frame["status"]) == {"ok"}


@pytest.mark.parametrize("size", [5 << 20, 200_000_000])
def test_long_lines_are_read(tmp_path: Path, size: int) -> None:
    """A line of 5 MiB, as images give, or even of 200 MB is a row like any other."""
    body = GOOD.replace(b'"hi"', b'"' + b"x" * size + b'"')
    path = write(tmp_path / "a.jsonl", GOOD, body, GOOD)
    frame = bf.read_results(path)
    assert frame["status"].tolist() == ["ok"] * 3
    assert frame["content"].str.len().tolist() == [2, size, 2]


def request(name: Any, **body: Any) -> Row:
    """Make a request as it was sent."""
    url = "/v1/chat/completions"
    return {"custom_id": name, "method": "POST", "url": url, "body": {"model": "m", **body}}


def asked(folder: Path, *names: Any) -> Path:
    """Write a file of requests with these ids."""
    return write(folder / "requests.jsonl", *map(request, names))


def read_warned(paths: Any, message: str, **options: Any) -> pd.DataFrame:
    """Read results, and compare the whole of the only warning."""
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}$") as caught:
        frame = bf.read_results(paths, **options)
    assert [warning.filename for warning in caught] == [__file__]
    return frame


def test_with_requests_each_request_has_its_row(tmp_path: Path) -> None:
    """Rows follow the requests; one without any result is missing, and has no file and no line."""
    path = write(tmp_path / "a.jsonl", named("c"), failed(FAULT), named("00123"))
    requests = asked(tmp_path, "a", "b", "c", "00123")
    frame = bf.read_results(path, requests=requests)
    missing = {**dict.fromkeys((*COLUMNS, *SOMETIMES)), "custom_id": "b", "status": "missing"}
    assert rows_of(frame) == [
        whole(FAILED, path, 2),
        missing,
        whole({**OK, "custom_id": "c"}, path, 1),
        whole({**OK, "custom_id": "00123"}, path, 3),
    ]
    assert list(frame.columns) == list(COLUMNS)
    assert frame["line"].dtype == "Int64"
    assert frame.index.equals(pd.RangeIndex(4))


def test_requests_may_be_numbered_and_repeated(tmp_path: Path) -> None:
    """An id that is a number finds its text, and a request that stands twice has one row."""
    path = write(tmp_path / "a.jsonl", named("17"), result(chat(), custom_id=18))
    frame = bf.read_results(path, requests=asked(tmp_path, 18, 17, "18"))
    assert ids(frame) == ["18", "17"]
    assert frame["status"].tolist() == ["ok", "ok"]


def test_requests_of_several_files_stand_in_their_order(tmp_path: Path) -> None:
    """Request files are found as result files are; the first place of an id counts."""
    for name, asks in (("a", "zy"), ("b", "xz")):
        write(tmp_path / f"requests-{name}.jsonl", *map(request, asks))
    path = write(tmp_path / "results.jsonl", *map(named, "xyz"))
    assert ids(bf.read_results(path, requests=tmp_path / "requests-*.jsonl")) == ["z", "y", "x"]


def test_no_requests_have_no_rows(tmp_path: Path) -> None:
    """An empty request file asks for nothing, whatever came back."""
    results, requests = write(tmp_path / "a.jsonl"), write(tmp_path / "requests.jsonl")
    frame = bf.read_results(results, requests=requests)
    assert (list(frame.columns), len(frame)) == (list(COLUMNS), 0)


RANKED = [
    ("ok", result(chat())),
    ("truncated", result(chat(choice("hi", "length")))),
    ("refused", result(chat(choice(None, refusal="No.")))),
    ("filtered", result(chat(choice("", "content_filter")))),
    ("http_error", failed(FAULT)),
    ("expired", failed({"code": "batch_expired", "message": ""})),
    ("cancelled", failed({"code": "batch_cancelled", "message": ""})),
]
PAIRS = [(RANKED[better], RANKED[worse]) for worse in range(len(RANKED)) for better in range(worse)]
TWICE = "1 result is left out for a better or later one of the same custom_id: "


@pytest.mark.parametrize(("better", "worse"), PAIRS, ids=lambda pair: pair[0])
@pytest.mark.parametrize("turned", [False, True])
def test_the_better_of_two_results_wins(
    tmp_path: Path, better: tuple[str, Row], worse: tuple[str, Row], turned: bool
) -> None:
    """Of two results of one request the better status counts, wherever it stands."""
    values = [worse[1], better[1]] if turned else [better[1], worse[1]]
    path = write(tmp_path / "results.jsonl", *values)
    lost = f"'a' in {path}, line {1 if turned else 2}"
    frame = read_warned(path, TWICE + lost, requests=asked(tmp_path, "a"))
    assert frame["status"].tolist() == [better[0]]


def test_of_equal_results_the_later_wins(tmp_path: Path) -> None:
    """Of results with one status, the later line counts, and that of the later file before it."""
    a = write(tmp_path / "a.jsonl", named("a", content="1"), named("a", content="2"))
    b = write(tmp_path / "b.jsonl", named("a", content="3"), b"", named("a", content="4"))
    requests = asked(tmp_path, "a")
    for paths, content, line in (([a, b], "4", 3), ([b, a], "2", 2)):
        lost = [f"'a' in {p}, line {n}" for p in paths for n in ((1, 2) if p == a else (1, 3))][:3]
        lead = "3 results are left out for a better or later one of the same custom_id: "
        frame = read_warned(paths, lead + ", ".join(lost), requests=requests)
        assert (frame["content"].tolist(), frame["line"].tolist()) == ([content], [line])


def test_results_that_nobody_asked_for_are_warned_of(tmp_path: Path) -> None:
    """Results of other requests stay out; how many there are is said, and where the first stand."""
    path = write(tmp_path / "a.jsonl", *(named(f"x{n}") for n in range(1_500)), named("a"))
    first = ", ".join(f"'x{n}' in {path}, line {n + 1}" for n in range(5))
    lead = "1,500 results are left out, having no request: "
    frame = read_warned(path, f"{lead}{first}, …", requests=asked(tmp_path, "a"))
    assert rows_of(frame) == [whole(OK, path, 1_501)]


def test_malformed_lines_are_warned_of(tmp_path: Path) -> None:
    """With requests, lines without an id belong to none of them, and are said to be there."""
    path = write(tmp_path / "a.jsonl", b"=======", named("a"), GOOD[:50])
    message = f"2 results are malformed and left out: {path}, line 1, {path}, line 3"
    frame = read_warned(path, message, requests=asked(tmp_path, "a"))
    assert rows_of(frame) == [whole(OK, path, 2)]


def test_result_files_as_requests_are_refused(tmp_path: Path) -> None:
    """A file of results in the place of the requests is an error that names it."""
    path = write(tmp_path / "a.jsonl", named("a"))
    with pytest.raises(bf.LineError) as caught:
        bf.read_results(path, requests=path)
    assert str(caught.value) == (
        f"{path}, line 1: a result, not a request; read the file with read_results"
    )


RATING = {
    "type": "object",
    "properties": {"stars": {"type": "integer"}, "tone": {"enum": ["calm", "angry"]}},
    "required": ["stars", "tone"],
    "additionalProperties": False,
}
NAMED = {"name": "rating", "strict": True, "schema": RATING}
OTHER = {"name": "rating", "strict": True, "schema": {**RATING, "title": "Other"}}


def rated(content: Any, name: str = "a", finish: str = "stop", **said: Any) -> Row:
    """Make a result with this answer."""
    return result(chat(choice(content, finish, **said)), custom_id=name)


@pytest.mark.parametrize(
    ("value", "row", "values"),
    [
        (rated('{"stars":5,"tone":"calm"}'), {"status": "ok"}, [5, "calm"]),
        (
            rated('{"stars":"5","tone":"calm"}'),
            {"status": "invalid_json", "error_message": "'stars' is '5', not an integer"},
            [None, None],
        ),
        (
            rated("I would say five."),
            {
                "status": "invalid_json",
                "error_message": "not JSON: Expecting value at character 0",
            },
            [None, None],
        ),
        (
            rated(None),
            {"status": "invalid_json", "error_message": "there is no answer"},
            [None, None],
        ),
        (rated('{"stars":5', finish="length"), {"status": "truncated"}, [None, None]),
        (rated(None, refusal="No."), {"status": "refused"}, [None, None]),
        (rated("", finish="content_filter"), {"status": "filtered"}, [None, None]),
        (rated(None, tool_calls=[CALL]), {"status": "ok"}, [None, None]),
        (failed(FAULT), {"status": "http_error", "error_message": "Bad model."}, [None, None]),
        (
            result(responses(message(text('{"stars":1,"tone":"angry"}')))),
            {"status": "ok"},
            [1, "angry"],
        ),
    ],
)
def test_answers_are_columns(tmp_path: Path, value: Row, row: Row, values: list[Any]) -> None:
    """With a schema, the answers that follow it fill its columns, and the others say why not."""
    path = write(tmp_path / "a.jsonl", rated('{"stars":2,"tone":"calm"}', "x"), value)
    frame = bf.read_results(path, json_schema=NAMED)
    first = ["custom_id", "status", "content", "stars", "tone", "finish_reason"]
    assert list(frame.columns[:6]) == first
    assert str(frame["stars"].dtype) == "Int64"
    assert frame["tone"].cat.categories.tolist() == ["calm", "angry"]
    rows = rows_of(frame)
    assert [rows[0]["stars"], rows[0]["tone"]] == [2, "calm"]
    assert [rows[1].pop("stars"), rows[1].pop("tone")] == values
    (expected,) = without_file(rows_of(bf.read_results(path)))[1:]
    assert without_file(rows[1:]) == [{**expected, **row}]


@pytest.mark.parametrize(
    "body",
    [
        {"response_format": {"type": "json_schema", "json_schema": NAMED}},
        {"text": {"format": {"type": "json_schema", **NAMED}}},
    ],
)
def test_the_schema_is_read_from_the_requests(tmp_path: Path, body: Row) -> None:
    """Requests that all ask for one schema give its columns, without being told."""
    path = write(tmp_path / "a.jsonl", rated('{"stars":5,"tone":"calm"}'), rated("?", "b"))
    requests = write(tmp_path / "requests.jsonl", *(request(name, **body) for name in "bca"))
    rows = rows_of(bf.read_results(path, requests=requests))
    assert [(row["status"], row["stars"], row["tone"]) for row in rows] == [
        ("invalid_json", None, None),
        ("missing", None, None),
        ("ok", 5, "calm"),
    ]


def test_a_good_answer_is_better_than_one_that_breaks_the_schema(tmp_path: Path) -> None:
    """Of two answers to one request, the one that follows the schema counts."""
    path = write(tmp_path / "a.jsonl", rated('{"stars":5,"tone":"calm"}'), rated("?"))
    lost = f"'a' in {path}, line 2"
    frame = read_warned(path, TWICE + lost, requests=asked(tmp_path, "a"), json_schema=NAMED)
    assert (frame["status"].tolist(), frame["stars"].tolist()) == (["ok"], [5])


def test_requests_of_several_schemas_give_no_columns(tmp_path: Path) -> None:
    """Where requests ask for different schemas, answers stay text, and a warning says so."""
    formats = [{"type": "json_schema", "json_schema": schema} for schema in (NAMED, OTHER)]
    asks = [request(n, response_format=f) for n, f in zip("ab", formats, strict=True)]
    requests = write(tmp_path / "requests.jsonl", *asks)
    path = write(tmp_path / "a.jsonl", rated("{}"), rated("{}", "b"))
    message = "the requests do not all ask for the same schema; pass json_schema= for typed answers"
    frame = read_warned(path, message, requests=requests)
    assert list(frame.columns) == list(COLUMNS)
    assert frame["status"].tolist() == ["ok", "ok"]


def test_properties_with_names_of_columns_are_renamed(tmp_path: Path) -> None:
    """A property named like a column of results gets a suffix, and a warning tells its name."""
    properties = {name: {"type": "string"} for name in ("status", "model", "stars")}
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    path = write(tmp_path / "a.jsonl", rated('{"status":"s","model":"m","stars":"*"}'))
    message = (
        "of the answers, 'status' is column 'status_answer', 'model' is column 'model_answer': "
        "results have columns of these names themselves"
    )
    frame = read_warned(path, message, json_schema=schema)
    assert list(frame.columns[2:6]) == ["content", "status_answer", "model_answer", "stars"]
    assert frame.iloc[0, 3:6].tolist() == ["s", "m", "*"]
    assert frame["status"].tolist() == ["ok"]
