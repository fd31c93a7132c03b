"""Write the SQL with which DuckDB reads answers of a kind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from batch_frames.answertypes import Kind

__all__ = ["expressions", "fits_duckdb", "holds_arrays", "paths"]


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
