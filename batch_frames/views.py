"""Bring Arrow arrays into forms that every kernel takes."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.arrow import NULL, TEXT

__all__ = ["settled"]


def settled(array: pa.Array) -> pa.Array:
    """Cast string views, at any depth, to text, and decode dictionaries that hold a null.

    Example:
        >>> settled(pa.array([["a"]], pa.list_(pa.string_view()))).type
        ListType(list<item: large_string>)
    """
    if pa.types.is_dictionary(array.type) and array.dictionary.null_count:
        array = array.dictionary_decode()
    if isinstance(array.type, pa.BaseExtensionType) and array.type.extension_name == "arrow.json":
        return _json_with_nulls(array)
    kind = _without_views(array.type)
    return array if kind == array.type else array.cast(kind)


def _json_with_nulls(array: pa.Array) -> pa.Array:
    """Make JSON's null a missing value, as it is in every other column."""
    text = array.storage.cast(TEXT)
    text = pc.if_else(pc.equal(pc.utf8_trim_whitespace(text), "null"), NULL, text)
    return pa.ExtensionArray.from_storage(array.type, text.cast(array.storage.type))


def _without_views(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_string_view(kind):
        return TEXT
    if pa.types.is_struct(kind):
        fields = [kind.field(position) for position in range(kind.num_fields)]
        return pa.struct([field.with_type(_without_views(field.type)) for field in fields])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        make = pa.list_ if pa.types.is_list(kind) else pa.large_list
        return make(kind.value_field.with_type(_without_views(kind.value_type)))
    if pa.types.is_fixed_size_list(kind):
        field = kind.value_field.with_type(_without_views(kind.value_type))
        return pa.list_(field, kind.list_size)
    if pa.types.is_dictionary(kind):
        return pa.dictionary(kind.index_type, _without_views(kind.value_type), kind.ordered)
    return kind
