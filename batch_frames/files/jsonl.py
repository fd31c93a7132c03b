"""Read ``.jsonl`` files, in pieces as text columns of their lines, or a line at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batch_frames.arrow import TEXT, load_text
from batch_frames.errors import LineError
from batch_frames.files.cloud import open_stream

__all__ = [
    "Lines",
    "has_bom",
    "is_request",
    "is_result",
    "kind_of",
    "load_exactly",
    "load_line",
    "load_request",
    "open_lines",
    "read_lines",
]


BLOCK, LEAST = 16 << 20, 1 << 16
ROWS = 50_000

LONGEST = 1 << 30
"""Longer lines are not kept in memory; each is read as one that is not JSON."""

TOO_LONG = b"\0too long: "
"""What stands for such a line; its size follows."""

BOM = b"\xef\xbb\xbf"

NEWLINE = 0x0A

WINDOW, DENSE = 1 << 17, 8
"""Where there are more lines than one in so many bytes, so much of a block is looked at at once."""

Block = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], int]
"""Whole lines, the positions after their ends, and how many blank lines were left out before."""


@dataclass(frozen=True)
class Lines:
    """Consecutive lines of a file.

    Attributes:
        path: The file.
        text: ``large_string``, not validated, each line with its line end; blank ones left out.
        numbers: The line numbers, from 1.
    """

    path: Path
    text: pa.Array
    numbers: npt.NDArray[np.int64]

    def raw(self, index: int) -> bytes:
        """Return the bytes of one line without its line end."""
        return bytes(self.text[index].as_buffer()).rstrip(b"\r\n")

    def request(self, index: int) -> dict[str, Any]:
        """Parse one line with ``load_request``."""
        return load_request(self.raw(index), self.path, int(self.numbers[index]))


def read_lines(path: Path) -> Iterator[Lines]:
    """Read a file, plain or compressed, in pieces of at most 50,000 lines or about 16 MB.

    Only ``\\n`` ends a line, as JSON strings may contain U+2028 and the like unescaped.

    Args:
        path: The file. A byte order mark and blank lines are skipped. Of a line above ``LONGEST``
            only the size is kept, with which ``load_line`` refuses it.

    Raises:
        OSError: If it is not there, or may not be read.
        LineError: If reading fails otherwise, as in a damaged gzip file.
    """
    number = 1
    for data, ends, blank in _blocks(path):
        number += blank
        if not len(ends):
            continue
        offsets = np.concatenate(([0], ends))
        text, numbers = _text(data, offsets), np.arange(number, number + len(ends))
        number += len(ends)
        is_solid = ~_are_blank(data, offsets)
        if not is_solid.all():
            text, numbers = text.filter(pa.array(is_solid)), numbers[is_solid]
        for start in range(0, len(text), ROWS):
            yield Lines(path, text.slice(start, ROWS), numbers[start : start + ROWS])


def load_line(raw: bytes) -> Any:
    """Parse one line with the standard library.

    A lone surrogate becomes U+FFFD, and a byte order mark at the beginning is passed over, as files
    that were put together have it.

    Raises:
        ValueError: If it is not JSON, not UTF-8, nested too deep, or was too long to be kept; the
            message says which.
    """
    return load_text(_decoded(raw.removeprefix(BOM)))


def load_exactly(raw: bytes) -> Any:
    """Parse one line as ``load_line`` does, but refuse NaN, infinities and a byte order mark.

    Raises:
        ValueError: If it is not JSON; the message says why.
    """
    return load_text(_decoded(raw), exact=True)


def _decoded(raw: bytes) -> str:
    if raw.startswith(TOO_LONG):
        size = int(raw.removeprefix(TOO_LONG))
        raise ValueError(f"the line has {size:,} bytes, more than the {LONGEST:,} that are read")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start:,}") from None


def kind_of(value: Any) -> str:
    """Name the type of a parsed line that is not an object."""
    names = {list: "an array", str: "text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def is_request(value: dict[str, Any]) -> bool:
    """Return whether a parsed line is a request, and not a result."""
    return "body" in value and not is_result(value)


def is_result(value: dict[str, Any]) -> bool:
    """Return whether a parsed line is a result."""
    return not {"response", "error"}.isdisjoint(value)


def load_request(raw: bytes, path: Path, line: int, *, to_send: bool = False) -> dict[str, Any]:
    """Parse one request line with the standard library.

    Args:
        raw: The line.
        path: The file it is from.
        line: Its number.
        to_send: Whether it must have all that the service requires: a ``custom_id`` and a ``url``
            that are text. Otherwise a number is a ``custom_id`` too, and the ``url`` may be absent.

    Raises:
        LineError: If it is not a request.
    """
    try:
        value = load_line(raw.rstrip(b"\r\n"))
    except ValueError as error:
        raise LineError(str(error), path=path, line=line) from None
    if isinstance(value, dict) and is_result(value):
        hint = "pass the request files" if to_send else "read the file with read_results"
        raise LineError("a result, not a request", path=path, line=line, hint=hint)
    if problem := _problem(value, to_send=to_send):
        raise LineError(f"not a request: {problem}", path=path, line=line)
    request: dict[str, Any] = value
    return request


def _problem(value: Any, *, to_send: bool) -> str | None:
    if not isinstance(value, dict):
        return f"the line is {kind_of(value)}, not an object"
    if type(value.get("custom_id")) not in (str, int, float):
        return "it has no 'custom_id'"
    if not isinstance(value.get("body"), dict):
        return "it has no 'body' that is an object"
    missing = [n for n in ("custom_id", "url") if to_send and not isinstance(value.get(n), str)]
    return f"it has no {missing[0]!r} that is text" if missing else None


@contextmanager
def open_lines(path: Path) -> Iterator[Any]:
    """Open a file, plain or compressed, as an Arrow stream whose errors name it."""
    try:
        with open_stream(path) as stream:
            yield stream
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except OSError as error:
        raise LineError(f"cannot be read: {error}", path=path) from None


def has_bom(path: Path) -> bool:
    """Return whether a file, plain or compressed, begins with a byte order mark."""
    with open_lines(path) as stream:
        return bool(stream.read(len(BOM)) == BOM)


def _blocks(path: Path) -> Iterator[Block]:
    """Read blocks of whole lines; what follows the last one waits for more."""
    line, rest, is_first = _LongLine(), np.empty(0, np.uint8), True
    room = min(BLOCK, LEAST + 32 * path.stat().st_size)
    is_new = np.empty(room, np.bool_)
    with open_lines(path) as stream:
        while True:
            # All of one size, so that each can reuse the memory of an earlier one.
            data = np.empty(room, np.uint8)
            data[: len(rest)] = rest
            size = stream.readinto(data[len(rest) :].data)
            data = data[: len(rest) + size]
            if is_first:
                data = data[len(BOM) :] if data[: len(BOM)].tobytes() == BOM else data
                is_first = False
            found = np.equal(data, NEWLINE, out=is_new[: len(data)])
            cut = 0
            if line.size and (not size or found.any()):
                cut = int(found.argmax()) + 1 if found.any() else len(data)
                whole = line.end(data[:cut])
                yield whole, np.array([len(whole)]), 0
            for block, end in _whole_lines(data, found, cut):
                yield block
                cut = end
            rest = data[cut:]
            if not size:
                if len(rest):
                    yield rest, np.array([len(rest)]), 0
                return
            if len(rest) > room // 2:
                line.add(rest)
                rest = rest[:0]
            rest = rest.copy()


def _whole_lines(
    data: npt.NDArray[np.uint8], is_new: npt.NDArray[np.bool_], start: int
) -> Iterator[tuple[Block, int]]:
    """Yield the lines that end in a block, each time with the position after the last of them."""
    count = int(np.count_nonzero(is_new[start:]))
    if count and _is_blank(data[start:]):
        yield (data[:0], np.zeros(0, np.int64), count), len(data)
        return
    is_dense = count > len(data) // DENSE
    step = WINDOW if is_dense else max(len(data), 1)
    for first in range(start, len(data), step):
        found = is_new[first : first + step]
        stop = first + len(found)
        if is_dense and _is_blank(data[start:stop]):
            yield (data[:0], np.zeros(0, np.int64), int(np.count_nonzero(found))), stop
            start = stop
        elif len(ends := np.flatnonzero(found) + (first + 1)):
            end = int(ends[-1])
            yield (data[start:end], ends - start, 0), end
            start = end


class _LongLine:
    """A line that is longer than half a block, of which no more than can be read is kept."""

    def __init__(self) -> None:
        self.size = 0
        self._kept = bytearray()

    def add(self, data: npt.NDArray[np.uint8]) -> None:
        """Add what follows; blanks at the beginning are left out."""
        if self.size or not _is_blank(data):
            self.size += len(data)
            # It grows in its place, so that no second copy is needed.
            if self.size <= LONGEST:
                self._kept += data.data
            else:
                self._kept = bytearray()

    def end(self, data: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return the whole line, or what stands for it, and begin the next one."""
        self.add(data)
        line = self._kept or TOO_LONG + f"{self.size}\n".encode()
        self.size, self._kept = 0, bytearray()
        return np.frombuffer(line, np.uint8)


def _text(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> pa.Array:
    buffers = [None, pa.py_buffer(np.ascontiguousarray(offsets)), pa.py_buffer(data)]
    return pa.Array.from_buffers(TEXT, len(offsets) - 1, buffers)


def _is_blank(data: npt.NDArray[np.uint8]) -> bool:
    """Return whether all is white space, as soon as something is not."""
    return all(part.all() for part in _are_white(data))


def _are_white(data: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.bool_]]:
    """Yield which bytes are white space, for so many at a time that they stay in cache."""
    for start in range(0, len(data), WINDOW):
        part = data[start : start + WINDOW]
        yield (part == 0x20) | (part == 0x09) | (part == 0x0D) | (part == NEWLINE)


def _are_blank(
    data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Return which lines hold nothing but white space."""
    if len(offsets) == 2:
        return np.array([_is_blank(data)])
    are_blank = np.concatenate(list(_are_white(data[offsets[:-1]])))
    # Few lines even begin with white space.
    if are_blank.any():
        are_blank = np.logical_and.reduceat(np.concatenate(list(_are_white(data))), offsets[:-1])
    return are_blank
