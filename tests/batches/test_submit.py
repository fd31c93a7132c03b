"""Submit request files: each becomes one batch, whatever happens."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import openai
import pandas as pd
import pytest

import batch_frames as bf
from batch_frames.files.locks import InUseError
from batch_frames.files.record import Records
from tests.service.server import BatchServer, reply
from tests.support.jobs import ids, names, save, save_lines, wait

pytestmark = pytest.mark.usefixtures("folder")

ENDS = ("output.jsonl", "errors.jsonl")


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


def test_a_notebook_cell_may_run_again(server: BatchServer) -> None:
    """Saving the same requests while their batches run, and submitting them, does nothing."""
    jobs = bf.submit(save(), client=server.client())
    assert bf.submit(save(), client=server.client()) == jobs
    assert len(server.batches) == 3


def test_what_stands_beside_request_files_is_passed_over(server: BatchServer) -> None:
    """A glob, or a shell's expansion of one, may catch ledgers and results."""
    server.settings.fail_every = 2
    jobs = wait(bf.submit(save(), client=server.client()), server)
    bf.download(jobs, client=server.client())
    Path("reviews-00009.errors.jsonl").touch()
    Path("old.jobs.jsonl").touch()
    Path("old.jsonl").write_text('{"custom_id":"a","response":{"status_code":200}}\n')
    assert bf.submit("*.jsonl") == jobs
    assert bf.submit(".") == jobs
    assert (
        bf.submit([path for path in sorted(Path().glob("[!.]*")) if path.name != "old.jsonl"])
        == jobs
    )


def test_requests_under_a_results_name_are_requests(server: BatchServer) -> None:
    """The content decides, where a name could be either."""
    save("my.jsonl", per_shard=6)[0].path.rename("my.output.jsonl")
    [job] = bf.submit("*.jsonl", client=server.client())
    assert job.path.name == "my.output.jsonl"


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.jsonl", "", "a.jsonl: the file is empty; write it again"),
        ("a.jsonl", "\n", "a.jsonl: the first line is blank; write it again"),
        (
            "a.jsonl",
            "{",
            "a.jsonl, line 1: not JSON: Expecting property name enclosed in double quotes at "
            "character 1",
        ),
        (
            "a.jsonl",
            '{"custom_id":"a","response":null}',
            "a.jsonl, line 1: a result, not a request; pass the request files",
        ),
        (
            "a.jsonl",
            '{"model":"m"}',
            "a.jsonl, line 1: not a request: it has no 'custom_id'",
        ),
        (
            "a.jsonl",
            '{"custom_id":"a","body":{}}',
            "a.jsonl, line 1: not a request: it has no 'url' that is text",
        ),
        (
            "a.jsonl",
            '{"custom_id":1,"url":"/v1/embeddings","body":{}}',
            "a.jsonl, line 1: not a request: it has no 'custom_id' that is text",
        ),
        ("a.csv", "id,text\n", "a.csv: not a .jsonl file, which the service requires"),
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


def test_a_shard_is_its_bytes_whatever_its_name_held_before(server: BatchServer) -> None:
    """Other content under a submitted name is another batch; what it held before is not resent."""
    jobs = wait(bf.submit(save(), client=server.client()), server)
    again = wait(bf.submit(save(text="Sing {}."), client=server.client()), server)
    assert len(server.batches) == 6
    assert bf.submit(save(), client=server.client()) == jobs
    assert len(server.batches) == 6
    paths = [names(bf.download(j, client=server.client())) for j in (jobs, again)]
    assert paths[0] == [f"reviews-0000{n}.output.jsonl" for n in (1, 2, 3)]
    assert paths[1] == [f"reviews-0000{n}.2.output.jsonl" for n in (1, 2, 3)]


