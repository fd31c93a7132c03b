"""Control-C: it says in the words of the command line, or of Python, how to go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.server import BatchServer
from tests.support.commands import COLUMN, OUT, WRITE, run

RUN = ["run", "reviews.csv", "out/r.jsonl", *OUT[1:], *COLUMN]
IN_PYTHON = """
import batch_frames as bf
bf.run("reviews.csv", "out/r.jsonl", id_column="id", prompt_column="review", model="m")
"""


@pytest.fixture
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchServer]:
    """Have a service, which the environment points at."""
    with BatchServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "test")
        yield server


def interrupted(server: BatchServer, route: str, *arguments: str) -> tuple[int, bytes, list[str]]:
    """Send an interrupt to a process at a call, and return exit code, output and messages."""
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        server.when(route, "done", lambda: os.kill(process.pid, signal.SIGINT))
        out, told = process.communicate()
    return process.returncode, out, told.decode().splitlines()


@pytest.mark.parametrize(
    ("arguments", "route", "told"),
    [
        pytest.param(
            RUN,
            "GET /batches/{id}",
            "interrupted: what was sent is noted; to continue, enter again: "
            "batch-frames run reviews.csv out/r.jsonl …",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["submit", "out.jsonl"],
            "POST /batches",
            "interrupted: what was sent is noted; to continue, enter again: "
            "batch-frames submit out.jsonl",
            marks=pytest.mark.slow,
        ),
        (
            ["wait", "out.jsonl"],
            "GET /batches/{id}",
            "interrupted: the batches are still running; to continue, enter again: "
            "batch-frames wait out.jsonl",
        ),
        pytest.param(
            ["status", "out.jsonl"],
            "GET /batches/{id}",
            "interrupted",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_an_interrupt_names_the_command(
    server: BatchServer, arguments: list[str], route: str, told: str
) -> None:
    """The last line says which command goes on, without Python, and the exit code is 130."""
    assert run(*WRITE, *COLUMN).code == 0
    if arguments[0] in ("wait", "status"):
        assert run("submit", "out.jsonl").code == 0
    script = f"from batch_frames.cli import main; main({arguments!r}, 'batch-frames')"
    code, out, lines = interrupted(server, route, "-c", script)
    assert (code, out, lines[-1]) == (130, b"", told)
    assert "Traceback" not in "".join(lines)


@pytest.mark.slow
def test_an_interrupt_of_run_names_run(server: BatchServer) -> None:
    """In Python it is run that is called again, and not the function that was waiting."""
    code, _, lines = interrupted(server, "GET /batches/{id}", "-c", IN_PYTHON)
    assert code != 0
    assert lines[-2:] == [
        "KeyboardInterrupt",
        "interrupted: what was sent is noted; to continue, call run again",
    ]
