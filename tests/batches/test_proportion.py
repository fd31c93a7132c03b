"""Work on many shards grows with their number, and not faster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import batch_frames as bf
from tests.service.server import BatchServer
from tests.support.counts import counted
from tests.support.jobs import save

FEW = 4


def count(work: Callable[[], object], server: BatchServer) -> Counter[str]:
    """Count what some work does, with its requests to the service."""
    before = len(server.requests_log)
    with counted() as counts:
        work()
    counts["requests"] = len(server.requests_log) - before
    return counts


def check(few: Counter[str], many: Counter[str]) -> None:
    """Compare what was counted for some shards with what was for twice as many."""
    assert few["calls"]
    assert {n: (few[n], many[n]) for n in few | many if many[n] > 2 * few[n]} == {}


@pytest.mark.filterwarnings("ignore:left out the requests")
def test_requests_are_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards whose batches run or have ended, with a round before, are all looked at once."""
    counts = []
    for shards in (FEW, 2 * FEW):
        (tmp_path / str(shards)).mkdir()
        monkeypatch.chdir(tmp_path / str(shards))
        with BatchServer(polls=0, fail_every=2) as server:
            options: dict[str, Any] = {"client": server.client(), "progress": False}
            jobs = bf.submit(save(count=2 * shards), **options)
            bf.download(bf.wait(jobs[::2], poll=0.001, **options), **options)
            again = bf.retry_requests("reviews-*.jsonl", limits=bf.Limits(1))
            bf.download(bf.wait(bf.submit(again, **options), poll=0.001, **options), **options)
            path = f"new-{shards}.jsonl"
            work = partial(bf.retry_requests, "reviews-*.jsonl", None, path, statuses="ok")
            counts.append(count(work, server))
    check(*counts)


Work = Callable[[dict[str, Any], list[bf.Job]], object]


def counts_of(shards: int, server: BatchServer, works: dict[str, Work]) -> dict[str, Counter[str]]:
    """Submit shards, and count what is done for each of some works on their jobs."""
    options: dict[str, Any] = {"client": server.client(), "progress": False}
    saved = save(count=2 * shards)
    jobs: list[bf.Job] = []
    counts = {"submit": count(lambda: jobs.extend(bf.submit(saved, **options)), server)}
    for name, work in works.items():
        counts[name] = count(partial(work, options, jobs), server)
    assert {job.status for job in bf.load_jobs("reviews.jsonl")} <= {"completed", "cancelled"}
    return counts


FOLLOWED: dict[str, Work] = {
    "submit again": lambda options, jobs: bf.submit("reviews-*.jsonl", **options),
    "load_jobs of a set": lambda options, jobs: bf.load_jobs("reviews.jsonl"),
    "load_jobs of shards": lambda options, jobs: bf.load_jobs([job.path for job in jobs]),
    "status": lambda options, jobs: bf.status(jobs, client=options["client"]),
    "cancel": lambda options, jobs: bf.cancel(jobs[::2], client=options["client"]),
    "wait": lambda options, jobs: bf.wait(jobs, poll=0.001, **options),
    "download": lambda options, jobs: bf.download(jobs, **options),
    "download again": lambda options, jobs: bf.download(jobs, **options),
}


def test_batches_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is done with all shards costs the same for each, however many there are."""
    counts = []
    for shards in (FEW, 2 * FEW):
        (tmp_path / str(shards)).mkdir()
        monkeypatch.chdir(tmp_path / str(shards))
        with BatchServer(polls=2) as server:
            counts.append(counts_of(shards, server, FOLLOWED))
    for name, few in counts[0].items():
        check(few, counts[1][name])


def test_sets_are_loaded_by_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: BatchServer
) -> None:
    """The record is read once, and not for each of the names."""
    counts = []
    for sets in (FEW, 2 * FEW):
        (tmp_path / str(sets)).mkdir()
        monkeypatch.chdir(tmp_path / str(sets))
        names = [f"set-{number}.jsonl" for number in range(sets)]
        shards = [save(name, 1, text=f"{name} {{}}")[0] for name in names]
        bf.submit(shards, client=server.client(), progress=False)
        counts.append(count(partial(bf.load_jobs, names), server))
        assert len(bf.load_jobs(names)) == sets
    check(*counts)


@pytest.mark.parametrize("waiting", ["refused", "unsent"])
def test_batches_wait_for_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waiting: str
) -> None:
    """Where the service takes three at a time, a poll does not look at the others again."""
    counts = []
    # The first three do not wait.
    for shards in (FEW + 3, 2 * FEW + 3):
        (tmp_path / str(shards)).mkdir()
        monkeypatch.chdir(tmp_path / str(shards))
        with BatchServer(polls=1) as server:
            options: dict[str, Any] = {"client": server.client(), "progress": False}
            saved = save(count=2 * shards, text="Say {:05}.")
            if waiting == "refused":
                server.settings.enqueued_tokens = 3 * (saved[-1].nbytes // 4) + 3
                jobs = bf.submit(saved, **options)
            else:
                room = 3 * int(bf.estimate(saved, prices={"m": (1, 1)})["input_tokens"].iloc[0])
                jobs = bf.submit(saved, **options, max_enqueued_tokens=room)
            counts.append(count(partial(bf.wait, jobs, poll=0.001, **options), server))
            assert (len(server.batches) > shards) == (waiting == "refused")
    check(*counts)
