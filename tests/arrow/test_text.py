"""Text columns: escaped, checked, hashed and joined as a loop over their values would do it."""

import json
import random
import uuid
from collections.abc import Iterable, Iterator, Sequence
from itertools import product

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batch_frames.arrow.text import (
    NULL,
    TEXT,
    check_utf8,
    constant,
    escape,
    hash_text,
    join,
    offsets_of,
)
from batch_frames.errors import CellError
from tests.support.marks import slow

SPECIAL = '"\\/\b\f\n\r\t\x00\x1b\x1f \x7f\x85\u2028\u2029\ufeff\uffff😀é{}'
TEXTS = st.lists(st.none() | st.text() | st.text(SPECIAL), max_size=12)
CODES = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
EDGES = bytes.fromhex(
    "00 22 41 5c 7f 80 8f 90 9f a0 bf c0 c1 c2 df e0 e1 ec ed ee ef f0 f1 f3 f4 f5"
)
SECONDS = bytes.fromhex("41 7f 80 8f 90 9f a0 bf c0")
PIECES = [*map(bytes, product(EDGES, repeat=2)), "é".encode(), "€".encode(), "😀".encode()]


def column(texts: Sequence[str | None]) -> pa.Array:
    """Make a text column."""
    return pa.array(texts, TEXT)


def raw(rows: Sequence[bytes | None]) -> pa.Array:
    """Make a text column of any bytes, as a careless program would."""
    return pa.array(rows, pa.large_binary()).view(TEXT)


def json_inside_quotes(texts: Sequence[str | None]) -> list[str | None]:
    """Escape row by row."""
    return [None if t is None else json.dumps(t, ensure_ascii=False)[1:-1] for t in texts]


def first_not_utf8(rows: Sequence[bytes | None]) -> int | None:
    """Find row by row what does not decode."""
    for index, row in enumerate(rows):
        try:
            (row or b"").decode()
        except UnicodeDecodeError:
            return index
    return None


def refused(text: pa.Array) -> int | None:
    """Give the row that ``check_utf8`` names, if any."""
    try:
        check_utf8(text)
    except CellError as error:
        return error.index
    return None


def realistic_ids() -> dict[str, Iterator[str]]:
    """Make ids as tables have them, each of them once."""
    numbers, some = range(200_000), random.Random(0)
    return {
        "running numbers": (str(n) for n in numbers),
        "numbers with zeros before": (f"{n:09}" for n in numbers),
        "numbers behind a word": (f"request-{n}" for n in numbers),
        "numbers before a word": (f"{n}-of-the-reviews" for n in numbers),
        "random UUIDs": (str(uuid.UUID(int=some.getrandbits(128))) for _ in range(50_000)),
        "UUIDs in a row": (str(uuid.UUID(int=n << 64)) for n in range(50_000)),
        "addresses": (f"https://shop.example/{n // 300}/reviews?page={n % 300}" for n in numbers),
        "days": (
            f"2026-{m:02}-{d:02}|{n}" for m in range(12) for d in range(28) for n in range(99)
        ),
        "one character repeated": (char * n for n in range(1, 400) for char in "a0\x00 -"),
        "short": ("".join(p) for n in range(8) for p in product("01\x00a", repeat=n)),
        "not ASCII": (f"商品{n // 300}評価{n % 300}" for n in numbers),
    }


