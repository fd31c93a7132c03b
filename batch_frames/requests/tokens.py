"""Count the input tokens of requests offline, as the service counts them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import msgspec
import pyarrow as pa

from batch_frames.arrow import TEXT, dumps
from batch_frames.errors import MissingExtra
from batch_frames.files import load_line
from batch_frames.requests.endpoints import without_version
from batch_frames.schemas import (
    Count,
    Uncounted,
    count_functions,
    count_functions_cl100k,
    count_schema,
    list_objects,
)

__all__ = ["TOKEN_COLUMNS", "count_tokens"]


O200K = r"(ft:)?(o[134]|chatgpt-4o|gpt-(4o|4\.1|4\.5|5))(?![\w.])"
"""Models whose encoding, ``o200k_base``, is documented: the table of tiktoken 0.14."""

CL100K = r"(ft:)?(gpt-(3\.5|35|4)|(text-embedding|davinci|babbage)(-[\w-]+))(?![\w.])"
"""Models whose encoding is ``cl100k_base``, by the same table. All others count by the other."""

MESSAGE, NAME, REPLY = 3, 1, 3

COOKBOOK = r"(ft:)?gpt-(3\.5-turbo|4|4-32k|4-turbo|4o|4o-mini)(?=-\d{4}|:|$)"
"""Models for which these tokens of each message, of its name and of the reply are documented."""

O_SERIES = r"o\d"
"""Models that were seen to count one token less: all 658 requests of a public batch to o3-mini."""

COMPLETION_LIMIT = 16
"""``max_tokens`` of ``/v1/completions`` where it is not set."""

TOKEN_COLUMNS = {
    "model": TEXT,
    "input_tokens": pa.int64(),
    "exact": pa.bool_(),
    "repeated_tokens": pa.int64(),
    "max_output_tokens": pa.int64(),
    "is_cached": pa.bool_(),
}


class Body(msgspec.Struct):
    """What is read of the body of a request, whatever its endpoint."""

    model: Any = None
    messages: Any = None
    input: Any = None
    instructions: Any = None
    prompt: Any = None
    tools: msgspec.Raw = msgspec.Raw()
    functions: msgspec.Raw = msgspec.Raw()
    response_format: msgspec.Raw = msgspec.Raw()
    text: msgspec.Raw = msgspec.Raw()
    max_completion_tokens: Any = None
    max_tokens: Any = None
    max_output_tokens: Any = None
    n: Any = None
    previous_response_id: Any = None
    conversation: Any = None
    prompt_cache_options: Any = None


class Request(msgspec.Struct):
    """A request line."""

    body: Body
    url: str = ""


REQUESTS = msgspec.json.Decoder(Request)


@cache
def _tokenizer(encoding: str) -> Count:
    try:
        with warnings.catch_warnings():
            # It reads its data by a function that some versions of Python want to drop.
            warnings.simplefilter("ignore", DeprecationWarning)
            from bpe_openai import _bindings
    except ImportError:
        hint = 'pip install "batch-frames[tokens]"'
        raise MissingExtra("counting tokens needs bpe-openai", hint=hint) from None
    count: Count = _bindings.tokenizer_for_encoding(encoding).count
    return count


def count_tokens(lines: pa.Array) -> pa.Table:
    """Count the input tokens of requests, each text of a kind once.

    Texts are counted by the encoding of the model. What is around them follows the OpenAI Cookbook,
    "How to count tokens with tiktoken": 3 tokens for a message, 1 for a name and 3 for the reply,
    and its rule for functions. A schema counts like its JSON without ``required``,
    ``additionalProperties`` and ``$schema``, and 9 tokens, as users found (openai-cookbook, issue
    2140). All this runs in one thread: the tokenizer holds Python's lock.

    Args:
        lines: ``large_string``, a request per line.

    Returns:
        A table with a row per line and the columns ``model``, ``input_tokens``, ``exact`` (whether
        encoding and overhead of the model are documented), ``repeated_tokens`` (how many of them,
        from the first on, an earlier line has too), ``max_output_tokens`` and ``is_cached`` (false
        where the body keeps the service from writing to its cache). Where there are images, files,
        audio, hosted tools or stored parts, ``input_tokens`` is null; where the line is no request
        with a model, all are.

    Raises:
        MissingExtra: If bpe-openai is not installed.

    Example:
        >>> line = '{"url": "/v1/embeddings", "body": {"model": "gpt-6-luna", "input": "Hello!"}}'
        >>> count_tokens(pa.array([line], pa.large_string()))["input_tokens"].to_pylist()
        [2]
    """
    _tokenizer("o200k_base")
    counter_of = cache(_Counter)
    decoded = map(_decoded, lines.cast(pa.large_binary()).to_pylist())
    facts = [_facts(request, counter_of) for request in decoded]
    kinds = enumerate(TOKEN_COLUMNS.items())
    return pa.table({name: pa.array([one[n] for one in facts], kind) for n, (name, kind) in kinds})


def _decoded(line: bytes) -> Request | None:
    try:
        return REQUESTS.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    try:
        # A lone surrogate and the like, which Python's own reader takes.
        return REQUESTS.decode(dumps(load_line(line.rstrip(b"\r\n"))))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _facts(request: Request | None, counter_of: Callable[[str], _Counter]) -> tuple[Any, ...]:
    if request is None or not isinstance(request.body.model, str):
        return (None,) * len(TOKEN_COLUMNS)
    body, path = request.body, without_version(request.url)
    counter = counter_of(body.model)
    counter.begin()
    try:
        ENDPOINTS.get(path, _unknown)(counter, body)
        tokens: int | None = counter.tokens
    except Uncounted:
        tokens = None
    exact = tokens is not None and counter.is_exact
    options = body.prompt_cache_options
    is_cached = not (isinstance(options, dict) and options.get("mode") == "explicit")
    limit = _output_limit(path, body)
    return body.model, tokens, exact, counter.repeated, limit, is_cached


@dataclass
class _Counter:
    """Counts the tokens of the requests to a model; every text is counted once."""

    model: str
    tokens: int = 0
    repeated: int = 0
    is_exact: bool = True
    _is_new: bool = False
    _known: dict[Any, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._is_cl100k = re.match(CL100K, self.model) is not None
        self._encoding_is_known = self._is_cl100k or re.match(O200K, self.model) is not None
        self._overhead_is_known = re.match(COOKBOOK, self.model) is not None
        self._reply = REPLY - (re.match(O_SERIES, self.model) is not None)
        tools = count_functions_cl100k if self._is_cl100k else count_functions
        self._settings = {
            **dict.fromkeys(("tools", "functions"), tools),
            **dict.fromkeys(("response_format", "text"), count_schema),
        }
        self._count = _tokenizer("cl100k_base" if self._is_cl100k else "o200k_base")

    def begin(self) -> None:
        """Begin with the next request."""
        self.tokens = self.repeated = 0
        self.is_exact, self._is_new = self._encoding_is_known, False

    def add(self, text: str) -> None:
        """Count a text."""
        tokens = self._known.get(text)
        if tokens is None:
            self._is_new = True
            tokens = self._known[text] = self._count(text)
        self.tokens += tokens
        if not self._is_new:
            self.repeated = self.tokens

    def constant(self, raw: bytes, count: Callable[[Any, Count], int]) -> None:
        """Count JSON that is the same in most requests."""
        key = (raw, count)
        if key not in self._known:
            self._is_new = True
            self._known[key] = count(msgspec.json.decode(raw), self._count)
        self.tokens += self._known[key]
        self.is_exact = False
        if not self._is_new:
            self.repeated = self.tokens

    def chat(self, messages: Any) -> None:
        """Count messages, and what primes the reply."""
        for message in list_objects(messages):
            self.message(message)
        self.tokens += self._reply
        self.is_exact &= self._overhead_is_known

    def message(self, message: Mapping[str, Any]) -> None:
        """Count a message, with its text or its parts."""
        self.tokens += MESSAGE
        for key, value in message.items():
            if key in ("role", "name") and isinstance(value, str):
                self.tokens += NAME * (key == "name")
                self.add(value)
            elif key in ("content", "output"):
                self.content(value)
            elif key == "audio" and value is not None:
                raise Uncounted
            elif key not in ("tool_call_id", "type", "id", "status") and value is not None:
                self.is_exact = False
                for text in _texts(value):
                    self.add(text)

    def content(self, content: Any) -> None:
        """Count a text, or parts of which each is one."""
        if isinstance(content, str):
            self.add(content)
            return
        for part in list_objects(content or []):
            self.is_exact = False
            text = part.get("text", part.get("refusal"))
            if not isinstance(text, str):
                raise Uncounted
            self.add(text)

    def setting(self, body: Body) -> None:
        """Count the definitions of functions and the schema of the answers, which come first."""
        for name, count in self._settings.items():
            raw = bytes(getattr(body, name))
            if raw not in (b"", b"null", b"[]"):
                self.constant(raw, count)

    def inputs(self, inputs: Any) -> None:
        """Count a text, tokens, or a list of either."""
        for one in inputs if isinstance(inputs, list) else [inputs]:
            if isinstance(one, str):
                self.add(one)
            elif isinstance(one, int):
                self.tokens += 1
            elif isinstance(one, list):
                self.tokens += len(one)
            else:
                self.content([one])


def _chat(counter: _Counter, body: Body) -> None:
    counter.setting(body)
    counter.chat(body.messages)


def _responses(counter: _Counter, body: Body) -> None:
    if body.previous_response_id or body.conversation or body.prompt:
        raise Uncounted
    counter.setting(body)
    given = [{"role": "developer", "content": body.instructions}] if body.instructions else []
    is_text = isinstance(body.input, str)
    items = [{"role": "user", "content": body.input}] if is_text else list_objects(body.input)
    if any("role" not in item and item.get("type") not in CALLS for item in items):
        raise Uncounted
    counter.chat([*given, *items])
    counter.is_exact = False


CALLS = ("function_call", "function_call_output")


def _embeddings(counter: _Counter, body: Body) -> None:
    counter.inputs(body.input)


def _completions(counter: _Counter, body: Body) -> None:
    counter.inputs(body.prompt)


def _unknown(counter: _Counter, body: Body) -> None:
    raise Uncounted


ENDPOINTS: Mapping[str, Callable[[_Counter, Body], None]] = {
    "/chat/completions": _chat,
    "/responses": _responses,
    "/embeddings": _embeddings,
    "/completions": _completions,
    "/moderations": _embeddings,
}


def _output_limit(path: str, body: Body) -> int | None:
    """Return the most tokens that the answer may have; None for any number."""
    if path in ("/embeddings", "/moderations"):
        return 0
    answers = body.n if type(body.n) is int and body.n > 0 else 1
    if path == "/completions":
        answers *= len(body.prompt) if isinstance(body.prompt, list) else 1
    limits = (body.max_completion_tokens, body.max_output_tokens, body.max_tokens)
    limit = next((limit for limit in limits if type(limit) is int and limit >= 0), None)
    if limit is None and path == "/completions":
        limit = COMPLETION_LIMIT
    return None if limit is None else limit * answers


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts in a value, at any depth."""
    if isinstance(value, str):
        yield value
    values: Iterable[Any] = value.values() if isinstance(value, dict) else ()
    for one in value if isinstance(value, list) else values:
        yield from _texts(one)
