"""Whatever the service replies, each verb returns or names the batch, and nothing is paid twice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import batch_frames as bf
from batch_frames.batches import client as calls
from batch_frames.batches import send
from tests.service.changes import CHANGES, with_values
from tests.service.http import Change
from tests.service.server import BatchServer, reply
from tests.support.identity import answers, ask, content, fetch, shorten, submit
from tests.support.marks import slow

CREATE, LIST, RETRIEVE = "POST /batches", "GET /batches", "GET /batches/{id}"
FILES = ("GET /files/{id}", "GET /files/{id}/content")

VERBS: dict[str, list[str]] = {
    "submit": ["POST /files", FILES[0], CREATE, LIST],
    "status": [RETRIEVE],
    "wait": [RETRIEVE],
    "cancel": ["POST /batches/{id}/cancel", RETRIEVE],
    "download": [*FILES, RETRIEVE],
    "run": ["POST /files", CREATE, LIST, RETRIEVE, *FILES],
}
"""The verbs with the routes that they ask."""

ERRORS = (400, 401, 404, 409, 429, 500)

Service = tuple[BatchServer, openai.OpenAI]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """Have one service for all examples, with short pauses."""
    with pytest.MonkeyPatch.context() as patch, BatchServer() as server:
        patch.setattr(send, "SETTLE", 0.03)
        for name in ("FIRST_PAUSE", "LONGEST_PAUSE", "LONGEST_ASKED_PAUSE"):
            patch.setattr(calls, name, 0.001)
        yield server, server.client()


def call(verb: str, shards: list[Path], client: openai.OpenAI, timeout: float = 30.0) -> Any:
    """Call a verb for some shards."""
    patience: dict[str, Any] = {"timeout": timeout, "poll": 0.001, "progress": False}
    if verb == "submit":
        return bf.submit(shards, client=client, progress=False)
    if verb == "run":
        return bf.run(shards, client=client, **patience)
    jobs = bf.load_jobs(shards)
    if verb == "wait":
        return bf.wait(jobs, client=client, **patience)
    verbs: dict[str, Any] = {"status": bf.status, "cancel": bf.cancel, "download": bf.download}
    return verbs[verb](jobs, client=client)


def call_strangely(verb: str, shards: list[Path], client: openai.OpenAI) -> None:
    """Call a verb while replies are odd: what it raises names a batch or a shard."""
    try:
        call(verb, shards, client, 0.1)
    except bf.BatchFramesError as error:
        named = str(error)
    except openai.OpenAIError as error:
        named = "".join(error.__notes__)
    else:
        return
    assert "a-0000" in named


def most_batches(server: BatchServer) -> int:
    """Return for how many batches the service had the same requests, at most."""
    return max(Counter(batch.input_sha256 for batch in server.batches).values(), default=0)


@st.composite
def cases(draw: Any) -> dict[str, Any]:
    """Draw a verb, a route, and what is wrong with how many replies."""
    verb = draw(st.sampled_from(sorted(VERBS)))
    return {
        "verb": verb,
        "route": draw(st.sampled_from(VERBS[verb])),
        "change": draw(CHANGES),
        "times": draw(st.sampled_from([1, 1, 2, None])),
        "only_first": draw(st.booleans()),
        "error": draw(st.sampled_from([None, None, None, *ERRORS])),
        "is_create_lost": draw(st.booleans()),
    }


def check(service: Service, case: dict[str, Any]) -> None:
    """Call a verb while replies are odd, and again once they are sane."""
    server, client = service
    verb, route, times = case["verb"], case["route"], case["times"]
    server.batches.clear()
    with TemporaryDirectory() as folder:
        shards = [shard.path for shard in ask(Path(folder, "a.jsonl"), per_shard=2)]
        before = {"submit": [], "run": [], "download": ["submit", "wait"]}
        for sane in before.get(verb, ["submit"]):
            call(sane, shards, client)
        is_for_one = case["only_first"] and server.batches and route.startswith("GET /batches/")
        first = server.batches[0].id if is_for_one else None
        server.alter(route, case["change"], times=times, only_id=first)
        if case["error"]:
            server.when(route, "asked", reply(case["error"]), times=times)
        if case["is_create_lost"]:
            server.when(CREATE, "done", reply(500))
        call_strangely(verb, shards, client)
        server.behave()
        assert most_batches(server) <= 1
        if verb == "cancel":
            call("cancel", shards, client)
            # Each question about a batch brings it one step nearer to its end.
            ends = {"cancelling", "cancelled", "completed"}
            assert {batch.status for batch in server.batches} <= ends
        else:
            assert call("run", shards, client)["status"].tolist() == ["ok"] * 4
            assert most_batches(server) == 1


@given(cases())
@settings(max_examples=8)
def test_a_verb_survives_any_reply(service: Service, case: dict[str, Any]) -> None:
    """It returns, or raises an error that names the shard; called again, it finishes."""
    check(service, case)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
@given(case=cases())
@settings(max_examples=250)
def test_a_verb_survives_thousands_of_replies(
    service: Service, part: int, case: dict[str, Any]
) -> None:
    """As above, with many more of them, in parts that processes share."""
    check(service, case)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder."""
    monkeypatch.setattr(calls, "FIRST_PAUSE", 0.001)
    folder = shorten(monkeypatch, tmp_path)
    monkeypatch.setattr(send, "SETTLE", 0.1)
    return folder


