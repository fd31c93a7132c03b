"""Queries of one process share one database, from all threads, and a fork opens its own."""

import os
import subprocess
import sys
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from batch_frames.arrow import extract, in_threads, query, read_ahead

TEXT = pa.array(['{"a": 1}', "[", '{"a": "é"}'], pa.large_string())


def read(number: int) -> list[str | None]:
    """Extract a value from some lines, of which one is the number."""
    text = pa.concat_arrays([TEXT, pa.array([f'{{"a": {number}}}'], pa.large_string())])
    found: list[str | None] = extract(text, ["$.a"])["$.a"].to_pylist()
    return found


def test_all_threads_use_one_database() -> None:
    """Queries side by side each see their own lines, and open no second database."""
    read(0)
    opened = query.DATABASE.opened
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(read, range(100)))
    assert found == [["1", None, "é", str(n)] for n in range(100)]
    assert query.DATABASE.opened is opened


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_opens_its_own() -> None:
    """After a fork both processes can query, whichever thread of the parent was at it."""
    script = (
        "import os; import pyarrow as pa; from batch_frames.arrow import extract, query; "
        "lines = pa.array(['{\"a\": 7}', '['], pa.large_string()); "
        "read = lambda: extract(lines, ['$.a'])['$.a'].to_pylist(); "
        "read(); ours = query.DATABASE; query.DATABASE.lock.acquire(); "
        "child = os.fork(); "
        "ours.lock.release() if child else None; "
        "assert (query.DATABASE is ours) == bool(child); "
        "assert read() == ['7', None]; "
        "child and exit(os.waitpid(child, 0)[1])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("count", [0, 1, 2, 30])
def test_pieces_keep_their_order(count: int) -> None:
    """What is read of pieces comes in their order, however many there are."""
    assert list(in_threads(lambda n: n * 2, iter(range(count)))) == [2 * n for n in range(count)]


@pytest.mark.parametrize("cpus", [1, 2])
@pytest.mark.parametrize("count", [0, 1, 2, 30])
def test_pieces_read_ahead_keep_their_order(
    count: int, cpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They come as they are read, by another thread where there is a processor for it."""
    monkeypatch.setattr(query, "CPUS", cpus)
    threads = set()

    def pieces() -> Generator[int, None, None]:
        for number in range(count):
            threads.add(threading.get_ident())
            yield number

    assert list(read_ahead(pieces())) == list(range(count))
    assert (threading.get_ident() in threads) == (cpus == 1 and count > 0)


def test_an_error_ahead_comes_after_the_pieces_before_it() -> None:
    """Whoever reads pieces ahead gets all that were read, then the error."""

    def pieces() -> Generator[int, None, None]:
        yield 1
        yield 2
        raise ValueError("torn")

    ahead = read_ahead(pieces())
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(ValueError, match="torn"):
        next(ahead)


def test_reading_ahead_ends_with_its_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed early, it reads no more than a few pieces, and closes what it reads in its thread."""
    monkeypatch.setattr(query, "CPUS", 2)
    read: list[object] = []
    closed_by: list[int] = []

    def pieces() -> Generator[int, None, None]:
        try:
            for number in range(1000):
                read.append(number)
                yield number
        finally:
            read.append("closed")
            closed_by.append(threading.get_ident())

    ahead = read_ahead(pieces())
    assert next(ahead) == 0
    ahead.close()
    assert read[-1] == "closed"
    assert len(read) < 10
    # Another thread could find it in the middle of a piece.
    assert closed_by != [threading.get_ident()]
