"""Request files checked before they are sent, compared with what a plain reading finds."""

import ast
import gzip
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import batch_frames as bf
from batch_frames.files import jsonl
from batch_frames.requests import check as checking
from batch_frames.requests import file_check, rules
from batch_frames.schemas import rules as schema_rules
from tests.service.checks import REQUIRED
from tests.support.requests import CHAT, dumps, finite, refuse

REAL = Path(__file__).parents[3] / "shared" / "real"
COLUMNS = ["severity", "code", "line", "custom_id", "param", "message"]
MODEL = "gpt-5.6-luna"
STRICT = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}

Value = dict[str, Any]
Rows = list[tuple[Any, ...]]


def request(custom_id: Any = "a", url: str = CHAT, **body: Any) -> Value:
    """Make a request of which the body has these keys, too."""
    prompt: Any = {"input": "Hi"} if url != CHAT else {"messages": [message("Hi")]}
    body = {"model": MODEL, **prompt, **body}
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def message(text: str) -> Value:
    """Make a message of the user."""
    return {"role": "user", "content": text}


def without(value: Value, *path: str) -> Value:
    """Copy a request without one of its keys."""
    copy: Value = json.loads(json.dumps(value))
    holder = copy
    for key in path[:-1]:
        holder = holder[key]
    del holder[path[-1]]
    return copy


def answering(name: Any = "answer", url: str = CHAT, **answer: Any) -> Value:
    """Make a request with a schema for its answer."""
    answer = {"name": name, **answer} if name is not None else answer
    if url == CHAT:
        return request(response_format={"type": "json_schema", "json_schema": answer})
    return request(url=url, text={"format": {"type": "json_schema", **answer}})


def content(*values: Any) -> bytes:
    """Write JSON values, or bytes as they are, as lines."""
    lines = [v if isinstance(v, bytes) else dumps(v).encode() for v in values]
    return b"".join(line + b"\n" for line in lines)


def rows_of(frame: pd.DataFrame) -> Rows:
    """List the rows of a check, without the file, None for what is missing."""
    plain = frame[COLUMNS].astype(object).where(frame[COLUMNS].notna(), None)
    return list(plain.itertuples(index=False, name=None))


def check(path: Path, data: bytes) -> Rows:
    """Check a file with some bytes."""
    path.write_bytes(data)
    frame = bf.check_requests(path)
    assert set(frame["file"]) <= {str(path)}
    return rows_of(frame)


