"""Scale the minute of waiting down, save frames, and count what was paid."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import batch_frames as bf
from batch_frames.batches import client, send
from tests.service.server import BatchServer

SETTLE = 1.2
"""Seconds in which the tests have what is a minute for the user."""

SECOND = SETTLE / 60


def shorten(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """Work in an empty folder, with short pauses and without a key."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(send, "SETTLE", SETTLE)
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.002)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return folder


def frame(ids: str = "abcd", text: str = "Say {}") -> pd.DataFrame:
    """Make a frame with an id and a prompt for each letter."""
    return pd.DataFrame({"id": list(ids), "p": [text.format(letter) for letter in ids]})


def ask(
    name: str | Path, ids: str = "abcd", text: str = "Say {}", per_shard: int = 50_000
) -> list[bf.Shard]:
    """Save the requests of such a frame."""
    batch = bf.from_dataframe(frame(ids, text), id_column="id", prompt_column="p", model="m")
    return batch.save_to_file(name, limits=bf.Limits(requests=per_shard))


def submit(shards: Any, server: BatchServer, **options: Any) -> list[bf.Job]:
    """Submit without a progress bar."""
    return bf.submit(shards, client=server.client(), progress=False, **options)


def fetch(jobs: Any, server: BatchServer) -> list[Path]:
    """Wait for jobs without pauses, and download them."""
    done = bf.wait(jobs, client=server.client(), poll=0.005, progress=False)
    return bf.download(done, client=server.client(), progress=False)


def run(shards: Any, server: BatchServer, *given: Any, **options: Any) -> pd.DataFrame:
    """Run without pauses."""
    client = server.client()
    rated: pd.DataFrame = bf.run(
        shards, *given, client=client, poll=0.005, progress=False, **options
    )
    return rated


def paid(server: BatchServer) -> int:
    """Count the requests that the service has answered or will, by batches and live."""
    server.finish()
    return sum(batch.paid for batch in server.batches) + len(server.bodies)


def prompt_of(line: bytes) -> str:
    """Return the prompt of a request line."""
    return str(json.loads(line)["body"]["messages"][-1]["content"])


def prompts(server: BatchServer) -> Counter[str]:
    """Count the prompts in the files of all batches."""
    found: Counter[str] = Counter()
    for batch in server.batches:
        content = server.service.files[batch.input_file_id].content
        found.update(map(prompt_of, b"".join(content.blocks(0)).splitlines()))
    return found


def content(paths: Any) -> dict[str, str]:
    """Read the answers of result files by their ids."""
    results = bf.read_results(paths)
    good = results[results["status"] == "ok"]
    return dict(zip(good["custom_id"].astype(str), good["content"].astype(str), strict=True))


def answers(ids: str = "abcd", text: str = "Say {}") -> dict[str, str]:
    """Return what the service answers to the requests of ``ask``."""
    return {letter: f"You said: {text.format(letter)}" for letter in ids}
