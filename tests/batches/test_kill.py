"""Kill submitting processes at any moment: each shard has one paid batch, each row one result."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

import pytest
from openai import OpenAI

import batch_frames as bf
from batch_frames.batches import client as service
from batch_frames.batches import send as finding
from tests.service.server import BatchServer, drop
from tests.support.forks import load_all
from tests.support.marks import slow

SHARDS, REQUESTS = 3, 7
FAILING = 5
STEPS = ("open", "os.rename", "os.remove")

MOMENTS = [
    *(
        ("POST /files", moment, n)
        for moment in ("asked", "half", "done", "answered")
        for n in (0, 2)
    ),
    *(("POST /batches", moment, n) for moment in ("asked", "done", "answered") for n in (0, 1, 2)),
    *(("GET /batches/{id}", moment, n) for moment in ("asked", "done") for n in (0, 4, 8)),
    *(("GET /files/{id}", moment, n) for moment in ("asked", "answered") for n in (0, 5)),
    *(("GET /files/{id}/content", m, n) for m in ("asked", "half", "answered") for n in (0, 1, 4)),
]
LOST = [
    *(("POST /files", moment, n) for moment in ("asked", "half", "done") for n in (0, 2)),
    *(("POST /batches", moment, n) for moment in ("asked", "done") for n in (0, 1, 2)),
    *(("GET /batches", moment, 0) for moment in ("asked", "done")),
    *(("GET /batches/{id}", moment, n) for moment in ("asked", "done") for n in (0, 4)),
    *(("GET /files/{id}/content", moment, n) for moment in ("asked", "half") for n in (0, 4)),
]


def one_of_each(moments: list[tuple[str, str, int]]) -> list[Any]:
    """Keep the latest of each kind of moment quick."""
    latest = {(route, moment): after for route, moment, after in moments}
    return [case if latest[case[:2]] == case[2] else slow(*case) for case in moments]


def save(folder: Path) -> None:
    """Write the request files."""
    creator = bf.BatchCreator("m", None, system_prompt=None, seed=None)
    for number in range(SHARDS * REQUESTS):
        creator.add_entry(f"r{number}", f"Say {number}.")
    limits = bf.Limits(requests=REQUESTS)
    assert len(creator.save_to_file(folder / "reviews.jsonl", limits=limits)) == SHARDS


def fetch_answers(folder: str, url: str) -> None:
    """Do all that a user would, from the request files to the result files."""
    with OpenAI(base_url=url, api_key="test") as client:
        jobs = bf.submit(Path(folder) / "reviews-*.jsonl", client=client)
        bf.download(bf.wait(jobs, client=client, poll=0.002), client=client)


def die_before_step(step: int, folder: str) -> None:
    """Let this process kill itself before it opens, renames or removes a file once more."""
    done = count()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        inside = event in STEPS and str(arguments[0]).startswith(folder)
        if inside and next(done) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def serve() -> None:
    """Fork a process for each order on standard input; tell its id, and how it ended."""
    load_all()
    service.FIRST_PAUSE = 0.01
    for text in sys.stdin:
        child = os.fork()
        if not child:
            obey(json.loads(text))
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def obey(order: dict[str, Any]) -> NoReturn:
    """Do what the order says, and end the process."""
    status = 1
    try:
        finding.SETTLE = order["settle"]
        while not Path(order["go"]).exists():
            time.sleep(0.001)
        if order["step"] is not None:
            die_before_step(order["step"], order["folder"])
        fetch_answers(order["folder"], order["url"])
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


class Submitter:
    """Start processes that submit, wait and download, in a folder of their own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.folder = Path()
        self.server: BatchServer
        self.pid = 0

    def run(
        self,
        *,
        step: int | None = None,
        settle: float = 0.05,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> bool:
        """Run one, and tell whether it was killed."""
        go = self.folder.parent / f"{self.folder.name}.go"
        go.unlink(missing_ok=True)
        order = {
            "folder": str(self.folder),
            "url": self.server.url,
            "step": step,
            "settle": settle,
            "go": str(go),
        }
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        self.pid = int(self._process.stdout.readline())
        go.touch()
        meanwhile()
        code = int(self._process.stdout.readline())
        assert code in (0, -signal.SIGKILL)
        return code != 0

    def kill(self) -> None:
        """Kill the process that runs, unless it has ended by itself."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def forks() -> Iterator[Submitter]:
    """Start the process that forks; it has imported the libraries once for all."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", __name__]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, text=True, stdin=pipe, stdout=pipe) as process:
        yield Submitter(process)


@pytest.fixture
def submitter(forks: Submitter, tmp_path: Path) -> Iterator[Submitter]:
    """Have request files and a service that has not seen them."""
    with BatchServer(fail_every=FAILING) as server:
        prepare(forks, tmp_path / "0", server)
        yield forks


def prepare(submitter: Submitter, folder: Path, server: BatchServer) -> None:
    """Begin anew in a folder and with a service."""
    folder.mkdir()
    save(folder)
    submitter.folder, submitter.server = folder, server


