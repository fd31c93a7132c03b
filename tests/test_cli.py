"""The command line as users run it: what it writes, prints and says when something is wrong."""

import csv
import gzip
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from datetime import date
from decimal import Decimal
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any, NamedTuple

import click
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from test_cli_jobs import NAMES as COMMANDS_FOR_BATCHES

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


def run(*arguments: str) -> Done:
    """Run a command in this process; what it does not catch fails the test."""
    runner = CliRunner(**SEPARATE)
    done = runner.invoke(main, arguments, prog_name="batch-frames", catch_exceptions=False)
    return Done(done.exit_code, done.stdout, done.stderr)


def run_process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a command in a process of its own."""
    command = [sys.executable, "-m", "batch_frames", *arguments]
    return subprocess.run(command, **{"stdout": subprocess.PIPE, **options}, stderr=subprocess.PIPE)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder with a table, and the files that options take."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    with Path("reviews.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("id", "title", "review"), *ROWS])
    frame = pd.DataFrame(ROWS, columns=["id", "title", "review"])
    frame.to_parquet("reviews.parquet", index=False)
    Path("schema.json").write_text(json.dumps(SCHEMA), encoding="utf-8")
    Path("system.txt").write_text("Be brief: é\nYes.\n", encoding="utf-8")
    return tmp_path


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
MEDIUM = {"effort": "medium"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (COLUMN, CHATS),
        (("--prompt", "{title}: {review}"), lines(*(chat(f"{t}: {r}") for _, t, r in ROWS))),
        (("--prompt", "{{{id}}}"), lines(chat("{007}"), chat("{9}"))),
        ((*COLUMN, "--system-prompt", "S {x}"), lines(*(chat(r, "S {x}") for r in REVIEWS))),
        ((*COLUMN, "--system-prompt", ""), lines(*(chat(r, "") for r in REVIEWS))),
        (
            (*COLUMN, "--system-prompt-file", "system.txt"),
            lines(*(chat(r, "Be brief: é\nYes.") for r in REVIEWS)),
        ),
        (
            (*COLUMN, "--json-schema", "schema.json"),
            lines(
                *(
                    chat(r, response_format={"type": "json_schema", "json_schema": SCHEMA})
                    for r in REVIEWS
                )
            ),
        ),
        ((*COLUMN, "--reasoning-effort", "low"), lines(*(chat(r, effort="low") for r in REVIEWS))),
        ((*COLUMN, "--reasoning-effort", ""), lines(*(chat(r, effort=None) for r in REVIEWS))),
        (
            (*COLUMN, "--body", "temperature=0.2", "--body", 'stop=["=", null]'),
            lines(*(chat(r, temperature=0.2, stop=["=", None]) for r in REVIEWS)),
        ),
        (
            (*COLUMN, "--body", 'model="other"'),
            lines(*({**chat(r), "model": "other"} for r in REVIEWS)),
        ),
        (
            ("--body", 'messages=[{"role":"user","content":"{id}"}]'),
            lines(chat("{id}"), chat("{id}")),
        ),
        (
            (*COLUMN, "--endpoint", "/v1/embeddings"),
            lines(*({"model": "m", "input": r} for r in REVIEWS), url="/v1/embeddings"),
        ),
        (
            (*COLUMN, "--endpoint", "/v1/responses", "--system-prompt", "S"),
            lines(
                *(
                    {"model": "m", "reasoning": MEDIUM, "instructions": "S", "input": r}
                    for r in REVIEWS
                ),
                url="/v1/responses",
            ),
        ),
        (
            ("--endpoint", "/v1/videos", "--body", 'prompt="A cat"'),
            lines(*[{"model": "m", "prompt": "A cat"}] * 2, url="/v1/videos"),
        ),
        ((*COLUMN, "--na", "raise", "--max-requests", "2", "--max-bytes", "9999"), CHATS),
    ],
)  # fmt: skip
def test_each_option_is_in_the_file(options: tuple[str, ...], expected: str) -> None:
    """Every option of write shows in the lines as the service's own parameters."""
    done = run(*WRITE, *options)
    assert (done.code, done.err) == (0, "")
    written = Path("out.jsonl").read_bytes()
    assert written.decode() == expected
    assert done.out == f"out.jsonl          2 requests  {len(written)} bytes\n"


@pytest.mark.parametrize(
    ("source", "files"),
    [
        ("reviews.parquet", {}),
        ("t.pq", {"t.pq": "reviews.parquet"}),
        ("t", {"t/a.csv": "reviews.csv"}),
        ("t", {"t/deep/a.parquet": "reviews.parquet"}),
        ("t/*.csv", {"t/a.csv": "reviews.csv"}),
        ("t/*.parquet", {"t/a.parquet": "reviews.parquet"}),
        ("t.csv.gz", {"t.csv.gz": "reviews.csv"}),
    ],
)
def test_sources_of_every_kind(source: str, files: dict[str, str]) -> None:
    """CSV, Parquet, folders and globs of either give the same lines."""
    for name, original in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        data = Path(original).read_bytes()
        Path(name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    done = run("write", source, *WRITE[2:], *COLUMN)
    assert (done.code, done.err) == (0, "")
    assert Path("out.jsonl").read_text("utf-8") == CHATS


def test_shards_are_listed_with_their_total() -> None:
    """Above a limit every file is printed with its size, then all together; folders are made."""
    done = run("write", "reviews.csv", "new/out.jsonl", *WRITE[3:], *COLUMN, "--max-requests", "1")
    sizes = [Path(f"new/out-0000{n}.jsonl").stat().st_size for n in (1, 2)]
    assert done == Done(
        0,
        f"new/out-00001.jsonl          1 request  {sizes[0]} bytes\n"
        f"new/out-00002.jsonl          1 request  {sizes[1]} bytes\n"
        f"total                        2 requests  {sum(sizes)} bytes\n",
        "",
    )


def test_large_files_are_listed_in_larger_units() -> None:
    """Sizes from 1,000 bytes on have a unit that keeps them short."""
    done = run(*WRITE, "--prompt", "{title}" + "x" * 9_000)
    assert done == Done(0, "out.jsonl          2 requests    18.3 kB\n", "")


def test_bytes_limit_splits_too() -> None:
    """A limit in bytes that one request fills gives a file for each."""
    first, second = CHATS.encode().splitlines(keepends=True)
    assert run(*WRITE, *COLUMN, "--max-bytes", str(len(first))).code == 0
    assert Path("out-00001.jsonl").read_bytes() == first
    assert Path("out-00002.jsonl").read_bytes() == second


def test_rows_without_a_prompt_are_skipped_aloud() -> None:
    """What ``--na skip`` drops is said in one line on stderr."""
    Path("reviews.csv").write_text("id,review\na,\nb,x\nc,\n", encoding="utf-8")
    done = run(*WRITE, *COLUMN, "--na", "skip")
    assert done.code == 0
    assert done.err == "Warning: skipped 2 rows without a prompt: row 0, row 2\n"
    assert bf.read_requests("out.jsonl")["custom_id"].tolist() == ["b"]


def test_a_model_left_at_its_default_is_warned_of() -> None:
    """Without ``--model`` one line on stderr says what is used."""
    done = run(*WRITE[:5], *COLUMN)
    assert done.code == 0
    message = "model is left at its default, 'o4-mini', which OpenAI has retired; pass --model"
    assert done.err == f"Warning: {message}\n"


def test_no_rows_are_warned_of() -> None:
    """A table without rows makes an empty file, and one line says so."""
    Path("reviews.csv").write_text("id,review\n", encoding="utf-8")
    done = run(*WRITE, *COLUMN)
    assert done == Done(
        0,
        "out.jsonl          0 requests    0 bytes\n",
        "Warning: there are no requests: the file is empty\n",
    )


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
        "a.jobs.jsonl": b'{"event":"created","batch_id":"batch_1"}\n',
        "nan.jsonl": (embedding("a", [0.5]) + embedding("b", [float("nan")])).encode(),
        "array.json": b'{"type":"array","items":{"type":"string"}}',
        "model.csv": b"id,model,file,my_line\na,x,y,z\n",
        "parquet.csv": Path("reviews.parquet").read_bytes(),
    }.items():
        Path(name).write_bytes(data)
    pq.write_table(pa.table({"id": ["a"], "data": [[b"x"]]}), "bytes.parquet")
    groups = pa.table({"id": ["a", "b"], "data": [[0.5], [float("inf")]]})
    pq.write_table(groups, "groups.parquet", row_group_size=1)


