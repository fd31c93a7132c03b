"""Read all answers with one DuckDB query, and find those that it does not prove valid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.arrow import dumps, select
from batch_frames.schemas.types import FORMATS, PATTERNS, Kind

__all__ = ["fits_duckdb", "read_fast"]


Marks = npt.NDArray[np.bool_]

LEAVES = {"integer": "BIGINT", "number": "DOUBLE", "boolean": "BOOLEAN", "json": "JSON"}

DATE = (
    r"[1-8][0-9]{3}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])"
    r"|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
)
"""Days that surely exist: the 29th of February and the first and last years are not among them."""

SURE = {
    "date": f"^{DATE}$",
    "date-time": f"^{DATE}T(?:[01][0-9]|2[0-3])(?::[0-5][0-9]){{2}}(?:\\.[0-9]{{1,6}})?"
    r"(?:Z|[+-](?:0[0-9]|1[0-4]):[0-5][0-9])?$",
    **{name: f"^(?:{pattern})$" for name, pattern in PATTERNS.items()},
}

NOT_FINITE = r"(?i)nan|inf|e\+?[0-9]{3}"
"""What is in the JSON text of a number that is not finite, and in many other texts."""

TRAILING_COMMA = r",[ \t\r\n]*[\]}]"
"""What DuckDB reads although it is not JSON; in a string it is text."""


def fits_duckdb(kind: Kind) -> bool:
    """Return whether DuckDB can hold such objects: to it, names that differ in case are equal."""
    if kind.items is not None:
        return fits_duckdb(kind.items)
    if kind.name != "object":
        return True
    distinct = {name.lower() for name in kind.fields} - {""}
    return (
        0 < len(kind.fields) == len(distinct)
        and not any("\0" in name for name in distinct)
        and all(map(fits_duckdb, kind.fields.values()))
    )


def read_fast(lines: pa.Array, kind: Kind) -> tuple[pa.Array, Marks]:
    """Read answers of a kind, and mark those that are not proven to be of it.

    DuckDB makes strings of numbers and numbers of strings, and passes over what is missing or too
    much. What it read is right where, written back, it is the same JSON, but for ``3`` and ``3.0``.

    Args:
        lines: ``large_string``, one answer per row.
        kind: What the answers must be, such that ``fits_duckdb``.
    """
    structure = dumps(_structure(kind)).replace("'", "''")
    inner = [f"TRY(from_json(line, '{structure}')) AS found"]
    texts = [f"replace({one}::VARCHAR, '.0', '')" for one in ("json(line)", "to_json(found)")]
    values, proven = select(lines, ["found", f"TRY({' = '.join(texts)})"], inner)
    doubts = ~np.asarray(proven.fill_null(False)) | _matches(lines, TRAILING_COMMA)
    return values, doubts | _forbidden(kind, values)


def _structure(kind: Kind) -> Any:
    """Describe an answer to DuckDB."""
    if kind.items is not None:
        return [_structure(kind.items)]
    if kind.name == "object":
        return {name: _structure(child) for name, child in kind.fields.items()}
    return LEAVES.get(kind.name, "VARCHAR")


def _forbidden(kind: Kind, values: pa.Array) -> Marks:
    """Mark values of the right type that are not what null, an enum, a format or JSON allows."""
    is_null = np.asarray(values.is_null())
    doubts = np.zeros(len(values), np.bool_)
    if kind.items is not None:
        inner = _forbidden(kind.items, values.flatten())
        doubts[np.asarray(pc.list_parent_indices(values))[inner]] = True
    elif kind.name == "object":
        for child, part in zip(kind.fields.values(), values.flatten(), strict=True):
            doubts |= _forbidden(child, part)
    elif kind.name in FORMATS:
        doubts = ~_matches(values, SURE[kind.name])
    elif kind.name == "json":
        doubts = _matches(values, NOT_FINITE)
    elif kind.name == "number":
        doubts = ~np.isfinite(values.to_numpy(zero_copy_only=False))
    for keyword, limit in kind.limits.items():
        within = PROVEN.get(keyword, _never)(values, limit)
        doubts |= ~np.asarray(within.fill_null(False))
    if kind.values is not None:
        doubts |= ~np.asarray(pc.is_in(values, pa.array(kind.values, values.type)))
    marks: Marks = (doubts & ~is_null) if kind.nullable else (doubts | is_null)
    return marks


def _floats(numbers: pa.Array) -> pa.Array:
    return numbers.cast(pa.float64(), safe=False)


def _never(values: pa.Array, limit: Any) -> pa.Array:
    return pa.repeat(False, len(values))


def _match(text: pa.Array, pattern: str) -> pa.Array:
    try:
        return pc.match_substring_regex(text, pattern)
    except pa.ArrowInvalid:  # a pattern that RE2 does not know
        return _never(text, pattern)


PROVEN: dict[str, Callable[[pa.Array, Any], pa.Array]] = {
    "minimum": lambda numbers, least: pc.greater_equal(_floats(numbers), least),
    "maximum": lambda numbers, most: pc.less_equal(_floats(numbers), most),
    "exclusiveMinimum": lambda numbers, least: pc.greater(_floats(numbers), least),
    "exclusiveMaximum": lambda numbers, most: pc.less(_floats(numbers), most),
    "minLength": lambda text, least: pc.greater_equal(pc.utf8_length(text), least),
    "maxLength": lambda text, most: pc.less_equal(pc.utf8_length(text), most),
    "pattern": _match,
    "format": lambda text, name: _match(text, SURE[name]),
    "minItems": lambda lists, least: pc.greater_equal(pc.list_value_length(lists), least),
    "maxItems": lambda lists, most: pc.less_equal(pc.list_value_length(lists), most),
}
"""For each keyword which values are surely within its limit."""


def _matches(text: pa.Array, pattern: str) -> Marks:
    return np.asarray(pc.match_substring_regex(text, pattern).fill_null(False))
