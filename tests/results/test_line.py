"""Result lines of every shape become one row each."""

import re
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

import batch_frames as bf
from batch_frames.results import decode
from batch_frames.results import line as results_line
from tests.support.marks import slow
from tests.support.oracle import (
    COLUMNS,
    SOMETIMES,
    STATUSES,
    Row,
    read,
    rows_of,
)
from tests.support.result_shapes import (
    IMPROPER,
    SHAPES,
    every_improper_line,
    every_shape,
)
from tests.support.results import (
    DEEP,
    GOOD,
    OK,
    chat,
    choice,
    chosen,
    result,
    whole,
    without_file,
    write,
)


@every_shape
def test_one_line_is_one_row(tmp_path: Path, value: Any, expected: Row) -> None:
    """Each shape is read as it should be, whatever stands beside it, and harms no neighbour."""
    good = [result(chat(), custom_id=name) for name in "xy"]
    path = write(tmp_path / "a.jsonl", good[0], value, good[1])
    listed = {"choices": [chosen()]} if expected.get("choices") else {}
    first, last = ({**OK, "custom_id": name, **listed} for name in "xy")
    rows = [whole(row, path, n) for n, row in enumerate((first, expected, last), 1)]
    frame = bf.read_results(path)
    assert rows_of(frame) == rows
    assert list(frame.columns) == [*COLUMNS, *(n for n in SOMETIMES if rows[1][n] is not None)]
    assert without_file(rows) == read(path.read_bytes())


@every_shape
def test_a_line_alone_is_one_row(tmp_path: Path, value: Any, expected: Row) -> None:
    """Each shape is read as it should be with no other line, none behind it, and its body."""
    path = write(tmp_path / "a.jsonl", value)
    path.write_bytes(path.read_bytes()[:-1])
    frame = bf.read_results(path, raw=True)
    assert "body" in frame.columns
    rows = rows_of(frame)
    assert without_file(rows) == read(path.read_bytes(), raw=True)
    assert [{**row, "body": None} for row in rows] == [{**whole(expected, path, 1), "body": None}]


# More than 50,000 lines are read in several pieces.
@pytest.mark.parametrize("repeated", [1, slow(240)])
def test_all_shapes_in_one_file(tmp_path: Path, repeated: int) -> None:
    """Lines of all endpoints and all faults in one file are each read by their own shape."""
    values = [value for _, value, _ in [*SHAPES, *IMPROPER[:-1]]]
    path = write(tmp_path / "a.jsonl", *values * repeated)
    frame = bf.read_results(path)
    assert list(frame.columns) == [*COLUMNS, *SOMETIMES]
    rows = without_file(rows_of(frame))
    assert rows == read(path.read_bytes(), found=rows)


@every_improper_line
@pytest.mark.parametrize("others", [1, 2_500])
def test_an_improper_line_is_one_row(
    tmp_path: Path, line: bytes, readings: list[Row], others: int
) -> None:
    """What is not proper JSON is read in one way or the other, or is malformed; never shifted."""
    path = write(tmp_path / "a.jsonl", *[GOOD] * others, line, GOOD)
    rows = rows_of(bf.read_results(path))
    assert len(rows) == others + 2
    expected = [whole(OK, path, n) for n in range(1, others + 3)]
    assert [*rows[:others], rows[-1]] == [*expected[:others], expected[-1]]
    row = rows[others]
    if row["status"] == "malformed":
        assert str(row["error_message"]).startswith("not JSON: ")
    else:
        assert row in [whole(reading, path, others + 1) for reading in readings]


@pytest.mark.parametrize(
    "place", ["x", '"logprobs"', '"usage"', '"error"', '"content"', '"custom_id"']
)
def test_deep_nesting_harms_no_row(tmp_path: Path, place: str) -> None:
    """A value nested 100,000 deep anywhere gives a row, and leaves those beside it as they are."""
    deep = DEEP + b"]" * len(DEEP)
    line: bytes = re.sub(f"{place}:[^,}}]*".encode(), place.encode() + b":" + deep, GOOD)
    if place == "x":
        line = GOOD[:-1] + b',"x":' + deep + b"}"
    path = write(tmp_path / "a.jsonl", GOOD, line, GOOD)
    rows = rows_of(bf.read_results(path))
    assert [rows[0], rows[2]] == [whole(OK, path, 1), whole(OK, path, 3)]
    assert (rows[1]["status"], rows[1]["line"]) in [(status, 2) for status in STATUSES]


@pytest.mark.parametrize("code", [200.0, "200.0", "", " 200"])
def test_a_status_code_is_a_whole_number(tmp_path: Path, code: Any) -> None:
    """A status code that is a fraction, or text of more than digits, is none beside an answer."""
    path = write(tmp_path / "a.jsonl", result(chat(), code=code))
    row = rows_of(bf.read_results(path))[0]
    assert (row["status"], row["error_message"]) == ("http_error", "HTTP status missing")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"x" * 40, "cannot be read: JSON is malformed: invalid character (byte 0)"),
        (GOOD[:-5], "cannot be read: Input data was truncated"),
        (GOOD[:-40] + "é".encode()[:1], "cannot be read: not UTF-8"),
        (GOOD + b"\xff", "cannot be read: not UTF-8"),
        (DEEP, "cannot be read: nested too deep"),
        (b"[" + b"{}," * 20 + b"1]", "cannot be read: Expected `object`, got `array`"),
        (b'{"custom_id":"a","text":"' + b"x" * 40 + b'"}', "is not a result"),
    ],
    ids=["no JSON", "cut", "cut letter", "latin", "deep", "list", "other"],
)
def test_a_long_line_is_decoded_once(tmp_path: Path, line: bytes, problem: str) -> None:
    """A line above the bound has its size and what is wrong, and of its text no more than that."""
    path = write(tmp_path / "a.jsonl", GOOD, line, GOOD)
    with patch.object(decode, "LONG", 32), patch.object(results_line, "LONG", 32):
        rows = rows_of(bf.read_results(path, raw=True))
    assert [row["status"] for row in rows] == ["ok", "malformed", "ok"]
    assert rows[1]["error_message"] == f"the line has {len(line) + 1:,} bytes, and {problem}"
    assert rows[1]["body"] == line[:32].decode()


@pytest.mark.parametrize("bound", range(1, 6))
def test_letters_of_long_lines_may_lie_anywhere(tmp_path: Path, bound: int) -> None:
    """A result above the bound is read as any other, wherever its pieces end within letters."""
    path = write(tmp_path / "a.jsonl", result(chat(choice("é茶😀"))))
    with patch.object(decode, "LONG", bound):
        rows = rows_of(bf.read_results(path))
    assert rows == [whole({**OK, "content": "é茶😀"}, path, 1)]
