"""Read output lines as one would without batch_frames, into the same columns."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

STATUSES = (
    *("ok", "truncated", "refused", "filtered", "invalid_json"),
    *("http_error", "expired", "cancelled", "missing", "malformed", "skipped"),
)
OK, TRUNCATED, REFUSED, FILTERED, INVALID_JSON, HTTP_ERROR, EXPIRED = range(7)
OF_ERROR = {"batch_expired": EXPIRED}
CUT_SHORT = ("length", "max_output_tokens")
OF_FINISH = {**dict.fromkeys(CUT_SHORT, TRUNCATED), "content_filter": FILTERED}

TONES = ("calm", "happy", "angry")
TONE_INDEX = {tone: index for index, tone in enumerate(TONES)}
SCHEMA: dict[str, Any] = {
    "title": "rating",
    "type": "object",
    "properties": {
        "stars": {"type": "integer"},
        "complaint": {"type": ["string", "null"]},
        "tone": {"type": "string", "enum": list(TONES)},
        "score": {"type": "number"},
        "topics": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["stars", "complaint", "tone", "score", "topics"],
    "additionalProperties": False,
}
RESULTS = {
    "custom_id": "text",
    "status": "status",
    "content": "text",
    "finish_reason": "text",
    "refusal": "text",
    "error_code": "text",
    "error_message": "text",
    "status_code": "integer",
    "input_tokens": "integer",
    "cached_tokens": "integer",
    "output_tokens": "integer",
    "reasoning_tokens": "integer",
    "model": "text",
    "request_id": "text",
    "service_tier": "text",
}
ANSWERS = {
    "stars": "integer",
    "complaint": "text",
    "tone": "tone",
    "score": "number",
    "topics": "texts",
}
CONTENT, MESSAGE = 2, 6
NOTHING: dict[str, Any] = {}
NO_ANSWER = (None,) * len(ANSWERS)

Row = tuple[Any, ...]
Loads = Callable[[Any], Any]
Found = tuple[Row, str | None]


def read_loop(path: Path, loads: Loads, to_row: Callable[[Any], Row] | None = None) -> Any:
    """Parse line by line."""
    to_row = to_row or result_row
    with path.open("rb") as file:
        rows = [to_row(loads(line)) for line in file]
    return to_frame(make_columns(RESULTS, rows), path)


def read_typed_loop(
    path: Path,
    loads: Loads,
    to_row: Callable[[Any], Row] | None = None,
    to_answer: Callable[[str], Found] | None = None,
) -> Any:
    """Parse line by line, and the answer of each."""
    to_row = to_row or result_row
    to_answer = to_answer or partial(try_answer, loads=loads)
    rows, answers = [], []
    with path.open("rb") as file:
        for line in file:
            row, answer = to_row(loads(line)), NO_ANSWER
            if row[1] == OK:
                answer, reason = to_answer(row[CONTENT])
                if reason:
                    row = (row[0], INVALID_JSON, *row[2:MESSAGE], reason, *row[MESSAGE + 1 :])
            rows.append(row)
            answers.append(answer)
    results = make_columns(RESULTS, rows)
    names = ("custom_id", "status", "content")
    first = {name: results.pop(name) for name in names}
    return to_frame({**first, **make_columns(ANSWERS, answers), **results}, path)


def read_answers_loop(texts: list[str], loads: Loads) -> Any:
    """Parse and check the texts of answers."""
    import pyarrow as pa

    answers, reasons = zip(*(try_answer(text, loads) for text in texts), strict=True)
    return pa.table({**make_columns(ANSWERS, answers), "reason": pa.array(reasons, pa.string())})


def result_row(result: dict[str, Any]) -> Row:
    """Take what `RESULTS` names out of a result of OpenAI's."""
    response = result["response"] or NOTHING
    body = response.get("body") or NOTHING
    status_code, request_id = response.get("status_code"), response.get("request_id")
    if error := result["error"] or body.get("error"):
        code = error["code"] or error["type"]
        return failed_row(result["custom_id"], code, error["message"], status_code, request_id)
    choice, usage = body["choices"][0], body["usage"]
    message, finish_reason = choice["message"], choice["finish_reason"]
    refusal = message["refusal"]
    return (
        result["custom_id"],
        REFUSED if refusal else OF_FINISH.get(finish_reason, OK),
        message["content"],
        finish_reason,
        refusal,
        None,
        None,
        status_code,
        usage["prompt_tokens"],
        usage["prompt_tokens_details"]["cached_tokens"],
        usage["completion_tokens"],
        usage["completion_tokens_details"]["reasoning_tokens"],
        body["model"],
        request_id,
        body["service_tier"],
    )


