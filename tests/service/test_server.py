"""The tests' own Batch API server, as OpenAI's SDK sees it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types import Batch

from tests.service.answers import example
from tests.service.server import BatchServer, drop, raw, reply, sleep

CHAT = "/v1/chat/completions"
ONCE: dict[str, Any] = {"max_retries": 0}


def line(custom_id: str, text: str = "hello", model: str = "m", url: str = CHAT) -> bytes:
    """Write a request line."""
    body = {"model": model, "messages": [{"role": "user", "content": text}]}
    request = {"custom_id": custom_id, "method": "POST", "url": url, "body": body}
    return json.dumps(request).encode() + b"\n"


def lines(count: int) -> bytes:
    """Write request lines with the ids 0, 1, 2, …"""
    return b"".join(line(str(number), f"text {number}") for number in range(count))


def upload(client: openai.OpenAI, content: bytes, name: str = "a.jsonl") -> str:
    """Upload a request file."""
    return client.files.create(file=(name, content), purpose="batch").id


def create(client: openai.OpenAI, file_id: str, **options: Any) -> Batch:
    """Make a batch of a file."""
    options = {"endpoint": CHAT, "completion_window": "24h", **options}
    return client.batches.create(input_file_id=file_id, **options)


def end(client: openai.OpenAI, batch: Batch) -> Batch:
    """Ask for a batch until it changes no more."""
    while batch.status not in ("completed", "failed", "expired", "cancelled"):
        batch = client.batches.retrieve(batch.id)
    return batch


def run(client: openai.OpenAI, content: bytes, name: str = "a.jsonl", **options: Any) -> Batch:
    """Upload a file, make a batch of it and follow it to its end."""
    return end(client, create(client, upload(client, content, name), **options))


def rows(client: openai.OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    """Download result lines; none if there is no file."""
    content = client.files.content(file_id).content if file_id else b""
    return [json.loads(text) for text in content.splitlines()]


def download(client: openai.OpenAI, file_id: str, into: bytearray, **headers: str) -> int:
    """Stream a file into a buffer and say with which HTTP status it came."""
    files = client.files.with_streaming_response
    with files.content(file_id, extra_headers=headers) as response:
        for block in response.iter_bytes():
            into += block
        return response.status_code


def ids(found: list[dict[str, Any]]) -> list[str]:
    """List the ids of result lines."""
    return [row["custom_id"] for row in found]


def test_a_batch_goes_through_its_stages() -> None:
    """Each time a batch is asked for it is one stage further, and the last holds the answers."""
    with BatchServer() as server:
        client = server.client()
        batch = create(client, upload(client, lines(30)), metadata={"a": "b"})
        seen = [batch, *(client.batches.retrieve(batch.id) for _ in range(4))]
        last = seen[-1]
        answers = rows(client, last.output_file_id)
    assert [step.status for step in seen] == [
        "validating",
        "in_progress",
        "finalizing",
        "completed",
        "completed",
    ]
    assert [step.request_counts.total for step in seen if step.request_counts] == [
        0,
        30,
        30,
        30,
        30,
    ]
    assert (last.metadata, last.error_file_id, last.model) == ({"a": "b"}, None, "m")
    assert last.usage
    assert last.usage.total_tokens == 30 * (2 + 5)
    texts = {
        row["custom_id"]: row["response"]["body"]["choices"][0]["message"]["content"]
        for row in answers
    }
    assert texts == {str(number): f"You said: text {number}" for number in range(30)}


def test_outputs_are_shuffled_ascii_lines() -> None:
    """Answers come in an order of their own, the same for the same seed, and in ASCII."""
    with BatchServer() as server:
        client = server.client()
        content = lines(20) + line("é", "日本")
        first, second = run(client, content), run(client, content)
        text = client.files.content(str(first.output_file_id)).content
        again = ids(rows(client, second.output_file_id))
        server.settings.seed = 1
        other = ids(rows(client, run(client, content).output_file_id))
    order = [json.loads(row)["custom_id"] for row in text.splitlines()]
    assert order == again != sorted(order)
    assert sorted(order) == sorted(other)
    assert order != other
    assert text.isascii()
    assert text.endswith(b"\n")
    assert list(json.loads(text.splitlines()[0])) == ["id", "custom_id", "response", "error"]


def test_polls_per_stage() -> None:
    """A batch can be made to stay in each stage, or to run through all of them at once."""
    with BatchServer(polls=3) as server:
        client = server.client()
        batch = create(client, upload(client, lines(1)))
        seen = [client.batches.retrieve(batch.id).status for _ in range(9)]
        server.settings.polls = 0
        at_once = client.batches.retrieve(create(client, upload(client, lines(1))).id)
    assert seen == ["validating"] * 2 + ["in_progress"] * 3 + ["finalizing"] * 3 + ["completed"]
    assert at_once.status == "completed"


def test_a_clock_leads_batches() -> None:
    """Without polls only the clock counts, and its stamps are those of the batch."""
    with BatchServer(polls=None, stage_seconds=600) as server:
        client = server.client()
        batch = create(client, upload(client, lines(1)))
        seen = []
        for seconds in (0, 599, 1, 600, 600):
            server.clock.advance(seconds)
            seen.append(client.batches.retrieve(batch.id))
        server.clock.advance(-7_200)
        slow = create(client, upload(client, lines(1)))
    assert [step.status for step in seen] == [
        "validating",
        "validating",
        "in_progress",
        "finalizing",
        "completed",
    ]
    assert seen[-1].completed_at
    assert seen[-1].completed_at - batch.created_at >= 1_800
    assert slow.created_at < batch.created_at


def test_expired_batches_keep_what_was_done() -> None:
    """An expired batch has the finished requests in one file and all the others in the other."""
    with BatchServer(endings={"b.jsonl": "expired"}, done=0.3) as server:
        client = server.client()
        whole, part = run(client, lines(10)), run(client, lines(10), "b.jsonl")
        done, rest = rows(client, part.output_file_id), rows(client, part.error_file_id)
        paid = [batch.paid for batch in server.batches]
    assert (whole.status, part.status, paid) == ("completed", "expired", [10, 3])
    assert len(done) == 3
    assert sorted(ids(done) + ids(rest)) == [str(number) for number in range(10)]
    assert rest[0]["response"] is None
    assert {row["error"]["code"] for row in rest} == {"batch_expired"}


def test_expiry_takes_a_day_on_the_clock() -> None:
    """With a clock, a batch expires a day after it was made."""
    with BatchServer(polls=None, endings={"a.jsonl": "expired"}) as server:
        client = server.client()
        batch = create(client, upload(client, lines(2)))
        seen = []
        for seconds in (60, 86_339, 1):
            server.clock.advance(seconds)
            seen.append(client.batches.retrieve(batch.id).status)
    assert seen == ["in_progress", "in_progress", "expired"]


@pytest.mark.parametrize("told", [False, True])
def test_cancelled_batches_keep_what_was_done(told: bool) -> None:
    """A cancellation takes a while and leaves a part of the answers, told of the rest or not."""
    with BatchServer(endings={"a.jsonl": "in_progress"}, cancelled_lines=told) as server:
        client = server.client()
        batch = create(client, upload(client, lines(10)))
        for _ in range(5):
            running = client.batches.retrieve(batch.id)
        cancelling = client.batches.cancel(batch.id)
        last = end(client, cancelling)
        done, rest = rows(client, last.output_file_id), rows(client, last.error_file_id)
        with pytest.raises(openai.ConflictError):
            client.with_options(max_retries=0).batches.cancel(batch.id)
    assert (running.status, cancelling.status) == ("in_progress", "cancelling")
    assert last.status == "cancelled"
    assert (len(done), len(rest)) == (5, 5 if told else 0)


def test_failing_requests_go_to_the_error_file() -> None:
    """Every n-th request fails at the HTTP level; status 0 stands among the answers."""
    with BatchServer(fail_every=3, zero_every=4) as server:
        client = server.client()
        batch = run(client, lines(12))
        done, failed = rows(client, batch.output_file_id), rows(client, batch.error_file_id)
        paid = server.batches[0].paid
    assert sorted(ids(failed), key=int) == ["2", "5", "8", "11"]
    assert failed[0]["response"]["status_code"] == 500
    assert failed[0]["response"]["body"]["error"]["type"] == "server_error"
    assert failed[0]["error"] is None
    zeros = [row for row in done if row["response"]["status_code"] == 0]
    assert sorted(ids(zeros)) == ["3", "7"]
    assert zeros[0]["response"] == {"status_code": 0, "request_id": "", "body": {}}
    assert (len(done), paid) == (8, 6)
    assert batch.request_counts
    assert (batch.request_counts.completed, batch.request_counts.failed) == (8, 4)


def test_nothing_succeeded() -> None:
    """Without a success there is no output file, though the batch is completed."""
    with BatchServer(fail_every=1) as server:
        batch = run(server.client(), lines(2))
    assert (batch.status, batch.output_file_id) == ("completed", None)
    assert batch.error_file_id


def test_answers_of_the_test() -> None:
    """A test's own function answers in batches and live."""
    with BatchServer(answer=lambda body: (429, {"asked": body["model"]})) as server:
        client = server.client()
        failed = rows(client, run(client, line("a")).error_file_id)
        with pytest.raises(openai.RateLimitError):
            client.with_options(max_retries=0).responses.create(model="m", input="hi")
    assert (failed[0]["response"]["status_code"], failed[0]["response"]["body"]) == (
        429,
        {"asked": "m"},
    )
    assert server.bodies == [{"model": "m", "input": "hi"}]


