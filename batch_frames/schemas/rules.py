"""Check JSON schemas by the rules of strict mode, and count their tokens as the service does."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from batch_frames.arrow import dumps
from batch_frames.display import brief, some_of
from batch_frames.errors import TemplateError
from batch_frames.schemas.strict import resolve

__all__ = [
    "Count",
    "Uncounted",
    "count_functions",
    "count_functions_cl100k",
    "count_schema",
    "format_problems",
    "list_objects",
    "strict_problems",
]


REFUSED = (
    *("allOf", "not", "dependentRequired", "dependentSchemas", "if", "then", "else"),
    *("oneOf", "default", "uniqueItems"),
)
"""Keywords that OpenAI's guide to structured outputs names as not supported, and three more that
the service is known to refuse."""

NAMED = ("properties", "$defs", "definitions")

LISTED = ("anyOf", "prefixItems")

TYPED = ("type", "$ref", "anyOf", "enum", "const", *REFUSED)
"""Keywords of which a part has at least one."""

TYPES = ("string", "number", "integer", "boolean", "object", "array", "null")

LEVELS, PROPERTIES, VALUES, TEXT = 10, 5_000, 1_000, 120_000

MANY_VALUES, VALUES_TEXT = 250, 15_000

NAME, LONGEST_NAME = re.compile(r"[A-Za-z0-9_-]+"), 64

Place = tuple[str, ...]

Parts = list[tuple[Place, Any, int]]


def strict_problems(schema: Any) -> list[tuple[str, str]]:
    """List what strict mode refuses in a schema, as OpenAI's guide to structured outputs has it.

    From where the service counts levels is not documented; the root is not counted here.

    Args:
        schema: A JSON schema with ``strict`` true in its request.

    Returns:
        Pairs of a place, such as ``properties.items``, empty for the root, and what is wrong there.

    Example:
        >>> strict_problems({"type": "object", "properties": {}, "required": []})
        [('', "'additionalProperties' must be false")]
    """
    parts = list(_parts(schema))
    found = [(".".join(place), problem) for place, part, _ in parts for problem in _of(part)]
    if isinstance(schema, Mapping):
        if schema.get("type") != "object" or "anyOf" in schema:
            found.insert(0, ("", "the root must be an object, without 'anyOf'"))
        for place, part, _ in parts:
            reference = part.get("$ref") if isinstance(part, Mapping) else None
            if reference is not None and _is_lost(reference, schema):
                found.append((".".join(place), f"{reference!r} leads nowhere"))
    return found + [("", problem) for problem in _sizes(parts)]


def format_problems(json_schema: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield what the service refuses in the name and the strict schema of an answer.

    Args:
        json_schema: What a request holds: ``name``, ``schema`` and ``strict``.

    Returns:
        The service's code, the place and what is wrong there.
    """
    name = json_schema.get("name")
    if "name" not in json_schema:
        yield "missing_required_parameter", "name", "the schema has no 'name'"
    elif not isinstance(name, str):
        yield "invalid_type", "name", f"the name of the schema is {brief(name)}, not text"
    elif len(name) > LONGEST_NAME:
        problem = f"the name of the schema has {len(name):,} characters, at most {LONGEST_NAME}"
        yield "string_above_max_length", "name", problem
    elif not NAME.fullmatch(name):
        problem = f"the name {name!r} has other characters than letters, digits, '_' and '-'"
        yield "invalid_value", "name", problem
    if json_schema.get("strict") is True:
        for place, problem in strict_problems(json_schema.get("schema")):
            where = f"schema.{place}".rstrip(".")
            yield "invalid_json_schema", where, f"strict schema: {problem}"


def _parts(schema: Any) -> Iterator[tuple[Place, Any, int]]:
    """Yield all parts of a schema, from the root on, each with its place and its level."""
    # A list of what is left to do, as a schema may be deeper than Python can recurse.
    left: Parts = [((), schema, 0)]
    while left:
        place, part, level = left.pop()
        yield place, part, level
        if isinstance(part, Mapping):
            left += reversed(_below(place, part, level + _is_object(part)))


def _below(place: Place, part: Mapping[str, Any], level: int) -> Parts:
    below: Parts = []
    for key, value in part.items():
        if key in NAMED and isinstance(value, Mapping):
            # Definitions are as deep as where they are used, which may be in themselves.
            inside = level if key == "properties" else 0
            below += [((*place, key, name), child, inside) for name, child in value.items()]
        elif key in LISTED and isinstance(value, list):
            below += [((*place, key, str(n)), child, level) for n, child in enumerate(value)]
        elif key == "items":
            below.append(((*place, key), value, level))
    return below


def _is_object(part: Mapping[str, Any]) -> bool:
    return "properties" in part or _has_type(part, "object")


def _has_type(part: Mapping[str, Any], name: str) -> bool:
    types = part.get("type")
    return types == name or (isinstance(types, list) and name in types)


def _of(part: Any) -> Iterator[str]:
    """Yield what is wrong with one part alone."""
    if not isinstance(part, Mapping):
        yield f"{part!r} is not a schema"
        return
    if "$ref" in part:
        if others := [repr(key) for key in part if key not in ("$ref", "$defs", "definitions")]:
            yield f"'$ref' must be alone, without {some_of(others)}"
        return
    yield from (f"{key!r} is not permitted" for key in REFUSED if key in part)
    if part.keys().isdisjoint(TYPED):
        yield "there is no 'type'"
    types = part.get("type", [])
    if unknown := [
        repr(t) for t in (types if isinstance(types, list) else [types]) if t not in TYPES
    ]:
        yield f"there is no type {some_of(unknown)}; there are {', '.join(TYPES)}"
    if _is_object(part):
        yield from _of_object(part)
    if _has_type(part, "array") and part.keys().isdisjoint(("items", "prefixItems")):
        yield "an array must have 'items'"
    values = part.get("enum")
    if isinstance(values, list) and len(values) > MANY_VALUES:
        size = sum(len(value) for value in values if isinstance(value, str))
        if size > VALUES_TEXT:
            most = f"at most {VALUES_TEXT:,} characters where it has more than {MANY_VALUES:,}"
            yield f"the values of 'enum' have {size:,} characters, {most}"