READ = ("read", "results.jsonl")
RETRY = ("retry", "--requests", "one.jsonl")
REQUESTS_ONLY = "these are request files; the options are for output and error files"
OUT = ("out.jsonl", *WRITE[3:])
FIRST = len(CHATS.encode().split(b"\n")[0]) + 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("write", "none.csv", *OUT, *COLUMN), "no file 'none.csv'; check the path"),
        (("write", "none/*.pq", *OUT, *COLUMN), "no file 'none/*.pq'; check the path"),
        (
            (*WRITE, "--prompt-column", "reviews"),
            "'reviews.csv' has no column 'reviews'; did you mean 'review'?",
        ),
        (
            (*WRITE, "--prompt", "{tilte}"),
            "'reviews.csv' has no column 'tilte'; did you mean 'title'?",
        ),
        (
            (*WRITE[:4], "nr", *COLUMN),
            "'reviews.csv' has no column 'nr'; it has 'id', 'title', 'review'",
        ),
        (
            (*WRITE, "--prompt", "{title"),
            "fmt('{title'): the '{' at character 0 stands alone; "
            "write '{{' for the character itself",
        ),
        (
            ("write", "empty.csv", *OUT, *COLUMN),
            "'empty.csv' is empty; its first line must name the columns",
        ),
        (
            ("write", "null.csv", *OUT, *COLUMN),
            "row 1 (custom_id 'b'): column 'review' is null; drop the row or pass --na skip",
        ),
        (
            ("write", "twice.csv", *OUT, *COLUMN),
            "each custom_id must stand only once: 'a' in row 0 and row 2",
        ),
        (
            ("write", "latin.csv", *OUT, *COLUMN),
            "row 1 (custom_id 'b'): column 'review' is not valid UTF-8; "
            "read the file with its own encoding, or save it as UTF-8",
        ),
        (
            (*WRITE, *COLUMN, "--max-bytes", "100"),
            f"row 0 (custom_id '007'): the request is {FIRST} bytes, "
            "above the limit of 100 a file; shorten it",
        ),
        (
            ("write", "reviews.csv", "-", *OUT[1:], *COLUMN, "--max-requests", "1"),
            "the requests are above the limits of one file, and a pipe cannot be split; "
            "write to a path, or raise the limits",
        ),
        (
            ("write", "reviews.csv", "reviews.csv", *OUT[1:], *COLUMN),
            "'reviews.csv' would replace 'reviews.csv', which the rows come from; "
            "choose another name",
        ),
        (
            ("write", "reviews.csv", ".", *OUT[1:], *COLUMN),
            "'.' is a folder; name a file in it, as in 'out.jsonl'",
        ),
        (
            (*WRITE, *COLUMN, "--json-schema", "cut.json"),
            "'cut.json' is not JSON: Expecting value: line 1 column 9 (char 8)",
        ),
        (
            (*WRITE, *COLUMN, "--json-schema", "latin.json"),
            "'latin.json' is not UTF-8 at byte 4; save it as UTF-8",
        ),
        (
            (*WRITE, *COLUMN, "--json-schema", "list.json"),
            "a JSON schema must be an object, not [1]",
        ),
        ((*WRITE, *COLUMN, "--body", "top_p=NaN"), "body.top_p: nan is not a JSON value"),
        (
            (*WRITE, *COLUMN, "--endpoint", "chat/completions"),
            "endpoint 'chat/completions' is not a path; "
            "pass the part after the host, such as '/v1/chat/completions'",
        ),
        (
            (*WRITE, *COLUMN, "--endpoint", "/v1/embeddings", "--system-prompt", "S"),
            "system_prompt has no place in the body of '/v1/embeddings'; leave it out",
        ),
        (("read", "none.jsonl"), "no file 'none.jsonl'; check the path"),
        (("read", "cut.jsonl"), "cut.jsonl, line 2: not JSON: Expecting value at character 13"),
        (("read", "cut.jsonl", "-o", "t.xlsx"), "'t.xlsx' must end in .csv or .parquet"),
        (
            (*READ, "-o", "reviews.csv/new/t.csv"),
            "'reviews.csv' is a file, not a folder; choose another name",
        ),
        (
            ("read", "a.jobs.jsonl"),
            "'a.jobs.jsonl' is a ledger of batches; name request files, or output and error files",
        ),
        (("read", "reviews.csv"), "reviews.csv, line 1: not JSON: Expecting value at character 0"),
        (
            ("read", "anthropic.jsonl"),
            "anthropic.jsonl, line 1: a result of Anthropic's Message Batches, "
            "not of the OpenAI Batch API; use Anthropic's SDK for it",
        ),
        (
            ("read", "mixed.jsonl"),
            "mixed.jsonl, line 2: a request, not a result; put requests into a file of their own",
        ),
        (
            (*READ, "--requests", "results.jsonl"),
            "results.jsonl, line 1: a result, not a request; pass the file without --requests",
        ),
        ((*READ, "--requests", "none/*.jsonl"), "no file 'none/*.jsonl'; check the path"),
        (
            (*READ, "--requests", "cut.jsonl"),
            "cut.jsonl, line 2: not JSON: Expecting value at character 13",
        ),
        (
            (*READ, "--json-schema", "cut.json"),
            "'cut.json' is not JSON: Expecting value: line 1 column 9 (char 8)",
        ),
        (
            (*READ, "--json-schema", "latin.json"),
            "'latin.json' is not UTF-8 at byte 4; save it as UTF-8",
        ),
        ((*READ, "--json-schema", "list.json"), "a JSON schema must be an object, not [1]"),
        (
            (*READ, "--json-schema", "array.json"),
            "json_schema: the root is not an object; make it a property of an object",
        ),
        *(
            (("read", "cut.jsonl", *options), REQUESTS_ONLY)
            for options in (
                ("--requests", "cut.jsonl"),
                ("--json-schema", "schema.json"),
                ("--join", "reviews.csv", "--id-column", "id"),
            )
        ),
        (
            (*READ, "--join", "reviews.csv", "--id-column", "nr"),
            "'reviews.csv' has no column 'nr'; it has 'id', 'title', 'review'",
        ),
        (
            (*READ, "--join", "reviews.parquet", "--id-column", "ids"),
            "'reviews.parquet' has no column 'ids'; did you mean 'id'?",
        ),
        (
            (*READ, "--join", "twice.csv", "--id-column", "id"),
            "each custom_id must stand only once: 'a' in row 0 and row 2",
        ),
        (
            (*READ, "--join", "model.csv", "--id-column", "id"),
            "the frame and the results both have 'model', 'file'; pass --prefix answer_",
        ),
        (
            (*READ, "--join", "model.csv", "--id-column", "id", "--prefix", "my_"),
            "the frame and the results both have 'my_line'; pass --prefix answer_",
        ),
        (
            (*READ, "--join", "parquet.csv", "--id-column", "id"),
            "'parquet.csv' is a Parquet file; its name must end in .parquet",
        ),
        (
            (*READ, "--join", "reviews.csv", "--id-column", "id", "-o", "./reviews.csv"),
            "'reviews.csv' would replace 'reviews.csv', which the rows come from; "
            "choose another name",
        ),
        (
            ("read", "nan.jsonl", "-o", "t.csv"),
            "row 1: column 'embedding' holds a value that is nan, which JSON cannot hold; "
            "write a .parquet file",
        ),
        (
            (*READ, "--join", "groups.parquet", "--id-column", "id", "-o", "t.csv"),
            "row 1: column 'data' holds a value that is inf, which JSON cannot hold; "
            "write a .parquet file",
        ),
        (
            (*READ, "--join", "bytes.parquet", "--id-column", "id", "-o", "t.csv"),
            "column 'data' holds binary values, which JSON cannot hold; "
            "make them text first, or write a .parquet file",
        ),
        ((*RETRY, "none.jsonl"), "no file 'none.jsonl'; check the path"),
        (
            ("retry", "results.jsonl", "--requests", "none.jsonl"),
            "no file 'none.jsonl'; check the path",
        ),
        (
            ("retry", "results.jsonl", "--requests", "results.jsonl"),
            "results.jsonl, line 1: a result, not a request; pass the file without --requests",
        ),
        (
            ("retry", "results.jsonl", "--requests", "cut.jsonl"),
            "cut.jsonl, line 2: not JSON: Expecting value at character 13",
        ),
        ((*RETRY, "one.jsonl"), "these are request files; name the output and error files"),
        (
            (*RETRY, "a.jobs.jsonl"),
            "'a.jobs.jsonl' is a ledger of batches; name request files, or output and error files",
        ),
        (
            (*RETRY, "anthropic.jsonl"),
            "anthropic.jsonl, line 1: a result of Anthropic's Message Batches, "
            "not of the OpenAI Batch API; use Anthropic's SDK for it",
        ),
        *(
            (
                (*RETRY, "results.jsonl", "-o", name),
                f"'{name}' would replace '{name}', which the rows come from; choose another name",
            )
            for name in ("one.jsonl", "results.jsonl")
        ),
    ],
)
def test_errors_are_one_line(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    """What a user can mend is one line on stderr with exit code 1, and no file is left behind."""
    make_bad_files()
    before = sorted(folder.iterdir())
    assert run(*arguments) == Done(1, "", f"Error: {message}\n")
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("write", "junk.parquet", *OUT, *COLUMN), "junk.parquet"),
        (("write", "short.parquet", *OUT, *COLUMN), "short.parquet"),
        (("write", "damaged.parquet", *OUT, *COLUMN), "damaged.parquet"),
        ((*WRITE, *COLUMN, "--system-prompt-file", "latin.txt"), "latin.txt"),
        (("write", "packed.csv.gz", *OUT, *COLUMN), "packed.csv.gz"),
        (("read", "packed.jsonl.gz"), "packed.jsonl.gz"),
        (("read", "cut.jsonl.gz"), "cut.jsonl.gz"),
        (("read", "junk.parquet"), "junk.parquet"),
        ((*READ, "--requests", "packed.jsonl.gz"), "packed.jsonl.gz"),
        ((*READ, "--join", "packed.csv.gz", "--id-column", "id"), "packed.csv.gz"),
        ((*READ, "--join", "junk.parquet", "--id-column", "id"), "junk.parquet"),
        ((*RETRY, "packed.jsonl.gz"), "packed.jsonl.gz"),
        (("retry", "results.jsonl", "--requests", "cut.jsonl.gz"), "cut.jsonl.gz"),
    ],
)
def test_errors_of_other_libraries_name_the_file(arguments: tuple[str, ...], name: str) -> None:
    """A file that cannot be read at all is named in the one line that says why."""
    make_bad_files()
    damaged = bytearray(Path("reviews.parquet").read_bytes())
    damaged[20:60] = b"\xff" * 40
    Path("damaged.parquet").write_bytes(damaged)
    done = run(*arguments)
    assert (done.code, done.out) == (1, "")
    assert re.fullmatch(rf"Error: [^\n]*{re.escape(name)}[^\n]+\n", done.err), done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*WRITE[:3], *COLUMN), "Missing option '--id-column'."),
        (("read",), "Missing argument 'FILES...'."),
        (("frobnicate",), "No such command 'frobnicate'."),
        (WRITE, "there is no prompt; pass --prompt-column or --prompt"),
        ((*WRITE, *COLUMN, "--prompt", "x"), "pass --prompt or --prompt-column, not both"),
        (
            (*WRITE, *COLUMN, "--system-prompt", "", "--system-prompt-file", "system.txt"),
            "pass --system-prompt or --system-prompt-file, not both",
        ),
        (
            (*WRITE, *COLUMN, "--system-prompt-file", "none.txt"),
            "Invalid value for '--system-prompt-file': File 'none.txt' does not exist.",
        ),
        (
            (*WRITE, *COLUMN, "--json-schema", "none.json"),
            "Invalid value for '--json-schema': File 'none.json' does not exist.",
        ),
        (
            (*WRITE, *COLUMN, "--body", "temperature"),
            "--body 'temperature' must be KEY=JSON, as in --body temperature=0.2",
        ),
        (
            (*WRITE, *COLUMN, "--body", "=1"),
            "--body '=1' must be KEY=JSON, as in --body temperature=0.2",
        ),
        (
            (*WRITE, *COLUMN, "--body", "user=ann"),
            "--body 'user=ann': the value is not JSON; text needs quotes, "
            "as in --body 'user=\"ann\"'",
        ),
        (
            (*WRITE, *COLUMN, "--body", "user={id}"),
            "--body 'user={id}': the value is not JSON; it is the same for all rows; "
            "only --prompt takes columns",
        ),
        (
            (*WRITE, "--prompt", "Hello"),
            "--prompt has no column in it; write {column}, or --prompt-column",
        ),
        (
            (*WRITE, *COLUMN, "--na", "drop"),
            "Invalid value for '--na': 'drop' is not one of 'raise', 'skip'.",
        ),
        (
            (*WRITE, *COLUMN, "--max-requests", "0"),
            "Invalid value for '--max-requests': 0 is not in the range x>=1.",
        ),
        (
            (*WRITE, *COLUMN, "--max-bytes", "1e6"),
            "Invalid value for '--max-bytes': '1e6' is not a valid integer range.",
        ),
        ((*READ, "--join", "reviews.csv"), "--join and --id-column need each other"),
        ((*READ, "--id-column", "id"), "--join and --id-column need each other"),
        ((*READ, "--prefix", "answer_"), "--prefix needs --join"),
        (
            (*READ, "--join", "none.csv", "--id-column", "id"),
            "Invalid value for '--join': File 'none.csv' does not exist.",
        ),
        (
            (*READ, "--json-schema", "none.json"),
            "Invalid value for '--json-schema': File 'none.json' does not exist.",
        ),
        ((*READ, "-o", "."), "Invalid value for '-o' / '--output': File '.' is a directory."),
        (("retry", "--requests", "one.jsonl"), "Missing argument 'FILES...'."),
        (("retry", "results.jsonl"), "Missing option '--requests'."),
        (
            (*RETRY, "results.jsonl", "-o", "."),
            "Invalid value for '-o' / '--output': File '.' is a directory.",
        ),
        (
            (*RETRY, "results.jsonl", "--status", "failed"),
            "Invalid value for '--status': 'failed' is not one of 'ok', 'truncated', 'refused', "
            "'filtered', 'invalid_json', 'http_error', 'expired', 'cancelled', 'missing', "
            "'malformed'.",
        ),
    ],
)
def test_wrong_usage_is_code_two(arguments: tuple[str, ...], message: str) -> None:
    """A command that was typed wrongly is told how it is used, and what is wrong."""
    done = run(*arguments)
    assert (done.code, done.out) == (2, "")
    usage, *_, error = done.err.splitlines()
    assert usage.startswith("Usage: batch-frames ")
    assert error == f"Error: {message}"
    assert not Path("out.jsonl").exists()


