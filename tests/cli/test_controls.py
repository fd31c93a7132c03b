"""Texts of the service cannot command the terminal, nor change the order of what it shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import batch_frames as bf
from batch_frames.cli import main
from batch_frames.errors import BatchFramesWarning
from tests.service.answers import Body, chat, error_body
from tests.service.changes import with_values
from tests.service.server import BatchServer, reply
from tests.support.identity import ask, shorten, submit

HOSTILE = "\x1b]0;title\x07\x9b2J\x1b[31m\r\x08\x00\x7f\u202e\u2066\u200f\u061c\u2028 end"
SHOWN = r"\x1b]0;title\x07\x9b2J\x1b[31m\r\x08\x00\x7f\u202e\u2066\u200f\u061c\u2028 end"
UNSAFE = re.compile(
    "[^\n\t\\x20-\\x7e\xa0-\u061b\u061d-\u200d\u2010-\u2027\u202f-\u2065\u206a-\uffff]"
)
RETRIEVE = "GET /batches/{id}"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder."""
    return shorten(monkeypatch, tmp_path)


def output_of(server: BatchServer | None, *arguments: str) -> str:
    """Call a command, and return all that it prints."""
    address = ("--base-url", server.url) if server else ()
    output = CliRunner().invoke(main, [*arguments, *address]).output
    assert UNSAFE.findall(output) == []
    return output


@pytest.mark.parametrize("command", ["status", "wait"])
@pytest.mark.parametrize("key", ["message", "code", "param"])
def test_what_is_wrong_with_a_shard(server: BatchServer, command: str, key: str) -> None:
    """The errors of a batch, in a table and in a message."""
    submit(ask("a.jsonl"), server)
    error = {"message": "bad", "code": "odd", "param": None, "line": 1, key: HOSTILE}
    failed = with_values(status="failed", errors={"data": [error]}, in_progress_at=None)
    server.alter(RETRIEVE, failed, times=None)
    assert (SHOWN in output_of(server, command, "a.jsonl")) == (key != "param")


def test_an_odd_status(server: BatchServer) -> None:
    """It is none, and an odd id is none."""
    jobs = submit(ask("a.jsonl"), server)
    for values in ({"status": HOSTILE}, {"id": HOSTILE}):
        server.behave()
        server.alter(RETRIEVE, with_values(**values), times=None)
        assert "did not return a batch" in output_of(server, "status", "a.jsonl")
    server.behave()
    server.alter(RETRIEVE, with_values(id="batch_\x1b"), times=None)
    with pytest.raises(bf.JobError) as caught:
        bf.status(jobs, client=server.client())
    assert UNSAFE.findall(str(caught.value)) == []


def test_an_error_of_the_service(server: BatchServer) -> None:
    """What the SDK says of it."""
    submit(ask("a.jsonl"), server)
    server.when(RETRIEVE, "asked", reply(401, HOSTILE), times=None)
    output = output_of(server, "status", "a.jsonl")
    assert output.startswith("Error: Error code: 401")
    assert "for 'a.jsonl' (batch_" in output


def answer(body: Body) -> tuple[int, Any]:
    """Answer with controls, and fail with them."""
    prompt = body["messages"][-1]["content"]
    if prompt.endswith("a"):
        return 400, error_body(HOSTILE, code=HOSTILE)
    done = chat(body)
    done["choices"][0]["message"]["content"] = HOSTILE
    return 200, done


def test_answers_and_their_errors(server: BatchServer) -> None:
    """They are shown without controls, and written to files as they are."""
    server.settings.answer = answer
    submit(ask("a.jsonl"), server)
    output_of(server, "wait", "a.jsonl", "--poll", "0.01")
    output_of(server, "download", "a.jsonl")
    assert SHOWN[:8] in output_of(None, "read", "--requests", "a.jsonl")
    output_of(None, "read", "--requests", "a.jsonl", "-o", "all.parquet")
    results = bf.read_results(requests="a.jsonl")
    assert HOSTILE in results["content"].tolist()


def test_errors_and_warnings_of_the_package() -> None:
    """Python prints their messages as they are."""
    error = bf.JobError(f"it says {HOSTILE}", hint=f"not {HOSTILE}")
    assert str(error) == f"it says {SHOWN}; not {SHOWN}"
    assert error.hint == f"not {SHOWN}"
    assert str(BatchFramesWarning("Grüße\n\t👩‍🔬 שלום")) == "Grüße\n\t👩‍🔬 שלום"
