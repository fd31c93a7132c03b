"""Write lists, structs and maps as JSON, column by column from the inside."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.errors import CellError
from batch_frames.text import NULL, TEXT, constant, join

__all__ = ["write_nested"]

Write = Callable[[pa.Array], pa.Array]


def write_nested(array: pa.Array, to_json: Write, to_text: Write) -> pa.Array:
    """Write lists as JSON arrays, structs and maps as JSON objects.

    Args:
        array: A list, struct or map array of any kind.
        to_json: Writes the values inside.
        to_text: Writes the keys of maps.

    Raises:
        CellError: If one of the writers does, with the row in ``array``.
    """

    def or_null(values: pa.Array) -> pa.Array:
        return to_json(values).fill_null("null")

    def pairs(entries: pa.Array) -> pa.Array:
        keys, values = (pc.struct_field(entries, [position]) for position in (0, 1))
        return join([constant('"'), to_text(keys), constant('":'), or_null(values)])

    kind = array.type
    if pa.types.is_struct(kind):
        text = _struct(array, or_null)
    elif pa.types.is_map(kind):
        pair = pa.struct([("key", kind.key_type), ("value", kind.item_type)])
        text = _list(array.cast(pa.list_(pair)), pairs, "{}")
    else:
        text = _list(array, or_null, "[]")
    return pc.if_else(array.is_valid(), text, NULL) if array.null_count else text


def _struct(array: pa.Array, or_null: Write) -> pa.Array:
    if not array.type.num_fields:
        return pa.array(np.full(len(array), "{}", object), TEXT)
    pieces: list[Any] = []
    for position in range(array.type.num_fields):
        name = json.dumps(array.type.field(position).name, ensure_ascii=False)
        value = or_null(pc.struct_field(array, [position]))
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
    return join(
        [constant(brackets[0]), pc.binary_join(lists, constant(",")), constant(brackets[1])]
    )
