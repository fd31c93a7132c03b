"""Turn Arrow arrays into JSON text, a whole column at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.arrow.json_text import (
    CheckedText,
    JsonText,
    compact,
    dumps,
    write_floats,
    write_moments,
)
from batch_frames.arrow.text import NULL, TEXT, check_utf8, constant, escape, first, join
from batch_frames.errors import CellError, ColumnError

__all__ = [
    "by_category",
    "check_type",
    "checked",
    "decode_runs",
    "inside_quotes",
    "is_nested",
    "is_plain",
    "is_text_type",
    "mark_checked",
    "plain",
    "to_json",
    "to_prompt",
    "to_text",
]


Write = Callable[[pa.Array], pa.Array]


def _nested(array: pa.Array) -> pa.Array:
    """Write lists as JSON arrays, structs and maps as JSON objects."""
    kind = array.type
    if len(array) and array.null_count == len(array):
        return pa.nulls(len(array), TEXT)
    if pa.types.is_struct(kind):
        text = _struct(array)
    elif pa.types.is_map(kind):
        pair = pa.struct([("key", kind.key_type), ("value", kind.item_type)])
        lists = array.cast(pa.list_(pair))
        _refuse_equal_keys(lists)
        text = _list(lists, _pairs, "{}")
    else:
        text = _list(array, _or_null, "[]")
    return pc.if_else(array.is_valid(), text, NULL) if array.null_count else text


def _or_null(values: pa.Array) -> pa.Array:
    return to_json(values).fill_null("null")


def _pairs(entries: pa.Array) -> pa.Array:
    keys, values = (pc.struct_field(entries, [position]) for position in (0, 1))
    return join([constant('"'), to_text(keys), constant('":'), _or_null(values)])


def _refuse_equal_keys(maps: pa.Array) -> None:
    """Refuse maps with keys that are missing, or equal once they are text."""
    keys = to_text(pc.struct_field(pc.list_flatten(maps), [0]))
    pairs = pa.table({"row": pc.list_parent_indices(maps), "key": keys})
    found = pairs.group_by(["row", "key"], use_threads=False).aggregate([([], "count_all")])
    wrong = pc.or_(pc.greater(found["count_all"], 1), pc.is_null(found["key"]))
    if (index := first(wrong)) is not None:
        raise CellError(found["row"][index].as_py(), "holds a map with a key twice or missing")


def _struct(array: pa.Array) -> pa.Array:
    if not array.type.num_fields:
        return pa.array(np.full(len(array), "{}", object), TEXT)
    pieces: list[Any] = []
    names = [field.name for field in array.type]
    if len(set(names)) < len(names):
        raise ColumnError("holds structs with two fields of one name", hint="rename one")
    for position, name in enumerate(map(dumps, names)):
        value = _or_null(pc.struct_field(array, [position]))
        pieces += [constant(f",{name}:" if position else f"{{{name}:"), value]
    return join([*pieces, constant("}")])


def _list(array: pa.Array, write: Write, brackets: str) -> pa.Array:
    lengths = np.asarray(pc.list_value_length(array).fill_null(0)).astype(np.int64)
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    try:
        children = write(pc.list_flatten(array))
    except CellError as error:
        row = int(np.searchsorted(offsets, error.index, "right")) - 1
        raise CellError(row, f"holds a value that {error.problem}") from None
    lists = pa.LargeListArray.from_arrays(pa.array(offsets), children)
    text = pc.binary_join(lists, constant(","))
    return join([constant(brackets[0]), text, constant(brackets[1])])


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
    array = plain(array)
    kind = array.type
    if isinstance(kind, JsonText):
        return array.storage
    if pa.types.is_dictionary(kind):
        return by_category(array, to_json)
    if is_nested(kind):
        return _nested(array)
    bare = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    text = to_text(array)
    return text if bare else _quoted(text)


def to_text(array: pa.Array) -> pa.Array:
    """Write each value as it is inside a JSON string: escaped, without the quotes.

    Takes and raises what ``to_json`` does; lists and structs become their JSON, escaped.

    Example:
        >>> to_text(pa.array([True, None])).to_pylist()
        ['true', None]
    """
    array = plain(array)
    kind = array.type
    if isinstance(kind, CheckedText):
        return escape(array.storage)
    if is_text_type(kind):
        return escape(array.cast(TEXT), check=True)
    if pa.types.is_dictionary(kind):
        return by_category(array, to_text)
    if pa.types.is_floating(kind):
        return write_floats(array)
    if pa.types.is_temporal(kind):
        return write_moments(array)
    if pa.types.is_decimal(kind):
        return array.cast(pa.string()).cast(TEXT)
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return array.cast(TEXT)
    if isinstance(kind, JsonText):
        return inside_quotes(array.storage)
    if _is_extension(kind, "arrow.uuid"):
        return _uuids(array.storage)
    if is_nested(kind):
        return escape(to_json(array))
    raise _formless(kind)


def to_prompt(array: pa.Array) -> pa.Array:
    """Write each value as a JSON string, but lists and structs as what they are.

    Takes and raises what ``to_json`` does.

    Example:
        >>> to_prompt(pa.array([5, None])).to_pylist()
        ['"5"', None]
    """
    array = plain(array)
    if isinstance(array.type, JsonText):
        text = array.storage
        bare = pc.invert(pc.match_substring_regex(text, r'^["\[{]'))
        return pc.if_else(bare, _quoted(text), text)
    return to_json(array) if is_nested(array.type) else _quoted(to_text(array))


def plain(array: pa.Array) -> pa.Array:
    """Take away what only says how values are kept: views, runs, booleans of eight bits."""
    kind = array.type
    if pa.types.is_run_end_encoded(kind):
        return decode_runs(array, plain(array.values))
    if pa.types.is_string_view(kind):
        return array.cast(TEXT)
    if _is_extension(kind, "arrow.bool8"):
        return array.storage.cast(pa.bool_())
    if _is_extension(kind, "arrow.json"):
        return pa.ExtensionArray.from_storage(JsonText(), compact(array.storage))
    if pa.types.is_dictionary(kind) and pa.types.is_string_view(kind.value_type):
        return pa.DictionaryArray.from_arrays(array.indices, array.dictionary.cast(TEXT))
    return array


def decode_runs(array: pa.Array, values: pa.Array) -> pa.Array:
    """Repeat the value of each run, as Arrow does for few types."""
    rows = np.arange(array.offset, array.offset + len(array))
    return values.take(pa.array(np.searchsorted(array.run_ends, rows, "right")))


def check_type(kind: pa.DataType) -> None:
    """Check that values of a type can be JSON, whatever they are.

    Raises:
        ColumnError: If not, or if Arrow cannot do what is necessary for it.

    Example:
        >>> check_type(pa.duration("s"))
        Traceback (most recent call last):
        ...
        batch_frames.errors.ColumnError: holds duration[s] values, which JSON cannot hold; make \
