"""Split requests into files under the limits, which stand whole or not at all."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import batch_frames as bf
from batch_frames.files.stores import FolderStore
from tests.support.shards import (
    Entry,
    batch_of,
    content_of,
    entries_of,
    frame_of,
    line_of,
    over,
    standing,
)


def greedy(lines: list[bytes], limits: bf.Limits) -> list[bytes] | int:
    """Fill one file after the other row by row, or give the index of the line that is too long."""
    files, requests = [b""], 0
    for index, line in enumerate(lines):
        if len(line) > limits.nbytes:
            return index
        if requests == limits.requests or len(files[-1]) + len(line) > limits.nbytes:
            files.append(b"")
            requests = 0
        files[-1] += line
        requests += 1
    return files


# Limits and shards


def test_the_default_limits_are_those_of_the_service() -> None:
    """A file takes 50,000 requests and 200 million bytes."""
    assert bf.Limits() == bf.Limits(requests=50_000, nbytes=200_000_000)
    assert bf.Limits(1, 2) == bf.Limits(requests=1, nbytes=2)


@pytest.mark.parametrize("name", ["requests", "nbytes"])
@pytest.mark.parametrize("value", [0, -1, 1.5, 2e8, "5", None, True])
def test_limits_are_whole_numbers_from_one(name: str, value: Any) -> None:
    """Anything but a whole number from 1 is refused when the limits are made."""
    message = f"limits: {name} must be a whole number from 1, not {value!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        bf.Limits(**{name: value})


@pytest.mark.parametrize("value", [None, 5, "5"], ids=repr)
def test_limits_are_given_as_limits(tmp_path: Path, value: Any) -> None:
    """Anything else in their place is refused, and nothing is written."""
    message = f"limits must be Limits(requests=…, nbytes=…), not {value!r}"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        batch_of(entries_of(1)).save_to_file(tmp_path / "x.jsonl", limits=value)
    assert standing(tmp_path) == {}


@pytest.mark.parametrize("value", [bf.Limits(), bf.Shard(Path("a.jsonl"), 3, 500)])
def test_limits_and_shards_are_frozen_values(value: Any) -> None:
    """They compare by value, serve as keys and cannot be changed."""
    same = type(value)(*(getattr(value, name) for name in type(value).__slots__))
    assert value == same
    assert len({value, same}) == 1
    for name in type(value).__slots__:
        with pytest.raises(FrozenInstanceError):
            setattr(value, name, 7)


def test_a_shard_has_a_path_and_sizes() -> None:
    """Path, number of requests and of bytes, in this order; it can stand for its path."""
    shard = bf.Shard(Path("a.jsonl"), 3, 500)
    assert (shard.path, shard.requests, shard.nbytes) == (Path("a.jsonl"), 3, 500)
    assert Path(shard) == shard.path


# Filling


@given(
    prompts=st.lists(st.text(max_size=40), max_size=24),
    split=st.integers(0, 24),
    requests=st.integers(1, 9),
    nbytes=st.integers(140, 900),
)
@example(prompts=["", "x" * 900, ""], split=3, requests=9, nbytes=500)
@example(prompts=["", "", "x" * 900], split=1, requests=1, nbytes=500)
@example(prompts=["", "", ""], split=0, requests=9, nbytes=len(line_of("r0", "")))
@example(prompts=["", "", "", ""], split=2, requests=9, nbytes=2 * len(line_of("r0", "")))
@example(prompts=["", "", "", ""], split=2, requests=9, nbytes=2 * len(line_of("r0", "")) - 1)
@example(prompts=[""], split=1, requests=9, nbytes=len(line_of("r0", "")) - 1)
def test_files_are_filled_as_a_row_loop_fills_them(
    prompts: list[str], split: int, requests: int, nbytes: int
) -> None:
    """Each file takes all lines that both limits allow, for rows and entries of any length."""
    entries = [(f"r{n}", prompt) for n, prompt in enumerate(prompts)]
    lines = [line_of(*entry) for entry in entries]
    limits = bf.Limits(requests=requests, nbytes=nbytes)
    batch = over(frame_of(entries[:split]))
    for entry in entries[split:]:
        batch.add_entry(*entry)
    files = greedy(lines, limits)
    with TemporaryDirectory() as name:
        folder = Path(name)
        if isinstance(files, int):
            in_frame = files < len(entries[:split])
            place = f"row {files}" if in_frame else f"entry {files - len(entries[:split])}"
            message = (
                f"{place} (custom_id 'r{files}'): the request is {len(lines[files]):,} bytes, "
                f"above the limit of {nbytes:,} a file; shorten it"
            )
            with pytest.raises(bf.RequestError, match=f"^{re.escape(message)}\\Z"):
                batch.save_to_file(folder / "x.jsonl", limits=limits)
            assert standing(folder) == {}
            return
        if not entries:
            with pytest.warns(UserWarning, match="^there are no requests: the file is empty$"):
                shards = batch.save_to_file(folder / "x.jsonl", limits=limits)
        else:
            shards = batch.save_to_file(folder / "x.jsonl", limits=limits)
        several = [f"x-{n:05}.jsonl" for n in range(1, len(files) + 1)]
        names = several if len(files) > 1 else ["x.jsonl"]
        assert standing(folder) == dict(zip(names, files, strict=True))
        counts = [file.count(b"\n") for file in files]
        assert shards == [
            bf.Shard(folder / name, count, len(file))
            for name, count, file in zip(names, counts, files, strict=True)
        ]


@pytest.mark.parametrize(
    "limits",
    [
        bf.Limits(requests=1_000),
        bf.Limits(requests=4_321, nbytes=300_000),
        bf.Limits(nbytes=123_457),
        bf.Limits(requests=5_000),
        bf.Limits(requests=4_999),
        bf.Limits(requests=sys.maxsize, nbytes=sys.maxsize),
        bf.Limits(requests=10**30, nbytes=10**30),
    ],
    ids=repr,
)
@pytest.mark.parametrize("make", [batch_of, lambda entries: over(frame_of(entries))])
def test_files_are_filled_across_chunks(
    tmp_path: Path, limits: bf.Limits, make: Callable[[list[Entry]], bf.BatchCreator]
) -> None:
    """Where one chunk ends and the next begins makes no difference to what a file holds."""
    entries = [(f"r{n}", "é" * (n * 7_919 % 113)) for n in range(5_000)]
    shards = make(entries).save_to_file(tmp_path / "x.jsonl", limits=limits)
    files = greedy([line_of(*entry) for entry in entries], limits)
    assert [shard.path.read_bytes() for shard in shards] == files


def test_one_request_above_the_limit_is_named(tmp_path: Path) -> None:
    """The error gives row, id, size and limit, and carries row and id."""
    entries = [*entries_of(3_000), ("long", "x" * 2_000), *entries_of(10, 3_000)]
    with pytest.raises(bf.RequestError) as caught:
        over(frame_of(entries)).save_to_file(tmp_path / "x.jsonl", limits=bf.Limits(nbytes=2_000))
    size = len(line_of("long", "x" * 2_000))
    assert str(caught.value) == (
        f"row 3,000 (custom_id 'long'): the request is {size:,} bytes, "
        "above the limit of 2,000 a file; shorten it"
    )
    assert (caught.value.row, caught.value.custom_id) == (3_000, "long")
    assert standing(tmp_path) == {}


# Names


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("reviews.jsonl", ["reviews-00001.jsonl", "reviews-00002.jsonl"]),
        ("reviews", ["reviews-00001", "reviews-00002"]),
        ("a.b.jsonl", ["a.b-00001.jsonl", "a.b-00002.jsonl"]),
        ("größe 評価.jsonl", ["größe 評価-00001.jsonl", "größe 評価-00002.jsonl"]),
        ("[x]*?.jsonl", ["[x]*?-00001.jsonl", "[x]*?-00002.jsonl"]),
    ],
)
def test_several_files_are_numbered(tmp_path: Path, name: str, names: list[str]) -> None:
    """One file has exactly the name that was asked for; of several each has a number behind it."""
    entries = entries_of(2)
    (shard,) = batch_of(entries).save_to_file(tmp_path / name)
    assert standing(tmp_path) == {name: content_of(entries)}
    assert shard == bf.Shard(tmp_path / name, 2, len(content_of(entries)))
    shards = batch_of(entries).save_to_file(tmp_path / name, limits=bf.Limits(requests=1))
    assert [shard.path for shard in shards] == [tmp_path / n for n in names]
    assert standing(tmp_path) == dict(zip(names, (line_of(*e) for e in entries), strict=True))


@pytest.mark.parametrize(
    ("number", "name"),
    [(1, "x-00001.jsonl"), (99_999, "x-99999.jsonl"), (100_000, "x-100000.jsonl")],
)
def test_numbers_take_more_than_five_digits_when_they_must(
    tmp_path: Path, number: int, name: str
) -> None:
    """Five digits, and more from the hundred thousandth file on."""
    store = FolderStore(tmp_path / "x.jsonl")
    assert store._numbered(number).name == name
    store.close()


def test_missing_folders_are_made(tmp_path: Path) -> None:
    """All missing folders above the file are made."""
    path = tmp_path / "a" / "b" / "c.jsonl"
    batch_of(entries_of(1)).save_to_file(path)
    assert path.read_bytes() == content_of(entries_of(1))


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """A path that is a folder is refused with advice, and nothing is put into it."""
    with pytest.raises(IsADirectoryError) as caught:
        batch_of(entries_of(1)).save_to_file(tmp_path)
    assert str(caught.value) == f"'{tmp_path}' is a folder; name a file in it, as in 'out.jsonl'"
    assert standing(tmp_path) == {}


@pytest.mark.parametrize("target", [3, None, object(), b"x.jsonl"], ids=type)
def test_what_is_neither_path_nor_file_is_refused(target: Any) -> None:
    """The error says what would be right."""
    message = f"path must be a path or a binary file, not {type(target).__name__}"
    with pytest.raises(TypeError, match=f"^{message}$"):
        batch_of(entries_of(1)).save_to_file(target)


def test_a_relative_path_is_one_from_where_we_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bare name is a file in the working folder."""
    monkeypatch.chdir(tmp_path)
    (shard,) = batch_of(entries_of(1)).save_to_file("x.jsonl")
    assert shard.path == Path("x.jsonl")
    assert standing(tmp_path) == {"x.jsonl": content_of(entries_of(1))}


@pytest.mark.parametrize("make", [lambda: batch_of([]), lambda: over(frame_of([]))])
def test_no_requests_make_one_empty_file(
    tmp_path: Path, make: Callable[[], bf.BatchCreator]
) -> None:
    """Empty input gives one empty file, in place of what stood, and a warning."""
    batch_of(entries_of(3)).save_to_file(tmp_path / "x.jsonl", limits=bf.Limits(requests=1))
    with pytest.warns(UserWarning, match="^there are no requests: the file is empty$"):
        shards = make().save_to_file(tmp_path / "x.jsonl")
    assert shards == [bf.Shard(tmp_path / "x.jsonl", 0, 0)]
    assert standing(tmp_path) == {"x.jsonl": b""}
