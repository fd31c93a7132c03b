"""Lines of a file: where they end, which are blank, what JSON paths find in them."""

import gzip
import json
import re
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_frames.arrow.query import extract
from batch_frames.files import jsonl
from batch_frames.files.jsonl import BLOCK, BOM, ROWS, load_line, read_lines

FRAGMENTS = [b"\n", b"\r\n", b"\r", b" ", b"\t", b"\x0b", b"\x0c", b"\x00", b"{}", b"\xff", BOM]
FRAGMENTS += [sign.encode() for sign in ("\u2028", "\u2029", "\u0085", "é", "😀")]
FILES = st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=3)).map(b"".join)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters()),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(), max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)

Numbered = list[tuple[int, bytes]]


def read(path: Path) -> Numbered:
    """Read all lines with their numbers."""
    found = []
    for lines in read_lines(path):
        assert lines.path == path
        assert lines.text.type == pa.large_string()
        assert len(lines.text) == len(lines.numbers) <= ROWS
        found += [(int(number), lines.raw(i)) for i, number in enumerate(lines.numbers)]
    return found


def split(data: bytes) -> Numbered:
    """Say what a file's lines are, in the simplest way there is."""
    numbered = enumerate(data.removeprefix(BOM).split(b"\n"), 1)
    return [(n, line.rstrip(b"\r")) for n, line in numbered if line.strip(b" \t\r")]


def write(folder: Path, data: bytes) -> Path:
    """Write a file."""
    path = folder / "lines.jsonl"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"\n", []),
        (b"\xef\xbb\xbf", []),
        (b"\xef\xbb\xbf\n", []),
        (b"a", [(1, b"a")]),
        (b"a\n", [(1, b"a")]),
        (b"a\nb", [(1, b"a"), (2, b"b")]),
        (b"a\r\nb\r\n", [(1, b"a"), (2, b"b")]),
        (b"a\rb\n", [(1, b"a\rb")]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", [(1, b"a"), (2, b"\xef\xbb\xbfb")]),
        (b"\n\na\n \t\r\n\nb\n\n", [(3, b"a"), (6, b"b")]),
        (b" a \n", [(1, b" a ")]),
        (b" \x0c\n\x0b\n", [(1, b" \x0c"), (2, b"\x0b")]),
        (b"\xff\xfe\n\x00\n", [(1, b"\xff\xfe"), (2, b"\x00")]),
    ],
)
def test_line_ends_marks_and_blanks(tmp_path: Path, data: bytes, expected: Numbered) -> None:
    """A byte order mark and blank lines are passed over, and the numbers still count them."""
    assert read(write(tmp_path, data)) == expected


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c", "\x1e"])
def test_only_a_newline_ends_a_line(tmp_path: Path, sign: str) -> None:
    """Signs at which ``str.splitlines`` breaks stay inside their line."""
    line = f'{{"text":"a{sign}b"}}'.encode()
    assert read(write(tmp_path, line + b"\n" + line)) == [(1, line), (2, line)]