def test_bodies_that_cannot_be_answered() -> None:
    """A body that passes validation and still makes no sense fails as its model would have it."""
    with BatchServer() as server:
        client = server.client()
        odd = line("a").replace(b'[{"role": "user", "content": "hello"}]', b"[]")
        [failed] = rows(client, run(client, odd + line("b")).error_file_id)
    assert (failed["custom_id"], failed["response"]["status_code"]) == ("a", 400)
    assert failed["response"]["body"]["error"]["type"] == "invalid_request_error"


def test_odd_batches() -> None:
    """Counts may be null, an empty error file's id empty, a status one that nobody knows."""
    odd = {"finalizing": "tidying"}
    with BatchServer(null_counts=True, no_error_file="", renamed=odd) as server:
        client = server.client()
        batch = create(client, upload(client, lines(1)))
        seen = [client.batches.retrieve(batch.id) for _ in range(3)]
    assert [step.status for step in seen] == ["in_progress", "tidying", "completed"]
    assert (seen[-1].request_counts, seen[-1].error_file_id) == (None, "")


@pytest.mark.parametrize(
    ("content", "errors"),
    [
        (b"", [("empty_file", None, None)]),
        (line("a") + b"{nope\n", [("invalid_json_line", 2, None)]),
        (b"[]\n\n", [("invalid_json_line", 1, None), ("invalid_json_line", 2, None)]),
        (
            b'{"custom_id": "a", "method": "POST", "body": {}}\n',
            [("missing_required_parameter", 1, "url")],
        ),
        (
            line("a").replace(b"messages", b"message"),
            [("missing_required_parameter", 1, "body.messages")],
        ),
        (line("a") + line("b") + line("a"), [("duplicate_custom_id", 3, "custom_id")]),
        (line("a").replace(b'"a"', b"1"), [("invalid_type", 1, "custom_id")]),
        (
            b'{"custom_id": "a", "method": "POST", "url": "", "body": []}\n',
            [("invalid_type", 1, "body")],
        ),
        (line("a") + line("b", model="z"), [("mismatched_model", 2, "body.model")]),
        (line("a", model="no"), [("model_not_found", 1, "body.model")]),
        (line("a", url="/v1/responses"), [("url_mismatch", 1, "url")]),
        (line("a").replace(b"POST", b"GET"), [("invalid_method", 1, "method")]),
        (
            line("a").replace(b'"model"', b'"stream": true, "model"'),
            [("streaming_unsupported", 1, "body.stream")],
        ),
        (lines(4), [("too_many_tasks", None, None)]),
    ],
)
def test_validation(content: bytes, errors: list[tuple[str, int | None, str | None]]) -> None:
    """A file with something wrong fails as a whole, with code, line and parameter of each error."""
    with BatchServer(models=["m", "z"], most_requests=3) as server:
        client = server.client()
        batch = create(client, upload(client, content))
        failed = client.batches.retrieve(batch.id)
        paid = server.batches[0].paid
    assert (batch.status, failed.status, paid) == ("validating", "failed", 0)
    assert failed.errors
    found = [(error.code, error.line, error.param) for error in failed.errors.data or []]
    assert found == errors
    assert failed.request_counts
    assert failed.request_counts.total == 0
    assert failed.output_file_id is None