def test_saving_over_requests_in_flight_is_refused(server: BatchServer) -> None:
    """As long as a batch runs, its requests stay what they are, unless a user insists."""
    jobs = bf.submit(save(), client=server.client())
    before = {path: path.read_bytes() for path in Path().glob("*.jsonl")}
    for change in ({"text": "Sing {}."}, {"count": 2}, {"per_shard": 6}, {"count": 0}):
        with pytest.raises(bf.BatchFramesError) as caught:
            save(**change)
        number = 2 if change == {"count": 2} else 1
        shard = f"reviews-0000{number}.jsonl"
        assert str(caught.value) == (
            f"'{shard}' was submitted as {jobs[number - 1].batch_id} and is still running; wait "
            "for it, save under another name, or pass overwrite=True"
        ), change
        assert {path: path.read_bytes() for path in Path().glob("*.jsonl")} == before
    creator = bf.BatchCreator("m", None, system_prompt=None)
    creator.add_entry("a", "b")
    creator.save_to_file("reviews.jsonl", overwrite=True)
    assert [path.name for path in Path().glob("*.jsonl")] != []
    assert not Path("reviews-00001.jsonl").exists()


def test_saving_is_free_once_the_batches_have_ended(server: BatchServer) -> None:
    """What has ended no longer holds its request file, and its results are there to download."""
    jobs = wait(bf.submit(save(), client=server.client()), server)
    assert len(save(text="Sing {}.")) == 3
    assert len(bf.download(jobs, client=server.client())) == 3


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
            "metadata: the key 'batch_frames' is reserved; choose another",
        ),
        (
            {"metadata": {str(n): "" for n in range(16)}},
            "metadata must have at most 15 keys, not 16",
        ),
        (
            {"max_enqueued_tokens": 0},
            "max_enqueued_tokens must be a whole number from 1, not 0",
        ),
    ],
)
def test_settings_that_cannot_be(options: dict[str, Any], text: str) -> None:
    """Settings are checked before anything is read."""
    with pytest.raises(ValueError) as caught:
        bf.submit("nowhere.jsonl", **options)
    assert str(caught.value) == text


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


