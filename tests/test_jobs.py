"""Submit, follow and download batches with a service that does what real ones do."""

from __future__ import annotations

import codecs
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, NoReturn

import openai
import pandas as pd
import pytest
from batch_server import BatchServer, drop, reply
from batch_values import OnDisk, Refusal

import batch_frames as bf
from batch_frames.batches import client as finding
from batch_frames.batches import client as service
from batch_frames.batches.client import batch_facts
from batch_frames.batches.job import Jobs
from batch_frames.batches.ledger import Ledger

ENDS = ("output.jsonl", "errors.jsonl")
ODD: list[dict[str, Any]] = [{}, {"error": {"message": "no"}}, {"id": "", "status": "completed"}]
"""What proxies answer with 200, and no service that speaks of batches does."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty folder, with short pauses and without a key."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(finding, "SETTLE", 0.05)
    monkeypatch.setattr(service, "FIRST_PAUSE", 0.01)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def save(
    name: str = "reviews.jsonl", count: int = 6, per_shard: int = 2, text: str = "Say {}."
) -> list[bf.Shard]:
    """Write request files with the ids r0, r1, …"""
    creator = bf.BatchCreator("m", None, system_prompt=None, seed=None)
    for number in range(count):
        creator.add_entry(f"r{number}", text.format(number))
    return creator.save_to_file(name, limits=bf.Limits(requests=per_shard))


def save_lines(name: str, *changes: dict[str, Any]) -> Path:
    """Write a request file by hand, each line with something changed."""
    path = Path(name)
    lines = []
    for number, change in enumerate(changes):
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
        request = {"custom_id": f"r{number}", "method": "POST", "url": "/v1/chat/completions"}
        lines.append(json.dumps({**request, "body": body, **change}) + "\n")
    path.write_text("".join(lines), encoding="utf-8")
    return path


def instead(body: dict[str, Any]) -> Callable[[], None]:
    """Make an action that answers with 200 and something of the test's own."""

    def action() -> NoReturn:
        refusal = Refusal(200, "")
        refusal.body = body
        raise refusal

    return action


def wait(jobs: Any, server: BatchServer, **options: Any) -> list[bf.Job]:
    """Wait without pauses."""
    return bf.wait(jobs, client=server.client(), poll=0.005, **options)


def ids(paths: list[Path]) -> Counter[str]:
    """Count the ids in result files."""
    lines = [line for path in paths for line in path.read_text("utf-8").splitlines()]
    return Counter(json.loads(line)["custom_id"] for line in lines)


def names(paths: list[Path]) -> list[str]:
    """Take the file names."""
    return [path.name for path in paths]


def events(name: str = "reviews.jobs.jsonl") -> list[str]:
    """List what a ledger says happened."""
    return [json.loads(line)["event"] for line in Path(name).read_text("utf-8").splitlines()]


# The straight way


def test_from_shards_to_results(server: BatchServer) -> None:
    """Each shard gets a batch, and each request comes back once."""
    server.settings.fail_every = 2
    shards = save()
    jobs = bf.submit(shards, client=server.client(), metadata={"project": "tea"})
    assert [job.batch_id for job in jobs] == [batch.id for batch in server.batches]
    assert [job.path for job in jobs] == [shard.path for shard in shards]
    assert {job.status for job in jobs} == {"validating"}
    for batch in server.batches:
        assert batch.metadata is not None
        assert batch.metadata.pop("batch_frames")
        assert batch.metadata == {"project": "tea"}
        assert batch.endpoint == "/v1/chat/completions"
    jobs = wait(jobs, server)
    assert [(job.status, job.completed, job.failed) for job in jobs] == [("completed", 1, 1)] * 3
    paths = bf.download(jobs, client=server.client())
    assert names(paths) == [f"reviews-0000{n}.{end}" for n in (1, 2, 3) for end in ENDS]
    assert ids(paths) == Counter(f"r{n}" for n in range(6))


def test_the_endpoint_and_the_settings_reach_the_service(server: BatchServer) -> None:
    """The endpoint is that of the file's lines, and what is given goes along."""
    batch = bf.from_dataframe(
        pd.DataFrame({"text": ["a"]}, index=["r0"]),
        prompt_column="text",
        model="m",
        endpoint="/v1/embeddings",
    )
    expiry = {"anchor": "created_at", "seconds": 3_600}
    jobs = bf.submit(
        batch.save_to_file("e.jsonl"), client=server.client(), output_expires_after=expiry
    )
    assert [b.endpoint for b in server.batches] == ["/v1/embeddings"]
    [job] = jobs
    assert job.settings.output_expires_after == expiry
    assert names(bf.download(wait(jobs, server), client=server.client())) == ["e.output.jsonl"]


def test_all_verbs_may_be_called_again(server: BatchServer) -> None:
    """Called again, nothing is sent, asked or fetched, and no client is needed any more."""
    shards = save()
    jobs = wait(bf.submit(shards, client=server.client()), server)
    paths = bf.download(jobs, client=server.client())
    ledger, log = Path("reviews.jobs.jsonl").read_bytes(), list(server.requests_log)
    assert bf.submit(shards) == jobs
    assert bf.wait(jobs) == jobs
    assert bf.download(bf.load_jobs("reviews.jsonl")) == paths
    assert list(bf.status(jobs)["status"]) == ["completed"] * 3
    assert bf.cancel(jobs) == jobs
    assert server.requests_log == log
    assert Path("reviews.jobs.jsonl").read_bytes() == ledger


def test_a_notebook_cell_may_run_again(server: BatchServer) -> None:
    """Saving the same requests while their batches run, and submitting them, does nothing."""
    jobs = bf.submit(save(), client=server.client())
    assert bf.submit(save(), client=server.client()) == jobs
    assert len(server.batches) == 3


def test_jobs_are_loaded_in_any_process(server: BatchServer) -> None:
    """A ledger, the name that was saved to, shards, a folder and globs all lead to the jobs."""
    shards = save("out/reviews.jsonl")
    jobs = bf.submit(shards, client=server.client())
    bf.download(wait(jobs, server), client=server.client())
    jobs = bf.load_jobs("out/reviews.jobs.jsonl")
    assert [job.batch_id for job in jobs] == [batch.id for batch in server.batches]
    ways: list[Any] = ["out/reviews.jsonl", "out", "out/*.jsonl", "out/*.jobs.jsonl"]
    ways += [shards, sorted(Path("out").glob("*.jsonl")), [Path("out"), "out/reviews.jsonl"]]
    assert [bf.load_jobs(way) for way in ways] == [jobs] * len(ways)
    assert bf.load_jobs(shards[1]) == jobs[1:2]
    assert bf.load_jobs("out/reviews-0000[12].jsonl") == jobs[:2]


