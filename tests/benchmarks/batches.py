"""Measure what many shards cost: submit, status, wait and cancel, for 500 and for 5,000.

Run it from the folder of the project: ``python -m tests.benchmarks.batches [shards …]``.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import batch_frames as bf
from tests.service.server import BatchServer
from tests.service.state import Service

COUNTS = (500, 5_000)
REQUESTS = 2


class QuickService(Service):
    """Find a batch without looking at all others."""

    def batch(self, batch_id: str) -> Any:
        known = self.__dict__.setdefault("known", {})
        if batch_id not in known:
            known |= {batch.id: batch for batch in self.batches[len(known) :]}
        return known[batch_id]


@contextmanager
def server() -> Iterator[BatchServer]:
    with BatchServer(polls=0) as server:
        server.service.__class__ = QuickService
        yield server


def save(folder: Path, shards: int) -> list[bf.Shard]:
    creator = bf.BatchCreator("m", None, system_prompt=None, seed=None)
    for number in range(shards * REQUESTS):
        creator.add_entry(f"r{number}", f"Say {number}.")
    return creator.save_to_file(folder / "reviews.jsonl", limits=bf.Limits(requests=REQUESTS))


def measure(shards: int) -> dict[str, float]:
    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        began = perf_counter()
        found = work()
        seconds[name] = perf_counter() - began
        print(f"{shards:,} shards, {name}: {seconds[name]:.2f} s", file=sys.stderr)
        return found

    with tempfile.TemporaryDirectory() as name, server() as service:
        folder = Path(name)
        options: dict[str, Any] = {"client": service.client()}
        saved = timed("save", lambda: save(folder, shards))
        quiet = {**options, "progress": False}
        service.settings.polls = 1_000_000
        jobs = timed("submit", lambda: bf.submit(saved, **quiet))
        timed("submit again", lambda: bf.submit(saved, **quiet))
        timed("load_jobs", lambda: bf.load_jobs(folder / "reviews.jsonl"))
        timed("load_jobs of a glob", lambda: bf.load_jobs(folder / "reviews-*.jsonl"))
        timed("status", lambda: bf.status(jobs, **options))
        half = len(jobs) // 2
        timed("cancel (half)", lambda: bf.cancel(jobs[:half], **options))
        service.settings.polls = 0
        ended = timed("wait", lambda: bf.wait(jobs, poll=0.01, **quiet))
        timed("download", lambda: bf.download(ended, **quiet))
    return seconds


def main() -> None:
    counts = list(map(int, sys.argv[1:])) or list(COUNTS)
    figures = [measure(count) for count in counts]
    print(f"{'seconds':<22}" + "".join(f"{count:>10,}" for count in counts) + f"{'ratio':>10}")
    for name in figures[0]:
        row = [one[name] for one in figures]
        print(f"{name:<22}" + "".join(f"{s:>10.2f}" for s in row) + f"{row[-1] / row[0]:>10.1f}")


if __name__ == "__main__":
    main()
