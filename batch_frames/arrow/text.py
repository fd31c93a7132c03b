"""Work on the bytes of text columns: check, escape and join them, all rows at once.

A text column here is a ``large_string`` array: one buffer with the bytes of all rows, and one with
the 64-bit offsets between them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import reduce
from hashlib import sha256
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.errors import CellError

__all__ = [
    "NULL",
    "TEXT",
    "bytes_of",
    "check_utf8",
    "constant",
    "digests",
    "escape",
    "first",
    "has_repeats",
    "hash_text",
    "join",
    "keep_freed_memory",
    "offsets_of",
    "repeats",
    "split_hashes",
]


TEXT = pa.large_string()

# Not pa.scalar, which loads pandas.
NULL = pa.nulls(1, TEXT)[0]

BACKSLASH = b"\\"

MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def constant(text: str) -> pa.Scalar:
    """Make a piece of text that every row shares."""
    return pa.scalar(text, TEXT)


def join(pieces: Sequence[Any], separator: str = "", *, skip_nulls: bool = False) -> pa.Array:
    """Join columns and constants row by row; a null makes the row null, or is left out."""
    if not skip_nulls:
        return pc.binary_join_element_wise(*pieces, constant(separator))
    # Arrow drops a row whose every value is skipped, so that one of them has to be empty instead.
    first, *others = pieces
    nothing = reduce(pc.and_, [pc.is_null(piece) for piece in pieces])
    pieces = [pc.if_else(nothing, constant(""), first), *others]
    return pc.binary_join_element_wise(*pieces, constant(separator), null_handling="skip")


def offsets_of(text: pa.Array) -> npt.NDArray[np.int64]:
    """View the offsets: one more than there are rows, not beginning at 0 in a slice."""
    buffer = text.buffers()[1]
    if buffer is None or not len(buffer):
        return np.zeros(1, np.int64)
    return np.frombuffer(buffer, np.int64, len(text) + 1, offset=8 * text.offset)


def bytes_of(text: pa.Array) -> npt.NDArray[np.uint8]:
    """View the bytes of all rows, one after the other."""
    buffer = text.buffers()[2]
    offsets = offsets_of(text)
    if buffer is None:
        return np.zeros(0, np.uint8)
    return np.frombuffer(buffer, np.uint8)[int(offsets[0]) : int(offsets[-1])]


def first(mask: pa.BooleanArray, value: bool = True) -> int | None:
    """Return where a mask has a value first, or None."""
    index: int = pc.index(mask, value).as_py()
    return None if index < 0 else index


def check_utf8(text: pa.Array) -> None:
    """Refuse bytes that are not UTF-8: Arrow from outside is not always validated.

    Raises:
        CellError: For the first such row.
    """
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        # Bytes under a null do not matter.
        for index in (index for index, row in enumerate(text) if not _decodes(row)):
            advice = "read the file with its own encoding, or save it as UTF-8"
            raise CellError(index, f"is not valid UTF-8; {advice}") from None


def escape(text: pa.Array, *, check: bool = False) -> pa.Array:
    """Escape what a JSON string must not hold: quotes, backslashes, control characters.

    Each value becomes what ``json.dumps(value, ensure_ascii=False)`` puts between the quotes. The
    whole buffer is done at once: few bytes need an escape, so all but the search for them works on
    their positions. A column with nothing to escape is returned as it is.

    Args:
        text: A ``large_string`` array.
        check: Whether to refuse bytes that are not UTF-8, as ``check_utf8`` does.

    Example:
        >>> escape(pa.array(['a "b"', None], TEXT)).to_pylist()
        ['a \\\\"b\\\\"', None]
    """
    data = bytes_of(text)
    escaped = data.tobytes()
    if check and not escaped.isascii():
        check_utf8(text)
    # With its second bit flipped, the quote (0x22) follows directly after the control characters.
    found = (data ^ 0x02) <= 0x20
    if BACKSLASH in escaped:
        found |= data == BACKSLASH[0]
    where = np.flatnonzero(found)
    if not len(where):
        return text
    special = data[where]
    extra = np.zeros(256, np.int64)
    # Backslash first: the other escapes bring backslashes of their own.
    for code in sorted(set(special.tobytes()), key=lambda code: code != BACKSLASH[0]):
        replacement = json.dumps(chr(code))[1:-1].encode()
        escaped = escaped.replace(bytes([code]), replacement)
        extra[code] = len(replacement) - 1
    added = np.concatenate(([0], np.cumsum(extra[special])))
    offsets = offsets_of(text)
    offsets = offsets - offsets[0]
    offsets += added[np.searchsorted(where, offsets)]
    buffers = [_validity(text), pa.py_buffer(offsets), pa.py_buffer(escaped)]
    return pa.Array.from_buffers(TEXT, len(text), buffers)


def _validity(text: pa.Array) -> pa.Buffer | None:
    if not text.null_count:
        return None
    bits = np.packbits(np.asarray(text.is_valid()), bitorder="little")
    return pa.py_buffer(bits)


def _decodes(row: pa.Scalar) -> bool:
    try:
        return not row.is_valid or bool(bytes(row.as_buffer()).decode() or True)
    except UnicodeDecodeError:
        return False


def digests(text: pa.Array) -> pa.Array:
    """Return 32 hexadecimal digits of the SHA-256 of each value."""
    data: Any = bytes_of(text)
    offsets = offsets_of(text)
    spans = pairwise((offsets - offsets[0]).tolist())
    return pa.array([sha256(data[a:b]).hexdigest()[:32] for a, b in spans], TEXT)


def hash_text(text: pa.Array) -> npt.NDArray[np.uint64]:
    """Hash each value to 64 bits, eight bytes of all values at a time."""
    offsets = offsets_of(text)
    starts, lengths = offsets[:-1] - offsets[0], np.diff(offsets)
    data = np.concatenate((bytes_of(text), np.zeros(8, np.uint8)))
    words = np.ndarray(len(data) - 7, "<u8", data, strides=(1,))
    hashes = lengths.astype(np.uint64)
    rows = np.flatnonzero(lengths)
    done = 0
    while len(rows):
        word = words[starts[rows] + done]
        unused = np.maximum(done + 8 - lengths[rows], 0).astype(np.uint64) * np.uint64(8)
        mixed = (hashes[rows] ^ (word << unused)) * MULTIPLIER
        hashes[rows] = mixed ^ (mixed >> np.uint64(32))
        done += 8
        rows = rows[lengths[rows] > done]
    return hashes


PARTS, PART = 8, np.uint64(61)
"""Into how many parts hashes are split, and by which shift their part is left."""


def split_hashes(
    groups: Sequence[npt.NDArray[np.uint64]],
) -> Iterator[list[npt.NDArray[np.uint64]]]:
    """Split hashes by their first bits, so that each part can be sorted in little memory.

    Args:
        groups: The hashes, in any number of arrays.

    Yields:
        The parts, in the order of the hashes: what each group has of it.
    """
    for part in range(PARTS):
        yield [group[group >> PART == part] for group in groups]


def has_repeats(parts: Sequence[npt.NDArray[np.uint64]]) -> bool:
    """Return whether a hash is in some arrays more than once."""
    in_order = np.sort(np.concatenate([np.zeros(0, np.uint64), *parts]))
    return bool((in_order[1:] == in_order[:-1]).any())


def repeats(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.intp]:
    """Return the second row of each repeated hash, in order."""
    order = np.argsort(hashes, kind="stable")
    in_order = hashes[order]
    same = in_order[1:] == in_order[:-1]
    del in_order
    # Of each hash only the second row: one that is repeated very often must not hide the others.
    same[1:] &= ~same[:-1].copy()
    return np.sort(order[1:][same])


def keep_freed_memory() -> None:
    """Have the C library keep what is freed, so that chunks reuse it: nearly half of the time.

    It returns less memory to the system once it has seen one large block freed.
    """
    np.empty(16 << 20, np.uint8)
