"""Ask a live endpoint, and write what it answers as a batch would."""

from __future__ import annotations

import importlib
import json
import re
import threading
from dataclasses import dataclass
from functools import partial
from typing import Any

from batch_frames.batches.client import TRIES, Service, pauses
from batch_frames.batches.local_files import Request

__all__ = ["Answer", "Asker"]


PAUSE = 0.5

UNREACHED_TRIES = 3

REFUSED_FOR_ALL = (401, 403)
"""What an endpoint says to a wrong key, whatever the request."""

OVERLOADED = (429, 503)
"""What an endpoint says that has no time, whatever the request."""

NO_CONNECTION, TIMED_OUT = "connection_error", "timeout"


@dataclass(frozen=True)
class Answer:
    """Hold what came of one request.

    Attributes:
        request: The request.
        line: The result line, with its newline.
        is_good: Whether it belongs into the output file, and not into the error file.
        status: The HTTP status; None when no answer came.
        error: What the SDK raised, if it did.
        is_unreached: Whether there was nothing to connect to.
    """

    request: Request
    line: bytes
    is_good: bool
    status: int | None
    error: Exception | None = None
    is_unreached: bool = False

    @property
    def is_refused_for_all(self) -> bool:
        """Tell whether every other request would be refused for the same reason."""
        no_key = self.status in REFUSED_FOR_ALL
        return no_key or (self.error is not None and _is_unpaid(self.error))

    @property
    def is_turned_away(self) -> bool:
        """Tell whether the endpoint did not even look at the request."""
        return self.is_unreached or self.status in OVERLOADED


class Asker:
    """Send requests to one endpoint; it may be used from several threads.

    Args:
        client: An ``openai.OpenAI``; None makes one.
        base_url: Where the endpoint is, for the client that is made.
    """

    def __init__(self, client: Any, base_url: str | None) -> None:
        if client is not None and base_url is not None:
            raise TypeError("pass client or base_url, not both")
        self._service = Service(client, "run_local", base_url=base_url)
        self._stopped = threading.Event()

    def __enter__(self) -> Asker:
        self._service.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._service.__exit__(*exc)

    @property
    def place(self) -> str:
        """Name the endpoint, without what only its owner may know."""
        url = self._service.api.base_url
        port = "" if url.port is None else f":{url.port}"
        return f"{url.scheme}://{url.host}{port}{url.path}".rstrip("/")

    def prepare(self) -> None:
        """Make the client, if there is none, before threads would make several."""
        assert self._service.api

    def ask(self, request: Request) -> Answer:
        """Send one request, again where that may help, and take what comes of it."""
        for left, pause in zip(range(TRIES - 1, -1, -1), pauses(PAUSE), strict=False):
            try:
                return _answer(request, self._service.call(partial(_post, request), tries=1), None)
            except Exception as error:
                asked = self._service.retry_pause(error)
                response = getattr(error, "response", None)
                is_unreached = response is None and left <= TRIES - UNREACHED_TRIES
                if asked is None and response is None:
                    raise
                if asked is None or not left or is_unreached or _is_unpaid(error):
                    return _failure(request, response, error)
                if self._stopped.wait(max(asked, pause)):
                    return _failure(request, response, error)
        raise AssertionError

    def stop(self) -> None:
        """Let requests that wait to be sent again be given up."""
        self._stopped.set()


def _post(request: Request, api: Any) -> Any:
    # The version stands in the address of the client already.
    path = re.sub(r"^/v[0-9]+(?=/)", "", request.url)
    kind = importlib.import_module("openai").HttpxBinaryResponseContent
    return api.post(path, body=request.body, cast_to=kind).response


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
    head = {
        "status_code": status,
        "request_id": reply.headers.get("x-request-id") or "",
    }
    response = _dumps(head)[:-1] + b',"body":' + _one_line(reply.content) + b"}"
    line = _line(request, response, b"null")
    is_good = 200 <= status < 300 and _is_answer(reply.content)
    return Answer(request, line, is_good, status, error)


def _is_answer(content: bytes) -> bool:
    """Tell an answer from the error, or the web page, that some endpoints send with status 200."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(body, dict) and not body.get("error")


def _line(request: Request, response: bytes, error: bytes) -> bytes:
    head = _dumps({"id": request.mark, "custom_id": request.custom_id})[:-1]
    return b'%s,"response":%s,"error":%s}\n' % (head, response, error)


def _one_line(content: bytes) -> bytes:
    """Keep a body as it came, in one line; what is not JSON becomes text."""
    try:
        json.loads(content.decode())
    except (ValueError, RecursionError):
        return _dumps(content.decode("utf-8", "replace"))
    # Inside its strings, JSON has no newlines as they are.
    return content.replace(b"\r", b" ").replace(b"\n", b" ")


def _dumps(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
