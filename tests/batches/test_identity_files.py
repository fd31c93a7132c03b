"""No file of the user's is touched, and a batch is found by the bytes of its shard."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import batch_frames as bf
from batch_frames.errors import BatchFramesWarning
from tests.service.server import BatchServer, reply
from tests.support.identity import (
    answers,
    ask,
    content,
    fetch,
    paid,
    prompts,
    shorten,
    submit,
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder."""
    return shorten(monkeypatch, tmp_path)


# A9, U7: a result knows its question


def test_a_shard_that_another_save_replaced_is_not_sent(server: BatchServer) -> None:
    """Of the same size, it still is not what was saved."""
    first = ask("q.jsonl", text="ask A {}")
    ask("q.jsonl", text="ask B {}")
    with pytest.raises(bf.BatchFramesError, match=r"'q.jsonl' has changed since it was saved"):
        submit(first, server)
    assert not server.batches


def test_old_answers_are_not_joined_to_new_questions(server: BatchServer) -> None:
    """What was answered before counts only for a request with the same line."""
    fetch(submit(ask("q.jsonl", text="ask A {}"), server), server)
    shards = ask("q.jsonl", text="ask B {}")
    with pytest.warns(BatchFramesWarning, match=r"q\.output\.jsonl"):
        results = bf.read_results("q.output.jsonl", requests=shards)
    assert set(results["status"]) == {"missing"}


def test_all_rounds_of_a_set_are_read(server: BatchServer) -> None:
    """The answers of a retry are those of the set."""
    server.settings.fail_every = 2
    shards = ask("q.jsonl")
    paths = fetch(submit(shards, server), server)
    server.settings.fail_every = None
    fetch(submit(bf.retry_requests(shards, paths), server), server)
    results = bf.read_results(requests="q.jsonl")
    assert set(results["status"]) == {"ok"}


# A10, A11: results


def test_live_answers_and_those_of_a_batch_stand_side_by_side(server: BatchServer) -> None:
    """Neither replaces the other, however often they are made, and they are read together."""
    shards = ask("q.jsonl", "abcdefghij")
    server.settings.endings = {"q.jsonl": "expired"}
    server.settings.done = 0.2
    fetch(submit(shards, server), server)
    for limit in (8, 9):
        bf.run_local(shards, client=server.client(), limit=limit)
        bf.download(bf.load_jobs("q.jsonl"), client=server.client())
        results = bf.read_results(requests="q.jsonl")
        assert (results["status"] == "ok").sum() == limit
    assert len(server.bodies) == 9 - 2


@pytest.mark.parametrize("was_submitted", [True, False])
def test_requests_under_the_name_of_results_stay(server: BatchServer, was_submitted: bool) -> None:
    """`a.output.jsonl` may hold requests; that is said before `a.jsonl` is sent."""
    a, other = ask("a.jsonl"), ask("b.jsonl", "wxyz")[0].path.rename("a.output.jsonl")
    before = other.read_bytes()
    if was_submitted:
        submit(other, server)
    with pytest.raises(bf.BatchFramesError) as caught:
        submit(a, server)
    assert str(caught.value) == (
        "'a.output.jsonl' is in the way of the results of 'a.jsonl'; it was not downloaded; "
        "move it away"
    )
    assert other.read_bytes() == before
    assert len(server.batches) == was_submitted
    other.rename("other.jsonl")
    assert content(fetch(submit(a, server), server)) == answers()


def test_a_download_spares_a_file_that_came_later(server: BatchServer) -> None:
    """What got the name of the results while the batch ran is not replaced."""
    jobs = submit(ask("a.jsonl"), server)
    Path("a.output.jsonl").write_text("notes")
    with pytest.raises(bf.BatchFramesError, match=r"in the way of the results of batch_"):
        fetch(jobs, server)
    Path("a.output.jsonl").rename("notes")
    assert content(fetch(jobs, server)) == answers()


def test_live_requests_do_not_take_requests_for_answers(server: BatchServer) -> None:
    """`a.output.jsonl` with the same ids holds requests: all of `a.jsonl` are asked."""
    a = ask("a.jsonl")
    other = ask("b.jsonl", text="Other {}")[0].path.rename("a.output.jsonl")
    before = other.read_bytes()
    paths = bf.run_local(a, client=server.client())
    assert other not in paths
    assert content(paths) == answers()
    assert (len(server.bodies), other.read_bytes()) == (4, before)


# A12: what is not ours


