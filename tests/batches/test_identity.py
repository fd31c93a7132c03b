"""Nothing is paid twice, whatever becomes of replies, names, orders and processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import pytest

import batch_frames as bf
from batch_frames.batches import local, send
from batch_frames.errors import BatchFramesWarning
from batch_frames.files import Record
from tests.service.server import BatchServer, drop, reply, sleep
from tests.support.identity import (
    SECOND,
    answers,
    ask,
    content,
    fetch,
    frame,
    paid,
    prompts,
    run,
    shorten,
    submit,
)
from tests.support.marks import slow

CREATE = "POST /batches"


def interrupt() -> None:
    """Press Ctrl-C, and keep the reply back for a moment."""
    os.kill(os.getpid(), signal.SIGINT)
    sleep(0.1)()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder."""
    return shorten(monkeypatch, tmp_path)


# A1: a create of which the end is not known


CREATES = [
    (end, seconds, lag) for end in ("drop", "504") for seconds in (0, 8, 20) for lag in (3, 9, 40)
]
QUICK = [("drop", 0, 40), ("drop", 20, 3), ("504", 8, 9), ("504", 20, 40)]


@pytest.mark.parametrize(
    ("end", "seconds", "lag"), [case if case in QUICK else slow(*case) for case in CREATES]
)
def test_a_slow_create_is_not_paid_twice(
    server: BatchServer, end: str, seconds: int, lag: int
) -> None:
    """However long the call took, its batch is looked for until a minute after its end."""
    server.settings.list_lag = lag * SECOND
    server.when(CREATE, "asked", sleep(seconds * SECOND))
    server.when(CREATE, "done", drop if end == "drop" else reply(504))
    [job] = submit(ask("a.jsonl"), server)
    assert [batch.id for batch in server.batches] == [job.batch_id]
    assert content(fetch(job, server)) == answers()
    assert paid(server) == 4


def test_a_create_that_was_interrupted_is_not_paid_twice(server: BatchServer) -> None:
    """Ctrl-C after six seconds of a call of eight, and submitted again at once."""
    server.settings.list_lag = 5 * SECOND

    def interrupt() -> None:
        time.sleep(0.15)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)

    server.when(CREATE, "asked", interrupt)
    shards = ask("a.jsonl")
    with pytest.raises(KeyboardInterrupt):
        submit(shards, server)
    jobs = submit(shards, server)
    assert len(server.batches) == 1
    assert content(fetch(jobs, server)) == answers()


def test_a_clock_that_jumps_pays_nothing_twice(server: BatchServer) -> None:
    """The time in the record may be an hour back by the clock of the next process."""
    server.settings.list_lag = 30 * SECOND
    server.when(CREATE, "done", interrupt)
    shards = ask("a.jsonl")
    with pytest.raises(KeyboardInterrupt):
        submit(shards, server)
    for path in [*Path(".batch_frames/jobs").glob("*.json"), *Path().glob("*.jobs.jsonl")]:
        text = path.read_text()
        for fact in ("tried_at", "retried_at"):
            known = json.loads(text).get(fact) if path.suffix == ".json" else None
            text = text.replace(known, "2026-01-01T00:00:00.000+00:00") if known else text
        path.write_text(text)
    submit(shards, server)
    assert len(server.batches) == 1


def test_other_shards_go_on_while_a_batch_is_looked_for(server: BatchServer) -> None:
    """The minute of one shard holds up no other."""
    server.settings.list_lag = 20 * SECOND
    server.when(CREATE, "done", drop)
    submit(ask("a.jsonl", "abcdef", per_shard=2), server)
    assert len(server.batches) == 3
    assert paid(server) == 6
    found = server.requests_log.index("GET /batches")
    assert server.requests_log[:found].count(CREATE) == 3


def test_a_create_that_was_never_made_is_made_once_more(server: BatchServer) -> None:
    """After the minute without a batch in the list, there is another try."""
    server.when(CREATE, "asked", drop)
    jobs = submit(ask("a.jsonl"), server)
    assert content(fetch(jobs, server)) == answers()
    assert paid(server) == 4


# Hosts that share a folder