@pytest.mark.parametrize(
    ("path", "kind", "text"),
    [
        ("nowhere.jsonl", FileNotFoundError, "no file 'nowhere.jsonl'; check the path"),
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


def test_several_names_have_several_ledgers(server: BatchServer) -> None:
    """Shards of two names in one call go by their own ledgers, and come back in order."""
    shards = save("b.jsonl") + save("a.jsonl")
    jobs = wait(bf.submit(shards, client=server.client()), server)
    assert [job.path for job in jobs] == [shard.path for shard in shards]
    assert len(bf.load_jobs("a.jsonl")) == len(bf.load_jobs("b.jsonl")) == 3
    assert len(server.batches) == 6, "the same content in another ledger is another matter"


def test_what_a_job_and_a_list_of_them_show(server: BatchServer) -> None:
    """A job is short, and a list draws a card that escapes what it shows."""
    server.settings.fail_every = 2
    jobs = bf.submit(save(), client=server.client(), max_enqueued_tokens=60)
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
    assert "title='waiting' style='width:66.7%" in card
    card = Jobs(wait(jobs, server))._repr_html_()
    for shown in ("<b>requests completed</b> 3", "<b>requests failed</b> 3", "output tokens"):
        assert shown in card
    with pytest.raises(AttributeError):
        jobs[0].status = "completed"  # type: ignore[misc]


def test_status_is_a_table(server: BatchServer) -> None:
    """There is one row per shard, with counts that may be missing, an age and an expiry."""
    jobs = bf.submit(save(), client=server.client(), max_enqueued_tokens=60)
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
    assert events() == ["intent"] * 3 + ["uploaded", "creating", "created"], "nothing is noted"


# What is a request file, and what has changed


def test_what_stands_beside_request_files_is_passed_over(server: BatchServer) -> None:
    """A glob, or a shell's expansion of one, may catch ledgers and results."""
    server.settings.fail_every = 2
    jobs = wait(bf.submit(save(), client=server.client()), server)
    bf.download(jobs, client=server.client())
    Path("reviews-00009.errors.jsonl").touch()
    Path("old.jsonl").write_text('{"custom_id":"a","response":{"status_code":200}}\n')
    assert bf.submit("*.jsonl") == jobs
    assert bf.submit(".") == jobs
    assert (
        bf.submit([path for path in sorted(Path().iterdir()) if path.name != "old.jsonl"]) == jobs
    )


def test_requests_under_a_results_name_are_requests(server: BatchServer) -> None:
    """The content decides, where a name could be either."""
    save("my.output.jsonl", per_shard=6)
    [job] = bf.submit("*.jsonl", client=server.client())
    assert job.path.name == "my.output.jsonl"


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.jsonl", "", "a.jsonl: there are no requests in it; write it anew"),
        ("a.jsonl", "\n", "a.jsonl: the first line is blank; write it anew"),
        ("a.jsonl", "{", "a.jsonl, line 1: not JSON"),
        (
            "a.jsonl",
            '{"custom_id":"a","response":null}',
            "a.jsonl, line 1: a result, not a request; pass the request files",
        ),
        (
            "a.jsonl",
            '{"model":"m"}',
            "a.jsonl, line 1: something else, not a request; pass the request files",
        ),
        (
            "a.jsonl",
            '{"custom_id":"a","body":{}}',
            "a.jsonl, line 1: the request has no 'url' that is text",
        ),
        ("a.csv", "id,text\n", "a.csv: not a .jsonl file, which the service wants"),
    ],
)
def test_a_file_that_holds_no_requests(name: str, content: str, text: str) -> None:
    """What is named and is no request file is refused, before a client is needed."""
    Path(name).write_text(content)
    with pytest.raises(bf.LineError) as caught:
        bf.submit(name)
    assert str(caught.value) == text


def test_a_glob_without_request_files(server: BatchServer) -> None:
    """Nothing to send is an error, not a success."""
    Path("a.output.jsonl").touch()
    with pytest.raises(FileNotFoundError) as caught:
        bf.submit("*.jsonl")
    assert str(caught.value) == "no request files in '*.jsonl'; check the path"


def test_a_shard_that_changed_is_an_error_that_names_it(server: BatchServer) -> None:
    """Other content under a submitted name is refused, and nothing of the set is sent."""
    jobs = wait(bf.submit(save(), client=server.client()), server)
    with pytest.warns(UserWarning, match="better save under another name"):
        shards = save(text="Sing {}.")
    with pytest.raises(bf.BatchFramesError) as caught:
        bf.submit(shards, client=server.client())
    assert str(caught.value) == (
        f"'reviews-00001.jsonl' has changed since it was submitted as {jobs[0].batch_id}; save it "
        "under another name (bf.download(bf.load_jobs('reviews.jobs.jsonl')) brings what it was "
        "answered)"
    )
    assert len(server.batches) == 3
    Path("reviews.jobs.jsonl").rename("old.jobs.jsonl")
    assert len(bf.submit(shards, client=server.client())) == 3
    assert len(server.batches) == 6


def test_saving_over_requests_in_flight_is_refused(server: BatchServer) -> None:
    """As long as a batch runs, its requests stay what they are, unless a user insists."""
    jobs = bf.submit(save(), client=server.client())
    before = {path: path.read_bytes() for path in Path().iterdir()}
    for change in ({"text": "Sing {}."}, {"count": 2}, {"per_shard": 6}):
        with pytest.raises(bf.BatchFramesError) as caught:
            save(**change)  # type: ignore[arg-type]
        number = 2 if change == {"count": 2} else 1
        shard = f"reviews-0000{number}.jsonl"
        assert str(caught.value) == (
            f"'{shard}' was submitted as {jobs[number - 1].batch_id} and has not ended; wait for "
            "it, save under another name, or pass overwrite=True"
        ), change
        assert {path: path.read_bytes() for path in Path().iterdir()} == before
    creator = bf.BatchCreator("m", None, system_prompt=None)
    creator.add_entry("a", "b")
    creator.save_to_file("reviews.jsonl", overwrite=True)
    assert [path.name for path in Path().glob("*.jsonl")] != []
    assert not Path("reviews-00001.jsonl").exists()


