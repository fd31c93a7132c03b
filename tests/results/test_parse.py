"""The two readings of a chat's answers, by SQL and by the decoder, agree."""

import subprocess
import sys
from pathlib import Path

import pytest

import batch_frames as bf
from batch_frames.results import parse
from tests.support.oracle import read, rows_of
from tests.support.result_shapes import SHAPES
from tests.support.results import CALL, GOOD, chat, choice, result, without_file, write

CHATS = [result(chat(choice(f"hi {n}"))) for n in range(50)]
CHATS += [result(chat(choice(None, "tool_calls", tool_calls=[CALL]))) for _ in range(50)]


@pytest.mark.parametrize("raw", [False, True])
def test_both_readings_are_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw: bool
) -> None:
    """Lines of all shapes among chats become the same frame whichever way they are read."""
    # Of 5,000 digits in a body, DuckDB keeps the text, and Python makes an infinite number.
    values = [value for name, value, _ in SHAPES if not (raw and name == "many digits")]
    path = write(tmp_path / "a.jsonl", *CHATS * 8, *values, *CHATS * 4)
    frames = []
    for fewest in (0, 1_000_000):
        monkeypatch.setattr(parse, "FEWEST", fewest)
        frames.append(bf.read_results(path, raw=raw))
    rows = [without_file(rows_of(frame)) for frame in frames]
    assert rows[0] == rows[1] == read(path.read_bytes(), raw=raw)


def test_small_files_need_no_database(tmp_path: Path) -> None:
    """A file of few lines is read without DuckDB."""
    path = write(tmp_path / "a.jsonl", *[GOOD] * 100)
    script = (
        "import sys, batch_frames as bf; "
        f"print(len(bf.read_results({str(path)!r})), 'duckdb' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("100 False\n", "")
