"""Say what the lines of a result file mean, in the simplest way there is."""

import base64
import json
import re
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

Row = dict[str, Any]

STATUSES = (
    *("ok", "truncated", "refused", "filtered", "invalid_json"),
    *("http_error", "expired", "cancelled", "missing", "malformed", "skipped"),
)
TOKENS = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
COLUMNS = (
    *("custom_id", "status", "content", "finish_reason", "refusal", "error_code", "error_message"),
    *("status_code", *TOKENS, "model", "request_id", "file", "line"),
)
SOMETIMES = (
    *("cache_write_tokens", "service_tier", "tool_calls", "choices", "citations"),
    *("reasoning_summary", "embedding", "flagged", "categories", "category_scores", "body"),
)
JSON_COLUMNS = ("categories", "category_scores", "body")

CALLS = ("function_call", "custom_tool_call")
BOM = b"\xef\xbb\xbf"
NO_VECTOR = "the embedding is not a list of numbers"
OURS = "not of the OpenAI Batch API"
WORD = re.compile(r'"(?:[^"\\]|\\.)*"|[-+.\w]+|[ \t\r]+|.', re.DOTALL)
CONSTANT = re.compile(r"(-?)(nan|inf|infinity)", re.IGNORECASE)
HIGH, LOW = r"\\u[dD][89abAB][\da-fA-F]{2}", r"\\u[dD][c-fC-F][\da-fA-F]{2}"
LONE = re.compile(rf"{HIGH}{LOW}|(?P<lone>{HIGH}|{LOW})|\\.", re.DOTALL)
INFINITY = float("inf")


class Foreign(Exception):  # noqa: N818  # it is an answer of the oracle, not its failure
    """Say that a line belongs to another service, or is no result at all."""

    def __init__(self, problem: str, line: int) -> None:
        super().__init__(problem)
        self.line = line


def rows_of(frame: pd.DataFrame) -> list[Row]:
    """Give the rows of a frame as this module does: None for what is missing, JSON as its value."""
    columns = {name: frame[name].astype(object).tolist() for name in frame.columns}
    rows: list[Row] = [dict.fromkeys(SOMETIMES) for _ in range(len(frame))]
    for name, values in columns.items():
        for row, value in zip(rows, values, strict=True):
            row[name] = plain(value)
            if name in JSON_COLUMNS and row[name] is not None and row["status"] != "malformed":
                row[name] = json.loads(row[name])
    return rows


def plain(value: Any) -> Any:
    """Make Python objects of a cell's value."""
    if isinstance(value, (list, np.ndarray)):
        return [plain(item) for item in value]
    if isinstance(value, np.float32):
        return float(value)
    return None if value is pd.NA or value != value else value


def lines_of(data: bytes) -> list[tuple[int, bytes]]:
    """Number the lines of a file that are not blank, without their ends."""
    numbered = enumerate(data.removeprefix(BOM).split(b"\n"), 1)
    return [(n, line.rstrip(b"\r")) for n, line in numbered if line.strip(b" \t\r")]


def read(data: bytes, *, raw: bool = False, found: list[Row] | None = None) -> list[Row]:
    """Read a file: a row for each line, with all columns but ``file``.

    The columns that hold JSON text hold the value here. Of a line that is no proper JSON, or has a
    number that no reader holds, the reading is chosen that ``found`` has, if it is one of those.

    Raises:
        Foreign: If a line belongs to another service, or is no result at all.
    """
    rows = []
    for place, (number, line) in enumerate(lines_of(data)):
        readings = rows_of_line(number, line, raw)
        if len(readings) > 1:
            like = found[place] if found and place < len(found) else {}
            readings = [row for row in readings if is_alike(row, like)] or readings
        rows.append(readings[0])
    listed = any(len(row["choices"] or ()) > 1 for row in rows)
    single = all(len(row["embedding"] or ()) <= 1 for row in rows)
    for row in rows:
        row["choices"] = row["choices"] if listed else None
        row["embedding"] = row["embedding"][0] if row["embedding"] and single else row["embedding"]
    return rows


