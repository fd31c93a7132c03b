"""CSV files become the lines that a frame of the same rows becomes, as a stream."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import re
import subprocess
import sys
import weakref
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import batch_frames as bf
from batch_frames.frames import CsvSource
from batch_frames.frames.csv import BufferTracker, CsvFile
from tests.support.marks import slow
from tests.support.table_files import (
    NO_PROMPT,
    Read,
    batch_of,
    error_of,
    field,
    line,
    rows_of,
    save,
    warns,
    written,
)

BLOCK = 4 << 20
"""How much of a CSV file is read at a time."""
UTF8 = "is not valid UTF-8; read the file with its own encoding, or save it as UTF-8"
OPEN_QUOTE = "a quote is opened and never closed; close it, or double it"
NASTY = '"\\\b\f\n\r\t\x1f\x7f\u2028 é 日本語 😀 {x}, ; |'
Row = tuple[str, str | None]


# What a CSV file holds


words = st.text(max_size=12) | st.text(alphabet='",;|\t\n\r\\ ab', max_size=12)


@example(rows=[(NASTY, NASTY, NASTY)], separator=",", end="\n", encoding="utf-8", last=True)
@example(rows=[("a", "", None)], separator=";", end="\r\n", encoding="utf-8-sig", last=False)
@example(rows=[("a", "x\ny", "x\ny")], separator="\t", end="\n", encoding="utf-16", last=False)
@given(
    rows=st.lists(
        st.tuples(st.text(min_size=1, max_size=5), words, st.none() | words),
        min_size=1,
        max_size=5,
        unique_by=lambda row: row[0],
    ),
    separator=st.sampled_from(",;\t|"),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    last=st.booleans(),
)
def test_any_text_comes_out_of_a_csv_file_as_it_went_in(
    rows: list[tuple[str, str, str | None]], separator: str, end: str, encoding: str, last: bool
) -> None:
    """Quoted fields hold any text, in any separator, line end and encoding that is promised."""
    records = [["id", "text", "note"], *rows]
    text = end.join(separator.join(map(field, record)) for record in records) + end * last
    lines = [line(i, t, **({} if note is None else {"note": note})) for i, t, note in rows]
    with TemporaryDirectory() as folder:
        path = save(Path(folder) / "a.csv", text, encoding)
        assert written(path, body={"note": bf.col("note")}) == b"".join(lines)


CSVS: dict[str, tuple[str, list[Row]]] = {
    "ids stay text": (
        "id,text\n007,x\n1e5,y\n 8 ,z\n1.0,w\n",
        [("007", "x"), ("1e5", "y"), (" 8 ", "z"), ("1.0", "w")],
    ),
    "words for nothing are words": (
        "id,text\nNA,null\nnan,None\nNULL,#N/A\n",
        [("NA", "null"), ("nan", "None"), ("NULL", "#N/A")],
    ),
    "numbers and dates are text": (
        "id,text\n1,1.50\n2,2024-01-02\n3,true\n",
        [("1", "1.50"), ("2", "2024-01-02"), ("3", "true")],
    ),
    "quoted newlines": ('id,text\n1,"a\nb\r\nc"\n2,"\n"\n', [("1", "a\nb\r\nc"), ("2", "\n")]),
    "doubled quotes": ('id,text\n1,"say ""hi"""\n2,""""\n', [("1", 'say "hi"'), ("2", '"')]),
    "quotes inside": ('id,text\n1,5" nails\n2,a "b" c\n', [("1", '5" nails'), ("2", 'a "b" c')]),
    "a lone quote before a quoted end": (
        'id,text\n1,5" nails\n2,"a\nb"\n',
        [("1", '5" nails'), ("2", "a\nb")],
    ),
    "separators inside quotes": ('id,text\n1,"a,b;c|d"\n', [("1", "a,b;c|d")]),
    "quoted header": ('"id","text"\n1,x\n', [("1", "x")]),
    "quoted everything": ('"id","text"\n"1","x"\n', [("1", "x")]),
    "byte order mark": ("\ufeffid,text\n1,x\n", [("1", "x")]),
    "byte order mark and quotes": ('\ufeff"id","text"\n1,x\n', [("1", "x")]),
    "quoted empty text": ('id,text\n1,""\n2,x\n', [("1", ""), ("2", "x")]),
    "semicolons": ("id;text;n\n1;a, b;2\n", [("1", "a, b")]),
    "tabs": ("id\ttext\n1\ta, b; c\n", [("1", "a, b; c")]),
    "bars": ("id|text\n1|a, b; c\n", [("1", "a, b; c")]),
    "commas in a header of semicolons": ('id;"a, b";text\n1;2;x\n', [("1", "x")]),
    "carriage returns": ('id,text\r\n1,x\r\n2,"y\r\nz"\r\n', [("1", "x"), ("2", "y\r\nz")]),
    "old line ends": ("id,text\r1,x\r2,y\r", [("1", "x"), ("2", "y")]),
    "no newline at the end": ("id,text\n1,x\n2,y", [("1", "x"), ("2", "y")]),
    "quotes at the end": ('id,text\n1,x\n2,"y\nz"', [("1", "x"), ("2", "y\nz")]),
    "blank lines": ("id,text\n1,x\n\n2,y\n\n\n", [("1", "x"), ("2", "y")]),
    "other order": ("text,n,id\nx,5,1\n", [("1", "x")]),
    "names without order": ("id,text,text2,a,a\n1,x,y,2,3\n", [("1", "x")]),
    "a name of nothing": (",id,text,\n0,1,x,\n", [("1", "x")]),
    "the last name twice": ('id,text,a,a\n1,"x\ny",,\n', [("1", "x\ny")]),
    "backslashes": ("id,text\n1,C:\\new\\\n2,\\\n", [("1", "C:\\new\\"), ("2", "\\")]),
    "spaces around": ("id,text\n1, x \n2,\t\n", [("1", " x "), ("2", "\t")]),
    "emoji": ("id,text\né,日本語 😀\n", [("é", "日本語 😀")]),
}


@pytest.mark.parametrize("name", CSVS)
def test_a_csv_file_is_read_as_text(path: Path, name: str) -> None:
    """A field is its text: nothing is trimmed, guessed or taken for a missing value."""
    text, rows = CSVS[name]
    assert rows_of(save(path, text)) == rows


def test_a_column_may_be_id_and_prompt_at_once(path: Path) -> None:
    """One column is enough, and needs no separator."""
    assert rows_of(save(path, "id\n1\n\n2\n"), prompt_column="id") == [("1", "1"), ("2", "2")]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le with mark", "utf-16-be with mark"]
)
def test_unicode_encodings_are_recognised(path: Path, encoding: str) -> None:
    """UTF-8 and, by its mark, UTF-16 of either order are read."""
    mark = "\ufeff" * encoding.endswith("with mark")
    text = f'{mark}id;text\n1;"é\n😀"\n2;x\n'
    save(path, text, encoding.removesuffix(" with mark"))
    assert rows_of(path) == [("1", "é\n😀"), ("2", "x")]


@pytest.mark.parametrize("text", ["id,text", "id,text\n", "id,text\r\n", '\ufeff"id","text"\n'])
def test_a_header_alone_is_an_empty_table(path: Path, text: str) -> None:
    """A file without rows makes no requests, and a warning says so."""
    save(path, text)
    with warns("there are no requests: the file is empty"):
        assert written(path) == b""


@pytest.mark.parametrize("text", ["", "\n", " \r\n\n"])
def test_an_empty_file_is_refused(path: Path, text: str) -> None:
    """A file without a header is no table."""
    error = error_of(save(path, text))
    assert isinstance(error, bf.ColumnError)
    assert str(error) == f"'{path}' is empty; its first line must name the columns"


def test_an_unquoted_empty_field_is_null_and_a_quoted_one_is_text(path: Path) -> None:
    """Nothing between separators is missing; nothing between quotes is empty text."""
    save(path, 'id,text,note\n1,"",""\n2,x,\n')
    assert written(path, body={"note": bf.col("note"), "deep": [bf.col("note")]}) == (
        line("1", "", note="", deep=[""]) + line("2", "x", deep=[None])
    )


BAD_FIELDS: dict[str, tuple[str, str]] = {
    "null prompt": ("id,text\n1,x\n2,\n", f"row 1 (custom_id '2'): {NO_PROMPT}"),
    "null prompt at the end": ("id,text\n1,x\n2,", f"row 1 (custom_id '2'): {NO_PROMPT}"),
    "null id": ("id,text\n1,x\n,y\n", "row 1: id is null; every request needs an id"),
    "empty id": ('id,text\n1,x\n"",y\n', "row 1: id is empty; every request needs an id"),
    "null behind newlines": ('id,text\n1,"\n\n"\n\n2,\n', f"row 1 (custom_id '2'): {NO_PROMPT}"),
    "same id": (
        "id,text\n1,x\n01,y\n1,z\n",
        "custom_id must be unique: '1' in row 0 and row 2",
    ),
}


@pytest.mark.parametrize("name", BAD_FIELDS)
def test_a_csv_row_that_cannot_become_a_request_is_named(path: Path, name: str) -> None:
    """Rows are counted as rows of the table, whatever lines they take in the file."""
    text, message = BAD_FIELDS[name]
    error = error_of(save(path, text))
    assert isinstance(error, bf.RequestError)
    assert str(error) == message


def test_rows_without_a_prompt_can_be_skipped(path: Path) -> None:
    """With na="skip" an empty field drops its row, and a quoted empty one does not."""
    save(path, 'id,text\n1,\n2,""\n3,x\n4,\n')
    with warns("skipped 2 rows without a prompt: row 0 (custom_id '1'), row 3 (custom_id '4')"):
        assert rows_of(path, na="skip") == [("2", ""), ("3", "x")]


# Encodings and forms that are wrong


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "gb18030", "shift_jis"])
@pytest.mark.parametrize("before", [1, 45_000], ids=["near", "far"])
def test_another_encoding_is_refused_with_the_row(path: Path, encoding: str, before: int) -> None:
    """Bytes that are not UTF-8 are never guessed at: the error has their row and custom_id."""
    text = {"latin-1": "café", "cp1252": "it’s", "gb18030": "房间", "shift_jis": "部屋"}[encoding]
    rows = "".join(f"{row},{'abc' * 60}\n" for row in range(before))
    error = error_of(save(path, f"id,text\n{rows}bad,{text}\nok,x\n", encoding), na="skip")
    assert isinstance(error, bf.RequestError)
    assert str(error) == f"row {before:,} (custom_id 'bad'): column 'text' {UTF8}"
    assert (error.row, error.column, error.custom_id) == (before, "text", "bad")


def test_another_encoding_in_an_id_is_refused(path: Path) -> None:
    """An id that is not UTF-8 is named by its row alone."""
    error = error_of(save(path, "id,text\n1,x\ncafé,y\n", "latin-1"))
    assert str(error) == f"row 1: id {UTF8}"


@pytest.mark.parametrize("type", ["number", "integer", "boolean"])
def test_another_encoding_in_a_typed_column_is_refused(path: Path, type: str) -> None:
    """Text that shall be a number is checked like any other."""
    save(path, "id,text,n\n1,x,1\n2,y,é1\n", "latin-1")
    error = error_of(path, body={"n": bf.col("n", type=type)})
    assert str(error) == f"row 1 (custom_id '2'): column 'n' {UTF8}"


@pytest.mark.parametrize("header", ["id,text,note", "id,note,text", "note,id,text"])
def test_what_nobody_asks_for_may_be_in_any_encoding(path: Path, header: str) -> None:
    """Only the needed columns of a CSV file are looked at."""
    values = {"id": "1", "text": "x", "note": "café"}
    record = ",".join(values[name] for name in header.split(","))
    assert rows_of(save(path, f"{header}\n{record}\n", "latin-1")) == [("1", "x")]


@pytest.mark.parametrize("header", ["id,text,café", "café,id,text"])
def test_column_names_in_another_encoding_are_refused(path: Path, header: str) -> None:
    """A header that is not UTF-8 is refused, even where the name is not needed."""
    error = error_of(save(path, f"{header}\n1,1,1\n", "latin-1"))
    message = f"'{path}' has column names that are not UTF-8; save it as UTF-8"
    assert str(error) == message


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32"])
def test_a_file_that_is_not_text_is_refused(path: Path, encoding: str) -> None:
    """Encodings without a mark to know them by, or with a rare one, are no list of columns."""
    error = error_of(save(path, "id,text\n1,x\n", encoding))
    assert str(error) == f"'{path}' is not a CSV file: its first line is not a list of columns"


def test_a_damaged_utf16_file_is_refused(path: Path) -> None:
    """A UTF-16 file that was cut in the middle of a character is refused by its name."""
    path.write_bytes("id,text\n1,x\n2,yz".encode("utf-16")[:-1])
    pattern = rf"'{re.escape(str(path))}' is damaged: .+"
    assert re.fullmatch(pattern, str(error_of(path)), re.DOTALL)


FORMS: dict[str, tuple[str, int, int]] = {
    "too few": ("id,text\n1,a\n2\n3,c\n", 1, 1),
    "too many": ("id,text\n1,a\n2,b,c\n3,c\n", 1, 3),
    "in the first row": ("id,text\n1,a,b\n", 0, 3),
    "in the last row": ("id,text\n1,a\n2,b,c", 1, 3),
    "behind newlines in values": ('id,text\n1,"a\n\nb"\n2,"b\n",c\n', 1, 3),
    "behind blank lines": ("id,text\n\n1,a\n\n\n2,b,c\n", 1, 3),
    "behind carriage returns": ("id,text\r\n1,a\r\n2,b,c\r\n", 1, 3),
    "far away": ("id,text\n" + "1,abcdefgh\n" * 600_000 + "2\n", 600_000, 1),
    "behind a long row": (f"id,text\n1,{'x' * 2 * BLOCK}\n2,b\n3\n", 2, 1),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_row_with_another_number_of_fields_is_named(
    tmp_path: Path, path: Path, name: str
) -> None:
    """A row that has too few or too many fields is refused with its number, and nothing stands."""
    text, row, fields = FORMS[name]
    target = tmp_path / "out.jsonl"
    with pytest.raises(bf.RequestError) as caught:
        batch_of(save(path, text)).save_to_file(target, progress=False)
    assert str(caught.value) == (
        f"row {row:,} of '{path}': it has {fields} fields, and the header has 2; "
        "quote the fields that hold ','"
    )
    assert caught.value.row == row
    assert list(tmp_path.iterdir()) == [path]


OPEN: dict[str, tuple[str, int]] = {
    "to the end": ('id,text\n1,a\n2,"b\n3,c\n4,d\n', 1),
    "in the last row": ('id,text\n1,a\n2,"b\n', 1),
    "in the last row without a newline": ('id,text\n1,a\n2,"b', 1),
    "in the first row": ('id,text\n1,"a\n2,b', 0),
    "in a column that is not needed": ('id,text,note\n1,a,x\n2,b,"y\n3,c,z\n', 1),
    "with quotes behind it": ('id,text\n1,a\n2,"b\n3,said ""hi""\n', 1),
    "in an id": ('id,text\n1,a\n"2,b\n3,c\n', 1),
    "in the last of two columns of a name": ('id,text,,\n1,a,,"\n2,b,,\n3,c,,\n', 0),
    "over several blocks": ('id,text\n1,a\n2,"b\n' + "3,abcdefgh\n" * 900_000, 1),
}


@pytest.mark.parametrize("name", OPEN)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_quote_that_is_never_closed_is_named(path: Path, name: str, encoding: str) -> None:
    """A quote left open would swallow the rows behind it: it is refused with the row it is in."""
    text, row = OPEN[name]
    error = error_of(save(path, text, encoding))
    assert isinstance(error, bf.RequestError)
    assert str(error) == f"row {row} of '{path}': {OPEN_QUOTE}"
    assert error.row == row


def test_text_behind_a_closing_quote_is_refused(path: Path) -> None:
    """A quote that closes too early would swallow the row behind it: it is refused with its row."""
    error = error_of(save(path, 'id,text\n1,a\n\n2,"b\n3,c"d\n4,e\n'))
    problem = "text follows a closing quote; close it, or double it"
    assert str(error) == f"row 1 of '{path}': {problem}"


def records(text: str, separator: str) -> list[list[str]] | None:
    """Read CSV with Python's own reader, without blank lines; None if that refuses it."""
    lines = io.StringIO(text, newline="")
    try:
        return [row for row in csv.reader(lines, delimiter=separator, strict=True) if row]
    except csv.Error:
        return None