LATE, INPUT = "/v1/responses", "body.input"
FORMAT, TEXT = "body.response_format.json_schema", "body.text.format"
ROLES = "roles are developer, system, user, assistant, tool, function"
NO_NAME = "the schema has no 'name'"
SYNTAX = "invalid_json_line"
ERRORS: dict[str, tuple[list[Any], tuple[Any, ...]]] = {
    "not JSON": (
        [request(), b'{"custom_id":'],
        (SYNTAX, 2, None, None, "not JSON: Expecting value at character 13"),
    ),
    "trailing comma": (
        [b"[1,]"],
        (SYNTAX, 1, None, None, "not JSON"),
    ),
    "not an object": ([b"[1]"], (SYNTAX, 1, None, None, "the line is an array, not an object")),
    "BOM": (
        [b"\xef\xbb\xbf" + dumps(request()).encode()],
        (SYNTAX, None, None, None, "the file begins with a byte order mark; save it without"),
    ),
    "blank line": ([request(), b" ", request("b")], (SYNTAX, 2, None, None, "the line is blank")),
    "first line blank": ([b"", request()], (SYNTAX, 1, None, None, "the line is blank")),
    "UTF-8": (
        [dumps(request("ä")).encode("latin-1")],
        (SYNTAX, 1, None, None, "not UTF-8 at byte 14"),
    ),
    "NaN": (
        [json.dumps(request(seed=float("nan"))).encode()],
        (SYNTAX, 1, "a", None, "not JSON: NaN is no number of JSON's"),
    ),
    "too deep": (
        [b"[" * 100_000 + b"]" * 100_000],
        (SYNTAX, 1, None, None, "not JSON: nested too deep"),
    ),
    "no id": (
        [without(request(), "custom_id")],
        ("missing_required_parameter", 1, None, "custom_id", "there is no 'custom_id'"),
    ),
    "no messages": (
        [without(request(), "body", "messages")],
        ("missing_required_parameter", 1, "a", "body.messages", "there is no 'body.messages'"),
    ),
    "no input": (
        [without(request(url=LATE), "body", "input")],
        ("missing_required_parameter", 1, "a", INPUT, "there is no 'body.input'"),
    ),
    "null as prompt": (
        [without(request(url=LATE, prompt=None, conversation=None), "body", "input")],
        ("missing_required_parameter", 1, "a", INPUT, "there is no 'body.input'"),
    ),
    "number as id": (
        [request(5)],
        ("invalid_type", 1, "5", "custom_id", "'custom_id' is a number, not text"),
    ),
    "text as messages": (
        [request(messages="Hi")],
        ("invalid_type", 1, "a", "body.messages", "'body.messages' is text, not an array"),
    ),
    "object as input": (
        [request(url=LATE, input={})],
        ("invalid_type", 1, "a", INPUT, "'body.input' is an object, not text or an array"),
    ),
    "null as body": (
        [{**request(), "body": None}],
        ("invalid_type", 1, "a", "body", "'body' is null, not an object"),
    ),
    "method": (
        [{**request(), "method": "GET"}],
        ("invalid_method", 1, "a", "method", "'method' is 'GET', not 'POST'"),
    ),
    "url": (
        [request(url="/v1/decisions")],
        ("invalid_url", 1, "a", "url", "'/v1/decisions' is no endpoint of the Batch API"),
    ),
    "other url": (
        [request(), request("b", LATE)],
        ("url_mismatch", 2, "b", "url", f"'url' is '{LATE}', but '{CHAT}' in line 1"),
    ),
    "other model": (
        [request(), request("b"), request("c", model="o3")],
        (
            "mismatched_model", 3, "c", "body.model",
            f"'body.model' is 'o3', but '{MODEL}' in line 1",
        ),
    ),
    "id again": (
        [request(), request("b"), request()],
        ("duplicate_custom_id", 3, "a", "custom_id", "the id is that of line 1, too"),
    ),
    "empty": ([], ("empty_file", None, None, None, "the file is empty")),
    "inputs of a request": (
        [request(url="/v1/embeddings", input=["x"] * 2_049)],
        ("array_above_max_length", 1, "a", INPUT, "2,049 inputs, at most 2,048"),
    ),
    "inputs of a file": (
        [request(str(n), "/v1/embeddings", input=["x"] * 1_000 + [f"{n}"]) for n in range(50)],
        ("too_many_inputs", None, None, INPUT, "50,050 embedding inputs in a file, at most 50,000"),
    ),
    "stream": (
        [request(stream=True)],
        ("streaming_unsupported", 1, "a", "body.stream", "a batch cannot stream"),
    ),
    "no message": (
        [request(messages=[])], ("empty_array", 1, "a", "body.messages", "there is no message"),
    ),
    "first role": (
        [request("a"), request("b", messages=[{**message("Hi"), "role": "sytem"}, message("Hi")])],
        (
            "invalid_value", 2, "b", "body.messages",
            f"the first message has the role 'sytem'; {ROLES}",
        ),
    ),
    "last role": (
        [request("a"), request("b", messages=[message("Hi"), {"content": "Hi"}])],
        ("invalid_value", 2, "b", "body.messages", f"the last message has no role; {ROLES}"),
    ),
    "negative limit": (
        [request(max_completion_tokens=5), request("b", max_completion_tokens=-5)],
        (
            "integer_below_min_value", 2, "b", "body.max_completion_tokens",
            "'body.max_completion_tokens' is negative",
        ),
    ),
    "text as limit": (
        [request(url=LATE, max_output_tokens="5")],
        (
            "invalid_type", 1, "a", "body.max_output_tokens",
            "'body.max_output_tokens' is text, not a whole number",
        ),
    ),
    "boolean as number of answers": (
        [request(n=1), request("b", n=True)],
        ("invalid_type", 2, "b", "body.n", "'body.n' is a boolean, not a whole number"),
    ),
    "text as response_format": (
        [request(response_format="json")],
        (
            "invalid_type", 1, "a", "body.response_format",
            "'body.response_format' is text, not an object",
        ),
    ),
    "response_format without type": (
        [request(response_format={})],
        (
            "missing_required_parameter", 1, "a", "body.response_format.type",
            "there is no 'body.response_format.type'",
        ),
    ),
    "type of response_format": (
        [request(response_format={"type": "json"})],
        (
            "invalid_value", 1, "a", "body.response_format.type",
            "there is no type 'json'; types are text, json_object, json_schema",
        ),
    ),
    "no name": (
        [answering(None)],
        ("missing_required_parameter", 1, "a", f"{FORMAT}.name", NO_NAME),
    ),
    "number as name": (
        [answering(5)],
        ("invalid_type", 1, "a", f"{FORMAT}.name", "the name of the schema is 5, not text"),
    ),
    "long name": (
        [answering("n" * 65, LATE)],
        (
            "string_above_max_length", 1, "a", f"{TEXT}.name",
            "the name of the schema has 65 characters, at most 64",
        ),
    ),
    "name with a space": (
        [answering("a name")],
        (
            "invalid_value", 1, "a", f"{FORMAT}.name",
            "the name 'a name' has other characters than letters, digits, '_' and '-'",
        ),
    ),
    "schema": (
        [answering(url=LATE, strict=True, schema={**STRICT, "additionalProperties": True})],
        (
            "invalid_json_schema", 1, "a", f"{TEXT}.schema",
            "strict schema: 'additionalProperties' must be false",
        ),
    ),
    "function": (
        [
            request(n, tools=[{
                "type": "function",
                "function": {"name": "f", "strict": True, "parameters": {**STRICT, "not": {}}},
            }])
            for n in ("a", "b")
        ],
        (
            "invalid_function_parameters", 1, "a", "body.tools.0.function.parameters",
            "strict schema: 'not' is not permitted (in 2 requests)",
        ),
    ),
    "name of the file": (
        [request()], ("invalid_file_format", None, None, None, "the name must end in .jsonl"),
    ),
    "size of the file": (
        [request(), request("b")], ("file_too_large", None, None, None, "278 bytes, at most 277"),
    ),
    "requests of the file": (
        [request(), request("b"), request("c")],
        ("too_many_tasks", None, None, None, "3 requests, at most 2"),
    ),
}  # fmt: skip

