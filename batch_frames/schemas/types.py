"""Derive the types of the columns of answers from a JSON schema."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from batch_frames.arrow import TEXT, dumps
from batch_frames.errors import TemplateError
from batch_frames.schemas.strict import resolve

__all__ = ["FORMATS", "INTEGERS", "PATTERNS", "Kind", "answer_kind", "column_type", "plain_type"]


PLAIN = {
    "string": TEXT,
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "json": TEXT,
    "date": TEXT,
    "date-time": TEXT,
}

FORMATS = ("date", "date-time")
"""Formats that have types of their own."""

OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"

LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"

PATTERNS = {
    "time": r"[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:[Zz]|[+-][0-9]{2}:?[0-9]{2})?",
    "duration": r"P(?:[0-9]+[YMWD])*(?:T(?:[0-9]+(?:\.[0-9]+)?[HMS])+)?",
    "email": r"[^@\s]+@[^@\s]+",
    "hostname": rf"{LABEL}(?:\.{LABEL})*",
    "ipv4": rf"{OCTET}(?:\.{OCTET}){{3}}",
    "ipv6": "[0-9A-Fa-f:.]{2,45}",
    "uri": r"[A-Za-z][A-Za-z0-9+.-]*:\S*",
    "uuid": "[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}",
}
"""Patterns of the formats whose values stay text; other formats are not checked."""

NUMERIC = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")

LIMITS = {
    "string": ("minLength", "maxLength", "pattern", "format"),
    "integer": NUMERIC,
    "number": NUMERIC,
    "array": ("minItems", "maxItems", "uniqueItems"),
}
"""Keywords that limit the values of a type."""

EXACT = 2**53
"""Up to here floats are exact; larger limits are not checked."""

INTEGERS = range(-(2**63), 2**63)


@dataclass(frozen=True)
class Kind:
    """What a part of an answer must be.

    Attributes:
        name: ``array``, ``object``, or a key of ``PLAIN``; ``json`` is any value without a single
            type, kept as JSON text.
        nullable: Whether null is allowed.
        values: Values of an enum as the column holds them; None if it is not an enum.
        items: Kind of the elements of an array.
        fields: Kinds of the properties of an object, in their order.
        required: Names of the properties that are required.
        is_closed: Whether an object may have no other properties.
        limits: Keywords of the schema that limit the values, such as ``minimum``.
    """

    name: str
    nullable: bool = False
    values: tuple[Any, ...] | None = None
    items: Kind | None = None
    fields: Mapping[str, Kind] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    is_closed: bool = False
    limits: Mapping[str, Any] = field(default_factory=dict)


ANYTHING = Kind("json", nullable=True)

MOST_BACK = 3

MOST_PARTS, MOST_PASSED = 10_000, 200
"""The service takes 5,000 properties; DuckDB has no memory for much more than twice as many."""

MOST_LEVELS = 60
"""Arrow passes on types of 64 levels, of which a list of choices needs some."""

TOO_LARGE = "json_schema: it is nested too deep, or too large, when its references are written out"


def answer_kind(schema: Mapping[str, Any]) -> Kind:
    """Return the kind of answers that follow a schema.

    ``date`` and ``date-time`` are read in the properties of the root only; deeper they are text.
    References, ``allOf`` of one and unions of one type and null are followed. All else is ``json``:
    several types, objects without named properties, an object that contains itself, and one of
    several that all refer to each other.

    Args:
        schema: A JSON schema whose root is an object.

    Raises:
        TemplateError: If its root is no object, a reference leads nowhere, or the schema has more
            than 10,000 parts or 60 levels when its references are written out.
    """
    kinds = _Kinds(schema)
    node, nullable, seen = kinds.settle(schema, ())
    if nullable or _types(node) != ["object"]:
        raise TemplateError(
            "json_schema: the root is not an object", hint="make it a property of an object"
        )
    kind = kinds.object(node, seen, formats=True)
    if _levels(kind) > MOST_LEVELS:
        raise TemplateError(TOO_LARGE)
    return kind


def _levels(kind: Kind) -> int:
    inner = [*kind.fields.values(), *([kind.items] if kind.items else [])]
    return 1 + max(map(_levels, inner), default=0)


def plain_type(kind: Kind) -> pa.DataType:
    """Return the Arrow type of the values as in JSON, where dates and enums are text."""
    if kind.items is not None:
        return pa.large_list(plain_type(kind.items))
    if kind.name == "object":
        return pa.struct([(name, plain_type(child)) for name, child in kind.fields.items()])
    return PLAIN[kind.name]


def column_type(kind: Kind) -> pa.DataType:
    """Return the Arrow type of a property's column, which does not depend on the answers."""
    if kind.name == "date":
        return pa.date32()
    if kind.name == "date-time":
        return pa.timestamp("us", "UTC")
    if kind.values is not None and kind.name != "boolean":
        return pa.dictionary(pa.int32(), PLAIN[kind.name])
    return plain_type(kind)