def is_alike(row: Row, found: Row) -> bool:
    """Compare what does not depend on other lines."""
    names = row.keys() - {"choices", "embedding"}
    return all(compact(row[name]) == compact(found.get(name)) for name in names)


def rows_of_line(number: int, raw: bytes, keep: bool = False) -> list[Row]:
    """Read one line, in each way that is right; where it is no result, say so in the row."""
    empty = {**dict.fromkeys((*COLUMNS, *SOMETIMES)), "line": number}
    del empty["file"]
    raw = raw.removeprefix(BOM)
    values, problem = parse(raw)
    rows = []
    for value in values:
        if fault_found := fault(value, number):
            problem = problem or fault_found
            continue
        row = {**empty, **result(value)}
        if keep:
            response = inner(value, "response")
            row["body"] = body_of(response) or response.get("body")
        rows.append(row)
    text = raw.decode("utf-8", "replace") if keep else None
    malformed = {**empty, "status": "malformed", "error_message": problem, "body": text}
    return [*rows, malformed] if problem else rows


def parse(raw: bytes) -> tuple[list[Any], str | None]:
    """Read JSON in each way that is right, and say what is wrong if the strict way is refused.

    Of two equal keys, either may count; a number that Python's floats cannot hold may be infinite,
    or its text; commas behind last items, and NaN and infinities in any case, may be passed over.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        return [], f"not UTF-8 at byte {error.start:,}"
    text = LONE.sub(lambda escape: r"\ufffd" if escape["lone"] else escape[0], text)
    try:
        return readings_of(text), None
    except json.JSONDecodeError as error:
        problem = f"not JSON: {error.msg.removesuffix(' at')} at character {error.pos:,}"
    except RecursionError:
        return [], "not JSON: nested too deep"
    try:
        return readings_of(strict(text)), problem
    except json.JSONDecodeError:
        return [], problem


def readings_of(text: str) -> list[Any]:
    """Read JSON that the standard library takes, in another way too where there is one."""
    odd: list[Any] = []

    def read(first: bool, exact: bool) -> Any:
        def pairs(items: list[tuple[str, Any]]) -> Row:
            found = dict(items)
            odd.extend([found] * (len(found) < len(items)))
            return {**found, **dict(reversed(items))} if first else found

        def number(digits: str) -> Any:
            value = float(digits)
            odd.extend([value] * (abs(value) == INFINITY))
            return digits if exact and abs(value) == INFINITY else value

        def whole(digits: str) -> Any:
            return int(digits) if len(digits) < 4_300 else number(digits)

        return json.loads(text, object_pairs_hook=pairs, parse_int=whole, parse_float=number)

    value = read(False, False)
    others = [(True, False), (False, True), (True, True)] if odd else []
    return [value, *(read(first, exact) for first, exact in others)]


def strict(text: str) -> str:
    """Take out the commas behind last items, and write constants as the standard library wants."""
    words = [word for word in WORD.findall(text) if word.strip(" \t\r")]
    for n, word in enumerate(words):
        if found := CONSTANT.fullmatch(word):
            words[n] = found[1] + ("NaN" if found[2].lower() == "nan" else "Infinity")
            words[n] = words[n].replace("-NaN", "NaN")
        elif word == "," and words[n + 1 : n + 2] in (["]"], ["}"]) and words[n - 1] not in "[{,:":
            words[n] = ""
    return " ".join(words)


def fault(value: Any, number: int) -> str | None:
    """Say why a line is no result; raise where the whole file is of another kind."""
    names = {list: "an array", str: "text", bool: "a boolean", type(None): "null"}
    if not isinstance(value, dict):
        return f"the line is {names.get(type(value), 'a number')}, not an object"
    if problem := foreign(value):
        raise Foreign(problem, number)
    has_id = type(value.get("custom_id")) in (str, int, float)
    return None if has_id else "it has no 'custom_id'"


def foreign(value: Row) -> str | None:
    """Say what a line is, if it is no result of the OpenAI Batch API."""
    answered = "response" in value or "error" in value
    if inner(value, "result").get("type") in ("succeeded", "errored", "canceled", "expired"):
        return f"a result of Anthropic's Message Batches, {OURS}; use Anthropic's SDK for it"
    if "key" in value and answered and "custom_id" not in value:
        return f"a result of Gemini's Batch API, {OURS}; use Google's SDK for it"
    if "contents" in inner(value, "request") or "candidates" in inner(value, "response"):
        return f"a result of a Vertex AI batch prediction, {OURS}; use Google's SDK for it"
    if "recordId" in value and ("modelOutput" in value or "modelInput" in value):
        return f"a record of Amazon Bedrock, {OURS}; use Amazon's SDK for it"
    if value.get("object") == "batch":
        return "a batch object, not a result; pass the files that it names"
    if ("body" in value or {"method", "url"} <= set(value)) and not answered:
        return "a request, not a result; put requests in a file of their own"
    return None


def result(value: Row) -> Row:
    """Read an object that has a ``custom_id``."""
    response = inner(value, "response")
    body = body_of(response)
    status_code = number_of(response.get("status_code"))
    if body is response and body:
        status_code = 200
    row = {
        "custom_id": text_of(value["custom_id"]),
        "status_code": status_code,
        "request_id": text_of(response.get("request_id")) or text_of(body.get("request_id")),
        "model": text_of(body.get("model")) or None,
        "service_tier": text_of(body.get("service_tier")) or None,
        **tokens(inner(body, "usage")),
    }
    row["request_id"] = row["request_id"] or None
    if error := value.get("error") or body.get("error"):
        return {**row, **error_of(error)}
    if not value.get("response"):
        return {**row, "status": "http_error", "error_message": "no response"}
    if status_code is None or status_code // 100 != 2:
        named = "missing" if status_code is None else status_code
        return {**row, "status": "http_error", "error_message": f"HTTP status {named}"}
    if not body:
        return {**row, "status": "http_error", "error_message": "the body is empty"}
    return {**row, **answer(body)}


def body_of(response: Row) -> Row:
    """Find the body, which may be JSON text, or the response itself."""
    answers = response.get("choices") is not None or "object" in response
    if answers and not {"status_code", "body"} & set(response):
        return response
    if isinstance(response.get("body"), str):
        values, problem = parse(response["body"].encode())
        return {} if problem else inner({"body": values[0]}, "body")
    return inner(response, "body")


def tokens(usage: Row) -> Row:
    """Count tokens under the names of either API."""
    details = {name: inner(usage, name + "_tokens_details") for name in ("prompt", "input")}
    details |= {name: inner(usage, name + "_tokens_details") for name in ("completion", "output")}
    found = {
        "input_tokens": [usage.get("prompt_tokens"), usage.get("input_tokens")],
        "cached_tokens": [
            details["prompt"].get("cached_tokens"),
            details["input"].get("cached_tokens"),
            usage.get("cached_tokens"),
        ],
        "cache_write_tokens": [
            details["prompt"].get("cache_write_tokens"),
            details["input"].get("cache_write_tokens"),
        ],
        "output_tokens": [usage.get("completion_tokens"), usage.get("output_tokens")],
        "reasoning_tokens": [
            details["completion"].get("reasoning_tokens"),
            details["output"].get("reasoning_tokens"),
        ],
    }
    counts = {name: [number_of(value) for value in values] for name, values in found.items()}
    return {name: next((n for n in ns if n is not None), None) for name, ns in counts.items()}


def error_of(error: Any) -> Row:
    """Read an error, which may be text, an object, or an object with the error in it."""
    if isinstance(error, dict) and isinstance(error.get("error"), dict):
        error = error["error"]
    if not isinstance(error, dict):
        return {"status": "http_error", "error_message": text_of(error)}
    code, kind_of_error = error.get("code"), error.get("type")
    if not isinstance(code, str) or not code or code.isdigit():
        is_named = isinstance(kind_of_error, str) and kind_of_error
        code = kind_of_error if is_named else text_of(code) or None
    status = {"batch_expired": "expired", "batch_cancelled": "cancelled"}
    status["batch_canceled"] = "cancelled"
    message = error.get("message")
    return {
        "status": status.get(str(code), "http_error"),
        "error_code": code,
        "error_message": compact(error) if message is None else text_of(message),
    }


def answer(body: Row) -> Row:
    """Read the body of a request that went well."""
    if "message" in first(body, "choices") or "text" in first(body, "choices"):
        return completion(body["choices"])
    if body.get("object") == "response" or isinstance(body.get("output"), list):
        return response_of(body)
    if "embedding" in first(body, "data"):
        try:
            vectors = [vector(item["embedding"]) for item in body["data"]]
        except (KeyError, TypeError, ValueError):
            return {"status": "http_error", "error_message": NO_VECTOR}
        return {"status": "ok", "embedding": vectors}
    if "flagged" in first(body, "results"):
        results = [one if isinstance(one, dict) else {} for one in body["results"]]
        named = {
            name: [one.get(name) for one in results] for name in ("categories", "category_scores")
        }
        only = {name: found if len(found) > 1 else found[0] for name, found in named.items()}
        return {"status": "ok", "flagged": any(one.get("flagged") for one in results), **only}
    return {"status": "ok", "body": body}


def completion(choices: list[Any]) -> Row:
    """Read the choices of a chat, or of the older completions."""
    choices = [choice if isinstance(choice, dict) else {} for choice in choices]
    one = next((choice for choice in choices if choice.get("index") == 0), choices[0])
    message = inner(one, "message")
    calls, called = message.get("tool_calls"), message.get("function_call")
    if not (isinstance(calls, list) and calls):
        calls = [{"type": "function", "function": called}] if called else []
    return {
        **judged(one),
        "tool_calls": [call(item) for item in calls] or None,
        "citations": citations([message]),
        "choices": [
            {**judged(choice), "error_message": None} for choice in sorted(choices, key=index_of)
        ],
    }


def judged(choice: Row) -> Row:
    """Read one choice."""
    finish = text_of(choice.get("finish_reason"))
    refusal = text_of(inner(choice, "message").get("refusal")) or None
    status = "truncated" if finish in ("length", "max_tokens", "model_length") else "ok"
    status = "filtered" if finish == "content_filter" else status
    status = "refused" if refusal else status
    return {"status": status, "content": said(choice), "finish_reason": finish, "refusal": refusal}


def call(item: Any) -> Row:
    """Read a tool call of either API."""
    item = item if isinstance(item, dict) else {}
    said = inner(item, "function") or inner(item, "custom") or item
    arguments, text = said.get("arguments"), said.get("input")
    if isinstance(arguments, str):
        values, problem = parse(arguments.encode())
        arguments, text = None if problem else values[0], arguments
    named = item["call_id"] if "call_id" in item else item.get("id")
    return {"id": named, "name": said.get("name"), "arguments": arguments, "text": text}


def citations(parts: list[Row]) -> list[Row] | None:
    """List the annotations of parts of a message."""
    found = []
    for part in parts:
        notes = part.get("annotations")
        for note in notes if isinstance(notes, list) else []:
            note = note if isinstance(note, dict) else {}
            found.append({"type": note.get("type"), **(inner(note, "url_citation") or note)})
    return found or None


def index_of(choice: Row) -> int:
    """Give the place of a choice among all."""
    return number_of(choice.get("index")) or 0


def said(choice: Row) -> str | None:
    """Give the text of one choice."""
    if "message" not in choice:
        return text_of(choice.get("text"))
    content = inner(choice, "message").get("content")
    if isinstance(content, list):
        texts = [part.get("text") if isinstance(part, dict) else part for part in content]
        return "".join(text for text in texts if isinstance(text, str))
    return text_of(content)


def response_of(body: Row) -> Row:
    """Read the output of the Responses API."""
    output = body.get("output")
    items = [item for item in output if isinstance(item, dict)] if isinstance(output, list) else []
    messages = [item for item in items if item.get("type") == "message"]
    messages = [item for item in messages if item.get("phase") == "final_answer"] or messages
    contents = [item["content"] for item in messages if isinstance(item.get("content"), list)]
    parts = [part for content in contents for part in content if isinstance(part, dict)]
    texts = [part.get("text") for part in parts if part.get("type") == "output_text"]
    refusals = [part.get("refusal") for part in parts if part.get("type") == "refusal"]
    refusal = "".join(text for text in refusals if isinstance(text, str)) or None
    summaries = [item.get("summary") for item in items if item.get("type") == "reasoning"]
    summed = [part for parts in summaries if isinstance(parts, list) for part in parts]
    said = [part.get("text") for part in summed if isinstance(part, dict)]
    thoughts = [text for text in said if isinstance(text, str)]
    state = text_of(body.get("status"))
    reason = text_of(inner(body, "incomplete_details").get("reason"))
    row = {
        "status": "ok",
        "content": "".join(text for text in texts if isinstance(text, str)) if texts else None,
        "refusal": refusal,
        "tool_calls": [
            call(item)
            for item in items
            if item.get("type") in ("function_call", "custom_tool_call")
        ]
        or None,
        "citations": citations(parts),
        "reasoning_summary": "\n\n".join(thoughts) or None,
        "finish_reason": reason if state == "incomplete" else state,
    }
    if state in ("failed", "in_progress", "queued"):
        return {**row, "status": "http_error", "error_message": f"the response is {state}"}
    if state == "cancelled":
        return {**row, "status": "cancelled"}
    if refusal:
        return {**row, "status": "refused"}
    if state == "incomplete":
        return {**row, "status": "filtered" if reason == "content_filter" else "truncated"}
    return row


def vector(value: Any) -> list[float]:
    """Read an embedding with the precision that it is kept in."""
    if isinstance(value, str):
        return [
            float(number) for number in np.frombuffer(base64.b64decode(value, None, True), "<f4")
        ]
    if not isinstance(value, list):
        raise TypeError(value)
    with np.errstate(over="ignore"):
        return [float(number) for number in np.array([float(n) for n in value]).astype(np.float32)]


def inner(value: Row, name: str) -> Row:
    """Give the object under a name, an empty one if there is none."""
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def first(value: Row, name: str) -> Row:
    """Give the first object of the list under a name, an empty one if there is none."""
    found = value.get(name)
    return found[0] if isinstance(found, list) and found and isinstance(found[0], dict) else {}


def number_of(value: Any) -> int | None:
    """Give a whole number that a column of 64 bits can hold; its digits may be a text."""
    if isinstance(value, str) and re.fullmatch("[0-9]{1,19}", value):
        value = int(value)
    return value if type(value) is int and 0 <= value < 2**63 else None


def text_of(value: Any) -> str | None:
    """Give text as it is, and anything else but null as JSON, of a number with few exponents."""
    if value is None or isinstance(value, str):
        return value
    text = compact(value)
    if isinstance(value, float) and "e" in text:
        digits = f"{Decimal(text):f}"
        digits += "" if "." in digits else ".0"
        return digits if 1e-6 <= abs(value) < 1e21 else re.sub("e[+]?(-?)0*", r"e\1", text)
    return text


def compact(value: Any) -> str:
    """Write JSON without spaces."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