WITHOUT_LOCKS = """
import sys
from contextlib import nullcontext

from openai import OpenAI

import batch_frames as bf
from batch_frames.batches import client, send
from batch_frames.files import documents, record

documents.locked = record.locked = lambda *given, **how: nullcontext(lambda: None)
send.SETTLE, client.FIRST_PAUSE = 1.2, 0.01
verb, url = sys.argv[1:]
with OpenAI(base_url=url, api_key="test") as api:
    if verb == "submit":
        jobs = bf.submit("a-*.jsonl", client=api, progress=False)
    else:
        jobs = bf.wait(bf.load_jobs("a.jsonl"), client=api, poll=0.01, progress=False)
print(*(job.batch_id for job in jobs))
"""


def send_from_two_hosts(server: BatchServer, verb: str) -> list[str]:
    """Let two processes that no lock keeps apart upload the same shard at once, and go on."""
    both_upload = threading.Barrier(2)
    server.when("POST /files", "asked", lambda: both_upload.wait(30), times=2)
    script = [sys.executable, "-W", "ignore", "-c", WITHOUT_LOCKS, verb, server.url]
    path = str(Path(bf.__file__).parents[1])
    hosts = [
        subprocess.Popen(
            script, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
        )
        for _ in range(2)
    ]
    told = [host.communicate(timeout=50)[0] for host in hosts]
    assert [host.returncode for host in hosts] == [0, 0]
    return told


@pytest.mark.parametrize("seconds", [slow(0), 0.3])
def test_of_two_hosts_one_creates_each_batch(server: BatchServer, seconds: float) -> None:
    """Where locks do not hold, what is created exclusively decides; the other finds the batch."""
    server.settings.list_lag = 0.2
    server.when(CREATE, "asked", sleep(seconds))
    ask("a.jsonl", per_shard=2)
    first, second = send_from_two_hosts(server, "submit")
    assert first == second
    assert sorted(first.split()) == sorted(batch.id for batch in server.batches)
    assert len(server.batches) == 2
    assert content(fetch(bf.load_jobs("a.jsonl"), server)) == answers()
    assert paid(server) == 4


def test_two_hosts_that_send_a_shard_again_have_one_token(server: BatchServer) -> None:
    """Both begin from the same document, so that one of them creates the new batch."""
    [job] = submit(ask("a.jsonl"), server)
    one, two = (send.send_again(Record(Path()), job) for _ in range(2))
    assert one.token == two.token != job.token


# A2, A3, U2: retries


def test_a_retry_leaves_out_what_waits_for_its_turn(server: BatchServer) -> None:
    """Requests of a shard that is waiting are not missing: they will be asked."""
    shards = ask("a.jsonl", per_shard=2)
    jobs = submit(shards, server, max_enqueued_tokens=1)
    assert [job.batch_id is None for job in jobs] == [False, True]
    first = bf.wait(jobs[:1], client=server.client(), poll=0.005)
    results = bf.read_results(bf.download(first, client=server.client()), requests=shards)
    with pytest.warns(BatchFramesWarning, match="left out the requests of"):
        again = bf.retry_requests(shards, results)
    assert again == []
    assert content(fetch(jobs, server)) == answers()
    assert paid(server) == 4


def failed_twice(server: BatchServer) -> tuple[list[bf.Shard], list[bf.Shard]]:
    """Ask two sets of requests that all fail, and save nothing else."""
    a, b = ask("a.jsonl", "abcd"), ask("b.jsonl", "efgh")
    server.settings.fail_every = 1
    fetch(submit([*a, *b], server), server)
    server.settings.fail_every = None
    return a, b


@pytest.mark.parametrize("second", ["reordered", "alone", "path"])
def test_a_round_in_flight_is_found_in_any_order_and_under_any_name(
    server: BatchServer, second: str
) -> None:
    """What a retry has in flight is not written again, however the files are named."""
    a, b = failed_twice(server)
    results = bf.read_results(["a.errors.jsonl", "b.errors.jsonl"])
    path = "again.jsonl" if second == "path" else None
    round1 = bf.retry_requests([*a, *b], results, path)
    submit(round1, server)
    given = {"reordered": [*b, *a], "alone": b, "path": a}[second]
    with pytest.warns(BatchFramesWarning, match="left out the requests of"):
        round2 = bf.retry_requests(given, results)
    assert round2 in ([], round1)
    submit(round2 or round1, server)
    assert paid(server) == 8


def test_requests_in_flight_cannot_be_submitted_in_another_file(server: BatchServer) -> None:
    """A file put together by hand holds the same requests, and is refused."""
    shards = ask("a.jsonl")
    submit(shards, server)
    lines = shards[0].path.read_bytes().splitlines(keepends=True)
    Path("mine.jsonl").write_bytes(b"".join(lines[:2]))
    with pytest.raises(bf.BatchFramesError, match=r"2 of 2 requests of 'mine.jsonl' may still be"):
        submit("mine.jsonl", server)
    assert paid(server) == 4


