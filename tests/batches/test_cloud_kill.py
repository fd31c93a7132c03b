"""Kill runs whose files are in object storage: others go on, and nothing is paid twice."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
import pytest
from openai import OpenAI

import batch_frames as bf
from batch_frames.batches import client as calls
from batch_frames.batches import send
from batch_frames.files import locks
from tests.service.server import BatchServer
from tests.service.storage import Moment, ObjectServer
from tests.support.forks import Orders, load_all, take_orders, taking_orders

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it needs fork and SIGKILL")

ROWS, PER_SHARD = 6, 2

URL = "s3://lake/out/r.jsonl"

ASK: dict[str, Any] = {"id_column": "id", "prompt_column": "text", "model": "m"}

TIMES = {"SETTLE": 0.3, "LEASE": 0.6, "RENEWAL": 0.1}
"""The minute in which a batch may turn up, and the times of locks, faster than they are."""


def table(rows: int) -> pd.DataFrame:
    """Make a table of prompts that differ."""
    return pd.DataFrame({"id": range(rows), "text": [f"say {n}" for n in range(rows)]})


def run(url: str, rows: int) -> pd.DataFrame:
    """Answer a table whose files are in object storage."""
    with OpenAI(base_url=url, api_key="test") as client:
        os.environ.pop("SSL_CERT_DIR", None)  # without any certificate, no store is opened
        limits = bf.Limits(requests=PER_SHARD)
        options: dict[str, Any] = {**ASK, "poll": 0.005, "progress": False}
        rated: pd.DataFrame = bf.run(table(rows), URL, client=client, limits=limits, **options)
        return rated


def obey(order: dict[str, Any]) -> NoReturn:
    """Run what the order says, as if on a machine of its own, and end the process."""
    status = 1
    try:
        os.environ.update(order["environment"])
        os.chdir(order["folder"])
        if order["machine"]:
            locks.machine = lambda: order["machine"]  # type: ignore[assignment]
        rated = run(order["url"], order["rows"])
        answers = [f"You said: say {n}" for n in range(order["rows"])]
        status = 0 if rated["content"].tolist() == answers else 2
    except BaseException as error:
        traceback.print_exc()
        status = 3 if order["may_fail"] and isinstance(error, bf.BatchFramesError) else 1
    finally:
        os._exit(status)


def serve() -> None:
    """Take orders, which are obeyed in less time than they are elsewhere."""
    load_all()
    for name in ("duckdb", "genai_prices", "httpcore2", "obstore.store"):
        with suppress(ImportError):
            importlib.import_module(name)
    assert all([bf.run])
    calls.FIRST_PAUSE, send.SETTLE = 0.01, TIMES["SETTLE"]
    locks.LEASE, locks.RENEWAL = TIMES["LEASE"], TIMES["RENEWAL"]
    take_orders(obey)


class Forks:
    """Give orders to the process that forks."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders

    def start(self, lake: ObjectServer, server: BatchServer, folder: Path, **how: Any) -> int:
        """Start a run in a folder of its own, and return the id of its process."""
        folder.mkdir()
        order = {"url": server.url, "environment": lake.environment, "folder": str(folder)}
        return self._orders.start({**order, "rows": ROWS, "machine": "", "may_fail": False, **how})

    def end(self, pid: int) -> int:
        """Wait for the end of a process, and return its exit code."""
        return self._orders.end(pid)


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    """Start the process that forks; it has imported the libraries once for all."""
    with taking_orders(__name__) as orders:
        yield Forks(orders)