def test_a_file_that_is_not_there() -> None:
    """A batch of a file that does not exist, or no more, is made and fails later."""
    with BatchServer() as server:
        client = server.client()
        deleted = upload(client, lines(1))
        client.files.delete(deleted)
        for file_id in ("file-none", deleted):
            failed = end(client, create(client, file_id))
            assert failed.errors
            messages = [error.message for error in failed.errors.data or []]
            assert messages == [f"Cannot find file {file_id}."]


def test_enqueued_tokens() -> None:
    """A batch beyond the limit fails for as long as others are under way."""
    with BatchServer(enqueued_tokens=len(lines(9)) // 4) as server:
        client = server.client()
        first = create(client, upload(client, lines(9)))
        first = client.batches.retrieve(first.id)
        second = end(client, create(client, upload(client, lines(1))))
        end(client, first)
        third = end(client, create(client, upload(client, lines(1))))
    assert (first.status, second.status, third.status) == ("in_progress", "failed", "completed")
    assert second.errors
    assert [(e.code, e.line) for e in second.errors.data or []] == [("token_limit_exceeded", None)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"endpoint": "/v1/nope"}, "Invalid value: '/v1/nope'."),
        ({"completion_window": "1h"}, "Invalid value: '1h'. Value must be '24h'."),
        ({"metadata": {"a": "b" * 513}}, "At most 16 pairs of metadata"),
        ({"extra_body": {"endpoint": None}}, "Missing required parameter: 'endpoint'."),
    ],
)
def test_refused_creations(options: dict[str, Any], message: str) -> None:
    """What is wrong with a creation itself is told at once, and makes no batch."""
    with BatchServer() as server:
        client = server.client()
        with pytest.raises(openai.BadRequestError) as caught:
            create(client, upload(client, lines(1)), **options)
        assert server.batches == []
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["message"].startswith(message)


