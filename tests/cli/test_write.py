"""What `batch-frames write` writes and prints."""

import gzip
import json
import sys
from pathlib import Path

import pandas as pd
import pytest

import batch_frames as bf
from tests.support.commands import (
    CHATS,
    COLUMN,
    REVIEWS,
    ROWS,
    SCHEMA,
    WRITE,
    Done,
    answer,
    chat,
    lines,
    run,
    run_process,
)

pytestmark = pytest.mark.usefixtures("folder")

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
    places = "row 0 (custom_id 'a'), row 2 (custom_id 'c')"
    assert done.err == f"Warning: skipped 2 rows without a prompt: {places}\n"
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


def test_the_schema_may_be_a_class(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``module:Class`` names a pydantic model, also one in the current folder."""
    source = "from pydantic import BaseModel\n\n\nclass Stars(BaseModel):\n    stars: int\n"
    Path("models_of_test.py").write_text(source, encoding="utf-8")
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert run(*WRITE, *COLUMN, "--json-schema", "models_of_test:Stars").code == 0
    asked = json.loads(bf.read_requests("out.jsonl")["body"][0])["response_format"]["json_schema"]
    assert (asked["name"], asked["strict"]) == ("Stars", True)
    assert list(asked["schema"]["properties"]) == ["stars"]


def test_rows_may_come_from_standard_input() -> None:
    """``-`` is CSV from a pipe, and errors show that it was."""
    source = Path("reviews.csv").read_bytes()
    whole = run_process("write", "-", "-", *WRITE[3:], *COLUMN, input=source)
    assert (whole.returncode, whole.stdout.decode()) == (0, CHATS)
    done = run("write", "-", "-", *WRITE[3:], "--prompt-column", "x", read=source)
    error = "Error: 'standard input' has no column 'x'; it has 'id', 'title', 'review'\n"
    assert (done.code, done.err) == (1, error)


def test_several_columns_make_an_id() -> None:
    """``--id-column`` may be repeated, when writing and when joining."""
    columns = ("--id-column", "id", "--id-column", "title")
    assert run("write", "reviews.csv", "out.jsonl", *columns, "--model", "m", *COLUMN).code == 0
    assert bf.read_requests("out.jsonl")["custom_id"].tolist() == ["007|Tea", "9|Pot"]
    Path("results.jsonl").write_text(answer("9|Pot", "bad") + answer("007|Tea", "good"), "utf-8")
    done = run("read", "results.jsonl", "--join", "reviews.csv", *columns, "-o", "joined.csv")
    assert done.code == 0
    assert pd.read_csv("joined.csv")["content"].tolist() == ["good", "bad"]


def test_rows_that_ask_the_same_are_asked_once() -> None:
    """With --dedupe, equal prompts become one request."""
    Path("same.csv").write_text("id,review\na,Good.\nb,Good.\nc,Bad.\n", encoding="utf-8")
    done = run("write", "same.csv", "s.jsonl", *WRITE[3:], *COLUMN, "--dedupe")
    assert (done.code, done.out.split()[1]) == (0, "2")
