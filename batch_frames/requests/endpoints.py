"""Record where each part of a request goes in the body of an endpoint, and build bodies."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from batch_frames.errors import TemplateError
from batch_frames.requests.columns import Col, Fmt
from batch_frames.requests.template import Template

__all__ = [
    "KNOWN",
    "DefaultNumber",
    "DefaultText",
    "Endpoint",
    "Part",
    "build_template",
    "fill",
    "find_endpoint",
]


class Part(Enum):
    """Name what a user says and an endpoint places."""

    MODEL = "model"
    SEED = "seed"
    EFFORT = "reasoning_effort"
    SYSTEM = "system_prompt"
    SCHEMA = "json_schema"
    PROMPT = "prompt_column"


@dataclass(frozen=True)
class Flat:
    """Mark where the fields of a part stand beside other keys instead of under one."""

    keys: Mapping[str, Any]
    part: Part


@dataclass(frozen=True)
class Endpoint:
    """Describe the body of one endpoint.

    Attributes:
        path: The API's path without its version, as in ``/chat/completions``.
        body: The body with a ``Part`` where the user's value goes, in the order it is written.
        prompt_key: The body's top-level key that asks the question, or None where unknown.
    """

    path: str
    body: Mapping[str, Any] = field(default_factory=dict)
    prompt_key: str | None = None

    def parts(self) -> set[Part]:
        """List the parts that this endpoint has a place for."""
        return set(_parts(self.body))


CHAT = Endpoint(
    "/chat/completions",
    {
        "model": Part.MODEL,
        "seed": Part.SEED,
        "reasoning_effort": Part.EFFORT,
        "response_format": {"type": "json_schema", "json_schema": Part.SCHEMA},
        "messages": [
            {"role": "system", "content": Part.SYSTEM},
            {"role": "user", "content": Part.PROMPT},
        ],
    },
    prompt_key="messages",
)

RESPONSES = Endpoint(
    "/responses",
    {
        "model": Part.MODEL,
        "reasoning": {"effort": Part.EFFORT},
        "text": {"format": Flat({"type": "json_schema"}, Part.SCHEMA)},
        "instructions": Part.SYSTEM,
        "input": Part.PROMPT,
    },
    prompt_key="input",
)

EMBEDDINGS = Endpoint(
    "/embeddings", {"model": Part.MODEL, "input": Part.PROMPT}, prompt_key="input"
)

COMPLETIONS = Endpoint(
    "/completions",
    {"model": Part.MODEL, "seed": Part.SEED, "prompt": Part.PROMPT},
    prompt_key="prompt",
)

MODERATIONS = Endpoint(
    "/moderations", {"model": Part.MODEL, "input": Part.PROMPT}, prompt_key="input"
)

OTHER = Endpoint("", {"model": Part.MODEL})

ENDPOINTS = (CHAT, RESPONSES, EMBEDDINGS, COMPLETIONS, MODERATIONS)

KNOWN = [f"/v1{endpoint.path}" for endpoint in ENDPOINTS]


def find_endpoint(path: str) -> Endpoint:
    """Find the record of a path; one that is not known has its body from the user alone.

    Versions are not compared: other services serve the same shapes at ``/chat/completions`` or
    ``/v4/chat/completions``.
    """
    if not isinstance(path, str) or not re.fullmatch(r"/[!-~]*", path):
        raise TemplateError(
            f"endpoint {path!r} is not a path; "
            "pass the part after the host, such as '/v1/chat/completions'"
        )
    bare = re.sub(r"^/v\d+(?=/)", "", path)
    return next((endpoint for endpoint in ENDPOINTS if endpoint.path == bare), OTHER)


def fill(body: Mapping[str, Any], values: Mapping[Part, Any]) -> dict[str, Any]:
    """Put the values in their places; what has no value is left out with all that wraps it."""
    filled = {key: _fill(node, values) for key, node in body.items()}
    return {key: node for key, node in filled.items() if node is not None}


def _fill(node: Any, values: Mapping[Part, Any]) -> Any:
    if isinstance(node, Part):
        return values.get(node)
    if isinstance(node, Flat):
        value = values.get(node.part)
        return None if value is None else {**node.keys, **value}
    if isinstance(node, Mapping):
        filled = {key: _fill(child, values) for key, child in node.items()}
        return None if None in filled.values() else filled
    if isinstance(node, list):
        return [item for item in (_fill(child, values) for child in node) if item is not None]
    return node


def _parts(node: Any) -> list[Part]:
    if isinstance(node, Part):
        return [node]
    if isinstance(node, Flat):
        return [node.part]
    children = node.values() if isinstance(node, Mapping) else node
    if isinstance(node, (Mapping, list)):
        return [part for child in children for part in _parts(child)]
    return []


TEXTS = (Part.MODEL, Part.EFFORT, Part.SYSTEM, Part.PROMPT)


class DefaultText(str):
    """A default, which is not the same as its value given by a user."""

    __slots__ = ()


class DefaultNumber(int):
    """A default, which is not the same as its value given by a user."""

    __slots__ = ()


def build_template(
    path: str, parts: Mapping[Part, Any], body: Mapping[str, Any] | None
) -> Template:
    """Put the parts into the endpoint's body, then the user's own keys over them.

    Args:
        path: The endpoint.
        parts: Values of parts; None leaves a part out, and a default gives way.
        body: Top-level keys that are added or replace others.

    Raises:
        TemplateError: If a part has no place in this body, is no text, or would be lost.
    """
    endpoint = find_endpoint(path)
    body = {} if body is None else body
    if not isinstance(body, Mapping):
        raise TemplateError(f"body must be a dict, not {body!r}")
    places = endpoint.parts()
    given = {part: value for part, value in parts.items() if value is not None}
    said = {p for p, value in given.items() if not isinstance(value, (DefaultText, DefaultNumber))}
    for part in TEXTS:
        if part in said and not isinstance(given[part], (str, Col, Fmt)):
            raise TemplateError(f"{part.value} must be text, not {given[part]!r}")
    for part in Part:
        if part in said and part not in places:
            raise TemplateError(_homeless(part, path))
    if endpoint.prompt_key is None:
        given = {part: value for part, value in given.items() if part in said}
    _check_prompt(endpoint.prompt_key, given, body)
    return Template(path, {**fill(endpoint.body, given), **body}, endpoint.prompt_key)


def _homeless(part: Part, path: str) -> str:
    if part is Part.PROMPT:
        near = difflib.get_close_matches(path, KNOWN, 1, cutoff=0.8)
        example = "put the prompt into it, as in body={'prompt': col('…')}"
        hint = f"did you mean {near[0]!r}?" if near else example
        return f"the body of {path!r} is not known; {hint}"
    return f"{part.value} has no place in the body of {path!r}; leave it out"


def _check_prompt(key: str | None, given: Mapping[Part, Any], body: Mapping[str, Any]) -> None:
    if key is None:
        return
    if key not in body and Part.PROMPT not in given:
        raise TemplateError(f"there is no prompt; pass prompt_column= or body={{{key!r}: …}}")
    if key in body and Part.PROMPT in given:
        raise TemplateError(f"body={{{key!r}: …}} would replace the prompt; pass only one of them")
    if key == "messages" and key in body and Part.SYSTEM in given:
        raise TemplateError("body={'messages': …} would replace system_prompt; put it in there")
