"""Send requests to a live endpoint, and write the answers as result lines of a batch."""

from __future__ import annotations

import importlib
import json
import re
import threading
from dataclasses import dataclass
from functools import partial
from typing import Any

from batch_frames.batches.client import Service
from batch_frames.batches.local_files import Request

__all__ = ["Answer", "Asker"]


PAUSE = 0.5

UNREACHED_TRIES = 3

REFUSED_FOR_ALL = (401, 403)
"""Replies to a wrong key, whatever the request."""

OVERLOADED = (429, 503)
"""Replies of an endpoint without capacity, whatever the request."""

NO_CONNECTION, TIMED_OUT = "connection_error", "timeout"


@dataclass(frozen=True)
class Answer:
    """The outcome of one request.

    Attributes:
        request: The request.
        line: The result line, with its newline.
        is_good: Whether it belongs in the output file, not in the error file.
        status: The HTTP status; None if there was no reply.
        error: What the SDK raised, if anything.
        is_unreached: Whether no connection could be made.
    """

    request: Request
    line: bytes
    is_good: bool
    status: int | None
    error: Exception | None = None
    is_unreached: bool = False

    @property
    def is_refused_for_all(self) -> bool:
        """Whether every other request would be refused for the same reason."""
        no_key = self.status in REFUSED_FOR_ALL
        return no_key or (self.error is not None and _is_unpaid(self.error))

    @property
    def is_rejected(self) -> bool:
        """Whether the endpoint did not process the request at all."""
        return self.is_unreached or self.status in OVERLOADED


class Asker(Service):
    """A live endpoint that requests are sent to; it may be used from several threads.

    Args:
        client: An ``openai.OpenAI``; None makes one.
        base_url: Address of the endpoint, for the client that is made.
    """

    def __init__(self, client: Any, base_url: str | None) -> None:
        if client is not None and base_url is not None:
            raise TypeError("pass client or base_url, not both")
        super().__init__(client, "run_local", base_url=base_url)
        self._stopped = threading.Event()

    @property
    def place(self) -> str:
        """The address of the endpoint, without user name, password and query."""
        url = self.api.base_url
        port = "" if url.port is None else f":{url.port}"
        return f"{url.scheme}://{url.host}{port}{url.path}".rstrip("/")

    def ask(self, request: Request) -> Answer:
        """Send one request, retrying where that may help, and return the outcome."""
        tried = 0

        def send() -> Answer:
            nonlocal tried
            tried += 1
            return _answer(request, self.call(partial(_post, request), tries=1), None)

        def pause(seconds: float, error: Exception) -> None:
            is_unreached = _response_of(error) is None and tried >= UNREACHED_TRIES
            if is_unreached or _is_unpaid(error) or self._stopped.wait(seconds):
                raise error

        try:
            return self.attempts(send, first=PAUSE, pause=pause)
        except Exception as error:
            response = _response_of(error)
            if response is None and self.retry_pause(error) is None:
                raise
            return _failure(request, response, error)

    def stop(self) -> None:
        """Give up the requests that are waiting to be sent again."""
        self._stopped.set()


def _post(request: Request, api: Any) -> Any:
    # The address of the client already contains the version.
    path = re.sub(r"^/v[0-9]+(?=/)", "", request.url)
    kind = importlib.import_module("openai").HttpxBinaryResponseContent
    return api.post(path, body=request.body, cast_to=kind).response


def _response_of(error: Exception) -> Any:
    return getattr(error, "response", None)


def _is_unpaid(error: Exception) -> bool:
    return getattr(error, "code", None) == "insufficient_quota"


def _failure(request: Request, response: Any, error: Exception) -> Answer:
    if response is not None:
        return _answer(request, response, error)
    is_late = "Timeout" in type(error).__name__
    problem = _dumps({"code": TIMED_OUT if is_late else NO_CONNECTION, "message": str(error)})
    return Answer(request, _line(request, b"null", problem), False, None, error, not is_late)


def _answer(request: Request, reply: Any, error: Exception | None) -> Answer:
    status = int(reply.status_code)
    head = {"status_code": status, "request_id": reply.headers.get("x-request-id") or ""}
    response = _dumps(head)[:-1] + b',"body":' + _one_line(reply.content) + b"}"
    line = _line(request, response, b"null")
    is_good = 200 <= status < 300 and _is_answer(reply.content)
    return Answer(request, line, is_good, status, error)


def _is_answer(content: bytes) -> bool:
    """Return whether a body with status 200 is an answer, and not an error or a web page."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(body, dict) and not body.get("error")


def _line(request: Request, response: bytes, error: bytes) -> bytes:
    head = _dumps({"id": request.mark, "custom_id": request.custom_id})[:-1]
    return b'%s,"response":%s,"error":%s}\n' % (head, response, error)


def _one_line(content: bytes) -> bytes:
    """Return a body unchanged but in one line; what is not JSON becomes text."""
    try:
        json.loads(content.decode())
    except (ValueError, RecursionError):
        return _dumps(content.decode("utf-8", "replace"))
    # JSON has no bare newlines inside its strings.
    return content.replace(b"\r", b" ").replace(b"\n", b" ")


def _dumps(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
