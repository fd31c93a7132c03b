"""Write, read, check and mark JSON text, and write floats, dates and times as JSON has them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.arrow.text import NULL, TEXT, constant, first, join
from batch_frames.errors import CellError, ColumnError

__all__ = [
    "INT64_END",
    "CheckedText",
    "JsonText",
    "check_json",
    "compact",
    "dumps",
    "load_text",
    "without_lone_surrogates",
    "write_floats",
    "write_moments",
]


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


class CheckedText(Mark):
    """Mark a column whose every value is known to be UTF-8."""

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
    return _encoder(default, allow_nan).encode(value)


@lru_cache
def _encoder(default: Callable[[Any], Any] | None, allow_nan: bool) -> json.JSONEncoder:
    """Make an encoder once, which costs more than to write a short value."""
    separators = (",", ":")
    return json.JSONEncoder(
        ensure_ascii=False, separators=separators, allow_nan=allow_nan, default=default
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


ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(?P<lone>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
"""Any escape in a JSON string, by which the lone surrogates among them are found."""


def without_lone_surrogates(text: str) -> str:
    """Replace each escape of a lone surrogate in JSON text by that of U+FFFD."""
    if r"\u" not in text:
        return text
    return ESCAPE.sub(lambda found: r"\ufffd" if found["lone"] else found[0], text)


def load_text(text: str, *, exact: bool = False) -> Any:
    """Parse JSON text with the standard library; a lone surrogate becomes U+FFFD.

    Args:
        text: The text.
        exact: Whether to refuse NaN, Infinity and -Infinity.

    Raises:
        ValueError: If it is not JSON, or nested too deep; the message says which.
    """
    try:
        return (EXACT if exact else LENIENT).decode(without_lone_surrogates(text))
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


def _refuse(name: str) -> float:
    raise ValueError(f"not JSON: {name} is no number of JSON's")


LENIENT = json.JSONDecoder(parse_int=_whole_number)

EXACT = json.JSONDecoder(parse_int=_whole_number, parse_constant=_refuse)


INT64_END = 2.0**63

SMALL = 1e-4
"""Below this, Python writes exponents."""


def write_floats(array: pa.Array) -> pa.Array:
    """Write each float; whole ones below 2^63 as integers.

    Returns:
        A ``large_string`` array.

    Raises:
        CellError: If a value is NaN or an infinity.

    Example:
        >>> write_floats(pa.array([3.0, 0.1, None])).to_pylist()
        ['3', '0.1', None]
    """
    finite = pc.is_finite(array.cast(pa.float64()))
    if (index := first(finite, False)) is not None:
        raise CellError(index, f"is {array[index].as_py()!r}, which JSON cannot hold")
    if pa.types.is_float16(array.type):
        shortest = np.asarray(array.cast(pa.float32()).fill_null(0)).astype(np.float16).astype("U")
        text = pc.if_else(array.is_valid(), pa.array(shortest.tolist(), TEXT), NULL)
    else:
        text = _without_exponents(array.cast(TEXT), array)
    values = array.cast(pa.float64())
    small = pc.less(pc.abs(values), INT64_END)
    whole = pc.and_(small, pc.equal(pc.floor(values), values))
    if not pc.any(whole, min_count=0).as_py():
        return text
    return pc.if_else(whole, pc.if_else(whole, values, 0.0).cast(pa.int64()).cast(TEXT), text)


def _without_exponents(text: pa.Array, array: pa.Array) -> pa.Array:
    """Write as Python does where Arrow begins elsewhere with exponents, or spells them shorter."""
    if not pa.types.is_float64(array.type):
        return text
    other = pc.or_(pc.match_substring(text, "e"), pc.less(pc.abs(array), SMALL)).fill_null(False)
    if not pc.any(other, min_count=0).as_py():
        return text
    written = pa.array([repr(value) for value in array.filter(other).to_pylist()], TEXT)
    return pc.replace_with_mask(text, other, written)


TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def write_moments(array: pa.Array) -> pa.Array:
    """Write dates, times and timestamps; the fraction has no, six or nine digits, as it needs.

    Returns:
        A ``large_string`` array; timestamps have ``T`` and, with a zone, its offset from UTC.

    Raises:
        ColumnError: If the type is a duration or an interval.

    Example:
        >>> write_moments(pa.array([90_000], pa.timestamp("ms", "Europe/Berlin"))).to_pylist()
        ['1970-01-01T01:01:30+01:00']
    """
    kind = array.type
    if pa.types.is_date(kind):
        days = array.cast(pa.date32(), safe=False)
        if (index := first(pc.equal(days.cast(kind), array), False)) is not None:
            raise CellError(index, "is a date with a time of day")
        return _in_range(days.cast(TEXT))
    if pa.types.is_timestamp(kind):
        return _timestamps(array)
    if pa.types.is_time(kind):
        return _as_python(array.cast(TEXT), kind.unit)
    problem = f"holds {kind} values, which JSON cannot hold"
    raise ColumnError(problem, hint="make them numbers or text")


def _timestamps(array: pa.Array) -> pa.Array:
    unit, zone = array.type.unit, constant("")
    if array.type.tz is not None:
        minutes = _minutes_from_utc(array)
        ticks = pc.add(array.cast(pa.int64()), pc.multiply(minutes, 60 * TICKS[unit]))
        array, zone = ticks.cast(pa.timestamp(unit)), _zone_text(minutes)
    text = pc.replace_substring(_in_range(array.cast(TEXT)), " ", "T")
    return join([_as_python(text, unit), zone])


def _as_python(text: pa.Array, unit: str) -> pa.Array:
    """Write fractions of a second with no, six or nine digits; Arrow has those of the unit."""
    if unit == "ns":
        return pc.replace_substring_regex(text, r"(\.000000)?000$", "")
    if unit == "ms":
        text = join([text, constant("000")])
    return pc.replace_substring(text, ".000000", "")


def _in_range(text: pa.Array) -> pa.Array:
    """Refuse what Arrow writes in place of a date that no calendar has."""
    if (index := first(pc.starts_with(text, "<"))) is not None:
        raise CellError(index, "is a date out of range")
    return text


def _minutes_from_utc(array: pa.Array) -> pa.Array:
    """Find the offset of each moment through pandas, which brings its own time zones."""
    local: Any = array.to_pandas()
    try:
        minutes = (local.dt.tz_localize(None) - local.dt.tz_convert("UTC").dt.tz_localize(None)).dt
    except OverflowError:
        problem = f"holds a moment that {array.type.tz} has no date for"
        raise ColumnError(problem, hint="make the dates text first") from None
    return pa.array(minutes.total_seconds() // 60, pa.int64(), from_pandas=True)


def _zone_text(minutes: pa.Array) -> pa.Array:
    zones = minutes.dictionary_encode()
    texts = [
        f"{'-' if m < 0 else '+'}{abs(m) // 60:02}:{abs(m) % 60:02}"
        for m in zones.dictionary.to_pylist()
    ]
    return pa.array(texts, TEXT).take(zones.indices)
