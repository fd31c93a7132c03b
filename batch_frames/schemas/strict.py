"""Make strict schemas for the service of JSON schemas and pydantic model classes."""

from __future__ import annotations

import copy
import itertools
import math
import re
from collections.abc import Mapping
from typing import Any

from batch_frames.errors import TemplateError

__all__ = ["answer_schema", "resolve", "to_schema"]


BARE = {"type", "properties", "$ref", "anyOf", "oneOf", "allOf"}
"""Keys of which a JSON schema has at least one."""

RESPONSE_FORMAT = "json_schema"
"""The ``type`` of a ``response_format``, which no JSON schema has."""

MOST_LEVELS, MOST_VALUES = 100, 100_000

SHAPES: dict[str, tuple[Any, Any, str]] = {
    "type": (list, str, "the name of a type, or a list of them"),
    "properties": (dict, str, "an object"),
    "required": (list, str, "a list of names"),
    "enum": (list, object, "a list"),
    **dict.fromkeys(("anyOf", "oneOf", "allOf"), (list, object, "a list of schemas")),
}
"""For keywords the type of their value and of what it holds."""

ANNOTATIONS = {"title", "description", "default"}

CHOICES = {"$ref", "anyOf", "oneOf"}
"""Keywords that all become ``anyOf``, of which a part can have only one."""

NAMED = ("properties", "$defs", "definitions")
"""Keywords whose value maps the user's names to schemas."""

ROLES = {
    **dict.fromkeys(NAMED, "parts"),
    **dict.fromkeys(("items", "anyOf", "oneOf", "allOf", "prefixItems"), "part"),
}
"""What the values of keywords are: a schema or several, or schemas by name; all others are data."""


def to_schema(source: Any) -> dict[str, Any]:
    """Return the ``json_schema`` of a request: a dict with a name unchanged, all else made strict.

    Strict as in OpenAI's guide to structured outputs: every object requires all its properties,
    without defaults, and allows no others. A property that a bare schema neither requires nor gives
    a default may be null, as may one that a model has as ``Optional``.

    Args:
        source: A dict with ``name`` and ``schema``, a bare JSON schema, whose ``title`` becomes
            the name, or a pydantic model class.

    Raises:
        TemplateError: If it is none of these, its root is not an object, an object in it takes any
            keys, as ``dict[str, int]`` does, or a reference leads nowhere.

    Example:
        >>> made = to_schema({"title": "A count", "properties": {"n": {"type": "integer"}}})
        >>> made["name"], made["schema"]["required"], made["schema"]["properties"]["n"]
        ('A_count', ['n'], {'anyOf': [{'type': 'integer'}, {'type': 'null'}]})
    """
    if not isinstance(source, Mapping):
        schema = _of_model(source)
        # What a model does not require has a default, though pydantic does not show all of them.
        return _complete(source.__name__, schema, nullable=False)
    if isinstance(source.get("schema"), Mapping) and "name" in source:
        return dict(source)
    if "schema" in source or source.get("type") == RESPONSE_FORMAT or not source.keys() & BARE:
        raise TemplateError(f"json_schema: {_lack(source)}")
    _check_shape(source)
    return _complete(None, source, nullable=True)


def answer_schema(json_schema: Any) -> dict[str, Any]:
    """Return the JSON schema of the answers alone, unchanged.

    Args:
        json_schema: As for ``to_schema``, or the value of ``response_format``, or of ``format`` in
            the ``text`` of a request to ``/v1/responses``.

    Raises:
        TemplateError: If it is none of these.

    Example:
        >>> answer_schema({"name": "n", "schema": {"type": "object"}, "strict": True})
        {'type': 'object'}
    """
    if not isinstance(json_schema, Mapping):
        return _of_model(json_schema)
    inner = json_schema.get("json_schema")
    if json_schema.get("type") == RESPONSE_FORMAT and isinstance(inner, Mapping):
        return answer_schema(inner)
    if isinstance(json_schema.get("schema"), Mapping):
        _check_shape(json_schema["schema"])
        return dict(json_schema["schema"])
    if json_schema.get("type") == RESPONSE_FORMAT or not json_schema.keys() & BARE:
        raise TemplateError(f"json_schema: {_lack(json_schema)}")
    _check_shape(json_schema)
    return dict(json_schema)


