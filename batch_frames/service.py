"""Speak to the service through the openai SDK, with retries of our own."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, TypeVar

from batch_frames.errors import JobError, MissingExtra

__all__ = [
    "NO_KEY",
    "TRIES",
    "NoBatchError",
    "Service",
    "batch_facts",
    "make_client",
    "pauses",
    "retry_pause",
]


Answer = TypeVar("Answer")

TRIES = 6

FIRST_PAUSE = 1.0

LONGEST_PAUSE = 60.0

LONGEST_ASKED_PAUSE = 120.0

QUICK = 60.0

RETRIED = (408, 409, 425, 429)

ALSO_CALLED = {"canceled": "cancelled", "succeeded": "completed"}
"""How else services spell the ends of a batch."""

NO_KEY = "no key"
"""What is sent to a server that asks for none; the SDK wants something."""

HTTP_LIBRARIES = ("httpx", "httpx2")


class NoBatchError(JobError):
    """Say that a reply lacks what every batch has."""


class Service:
    """Hold a client, made when it is first needed, and call it.

    Use it as a context manager: leaving it closes a client that was made here.

    Args:
        client: An ``openai.OpenAI`` or one of its kind; None makes one.
        verb: What the user called, for errors.
        base_url: Where the client that is made speaks to; None for the SDK's own choice.
    """

    def __init__(self, client: Any, verb: str, *, base_url: str | None = None) -> None:
        self._client = client
        self._verb = verb
        self._base_url = base_url
        given = type(client).__name__
        if client is not None and (given.startswith("Async") or not hasattr(client, "batches")):
            raise TypeError(f"{verb} takes an openai.OpenAI client, not {given}")

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._client is None and "api" in self.__dict__:
            self.api.close()

    @cached_property
    def api(self) -> Any:
        """The client, without the SDK's own retries: a repeated create could be paid twice."""
        client = self._client
        if client is None:
            key = None if self._base_url is None else os.environ.get("OPENAI_API_KEY", NO_KEY)
            client = make_client(self._verb, self._base_url, key)
        return client.with_options(max_retries=0)

    @cached_property
    def quick(self) -> Any:
        """The client for questions that are answered soon, or not at all."""
        # The SDK waits for ten minutes, unless the user said otherwise.
        usual = self.api.timeout == _sdk(self._verb).DEFAULT_TIMEOUT
        return self.api.with_options(timeout=QUICK) if usual else self.api

    def call(
        self,
        ask: Callable[[Any], Answer],
        *,
        is_quick: bool = False,
        tries: int = TRIES,
    ) -> Answer:
        """Call the service, and again with growing pauses while it is not reached or overloaded.

        Args:
            ask: Makes the call on the client it is given.
            is_quick: Whether to give up on an answer after a minute.
            tries: How often at most.

        Raises:
            openai.APIError: As the SDK says it.
            JobError: If what answers does not speak JSON.
        """
        for left, pause in zip(range(tries - 1, -1, -1), pauses(), strict=False):
            try:
                return _checked(ask(self.quick if is_quick else self.api))
            except Exception as error:
                asked = self.retry_pause(error)
                if asked is None or not left:
                    raise
                time.sleep(max(asked, pause))
        raise AssertionError

    def retry_pause(self, error: Exception) -> float | None:
        """Tell how long the service wants to be left alone, or None if trying again is no use."""
        return retry_pause(error, _sdk(self._verb))


def pauses(first: float | None = None) -> Iterator[float]:
    """Give pauses in seconds that grow to a minute, without end."""
    pause = FIRST_PAUSE if first is None else first
    while True:
        yield pause
        pause = min(2 * pause, max(LONGEST_PAUSE, pause))


def retry_pause(error: Exception, sdk: Any) -> float | None:
    """Tell how long to wait at least after an error; None if it would only come again."""
    if isinstance(error, sdk.APIStatusError):
        if error.status_code not in RETRIED and error.status_code < 500:
            return None
        return _asked_pause(error.response.headers)
    if isinstance(error, (sdk.APIConnectionError, NoBatchError)):
        return 0.0
    # In the middle of a streamed body, the HTTP library's own errors come through.
    return 0.0 if any(map(_is_transport, type(error).__mro__)) else None


def _is_transport(kind: type) -> bool:
    library = kind.__module__.partition(".")[0]
    return library in HTTP_LIBRARIES and kind.__name__ == "TransportError"


def _asked_pause(headers: Mapping[str, str]) -> float:
    try:
        asked = float(headers.get("retry-after", "0"))
    except ValueError:
        return 0.0
    return min(max(asked, 0.0), LONGEST_ASKED_PAUSE)


def make_client(verb: str, base_url: str | None, api_key: str | None) -> Any:
    """Make a client; what is None the SDK finds in the environment.

    Raises:
        MissingExtra: If there is no SDK; ``verb`` is what needs it.
    """
    return _sdk(verb).OpenAI(base_url=base_url, api_key=api_key)


def _checked(answer: Answer) -> Answer:
    if isinstance(answer, str):
        raise JobError("the service answers with text that is not JSON; check the base URL")
    return answer


def _sdk(verb: str) -> Any:
    try:
        return importlib.import_module("openai")
    except ImportError:
        problem = f'{verb} needs the openai SDK; pip install "batch-frames[openai]"'
        raise MissingExtra(problem) from None


def batch_facts(batch: Any) -> dict[str, Any]:
    """Take what a job knows out of the service's batch, whatever is null or missing there."""
    named, status = getattr(batch, "id", None), getattr(batch, "status", None)
    if not (isinstance(named, str) and named and isinstance(status, str)):
        raise NoBatchError(
            "the service answers with something that is no batch; check the base URL"
        )
    counts, usage = getattr(batch, "request_counts", None), getattr(batch, "usage", None)
    errors = getattr(getattr(batch, "errors", None), "data", None) or []
    names = ("code", "line", "message", "param")
    return {
        "status": ALSO_CALLED.get(status.lower(), status.lower()),
        "batch_id": named,
        "total": getattr(counts, "total", None),
        "completed": getattr(counts, "completed", None),
        "failed": getattr(counts, "failed", None),
        "output_file_id": getattr(batch, "output_file_id", None) or None,
        "error_file_id": getattr(batch, "error_file_id", None) or None,
        "created_at": getattr(batch, "created_at", None),
        "expires_at": getattr(batch, "expires_at", None),
        "input_tokens": getattr(usage, "input_tokens", None),
        "output_tokens": getattr(usage, "output_tokens", None),
        "errors": [{name: getattr(error, name, None) for name in names} for error in errors],
    }
