"""Find ids that stand twice, wherever they stand, in a few bytes a row."""

from __future__ import annotations

import json
import re
import tracemalloc
import warnings
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import batch_frames as bf
from batch_frames.frames.chunks import Position
from batch_frames.requests.rendering import IdCheck

OPTIONS: dict[str, Any] = {"id_column": "id", "prompt_column": "p", "model": "m"}


def table(ids: Iterable[Any]) -> pa.Table:
    """Make a frame with these ids."""
    ids = list(ids)
    return pa.table({"id": ids, "p": ["x"] * len(ids)})


def message_of(batch: bf.BatchCreator, path: Path, **options: Any) -> str:
    """Give the message with which saving is refused, and hold that nothing stands."""
    with pytest.raises(bf.RequestError) as caught:
        batch.save_to_file(path, progress=False, **options)
    assert not path.exists()
    assert not [p for p in path.parent.iterdir() if p.name.startswith(f".{path.name}")]
    return str(caught.value)


def expected(places: Iterable[tuple[str, str]]) -> str | None:
    """Say the message for pairs of an id and its place, from a row loop; None if all is well."""
    first: dict[str, str] = {}
    twice: dict[str, str] = {}
    for custom_id, place in places:
        if custom_id in first and custom_id not in twice:
            twice[custom_id] = f"{custom_id!r} in {first[custom_id]} and {place}"
        first.setdefault(custom_id, place)
    named = list(twice.values())
    more = [f"… and {len(named) - 3} more"] if len(named) > 3 else []
    return f"custom_id must be unique: {'; '.join([*named[:3], *more])}" if named else None


def test_an_id_that_stands_twice_is_named_with_both_rows(tmp_path: Path) -> None:
    """The error names the id and both rows, and carries the second row and the id."""
    batch = bf.from_dataframe(table(["a", "b", "c", "b"]), **OPTIONS)
    with pytest.raises(bf.RequestError) as caught:
        batch.save_to_file(tmp_path / "x.jsonl")
    assert str(caught.value) == "custom_id must be unique: 'b' in row 1 and row 3"
    assert (caught.value.row, caught.value.custom_id) == (3, "b")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ("aab", "'a' in row 0 and row 1"),
        ("abcabc", "'a' in row 0 and row 3; 'b' in row 1 and row 4; 'c' in row 2 and row 5"),
        ("aabbcc", "'a' in row 0 and row 1; 'b' in row 2 and row 3; 'c' in row 4 and row 5"),
        ("aabbccddeedd", "'a' in row 0 and row 1; 'b' in row 2 and row 3; 'c' in row 4 and row 5; "
         "… and 2 more"),
        ("baab", "'a' in row 1 and row 2; 'b' in row 0 and row 3"),
        ("xaxax", "'x' in row 0 and row 2; 'a' in row 1 and row 3"),
    ],
)  # fmt: skip
def test_the_first_three_are_named(tmp_path: Path, ids: str, message: str) -> None:
    """Three ids at most are named, in the order of their second rows, with their first two rows."""
    batch = bf.from_dataframe(table(ids), **OPTIONS)
    assert message_of(batch, tmp_path / "x.jsonl") == (f"custom_id must be unique: {message}")


def test_ids_are_compared_across_chunks_and_shards(tmp_path: Path) -> None:
    """Ids that stand far apart, in different chunks and files, are found, with exact rows."""
    ids = [f"r{n}" for n in range(150_000)]
    for row, same_as in [(71_234, 3), (149_999, 70_001), (140_000, 139_999)]:
        ids[row] = ids[same_as]
    batch = bf.from_dataframe(table(ids), **OPTIONS)
    assert message_of(batch, tmp_path / "x.jsonl", limits=bf.Limits(requests=20_000)) == (
        "custom_id must be unique: 'r3' in row 3 and row 71,234; "
        "'r139999' in row 139,999 and row 140,000; 'r70001' in row 70,001 and row 149,999"
    )


