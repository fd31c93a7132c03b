"""Streams that can be read only once are saved once, or kept when something looks at them."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import batch_frames as bf
from tests.support.creators import COLUMNS, Entry, Shown, entries_of, line_of, saved, text

USED_UP = (
    "this frame is a stream, which can be read only once, and it has been read; "
    "to use it again, pass a table, as in pyarrow.table(stream)"
)


# Streams that can be read only once


class Stream:
    """Make a one-shot stream that tells how many of its batches were read."""

    def __init__(self, entries: Sequence[Entry], size: int = 400) -> None:
        self.entries = entries
        self.read = 0
        self.size = size
        schema = pa.schema([("id", pa.string()), ("p", pa.string())])
        self.reader = pa.RecordBatchReader.from_batches(schema, self._batches(schema))

    def _batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        for start in range(0, len(self.entries), self.size):
            self.read += 1
            part = self.entries[start : start + self.size]
            arrays = [pa.array([e[n] for e in part], pa.string()) for n in (0, 1)]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    def batch(self, **options: Any) -> bf.BatchCreator:
        """Make requests of it."""
        options = {"model": "m", "system_prompt": "Rate it.", **COLUMNS, **options}
        return bf.from_dataframe(self.reader, **options)

    def content(self) -> bytes:
        """Say what must be written."""
        return b"".join(line_of(*entry, model="m") for entry in self.entries)


LIMITS = bf.Limits(requests=1_000)


@pytest.mark.parametrize("limits", [bf.Limits(), LIMITS], ids=["one file", "several files"])
def test_a_stream_is_saved_once(tmp_path: Path, limits: bf.Limits) -> None:
    """A second save or look says what to do, and leaves the files of the first as they are."""
    stream = Stream(entries_of(2_700))
    batch = stream.batch()
    shards = batch.save_to_file(tmp_path / "a.jsonl", limits=limits)
    before = sorted(tmp_path.iterdir())
    path = tmp_path / "a.jsonl"
    for again in (saved, lambda b: b.save_to_file(path), lambda b: b.preview_entry()):
        with pytest.raises(bf.BatchFramesError, match=f"^{re.escape(USED_UP)}$"):
            again(batch)
    assert sorted(tmp_path.iterdir()) == before
    assert b"".join(shard.path.read_bytes() for shard in shards) == stream.content()
    assert (len(batch), stream.read) == (2_700, 7)


@pytest.mark.parametrize("limits", [bf.Limits(), LIMITS], ids=["one file", "several files"])
def test_a_stream_that_was_counted_can_be_saved_again(tmp_path: Path, limits: bf.Limits) -> None:
    """A second and third save, to another or to the same path, write the same bytes."""
    stream = Stream(entries_of(2_700))
    batch = stream.batch()
    assert len(batch) == 2_700
    for name, chosen in [("a", limits), ("b", bf.Limits()), ("b", LIMITS), ("a", limits)]:
        shards = batch.save_to_file(tmp_path / f"{name}.jsonl", limits=chosen)
        assert b"".join(shard.path.read_bytes() for shard in shards) == stream.content()
    assert stream.read == 7


@given(
    entries=st.lists(
        st.tuples(st.text(min_size=1, max_size=12), text),
        min_size=1,
        max_size=8,
        unique_by=lambda e: e[0],
    )
)
@example(entries=[("a\x00b", "\x00"), ('"\\', "\u2028\r\n"), ("\ufeff", "\ufeff"), (" ", " ")])
def test_any_stream_saved_again_is_the_same(entries: list[Entry]) -> None:
    """Whatever its ids and prompts hold, the second save, with an entry on top, is right."""
    stream = Stream(entries, size=3)
    batch = stream.batch()
    assert len(batch) == len(entries)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.jsonl"
        batch.save_to_file(path, limits=bf.Limits(requests=2))
        assert len(batch) == len(entries)
        batch.add_entry("an id longer than those", "x")
        shards = batch.save_to_file(path, limits=bf.Limits(requests=3))
        content = b"".join(shard.path.read_bytes() for shard in shards)
    assert content == stream.content() + line_of("an id longer than those", "x", model="m")


LOOKS: dict[str, tuple[Callable[[bf.BatchCreator], Any], Any]] = {
    "count": (lambda batch: batch.get_entry_count(), 2_700),
    "len": (len, 2_700),
    "preview": (lambda batch: batch.preview_entry(2_000)["custom_id"], "r2000"),
    "last": (lambda batch: batch.preview_entry(-1)["custom_id"], "r2699"),
}


@pytest.mark.parametrize("look", LOOKS)
def test_looking_at_a_stream_keeps_it(tmp_path: Path, look: str) -> None:
    """Counting and previewing, before, between and after saves, leave all its rows to be saved."""
    stream = Stream(entries_of(2_700))
    batch = stream.batch()
    see, expected = LOOKS[look]
    for name in "abc":
        assert see(batch) == expected
        assert see(batch) == expected
        batch.save_to_file(tmp_path / name, limits=LIMITS)
    assert b"".join(p.read_bytes() for p in sorted(tmp_path.glob("c-*"))) == stream.content()
    assert stream.read == 7


def test_a_kept_stream_needs_no_file(tmp_path: Path) -> None:
    """Once it was counted, a stream can be saved again though the first file is gone."""
    stream = Stream(entries_of(900))
    batch = stream.batch()
    assert len(batch) == 900
    batch.save_to_file(tmp_path / "a.jsonl")
    (tmp_path / "a.jsonl").unlink()
    assert saved(batch) == stream.content()


def test_showing_a_stream_reads_nothing_of_it(tmp_path: Path) -> None:
    """Repr, card and truth leave a stream untouched; once it is saved they know the count."""
    stream = Stream(entries_of(900))
    batch = stream.batch()
    for _ in range(2):
        assert batch
        assert "entries=not yet counted" in repr(batch)
        assert "not yet counted" in Shown(batch._repr_html_()).text
    assert stream.read == 0
    batch.save_to_file(tmp_path / "x.jsonl")
    assert (tmp_path / "x.jsonl").read_bytes() == stream.content()
    assert "entries=900," in repr(batch)
    assert "entries 900" in Shown(batch._repr_html_()).text


def test_a_stream_that_went_into_a_pipe_is_used_up() -> None:
    """A pipe takes a stream as a file does, and the error of a second save says what to do."""
    stream = Stream(entries_of(900))
    batch, pipe = stream.batch(), io.BytesIO()
    batch.save_to_file(pipe)
    assert pipe.getvalue() == stream.content()
    with pytest.raises(bf.BatchFramesError, match=f"^{re.escape(USED_UP)}$"):
        saved(batch)


def test_a_stream_that_failed_is_used_up(tmp_path: Path) -> None:
    """After an error in its middle, a second save says that the stream is gone."""
    batch = Stream([*entries_of(900), ("r0", "again")]).batch()
    with pytest.raises(bf.RequestError):
        batch.save_to_file(tmp_path / "x.jsonl")
    with pytest.raises(bf.BatchFramesError, match=f"^{re.escape(USED_UP)}$"):
        batch.save_to_file(tmp_path / "x.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_a_cleared_stream_is_forgotten(tmp_path: Path) -> None:
    """After clearing, only later entries count, saved or not."""
    stream = Stream(entries_of(900))
    batch = stream.batch()
    batch.save_to_file(tmp_path / "x.jsonl")
    batch.clear_entries()
    assert len(batch) == 0
    batch.add_entry("e", "x")
    assert saved(batch) == line_of("e", "x", model="m")


def test_a_stream_with_skipped_rows_is_counted_without_them(tmp_path: Path) -> None:
    """Before and after saving, the count is that of the requests."""
    frame = pa.table({"id": ["a", "b", "c"], "p": ["x", None, "z"]})
    expected = line_of("a", "x", model="m") + line_of("c", "z", model="m")
    options: dict[str, Any] = {"model": "m", "system_prompt": "Rate it.", "na": "skip", **COLUMNS}
    batch = bf.from_dataframe(frame.to_reader(), **options)
    with pytest.warns(
        UserWarning, match=r"^skipped 1 row without a prompt: row 1 \(custom_id 'b'\)$"
    ):
        batch.save_to_file(tmp_path / "x.jsonl")
    assert (tmp_path / "x.jsonl").read_bytes() == expected
    assert len(batch) == 2
    counted = bf.from_dataframe(frame.to_reader(), **options)
    assert len(counted) == 2
    with pytest.warns(
        UserWarning, match=r"^skipped 1 row without a prompt: row 1 \(custom_id 'b'\)$"
    ):
        assert saved(counted) == expected


def test_a_stream_that_is_only_saved_is_not_kept(tmp_path: Path) -> None:
    """While a long stream is saved, only a small part of it is in memory at a time."""
    schema = pa.schema([("id", pa.string()), ("p", pa.string())])
    held = []

    def batches() -> Iterator[pa.RecordBatch]:
        for n in range(40):
            ids = [f"r{n}-{row}" for row in range(1_000)]
            yield pa.RecordBatch.from_arrays(
                [pa.array(ids), pa.array(["x" * 1_000] * 1_000)], schema=schema
            )
            held.append(pa.total_allocated_bytes())

    before = pa.total_allocated_bytes()
    reader = pa.RecordBatchReader.from_batches(schema, batches())
    batch = bf.from_dataframe(reader, model="m", **COLUMNS)
    (shard,) = batch.save_to_file(tmp_path / "x.jsonl")
    assert shard.nbytes > 40_000_000
    assert max(held) - before < 10_000_000


# Progress


def slow_batch(seconds: float) -> bf.BatchCreator:
    """Make requests of a stream that pauses in its middle."""
    schema = pa.schema([("id", pa.string()), ("p", pa.string())])

    def batches() -> Iterator[pa.RecordBatch]:
        for custom_id in "ab":
            time.sleep(seconds)
            yield pa.RecordBatch.from_pylist([{"id": custom_id, "p": "x" * 1_000_000}], schema)

    reader = pa.RecordBatchReader.from_batches(schema, batches())
    return bf.from_dataframe(reader, model="m", **COLUMNS)


@pytest.mark.parametrize(
    ("progress", "seconds", "shown"), [(True, 0.0, True), (None, 0.15, True), (False, 0.15, False)]
)
def test_a_bar_comes_after_a_while_or_when_asked_for(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    progress: bool | None,
    seconds: float,
    shown: bool,
) -> None:
    """On standard error a slow save shows how many requests it has written, unless told not to."""
    monkeypatch.setattr("batch_frames.progress.DELAY", 0.2)
    slow_batch(seconds).save_to_file(tmp_path / "x.jsonl", progress=progress)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert (" requests" in captured.err) == shown
    assert (captured.err == "") == (not shown)


OPTIONS: dict[str, Any] = {**COLUMNS, "model": "m"}
RESULTS = pa.table({"custom_id": ["a", "b"], "status": ["ok", "ok"]})


@pytest.mark.parametrize(
    "use",
    [
        lambda stream, path: bf.plan(stream, path, **OPTIONS),
        lambda stream, path: bf.run(stream, path, **OPTIONS),
        lambda stream, path: bf.join_results(stream, RESULTS, id_column="id"),
        lambda stream, path: bf.from_dataframe(stream, **OPTIONS).save_to_file(path),
    ],
    ids=["plan", "run", "join", "save"],
)
def test_a_stream_that_was_read_is_refused_by_all(tmp_path: Path, use: Any) -> None:
    """What is empty because it was read is no table without rows."""
    stream = Stream([("a", "x"), ("b", "y")]).reader
    assert bf.join_results(stream, RESULTS, id_column="id").num_rows == 2
    with pytest.raises(bf.BatchFramesError) as caught:
        use(stream, tmp_path / "x.jsonl")
    assert str(caught.value) == USED_UP
    assert list(tmp_path.iterdir()) == []


class Again:
    """A table without a length that can be read again and again."""

    def __arrow_c_stream__(self, schema: Any = None) -> Any:
        return pa.table({"id": ["a"], "p": ["x"]}).__arrow_c_stream__(schema)


def test_a_frame_without_a_length_may_be_read_again() -> None:
    """What may or may not be a stream is read once for each call that takes it."""
    frame = Again()
    content = line_of("a", "x", model="m")
    options = {**OPTIONS, "system_prompt": "Rate it."}
    batch = bf.from_dataframe(frame, **options)
    assert saved(batch) == saved(bf.from_dataframe(frame, **options)) == content
    assert bf.join_results(frame, RESULTS[:1], id_column="id").num_rows == 1
    with pytest.raises(bf.BatchFramesError) as caught:
        saved(batch)
    assert str(caught.value) == USED_UP


def test_results_that_were_read_are_refused() -> None:
    """Results as a stream count once."""
    stream = RESULTS.to_reader()
    assert bf.summarize(stream)["requests"].tolist() == [2]
    with pytest.raises(bf.BatchFramesError) as caught:
        bf.summarize(stream)
    assert str(caught.value) == USED_UP