class _Kinds:
    """Derives the kinds of the parts of one schema, each of which references may repeat.

    What was passed on the way to a part is ``seen``, by which an object that contains itself is
    recognized.

    Args:
        root: The whole schema, for references.
    """

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._made = 0
        self._found: dict[str, set[str]] = {}

    def kind(self, node: Any, seen: tuple[Any, ...], formats: bool = False) -> Kind:
        self._count(seen)
        node, nullable, seen = self.settle(node, seen)
        types = _types(node)
        if "const" in node or "enum" in node:
            return _enum([node["const"]] if "const" in node else node["enum"], types, nullable)
        nullable = nullable or "null" in types
        types = [name for name in types if name != "null"]
        name = types[0] if len(types) == 1 else ""
        limits = {key: node[key] for key in LIMITS.get(name, ()) if _is_limit(key, node.get(key))}
        if name == "string" and formats and node.get("format") in FORMATS:
            return Kind(node["format"], nullable)
        if name in ("string", "integer", "number", "boolean"):
            return Kind(name, nullable, limits=limits)
        if name == "array" and isinstance(node.get("items"), Mapping):
            return Kind(name, nullable, items=self.kind(node["items"], seen), limits=limits)
        if name == "object" and node.get("properties") and node["properties"] not in seen:
            return self.object(node, seen, nullable)
        return ANYTHING

    def object(
        self,
        node: Mapping[str, Any],
        seen: tuple[Any, ...],
        nullable: bool = False,
        formats: bool = False,
    ) -> Kind:
        properties = node.get("properties", {})
        seen = (*seen, properties)
        fields = {name: self.kind(child, seen, formats) for name, child in properties.items()}
        required = frozenset(node.get("required", ()))
        is_closed = node.get("additionalProperties") is False
        return Kind("object", nullable, fields=fields, required=required, is_closed=is_closed)

    def settle(
        self, node: Any, seen: tuple[Any, ...]
    ) -> tuple[Mapping[str, Any], bool, tuple[Any, ...]]:
        """Follow references and unions of one until a part has a type of its own.

        Returns:
            The part, or an empty one if it has none; whether it may also be null; and what was
            passed on the way.
        """
        nullable = False
        while isinstance(node, Mapping):
            key = next((key for key in ("$ref", "allOf", "anyOf", "oneOf") if key in node), None)
            if key is None:
                return node, nullable, seen
            rest = {name: value for name, value in node.items() if name != key}
            if key == "$ref":
                if node[key] in seen or self._is_entangled(node[key], seen):
                    break
                seen = (*seen, node[key])
                node = {**resolve(node[key], self._root), **rest}
                self._count(seen)
                continue
            branches = [child for child in node[key] if key == "allOf" or not _is_null(child)]
            if len(branches) != 1 or not isinstance(branches[0], Mapping):
                break
            nullable = nullable or len(node[key]) > 1
            node = {**rest, **branches[0]}
        return {}, True, seen

    def _count(self, seen: tuple[Any, ...]) -> None:
        self._made += 1
        if self._made > MOST_PARTS or len(seen) > MOST_PASSED:
            raise TemplateError(TOO_LARGE)

    def _is_entangled(self, reference: Any, seen: tuple[Any, ...]) -> bool:
        """Return whether a part refers back to several on the way to it.

        Otherwise, parts that all refer to each other would be expanded in every possible order.
        """
        part = resolve(reference, self._root)
        if reference not in self._found:
            self._found[reference] = _references(part)
        back = self._found[reference] & {one for one in seen if isinstance(one, str)}
        return len(back) >= MOST_BACK


def _is_limit(keyword: str, value: Any) -> bool:
    """Return whether a keyword has a value by which answers can be checked."""
    if keyword == "pattern":
        with suppress(re.error, TypeError):
            return bool(re.compile(value, re.ASCII))
        return False
    if keyword == "format":
        return value in (*PATTERNS, *FORMATS)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value is True if keyword == "uniqueItems" else is_number and abs(value) < EXACT


def _references(node: Any) -> set[str]:
    """Collect the references anywhere in a part of a schema."""
    children = node.values() if isinstance(node, Mapping) else node
    found = {node["$ref"]} if isinstance(node, Mapping) and "$ref" in node else set()
    if isinstance(node, (Mapping, list)):
        found |= {one for child in children for one in _references(child)}
    return {one for one in found if isinstance(one, str)}


def _is_null(node: Any) -> bool:
    return isinstance(node, Mapping) and (
        _types(node) == ["null"] or node.get("enum", [node.get("const", 0)]) == [None]
    )


def _types(node: Mapping[str, Any]) -> list[Any]:
    types = node.get("type", ["object"] if "properties" in node else [])
    return types if isinstance(types, list) else [types]


def _enum(values: list[Any], types: list[Any], nullable: bool) -> Kind:
    nullable = nullable or (None in values and (not types or "null" in types))
    values = [value for value in values if value is not None]
    if not values:
        return ANYTHING
    if all(isinstance(value, str) for value in values):
        name = "string"
    elif all(isinstance(value, bool) for value in values):
        name = "boolean"
    elif any(isinstance(value, bool) or not isinstance(value, (int, float)) for value in values):
        name, values = "json", [dumps(value) for value in values]
    elif all(isinstance(value, int) and value in INTEGERS for value in values):
        name = "integer"
    else:
        name, values = "number", [float(value) for value in values]
    return Kind(name, nullable, tuple(dict.fromkeys(values)))
