"""Rows that ask the same have one request, and its answer."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import batch_frames as bf
from tests.support.creators import COLUMNS, line_of, saved, table_batch

KINDS_OF_TABLE = pytest.mark.parametrize("kind", ["pandas", "pyarrow", "stream", "csv", "parquet"])

PROMPTS = ["a", "b", "a", None, "b", "é\n", "a"]
FRAME = pd.DataFrame({"id": [f"r{n}" for n in range(len(PROMPTS))], "p": PROMPTS})


def content_id(prompt: str) -> str:
    """Make the id of a request from its line without one."""
    return hashlib.sha256(line_of("", prompt, model="m")).hexdigest()[:32]


IDS = [None if prompt is None else content_id(prompt) for prompt in PROMPTS]
LINES = b"".join(line_of(content_id(prompt), prompt, model="m") for prompt in ("a", "b", "é\n"))


@KINDS_OF_TABLE
@pytest.mark.filterwarnings("ignore:skipped 1 row")
def test_equal_requests_are_written_once(tmp_path: Path, kind: str) -> None:
    """The lines are those of the distinct prompts, under ids made of what they ask."""
    batch = table_batch(FRAME, kind, tmp_path, na="skip", dedupe=True)
    assert batch.row_ids().to_pylist() == IDS
    assert len(batch) == 3
    assert saved(batch) == LINES
    assert saved(batch) == LINES
    assert batch.preview_entry(-1)["custom_id"] == IDS[5]


@pytest.mark.filterwarnings("ignore:skipped 1 row")
def test_a_stream_is_still_read_once(tmp_path: Path) -> None:
    """Saving a stream keeps no rows, and its requests are counted."""
    batch = table_batch(FRAME, "stream", tmp_path, na="skip", dedupe=True)
    assert saved(batch) == LINES
    assert len(batch) == 3


def test_equal_rows_far_apart_are_found(tmp_path: Path) -> None:
    """Chunks and files do not matter, nor the order of rows; other parameters do."""
    prompts = [f"prompt {n % 1_500}" for n in range(6_000)]
    frame = pd.DataFrame(
        {"id": range(len(prompts)), "p": prompts, "t": [0.5] * 4_500 + [1.0] * 1_500}
    )
    batch = table_batch(frame, "pandas", tmp_path, dedupe=True)
    assert saved(batch) == saved(table_batch(frame[3_000:], "stream", tmp_path, dedupe=True))
    assert saved(batch).count(b"\n") == 1_500
    other = table_batch(frame, "csv", tmp_path, dedupe=True, body={"t": bf.col("t", type="number")})
    assert saved(other).count(b"\n") == 3_000


FRAMES: dict[str, Any] = {
    "pandas": FRAME,
    "index": FRAME.set_index("id")[::-1],
    "polars": pl.from_pandas(FRAME),
    "pyarrow": pa.Table.from_pandas(FRAME),
}


@pytest.mark.filterwarnings("ignore:skipped 1 row")
@pytest.mark.parametrize("kind", FRAMES)
def test_one_answer_fills_all_rows(tmp_path: Path, kind: str) -> None:
    """Each row has the answer to its own prompt; one that was skipped has none."""
    frame = FRAMES[kind]
    options = {"id_column": None} if kind == "index" else {}
    batch = bf.from_dataframe(frame, **{**COLUMNS, **options}, model="m", na="skip", dedupe=True)
    batch.save_to_file(tmp_path / "x.jsonl")
    asked = bf.read_requests(tmp_path / "x.jsonl")[::-1]
    results = asked[["custom_id"]].assign(status="ok", content=asked["user_prompt"])
    joined: Any = bf.join_results(frame, results[1:], requests=batch)
    assert type(joined) is type(frame)
    table = pa.table(joined).to_pydict()
    left = results["content"].iloc[0]
    assert table["content"] == [None if prompt == left else prompt for prompt in table["p"]]
    assert table["custom_id"] == batch.row_ids().to_pylist()
    expected = ["missing" if one is None else "ok" for one in table["content"]]
    assert [str(status) for status in table["status"]] == expected


@pytest.mark.filterwarnings("ignore:skipped 1 row", "ignore:1 result matches no row")
@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame[::-1],
        lambda frame: frame.sort_values("p"),
        lambda frame: frame[2:5],
        lambda frame: pd.concat([frame, frame.assign(p="new")]),
        lambda frame: frame.assign(p=["b", "a", "new", "a", None, "a", "b"]),
    ],
)
@pytest.mark.parametrize("kind", ["pandas", "csv", "parquet"])
def test_rows_are_matched_by_what_they_ask(tmp_path: Path, kind: str, change: Any) -> None:
    """A frame may have other rows, in another order, than the requests were made of."""
    batch = table_batch(FRAME, kind, tmp_path, na="skip", dedupe=True)
    batch.save_to_file(tmp_path / "x.jsonl")
    asked = bf.read_requests(tmp_path / "x.jsonl")
    results = asked[["custom_id"]].assign(status="ok", content=asked["user_prompt"])
    frame = change(FRAME)
    joined = bf.join_results(frame, results, requests=batch)
    answered = set(PROMPTS) - {None}
    expected = [one if one in answered else None for one in frame["p"]]
    assert joined["content"].astype(object).where(joined["content"].notna(), None).tolist() == (
        expected
    )
