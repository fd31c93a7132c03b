"""Read output lines with msgspec and polars, and those of `/v1/responses` with pyarrow.json.

The rows and columns are those of `readers`.
"""

from pathlib import Path
from typing import Any, Literal

import msgspec
from readers import (
    CUT_SHORT,
    EXPIRED,
    FILTERED,
    HTTP_ERROR,
    OF_FINISH,
    OK,
    REFUSED,
    STATUSES,
    TRUNCATED,
    Found,
    Row,
    failed_row,
    pyarrow_schema,
    read_by_schema,
    read_loop,
    read_typed_loop,
    struct,
    to_frame,
    try_answer,
)


class Error(msgspec.Struct, gc=False):
    message: str
    code: str | None = None
    type: str | None = None


class Message(msgspec.Struct, gc=False):
    content: str | None
    refusal: str | None


class Choice(msgspec.Struct, gc=False):
    message: Message
    finish_reason: str


class InputDetails(msgspec.Struct, gc=False):
    cached_tokens: int


class OutputDetails(msgspec.Struct, gc=False):
    reasoning_tokens: int


class ChatUsage(msgspec.Struct, gc=False):
    prompt_tokens: int
    prompt_tokens_details: InputDetails
    completion_tokens: int
    completion_tokens_details: OutputDetails


class ChatBody(msgspec.Struct, gc=False):
    model: str | None = None
    choices: list[Choice] | None = None
    usage: ChatUsage | None = None
    error: Error | None = None
    service_tier: str | None = None


class ChatResponse(msgspec.Struct, gc=False):
    status_code: int
    request_id: str
    body: ChatBody


class ChatLine(msgspec.Struct, gc=False):
    custom_id: str
    response: ChatResponse | None
    error: Error | None


class OutputText(msgspec.Struct, gc=False, tag="output_text"):
    text: str


class Refusal(msgspec.Struct, gc=False, tag="refusal"):
    refusal: str


class Output(msgspec.Struct, gc=False, tag="message"):
    content: list[OutputText | Refusal]


class Reasoning(msgspec.Struct, gc=False, tag="reasoning"):
    pass


class Incomplete(msgspec.Struct, gc=False):
    reason: str


class Usage(msgspec.Struct, gc=False):
    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails


class Body(msgspec.Struct, gc=False):
    status: str | None = None
    incomplete_details: Incomplete | None = None
    output: list[Output | Reasoning] | None = None
    model: str | None = None
    usage: Usage | None = None
    error: Error | None = None
    service_tier: str | None = None


class Response(msgspec.Struct, gc=False):
    status_code: int
    request_id: str
    body: Body


class Line(msgspec.Struct, gc=False):
    custom_id: str
    response: Response | None
    error: Error | None


