"""Turn Arrow arrays into JSON text, a whole column at a time."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.errors import CellError, ColumnError
from batch_frames.floats import write_floats
from batch_frames.marks import JsonText, PythonText
from batch_frames.moments import write_moments
from batch_frames.nested import write_nested
from batch_frames.text import NULL, TEXT, check_utf8, constant, escape, join

__all__ = [
    "JsonText",
    "PythonText",
    "dumps",
    "is_plain",
    "read_type",
    "to_ids",
    "to_json",
    "to_prompt",
    "to_text",
]


def dumps(value: Any) -> str:
    """Write one constant as compact JSON.

    Example:
        >>> dumps({"stop": ["é", None]})
        '{"stop":["é",null]}'
    """
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def to_json(array: pa.Array) -> pa.Array:
    """Write each value as JSON: text in quotes, numbers bare, lists and structs nested.

    Args:
        array: Any Arrow array but binary, durations and intervals.

    Returns:
        A ``large_string`` array, null where the value is null.

    Raises:
        ColumnError: If JSON cannot hold the type.
        CellError: If it cannot hold one of the values: NaN, an infinity, invalid UTF-8.

    Example:
        >>> to_json(pa.array([[1.0, 0.5], None])).to_pylist()
        ['[1,0.5]', None]
    """
    array = _plain(array)
    kind = array.type
    if isinstance(kind, JsonText):
        return array.storage
    if pa.types.is_dictionary(kind):
        return _categories(array, to_json)
    if _is_nested(kind):
        return write_nested(array, to_json, to_text)
    bare = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    text = to_text(array)
    return text if bare else _quoted(text)


def to_text(array: pa.Array) -> pa.Array:
    """Write each value as it stands inside a JSON string: escaped, without the quotes.

    Takes and raises what ``to_json`` does; lists and structs become their JSON, escaped.

    Example:
        >>> to_text(pa.array([True, None])).to_pylist()
        ['true', None]
    """
    array = _plain(array)
    kind = array.type
    if isinstance(kind, PythonText):
        return escape(array.storage)
    if _is_text(kind):
        return escape(array.cast(TEXT), check=True)
    if pa.types.is_dictionary(kind):
        return _categories(array, to_text)
    if pa.types.is_floating(kind):
        return write_floats(array)
    if pa.types.is_temporal(kind):
        return write_moments(array)
    if pa.types.is_decimal(kind):
        return array.cast(pa.string()).cast(TEXT)
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return array.cast(TEXT)
    if isinstance(kind, JsonText):
        return _inside_quotes(array.storage)
    if _is_extension(kind, "arrow.uuid"):
        return _uuids(array.storage)
    if _is_nested(kind):
        return escape(to_json(array))
    raise ColumnError(f"holds {kind} values, which JSON cannot hold; make them text first")


def to_prompt(array: pa.Array) -> pa.Array:
    """Write each value as a JSON string, but lists and structs as what they are.

    Takes and raises what ``to_json`` does.

    Example:
        >>> to_prompt(pa.array([5, None])).to_pylist()
        ['"5"', None]
    """
    array = _plain(array)
    if isinstance(array.type, JsonText):
        text = array.storage
        bare = pc.invert(pc.match_substring_regex(text, r'^["\[{]'))
        return pc.if_else(bare, _quoted(text), text)
    return to_json(array) if _is_nested(array.type) else _quoted(to_text(array))


def to_ids(array: pa.Array) -> pa.Array:
    """Write each id as plain text, unescaped: text, whole numbers, dates, decimals, UUIDs.

    Raises:
        ColumnError: If ids cannot be of this type.
        CellError: If a value is a float, nested or not valid UTF-8.
    """
    array = _plain(array)
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _categories(array, to_ids)
    if _is_text(kind):
        return _checked(array)
    if isinstance(kind, JsonText):
        return _json_ids(array.storage)
    if pa.types.is_floating(kind) and len(array) > array.null_count:
        first = int(pc.index(array.is_valid(), pa.scalar(True)).as_py())
        raise CellError(first, f"is the float {array[first].as_py()!r}; {_ID_ADVICE}")
    if pa.types.is_boolean(kind) or _is_nested(kind):
        raise ColumnError(f"holds {kind} values; {_ID_ADVICE}")
    return to_text(array)


_ID_ADVICE = "an id must be text or a whole number"


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
    array = _plain(array)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if isinstance(array.type, JsonText):
        array = _inside_quotes(array.storage)
    if not _is_text(array.type):
        return array
    trimmed = pc.utf8_trim_whitespace(_checked(array))
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


def _plain(array: pa.Array) -> pa.Array:
    """Take away what only says how values are kept: views, runs, booleans of eight bits."""
    kind = array.type
    if pa.types.is_run_end_encoded(kind):
        return _plain(pc.run_end_decode(array))
    if pa.types.is_string_view(kind):
        return array.cast(TEXT)
    if _is_extension(kind, "arrow.bool8"):
        return array.storage.cast(pa.bool_())
    if _is_extension(kind, "arrow.json"):
        return pa.ExtensionArray.from_storage(JsonText(), _compact(array.storage))
    if pa.types.is_dictionary(kind) and pa.types.is_string_view(kind.value_type):
        return pa.DictionaryArray.from_arrays(array.indices, array.dictionary.cast(TEXT))
    return array


def _casts(array: pa.Array, target: pa.DataType) -> bool:
    try:
        array.cast(target)
    except pa.ArrowInvalid:
        return False
    return True


def _quoted(text: pa.Array) -> pa.Array:
    return join([constant('"'), text, constant('"')])


def is_plain(kind: pa.DataType) -> bool:
    """Tell whether every value of a type is one word or text, neither list, struct nor JSON."""
    is_json = isinstance(kind, JsonText) or _is_extension(kind, "arrow.json")
    return not is_json and not _is_nested(kind)


def _is_text(kind: pa.DataType) -> bool:
    is_ours = isinstance(kind, PythonText)
    return bool(is_ours or pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _checked(array: pa.Array) -> pa.Array:
    if isinstance(array.type, PythonText):
        return array.storage
    text = array.cast(TEXT)
    check_utf8(text)
    return text


def _is_nested(kind: pa.DataType) -> bool:
    return bool(pa.types.is_nested(kind) and not pa.types.is_union(kind))


def _is_extension(kind: pa.DataType, name: str) -> bool:
    return isinstance(kind, pa.BaseExtensionType) and kind.extension_name == name


def _categories(array: pa.Array, write: Callable[[pa.Array], pa.Array]) -> pa.Array:
    """Write each category once, unless one fails: then the rows tell which of them has it."""
    if len(array.dictionary) <= len(array):
        with contextlib.suppress(CellError):
            return write(array.dictionary).take(array.indices)
    return write(array.dictionary_decode())


def _uuids(storage: pa.Array) -> pa.Array:
    digits = storage.cast(pa.binary()).to_pylist()
    texts = [None if d is None else d.hex() for d in digits]
    pieces = [[None if t is None else t[a:b] for t in texts] for a, b in _UUID_GROUPS]
    return join([pa.array(piece, TEXT) for piece in pieces], "-")


_UUID_GROUPS = ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))


def _compact(storage: pa.Array) -> pa.Array:
    """Rewrite JSON of another program row by row: it may hold line ends between its parts."""
    rows: list[str | None] = []
    for index, row in enumerate(storage.to_pylist()):
        try:
            rows.append(None if row is None else dumps(json.loads(row)))
            (rows[-1] or "").encode()
        except (ValueError, RecursionError) as error:
            raise CellError(index, f"is not JSON: {error}") from None
    return pa.array(rows, TEXT)


def _inside_quotes(json_text: pa.Array) -> pa.Array:
    """Take strings out of their quotes and escape all other JSON as text."""
    quoted = pc.starts_with(json_text, '"')
    inner = pc.utf8_slice_codeunits(json_text, 1, -1)
    return pc.if_else(quoted, inner, escape(json_text))


def _json_ids(json_text: pa.Array) -> pa.Array:
    good = pc.match_substring_regex(json_text, '^(".*"|-?[0-9]+)$')
    if not pc.all(good, min_count=0).as_py():
        index = int(pc.index(good, pa.scalar(False)).as_py())
        raise CellError(index, f"is {json_text[index].as_py()}; {_ID_ADVICE}")
    loaded = (None if row is None else json.loads(row) for row in json_text.to_pylist())
    return pa.array([None if value is None else str(value) for value in loaded], TEXT)
