"""What is shown of long work, and how long a service that is away is waited for."""

from __future__ import annotations

import io
import re

import openai
import pytest

import batch_frames as bf
from batch_frames import progress
from batch_frames.batches import client as service
from batch_frames.batches import send as finding
from batch_frames.progress import progress_bar, show_progress
from tests.service.server import BatchServer, drop
from tests.support.jobs import save

pytestmark = pytest.mark.usefixtures("folder")


def test_the_rate_counts_what_is_done_now() -> None:
    """What was done at the first look counts neither for the rate nor for the time left."""
    file = io.StringIO()
    with progress_bar("wait", 100, True, file=file) as bar:
        show_progress(bar, 90, "1 in_progress")
        bar.start_t -= 10
        show_progress(bar, 95, "1 in_progress")
        bar.start_t += 10
    shown = file.getvalue()
    assert re.search(r" 90/100 \[00:00<\?, \? requests/s, 1 in_progress\]", shown)
    # Five requests in ten seconds leave ten seconds for the other five.
    assert re.search(r" 95/100 \[00:1\d<00:1\d, {1,2}2\.\d\ds/ requests, 1 in_progress\]", shown)
    assert shown.endswith("]\n")


def test_a_service_that_is_away_is_spoken_of(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long pauses have a line each, and after six tries of a call it is given up."""
    monkeypatch.setattr(progress, "LONG_PAUSE", 0.0)
    shards = save(count=1)
    with (
        openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="k") as client,
        pytest.raises(openai.APIConnectionError),
    ):
        bf.submit(shards, client=client)
    said = capfd.readouterr().err.splitlines()
    assert said == ["submit: Connection error.; trying again in 0 s"] * 5
    with (
        openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="k") as client,
        pytest.raises(openai.APIConnectionError),
    ):
        bf.submit(shards, client=client, progress=False)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("verb", ["submit", "run", "wait"])
def test_a_timeout_holds_while_shards_are_sent(
    server: BatchServer, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """A service that is away is not tried again after the time, by whatever sends."""
    monkeypatch.setattr(service, "FIRST_PAUSE", 3_600.0)
    shards = save()
    if verb == "wait":
        jobs = bf.submit(shards, client=server.client(), max_enqueued_tokens=1)
    for route in ("POST /files", "GET /batches/{id}"):
        server.when(route, "asked", drop, times=99)
    client = server.client()
    if verb == "wait":
        with pytest.raises(bf.WaitTimeout):
            bf.wait(jobs, client=client, timeout=0.2)
        return
    with pytest.raises(openai.APIConnectionError):
        getattr(bf, verb)(shards, client=client, timeout=0.2)


def test_a_batch_that_may_exist_is_not_looked_for_after_the_time(
    server: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the time is up before that is known, nothing is created, and it is said."""
    monkeypatch.setattr(finding, "SETTLE", 3_600.0)
    shards = save(count=1)
    server.when("POST /batches", "asked", drop)
    with pytest.raises(bf.WaitTimeout) as caught:
        bf.submit(shards, client=server.client(), timeout=0.3)
    assert str(caught.value) == (
        "it is not known yet whether there is a batch of 1 file, as of 'reviews.jsonl'; "
        "to continue, submit again"
    )
    assert server.batches == []