def write_requests(*prompts: str) -> None:
    """Write a request for each prompt."""
    creator = bf.BatchCreator("m", system_prompt="S")
    for number, prompt in enumerate(prompts):
        creator.add_entry(f"00{number}", prompt)
    creator.save_to_file("requests.jsonl")


def test_read_prints_a_table() -> None:
    """Without an output the requests are printed with how many they are."""
    write_requests("Fine", "two\nlines")
    assert run("read", "requests.jsonl") == Done(
        0,
        "custom_id model system_prompt user_prompt\n"
        "      000     m             S        Fine\n"
        "      001     m             S  two\\nlines\n"
        "2 requests\n",
        "",
    )


def test_read_counts_one_request() -> None:
    """A single request is counted in the singular."""
    write_requests("Fine")
    assert run("read", "requests.jsonl").out.splitlines()[-1] == "1 request"


def test_read_prints_only_the_first_rows() -> None:
    """Of many requests the first twenty are printed, and what is left is said."""
    write_requests(*(f"prompt {n}" for n in range(1_234)))
    printed = run("read", "requests.jsonl").out.splitlines()
    assert len(printed) == 1 + 20 + 2
    assert printed[20].split() == ["0019", "m", "S", "prompt", "19"]
    assert printed[21:] == ["… and 1,214 more; -o table.csv writes them all", "1,234 requests"]


