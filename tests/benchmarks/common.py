"""What the benchmarks share: their texts, child processes, clocks and figures.

The libraries are imported only in the child processes: Linux counts the peak memory of the
starting process in a child's ru_maxrss, so the starting process has to stay small.
"""

import argparse
import gc
import importlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

POOL_SIZE = 4096
WORDS_PER_FRAGMENT = 9
VOCABULARY = (
    "the room was clean but breakfast arrived late and our coffee cold staff were friendly "
    "helpful nobody answered when we called again after midnight view over harbour is lovely "
    "parking costs extra would stay here for weekend with children bathroom smelled strange "
    "excellent value terrible noise near station comfortable bed highly recommended never "
    "房间非常干净 早餐很好吃 服务态度一般 下次还会再来 部屋がとても綺麗でした 朝食が美味しい "
    "駅から近くて便利 スタッフが親切 값이 비싸지만 좋아요 😀 👍🏽 🎉 😡 ☕"
)
MARKS = ('and said "never again"', "\nSecond visit:\n", "see C:\\photos\\room", '"so-so"\n')


@dataclass(frozen=True)
class Sample:
    """One run: seconds of CPU and wall time, and bytes of memory."""

    cpu: float
    user: float
    wall: float
    rise: float
    peak: float


@dataclass(frozen=True)
class Contestant:
    """A way of doing the work: `load` runs before the clock, `run` under it."""

    label: str
    modules: tuple[str, ...]
    load: Callable[[Path], Any]
    run: Callable[..., Any]

    def installed(self) -> bool:
        # To look for a module in a package would import the package, here in the small process.
        return all(find_spec(module.partition(".")[0]) for module in self.modules)

    def prepare(self, source: Path) -> Any:
        """Import what it needs, and load what it works on."""
        for module in self.modules:
            importlib.import_module(module)
        return self.load(source)


def fragments(rng: Any, endings: tuple[str, ...]) -> list[str]:
    words = VOCABULARY.split()
    picks = rng.integers(len(words), size=(POOL_SIZE, WORDS_PER_FRAGMENT)).tolist()
    texts = (" ".join(words[word] for word in row) for row in picks)
    return [f"{text} {endings[n % len(endings)]}" for n, text in enumerate(texts)]


def peak_memory() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def forget_loading() -> None:
    """Free what loading left behind: reusing it, or its peak, would hide the peak of the run."""
    import pyarrow as pa

    gc.collect()
    pa.default_memory_pool().release_unused()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def cpu_seconds() -> tuple[float, float]:
    """Give user and system time; the page cache is the system's."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime, usage.ru_stime


def measure(action: Callable[[], object]) -> Sample:
    memory, before, start = peak_memory(), cpu_seconds(), perf_counter()
    action()
    wall, after = perf_counter() - start, cpu_seconds()
    user = after[0] - before[0]
    cpu = user + after[1] - before[1]
    return Sample(cpu, user, wall, rise=peak_memory() - memory, peak=peak_memory())


def run_child(task: str, *words: object) -> str:
    """Run a task in a fresh process and return the last line it printed."""
    command = [sys.executable, sys.argv[0], "--child", task, *map(str, words)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"error: {task} {words[0]} failed with exit code {done.returncode}")
    return done.stdout.rstrip().rpartition("\n")[2]


def run_sample(task: str, *words: object) -> Sample:
    return Sample(**json.loads(run_child(task, *words)))


def be_child(tasks: Mapping[str, Callable[..., Sample | None]], task: str, *words: str) -> None:
    """Do, in the child process, what `run_child` asks for."""
    if sample := tasks[task](*words):
        print(json.dumps(asdict(sample)))


def medians(samples: list[Sample]) -> Sample:
    runs = [asdict(sample) for sample in samples]
    return Sample(**{name: median(run[name] for run in runs) for name in runs[0]})


def times(value: float, base: float | None) -> str:
    return f"{value / base:.2f}" if base else "-"


def versions() -> str:
    names = ("pandas", "pyarrow", "orjson", "msgspec", "polars", "duckdb")
    found = [f"{name} {version(name)}" for name in names if find_spec(name)]
    return ", ".join([f"Python {sys.version.split()[0]}", *found, f"{os.cpu_count()} CPUs"])


def argument_parser(doc: str | None, rows: int | None, repeat: int) -> argparse.ArgumentParser:
    """Take what all benchmarks take, by these defaults."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    if rows is not None:
        parser.add_argument("--rows", type=positive, default=rows)
    parser.add_argument("--repeat", type=positive, default=repeat)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    return parser


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number