def test_each_step_is_on_the_disk_before_the_service_is_asked(
    server: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even a computer that loses its power forgets that a batch may have been made."""
    fsync = os.fsync
    synced: set[int] = set()
    steps: list[bool] = []

    def noted(handle: int) -> None:
        fsync(handle)
        synced.add(os.fstat(handle).st_ino)

    def asked() -> None:
        documents = list(Path(".batch_frames/jobs").glob("*.json"))
        steps.append({path.stat().st_ino for path in documents} <= synced and bool(documents))

    monkeypatch.setattr(os, "fsync", noted)
    for route in ("POST /files", "POST /batches"):
        server.when(route, "asked", asked, times=None)
    bf.submit(save(), client=server.client())
    assert steps == [True] * 6


def test_a_shard_is_locked_while_it_is_sent(server: BatchServer) -> None:
    """No other process can send it at the same time."""
    [shard] = save(per_shard=6)
    refused: list[str] = []

    def asked() -> None:
        record = Records().of(shard.path)
        [job] = record.jobs()
        with pytest.raises(InUseError) as caught, record.locked(job):
            pass
        refused.append(str(caught.value))

    for route in ("POST /files", "POST /batches"):
        server.when(route, "asked", asked)
    bf.submit(shard, client=server.client())
    assert len(refused) == 2


@pytest.mark.parametrize("metadata", ["x", ["x"], {"x": 1}])
def test_metadata_that_is_no_dict_of_texts_is_refused_first(
    server: BatchServer, metadata: Any
) -> None:
    """It is found before anything is noted or sent, so that the right call goes on from there."""
    shards = save()
    with pytest.raises(TypeError) as caught:
        bf.submit(shards, client=server.client(), metadata=metadata)
    example = "an example is {'project': 'reviews'}"
    assert str(caught.value) == f"metadata must be a dict of texts, not {metadata!r}; {example}"
    assert server.requests_log == []
    assert len(bf.submit(shards, client=server.client(), metadata={"x": "1"})) == 3


REFUSED = (
    "the service would refuse bad.jsonl, line 2 (custom_id 'r1'): 'method' is 'GET', not 'POST' "
    "[invalid_method]; bad.jsonl, line 3 (custom_id 'r0'): the id is that of line 1, too "
    "[duplicate_custom_id]; correct the requests, or pass check=False to send them as they are"
)


def test_what_the_service_would_refuse_is_not_sent(server: BatchServer) -> None:
    """Nothing is uploaded or noted of any shard, unless the caller insists."""
    bad = save_lines("bad.jsonl", {}, {"method": "GET"}, {"custom_id": "r0"})
    shards: list[bf.Shard | Path] = [*save(), bad]
    before = sorted(Path().rglob("*"))
    with pytest.raises(bf.BatchFramesError) as caught:
        bf.submit(shards, client=server.client())
    assert str(caught.value) == REFUSED
    assert (server.requests_log, sorted(Path().rglob("*"))) == ([], before)
    bf.submit(shards, client=server.client(), check=False)
    assert len(server.batches) == 4


def test_shards_that_were_sent_are_not_checked_again(server: BatchServer) -> None:
    """What the record knows is followed, whatever the service may have said of it."""
    path = save_lines("bad.jsonl", {}, {"url": "/v1/none"})
    [job] = bf.submit(path, client=server.client(), check=False)
    assert bf.submit(path, client=server.client()) == [job]


def test_mistakes_do_not_keep_requests_from_being_sent(server: BatchServer) -> None:
    """What is only likely a mistake is sent."""
    path = save_lines("odd.jsonl", {"custom_id": "a b"}, {"custom_id": "c" * 65})
    assert len(bf.check_requests(path)) == 2
    assert len(bf.submit(path, client=server.client())) == 1


def test_a_shard_that_was_never_sent_is_checked_again(server: BatchServer) -> None:
    """What was noted for another time is refused once its requests were sent in other files."""
    creator = bf.BatchCreator("m", None, system_prompt=None)
    creator.add_entry("a", "one")
    creator.save_to_file("part.jsonl")
    away = openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="x", max_retries=0)
    with pytest.raises(openai.APIConnectionError):
        bf.submit("part.jsonl", client=away, timeout=0.1)
    part = Path("part.jsonl").read_bytes()
    Path("part.jsonl").unlink()
    creator.add_entry("b", "two")
    creator.save_to_file("all.jsonl")
    wait(bf.submit("all.jsonl", client=server.client()), server)
    Path("part.jsonl").write_bytes(part)
    with pytest.raises(bf.BatchFramesError) as caught:
        bf.submit("part.jsonl", client=server.client())
    assert str(caught.value).startswith("1 of 1 request of 'part.jsonl'")
    assert len(server.batches) == 1


def test_the_path_of_a_set_leaves_out_what_was_saved_by_itself(server: BatchServer) -> None:
    """A file whose name looks like one of the set's is not sent, or read, with the set."""
    creator = bf.BatchCreator("m", None, system_prompt=None)
    creator.add_entry("a", "one")
    creator.save_to_file("x-00009.jsonl")
    creator.add_entry("b", "two")
    creator.save_to_file("x.jsonl", limits=bf.Limits(requests=1))
    jobs = bf.submit("x.jsonl", client=server.client(), check=False)
    assert [job.path.name for job in jobs] == ["x-00001.jsonl", "x-00002.jsonl"]
    assert bf.read_requests("x.jsonl")["custom_id"].tolist() == ["a", "b"]
    bf.download(wait(jobs, server), client=server.client())
    results = bf.read_results(requests="x.jsonl")
    assert results["custom_id"].tolist() == ["a", "b"]


def test_a_file_with_a_number_in_its_name_may_stand_beside_a_set(server: BatchServer) -> None:
    """It is a set of its own, and both are sent and read."""
    frame = pd.DataFrame({"id": ["a"], "text": ["one"]})
    own = bf.from_dataframe(frame, id_column="id", prompt_column="text", model="m")
    other = bf.from_dataframe(frame.assign(id="b"), id_column="id", prompt_column="text", model="m")
    shards = [*own.save_to_file("x-00001.jsonl"), *other.save_to_file("x.jsonl")]
    jobs = wait(bf.submit(shards, client=server.client()), server)
    paths = bf.download(jobs, client=server.client())
    results = bf.read_results(paths, requests=shards)
    assert results[["custom_id", "status"]].to_numpy().tolist() == [["a", "ok"], ["b", "ok"]]
    assert bf.submit(shards, client=server.client()) == jobs
    assert len(server.batches) == 2