ODD = [
    "Fine",
    "two\nlines",
    "a\rb",
    "a\r\nb",
    'say "x"',
    "x,y;z",
    " lead",
    "\ufeff茶 😀",
    "NA",
    "\0",
]


@pytest.mark.parametrize("name", ["t.parquet", "t.pq", "new/folder/t.parquet"])
def test_read_writes_parquet(name: str) -> None:
    """A Parquet file holds the columns of the DataFrame, text as text."""
    write_requests(*ODD, "")
    done = run("read", "requests.jsonl", "-o", name)
    assert done == Done(0, f"{name}         11 requests\n", "")
    expected = bf.read_requests("requests.jsonl")
    assert pq.read_table(name).to_pydict() == {
        column: expected[column].tolist() for column in expected.columns
    }
    assert [path.name for path in Path(name).parent.glob("*t.p*")] == [Path(name).name]


def test_read_writes_csv() -> None:
    """A CSV file holds all columns, read back by the standard library as they were."""
    write_requests(*ODD)
    done = run("read", "requests.jsonl", "-o", "t.csv")
    assert done == Done(0, "t.csv         10 requests\n", "")
    with Path("t.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    expected = bf.read_requests("requests.jsonl").astype(str)
    assert list(rows[0]) == list(expected.columns)
    assert [row["user_prompt"] for row in rows] == ODD
    assert rows == expected.to_dict("records")


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
@pytest.mark.parametrize("prompts", [ODD, ["", "x"]], ids=["odd", "empty"])
def test_what_read_writes_can_be_written_again(name: str, prompts: list[str]) -> None:
    """The table of a file's requests makes the same file again, byte for byte."""
    write_requests(*prompts)
    assert run("read", "requests.jsonl", "-o", name).code == 0
    options = ("--prompt-column", "user_prompt", "--system-prompt", "S", "--model", "m")
    done = run("write", name, "again.jsonl", "--id-column", "custom_id", *options)
    assert (done.code, done.err) == (0, "")
    assert Path("again.jsonl").read_bytes() == Path("requests.jsonl").read_bytes()


def test_read_takes_many_files() -> None:
    """Files, globs and folders are read one after the other; a file named twice is read once."""
    Path("more").mkdir()
    write_requests("a")
    for name in ("more/1.jsonl", "more/2.jsonl"):
        Path(name).write_bytes(Path("requests.jsonl").read_bytes())
    arguments = ("requests.jsonl", "more", "more/*.jsonl", "-o", "t.csv")
    assert run("read", *arguments) == Done(0, "t.csv          3 requests\n", "")
    with Path("t.csv").open(encoding="utf-8", newline="") as file:
        names = [Path(row["file"]).name for row in csv.DictReader(file)]
    assert names == ["requests.jsonl", "1.jsonl", "2.jsonl"]


def test_read_leaves_an_earlier_table_when_it_fails() -> None:
    """A table that stands is replaced by a whole one, or not at all."""
    make_bad_files()
    Path("t.csv").write_text("earlier", encoding="utf-8")
    assert run("read", "cut.jsonl", "-o", "t.csv").code == 1
    assert Path("t.csv").read_text("utf-8") == "earlier"
    write_requests("a")
    assert run("read", "requests.jsonl", "-o", "t.csv").code == 0
    assert Path("t.csv").read_text("utf-8").startswith(("custom_id,", '"custom_id",'))


def test_read_of_an_empty_file_counts_none() -> None:
    """A file without requests is no error."""
    Path("none.jsonl").write_bytes(b"")
    done = run("read", "none.jsonl")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[-1] == "0 requests"


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


def test_read_prints_results() -> None:
    """The rows of output and error files are printed, what is missing blank, and summed up."""
    put_results()
    assert run(*RESULTS) == Done(
        0,
        "custom_id     status    content error_message\n"
        '        9         ok Say "é"\\n,              \n'
        "      007  truncated   Good, bu              \n"
        "        b http_error               Slow down.\n"
        "        c    expired                Too late.\n" + SUMMARY,
        "",
    )


@pytest.mark.parametrize(
    "arguments",
    [
        (*RESULTS, "--requests", "sent.jsonl"),
        ("read", "errors.jsonl", "output.jsonl", "--requests", "sent.jsonl"),
        (*RESULTS, "sent.jsonl"),
        (*RESULTS, "sent.jsonl", "--requests", "sent.jsonl"),
        ("read", "sent.jsonl", *RESULTS[1:], "a.jobs.jsonl"),
        (*RESULTS, *RESULTS[1:], "sent.jsonl", "empty.jsonl"),
        (*RESULTS, "--requests", "parts/1.jsonl", "--requests", "parts/2.jsonl.gz"),
        (*RESULTS, "--requests", "parts/*"),
        (*RESULTS, "--requests", "parts"),
        (*RESULTS, "parts/1.jsonl", "--requests", "sent.jsonl"),
        ("read", "."),
        ("read", "*.jsonl"),
        ("read", "[eos]*.jsonl"),
    ],
)
def test_requests_may_be_given_in_every_way(arguments: tuple[str, ...]) -> None:
    """Request files are named by an option or lie among the others; each request has its row."""
    put_results()
    put("parts/1.jsonl", *map(request, SENT[:2]))
    put("parts/2.jsonl.gz", *map(request, SENT[2:]))
    put("a.jobs.jsonl", '{"event":"created","batch_id":"batch_1"}\n')
    put("empty.jsonl")
    assert run(*arguments) == Done(0, IN_ORDER, "")


def test_results_may_be_packed() -> None:
    """Gzip makes no difference."""
    put_results()
    for name in ("output.jsonl", "errors.jsonl"):
        put(f"{name}.gz", Path(name).read_text(encoding="utf-8"))
    packed = ("read", "output.jsonl.gz", "errors.jsonl.gz", "--requests", "sent.jsonl")
    assert run(*packed) == Done(0, IN_ORDER, "")


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "new/t.pq"])
def test_results_are_written_whole(name: str) -> None:
    """A file has all columns, and each value as it came."""
    put_results()
    done = run(*RESULTS, "--requests", "sent.jsonl", "-o", name)
    assert done == Done(0, f"{name}          4 results\n{SUMMARY}", "")
    assert_table(name, list(ROWS_OF_RESULTS.values()))
    assert [path.name for path in Path(name).parent.iterdir() if path.name[0] == "."] == []


def test_results_without_an_id_are_rows_too() -> None:
    """Junk has its rows where no requests are named; with them, one line says what was left out."""
    put_results()
    put("junk.jsonl", "<<<<<<< HEAD\n\n", answer("9", "x")[:30] + "\n", "null")
    done = run("read", "errors.jsonl", "junk.jsonl", "-o", "t.csv")
    assert done == Done(
        0,
        "t.csv          5 results\n3 malformed, 1 http_error (1× rate_limit_exceeded), 1 expired\n",
        "Warning: none of the 3 lines of 'junk.jsonl' is a result; pass output and error files\n",
    )
    problems = (
        "not JSON: Expecting value at character 0",
        "not JSON: Unterminated string starting at character 22",
        "the line is null, not an object",
    )
    junk = [
        row(None, "malformed", error_message=problem, file="junk.jsonl", line=line)
        for problem, line in zip(problems, (1, 3, 4), strict=True)
    ]
    assert_table("t.csv", [ROWS_OF_RESULTS["b"], ROWS_OF_RESULTS["c"], *junk])
    assert run(*RESULTS, "junk.jsonl", "sent.jsonl") == Done(
        0,
        IN_ORDER,
        "Warning: 3 results are malformed and left out: "
        "junk.jsonl, line 1, junk.jsonl, line 3, junk.jsonl, line 4\n",
    )


@pytest.mark.parametrize(
    ("files", "warning"),
    [
        (
            {"more.jsonl": answer("9", "Old.", "length") + http_error("c", "x", "y")},
            "2 results are left out for a better or later one of the same custom_id: "
            "'c' in errors.jsonl, line 2, '9' in more.jsonl, line 1",
        ),
        (
            {"more.jsonl": answer("z", "Not asked for.")},
            "1 result is left out, having no request: 'z' in more.jsonl, line 1",
        ),
        (
            {"sent-2.jsonl": request("9", response_format={"json_schema": {"schema": {}}})},
            "the requests do not all ask for the same schema; pass --json-schema for typed answers",
        ),
    ],
)
def test_warnings_are_one_line(files: dict[str, str], warning: str) -> None:
    """What does not fit is said on stderr, in one line that names options as they are here."""
    put_results()
    for name, text in files.items():
        put(name, text)
    done = run(*RESULTS, "sent.jsonl", *files)
    assert (done.code, done.err) == (0, f"Warning: {warning}\n")