@pytest.mark.parametrize("often", [100, 3_000, 70_000])
def test_an_id_that_stands_very_often_hides_no_other(tmp_path: Path, often: int) -> None:
    """However often one id stands, it is named once, and the next ones too."""
    ids = ["same"] * often + ["b", "c", "c", "b"]
    assert message_of(bf.from_dataframe(table(ids), **OPTIONS), tmp_path / "x.jsonl") == (
        "custom_id must be unique: 'same' in row 0 and row 1; "
        f"'c' in row {often + 1:,} and row {often + 2:,}; 'b' in row {often:,} "
        f"and row {often + 3:,}"
    )


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_ids_are_compared_across_files(tmp_path: Path, kind: str) -> None:
    """Ids in different files of one input are compared, and each row is named with its file."""
    one, two = tmp_path / f"one.{kind}", tmp_path / f"two.{kind}"
    frames = {one: ["a", "b", "c"], two: ["d", "c", "e", "a"]}
    for path, ids in frames.items():
        if kind == "csv":
            path.write_text("".join(f"{row},x\n" for row in ["id", *ids]).replace("id,x", "id,p"))
        else:
            pq.write_table(table(ids), path)
    read = bf.from_csv if kind == "csv" else bf.from_parquet
    assert message_of(read([one, two], **OPTIONS), tmp_path / "x.jsonl") == (
        "custom_id must be unique: "
        f"'c' in row 2 of '{one}' and row 1 of '{two}'; "
        f"'a' in row 0 of '{one}' and row 3 of '{two}'"
    )


def test_a_file_given_twice_is_refused(tmp_path: Path) -> None:
    """A path that stands twice in the list of paths gives every id twice."""
    path = tmp_path / "one.csv"
    path.write_text("id,p\n" + "".join(f"{n},x\n" for n in range(9)))
    batch = bf.from_csv([path, path], **OPTIONS)
    named = "; ".join(f"'{n}' in row {n} of '{path}' and row {n} of '{path}'" for n in range(3))
    assert message_of(batch, tmp_path / "x.jsonl") == (
        f"custom_id must be unique: {named}; … and 6 more"
    )


@pytest.mark.parametrize("kind", ["pandas", "pyarrow", "csv"])
def test_rows_are_counted_with_those_that_were_skipped(tmp_path: Path, kind: str) -> None:
    """With na="skip", rows are named by where they stood, and a skipped row's id does not count."""
    ids = ["s", "a", "s", "b", "s", "s", "a", "c", "b"]
    prompts = [None if i == "s" else "x" for i in ids]
    prompts[4] = "x"
    frame = pd.DataFrame({"id": ids, "p": prompts})
    if kind == "csv":
        path = tmp_path / "in.csv"
        frame.to_csv(path, index=False)
        batch = bf.from_csv(path, na="skip", **OPTIONS)
    else:
        source = frame if kind == "pandas" else pa.table({"id": ids, "p": prompts})
        batch = bf.from_dataframe(source, na="skip", **OPTIONS)
    assert message_of(batch, tmp_path / "x.jsonl") == (
        "custom_id must be unique: 'a' in row 1 and row 6; 'b' in row 3 and row 8"
    )


def test_skipped_rows_far_apart_shift_no_row_number(tmp_path: Path) -> None:
    """Row numbers stay right over many chunks of which each lost some rows."""
    rows = 80_000
    ids = [f"r{n}" for n in range(rows)]
    ids[79_001] = "r1"
    prompts = [None if n % 3 == 0 else "x" for n in range(rows)]
    batch = bf.from_dataframe(pa.table({"id": ids, "p": prompts}), na="skip", **OPTIONS)
    assert message_of(batch, tmp_path / "x.jsonl") == (
        "custom_id must be unique: 'r1' in row 1 and row 79,001"
    )


