"""The record of what was sent: one document for each shard, told by the shard's bytes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch_frames.errors import BatchFramesError, BatchFramesWarning
from batch_frames.files import record as module
from batch_frames.files import wanted_job
from batch_frames.files.asked import first_asked, pending_lines, sent_lines
from batch_frames.files.job import Job, Settings
from batch_frames.files.record import Record
from batch_frames.files.shards import RequestFile, line_hashes, read_shard
from tests.support.jobs import save_lines


def shard(name: str, *ids: str) -> RequestFile:
    """Write a request file, and read it."""
    return read_shard(save_lines(name, *({"custom_id": custom_id} for custom_id in ids)))


def begun(record: Record, file: RequestFile) -> Job:
    """Note that a shard is to be sent."""
    return record.begin(wanted_job(file, Settings()), file.lines)


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Record:
    """Stand in an empty folder, and open its record."""
    monkeypatch.chdir(tmp_path)
    return Record(tmp_path)


def test_a_job_is_found_by_the_bytes_of_its_shard(record: Record, tmp_path: Path) -> None:
    """Renamed or copied it is the same one; changed it is none."""
    file = shard("a.jsonl", "r0", "r1")
    job = record.note(begun(record, file), "created", batch_id="batch_1", status="in_progress")
    Path("a.jsonl").rename("b.jsonl")
    Path("c.jsonl").write_bytes(Path("b.jsonl").read_bytes())
    for name in ("b.jsonl", "c.jsonl"):
        found = record.job_of(tmp_path / name)
        assert found is not None
        assert (found.batch_id, found.token) == ("batch_1", job.token)
    with Path("b.jsonl").open("a", encoding="utf-8") as changed:
        changed.write("\n")
    assert record.job_of(tmp_path / "b.jsonl") is None
    assert record.job_of(tmp_path / "gone.jsonl") is None


def test_a_request_file_that_is_read_twice_is_the_same(record: Record) -> None:
    """By its hash; those of its lines follow from that."""
    assert shard("a.jsonl", "r0", "r1") == read_shard(Path("a.jsonl"))
    assert shard("a.jsonl", "r0", "r1") != shard("a.jsonl", "r0", "r2")


def test_shards_that_were_renamed_among_themselves_are_found(
    record: Record, tmp_path: Path
) -> None:
    """All have the same size, and one of them is gone."""
    for number in range(5):
        begun(record, shard(f"a{number}.jsonl", f"r{number}"))
    hashes = {read_shard(Path(f"a{n}.jsonl")).sha256: f"b{n}.jsonl" for n in range(4)}
    for number in range(4):
        Path(f"a{number}.jsonl").rename(f"b{number}.jsonl")
    Path("a4.jsonl").unlink()
    found = {job.sha256: job.path for job in record.jobs()}
    assert {sha: path for sha, path in found.items() if sha in hashes} == {
        sha: tmp_path / name for sha, name in hashes.items()
    }
    assert tmp_path / "a4.jsonl" in found.values()


def test_what_is_begun_twice_is_one_job(record: Record) -> None:
    """The second is told what the first noted."""
    file = shard("a.jsonl", "r0")
    first = begun(record, file)
    assert begun(Record(record.folder), file) == first
    assert len(first.token) == 32
    assert len(record.jobs()) == 1


def test_all_facts_come_back(record: Record, tmp_path: Path) -> None:
    """A job is the same after it was written and read."""
    job = begun(record, shard("ä 🎈.jsonl", "r0"))
    noted = record.note(
        job,
        "status",
        status="failed",
        errors=({"code": "x", "line": 1, "message": "é\ud800", "param": None},),
        files={"ä 🎈.output.jsonl": 7},
        account={"base_url": "http://x"},
        earlier=("batch_0",),
        settings=Settings({"a": "b"}, output_expires_after={"seconds": 1}),
    )
    found = Record(tmp_path).job(job.sha256, job.path)
    assert found == noted
    for name in ("files", "account", "earlier", "names", "steps", "settings"):
        assert getattr(found, name) == getattr(noted, name)
    assert [step for _, step in noted.steps] == ["begun", "status"]
    text = (tmp_path / ".batch_frames/jobs" / f"{job.sha256}.json").read_text("ascii")
    assert list(json.loads(text))[:2] == ["version", "names"]


def test_a_damaged_document_hides_no_other_job(record: Record, tmp_path: Path) -> None:
    """It is warned of by its name, and an error only where it is asked for itself."""
    good, bad = (begun(record, shard(f"{name}.jsonl", name)) for name in ("good", "bad"))
    path = tmp_path / ".batch_frames/jobs" / f"{bad.sha256}.json"
    message = (
        f"{path}: not a document of the record; bring it back from a copy; without it, its shard "
        "counts as never sent"
    )
    whole = json.loads(path.read_text("utf-8"))
    for damage in ({"requests": None}, {"names": 5}, {"steps": [1]}, {"settings": 3}):
        path.write_text(json.dumps({**whole, **damage}), "utf-8")
        if "requests" in damage:
            path.write_text(json.dumps({"version": 1, "names": ["bad.jsonl"]}), "utf-8")
        with pytest.warns(BatchFramesWarning) as caught:
            assert [job.path.name for job in record.jobs()] == ["good.jsonl"]
        assert [str(one.message) for one in caught] == [message]
        with pytest.raises(BatchFramesError) as error:
            record.job(bad.sha256)
        assert str(error.value) == message
        assert record.job(good.sha256) is not None


def test_jobs_are_listed_in_the_order_of_their_beginning(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in that of their hashes."""
    times = (f"2026-11-27T00:00:00.{number:03}+00:00" for number in count())
    monkeypatch.setattr(module, "now", lambda: next(times))
    names = [f"{name}.jsonl" for name in "qwertz"]
    for name in names:
        begun(record, shard(name, name))
    assert [job.path.name for job in record.jobs()] == names