LINE_ENDS = st.sampled_from(["\n", "\r\n", "\r"])
raw = st.text('a"\n\r,;\t| é', max_size=5)
cells = st.one_of(
    raw,
    raw.map(lambda text: '"' + text.replace('"', '""') + '"'),
    raw.map(lambda text: re.sub(r'["\n\r,;\t|]', "", text)),
)
others = st.sampled_from([[], [""], ["", ""], ["x", "x"], ["é"] * 3])


@settings(max_examples=3 * settings().max_examples)
@example(["", ""], [["a", "", '"'], ["b", "", ""]], ",", ["\n"], "utf-8")
@example([], [["x"], ["y"]], "|", ["\r"], "utf-8")
@example([], [], ";", ["\r"], "utf-8")
@given(
    others,
    st.lists(st.lists(cells, min_size=1, max_size=4), max_size=6),
    st.sampled_from(",;\t|"),
    st.lists(LINE_ENDS, min_size=1, max_size=4),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_rows_are_those_of_the_csv_module(
    names: list[str], values: list[list[str]], separator: str, ends: list[str], encoding: str
) -> None:
    """Any table has the rows that Python finds in strict mode, or is refused with a row."""
    width = len(names) + 2
    table = [[f"r{n}", *row, *[""] * width][:width] for n, row in enumerate(values)]
    rows = [separator.join(row) for row in [["id", "text", *names], *table]]
    text = "".join(row + ends[n % len(ends)] for n, row in enumerate(rows))
    found = records(text, separator)
    with TemporaryDirectory() as folder:
        path = save(Path(folder) / "reviews.csv", text, encoding)
        source = CsvSource(path, "id", ["text"])
        try:
            chunks = [(c.ids["id"], c.columns["text"]) for c in source.chunks()]
        except bf.RequestError as error:
            row = error.row
            assert found is None or (row is not None and len(found[row + 1]) != width)
            return
    assert found is not None
    got = [(i.as_py() or "", t.as_py() or "") for a, b in chunks for i, t in zip(a, b, strict=True)]
    assert got == [(row[0], row[1]) for row in found[1:]]


def test_a_quote_left_open_in_the_header_is_refused(path: Path) -> None:
    """An error about the header stays short, however much the open quote has swallowed."""
    error = error_of(save(path, '"id,text\n' + "1,abcdefgh\n" * 50_000))
    assert str(error) == f"'{path}' is not a CSV file: its first line is not a list of columns"


# Sizes


@pytest.mark.parametrize("size", [slow(BLOCK - 9), BLOCK + 1, slow(3 * BLOCK + 5)])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_row_may_be_longer_than_what_is_read_at_a_time(
    path: Path, size: int, encoding: str
) -> None:
    """A long row, quoted or not, comes out whole, and so do those before and after it."""
    rows = [(f"a{row}", f"text {row}") for row in range(3_000)]
    rows += [("long", "é\n" * (size // 3)), ("b", "y"), ("longer", "x" * (size + 1))]
    rows += [(f"c{row}", f"text {row}") for row in range(3_000)]
    save(path, "id,text\n" + "".join(f"{i},{field(text)}\n" for i, text in rows), encoding)
    assert rows_of(path) == rows


def test_a_row_may_be_very_much_longer(path: Path) -> None:
    """A row of nine blocks is found by reading more and more at a time."""
    rows = [("a", "x"), ("long", "y" * (9 * BLOCK)), ("b", "z")]
    save(path, "id,text\n" + "".join(f"{i},{text}\n" for i, text in rows))
    assert rows_of(path) == rows


@pytest.mark.parametrize("shift", range(-2, 4))
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16 bytes"])
@pytest.mark.parametrize("quoted", [False, True], ids=["bare", "quoted"])
def test_line_ends_may_fall_on_the_end_of_a_block(
    path: Path, shift: int, encoding: str, quoted: bool
) -> None:
    """A line end of two characters is one, wherever reading happens to be interrupted."""
    start = 'id,text\r\n1,"' if quoted else "id,text\r\n1,"
    place = BLOCK // 2 if encoding == "utf-16 bytes" else BLOCK
    text = "x" * (place - len(start) + shift)
    value = f"{text}\r\ny" if quoted else text
    save(path, start + value + ('"' if quoted else "") + "\r\n2,z\r\n", encoding.split()[0])
    assert rows_of(path) == [("1", value), ("2", "z")]
    assert written(path, prompt_column="id").count(b"\n") == 2


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_file_of_several_blocks_keeps_all_rows_in_order(path: Path, end: str) -> None:
    """Rows, quoted ones too, come out once and in order over the ends of blocks."""
    texts = [f"{row} é" + f"{end}b" * (row % 4) + "z" * (row % 397) for row in range(40_000)]
    save(path, f"id,text{end}" + "".join(f"{i},{field(t)}{end}" for i, t in enumerate(texts)))
    assert path.stat().st_size > 2 * BLOCK
    target = path.with_suffix(".jsonl")
    shards = batch_of(path).save_to_file(target, progress=False)
    got = b"".join(shard.path.read_bytes() for shard in shards)
    assert got == b"".join(line(str(i), t) for i, t in enumerate(texts))


# Types


TYPED: dict[str, dict[str, Any]] = {
    "number": {"1": 1, "-2": -2, "0.50": 0.5, "1e3": 1000, " 7 ": 7, "-1.5E-2": -0.015, "3.0": 3}
    | {" -7 ": -7, "9007199254740993": 2**53 + 1},
    "integer": {"1": 1, "-2": -2, " 7 ": 7, "007": 7, "9223372036854775807": 2**63 - 1}
    | {"+5": 5, "3.0": 3},
    "boolean": {"true": True, "false": False, "True": True, "FALSE": False, " true ": True},
}


@pytest.mark.parametrize(
    ("type", "text"), [(name, text) for name, texts in TYPED.items() for text in texts]
)
def test_a_typed_column_is_bare_json(path: Path, type: str, text: str) -> None:
    """A number, integer or boolean that is asked for is bare, and a null is left out."""
    save(path, f"id,text,n\n1,x,{text}\n2,y,\n")
    assert written(path, body={"n": bf.col("n", type=type), "deep": [bf.col("n")]}) == (
        line("1", "x", n=TYPED[type][text], deep=[text]) + line("2", "y", deep=[None])
    )


UNTYPED = {
    "number": ["", "abc", "1,5", "0x10", "1_000", "true", "1 2", "--1"],
    "integer": ["", "abc", "1.5", "1e3", "0x10", "1_000", "true", "1 2"],
    "boolean": ["", "yes", "t", "2", "0.0", "nein"],
}


@pytest.mark.parametrize(
    ("type", "text"), [(name, text) for name, texts in UNTYPED.items() for text in texts]
)
@pytest.mark.parametrize("before", [0, 3_000], ids=["near", "far"])
def test_a_text_of_another_type_is_refused(path: Path, type: str, text: str, before: int) -> None:
    """A text that is not of the type asked for is refused with its row and what it is."""
    good = "true" if type == "boolean" else "1"
    rows = "".join(f"{row},x,{good}\n" for row in range(before))
    save(path, f'id,text,n\n{rows}bad,y,"{text}"\nok,z,{good}\n')
    article = "an" if type == "integer" else "a"
    error = error_of(path, body={"n": bf.col("n", type=type)})
    assert isinstance(error, bf.RequestError)
    assert str(error) == (
        f"row {before:,} (custom_id 'bad'): column 'n' is {text!r}, not {article} {type}"
    )
    assert (error.row, error.column, error.custom_id) == (before, "n", "bad")


@pytest.mark.parametrize(("text", "shown"), [("nan", "nan"), ("inf", "inf"), ("-Infinity", "-inf")])
def test_numbers_that_json_cannot_hold_are_refused(path: Path, text: str, shown: str) -> None:
    """NaN and infinities are no JSON numbers, and no missing values in a CSV file."""
    error = error_of(
        save(path, f"id,text,n\n1,x,1\n2,y,{text}\n"), body={"n": bf.col("n", type="number")}
    )
    assert str(error) == f"row 1 (custom_id '2'): column 'n' is {shown}, which JSON cannot hold"


@given(
    values=st.lists(
        st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63 - 1),
        min_size=1,
        max_size=8,
    )
)
def test_numbers_read_back_equal(values: list[float]) -> None:
    """A number that Python wrote is the same number in the request."""
    records = "".join(f"{row},x,{value!r}\n" for row, value in enumerate(values))
    with TemporaryDirectory() as folder:
        path = save(Path(folder) / "a.csv", f"id,text,n\n{records}")
        lines = written(path, body={"n": bf.col("n", type="number")}).splitlines()
    assert [json.loads(request)["body"]["n"] for request in lines] == values


# Columns


@pytest.mark.parametrize(
    ("text", "name", "hint"),
    [
        ("id,title,review\n1,a,b\n", "titel", "did you mean 'title'?"),
        ("id;title;review\n1;a;b\n", "zzz", "it has 'id', 'title', 'review'"),
        ("id, title\n1, a\n", "title", "did you mean ' title'?"),
    ],
)
def test_a_missing_column_of_a_csv_file_is_named_at_once(
    path: Path, text: str, name: str, hint: str
) -> None:
    """A column that is not in the header is refused before anything is read, with a hint."""
    save(path, text)
    with pytest.raises(bf.ColumnError) as caught:
        batch_of(path, prompt_column=name)
    assert str(caught.value) == f"'{path}' has no column {name!r}; {hint}"


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("a.jsonl", "read_json('{path}', lines=True, dtype=False)"),
        ("a.json", "read_json('{path}', dtype=False)"),
        ("a.xlsx", "read_excel('{path}', dtype=str)"),
    ],
)
def test_other_tables_are_told_the_way(tmp_path: Path, name: str, call: str) -> None:
    """JSON and Excel are no CSV; the message has the call of pandas that makes it."""
    path, target = tmp_path / name, tmp_path / "a.csv"
    rows = pd.DataFrame({"id": ["007", "8"], "text": ["x", "y"]})
    if name == "a.xlsx":
        path.write_bytes(b"PK\x03\x04" + bytes(100))
    else:
        rows.to_json(path, orient="records", lines=name == "a.jsonl")
    made = f"pandas.{call.format(path=path)}.to_csv('{target}', index=False)"
    assert str(error_of(path)) == f"'{path}' is not a CSV file; make it one with {made}"
    if name != "a.xlsx":
        eval(made, {"pandas": pd})
        assert rows_of(target) == [("007", "x"), ("8", "y")]


def test_a_csv_file_may_begin_as_json_does(path: Path) -> None:
    """A header with braces is a header where it names the columns."""
    save(path, "{x},id,text\n1,2,y\n")
    assert rows_of(path) == [("2", "y")]


@pytest.mark.parametrize(
    ("read", "name"),
    [(bf.from_csv, "a.csv"), (bf.from_parquet, "a.parquet")],
    ids=["CSV", "Parquet"],
)
def test_a_column_name_that_stands_twice_is_refused(tmp_path: Path, read: Read, name: str) -> None:
    """Of two columns with one name neither is chosen, and what is not needed does no harm."""
    path = tmp_path / name
    columns = ["id", "text", "note", "note"]
    if read is bf.from_csv:
        save(path, ",".join(columns) + "\n1,x,y,z\n")
    else:
        pq.write_table(pa.table([["1"], ["x"], ["y"], ["z"]], names=columns), path)
    assert rows_of(path, read) == [("1", "x")]
    error = error_of(path, read, prompt_column="note")
    assert isinstance(error, bf.ColumnError)
    assert str(error) == f"'{path}' has 2 columns named 'note'; rename one"


# Compressed files


@pytest.mark.parametrize("text", ["id,text\n1,é\n2,y\n", "\ufeffid;text\r\n1;é\r\n2;y\r\n"])
def test_gzip_files_are_read(tmp_path: Path, text: str) -> None:
    """A CSV file may be compressed, as its name tells."""
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(text.encode()))
    assert rows_of(path) == [("1", "é"), ("2", "y")]