@pytest.mark.parametrize(
    "ids",
    [
        pd.Series([7, 8]),
        pd.Series([7, "8"], dtype=object),
        pd.Series(["7", "8"]),
        pd.Series(["7", "8"], dtype="category"),
        pd.Series([7, 8], dtype="uint8"),
    ],
    ids=["integers", "objects", "texts", "categories", "small integers"],
)
def test_a_number_and_its_text_are_one_id(tmp_path: Path, ids: pd.Series[Any]) -> None:
    """Ids are compared as the text they become: 8 and "8" are the same."""
    batch = bf.from_dataframe(pd.DataFrame({"id": ids, "p": ["x", "y"]}), **OPTIONS)
    batch.add_entry("9", "z")
    batch.add_entry("8", "z")
    assert message_of(batch, tmp_path / "x.jsonl") == (
        "custom_id must be unique: '8' in row 1 and entry 1"
    )


def test_a_number_and_its_text_in_one_column_are_one_id(tmp_path: Path) -> None:
    """An object column with both 8 and "8" has one id twice."""
    frame = pd.DataFrame({"id": pd.Series([8, "a", "8"], dtype=object), "p": ["x", "y", "z"]})
    assert message_of(bf.from_dataframe(frame, **OPTIONS), tmp_path / "x.jsonl") == (
        "custom_id must be unique: '8' in row 0 and row 2"
    )


def test_a_float_among_other_ids_is_refused(tmp_path: Path) -> None:
    """A float is no id in an object column of several kinds either, even when it is whole."""
    frame = pd.DataFrame({"id": pd.Series(["a", 1.0], dtype=object), "p": ["x", "y"]})
    with pytest.raises(bf.RequestError, match=r"^row 1\b.* 1\.0; an id must be text"):
        bf.from_dataframe(frame, **OPTIONS).save_to_file(tmp_path / "x.jsonl")


def test_entries_are_compared_with_each_other(tmp_path: Path) -> None:
    """Entries added by hand are compared too, over more than one block of them."""
    creator = bf.BatchCreator("m", system_prompt=None)
    for n in range(5_000):
        creator.add_entry(f"e{n % 4_999}", "x")
    assert message_of(creator, tmp_path / "x.jsonl") == (
        "custom_id must be unique: 'e0' in entry 0 and entry 4,999"
    )


def test_a_stream_is_compared_with_entries_when_it_is_saved_again(tmp_path: Path) -> None:
    """Ids of a stream that was counted are known at its second save too."""
    ids = ["a", 'q"\\\u0000\u2028é', "c"]
    batch = bf.from_dataframe(table(ids).to_reader(), **OPTIONS)
    assert len(batch) == 3
    batch.save_to_file(tmp_path / "one.jsonl")
    batch.add_entry(ids[1], "again")
    assert message_of(batch, tmp_path / "two.jsonl") == (
        f"custom_id must be unique: {ids[1]!r} in row 1 and entry 0"
    )


ALIKE = ["a", "A", "a ", " a", "a\0", "a\0\0", "\0", "\0\0", "é", "e\u0301", "ａ", "a" * 8, "a" * 9]


def test_ids_that_only_look_alike_are_different(tmp_path: Path) -> None:
    """Case, spaces, zero bytes and Unicode forms tell ids apart."""
    (shard,) = bf.from_dataframe(table(ALIKE), **OPTIONS).save_to_file(tmp_path / "x.jsonl")
    lines = shard.path.read_bytes().split(b"\n")[:-1]
    assert [json.loads(line)["custom_id"] for line in lines] == ALIKE