def test_saving_is_free_once_the_batches_have_ended(server: BatchServer) -> None:
    """What has ended no longer holds its request file, but its results stay with other requests."""
    jobs = wait(bf.submit(save(), client=server.client()), server)
    with pytest.warns(UserWarning, match="better save") as caught:
        assert len(save(text="Sing {}.")) == 3
    assert [str(one.message) for one in caught] == [
        f"'reviews-0000{n}.jsonl' was submitted as {job.batch_id} with other requests than now, "
        "and the results beside it answer those; better save under another name"
        for n, job in enumerate(jobs, 1)
    ]
    with pytest.warns(UserWarning, match="has changed") as caught:
        bf.download(jobs, client=server.client())
    assert [str(one.message) for one in caught] == [
        f"'reviews-0000{n}.jsonl' has changed since it was submitted as {job.batch_id}; the "
        "results answer what it asked then"
        for n, job in enumerate(jobs, 1)
    ]


def test_saving_more_keeps_what_is_in_flight(server: BatchServer) -> None:
    """A longer set whose first shards are the same may be saved, and only the rest is sent."""
    jobs = bf.submit(save(count=4), client=server.client())
    more = bf.submit(save(count=6), client=server.client())
    assert more[:2] == jobs
    assert len(server.batches) == 3


def test_the_same_content_under_another_name_is_the_same_batch(server: BatchServer) -> None:
    """A single file that becomes the first of several is not paid again."""
    [job] = bf.submit(save(count=2), client=server.client())
    assert job.path.name == "reviews.jsonl"
    jobs = bf.submit(save(count=6), client=server.client())
    assert jobs[0].batch_id == job.batch_id
    assert len(server.batches) == 3
    assert bf.load_jobs("reviews.jsonl") == jobs
    paths = bf.download(wait(jobs, server), client=server.client())
    assert names(paths) == [f"reviews-0000{n}.output.jsonl" for n in (1, 2, 3)]


def test_two_files_with_one_content_are_one_batch(server: BatchServer) -> None:
    """A copy within the set is neither paid nor fetched twice."""
    [shard] = save(per_shard=6)
    Path("reviews-00002.jsonl").write_bytes(shard.path.read_bytes())
    jobs = bf.submit("reviews*.jsonl", client=server.client())
    assert [job.path.name for job in jobs] == ["reviews-00002.jsonl", "reviews.jsonl"]
    assert len({job.batch_id for job in jobs}) == len(server.batches) == 1
    jobs = wait(jobs, server)
    assert [job.status for job in jobs] == ["completed"] * 2
    assert len(bf.download(jobs, client=server.client())) == 1
    assert bf.submit("reviews*.jsonl") == jobs


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"metadata": {"batch_frames": "x"}},
            "metadata: the key 'batch_frames' is taken; choose another",
        ),
        (
            {"metadata": {str(n): "" for n in range(16)}},
            "metadata: there are 16 keys; the service takes 16, one is ours",
        ),
        (
            {"max_enqueued_tokens": 0},
            "max_enqueued_tokens: must be a whole number from 1, not 0",
        ),
    ],
)
def test_settings_that_cannot_be(options: dict[str, Any], text: str) -> None:
    """Settings are checked before anything is read."""
    with pytest.raises(ValueError) as caught:
        bf.submit("nowhere.jsonl", **options)
    assert str(caught.value) == text


# What goes wrong with requests


def bad_shards() -> list[Path]:
    """Write two shards, the second with two bad lines."""
    good = save_lines("reviews-00001.jsonl", {}, {}, {})
    body: dict[str, Any] = {"messages": []}
    changes = [{"custom_id": "x0"}, {"custom_id": "x1", "body": body}, {"custom_id": "x0"}]
    return [good, save_lines("reviews-00002.jsonl", *changes)]


def test_a_failed_validation_names_shard_line_id_and_row(server: BatchServer) -> None:
    """It is raised after the others have ended; every entry is told with its row in the set."""
    jobs = bf.submit(bad_shards(), client=server.client())
    with pytest.raises(bf.JobError) as caught:
        wait(jobs, server)
    error = caught.value
    assert [batch.status for batch in server.batches] == ["completed", "failed"]
    said = [entry["message"] for entry in server.batches[1].errors]
    assert str(error) == (
        "1 batch failed at validation: "
        f"reviews-00002.jsonl, line 2 (custom_id 'x1', row 4): {said[0]} "
        "[missing_required_parameter]; "
        f"reviews-00002.jsonl, line 3 (custom_id 'x0', row 5): {said[1]} [duplicate_custom_id]; "
        "correct the requests, save and submit them again"
    )
    assert (error.batch_id, error.status) == (server.batches[1].id, "failed")
    places = [(e["shard"], e["line"], e["row"], e["custom_id"], e["code"]) for e in error.errors]
    assert places == [
        ("reviews-00002.jsonl", 2, 4, "x1", "missing_required_parameter"),
        ("reviews-00002.jsonl", 3, 5, "x0", "duplicate_custom_id"),
    ]
    assert [e["message"] for e in error.errors] == said
    table = bf.status(jobs)
    assert table["errors"].isna().tolist() == [True, False]
    assert table["errors"].iloc[1].endswith("[missing_required_parameter]; and 1 more")
    with pytest.raises(bf.JobError) as again:
        bf.submit("reviews-*.jsonl")
    assert str(again.value) == str(error)
    assert names(bf.download(bf.load_jobs("."), client=server.client())) == [
        "reviews-00001.output.jsonl"
    ]


def test_a_corrected_shard_is_sent_anew(server: BatchServer) -> None:
    """After a failed validation, other content under the name is what is wanted."""
    with pytest.raises(bf.JobError):
        wait(bf.submit(bad_shards(), client=server.client()), server)
    save_lines("reviews-00002.jsonl", {"custom_id": "x0"}, {"custom_id": "x1"})
    jobs = wait(bf.submit("reviews-*.jsonl", client=server.client()), server)
    assert [job.status for job in jobs] == ["completed"] * 2
    assert len(server.batches) == 3
    assert ids(bf.download(jobs, client=server.client())) == Counter(["r0", "r1", "r2", "x0", "x1"])


def test_a_failure_that_is_not_of_a_line_is_tried_again(server: BatchServer) -> None:
    """A lost upload is no fault of the requests: the same shard is uploaded and sent anew."""
    [shard] = save(per_shard=6)
    jobs = bf.submit(shard, client=server.client())
    server.service.files.clear()
    with pytest.raises(bf.JobError) as caught:
        wait(jobs, server)
    text = server.batches[0].errors[0]["message"]
    assert str(caught.value) == (
        f"1 batch failed at validation: reviews.jsonl: {text} [invalid_request]; correct the "
        "requests, save and submit them again"
    )
    [job] = wait(bf.submit(shard, client=server.client()), server)
    assert job.status == "completed"
    assert [batch.status for batch in server.batches] == ["failed", "completed"]