def test_answered_requests_cannot_be_submitted_in_another_file(server: BatchServer) -> None:
    """A grown table under another name is refused here, and sent whole in another folder."""
    [job] = submit(ask("a.jsonl"), server)
    fetch([job], server)
    grown = ask("b.jsonl", "abcdef")
    with pytest.raises(bf.BatchFramesError) as caught:
        submit(grown, server)
    assert str(caught.value) == (
        f"4 of 6 requests of 'b.jsonl' were answered in 'a.jsonl' ({job.batch_id}); "
        f"retry_requests writes what is left; in another folder, all are asked again"
    )
    assert paid(server) == 4
    Path("other").mkdir()
    submit(ask("other/b.jsonl", "abcdef"), server)
    assert paid(server) == 10
    submit(bf.retry_requests(grown, []), server)
    assert prompts(server) == Counter({f"Say {one}": 2 for one in "abcdef"})


@pytest.mark.filterwarnings("ignore:.*retry_requests writes them again")
def test_a_retry_loop_with_the_last_results_ends_and_pays_nothing_twice(
    server: BatchServer,
) -> None:
    """`while again := retry_requests(shards, results)` asks only what has no answer."""
    shards = ask("a.jsonl", "abcdefgh")
    fails = {"Say g": 2, "Say h": 1}
    asked: Counter[str] = Counter()

    def answer(body: dict[str, object]) -> tuple[int, object]:
        messages = body["messages"]
        assert isinstance(messages, list)
        prompt = messages[-1]["content"]
        asked[prompt] += 1
        if asked[prompt] <= fails.get(prompt, 0):
            return 500, {"error": {"message": "no"}}
        choice = {"index": 0, "message": {"role": "assistant", "content": "yes"}}
        return 200, {"choices": [{**choice, "finish_reason": "stop"}], "model": "m"}

    server.settings.answer = answer
    results, rounds = run(shards, server), 0
    while again := bf.retry_requests(shards, results):
        rounds += 1
        assert rounds < 5
        results = run(again, server)
    assert rounds == 2
    assert sum(asked.values()) == 8 + 2 + 1
    assert paid(server) == 8


# A4: a batch that failed with answers


def test_a_batch_that_failed_with_answers_is_paid_once(server: BatchServer) -> None:
    """Its answers are downloaded, and it is not submitted again."""
    server.settings.endings = {"a.jsonl": "failed"}
    shards = ask("a.jsonl")
    for _ in range(3):
        results = run(shards, server)
        assert dict(zip(results["custom_id"], results["content"], strict=True)) == answers()
    assert len(server.batches) == 1
    assert paid(server) == 4


def test_a_batch_that_failed_after_it_began_is_not_sent_again(server: BatchServer) -> None:
    """The service may have answered what it does not count."""
    server.settings.endings = {"a.jsonl": "failed"}
    server.settings.null_counts = True
    shards = ask("a.jsonl")
    jobs = submit(shards, server)
    server.finish()
    server.batches[0].output_file_id = None
    bf.wait(jobs, client=server.client(), poll=0.005)
    submit(shards, server)
    assert len(server.batches) == 1


# A5, A6: live requests


def test_live_requests_leave_alone_what_waits_for_its_batch(server: BatchServer) -> None:
    """A shard that is waiting is asked by its batch only."""
    shards = ask("a.jsonl", per_shard=2)
    jobs = submit(shards, server, max_enqueued_tokens=1)
    with pytest.raises(bf.BatchFramesError, match=r"2 of 2 requests of 'a-00002.jsonl' may still"):
        bf.run_local(shards[1], client=server.client())
    fetch(jobs, server)
    assert paid(server) == 4


def test_live_requests_leave_alone_what_may_have_a_batch(server: BatchServer) -> None:
    """After a create whose reply was lost, the batch may exist."""
    server.settings.list_lag = 30 * SECOND
    server.when(CREATE, "done", interrupt)
    shards = ask("a.jsonl")
    with pytest.raises(KeyboardInterrupt):
        submit(shards, server)
    with pytest.raises(bf.BatchFramesError, match=r"4 of 4 requests of 'a.jsonl' may still"):
        bf.run_local(shards, client=server.client())
    fetch(submit(shards, server), server)
    assert paid(server) == 4


