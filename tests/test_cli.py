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
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any, NamedTuple

import click
import pandas as pd
import pyarrow.parquet as pq
import pytest
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
    }.items():
        Path(name).write_bytes(data)


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
            "json_schema must be a dict or a pydantic model class, not [1]",
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
        (
            ("read", "results.jsonl"),
            "results.jsonl, line 1: a result, not a request; read the file with read_results",
        ),
        (("read", "cut.jsonl", "-o", "t.xlsx"), "'t.xlsx' must end in .csv or .parquet"),
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
    """Files, globs and folders are read one after the other."""
    Path("more").mkdir()
    write_requests("a")
    for name in ("more/1.jsonl", "more/2.jsonl"):
        Path(name).write_bytes(Path("requests.jsonl").read_bytes())
    arguments = ("requests.jsonl", "more", "more/*.jsonl", "-o", "t.csv")
    assert run("read", *arguments) == Done(0, "t.csv          5 requests\n", "")
    with Path("t.csv").open(encoding="utf-8", newline="") as file:
        names = [Path(row["file"]).name for row in csv.DictReader(file)]
    assert names == ["requests.jsonl", *["1.jsonl", "2.jsonl"] * 2]


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
    done = run("write", "reviews.csv", "out/reviews.jsonl", *OUT[1:], *COLUMN, "--max-requests=1")
    assert done.code == 0
    ran = 0
    for name in ("read", "write"):
        example = run(*name.split(), "--help").out.split("Example:\n")[1].split("\n\n")[0]
        for line in example.replace("\\\n", " ").splitlines():
            program, *arguments = shlex.split(line)
            assert program == "batch-frames"
            assert (run(*arguments).code, run(*arguments).err) == (0, "")
            ran += 1
    assert ran == 4
    assert pq.read_table("requests.parquet").num_rows == 2


def test_every_option_is_explained() -> None:
    """There are these options and no others, and each has a line of help."""
    options = {
        name: {option for p in command.params for option in p.opts if option.startswith("--")}
        for name, command in main.commands.items()
        if name in ("write", "read")
    }
    assert options == {
        "write": {
            "--id-column",
            "--prompt-column",
            "--prompt",
            "--model",
            "--system-prompt",
            "--system-prompt-file",
            "--json-schema",
            "--endpoint",
            "--body",
            "--reasoning-effort",
            "--na",
            "--max-requests",
            "--max-bytes",
            "--overwrite",
        },
        "read": {"--output"},
    }
    for command in main.commands.values():
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, parameter.name


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