FILES = {"name of the file": "r.txt"}
LIMITS = {
    "size of the file": bf.Limits(nbytes=277),
    "requests of the file": bf.Limits(requests=2),
}


def error_codes() -> set[str]:
    """List the codes of all errors that stand in the source of the check."""
    codes: set[str] = set()
    for module in (checking, file_check, rules, schema_rules):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            match node:
                case ast.Call(ast.Name("Problem"), [ast.Constant(str(code)), _, _]):
                    codes.add(code)
                case ast.Call(ast.Name("Problem"), [other, _, _]):
                    assert ast.unparse(other) == "code", "of which the loop has constants"
                case ast.Yield(ast.Tuple([ast.Constant(str(code)), _, _])):
                    codes.add(code)
                case ast.For(ast.Tuple([ast.Name("code"), *_]), ast.Tuple(rows)):
                    codes |= {ast.unparse(row).split("'")[1] for row in rows}
    return codes


CODES = error_codes()


@pytest.mark.parametrize("name", [*ERRORS, *sorted(CODES - {row[0] for _, row in ERRORS.values()})])
def test_each_error_is_found_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A file with one fault has one row, which says what is wrong; each code has such a file."""
    assert name in ERRORS, "no file has this code alone"
    values, expected = ERRORS[name]
    assert expected[0] in CODES
    monkeypatch.setattr(checking, "LIMITS", LIMITS.get(name, bf.Limits()))
    found = check(tmp_path / FILES.get(name, "r.jsonl"), content(*values))
    if name == "trailing comma":  # versions of Python name it differently
        found = [(*row[:-1], str(row[-1])[:8]) for row in found]
    assert found == [("error", *expected)]


GOOD: dict[str, list[Any]] = {
    "completions": [request(url="/v1/completions", prompt="Hi")],
    "moderations without model": [without(request(url="/v1/moderations"), "body", "model")],
    "a stored prompt": [
        {**request(url=LATE), "body": {"prompt": {"id": "pmpt_1"}}},
    ],
    "functions without parameters": [
        request(name, LATE, tools=[{"type": "function", "name": "f", "strict": True, **more}])
        for name, more in {"a": {}, "b": {"parameters": None}}.items()
    ],
    "a stored prompt and nulls": [
        request(url=LATE, model=None, input=None, prompt={"id": "pmpt_1"}, tools=None, text=None),
    ],
    "no stream": [request(stream=False)],
    "a lone surrogate": [b'{"custom_id":"a\\ud800","method":"POST","url":"/v1/responses",'
                         b'"body":{"model":"m","input":"\\udc00"}}'],
    "tokens": [request(url="/v1/embeddings", input=[1] * 8_000)],
    "a schema that is not strict": [answering(schema={"type": "array"})],
    "names": [
        {**answering(name), "custom_id": name} for name in ("n" * 64, "AZaz09_-", "x")
    ],
    "strict schemas": [answering(url=LATE, strict=True, schema=STRICT)],
    "functions": [
        request(tools=[
            {"type": "function", "function": {"name": "f", **function}}
            for function in (
                {"strict": True, "parameters": STRICT},
                {"strict": False, "parameters": {"type": "object"}},
                {"parameters": {"type": "object"}},
            )
        ]),
    ],
    "nulls": [request(response_format=None, n=None, max_tokens=None, max_completion_tokens=None)],
    "a free answer": [request(response_format={"type": "json_object"})],
    "line ends": [dumps(request()).encode() + b"\r", dumps(request("b")).encode() + b" \r"],
    "blank end": [request(), b"", b" "],
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_what_the_service_takes_has_no_error(tmp_path: Path, name: str) -> None:
    """What documentation allows is no problem."""
    found = check(tmp_path / "r.jsonl", content(*GOOD[name]))
    assert [row for row in found if row[0] == "error"] == []


def test_a_good_file_has_typed_columns_and_no_rows(tmp_path: Path) -> None:
    """Without problems there is an empty frame with its columns, and the number of requests."""
    (tmp_path / "r.jsonl").write_bytes(content(request(), request("b")))
    frame = bf.check_requests(tmp_path / "r.jsonl")
    assert list(frame.columns) == ["severity", "code", "file", "line", *COLUMNS[3:]]
    assert frame.empty
    assert list(frame["severity"].cat.categories) == ["error", "warning"]
    assert str(frame["line"].dtype) == "Int64"
    texts = frame.drop(columns=["severity", "line"]).dtypes
    assert set(texts) == {pd.Series(["a"], dtype=frame["code"].dtype).dtype}
    assert frame.attrs == {"requests": 2}


PROMPT: Value = {"messages": [message("How are you?")]}
WARNINGS: dict[str, tuple[list[Any], tuple[Any, ...]]] = {
    "long ids": (
        [request("x" * 65), request("y" * 64), request("z" * 66)],
        (
            "long_custom_id", 1, "x" * 65, "custom_id",
            "the id is over 64 characters (in 2 requests)",
        ),
    ),
    "unusual ids": (
        [request("a"), request("b c")],
        (
            "unusual_custom_id", 2, "b c", "custom_id",
            "the id has other characters than letters, digits and '_.:|/-'",
        ),
    ),
    "empty prompts": (
        [request("a"), request("b", messages=[message("Hi"), message("")])],
        ("empty_prompt", 2, "b", None, "the prompt is empty"),
    ),
    "blank input": (
        [request(url=LATE, input=" \n")],
        ("empty_prompt", 1, "a", None, "the prompt is empty"),
    ),
    "repeated prompts": (
        [request(f"{n:03}", **PROMPT) for n in range(10)] + [request("x"), request("y")],
        (
            "repeated_prompt", None, None, "body",
            "9 requests repeat the body of an earlier one, 76% of the bytes; "
            "dedupe=True asks each once",
        ),
    ),
    "max_tokens": (
        [request(max_tokens=5), request("b", max_tokens=6)],
        (
            "unsupported_parameter", 1, "a", "body.max_tokens",
            f"'{MODEL}' refuses 'max_tokens'; use 'max_completion_tokens' (in 2 requests)",
        ),
    ),
    "temperature": (
        [request(model="gpt-5-mini-2025-08-07", temperature=0)],
        (
            "unsupported_value", 1, "a", "body.temperature",
            "'gpt-5-mini-2025-08-07' takes no 'temperature' other than 1",
        ),
    ),
    "temperature with effort": (
        [request(temperature=0.5, reasoning_effort="low")],
        (
            "unsupported_value", 1, "a", "body.temperature",
            f"'{MODEL}' takes no 'temperature' other than 1 but with effort 'none'",
        ),
    ),
    "response_format": (
        [request(url=LATE, response_format={"type": "json_object"})],
        (
            "unsupported_parameter", 1, "a", "body.response_format",
            "'response_format' has moved to 'text.format' on this endpoint",
        ),
    ),
    "effort of a model without": (
        [request(model="gpt-4o", reasoning_effort="low")],
        (
            "unsupported_parameter", 1, "a", "body.reasoning_effort",
            "'gpt-4o' has no reasoning effort",
        ),
    ),
    "effort of a later model": (
        [request(url=LATE, model="gpt-5.1", reasoning={"effort": "minimal"})],
        (
            "unsupported_value", 1, "a", "body.reasoning.effort",
            "'gpt-5.1' takes no effort 'minimal', but none, low, medium, high",
        ),
    ),
    "endpoint of others": (
        [request(url="/v4/responses")],
        (
            "invalid_url", 1, "a", "url",
            "'/v4/responses' is an endpoint of other services; OpenAI's begin with '/v1/'",
        ),
    ),
    "images": (
        [request(url=LATE, input=[{"image_url": "data:image/png;base64," + "A" * 20_000_000}])],
        (
            "base64_images", None, None, None,
            "100% of the file is in requests with base64 data; "
            "an image may be a URL, or the id of an uploaded file",
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WARNINGS)
def test_each_mistake_is_warned_of_once(tmp_path: Path, name: str) -> None:
    """A likely mistake has one row for the file, however many requests have it."""
    values, expected = WARNINGS[name]
    assert check(tmp_path / "r.jsonl", content(*values)) == [("warning", *expected)]


ACCEPTED = (
    {"model": "gpt-6-luna", "reasoning_effort": "none", "temperature": 0, "seed": 42},
    {"model": "gpt-5-mini", "reasoning_effort": "minimal", "temperature": 1},
    {"model": "gpt-5.2", "temperature": 0.2},
    {"model": "gpt-4o-mini", "max_tokens": 5, "temperature": 0},
    {"model": "gpt-5-chat-latest", "max_tokens": 5, "temperature": 0, "reasoning_effort": "max"},
    {"model": "llama-3.1-8b-instant", "max_tokens": 5, "temperature": 0.7},
)


@pytest.mark.parametrize("body", ACCEPTED)
def test_what_a_family_takes_has_no_warning(tmp_path: Path, body: Value) -> None:
    """Parameters that a family of models takes are no problem, nor are those of unknown models."""
    assert check(tmp_path / "r.jsonl", content(request(**body))) == []


@pytest.mark.slow
def test_whole_files_are_checked(tmp_path: Path) -> None:
    """A name that the service refuses and too many requests are errors of the file."""
    many = content(*(request(str(n)) for n in range(50_001)))
    with gzip.open(tmp_path / "r.jsonl.gz", "wb", compresslevel=1) as file:
        file.write(many)
    assert rows_of(bf.check_requests(tmp_path / "r.jsonl.gz"))[:2] == [
        ("error", "invalid_file_format", None, None, None, "the name must end in .jsonl"),
        ("error", "too_many_tasks", None, None, None, "50,001 requests, at most 50,000"),
    ]


@pytest.mark.slow
def test_large_files_are_an_error(tmp_path: Path) -> None:
    """A file above 200 MB is refused at the upload, however long its lines are."""
    line = dumps(request(messages=[message("é" * 100_000_000)])).encode()
    found = check(tmp_path / "r.jsonl", line)
    problem = f"{len(line):,} bytes, at most 200,000,000"
    assert found[0] == ("error", "file_too_large", None, None, None, problem)
    assert [row[1] for row in found[1:]] == ["context_length_exceeded", "prompt_cache_writes"]


def test_requests_that_are_not_yet_a_file() -> None:
    """What from_dataframe returns is checked as its lines would be; a frame stays as it is."""
    frame = pd.DataFrame({"id": ["a", "b c"], "text": ["Hi", ""], "model": ["o3", "o4-mini"]})
    creator = bf.from_dataframe(
        frame, id_column="id", prompt_column="text", model=bf.col("model"), system_prompt=None
    )
    found = bf.check_requests(creator)
    assert found["file"].isna().all()
    assert [(*row[1:4], row[4]) for row in rows_of(found)] == [
        ("mismatched_model", 2, "b c", "body.model"),
        ("empty_prompt", 2, "b c", None),
        ("unusual_custom_id", 2, "b c", "custom_id"),
    ]
    assert len(creator) == 2


def test_a_stream_is_kept() -> None:
    """Rows that can be read only once are still there after the check."""
    table = pd.DataFrame({"id": ["a"], "text": ["Hi"]})
    reader = pa.Table.from_pandas(table).to_reader()
    creator = bf.from_dataframe(reader, id_column="id", prompt_column="text", model=MODEL)
    assert bf.check_requests(creator).empty
    assert creator.preview_entry()["custom_id"] == "a"


def test_files_are_found_as_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders, globs, sets and shards stand for their request files; results are skipped."""
    monkeypatch.chdir(tmp_path)
    bad = without(request(), "body")
    for name in ("set-00001.jsonl", "set-00002.jsonl"):
        Path(name).write_bytes(content(bad))
    result = {"custom_id": "a", "response": None, "error": {"code": "x", "message": "y"}}
    for name in ("set-00001.output.jsonl", "other.jsonl"):
        Path(name).write_bytes(content(result))
    shards = [bf.Shard(Path(f"set-0000{n}.jsonl"), 1, 9) for n in (1, 2)]
    names = ["set-00001.jsonl", "set-00002.jsonl"]
    every = [*names, "set-00001.output.jsonl"]
    for source in (names, shards, "*.jsonl", "set.jsonl", every, Path()):
        assert [Path(file).name for file in bf.check_requests(source)["file"]] == names
    assert set(bf.check_requests("other.jsonl")["file"]) == {"other.jsonl"}
    for name in ("one.jsonl", "one.round-2.jsonl"):
        Path(name).write_bytes(content(request()))
    for source in ("one.jsonl", ["one.jsonl"]):
        assert bf.check_requests(source).attrs == {"requests": len(bf.read_requests(source))}
    assert bf.check_requests("one*.jsonl").attrs == {"requests": 2}
    with pytest.raises(FileNotFoundError, match=r"^no request files in 'other\*'; check the path$"):
        bf.check_requests("other*")
    with pytest.raises(FileNotFoundError, match=r"^no file 'none\.jsonl'; check the path$"):
        bf.check_requests("none.jsonl")