def test_many_errors_are_named_by_the_first(server: BatchServer) -> None:
    """The message stays readable; the list has all of them."""
    body: dict[str, Any] = {"messages": []}
    save_lines("bad.jsonl", *[{"body": body}] * 9)
    with pytest.raises(bf.JobError) as caught:
        wait(bf.submit("bad.jsonl", client=server.client()), server)
    assert str(caught.value).count("bad.jsonl, line") == 3
    assert str(caught.value).endswith(
        "; and 6 more; correct the requests, save and submit them again"
    )
    assert [e["row"] for e in caught.value.errors] == list(range(9))


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


def test_fewer_are_sent_at_once_when_a_limit_is_given(server: BatchServer) -> None:
    """About four bytes are a token; what is beyond the limit is sent by wait, never refused."""
    shards = save(count=12)
    each = shards[0].nbytes // 4
    jobs = bf.submit(shards, client=server.client(), max_enqueued_tokens=2 * each + 5)
    assert [job.batch_id is not None for job in jobs] == [True] * 2 + [False] * 4
    server.settings.enqueued_tokens = 2 * each + 5
    jobs = wait(bf.load_jobs("reviews.jsonl"), server)
    assert [job.status for job in jobs] == ["completed"] * 6
    assert len(server.batches) == 6


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


def test_an_upload_that_is_gone_is_made_anew(server: BatchServer) -> None:
    """A month after an interrupted submit, the uploaded file is no longer there."""
    server.when("POST /batches", "asked", reply(400, "Not today."))
    [shard] = save(per_shard=6)
    with pytest.raises(openai.BadRequestError):
        bf.submit(shard, client=server.client())
    for file in server.uploads:
        file.deleted = True
    [job] = wait(bf.submit(shard, client=server.client()), server)
    assert job.status == "completed"
    assert [len(server.uploads), len(server.batches)] == [2, 1]


# What the service does


@pytest.mark.parametrize("ending", ["expired", "cancelled"])
def test_what_finished_before_the_end_is_kept(server: BatchServer, ending: str) -> None:
    """Of a batch that expired or was cancelled, the finished part is downloaded."""
    server.settings.endings["reviews.jsonl"] = ending if ending == "expired" else "in_progress"
    jobs = bf.submit(save(per_shard=6), client=server.client())
    if ending == "cancelled":
        [cancelled] = bf.cancel(jobs, client=server.client())
        assert cancelled.status == "cancelling"
    [job] = wait(jobs, server)
    assert job.status == ending
    paths = bf.download(job, client=server.client())
    assert names(paths)[0] == "reviews.output.jsonl"
    assert sum(ids(paths[:1]).values()) == 3
    assert bf.submit("reviews.jsonl") == [job], "what was paid is not sent again"


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


def test_no_file_where_there_are_no_lines(server: BatchServer) -> None:
    """A batch without a success has no output file, one without a failure no error file."""
    server.settings.no_error_file = ""
    good = wait(bf.submit(save("good.jsonl", per_shard=6), client=server.client()), server)
    assert names(bf.download(good, client=server.client())) == ["good.output.jsonl"]
    server.settings.fail_every = 1
    bad = save("bad.jsonl", per_shard=6, text="Sing {}.")
    jobs = wait(bf.submit(bad, client=server.client()), server)
    assert [job.status for job in jobs] == ["completed"]
    assert names(bf.download(jobs, client=server.client())) == ["bad.errors.jsonl"]


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


@pytest.mark.parametrize(
    "fault",
    [reply(503), reply(429, Retry_After="0"), reply(408), drop],
    ids=["503", "429", "408", "dropped"],
)
@pytest.mark.parametrize(
    "route",
    [
        "POST /files",
        "POST /batches",
        "GET /batches/{id}",
        "GET /files/{id}",
        "GET /files/{id}/content",
    ],
)
def test_faults_that_pass_are_sat_out(server: BatchServer, route: str, fault: Any) -> None:
    """A service that is away or overloaded is asked again, and nothing is paid twice."""
    server.when(route, "asked", fault, times=3)
    jobs = wait(bf.submit(save(), client=server.client()), server)
    paths = bf.download(jobs, client=server.client())
    assert ids(paths) == Counter(f"r{n}" for n in range(6))
    assert len(server.batches) == 3