def test_a_better_result_wins_over_a_later_file() -> None:
    """Of two results of a request the row is that of the better one, as in Python."""
    put_results()
    put("again.jsonl", answer("b", "Fine."), answer("c", "Fine."), http_error("9", "x", "y"))
    done = run(*RESULTS, "again.jsonl", "sent.jsonl", "-o", "t.csv")
    assert done.out == "t.csv          4 results\n3 ok, 1 truncated\n"
    assert [(r["custom_id"], r["file"]) for r in table("t.csv")] == [
        *(("007", "output.jsonl"), ("9", "output.jsonl")),
        *(("b", "again.jsonl"), ("c", "again.jsonl")),
    ]


def test_an_empty_error_file_is_no_request_file() -> None:
    """A service may write an error file without a line, which changes nothing."""
    put_results()
    put("empty.jsonl")
    plain = run(*RESULTS)
    assert run(*RESULTS, "empty.jsonl") == run("read", "empty.jsonl", *RESULTS[1:]) == plain
    missing = "custom_id  status\n      007 missing\n        9 missing\n"
    put("two.jsonl", *map(request, SENT[:2]))
    alone = ("read", "empty.jsonl", "--requests", "two.jsonl")
    assert run(*alone) == Done(0, f"{missing}2 missing\n", "")
    assert run("read", "empty.jsonl", "--json-schema", "schema.json") == Done(0, "no results\n", "")


def test_a_ledger_among_the_files_is_passed_over() -> None:
    """A shell's ``out/*`` names the ledger too, which holds neither requests nor results."""
    put_results()
    put("a.jobs.jsonl", '{"event":"created","batch_id":"batch_1"}\n')
    assert run(*RESULTS, "a.jobs.jsonl") == run(*RESULTS)
    assert run("read", "sent.jsonl", "a.jobs.jsonl") == run("read", "sent.jsonl")


MODERATION = {"flagged": True, "categories": {"hate": True}, "category_scores": {"hate": 0.5}}
CALLS = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        (
            embedding("a", [0.5, 1]) + embedding("b", [0, 2]),
            "custom_id status  embedding\n"
            "        a     ok [0.5, 1.0]\n"
            "        b     ok [0.0, 2.0]\n"
            "2 ok\n",
        ),
        (
            result("a", 200, {"id": "m", "model": "m", "results": [MODERATION]}),
            "custom_id status flagged    categories category_scores\n"
            '        a     ok    True {"hate":true}    {"hate":0.5}\n1 ok\n',
        ),
        (
            answer("a", None, "tool_calls", tool_calls=CALLS[:0])
            + answer("b", None, refusal="No."),
            "custom_id  status\n        a      ok\n        b refused\n1 ok, 1 refused\n",
        ),
        (
            result("a", 200, {"choices": [{"message": {"content": text}} for text in "xy"]}),
            "custom_id status content choices\n        a     ok       x  [x, y]\n1 ok\n",
        ),
        (
            result("a", 200, {"object": "video", "seconds": 8}),
            "custom_id status                           body\n"
            '        a     ok {"object":"video","seconds":8}\n'
            "1 ok\n",
        ),
        (
            answer("a", "word " * 40),
            "custom_id status                                                         content\n"
            "        a     ok word word word word word word word word word word word word ...\n"
            "1 ok\n",
        ),
    ],
    ids=["embeddings", "moderations", "refusals", "choices", "others", "long"],
)
def test_what_an_endpoint_answers_is_shown(text: str, printed: str) -> None:
    """The table has the columns in which there is something, and is as wide as the terminal."""
    put("output.jsonl", text)
    assert run("read", "output.jsonl") == Done(0, printed, "")


@pytest.mark.parametrize("width", [30, 60, 200])
def test_a_table_fits_the_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long texts are shortened until a row fits in one line, and no further than that."""
    monkeypatch.setenv("COLUMNS", str(width))
    put("output.jsonl", answer("a", "x" * 1_000), answer("b", "y" * 150))
    header, first, second, summary = run("read", "output.jsonl").out.splitlines()
    text = width - len("custom_id status ")
    shown = "y" * 150 if text >= 150 else "y" * (text - 3) + "..."
    assert first == "        a     ok " + "x" * (text - 3) + "..."
    assert second == "        b     ok " + shown.rjust(text)
    assert (header, summary) == ("custom_id status " + "content".rjust(text), "2 ok")


ANSWER = {
    "stars": 9_007_199_254_740_993,
    "score": 0.5,
    "good": True,
    "mood": "up",
    "tags": ['é "', ","],
    "counts": [1, None, 9_007_199_254_740_993],
    "place": {"city": "Ulm", "code": 9_007_199_254_740_993},
    "day": "2024-02-29",
    "model": "answered",
}
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
TYPED_WARNING = (
    "Warning: of the answers, 'model' is column 'model_answer': "
    "results have columns of these names themselves\n"
)


def put_typed() -> list[dict[str, Any]]:
    """Write answers in JSON, one with everything, one with little and one in prose."""
    put("typed.json", json.dumps(TYPED))
    put("asked.jsonl", *(request(key, response_format=FORMAT) for key in "abc"))
    put("output.jsonl", answer("a", json.dumps(ANSWER)), answer("b", '{"stars":2}'))
    with Path("output.jsonl").open("a", encoding="utf-8") as file:
        file.write(answer("c", "Three."))
    names = [name if name != "model" else "model_answer" for name in TYPES]
    answers: list[list[Any]] = [list(ANSWER.values()), [2], []]
    rows = []
    for line, (key, text) in enumerate(zip("abc", answers, strict=True), 1):
        content = [json.dumps(ANSWER), '{"stars":2}', "Three."][line - 1]
        cells = dict(zip(names, [*text, *[None] * (len(names) - len(text))], strict=True))
        whole = answered(key, content, line)
        rows.append({**dict(list(whole.items())[:3]), **cells, **dict(list(whole.items())[3:])})
    rows[2] |= {
        "status": "invalid_json",
        "error_message": "not JSON: Expecting value at character 0",
    }
    return rows


@pytest.mark.parametrize("schema", [("--json-schema", "typed.json"), ("--requests", "asked.jsonl")])
def test_typed_answers_are_written(schema: tuple[str, str]) -> None:
    """By a schema of its own or the requests', each property has a column; CSV nests as JSON."""
    rows = put_typed()
    for name in ("t.csv", "t.parquet"):
        done = run("read", "output.jsonl", *schema, "-o", name)
        printed = f"{name}          3 results\n2 ok, 1 invalid_json\n"
        assert done == Done(0, printed, TYPED_WARNING)
    assert_table("t.csv", rows)
    for row in rows:
        row["day"] = None if row["day"] is None else date.fromisoformat(row["day"])
    assert_table("t.parquet", rows)


def test_typed_answers_are_printed_instead_of_their_text() -> None:
    """The terminal has the columns of the schema, and why an answer does not follow it."""
    put("few.json", json.dumps({"type": "object", "properties": {"n": TYPES["stars"]}}))
    put("output.jsonl", answer("a", '{"n":5}'), answer("b", '{"n":"5"}'), answer("c", "{}"))
    assert run("read", "output.jsonl", "--json-schema", "few.json") == Done(
        0,
        "custom_id       status n              error_message\n"
        "        a           ok 5                           \n"
        "        b invalid_json   'n' is '5', not an integer\n"
        "        c           ok                             \n"
        "2 ok, 1 invalid_json\n",
        "",
    )


def test_the_schema_given_wins_over_that_of_the_requests() -> None:
    """With ``--json-schema`` the requests' own schema is not asked."""
    put_typed()
    put("few.json", json.dumps({"type": "object", "properties": {"score": TYPES["score"]}}))
    done = run("read", "output.jsonl", "asked.jsonl", "--json-schema", "few.json", "-o", "t.csv")
    assert done == Done(0, "t.csv          3 results\n2 ok, 1 invalid_json\n", "")
    assert [row["score"] for row in table("t.csv")] == ["0.5", "", ""]
    assert "stars" not in table("t.csv")[0]