class TestEscape:
    """A value becomes what ``json.dumps`` puts between the quotes."""

    @given(texts=TEXTS, start=st.integers(0, 12), length=st.integers(0, 12))
    @example(texts=['"', None, "\\"], start=1, length=2)
    @example(texts=["", '"', ""], start=0, length=3)
    def test_it_equals_json_dumps(self, texts: list[str | None], start: int, length: int) -> None:
        """Any text, null or slice of a column is escaped as ``json.dumps`` does it."""
        part = escape(column(texts).slice(start, length))
        part.validate(full=True)
        assert part.type == TEXT
        assert part.to_pylist() == json_inside_quotes(texts[start : start + length])

    def test_every_character_of_unicode(self) -> None:
        """No character is forgotten, and none is escaped that need not be."""
        texts = ["".join(map(chr, CODES[i : i + 256])) for i in range(0, len(CODES), 256)]
        assert escape(column(texts)).to_pylist() == json_inside_quotes(texts)

    @pytest.mark.parametrize("code", [*range(0x20), 0x22, 0x5C])
    def test_each_escaped_character_alone(self, code: int) -> None:
        """Each of the characters that need it is escaped also where no other occurs."""
        texts = [chr(code), f"a{chr(code)}", None, f"{chr(code)}é", "", chr(code) * 3]
        assert escape(column(texts)).to_pylist() == json_inside_quotes(texts)

    def test_nothing_to_escape_costs_nothing(self) -> None:
        """A column without such characters comes back as it is, at the same address."""
        text = column(["plain", None, "日本語", "/\x7f\u2028"])
        assert escape(text) is text

    def test_a_slice_of_a_slice(self) -> None:
        """Offsets that begin far from 0 and validity bits out of step with bytes are right."""
        texts = ['"a"', None, "b\n", "", None, "\\c", "d", None, 'é"', "\x00"] * 5
        part = column(texts).slice(3).slice(8, 19)
        assert escape(part).to_pylist() == json_inside_quotes(texts[11:30])

    @pytest.mark.parametrize("texts", [[], [None, None], ["", ""]])
    def test_columns_without_bytes(self, texts: list[str | None]) -> None:
        """Empty columns, nulls alone and empty texts pass."""
        assert escape(column(texts)).to_pylist() == texts

    def test_a_column_without_offsets(self) -> None:
        """A column without rows may come without offsets, and has the one that is its end."""
        empty = pa.Array.from_buffers(TEXT, 0, [None, None, pa.py_buffer(b"")])
        assert offsets_of(empty).tolist() == offsets_of(column([])).tolist() == [0]
        assert escape(empty).to_pylist() == []


class TestCheckUtf8:
    """The first row is refused that ``bytes.decode`` refuses."""

    @given(
        rows=st.lists(
            st.none() | st.lists(st.sampled_from(PIECES) | st.binary(max_size=3)).map(b"".join)
        ),
        start=st.integers(0, 4),
    )
    def test_it_agrees_with_decode(self, rows: list[bytes | None], start: int) -> None:
        """Of any rows of any bytes the first bad one is named, in slices too."""
        assert refused(raw(rows).slice(start)) == first_not_utf8(rows[start:])

    @given(texts=TEXTS, data=st.data())
    def test_text_cut_at_any_byte(self, texts: list[str | None], data: st.DataObject) -> None:
        """A character torn apart by a row's end is seen, though the bytes together are text."""
        joined = "".join(t for t in texts if t).encode()
        cuts = data.draw(st.lists(st.integers(0, len(joined)), max_size=6).map(sorted))
        rows = [joined[a:b] for a, b in zip([0, *cuts], [*cuts, len(joined)], strict=True)]
        assert refused(raw(rows)) == first_not_utf8(rows)

    @pytest.mark.parametrize("seconds", [EDGES, slow(range(256))], ids=["edges", "all"])
    def test_every_sequence_of_two_bytes(self, seconds: Iterable[int]) -> None:
        """One byte, and any with a second one."""
        rows = [bytes([byte]) for byte in range(256)]
        rows += map(bytes, product(range(0x70, 256), seconds))
        wrong = [row for row in rows if refused(raw([row])) != first_not_utf8([row])]
        assert wrong == []

    def test_sequences_of_three_and_four_bytes_at_the_edges(self) -> None:
        """Overlong forms, surrogates, too high, too short: around every limit of the standard."""
        rows = [bytes(row) for row in product(EDGES, repeat=3)]
        rows += [bytes(row) for row in product(EDGES, SECONDS, SECONDS, SECONDS)]
        wrong = [row for row in rows if refused(raw([row])) != first_not_utf8([row])]
        assert wrong == []

    @pytest.mark.parametrize(
        "bad",
        [
            pytest.param(b"\x80", id="a continuation without its lead"),
            pytest.param(b"\xc3", id="two bytes, cut"),
            pytest.param(b"\xe2\x82", id="three bytes, cut"),
            pytest.param(b"\xf0\x9f\x98", id="four bytes, cut"),
            pytest.param(b"\xc0\xaf", id="an overlong slash"),
            pytest.param(b"\xc0\xa2", id="an overlong quote"),
            pytest.param(b"\xe0\x80\xa2", id="a longer overlong quote"),
            pytest.param(b"\xf0\x80\x80\xa2", id="the longest overlong quote"),
            pytest.param(b"\xed\xa0\x80", id="the first surrogate"),
            pytest.param(b"\xed\xbf\xbf", id="the last surrogate"),
            pytest.param(b"\xed\xa0\xbd\xed\xb8\x80", id="a pair of surrogates"),
            pytest.param(b"\xf4\x90\x80\x80", id="beyond the last character"),
            pytest.param(b"\xf8\x88\x80\x80\x80", id="five bytes"),
            pytest.param(b"\xff", id="no byte of UTF-8"),
            pytest.param("é".encode("latin-1"), id="Latin-1"),
            pytest.param(b'caf\xe9"},{', id="Latin-1 before a quote"),
        ],
    )
    def test_the_row_is_named(self, bad: bytes) -> None:
        """Between good rows and nulls, and in a slice, the bad row's position is given."""
        rows = [b"a", None, "é😀".encode(), b"", bad, b"\xff"]
        assert refused(raw(rows)) == 4
        assert refused(raw(rows).slice(3)) == 1
        assert refused(raw(rows).slice(0, 4)) is None

    def test_the_problem_is_said(self) -> None:
        """The message says what would be right."""
        with pytest.raises(CellError) as caught:
            check_utf8(raw([b"a", b"caf\xe9"]))
        problem = (
            "element 1 is not valid UTF-8; read the file with its own encoding, or save it as UTF-8"
        )
        assert str(caught.value) == problem

    @pytest.mark.parametrize("character", ["é", "€", "😀"])
    def test_a_character_over_two_rows(self, character: str) -> None:
        """Two rows that are text only together are two bad rows."""
        data = character.encode()
        for cut in range(1, len(data)):
            assert refused(raw([b"x", data[:cut], data[cut:]])) == 1
            assert refused(raw([data[:cut], data[cut:]]).slice(1)) == 0

    @pytest.mark.parametrize("hidden", [b"", b"z", b"\xff", "é".encode(), b"\xc3"])
    def test_bytes_under_a_null_do_not_matter(self, hidden: bytes) -> None:
        """Arrow leaves undefined what stands where a value is null."""
        for last, expected in (("é".encode(), None), (b"\xe9", 2)):
            data = [b"a", hidden, last]
            offsets = np.cumsum([0, *map(len, data)])
            buffers = [b"\x05", offsets, b"".join(data)]
            text = pa.Array.from_buffers(TEXT, 3, list(map(pa.py_buffer, buffers)))
            assert text.is_valid().to_pylist() == [True, False, True]
            assert refused(text) == expected

    @pytest.mark.parametrize("rows", [[], [None], [b""], [None, b"", None]])
    def test_columns_without_bytes(self, rows: list[bytes | None]) -> None:
        """Nothing is nothing bad."""
        assert refused(raw(rows)) is None


