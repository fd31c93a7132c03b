"""Build the request body of each endpoint, and replace keys of bodies that were written."""

from __future__ import annotations

import difflib
import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import pyarrow as pa

from batch_frames.arrow import TEXT, dumps
from batch_frames.display import brief
from batch_frames.errors import LineError, TemplateError
from batch_frames.files import Lines
from batch_frames.requests.columns import Col, Fmt
from batch_frames.requests.template import Template, constant_json
from batch_frames.schemas import to_schema

__all__ = [
    "CHAT",
    "EFFORT",
    "MODEL",
    "NEVER_REASONED",
    "SEED",
    "Default",
    "Endpoint",
    "body_texts",
    "build_template",
    "find_body",
    "with_body",
    "without_version",
]


CHAT = "/v1/chat/completions"

Endpoint = (
    Literal["/v1/chat/completions", "/v1/responses", "/v1/embeddings"]
    | Literal["/v1/completions", "/v1/moderations"]
    | str
)

Body = dict[str, Any]


@dataclass(frozen=True)
class Default:
    """A default, left out without an error if an endpoint has no place for it."""

    value: Any

    def __repr__(self) -> str:
        return repr(self.value)


MODEL: Any = Default("o4-mini")

EFFORT: Any = Default("medium")

SEED: Any = Default(334)

NEVER_REASONED = r"(ft:)?(chatgpt-4o|gpt-(3\.5|4|4o|4\.1|4\.5))(?![\w.])"
"""The families of models from before there were efforts; none will ever be added."""


# The bodies, with their keys in the order of the line; keys with None are left out. Their
# parameters are the options that the endpoint has a place for.


def _chat(
    model: Any,
    seed: Any,
    reasoning_effort: Any,
    json_schema: Any,
    system_prompt: Any,
    prompt_column: Any,
) -> Body:
    messages = {"system": system_prompt, "user": prompt_column}
    return {
        "model": model,
        "seed": seed,
        "reasoning_effort": reasoning_effort,
        "response_format": json_schema and {"type": "json_schema", "json_schema": json_schema},
        "messages": [
            {"role": role, "content": content}
            for role, content in messages.items()
            if content is not None
        ],
    }


def _responses(
    model: Any, reasoning_effort: Any, json_schema: Any, system_prompt: Any, prompt_column: Any
) -> Body:
    return {
        "model": model,
        "reasoning": None if reasoning_effort is None else {"effort": reasoning_effort},
        "text": json_schema and {"format": {"type": "json_schema", **json_schema}},
        "instructions": system_prompt,
        "input": prompt_column,
    }


def _completions(model: Any, seed: Any, prompt_column: Any) -> Body:
    return {"model": model, "seed": seed, "prompt": prompt_column}


def _input(model: Any, prompt_column: Any) -> Body:
    return {"model": model, "input": prompt_column}


def _other(model: Any) -> Body:
    return {"model": model}


ENDPOINTS: dict[str, tuple[Callable[..., Body], str]] = {
    "/chat/completions": (_chat, "messages"),
    "/responses": (_responses, "input"),
    "/embeddings": (_input, "input"),
    "/completions": (_completions, "prompt"),
    "/moderations": (_input, "input"),
}
"""For each path without its version, the body and the key of the prompt in it."""

TEXTS = ("model", "reasoning_effort", "system_prompt", "prompt_column")


def find_body(endpoint: str) -> tuple[Callable[..., Body], str | None]:
    """Return the body of an endpoint and the key of its prompt, None for an unknown endpoint.

    Versions are not compared: other services serve the same bodies at ``/chat/completions`` or
    ``/v4/chat/completions``.

    Raises:
        TemplateError: If the endpoint is not a path.
    """
    if not isinstance(endpoint, str) or not re.fullmatch(r"/[!-~]*", endpoint):
        raise TemplateError(
            f"endpoint {endpoint!r} is not a path",
            hint="pass the part after the host, such as '/v1/chat/completions'",
        )
    return ENDPOINTS.get(without_version(endpoint), (_other, None))


@lru_cache
def without_version(endpoint: str) -> str:
    """Return the path of an endpoint without its version.

    Example:
        >>> without_version("/v1/chat/completions")
        '/chat/completions'
    """
    return re.sub(r"^/v\d+(?=/)", "", endpoint)


def build_template(
    endpoint: str = CHAT, body: Mapping[str, Any] | None = None, **parts: Any
) -> Template:
    """Build the template of an endpoint from the options and the user's own keys.

    Args:
        endpoint: The API path.
        body: Top-level keys that are added or replace others.
        parts: The other options of ``BatchCreator``, and ``prompt_column``; None leaves one out.

    Raises:
        TemplateError: If an option has no place in the body, is not text, or would be replaced.
    """
    build, key = find_body(endpoint)
    body = {} if body is None else body
    if not isinstance(body, Mapping):
        raise TemplateError(f"body must be a dict, not {body!r}")
    places = inspect.signature(build).parameters
    parts = {"model": MODEL, "seed": SEED, "reasoning_effort": EFFORT, **parts}
    model = body.get("model", parts["model"])
    if model == "":
        raise TemplateError("model is empty; pass the name of a model")
    if isinstance(model, str) and re.match(NEVER_REASONED, model):
        parts = {name: None if part is EFFORT else part for name, part in parts.items()}
    if parts.get("json_schema") is not None:
        parts["json_schema"] = to_schema(parts["json_schema"])
    defaults = {name: part.value for name, part in parts.items() if isinstance(part, Default)}
    given = {n: part for n, part in parts.items() if part is not None and n not in defaults}
    for name in TEXTS:
        if not isinstance(given.get(name, ""), (str, Col, Fmt)):
            raise _not_text(name, given[name], key)
    for name in given:
        if name not in places:
            raise _no_place(name, endpoint)
    if key:
        given = {**defaults, **given}
        _check_prompt(key, given, body)
    filled = build(**{name: given.get(name) for name in places})
    filled = {name: value for name, value in filled.items() if value is not None}
    return Template(endpoint, {**filled, **body}, key)


