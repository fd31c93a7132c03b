"""Read ``.jsonl`` files, in pieces as text columns of their lines, or a line at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batch_frames.arrow import TEXT
from batch_frames.errors import LineError

__all__ = [
    "Lines",
    "has_bom",
    "is_request",
    "is_result",
    "kind_of",
    "load_exactly",
    "load_line",
    "load_request",
    "load_text",
    "open_lines",
    "read_lines",
    "without_lone_surrogates",
]


BLOCK = 16 << 20

ROWS = 50_000

BOM = b"\xef\xbb\xbf"

NEWLINE = 0x0A

Block = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


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
    """Read a file, plain or gzip, in pieces of at most 50,000 lines or about 16 MB.

    Only ``\\n`` ends a line, as JSON strings may contain U+2028 and the like unescaped.

    Args:
        path: The file. A byte order mark and blank lines are skipped.

    Raises:
        OSError: If it is not there, or may not be read.
        LineError: If reading fails otherwise, as in a damaged gzip file.
    """
    number = 1
    for data, ends in _blocks(path):
        offsets = np.concatenate(([0], ends))
        for start in range(0, len(ends), ROWS):
            part = offsets[start : start + ROWS + 1]
            text = _text(data, part)
            numbers = np.arange(number, number + len(text))
            number += len(text)
            yield _without_blanks(Lines(path, text, numbers), data, part)


ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(?P<lone>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
"""Any escape in a JSON string, by which the lone surrogates among them are found."""


def load_line(raw: bytes) -> Any:
    """Parse one line with the standard library.

    A lone surrogate becomes U+FFFD, and a byte order mark at the beginning is passed over, as files
    that were put together have it.

    Raises:
        ValueError: If it is not JSON, not UTF-8, or nested too deep; the message says which.
    """
    return load_text(_decoded(raw.removeprefix(BOM)))


def load_exactly(raw: bytes) -> Any:
    """Parse one line as ``load_line`` does, but refuse NaN, infinities and a byte order mark.

    Raises:
        ValueError: If it is not JSON; the message says why.
    """
    return load_text(_decoded(raw), constant=_refuse)


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start:,}") from None


def _refuse(name: str) -> float:
    raise ValueError(f"not JSON: {name} is no number of JSON's")


def without_lone_surrogates(text: str) -> str:
    """Replace each escape of a lone surrogate in JSON text by that of U+FFFD."""
    if r"\u" not in text:
        return text
    return ESCAPE.sub(lambda found: r"\ufffd" if found["lone"] else found[0], text)


def load_text(text: str, *, constant: Callable[[str], float] = float) -> Any:
    """Parse JSON text with the standard library; a lone surrogate becomes U+FFFD.

    Args:
        text: The text.
        constant: What makes numbers of NaN, Infinity and -Infinity; it may raise.

    Raises:
        ValueError: If it is not JSON, or nested too deep; the message says which.
    """
    try:
        text = without_lone_surrogates(text)
        return json.loads(text, parse_int=_whole_number, parse_constant=constant)
    except json.JSONDecodeError as error:
        problem = f"{error.msg.removesuffix(' at')} at character {error.pos:,}"
    except RecursionError:
        problem = "nested too deep"
    raise ValueError(f"not JSON: {problem}")


def _whole_number(digits: str) -> float:
    """Read a whole number; one of too many digits for Python is infinite, as a float would be."""
    try:
        return int(digits)
    except ValueError:
        return float(digits)


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
        with pa.input_stream(str(path), compression="detect") as stream:
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
    """Read blocks of whole lines with the positions after their ends; the rest waits for more."""
    rest, is_new = np.empty(0, np.uint8), np.empty(0, np.bool_)
    is_first = True
    with open_lines(path) as stream:
        while True:
            # All of one size, so that each can reuse the memory of an earlier one.
            data = np.empty(max(BLOCK, 2 * len(rest)), np.uint8)
            data[: len(rest)] = rest
            size = stream.readinto(data[len(rest) :].data)
            data = data[: len(rest) + size]
            if is_first:
                data = data[len(BOM) :] if data[: len(BOM)].tobytes() == BOM else data
                is_first = False
            if len(is_new) < len(data):
                # One array for all blocks: a fresh one each time costs more than the comparison.
                is_new = np.empty(len(data) + BLOCK // 8, np.bool_)
            np.equal(data, NEWLINE, out=is_new[: len(data)])
            ends = np.flatnonzero(is_new[: len(data)]) + 1
            cut = int(ends[-1]) if len(ends) else 0
            if not size and cut < len(data):
                cut = len(data)
                ends = np.append(ends, cut)
            if cut:
                yield data[:cut], ends
            if not size:
                return
            rest = data[cut:].copy()


def _text(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> pa.Array:
    buffers = [None, pa.py_buffer(np.ascontiguousarray(offsets)), pa.py_buffer(data)]
    return pa.Array.from_buffers(TEXT, len(offsets) - 1, buffers)


def _without_blanks(
    lines: Lines, data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]
) -> Lines:
    # Only a line that begins with white space can be blank, and few do.
    suspects = np.flatnonzero(np.isin(data[offsets[:-1]], list(b" \t\r\n")))
    blank = [index for index in suspects if not lines.raw(int(index)).strip(b" \t\r")]
    if not blank:
        return lines
    keep = np.ones(len(lines.numbers), np.bool_)
    keep[blank] = False
    return Lines(lines.path, lines.text.filter(pa.array(keep)), lines.numbers[keep])
