"""What result files say is kept for the next call, and never believed over the files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import batch_frames as bf
from batch_frames.results import outcomes
from tests.service.server import BatchServer

FRAME = pd.DataFrame({"id": ["a", "b", "c"], "text": ["one", "two", "three"]})
ASK: dict[str, Any] = {"id_column": "id", "prompt_column": "text", "model": "m"}
STATES = ("answered", "under_way", "new")


@pytest.fixture
def path(server: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have a table that is answered, and keep what even small files say."""
    monkeypatch.setattr(outcomes, "FEWEST_BYTES", 0)
    monkeypatch.setattr(outcomes, "AT_REST", 0)
    path = tmp_path / "r.jsonl"
    options: dict[str, Any] = {"client": server.client(), "poll": 0.002, "progress": False}
    bf.run(FRAME, path, **ASK, **options)
    return path


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """List the result files that are read."""
    names: list[str] = []
    brief: Callable[..., Any] = outcomes._brief

    def reading(path: Path) -> Any:
        names.append(path.name)
        return brief(path)

    monkeypatch.setattr(outcomes, "_brief", reading)
    return names


def kept(path: Path) -> Path:
    """Find what is kept of the one output file."""
    return path.parent / ".batch_frames" / outcomes.KEPT / "r.output.jsonl"


def plan(path: Path) -> list[int]:
    """Count rows by their states."""
    found = bf.plan(FRAME, path, **ASK)
    return [getattr(found, state) for state in STATES]


def test_a_result_file_is_read_once(path: Path, read: list[str]) -> None:
    """After ``run`` has read it, nothing but what was kept is needed; ``plan`` keeps nothing."""
    assert plan(path) == [3, 0, 0]
    assert read == []
    kept(path).unlink()
    files = sorted(path.parent.rglob("*"))
    assert plan(path) == [3, 0, 0]
    assert read == ["r.output.jsonl"]
    assert sorted(path.parent.rglob("*")) == files


def test_a_file_that_was_changed_is_read_again(path: Path, read: list[str]) -> None:
    """Even if it has its size and time of change again: its answers are to be downloaded again."""
    output = path.with_name("r.output.jsonl")
    at = output.stat().st_mtime_ns
    text = output.read_bytes().replace(b'"status_code": 200', b'"status_code": 500', 1)
    output.write_bytes(text)
    os.utime(output, ns=(at, at))
    assert plan(path) == [2, 1, 0]
    assert read == ["r.output.jsonl"]


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "of another file", "a folder"])
def test_what_is_damaged_is_not_believed(path: Path, read: list[str], damage: str) -> None:
    """The result file is read instead."""
    data = kept(path).read_bytes()
    changed = {"cut": data[:-1], "empty": b"", "flipped": data[:-1] + bytes([data[-1] ^ 5])}
    kept(path).write_bytes(changed.get(damage, data))
    if damage == "a folder":
        kept(path).unlink()
        kept(path).mkdir()
    if damage == "of another file":
        output = path.with_name("r.output.jsonl")
        copy = output.read_bytes()
        output.unlink()
        output.write_bytes(copy)
    assert plan(path) == [3, 0, 0]
    assert read == ["r.output.jsonl"]


def test_a_file_that_may_still_change_is_not_kept(
    path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the precision of times, a second change would not be seen."""
    kept(path).unlink()
    monkeypatch.setattr(outcomes, "AT_REST", 10**12)
    bf.run(FRAME, path, **ASK)
    assert not kept(path).exists()
    monkeypatch.setattr(outcomes, "AT_REST", 0)
    bf.run(FRAME, path, **ASK)
    assert kept(path).exists()
