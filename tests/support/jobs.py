"""Save request files, submit and wait as most tests of batches do."""

from __future__ import annotations

import json
from collections import Counter
from operator import itemgetter
from pathlib import Path
from typing import Any

import batch_frames as bf
from tests.service.server import BatchServer


def save(
    name: str = "reviews.jsonl", count: int = 6, per_shard: int = 2, text: str = "Say {}."
) -> list[bf.Shard]:
    """Write request files with the ids r0, r1, …"""
    creator = bf.BatchCreator("m", None, system_prompt=None, seed=None)
    for number in range(count):
        creator.add_entry(f"r{number}", text.format(number))
    return creator.save_to_file(name, limits=bf.Limits(requests=per_shard))


def save_lines(name: str, *changes: dict[str, Any]) -> Path:
    """Write a request file by hand, each line with something changed."""
    path = Path(name)
    lines = []
    for number, change in enumerate(changes):
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
        request = {"custom_id": f"r{number}", "method": "POST", "url": "/v1/chat/completions"}
        lines.append(json.dumps({**request, "body": body, **change}) + "\n")
    path.write_text("".join(lines), encoding="utf-8")
    return path


def wait(jobs: Any, server: BatchServer, **options: Any) -> list[bf.Job]:
    """Wait without pauses."""
    return bf.wait(jobs, client=server.client(), poll=0.005, **options)


def ids(paths: list[Path]) -> Counter[str]:
    """Count the ids in result files."""
    lines = [line for path in paths for line in path.read_text("utf-8").splitlines()]
    return Counter(json.loads(line)["custom_id"] for line in lines)


def names(paths: list[Path]) -> list[str]:
    """Take the file names."""
    return [path.name for path in paths]


def record() -> dict[str, bytes]:
    """Read the documents of all jobs as they are."""
    return {path.name: path.read_bytes() for path in Path(".batch_frames/jobs").glob("[!.]*.json")}


def steps() -> list[str]:
    """List what the record says happened, in order."""
    found = [step for one in record().values() for step in json.loads(one)["steps"]]
    return [step for _, step in sorted(found, key=itemgetter(0))]


def bad_shards() -> list[Path]:
    """Write two shards, the second with two bad lines."""
    good = save_lines("reviews-00001.jsonl", {}, {}, {})
    body: dict[str, Any] = {"messages": []}
    changes: list[dict[str, Any]] = [
        {"custom_id": "x0"},
        {"custom_id": "x1", "body": body},
        {"custom_id": "x0"},
    ]
    return [good, save_lines("reviews-00002.jsonl", *changes)]
