"""Wait for batches, and send those that wait for their turn."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import openai
import pytest

import batch_frames as bf
from batch_frames.batches import send
from batch_frames.batches.replies import batch_facts
from batch_frames.files.job import Jobs
from batch_frames.files.record import Record
from batch_frames.requests import tokens
from tests.service.server import BatchServer, reply
from tests.support.jobs import ids, save, save_lines, steps, wait

pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.parametrize("limit", [100, 130])
def test_shards_above_the_token_limit_wait_their_turn(server: BatchServer, limit: int) -> None:
    """What the service refuses for its token limit is sent again as others end."""
    shards = save(count=12)
    server.settings.enqueued_tokens = limit
    jobs = wait(bf.submit(shards, client=server.client()), server, timeout=60)
    assert [job.status for job in jobs] == ["completed"] * 6
    server.finish()
    assert sum(batch.paid for batch in server.batches) == 12
    assert any(batch.errors for batch in server.batches)
    assert len(server.uploads) == 6, "the uploads are used again"
    assert ids(bf.download(jobs, client=server.client())) == Counter(f"r{n}" for n in range(12))


def test_the_token_limit_may_be_taken_by_others(server: BatchServer) -> None:
    """With nothing of ours under way, a refused shard is tried again after a while."""
    [shard] = save(per_shard=6)
    server.settings.enqueued_tokens = 1
    jobs = bf.submit(shard, client=server.client())
    with pytest.raises(bf.WaitTimeout):
        wait(jobs, server, timeout=0.2)
    assert list(bf.status(jobs, client=server.client())["status"]) == ["waiting"]
    server.settings.enqueued_tokens = None
    [job] = wait(bf.submit(shard, client=server.client()), server)
    assert job.status == "completed"


@pytest.mark.parametrize("is_counted", [True, False])
def test_fewer_are_sent_at_once_when_a_limit_is_given(
    server: BatchServer, monkeypatch: pytest.MonkeyPatch, is_counted: bool
) -> None:
    """Tokens are counted as by estimate, or four bytes are one; wait sends what is beyond."""
    shards = save(count=12)
    each = shards[0].nbytes // 4
    send._counted_tokens.cache_clear()
    if is_counted:
        each = int(bf.estimate(shards, prices={"m": (1, 1)})["input_tokens"].iloc[0])
    else:
        monkeypatch.setitem(sys.modules, "bpe_openai", None)
        tokens._tokenizer.cache_clear()
    limit = 2 * each + 2
    jobs = bf.submit(shards, client=server.client(), max_enqueued_tokens=limit)
    assert [job.batch_id is not None for job in jobs] == [True] * 2 + [False] * 4
    server.settings.enqueued_tokens = 2 * (shards[0].nbytes // 4) + 5
    jobs = wait(bf.load_jobs("reviews.jsonl"), server)
    assert [job.status for job in jobs] == ["completed"] * 6
    assert len(server.batches) == 6
    counts = {job.counted_tokens for job in bf.load_jobs("reviews.jsonl")}
    assert counts == {each if is_counted else None}


def test_what_has_no_countable_tokens_counts_by_its_bytes(server: BatchServer) -> None:
    """Of a request with an image, four bytes are a token."""
    image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    body = {"model": "m", "messages": [{"role": "user", "content": [image]}]}
    path = save_lines("a.jsonl", {}, {"body": body})
    [text, other] = path.read_bytes().splitlines(keepends=True)
    [job] = bf.submit(path, client=server.client(), max_enqueued_tokens=1_000)
    Path("b.jsonl").write_bytes(text)
    known = bf.estimate("b.jsonl", prices={"m": (1, 1)})["input_tokens"].iloc[0]
    assert job.counted_tokens == known + len(other) // 4


def test_a_large_shard_does_not_keep_submit_from_returning(server: BatchServer) -> None:
    """The first shard that does not fit waits, and those after it, though one of them would fit."""
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi " * 900}]}
    changes: list[dict[str, object]] = [{"custom_id": "a"}, {"body": body}, {"custom_id": "c"}]
    paths = [save_lines(f"{n}.jsonl", change) for n, change in enumerate(changes)]
    jobs = bf.submit(paths, client=server.client(), max_enqueued_tokens=500)
    assert [job.status for job in jobs] == ["validating", "waiting", "waiting"]
    assert [job.status for job in wait(jobs, server)] == ["completed"] * 3


def test_a_shard_above_the_limit_alone_is_sent_alone(server: BatchServer) -> None:
    """A limit below the smallest shard sends one after the other."""
    jobs = bf.submit(save(), client=server.client(), max_enqueued_tokens=1)
    assert sum(job.batch_id is not None for job in jobs) == 1
    assert [job.status for job in wait(jobs, server)] == ["completed"] * 3


def test_another_limit_holds_from_the_next_submit_on(server: BatchServer) -> None:
    """Waiting shards go by what was said last."""
    jobs = bf.submit(save(), client=server.client(), max_enqueued_tokens=1)
    assert sum(job.batch_id is not None for job in jobs) == 1
    jobs = bf.submit(save(), client=server.client())
    assert all(job.batch_id for job in jobs)


def test_null_counts_and_unknown_statuses_break_nothing(server: BatchServer) -> None:
    """What a compatible service leaves out or calls by another name is waited through."""
    server.settings.null_counts = True
    server.settings.renamed = {"in_progress": "warming_up", "completed": "COMPLETED"}
    jobs = bf.submit(save(), client=server.client())
    first = bf.status(jobs, client=server.client())
    assert list(first["status"]) == ["warming_up"] * 3
    assert first[["total", "completed", "failed"]].isna().all(axis=None)
    jobs = wait(jobs, server)
    assert [(job.status, job.completed) for job in jobs] == [("completed", None)] * 3
    assert "Jobs: 3 batches" in Jobs(jobs)._repr_html_()


def test_a_wait_that_takes_too_long(server: BatchServer) -> None:
    """It ends with what goes on and how to go on, and without harm."""
    server.settings.endings["reviews-00002.jsonl"] = "in_progress"
    jobs = bf.submit(save(), client=server.client())
    with pytest.raises(bf.WaitTimeout) as caught:
        wait(jobs, server, timeout=1.5)
    assert str(caught.value) == (
        "1 of 3 batches still running after 1.5 seconds, 'reviews-00002.jsonl' is 'in_progress'; "
        'to continue, call bf.wait(bf.load_jobs("reviews.jsonl"))'
    )
    assert caught.value.batch_id == jobs[1].batch_id
    assert isinstance(caught.value, TimeoutError)
    with pytest.raises(bf.JobError) as unfinished:
        bf.download(jobs, client=server.client())
    assert str(unfinished.value) == (
        "1 batch is still running, 'reviews-00002.jsonl' is 'in_progress'; wait for them first"
    )
    assert sorted(path.name for path in Path().glob("*.output.jsonl")) == [
        "reviews-00001.output.jsonl",
        "reviews-00003.output.jsonl",
    ]
    del server.settings.endings["reviews-00002.jsonl"]
    assert [job.status for job in wait(jobs, server)] == ["completed"] * 3


def test_waiting_needs_no_lock(server: BatchServer) -> None:
    """While another process has the jobs, the batches are followed to their end."""
    jobs = bf.submit(save(), client=server.client())
    before = steps()
    with ExitStack() as stack:
        for job in jobs:
            stack.enter_context(Record(Path()).locked(job))
        assert [job.status for job in wait(jobs, server)] == ["completed"] * 3
        assert steps() == before
    assert len(bf.download(jobs, client=server.client())) == 3


@pytest.mark.parametrize(
    ("route", "said"),
    [
        (
            "GET /batches/{id}",
            "interrupted: the batches are still running; to continue, call "
            'bf.wait(bf.load_jobs("reviews.jsonl"))',
        ),
        ("POST /batches", "interrupted: what was sent is noted; to continue, submit again"),
    ],
)
def test_an_interrupt_says_how_to_go_on(server: BatchServer, route: str, said: str) -> None:
    """Control-C ends a verb as it ends anything else, after a word on how to go on."""
    save()
    server.when(route, "done", lambda: os.kill(os.getpid(), signal.SIGINT), after=1)
    with pytest.raises(KeyboardInterrupt) as caught:
        wait(bf.submit("reviews-*.jsonl", client=server.client()), server)
    assert caught.value.__notes__ == [said]
    jobs = wait(bf.submit("reviews-*.jsonl", client=server.client()), server)
    assert [job.status for job in jobs] == ["completed"] * 3
    assert len(server.batches) == 3


def test_progress_shows_requests_and_statuses(
    server: BatchServer, capfd: pytest.CaptureFixture[str]
) -> None:
    """Bars say what is going on, and what holds it up."""
    jobs = bf.submit(save(), client=server.client(), progress=True)
    server.when("GET /batches/{id}", "asked", reply(503), after=3)
    bf.download(wait(jobs, server, progress=True), client=server.client(), progress=True)
    shown = capfd.readouterr().err
    for text in ("submit: 100%", "wait: 100%", "6/6", "3 completed", "asking again", "download:"):
        assert text in shown
    bf.submit(save("b.jsonl", text="Sing {}."), client=server.client(), progress=False)
    assert capfd.readouterr().err == ""


def test_counts_alone_do_not_fill_the_record(server: BatchServer) -> None:
    """A batch that runs for a day is noted when its status changes, not at every look."""
    server.settings.polls = 25
    [job] = wait(bf.submit(save(per_shard=6), client=server.client()), server)
    assert (job.status, job.completed) == ("completed", 6)
    assert server.requests_log.count("GET /batches/{id}") == 75
    assert steps() == ["begun", "uploaded", "creating", "created", *["status"] * 3]
    assert bf.load_jobs("reviews.jsonl") == [job]


@pytest.mark.parametrize("poll", [0, -1, float("nan")])
def test_looks_need_pauses(poll: float) -> None:
    """Without a pause between two looks, a service would be asked for ever in a hot loop."""
    with pytest.raises(ValueError) as caught:
        bf.wait([], poll=poll)
    assert str(caught.value) == f"poll must be a number of seconds above 0, not {poll!r}"


def test_a_shard_that_cannot_be_sent_meanwhile_is_sent_later(server: BatchServer) -> None:
    """While others are followed, a service that refuses uploads is asked again at the next look."""
    jobs = bf.submit(save(), client=server.client(), max_enqueued_tokens=1)
    server.when("POST /files", "asked", reply(503), times=8)
    assert [job.status for job in wait(jobs, server, timeout=60)] == ["completed"] * 3
    shards = save("b.jsonl", text="Sing {}.")
    jobs = bf.submit(shards, client=server.client(), max_enqueued_tokens=1)
    server.when("POST /files", "asked", reply(403))
    with pytest.raises(openai.PermissionDeniedError):
        wait(jobs, server)


def test_a_waiting_shard_that_changes_is_not_sent(server: BatchServer) -> None:
    """What is sent is what was submitted; a changed file can be submitted again."""
    jobs = bf.submit(save(), client=server.client(), max_enqueued_tokens=1)
    save_lines("reviews-00003.jsonl", {"custom_id": "x"})
    with pytest.raises(bf.BatchFramesError) as caught:
        wait(jobs, server)
    assert str(caught.value) == (
        "'reviews-00003.jsonl' has changed while it waited to be sent; submit it again"
    )
    jobs = wait(bf.submit("reviews-*.jsonl", client=server.client()), server)
    assert ids(bf.download(jobs, client=server.client())) == Counter(["r0", "r1", "r2", "r3", "x"])


def test_a_record_that_is_gone(server: BatchServer) -> None:
    """Jobs without their record cannot be followed."""
    jobs = bf.submit(save(), client=server.client())
    shutil.rmtree(".batch_frames")
    with pytest.raises(bf.BatchFramesError) as caught:
        wait(jobs, server)
    assert str(caught.value) == (
        "'reviews-00001.jsonl' is not in the record '.batch_frames'; submit it first"
    )


def test_what_another_process_cancels_is_waited_for_no_more(server: BatchServer) -> None:
    """A shard that was refused, and is cancelled elsewhere, ends a wait that goes on meanwhile."""
    shards = save(count=4)
    server.settings.endings["reviews-00001.jsonl"] = "in_progress"
    server.settings.enqueued_tokens = shards[0].nbytes // 4 + 1
    jobs = bf.submit(shards, client=server.client())
    client = server.client()

    def cancel() -> None:
        while bf.load_jobs("reviews.jsonl")[1].status != "failed":
            time.sleep(0.01)
        for job in reversed(bf.load_jobs("reviews.jsonl")):
            bf.cancel(job, client=client)

    thread = threading.Thread(target=cancel)
    thread.start()
    jobs = wait(jobs, server, timeout=60)
    thread.join()
    assert [job.status for job in jobs] == ["cancelled"] * 2
    assert bf.load_jobs("reviews.jsonl")[1].status == "cancelled"


def test_old_news_do_not_undo_what_another_process_noted(server: BatchServer) -> None:
    """What was heard of a batch before another process cancelled its shard is not noted."""
    [job] = bf.submit(save(per_shard=6), client=server.client())
    server.settings.enqueued_tokens = 1
    client = server.client()

    def cancel() -> None:
        facts = batch_facts(client.batches.retrieve(server.batches[0].id))
        record = Record(Path())
        with record.locked(job) as known:
            noted = record.note(known, "status", **facts)
            record.note(noted, "withdrawn", status="cancelled", batch_id=None, errors=())

    server.when("GET /batches/{id}", "done", cancel)
    [found] = wait(job, server, timeout=60)
    assert found.status == "cancelled"
    assert bf.load_jobs("reviews.jsonl") == [found]


def test_a_shard_that_is_never_taken_is_given_up(server: BatchServer) -> None:
    """Above the limit alone, a shard is tried some times, once all the others have ended."""
    large = save_lines("reviews-00001.jsonl", *[{}] * 9)
    others = [save_lines(f"reviews-0000{n}.jsonl", {"custom_id": f"x{n}"}) for n in (2, 3)]
    server.settings.enqueued_tokens = 1
    jobs = bf.submit([large, *others], client=server.client())

    def raise_limit() -> None:
        server.settings.enqueued_tokens = large.stat().st_size // 4 - 1

    server.when("POST /batches", "asked", raise_limit)
    with pytest.raises(bf.JobError) as caught:
        wait(jobs, server, timeout=60)
    last = server.batches[-1]
    assert str(caught.value) == (
        "refused 5 times with none of these batches running: reviews-00001.jsonl: "
        f"{last.errors[0]['message']} [token_limit_exceeded]; wait again once others have ended, "
        "or save smaller files with limits=bf.Limits(nbytes=…)"
    )
    assert (caught.value.batch_id, caught.value.status) == (last.id, "failed")
    assert [error["shard"] for error in caught.value.errors] == ["reviews-00001.jsonl"]
    jobs = bf.load_jobs("reviews.jsonl")
    assert [job.state for job in jobs] == ["waiting", "completed", "completed"]


def test_the_ends_of_batches_are_known_by_other_spellings(server: BatchServer) -> None:
    """A batch that succeeded is completed, and one that is canceled is cancelled."""
    server.settings.renamed = {"completed": "Succeeded", "cancelled": "canceled"}
    first, second = bf.submit(save(count=4), client=server.client())
    bf.cancel(second, client=server.client())
    jobs = wait([first, second], server, timeout=60)
    assert [job.status for job in jobs] == ["completed", "cancelled"]
