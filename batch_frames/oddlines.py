"""Tell what a line of unusual shape is: a result, none at all, or another service's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from batch_frames.byhand import Row, members, read_result
from batch_frames.errors import LineError
from batch_frames.files import Lines, kind_of, load_line
from batch_frames.statuses import RANKS

__all__ = ["explain"]


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