def test_refused_uploads() -> None:
    """A wrong name and too many bytes are told when the file has come."""
    with BatchServer(most_nbytes=1_000) as server:
        client = server.client()
        with pytest.raises(openai.BadRequestError, match=r"Must be \.jsonl"):
            upload(client, b"{}\n", "a.json")
        with pytest.raises(openai.BadRequestError, match="File is too large"):
            upload(client, b"x" * 1_001)
        assert (server.uploads, upload(client, b"x" * 1_000)[:5]) == ([], "file-")


def test_files(tmp_path: Path) -> None:
    """Files are stored byte for byte, found, listed and deleted."""
    content = bytes(range(256)) * 5_000 + b"\r\n--\r\n"
    path = tmp_path / "reviews-00001.jsonl"
    path.write_bytes(content)
    with BatchServer() as server:
        client = server.client()
        with path.open("rb") as file:
            stored = client.files.create(file=file, purpose="batch")
        other = upload(client, b"{}\n")
        found = client.files.retrieve(stored.id)
        listed = [file.id for file in client.files.list(limit=1)]
        outputs = client.files.list(purpose="batch_output").data
        back = client.files.content(stored.id).content
        sha256 = server.uploads[0].sha256
        client.files.delete(other)
        left = [file.id for file in client.files.list()]
        with pytest.raises(openai.NotFoundError, match=f"No such File object: {other}"):
            client.files.content(other)
        assert len(server.uploads) == 2
    assert (found.filename, found.bytes, found.purpose) == (path.name, len(content), "batch")
    assert (listed, left, outputs) == ([other, stored.id], [stored.id], [])
    assert back == content
    assert sha256 == hashlib.sha256(content).hexdigest()


