"""Lines of request files, and the rows that they become."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

CHAT = "/v1/chat/completions"
TEXTS = ("custom_id", "url", "model", "system_prompt", "user_prompt", "reasoning_effort", "body")

Row = dict[str, Any]


def texts_of(content: Any) -> str | None:
    """Write a content as text: of a list of parts, the texts in it."""
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list):
        return dumps(content)
    parts = [part.get("text") if isinstance(part, dict) else part for part in content]
    texts = [part for part in parts if isinstance(part, str)]
    return "\n".join(texts) if texts else None


def dumps(value: Any) -> str:
    """Write compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def replaced(value: Any) -> Any:
    """Put U+FFFD in place of each lone surrogate of a JSON value."""
    if isinstance(value, str):
        return re.sub("[\ud800-\udfff]", "\ufffd", value)
    if isinstance(value, list):
        return [replaced(item) for item in value]
    if isinstance(value, dict):
        return {replaced(key): replaced(item) for key, item in value.items()}
    return value


def refuse(constant: str) -> Any:
    """Refuse NaN and infinities, which are not JSON."""
    raise ValueError(constant)


def finite(number: str) -> float:
    """Refuse a number too large for 64 bits, of which parsers make different things."""
    return float(number) if abs(float(number)) < float("inf") else refuse(number)


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object whose keys stand twice, for parsers differ in which they take."""
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def expected_row(raw: bytes) -> Row | None:
    """Read one line with the standard library; None when it is no request.

    This is stricter than DuckDB, which also takes NaN, infinities, a comma before a closing bracket
    and the first of two values under one key.
    """
    hooks: Row = {"parse_constant": refuse, "parse_float": finite, "object_pairs_hook": unique}
    try:
        value = json.loads(raw.decode(), **hooks)
    except (ValueError, RecursionError):
        return None
    if rb"\ud" in raw.lower():
        value = replaced(value)
    if not isinstance(value, dict) or not isinstance(value.get("body"), dict):
        return None
    custom_id, body = value.get("custom_id"), value["body"]
    if isinstance(custom_id, bool) or not isinstance(custom_id, (str, int, float)):
        return None
    listed = body.get("messages", body.get("input"))
    messages = [m for m in listed if isinstance(m, dict)] if isinstance(listed, list) else []
    said = [m.get("content") for m in messages if m.get("role") == "user"]
    first = messages[0] if messages else {}
    system = first.get("content") if first.get("role") in ("system", "developer") else None
    reasoning = body.get("reasoning")
    inner = reasoning.get("effort") if isinstance(reasoning, dict) else None
    return {
        "custom_id": texts_of(custom_id),
        "url": texts_of(value.get("url")),
        "model": texts_of(body.get("model")),
        "system_prompt": texts_of(body.get("instructions", system)),
        "user_prompt": texts_of(said[-1] if said else body.get("input", body.get("prompt"))),
        "reasoning_effort": texts_of(body.get("reasoning_effort", inner)),
        "body": body,
    }


def lines_of(path: Path) -> list[tuple[int, bytes]]:
    """Number the lines of a file that are not blank."""
    lines = path.read_bytes().split(b"\n")
    return [(n, line) for n, line in enumerate(lines, 1) if line.strip(b" \t\r")]


def rows_of(frame: pd.DataFrame) -> Iterator[Row]:
    """Give the rows of a frame, None for what is missing."""
    columns = {name: frame[name].astype(object).tolist() for name in frame.columns}
    for values in zip(*columns.values(), strict=True):
        row = zip(columns, values, strict=True)
        yield {name: None if value is pd.NA or value != value else value for name, value in row}


def check(frame: pd.DataFrame, path: Path) -> None:
    """Compare a frame with the file that it was read from."""
    rows, lines = list(rows_of(frame)), lines_of(path)
    assert len(rows) == len(lines)
    for row, (number, raw) in zip(rows, lines, strict=True):
        assert row.pop("file") == str(path)
        assert row.pop("line") == number
        assert {**row, "body": json.loads(row["body"])} == expected_row(raw)


def request(body: Any, custom_id: Any = "a", url: str = CHAT) -> Row:
    """Make a request."""
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def chat(*messages: tuple[str, Any], **others: Any) -> Row:
    """Make the body of a chat request."""
    return {"messages": [{"role": role, "content": text} for role, text in messages], **others}


def part(text: str, kind: str = "text") -> Row:
    """Make a part of a message that is a text."""
    return {"type": kind, "text": text}


IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
