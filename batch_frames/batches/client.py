"""Speak to the service through the openai SDK, with retries, and find a batch again."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any, TypeVar

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
    "make_client",
    "pauses",
    "retry_pause",
    "settled_batch",
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


TOKEN_KEY = "batch_frames"

SETTLE = 5.0
"""Seconds after which a batch that was created stands in the service's list for certain."""

CLOCKS = 15 * 60
"""How many seconds clocks may be apart: the service's own, or that and ours."""

PAGE = 100


def settled_batch(service: Service, ledger: Ledger, job: Job) -> Any:
    """Look for the batch of an earlier try, once more if that try is too young to be listed."""
    batch = find_batch(service, ledger, job)
    if batch is None:
        assert job.retried_at is not None
        age = datetime.now(UTC) - datetime.fromisoformat(job.retried_at)
        left = SETTLE - max(age.total_seconds(), 0)
        if left > 0:
            time.sleep(left)
            batch = find_batch(service, ledger, job)
    return batch


def find_batch(service: Service, ledger: Ledger, job: Job) -> Any:
    """Find the batch that carries a job's token, among all that are not much older than the try.

    A service that keeps no metadata still tells which file a batch reads, and that one is ours.

    Returns:
        The service's batch, or None.
    """
    assert job.tried_at is not None
    # A batch is never older than its file, and both are told by the same clock.
    oldest = job.uploaded_at or datetime.fromisoformat(job.tried_at).timestamp()
    oldest -= CLOCKS
    known = ledger.batch_ids
    page = service.call(_first_page, is_quick=True)
    seen: set[str] = set()
    while page.data:
        new = {batch.id for batch in page.data} - seen
        seen |= new
        for batch in page.data:
            by_token = (batch.metadata or {}).get(TOKEN_KEY) == job.token
            if by_token or (batch.input_file_id == job.file_id and batch.id not in known):
                return batch
        times = [batch.created_at for batch in page.data if batch.created_at] or [oldest]
        # Older ones follow only where the newest come first.
        if (times[0] > times[-1] < oldest) or not page.has_next_page() or not new:
            return None
        page = service.call(partial(_next_page, page))
    return None


def _first_page(api: Any) -> Any:
    return _checked_page(api.batches.list(limit=PAGE))


def _next_page(page: Any, api: Any) -> Any:
    return _checked_page(page.get_next_page())


def _checked_page(page: Any) -> Any:
    # An empty list may be null; anything else without one does not say that there is no batch.
    is_list = isinstance(getattr(page, "data", None), list)
    if not is_list and getattr(page, "object", None) != "list":
        raise NoBatchError(
            "the service answers with something that is no list of batches; check the base URL"
        )
    return page