def test_pandas_reads_typed_answers_back() -> None:
    """In Parquet nullable whole numbers stay whole for pandas, lists are lists, and enums enums."""
    put_typed()
    for more in ((), ("--join", "reviews.parquet", "--id-column", "id")):
        put("output.jsonl", answer("007", json.dumps(ANSWER)), answer("9", "No."))
        schema = ("--json-schema", "typed.json", "-o", "t.parquet")
        assert run("read", "output.jsonl", *schema, *more).code == 0
        frame = pd.read_parquet("t.parquet")
        kinds = {name: str(frame[name].dtype) for name in ("stars", "input_tokens", "status")}
        assert kinds == {"stars": "Int64", "input_tokens": "Int64", "status": "category"}
        assert [str(frame[name].dtype) for name in ("good", "mood")] == ["boolean", "category"]
        assert frame["stars"].tolist() == [ANSWER["stars"], pd.NA]
        assert list(frame["tags"][0]) == ANSWER["tags"]
        assert frame["status"].tolist() == ["ok", "invalid_json"]


def test_the_types_of_columns_do_not_depend_on_the_answers() -> None:
    """A file without a single valid answer has the types of one with answers of all kinds."""
    put_typed()
    schema = ("--json-schema", "typed.json")
    assert run("read", "output.jsonl", *schema, "-o", "full.parquet").code == 0
    put("output.jsonl", answer("a", "Nothing."))
    assert run("read", "output.jsonl", *schema, "-o", "none.parquet").code == 0
    assert pq.read_schema("none.parquet").equals(pq.read_schema("full.parquet"))


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_vectors_are_written(name: str) -> None:
    """An embedding is JSON text in CSV, and a list of 32-bit floats in Parquet."""
    put("output.jsonl", embedding("a", [0.5, -2]), http_error("b", "x", "y"))
    assert run("read", "output.jsonl", "-o", name).code == 0
    vectors = [row["embedding"] for row in table(name)]
    assert vectors == (["[0.5,-2]", ""] if name == "t.csv" else [[0.5, -2], None])
    if name == "t.parquet":
        # A list of fixed size is what older versions of Arrow could not write.
        assert pq.read_schema(name).field("embedding").type == pa.large_list(
            pa.field("element", pa.float32())
        )
        assert list(pd.read_parquet(name)["embedding"][0]) == [0.5, -2]


TITLES = [("c", "Mug"), ("007", "Tea; hot, 茶"), ("b", "Cup"), ("x", ""), ("9", "")]
"""Ids in an order of their own, one of which nobody asked; the last title is missing."""


def put_titles(name: str) -> None:
    """Write the table that requests were made of."""
    if name.endswith(".parquet"):
        titles = [title for _, title in TITLES[:-1]]
        columns = {"id": [key for key, _ in TITLES], "title": [*titles, None]}
        pq.write_table(pa.table(columns), name)
        return
    mark = {"titles.csv": ";", "titles.tsv": "\t"}.get(name, ",")
    rows = [("id", "title"), *TITLES]
    lines = [mark.join(f'"{value}"' for value in row) for row in rows]
    put(name, "\n".join(lines).removesuffix('""') + "\n")


@pytest.mark.parametrize("output", ["t.csv", "t.parquet"])
@pytest.mark.parametrize(
    "source", ["titles.csv", "titles.tsv", "comma.csv", "titles.csv.gz", "titles.parquet"]
)
def test_results_are_joined_to_their_table(source: str, output: str) -> None:
    """Each row of the table has its result behind it, ids as they are written, others missing."""
    put_results()
    put_titles(source)
    join = ("--join", source, "--id-column", "id", "--prefix", "my_", "-o", output)
    done = run(*RESULTS, "--requests", "sent.jsonl", *join)
    assert done == Done(0, f"{output}          5 rows\n{SUMMARY}", "")
    rows = []
    for key, title in TITLES:
        found = ROWS_OF_RESULTS.get(key, row(key, "missing"))
        result = {f"my_{name}": value for name, value in found.items() if name != "custom_id"}
        rows.append({"id": key, "title": None if key == "9" else title, **result})
    assert_table(output, rows)
    if output == "t.csv":
        whole = Path(output).read_text(encoding="utf-8")
        assert '\n"x","",' in whole
        assert '\n"9",,' in whole


def test_a_joined_table_is_printed() -> None:
    """The terminal has the columns of the table, then what became of its rows."""
    put_results()
    join = ("--join", "reviews.csv", "--id-column", "id", "--prefix", "my_")
    assert run("read", "output.jsonl", *join) == Done(
        0,
        " id title               review my_status my_content\n"
        '007   Tea A "nice" cup\\nof 茶 😀 truncated   Good, bu\n'
        '  9   Pot               Leaks.        ok Say "é"\\n,\n'
        "1 ok, 1 truncated\n",
        "",
    )


def test_a_join_keeps_the_types_of_the_table() -> None:
    """Whole numbers with gaps stay whole, and what is nested or of a rare type stays what it is."""
    columns = {
        "whole": pa.array([2**60 + 1, None]),
        "small": pa.array([1, None], pa.int8()),
        "large": pa.array([2**64 - 1, None], pa.uint64()),
        "list": pa.array([[1, None], None]),
        "map": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64())),
        "day": pa.array([date(2024, 2, 29), None]),
        "price": pa.array([Decimal("1.50"), None]),
        "bytes": pa.array([b"\xff", None]),
        "flag": pa.array([True, None]),
        "kind": pa.array(["x", None]).dictionary_encode(),
    }
    pq.write_table(pa.table({"id": [7, 8], **columns}), "rare.parquet")
    put("output.jsonl", answer("8", "b"), answer("7", "a"))
    join = ("--join", "rare.parquet", "--id-column", "id")
    done = run("read", "output.jsonl", *join, "-o", "t.parquet")
    assert done == Done(0, "t.parquet          2 rows\n2 ok\n", "")
    written = pq.read_table("t.parquet")
    assert written["content"].to_pylist() == ["a", "b"]
    read = pq.read_table("rare.parquet")
    for name in read.column_names:
        assert written[name].to_pylist() == read[name].to_pylist(), name
    others = [name for name in read.column_names if name not in ("kind", "map")]
    assert [written.schema.field(n).type for n in others] == [
        read.schema.field(n).type for n in others
    ]
    assert pd.read_parquet("t.parquet")["whole"].tolist() == [2**60 + 1, pd.NA]
    pq.write_table(read.drop_columns(["bytes"]), "rare.parquet")
    assert run("read", "output.jsonl", *join, "-o", "t.csv").code == 0
    first, second = ({name: row[name] for name in row if name in columns} for row in table("t.csv"))
    assert first == {
        "whole": str(2**60 + 1),
        "small": "1",
        "large": str(2**64 - 1),
        "list": "[1,null]",
        "map": '{"a":1}',
        "day": "2024-02-29",
        "price": "1.50",
        "flag": "true",
        "kind": "x",
    }
    assert set(second.values()) == {""}


def test_ids_that_pandas_saved_as_an_index_are_not_lost() -> None:
    """A DataFrame with its ids in the index gives them back as the first column."""
    put("output.jsonl", answer("9", "b"), answer("007", "a"))
    frame = pd.DataFrame({"id": ["007", "9"], "n": [1, 2]}).set_index("id")
    frame.to_parquet("index.parquet")
    join = ("--join", "index.parquet", "--id-column", "id", "-o", "t.csv")
    assert run("read", "output.jsonl", *join) == Done(0, "t.csv          2 rows\n2 ok\n", "")
    rows = [list(row.items())[:4] for row in table("t.csv")]
    assert rows == [
        [("id", "007"), ("n", "1"), ("status", "ok"), ("content", "a")],
        [("id", "9"), ("n", "2"), ("status", "ok"), ("content", "b")],
    ]