real_inputs = sorted(REAL.glob("*input*.jsonl"))


@pytest.mark.skipif(not real_inputs, reason="the real files are not here")
@pytest.mark.parametrize("path", real_inputs, ids=lambda path: path.name)
def test_real_requests_have_no_error(path: Path) -> None:
    """Request files that services have accepted have no error."""
    frame = bf.check_requests(path)
    assert frame[frame["severity"] == "error"].empty
    assert frame.attrs["requests"] == len(path.read_bytes().splitlines())


def expected(data: bytes) -> Iterator[tuple[int, str, str | None]]:
    """Read line by line what the service refuses."""
    first: dict[str, Any] = {}
    ids: set[str] = set()
    lines = data.removeprefix(jsonl.BOM).rstrip(b" \t\r\n").split(b"\n")
    for number, line in enumerate(lines, 1):
        try:
            value = json.loads(line.decode(), parse_constant=refuse, parse_float=finite)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            yield number, SYNTAX, None
            continue
        for key, kind in {"custom_id": str, "method": str, "url": str, "body": dict}.items():
            if key not in value:
                yield number, "missing_required_parameter", key
            elif not isinstance(value[key], kind):
                yield number, "invalid_type", key
        custom_id, url, body = value.get("custom_id"), value.get("url"), value.get("body")
        if isinstance(custom_id, str):
            if custom_id in ids:
                yield number, "duplicate_custom_id", "custom_id"
            ids.add(custom_id)
        if value.get("method") not in ("POST", None, 5):
            yield number, "invalid_method", "method"
        if isinstance(url, str) and url not in REQUIRED:
            yield number, "invalid_url", "url"
        if isinstance(url, str) and first.setdefault("url", url) != url:
            yield number, "url_mismatch", "url"
        if isinstance(body, dict):
            yield from ((number, *one) for one in expected_of(body, str(url), first))


