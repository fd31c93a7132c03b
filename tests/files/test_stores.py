"""Files stand whole or not at all, and pipes get the same bytes."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

import batch_frames as bf
from tests.support.marks import slow
from tests.support.shards import batch_of, content_of, entries_of, frame_of, line_of, over, standing

SCHEMA = pa.schema([("id", pa.string()), ("p", pa.string())])


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
    for name in ("0a1b2c3d.00001", "0a1b2c3d.00900", "ffffffff.123456"):
        (tmp_path / f".x.jsonl.{name}.tmp").write_bytes(b"torn")
    batch_of(entries_of(2)).save_to_file(tmp_path / "x.jsonl")
    assert standing(tmp_path) == {"x.jsonl": content_of(entries_of(2))}


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="there is no memory as a folder")
def test_shared_memory_is_a_folder() -> None:
    """Files below /dev/shm are split and replaced as any others, unlike devices beside it."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        path = Path(name) / "x.jsonl"
        for count in (3, 2):
            shards = batch_of(entries_of(count)).save_to_file(path, limits=bf.Limits(requests=1))
            assert [shard.path.name for shard in shards] == sorted(standing(path.parent))
            assert len(shards) == count


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
    "a broken stream": (lambda: over(stopping(3_000)), bf.BatchFramesError),
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
    yield pa.RecordBatch.from_pylist([{"id": "slow", "p": "x" * 4_000_000}], schema)
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
        assert len(before) == 3, "its temporary and its lock are next to the file of the run before"
        with pytest.raises(bf.BatchFramesError) as caught:
            batch_of(entries_of(1)).save_to_file(path)
        assert str(caught.value) == f"process {other.pid} is writing '{path}'; wait for it to end"
        assert standing(tmp_path) == before
        batch_of(entries_of(1)).save_to_file(tmp_path / "y.jsonl")
        other.communicate("\n")
    assert other.returncode == 0
    assert standing(tmp_path) == {
        "x.jsonl": line_of("slow", "x" * 4_000_000),
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


@pytest.mark.parametrize("target", ["-", slow("object")])
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
