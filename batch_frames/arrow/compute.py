"""Choose rows of text columns by what they hold, and put what was read of some among all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.arrow.text import TEXT, bytes_of, offsets_of

__all__ = [
    "Mask",
    "coalesce",
    "first_bytes",
    "is_text",
    "is_true",
    "mapped",
    "non_empty",
    "spread",
    "where",
]


Mask = npt.NDArray[np.bool_]


def is_true(condition: pa.Array) -> Mask:
    """Make a mask of a condition; what is null is not true."""
    return np.asarray(condition.fill_null(False))


def is_text(column: pa.Array, *texts: str) -> Mask:
    """Find the rows that hold one of some texts; only rows of their lengths are compared."""
    lengths = _lengths(column)
    found: Mask = np.logical_or.reduce([lengths == len(text.encode()) for text in texts])
    if found.any():
        rows = column.filter(pa.array(found))
        found[found] = is_true(pc.is_in(rows, value_set=pa.array(texts, TEXT)))
    return found


def where(mask: Mask, column: pa.Array) -> pa.Array:
    """Make null what a mask does not choose; where it chooses all there is, nothing is copied."""
    if not (is_true(column.is_valid()) & ~mask).any():
        return column
    return pc.if_else(pa.array(mask), column, pa.scalar(None, column.type))


def non_empty(column: pa.Array) -> pa.Array:
    """Make empty texts null."""
    return where(_lengths(column) > 0, column)


def coalesce(columns: Sequence[pa.Array]) -> pa.Array:
    """Take the first value of some columns that is not null; a column of nulls costs nothing."""
    filled = [column for column in columns if column.null_count < len(column)]
    if len(filled) > 1:
        return pc.coalesce(*filled)
    return filled[0] if filled else columns[0]


def first_bytes(column: pa.Array) -> npt.NDArray[np.uint8]:
    """Take the first byte of each text, 0 where there is none."""
    first = np.zeros(len(column), np.uint8)
    offsets = offsets_of(column)
    filled = np.flatnonzero(_lengths(column))
    first[filled] = bytes_of(column)[offsets[filled] - offsets[0]]
    return first


def mapped(column: pa.Array, function: Callable[[str], Any], kind: pa.DataType) -> pa.Array:
    """Apply a function to each distinct text of a column that has few of them."""
    encoded = column.dictionary_encode()
    values = [function(text) for text in encoded.dictionary.to_pylist()]
    return pa.array(values, kind).take(encoded.indices)


def spread(column: pa.Array, mask: Mask) -> pa.Array:
    """Put the values of the rows that a mask chooses in their places, with null elsewhere.

    Example:
        >>> spread(pa.array([1, 2]), np.array([True, False, True])).to_pylist()
        [1, None, 2]
    """
    return column.take(pa.array(np.cumsum(mask) - 1, mask=~mask))


def _lengths(column: pa.Array) -> npt.NDArray[np.int64]:
    return np.diff(offsets_of(column))
