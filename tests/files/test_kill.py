"""Kill sharded writes at any moment: what stands under a final name is always whole."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

import pytest

import batch_frames as bf
from tests.support.forks import load_all
from tests.support.marks import slow

NAME = "reviews.jsonl"
STEPS = ("open", "os.rename", "os.remove")

Files = dict[str, bytes]


@dataclass(frozen=True)
class Run:
    """Describe a run: the tag tells its lines from those of any other."""

    tag: int
    rows: int
    per_file: int
    width: int = 0

    def entries(self) -> list[tuple[str, str]]:
        """Make up ids and prompts."""
        return [(f"{self.tag}-{n}", f'"{n}"\né🎈' + "x" * self.width) for n in range(self.rows)]

    def files(self) -> Files:
        """Say what must stand after this run, from a row loop."""
        lines = [
            json.dumps(
                {
                    "custom_id": custom_id,
                    "method": "POST",
                    "url": "/v1/chat/completions",
                    "body": {"model": "m", "messages": [{"role": "user", "content": prompt}]},
                },
                ensure_ascii=False,
                separators=(",", ":"),
            ).encode()
            + b"\n"
            for custom_id, prompt in self.entries()
        ]
        parts = [lines[n : n + self.per_file] for n in range(0, len(lines), self.per_file)]
        if len(parts) == 1:
            return {NAME: b"".join(parts[0])}
        return {f"reviews-{n:05}.jsonl": b"".join(part) for n, part in enumerate(parts, 1)}


def write(run: Run, folder: str, started: int) -> None:
    """Save the run's requests with the library, after a word that it starts."""
    creator = bf.BatchCreator("m", None, system_prompt=None, seed=None)
    for custom_id, prompt in run.entries():
        creator.add_entry(custom_id, prompt)
    limits = bf.Limits(requests=run.per_file)
    os.write(started, b"!")
    creator.save_to_file(Path(folder) / NAME, limits=limits, progress=False)


def die_before_step(step: int, folder: str) -> None:
    """Let this process kill itself before it opens, renames or removes a file once more."""
    done = count()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        inside = event in STEPS and str(arguments[0]).startswith(folder)
        if inside and next(done) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def serve() -> None:
    """Fork a process for each order on standard input; kill it in time; tell how it ended."""
    load_all()
    for text in sys.stdin:
        order = json.loads(text)
        start, started = os.pipe()
        child = os.fork()
        if not child:
            obey(order, started)
        os.close(started)
        os.read(start, 1)
        os.close(start)
        began = time.perf_counter()
        if order["delay"] is not None:
            time.sleep(order["delay"])
            os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps([code, time.perf_counter() - began]), flush=True)


def obey(order: dict[str, Any], started: int) -> NoReturn:
    """Do what the order says, and end the process."""
    status = 1
    try:
        if order["step"] is not None:
            die_before_step(order["step"], order["folder"])
        write(Run(**order["run"]), order["folder"], started)
        status = 0
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(status)


class Writer:
    """Give orders to the process that forks."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(
        self, run: Run, folder: Path, *, delay: float | None = None, step: int | None = None
    ) -> tuple[bool, float]:
        """Tell whether the run was killed, and how long saving took."""
        order = {"run": asdict(run), "folder": str(folder), "delay": delay, "step": step}
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        code, seconds = json.loads(self._process.stdout.readline())
        assert code in (0, -signal.SIGKILL)
        return code != 0, seconds


@pytest.fixture(scope="module")
def writer() -> Iterator[Writer]:
    """Start the process that forks; it has imported the library once for all."""
    command = [sys.executable, "-m", __name__]
    root = Path(__file__).parents[2]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=root, text=True, stdin=pipe, stdout=pipe) as process:
        yield Writer(process)


def standing(folder: Path) -> Files:
    """Read all files under final names."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.startswith(".")}


def check_whole(before: Files, new: Files, now: Files) -> None:
    """Hold what must be true of the files after a kill, whenever it came."""
    torn = [n for n, content in now.items() if content not in (before.get(n), new.get(n))]
    assert not torn
    numbered = sorted(now.keys() - {NAME})
    assert numbered == [f"reviews-{n:05}.jsonl" for n in range(1, len(numbered) + 1)], "no gap"
    done = [now.get(name) == content for name, content in new.items()]
    if not any(done):
        assert now.keys() == before.keys(), "before the commit, the old set is intact"
    if not all(done):
        assert now.keys() >= before.keys(), "no old file goes until all new ones stand"