def test_a_large_gzip_file_with_a_long_row_is_read(tmp_path: Path) -> None:
    """A compressed file is read by blocks too, and more than once where a row needs it."""
    rows = [(str(row), f"text {row}") for row in range(9_000)]
    rows[4_500] = ("long", "x" * (2 * BLOCK))
    path = tmp_path / "a.csv.gz"
    path.write_bytes(
        gzip.compress(("id,text\n" + "".join(f"{i},{t}\n" for i, t in rows)).encode(), 1)
    )
    assert rows_of(path) == rows


@pytest.mark.parametrize(
    "data",
    [b"id,text\n1,x\n", gzip.compress(b"id,text\n1,x\n" * 999)[:-12]],
    ids=["not compressed", "cut"],
)
def test_a_damaged_gzip_file_is_refused_by_its_name(tmp_path: Path, data: bytes) -> None:
    """A compressed file that is none, or not whole, is named in the error."""
    path = tmp_path / "a.csv.gz"
    path.write_bytes(data)
    pattern = rf"'{re.escape(str(path))}' (cannot be read|is damaged): .+"
    assert re.fullmatch(pattern, str(error_of(path)), re.DOTALL)


# Memory


SLOW = """
import sys, time
from pathlib import Path
from batch_frames.frames.csv import CsvBytes
from batch_frames.frames.csv import CsvFile
from batch_frames.errors import BatchFramesError

read = CsvBytes.read
CsvBytes.read = lambda self, size: time.sleep(0.1) or read(self, size)
batches = CsvFile(Path(sys.argv[1]), ["id"]).batches()
try:
    print(next(batches).num_rows > 0)
except BatchFramesError:
    print("refused")
batches.close()
"""
ROWS = "".join(f"{n},{'x' * 90}\n" for n in range(150_000)).encode()