def _of_object(part: Mapping[str, Any]) -> Iterator[str]:
    if part.get("additionalProperties") is not False:
        yield "'additionalProperties' must be false"
    properties, required = part.get("properties", {}), part.get("required", [])
    if not isinstance(properties, Mapping) or not isinstance(required, list):
        yield "'properties' must be an object, and 'required' an array"
        return
    listed = {name for name in required if isinstance(name, str)}
    if missing := [repr(name) for name in properties if name not in listed]:
        yield f"'required' must list all properties: {some_of(missing)}"
    if extra := [repr(n) for n in required if not (isinstance(n, str) and n in properties)]:
        yield f"'required' lists what is no property: {some_of(extra)}"


def _is_lost(reference: Any, schema: Mapping[str, Any]) -> bool:
    try:
        resolve(reference, schema)
    except TemplateError:
        return True
    return False


def _sizes(parts: Parts) -> Iterator[str]:
    """Yield which limits a whole schema exceeds."""
    nodes = [part for _, part, _ in parts if isinstance(part, Mapping)]
    named = {key: [name for node in nodes for name in _keys(node, key)] for key in NAMED}
    values = [value for node in nodes for value in _values(node)]
    enums = sum(len(node["enum"]) for node in nodes if isinstance(node.get("enum"), list))
    names = [name for own in named.values() for name in own]
    text = sum(len(one) for one in (*names, *values) if isinstance(one, str))
    levels = max(
        (level for _, part, level in parts if isinstance(part, Mapping) and _is_object(part)),
        default=0,
    )
    counts = (
        (levels, LEVELS, "levels of nesting"),
        (len(named["properties"]), PROPERTIES, "properties"),
        (enums, VALUES, "values of 'enum'"),
        (text, TEXT, "characters of names and values"),
    )
    yield from (f"{n:,} {what}, at most {most:,}" for n, most, what in counts if n > most)


def _keys(node: Mapping[str, Any], key: str) -> list[str]:
    value = node.get(key)
    return list(value) if isinstance(value, Mapping) else []


def _values(node: Mapping[str, Any]) -> list[Any]:
    enum = node.get("enum")
    return [*(enum if isinstance(enum, list) else []), node.get("const")]


FUNCTION, FUNCTIONS_END, PROPERTIES_TOKENS, ENUM_VALUE = 7, 12, 3, 3

FUNCTION_CL100K = 10

SCHEMA = 9

NOT_IN_SCHEMA = ("required", "additionalProperties", "$schema")

Count = Callable[[str], int]


class Uncounted(Exception):  # noqa: N818
    """A part of a request whose tokens cannot be known, such as an image."""


def list_objects(values: Any) -> list[Mapping[str, Any]]:
    """Return the items of a list of objects.

    Raises:
        Uncounted: If it is anything else.
    """
    if not isinstance(values, list) or not all(isinstance(one, dict) for one in values):
        raise Uncounted
    return values


def count_functions_cl100k(tools: Any, count: Count) -> int:
    """Count functions for a model whose encoding is ``cl100k_base``."""
    return count_functions(tools, count) + (FUNCTION_CL100K - FUNCTION) * len(tools)


def count_functions(tools: Any, count: Count) -> int:
    """Count the definitions of functions.

    Raises:
        Uncounted: If there are other tools.
    """
    total = FUNCTIONS_END
    for tool in list_objects(tools):
        if tool.get("type", "function") != "function":
            raise Uncounted
        [function] = list_objects([tool.get("function", tool)])
        total += FUNCTION + count(f"{function.get('name')}:{_description(function)}")
        total += _properties(function.get("parameters"), count)
    return total


def _properties(schema: Any, count: Count) -> int:
    """Count the properties of an object in the parameters of a function."""
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict) or not properties:
        return 0
    total = PROPERTIES_TOKENS
    for name, one in properties.items():
        one = one if isinstance(one, dict) else {}
        total += PROPERTIES_TOKENS + count(f"{name}:{one.get('type')}:{_description(one)}")
        if isinstance(values := one.get("enum"), list):
            total += sum(ENUM_VALUE + count(str(value)) for value in values) - ENUM_VALUE
        total += _properties(one, count) + _properties(one.get("items"), count)
    return total


def _description(value: Mapping[str, Any]) -> str:
    text = value.get("description")
    return text.removesuffix(".") if isinstance(text, str) else ""


def count_schema(given: Any, count: Count) -> int:
    """Count the schema of ``response_format`` or ``text``, if there is one."""
    wanted = given.get("format", given) if isinstance(given, dict) else None
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        return 0
    inner = wanted.get("json_schema", wanted)
    found = inner.get("schema") if isinstance(inner, dict) else None
    return SCHEMA + count(dumps(_bare(found)))


def _bare(schema: Any) -> Any:
    """Return a schema without the keys that do not count."""
    if isinstance(schema, list):
        return [_bare(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _bare(one) for key, one in schema.items() if key not in NOT_IN_SCHEMA}