@given(FILES)
def test_any_bytes_split_as_bytes_do(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """The lines of any file whatever are those that splitting its bytes gives."""
    assert read(write(tmp_path_factory.getbasetemp(), data)) == split(data)


@given(st.lists(st.binary(min_size=1).map(lambda line: b"x" + line.replace(b"\n", b""))))
def test_texts_are_the_bytes_of_the_file(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    """Put together again, the texts of the lines are the file, line ends and all."""
    data = b"\n".join(lines)
    texts = [
        bytes(text.as_buffer())
        for part in read_lines(write(tmp_path_factory.getbasetemp(), data))
        for text in part.text
    ]
    assert b"".join(texts) == data


@given(FILES, FILES)
def test_gzip_gives_the_lines_of_what_it_packs(
    tmp_path_factory: pytest.TempPathFactory, first: bytes, second: bytes
) -> None:
    """A gzip file, even of two members, reads as the file that was packed."""
    path = tmp_path_factory.getbasetemp() / "lines.jsonl.gz"
    path.write_bytes(gzip.compress(first, 1) + gzip.compress(second, 1))
    assert read(path) == split(first + second)


def test_many_lines_keep_their_numbers(tmp_path: Path) -> None:
    """Numbers go on from piece to piece, over blank lines too."""
    data = b"".join(b"\n" if n % 7 == 0 else b"line %d\r\n" % n for n in range(3 * ROWS + 5))
    assert read(write(tmp_path, data)) == split(data)


@pytest.mark.parametrize("length", [BLOCK - 2, BLOCK - 1, BLOCK, 2 * BLOCK + 3])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\nlast", b"\n\nlast\n"])
def test_a_line_longer_than_a_block_is_whole(tmp_path: Path, length: int, end: bytes) -> None:
    """A line that ends at, before or far behind a block's end stays one line."""
    data = b"x" * length + end
    found, expected = read(write(tmp_path, data)), split(data)
    assert [number for number, _ in found] == [number for number, _ in expected]
    assert all(a == b for (_, a), (_, b) in zip(found, expected, strict=True))


def test_lines_across_blocks_are_whole(tmp_path: Path) -> None:
    """Lines of many sizes come through block after block."""
    data = b"\n".join(b"%d:" % n + b"y" * (n * 7_919 % 900_000) for n in range(200))
    assert len(data) > 2 * BLOCK
    assert read(write(tmp_path, data)) == split(data)


@given(FILES)
def test_small_blocks_read_alike(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Wherever blocks and windows end, lines are the same, but for blanks before a long one."""
    path = write(tmp_path_factory.getbasetemp(), data)
    with patch.multiple(jsonl, BLOCK=5, LEAST=5, WINDOW=2, DENSE=3):
        found = read(path)
    assert [(n, line.lstrip(b" \t\r")) for n, line in found] == [
        (n, line.lstrip(b" \t\r")) for n, line in split(data)
    ]


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz"])
@pytest.mark.parametrize("last", [b"", b"\n", b'\n{"b": 2}\n'])
def test_a_line_above_the_limit_is_refused_with_its_size(
    tmp_path: Path, ending: str, last: bytes
) -> None:
    """A line that is too long to be kept leaves its number and its size, and no other is lost."""
    path = tmp_path / f"lines.{ending}"
    data = b'{"a": 1}\n' + b"x" * 1_000 + last
    path.write_bytes(gzip.compress(data) if ending.endswith("gz") else data)
    with patch.multiple(jsonl, BLOCK=16, LEAST=16, LONGEST=64):
        found = read(path)
        size = f"{1_000 + len(last[:1]):,}"
        with pytest.raises(ValueError, match=f"^the line has {size} bytes, more than the 64 that"):
            load_line(found[1][1])
    assert [found[0], *found[2:]] == [line for line in split(data) if line[0] != 2]
    assert len(found) == len(split(data))


def test_a_line_at_the_limit_is_read(tmp_path: Path) -> None:
    """Of a line that is as long as the limit, every byte is there."""
    data = b"y" * 63 + b"\n" + b"z" * 64 + b"\n"
    with patch.multiple(jsonl, BLOCK=16, LEAST=16, LONGEST=64):
        found = read(write(tmp_path, data))
    assert [len(line) for _, line in found] == [63, len(jsonl.TOO_LONG) + 2]


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    """A file that is not there raises what opening it raises."""
    with pytest.raises(FileNotFoundError):
        list(read_lines(tmp_path / "none.jsonl"))


def replaced(value: Any) -> Any:
    """Put U+FFFD in place of each lone surrogate of a JSON value."""
    if isinstance(value, str):
        return re.sub("[\ud800-\udfff]", "\ufffd", value)
    if isinstance(value, list):
        return [replaced(item) for item in value]
    if isinstance(value, dict):
        return {replaced(key): replaced(item) for key, item in value.items()}
    return value


@given(VALUES)
def test_load_line_is_json_with_lone_surrogates_replaced(value: Any) -> None:
    """A line is what ``json.loads`` makes of it, but that its text can be UTF-8."""
    raw = json.dumps(value).encode()
    loaded = load_line(raw)
    assert loaded == replaced(json.loads(raw))
    json.dumps(loaded, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "not JSON: Expecting value at character 0"),
        (b"{", "not JSON: Expecting property name enclosed in double quotes at character 1"),
        (b'{"a":1} x', "not JSON: Extra data at character 8"),
        (b'"\xff"', "not UTF-8 at byte 1"),
        (b"[" * 200_000, "not JSON: nested too deep"),
        (b"[" * 200_000 + b"]" * 200_000, "not JSON: nested too deep"),
    ],
    ids=["empty", "cut", "extra", "latin", "open", "deep"],
)
def test_load_line_refuses(raw: bytes, message: str) -> None:
    """What is not JSON, not UTF-8 or nested too deep is a ValueError that says so."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load_line(raw)


def table(*lines: bytes) -> pa.Array:
    """Make a text column of bytes, which need not be UTF-8."""
    binary = pa.array(lines, pa.large_binary())
    return pa.Array.from_buffers(pa.large_string(), len(binary), binary.buffers())


def test_extract_finds_values_and_types() -> None:
    """Each path gives a column of texts, each type path a column of DuckDB's names."""
    found = extract(
        table(b'{"a":"x","n":[1,{"b":"\\u0000"}]}', b'{"a":5,"n":null}\r\n', b"{}"),
        ["$.a", "$.n[#-1].b"],
        ["$.a", "$.n"],
    )
    assert {name: column.to_pylist() for name, column in found.items()} == {
        "$.a": ["x", "5", None],
        "$.n[#-1].b": ["\x00", None, None],
        "type of $.a": ["VARCHAR", "UBIGINT", None],
        "type of $.n": ["ARRAY", "NULL", None],
    }


def test_extract_keeps_a_row_for_what_is_not_json() -> None:
    """Every line has its row, in order; those that are not JSON are null."""
    bad = [b"", b"null", b"{", b"\xff", b'{"a":"\xff"}', b'{"a":"\\ud800"}', b"[" * 9_999]
    lines = [line for text in bad for line in (b'{"a":"good"}', text)]
    found = extract(table(*lines), ["$.a"], ["$.a"])
    assert found["$.a"].to_pylist() == ["good", None] * len(bad)
    assert found["type of $.a"].to_pylist() == ["VARCHAR", None] * len(bad)


@pytest.mark.parametrize("types", [(), ("$.a",)])
def test_extract_of_no_lines_has_no_rows(types: tuple[str, ...]) -> None:
    """No lines give all columns, and no rows."""
    found = extract(table(), ["$.a"], types)
    assert found == {"$.a": pa.array([], pa.large_string())} | {
        f"type of {path}": pa.array([], pa.large_string()) for path in types
    }


@given(st.lists(st.text(), max_size=40))
def test_extract_gives_back_any_text(texts: list[str]) -> None:
    """Text comes out as ``json.loads`` reads it, whether escaped or not."""
    lines = [json.dumps({"a": t}, ensure_ascii=e).encode() for e in (True, False) for t in texts]
    assert extract(table(*lines), ["$.a"])["$.a"].to_pylist() == texts * 2