def _check_shape(schema: Mapping[str, Any]) -> None:
    """Refuse what is not JSON, too deep or too large, and keywords with values of another type.

    Raises:
        TemplateError: If there is such a thing.
    """
    waiting: list[tuple[Any, str, int]] = [(schema, "part", 0)]
    for count in itertools.count():
        if not waiting:
            return
        value, role, depth = waiting.pop()
        if depth > MOST_LEVELS or count > MOST_VALUES:
            raise TemplateError("json_schema: it is nested too deep, or too large")
        is_part = role == "part" and isinstance(value, Mapping)
        if problem := _not_json(value) or (_odd(value) if is_part else None):
            raise TemplateError(f"json_schema: {problem}")
        if isinstance(value, Mapping):
            roles = ROLES if is_part else {}
            others = "part" if role == "parts" else "data"
            waiting += [(key, "data", depth + 1) for key in value]
            waiting += [(child, roles.get(k, others), depth + 1) for k, child in value.items()]
        elif isinstance(value, (list, tuple)):
            waiting += [(child, role, depth + 1) for child in value]


def _not_json(value: Any) -> str | None:
    """Describe what JSON, or a column, cannot hold."""
    try:
        str(value).encode() if isinstance(value, str) else None
        is_finite = not isinstance(value, (int, float)) or math.isfinite(value)
    except (UnicodeEncodeError, OverflowError):
        is_finite = False
    return None if is_finite else "it has a number that is not finite, or a lone surrogate"


def _odd(part: Mapping[str, Any]) -> str | None:
    """Describe a keyword whose value is not of its type."""
    for key, (kind, of, noun) in SHAPES.items():
        value = part.get(key, kind())
        items = value if isinstance(value, (list, Mapping)) else ()
        is_right = isinstance(value, kind) and all(isinstance(one, of) for one in items)
        if not is_right and not (key == "type" and isinstance(value, str)):
            return f"{key!r} must be {noun}"
    return None


