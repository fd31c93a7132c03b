"""Write floats in the shortest form that reads back equal, whole ones without a fraction."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.errors import CellError
from batch_frames.text import NULL, TEXT

__all__ = ["INT64_END", "write_floats"]

INT64_END = 2.0**63


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
    if not pc.all(finite, min_count=0).as_py():
        index = int(pc.index(finite, pa.scalar(False)).as_py())
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
    """Write as Python does where Arrow begins too early with exponents, at 10^10."""
    early = pc.match_substring(text, "e+").fill_null(False)
    if not pa.types.is_float64(array.type) or not pc.any(early, min_count=0).as_py():
        return text
    written = pa.array([repr(value) for value in array.filter(early).to_pylist()], TEXT)
    return pc.replace_with_mask(text, early, written)