def test_a_join_on_the_wrong_column_is_warned_of() -> None:
    """Where no row finds a result, one line shows ids of both sides."""
    put_results()
    done = run(*RESULTS, "--join", "reviews.csv", "--id-column", "title", "-o", "t.csv")
    assert done == Done(
        0,
        f"t.csv          2 rows\n{SUMMARY}",
        "Warning: no row has a result: the frame's ids are like 'Tea', those of the results like "
        "'9'; check --id-column\n",
    )
    assert [row["status"] for row in table("t.csv")] == ["missing", "missing"]


def put_a_large_batch() -> None:
    """Write 50,000 requests and their results, of which 880 went wrong."""
    line = request("ID")
    put("sent.jsonl", *(line.replace("ID", f"r{n}") for n in range(50_000)))
    good = result("ID", 200, {"choices": [{"message": {"content": "x"}}]})
    put("output.jsonl", *(good.replace("ID", f"r{n}") for n in range(49_120)))
    late = [expired(f"r{n}") for n in range(49_120, 49_920)]
    many = [http_error(f"r{n}", "rate_limit_exceeded", "y") for n in range(49_920, 49_992)]
    long = [http_error(f"r{n}", "context_length_exceeded", "y") for n in range(49_992, 50_000)]
    put("errors.jsonl", *long, *late, *many)


def test_a_large_batch_is_summed_up_and_retried() -> None:
    """One line tells how the 50,000 requests of a batch fared; what failed goes into a new file."""
    put_a_large_batch()
    done = run(*RESULTS, "--requests", "sent.jsonl", "-o", "t.parquet")
    assert done == Done(
        0,
        "t.parquet     50,000 results\n49,120 ok, 800 expired, "
        "80 http_error (72× rate_limit_exceeded, 8× context_length_exceeded)\n",
        "",
    )
    ids = pq.read_table("t.parquet", columns=["custom_id"])["custom_id"]
    assert ids.to_pylist() == [f"r{n}" for n in range(50_000)]
    lines = Path("sent.jsonl").read_bytes().splitlines(keepends=True)
    size = sum(map(len, lines[49_120:]))
    done = run("retry", *RESULTS[1:], "--requests", "sent.jsonl")
    printed = f"sent.retry-1.jsonl        880 requests  {size / 1000:>6.1f} kB\n"
    assert done == Done(0, printed, "")
    assert Path("sent.retry-1.jsonl").read_bytes() == b"".join(lines[49_120:])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit for the size of files")
@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "new/t.csv"])
def test_a_write_that_fails_leaves_what_stood(folder: Path, name: str) -> None:
    """Where a file cannot become large enough, one line says so and no part of it is left."""
    import resource

    put("output.jsonl", *(answer(os.urandom(99).hex(), os.urandom(99).hex()) for _ in range(99)))
    if not name.startswith("new"):
        put(name, "earlier")
    before = {path: path.read_bytes() for path in folder.iterdir()}

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, 4_096))

    options = {"preexec_fn": limit, "env": {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}}
    done = run_process("read", "output.jsonl", "-o", name, **options)
    assert (done.returncode, done.stdout) == (1, b"")
    assert re.fullmatch(rb"Error: [^\n]*File too large[^\n]*\n", done.stderr), done.stderr
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_read_that_fails_leaves_what_stood(folder: Path) -> None:
    """No table, and no folder for it, is made before all is read and joined."""
    put_results()
    put("mixed.jsonl", answer("9", "x"), request("9"))
    put("t.csv", "earlier")
    before = sorted(folder.rglob("*"))
    for wrong in (("mixed.jsonl",), ("--join", "reviews.csv", "--id-column", "nr")):
        for name in ("t.csv", "new/t.csv"):
            assert run(*RESULTS, *wrong, "-o", name).code == 1
    assert sorted(folder.rglob("*")) == before
    assert Path("t.csv").read_text(encoding="utf-8") == "earlier"


def retried(*arguments: str) -> tuple[Done, dict[str, str]]:
    """Run retry, and give the files that it made, with their text."""
    before = {path for path in Path().rglob("*") if path.is_file()}
    done = run("retry", *arguments)
    made = sorted({path for path in Path().rglob("*") if path.is_file()} - before)
    return done, {str(path): path.read_text(encoding="utf-8") for path in made}


def listed(name: str, text: str) -> Done:
    """Say what is printed of one file, of less than 1,000 bytes."""
    count = len(text.splitlines())
    noun = f"{count:>9,} request{'' if count == 1 else 's'}"
    return Done(0, f"{name}  {noun}  {len(text.encode())} bytes\n", "")


@pytest.mark.parametrize(
    ("files", "requests", "name"),
    [
        (("output.jsonl", "errors.jsonl"), ("sent.jsonl",), "sent.retry-1.jsonl"),
        (("*t.jsonl", "er*.jsonl", "empty.jsonl"), ("sent.jsonl",), "sent.retry-1.jsonl"),
        (("sent.jsonl", *RESULTS[1:], "a.jobs.jsonl"), ("sent.jsonl",), "sent.retry-1.jsonl"),
        ((".",), ("sent.jsonl",), "sent.retry-1.jsonl"),
        (RESULTS[1:], ("out/part-0000*.jsonl",), "out/part.retry-1.jsonl"),
        (RESULTS[1:], ("out/part-00001.jsonl", "out/part-00002.jsonl"), "out/part.retry-1.jsonl"),
        (RESULTS[1:], ("packed.jsonl.gz",), "packed.retry-1.jsonl"),
        (RESULTS[1:], ("sent.jsonl", "out/part-00001.jsonl"), "sent.retry-1.jsonl"),
    ],
)
def test_retry_names_the_next_round(
    files: tuple[str, ...], requests: tuple[str, ...], name: str
) -> None:
    """The file of a round stands beside the requests; among FILES only results are read."""
    put_results()
    put("packed.jsonl.gz", *map(request, SENT))
    put("out/part-00001.jsonl", *map(request, SENT[:2]))
    put("out/part-00002.jsonl", *map(request, SENT[2:]))
    put("a.jobs.jsonl", '{"event":"created","batch_id":"batch_1"}\n')
    put("empty.jsonl")
    wanted = request("b") + request("c")
    options = [word for path in requests for word in ("--requests", path)]
    assert retried(*files, *options) == (listed(name, wanted), {name: wanted})


def test_retry_goes_from_round_to_round() -> None:
    """Twice is as once; after the next results, a new file has what is still without an answer."""
    put_results()
    first, second = request("b") + request("c"), request("b")
    arguments = (*RESULTS[1:], "--requests", "sent.jsonl")
    name = "sent.retry-1.jsonl"
    assert retried(*arguments) == (listed(name, first), {name: first})
    assert retried(*arguments) == (listed(name, first), {})
    put("round-1.jsonl", answer("c", "At last."), http_error("b", "server_error", "Again."))
    name = "sent.retry-2.jsonl"
    assert retried(*arguments, "round-1.jsonl", "sent.retry-1.jsonl") == (
        listed(name, second),
        {name: second},
    )
    put("round-2.jsonl", answer("b", "Now."))
    everything = retried("*.jsonl", "--requests", "sent.jsonl")
    assert everything == (
        Done(0, "nothing to retry: every request has an answer or waits for one\n", ""),
        {},
    )


def test_retry_writes_to_the_file_it_is_given() -> None:
    """With ``-o`` the file has that name, in a folder that is made, and replaces an earlier one."""
    put_results()
    wanted = request("b") + request("c")
    arguments = (*RESULTS[1:], "--requests", "sent.jsonl", "-o", "new/again.jsonl")
    assert retried(*arguments) == (listed("new/again.jsonl", wanted), {"new/again.jsonl": wanted})
    put("errors.jsonl", expired("c"))
    put("more.jsonl", answer("b", "Fine."))
    assert run("retry", "more.jsonl", *arguments) == listed("new/again.jsonl", request("c"))
    assert Path("new/again.jsonl").read_text(encoding="utf-8") == request("c")


STATES = {
    "ok": answer("ok", '{"stars":5}'),
    "truncated": answer("truncated", "x", "length"),
    "refused": answer("refused", None, refusal="No."),
    "filtered": answer("filtered", "x", "content_filter"),
    "invalid_json": answer("invalid_json", "Five."),
    "http_error": http_error("http_error", "server_error", "x"),
    "expired": expired("expired"),
    "cancelled": expired("cancelled").replace("batch_expired", "batch_cancelled"),
    "missing": "",
}