def resolve(reference: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of a schema that a reference names.

    Raises:
        TemplateError: If there is no such part.
    """
    target: Any = root
    try:
        if reference != "#":
            for step in reference.removeprefix("#/").split("/"):
                target = target[step.replace("~1", "/").replace("~0", "~")]
    except (AttributeError, KeyError, TypeError):
        target = None
    if not isinstance(target, Mapping):
        raise TemplateError(
            f"json_schema: the reference {reference!r} leads nowhere",
            hint="it must name a part of the schema, as in '#/$defs/Item'",
        )
    return target


def _of_model(source: Any) -> dict[str, Any]:
    if not callable(getattr(source, "model_json_schema", None)) or not isinstance(source, type):
        raise TemplateError(f"json_schema must be a dict or a pydantic model class, not {source!r}")
    schema: dict[str, Any] = source.model_json_schema()  # type: ignore[attr-defined]
    return schema


def _lack(source: Mapping[str, Any]) -> str:
    """Describe what a dict lacks to be a ``json_schema``."""
    if source.get("type") == RESPONSE_FORMAT and "json_schema" in source:
        return "this is the whole response_format; pass what its 'json_schema' holds"
    advice = "pass both, or a JSON schema alone, with 'type' and 'properties'"
    if "schema" in source and not isinstance(source["schema"], Mapping):
        return f"'schema' is {source['schema']!r}, not a dict; {advice}"
    missing = [repr(key) for key in ("name", "schema") if key not in source]
    return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing; {advice}"


def _complete(name: str | None, root: Mapping[str, Any], *, nullable: bool) -> dict[str, Any]:
    seen = []
    while "$ref" in root and root["$ref"] not in seen:
        # A model that holds itself is only named at the root, where the service wants the object.
        seen.append(root["$ref"])
        rest = {key: value for key, value in root.items() if key != "$ref"}
        root = {**resolve(root["$ref"], root), **rest}
    if root.get("type", "object") != "object" or not ("type" in root or "properties" in root):
        raise TemplateError(
            "json_schema: the root is not an object, as strict mode requires",
            hint="make it a property of an object",
        )
    title = root.get("title") if name is None else name
    name = re.sub(r"[^A-Za-z0-9_-]", "_", title)[:64] if isinstance(title, str) else ""
    schema = _Strict(root, nullable).part(root, ())
    return {"name": name or "answer", "schema": schema, "strict": True}


class _Strict:
    """Makes the parts of one schema strict.

    Args:
        root: The whole schema, for references.
        nullable: Whether properties that are not required and have no default may be null.
    """

    def __init__(self, root: Mapping[str, Any], nullable: bool) -> None:
        self.root = root
        self.nullable = nullable

    def part(self, node: Any, path: tuple[str, ...]) -> Any:
        if isinstance(node, list):
            return [self.part(child, path) for child in node]
        if not isinstance(node, Mapping):
            return node
        node = _merged(node)
        dropped = ("default", "discriminator", "uniqueItems")
        node = {("anyOf" if k == "oneOf" else k): v for k, v in node.items() if k not in dropped}
        if "$ref" in node:
            resolve(node["$ref"], self.root)
            if len(node) > 1:
                # A reference must be alone, so other keywords go around it.
                node = {"anyOf": [{"$ref": node.pop("$ref")}], **node}
        strict: dict[str, Any] = {}
        for key, value in node.items():
            if key in NAMED and isinstance(value, Mapping):
                strict[key] = {n: self.part(child, (*path, n)) for n, child in value.items()}
            elif key in ("items", "anyOf", "allOf", "prefixItems"):
                strict[key] = self.part(value, path)
            else:
                strict[key] = copy.deepcopy(value)
        if "properties" in node or "object" in _types(node):
            self.close(strict, node, path)
        return strict

    def close(self, strict: dict[str, Any], node: Mapping[str, Any], path: tuple[str, ...]) -> None:
        """Require all properties of an object, and allow no others."""
        if node.get("additionalProperties") not in (None, False) or "properties" not in node:
            where = ".".join(path) or "the root"
            raise TemplateError(
                f"json_schema: {where} takes any keys, which strict mode forbids",
                hint="use a model with named fields, or a list of key and value",
            )
        if self.nullable:
            given = node["properties"]
            for name in given.keys() - set(node.get("required", ())):
                if not (isinstance(given[name], Mapping) and "default" in given[name]):
                    strict["properties"][name] = self.or_null(strict["properties"][name])
        strict.setdefault("type", "object")
        strict["additionalProperties"] = False
        strict["required"] = list(node["properties"])

    def or_null(self, node: Any) -> Any:
        """Allow null for a part that does not allow it yet."""
        if self.takes_null(node, ()):
            return node
        if "anyOf" in node and node.keys() <= {"anyOf", "title", "description"}:
            return {**node, "anyOf": [*node["anyOf"], {"type": "null"}]}
        return {"anyOf": [node, {"type": "null"}]}

    def takes_null(self, node: Any, seen: tuple[str, ...]) -> bool:
        if not isinstance(node, Mapping):
            return True
        takes = [None in node["enum"]] if "enum" in node else []
        takes += [node["const"] is None] if "const" in node else []
        takes += ["null" in _types(node)] if "type" in node else []
        for key in ("anyOf", "oneOf"):
            if key in node:
                takes.append(any(self.takes_null(child, seen) for child in node[key]))
        takes += [self.takes_null(child, seen) for child in node.get("allOf", ())]
        reference = node.get("$ref")
        if reference is not None and reference not in seen:
            takes.append(self.takes_null(resolve(reference, self.root), (*seen, reference)))
        return all(takes)


def _merged(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """Put the one part of ``allOf`` in its place, unless the same keywords stand next to it."""
    while len(parts := node.get("allOf", ())) == 1 and isinstance(part := parts[0], Mapping):
        rest = {key: value for key, value in node.items() if key != "allOf"}
        both = {key for key in part.keys() & rest.keys() if part[key] != rest[key]}
        if both - ANNOTATIONS or len(CHOICES & (part.keys() | rest.keys())) > 1:
            break
        node = {**part, **rest}
    return node


def _types(node: Mapping[str, Any]) -> list[Any]:
    """List the types that a part of a schema allows; none if it does not say."""
    types = node.get("type", [])
    return types if isinstance(types, list) else [types]
