"""Record what differs between endpoints: where each part of a request goes in the body."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from batch_frames.errors import TemplateError

__all__ = ["KNOWN", "Endpoint", "Part", "fill", "find_endpoint"]


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
