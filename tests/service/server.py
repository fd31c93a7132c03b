"""Serve the Batch API on 127.0.0.1, with every fault that a test asks for.

What stands where: `server` starts and stops, and holds what a test asks for; `http`
speaks HTTP; `state` leads batches through their lives; `checks` validates request
files; `answers` is the model; `values` has the settings, and what the service holds.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from tests.service.answers import Body
from tests.service.http import ROUTES, Change, Drop, Listener, Moment, Raw
from tests.service.state import Service
from tests.service.values import Batch, Clock, Refusal, Repeated, Settings, StoredFile

if TYPE_CHECKING:
    from openai import OpenAI


def drop() -> NoReturn:
    """Lose the connection."""
    raise Drop


def reply(
    status: int, message: str = "The server had an error.", **headers: str
) -> Callable[[], None]:
    """Make an action that answers with an error; `Retry_After="1"` adds such a header."""

    def action() -> NoReturn:
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        code = "rate_limit_exceeded" if status == 429 else None
        raise Refusal(status, message, code=code, headers=named)

    return action


def raw(data: bytes, status: int = 200, kind: str = "application/json") -> Callable[[], None]:
    """Make an action that answers with these bytes."""

    def action() -> NoReturn:
        raise Raw(data, status, kind)

    return action


def sleep(seconds: float) -> Callable[[], None]:
    """Make an action that keeps the client waiting."""
    return lambda: time.sleep(seconds)


@dataclass
class Rule:
    """Say what happens to which requests, and when."""

    route: str
    moment: Moment
    action: Callable[[], object]
    times: int | None
    after: int

    def ready(self) -> bool:
        """Count a request, and say whether the rule is meant for it."""
        if self.after:
            self.after -= 1
            return False
        return self.times != 0


@dataclass
class Alteration:
    """Say which replies are changed, and how."""

    route: str
    change: Change
    times: int | None
    only_id: str | None


class BatchServer:
    """Serve the Batch API until the end of a `with` block.

    Args:
        settings: What is not as usual, by the names that `Settings` has.

    Example:
        >>> with BatchServer(polls=0) as server:
        ...     client = server.client()
        ...     file = client.files.create(file=("a.jsonl", b"{}\\n"), purpose="batch")
        ...     file.bytes, len(server.batches), server.requests_log
        (3, 0, ['POST /files'])
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = Settings(**settings)
        self.clock = Clock()
        self.requests_log: list[str] = []
        self.bodies: list[Body] = []
        """The bodies of the live requests."""
        self.crashes: list[BaseException] = []
        self._rules: list[Rule] = []
        self._changes: list[Alteration] = []
        self._lock = threading.Lock()
        self._clients: list[OpenAI] = []

    def __enter__(self) -> BatchServer:
        self._folder = tempfile.TemporaryDirectory(
            prefix="batch-server-", ignore_cleanup_errors=True
        )
        self.service = Service(Path(self._folder.name), self.settings, self.clock)
        self._http = Listener(("127.0.0.1", 0), self)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for client in self._clients:
            client.close()
        self._http.shutdown()
        self._thread.join()
        self._http.hang_up()
        self._http.server_close()
        self._folder.cleanup()
        if self.crashes and error is None:
            raise self.crashes[0]

    @property
    def url(self) -> str:
        """Say where the server is, as `base_url` wants it."""
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    def client(self, **options: Any) -> OpenAI:
        """Make a client of the official SDK, closed at the end of the block."""
        from openai import OpenAI

        options = {"base_url": self.url, "api_key": self.settings.key or "test-key", **options}
        client = OpenAI(**options)
        self._clients.append(client)
        return client

    @property
    def batches(self) -> list[Batch]:
        """List all batches there ever were, in the order of their making."""
        return self.service.batches

    @property
    def uploads(self) -> list[StoredFile]:
        """List all files that were taken, in the order of their coming."""
        return [file for file in self.service.files.values() if file.purpose == "batch"]

    def finish(self) -> None:
        """Lead all batches to their ends, so that `Batch.paid` holds what they cost."""
        self.service.finish()

    def generate(self, line: bytes, times: int) -> str:
        """Make a file of one line many times, without storing it, and return its id."""
        return self.service.keep(Repeated(line, times), "generated.jsonl", "batch_output").id

    def when(
        self,
        route: str,
        moment: Moment,
        action: Callable[[], object],
        *,
        times: int | None = 1,
        after: int = 0,
    ) -> None:
        """Let something happen at a moment of the next request to a route.

        A request meets one rule at most, the first of those that are ready and not used up.

        Args:
            route: One of `ROUTES`.
            moment: When, as in `Moment`.
            action: `drop`, `reply(503)`, `sleep(0.1)`, or any function without arguments, such
                as one that kills the client.
            times: To how many requests; None for all.
            after: How many requests are spared before, from now on.
        """
        if route not in ROUTES:
            raise ValueError(f"{route!r} is no route; one of {', '.join(ROUTES)}")
        with self._lock:
            self._rules.append(Rule(route, moment, action, times, after))

    def meet(self, route: str, moment: Moment) -> None:
        """Do what was asked for at this moment of a request."""
        with self._lock:
            rules = [rule for rule in self._rules if (rule.route, rule.moment) == (route, moment)]
            ready = [rule for rule in rules if rule.ready()]
            if ready and ready[0].times is not None:
                ready[0].times -= 1
        if ready:
            ready[0].action()

    def alter(
        self, route: str, change: Change, *, times: int | None = 1, only_id: str | None = None
    ) -> None:
        """Change the next replies to a route, errors too.

        Args:
            route: One of `ROUTES`.
            change: Makes another status and body of those of the reply.
            times: How many replies; None for all.
            only_id: The id in the address of the requests that are meant; None for any.
        """
        if route not in ROUTES:
            raise ValueError(f"{route!r} is no route; one of {', '.join(ROUTES)}")
        with self._lock:
            self._changes.append(Alteration(route, change, times, only_id))

    def change_of(self, route: str, ids: tuple[str, ...]) -> Change | None:
        """Return what changes the reply to this request, if a test asked for it."""
        with self._lock:
            for one in self._changes:
                is_meant = one.only_id is None or one.only_id in ids
                if one.route == route and is_meant and one.times != 0:
                    one.times = None if one.times is None else one.times - 1
                    return one.change
        return None

    def behave(self) -> None:
        """Forget all that was asked for with `when` and `alter`."""
        with self._lock:
            self._rules.clear()
            self._changes.clear()


if __name__ == "__main__":
    with BatchServer() as server:
        print(server.url, flush=True)
        sys.stdin.read()  # so that the server ends with the program that started it
