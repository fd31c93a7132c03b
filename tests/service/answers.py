"""Answer requests as a model would, small and the same every time."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import struct
from typing import Any

Body = dict[str, Any]
CREATED = 1_790_000_000
DIMENSIONS = 4


def error_body(
    message: str, *, code: str | None = None, param: str | None = None, kind: str | None = None
) -> Body:
    """Shape an error as OpenAI does."""
    error = {
        "message": message,
        "type": kind or "invalid_request_error",
        "param": param,
        "code": code,
    }
    return {"error": error}


def respond(url: str, body: Body) -> tuple[int, Body]:
    """Answer one request to an endpoint: the HTTP status and the body."""
    answers = {
        "/v1/chat/completions": chat,
        "/v1/responses": response,
        "/v1/completions": completion,
        "/v1/embeddings": embeddings,
        "/v1/moderations": moderation,
    }
    if url not in answers:
        return 404, error_body(f"Unknown request URL: POST {url}.", code="unknown_url")
    try:
        return 200, answers[url](body)
    except (AttributeError, LookupError, TypeError) as error:
        return 400, error_body(f"The body is not as it should be: {error!r}.")


def chat(body: Body) -> Body:
    """Answer the last message with its own text, or with an example of the schema."""
    prompt = _text(body["messages"][-1]["content"])
    shape = body.get("response_format", {}).get("json_schema")
    content = _content(prompt, shape)
    usage = _tokens(prompt, content)
    return {
        "id": _id("chatcmpl-", body),
        "object": "chat.completion",
        "created": CREATED,
        "model": body["model"],
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": _chat_usage(*usage),
    }


def response(body: Body) -> Body:
    """Answer the input likewise, in the shape of `/v1/responses`."""
    prompt = _text(body["input"])
    content = _content(prompt, body.get("text", {}).get("format"))
    read, written = _tokens(prompt, content)
    message = {
        "id": _id("msg_", body),
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [{"type": "output_text", "text": content, "annotations": [], "logprobs": []}],
    }
    return {
        "id": _id("resp_", body),
        "object": "response",
        "created_at": CREATED,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "model": body["model"],
        "output": [message],
        "usage": {
            "input_tokens": read,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": written,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": read + written,
        },
    }


def completion(body: Body) -> Body:
    """Answer a plain prompt in the shape of `/v1/completions`."""
    prompt = _text(body["prompt"])
    text = _content(prompt, None)
    return {
        "id": _id("cmpl-", body),
        "object": "text_completion",
        "created": CREATED,
        "model": body["model"],
        "choices": [{"text": text, "index": 0, "logprobs": None, "finish_reason": "stop"}],
        "usage": _chat_usage(*_tokens(prompt, text)),
    }


def embeddings(body: Body) -> Body:
    """Give every input four numbers that its text decides."""
    given = body["input"]
    inputs = [given] if isinstance(given, str) else given
    vectors = [_vector(str(text)) for text in inputs]
    coded: list[Any] = vectors
    if body.get("encoding_format") == "base64":
        coded = [base64.b64encode(struct.pack("<4f", *vector)).decode() for vector in vectors]
    tokens = sum(len(str(text)) // 4 + 1 for text in inputs)
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": embedding}
            for index, embedding in enumerate(coded)
        ],
        "model": body["model"],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def moderation(body: Body) -> Body:
    """Flag nothing."""
    result = {"flagged": False, "categories": {"violence": False}, "category_scores": {}}
    return {"id": _id("modr-", body), "model": body.get("model", "moderation"), "results": [result]}


def example(schema: Body, seed: str, root: Body | None = None) -> Any:
    """Make up a value that a JSON schema allows, the same for the same seed."""
    root = root or schema
    if "$ref" in schema:
        return example(root["$defs"][schema["$ref"].rpartition("/")[2]], seed, root)
    if "anyOf" in schema:
        return example(schema["anyOf"][0], seed, root)
    if "enum" in schema:
        return random.Random(seed).choice(schema["enum"])
    kind = schema.get("type", "string")
    if isinstance(kind, list):
        kind = kind[0]
    low = schema.get("minimum", 1)
    high = schema.get("maximum", low + 4)
    made: dict[str, Any] = {
        "integer": random.Random(seed).randint(int(low), int(high)),
        "number": low + (high - low) / 4,
        "boolean": random.Random(seed).random() < 0.5,
        "null": None,
        "string": f"text {random.Random(seed).randint(0, 99)}",
    }
    if kind == "array":
        return [example(schema["items"], seed, root)]
    if kind == "object":
        properties = schema.get("properties", {})
        return {key: example(value, seed + key, root) for key, value in properties.items()}
    return made[kind]


def _content(prompt: str, shape: Body | None) -> str:
    if shape and "schema" in shape:
        return json.dumps(example(shape["schema"], prompt), ensure_ascii=False)
    return f"You said: {prompt}"


def _text(content: Any) -> str:
    """Join all text of a prompt, whether it is a string, messages, or parts of one."""
    if isinstance(content, dict):
        content = content.get("content") or content.get("text") or ""
    if isinstance(content, list):
        return "\n".join(_text(part) for part in content)
    return str(content)


def _vector(text: str) -> list[float]:
    # Sixteenths have short texts and are exact as 32-bit floats.
    return [byte / 16 for byte in hashlib.sha256(text.encode()).digest()[:DIMENSIONS]]


def _tokens(prompt: str, content: str) -> tuple[int, int]:
    return len(prompt) // 4 + 1, len(content) // 4 + 1


def _chat_usage(read: int, written: int) -> Body:
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _id(prefix: str, body: Body) -> str:
    text = json.dumps(body, sort_keys=True)
    return prefix + hashlib.sha256(text.encode()).hexdigest()[:24]