them numbers or text
    """
    # Some types of extensions have no hash.
    (_check if isinstance(kind, pa.BaseExtensionType) else _check_once)(kind)


def _check(kind: pa.DataType) -> None:
    nothing = pa.nulls(0, kind)
    if _has_coded_runs(kind):
        raise _formless(kind)
    try:
        to_json(nothing)
        if is_nested(kind):
            nothing.filter(pa.array([], pa.bool_()))
    except pa.ArrowException:
        raise _formless(kind) from None


def _has_coded_runs(kind: pa.DataType, *, is_coded: bool = False) -> bool:
    """Return whether there are runs inside a dictionary, of which Arrow can take no values."""
    is_runs = pa.types.is_run_end_encoded(kind)
    if pa.types.is_dictionary(kind) or is_runs:
        inside = is_coded or not is_runs
        return (is_runs and is_coded) or _has_coded_runs(kind.value_type, is_coded=inside)
    fields = (kind.field(number) for number in range(kind.num_fields))
    return any(_has_coded_runs(field.type, is_coded=is_coded) for field in fields)


_check_once = lru_cache(_check)


def _formless(kind: pa.DataType) -> ColumnError:
    return ColumnError(f"holds {kind} values, which JSON cannot hold", hint="make them text first")


def _quoted(text: pa.Array) -> pa.Array:
    return join([constant('"'), text, constant('"')])


def is_plain(kind: pa.DataType) -> bool:
    """Return whether values of a type are scalars or text, and not lists, structs or JSON."""
    is_json = isinstance(kind, JsonText) or _is_extension(kind, "arrow.json")
    return not is_json and not is_nested(kind)


def is_text_type(kind: pa.DataType) -> bool:
    """Return whether a type is text, marked or not."""
    is_marked = isinstance(kind, CheckedText)
    return bool(is_marked or pa.types.is_string(kind) or pa.types.is_large_string(kind))


def checked(array: pa.Array) -> pa.Array:
    """Return text as large strings whose bytes are known to be UTF-8."""
    if isinstance(array.type, CheckedText):
        return array.storage
    text = array.cast(TEXT)
    check_utf8(text)
    return text


def mark_checked(array: pa.Array) -> pa.Array:
    """Mark text that is UTF-8, so that it is not checked again; all else is returned as it is."""
    if is_text_type(array.type):
        with contextlib.suppress(CellError):
            return pa.ExtensionArray.from_storage(CheckedText(), checked(array))
    return array


def is_nested(kind: pa.DataType) -> bool:
    """Return whether a type is a list, struct or map, of which JSON can be made."""
    return bool(pa.types.is_nested(kind) and not pa.types.is_union(kind))


def _is_extension(kind: pa.DataType, name: str) -> bool:
    return isinstance(kind, pa.BaseExtensionType) and kind.extension_name == name


def by_category(array: pa.Array, write: Write) -> pa.Array:
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


def inside_quotes(json_text: pa.Array) -> pa.Array:
    """Take strings out of their quotes and escape all other JSON as text."""
    quoted = pc.starts_with(json_text, '"')
    inner = pc.utf8_slice_codeunits(json_text, 1, -1)
    return pc.if_else(quoted, inner, escape(json_text))