def test_batches_are_listed_newest_first() -> None:
    """The SDK's pages hold every batch once, in the order from the newest to the oldest."""
    with BatchServer() as server:
        client = server.client()
        file_id = upload(client, lines(1))
        made = [create(client, file_id).id for _ in range(5)]
        page = client.batches.list(limit=2)
        listed = [batch.id for batch in client.batches.list(limit=2)]
        with pytest.raises(openai.BadRequestError, match="Invalid 'limit': expected 1 to 100"):
            client.batches.list(limit=101)
        server.settings.unlisted = 2
        late = create(client, file_id).id
        seen = [late in [batch.id for batch in client.batches.list()] for _ in range(3)]
    assert listed == made[::-1]
    assert page.has_more
    assert seen == [False, False, True]


def test_keys_and_missing_things() -> None:
    """A wrong key and ids that do not exist are refused as OpenAI refuses them."""
    with BatchServer(key="right") as server:
        with pytest.raises(openai.AuthenticationError) as caught:
            server.client(api_key="wrong").batches.list()
        client = server.client()
        with pytest.raises(openai.NotFoundError, match="No batch found with id 'batch_1'"):
            client.batches.retrieve("batch_1")
        with pytest.raises(openai.NotFoundError, match="Invalid URL"):
            client.get("/nope", cast_to=object)
        assert [model.id for model in client.models.list()] == ["test-model"]
    assert caught.value.code == "invalid_api_key"


def test_lost_replies() -> None:
    """What was done stays done when its reply is lost, for uploads and for creations."""
    with BatchServer() as server:
        client = server.client(**ONCE)
        file_id = upload(client, lines(1))
        server.when("POST /files", "done", drop)
        server.when("POST /batches", "done", drop)
        server.when("POST /batches", "done", reply(503))
        with pytest.raises(openai.APIConnectionError):
            upload(client, lines(1))
        for error in (openai.APIConnectionError, openai.InternalServerError):
            with pytest.raises(error):
                create(client, file_id)
        counts = (len(server.uploads), len(server.batches))
    assert counts == (2, 2)


def test_refusals_and_dropped_requests_do_nothing() -> None:
    """A request that is dropped or refused before it was read changes nothing."""
    with BatchServer() as server:
        client = server.client(**ONCE)
        file_id = upload(client, lines(1))
        server.when("POST /batches", "asked", drop)
        server.when("POST /batches", "asked", reply(500), after=1)
        server.when("POST /files", "half", drop)
        for error in (openai.APIConnectionError, openai.InternalServerError):
            with pytest.raises(error):
                create(client, file_id)
        with pytest.raises(openai.APIConnectionError):
            upload(client, lines(10_000))
        counts = (len(server.uploads), len(server.batches))
    assert counts == (1, 0)


def test_rate_limits() -> None:
    """A 429 with Retry-After comes as often as asked for, then things go on."""
    with BatchServer() as server:
        client = server.client()
        server.when("GET /batches", "asked", reply(429, Retry_After="0.01"), times=2)
        assert client.batches.list().data == []
        assert server.requests_log == ["GET /batches"] * 3
        server.when("GET /batches", "asked", reply(429, "Slow down.", Retry_After="7"), times=None)
        for _ in range(2):
            with pytest.raises(openai.RateLimitError) as caught:
                client.with_options(max_retries=0).batches.list()
    assert caught.value.code == "rate_limit_exceeded"
    assert caught.value.response.headers["Retry-After"] == "7"