ODD_BATCHES: list[dict[str, Any]] = [
    {"request_counts": {"total": "2", "completed": 1.0, "failed": [0]}},
    {"request_counts": [2, 1, 0], "usage": {"input_tokens": {}, "output_tokens": "many"}},
    {"created_at": "yesterday", "expires_at": 10**30},
    {"created_at": 1_763_000_000_000, "expires_at": -1, "in_progress_at": {}},
    {"errors": {"data": [{"line": [1], "message": {"x": 1}, "code": 5}, None, "no"]}},
    {"errors": {"data": "all wrong"}, "status": "failed"},
    {"errors": ["all wrong"], "metadata": ["x"], "output_file_id": 7, "error_file_id": {}},
    {"id": None},
    {"status": {"of": "batch"}},
    {"status": "\x1b[2Jdone"},
]


@pytest.mark.parametrize("values", [*ODD_BATCHES[::3], *map(slow, ODD_BATCHES)])
@pytest.mark.usefixtures("here")
def test_an_odd_batch_hides_no_other(server: BatchServer, values: dict[str, Any]) -> None:
    """It has its row in the table and its line in the card, and so have the others."""
    server.alter(CREATE, with_values(**{**values, "id": "batch_odd", "status": "validating"}))
    jobs = submit(ask("a.jsonl", per_shard=2), server)
    for name in ("a-00001.jsonl", "a-00002.jsonl"):
        assert name in bf.load_jobs("a.jsonl")._repr_html_()  # type: ignore[attr-defined]
    server.alter(RETRIEVE, with_values(**values), times=None, only_id="batch_odd")
    server.batches[0].id = "batch_odd"
    table = bf.status(jobs, client=server.client())
    assert table["shard"].tolist() == ["a-00001.jsonl", "a-00002.jsonl"]
    assert table["status"][1] == "in_progress"
    assert table["total"][1] == 2


@pytest.mark.usefixtures("here")
def test_an_odd_reply_is_told_in_the_table(server: BatchServer) -> None:
    """If all replies are odd, it is an error."""
    jobs = submit(ask("a.jsonl", per_shard=2), server)
    odd, _ = server.batches
    server.alter(RETRIEVE, with_values(id=None), times=None, only_id=odd.id)
    table = bf.status(jobs, client=server.client())
    problem = "the service did not return a batch"
    assert table["errors"].dropna().tolist() == [f"a-00001.jsonl: {problem}"]
    with pytest.raises(bf.JobError) as caught:
        bf.status(jobs[:1], client=server.client())
    place = f"'a-00001.jsonl' ({odd.id})"
    assert str(caught.value) == f"{place}: {problem}; check base_url, or call again"
    assert caught.value.batch_id == odd.id


@pytest.mark.usefixtures("here")
def test_an_odd_batch_keeps_no_other_from_its_end(server: BatchServer) -> None:
    """The others are waited for, downloaded and cancelled."""
    jobs = submit(ask("a.jsonl", per_shard=2), server)
    odd = server.batches[0]
    for route in (RETRIEVE, "POST /batches/{id}/cancel"):
        server.alter(route, with_values(id=None), times=None, only_id=odd.id)
    with pytest.raises(bf.WaitTimeout):
        bf.wait(jobs, client=server.client(), timeout=1, poll=0.005, progress=False)
    assert [job.status for job in bf.load_jobs("a.jsonl")] == ["validating", "completed"]
    with pytest.raises(bf.JobError, match="a-00001"):
        bf.download(jobs, client=server.client())
    assert Path("a-00002.output.jsonl").exists()
    jobs = submit(ask("b.jsonl", ids="efgh", per_shard=2), server)
    for route in (RETRIEVE, "POST /batches/{id}/cancel"):
        server.alter(route, with_values(id=None), times=None, only_id=server.batches[2].id)
    with pytest.raises(bf.JobError, match="b-00001"):
        bf.cancel(jobs, client=server.client())
    assert server.batches[3].status == "cancelling"
    server.behave()
    assert content(fetch(bf.load_jobs("a.jsonl"), server)) == answers()


