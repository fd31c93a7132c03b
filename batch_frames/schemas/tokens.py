"""Count the tokens of schemas and of definitions of functions, by rules that others found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from batch_frames.arrow import dumps

__all__ = [
    "Count",
    "Uncounted",
    "count_functions",
    "count_functions_cl100k",
    "count_schema",
    "list_objects",
]


FUNCTION, FUNCTIONS_END, PROPERTIES, ENUM_VALUE = 7, 12, 3, 3

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
    total = PROPERTIES
    for name, one in properties.items():
        one = one if isinstance(one, dict) else {}
        total += PROPERTIES + count(f"{name}:{one.get('type')}:{_description(one)}")
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