def test_slow_replies() -> None:
    """A slow server makes the client give up, though the batch was made."""
    reached = threading.Event()

    def keep_waiting() -> None:
        reached.set()
        sleep(1)()

    with BatchServer() as server:
        client = server.client(**ONCE)
        file_id = upload(client, lines(1))
        server.when("POST /batches", "done", keep_waiting)
        with pytest.raises(openai.APITimeoutError):
            create(client.with_options(timeout=0.2), file_id)
        assert reached.wait(60)
        assert len(server.batches) == 1


def test_broken_and_resumed_downloads() -> None:
    """A download breaks off in the middle, and may begin there again."""
    with BatchServer() as server:
        client = server.client(**ONCE)
        file_id = server.generate(b"0123456789", 100_000)
        server.when("GET /files/{id}/content", "half", drop)
        got = bytearray()
        with pytest.raises(Exception, match="peer closed connection"):
            download(client, file_id, got)
        size = len(got)
        assert download(client, file_id, got, Range=f"bytes={size}-") == 206
        server.settings.ranges = False
        whole = bytearray()
        assert download(client, file_id, whole, Range=f"bytes={size}-") == 200
    assert 0 < size <= 500_000
    assert got == whole == b"0123456789" * 100_000


def test_large_files_stream() -> None:
    """Neither side holds the 50 MB that are uploaded, or generated for a download."""
    with BatchServer() as server:
        client = server.client()
        file_id = server.generate(b"x" * 999 + b"\n", 50_000)
        size = 0
        tracemalloc.start()
        with client.files.with_streaming_response.content(file_id) as response:
            for block in response.iter_bytes():
                size += len(block)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert size == 50_000_000
    assert peak < 5_000_000


def test_a_client_killed_at_the_worst_moment() -> None:
    """An action can kill the process that asks, after its batch is made and before it knows."""
    script = (
        "import openai, sys; client = openai.OpenAI(base_url=sys.argv[1], api_key='x'); "
        "client.batches.create(input_file_id='f', endpoint='/v1/responses', "
        "completion_window='24h'); print('answered')"
    )
    with BatchServer() as server:
        client = [sys.executable, "-c", script, server.url]
        with subprocess.Popen(client, stdout=subprocess.PIPE) as process:
            server.when("POST /batches", "done", lambda: os.kill(process.pid, signal.SIGKILL))
            out, _ = process.communicate()
        assert (out, process.returncode, len(server.batches)) == (b"", -signal.SIGKILL, 1)


def test_live_endpoints() -> None:
    """The endpoints answer live what they answer in a batch."""
    with BatchServer() as server:
        client = server.client()
        chat = client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi"}]
        )
        response = client.responses.create(model="m", input=[{"role": "user", "content": "hi"}])
        floats = client.embeddings.create(model="m", input=["a", "b"], encoding_format="float")
        coded = client.embeddings.create(model="m", input=["a", "b"])
        completion = client.completions.create(model="m", prompt="hi")
        moderation = client.moderations.create(input="hi")
        batch = run(client, line("a", "hi"))
        [row] = rows(client, batch.output_file_id)
    assert chat.choices[0].message.content == response.output_text == "You said: hi"
    assert [item.embedding for item in floats.data] == [item.embedding for item in coded.data]
    assert completion.choices[0].text == "You said: hi"
    assert not moderation.results[0].flagged
    assert row["response"]["body"] == chat.to_dict()


