"""Read answers by a schema, and say in the simplest way what they mean."""

import json
import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from batch_frames.schemas.answers import Answers

TEXT = pa.large_string()
NULL = {"type": "null"}
Node = dict[str, Any]


def read(
    schema: Node, texts: Sequence[str | None]
) -> tuple[list[dict[str, Any]], list[str | None]]:
    """Read answers, and check what holds of every reading."""
    answers = Answers(schema)
    table, reasons = answers.read(pa.array(texts, TEXT))
    table.validate(full=True)
    reasons.validate(full=True)
    assert table.column_names == list(answers.names)
    assert table.schema.types == list(answers.types)
    assert reasons.type == TEXT
    assert len(reasons) == len(texts)
    return table.to_pylist() if answers.names else [{}] * len(texts), reasons.to_pylist()


def an_object(**properties: Any) -> Node:
    """Write the schema of an object that requires all it has."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def one(node: Any, value: Any) -> Any:
    """Read one value as property ``x``: its cell, or the reason why there is none."""
    rows, reasons = read(an_object(x=node), [json.dumps({"x": value})])
    return rows[0]["x"] if reasons[0] is None else reasons[0]


class WrongError(Exception):
    """The oracle's word for an answer that is not what the schema says."""


class Json:
    """A value that comes as JSON text."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        """Compare with a cell."""
        if other is None or self.value is None:
            return self.value is other
        return isinstance(other, str) and same_json(json.loads(other), self.value)


def same_json(left: Any, right: Any) -> bool:
    """Compare two JSON values, of which true is not 1."""
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)


def is_finite(value: Any) -> bool:
    """Say whether all numbers in a value are."""
    if isinstance(value, float):
        return math.isfinite(value)
    children = value.values() if isinstance(value, dict) else value
    return not isinstance(value, (list, dict)) or all(map(is_finite, children))


def cell(value: Any, node: Node, root: Node, top: bool = False) -> Any:
    """Give what a column holds for a value, straight from the words of the schema."""
    if "$ref" in node:
        return cell(value, root["$defs"][node["$ref"].rsplit("/", 1)[1]], root, top)
    if "anyOf" in node:
        if value is None and NULL in node["anyOf"]:
            return None
        return cell(value, node["anyOf"][0], root, top)
    if "enum" in node:
        for member in node["enum"]:
            if isinstance(member, bool) == isinstance(value, bool) and member == value:
                return member
        raise WrongError
    types = node.get("type", [])
    types = types if isinstance(types, list) else [types]
    if value is None and "null" in types:
        return None
    named = [name for name in types if name != "null"]
    only = named[0] if len(named) == 1 else None
    if only in SIMPLE:
        found = SIMPLE[only](value, node, top)
        check_limits(found, node)
        return found
    if only == "array":
        if not isinstance(value, list):
            raise WrongError
        check_limits(value, node)
        return [cell(element, node["items"], root) for element in value]
    if only == "object":
        return cells(value, node, root)
    if not is_finite(value):
        raise WrongError
    return Json(value)


def check_limits(value: Any, node: Node) -> None:
    """Check the keywords that limit a value, in the words of the standard."""
    tests: dict[str, Callable[[Any], bool]] = {
        "minimum": lambda limit: value >= limit,
        "maximum": lambda limit: value <= limit,
        "exclusiveMinimum": lambda limit: value > limit,
        "exclusiveMaximum": lambda limit: value < limit,
        "multipleOf": lambda limit: value % limit == 0,
        "minLength": lambda limit: len(value) >= limit,
        "maxLength": lambda limit: len(value) <= limit,
        "pattern": lambda limit: re.search(limit, value) is not None,
        "minItems": lambda limit: len(value) >= limit,
        "maxItems": lambda limit: len(value) <= limit,
        "uniqueItems": lambda limit: len(set(map(json.dumps, value))) == len(value),
    }
    if not all(test(node[keyword]) for keyword, test in tests.items() if keyword in node):
        raise WrongError


def cells(value: Any, node: Node, root: Node, top: bool = False) -> dict[str, Any]:
    """Give what columns hold for an object; what it leaves out is null."""
    if not isinstance(value, dict) or not set(node.get("required", ())) <= value.keys():
        raise WrongError
    return {
        name: cell(value[name], child, root, top) if name in value else None
        for name, child in node["properties"].items()
    }


def string(value: Any, node: Node, top: bool) -> Any:
    """Check a string, or read a date or time."""
    if not isinstance(value, str):
        raise WrongError
    try:
        if node.get("format") == "date":
            day = datetime.strptime(value, "%Y-%m-%d").date()
            if day.isoformat() != value:
                raise WrongError
            return day if top else value
        if node.get("format") == "date-time":
            moment = datetime.fromisoformat(value)
            if "T" not in value:
                raise WrongError
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return moment.astimezone(UTC) if top else value
    except ValueError:
        raise WrongError from None
    return value


def integer(value: Any, node: Node, top: bool) -> int:
    """Check a whole number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value % 1 != 0:
        raise WrongError
    if not -(2**63) <= value < 2**63:
        raise WrongError
    return int(value)


def number(value: Any, node: Node, top: bool) -> float:
    """Check a number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise WrongError
    return float(value)


def boolean(value: Any, node: Node, top: bool) -> bool:
    """Check true and false."""
    if not isinstance(value, bool):
        raise WrongError
    return value


SIMPLE = {"string": string, "integer": integer, "number": number, "boolean": boolean}


def expected(text: str, schema: Node) -> dict[str, Any] | None:
    """Give the cells of a row by the oracle, None when the answer is not valid."""
    try:
        return cells(json.loads(text), schema, schema, top=True)
    except (WrongError, ValueError):
        return None
