"""The two readings of a chat's answers, by SQL and by the decoder, agree."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import batch_frames as bf
from batch_frames.results import decode, parse
from tests.support.oracle import read, rows_of
from tests.support.result_shapes import SHAPES
from tests.support.results import (
    CALL,
    FAULT,
    GOOD,
    chat,
    choice,
    embeddings,
    failed,
    message,
    moderated,
    responses,
    result,
    text,
    without_file,
    write,
)

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


FLOATS = [1e16, 1.5e16, 1e-5, 1e-7, 1e20, 1e21, 1.5e-300, 5e-324, 1.7e308, -2.5e17, 0.5, 0.0, 1e5]


def test_ids_that_are_numbers_are_those_of_their_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever way requests and results are read, a number is written in one way."""
    request = {"method": "POST", "url": "/v1/chat/completions", "body": {}}
    sent = write(tmp_path / "r.jsonl", *({"custom_id": n, **request} for n in FLOATS))
    path = write(tmp_path / "a.jsonl", *(result(chat(choice(n)), custom_id=n) for n in FLOATS))
    ids = bf.read_requests(sent)["custom_id"].tolist()
    assert list(map(float, ids)) == FLOATS
    for fewest in (0, 1_000_000):
        monkeypatch.setattr(parse, "FEWEST", fewest)
        frame = bf.read_results(path, requests=sent)
        assert frame["custom_id"].tolist() == frame["content"].tolist() == ids


NO_BODIES: list[Any] = [None, {}, "x", [], {"choices": []}, {"choices": {}}, moderated()]
NO_CHOICES: list[Any] = [{}, {"text": "x"}, {"message": None}, {"message": "x"}]
NO_CHOICES += [choice(None, tool_calls=[]), choice(None, tool_calls=None)]
NO_CHOICES += [choice(content) for content in (None, 1, [], ["x"])]
NO_CHATS: list[Any] = [
    *map(result, [*NO_BODIES, responses(message(text("x"))), embeddings([1.0])]),
    *(result(chat(one)) for one in NO_CHOICES),
    *(failed(FAULT), {"response": "x"}, {}, b"{", b"[]", b"\xff"),
]


@pytest.mark.parametrize("lines", [CHATS, NO_CHATS], ids=["chats", "others"])
def test_answers_of_chats_are_told_from_all_else(tmp_path: Path, lines: list[Any]) -> None:
    """A text or tool calls are an answer of a chat; what cannot be read is none."""
    path = write(tmp_path / "a.jsonl", *lines)
    found = {decode.is_chat(line) for line in path.read_bytes().split(b"\n")[:-1]}
    assert found == {lines is CHATS}


def test_small_files_need_no_database(tmp_path: Path) -> None:
    """A file of few lines is read without DuckDB."""
    path = write(tmp_path / "a.jsonl", *[GOOD] * 100)
    script = (
        "import sys, batch_frames as bf; "
        f"print(len(bf.read_results({str(path)!r})), 'duckdb' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("100 False\n", "")
