"""Split requests into files under the limits, which stand whole or not at all."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import batch_frames as bf
from batch_frames.files.stores import FolderStore

ENDPOINT = "/v1/chat/completions"
SCHEMA = pa.schema([("id", pa.string()), ("p", pa.string())])

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
    """Read all files in a folder, hidden ones too."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


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


@pytest.mark.parametrize("value", [None, 5, {"requests": 5}], ids=repr)
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


@settings(deadline=None, max_examples=150)
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
        bf.Limits(requests=7_777, nbytes=500_000),
        bf.Limits(nbytes=123_457),
        bf.Limits(requests=9_000),
        bf.Limits(requests=8_999),
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
    entries = [(f"r{n}", "é" * (n * 7_919 % 113)) for n in range(9_000)]
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


@pytest.mark.parametrize("target", [3, None, object(), b"x.jsonl"], ids=repr)
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


# What an earlier run left


@pytest.mark.parametrize("then", [1, 2, 3, 7, 12])
@pytest.mark.parametrize("first", [1, 2, 3, 7, 12])
def test_exactly_the_last_run_stands(tmp_path: Path, first: int, then: int) -> None:
    """Whatever number of files the run before had, only those of the last one stand."""
    path, limits = tmp_path / "reviews.jsonl", bf.Limits(requests=1)
    batch_of(entries_of(first)).save_to_file(path, limits=limits)
    entries = entries_of(then, first=100)
    shards = batch_of(entries).save_to_file(path, limits=limits)
    numbered = [f"reviews-{n:05}.jsonl" for n in range(1, then + 1)]
    names = ["reviews.jsonl"] if then == 1 else numbered
    assert standing(tmp_path) == dict(zip(names, (line_of(*e) for e in entries), strict=True))
    assert [shard.path.name for shard in shards] == names


FOREIGN = [
    "reviews-20240101.jsonl",
    "reviews-1.jsonl",
    "reviews-0001.jsonl",
    "reviews-000001.jsonl",
    "reviews-final.jsonl",
    "reviews-00001.jsonl.bak",
    "reviews-00001.json",
    "reviews_00001.jsonl",
    "Xreviews-00001.jsonl",
    "reviews.json",
    "reviews",
    ".reviews.jsonl.swp",
    ".reviews.jsonl.final.tmp",
    ".reviews-00001.jsonl.00001.tmp",
    ".others.jsonl.00001.tmp",
]


@pytest.mark.parametrize("count", [1, 3])
def test_files_of_others_stay(tmp_path: Path, count: int) -> None:
    """Files whose names only look like ours are neither removed nor written to."""
    path, limits = tmp_path / "reviews.jsonl", bf.Limits(requests=1)
    batch_of(entries_of(4 - count)).save_to_file(path, limits=limits)
    for name in FOREIGN:
        (tmp_path / name).write_text(name)
    batch_of(entries_of(count)).save_to_file(path, limits=limits)
    now = standing(tmp_path)
    assert {name: now.pop(name) for name in FOREIGN} == {n: n.encode() for n in FOREIGN}
    assert len(now) == count


def test_leftover_temporaries_are_cleared(tmp_path: Path) -> None:
    """What a killed run left under its temporary names goes, also behind gaps in the numbers."""
    for name in ("00001.tmp", "00002.tmp", "00900.tmp", "123456.tmp", "lock"):
        (tmp_path / f".x.jsonl.{name}").write_bytes(b"torn")
    batch_of(entries_of(2)).save_to_file(tmp_path / "x.jsonl")
    assert standing(tmp_path) == {"x.jsonl": content_of(entries_of(2))}


@pytest.mark.parametrize("source", ["x.csv", "x-00001.csv", "x-00002.csv"])
def test_a_file_that_is_read_is_not_replaced(tmp_path: Path, source: str) -> None:
    """Saving over the CSV file that the rows come from is refused, under a numbered name too."""
    path = tmp_path / source
    path.write_text("id,p\na,b\n")
    batch = bf.from_csv(path, id_column="id", prompt_column="p", model="m")
    message = f"'{tmp_path / 'x.csv'}' would replace '{path}', which the rows come from"
    with pytest.raises(bf.BatchFramesError, match=f"^{re.escape(message)}; choose another name$"):
        batch.save_to_file(tmp_path / "x.csv")
    assert standing(tmp_path) == {source: b"id,p\na,b\n"}
    batch.save_to_file(tmp_path / "x.jsonl")
    assert standing(tmp_path).keys() == {source, "x.jsonl"}