def test_a_save_spares_files_that_it_has_not_saved() -> None:
    """Foreign files under names that a set could have stay; in the way, they are an error."""
    notes = [Path("reviews-00001.jsonl"), Path("reviews-00002.jsonl")]
    for path in notes:
        path.write_text("notes\n")
    ask("reviews.jsonl")
    assert [path.read_text() for path in notes] == ["notes\n"] * 2
    with pytest.raises(bf.BatchFramesError, match=r"'reviews-00001.jsonl' was not saved by an ear"):
        ask("reviews.jsonl", per_shard=2)
    assert [path.read_text() for path in notes] == ["notes\n"] * 2


def test_a_split_save_spares_a_foreign_file_with_the_name_of_the_set() -> None:
    """It is neither removed nor replaced."""
    Path("reviews.jsonl").write_text("notes\n")
    with pytest.raises(bf.BatchFramesError, match=r"'reviews.jsonl' was not saved by an earlier"):
        ask("reviews.jsonl", per_shard=2)
    assert Path("reviews.jsonl").read_text() == "notes\n"


def test_a_save_spares_a_set_whose_name_looks_like_a_number() -> None:
    """`b-94107.jsonl` is not a shard of `b.jsonl`."""
    [other] = ask("b-94107.jsonl")
    before = other.path.read_bytes()
    ask("b.jsonl", "xyz", per_shard=1)
    ask("b.jsonl", "xyz")
    assert other.path.read_bytes() == before


@pytest.mark.parametrize("name", ["z.output.jsonl", "z.local.output.jsonl", "z.jobs.jsonl"])
def test_a_save_spares_answers_and_ledgers(server: BatchServer, name: str) -> None:
    """Paid answers, and the ledger of an earlier version, are not replaced."""
    shards = ask("z.jsonl")
    if name == "z.output.jsonl":
        fetch(submit(shards, server), server)
    elif name == "z.local.output.jsonl":
        bf.run_local(shards, client=server.client())
    elif submit(shards, server) and not Path(name).exists():
        Path(name).write_text('{"event": "intent"}\n')
    before = Path(name).read_bytes()
    with pytest.raises(bf.BatchFramesError, match=f"'{name}' has the name of a file with results"):
        ask(name)
    assert Path(name).read_bytes() == before


def test_a_retry_does_not_replace_a_shard_in_flight(server: BatchServer) -> None:
    """A name given by the user may be that of requests under way."""
    server.settings.fail_every = 2
    shards = ask("a.jsonl")
    paths = fetch(submit(shards, server), server)
    again = ask("again.jsonl", "wxyz")
    before = again[0].path.read_bytes()
    submit(again, server)
    with pytest.raises(bf.BatchFramesError, match=r"'again.jsonl' was submitted as batch_"):
        bf.retry_requests(shards, paths, "again.jsonl", statuses=["http_error"])
    assert again[0].path.read_bytes() == before


# B6, B7, B9, B10