def test_a_shard_that_was_answered_live_is_not_submitted(server: BatchServer) -> None:
    """Its answers are there, and to move them away is how one asks once more."""
    shards = ask("a.jsonl")
    [path] = bf.run_local(shards, client=server.client())
    with pytest.raises(bf.BatchFramesError) as error:
        submit(shards, server)
    assert str(error.value) == (
        "4 of 4 requests of 'a.jsonl' are answered in 'a.local.output.jsonl'; "
        "retry_requests writes what is left, or move that file away to ask all again"
    )
    assert bf.retry_requests(shards) == []
    assert not server.requests_log.count(CREATE)
    assert content(path) == answers()
    Path("moved").mkdir()
    path.rename(f"moved/{path.name}")
    assert content(fetch(submit(shards, server), server)) == answers()
    assert paid(server) == 8


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_requests_of_a_damaged_document_are_not_sent_under_another_name(
    server: BatchServer, text: str
) -> None:
    """What it does not tell any more may have been paid for; others are sent."""
    fetch(submit(ask("a.jsonl"), server), server)
    [document] = Path(".batch_frames/jobs").glob("*.json")
    document.write_text(text)
    with pytest.raises(bf.LineError, match=f"{document}: not a document of the record; "):
        submit(ask("b.jsonl", "cdef"), server)
    with pytest.warns(BatchFramesWarning, match="not a document of the record"):
        submit(ask("c.jsonl", "ef"), server)
    assert paid(server) == 6


def test_live_answers_to_earlier_prompts_are_not_paid_again(server: BatchServer) -> None:
    """They are kept when prompts change, and count once the old prompts are back."""
    old, options = frame("ab", "Old {}"), {"id_column": "id", "prompt_column": "p", "model": "m"}
    bf.run_local(ask("a.jsonl", "ab", "Old {}"), client=server.client())
    bf.run_local(ask("a.jsonl", "ab", "New {}"), client=server.client())
    rated = run(old, server, "a.jsonl", **options)
    assert rated["content"].tolist() == ["You said: Old a", "You said: Old b"]
    with pytest.raises(
        bf.BatchFramesError, match=r"are answered in '\.a\.local\.output\.jsonl\.old'"
    ):
        submit(ask("b.jsonl", "ab", "Old {}"), server)
    assert paid(server) == 4


def test_what_a_trial_has_answered_is_left_out_of_the_batch(server: BatchServer) -> None:
    """Under whatever name it was tried; the answers are read together."""
    bf.run_local(ask("trial.jsonl"), client=server.client(), limit=3)
    shards = ask("a.jsonl", per_shard=2)
    with pytest.raises(bf.BatchFramesError, match=r"^2 of 2 requests of 'a-00001.jsonl' are ans"):
        submit(shards, server)
    rest = bf.retry_requests(shards)
    fetch(submit(rest, server), server)
    assert prompts(server) == {"Say d": 1}
    results = bf.read_results(requests=shards)
    assert dict(zip(results["custom_id"], results["content"], strict=True)) == answers()
    assert paid(server) == 4
    again = bf.retry_requests(shards, path="again.jsonl", statuses="ok")
    submit(again, server)
    assert paid(server) == 8


def test_a_shard_that_is_being_answered_live_is_not_submitted(server: BatchServer) -> None:
    """The answers that are still to come count, too."""
    shards = ask("a.jsonl")
    said: list[str] = []

    def submit_meanwhile() -> None:
        with pytest.raises(bf.BatchFramesError) as error:
            submit(shards, server)
        said.append(str(error.value))

    server.when("POST /chat/completions", "asked", submit_meanwhile)
    bf.run_local(shards, client=server.client(), concurrency=1)
    assert said == [f"'a.jsonl' is being answered by process {os.getpid()}; wait for it to end"]
    assert paid(server) == 4


