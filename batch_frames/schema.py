"""Turn a pydantic model class into the JSON schema that the service takes."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

from batch_frames.errors import TemplateError

__all__ = ["to_schema"]


def to_schema(source: Any) -> dict[str, Any]:
    """Give the ``json_schema`` of a request: a dict as it is, a pydantic model class made strict.

    Strict as OpenAI's guide to structured outputs has it: every object takes no other properties
    and requires all it has, without defaults; what is ``Optional`` may be null.

    Args:
        source: A dict with ``name`` and ``schema``, or a pydantic model class.

    Raises:
        TemplateError: If it is neither, or a field takes any keys, as ``dict[str, int]`` does.
    """
    if isinstance(source, Mapping):
        return dict(source)
    if not callable(getattr(source, "model_json_schema", None)) or not isinstance(source, type):
        raise TemplateError(f"json_schema must be a dict or a pydantic model class, not {source!r}")
    root = source.model_json_schema()  # type: ignore[attr-defined]
    if "$ref" in root:
        # A model that holds itself is only named at the root, where the service wants the object.
        root = {**_target(root["$ref"], root), "$defs": root["$defs"]}
    name = re.sub(r"[^A-Za-z0-9_-]", "_", source.__name__)[:64]
    return {"name": name, "schema": _strict(root, ()), "strict": True}


def _strict(node: Any, path: tuple[str, ...]) -> Any:
    if isinstance(node, list):
        return [_strict(child, path) for child in node]
    if not isinstance(node, Mapping):
        return node
    dropped = ("default", "discriminator")
    node = {("anyOf" if k == "oneOf" else k): v for k, v in node.items() if k not in dropped}
    if "$ref" in node and len(node) > 1:
        # A reference must stand alone, so that what else is said goes around it.
        node = {"anyOf": [{"$ref": node.pop("$ref")}], **node}
    strict: dict[str, Any] = {}
    for key, value in node.items():
        if key in ("properties", "$defs"):
            strict[key] = {n: _strict(child, (*path, n)) for n, child in value.items()}
        elif key in ("items", "anyOf", "allOf", "prefixItems"):
            strict[key] = _strict(value, path)
        else:
            strict[key] = copy.deepcopy(value)
    if node.get("type") == "object" or "properties" in node:
        _close(strict, path)
    return strict


def _close(node: dict[str, Any], path: tuple[str, ...]) -> None:
    if node.get("additionalProperties") not in (None, False) or "properties" not in node:
        where = ".".join(path) or "the root"
        raise TemplateError(
            f"json_schema: {where} takes any keys, which strict mode forbids; "
            "use a model with named fields, or a list of key and value"
        )
    node["additionalProperties"] = False
    node["required"] = list(node["properties"])


def _target(reference: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    target: Any = root
    for step in reference.removeprefix("#/").split("/"):
        target = target[step.replace("~1", "/").replace("~0", "~")]
    return target  # type: ignore[no-any-return]