class TestHashText:
    """Equal values have equal hashes, others have others."""

    @given(texts=st.lists(st.text(max_size=30)), start=st.integers(0, 5))
    def test_equal_values_have_equal_hashes(self, texts: list[str], start: int) -> None:
        """Neither neighbours nor position nor slicing change a value's hash."""
        together = hash_text(column(["é", *texts]).slice(1).slice(start))
        alone = [hash_text(column([text]))[0] for text in texts[start:]]
        assert together.dtype == np.uint64
        assert together.tolist() == alone

    @pytest.mark.parametrize("kind", realistic_ids())
    def test_realistic_ids_do_not_collide(self, kind: str) -> None:
        """Different ids have as many different hashes."""
        ids = list(realistic_ids()[kind])
        assert len(np.unique(hash_text(column(ids)))) == len(ids) == len(set(ids))

    def test_no_rows(self) -> None:
        """An empty column has no hashes."""
        assert hash_text(column([])).tolist() == []


class TestJoin:
    """Columns and constants stand together row by row."""

    def test_columns_and_constants(self) -> None:
        """Each row gets its own values and the constants that all share."""
        joined = join([constant("<"), column(["a", "é"]), constant("="), column(["", "b"])])
        assert joined.to_pylist() == ["<a=", "<é=b"]

    def test_a_null_makes_the_row_null(self) -> None:
        """No row is lost by a null, and no other row changes."""
        joined = join([column(["a", None, "c"]), constant("-"), column([None, "y", "z"])])
        assert joined.to_pylist() == [None, None, "c-z"]

    def test_nulls_left_out(self) -> None:
        """With ``skip_nulls`` a null goes with its separator, and a row of nulls is empty."""
        texts = [column(["a", None, None, "d"]), column(["w", "x", None, None])]
        assert join(texts, ",", skip_nulls=True).to_pylist() == ["a,w", "x", "", "d"]
        assert join(texts[:1], ",", skip_nulls=True).to_pylist() == ["a", "", "", "d"]

    def test_the_null_constant_is_null(self) -> None:
        """``NULL`` is a text that is missing."""
        assert (NULL.type, NULL.is_valid) == (TEXT, False)