def test_a_download_stops_at_the_size_that_was_reported(server: BatchServer) -> None:
    """A service that sends without end does not fill the disk."""
    jobs = submit(ask("a.jsonl"), server)
    jobs = bf.wait(jobs, client=server.client(), poll=0.005)
    line = b'{"custom_id":"a"}\n'
    server.settings.fewer_bytes = len(line) * 99_999_999
    server.batches[0].output_file_id = server.generate(line, 100_000_000)
    job = bf.load_jobs("a.jsonl")[0]
    server.service.files[job.output_file_id or ""].content = server.service.files[
        server.batches[0].output_file_id
    ].content
    with pytest.raises(bf.JobError, match="received more than 18 bytes"):
        bf.download(jobs, client=server.client())
    assert not [path for path in Path().iterdir() if path.stat().st_size > 100_000]
    assert not list(Path().glob("a.output*"))


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_under_names_that_can_be_guessed_are_not_followed(server: BatchServer) -> None:
    """In a shared folder somebody else may have put them there."""
    victim = Path("victim")
    victim.write_text("precious")
    for name in (
        *(".q.jsonl.lock", ".q.jsonl.00001.tmp", ".q.output.jsonl.tmp", ".q.errors.jsonl.tmp"),
        *(".q.jobs.jsonl.lock", ".q.local.output.jsonl.lock", ".q.local.output.jsonl.tmp"),
    ):
        Path(name).symlink_to(victim)
    folder = Path(".batch_frames")
    for name in ("sets/.q.jsonl.json.lock", ".record.lock"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(victim.absolute())
    # An error about the lock is as good.
    with suppress(bf.BatchFramesError, OSError):
        paths = fetch(submit(ask("q.jsonl"), server), server)
        assert not any(path.is_symlink() for path in paths)
    assert victim.read_text() == "precious"


def test_relative_and_absolute_paths_are_of_one_set(server: BatchServer) -> None:
    """A set does not lock itself out."""
    first, second = ask("q.jsonl", per_shard=2)
    jobs = submit([first.path, second.path.absolute()], server)
    assert len(server.batches) == 2
    assert content(fetch(jobs, server)) == answers()


def test_two_reads_into_one_file_leave_it_whole(server: BatchServer) -> None:
    """The file is that of one of them; or one of them says why not."""
    [output] = fetch(submit(ask("a.jsonl"), server), server)
    line = output.read_bytes().splitlines(keepends=True)[0]
    for name, count in (("x", 2_000), ("y", 4_000)):
        lines = (line.replace(b'"a"', f'"{name}{n}"'.encode()) for n in range(count))
        Path(f"{name}.output.jsonl").write_bytes(b"".join(lines))
    environment = {**os.environ, "PYTHONPATH": str(Path(bf.__file__).parents[1])}
    program = [sys.executable, "-m", "batch_frames", "read"]
    running = [
        subprocess.Popen([*program, f"{name}.output.jsonl", "-o", "out.csv"], env=environment)
        for name in "xy"
    ]
    assert sorted(process.wait() for process in running) in ([0, 0], [0, 1])
    text = Path("out.csv").read_text()
    assert text.count("\n") in (2_001, 4_001)
    assert len({row[0] for row in text.splitlines()[1:]}) == 1
    assert not list(Path().glob(".out.csv*"))


# Names of shards and folders


def test_a_renamed_shard_has_its_batch(server: BatchServer) -> None:
    """And shards that change their names among themselves have theirs."""
    shards = ask("q.jsonl", per_shard=2)
    jobs = submit(shards, server)
    Path("q-00001.jsonl").rename("x")
    Path("q-00002.jsonl").rename("q-00001.jsonl")
    Path("x").rename("q-00002.jsonl")
    again = submit("q-*.jsonl", server)
    assert [job.batch_id for job in again] == [job.batch_id for job in reversed(jobs)]
    Path("q-00001.jsonl").rename("other.jsonl")
    [other] = submit("other.jsonl", server)
    assert other.batch_id == jobs[1].batch_id
    assert content(fetch(bf.load_jobs("."), server)) == answers()
    assert paid(server) == 4


def test_a_shard_that_is_gone_is_brought_back_with_its_results(server: BatchServer) -> None:
    """Until then its requests are not sent in another file; later it is left alone."""
    shards = ask("q.jsonl", per_shard=2)
    before = shards[0].path.read_bytes()
    jobs = submit(shards, server)
    shards[0].path.unlink()
    with pytest.raises(bf.BatchFramesError, match=r"2 of 4 requests of 'b.jsonl' may still be"):
        submit(ask("b.jsonl"), server)
    Path("b.jsonl").unlink()
    paths = fetch(jobs, server)
    assert [path.name for path in paths] == ["q-00001.output.jsonl", "q-00002.output.jsonl"]
    assert shards[0].path.read_bytes() == before
    results = bf.read_results(requests="q-*.jsonl")
    assert dict(zip(results["custom_id"], results["content"], strict=True)) == answers()
    shards[0].path.unlink()
    assert bf.download(jobs, client=server.client()) == paths
    assert not shards[0].path.exists()


@pytest.mark.parametrize("upload", ["deleted", "different"])
def test_results_come_without_a_shard_that_cannot_be_brought_back(
    server: BatchServer, upload: str
) -> None:
    """A warning says so, and no other file stands in its place."""
    [job] = submit(ask("q.jsonl"), server)
    server.finish()
    Path("q.jsonl").unlink()
    if upload == "deleted":
        server.client().files.delete(str(job.file_id))
    else:
        other = server.client().files.create(file=("x.jsonl", b"{}\n"), purpose="batch")
        server.service.files[str(job.file_id)].content = server.service.files[other.id].content
    with pytest.warns(BatchFramesWarning) as caught:
        [path] = fetch(job, server)
    assert [str(one.message) for one in caught] == [
        "'q.jsonl' is gone: the service does not return what was uploaded; save it again to read "
        "its requests"
    ]
    assert content(path) == answers()
    assert not Path("q.jsonl").exists()


def test_a_copied_shard_has_the_same_batch(server: BatchServer) -> None:
    """In its folder it is the same shard once more."""
    [job] = submit(ask("q.jsonl"), server)
    shutil.copy("q.jsonl", "copy.jsonl")
    jobs = submit(["q.jsonl", "copy.jsonl"], server)
    assert {one.batch_id for one in jobs} == {job.batch_id}
    assert [one.path.name for one in jobs] == ["q.jsonl", "copy.jsonl"]
    assert paid(server) == 4


@pytest.mark.parametrize("move", [shutil.copytree, shutil.move])
def test_a_copied_or_moved_folder_has_its_batches(
    server: BatchServer, move: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record goes with the shards, into other folders and under other names."""
    Path("one").mkdir()
    jobs = submit(ask("one/q.jsonl", per_shard=2), server)
    assert callable(move)
    move("one", "two")
    monkeypatch.chdir("two")
    again = submit("q-*.jsonl", server)
    assert [job.batch_id for job in again] == [job.batch_id for job in jobs]
    assert content(fetch(bf.load_jobs("q.jsonl"), server)) == answers()
    assert paid(server) == 4


def test_a_folder_without_its_record_asks_once_more(server: BatchServer) -> None:
    """That is how one asks the same again on purpose."""
    [job] = submit(ask("q.jsonl"), server)
    Path("again").mkdir()
    shutil.copy("q.jsonl", "again/q.jsonl")
    [other] = submit("again/q.jsonl", server)
    assert other.batch_id != job.batch_id
    assert prompts(server)["Say a"] == 2
    for one in (job, other):
        assert content(fetch(one, server)) == answers()


# Accounts


def test_a_batch_is_not_looked_for_at_another_service(server: BatchServer) -> None:
    """Neither is the shard sent there in its place."""
    shards = ask("q.jsonl")
    jobs = submit(shards, server)
    with BatchServer() as other:
        verbs: tuple[Any, ...] = (bf.submit, bf.wait, bf.status, bf.download, bf.cancel)
        for verb in verbs:
            given = shards if verb is bf.submit else jobs
            with pytest.raises(bf.BatchFramesError, match="was submitted to the base_url") as error:
                verb(given, client=other.client())
            assert server.url in str(error.value)
        assert not other.requests_log
    fetch(jobs, server)


def test_a_batch_is_not_looked_for_in_another_organization(server: BatchServer) -> None:
    """The service names the organization of the key in its replies."""
    server.settings.organization = "org-1"
    server.settings.list_lag = 0.3
    server.when("POST /batches", "done", reply(500), times=1)
    shards = ask("q.jsonl")
    jobs = submit(shards, server)
    assert jobs[0].account["organization"] == "org-1"
    server.settings.organization = "org-2"
    mine = server.client(organization="org-2")
    verbs: tuple[Any, ...] = (bf.wait, bf.status, bf.download, bf.cancel)
    for verb in verbs:
        with pytest.raises(bf.BatchFramesError, match="submitted to the organization 'org-1'"):
            verb(jobs, client=mine)
    assert server.batches[0].status == "validating"


# Uploads


def test_uploads_expire_after_a_week(server: BatchServer) -> None:
    """Unless the user says otherwise."""
    submit(ask("a.jsonl"), server)
    submit(ask("b.jsonl", "x"), server, input_expires_after=None)
    day = {"anchor": "created_at", "seconds": 86_400}
    submit(ask("c.jsonl", "y"), server, input_expires_after=day)
    told = [file.expires_after.get("expires_after[seconds]") for file in server.uploads]
    assert told == ["604800", None, "86400"]


def test_a_service_whose_uploads_do_not_expire_is_sent_to(server: BatchServer) -> None:
    """It refuses the parameter, and is asked without it."""
    server.settings.expiring_uploads = False
    jobs = submit(ask("a.jsonl"), server)
    assert content(fetch(jobs, server)) == answers()
    assert len(server.uploads) == 1


def test_an_upload_whose_batch_was_refused_is_deleted(server: BatchServer) -> None:
    """No batch will ever read it."""
    server.when("POST /batches", "asked", reply(400, "No."))
    shards = ask("a.jsonl")
    with pytest.raises(Exception, match=r"No\."):
        submit(shards, server)
    assert [file.deleted for file in server.uploads] == [True]
    assert content(fetch(submit(shards, server), server)) == answers()
    assert [file.deleted for file in server.uploads] == [True, False]


def test_inputs_are_deleted_once_their_results_are_here(server: BatchServer) -> None:
    """Only if asked for, and nothing else at the service."""
    jobs = submit(ask("a.jsonl"), server)
    fetch(jobs, server)
    assert [file.deleted for file in server.uploads] == [False]
    bf.download(jobs, client=server.client(), delete_input=True)
    bf.download(jobs, client=server.client(), delete_input=True)
    assert [file.deleted for file in server.service.files.values()] == [True, False]
    assert server.requests_log.count("DELETE /files/{id}") == 1
    assert content("a.output.jsonl") == answers()
    submit("a.jsonl", server)
    assert paid(server) == 4


def test_inputs_stay_while_their_results_are_not_here(server: BatchServer) -> None:
    """A download that fails deletes nothing."""
    jobs = submit(ask("a.jsonl"), server)
    bf.wait(jobs, client=server.client(), poll=0.005)
    server.when("GET /files/{id}/content", "asked", reply(404))
    with pytest.raises(bf.JobError, match="the service has no file"):
        bf.download(jobs, client=server.client(), delete_input=True)
    assert not server.uploads[0].deleted