def response_row(result: dict[str, Any]) -> Row:
    """Take it out of a result of `/v1/responses`."""
    response = result["response"] or NOTHING
    body = response.get("body") or NOTHING
    status_code, request_id = response.get("status_code"), response.get("request_id")
    if error := result["error"] or body.get("error"):
        code = error["code"] or error["type"]
        return failed_row(result["custom_id"], code, error["message"], status_code, request_id)
    texts, refusals = [], []
    for item in body["output"]:
        if item["type"] == "message":
            for part in item["content"]:
                if part["type"] == "output_text":
                    texts.append(part["text"])
                else:
                    refusals.append(part["refusal"])
    refusal = "".join(refusals) or None
    details, usage = body["incomplete_details"], body["usage"]
    finish_reason = details["reason"] if details else body["status"]
    return (
        result["custom_id"],
        REFUSED if refusal else OF_FINISH.get(finish_reason, OK),
        "".join(texts) if texts else None,
        finish_reason,
        refusal,
        None,
        None,
        status_code,
        usage["input_tokens"],
        usage["input_tokens_details"]["cached_tokens"],
        usage["output_tokens"],
        usage["output_tokens_details"]["reasoning_tokens"],
        body["model"],
        request_id,
        body["service_tier"],
    )


def failed_row(custom_id: str, code: Any, message: str, status_code: Any, request_id: Any) -> Row:
    status = OF_ERROR.get(code, HTTP_ERROR)
    failure = (code, message, status_code)
    tokens = (None, None, None, None)
    return (custom_id, status, None, None, None, *failure, *tokens, None, request_id, None)


def try_answer(text: str, loads: Loads) -> Found:
    try:
        return answer_row(loads(text)), None
    except KeyError as error:
        return NO_ANSWER, f"{error} is missing"
    except ValueError as error:
        return NO_ANSWER, str(error)


def answer_row(answer: dict[str, Any]) -> Row:
    """Take out what `ANSWERS` names, if it is of the type that `SCHEMA` says."""
    stars, complaint, tone = answer["stars"], answer["complaint"], answer["tone"]
    score, topics = answer["score"], answer["topics"]
    if type(stars) is not int:
        raise ValueError(f"'stars' is {stars!r}, not an integer")
    if complaint is not None and type(complaint) is not str:
        raise ValueError(f"'complaint' is {complaint!r}, not a string")
    if tone not in TONE_INDEX:
        raise ValueError(f"'tone' is {tone!r}, not one of {', '.join(map(repr, TONES))}")
    if type(score) is not float and type(score) is not int:
        raise ValueError(f"'score' is {score!r}, not a number")
    if type(topics) is not list:
        raise ValueError(f"'topics' is {topics!r}, not an array")
    for number, topic in enumerate(topics):
        if type(topic) is not str:
            raise ValueError(f"'topics[{number}]' is {topic!r}, not a string")
    return stars, complaint, TONE_INDEX[tone], score, topics


def make_columns(kinds: dict[str, str], rows: Iterable[Row]) -> dict[str, Any]:
    """Make Arrow columns, which is quicker than to let pandas look at each object."""
    columns = zip(*rows, strict=True)
    made = zip(kinds.items(), columns, strict=True)
    return {name: make_column(kind, values) for (name, kind), values in made}


def make_column(kind: str, values: Any) -> Any:
    import pyarrow as pa

    if kind in ("status", "tone"):
        texts = STATUSES if kind == "status" else TONES
        return pa.DictionaryArray.from_arrays(pa.array(values, pa.int8()), pa.array(texts))
    types = {
        "text": pa.large_string(),
        "integer": pa.int64(),
        "number": pa.float64(),
        "texts": pa.list_(pa.string()),
    }
    return pa.array(values, types[kind])


def to_frame(columns: dict[str, Any], path: Path) -> Any:
    import pandas as pd
    import pyarrow as pa

    table = pa.table(columns)
    frame = table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    return with_places(frame, path)


def with_places(frame: Any, path: Path) -> Any:
    """Say of each row where its line stands, before its service tier."""
    import pandas as pd

    numbers = pd.array(range(1, len(frame) + 1), "Int64")
    tiers = frame.pop("service_tier")
    file = pd.Series(str(path), frame.index, "str")
    return frame.assign(file=file, line=numbers, service_tier=tiers)


def struct(**fields: Any) -> Any:
    import pyarrow as pa

    return pa.struct(list(fields.items()))


def pyarrow_schema(**of_body: Any) -> Any:
    """Make the schema of a result whose body has these fields beside those of every endpoint."""
    import pyarrow as pa

    text = pa.large_string()
    error = struct(code=text, message=text, type=text)
    body = struct(**of_body, model=text, error=error, service_tier=text)
    response = struct(status_code=pa.int64(), request_id=text, body=body)
    return pa.schema(struct(custom_id=text, response=response, error=error))


def chat_schema() -> Any:
    import pyarrow as pa

    text, number = pa.large_string(), pa.int64()
    usage = struct(
        prompt_tokens=number,
        prompt_tokens_details=struct(cached_tokens=number),
        completion_tokens=number,
        completion_tokens_details=struct(reasoning_tokens=number),
    )
    choice = struct(message=struct(content=text, refusal=text), finish_reason=text)
    return pyarrow_schema(choices=pa.list_(choice), usage=usage)