def expected_of(body: Value, url: str, first: Value) -> Iterator[tuple[str, str]]:
    """Read what the service refuses in a body."""
    for key in REQUIRED.get(url, ()):
        kinds: Any = list if key == "messages" else str if key == "model" else (str, list)
        if key not in body:
            yield "missing_required_parameter", f"body.{key}"
        elif not isinstance(body[key], kinds):
            yield "invalid_type", f"body.{key}"
    messages = body.get("messages") if url == CHAT else None
    if messages == []:
        yield "empty_array", "body.messages"
    elif isinstance(messages, list) and {messages[0].get("role"), messages[-1].get("role")} != {
        "user"
    }:
        yield "invalid_value", "body.messages"
    for key in ("n", "max_output_tokens"):
        if body.get(key) == -1:
            yield "integer_below_min_value", f"body.{key}"
        elif (key in body and body[key] not in (1, 2.5, None)) or body.get(key) is True:
            yield "invalid_type", f"body.{key}"
    if body.get("stream") is True:
        yield "streaming_unsupported", "body.stream"
    model = body.get("model")
    if isinstance(model, str) and first.setdefault("model", model) != model:
        yield "mismatched_model", "body.model"


MESSAGES = [message("Hi")] * 6 + [{"role": role} for role in ("usr", None)] + [{}]
bodies = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from(["m", "m", "m", "n", None, 5]),
        "messages": st.lists(st.sampled_from(MESSAGES), max_size=3) | st.sampled_from(["x", None]),
        "n": st.sampled_from([1, 2.5, None, -1, True, "1", []]),
        "max_output_tokens": st.sampled_from([1, -1]),
        "input": st.sampled_from(["x", ["y"], 5, {}, "é\u2028"]),
        "stream": st.sampled_from([False, True, "true", None]),
        "temperature": st.floats(0, 2),
    },
)
requests = st.fixed_dictionaries(
    {},
    optional={
        "custom_id": st.sampled_from([*"abcdefghijkl", "é", "\U0001f600", 5, None]),
        "method": st.sampled_from(["POST", "POST", "GET", 5]),
        "url": st.sampled_from([CHAT, CHAT, CHAT, LATE, "/v1/none", 7]),
        "body": bodies | st.sampled_from(["{}", []]),
        "extra": st.text(max_size=5),
    },
)
odd = st.sampled_from(
    [
        *(b"", b" ", b"\r", b"null", b"[]", b'"a"', b"{}", b"{", b'{"a":NaN}', b'{"a":1,}'),
        *(b'{"a":-Infinity}', b'{"a":"\xff"}', b'{"a":"\\ud800"}', b'{"a":1}{"b":2}', b"}{"),
        *(b'{"custom_id":"a\\ud800"}', b"\x00", b'{"a":"\t"}', b'{"a":01}', b'{"custom_id":'),
    ]
)
files = {
    "lines": st.lists(requests.map(lambda value: json.dumps(value).encode()) | odd, min_size=1),
    "bom": st.booleans(),
    "rows": st.sampled_from([2, 50_000, 50_000]),
}


