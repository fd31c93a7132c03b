"""Requests that are sent again with other parameters keep their place among all answers."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import batch_frames as bf
from tests.service.answers import Body, chat, error_body
from tests.service.server import BatchServer

FRAME = pd.DataFrame({"id": ["a", "b", "c"], "text": ["short", "long", "longer"]})
ASK: dict[str, Any] = {"id_column": "id", "prompt_column": "text", "model": "m"}
QUICK: dict[str, Any] = {"poll": 0.002, "progress": False}
MOST = "max_completion_tokens"
NEEDED = {"short": 1, "long": 50, "longer": 500}


@pytest.fixture
def asked(server: BatchServer) -> Counter[tuple[str, int]]:
    """Cut answers at the token limit, and count what was asked with which limit."""
    counts: Counter[tuple[str, int]] = Counter()

    def answer(body: Body) -> tuple[int, Body]:
        prompt, most = body["messages"][-1]["content"], body.get(MOST, 10)
        counts[prompt, most] += 1
        reply = chat(body)
        if most < NEEDED[prompt]:
            reply["choices"][0]["finish_reason"] = "length"
        return 200, reply

    server.settings.answer = answer
    return counts


def send(shards: list[bf.Shard], server: BatchServer) -> None:
    """Send request files and download what came back."""
    options: dict[str, Any] = {"client": server.client(), "progress": False}
    bf.download(bf.wait(bf.submit(shards, **options), poll=0.002, **options), **options)


def test_the_best_answer_of_all_rounds_counts(
    server: BatchServer, tmp_path: Path, asked: Counter[tuple[str, int]]
) -> None:
    """Where a retry has another body, too, for ``read_results``, ``run`` and ``plan``."""
    path = tmp_path / "r.jsonl"
    options = {**ASK, **QUICK, "client": server.client()}
    rated = bf.run(FRAME, path, **options)
    assert rated["status"].tolist() == ["ok", "truncated", "truncated"]
    for most, name, left in ((100, "r.round-2.jsonl", 2), (1_000, "r.round-3.jsonl", 1)):
        for _ in range(2):
            shards = bf.retry_requests(path, statuses=["truncated"], body={MOST: most})
            assert [(one.path.name, one.requests) for one in shards] == [(name, left)]
        assert bf.plan(FRAME, path, **ASK).answered == 3
        send(shards, server)
    assert bf.retry_requests(path, statuses=["truncated"], body={MOST: 9}) == []
    results = bf.read_results(requests=path)
    assert results["custom_id"].tolist() == ["a", "b", "c"]
    assert results["status"].tolist() == ["ok"] * 3
    assert bf.run(FRAME, path, **options)["status"].tolist() == ["ok"] * 3
    assert asked == {
        ("short", 10): 1, ("long", 10): 1, ("longer", 10): 1,
        ("long", 100): 1, ("longer", 100): 1, ("longer", 1_000): 1,
    }  # fmt: skip


def test_what_is_under_way_is_not_sent_again(
    server: BatchServer, tmp_path: Path, asked: Counter[tuple[str, int]]
) -> None:
    """A retry that has not come back yet holds the requests in whose place it was sent."""
    path = tmp_path / "r.jsonl"
    bf.run(FRAME, path, client=server.client(), **ASK, **QUICK)
    server.settings.endings["r.round-2.jsonl"] = "in_progress"
    shards = bf.retry_requests(path, statuses=["truncated"], body={MOST: 100})
    bf.submit(shards, client=server.client(), progress=False)
    for body in ({MOST: 100}, {MOST: 200}, None):
        again = bf.retry_requests(path, statuses=["truncated"], body=body)
        assert [one.path.name for one in again] == ["r.round-2.jsonl"]
    assert len(server.batches) == 2


def test_answers_to_other_prompts_are_not_mixed_in(
    server: BatchServer, tmp_path: Path, asked: Counter[tuple[str, int]]
) -> None:
    """An answer counts for the request in whose place it was asked, and not the other way."""
    path = tmp_path / "r.jsonl"
    options = {**ASK, **QUICK, "client": server.client()}
    bf.run(FRAME, path, **options)
    send(bf.retry_requests(path, statuses=["truncated"], body={MOST: 100}), server)
    changed = FRAME.assign(text=["short", "short", "longer"])
    assert bf.plan(changed, path, **ASK).changed == 1
    rated = bf.run(changed, path, **options)
    assert rated["content"].tolist() == [f"You said: {text}" for text in changed["text"]]
    # The request of the retry alone has no answer but its own, which was cut.
    alone = bf.read_results(requests=[tmp_path / "r.round-2.jsonl"])
    assert alone["status"].tolist() == ["ok", "truncated"]
    assert set(alone["file"]) == {str(tmp_path / "r.round-2.output.jsonl")}


def test_live_answers_count_too(
    server: BatchServer, tmp_path: Path, asked: Counter[tuple[str, int]]
) -> None:
    """A retry may be answered by ``run_local``, and back and forth between two bodies."""
    path = tmp_path / "r.jsonl"
    options = {**ASK, **QUICK, "client": server.client()}
    bf.run(FRAME, path, **options)
    for number, most in enumerate((100, 1, 100), 2):
        shards = bf.retry_requests(path, statuses=["truncated", "ok"], body={MOST: most})
        assert [one.path.name for one in shards] == [f"r.round-{number}.jsonl"]
        bf.run_local(shards, base_url=server.url, progress=False)
    results = bf.read_results(requests=path)
    assert results["status"].tolist() == ["ok", "ok", "truncated"]
    assert bf.plan(FRAME, path, **ASK).answered == 3


LINES = [
    '{"custom_id":"a","method":"POST","url":"/v1/x","body":{"model":"m","n":1}}\n',
    '{"body" : { "n" : [1, {"n": "}"}] , "m": "\\"{n" } , "url":"/v1/x","custom_id": 7}\r\n',
    ' {"custom_id":"ä\\u00e4","url":"/v1/x","body":{}}\n',
    '{"custom_id":"c","body":{"n":1,"n":2,"t":"\\ud800"},"url":"/v1/x","other":{"n":3}}\n',
    '{"custom_id":"d","url":"/v1/x","body":{"\\u006e":12345678901234567890.50,"x":null}}',
]


def test_all_else_stays_byte_for_byte(tmp_path: Path) -> None:
    """Of each line just the values of the keys change, and what is missing is appended."""
    path, target = tmp_path / "any.jsonl", tmp_path / "again.jsonl"
    path.write_bytes("".join(LINES).encode())
    body = {"n": {"ü": [1.5, None]}, "stop": "}"}
    (shard,) = bf.retry_requests(path, path=target, body=body)
    assert shard.requests == len(LINES)
    value, stop = '{"ü":[1.5,null]}', '"stop":"}"'
    assert target.read_bytes().decode().splitlines(keepends=True) == [
        LINES[0].replace('"n":1', f'"n":{value},{stop}'),
        LINES[1].replace('[1, {"n": "}"}]', value).replace('"\\"{n"', f'"\\"{{n",{stop}'),
        LINES[2].replace("{}", f'{{"n":{value},{stop}}}'),
        LINES[3].replace('"n":1,"n":2', f'"n":{value},"n":{value}').replace(
            '"\\ud800"', f'"\\ud800",{stop}'
        ),
        LINES[4].replace("12345678901234567890.50", value).replace("null}", f"null,{stop}}}")
        + "\n",
    ]  # fmt: skip
    for line, before in zip(target.read_text("utf-8").splitlines(), LINES, strict=True):
        old = json.loads(before)
        assert json.loads(line) == {**old, "body": {**old["body"], **body}}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("n=1", "body must be a dict, not 'n=1'"),
        ({1: 2}, "body: key 1 is not text"),
        ({"n": {1, 2}}, "body.n: {1, 2} is not a JSON value"),
    ],
)
def test_a_body_is_json(tmp_path: Path, body: Any, text: str) -> None:
    """Anything else is an error before a file is read."""
    with pytest.raises(bf.TemplateError) as caught:
        bf.retry_requests(tmp_path / "none.jsonl", body=body)
    assert str(caught.value) == text


@pytest.mark.parametrize("is_live", [False, True], ids=["batch", "live"])
def test_a_refused_retry_does_not_settle_the_request(
    server: BatchServer, tmp_path: Path, is_live: bool
) -> None:
    """What the service has against another body is no reason not to ask the request again."""
    codes = {None: 500, 5: 400}

    def answer(body: Body) -> tuple[int, Body]:
        code = codes.get(body.get("top_k"))
        return (code, error_body("No.")) if code else (200, chat(body))

    server.settings.answer = answer
    path = tmp_path / "r.jsonl"
    options = {**ASK, **QUICK, "client": server.client(), "retries": 0}
    with pytest.warns(UserWarning, match="3 of 3 requests have no answer"):
        bf.run(FRAME, path, **options)
    shards = bf.retry_requests(path, body={"top_k": 5})
    if is_live:
        bf.run_local(shards, base_url=server.url, progress=False)
    else:
        send(shards, server)
    plan = bf.plan(FRAME, path, **ASK)
    assert (plan.requests, plan.failed, plan.asked_again) == (3, 3, 3)
    assert bf.plan(FRAME, path, **ASK, body={"top_k": 5}).requests == 0
    (again,) = bf.retry_requests(path)
    assert again.path.read_bytes() == path.read_bytes()
    codes.clear()
    assert bf.run(FRAME, path, **options)["status"].tolist() == ["ok"] * 3
    assert bf.retry_requests(path) == []


@pytest.mark.parametrize("count", [2, 3])
def test_a_retry_that_run_has_overtaken_is_not_paid_again(
    server: BatchServer, tmp_path: Path, count: int
) -> None:
    """A retry file is not sent once its requests were sent after its save, in whatever file."""
    server.settings.answer = lambda body: (500, error_body("No."))
    path = tmp_path / "r.jsonl"
    options = {**ASK, **QUICK, "client": server.client(), "retries": 0}
    with pytest.warns(UserWarning, match="2 of 2 requests have no answer"):
        bf.run(FRAME[:2], path, **options)
    shards = bf.retry_requests(path)
    server.settings.answer = None
    bf.run(FRAME[:count], path, **options)
    if count == 2:
        (job,) = bf.submit(shards, client=server.client(), progress=False)
        assert job.status == "completed"
    else:
        with pytest.raises(bf.BatchFramesError) as caught:
            bf.submit(shards, client=server.client(), progress=False)
        batch, name = server.batches[-1].id, tmp_path / "r.round-3.jsonl"
        assert str(caught.value) == (
            f"2 of 2 requests of '{shards[0].path}' were answered in '{name}' ({batch}); "
            "retry_requests writes what is left; in another folder, all are asked again"
        )
    assert len(server.batches) == 2
