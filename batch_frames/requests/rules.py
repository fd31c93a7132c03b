"""Say what is wrong with a request, by its keys, types and constant parts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from batch_frames.display import brief
from batch_frames.files import kind_of, load_exactly
from batch_frames.requests.endpoints import NEVER_REASONED, without_version
from batch_frames.schemas import format_problems, strict_problems

__all__ = ["COUNTS", "Problem", "Shape", "Shapes", "text_in"]


@dataclass(frozen=True)
class Problem:
    """Something that is wrong with a request or a file.

    Attributes:
        code: The service's code for it where there is one.
        param: Where in the request it is, or None.
        message: What is wrong.
        severity: ``"error"`` for what the service refuses, else ``"warning"``.
    """

    code: str
    param: str | None
    message: str
    severity: str = "error"


Request = Mapping[str, Any]

KINDS: dict[type, str] = {str: "text", list: "an array", dict: "an object"}

PLAIN, PLAIN_OR_LIST = (str,), (str, list)

ENVELOPE = {"custom_id": (str,), "method": (str,), "url": (str,), "body": (dict,)}

BODIES: dict[str, dict[str, tuple[type, ...]]] = {
    "/chat/completions": {"model": PLAIN, "messages": (list,)},
    "/responses": {"model": PLAIN, "input": PLAIN_OR_LIST},
    "/embeddings": {"model": PLAIN, "input": PLAIN_OR_LIST},
    "/completions": {"model": PLAIN, "prompt": PLAIN_OR_LIST},
    "/moderations": {"input": PLAIN_OR_LIST},
    "/images/generations": {"prompt": PLAIN},
    "/images/edits": {"prompt": PLAIN},
    "/videos": {"prompt": PLAIN},
}
"""The endpoints of OpenAI's Batch API, each with the keys that a body must have."""

INSTEAD_OF_INPUT = ("prompt", "conversation", "previous_response_id")
"""Keys of which one may stand for ``input`` on ``/responses``; ``prompt`` for the model, too."""

COUNTS = ("max_completion_tokens", "max_output_tokens", "max_tokens", "n")

ROLES = ("developer", "system", "user", "assistant", "tool", "function")

ANSWERS = ("text", "json_object", "json_schema")

FORMATS = ("body.response_format.json_schema", "body.text.format")


def errors_of(request: Any) -> list[Problem]:
    """List what the service refuses in a parsed line.

    Only keys, types and constant parts are looked at, never the text of a prompt or an id, so that
    lines that differ in nothing else have the same problems.
    """
    if not isinstance(request, dict):
        problem = f"the line is {kind_of(request)}, not an object"
        return [Problem("invalid_json_line", None, problem)]
    found = list(_of_keys(request, ENVELOPE, ""))
    method, url, body = (request.get(key) for key in ("method", "url", "body"))
    if isinstance(method, str) and method != "POST":
        found.append(Problem("invalid_method", "method", f"'method' is {method!r}, not 'POST'"))
    if isinstance(url, str) and without_version(url) not in BODIES:
        found.append(Problem("invalid_url", "url", f"{url!r} is no endpoint of the Batch API"))
    if isinstance(body, dict):
        found += _of_body(body, without_version(url) if isinstance(url, str) else "")
    return found


def _of_keys(
    holder: Request, wanted: Mapping[str, tuple[type, ...]], above: str
) -> Iterator[Problem]:
    for key, kinds in wanted.items():
        place = f"{above}{key}"
        if key not in holder:
            problem = f"there is no {place!r}"
            yield Problem("missing_required_parameter", place, problem)
        elif not isinstance(holder[key], kinds):
            right = " or ".join(KINDS[kind] for kind in kinds)
            problem = f"{place!r} is {_kind(holder[key])}, not {right}"
            yield Problem("invalid_type", place, problem)


def _kind(value: Any) -> str:
    return "an object" if isinstance(value, dict) else kind_of(value)


def _of_body(body: Request, endpoint: str) -> Iterator[Problem]:
    wanted = dict(BODIES.get(endpoint, {}))
    if endpoint == "/responses":
        given = {key for key, value in body.items() if value is not None}
        if given.intersection(INSTEAD_OF_INPUT) and "input" not in given:
            del wanted["input"]
        if "prompt" in given and "model" not in given:
            del wanted["model"]
    yield from _of_keys(body, wanted, "body.")
    if body.get("stream") is True:
        problem = "a batch cannot stream"
        yield Problem("streaming_unsupported", "body.stream", problem)
    yield from _of_counts(body)
    if endpoint == "/chat/completions":
        yield from _of_chat(body)
    for place in FORMATS:
        answer = _inside({"body": body}, place)
        if isinstance(answer, dict) and _is_json_schema({"body": body}, place):
            for code, inside, problem in format_problems(answer):
                yield Problem(code, f"{place}.{inside}", problem)
    for place, function in _functions(body):
        parameters = function.get("parameters")
        if function.get("strict") is True and parameters is not None:
            for inside, problem in strict_problems(parameters):
                param = ".".join(filter(None, (place, "parameters", inside)))
                yield Problem("invalid_function_parameters", param, f"strict schema: {problem}")


