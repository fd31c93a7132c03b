"""Kill three processes that share a folder: each line is answered once, and every row comes home.

The service lists a batch late, creates slowly, loses replies and says 5xx. The minute in which a
batch may still turn up is scaled down in most of the tests, and everything else with it.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

import pytest
from openai import OpenAI

import batch_frames as bf
from batch_frames.batches import client as calls
from batch_frames.batches import send
from tests.service.http import Drop
from tests.service.server import BatchServer, drop, reply, sleep
from tests.service.values import Batch, Refusal
from tests.support.forks import Orders, load_all, take_orders, taking_orders

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it needs fork and SIGKILL")

MINUTE, SETTLE = 60.0, 1.2
"""In which a batch may turn up, and the same fifty times as fast."""

LATEST = 0.8
"""Most seconds until a new batch is listed: the 40 s of the minute."""

SLOWEST = 0.3
"""Most seconds that a create takes."""

FAULTS = 0.15
"""The part of the creates whose reply is lost; as many get a 5xx before or after they worked."""

ROWS, PER_SHARD = 8, 2

OWN = ("mine0", "mine1", "mine2")
"""The sets that one process each saves; another one is saved by all."""

STEPS = ("open", "os.rename", "os.remove", "os.link")

CREATE = "POST /batches"


def save(folder: Path, tag: str, rows: int = ROWS) -> list[bf.Shard]:
    """Write request files whose ids and prompts have each other's number."""
    creator = bf.BatchCreator("m", None, system_prompt=None, seed=None)
    for number in range(rows):
        creator.add_entry(f"{tag}{number}", f"Say {tag}{number}.")
    return creator.save_to_file(folder / f"{tag}.jsonl", limits=bf.Limits(requests=PER_SHARD))


def work(order: dict[str, Any]) -> None:
    """Save a set that all save, and one of this process's own; send both, and fetch the answers.

    What others hold or have changed meanwhile is tried again, as a user would.
    """
    folder, own = Path(order["folder"]), order["own"]
    with OpenAI(base_url=order["url"], api_key="test") as client:
        until = time.monotonic() + 50 * send.SETTLE
        while True:
            try:
                for tag in ("all", own):
                    with suppress(bf.BatchFramesError):
                        save(folder, tag)
                    jobs = bf.submit(folder / f"{tag}-*.jsonl", client=client, progress=False)
                    jobs = bf.wait(jobs, client=client, poll=0.01, progress=False)
                    bf.download(jobs, client=client, progress=False)
                return
            except (bf.BatchFramesError, FileNotFoundError):
                if time.monotonic() > until:
                    raise
                time.sleep(0.02)


def die_before_step(step: int, folder: str) -> None:
    """Let this process kill itself before it opens, links, renames or removes a file once more."""
    done = count()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        inside = event in STEPS and folder in str(arguments[0])
        if inside and next(done) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def obey(order: dict[str, Any]) -> NoReturn:
    """Do what the order says, and end the process."""
    status = 1
    send.SETTLE = order["settle"]
    try:
        if order["step"] is not None:
            die_before_step(order["step"], order["folder"])
        work(order)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def serve() -> None:
    """Take orders, which are obeyed in less time than they are elsewhere."""
    load_all()
    calls.FIRST_PAUSE = 0.01
    take_orders(obey)


class Forks:
    """Give orders to the process that forks."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders

    def start(
        self, folder: Path, url: str, own: str, step: int | None = None, settle: float = SETTLE
    ) -> int:
        """Start a process that works in a folder, and return its id."""
        place = {"folder": str(folder), "url": url, "own": own}
        return self._orders.start({**place, "step": step, "settle": settle})

    def end(self, pid: int) -> bool:
        """Wait for the end of a process, and return whether it was killed."""
        code = self._orders.end(pid)
        assert code in (0, -signal.SIGKILL)
        return code != 0


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    """Start the process that forks; it has imported the libraries once for all."""
    with taking_orders(__name__) as orders:
        yield Forks(orders)


class UnreliableServer(BatchServer):
    """List batches late, create slowly, lose replies and say 5xx, at random."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__(polls=1)
        self._chance = chance
        self._listed_from: dict[str, float] = {}

    def __enter__(self) -> UnreliableServer:
        super().__enter__()
        self._create = self.service.create
        self.service.create = self._create_late  # type: ignore[method-assign]
        self.service.listed = self._listed  # type: ignore[method-assign]
        return self

    def _create_late(self, asked: dict[str, Any]) -> Batch:
        fault, seconds = self._chance.random(), self._chance.uniform(0, SLOWEST)
        if fault < FAULTS / 3:
            raise Refusal(503, "The server is overloaded.")
        time.sleep(seconds if self._chance.random() < 0.5 else 0)
        batch = self._create(asked)
        self._listed_from[batch.id] = time.monotonic() + self._chance.uniform(0, LATEST)
        if fault < 2 * FAULTS / 3:
            raise Refusal(504, "The gateway gave up.")
        if fault < FAULTS:
            raise Drop
        return batch

    def _listed(self) -> list[Batch]:
        now = time.monotonic()
        return [b for b in self.service.batches if self._listed_from.get(b.id, now) <= now][::-1]


