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

FEW = 12


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
