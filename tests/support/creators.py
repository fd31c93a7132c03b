"""Batches of requests from entries and tables, and the lines that they become."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

import batch_frames as bf

CHAT = "/v1/chat/completions"
COLUMNS: dict[str, Any] = {"id_column": "id", "prompt_column": "p"}

Entry = tuple[str, str]

text = st.text(max_size=30)


def line_of(
    custom_id: str,
    prompt: str,
    model: str = "o4-mini",
    effort: str | None = "medium",
    schema: Any = None,
    system: str | None = "Rate it.",
    seed: int | None = 334,
) -> bytes:
    """Write the line of one entry with ``json.dumps``, its keys in the order they must have."""
    body: dict[str, Any] = {"model": model}
    if seed is not None:
        body["seed"] = seed
    if effort is not None:
        body["reasoning_effort"] = effort
    if schema is not None:
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    said = [] if system is None else [{"role": "system", "content": system}]
    body["messages"] = [*said, {"role": "user", "content": prompt}]
    request = {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body}
    return json.dumps(request, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def saved(batch: bf.BatchCreator, **options: Any) -> bytes:
    """Save to a file and give its bytes."""
    with TemporaryDirectory() as folder:
        shards = batch.save_to_file(Path(folder) / "x.jsonl", **options)
        return b"".join(shard.path.read_bytes() for shard in shards)


def creator_of(entries: Sequence[Entry], **options: Any) -> bf.BatchCreator:
    """Collect entries by hand."""
    creator = bf.BatchCreator(**{"system_prompt": "Rate it.", **options})
    for entry in entries:
        creator.add_entry(*entry)
    return creator


def entries_of(count: int, first: int = 0) -> list[Entry]:
    """Make up ids and prompts."""
    return [(f"r{n}", f'prompt "{n}"\n') for n in range(first, first + count)]


class Shown(HTMLParser):
    """Collect the tags and the text of a piece of HTML."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.open: list[str] = []
        self.text = ""
        self.feed(source)
        self.close()
        assert self.open == [], "all tags are closed"

    def handle_starttag(self, tag: str, attrs: object) -> None:
        """Remember a tag."""
        self.tags.add(tag)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Hold that tags are nested."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Collect text."""
        self.text += data


def table_batch(frame: pd.DataFrame, kind: str, folder: Path, **options: Any) -> bf.BatchCreator:
    """Make requests of the same rows from different sources."""
    options = {"system_prompt": "Rate it.", "model": "m", **COLUMNS, **options}
    if kind == "csv":
        frame.to_csv(folder / "in.csv", index=False)
        return bf.from_csv(folder / "in.csv", **options)
    arrow = pa.Table.from_pandas(frame, preserve_index=False)
    if kind == "parquet":
        pq.write_table(arrow, folder / "in.parquet")
        return bf.from_parquet(folder / "in.parquet", **options)
    sources = {"pandas": frame, "pyarrow": arrow, "stream": arrow.to_reader(max_chunksize=700)}
    return bf.from_dataframe(sources[kind], **options)