def stopping(after: int) -> pa.RecordBatchReader:
    """Make a stream that breaks off."""

    def batches() -> Iterator[pa.RecordBatch]:
        rows = [{"id": f"r{n}", "p": "x" * 900} for n in range(after)]
        yield pa.RecordBatch.from_pylist(rows, SCHEMA)
        raise ValueError("the stream breaks off")

    return pa.RecordBatchReader.from_batches(SCHEMA, batches())


BROKEN: dict[str, tuple[Callable[[], bf.BatchCreator], type[Exception]]] = {
    "a null": (lambda: over(frame_of([*entries_of(3_000), ("n", None)])), bf.RequestError),
    "an id twice": (lambda: over(frame_of([*entries_of(3_000), ("r5", "x")])), bf.RequestError),
    "a long row": (lambda: batch_of([*entries_of(3_000), ("n", "x" * 5_000_000)]), bf.RequestError),
    "a broken stream": (lambda: over(stopping(3_000)), pa.ArrowInvalid),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize("earlier", [0, 1, 3])
def test_an_error_leaves_the_earlier_files_as_they_were(
    tmp_path: Path, earlier: int, what: str
) -> None:
    """After any error, what stood still stands, nothing new does, and no temporary is left."""
    make, kind = BROKEN[what]
    path = tmp_path / "x.jsonl"
    if earlier:
        batch_of(entries_of(earlier)).save_to_file(path, limits=bf.Limits(requests=1))
    before = standing(tmp_path)
    assert len(before) == earlier
    with pytest.raises(kind):
        make().save_to_file(path, limits=bf.Limits(requests=100, nbytes=9_000), progress=False)
    assert standing(tmp_path) == before
    batch_of(entries_of(2)).save_to_file(path)
    assert standing(tmp_path) == {"x.jsonl": content_of(entries_of(2))}


# Two writers

WAITING_WRITER = """
import sys
import pyarrow as pa
import batch_frames as bf

schema = pa.schema([("id", pa.string()), ("p", pa.string())])

def batches():
    yield pa.RecordBatch.from_pylist([{"id": "slow", "p": "x" * 1_000_000}], schema)
    print("writing", flush=True)
    sys.stdin.readline()

reader = pa.RecordBatchReader.from_batches(schema, batches())
batch = bf.from_dataframe(reader, id_column="id", prompt_column="p", model="m",
                          reasoning_effort=None, seed=None)
batch.save_to_file(sys.argv[1], progress=False)
"""


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    """While one process writes, another gets an error at once and changes nothing."""
    path = tmp_path / "x.jsonl"
    batch_of(entries_of(3)).save_to_file(path)
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", WAITING_WRITER, str(path)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "writing\n"
        before = standing(tmp_path)
        assert len(before) > 2, "its temporaries stand beside the file of the run before"
        with pytest.raises(bf.BatchFramesError) as caught:
            batch_of(entries_of(1)).save_to_file(path)
        assert str(caught.value) == f"process {other.pid} is writing '{path}'; wait for it to end"
        assert standing(tmp_path) == before
        batch_of(entries_of(1)).save_to_file(tmp_path / "y.jsonl")
        other.communicate("\n")
    assert other.returncode == 0
    assert standing(tmp_path) == {
        "x.jsonl": line_of("slow", "x" * 1_000_000),
        "y.jsonl": content_of(entries_of(1)),
    }
    batch_of(entries_of(1)).save_to_file(path)
    assert path.read_bytes() == content_of(entries_of(1))


def test_a_second_writer_in_the_same_process_is_refused(tmp_path: Path) -> None:
    """A save to the same path from inside another one is refused, and the first one goes on."""
    path = tmp_path / "x.jsonl"
    entries, messages = [("a", "x" * 1_000_000), ("b", "y")], []

    def batches() -> Iterator[pa.RecordBatch]:
        for custom_id, prompt in entries:
            with pytest.raises(bf.BatchFramesError) as caught:
                batch_of(entries_of(1)).save_to_file(path)
            messages.append(str(caught.value))
            yield pa.RecordBatch.from_pylist([{"id": custom_id, "p": prompt}], SCHEMA)

    over(pa.RecordBatchReader.from_batches(SCHEMA, batches())).save_to_file(path)
    assert messages == [f"process {os.getpid()} is writing '{path}'; wait for it to end"] * 2
    assert standing(tmp_path) == {"x.jsonl": content_of(entries)}


# Pipes and file objects

TO_PIPE = """
import sys
import batch_frames as bf

creator = bf.BatchCreator("m", None, system_prompt=None, seed=None)
for n in range(5):
    creator.add_entry(f"r{n}", f"prompt {n}\\n")
target = sys.stdout.buffer if sys.argv[1] == "object" else sys.argv[1]
try:
    shards = creator.save_to_file(target, limits=bf.Limits(requests=int(sys.argv[2])))
except bf.BatchFramesError as error:
    sys.exit(f"{type(error).__name__}: {error}")
print(*((str(s.path), s.requests, s.nbytes) for s in shards), file=sys.stderr, end="")
"""

NO_SPLIT = (
    "the requests are above the limits of one file, and a pipe cannot be split; "
    "write to a path, or raise the limits"
)


def run_to_pipe(target: str, limit: int) -> subprocess.CompletedProcess[bytes]:
    """Save in a process of its own, which tells of files that were left open."""
    command = [sys.executable, "-W", "default::ResourceWarning", "-c", TO_PIPE, target, str(limit)]
    return subprocess.run(command, capture_output=True, check=False)


@pytest.mark.parametrize(
    ("target", "name"), [("-", "-"), ("object", "<stdout>"), ("/dev/stdout", "/dev/stdout")]
)
def test_standard_output_gets_the_bytes_of_a_file(target: str, name: str) -> None:
    """A dash, a binary file object or a device gets exactly the lines and nothing else."""
    done = run_to_pipe(target, limit=5)
    content = content_of(entries_of(5))
    assert done.stdout == content
    assert done.stderr.decode() == str((name, 5, len(content)))
    assert done.returncode == 0


@pytest.mark.parametrize("target", ["-", "object"])
def test_a_pipe_is_not_split(target: str) -> None:
    """Exceeding a limit is an error, and the pipe gets nothing."""
    done = run_to_pipe(target, limit=4)
    assert done.stdout == b""
    assert done.stderr.decode() == f"BatchFramesError: {NO_SPLIT}\n"
    assert done.returncode == 1


def test_standard_output_that_takes_only_text_is_refused() -> None:
    """Where standard output has no bytes, as in a notebook, the error says what to do."""
    message = "standard output takes no bytes here; pass a path instead of '-'"
    with (
        contextlib.redirect_stdout(io.StringIO()),
        pytest.raises(TypeError, match=f"^{re.escape(message)}$"),
    ):
        batch_of(entries_of(1)).save_to_file("-")


def test_a_named_pipe_is_written_and_closed(tmp_path: Path) -> None:
    """A named pipe gets the lines and then its end, and no file is left open."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    code = "import sys; sys.stdout.buffer.write(open(sys.argv[1], 'rb').read())"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE
    ) as reader:
        assert run_to_pipe(str(path), limit=5).stderr.decode() == str(
            (str(path), 5, len(content_of(entries_of(5))))
        )
        assert reader.communicate(timeout=60)[0] == content_of(entries_of(5))
    assert [p.name for p in tmp_path.iterdir()] == ["pipe"]


def test_a_file_object_is_written_where_it_stands_and_left_open(tmp_path: Path) -> None:
    """A binary file that the caller opened is appended to at its position, and not closed."""
    path = tmp_path / "x.jsonl"
    with path.open("wb") as file:
        file.write(b"before\n")
        shards = batch_of(entries_of(2)).save_to_file(file)
        file.write(b"after\n")
    assert path.read_bytes() == b"before\n" + content_of(entries_of(2)) + b"after\n"
    assert shards == [bf.Shard(path, 2, len(content_of(entries_of(2))))]
    assert [p.name for p in tmp_path.iterdir()] == ["x.jsonl"]


@pytest.mark.parametrize("what", BROKEN)
def test_a_file_object_gets_nothing_when_there_is_an_error(what: str) -> None:
    """All is checked before the first byte goes into a pipe."""
    make, kind = BROKEN[what]
    file = io.BytesIO()
    with pytest.raises(kind):
        make().save_to_file(file, limits=bf.Limits(nbytes=5_000_000), progress=False)
    assert file.getvalue() == b""


@pytest.mark.parametrize(
    "limits", [bf.Limits(requests=2), bf.Limits(nbytes=len(content_of(entries_of(3))) - 1)]
)
def test_a_file_object_is_not_split(limits: bf.Limits) -> None:
    """Both limits hold for a pipe too, and above them it gets nothing."""
    file = io.BytesIO()
    with pytest.raises(bf.BatchFramesError, match=f"^{re.escape(NO_SPLIT)}$"):
        batch_of(entries_of(3)).save_to_file(file, limits=limits)
    assert file.getvalue() == b""
    batch_of(entries_of(2)).save_to_file(file, limits=limits)
    assert file.getvalue() == content_of(entries_of(2))