def test_polling_outlasts_any_number_of_faults(
    server: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While waiting there is no last try."""
    monkeypatch.setattr(service, "LONGEST_PAUSE", 0.01)
    jobs = bf.submit(save(), client=server.client())
    server.when("GET /batches/{id}", "asked", reply(500), times=40)
    assert [job.status for job in wait(jobs, server, timeout=60)] == ["completed"] * 3


def test_a_service_that_stays_away_ends_the_other_verbs(server: BatchServer) -> None:
    """Submitting gives up after some tries with the SDK's own error, and can go on later."""
    shards = save()
    server.when("POST /batches", "asked", reply(500), times=None, after=1)
    with pytest.raises(openai.InternalServerError):
        bf.submit(shards, client=server.client())
    assert len(server.batches) == 1
    server._rules.clear()
    assert len(bf.submit(shards, client=server.client())) == 3
    assert len(server.batches) == 3


@pytest.mark.parametrize("status", [401, 403, 404])
@pytest.mark.parametrize("route", ["POST /files", "POST /batches", "GET /batches/{id}"])
def test_a_refusal_is_told_at_once_as_the_sdk_says_it(
    server: BatchServer, route: str, status: int
) -> None:
    """Errors that no second try would mend pass through, and what was done stays done."""
    server.when(route, "asked", reply(status, "No, and no."))
    shards = save()
    with pytest.raises(openai.APIStatusError) as caught:
        wait(bf.submit(shards, client=server.client()), server)
    assert caught.value.status_code == status
    assert server.requests_log.count(route) == 1
    jobs = wait(bf.submit(shards, client=server.client()), server)
    assert [job.status for job in jobs] == ["completed"] * 3
    assert len(server.batches) == 3


def test_a_wait_that_takes_too_long(server: BatchServer) -> None:
    """It ends with what goes on and how to go on, and without harm."""
    server.settings.endings["reviews-00002.jsonl"] = "in_progress"
    jobs = bf.submit(save(), client=server.client())
    with pytest.raises(bf.WaitTimeout) as caught:
        wait(jobs, server, timeout=0.3)
    assert str(caught.value) == (
        "1 of 3 batches had not ended after 0.3 seconds, 'reviews-00002.jsonl' is 'in_progress'; "
        'to wait on, bf.wait(bf.load_jobs("reviews.jobs.jsonl"))'
    )
    assert caught.value.batch_id == jobs[1].batch_id
    assert isinstance(caught.value, TimeoutError)
    with pytest.raises(bf.JobError) as unfinished:
        bf.download(jobs, client=server.client())
    assert str(unfinished.value) == (
        "1 batch has not ended, 'reviews-00002.jsonl' is 'in_progress'; wait for them first"
    )
    assert sorted(path.name for path in Path().glob("*.output.jsonl")) == [
        "reviews-00001.output.jsonl",
        "reviews-00003.output.jsonl",
    ]
    del server.settings.endings["reviews-00002.jsonl"]
    assert [job.status for job in wait(jobs, server)] == ["completed"] * 3


def test_waiting_needs_no_lock(server: BatchServer) -> None:
    """While another process has the ledger, the batches are followed to their end."""
    from batch_frames.batches.ledger import Ledger

    jobs = bf.submit(save(), client=server.client())
    before = events()
    with Ledger(Path("reviews.jobs.jsonl")).locked():
        assert [job.status for job in wait(jobs, server)] == ["completed"] * 3
        assert events() == before
    assert len(bf.download(jobs, client=server.client())) == 3


# Downloads


def test_a_download_goes_on_where_it_broke_off(server: BatchServer) -> None:
    """A connection that drops in the middle of a body is taken up again, or begun anew."""
    jobs = wait(bf.submit(save(per_shard=6), client=server.client()), server)
    [whole] = bf.download(jobs, client=server.client())
    content = whole.read_bytes()
    for ranges in (True, False):
        whole.unlink()
        server.settings.ranges = ranges
        server.when("GET /files/{id}/content", "half", drop, times=2)
        assert bf.download(jobs, client=server.client()) == [whole]
        assert whole.read_bytes() == content


def test_a_file_that_was_damaged_is_fetched_again(server: BatchServer) -> None:
    """Files that are gone or have another size are fetched; the others are not."""
    jobs = wait(bf.submit(save(), client=server.client()), server)
    paths = bf.download(jobs, client=server.client())
    contents = [path.read_bytes() for path in paths]
    paths[0].unlink()
    paths[1].write_bytes(contents[1][:-5])
    before = server.requests_log.count("GET /files/{id}/content")
    assert bf.download(bf.load_jobs("."), client=server.client()) == paths
    assert [path.read_bytes() for path in paths] == contents
    assert server.requests_log.count("GET /files/{id}/content") == before + 2


def test_the_size_that_the_service_tells_is_checked(server: BatchServer) -> None:
    """A file that came whole, and is not what the service has, is not kept."""
    jobs = wait(bf.submit(save(per_shard=6), client=server.client()), server)
    output = server.service.files[jobs[0].output_file_id or ""]
    size = output.content.nbytes

    def shrink() -> None:
        path = output.content.path  # type: ignore[union-attr]
        path.write_bytes(path.read_bytes()[:-10])
        output.content = type(output.content)(path, size - 10)  # type: ignore[arg-type, call-arg]

    server.when("GET /files/{id}/content", "asked", shrink)
    with pytest.raises(bf.JobError) as caught:
        bf.download(jobs, client=server.client())
    assert str(caught.value) == (
        f"'reviews.output.jsonl': {size - 10:,} bytes came of {size:,} that the service tells; "
        "download it again"
    )
    assert names(sorted(Path().iterdir())) == ["reviews.jobs.jsonl", "reviews.jsonl"]


def test_a_service_that_does_not_tell_sizes(server: BatchServer) -> None:
    """Where files cannot be asked about, they can be fetched."""
    jobs = wait(bf.submit(save(per_shard=6), client=server.client()), server)
    server.when("GET /files/{id}", "asked", reply(404), times=None)
    assert ids(bf.download(jobs, client=server.client())) == Counter(f"r{n}" for n in range(6))


# Keys, clients and interrupts


def test_the_key_appears_nowhere(server: BatchServer, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither files nor representations, cards, errors and outputs show the key."""
    key = server.settings.key = "sk-secret-334"
    with pytest.raises(bf.JobError) as failed:
        wait(bf.submit(bad_shards(), client=server.client()), server, progress=True)
    jobs = bf.load_jobs("reviews.jsonl")
    bf.download(jobs, client=server.client(), progress=True)
    wrong = openai.OpenAI(base_url=server.url, api_key="sk-wrong-335")
    with wrong, pytest.raises(openai.AuthenticationError) as refused:
        bf.submit(save("more.jsonl"), client=wrong)
    said = [*capfd.readouterr(), str(failed.value), str(refused.value), repr(jobs)]
    said += [Jobs(jobs)._repr_html_(), bf.status(jobs).to_string()]
    said += [path.read_text("utf-8") for path in Path().iterdir()]
    assert len(said) > 9
    assert [text for text in said if "sk-secret" in text or "sk-wrong" in text] == []
    assert key


def test_a_client_is_made_from_the_environment(
    server: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a client, the SDK's own default is used, and closed again."""
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    jobs = bf.wait(bf.submit(save()), poll=0.005)
    assert list(bf.status(jobs)["status"]) == ["completed"] * 3
    assert len(bf.download(jobs)) == 3


def test_azure_clients_do_as_well(server: BatchServer) -> None:
    """A client of a kind of its own is used as it is."""
    with openai.AzureOpenAI(
        base_url=server.url, api_key="test", api_version="2025-04-01-preview"
    ) as client:
        jobs = bf.wait(bf.submit(save(), client=client), client=client, poll=0.005)
        assert len(bf.download(jobs, client=client)) == 3


def test_asynchronous_clients_are_refused() -> None:
    """The verbs wait for their answers themselves."""
    client = openai.AsyncOpenAI(api_key="test")
    with pytest.raises(TypeError) as caught:
        bf.submit(save(), client=client)  # type: ignore[arg-type]
    assert str(caught.value) == "submit takes an openai.OpenAI client, not AsyncOpenAI"


def test_without_the_sdk_the_error_is_the_command_that_installs_it() -> None:
    """The openai SDK is an extra; what needs it says so."""
    save()
    script = (
        "import sys; sys.modules['openai'] = None; import batch_frames as bf; "
        "bf.submit('reviews-*.jsonl')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == (
        "batch_frames.errors.MissingExtra: submit needs the openai SDK; "
        'pip install "batch-frames[openai]"'
    )


INTERRUPTED = """
import sys, openai
import batch_frames as bf
with openai.OpenAI(base_url=sys.argv[1], api_key="test") as client:
    jobs = bf.submit("reviews-*.jsonl", client=client)
    bf.wait(jobs, client=client, poll=0.01)
"""


@pytest.mark.parametrize(
    ("route", "said"),
    [
        (
            "GET /batches/{id}",
            'interrupted: the batches go on; to follow them again, bf.wait(bf.load_jobs("reviews'
            '.jobs.jsonl"))',
        ),
        ("POST /batches", "interrupted: what was sent is noted; to go on, submit again"),
    ],
)
def test_an_interrupt_says_how_to_go_on(server: BatchServer, route: str, said: str) -> None:
    """Control-C ends a verb as it ends anything else, after a word on how to go on."""
    save()
    command = [sys.executable, "-c", INTERRUPTED, server.url]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        server.when(route, "done", lambda: os.kill(process.pid, signal.SIGINT), after=1)
        _, told = process.communicate()
    assert said in told.splitlines()
    assert told.splitlines()[-1] == "KeyboardInterrupt"
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
    bf.submit(save("b.jsonl"), client=server.client(), progress=False)
    assert capfd.readouterr().err == ""


def test_counts_alone_do_not_fill_the_ledger(server: BatchServer) -> None:
    """A batch that runs for a day is noted when its status changes, not at every look."""
    server.settings.polls = 25
    [job] = wait(bf.submit(save(per_shard=6), client=server.client()), server)
    assert (job.status, job.completed) == ("completed", 6)
    assert server.requests_log.count("GET /batches/{id}") == 75
    assert events() == ["intent", "uploaded", "creating", "created", *["status"] * 3]
    assert bf.load_jobs("reviews.jsonl") == [job]


@pytest.mark.parametrize("poll", [0, -1, float("nan")])
def test_looks_need_pauses(poll: float) -> None:
    """Without a pause between two looks, a service would be asked for ever in a hot loop."""
    with pytest.raises(ValueError) as caught:
        bf.wait([], poll=poll)
    assert str(caught.value) == f"poll must be a number of seconds above 0, not {poll!r}"


def test_what_a_service_says_need_not_be_text(server: BatchServer) -> None:
    """A message with half a surrogate pair is noted and told like any other."""
    jobs = bf.submit(bad_shards(), client=server.client())
    with pytest.raises(bf.JobError):
        wait(jobs, server)
    jobs = bf.submit(save("more.jsonl"), client=server.client())
    server.batches[2].errors = [{"code": "odd", "line": None, "message": "\ud83d?", "param": None}]
    server.batches[2].status = "failed"
    with pytest.raises(bf.JobError) as caught:
        wait(jobs, server)
    assert "more-00001.jsonl: \ud83d? [odd]" in str(caught.value)
    assert bf.load_jobs("more.jsonl")[0].errors[0]["message"] == "\ud83d?"


# Rarer turns


@pytest.mark.parametrize("was_made", [True, False])
def test_cancel_finds_out_what_an_interrupted_submit_did(
    server: BatchServer, was_made: bool
) -> None:
    """Where nobody knows whether there is a batch, it is looked for, and cancelled if there."""
    [shard] = save(per_shard=6)
    server.when("POST /batches", "done" if was_made else "asked", reply(400))
    with pytest.raises(openai.BadRequestError):
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


def test_a_shard_that_cannot_be_sent_meanwhile_is_sent_later(server: BatchServer) -> None:
    """While others are followed, a service that refuses uploads is asked again at the next look."""
    jobs = bf.submit(save(), client=server.client(), max_enqueued_tokens=1)
    server.when("POST /files", "asked", reply(503), times=8)
    assert [job.status for job in wait(jobs, server, timeout=60)] == ["completed"] * 3
    jobs = bf.submit(save("b.jsonl"), client=server.client(), max_enqueued_tokens=1)
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


def test_rows_are_counted_over_the_files_that_stand_there(server: BatchServer) -> None:
    """A shard that is submitted alone has the rows of its set, as far as they can be known."""
    _, second = bad_shards()
    for there in (True, False):
        Path("reviews.jobs.jsonl").unlink(missing_ok=True)
        if not there:
            Path("reviews-00001.jsonl").unlink()
        with pytest.raises(bf.JobError) as caught:
            wait(bf.submit(second, client=server.client()), server)
        found = [error["row"] for error in caught.value.errors]
        assert found == ([4, 5] if there else [None, None])
        where = "line 2 (custom_id 'x1', row 4)" if there else "line 2 (custom_id 'x1')"
        assert where in str(caught.value)


def test_ids_are_told_as_far_as_they_can_be_read(server: BatchServer) -> None:
    """A line that is not JSON has no id, and a file that has changed since has none to tell."""
    path = save_lines("reviews.jsonl", {}, {})
    path.write_text(path.read_text("utf-8") + "{\n", "utf-8")
    jobs = bf.submit(path, client=server.client())
    with pytest.raises(bf.JobError) as caught:
        wait(jobs, server)
    assert [(e["line"], e["row"], e["custom_id"]) for e in caught.value.errors] == [(3, 2, None)]
    save_lines("reviews.jsonl", {"custom_id": "y"}, {}, {})
    with pytest.raises(bf.JobError) as again:
        bf.wait(jobs)
    assert again.value.errors == caught.value.errors


def test_a_ledger_that_is_gone(server: BatchServer) -> None:
    """Jobs without their ledger cannot be followed."""
    jobs = bf.submit(save(), client=server.client())
    Path("reviews.jobs.jsonl").unlink()
    with pytest.raises(bf.BatchFramesError) as caught:
        wait(jobs, server)
    assert str(caught.value) == (
        "'reviews.jobs.jsonl' knows nothing of 'reviews-00001.jsonl'; submit it"
    )


def test_a_pause_that_is_asked_for_as_a_date(server: BatchServer) -> None:
    """A Retry-After that is no number leaves the pause to us."""
    fault = reply(503, Retry_After="Wed, 21 Oct 2026 07:28:00 GMT")
    server.when("POST /files", "asked", fault)
    server.when("GET /batches/{id}", "asked", fault)
    jobs = wait(bf.submit(save(per_shard=6), client=server.client()), server)
    assert [job.status for job in jobs] == ["completed"]


def test_an_address_that_is_no_api(monkeypatch: pytest.MonkeyPatch) -> None:
    """A web page where an API should be is told as what it is."""

    class Page(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", "6")
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as page:
        thread = threading.Thread(target=page.serve_forever, args=(0.01,))
        thread.start()
        url = f"http://127.0.0.1:{page.server_port}/v1"
        client = openai.OpenAI(base_url=url, api_key="test")
        with client, pytest.raises(bf.JobError) as caught:
            bf.submit(save(), client=client)
        page.shutdown()
        thread.join()
    assert str(caught.value) == (
        "the service answers with text that is not JSON; check the base URL"
    )


def test_a_download_that_is_refused(server: BatchServer) -> None:
    """What the service says to a file's name or content comes through as it is."""
    jobs = wait(bf.submit(save(per_shard=6), client=server.client()), server)
    for route in ("GET /files/{id}", "GET /files/{id}/content"):
        server.when(route, "asked", reply(403))
        with pytest.raises(openai.PermissionDeniedError):
            bf.download(jobs, client=server.client())
    assert names(sorted(Path().iterdir())) == ["reviews.jobs.jsonl", "reviews.jsonl"]


def test_an_empty_error_file(server: BatchServer) -> None:
    """A service that always gives an error file, with nothing in it, is read like any other."""
    [job] = wait(bf.submit(save(per_shard=6), client=server.client()), server)
    server.batches[0].error_file_id = server.generate(b"x", 0)
    ledger = Path("reviews.jobs.jsonl")
    lines = ledger.read_text("utf-8").splitlines()
    last = {**json.loads(lines[-1]), "error_file_id": server.batches[0].error_file_id}
    ledger.write_text("\n".join([*lines[:-1], json.dumps(last), ""]), "utf-8")
    paths = bf.download(job, client=server.client())
    assert names(paths) == ["reviews.output.jsonl", "reviews.errors.jsonl"]
    assert [path.stat().st_size > 0 for path in paths] == [True, False]
    assert list(bf.read_results(paths, requests="reviews.jsonl")["status"]) == ["ok"] * 6


@pytest.mark.parametrize("body", ODD)
@pytest.mark.parametrize("route", ["GET /batches/{id}", "POST /batches"])
def test_a_reply_that_is_no_batch_is_asked_for_again(
    server: BatchServer, route: str, body: dict[str, Any]
) -> None:
    """A 200 with something else in it neither loses a batch nor makes a second one."""
    server.when(route, "done", instead(body))
    jobs = wait(bf.submit(save(), client=server.client()), server)
    assert [job.status for job in jobs] == ["completed"] * 3
    assert [job.batch_id for job in jobs] == [batch.id for batch in server.batches]


def test_files_that_are_named_late_are_waited_for(server: BatchServer) -> None:
    """A batch that is completed before its file is named is asked for again, and not given up."""
    jobs = bf.submit(save(per_shard=6), client=server.client())
    server.finish()
    (batch,) = server.batches
    named, batch.output_file_id = batch.output_file_id, None
    jobs = wait(jobs, server)
    with pytest.raises(bf.JobError) as caught:
        bf.download(jobs, client=server.client())
    assert str(caught.value) == (
        f"'reviews.jsonl' is completed, but the service names no result file of {batch.id} yet; "
        "download it again later"
    )
    batch.output_file_id = named
    assert names(bf.download(jobs, client=server.client())) == ["reviews.output.jsonl"]


def test_a_name_that_ends_in_a_date_is_no_number_of_millions(server: BatchServer) -> None:
    """A fault in such a shard is told with its row, as it is the only one of its set."""
    shard = save_lines("reviews-20261125.jsonl", {}, {"body": {"model": "m"}})
    with pytest.raises(bf.JobError) as caught:
        wait(bf.submit(shard, client=server.client()), server)
    said = server.batches[0].errors[0]["message"]
    assert str(caught.value) == (
        "1 batch failed at validation: reviews-20261125.jsonl, line 2 (custom_id 'r1', row 1): "
        f"{said} [missing_required_parameter]; correct the requests, save and submit them again"
    )


def test_rows_are_unknown_where_a_number_counts_no_shards(server: BatchServer) -> None:
    """The first of the millions of files before a shard that is missing ends the look for them."""
    shard = save_lines("places-9999999.jsonl", {"body": {"model": "m"}})
    with pytest.raises(bf.JobError) as caught:
        wait(bf.submit(shard, client=server.client()), server)
    assert [(e["line"], e["row"], e["custom_id"]) for e in caught.value.errors] == [(1, None, "r0")]


@pytest.mark.parametrize("route", ["GET /batches/{id}", "POST /batches/{id}/cancel"])
def test_another_batch_is_no_answer(server: BatchServer, route: str) -> None:
    """What a service tells of another batch than was asked for is not taken for this one's."""
    jobs = bf.submit(save(count=4), client=server.client())
    [asked, other] = server.batches
    server.when(route, "asked", instead(other.shown(server.settings)), times=service.TRIES)
    with pytest.raises(bf.JobError) as caught:
        bf.cancel(jobs[0], client=server.client())
    assert str(caught.value) == f"asked for {asked.id}, the service answers {other.id}"
    assert bf.load_jobs("reviews.jsonl") == jobs
    assert [job.batch_id for job in wait(jobs, server)] == [asked.id, other.id]


@pytest.mark.parametrize("body", ODD)
def test_an_odd_list_does_not_say_that_there_is_no_batch(
    server: BatchServer, body: dict[str, Any]
) -> None:
    """A batch whose making was not confirmed is looked for until there is a list."""
    server.when("POST /batches", "done", drop, times=2)
    server.when("GET /batches", "asked", instead(body), times=2)
    [job] = bf.submit(save(per_shard=6), client=server.client())
    assert [batch.id for batch in server.batches] == [job.batch_id]
    server.when("GET /batches", "asked", instead(body), times=None)
    with pytest.raises(bf.JobError) as caught:
        bf.submit(save("b.jsonl", per_shard=6), client=server.client())
    assert str(caught.value) == (
        "the service answers with something that is no list of batches; check the base URL"
    )
    assert len(server.batches) == 2


def test_a_list_without_batches_may_be_null(server: BatchServer) -> None:
    """Where an empty list is null, there is no batch, and one is made."""
    server.when("POST /batches", "asked", drop)
    server.when("GET /batches", "asked", instead({"object": "list", "data": None}), times=None)
    bf.submit(save(per_shard=6), client=server.client())
    assert len(server.batches) == 1


def test_a_list_that_cannot_be_turned_over(server: BatchServer) -> None:
    """A service that gives the same page again and again is not asked for ever."""
    bf.submit(save("a.jsonl", per_shard=6), client=server.client())
    page = {"object": "list", "data": [server.batches[0].shown(server.settings)], "has_more": True}
    server.when("GET /batches", "asked", instead(page), times=None)
    server.when("POST /batches", "asked", drop)
    bf.submit(save("b.jsonl", per_shard=6), client=server.client())
    assert len(server.batches) == 2
    assert server.requests_log.count("GET /batches") == 4, "two looks, of two pages each"


def test_a_list_of_one_moment_is_read_to_its_end(
    server: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old batches of the same second do not tell that older ones follow."""
    monkeypatch.setattr(finding, "SETTLE", 0.0)
    bf.submit(save("a.jsonl", per_shard=6), client=server.client())
    old = {**server.batches[0].shown(server.settings), "created_at": 1_000}
    page = {"object": "list", "data": [{**old, "id": "x"}, {**old, "id": "y"}], "has_more": True}

    def turn() -> None:
        shown = [batch.shown(server.settings) for batch in server.batches]
        instead({"object": "list", "data": shown, "has_more": False})()

    server.when("POST /batches", "done", drop)
    server.when("GET /batches", "asked", instead(page))
    server.when("GET /batches", "asked", turn)
    [job] = bf.submit(save("b.jsonl", per_shard=6), client=server.client())
    assert [batch.id for batch in server.batches][1:] == [job.batch_id]


@pytest.mark.parametrize("late", ["output_file_id", "error_file_id"])
def test_a_second_file_that_is_named_late_is_fetched_too(server: BatchServer, late: str) -> None:
    """Where the counts tell of answers and of failures, both files are asked for."""
    server.settings.fail_every = 2
    jobs = bf.submit(save(per_shard=6), client=server.client())
    server.finish()
    [batch] = server.batches
    named = getattr(batch, late)
    setattr(batch, late, None)
    jobs = wait(jobs, server)
    setattr(batch, late, named)
    if late == "output_file_id":
        assert wait(jobs, server)[0].output_file_id == named, "paid answers are asked for at once"
    paths = bf.download(jobs, client=server.client())
    assert names(paths) == ["reviews.output.jsonl", "reviews.errors.jsonl"]


def test_a_service_without_error_files(server: BatchServer) -> None:
    """Failures that are in no file keep nobody from the answers."""
    server.settings.fail_every = 2
    jobs = bf.submit(save(per_shard=6), client=server.client())
    server.finish()
    server.batches[0].error_file_id = None
    paths = bf.download(wait(jobs, server), client=server.client())
    assert names(paths) == ["reviews.output.jsonl"]


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
        with Ledger(Path("reviews.jobs.jsonl")).locked() as ledger:
            noted = ledger.note("status", job, **facts)
            ledger.note("status", noted, status="cancelled", batch_id=None, errors=[])

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
        "refused 5 times with none of these batches under way: reviews-00001.jsonl: "
        f"{last.errors[0]['message']} [token_limit_exceeded]; wait again once others have ended, "
        "or save smaller files with limits=bf.Limits(nbytes=…)"
    )
    assert (caught.value.batch_id, caught.value.status) == (last.id, "failed")
    assert [error["shard"] for error in caught.value.errors] == ["reviews-00001.jsonl"]
    jobs = bf.load_jobs("reviews.jsonl")
    assert [job.state for job in jobs] == ["waiting", "completed", "completed"]


@pytest.mark.parametrize("one", [True, False])
def test_a_shard_that_was_saved_over_is_not_sent_for_another(
    server: BatchServer, one: bool
) -> None:
    """What save_to_file returned stands for what it wrote, and not for what came after."""
    [shard] = save(per_shard=6)
    [other] = save(count=1, per_shard=6)
    with pytest.raises(bf.BatchFramesError) as caught:
        bf.submit(shard if one else iter([shard]), client=server.client())
    assert str(caught.value) == (
        f"'reviews.jsonl' has changed since it was saved, from 6 requests in {shard.nbytes:,} "
        f"bytes to 1 request in {other.nbytes:,} bytes; save it again, or pass its path to send "
        "what is there now"
    )
    assert server.requests_log == []
    assert bf.submit(shard.path, client=server.client())[0].requests == 1


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"<html>", "what came does not begin with '{'; download it again"),
        (b'{"error": "no"}', "1 line came of 6 that the service counts; download it again"),
        (b"", "0 lines came of 6 that the service counts; download it again"),
    ],
)
def test_a_body_of_unknown_size_is_looked_at(
    server: BatchServer, content: bytes, problem: str
) -> None:
    """Where no size is told, an error page or a part of the lines is not kept."""
    jobs = wait(bf.submit(save(per_shard=6), client=server.client()), server)
    server.when("GET /files/{id}", "asked", reply(404), times=None)
    stored = server.service.files[jobs[0].output_file_id or ""]
    assert isinstance(stored.content, OnDisk)
    path = stored.content.path
    whole = codecs.BOM_UTF8 + b"\n" + path.read_bytes()
    path.write_bytes(content)
    stored.content = OnDisk(path, len(content))
    with pytest.raises(bf.JobError) as caught:
        bf.download(jobs, client=server.client())
    assert str(caught.value) == f"'reviews.output.jsonl': {problem}"
    assert names(sorted(Path().iterdir())) == ["reviews.jobs.jsonl", "reviews.jsonl"]
    path.write_bytes(whole)
    stored.content = OnDisk(path, len(whole))
    assert bf.download(jobs, client=server.client())[0].read_bytes() == whole


def test_failures_that_are_counted_as_completed(server: BatchServer) -> None:
    """Where all that ended is called completed, the output may lack what failed."""
    server.settings.fail_every = 3
    jobs = bf.submit(save(per_shard=6), client=server.client())
    server.finish()
    server.batches[0].completed = 6
    server.when("GET /files/{id}", "asked", reply(404), times=None)
    paths = bf.download(wait(jobs, server), client=server.client())
    assert [sum(ids([path]).values()) for path in paths] == [4, 2]


def test_the_ends_of_batches_are_known_by_other_spellings(server: BatchServer) -> None:
    """A batch that succeeded is completed, and one that is canceled is cancelled."""
    server.settings.renamed = {"completed": "Succeeded", "cancelled": "canceled"}
    first, second = bf.submit(save(count=4), client=server.client())
    bf.cancel(second, client=server.client())
    jobs = wait([first, second], server, timeout=60)
    assert [job.status for job in jobs] == ["completed", "cancelled"]
