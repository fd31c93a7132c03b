"""Clients, keys, and services that are away, refuse, or answer oddly."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, NoReturn

import openai
import pytest

import batch_frames as bf
from batch_frames.batches import client as service
from batch_frames.batches import send as finding
from batch_frames.files.job import Jobs
from tests.service.server import BatchServer, drop, reply
from tests.service.values import Refusal
from tests.support.jobs import bad_shards, ids, save, wait

pytestmark = pytest.mark.usefixtures("folder")

ODD: list[dict[str, Any]] = [{}, {"error": {"message": "no"}}, {"id": "", "status": "completed"}]
"""What proxies answer with 200, and no service that speaks of batches does."""


def instead(body: dict[str, Any]) -> Callable[[], None]:
    """Make an action that answers with 200 and something of the test's own."""

    def action() -> NoReturn:
        refusal = Refusal(200, "")
        refusal.body = body
        raise refusal

    return action


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
def test_faults_that_pass_are_sat_out(server: BatchServer, route: str) -> None:
    """A service that is away or overloaded is asked again, and nothing is paid twice."""
    faults = [reply(503), reply(429, Retry_After="0"), reply(408), drop]
    for fault in faults:
        server.when(route, "asked", fault)
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


@pytest.mark.parametrize("route", ["POST /files", "POST /batches", "GET /batches/{id}"])
def test_a_refusal_is_told_at_once_as_the_sdk_says_it(server: BatchServer, route: str) -> None:
    """Errors that no second try would mend pass through, and what was done stays done."""
    shards = save()
    for times, status in enumerate((401, 403, 404), 1):
        server.when(route, "asked", reply(status, "No, and no."))
        with pytest.raises(openai.APIStatusError) as caught:
            wait(bf.submit(shards, client=server.client()), server)
        assert caught.value.status_code == status
        assert server.requests_log.count(route) == times
    jobs = wait(bf.submit(shards, client=server.client()), server)
    assert [job.status for job in jobs] == ["completed"] * 3
    assert len(server.batches) == 3


def test_the_key_appears_nowhere(server: BatchServer, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither files nor representations, cards, errors and outputs show the key."""
    key = server.settings.key = "sk-secret-334"
    jobs = bf.submit(bad_shards(), client=server.client(), check=False)
    with pytest.raises(bf.JobError) as failed:
        wait(jobs, server, progress=True)
    jobs = bf.load_jobs("reviews.jsonl")
    bf.download(jobs, client=server.client(), progress=True)
    wrong = openai.OpenAI(base_url=server.url, api_key="sk-wrong-335")
    with wrong, pytest.raises(openai.AuthenticationError) as refused:
        bf.submit(save("more.jsonl"), client=wrong)
    said = [*capfd.readouterr(), str(failed.value), str(refused.value), repr(jobs)]
    said += [Jobs(jobs)._repr_html_(), bf.status(jobs).to_string()]
    said += [path.read_text("latin-1") for path in Path().rglob("*") if path.is_file()]
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


def test_without_the_sdk_the_error_is_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The openai SDK is an extra; what needs it says so."""
    save()
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(bf.MissingExtra) as caught:
        bf.submit("reviews-*.jsonl")
    message = 'submit needs the openai SDK; pip install "batch-frames[openai]"'
    assert str(caught.value) == message


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
        "'reviews-00001.jsonl': the service returned text that is not JSON; check base_url, or "
        "call again"
    )


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


@pytest.mark.parametrize("route", ["GET /batches/{id}", "POST /batches/{id}/cancel"])
def test_another_batch_is_no_answer(server: BatchServer, route: str) -> None:
    """What a service tells of another batch than was asked for is not taken for this one's."""
    jobs = bf.submit(save(count=4), client=server.client())
    [asked, other] = server.batches
    server.when(route, "asked", instead(other.shown(server.settings)), times=service.TRIES)
    with pytest.raises(bf.JobError) as caught:
        bf.cancel(jobs[0], client=server.client())
    assert str(caught.value) == (
        f"'reviews-00001.jsonl' ({asked.id}): the service returned another batch, {other.id}; "
        "check base_url, or call again"
    )
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
        bf.submit(save("b.jsonl", per_shard=6, text="Sing {}."), client=server.client())
    assert str(caught.value) == (
        "'b.jsonl': the service did not return a list of batches; check base_url, or call again"
    )
    assert len(server.batches) == 2


def test_a_list_without_batches_may_be_null(server: BatchServer) -> None:
    """Where an empty list is null, there is no batch, and one is made."""
    server.when("POST /batches", "asked", drop)
    server.when("GET /batches", "asked", instead({"object": "list", "data": None}), times=None)
    bf.submit(save(per_shard=6), client=server.client())
    assert len(server.batches) == 1


def test_a_list_that_cannot_be_turned_over(
    server: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that gives the same page again and again is not asked for ever."""
    monkeypatch.setattr(finding, "SETTLE", 0.5)
    bf.submit(save("a.jsonl", per_shard=6), client=server.client())
    page = {"object": "list", "data": [server.batches[0].shown(server.settings)], "has_more": True}
    server.when("GET /batches", "asked", instead(page), times=None)
    server.when("POST /batches", "asked", drop)
    bf.submit(save("b.jsonl", per_shard=6, text="Sing {}."), client=server.client())
    assert len(server.batches) == 2
    looks = server.requests_log.count("GET /batches")
    assert looks % 2 == 0, "some looks, of two pages each"
    assert 4 <= looks <= 30


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
    [job] = bf.submit(save("b.jsonl", per_shard=6, text="Sing {}."), client=server.client())
    assert [batch.id for batch in server.batches][1:] == [job.batch_id]
