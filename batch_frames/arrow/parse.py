"""Read text columns as numbers, and any column as ids."""

from __future__ import annotations

import contextlib
import json

import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.arrow.encode import (
    by_category,
    checked,
    inside_quotes,
    is_nested,
    is_text_type,
    plain,
    to_text,
)
from batch_frames.arrow.json_text import JsonText, write_floats
from batch_frames.arrow.text import NULL, TEXT, first
from batch_frames.errors import CellError, ColumnError

__all__ = ["read_type", "to_ids"]


def to_ids(array: pa.Array) -> pa.Array:
    """Write each id as plain text, unescaped: text, whole numbers, dates, decimals, UUIDs.

    Raises:
        ColumnError: If ids cannot be of this type.
        CellError: If a value is a float, nested or not valid UTF-8.
    """
    array = plain(array)
    kind = array.type
    if pa.types.is_dictionary(kind):
        return by_category(array, to_ids)
    if is_text_type(kind):
        return checked(array)
    if isinstance(kind, JsonText):
        return _json_ids(array.storage)
    if pa.types.is_floating(kind) and (index := first(array.is_valid())) is not None:
        value = array[index].as_py()
        advice = _WHOLE_ADVICE if float(value).is_integer() else _ID_ADVICE
        raise CellError(index, f"is the float {value!r}; {advice}")
    if pa.types.is_boolean(kind) or is_nested(kind):
        raise ColumnError(f"holds {kind} values", hint=_ID_ADVICE)
    return to_text(array)


_ID_ADVICE = "an id must be text, a whole number, a date, a decimal or a UUID"

_WHOLE_ADVICE = 'make them whole numbers, in pandas with .astype("Int64")'


def read_type(array: pa.Array, kind: str) -> pa.Array:
    """Read a text column as numbers, integers or booleans; other columns pass through.

    Args:
        array: Any Arrow array.
        kind: ``"number"``, ``"integer"`` or ``"boolean"``.

    Raises:
        CellError: For the first value that is none.

    Example:
        >>> read_type(pa.array(["2", " -5", None]), "integer").to_pylist()
        [2, -5, None]
    """
    array = plain(array)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if isinstance(array.type, JsonText):
        array = inside_quotes(array.storage)
    if not is_text_type(array.type):
        return array
    trimmed = pc.utf8_trim_whitespace(checked(array))
    # A sign is fine, but Arrow would read hexadecimal digits too.
    decimal = pc.if_else(pc.match_substring(trimmed, "0x", ignore_case=True), "no", trimmed)
    unsigned = pc.replace_substring_regex(decimal, r"^\+", "")
    if kind == "integer":
        # As pandas writes whole numbers among missing ones.
        unsigned = pc.replace_substring_regex(unsigned, r"^(-?[0-9]+)\.0*$", r"\1")
    target = {"number": pa.float64(), "integer": pa.int64(), "boolean": pa.bool_()}[kind]
    with contextlib.suppress(pa.ArrowInvalid):
        return _numbers(unsigned) if kind == "number" else unsigned.cast(target)
    index = next(i for i in range(len(array)) if not _casts(unsigned.slice(i, 1), target))
    article = "an" if kind == "integer" else "a"
    raise CellError(index, f"is {array[index].as_py()!r}, not {article} {kind}")


def _numbers(text: pa.Array) -> pa.Array:
    """Read whole numbers and others apart, so that neither takes a digit from the other."""
    whole = pc.match_substring_regex(text, r"^(0|-?[1-9][0-9]*)$")
    integers = pc.if_else(whole, text, NULL)
    floats = write_floats(pc.if_else(whole, NULL, text).cast(pa.float64()))
    return pa.ExtensionArray.from_storage(JsonText(), pc.coalesce(integers, floats))


def _casts(array: pa.Array, target: pa.DataType) -> bool:
    try:
        array.cast(target)
    except pa.ArrowInvalid:
        return False
    return True


def _json_ids(json_text: pa.Array) -> pa.Array:
    good = pc.match_substring_regex(json_text, '^(".*"|-?[0-9]+)$')
    if (index := first(good, False)) is not None:
        raise CellError(index, f"is {json_text[index].as_py()}; {_ID_ADVICE}")
    loaded = (
        None if row is None else json.loads(row, parse_int=str) for row in json_text.to_pylist()
    )
    return pa.array([None if value is None else str(value) for value in loaded], TEXT)
