"""Download what came back, whole and once."""

from __future__ import annotations

import codecs
import json
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import openai
import pandas as pd
import pytest

import batch_frames as bf
from tests.service.server import BatchServer, drop, reply
from tests.service.values import OnDisk
from tests.support.identity import frame, run
from tests.support.jobs import ids, names, save, wait

pytestmark = pytest.mark.usefixtures("folder")


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


# Downloads


def test_reading_says_which_batches_may_bring_more(server: BatchServer) -> None:
    """Results that were not downloaded draw a warning with the files and the calls; then none."""
    jobs = bf.submit(save(per_shard=2), client=server.client())
    with pytest.warns(UserWarning, match="^6 requests have no result yet") as caught:
        results = bf.read_results(requests="reviews.jsonl")
    assert results["status"].tolist() == ["missing"] * 6
    assert [str(one.message) for one in caught] == [
        "6 requests have no result yet, of batches that still run, or whose results are not there: "
        "'reviews-00001.jsonl', 'reviews-00002.jsonl', 'reviews-00003.jsonl'; "
        "download(wait(load_jobs(path))) fetches it"
    ]
    paths = bf.download(wait(jobs, server)[:2], client=server.client())
    with pytest.warns(UserWarning, match="^2 requests have .*'reviews-00003.jsonl';"):
        bf.read_results(requests="reviews.jsonl")
    bf.download(jobs, client=server.client())
    paths[0].write_bytes(paths[0].read_bytes() + b"=======\n")
    with pytest.warns(UserWarning, match="^dropped 1 result that are malformed: .*, line 3$"):
        bf.read_results(requests="reviews.jsonl")
    bf.download(wait(bf.load_jobs("reviews.jsonl"), server), client=server.client())
    assert set(bf.read_results(requests="reviews.jsonl")["status"]) == {"ok"}


def test_a_download_goes_on_where_it_broke_off(
    server: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that drops in the middle of a body is taken up again, or begun anew."""
    monkeypatch.setattr(sys.modules["batch_frames.batches.download"], "BLOCK", 64)
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
    """Files that are gone or have another size or other bytes are fetched; the others are not."""
    jobs = wait(bf.submit(save(), client=server.client()), server)
    paths = bf.download(jobs, client=server.client())
    contents = [path.read_bytes() for path in paths]
    paths[0].unlink()
    paths[1].write_bytes(contents[1][:-5])
    paths[2].write_bytes(contents[2].swapcase())
    before = server.requests_log.count("GET /files/{id}/content")
    assert bf.download(bf.load_jobs("."), client=server.client()) == paths
    assert [path.read_bytes() for path in paths] == contents
    assert server.requests_log.count("GET /files/{id}/content") == before + 3
    assert bf.download(bf.load_jobs("."), client=server.client()) == paths
    assert server.requests_log.count("GET /files/{id}/content") == before + 3


def test_what_was_in_a_changed_file_is_not_asked_again(server: BatchServer) -> None:
    """Answers that are overwritten, with as many bytes, are downloaded again."""
    rows = frame()
    names: dict[str, Any] = {"id_column": "id", "prompt_column": "p", "model": "m"}
    first = run(rows, server, "a.jsonl", **names)
    output = Path("a.output.jsonl")
    output.write_bytes(b"x" * (output.stat().st_size - 1) + b"\n")
    assert repr(bf.plan(rows, "a.jsonl", **names)).startswith("Plan(0 requests")
    pd.testing.assert_frame_equal(run(rows, server, "a.jsonl", **names), first)
    assert len(server.batches) == 1


def test_the_size_that_the_service_tells_is_checked(server: BatchServer) -> None:
    """A file that came whole, and is not what the service has, is not kept."""
    jobs = wait(bf.submit(save(per_shard=6), client=server.client()), server)
    output = server.service.files[jobs[0].output_file_id or ""]
    size = output.content.nbytes

    def shrink() -> None:
        path = output.content.path  # type: ignore[union-attr]
        path.write_bytes(path.read_bytes()[:-10])
        output.content = type(output.content)(path, size - 10)  # type: ignore[arg-type]

    server.when("GET /files/{id}/content", "asked", shrink)
    with pytest.raises(bf.JobError) as caught:
        bf.download(jobs, client=server.client())
    assert str(caught.value) == (
        f"'reviews.output.jsonl': received {size - 10:,} of {size:,} bytes; download it again"
    )
    assert names(sorted(Path().iterdir())) == [".batch_frames", "reviews.jsonl"]


def test_a_service_that_does_not_tell_sizes(server: BatchServer) -> None:
    """Where files cannot be asked about, they can be fetched."""
    jobs = wait(bf.submit(save(per_shard=6), client=server.client()), server)
    server.when("GET /files/{id}", "asked", reply(404), times=None)
    assert ids(bf.download(jobs, client=server.client())) == Counter(f"r{n}" for n in range(6))


# Rarer turns


def test_a_download_that_is_refused(server: BatchServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the service says to a file's name or content comes through as it is."""
    monkeypatch.setattr(sys.modules["batch_frames.batches.download"], "YOUNG", 0.0)
    jobs = wait(bf.submit(save(per_shard=6), client=server.client()), server)
    for route in ("GET /files/{id}", "GET /files/{id}/content"):
        server.when(route, "asked", reply(403))
        with pytest.raises(openai.PermissionDeniedError):
            bf.download(jobs, client=server.client())
    assert names(sorted(Path().iterdir())) == [".batch_frames", "reviews.jsonl"]


def test_an_empty_error_file(server: BatchServer) -> None:
    """A service that always gives an error file, with nothing in it, is read like any other."""
    [job] = wait(bf.submit(save(per_shard=6), client=server.client()), server)
    server.batches[0].error_file_id = server.generate(b"x", 0)
    [document] = Path(".batch_frames/jobs").glob("*.json")
    noted = json.loads(document.read_bytes())
    noted["error_file_id"] = server.batches[0].error_file_id
    document.write_text(json.dumps(noted), "utf-8")
    paths = bf.download(job, client=server.client())
    assert names(paths) == ["reviews.output.jsonl", "reviews.errors.jsonl"]
    assert [path.stat().st_size > 0 for path in paths] == [True, False]
    assert list(bf.read_results(paths, requests="reviews.jsonl")["status"]) == ["ok"] * 6


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
        f"'reviews.jsonl' is completed, but the service has not named a result file of {batch.id} "
        "yet; download it again later"
    )
    batch.output_file_id = named
    assert names(bf.download(jobs, client=server.client())) == ["reviews.output.jsonl"]


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


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"<html>", "the content does not begin with '{'; download it again"),
        (b'{"error": "no"}', "received 1 of 6 lines; download it again"),
        (b"", "received 0 of 6 lines; download it again"),
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
    assert names(sorted(Path().iterdir())) == [".batch_frames", "reviews.jsonl"]
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