def test_answers_fit_the_schema() -> None:
    """Asked for a schema, the answer is an example of it."""
    schema = {
        "type": "object",
        "properties": {
            "stars": {"type": "integer", "minimum": 1, "maximum": 5},
            "mood": {"enum": ["good", "bad"]},
            "words": {"type": "array", "items": {"$ref": "#/$defs/word"}},
            "note": {"anyOf": [{"type": "null"}, {"type": "string"}]},
        },
        "$defs": {"word": {"type": ["string", "null"]}},
    }
    with BatchServer() as server:
        client = server.client()
        shape: Any = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
        chat = client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi"}], response_format=shape
        )
        flat: Any = {"format": {"type": "json_schema", "name": "s", "schema": schema}}
        response = client.responses.create(model="m", input="hi", text=flat)
    answer = json.loads(chat.choices[0].message.content or "")
    assert answer == json.loads(response.output_text) == example(schema, "hi")
    assert 1 <= answer["stars"] <= 5
    assert answer["mood"] in ("good", "bad")
    assert isinstance(answer["words"][0], str)
    assert answer["note"] is None


def test_paid_requests_are_those_that_ran() -> None:
    """Led to their ends, batches that nobody asked for again have their costs too."""
    with BatchServer(fail_every=2, endings={"b.jsonl": "in_progress"}) as server:
        client = server.client()
        create(client, upload(client, lines(4)))
        create(client, upload(client, b"nope\n"))
        create(client, upload(client, lines(4), "b.jsonl"))
        server.finish()
        assert [(batch.status, batch.paid) for batch in server.batches] == [
            ("completed", 2),
            ("failed", 0),
            ("in_progress", 0),
        ]


def test_errors_of_the_server_itself_are_not_lost() -> None:
    """An action with an error of its own ends the test that asked for it."""

    def meet() -> None:
        with BatchServer() as server:
            server.when("GET /batches", "asked", lambda: 1 / 0)
            with pytest.raises(openai.APIConnectionError):
                server.client(**ONCE).batches.list()

    with pytest.raises(ZeroDivisionError):
        meet()


def test_routes_are_checked() -> None:
    """A rule for a route that does not exist would never be met, and is an error."""
    with BatchServer() as server, pytest.raises(ValueError, match="'GET /batch' is no route; "):
        server.when("GET /batch", "asked", drop)


def test_the_server_as_a_program() -> None:
    """Started as a program it says where it is, and ends with its input."""
    program = [sys.executable, "-m", BatchServer.__module__]
    root = Path(__file__).parents[2]
    pipe = subprocess.PIPE
    with subprocess.Popen(program, cwd=root, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout
        url = process.stdout.readline().strip()
        with openai.OpenAI(base_url=url, api_key="x") as client:
            assert client.batches.list().data == []
        process.communicate("")
    assert process.returncode == 0


def test_the_server_lags_fails_late_and_tells_less() -> None:
    """Lists may lag by seconds, batches fail with answers, and sizes and replies be wrong."""
    told = {"list_lag": 0.2, "polls": 0, "fewer_bytes": 7, "organization": "org-1"}
    with BatchServer(endings={"a.jsonl": "failed"}, **told) as server:
        client = server.client(**ONCE)
        expiry: Any = {"anchor": "created_at", "seconds": 3_600}
        file = client.files.create(
            file=("a.jsonl", line("a")), purpose="batch", expires_after=expiry
        )
        assert server.uploads[0].expires_after["expires_after[seconds]"] == "3600"
        made = client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        listed = client.batches.with_raw_response.list()
        assert (listed.headers["openai-organization"], listed.parse().data) == ("org-1", [])
        time.sleep(0.2)
        assert [batch.id for batch in client.batches.list().data] == [made.id]
        batch = client.batches.retrieve(made.id)
        assert batch.status == "failed"
        assert batch.output_file_id is not None
        content = client.files.content(batch.output_file_id).content
        assert len(content) - client.files.retrieve(batch.output_file_id).bytes == 7
        server.when("GET /batches/{id}", "asked", raw(b"{"))
        with pytest.raises(ValueError):
            client.batches.retrieve(made.id)
        server.settings.expiring_uploads = False
        with pytest.raises(openai.BadRequestError):
            client.files.create(file=("a.jsonl", line("a")), purpose="batch", expires_after=expiry)