@given(
    ids=st.lists(
        st.sampled_from([*ALIKE, '"', "\\", "\n", "{}", '","', "\u2028", "🎈", "r1", "r2"])
        | st.text(min_size=1, max_size=20),
        max_size=30,
    ),
    split=st.integers(0, 30),
    per_file=st.integers(1, 9),
)
@example(ids=["\x7f", "\\u007f", "\x7f"], split=1, per_file=2)
def test_the_message_is_that_of_a_row_loop(ids: list[str], split: int, per_file: int) -> None:
    """For any ids in a table, in entries and over files, exactly what stands twice is refused."""
    frame = pd.DataFrame({"id": ids[:split], "p": ["x"] * len(ids[:split])})
    batch = bf.from_dataframe(frame, **OPTIONS)
    for custom_id in ids[split:]:
        batch.add_entry(custom_id, "y")
    places = [f"row {n}" for n in range(len(ids[:split]))]
    places += [f"entry {n}" for n in range(len(ids[split:]))]
    message = expected(zip(ids, places, strict=True))
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "there are no requests")
        path = Path(folder) / "x.jsonl"
        if message is None:
            shards = batch.save_to_file(path, limits=bf.Limits(requests=per_file))
            assert sum(shard.requests for shard in shards) == len(ids)
        else:
            with pytest.raises(bf.RequestError, match=f"^{re.escape(message)}\\Z"):
                batch.save_to_file(path, limits=bf.Limits(requests=per_file))
            assert list(path.parent.iterdir()) == []


def same_hash(text: pa.Array) -> npt.NDArray[np.uint64]:
    """Hash every text to the same number."""
    return np.zeros(len(text), np.uint64)


def test_equal_hashes_of_different_ids_are_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When all hashes are equal, only ids that are equal are refused."""
    monkeypatch.setattr("batch_frames.requests.rendering.hash_text", same_hash)
    ids = [f"r{n}" for n in range(3_000)]
    limits = bf.Limits(requests=700)
    shards = bf.from_dataframe(table(ids), **OPTIONS).save_to_file(tmp_path / "a", limits=limits)
    assert [shard.requests for shard in shards] == [700, 700, 700, 700, 200]
    batch = bf.from_dataframe(table([*ids, "r2", "r1"]), **OPTIONS)
    assert message_of(batch, tmp_path / "x.jsonl", limits=limits) == (
        "custom_id must be unique: 'r2' in row 2 and row 3,000; 'r1' in row 1 and row 3,001"
    )


def test_an_earlier_file_stays_when_ids_stand_twice(tmp_path: Path) -> None:
    """Ids that stand twice are found before anything stands under a final name."""
    path = tmp_path / "x.jsonl"
    bf.from_dataframe(table("abc"), **OPTIONS).save_to_file(path)
    before = path.read_bytes()
    with pytest.raises(bf.RequestError):
        bf.from_dataframe(table("aba"), **OPTIONS).save_to_file(path, limits=bf.Limits(requests=1))
    assert path.read_bytes() == before
    assert list(tmp_path.glob("[!.]*")) == [path]


def memory_of(ids: list[str], path: Path, *, refused: bool) -> int:
    """Measure the most bytes that the check of these ids holds at any moment."""
    path.write_text("".join(f'{{"custom_id":"{custom_id}"}}\n' for custom_id in ids))
    check, arrow = IdCheck(), pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        for start in range(0, len(ids), 4_000):
            block = ids[start : start + 4_000]
            check.add(pa.array(block, pa.large_string()), Position(start))
        arrow = pa.total_allocated_bytes() - arrow
        with pytest.raises(bf.RequestError) if refused else nullcontext():
            check.check(lambda: (file.open("rb") for file in [path]))
        return tracemalloc.get_traced_memory()[1] + int(arrow)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("times", [1, 2], ids=["all ids differ", "each id stands twice"])
def test_the_check_takes_less_than_forty_bytes_a_row(tmp_path: Path, times: int) -> None:
    """A row costs its hash and less than 40 bytes in all, also when a table is given twice."""
    rows = 200_000
    ids = [f"request-{n:09}" for n in range(rows // times)] * times
    nbytes = memory_of(ids, tmp_path / "lines.jsonl", refused=times > 1)
    assert 8 * rows <= nbytes < 40 * rows
