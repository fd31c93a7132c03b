"""A reply that is cut, empty, no JSON or null is asked for again, and never a bare error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import batch_frames as bf
from batch_frames.batches import client as calls
from tests.service.server import BatchServer, raw, reply
from tests.support.identity import answers, ask, content, fetch, paid, shorten, submit

TORN = {
    "cut": raw(b'{"id": "batch_1", "stat'),
    "empty": raw(b""),
    "html": raw(b"<html>Just a moment</html>"),
    "page": raw(b"<html>Just a moment</html>", kind="text/html"),
    "null": raw(b"null"),
    "list": raw(b"[]"),
    "no text": raw(b'{"id": "\xff\xfe'),
    "no content": raw(b"", 204),
}
Torn = Callable[[], None]
torn_replies = pytest.mark.parametrize("torn", TORN.values(), ids=TORN)

WAIT, FILE = "GET /batches/{id}", "GET /files/{id}"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder."""
    folder = shorten(monkeypatch, tmp_path)
    monkeypatch.setattr(calls, "FIRST_PAUSE", 0.001)
    return folder


@torn_replies
def test_one_torn_reply_is_asked_for_again(server: BatchServer, torn: Torn) -> None:
    """Whatever was carried out is not done twice."""
    for route in ("POST /files", "POST /batches", WAIT, FILE):
        server.when(route, "done", torn)
    jobs = submit(ask("a.jsonl"), server)
    assert content(fetch(jobs, server)) == answers()
    assert len(server.batches) == 1
    assert paid(server) == 4


@torn_replies
def test_a_torn_list_is_asked_for_again(server: BatchServer, torn: Torn) -> None:
    """It does not say that there is no batch."""
    server.when("POST /batches", "done", reply(500))
    server.when("GET /batches", "done", torn, times=2)
    submit(ask("a.jsonl"), server)
    assert len(server.batches) == 1


@torn_replies
def test_wait_goes_on_after_many_torn_replies(server: BatchServer, torn: Torn) -> None:
    """A proxy may be broken for a part of the day."""
    jobs = submit(ask("a.jsonl"), server)
    server.when(WAIT, "done", torn, times=6)
    assert content(fetch(jobs, server)) == answers()


@torn_replies
def test_torn_replies_for_ever_are_an_error_of_ours(server: BatchServer, torn: Torn) -> None:
    """And the verb can be called again."""
    verbs: dict[str, Callable[..., Any]] = {
        "POST /files": bf.submit,
        WAIT: bf.status,
        "POST /batches/{id}/cancel": bf.cancel,
    }
    given: Any = ask("a.jsonl")
    for route, verb in verbs.items():
        server.when(route, "asked", torn, times=None)
        with pytest.raises(bf.BatchFramesError):
            verb(given, client=server.client())
        server._rules.clear()
        verb(given, client=server.client())
        given = bf.load_jobs("a.jsonl")
        assert len(server.batches) == 1


@torn_replies
def test_downloads_of_torn_replies_for_ever(server: BatchServer, torn: Torn) -> None:
    """They are an error too; or the content is looked at, as what is no object has no size."""
    jobs = bf.wait(submit(ask("a.jsonl"), server), client=server.client(), poll=0.005)
    server.when(FILE, "asked", torn, times=None)
    if torn not in (TORN["null"], TORN["list"]):
        with pytest.raises(bf.BatchFramesError):
            bf.download(jobs, client=server.client())
        server._rules.clear()
    assert content(bf.download(jobs, client=server.client())) == answers()


def test_a_content_that_is_forbidden_at_first_is_asked_for_again(server: BatchServer) -> None:
    """Just after the end of a batch, some services do not let its files be read."""
    jobs = submit(ask("a.jsonl"), server)
    server.when("GET /files/{id}/content", "asked", reply(403), times=3)
    assert content(fetch(jobs, server)) == answers()


def test_a_content_that_stays_forbidden_is_an_error(server: BatchServer) -> None:
    """A minute after the end, 403 means what it says."""
    bf.wait(submit(ask("a.jsonl"), server), client=server.client(), poll=0.005)
    for path in Path(".batch_frames/jobs").glob("*.json"):
        record = json.loads(path.read_bytes())
        record["steps"] = [["2026-01-01T00:00:00.000+00:00", step] for _, step in record["steps"]]
        path.write_text(json.dumps(record))
    server.when("GET /files/{id}/content", "asked", reply(403), times=None)
    with pytest.raises(Exception, match="403"):
        bf.download(bf.load_jobs("a.jsonl"), client=server.client())
    assert server.requests_log.count("GET /files/{id}/content") == 1
