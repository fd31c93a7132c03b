"""Call the service through the openai SDK, with retries."""

from __future__ import annotations

import importlib
import json
import os
import time
from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from math import inf
from typing import Any, Self, TypeVar

from batch_frames.batches.replies import ReplyError, not_text
from batch_frames.display import printable
from batch_frames.errors import SECONDS, BatchFramesError, MissingExtra, check_argument
from batch_frames.files import Job
from batch_frames.progress import pause

__all__ = [
    "NO_KEY",
    "TORN",
    "TRIES",
    "Service",
    "make_client",
]


Answer = TypeVar("Answer")

TRIES = 6

FIRST_PAUSE = 1.0

LONGEST_PAUSE = 60.0

LONGEST_ASKED_PAUSE = 120.0

QUICK = 60.0

RETRIED = (408, 409, 425, 429)

NO_KEY = "no key"
"""Key for servers that need none; the SDK insists on one."""

HTTP_LIBRARIES = ("httpx", "httpx2")


ASK_AGAIN = "check base_url, or call again"

TORN = (json.JSONDecodeError, UnicodeDecodeError)
"""What the SDK raises for a reply that is cut short, empty or not text."""

NEVER_SENT = ("ConnectError", "ConnectTimeout", "PoolTimeout")
"""Errors of the HTTP library after which the service has seen nothing of a call."""


