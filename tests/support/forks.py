"""Start processes that fork from one which has imported the libraries once for all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn


def load_all() -> None:
    """Import what the forked processes would import, each one again."""
    import multiprocessing.synchronize

    import openai.resources.batches
    import openai.resources.files
    import tqdm
    from filelock import FileLock, SoftFileLock

    import batch_frames as bf

    used = [bf.BatchCreator, bf.submit, bf.wait, bf.download]
    assert all([multiprocessing, openai, tqdm, FileLock, SoftFileLock, *used])


def take_orders(obey: Callable[[dict[str, Any]], NoReturn]) -> None:
    """Fork a process for each order on standard input, and tell its id; ``wait`` waits for one."""
    for text in sys.stdin:
        order = json.loads(text)
        if "wait" in order:
            print(os.waitstatus_to_exitcode(os.waitpid(order["wait"], 0)[1]), flush=True)
            continue
        child = os.fork()
        if not child:
            obey(order)
        print(child, flush=True)


class Orders:
    """Give orders to a process that takes them."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def start(self, order: dict[str, Any]) -> int:
        """Start a process that obeys an order, and return its id."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def end(self, pid: int) -> int:
        """Wait for the end of a process, and return its exit code."""
        return self.start({"wait": pid})


@contextmanager
def taking_orders(module: str) -> Iterator[Orders]:
    """Start a module as a program that takes orders."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", module]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, text=True, stdin=pipe, stdout=pipe) as process:
        yield Orders(process)
        process.kill()
