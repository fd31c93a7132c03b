"""A table that is asked again and again while it grows, shrinks and changes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest
from click.testing import CliRunner

import batch_frames as bf
from batch_frames.cli import main
from tests.service.answers import Body, chat, error_body
from tests.service.server import BatchServer
from tests.support.marks import slow

ASK: dict[str, Any] = {"id_column": "id", "prompt_column": "text", "model": "m"}
QUICK: dict[str, Any] = {"poll": 0.002, "progress": False}


class Model:
    """Answer requests, some of them only at the second time and some never, and count all.

    Attributes:
        asked: How often each prompt was answered, with an error or without.
    """

    def __init__(self, once: set[str] | None = None, never: set[str] | None = None) -> None:
        self.asked: Counter[str] = Counter()
        self._once, self._never = once or set(), never or set()

    def __call__(self, body: Body) -> tuple[int, Body]:
        """Answer one request."""
        prompt = body["messages"][-1]["content"]
        self.asked[prompt] += 1
        if prompt in self._never:
            return 400, error_body("The image cannot be read.", code="invalid_image")
        if prompt in self._once and self.asked[prompt] == 1:
            return 500, error_body("The server had an error.", kind="server_error")
        return 200, chat(body)


def table(count: int, *, ask: str = "say") -> pd.DataFrame:
    """Make a table of prompts that differ."""
    return pd.DataFrame({"id": range(count), "text": [f"{ask} {n}" for n in range(count)]})


def check(rated: pd.DataFrame, frame: pd.DataFrame) -> None:
    """Hold that every row has kept its place, and has the answer to its own prompt."""
    pd.testing.assert_frame_equal(rated[["id", "text"]], frame)
    assert rated["status"].tolist() == ["ok"] * len(frame)
    assert rated["content"].tolist() == [f"You said: {text}" for text in frame["text"]]


def sent_lines(server: BatchServer) -> list[bytes]:
    """Return the request lines of all batches."""
    server.finish()
    files = [server.service.file(batch.input_file_id) for batch in server.batches]
    return [line for file in files for line in b"".join(file.content.blocks(0)).splitlines()]


def by_pandas(frame: pd.DataFrame, path: Path, server: BatchServer) -> pd.DataFrame:
    """Run a DataFrame."""
    rated: pd.DataFrame = bf.run(frame, path, client=server.client(), **ASK, **QUICK)
    return rated


def by_polars(frame: pd.DataFrame, path: Path, server: BatchServer) -> pd.DataFrame:
    """Run a frame of polars, without the index that it has no place for."""
    rated = bf.run(pl.from_pandas(frame), path, client=server.client(), **ASK, **QUICK)
    assert isinstance(rated, pl.DataFrame)
    return rated.to_pandas().astype({"text": frame["text"].dtype}).set_axis(frame.index)


def by_command(frame: pd.DataFrame, path: Path, server: BatchServer) -> pd.DataFrame:
    """Run a CSV file from the command line, where ids are text."""
    source, target = path.with_name("t.csv"), path.with_name("t.parquet")
    path.parent.mkdir(exist_ok=True)
    frame.to_csv(source, index=False)
    asked = ["--id-column", "id", "--prompt-column", "text", "--model", "m", "--poll", "0.002"]
    files = [str(source), str(path), "-o", str(target), "--base-url", server.url]
    done = CliRunner().invoke(main, ["run", *files, *asked], catch_exceptions=False)
    told = f"{target}  {len(frame):>9,} rows\n{len(frame)} ok\n"
    # Before it stands a bar, where waiting takes more than a moment.
    assert (done.exit_code, done.output[-len(told) :]) == (0, told)
    rated = pd.read_parquet(target)
    for file in (source, target):
        file.unlink()
    return rated.astype({"id": "int64", "text": frame["text"].dtype}).set_axis(frame.index)


@pytest.mark.parametrize("ask", [by_pandas, by_polars, by_command])
def test_a_table_through_its_life(server: BatchServer, tmp_path: Path, ask: Any) -> None:
    """What was answered once is never asked again, whatever happens to the table."""
    server.settings.answer = model = Model()
    path = tmp_path / "out" / "reviews.jsonl"

    def run(frame: pd.DataFrame, new: int) -> None:
        before = model.asked.total()
        check(ask(frame, path, server), frame)
        assert model.asked.total() - before == new

    first = table(300)
    run(first, 300)
    run(first, 0)
    grown = table(320)
    run(grown, 20)
    cut = grown.sort_values("text", ascending=False).head(150)
    run(cut, 0)
    changed = grown.copy()
    changed.loc[[7, 300], "text"] = ["say seven", "say three hundred"]
    run(changed, 2)
    run(grown, 0)
    run(changed, 0)
    lines = sent_lines(server)
    assert len(lines) == len(set(lines)) == 322
    rounds = [f"reviews{ending}.jsonl" for ending in ("", ".round-2", ".round-3")]
    outputs = [name.replace(".jsonl", ".output.jsonl") for name in rounds]
    files = sorted(p.name for p in path.parent.iterdir() if p.name != ".batch_frames")
    assert files == sorted([*rounds, *outputs])


@pytest.mark.parametrize("left", [None, 0, 12, 16])
def test_hashes_that_are_lost_cost_nothing(
    server: BatchServer, tmp_path: Path, left: int | None
) -> None:
    """Where the record has not the hashes of all lines of a shard, the shard itself has them."""
    server.settings.answer = model = Model()
    path = tmp_path / "reviews.jsonl"
    bf.run(table(4), path, client=server.client(), **ASK, **QUICK)
    [hashes] = (tmp_path / ".batch_frames" / "jobs").glob("*.lines")
    if left is None:
        hashes.unlink()
    else:
        hashes.write_bytes(hashes.read_bytes()[:left])
    check(bf.run(table(5), path, client=server.client(), **ASK, **QUICK), table(5))
    assert set(model.asked.values()) == {1}


def test_a_file_in_the_way_is_found_before_anything_is_sent(
    server: BatchServer, tmp_path: Path
) -> None:
    """Without the record of what was sent, whose answers are there, nothing is paid again."""
    path = tmp_path / "reviews.jsonl"
    bf.run(table(4), path, client=server.client(), **ASK, **QUICK)
    shutil.rmtree(tmp_path / ".batch_frames" / "jobs")
    with pytest.raises(bf.BatchFramesError) as caught:
        bf.run(table(4), path, client=server.client(), **ASK, **QUICK)
    assert str(caught.value) == (
        f"'{tmp_path / 'reviews.output.jsonl'}' is in the way of the results of 'reviews.jsonl'; "
        "it was not downloaded; move it away"
    )
    assert len(server.batches) == 1


@pytest.mark.parametrize("retries", [-1, None, True])
def test_retries_are_a_whole_number(tmp_path: Path, retries: Any) -> None:
    """Anything else is an error before a file is written."""
    with pytest.raises(ValueError) as caught:
        bf.run(table(1), tmp_path / "r.jsonl", retries=retries, **ASK)
    assert str(caught.value) == f"retries must be a whole number from 0, not {retries!r}"
    assert not any(tmp_path.iterdir())


def test_equal_prompts_are_asked_once(server: BatchServer, tmp_path: Path) -> None:
    """With ``dedupe=True``, however often they stand in the table and under which ids."""
    server.settings.answer = model = Model()
    frame = table(300).assign(text=[f"say {n % 40}" for n in range(300)])
    grown = pd.concat([frame, table(45).assign(id=range(900, 945))], ignore_index=True)
    moved = grown[::-1].reset_index(drop=True).assign(id=range(345))
    for rows in (frame, frame, grown, moved):
        how = {**ASK, **QUICK, "dedupe": True}
        check(bf.run(rows, tmp_path / "r.jsonl", client=server.client(), **how), rows)
    assert model.asked == Counter(f"say {n}" for n in range(45))


def test_a_table_that_failed_validation_is_sent_again(server: BatchServer, tmp_path: Path) -> None:
    """Once the service takes the model, the same call answers all rows, each asked once."""
    frame = table(4)
    server.settings.models = ["other"]
    for _ in range(2):
        with pytest.raises(bf.JobError) as caught:
            bf.run(frame, tmp_path / "r.jsonl", client=server.client(), **ASK, **QUICK)
        assert caught.value.status == "failed"
    assert len(server.batches) == 2
    server.settings.models = ["m"]
    check(bf.run(frame, tmp_path / "r.jsonl", client=server.client(), **ASK, **QUICK), frame)
    assert [batch.paid for batch in server.batches] == [0, 0, 4]


def test_what_fails_for_a_passing_reason_is_asked_again(
    server: BatchServer, tmp_path: Path
) -> None:
    """In the same call, and only that; what fails for good is asked once, whatever is called."""
    frame = table(300)
    once = {f"say {n}" for n in range(0, 300, 8)}
    never = {f"say {n}" for n in range(1, 300, 20)}
    server.settings.answer = model = Model(once, never)
    for _ in range(2):
        with pytest.warns(UserWarning, match="no answer") as caught:
            rated = bf.run(frame, tmp_path / "r.jsonl", client=server.client(), **ASK, **QUICK)
        assert [str(warning.message) for warning in caught] == [
            "15 of 300 requests have no answer (285 ok, 15 http_error (15× invalid_image)); "
            "retry_requests with permanent=True writes them again"
        ]
        failed = frame["text"].isin(never)
        check(rated[~failed], frame[~failed])
        assert set(rated["error_code"][failed]) == {"invalid_image"}
        assert model.asked == {text: 1 + (text in once) for text in frame["text"]}
    assert len(server.batches) == 2


def test_a_retry_gives_the_service_time(
    server: BatchServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Before each retry of what failed by HTTP errors there is a pause, longer and longer."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    server.settings.polls, server.settings.fail_every = 0, 1
    options = {**ASK, "client": server.client(), "retries": 3}
    with pytest.warns(UserWarning, match="2 of 2 requests have no answer"):
        bf.run(table(2), tmp_path / "r.jsonl", **options)
    assert [seconds for seconds in slept if seconds >= 2] == [30, 60, 90]
    said = [line for line in capfd.readouterr().err.splitlines() if "trying" in line]
    failed = "run: 2 of 2 requests failed for a passing reason; trying again in"
    assert said == [f"{failed} {seconds} s" for seconds in (30, 60, 90)]
    slept.clear()
    with pytest.warns(UserWarning, match="1 of 1 requests have no answer"):
        bf.run(table(1), tmp_path / "s.jsonl", **options, timeout=40, progress=False)
    assert [seconds for seconds in slept if seconds >= 2] == [30, 40, 40]
    assert "trying" not in capfd.readouterr().err


def test_what_a_service_has_lost_is_asked_again_at_once(
    server: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that expired has waited for long already."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    server.settings.polls, server.settings.done = 0, 0.5
    server.settings.endings["r.jsonl"] = "expired"
    check(bf.run(table(2), tmp_path / "r.jsonl", client=server.client(), **ASK), table(2))
    assert [seconds for seconds in slept if seconds >= 2] == []
    assert len(server.batches) == 2


def test_the_path_of_a_set_stands_for_all_its_rounds(server: BatchServer, tmp_path: Path) -> None:
    """Whatever reads the requests of a path finds those of later calls and of retries as well."""
    path = tmp_path / "r.jsonl"
    options = {**ASK, **QUICK, "client": server.client()}
    bf.run(table(7), path, limits=bf.Limits(requests=3), **options)
    grown = table(9)
    grown.loc[0, "text"] = "say zero"
    bf.run(grown, path, **options)
    with pytest.warns(UserWarning, match="1 custom_id has several requests") as caught:
        results = bf.read_results(requests=path)
    assert len(caught) == 1
    assert results["custom_id"].tolist() == [str(n) for n in range(9)]
    assert results["content"].tolist() == [f"You said: {text}" for text in grown["text"]]
    names = [*(f"r-0000{n}.jsonl" for n in (1, 2, 3)), "r.round-2.jsonl"]
    assert [job.path.name for job in bf.load_jobs(path)] == names
    assert bf.status(bf.load_jobs(path))["shard"].tolist() == names
    with pytest.warns(UserWarning, match="several requests"):
        assert bf.retry_requests(path) == []
    with pytest.warns(UserWarning, match="several requests"):
        (again,) = bf.retry_requests(path, statuses=["ok"])
    assert (again.path.name, again.requests) == ("r.round-3.jsonl", 9)


@pytest.mark.parametrize("retries", [0, 1])
def test_retries_end(server: BatchServer, tmp_path: Path, retries: int) -> None:
    """After so many further rounds a failure stays, until the next call."""
    server.settings.fail_every = 1
    for calls in (1, 2):
        with pytest.warns(UserWarning, match="1 of 1 requests have no answer"):
            bf.run(
                table(1), tmp_path / "r.jsonl", retries=retries, client=server.client(),
                **ASK, **QUICK,
            )  # fmt: skip
        assert len(sent_lines(server)) == calls * (1 + retries)


def test_what_was_cancelled_is_asked_by_the_next_call_only(
    server: BatchServer, tmp_path: Path
) -> None:
    """A batch that somebody stopped is not begun again at once, and does not block the path."""
    path = tmp_path / "r.jsonl"
    server.settings.endings["r.jsonl"] = "in_progress"
    server.settings.done = 0
    options = {**ASK, **QUICK, "client": server.client()}
    with pytest.raises(bf.WaitTimeout):
        bf.run(table(2), path, timeout=0, **options)
    bf.cancel(bf.load_jobs(path), client=server.client())
    with pytest.warns(UserWarning, match="2 of 2 requests have no answer") as caught:
        rated = bf.run(table(2), path, **options)
    assert len(caught) == 1
    assert rated["status"].tolist() == ["cancelled"] * 2
    assert len(server.batches) == 1
    server.settings.endings.clear()
    check(bf.run(table(2), path, **options), table(2))
    assert len(server.batches) == 2


def test_most_requests(server: BatchServer, tmp_path: Path) -> None:
    """Where more would be sent than is allowed, nothing is written and nothing sent."""
    path = tmp_path / "r.jsonl"
    options = {**ASK, **QUICK, "client": server.client()}
    bf.run(table(3), path, max_requests=3, **options)
    log, files = list(server.requests_log), sorted(tmp_path.rglob("*"))
    with pytest.raises(bf.BatchFramesError) as caught:
        bf.run(table(7), path, max_requests=3, **options)
    assert str(caught.value) == "4 requests would be sent, but max_requests=3"
    assert (server.requests_log, sorted(tmp_path.rglob("*"))) == (log, files)
    assert len(bf.run(table(6), path, max_requests=3, **options)) == 6


KILLED = """
import importlib, json, sys
from openai import OpenAI
import batch_frames as bf
from batch_frames.batches import client, send
client.FIRST_PAUSE, send.SETTLE = 0.01, 0.05
frames, url, source, path, options = sys.argv[1:]
api = OpenAI(base_url=url, api_key="test")
frame = importlib.import_module(frames).read_csv(source)
bf.run(frame, path, limits=bf.Limits(requests=8), client=api, **json.loads(options))
"""

KILLED_COMMAND = """
import batch_frames as bf
from batch_frames.batches import client, send
from batch_frames.cli import main
client.FIRST_PAUSE, send.SETTLE = 0.01, 0.05
bf.run.__kwdefaults__["limits"] = bf.Limits(requests=8)
main()
"""

MOMENTS = [
    slow("POST /files", "half", 0),
    ("POST /batches", "done", 0),
    slow("POST /files", "answered", 2),
    slow("POST /batches", "asked", 1),
    slow("POST /batches", "answered", 2),
    slow("POST /batches", "done", 3),
    slow("GET /batches/{id}", "asked", 0),
    slow("GET /batches/{id}", "answered", 7),
    slow("GET /files/{id}/content", "half", 1),
    slow("GET /files/{id}/content", "answered", 3),
    slow("GET /files/{id}/content", "asked", 4),
]


def start(by: str, source: Path, path: Path, server: BatchServer) -> subprocess.Popen[bytes]:
    """Run a CSV file in a process of its own, from the command line or as a frame."""
    if by == "command":
        asked = [KILLED_COMMAND, "run", source, path, "--base-url", server.url, "--poll", "0.002"]
        asked += ["--id-column", "id", "--prompt-column", "text", "--model", "m"]
        asked += ["-o", path.with_name("rated.parquet")]
    else:
        asked = [KILLED, by, server.url, source, path, json.dumps({**ASK, **QUICK})]
    command = [sys.executable, "-W", "ignore", "-c", *map(str, asked)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[1], stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("by", ["pandas", slow("polars"), slow("command")])
@pytest.mark.parametrize(("route", "moment", "after"), MOMENTS)
def test_killed_and_called_again_with_more_rows(
    server: BatchServer, tmp_path: Path, route: str, moment: Any, after: int, by: str
) -> None:
    """A process that is killed leaves all so that the next call asks the rest, and only that."""
    once, never = {f"say {n}" for n in range(0, 30, 8)}, {"say 1", "say 21"}
    server.settings.answer = model = Model(once, never)
    path = tmp_path / "r.jsonl"
    processes: list[subprocess.Popen[bytes]] = []
    server.when(route, moment, lambda: os.kill(processes[0].pid, signal.SIGKILL), after=after)
    for count in (24, 30):
        source = tmp_path / f"{count}.csv"
        table(count).to_csv(source, index=False)
        processes.append(start(by, source, path, server))
        processes[-1].wait(60)
    # The command ends with 1 where a request has no answer.
    assert [process.returncode for process in processes] == [-signal.SIGKILL, by == "command"]
    frame = table(30)
    with pytest.warns(UserWarning, match="2 of 30 requests have no answer"):
        rated = bf.run(frame, path, **ASK)
    failed = frame["text"].isin(never)
    check(rated[~failed], frame[~failed])
    assert model.asked == {text: 1 + (text in once) for text in frame["text"]}
    if by == "command":
        written = pd.read_parquet(tmp_path / "rated.parquet")
        assert written["status"].tolist() == rated["status"].tolist()
        assert written["content"][~failed].tolist() == rated["content"][~failed].tolist()


def test_the_command_line_plans_and_asks(server: BatchServer, tmp_path: Path) -> None:
    """``plan`` prints what would be sent, and ``run`` sends nothing above ``--max-requests``."""
    source, path = tmp_path / "t.csv", tmp_path / "out" / "r.jsonl"
    table(5).to_csv(source, index=False)
    asked = [str(source), str(path), "--id-column", "id", "--prompt", "{text}", "--model", "m"]
    done = CliRunner().invoke(main, ["plan", *asked], catch_exceptions=False)
    assert done.exit_code == 0
    assert "new                    5\n" in done.output
    assert "r.jsonl" in done.output
    done = CliRunner().invoke(main, ["plan", *asked, "--json"], catch_exceptions=False)
    plan = json.loads(done.stdout)
    assert (plan["new"], plan["answered"], len(plan["sample"])) == (5, 0, 3)
    assert [shard["requests"] for shard in plan["shards"]] == [5]
    done = CliRunner().invoke(main, ["run", *asked, "--max-requests", "4"])
    assert done.exit_code == 1
    assert "5 requests would be sent, but max_requests=4\n" in done.output
    priced = [*asked[:-1], "gpt-4o-mini", "--body", "max_completion_tokens=1000"]
    done = CliRunner().invoke(main, ["plan", *priced], catch_exceptions=False)
    assert re.search(r"\ncost +[0-9]+ input tokens, \$0\.0000 to \$0\.0015\n", done.output)
    done = CliRunner().invoke(main, ["run", *priced, "--max-cost", "0.001"])
    assert done.exit_code == 1
    assert "max_cost=0.001 is less than the cost, $0.0000 to $0.0015" in done.output
    assert server.requests_log == []


def test_the_command_line_says_what_sends_lasting_failures_again(
    server: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``run`` names the option of ``retry``, and ``plan`` has nothing to send and no file."""
    monkeypatch.setenv("OPENAI_API_KEY", "test-key")
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    server.settings.answer = Model(set(), {"say 0"})
    source, path = tmp_path / "t.csv", tmp_path / "out" / "r.jsonl"
    table(1).to_csv(source, index=False)
    asked = [str(source), str(path), "--id-column", "id", "--prompt", "{text}", "--model", "m"]
    done = CliRunner().invoke(main, ["run", *asked, "--poll", "0.01"], catch_exceptions=False)
    assert done.output.splitlines()[-1] == (
        "Warning: 1 of 1 requests have no answer (1 http_error (1× invalid_image)); "
        "batch-frames retry with --permanent writes them again"
    )
    done = CliRunner().invoke(main, ["plan", *asked], catch_exceptions=False)
    assert (done.exit_code, done.output.splitlines()[-1].split()) == (0, ["asked_again", "0"])


def test_the_command_line_warns_of_skipped_rows_once(
    server: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retry reads the table again, and does not warn again."""
    monkeypatch.setenv("OPENAI_API_KEY", "test-key")
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    server.settings.answer = Model({"say 0"})
    source = tmp_path / "t.csv"
    source.write_text("id,text\n0,say 0\n1,\n", encoding="utf-8")
    asked = ["run", str(source), str(tmp_path / "r.jsonl"), "--id-column", "id", "--na", "skip"]
    asked += ["--prompt-column", "text", "--model", "m", "--poll", "0.002"]
    done = CliRunner().invoke(main, asked, catch_exceptions=False)
    warned = [line for line in done.output.splitlines() if line.startswith("Warning")]
    assert warned == ["Warning: skipped 1 row without a prompt: row 1 (custom_id '1')"]
    assert len(server.batches) == 2
