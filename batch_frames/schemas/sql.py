"""Read all answers with one DuckDB query, and find those that it does not prove valid."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.arrow import bytes_of, offsets_of
from batch_frames.schemas.types import Kind

__all__ = ["doubtful", "expressions", "fits_duckdb", "holds_arrays", "paths", "trailing_comma"]


LEAVES = {"integer": "BIGINT", "number": "DOUBLE", "boolean": "BOOLEAN", "json": "JSON"}


def expressions(kind: Kind) -> list[str]:
    """Give the expressions over ``line`` that read answers of a kind.

    Returns:
        One each for the values, a struct; for the JSON types at ``paths``, a list; and, if there
        are arrays, for the JSON text of each value in them, a struct of the properties that hold
        any.
    """
    # A strict reading tells null from missing inside arrays, where no path leads, but it raises
    # for a row that misses something, and then TRY reads the whole chunk again row by row.
    reader = "from_json_strict" if _needs_strict(kind) else "from_json"
    structures = [_structure(kind)] + ([_arrays(kind)] if holds_arrays(kind) else [])
    values, *arrays = (f"{reader}(line, {_quote(json.dumps(s))})" for s in structures)
    types = f"json_type(line, [{', '.join(map(_quote, paths(kind)))}])"
    return [f"TRY({expression})" for expression in (values, types, *arrays)]


def paths(kind: Kind) -> Iterator[str]:
    """List the JSON pointers of all properties outside arrays, an object before what it holds."""
    for name, child in kind.fields.items():
        path = "/" + name.replace("~", "~0").replace("/", "~1")
        yield path
        yield from (path + below for below in paths(child))


def fits_duckdb(kind: Kind) -> bool:
    """Say whether DuckDB can hold such objects: it takes names for equal that differ in case."""
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


def holds_arrays(kind: Kind) -> bool:
    """Say whether there is an array anywhere in it."""
    return kind.items is not None or any(map(holds_arrays, kind.fields.values()))


def _structure(kind: Kind) -> Any:
    """Describe an answer to DuckDB."""
    if kind.items is not None:
        return [_structure(kind.items)]
    if kind.name == "object":
        return {name: _structure(child) for name, child in kind.fields.items()}
    return LEAVES.get(kind.name, "VARCHAR")


def _texts(kind: Kind) -> Any:
    """Describe the arrays of an answer, with JSON text for each value in them."""
    if kind.items is not None:
        return [_texts(kind.items)]
    if kind.name == "object":
        return {name: _texts(child) for name, child in kind.fields.items()}
    return "JSON"


def _arrays(kind: Kind) -> dict[str, Any]:
    fields = {name: child for name, child in kind.fields.items() if holds_arrays(child)}
    return {n: _texts(c) if c.items is not None else _arrays(c) for n, c in fields.items()}


def _needs_strict(kind: Kind, inside: bool = False) -> bool:
    """Say whether a null inside an array could stand for what has no place there."""
    if kind.items is not None:
        return (inside and kind.nullable) or _needs_strict(kind.items, inside=True)
    ambiguous = (
        inside
        and kind.name == "object"
        and (
            all(child.nullable for child in kind.fields.values())
            or any(kind.fields[name].nullable for name in kind.required & kind.fields.keys())
        )
    )
    return ambiguous or any(_needs_strict(child, inside) for child in kind.fields.values())


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


Marks = npt.NDArray[np.bool_]

DATE = (
    r"[1-8][0-9]{3}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])"
    r"|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
)
"""Days that surely exist: the 29th of February and the first and last years are not among them."""

SURE = {
    "date": f"^{DATE}$",
    "date-time": f"^{DATE}T(?:[01][0-9]|2[0-3])(?::[0-5][0-9]){{2}}(?:\\.[0-9]{{1,6}})?"
    r"(?:Z|[+-](?:0[0-9]|1[0-4]):[0-5][0-9])?$",
}

NOT_FINITE = r"(?i)nan|inf|e\+?[0-9]{3}"
"""What stands in the JSON text of a number that is not finite, and in many other texts."""

NULL = frozenset({"NULL"})

TYPES = {
    "string": frozenset({"VARCHAR"}),
    "integer": frozenset({"UBIGINT", "BIGINT"}),
    "number": frozenset({"UBIGINT", "BIGINT", "DOUBLE"}),
    "boolean": frozenset({"BOOLEAN"}),
    "array": frozenset({"ARRAY"}),
    "object": frozenset({"OBJECT"}),
}

TYPES["json"] = frozenset.union(*TYPES.values())

COMMA, QUOTE, MINUS, POINT, ZERO, NINE, TRUE, FALSE = b',"-.09tf'

SPACE, CLOSE, CASE = 0x20, 0x7D, 0x20

LONGEST_BLANK = 64
"""So much white space before a bracket is passed over; with more, the text counts as doubtful."""


@dataclass
class _Types:
    """Hold the JSON types at the paths outside arrays, one column of codes for each path."""

    names: list[str]
    columns: Iterator[npt.NDArray[np.int32]]

    def among(self, codes: npt.NDArray[np.int32], names: frozenset[str], missing: bool) -> Marks:
        """Mark the rows with one of these types, or where there is nothing, if that counts."""
        # Nothing has the code -1, which finds the last.
        table = np.array([*(name in names for name in self.names), missing])
        marks: Marks = table[codes]
        return marks


def doubtful(
    kind: Kind, values: pa.Array, types: pa.Array, arrays: pa.Array | None = None
) -> Marks:
    """Mark answers whose values are not proven to be of their kind.

    Args:
        kind: What they must be.
        values: As DuckDB read them, which makes strings of numbers and numbers of strings.
        types: The JSON types at the paths outside arrays.
        arrays: The JSON text of the values in arrays, for the properties that hold any.
    """
    encoded = types.flatten().dictionary_encode()
    codes = np.full((len(types), sum(1 for _ in paths(kind))), -1, np.int32)
    codes[np.asarray(types.is_valid())] = np.asarray(encoded.indices.fill_null(-1)).reshape(
        -1, codes.shape[1]
    )
    columns = _Types(encoded.dictionary.to_pylist(), iter(codes.T))
    return np.asarray(values.is_null()) | _below(kind, values, arrays, columns)


def _outside(
    kind: Kind, required: bool, values: pa.Array, arrays: pa.Array | None, types: _Types
) -> Marks:
    """Mark the values of a property outside arrays that are not proven."""
    codes = next(types.columns)
    null = types.among(codes, NULL, missing=True)
    allowed = TYPES.get(kind.name, TYPES["string"]) | (NULL if kind.nullable else frozenset())
    doubts = ~types.among(codes, allowed, missing=not required)
    doubts |= (np.asarray(values.is_null()) | _below(kind, values, arrays, types)) & ~null
    return doubts


def _below(kind: Kind, values: pa.Array, arrays: pa.Array | None, types: _Types) -> Marks:
    if kind.items is not None:
        return _elements(kind.items, values, arrays)
    if kind.name != "object":
        return _forbidden(kind, values)
    doubts = np.zeros(len(values), np.bool_)
    texts = iter(arrays.flatten() if arrays is not None else ())
    for (name, child), part in zip(kind.fields.items(), values.flatten(), strict=True):
        text = next(texts) if holds_arrays(child) else None
        doubts |= _outside(child, name in kind.required, part, text, types)
    return doubts


def _elements(kind: Kind, values: pa.Array, texts: pa.Array) -> Marks:
    """Mark arrays with elements that are not proven to be of their kind."""
    doubts = np.zeros(len(values), np.bool_)
    inner = _inside(kind, values.flatten(), texts.flatten())
    doubts[np.asarray(pc.list_parent_indices(values))[inner]] = True
    return doubts


def _inside(kind: Kind, values: pa.Array, texts: pa.Array) -> Marks:
    """Mark values inside arrays that are not proven, by their JSON text."""
    empty = np.asarray(values.is_null())
    doubts: Marks = np.zeros(len(values), np.bool_) if kind.nullable else empty.copy()
    if kind.items is not None:
        return doubts | _elements(kind.items, values, texts)
    if kind.name == "object":
        fields = zip(kind.fields.values(), values.flatten(), texts.flatten(), strict=True)
        for child, *parts in fields:
            doubts |= _inside(child, *parts) & ~empty
        return doubts
    doubts |= (_mistyped(kind, texts) | _forbidden(kind, values)) & ~empty
    doubts |= empty & np.asarray(texts.is_valid())
    return doubts


def _mistyped(kind: Kind, texts: pa.Array) -> Marks:
    """Mark values whose JSON text is of another type."""
    first = _first_bytes(texts)
    right = first == QUOTE
    if kind.name == "json":
        right = np.ones(len(texts), np.bool_)
    elif kind.name == "boolean":
        right = (first == TRUE) | (first == FALSE)
    elif kind.name in ("integer", "number"):
        right = ((first >= ZERO) & (first <= NINE)) | (first == MINUS)
        if kind.name == "integer" and POINT in bytes_of(texts):
            right &= ~_matches(texts, r"\.")
    wrong: Marks = ~right
    return wrong


def _forbidden(kind: Kind, values: pa.Array) -> Marks:
    """Mark values of the right type that are not what an enum, a format or JSON allows."""
    doubts = np.zeros(len(values), np.bool_)
    if kind.name in ("date", "date-time"):
        doubts = ~_matches(values, SURE[kind.name])
    elif kind.name == "json":
        doubts = _matches(values, NOT_FINITE)
    elif kind.name == "number":
        doubts = ~np.isfinite(values.to_numpy(zero_copy_only=False))
    if kind.values is not None:
        doubts |= ~np.asarray(pc.is_in(values, pa.array(kind.values, values.type)))
    return doubts


def _matches(text: pa.Array, pattern: str) -> Marks:
    return np.asarray(pc.match_substring_regex(text, pattern).fill_null(False))


def _first_bytes(text: pa.Array) -> npt.NDArray[np.uint8]:
    data, offsets = bytes_of(text), offsets_of(text)
    if not len(data):
        return np.zeros(len(text), np.uint8)
    # A null at the end begins behind the last byte.
    first: npt.NDArray[np.uint8] = data[np.minimum(offsets[:-1] - offsets[0], len(data) - 1)]
    return first


def trailing_comma(text: pa.Array) -> Marks:
    """Mark JSON texts that may have a comma before a closing bracket, which DuckDB lets pass."""
    data, offsets = bytes_of(text), offsets_of(text)
    # The closing bracket and brace differ in the bit that makes small letters of capitals.
    before = np.flatnonzero((data | CASE) == CLOSE) - 1
    found = []
    for _ in range(LONGEST_BLANK):
        byte = data[before]
        found.append(before[byte == COMMA])
        before = before[byte <= SPACE] - 1
    places = np.concatenate([*found, before])
    marks = np.zeros(len(text), np.bool_)
    marks[np.searchsorted(offsets - offsets[0], places, "right") - 1] = True
    return marks
