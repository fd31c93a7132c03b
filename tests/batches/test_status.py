"""Load jobs, look at them and cancel them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pandas as pd
import pytest

import batch_frames as bf
from batch_frames.batches import job_rows, refreshed
from tests.service.server import BatchServer, drop, reply
from tests.support.jobs import save, steps, wait

pytestmark = pytest.mark.usefixtures("folder")


def test_jobs_are_loaded_in_any_process(server: BatchServer) -> None:
    """A ledger, the name that was saved to, shards, a folder and globs all lead to the jobs."""
    shards = save("out/reviews.jsonl")
    jobs = bf.submit(shards, client=server.client())
    bf.download(wait(jobs, server), client=server.client())
    jobs = bf.load_jobs("out/reviews.jobs.jsonl")
    assert [job.batch_id for job in jobs] == [batch.id for batch in server.batches]
    ways: list[Any] = ["out/reviews.jsonl", "out", "out/*.jsonl"]
    ways += [shards, sorted(Path("out").glob("*.jsonl")), [Path("out"), "out/reviews.jsonl"]]
    assert [bf.load_jobs(way) for way in ways] == [jobs] * len(ways)
    assert bf.load_jobs(shards[1]) == jobs[1:2]
    assert bf.load_jobs("out/reviews-0000[12].jsonl") == jobs[:2]


@pytest.mark.parametrize(
    ("path", "kind", "text"),
    [
        (
            "nowhere.jsonl",
            FileNotFoundError,
            "no jobs in 'nowhere.jsonl'; submit the request files first",
        ),
        (
            "reviews.jsonl",
            bf.BatchFramesError,
            "'reviews.jsonl' was not submitted; submit it first",
        ),
        ([], FileNotFoundError, "no jobs in an empty list; submit the request files first"),
        (
            "*.jsonl",
            FileNotFoundError,
            "no jobs in '*.jsonl'; submit the request files first",
        ),
    ],
)
def test_where_there_are_no_jobs(path: Any, kind: type[Exception], text: str) -> None:
    """What was never submitted is an error."""
    save(per_shard=6)
    with pytest.raises(kind) as caught:
        bf.load_jobs(path)
    assert str(caught.value) == text


def test_status_is_a_table(server: BatchServer) -> None:
    """There is one row per shard, with counts that may be missing, an age and an expiry."""
    jobs = bf.submit(save(), client=server.client(), max_enqueued_tokens=30)
    server.service.retrieve(server.batches[0])
    table = bf.status(jobs, client=server.client())
    kinds = {name: str(kind) for name, kind in table.dtypes.items()}
    assert list(table["shard"]) == [f"reviews-0000{n}.jsonl" for n in (1, 2, 3)]
    assert list(table["status"]) == ["finalizing", "waiting", "waiting"]
    assert list(table["total"].fillna(-1)) == [2, -1, -1]
    assert table["age"].iloc[0] >= pd.Timedelta(0)
    assert table["expires"].iloc[0] > pd.Timestamp.now(tz="UTC") + pd.Timedelta("23h")
    assert table[["batch_id", "age", "expires"]].iloc[1].isna().all()
    assert kinds["total"] == kinds["completed"] == kinds["failed"] == "Int64"
    assert kinds["age"] == "timedelta64[s]"
    assert kinds["expires"] == "datetime64[s, UTC]"
    rows = job_rows(refreshed(jobs, client=server.client()))
    assert [list(row) for row in rows] == [list(table)] * 3
    assert (rows[1]["total"], rows[1]["age"], rows[1]["expires"]) == (None, None, None)
    assert rows[0]["expires"] == table["expires"].iloc[0]
    assert steps() == ["begun"] * 3 + ["uploaded", "creating", "created"], "nothing is noted"


def test_cancel_takes_what_waits_from_the_queue(server: BatchServer) -> None:
    """A shard that was not sent never will be, unless it is submitted again."""
    jobs = bf.submit(save(), client=server.client(), max_enqueued_tokens=1)
    jobs = bf.cancel(jobs, client=server.client())
    assert [job.status for job in jobs] == ["cancelling", "cancelled", "cancelled"]
    assert [job.status for job in wait(jobs, server)] == ["cancelled"] * 3
    assert len(server.batches) == 1
    jobs = bf.submit(save(), client=server.client())
    assert [job.batch_id is not None for job in jobs] == [True] * 3
    assert len(server.batches) == 3


def test_cancel_of_what_has_just_ended(server: BatchServer) -> None:
    """A batch that ends before the word reaches the service is as it is."""
    jobs = bf.submit(save(per_shard=6), client=server.client())
    server.when("POST /batches/{id}/cancel", "asked", server.finish)
    [job] = bf.cancel(jobs, client=server.client())
    assert job.status == "completed"


@pytest.mark.parametrize("was_made", [True, False])
def test_cancel_finds_out_what_an_interrupted_submit_did(
    server: BatchServer, was_made: bool
) -> None:
    """Where nobody knows whether there is a batch, it is looked for, and cancelled if there."""
    [shard] = save(per_shard=6)
    server.when("POST /batches", "done" if was_made else "asked", drop)
    server.when("GET /batches", "asked", reply(401))
    with pytest.raises(openai.AuthenticationError):
        bf.submit(shard, client=server.client())
    [job] = bf.cancel(bf.load_jobs("."), client=server.client())
    assert len(server.batches) == was_made
    assert (job.batch_id, job.status) == (
        (server.batches[0].id, "cancelling") if was_made else (None, "cancelled")
    )
    [again] = bf.submit(shard, client=server.client())
    assert len(server.batches) == 1
    assert again.batch_id == server.batches[0].id


def test_cancel_passes_a_refusal_on(server: BatchServer) -> None:
    """Not every no to a cancellation means that the batch has ended."""
    server.settings.polls = None
    jobs = bf.submit(save(per_shard=6), client=server.client())
    for status, kind in ((400, openai.BadRequestError), (403, openai.PermissionDeniedError)):
        server.when("POST /batches/{id}/cancel", "asked", reply(status))
        with pytest.raises(kind):
            bf.cancel(jobs, client=server.client())