def _not_text(name: str, value: Any, key: str | None) -> TemplateError:
    is_list = name == "prompt_column" and isinstance(value, list) and key
    hint = f"pass it as body={{{key!r}: …}}" if is_list else None
    return TemplateError(f"{name} must be text, not {brief(value)}", hint=hint)


def _no_place(name: str, endpoint: str) -> TemplateError:
    if name != "prompt_column":
        problem = f"{name} has no place in the body of {endpoint!r}"
        return TemplateError(problem, hint="leave it out")
    near = difflib.get_close_matches(endpoint, [f"/v1{path}" for path in ENDPOINTS], 1, cutoff=0.8)
    example = "put the prompt into it, as in body={'prompt': col('…')}"
    hint = f"did you mean {near[0]!r}?" if near else example
    return TemplateError(f"the body of {endpoint!r} is not known", hint=hint)


def _check_prompt(key: str, given: Mapping[str, Any], body: Mapping[str, Any]) -> None:
    replaced = f"body={{{key!r}: …}}"
    if key not in body and "prompt_column" not in given:
        raise TemplateError("there is no prompt", hint=f"pass prompt_column= or {replaced}")
    if key in body and "prompt_column" in given:
        raise TemplateError(f"{replaced} would replace the prompt", hint="pass only one of them")
    if key == "messages" and key in body and "system_prompt" in given:
        problem = f"{replaced} would replace system_prompt"
        raise TemplateError(problem, hint="make it the first of the messages")


SPACE = re.compile(r"[ \t\r\n]*")

DECODER = json.JSONDecoder(parse_int=str, parse_float=str, strict=False)


def body_texts(body: Mapping[str, Any]) -> dict[str, str]:
    """Write the keys of a body and their values as JSON, each alone.

    Raises:
        TemplateError: If it is not a dict of JSON values.
    """
    if not isinstance(body, Mapping):
        raise TemplateError(f"body must be a dict, not {body!r}")
    for key in body:
        if not isinstance(key, str):
            raise TemplateError(f"body: key {key!r} is not text")
    return {key: constant_json(value, (key,)) for key, value in body.items()}


def with_body(lines: Lines, texts: Mapping[str, str]) -> pa.Array:
    """Return request lines with other values for some top-level keys of their bodies.

    Args:
        lines: The lines, each of them a request.
        texts: The keys with their values as JSON; a key that a body does not have is appended.

    Raises:
        LineError: If Python cannot read a line.
    """
    found = []
    texts_of_lines = lines.text.view(pa.large_binary()).to_pylist()
    for raw, number in zip(texts_of_lines, lines.numbers, strict=True):
        try:
            found.append(_edited(raw.decode("utf-8", "surrogateescape"), texts))
        except (RecursionError, ValueError) as error:
            problem = f"cannot be changed: {error}"
            raise LineError(problem, path=lines.path, line=int(number)) from None
    encoded = [text.encode("utf-8", "surrogateescape") for text in found]
    return pa.array(encoded, pa.large_binary()).view(TEXT)


def _edited(line: str, texts: Mapping[str, str]) -> str:
    # Of a key that is there twice, parsers take the last.
    start = [at for key, at, _ in _members(line, _skip(line, 0)) if key == "body"][-1]
    members = list(_members(line, start))
    changes = [(at, end, texts[key]) for key, at, end in members if key in texts]
    missing = texts.keys() - {key for key, _, _ in members}
    added = [f"{dumps(key)}:{text}" for key, text in texts.items() if key in missing]
    if added:
        end = members[-1][2] if members else start + 1
        changes.append((end, end, ",".join([""] * bool(members) + added)))
    for at, end, text in reversed(changes):
        line = line[:at] + text + line[end:]
    return line


def _members(line: str, start: int) -> Iterator[tuple[str, int, int]]:
    """Yield the keys of an object, each with where its value begins and ends."""
    place = _skip(line, start + 1)
    while line[place] != "}":
        key, place = DECODER.raw_decode(line, place)
        at = _skip(line, _skip(line, place) + 1)
        _, end = DECODER.raw_decode(line, at)
        yield key, at, end
        place = _skip(line, end)
        if line[place] == ",":
            place = _skip(line, place + 1)


def _skip(line: str, place: int) -> int:
    """Return the place of the next character that is not white space."""
    found = SPACE.match(line, place)
    assert found is not None
    return found.end()