class Service:
    """A client of the service, made when first needed, whose calls are retried.

    Use it as a context manager: leaving it closes a client that was made here.

    Attributes:
        first_pause: Seconds before the second try of a call.
        tried: How often the last call was tried.

    Args:
        client: An ``openai.OpenAI`` or similar client; None makes one.
        verb: The function that the user called, for error messages.
        base_url: Address for the client that is made; None leaves it to the SDK.
        timeout: Seconds after which calls are not repeated; None sets no limit.
        progress: Whether to print what long pauses are for; None does.
    """

    def __init__(
        self,
        client: Any,
        verb: str,
        *,
        base_url: str | None = None,
        timeout: float | None = None,
        progress: bool | None = None,
    ) -> None:
        self._client = client
        self._verb = verb
        self._base_url = base_url
        self._progress = progress
        check_argument("timeout", timeout, *SECONDS)
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self.first_pause = FIRST_PAUSE
        self._is_odd = False
        self.tried = 0
        given = type(client).__name__
        if client is not None and (given.startswith("Async") or not hasattr(client, "batches")):
            raise TypeError(f"{verb} takes an openai.OpenAI client, not {given}")

    def __enter__(self) -> Self:
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
        """The client for calls that are answered within a minute or not at all."""
        # The SDK waits for ten minutes, unless the user chose another timeout.
        usual = self.api.timeout == _sdk(self._verb).DEFAULT_TIMEOUT
        return self.api.with_options(timeout=QUICK) if usual else self.api

    def call(
        self,
        ask: Callable[[Any], Answer],
        *,
        job: Job | None = None,
        is_quick: bool = False,
        instead: Mapping[int, Answer] | None = None,
        **how: Any,
    ) -> Answer:
        """Call the service, retrying while it cannot be reached or is overloaded.

        Args:
            ask: Makes the call with the client that it is given.
            job: What the call is about, which errors name; None for a live request.
            is_quick: Whether to give up on an answer after a minute.
            instead: What to return for some HTTP statuses in place of raising.
            how: Further arguments of ``attempts``.

        Raises:
            openai.APIError: Passed through from the SDK; a note names the job.
            JobError: If the reply is not what is expected.
        """

        def once() -> Answer:
            try:
                answer = ask(self.quick if is_quick else self.api)
            except Exception as error:
                status: Any = getattr(error, "status_code", None)
                if instead is None or status not in instead:
                    raise
                return instead[status]
            return not_text(answer)

        try:
            return self.attempts(once, **how)
        except (ReplyError, *TORN) as error:
            # Once asking again did not help, it is not repeated for each of many jobs.
            self._is_odd = True
            is_torn = isinstance(error, TORN)
            problem = f"the service's reply is not complete ({error})" if is_torn else str(error)
            raise ReplyError(problem, job=job, hint=ASK_AGAIN) from None
        except Exception as error:
            if job:
                error.add_note(f"for {job.place}")
            raise

    def attempts(
        self,
        ask: Callable[[], Answer],
        *,
        tries: int | None = TRIES,
        first: float | None = None,
        also_retried: Collection[int] = (),
        pause: Callable[[float, Exception], object] | None = None,
    ) -> Answer:
        """Return the result of a call, repeating it with growing pauses while that may help.

        Args:
            ask: Makes the call.
            tries: Most tries; None for any number.
            first: Seconds before the second try; they double up to a minute.
            also_retried: HTTP statuses after which a call is repeated beside the usual ones.
            pause: Sleeps for some seconds after an error; whatever it raises ends the tries. None
                sleeps until ``timeout`` at most.
        """
        seconds = self.first_pause if first is None else first
        tried = 0
        while True:
            tried += 1
            try:
                return ask()
            except Exception as error:
                self.tried = tried
                asked = self.retry_pause(error)
                if getattr(error, "status_code", None) in also_retried:
                    asked = 0.0
                is_odd = self._is_odd and isinstance(error, (ReplyError, *TORN))
                is_late = pause is None and not self.seconds_left
                if asked is None or tried == tries or is_odd or is_late:
                    raise
                (pause or self._pause)(max(asked, seconds), error)
            seconds = min(2 * seconds, max(LONGEST_PAUSE, seconds))

    @property
    def seconds_left(self) -> float:
        """Seconds until ``timeout``."""
        return inf if self._deadline is None else max(self._deadline - time.monotonic(), 0.0)

    def _pause(self, seconds: float, error: Exception) -> None:
        """Sleep, saying why if it takes long."""
        reason = f"{self._verb}: {printable(str(error))}"
        pause(min(seconds, self.seconds_left), reason, self._progress)

    def retry_pause(self, error: Exception) -> float | None:
        """Return the least seconds to wait after an error; None if it would only come again."""
        sdk = _sdk(self._verb)
        if isinstance(error, sdk.APIStatusError):
            if error.status_code not in RETRIED and error.status_code < 500:
                return None
            return _asked_pause(error.response.headers)
        if isinstance(error, (sdk.APIConnectionError, ReplyError, *TORN)):
            return 0.0
        # In the middle of a streamed body, errors of the HTTP library are not wrapped by the SDK.
        return 0.0 if any(map(_is_transport, type(error).__mro__)) else None

    def was_not_received(self, error: Exception) -> bool:
        """Return whether a call that ended with an error certainly had no effect."""
        status = getattr(error, "status_code", None)
        if isinstance(status, int):
            return 400 <= status < 500 and status != 408
        causes = (error, error.__cause__, error.__context__)
        return any(type(cause).__name__ in NEVER_SENT for cause in causes)

    @cached_property
    def account(self) -> dict[str, str]:
        """Where batches are created, as far as the client and the service tell."""
        api = self.api
        known = {
            "base_url": str(getattr(api, "base_url", "")).rstrip("/"),
            "organization": getattr(api, "organization", None),
            "project": getattr(api, "project", None),
        }
        return {name: str(value) for name, value in known.items() if value}

    def learn_account(self, headers: Mapping[str, str]) -> None:
        """Note the organization and the project that the service names in a reply."""
        for name in ("organization", "project"):
            if value := headers.get(f"openai-{name}"):
                self.account[name] = value

    def check_account(self, job: Job) -> None:
        """Refuse to look for, follow or cancel a batch where it is not.

        Raises:
            BatchFramesError: If the job was submitted to another service or account.
        """
        for name, theirs in job.account.items():
            ours = self.account.get(name, theirs)
            if ours != theirs:
                raise BatchFramesError(
                    f"'{job.path}' was submitted to the {name} {theirs!r}, and the client is for "
                    f"{ours!r}",
                    hint="pass a client for the former; to ask the same again elsewhere, copy the "
                    "file to another folder",
                )


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
    """Make a client; the SDK reads what is None from the environment.

    Raises:
        MissingExtra: If the SDK is not installed; ``verb`` is what needs it.
    """
    return _sdk(verb).OpenAI(base_url=base_url, api_key=api_key)


def _sdk(verb: str) -> Any:
    try:
        return importlib.import_module("openai")
    except ImportError:
        hint = 'pip install "batch-frames[openai]"'
        raise MissingExtra(f"{verb} needs the openai SDK", hint=hint) from None