def test_a_download_is_not_compressed_on_its_way(server: BatchServer) -> None:
    """What is sent compressed could not be taken up again in its middle."""
    asked: list[str] = []

    def noted(request: Any) -> None:
        if request.url.path.endswith("/content"):
            asked.append(request.headers["accept-encoding"])

    jobs = wait(bf.submit(save(per_shard=6), client=server.client()), server)
    http_client = openai.DefaultHttpxClient(event_hooks={"request": [noted]})
    bf.download(jobs, client=server.client(http_client=http_client))
    assert asked == ["identity"]


CONTENT = "GET /files/{id}/content"


@pytest.mark.parametrize("is_told", [True, False])
def test_a_download_cut_at_any_byte_is_refused(server: BatchServer, is_told: bool) -> None:
    """Where no size is told, it is whole if only its last newline is missing."""
    [job] = wait(bf.submit(save(per_shard=6), client=server.client()), server)
    client = server.client()
    whole = client.files.content(job.output_file_id or "").content
    if not is_told:
        server.when("GET /files/{id}", "asked", reply(404), times=None)
    ends = [at for at, byte in enumerate(whole) if byte == ord("\n")][:-1]
    last = range(ends[-1], len(whole) - (1 if is_told else 2), 61)
    for length in {0, 1, *range(2, ends[-1], 397), *ends, *(end + 1 for end in ends), *last}:
        cut = whole[:length]
        server.alter(CONTENT, lambda status, data, cut=cut: (status, cut))  # type: ignore[misc]
        with pytest.raises(bf.JobError, match=r"^'reviews.output.jsonl': received "):
            bf.download(job, client=client)
        assert not Path("reviews.output.jsonl").exists()
    [path] = bf.download(job, client=client)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("told", [1, 100])