def judge(path: Path, lines: list[bytes], bom: bool, rows: int) -> None:
    """Compare what is found in a file, read in pieces of some rows, with what one expects."""
    data = jsonl.BOM * bom + b"\n".join(lines)
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonl, "ROWS", rows)
        frame = bf.check_requests(path)
    errors = frame[(frame["severity"] == "error") & frame["line"].notna()]
    found = [(row[2], row[1], row[4]) for row in rows_of(errors)]
    assert [number for number, *_ in found] == sorted(number for number, *_ in found)
    blank = not data.removeprefix(jsonl.BOM).strip(b" \t\r\n")
    assert sorted(found, key=str) == sorted([] if blank else expected(data), key=str)
    whole = [row[1] for row in rows_of(frame) if row[2] is None and row[0] == "error"]
    assert whole == [SYNTAX] * bom + ["empty_file"] * blank


@settings(deadline=None, max_examples=25)
@given(**files)
def test_lines_are_judged_as_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], bom: bool, rows: int
) -> None:
    """Whatever the lines are, and however they are cut in pieces, each has just its own errors."""
    judge(tmp_path_factory.getbasetemp() / "any.jsonl", lines, bom, rows)


@pytest.mark.slow
@settings(deadline=None, max_examples=1_000)
@given(**files)
def test_many_files_are_judged_as_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], bom: bool, rows: int
) -> None:
    """The same holds for many more files."""
    judge(tmp_path_factory.getbasetemp() / "any.jsonl", lines, bom, rows)