def merged(before: Files, last: Files, now: Files, new: Files) -> Files:
    """Tell what a run found that went on with the commit before: whole, or as far as it came."""
    if any(now.get(name) == content for name, content in new.items()):
        return last
    assert all(content in (before.get(name), last.get(name)) for name, content in now.items())
    return now


def check_repaired(writer: Writer, run: Run, folder: Path) -> None:
    """Hold that a run to its end leaves exactly its own files, and nothing hidden."""
    killed, _ = writer.run(run, folder)
    assert not killed
    now = standing(folder)
    assert now == run.files()
    assert {p.name for p in folder.iterdir()} == now.keys() | {".batch_frames"}


@pytest.mark.parametrize("most", [10, slow(50)])
def test_kills_at_random_moments_never_leave_a_torn_file(
    writer: Writer, tmp_path: Path, most: int
) -> None:
    """Kills spread over many-file, few-file and one-file runs leave whole files, and runs heal."""
    chance = random.Random(334)
    tags = count()
    shapes = [(480, 4, 0), (1_500, 600, 1_000), (1_500, 1_500, 1_000)]
    usual = []
    for shape in shapes:
        run = Run(next(tags), *shape)
        killed, seconds = writer.run(run, tmp_path)
        assert not killed
        usual.append(seconds)
    assert standing(tmp_path) == run.files()

    kills, unfinished = 0, False
    while kills < most:
        picked = chance.choice([0, 0, 1, 2])
        before, last = standing(tmp_path), run
        was_unfinished, unfinished = (
            unfinished,
            any((tmp_path / ".batch_frames" / "commits").glob("[!.]*.json")),
        )
        run = Run(next(tags), *shapes[picked])
        killed, _ = writer.run(run, tmp_path, delay=chance.uniform(0, usual[picked]))
        now = standing(tmp_path)
        if not killed:
            assert now == run.files()
            continue
        kills += 1
        if unfinished and was_unfinished:
            # The commit may be that of any run before; what comes of it is checked by a whole run.
            check_repaired(writer, Run(next(tags), *shapes[picked]), tmp_path)
            unfinished = False
            continue
        if unfinished and now != before:
            # The first thing that a run does is to finish the commit of the one before.
            before = merged(before, last.files(), now, run.files())
        check_whole(before, run.files(), now)
        if chance.random() < 0.4:
            check_repaired(writer, Run(next(tags), *chance.choice(shapes)), tmp_path)
    check_repaired(writer, Run(next(tags), *shapes[0]), tmp_path)


OTHERS = ((0, 9), (2, 9), (9, 2), (2, 2), (14, 7), (7, 14))


@pytest.mark.parametrize(
    ("old_rows", "new_rows"),
    [(0, 2), (2, 5), (5, 2), *(slow(*rows) for rows in OTHERS)],
    ids=lambda rows: f"{rows} rows",
)
def test_a_kill_before_any_step_on_the_files_leaves_them_whole(
    writer: Writer, tmp_path: Path, old_rows: int, new_rows: int
) -> None:
    """Kills before each single open, rename and removal, in the commit too, leave whole files."""
    old, new = Run(1, old_rows, 3), Run(2, new_rows, 3)
    before = old.files() if old_rows else {}
    after = new.files()
    if old_rows:
        writer.run(old, tmp_path / "old")
    seen = []
    for step in count():
        folder = tmp_path / f"{step:03}"
        if old_rows:
            shutil.copytree(tmp_path / "old", folder)
        else:
            folder.mkdir()
        killed, _ = writer.run(new, folder, step=step)
        now = standing(folder)
        if not killed:
            assert now == after
            break
        seen.append(now)
        check_whole(before, after, now)
        following = Run(3, old_rows if step % 2 and old_rows else new_rows, 3)
        check_repaired(writer, following, folder)

    # Each new file is opened and renamed, and each one without a successor removed.
    assert len(seen) >= 2 * len(after) + len(before.keys() - after.keys())
    assert seen[0] == before
    assert seen[-1] == after
    mixed = [now for now in seen if now not in (before, after)]
    assert len(mixed) >= len(after) - 1 + len(before.keys() - after.keys())


if __name__ == "__main__":
    serve()
