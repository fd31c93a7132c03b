"""Queries of one process share one database, from all threads, and a fork opens its own."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from batch_frames.arrow import extract, in_threads, query

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
