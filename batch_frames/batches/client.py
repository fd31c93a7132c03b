"""Call the service through the openai SDK, with retries, and find a batch again."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any, Self, TypeVar

from batch_frames.batches.job import Job
from batch_frames.batches.ledger import Ledger
from batch_frames.errors import JobError, MissingExtra

__all__ = [
    "NO_KEY",
    "TOKEN_KEY",
    "TRIES",
    "NoBatchError",
    "Service",
    "batch_facts",
    "find_batch_with_retry",
    "make_client",
]


Answer = TypeVar("Answer")

TRIES = 6

FIRST_PAUSE = 1.0

LONGEST_PAUSE = 60.0

LONGEST_ASKED_PAUSE = 120.0

QUICK = 60.0

RETRIED = (408, 409, 425, 429)

ALSO_CALLED = {"canceled": "cancelled", "succeeded": "completed"}
"""Other spellings of final statuses, by compatible services."""

NO_KEY = "no key"
"""Key for servers that need none; the SDK insists on one."""

HTTP_LIBRARIES = ("httpx", "httpx2")


class NoBatchError(JobError):
    """A reply that lacks what every batch has."""


class Service:
    """A client of the service, made when first needed, whose calls are retried.

    Use it as a context manager: leaving it closes a client that was made here.

    Args:
        client: An ``openai.OpenAI`` or similar client; None makes one.
        verb: The function that the user called, for error messages.
        base_url: Address for the client that is made; None leaves it to the SDK.
    """

    def __init__(self, client: Any, verb: str, *, base_url: str | None = None) -> None:
        self._client = client
        self._verb = verb
        self._base_url = base_url
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
        is_quick: bool = False,
        instead: Mapping[int, Answer] | None = None,
        **how: Any,
    ) -> Answer:
        """Call the service, retrying while it cannot be reached or is overloaded.

        Args:
            ask: Makes the call with the client that it is given.
            is_quick: Whether to give up on an answer after a minute.
            instead: What to return for some HTTP statuses in place of raising.
            how: Further arguments of ``attempts``.

        Raises:
            openai.APIError: Passed through from the SDK.
            JobError: If the reply is not JSON.
        """

        def once() -> Answer:
            try:
                answer = ask(self.quick if is_quick else self.api)
            except Exception as error:
                status: Any = getattr(error, "status_code", None)
                if instead is None or status not in instead:
                    raise
                return instead[status]
            if isinstance(answer, str):
                raise JobError("the service returned text that is not JSON", hint="check base_url")
            return answer

        return self.attempts(once, **how)

    def attempts(
        self,
        ask: Callable[[], Answer],
        *,
        tries: int | None = TRIES,
        first: float | None = None,
        pause: Callable[[float, Exception], object] = lambda seconds, error: time.sleep(seconds),
    ) -> Answer:
        """Return the result of a call, repeating it with growing pauses while that may help.

        Args:
            ask: Makes the call.
            tries: Most tries; None for any number.
            first: Seconds before the second try; they double up to a minute.
            pause: Sleeps for some seconds after an error; whatever it raises ends the tries.
        """
        seconds = FIRST_PAUSE if first is None else first
        tried = 0
        while True:
            tried += 1
            try:
                return ask()
            except Exception as error:
                asked = self.retry_pause(error)
                if asked is None or tried == tries:
                    raise
                pause(max(asked, seconds), error)
            seconds = min(2 * seconds, max(LONGEST_PAUSE, seconds))

    def retry_pause(self, error: Exception) -> float | None:
        """Return the least seconds to wait after an error; None if it would only come again."""
        sdk = _sdk(self._verb)
        if isinstance(error, sdk.APIStatusError):
            if error.status_code not in RETRIED and error.status_code < 500:
                return None
            return _asked_pause(error.response.headers)
        if isinstance(error, (sdk.APIConnectionError, NoBatchError)):
            return 0.0
        # In the middle of a streamed body, errors of the HTTP library are not wrapped by the SDK.
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


def batch_facts(batch: Any) -> dict[str, Any]:
    """Return what a job stores of the service's batch, whatever is null or missing there."""
    batch_id, status = getattr(batch, "id", None), getattr(batch, "status", None)
    if not (isinstance(batch_id, str) and batch_id and isinstance(status, str)):
        raise NoBatchError("the service did not return a batch", hint="check base_url")
    counts, usage = getattr(batch, "request_counts", None), getattr(batch, "usage", None)
    errors = getattr(getattr(batch, "errors", None), "data", None) or []
    return {
        "status": ALSO_CALLED.get(status.lower(), status.lower()),
        "batch_id": batch_id,
        **_read(counts, "total", "completed", "failed"),
        "output_file_id": getattr(batch, "output_file_id", None) or None,
        "error_file_id": getattr(batch, "error_file_id", None) or None,
        **_read(batch, "created_at", "expires_at"),
        **_read(usage, "input_tokens", "output_tokens"),
        "errors": [_read(error, "code", "line", "message", "param") for error in errors],
    }


def _read(source: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(source, name, None) for name in names}


TOKEN_KEY = "batch_frames"

SETTLE = 5.0
"""Seconds after which a new batch is certain to be in the service's list."""

CLOCKS = 15 * 60
"""Most seconds by which clocks differ: the service's own, or those and ours."""

PAGE = 100


def find_batch_with_retry(service: Service, ledger: Ledger, job: Job) -> Any:
    """Find the batch of an earlier try, looking again if that try is too recent to be listed."""
    batch = _find_batch(service, ledger, job)
    if batch is None:
        assert job.retried_at is not None
        age = datetime.now(UTC) - datetime.fromisoformat(job.retried_at)
        left = SETTLE - max(age.total_seconds(), 0)
        if left > 0:
            time.sleep(left)
            batch = _find_batch(service, ledger, job)
    return batch


def _find_batch(service: Service, ledger: Ledger, job: Job) -> Any:
    """Find the batch that carries a job's token, among all that are not much older than the try.

    A service that keeps no metadata still reports which file a batch reads, and that one is ours.

    Returns:
        The service's batch, or None.
    """
    assert job.tried_at is not None
    # A batch is never older than its file, and both have their times from the same clock.
    oldest = job.uploaded_at or datetime.fromisoformat(job.tried_at).timestamp()
    oldest -= CLOCKS
    page: Any = None
    seen: set[str] = set()
    while True:
        page = service.call(partial(_next_page, page), is_quick=True)
        batches = page.data or []
        for batch in batches:
            by_token = (batch.metadata or {}).get(TOKEN_KEY) == job.token
            is_new = batch.id not in ledger.batch_ids
            if by_token or (batch.input_file_id == job.file_id and is_new):
                return batch
        if seen.issuperset(batch.id for batch in batches):
            return None
        seen.update(batch.id for batch in batches)
        times = [batch.created_at for batch in batches if batch.created_at] or [oldest]
        # Older ones follow only where the newest come first.
        if (times[0] > times[-1] < oldest) or not page.has_next_page():
            return None


def _next_page(page: Any, api: Any) -> Any:
    page = api.batches.list(limit=PAGE) if page is None else page.get_next_page()
    # An empty list may be null; any other reply does not mean that there is no batch.
    is_list = isinstance(getattr(page, "data", None), list)
    if not is_list and getattr(page, "object", None) != "list":
        raise NoBatchError("the service did not return a list of batches", hint="check base_url")
    return page