ENDS = {
    "whole": ("a.csv", b"id,p\n" + ROWS, "True\n"),
    "bad row": ("a.csv", b"id,p\n1,2,3\n" + ROWS, "refused\n"),
    "cut late": ("a.csv.gz", gzip.compress(b"id,p\n" + ROWS, 1)[:-100_000], "True\n"),
    "cut early": ("a.csv.gz", gzip.compress(b"id,p\n" + ROWS, 1)[:60_000], "refused\n"),
}


@pytest.mark.parametrize("end", ["whole", *map(slow, ("cut early", "bad row", "cut late"))])
def test_a_process_may_end_before_the_file_does(tmp_path: Path, end: str) -> None:
    """Whoever stops reading can leave: nothing goes on in a thread that the end would abort."""
    name, data, said = ENDS[end]
    path = tmp_path / name
    path.write_bytes(data)
    script = [sys.executable, "-c", SLOW, str(path)]
    done = subprocess.run(script, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")


@pytest.mark.parametrize("stop", [False, True], ids=["to the end", "stopped"])
@pytest.mark.parametrize("end", ENDS)
def test_arrow_gives_back_all_that_is_lent_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, stop: bool
) -> None:
    """However a reading ends, no thread still has the file, a part of it, or a function."""
    name, data, _ = ENDS[end]
    path = tmp_path / name
    path.write_bytes(data)
    things: list[weakref.ref[Any]] = []
    lend = BufferTracker.track

    def noted(tracker: BufferTracker, thing: Any) -> Any:
        things.append(weakref.ref(thing))
        return lend(tracker, thing)

    monkeypatch.setattr(BufferTracker, "track", noted)
    batches: Any = CsvFile(path, ["id"]).batches()
    with contextlib.suppress(bf.BatchFramesError):
        for _ in batches:
            if stop:
                batches.close()
    assert len(things) > 2
    assert [thing() for thing in things] == [None] * len(things)