def check(server: BatchServer, folder: Path) -> None:
    """Hold that each line was answered once, and each row has the answer to its own question."""
    server.finish()
    tags = ("all", *OWN)
    asked: Counter[str] = Counter()
    for batch in server.batches:
        if batch.requests:
            source: Any = server.service.files[batch.input_file_id].content
            asked.update(line for line in source.path.read_text("utf-8").splitlines())
    assert max(asked.values()) == 1
    assert len(asked) == len(tags) * ROWS
    for tag in tags:
        shards = sorted(folder.glob(f"{tag}-[0-9]*[0-9].jsonl"))
        outputs = sorted(folder.glob(f"{tag}-*.output.jsonl"))
        results = bf.read_results(outputs, requests=shards)
        assert sorted(results["custom_id"]) == sorted(f"{tag}{number}" for number in range(ROWS))
        assert set(results["status"]) == {"ok"}
        for custom_id, content in zip(results["custom_id"], results["content"], strict=True):
            assert f"Say {custom_id}." in content
    record = folder / ".batch_frames"
    assert len(list((record / "jobs").glob("*.json"))) == len(tags) * ROWS // PER_SHARD
    assert not list((record / "commits").glob("*.json"))


def kill_rounds(forks: Forks, tmp_path: Path, kills: int, seed: int) -> None:
    """Kill processes on one folder after the other until there were so many kills."""
    chance = random.Random(seed)
    done = 0
    for number in count():
        folder = tmp_path / str(number)
        folder.mkdir()
        with UnreliableServer(chance) as server:
            done += kill_round(forks, server, folder, chance)
            pids = [forks.start(folder, server.url, own) for own in OWN]
            assert not any(list(map(forks.end, pids)))
            check(server, folder)
        if done >= kills:
            return


def kill_round(forks: Forks, server: BatchServer, folder: Path, chance: random.Random) -> int:
    """Let three processes work, kill each some times, and return how often."""
    kills, timers = 0, []
    for _ in range(2):
        pids = []
        for own in OWN:
            step = chance.randrange(150) if chance.random() < 0.5 else None
            pid = forks.start(folder, server.url, own, step)
            pids.append(pid)
            timer = threading.Timer(chance.uniform(0, 3), kill, (pid,))
            timer.start()
            timers.append(timer)
        kills += sum(map(forks.end, pids))
        for timer in timers:
            timer.cancel()
            timer.join()
    return kills


def kill(pid: int) -> None:
    """Kill a process, unless it has ended by itself; it is a zombie until it is waited for."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def test_kills_of_three_processes_on_one_folder_never_pay_twice(
    forks: Forks, tmp_path: Path
) -> None:
    """Some kills, half of them at steps on files, half at random times."""
    kill_rounds(forks, tmp_path, 5, seed=334)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_200_kills_of_three_processes_on_one_folder_never_pay_twice(
    forks: Forks, tmp_path: Path, seed: int
) -> None:
    """The same for four times 50 kills."""
    kill_rounds(forks, tmp_path, 50, seed)


@pytest.mark.slow
def test_kills_in_the_whole_minute_never_pay_twice(forks: Forks, tmp_path: Path) -> None:
    """At full length: all three are killed at a reply, while they look for it, and once more."""
    pids: list[int] = []

    def start() -> None:
        pids[:] = [forks.start(tmp_path, server.url, own, settle=MINUTE) for own in OWN]

    def kill_all() -> None:
        for pid in pids:
            kill(pid)

    def ends() -> list[bool]:
        return list(map(forks.end, pids))

    with BatchServer(list_lag=40) as server:
        server.when(CREATE, "asked", drop, after=1)
        server.when(CREATE, "asked", sleep(8), after=2)
        server.when(CREATE, "done", drop)
        server.when(CREATE, "done", reply(504), after=1)
        server.when(CREATE, "done", kill_all, after=2)
        start()
        assert all(ends())
        assert len(server.batches) == 3
        start()
        time.sleep(20)
        kill_all()
        assert all(ends())
        assert len(server.batches) == 3
        server.when(CREATE, "done", kill_all, after=1)
        start()
        assert all(ends())
        start()
        assert not any(ends())
        check(server, tmp_path)


if __name__ == "__main__":
    serve()