def check_paid_once(submitter: Submitter) -> None:
    """Hold that the server has one batch of each shard, and the files one result of each row."""
    server, folder = submitter.server, submitter.folder
    server.finish()
    failing = SHARDS * (REQUESTS // FAILING)
    assert len(server.batches) == SHARDS
    assert len({batch.input_sha256 for batch in server.batches}) == SHARDS
    assert sum(batch.paid for batch in server.batches) == SHARDS * REQUESTS - failing
    ids = Counter(
        json.loads(line)["custom_id"]
        for ending in ("output", "errors")
        for path in folder.glob(f"*.{ending}.jsonl")
        for line in path.read_bytes().splitlines()
    )
    assert ids == Counter(f"r{number}" for number in range(SHARDS * REQUESTS))
    shards = [f"reviews-{n:05}" for n in range(1, SHARDS + 1)]
    names = [
        f"{shard}.{end}" for shard in shards for end in ("jsonl", "output.jsonl", "errors.jsonl")
    ]
    assert sorted(p.name for p in folder.iterdir()) == sorted([".batch_frames", *names])


@pytest.mark.parametrize(("route", "moment", "after"), one_of_each(MOMENTS))
def test_a_kill_at_a_moment_of_the_services_never_pays_twice(
    submitter: Submitter, route: str, moment: Any, after: int
) -> None:
    """The service kills the process in the middle of a call; another one ends the work."""
    submitter.server.when(route, moment, submitter.kill, after=after)
    assert submitter.run()
    assert not submitter.run()
    check_paid_once(submitter)


@pytest.mark.parametrize(("route", "moment", "after"), one_of_each(LOST))
def test_a_lost_connection_never_pays_twice(
    submitter: Submitter, route: str, moment: Any, after: int
) -> None:
    """The process survives a reply that is lost, also that of a batch which was created."""
    if route == "GET /batches":
        submitter.server.when("POST /batches", "done", drop)
    submitter.server.when(route, moment, drop, after=after)
    assert not submitter.run()
    check_paid_once(submitter)


def test_a_kill_after_a_lost_reply_never_pays_twice(submitter: Submitter) -> None:
    """The reply to a create is lost, the process is killed while it looks, twice over."""
    submitter.server.when("POST /batches", "done", drop, after=1)
    for _ in range(2):
        submitter.server.when("GET /batches", "done", submitter.kill)
        assert submitter.run()
    assert not submitter.run()
    check_paid_once(submitter)


def test_a_batch_that_is_listed_late_is_found(submitter: Submitter) -> None:
    """A new batch that the service's list does not show at first is waited for."""
    submitter.server.settings.unlisted = 1
    submitter.server.when("POST /batches", "done", submitter.kill)
    assert submitter.run()
    assert not submitter.run(settle=1.5)
    check_paid_once(submitter)


def test_a_batch_behind_others_and_with_a_slow_clock_is_found(submitter: Submitter) -> None:
    """The token is looked for on all pages that may hold it, whatever the service's clock says."""
    submitter.server.clock.advance(-7_200)
    submitter.server.when("POST /batches", "done", submitter.kill)
    assert submitter.run()
    with submitter.server.client() as client:
        for _ in range(250):
            client.batches.create(
                input_file_id="file-of-another",
                endpoint="/v1/chat/completions",
                completion_window="24h",
            )
    assert not submitter.run()
    del submitter.server.batches[1:251]
    check_paid_once(submitter)


@pytest.mark.parametrize(("first", "every", "least"), [(1, 37, 4), slow(1, 2, 30), slow(2, 2, 30)])
def test_kills_before_steps_on_files_never_pay_twice(
    forks: Submitter, tmp_path: Path, first: int, every: int, least: int
) -> None:
    """Kills before opens, renames and removals are mended, from first to last."""
    kills = 0
    for step in count(first, every):
        with BatchServer(fail_every=FAILING) as server:
            prepare(forks, tmp_path / f"{step}", server)
            killed = forks.run(step=step)
            kills += killed
            assert not (killed and forks.run())
            check_paid_once(forks)
        if not killed:
            break
    assert kills >= least


@pytest.mark.parametrize("most", [2, slow(34)])
def test_kills_at_random_times_never_pay_twice(forks: Submitter, tmp_path: Path, most: int) -> None:
    """Kills at any time of a run, several in a row, are mended by the run after them."""
    chance = random.Random(334)
    kills = 0
    usual = 0.0
    for number in count():
        with BatchServer(fail_every=FAILING) as server:
            prepare(forks, tmp_path / f"{number}", server)
            began = time.perf_counter()
            if not usual:
                assert not forks.run()
                usual = time.perf_counter() - began
            while chance.random() < 0.7:
                moment = chance.uniform(0, usual)
                timer = threading.Timer(moment, forks.kill)
                # The service may carry out what it was asked for after the one who asked is dead.
                kills += forks.run(settle=0.5, meanwhile=timer.start)
                timer.cancel()
                timer.join()
            assert not forks.run(settle=0.5)
            check_paid_once(forks)
        if kills >= most:
            break


if __name__ == "__main__":
    serve()
