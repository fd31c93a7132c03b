"""Run commands, and write the files that they read."""

from __future__ import annotations

import csv
import gzip
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from click.testing import CliRunner

import batch_frames as bf
from batch_frames.cli import main

ROWS = [("007", "Tea", 'A "nice" cup\nof 茶 😀'), ("9", "Pot", "Leaks.")]
SCHEMA = {"name": "stars", "schema": {"type": "object"}, "strict": True}
CHAT = "/v1/chat/completions"
WRITE = ("write", "reviews.csv", "out.jsonl", "--id-column", "id", "--model", "m")
COLUMN = ("--prompt-column", "review")
SEPARATE: dict[str, Any] = (
    {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}
)


class Done(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


def run(*arguments: str, read: bytes | None = None) -> Done:
    """Run a command in this process; what it does not catch fails the test."""
    runner = CliRunner(**SEPARATE)
    options: dict[str, Any] = {"prog_name": "batch-frames", "catch_exceptions": False}
    done = runner.invoke(main, arguments, input=read, **options)
    return Done(done.exit_code, done.stdout, done.stderr)


def run_process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a command in a process of its own."""
    command = [sys.executable, "-m", "batch_frames", *arguments]
    return subprocess.run(command, **{"stdout": subprocess.PIPE, **options}, stderr=subprocess.PIPE)


def lines(*bodies: Any, url: str = CHAT) -> str:
    """Write the requests of both rows as a plain loop would."""
    rows = zip(ROWS, bodies, strict=True)
    requests = [
        {"custom_id": row[0], "method": "POST", "url": url, "body": body} for row, body in rows
    ]
    return "".join(
        json.dumps(request, ensure_ascii=False, separators=(",", ":")) + "\n"
        for request in requests
    )


def chat(prompt: str, system: str | None = None, effort: str | None = "medium", **more: Any) -> Any:
    """Make the body of a chat request."""
    efforts = {} if effort is None else {"reasoning_effort": effort}
    formats = {"response_format": more.pop("response_format")} if "response_format" in more else {}
    messages = [] if system is None else [{"role": "system", "content": system}]
    messages.append({"role": "user", "content": prompt})
    return {"model": "m", "seed": 334, **efforts, **formats, "messages": messages, **more}


REVIEWS = [row[2] for row in ROWS]
CHATS = lines(*map(chat, REVIEWS))


def result(custom_id: str, status_code: int, body: Any) -> str:
    """Write a result as the service does."""
    response = {"status_code": status_code, "request_id": f"r-{custom_id}", "body": body}
    line = {"id": "batch_req_1", "custom_id": custom_id, "response": response, "error": None}
    return json.dumps(line) + "\n"


def answer(custom_id: str, content: str | None, finish: str = "stop", **message: Any) -> str:
    """Write the answer to a chat request."""
    said = {"role": "assistant", "content": content, "refusal": None, **message}
    usage = {
        "prompt_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 2},
        "completion_tokens": 3,
        "completion_tokens_details": {"reasoning_tokens": 1},
    }
    choices = [{"index": 0, "message": said, "finish_reason": finish}]
    body = {"object": "chat.completion", "model": "m-1", "choices": choices, "usage": usage}
    return result(custom_id, 200, body)


def embedding(custom_id: str, vector: list[float]) -> str:
    """Write the answer to a request for an embedding."""
    data = [{"object": "embedding", "index": 0, "embedding": vector}]
    return result(custom_id, 200, {"object": "list", "data": data, "model": "m-1"})


def http_error(custom_id: str, code: str, message: str) -> str:
    """Write a request's refusal by the service."""
    return result(custom_id, 429, {"error": {"message": message, "type": "t", "code": code}})


def expired(custom_id: str) -> str:
    """Write that a request was not run in time."""
    error = {"code": "batch_expired", "message": "Too late."}
    return json.dumps({"id": "b", "custom_id": custom_id, "response": None, "error": error}) + "\n"


def make_bad_files() -> None:
    """Write files in which something is wrong."""
    for name, data in {
        "empty.csv": b"",
        "null.csv": b"id,review\na,x\nb,\n",
        "twice.csv": b"id,review\na,x\nb,y\na,z\n",
        "latin.csv": b"id,review\na,x\nb,caf\xe9\n",
        "junk.parquet": b"junk" * 100,
        "short.parquet": b"junk",
        "cut.json": b'{"name":',
        "list.json": b"[1]",
        "latin.json": b'"caf\xe9"',
        "latin.txt": b"caf\xe9",
        "packed.csv.gz": b"not packed",
        "packed.jsonl.gz": b"not packed",
        "cut.jsonl.gz": gzip.compress(CHATS.encode())[:-20],
        "cut.jsonl": b'{"custom_id":"a","body":{}}\n{"custom_id":\n',
        "results.jsonl": b'{"custom_id":"a","response":null,"error":{}}\n',
        "one.jsonl": b'{"custom_id":"a","body":{}}\n',
        "mixed.jsonl": b'{"custom_id":"a","response":{}}\n{"custom_id":"a","body":{}}\n',
        "anthropic.jsonl": b'{"custom_id":"a","result":{"type":"expired"}}\n',
        "nan.jsonl": (embedding("a", [0.5]) + embedding("b", [float("nan")])).encode(),
        "array.json": b'{"type":"array","items":{"type":"string"}}',
        "model.csv": b"id,model,file,my_line\na,x,y,z\n",
        "parquet.csv": Path("reviews.parquet").read_bytes(),
    }.items():
        Path(name).write_bytes(data)
    pq.write_table(pa.table({"id": ["a"], "data": [[b"x"]]}), "bytes.parquet")
    groups = pa.table({"id": ["a", "b"], "data": [[0.5], [float("inf")]]})
    pq.write_table(groups, "groups.parquet", row_group_size=1)


OUT = ("out.jsonl", *WRITE[3:])

OLD_LEDGER = (
    '{"event":"intent","at":"2026-11-26T22:12:04.660+00:00","shard":"a.jsonl","token":"t1",'
    '"sha256":"' + 64 * "0" + '","requests":1,"nbytes":300,"endpoint":"' + CHAT + '",'
    '"settings":{"completion_window":"24h"}}\n'
)
"""A ledger of version 0.1, of a shard that was never sent and is gone."""


def write_requests(*prompts: str) -> None:
    """Write a request for each prompt."""
    creator = bf.BatchCreator("m", system_prompt="S")
    for number, prompt in enumerate(prompts):
        creator.add_entry(f"00{number}", prompt)
    creator.save_to_file("requests.jsonl")


def request(custom_id: str, **body: Any) -> str:
    """Write a request as other programs do, with spaces."""
    whole = {"model": "m", "messages": [{"role": "user", "content": f"Rate {custom_id}."}], **body}
    line = {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": whole}
    return json.dumps(line) + "\n"


def put(name: str, *parts: str) -> None:
    """Write a file of lines, packed where its name says so."""
    data = "".join(parts).encode()
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)


SENT = ("007", "9", "b", "c")


def put_results() -> None:
    """Write the requests of a batch and what came back: the third was refused, the last expired."""
    put("sent.jsonl", *map(request, SENT))
    put("output.jsonl", answer("9", 'Say "é"\n,'), answer("007", "Good, bu", "length"))
    put("errors.jsonl", http_error("b", "rate_limit_exceeded", "Slow down."), expired("c"))


RESULTS = ("read", "output.jsonl", "errors.jsonl")
COLUMNS = [
    *("custom_id", "status", "content", "finish_reason", "refusal", "error_code", "error_message"),
    *("status_code", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens"),
    *("model", "request_id", "file", "line"),
]
USED = {"input_tokens": 7, "cached_tokens": 2, "output_tokens": 3, "reasoning_tokens": 1}


def row(custom_id: str | None, status: str, **cells: Any) -> dict[str, Any]:
    """Say what a row of results holds; what is not given is missing."""
    return {**dict.fromkeys(COLUMNS), "custom_id": custom_id, "status": status, **cells}


def answered(custom_id: str, content: str, line: int, **cells: Any) -> dict[str, Any]:
    """Say what the row of an answer in ``output.jsonl`` holds."""
    common = {"finish_reason": "stop", "status_code": 200, "model": "m-1", "status": "ok"}
    place = {"request_id": f"r-{custom_id}", "file": "output.jsonl", "line": line}
    return {**row(custom_id, "ok", content=content), **common, **USED, **place, **cells}


ROWS_OF_RESULTS = {
    "007": answered("007", "Good, bu", 2, status="truncated", finish_reason="length"),
    "9": answered("9", 'Say "é"\n,', 1),
    "b": row(
        "b",
        "http_error",
        error_code="rate_limit_exceeded",
        error_message="Slow down.",
        status_code=429,
        request_id="r-b",
        file="errors.jsonl",
        line=1,
    ),
    "c": row(
        "c",
        "expired",
        error_code="batch_expired",
        error_message="Too late.",
        file="errors.jsonl",
        line=2,
    ),
}
SUMMARY = "1 ok, 1 truncated, 1 http_error (1× rate_limit_exceeded), 1 expired\n"
IN_ORDER = (
    "custom_id     status    content error_message\n"
    "      007  truncated   Good, bu              \n"
    '        9         ok Say "é"\\n,              \n'
    "        b http_error               Slow down.\n"
    "        c    expired                Too late.\n" + SUMMARY
)


def cell(value: Any) -> str:
    """Write a value as a CSV file has it."""
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def table(name: str) -> list[dict[str, Any]]:
    """Read a file that was written, its columns in their order, without this package."""
    if name.endswith(".csv"):
        with Path(name).open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    rows: list[dict[str, Any]] = pq.read_table(name).to_pylist()
    return rows


def assert_table(name: str, rows: list[dict[str, Any]]) -> None:
    """Compare all cells of a file, and the order of its columns."""
    found = table(name)
    if name.endswith(".csv"):
        rows = [{column: cell(value) for column, value in row.items()} for row in rows]
    assert found == rows
    assert [list(row) for row in found] == [list(row) for row in rows]


TYPES: dict[str, Any] = {
    "stars": {"type": "integer"},
    "score": {"type": "number"},
    "good": {"type": ["boolean", "null"]},
    "mood": {"type": "string", "enum": ["up", "down"]},
    "tags": {"type": "array", "items": {"type": "string"}},
    "counts": {"type": "array", "items": {"type": ["integer", "null"]}},
    "place": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "code": {"type": ["integer", "null"]}},
    },
    "day": {"type": "string", "format": "date"},
    "model": {"type": "string"},
}
TYPED = {"type": "object", "properties": TYPES, "required": ["stars"]}
FORMAT = {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": TYPED}}

NAMES = ("submit", "wait", "status", "download", "cancel", "run", "run-local")
