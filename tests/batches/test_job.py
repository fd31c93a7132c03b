"""What a job and a list of them are, and what the verbs make of them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import batch_frames as bf
from batch_frames.files.job import Jobs
from tests.service.server import BatchServer
from tests.support.jobs import names, record, save, wait

pytestmark = pytest.mark.usefixtures("folder")


def test_all_verbs_may_be_called_again(server: BatchServer) -> None:
    """Called again, nothing is sent, asked or fetched, and no client is needed any more."""
    shards = save()
    jobs = wait(bf.submit(shards, client=server.client()), server)
    paths = bf.download(jobs, client=server.client())
    noted, log = record(), list(server.requests_log)
    assert bf.submit(shards) == jobs
    assert bf.wait(jobs) == jobs
    assert bf.download(bf.load_jobs("reviews.jsonl")) == paths
    assert list(bf.status(jobs)["status"]) == ["completed"] * 3
    assert bf.cancel(jobs) == jobs
    assert server.requests_log == log
    assert record() == noted


@pytest.mark.parametrize("verb", [bf.wait, bf.status, bf.download, bf.cancel])
def test_verbs_take_jobs(verb: Any) -> None:
    """A path where jobs are wanted is an error that says how to get them."""
    with pytest.raises(TypeError) as caught:
        verb("reviews.jsonl")
    text = f"{verb.__name__} takes jobs, not str; pass load_jobs(path)"
    assert str(caught.value) == text


def test_one_job_will_do(server: BatchServer) -> None:
    """A verb takes a job alone."""
    [first, second, _] = bf.submit(save(), client=server.client())
    [ended] = wait(first, server)
    assert (ended.batch_id, ended.status) == (first.batch_id, "completed")
    assert names(bf.download(ended, client=server.client())) == ["reviews-00001.output.jsonl"]
    assert list(bf.status(second, client=server.client())["shard"]) == ["reviews-00002.jsonl"]


def test_the_jobs_of_several_sets_are_told_apart(server: BatchServer) -> None:
    """Shards of two names in one call come back in order, and each set's jobs by its name."""
    shards = save("b.jsonl") + save("a.jsonl", text="Sing {}.")
    jobs = wait(bf.submit(shards, client=server.client()), server)
    assert [job.path for job in jobs] == [shard.path for shard in shards]
    assert len(bf.load_jobs("a.jsonl")) == len(bf.load_jobs("b.jsonl")) == 3
    assert len(server.batches) == 6
    copies = save("c.jsonl")
    assert bf.submit(copies) == [
        replace(j, path=s.path) for j, s in zip(jobs, copies, strict=False)
    ]
    assert len(server.batches) == 6, "the same content under another name is the same batch"


@pytest.mark.parametrize(
    "facts",
    [
        *({name: 7} for name in ("counted_tokens", "uploaded_at", "started_at")),
        *({name: "x"} for name in ("tried_at", "retried_at", "save_id")),
        *({name: {"x": 1}} for name in ("files", "hashes", "account", "earlier_files")),
        *({name: ("x",)} for name in ("names", "earlier", "steps")),
    ],
    ids=str,
)
def test_what_was_noted_on_the_way_makes_no_other_job(facts: dict[str, Any]) -> None:
    """Jobs are equal if their shards and batches are, and a set of them has each once."""
    job = bf.Job(Path("a.jsonl"), 1, 1, "/v1/embeddings")
    assert {job, replace(job, **facts)} == {job}
    assert job != replace(job, **facts, batch_id="batch_1")


def test_what_a_job_and_a_list_of_them_show(server: BatchServer) -> None:
    """A job is short, and a list draws a card that escapes what it shows."""
    server.settings.fail_every = 2
    jobs = bf.submit(save(), client=server.client(), max_enqueued_tokens=30)
    assert isinstance(jobs, Jobs)
    sent = jobs[0].batch_id
    text = f"Job('reviews-00001.jsonl', batch_id='{sent}', status='validating', requests=2, "
    assert repr(jobs[0]) == text + "completed=0)"
    waits = "Job('reviews-00002.jsonl', batch_id=None, status='waiting', requests=2)"
    assert repr(jobs[1]) == waits
    card = jobs._repr_html_()
    for shown in (
        "Jobs: 3 batches",
        "<b>validating</b> 1",
        "<b>waiting</b> 2",
        "<b>requests</b> 6",
    ):
        assert shown in card
    assert re.search(r"<b>expires</b> 20\d\d-\d\d-\d\d \d\d:\d\d UTC", card)
    assert "<span style='width:66.7%" in card
    assert f"<td>reviews-00001.jsonl</td><td>{sent}</td><td>validating</td>" in card
    card = Jobs(wait(jobs, server))._repr_html_()
    for shown in ("<b>requests completed</b> 3", "<b>requests failed</b> 3", "output tokens"):
        assert shown in card
    with pytest.raises(AttributeError):
        jobs[0].status = "completed"  # type: ignore[misc]