def read_pyarrow(path: Path) -> Any:
    """Parse with pyarrow.json, which is told the schema."""
    return read_by_schema(path, chat_schema(), chat_columns)


def read_by_schema(path: Path, schema: Any, columns_of: Callable[[Any], dict[str, Any]]) -> Any:
    """Parse with pyarrow.json; of the bodies, `columns_of` takes what an endpoint has."""
    import pyarrow.compute as pc
    import pyarrow.json as pj

    table = pj.read_json(
        path,
        pj.ReadOptions(block_size=4 << 20),
        pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
    )
    response = table["response"]
    body = pc.struct_field(response, "body")
    both = (table["error"], pc.struct_field(body, "error"))
    errors = [pc.struct_field(error, name) for name in ("code", "type") for error in both]
    columns = {
        "custom_id": table["custom_id"],
        "error_code": pc.coalesce(*errors),
        "error_message": pc.coalesce(*(pc.struct_field(error, "message") for error in both)),
        "status_code": pc.struct_field(response, "status_code"),
        "model": pc.struct_field(body, "model"),
        "request_id": pc.struct_field(response, "request_id"),
        "service_tier": pc.struct_field(body, "service_tier"),
        **columns_of(body),
    }
    columns["status"] = arrow_statuses(columns)
    return to_frame({name: columns[name] for name in RESULTS}, path)


def chat_columns(body: Any) -> dict[str, Any]:
    import pyarrow.compute as pc

    choice = pc.list_element(pc.struct_field(body, "choices"), 0)
    usage = pc.struct_field(body, "usage")
    return {
        "content": pc.struct_field(choice, ["message", "content"]),
        "finish_reason": pc.struct_field(choice, "finish_reason"),
        "refusal": pc.struct_field(choice, ["message", "refusal"]),
        "input_tokens": pc.struct_field(usage, "prompt_tokens"),
        "cached_tokens": pc.struct_field(usage, ["prompt_tokens_details", "cached_tokens"]),
        "output_tokens": pc.struct_field(usage, "completion_tokens"),
        "reasoning_tokens": pc.struct_field(
            usage, ["completion_tokens_details", "reasoning_tokens"]
        ),
    }


def arrow_statuses(columns: dict[str, Any]) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    finish, code = columns["finish_reason"], columns["error_code"]
    cases = [
        (pc.equal(code, "batch_expired"), EXPIRED),
        (pc.is_valid(code), HTTP_ERROR),
        (pc.is_valid(columns["refusal"]), REFUSED),
        (pc.equal(finish, "content_filter"), FILTERED),
        (pc.is_in(finish, pa.array(CUT_SHORT, finish.type)), TRUNCATED),
    ]
    conditions, ranks = zip(*cases, strict=True)
    values = [pa.scalar(rank, pa.int8()) for rank in (*ranks, OK)]
    ranks = pc.case_when(pc.make_struct(*conditions), *values).combine_chunks()
    return pa.DictionaryArray.from_arrays(ranks, pa.array(STATUSES))


def read_pandas(path: Path) -> Any:
    """Parse with pandas, and flatten what is nested."""
    import pandas as pd

    lines = pd.read_json(path, lines=True, dtype=False, convert_dates=False)
    responses = flatten(lines["response"])
    choices = flatten(responses["body.choices"].str[0])
    errors = flatten(lines["error"])
    code = errors["code"].fillna(responses["body.error.code"])
    frame = pd.DataFrame(
        {
            "custom_id": lines["custom_id"],
            "status": "ok",
            "content": choices["message.content"],
            "finish_reason": choices["finish_reason"],
            "refusal": choices["message.refusal"],
            "error_code": code.fillna(responses["body.error.type"]),
            "error_message": errors["message"].fillna(responses["body.error.message"]),
            "status_code": responses["status_code"].astype("Int64"),
            **dict(pandas_tokens(responses)),
            "model": responses["body.model"],
            "request_id": responses["request_id"],
            "service_tier": responses["body.service_tier"],
        }
    )
    failed = frame["error_code"].notna()
    frame.loc[frame["finish_reason"] == "length", "status"] = "truncated"
    frame.loc[frame["finish_reason"] == "content_filter", "status"] = "filtered"
    frame.loc[frame["refusal"].notna(), "status"] = "refused"
    frame.loc[failed, "status"] = "http_error"
    frame.loc[frame["error_code"] == "batch_expired", "status"] = "expired"
    frame["status"] = pd.Categorical(frame["status"], STATUSES)
    return with_places(frame, path)


def flatten(objects: Any) -> Any:
    import pandas as pd

    return pd.json_normalize([one if isinstance(one, dict) else {} for one in objects])


def pandas_tokens(responses: Any) -> Iterator[tuple[str, Any]]:
    for name, path in (
        ("input_tokens", "prompt_tokens"),
        ("cached_tokens", "prompt_tokens_details.cached_tokens"),
        ("output_tokens", "completion_tokens"),
        ("reasoning_tokens", "completion_tokens_details.reasoning_tokens"),
    ):
        yield name, responses[f"body.usage.{path}"].astype("Int64")
