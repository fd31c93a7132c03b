"""The ledger beside the shards: what it holds after any crash, and who may write to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import batch_frames as bf
from batch_frames.batches.job import Job, Settings
from batch_frames.batches.ledger import Ledger
from batch_frames.files.find import ledger_path
from tests.service.server import BatchServer
from tests.support.jobs import save

HOLD = """
import sys
from pathlib import Path
from batch_frames.batches.ledger import Ledger
with Ledger(Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.readline()
"""


def job(folder: Path, name: str = "reviews.jsonl", **facts: Any) -> Job:
    """Make up a job."""
    return Job(folder / name, 3, 120, "/v1/chat/completions", sha256="ab", **facts)


def events(path: Path) -> list[dict[str, Any]]:
    """Read a ledger as what it is: JSON, one object a line."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name a ledger."""
    return tmp_path / "reviews.jobs.jsonl"


@pytest.fixture
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a process that holds the ledger."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.mark.parametrize(
    ("shard", "ledger"),
    [
        ("reviews.jsonl", "reviews.jobs.jsonl"),
        ("reviews-00001.jsonl", "reviews.jobs.jsonl"),
        ("reviews-00041.jsonl", "reviews.jobs.jsonl"),
        ("reviews-123456.jsonl", "reviews.jobs.jsonl"),
        ("reviews-2026.jsonl", "reviews-2026.jobs.jsonl"),
        ("reviews-20261125.jsonl", "reviews-20261125.jobs.jsonl"),
        ("reviews-012345.jsonl", "reviews-012345.jobs.jsonl"),
        ("reviews.retry-1.jsonl", "reviews.retry-1.jobs.jsonl"),
        ("a.b-00001.jsonl", "a.b.jobs.jsonl"),
    ],
)
def test_all_shards_of_a_name_share_a_ledger(tmp_path: Path, shard: str, ledger: str) -> None:
    """The ledger stands beside the shards, under the name that was saved to."""
    assert ledger_path(tmp_path / shard) == tmp_path / ledger


def test_events_are_lines_that_anyone_can_read(path: Path) -> None:
    """Each event is a JSON object with its name, its time, the shard's file name and the token."""
    with Ledger(path).locked() as ledger:
        noted = ledger.intend(job(path.parent, settings=Settings(metadata={"a": "é"})))
        ledger.note("uploaded", noted, file_id="file-1")
        ledger.note("creating", noted)
        ledger.note("created", noted, batch_id="batch_1", status="validating")
    intent, uploaded, creating, created = events(path)
    assert [e["event"] for e in events(path)] == ["intent", "uploaded", "creating", "created"]
    assert path.read_bytes().isascii()
    assert intent == {
        "event": "intent",
        "at": intent["at"],
        "shard": "reviews.jsonl",
        "token": noted.token,
        "sha256": "ab",
        "nbytes": 120,
        "requests": 3,
        "endpoint": "/v1/chat/completions",
        "settings": {"metadata": {"a": "é"}, "completion_window": "24h"},
    }
    assert [e["at"] for e in events(path)] == sorted(e["at"] for e in events(path))
    assert intent["at"].endswith("+00:00")
    assert (uploaded["file_id"], created["batch_id"]) == ("file-1", "batch_1")
    assert creating.keys() == {"event", "at", "shard", "token"}


def test_another_process_reads_what_was_written(path: Path) -> None:
    """A ledger that is opened anew tells the same jobs."""
    with Ledger(path).locked() as ledger:
        first = ledger.intend(job(path.parent, "reviews-00001.jsonl"))
        second = ledger.intend(job(path.parent, "reviews-00002.jsonl"))
        ledger.note("created", second, batch_id="batch_2", status="completed", errors=[])
        written = ledger.jobs
    assert Ledger(path).jobs == written
    assert [found.token for found in written] == [first.token, second.token]
    assert [found.batch_id for found in written] == [None, "batch_2"]