def _of_counts(body: Request) -> Iterator[Problem]:
    for place, value in ((f"body.{key}", body.get(key)) for key in COUNTS):
        if type(value) is int and value < 0:
            yield Problem("integer_below_min_value", place, f"{place!r} is negative")
        elif not (value is None or type(value) in (int, float)):
            problem = f"{place!r} is {_kind(value)}, not a whole number"
            yield Problem("invalid_type", place, problem)


def _of_chat(body: Request) -> Iterator[Problem]:
    messages, answer = body.get("messages"), body.get("response_format")
    if messages == []:
        yield Problem("empty_array", "body.messages", "there is no message")
    elif isinstance(messages, list):
        # Those between are not looked at: conversations of any length have few shapes.
        for name, message in (("first", messages[0]), ("last", messages[-1])):
            if (role := _inside(message, "role")) not in ROLES:
                what = "no role" if role is None else f"the role {brief(role)}"
                problem = f"the {name} message has {what}; roles are {', '.join(ROLES)}"
                yield Problem("invalid_value", "body.messages", problem)
                break
    if answer is not None:
        yield from _of_keys(body, {"response_format": (dict,)}, "body.")
    if isinstance(answer, dict):
        yield from _of_keys(answer, {"type": PLAIN}, "body.response_format.")
        if isinstance(kind := answer.get("type"), str) and kind not in ANSWERS:
            problem = f"there is no type {kind!r}; types are {', '.join(ANSWERS)}"
            yield Problem("invalid_value", "body.response_format.type", problem)


def _inside(value: Any, place: str) -> Any:
    for key in place.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _is_json_schema(request: Request, place: str) -> bool:
    holder = place.removesuffix(".json_schema")
    return bool(_inside(request, f"{holder}.type") == "json_schema")


def _functions(body: Request) -> Iterator[tuple[str, Request]]:
    """Yield the functions among the tools, as chat completions or responses have them."""
    tools = body.get("tools")
    for number, tool in enumerate(tools if isinstance(tools, list) else ()):
        if isinstance(tool, dict) and tool.get("type") == "function":
            place = f"body.tools.{number}"
            inner = tool.get("function")
            yield (f"{place}.function", inner) if isinstance(inner, dict) else (place, tool)


@dataclass(frozen=True)
class Family:
    """A family of models, by what documentation says that they refuse.

    Attributes:
        name: A pattern of their names, without the date at the end.
        efforts: The values of ``reasoning_effort``.
        samples: With which efforts, or which without any (None), a ``temperature`` other than 1 may
            be accepted.
    """

    name: str
    efforts: tuple[str, ...]
    samples: tuple[str | None, ...]


NEWEST = ("none", "low", "medium", "high", "xhigh", "max")

FAMILIES = (
    Family(r"o1|o3|o3-mini|o4-mini", ("low", "medium", "high"), ()),
    Family(r"gpt-5(-mini|-nano)?", ("minimal", "low", "medium", "high"), ()),
    Family(r"gpt-5\.1", ("none", "low", "medium", "high"), (None, "none")),
    Family(r"gpt-5\.(2|4|4-mini|4-nano|5)", NEWEST[:-1], (None, "none")),
    Family(r"gpt-5\.5-pro", ("medium", "high", "xhigh"), (None,)),
    Family(r"gpt-5\.6-(sol|terra|luna)", NEWEST, ("none",)),
    Family(r"gpt-6-(sol|luna)|gpt-6\.1-\w+", NEWEST, (None, "none")),
    Family(r"gpt-6-astra", NEWEST[1:], ()),
)
"""What OpenAI's reference and guides, LiteLLM's table of models (1.109.1) and reports of refused
requests said of reasoning models on 22 November 2026. Other models get no opinion."""

DATE = r"(-20\d\d-\d\d-\d\d)?"

WINDOWS = {
    8_192: r"text-embedding-(3-small|3-large|ada-002)",
    128_000: r"gpt-4o(-mini)?",
    200_000: r"o1|o3|o3-mini|o4-mini",
    400_000: r"gpt-5(-mini|-nano|-pro)?|gpt-5\.[12]|gpt-5\.4-(mini|nano)",
    1_050_000: r"gpt-(4\.1(-mini|-nano)?|5\.[45](-pro)?|(5\.6|6|6\.1)-(astra|sol|terra|luna))",
}
"""Models by how many tokens their context has, as genai-prices 0.2.3 and OpenAI's pages of models
had it on 27 November 2026; the largest number where they differ. Others get no opinion."""