def in_list(*values: Any) -> Change:
    """Put other values in the place of the batches in their list."""
    return lambda status, data: (
        status,
        json.dumps({**json.loads(data), "data": [*values]}).encode(),
    )


def renamed(status: int, data: bytes) -> tuple[int, bytes]:
    """Put the batches in a list under another key."""
    reply = json.loads(data)
    return status, json.dumps({"object": "list", "items": reply["data"]}).encode()


def nested(status: int, data: bytes) -> tuple[int, bytes]:
    """Put the list of batches one level deeper."""
    reply = json.loads(data)
    return status, json.dumps({"object": "list", "items": {"data": reply["data"]}}).encode()


def without_clues(status: int, data: bytes) -> tuple[int, bytes]:
    """Take the metadata of the batches away, and name their files otherwise."""
    reply = json.loads(data)
    for batch in reply["data"]:
        batch |= {"metadata": None, "input_file_id": f"files/{batch['input_file_id']}"}
    return status, json.dumps(reply).encode()


LISTS: dict[str, Change] = {
    "null": in_list(None),
    "text": in_list("batch_1"),
    "number": in_list(1),
    "no id": in_list({"object": "batch"}),
    "no list": with_values(data={"batches": []}),
    "text for list": with_values(data=""),
    "emptied": in_list(),
    "nulled": with_values(data=None),
    "renamed": renamed,
    "nested": nested,
    "without clues": without_clues,
}


@pytest.mark.parametrize("name", ["null", "emptied", "without clues", *map(slow, LISTS)])
@pytest.mark.usefixtures("here")
def test_an_odd_list_does_not_make_a_second_batch(server: BatchServer, name: str) -> None:
    """One whose creation had no reply is found once the list is sane; until then, it is refused."""
    server.when(CREATE, "done", reply(500))
    server.alter(LIST, LISTS[name], times=None)
    shards = ask("a.jsonl")
    with pytest.raises(bf.JobError, match=r"^'a\.jsonl': .*list"):
        submit(shards, server)
    server.behave()
    assert content(fetch(submit(shards, server), server)) == answers()
    assert len(server.batches) == 1


@pytest.mark.parametrize("text", [b'{"object": "list"}', b'{"object": "list", "data": []}'])
@pytest.mark.usefixtures("here")
def test_one_empty_list_is_not_believed(
    server: BatchServer, text: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even after the time in which a batch may turn up, it is asked for once more."""
    monkeypatch.setattr(send, "SETTLE", 0.0)
    server.when(CREATE, "done", reply(500))
    server.alter(LIST, lambda status, _: (status, text))
    assert content(fetch(submit(ask("a.jsonl"), server), server)) == answers()
    assert len(server.batches) == 1


@pytest.mark.usefixtures("here")
def test_a_batch_that_may_be_ours_is_named(server: BatchServer) -> None:
    """Once it is cancelled, another one is created; those of others do not matter."""
    others = submit(ask("others.jsonl", ids="xy"), server)
    server.when(CREATE, "done", reply(500))
    server.alter(LIST, without_clues, times=None)
    shards = ask("a.jsonl")
    with pytest.raises(bf.JobError) as caught:
        submit(shards, server)
    _, unclear = server.batches
    assert str(caught.value) == (
        f"'a.jsonl': {unclear.id} in the service's list may be its batch, as neither its metadata "
        "nor its file can be read; cancel that one, or copy the file to another folder to ask the "
        "same again"
    )
    unclear.status = "cancelled"
    assert len(server.batches) == 2
    assert content(fetch([*others, *submit(shards, server)], server)) == answers("abcdxy")
    assert len(server.batches) == 3


@pytest.mark.usefixtures("here")
def test_an_upload_of_the_far_future_hides_no_batch(server: BatchServer) -> None:
    """The clock of the service is believed only where ours agrees."""
    server.alter("POST /files", with_values(created_at=10**12))
    server.when(CREATE, "done", reply(500))
    submit(ask("a.jsonl"), server)
    assert len(server.batches) == 1


@pytest.mark.usefixtures("here")
def test_errors_of_the_sdk_name_the_shard_in_a_note(server: BatchServer) -> None:
    """They are passed through as they are."""
    jobs = submit(ask("a.jsonl"), server)
    server.when(RETRIEVE, "asked", reply(401))
    with pytest.raises(openai.AuthenticationError) as caught:
        bf.status(jobs, client=server.client())
    assert caught.value.__notes__ == [f"for 'a.jsonl' ({jobs[0].batch_id})"]