def test_a_ledger_cut_at_any_byte_is_read_to_its_last_whole_line(path: Path) -> None:
    """Whatever a crash leaves of the last lines, the whole ones count and the next one is whole."""
    with Ledger(path).locked() as ledger:
        noted = ledger.intend(job(path.parent))
        for number in range(3):
            ledger.note("status", noted, status=f"é{number}")
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for size in range(len(lines[0]), len(whole) + 1):
        path.write_bytes(whole[:size])
        kept = whole[:size].count(b"\n")
        [found] = Ledger(path).jobs
        assert found.status == ("waiting" if kept == 1 else f"é{kept - 2}")
        with Ledger(path).locked() as ledger:
            ledger.note("status", found, status="last")
        written = path.read_bytes().splitlines(keepends=True)
        assert written[:-1] == lines[:kept]
        assert json.loads(written[-1])["status"] == "last"


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "null",
        "[]",
        '{"event":"created","token":"x"}',
        "\x00",
        '{"event":"intent","token":"x","shard":"a.jsonl","settings":null}',
        "[" * 100_000,
    ],
    ids=["cut", "null", "list", "unknown token", "zero", "no settings", "deep"],
)
def test_a_line_that_is_no_event_is_an_error(path: Path, line: str) -> None:
    """A damaged ledger is not taken for one that knows less: that could pay twice."""
    with Ledger(path).locked() as ledger:
        ledger.intend(job(path.parent))
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(bf.LineError) as caught:
        Ledger(path)
    problem = "not an event of a ledger; remove the line, or restore the file"
    assert str(caught.value) == f"{path}, line 2: {problem}"


def test_events_of_a_later_version_are_read_past(path: Path) -> None:
    """What another version notes beyond what this one knows does no harm."""
    with Ledger(path).locked() as ledger:
        noted = ledger.intend(job(path.parent))
        ledger.note("applauded", noted, hands=2)
        ledger.note("created", noted, batch_id="batch_1", status="validating", mood="good")
    [found] = Ledger(path).jobs
    assert (found.batch_id, found.status) == ("batch_1", "validating")


def test_a_ledger_in_use_names_the_process(path: Path, holder: subprocess.Popen[str]) -> None:
    """Two processes are kept apart, and the error says who is there."""
    with pytest.raises(bf.BatchFramesError) as caught, Ledger(path).locked(patience=0):
        raise AssertionError
    text = f"'reviews.jobs.jsonl' is in use by process {holder.pid}; wait for it to end"
    assert str(caught.value) == text


def test_a_dead_owners_lock_is_taken_over(path: Path, holder: subprocess.Popen[str]) -> None:
    """A killed process leaves its lock file, and no lock."""
    holder.kill()
    holder.wait()
    lock = path.with_name(f".{path.name}.lock")
    assert int(lock.read_bytes()) == holder.pid
    with Ledger(path).locked():
        assert int(lock.read_bytes()) == os.getpid()
    assert not lock.exists()


def test_submit_meets_the_lock(path: Path, holder: subprocess.Popen[str]) -> None:
    """Submitting beside another process is refused before anything is sent."""
    creator = bf.BatchCreator("m", None, system_prompt=None)
    creator.add_entry("a", "b")
    shards = creator.save_to_file(path.parent / "reviews.jsonl")
    with BatchServer() as server:
        with pytest.raises(bf.BatchFramesError) as caught:
            bf.submit(shards, client=server.client())
        assert server.requests_log == []
    text = f"'reviews.jobs.jsonl' is in use by process {holder.pid}; wait for it to end"
    assert str(caught.value) == text


def test_each_step_is_on_the_disk_before_the_service_is_asked(
    server: BatchServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even a computer that loses its power forgets that a batch may have been made."""
    path, fsync = folder / "reviews.jobs.jsonl", os.fsync
    synced: dict[int, int] = {}
    sizes: list[tuple[int, int | None]] = []

    def noted(handle: int) -> None:
        fsync(handle)
        synced[os.fstat(handle).st_ino] = os.fstat(handle).st_size

    def asked() -> None:
        sizes.append((path.stat().st_size, synced.get(path.stat().st_ino)))

    monkeypatch.setattr(os, "fsync", noted)
    for route in ("POST /files", "POST /batches"):
        server.when(route, "asked", asked, times=None)
    bf.submit(save(), client=server.client())
    assert len(sizes) == 6
    assert [on_disk for _, on_disk in sizes] == [size for size, _ in sizes]