def test_what_is_sent_beyond_the_told_size_is_not_written(
    server: BatchServer, told: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that does not end fills no disk."""
    [job] = wait(bf.submit(save(per_shard=6), client=server.client()), server)
    endless = server.generate(b"{}" * 500 + b"\n", 1_000_000)
    output = server.service.files[job.output_file_id or ""]
    output.content = server.service.files[endless].content
    server.settings.fewer_bytes = output.content.nbytes - told
    written: list[int] = []
    monkeypatch.setattr(
        sys.modules["batch_frames.batches.download"],
        "progress_bar",
        lambda *_, **__: Meter(written),
    )
    with pytest.raises(bf.JobError) as caught:
        bf.download(job, client=server.client())
    size = "1 byte" if told == 1 else f"{told} bytes"
    assert str(caught.value) == (
        f"'reviews.output.jsonl': received more than {size}; download it again"
    )
    assert sum(written) <= told


class Meter:
    """Stand where a progress bar stands, and note what is written."""

    def __init__(self, written: list[int]) -> None:
        self.update = written.append

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *exception: object) -> None:
        pass


def test_a_name_stays_that_of_the_first_batch(server: BatchServer) -> None:
    """Where results were moved away, those of other requests under the name take another one."""
    ask: dict[str, Any] = {"id_column": "id", "prompt_column": "text", "model": "m"}
    how: dict[str, Any] = {"client": server.client()}
    first = pd.DataFrame({"id": [1, 2], "text": ["a", "b"]})
    second = first.assign(text=["c", "d"])
    for table in (first, second):
        shards = bf.from_dataframe(table, **ask).save_to_file("r.jsonl")
        [output] = bf.download(wait(bf.submit(shards, **how), server), **how)
        if table is first:
            output.rename("moved.jsonl")
    assert output.name == "r.2.output.jsonl"
    for table in (first, second, first):
        rated = bf.run(table, "r.jsonl", poll=0.005, **ask, **how)
        assert rated["content"].tolist() == [f"You said: {text}" for text in table["text"]]
    assert len(server.batches) == 2


def test_errors_are_fetched_where_answers_are_lost(server: BatchServer) -> None:
    """One file that the service has no more does not keep the other one from coming."""
    creator = bf.BatchCreator("m", None, system_prompt=None)
    for key in "abc":
        creator.add_entry(key, "hi")
    creator.save_to_file("r.jsonl")
    server.settings.fail_every = 3
    jobs = wait(bf.submit("r.jsonl", client=server.client()), server)
    del server.service.files[str(jobs[0].output_file_id)]
    with pytest.raises(bf.JobError, match=r"^'r\.output\.jsonl' is not here"):
        bf.download(jobs, client=server.client())
    [line] = Path("r.errors.jsonl").read_bytes().splitlines()
    assert json.loads(line)["custom_id"] == "c"


def test_results_that_are_nowhere(server: BatchServer) -> None:
    """Where the service has a lost file no more, the error names both ways out, and they work."""
    table = pd.DataFrame({"id": ["a", "b"], "text": ["x", "y"]})
    ask: dict[str, Any] = {"id_column": "id", "prompt_column": "text", "model": "m"}
    ask |= {"client": server.client(), "poll": 0.005}
    rated = bf.run(table, "r.jsonl", **ask)
    [job], output = bf.load_jobs("r.jsonl"), Path("r.output.jsonl")
    copy = output.read_bytes()
    output.unlink()
    for route in ("GET /files/{id}", "GET /files/{id}/content"):
        server.when(route, "asked", reply(404), times=None)
    for call in (
        lambda: bf.run(table, "r.jsonl", **ask),
        lambda: bf.download(job, client=server.client()),
    ):
        with pytest.raises(bf.JobError) as caught:
            call()
        assert str(caught.value) == (
            f"'r.output.jsonl' is not here, and the service has no file {job.output_file_id!r} "
            "for it; put a copy of it back, or, to pay for its requests again, copy 'r.jsonl' to "
            "another folder and submit it there"
        )
        assert (caught.value.batch_id, caught.value.status) == (job.batch_id, "completed")
    Path("again").mkdir()
    shutil.copy("r.jsonl", "again")
    [again] = bf.submit("again/r.jsonl", client=server.client())
    assert again.batch_id != job.batch_id
    output.write_bytes(copy)
    pd.testing.assert_frame_equal(bf.run(table, "r.jsonl", **ask), rated)
    assert len(server.batches) == 2