def plain_hashes(data: bytes) -> list[int]:
    """Hash the lines of a file as simply as possible."""
    lines = [line.rstrip() for line in data.split(b"\n")]
    return [
        int.from_bytes(hashlib.blake2b(line, digest_size=8).digest(), "little")
        for line in lines
        if line
    ]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(ids=st.lists(texts, min_size=1, max_size=5), end=st.sampled_from([b"", b"\n", b"\r\n\n"]))
def test_hashes_of_lines_are_those_of_a_plain_loop(
    tmp_path: Path, ids: list[str], end: bytes
) -> None:
    """By file, by array and from the record, whatever the text and the end of the file."""
    lines = [
        json.dumps(
            {"custom_id": text, "method": "POST", "url": "/v1/embeddings", "body": {}},
            ensure_ascii=False,
        )
        for text in ids
    ]
    path = tmp_path / "a.jsonl"
    data = "\n".join(lines).encode() + end
    path.write_bytes(data)
    file = read_shard(path)
    assert file.lines.tolist() == plain_hashes(data)
    assert (file.requests, file.nbytes) == (len(ids), len(data))
    assert file.sha256 == hashlib.sha256(data).hexdigest()
    array = pa.array([line + "\n" for line in lines], pa.large_string())
    assert line_hashes(array).tolist() == plain_hashes(data)
    assert line_hashes(array.slice(1)).tolist() == plain_hashes(data)[1:]
    record = Record(tmp_path)
    kept = record.lines(begun(record, file))
    assert kept is not None
    assert kept.tolist() == plain_hashes(data)
    raw = (tmp_path / f".batch_frames/jobs/{file.sha256}.lines").read_bytes()
    assert raw == b"".join(n.to_bytes(8, "little") for n in plain_hashes(data))


numbers = st.lists(st.integers(0, 12), max_size=5)


@given(pending=st.lists(numbers, max_size=4), files=st.lists(numbers, max_size=4))
@pytest.mark.parametrize("among", [False, True])
def test_the_first_file_with_a_request_that_was_asked_is_found(
    among: bool, pending: list[list[int]], files: list[list[int]]
) -> None:
    """The same as two loops find, and the first shard that has it is named."""
    job = Job(Path("x"), 1, 1, "/v1/embeddings")
    asked = [
        (replace(job, path=Path(f"p{n}")), np.array(hashes, np.uint64))
        for n, hashes in enumerate(pending)
    ]
    new = [
        RequestFile(Path(f"f{n}"), len(h), 1, "", "", np.array(h, np.uint64))
        for n, h in enumerate(files)
    ]
    expected = None
    for number, hashes in enumerate(files):
        others = [(f"p{n}", h) for n, h in enumerate(pending)]
        others += [(f"f{n}", h) for n, h in enumerate(files[:number])] if among else []
        found = [(name, set(h) & set(hashes)) for name, h in others if set(h) & set(hashes)]
        if found:
            name, both = found[0]
            count = len(hashes)
            requests = "1 request" if count == 1 else f"{count} requests"
            expected = f"{len(both)} of {requests} of 'f{number}' may still be answered in '{name}'"
            break
    assert first_asked(asked, new, among=among) == expected