WRITTEN_FROM, WRITING = 1_024, r"gpt-(5\.6|6(\.\d)?)-\w+"
"""From how many tokens on a prompt is written to the cache, and the models that charge a quarter
more for it: "GPT-5.6 models and later model families" (OpenAI's guide to prompt caching, 27
November 2026)."""


def warnings_of(request: Any) -> list[Problem]:
    """List what is likely a mistake in the constant parts of a request without errors."""
    body, url = request["body"], request["url"]
    found = list(_of_model(body))
    if not url.startswith("/v1/"):
        problem = f"{url!r} is an endpoint of other services; OpenAI's begin with '/v1/'"
        found.append(_warning("invalid_url", "url", problem))
    if without_version(url) == "/responses" and "response_format" in body:
        problem = "'response_format' has moved to 'text.format' on this endpoint"
        found.append(_warning("unsupported_parameter", "body.response_format", problem))
    return found


def limits_of(request: Any) -> list[tuple[int, Problem]]:
    """List how many tokens a prompt may have, each with what is likely a mistake above."""
    body, found = request["body"], []
    model = body.get("model")
    embeds = without_version(request["url"]) == "/embeddings"
    for window, names in WINDOWS.items():
        # Of several texts to embed, each has the whole context.
        if _is_named(model, names) and not (embeds and isinstance(body["input"], list)):
            problem = f"the prompt is beyond the {window:,} tokens of the context of {model!r}"
            found.append((window, _warning("context_length_exceeded", None, problem)))
    is_cached = _inside(body, "prompt_cache_options.mode") != "explicit" and not embeds
    if is_cached and _is_named(model, WRITING):
        problem = (
            f"from {WRITTEN_FROM:,} tokens on {model!r} writes prompts to its cache, at 1.25 times "
            "the price; 'prompt_cache_options': {'mode': 'explicit'} turns that off"
        )
        place = "body.prompt_cache_options"
        found.append((WRITTEN_FROM - 1, _warning("prompt_cache_writes", place, problem)))
    return found


def _is_named(model: Any, names: str) -> bool:
    return isinstance(model, str) and re.fullmatch(f"({names}){DATE}", model) is not None


def _warning(code: str, param: str | None, message: str) -> Problem:
    return Problem(code, param, message, "warning")


def _of_model(body: Request) -> Iterable[Problem]:
    model = body.get("model")
    if not isinstance(model, str):
        return
    place, effort = "body.reasoning_effort", body.get("reasoning_effort")
    if effort is None:
        place, effort = "body.reasoning.effort", _inside(body, "reasoning.effort")
    if re.match(NEVER_REASONED, model):
        if effort is not None:
            yield _warning("unsupported_parameter", place, f"{model!r} has no reasoning effort")
        return
    family = next((one for one in FAMILIES if _is_named(model, one.name)), None)
    if family is None:
        return
    if effort is not None and effort not in family.efforts:
        known = ", ".join(family.efforts)
        problem = f"{model!r} takes no effort {effort!r}, but {known}"
        yield _warning("unsupported_value", place, problem)
    if "max_tokens" in body:
        problem = f"{model!r} refuses 'max_tokens'; use 'max_completion_tokens'"
        yield _warning("unsupported_parameter", "body.max_tokens", problem)
    if body.get("temperature") not in (None, 1) and effort not in family.samples:
        only = " but with effort 'none'" if "none" in family.samples else ""
        problem = f"{model!r} takes no 'temperature' other than 1{only}"
        yield _warning("unsupported_value", "body.temperature", problem)


@dataclass(frozen=True)
class Shape:
    """What all requests of a shape have in common.

    Attributes:
        problems: What is wrong with them.
        url: Their ``url``, None if it is not text.
        model: Their model, likewise.
        limits: How many tokens their prompts may have, each with what is wrong above.
    """

    problems: tuple[Problem, ...]
    url: str | None
    model: str | None
    limits: tuple[tuple[int, Problem], ...]


class Shapes(dict[int, Shape]):
    """The shapes of requests that were met, each judged once.

    Args:
        warnings: Whether to look for likely mistakes, too.
    """

    def __init__(self, *, warnings: bool) -> None:
        super().__init__()
        self.warnings = warnings

    def of(self, number: int, raw: bytes) -> Shape:
        """Return a shape, by its number and a line that has it."""
        if number not in self:
            request = load_exactly(raw)
            problems, limits = errors_of(request), []
            if self.warnings and not problems:
                problems, limits = warnings_of(request), limits_of(request)
            url, model = text_in(request, "url"), text_in(request, "body.model")
            self[number] = Shape(tuple(problems), url, model, tuple(limits))
        return self[number]


def text_in(request: Any, place: str) -> str | None:
    """Return the text at a place in a request, None if there is none."""
    found = _inside(request, place)
    return found if isinstance(found, str) else None
