"""What commands print for programs: JSON alone, and tables on standard output."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from batch_frames import progress
from tests.service.server import BatchServer
from tests.support.commands import COLUMN, OUT, WRITE, Done, answer, run

RUN = ("run", "reviews.csv", "out/r.jsonl", *OUT[1:], *COLUMN, "--poll", "0.01")
STATUS = [
    *("path", "shard", "batch_id", "status", "total", "completed", "failed", "age", "expires"),
    "errors",
]


@pytest.fixture(autouse=True)
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchServer]:
    """Have a service, which the environment points at, and no progress bars."""
    monkeypatch.setattr(progress, "DELAY", 60)
    with BatchServer(polls=1) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "test")
        yield server


def objects(done: Done) -> list[Any]:
    """Parse the lines on standard output of a command that went well."""
    assert done.code == 0, done
    return [json.loads(line) for line in done.out.splitlines()]


def test_files_and_batches_are_objects(server: BatchServer) -> None:
    """Each file, and each batch with the columns of ``status``, is an object in a line."""
    (shard,) = objects(run(*WRITE, *COLUMN, "--json"))
    size = Path("out.jsonl").stat().st_size
    assert shard == {"path": "out.jsonl", "requests": 2, "nbytes": size}
    for verb, status in (
        ("submit", "validating"),
        ("status", "in_progress"),
        ("wait", "completed"),
    ):
        more = ["--poll", "0.01"] if verb == "wait" else []
        (job,) = objects(run(verb, "out.jsonl", *more, "--json"))
        assert list(job) == STATUS
        assert (job["path"], job["batch_id"]) == ("out.jsonl", server.batches[0].id)
        assert (job["status"], job["errors"]) == (status, None)
    assert (job["total"], job["completed"], job["failed"]) == (2, 2, 0)
    (file,) = objects(run("download", "out.jsonl", "--json"))
    size = Path("out.output.jsonl").stat().st_size
    assert file == {"path": "out.output.jsonl", "nbytes": size}
    assert objects(run("cancel", "out.jsonl", "--json"))[0]["status"] == "completed"
    done = run("retry", "--requests", "out.jsonl", "--json")
    assert objects(done) == []
    assert done.err.startswith("nothing to retry: ")


def test_rows_are_objects(server: BatchServer) -> None:
    """Without a file, each row is an object with all columns; with one, it is what that holds."""
    (plan,) = objects(run("plan", "reviews.csv", "out/r.jsonl", *OUT[1:], *COLUMN, "--json"))
    assert (plan["new"], plan["answered"]) == (2, 0)
    done = run(*RUN, "--json")
    rows = objects(done)
    assert done.err == "2 ok\n"
    assert [row["id"] for row in rows] == ["007", "9"]
    assert {row["status"] for row in rows} == {"ok"}
    (said,) = objects(run(*RUN, "-o", "rated.csv", "--json"))
    assert said == {"path": "rated.csv", "rows": 2, "statuses": {"ok": 2}}
    assert list(rows[0]) == list(pd.read_csv("rated.csv"))
    done = run("read", "--requests", "out/r.jsonl", "--json")
    assert [row["custom_id"] for row in objects(done)] == ["007", "9"]
    (said,) = objects(run("read", "out/r.jsonl", "-o", "asked.parquet", "--json"))
    assert said == {"path": "asked.parquet", "rows": 2}


def test_a_table_goes_to_standard_output(server: BatchServer) -> None:
    """``-o -`` writes the same CSV as to a file, and what else is said goes elsewhere."""
    assert run(*RUN, "-o", "rated.csv").code == 0
    done = run(*RUN, "-o", "-")
    assert (done.code, done.out.encode(), done.err) == (0, Path("rated.csv").read_bytes(), "2 ok\n")
    done = run("read", "--requests", "out/r.jsonl", "-o", "-")
    assert [row["custom_id"] for row in csv.DictReader(io.StringIO(done.out))] == ["007", "9"]


def test_numbers_that_json_lacks_are_missing() -> None:
    """Neither NaN nor infinity stops the rows, which came back long before."""
    frame = pd.DataFrame({"id": ["a", "b"], "x": [0.5, float("inf")], "y": [["ä"], None]})
    frame.to_parquet("t.parquet")
    Path("r.jsonl").write_text(answer("a", "A") + answer("b", "B"), encoding="utf-8")
    done = run("read", "r.jsonl", "--join", "t.parquet", "--id-column", "id", "--json")
    rows = [(row["x"], row["y"], row["content"]) for row in objects(done)]
    assert rows == [(0.5, ["ä"], "A"), (None, None, "B")]


def test_results_come_from_standard_input() -> None:
    """``-`` is a pipe for results and for requests, and is what their lines are said to be in."""
    run(*WRITE, *COLUMN)
    for text in (answer("9", "Yes."), Path("out.jsonl").read_text("utf-8")):
        done = run("read", "-", "--json", read=text.encode())
        rows = [json.loads(line) for line in done.out.splitlines()]
        assert [(row["file"], row["line"]) for row in rows] == [
            ("-", n + 1) for n in range(len(rows))
        ]
        assert len(rows) == text.count("\n")
    error = "Error: standard input, line 1: not JSON: Expecting value at character 0\n"
    assert run("read", "-", read=b"none\n") == Done(1, "", error)


def test_errors_are_no_json() -> None:
    """What is wrong is a sentence on standard error, and standard output is empty."""
    assert run("status", "none.jsonl", "--json") == Done(
        1, "", "Error: no jobs in 'none.jsonl'; submit the request files first\n"
    )
    done = run("write", "reviews.csv", "-", *OUT[1:], *COLUMN, "--json")
    assert (done.code, done.out) == (2, "")
    assert done.err.endswith("--json has no place on standard output beside the requests\n")
