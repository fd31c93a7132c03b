"""Write, check and mark JSON text."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from batch_frames.arrow.text import TEXT
from batch_frames.errors import CellError

__all__ = ["JsonText", "PythonText", "check_json", "compact", "dumps"]


class Mark(pa.ExtensionType):  # type: ignore[misc]
    """Base class of types that mark a text column; they never leave the process."""

    name: str

    def __init__(self) -> None:
        super().__init__(TEXT, self.name)

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> Mark:
        return cls()


class JsonText(Mark):
    """Mark a column whose every value already is JSON."""

    name = "batch_frames.json"


class PythonText(Mark):
    """Mark a column made of Python strings: it needs no check of its UTF-8."""

    name = "batch_frames.text"


def dumps(
    value: Any, *, default: Callable[[Any], Any] | None = None, allow_nan: bool = False
) -> str:
    """Write a Python value as compact JSON.

    Args:
        value: The value.
        default: Converts what ``json`` does not know, as in ``json.dumps``.
        allow_nan: Whether to write NaN and infinities, which are not JSON, as ``json.dumps`` does.

    Raises:
        ValueError: If it contains NaN or an infinity.

    Example:
        >>> dumps({"stop": ["é", None]})
        '{"stop":["é",null]}'
    """
    separators = (",", ":")
    return json.dumps(
        value, ensure_ascii=False, separators=separators, allow_nan=allow_nan, default=default
    )


def compact(storage: pa.Array) -> pa.Array:
    """Write JSON of another program as ``dumps`` would, but with all digits of its numbers.

    Raises:
        CellError: For the first value that is not JSON.

    Example:
        >>> compact(pa.array(['{"a": 1.00000000000000000001}'])).to_pylist()
        ['{"a":1.00000000000000000001}']
    """
    rows: list[str | None] = []
    for index, row in enumerate(storage.to_pylist()):
        try:
            rows.append(None if row is None else _compact(row))
        except (ValueError, RecursionError) as error:
            raise CellError(index, f"is not JSON: {error}") from None
    return pa.array(rows, TEXT)


def _compact(text: str) -> str:
    check_json(text)
    text = re.sub(r'[ \t\r\n]+|"(?:[^"\\]|\\.)*"', _rewritten, text)
    text.encode()
    return text


def _rewritten(token: re.Match[str]) -> str:
    """Leave out blanks, and write a string without needless escapes."""
    text = token[0]
    if "\\" in text:
        return dumps(json.loads(text))
    return text if text[0] == '"' else ""


def check_json(text: str) -> None:
    """Check that text is JSON, without two equal keys in an object, NaN, or too large numbers.

    Raises:
        ValueError: If not.

    Example:
        >>> check_json('{"1": "a", "1": "b"}')
        Traceback (most recent call last):
        ...
        ValueError: an object has the key '1' twice
    """
    json.loads(
        text,
        object_pairs_hook=_keys_once,
        parse_constant=_finite,
        parse_float=_finite,
        parse_int=str,
    )


def _keys_once(pairs: Sequence[tuple[str, Any]]) -> None:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object has the key {twice!r} twice")


def _finite(number: str) -> None:
    if not math.isfinite(float(number)):
        raise ValueError(f"JSON cannot hold {number}")