class Killer:
    """Kill a process when the store, or the service, is asked for a change so many times."""

    def __init__(self, lake: ObjectServer, server: BatchServer) -> None:
        self.pid, self.left, self.seen = 0, -1, 0
        self._moment = "asked"
        lake.fault = self._fault
        for route in ("POST /files", "POST /batches", "GET /files/{id}/content"):
            for moment in ("asked", "done"):
                for after in range(99):
                    server.when(route, moment, self._count(moment), after=after)

    def arm(self, left: int, moment: str) -> None:
        """Kill at a change, before or after it is made."""
        self.left, self._moment, self.seen = left, moment, 0

    def _count(self, moment: str) -> Callable[[], None]:
        def step() -> None:
            self._step(moment)

        return step

    def _fault(self, method: str, key: str, moment: Moment) -> int | None:
        if method in ("PUT", "POST", "DELETE") and moment != "half":
            return self._step(moment)
        return None

    def _step(self, moment: str) -> int | None:
        if moment != self._moment:
            return None
        self.seen += 1
        if self.seen - 1 == self.left:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            # What was on its way when the process died may still arrive, or not.
            return 0
        return None


def check(server: BatchServer, rows: int = ROWS) -> None:
    """Hold that each request was answered once, by the server's count."""
    server.finish()
    lines: Counter[bytes] = Counter()
    for batch in (batch for batch in server.batches if batch.requests):
        content = server.service.file(batch.input_file_id).content
        lines.update(b"".join(content.blocks(0)).splitlines())
    assert sorted(lines.values()) == [1] * rows
    assert sum(batch.paid for batch in server.batches) == rows


def killed_at(
    forks: Forks, folder: Path, left: int, moment: str, *, machine: str = ""
) -> tuple[int, int]:
    """Kill a run at a change, go on elsewhere, and return the exit code and the changes so far."""
    with ObjectServer() as lake, BatchServer() as server:
        killer = Killer(lake, server)
        killer.arm(left, moment)
        killer.pid = forks.start(lake, server, folder / "first", machine="")
        code = forks.end(killer.pid)
        seen = killer.seen
        killer.arm(-1, moment)
        assert forks.end(forks.start(lake, server, folder / "second", machine=machine)) == 0
        check(server)
        assert not [key for key in lake.objects if key.endswith(".tmp")]
    return code, seen


@pytest.mark.slow
def test_a_run_that_is_killed_ten_times_goes_on_from_elsewhere(
    forks: Forks, tmp_path: Path
) -> None:
    """Each time from another folder by the URL alone; each request is answered once."""
    with ObjectServer() as lake, BatchServer() as server:
        killer = Killer(lake, server)
        for number in range(10):
            killer.arm(3 + 3 * number, ("asked", "done")[number % 2])
            killer.pid = forks.start(lake, server, tmp_path / str(number))
            assert forks.end(killer.pid) == -signal.SIGKILL
        killer.arm(-1, "asked")
        assert forks.end(forks.start(lake, server, tmp_path / "last")) == 0
        check(server)
        assert not [key for key in lake.objects if key.endswith(".tmp")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "machine", "step"), [("asked", "", 2), ("done", "", 2), ("done", "another", 7)]
)
def test_a_run_may_be_killed_at_any_change(
    forks: Forks, tmp_path: Path, moment: str, machine: str, step: int
) -> None:
    """At requests that change the store or the service; another machine goes on as well."""
    for left in count(1, step):
        folder = tmp_path / str(left)
        folder.mkdir()
        code, seen = killed_at(forks, folder, left, moment, machine=machine)
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert seen > 40


def test_two_machines_at_once_pay_once(forks: Forks, tmp_path: Path) -> None:
    """They run the same table, one of them with more rows; locks of one are none of the other."""
    with ObjectServer() as lake, BatchServer() as server:
        pids = [
            forks.start(lake, server, tmp_path / name, rows=rows, machine=name, may_fail=True)
            for name, rows in (("one", ROWS), ("two", ROWS + 3), ("three", ROWS))
        ]
        assert set(map(forks.end, pids)) <= {0, 3}
        assert forks.end(forks.start(lake, server, tmp_path / "last", rows=ROWS + 3)) == 0
        check(server, ROWS + 3)


if __name__ == "__main__":
    serve()