def test_pending_lines_are_those_of_jobs_without_all_answers(record: Record) -> None:
    """Waiting, running, lost and not downloaded count; downloaded, withdrawn, rejected do not."""
    states: dict[str, dict[str, Any]] = {
        "waiting": {},
        "tried": {"tried_at": "2026-01-01T00:00:00+00:00"},
        "running": {"tried_at": "x", "batch_id": "b", "status": "in_progress"},
        "ended": {"tried_at": "x", "batch_id": "b", "status": "completed", "output_file_id": "f"},
        "downloaded": {
            "tried_at": "x",
            "batch_id": "b",
            "status": "completed",
            "output_file_id": "f",
            "files": {"downloaded.output.jsonl": 1},
        },
        "withdrawn": {"status": "cancelled"},
        "rejected": {"tried_at": "x", "batch_id": "b", "status": "failed"},
        "failed": {"tried_at": "x", "batch_id": "b", "status": "failed", "completed": 1},
    }
    states["lost"] = {**states["downloaded"], "files": {"lost.output.jsonl": 1}}
    for name, facts in states.items():
        record.note(begun(record, shard(f"{name}.jsonl", name)), "status", **facts)
    Path("downloaded.output.jsonl").write_bytes(b"x")
    found = {job.path.stem: lines.tolist() for job, lines in pending_lines(record)}
    assert set(found) == {"waiting", "tried", "running", "ended", "failed", "lost"}
    for name, lines in found.items():
        assert lines == plain_hashes(Path(f"{name}.jsonl").read_bytes())
    passed = read_shard(Path("waiting.jsonl")).sha256
    sent = [job.path.stem for job, _ in sent_lines(record)]
    assert sent == ["waiting", "tried", "running", "ended", "downloaded", "failed", "lost"]
    sent.remove("waiting")
    assert [job.path.stem for job, _ in sent_lines(record, {passed})] == sent


def test_what_was_never_sent_and_cannot_be_is_not_waited_for(record: Record) -> None:
    """Its file is gone, or is another one now; after a try the requests count without a file."""
    for name in ("there", "gone", "changed", "tried"):
        job = begun(record, shard(f"{name}.jsonl", name))
        if name == "tried":
            record.note(job, "creating", tried_at="x")
    for name in ("gone", "tried"):
        Path(f"{name}.jsonl").unlink()
    with Path("changed.jsonl").open("a", encoding="utf-8") as changed:
        changed.write("\n")
    for find in (pending_lines, sent_lines):
        assert {job.path.stem for job, _ in find(record)} == {"there", "tried"}


def test_a_try_of_another_host_counts_before_it_is_noted(record: Record) -> None:
    """A job counts as tried from the moment when the right to a try is taken."""
    job = begun(record, shard("a.jsonl", "r0"))
    with record.locked(job) as known:
        assert known.tried_at is None
    assert record.begin_try(job, 1)
    with record.locked(job) as known:
        assert known.tried_at is not None
    record.end_try(job, 1)
    with record.locked(job) as known:
        assert known.tried_at is None
    assert record.begin_try(job, 2)
    record.note(job, "creating", tried_at="2026-01-01T00:00:00+00:00")
    with record.locked(job) as known:
        assert known.tried_at == "2026-01-01T00:00:00+00:00"


def test_lines_that_are_not_known_are_warned_of(record: Record, tmp_path: Path) -> None:
    """As of a job taken over whose shard is gone."""
    file = shard("a.jsonl", "r0")
    record.note(begun(record, file), "creating", tried_at="x")
    (tmp_path / f".batch_frames/jobs/{file.sha256}.lines").unlink()
    assert [lines.tolist() for _, lines in pending_lines(record)] == [file.lines.tolist()]
    Path("a.jsonl").unlink()
    with pytest.warns(BatchFramesWarning) as caught:
        assert list(pending_lines(record)) == []
    assert [str(one.message) for one in caught] == [
        f"the requests of '{tmp_path / 'a.jsonl'}', which may still be answered, are not known"
    ]