def test_a_shard_that_is_submitted_meanwhile_is_not_answered_live(
    server: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked at again when its turn has come."""
    shards = ask("a.jsonl")

    def submit_first(*_: object) -> nullcontext[None]:
        submit(shards, server)
        return nullcontext()

    monkeypatch.setattr(local, "interrupt_hint", submit_first)
    with pytest.raises(bf.BatchFramesError, match=r"4 of 4 requests of 'a.jsonl' may still"):
        bf.run_local(shards, client=server.client())
    assert paid(server) == 4


def test_a_last_answer_without_a_newline_is_kept(server: BatchServer) -> None:
    """A whole line is an answer, whether it is ended or not."""
    shards = ask("a.jsonl")
    [path] = bf.run_local(shards, client=server.client())
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    bf.run_local(shards, client=server.client())
    assert len(server.bodies) == 4
    assert content(path) == answers()


def test_answers_written_by_another_program_are_kept(server: BatchServer) -> None:
    """Its last line has no newline; what it answers is not asked."""
    lines = [
        json.dumps({"id": f"x{i}", "custom_id": i, "error": None, "response": {
            "status_code": 200, "request_id": "", "body": {"choices": [
                {"index": 0, "finish_reason": "stop",
                 "message": {"role": "assistant", "content": f"PAID {i}"}}]}}})
        for i in "abc"
    ]  # fmt: skip
    Path("a.output.jsonl").write_text("\n".join(lines))
    bf.run_local(ask("a.jsonl"), client=server.client())
    assert len(server.bodies) == 1
    found = content(sorted(Path().glob("a.*output.jsonl")))
    assert found == {**{i: f"PAID {i}" for i in "abc"}, "d": "You said: Say d"}


# A7: a kill in the middle of a commit

KILLED = """
import os, signal, sys
import batch_frames as bf, pandas as pd
from pathlib import Path
from itertools import count

def save(folder, text, n):
    f = pd.DataFrame({"id": [f"r{i}" for i in range(6)], "p": [text.format(i) for i in range(6)]})
    b = bf.from_dataframe(f, id_column="id", prompt_column="p", model="m")
    b.save_to_file(folder / "q.jsonl", limits=bf.Limits(requests=n))

for step in range(int(sys.argv[1])):
    folder = Path(str(step)); folder.mkdir()
    save(folder, "Old {}", 2)
    child = os.fork()
    if not child:
        done = count()
        def hook(event, arguments):
            if event in ("os.rename", "os.remove", "os.link") and next(done) == step:
                os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)
        save(folder, "New {}", 3)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_a_commit_that_was_killed_never_sends_a_mixed_set() -> None:
    """Whoever comes next finishes it: the set is the old one or the new one."""
    steps = 14
    script = [sys.executable, "-W", "ignore", "-c", KILLED, str(steps)]
    environment = {**os.environ, "PYTHONPATH": str(Path(bf.__file__).parents[1])}
    process = subprocess.run(script, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    told = process.stdout.split()
    assert told.count("-9") >= 4
    seen = set()
    for step in range(steps):
        with BatchServer() as server:
            submit(f"{step}/q-*.jsonl", server)
            sent = prompts(server)
        kinds = {prompt[:3] for prompt in sent}
        assert sent == Counter(f"{kinds.copy().pop()} {n}" for n in range(6)), step
        assert not [p.name for p in Path(str(step)).glob(".q.jsonl.*.tmp")] or kinds == {"Old"}
        seen |= kinds
    assert seen == {"Old", "New"}


# A8: two runs on one path


def test_two_runs_on_one_path_do_not_mix_answers(server: BatchServer) -> None:
    """A shard that waits is not replaced by one with other prompts; each has its own answers."""
    first = frame("ab").assign(p=["first", "ask A"])
    second = frame("ab").assign(p=["first", "ask B"])
    how = {"id_column": "id", "prompt_column": "p", "model": "m"}
    batch = bf.from_dataframe(first, **how)  # type: ignore[arg-type]
    shards = batch.save_to_file("q.jsonl", limits=bf.Limits(requests=1))
    jobs = submit(shards, server, max_enqueued_tokens=1)
    rated = run(second, server, "q.jsonl", limits=bf.Limits(requests=1), **how)
    assert list(rated["content"]) == ["You said: first", "You said: ask B"]
    assert paid(server) == 2
    assert content(fetch(jobs, server)) == {"a": "You said: first", "b": "You said: ask A"}
    assert paid(server) == 3


def test_jobs_follow_their_own_requests_whatever_the_file_holds(server: BatchServer) -> None:
    """A job is found by the bytes of its shard, not by the name."""
    shards = ask("a.jsonl", "ab", "One {}", per_shard=1)
    jobs = submit(shards, server, max_enqueued_tokens=1)
    Path("a-00002.jsonl").unlink()
    ask("b.jsonl", "b", "Two {}")[0].path.rename("a-00002.jsonl")
    with pytest.raises(bf.BatchFramesError, match=r"'a-00002\.jsonl' has changed while it waited"):
        bf.wait(jobs, client=server.client(), poll=0.005)
    assert prompts(server) == {"One a": 1}