class Answer(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    stars: int
    complaint: str | None
    tone: Literal["calm", "happy", "angry"]
    score: float
    topics: list[str]


CHAT_LINES, LINES = msgspec.json.Decoder(ChatLine), msgspec.json.Decoder(Line)
ANSWERS = msgspec.json.Decoder(Answer)
TONE_INDEX = {"calm": 0, "happy": 1, "angry": 2}


def read_msgspec_chat(path: Path) -> Any:
    return read_loop(path, CHAT_LINES.decode, chat_row)


def read_msgspec_responses(path: Path) -> Any:
    return read_loop(path, LINES.decode, response_row)


def read_typed_msgspec_chat(path: Path) -> Any:
    return read_typed_loop(path, CHAT_LINES.decode, chat_row, to_answer)


def read_typed_msgspec_responses(path: Path) -> Any:
    return read_typed_loop(path, LINES.decode, response_row, to_answer)


def failed_line(line: Any) -> Row | None:
    response = line.response
    error = line.error or response.body.error
    if error is None:
        return None
    asked = (response.status_code, response.request_id) if response else (None, None)
    return failed_row(line.custom_id, error.code or error.type, error.message, *asked)


def chat_row(line: Any) -> Row:
    if failed := failed_line(line):
        return failed
    response = line.response
    body = response.body
    choice, usage = body.choices[0], body.usage
    message, finish_reason = choice.message, choice.finish_reason
    return (
        line.custom_id,
        REFUSED if message.refusal else OF_FINISH.get(finish_reason, OK),
        message.content,
        finish_reason,
        message.refusal,
        None,
        None,
        response.status_code,
        usage.prompt_tokens,
        usage.prompt_tokens_details.cached_tokens,
        usage.completion_tokens,
        usage.completion_tokens_details.reasoning_tokens,
        body.model,
        response.request_id,
        body.service_tier,
    )


def response_row(line: Any) -> Row:
    if failed := failed_line(line):
        return failed
    response = line.response
    body = response.body
    texts, refusals = [], []
    for item in body.output:
        if type(item) is Output:
            for part in item.content:
                if type(part) is OutputText:
                    texts.append(part.text)
                else:
                    refusals.append(part.refusal)
    refusal, usage, details = "".join(refusals) or None, body.usage, body.incomplete_details
    finish_reason = details.reason if details else body.status
    return (
        line.custom_id,
        REFUSED if refusal else OF_FINISH.get(finish_reason, OK),
        "".join(texts) if texts else None,
        finish_reason,
        refusal,
        None,
        None,
        response.status_code,
        usage.input_tokens,
        usage.input_tokens_details.cached_tokens,
        usage.output_tokens,
        usage.output_tokens_details.reasoning_tokens,
        body.model,
        response.request_id,
        body.service_tier,
    )


def to_answer(text: str) -> Found:
    """Read an answer by its type; what is wrong with one that is not is said in our words."""
    try:
        answer = ANSWERS.decode(text)
    except msgspec.MsgspecError:
        return try_answer(text, msgspec.json.decode)
    return (
        answer.stars,
        answer.complaint,
        TONE_INDEX[answer.tone],
        answer.score,
        answer.topics,
    ), None


def polars_schema(body: dict[str, Any]) -> dict[str, Any]:
    import polars as pl

    error = pl.Struct({"code": pl.String, "message": pl.String, "type": pl.String})
    fields = {"model": pl.String, **body, "error": error, "service_tier": pl.String}
    response = {"status_code": pl.Int64, "request_id": pl.String, "body": pl.Struct(fields)}
    return {"custom_id": pl.String, "response": pl.Struct(response), "error": error}


def polars_tokens(asked: str, told: str) -> Any:
    import polars as pl

    details = {asked: "cached_tokens", told: "reasoning_tokens"}
    parts = {f"{kind}_details": pl.Struct({name: pl.Int64}) for kind, name in details.items()}
    return pl.Struct({asked: pl.Int64, told: pl.Int64, **parts})


def read_polars_chat(path: Path) -> Any:
    import polars as pl

    message = pl.Struct({"content": pl.String, "refusal": pl.String})
    choice = pl.Struct({"message": message, "finish_reason": pl.String})
    usage = polars_tokens("prompt_tokens", "completion_tokens")
    schema = polars_schema({"choices": pl.List(choice), "usage": usage})
    choice = inside(pl.col("response"), "body", "choices").list.first()
    found = {
        "content": inside(choice, "message", "content"),
        "finish_reason": inside(choice, "finish_reason"),
        "refusal": inside(choice, "message", "refusal"),
    }
    return read_polars(path, schema, found, "prompt_tokens", "completion_tokens")


def read_polars_responses(path: Path) -> Any:
    """Read the last item of the output, which is the message in these lines."""
    import polars as pl

    part = pl.Struct({"text": pl.String, "refusal": pl.String})
    output = pl.List(pl.Struct({"content": pl.List(part)}))
    schema = polars_schema(
        {
            "status": pl.String,
            "incomplete_details": pl.Struct({"reason": pl.String}),
            "output": output,
            "usage": polars_tokens("input_tokens", "output_tokens"),
        }
    )
    body = inside(pl.col("response"), "body")
    part = inside(inside(body, "output").list.last(), "content").list.first()
    reason = inside(body, "incomplete_details", "reason")
    found = {
        "content": inside(part, "text"),
        "finish_reason": pl.coalesce(reason, inside(body, "status")),
        "refusal": inside(part, "refusal"),
    }
    return read_polars(path, schema, found, "input_tokens", "output_tokens")


def inside(column: Any, *names: str) -> Any:
    for name in names:
        column = column.struct.field(name)
    return column


def read_polars(path: Path, schema: Any, found: Any, asked: str, told: str) -> Any:
    """Scan lines of a schema, and select what is told and what all lines have."""
    import polars as pl

    own, response = pl.col("error"), pl.col("response")
    body = inside(response, "body")
    of_body, usage = inside(body, "error"), inside(body, "usage")
    errors = [inside(error, name) for name in ("code", "type") for error in (own, of_body)]
    messages = [inside(error, "message") for error in (own, of_body)]
    lines = pl.scan_ndjson(path, schema=schema).select(
        custom_id=pl.col("custom_id"),
        **found,
        error_code=pl.coalesce(*errors),
        error_message=pl.coalesce(*messages),
        status_code=inside(response, "status_code"),
        input_tokens=inside(usage, asked),
        cached_tokens=inside(usage, f"{asked}_details", "cached_tokens"),
        output_tokens=inside(usage, told),
        reasoning_tokens=inside(usage, f"{told}_details", "reasoning_tokens"),
        model=inside(body, "model"),
        request_id=inside(response, "request_id"),
        service_tier=inside(body, "service_tier"),
    )
    frame = lines.with_columns(status=polars_statuses()).collect()
    table = frame.to_arrow()
    names = ["custom_id", "status", *(name for name in table.column_names[1:] if name != "status")]
    return to_frame(dict(zip(names, map(table.column, names), strict=True)), path)


def polars_statuses() -> Any:
    import polars as pl

    code, finish = pl.col("error_code"), pl.col("finish_reason")
    cases = [
        (code == "batch_expired", EXPIRED),
        (code.is_not_null(), HTTP_ERROR),
        (pl.col("refusal").is_not_null(), REFUSED),
        (finish == "content_filter", FILTERED),
        (finish.is_in(CUT_SHORT), TRUNCATED),
    ]
    status = pl.lit(STATUSES[OK])
    for condition, rank in reversed(cases):
        status = pl.when(condition).then(pl.lit(STATUSES[rank])).otherwise(status)
    return status.cast(pl.Enum(STATUSES))


def read_pyarrow_responses(path: Path) -> Any:
    """Parse with pyarrow.json, which is told the schema; a response has one message here."""
    return read_by_schema(path, response_schema(), response_columns)


def response_columns(body: Any) -> dict[str, Any]:
    import pyarrow.compute as pc

    part = message_parts(pc.struct_field(body, "output").combine_chunks())
    reason = pc.struct_field(body, ["incomplete_details", "reason"])
    usage = pc.struct_field(body, "usage")
    return {
        "content": pc.struct_field(part, "text"),
        "finish_reason": pc.coalesce(reason, pc.struct_field(body, "status")),
        "refusal": pc.struct_field(part, "refusal"),
        "input_tokens": pc.struct_field(usage, "input_tokens"),
        "cached_tokens": pc.struct_field(usage, ["input_tokens_details", "cached_tokens"]),
        "output_tokens": pc.struct_field(usage, "output_tokens"),
        "reasoning_tokens": pc.struct_field(usage, ["output_tokens_details", "reasoning_tokens"]),
    }


def message_parts(outputs: Any) -> Any:
    """Take the first part of the message of each response, null where there is none."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    items, rows = pc.list_flatten(outputs), pc.list_parent_indices(outputs)
    is_message = pc.equal(pc.struct_field(items, "type"), "message")
    parts = pc.list_element(pc.struct_field(items.filter(is_message), "content"), 0)
    numbers = pa.array(np.arange(len(outputs)), rows.type)
    return parts.take(pc.index_in(numbers, rows.filter(is_message)))


def response_schema() -> Any:
    import pyarrow as pa

    text, number = pa.large_string(), pa.int64()
    usage = struct(
        input_tokens=number,
        input_tokens_details=struct(cached_tokens=number),
        output_tokens=number,
        output_tokens_details=struct(reasoning_tokens=number),
    )
    item = struct(type=text, content=pa.list_(struct(text=text, refusal=text)))
    incomplete = struct(reason=text)
    return pyarrow_schema(
        status=text, incomplete_details=incomplete, output=pa.list_(item), usage=usage
    )
