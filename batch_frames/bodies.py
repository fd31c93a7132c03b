"""Build the request's body out of what a user says, each part where its endpoint has it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from batch_frames.columns import Col, Fmt
from batch_frames.endpoints import KNOWN, Part, fill, find_endpoint
from batch_frames.errors import TemplateError
from batch_frames.template import Template

__all__ = ["DefaultNumber", "DefaultText", "build_template"]


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