@pytest.mark.parametrize(
    "statuses",
    [
        *((name,) for name in STATES if name != "ok"),
        *(("truncated", "missing"), ("malformed", "expired"), ("ok", "invalid_json")),
    ],
)
def test_statuses_say_what_is_sent_again(statuses: tuple[str, ...]) -> None:
    """Exactly the requests of the statuses named are written, in the order of their file."""
    put("sent.jsonl", *(request(name, response_format=FORMAT) for name in STATES))
    put("output.jsonl", *STATES.values())
    options = [word for status in statuses for word in ("--status", status)]
    wanted = "".join(request(n, response_format=FORMAT) for n in STATES if n in statuses)
    done, files = retried("output.jsonl", "--requests", "sent.jsonl", *options)
    assert files == {"sent.retry-1.jsonl": wanted}
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ((), "every request has an answer or waits for one"),
        (("--status", "filtered"), "no request is filtered"),
        (("--status", "refused", "--status", "ok"), "no request is refused or ok"),
        (("-o", "new.jsonl"), "every request has an answer or waits for one"),
    ],
)
def test_nothing_to_retry_makes_no_file(options: tuple[str, ...], reason: str) -> None:
    """Where no request has one of the statuses, a line says so, and that is no error."""
    put("sent.jsonl", request("9"))
    put("output.jsonl", answer("9", "x", "length"))
    done = retried("output.jsonl", "--requests", "sent.jsonl", *options)
    assert done == (Done(0, f"nothing to retry: {reason}\n", ""), {})


def test_retry_splits_where_the_service_does() -> None:
    """Of more than 50,000 requests there are two files, listed with their total."""
    line = '{"custom_id":"ID","body":{}}\n'
    lines = [line.replace("ID", f"{n:>05}") for n in range(50_001)]
    put("one.jsonl", *lines[:30_000])
    put("two.jsonl", *lines[30_000:])
    put("output.jsonl", expired("00000"))
    requests = ("--requests", "one.jsonl", "--requests", "two.jsonl")
    done, files = retried("output.jsonl", *requests, "-o", "again.jsonl")
    assert files == {
        "again-00001.jsonl": "".join(lines[:50_000]),
        "again-00002.jsonl": lines[50_000],
    }
    assert done == Done(
        0,
        "again-00001.jsonl     50,000 requests     1.6 MB\n"
        "again-00002.jsonl          1 request   32 bytes\n"
        "total                 50,001 requests     1.6 MB\n",
        "",
    )


def test_a_process_reads_results_and_retries() -> None:
    """``python -m batch_frames`` prints and writes what the function does."""
    put_results()
    done = run_process(*RESULTS, "--requests", "sent.jsonl")
    assert (done.returncode, done.stdout, done.stderr) == (0, IN_ORDER.encode(), b"")
    done = run_process("retry", *RESULTS[1:], "--requests", "sent.jsonl")
    wanted = request("b") + request("c")
    printed = listed("sent.retry-1.jsonl", wanted).out.encode()
    assert (done.returncode, done.stdout, done.stderr) == (0, printed, b"")
    assert Path("sent.retry-1.jsonl").read_text(encoding="utf-8") == wanted


def commands() -> dict[str, click.Command]:
    """List all commands with the words that call them."""
    return {"": main, **main.commands}


@pytest.mark.parametrize("name", commands())
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_has_an_example(name: str, option: str) -> None:
    """The help of every command shows how it is called."""
    done = run(*name.split(), option)
    assert (done.code, done.err) == (0, "")
    assert re.search(rf"^  Example:\n    batch-frames {name or 'write'} ", done.out, re.MULTILINE)


def test_examples_of_the_help_work() -> None:
    """What the help shows can be typed as it stands, where its files are."""
    Path("out").mkdir()
    assert run("write", "reviews.csv", "out/reviews.jsonl", *OUT[1:], *COLUMN).code == 0
    Path("out/reviews-00001.jsonl").write_bytes(Path("out/reviews.jsonl").read_bytes())
    Path("out/reviews.output.jsonl").write_text(answer("9", "1"), encoding="utf-8")
    Path("out/reviews.errors.jsonl").write_text(expired("007"), encoding="utf-8")
    ran = 0
    for name in ("read", "retry", "", "write"):
        example = run(*name.split(), "--help").out.split("Example:\n")[1].split("\n\n")[0]
        for line in example.replace("\\\n", " ").splitlines():
            program, *arguments = shlex.split(line)
            assert program == "batch-frames"
            if arguments[0] in COMMANDS_FOR_BATCHES:
                continue
            done = run(*arguments)
            assert (done.code, done.err) == (0, ""), line
            ran += 1
    assert ran == 6
    assert pq.read_table("requests.parquet").num_rows == 2
    assert pq.read_table("rated.parquet")["status"].to_pylist() == ["expired", "ok"]
    assert Path("rated.csv").exists()
    assert bf.read_requests("out/reviews.retry-1.jsonl")["custom_id"].tolist() == ["007"]


OPTIONS = {
    "write": {
        *("--id-column", "--prompt-column", "--prompt", "--model", "--system-prompt"),
        *("--system-prompt-file", "--json-schema", "--endpoint", "--body", "--reasoning-effort"),
        *("--na", "--max-requests", "--max-bytes", "--overwrite"),
    },
    "read": {"--requests", "--json-schema", "--join", "--id-column", "--prefix", "--output"},
    "retry": {"--requests", "--output", "--status"},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_is_explained(name: str) -> None:
    """A command has these options and no others, and each has a line of help."""
    options = [p for p in main.commands[name].params if isinstance(p, click.Option)]
    assert {o for option in options for o in option.opts if o.startswith("--")} == OPTIONS[name]
    assert all(option.help for option in options)


def test_every_command_has_its_options_listed() -> None:
    """The options of each command are listed either here or in the tests of those for batches."""
    assert sorted(main.commands) == sorted([*OPTIONS, *COMMANDS_FOR_BATCHES])


def test_version_is_the_package_s() -> None:
    """The version printed is the one that is installed."""
    installed = version("batch-frames")
    assert installed == bf.__version__
    assert run("--version") == Done(0, f"batch-frames, version {installed}\n", "")


def test_the_entry_point_is_the_group() -> None:
    """The command ``batch-frames`` that installing makes calls the same function."""
    (script,) = entry_points(group="console_scripts", name="batch-frames")
    assert script.load() is main


def test_a_process_writes_and_reads() -> None:
    """``python -m batch_frames`` writes files, whole tables and messages as the function does."""
    done = run_process(*WRITE, *COLUMN)
    size = len(CHATS.encode())
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == f"out.jsonl          2 requests  {size} bytes\n".encode()
    assert Path("out.jsonl").read_bytes() == CHATS.encode()
    done = run_process("read", "out.jsonl", "-o", "t.csv")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"t.csv          2 requests\n", b"")


def test_a_process_writes_to_a_pipe() -> None:
    """With ``-`` stdout has the bytes of the file and nothing else; the count is on stderr."""
    done = run_process("write", "reviews.csv", "-", *OUT[1:], *COLUMN)
    assert done.returncode == 0
    assert done.stdout == CHATS.encode()
    assert done.stderr == f"-          2 requests  {len(CHATS.encode())} bytes\n".encode()


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (("read", "none.jsonl"), 1, b"Error: no file 'none.jsonl'; check the path\n"),
        ((*WRITE, "--prompt", "{"), 1, None),
        (WRITE, 2, None),
    ],
)
def test_a_process_fails_without_a_traceback(
    arguments: tuple[str, ...], code: int, error: bytes | None
) -> None:
    """An error is told by words and exit code, never by a traceback."""
    done = run_process(*arguments)
    assert (done.returncode, done.stdout) == (code, b"")
    assert b"Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(b"Error: ")
    assert error in (None, done.stderr)


@pytest.mark.parametrize(
    "arguments",
    [("read", "requests.jsonl"), ("write", "reviews.csv", "-", *OUT[1:], *COLUMN)],
)
def test_a_reader_that_has_gone_is_no_error(arguments: tuple[str, ...]) -> None:
    """A pipe that ``head`` closed ends the command in silence."""
    write_requests("Fine")
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = run_process(*arguments, stdout=pipe)
    assert (done.returncode, done.stderr) == (1, b"")
