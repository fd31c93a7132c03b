"""Requests to be split into files, and what stands in a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

import batch_frames as bf

ENDPOINT = "/v1/chat/completions"

Entry = tuple[str, str]


def line_of(custom_id: str, prompt: str) -> bytes:
    """Write one line as ``json.dumps`` does."""
    body = {"model": "m", "messages": [{"role": "user", "content": prompt}]}
    request = {"custom_id": custom_id, "method": "POST", "url": ENDPOINT, "body": body}
    return json.dumps(request, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def entries_of(count: int, first: int = 0) -> list[Entry]:
    """Make up ids and prompts."""
    return [(f"r{n}", f"prompt {n}\n") for n in range(first, first + count)]


def content_of(entries: list[Entry]) -> bytes:
    """Write all lines."""
    return b"".join(line_of(*entry) for entry in entries)


def batch_of(entries: list[Entry]) -> bf.BatchCreator:
    """Collect requests of which each one's line is ``line_of`` it."""
    creator = bf.BatchCreator("m", None, system_prompt=None, seed=None)
    for entry in entries:
        creator.add_entry(*entry)
    return creator


def over(frame: Any) -> bf.BatchCreator:
    """Make requests of a frame, each one's line again as in ``line_of``."""
    return bf.from_dataframe(
        frame, id_column="id", prompt_column="p", model="m", reasoning_effort=None, seed=None
    )


def frame_of(entries: list[Any]) -> pd.DataFrame:
    """Make a frame of ids and prompts."""
    return pd.DataFrame(entries, columns=["id", "p"])


def standing(folder: Path) -> dict[str, bytes]:
    """Read all files in a folder, hidden ones too, but not the record."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != ".batch_frames"}
