"""Ledgers of version 0.1 are taken over at each stage of a job; nothing is paid twice.

The events are those that commit 55fd37d wrote, with shorter ids.
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

import batch_frames as bf
from batch_frames.batches import client as calls
from batch_frames.batches import send
from batch_frames.errors import BatchFramesWarning, LineError
from batch_frames.files.documents import Documents
from tests.service.server import BatchServer
from tests.support.jobs import save_lines

SHARD = "".join(
    f'{{"custom_id":"r{n}","method":"POST","url":"/v1/chat/completions","body":'
    f'{{"model":"m","messages":[{{"role":"user","content":"Say {n}."}}]}}}}\n'
    for n in range(2)
)
SHA256 = "e3fd4178d8daa8dcdc0b004045478ed3f1860d1590a154de7c1935d41a53dff4"

INTENT = (
    '{"event":"intent","at":"2026-11-26T22:12:04.615+00:00","shard":"o.jsonl","token":"t1",'
    f'"sha256":"{SHA256}","nbytes":266,"requests":2,"endpoint":"/v1/chat/completions",'
    '"settings":{"completion_window":"24h"}}\n'
)
UPLOADED = (
    '{"event":"uploaded","at":"2026-11-26T22:12:04.665+00:00","shard":"o.jsonl","token":"t1",'
    '"file_id":"file-1","uploaded_at":1795731124}\n'
)
CREATING = (
    '{"event":"creating","at":"2026-11-26T22:12:04.672+00:00","shard":"o.jsonl","token":"t1"}\n'
)


def batch_event(event: str, status: str, counts: tuple[int, int], **more: Any) -> str:
    """Write what the service said of the batch."""
    facts = {
        "event": event,
        "at": "2026-11-26T22:12:06.337+00:00",
        "shard": "o.jsonl",
        "token": "t1",
        "status": status,
        "batch_id": "batch_1",
        "total": counts[0],
        "completed": counts[1],
        "failed": 0,
        "output_file_id": None,
        "error_file_id": None,
        "created_at": 1795731124,
        "expires_at": 1795817524,
        "input_tokens": None,
        "output_tokens": None,
        "errors": [],
    }
    return json.dumps({**facts, **more}, separators=(",", ":")) + "\n"


CREATED = batch_event("created", "validating", (0, 0))
COMPLETED = batch_event("status", "completed", (2, 2), output_file_id="file-out")
CANCELLED = batch_event("status", "cancelled", (2, 1), output_file_id="file-out")
DOWNLOADED = (
    '{"event":"downloaded","at":"2026-11-26T22:12:08.557+00:00","shard":"o.jsonl","token":"t1",'
    '"name":"o.output.jsonl","size":SIZE}\n'
)
NO_MODEL = {
    "code": "model_not_found",
    "line": 1,
    "message": "The provided model 'm' is not supported by the Batch API.",
    "param": "body.model",
}
TOO_MANY = {
    "code": "token_limit_exceeded",
    "line": None,
    "message": "Enqueued token limit reached for m in organization test.",
    "param": None,
}
LIMIT = {"code": "billing_hard_limit_reached", "line": None, "message": "Limit.", "param": None}
FAILED = batch_event("status", "failed", (0, 0), errors=[NO_MODEL])
BILLED = batch_event("status", "failed", (0, 0), errors=[LIMIT])
REFUSED = batch_event("status", "failed", (0, 0), errors=[TOO_MANY])

SENT = INTENT + UPLOADED + CREATING
TRIED_TWICE = SENT + (CREATED + REFUSED).replace("batch_1", "batch_0")
AGAIN = SENT.replace('"t1"', '"t2"') + CREATED.replace('"t1"', '"t2"')

# The ledger, the status of the batch at the service, the loaded job's status, what is paid in all.
STAGES: dict[str, tuple[str, str | None, str, int]] = {
    "intent": (INTENT, None, "waiting", 2),
    "uploaded": (INTENT + UPLOADED, None, "waiting", 2),
    "creating, and it was lost": (SENT, None, "waiting", 2),
    "creating, and it was created": (SENT, "validating", "waiting", 2),
    "creating, with a torn line behind": (SENT + CREATED[:70], "validating", "waiting", 2),
    "created": (SENT + CREATED, "validating", "validating", 2),
    "completed": (SENT + CREATED + COMPLETED, "completed", "completed", 2),
    "completed, and a torn line": (SENT + CREATED + COMPLETED[:-30], "completed", "validating", 2),
    "downloaded": (SENT + CREATED + COMPLETED + DOWNLOADED, "completed", "completed", 2),
    "failed for another reason": (SENT + CREATED + BILLED, "failed", "failed", 2),
    "refused for tokens": (SENT + CREATED + REFUSED, "failed", "waiting", 2),
    "refused, and created again": (TRIED_TWICE + AGAIN, "validating", "validating", 2),
    "refused, and tried again": (TRIED_TWICE + SENT.replace('"t1"', '"t2"'), None, "waiting", 2),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder with the shard, with short pauses."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(send, "SETTLE", 0.05)
    monkeypatch.setattr(calls, "FIRST_PAUSE", 0.002)
    (tmp_path / "o.jsonl").write_text(SHARD, "utf-8")
    return tmp_path


def prepare(server: BatchServer, ledger: str, status: str | None) -> bytes:
    """Bring the service to where it was, write the ledger and return its bytes."""
    api = server.client()
    file = api.files.create(file=("o.jsonl", SHARD.encode()), purpose="batch")
    stored = server.service.files.pop(file.id)
    stored.id = "file-1"
    server.service.files["file-1"] = stored
    if status is not None:
        token = "t2" if '"t2"' in ledger else "t1"
        api.batches.create(
            input_file_id="file-1",
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={"batch_frames": token},
        )
        [batch] = server.batches
        batch.id = "batch_1"
        if status == "completed":
            server.finish()
            assert batch.output_file_id
            out = server.service.files.pop(batch.output_file_id)
            out.id = batch.output_file_id = "file-out"
            server.service.files["file-out"] = out
            text = server.client().files.content("file-out").read()
            if "downloaded" in ledger:
                Path("o.output.jsonl").write_bytes(text)
            ledger = ledger.replace("SIZE", str(len(text)))
        elif status == "failed":
            batch.status = "failed"
    Path("o.jobs.jsonl").write_text(ledger, "utf-8")
    return Path("o.jobs.jsonl").read_bytes()


@pytest.mark.parametrize("verb", ["submit", "load_jobs"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_job_goes_on_where_the_old_version_stopped(
    server: BatchServer, stage: str, verb: str
) -> None:
    """It is loaded, sent if it was not, followed and downloaded, and paid for once."""
    ledger, status, loaded, paid = STAGES[stage]
    kept = prepare(server, ledger, status)
    client = server.client()
    [job] = bf.load_jobs("o.jsonl")
    assert (job.state, job.sha256, job.requests) == (loaded, SHA256, 2)
    [row] = bf.status([job], client=client).to_dict("records")
    assert row["shard"] == "o.jsonl"
    jobs = bf.submit("o.jsonl", client=client) if verb == "submit" else [job]
    if verb == "load_jobs" and stage == "failed for another reason":
        with pytest.raises(bf.JobError, match="Limit"):
            bf.wait(jobs, client=client, poll=0.005)
        return
    jobs = bf.wait(jobs, client=client, poll=0.005)
    paths = bf.download(jobs, client=client)
    assert [path.name for path in paths] == ["o.output.jsonl"]
    results = bf.read_results(paths, requests="o.jsonl")
    assert results["status"].tolist() == ["ok", "ok"]
    server.finish()
    assert sum(batch.paid for batch in server.batches) == paid
    assert Path("o.jobs.jsonl").read_bytes() == kept
    # The ledger is not looked at again.
    again = bf.submit("o.jsonl", client=client)
    assert [job.batch_id for job in again] == [job.batch_id for job in jobs]
    assert bf.load_jobs("o.jobs.jsonl") == bf.load_jobs("o.jsonl") == again


def test_a_cancelled_job_is_not_sent_again(server: BatchServer) -> None:
    """Some of its answers were paid for; they are downloaded."""
    prepare(server, SENT + CREATED + CANCELLED, "completed")
    [job] = bf.submit("o.jsonl", client=server.client())
    assert (job.batch_id, job.status) == ("batch_1", "cancelled")
    [path] = bf.download([job], client=server.client())
    assert path.name == "o.output.jsonl"
    assert len(server.batches) == 1


def test_a_shard_whose_lines_are_wrong_is_refused_as_before(server: BatchServer) -> None:
    """What failed at validation for a line is not sent again."""
    prepare(server, SENT + CREATED + FAILED, "failed")
    with pytest.raises(bf.JobError, match="The provided model 'm' is not supported"):
        bf.submit("o.jsonl", client=server.client())
    assert len(server.batches) == 1


@pytest.mark.parametrize("line", ["", "null", "{}", '{"event":"status","token":"t9"}', "{"])
def test_a_damaged_ledger_is_an_error_that_names_the_line(server: BatchServer, line: str) -> None:
    """Nothing is sent: there may be batches that it does not tell of."""
    kept = prepare(server, INTENT + line + "\n" + UPLOADED, None)
    for call in (bf.load_jobs, lambda path: bf.submit(path, client=server.client())):
        with pytest.raises(LineError, match=r"o\.jobs\.jsonl, line 2: not an event of a ledger"):
            call("o.jsonl")
    assert not server.batches
    assert Path("o.jobs.jsonl").read_bytes() == kept


@pytest.mark.parametrize("name", ["o.jsonl", "copy.jsonl"])
def test_a_damaged_ledger_stops_only_what_it_may_tell_of(server: BatchServer, name: str) -> None:
    """Other sets in the folder are sent and listed, with a warning that names the ledger."""
    prepare(server, INTENT + "{\n" + UPLOADED, None)
    Path("o.jsonl").rename(name)
    other = save_lines("other.jsonl", {"custom_id": "x"})
    message = (
        f"{Path.cwd()}/o.jobs.jsonl, line 2: not an event of a ledger; take the line out, or "
        "bring the file back"
    )
    with pytest.warns(BatchFramesWarning, match="o.jobs.jsonl, line 2: not an event of a ledger"):
        [job] = bf.submit(other.absolute(), client=server.client())
    with pytest.warns(BatchFramesWarning) as caught:
        assert bf.load_jobs(Path.cwd()) == [job]
    assert {str(one.message) for one in caught} == {message}
    with pytest.raises(LineError) as error:
        bf.submit(Path(name).absolute(), client=server.client())
    assert str(error.value) == message
    assert len(server.batches) == 1


def test_a_ledger_in_a_folder_that_cannot_be_written_to_is_read(
    server: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its jobs are listed and shown, their results read; nothing is written or sent."""
    prepare(server, SENT + CREATED + COMPLETED + DOWNLOADED, "completed")
    before = sorted(Path().rglob("*"))

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), ".batch_frames")

    monkeypatch.setattr(Documents, "_written", refuse)
    for given in ("o.jsonl", "."):
        [job] = bf.load_jobs(given)
        assert (job.batch_id, job.status) == ("batch_1", "completed")
    assert bf.status(job, client=server.client())["completed"].tolist() == [2]
    results = bf.read_results("o.output.jsonl", requests="o.jsonl")
    assert results["status"].tolist() == ["ok", "ok"]
    assert bf.retry_requests("o.jsonl", "o.output.jsonl") == []
    assert sorted(Path().rglob("*")) == before
