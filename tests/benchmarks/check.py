"""Measure what checking a file of requests costs, beside reading it.

    python tests/benchmarks/check.py [--rows 200000] [--repeat 5] [--seed 7]

It compares `check_requests` with `read_requests`, in turn, of one file with short prompts, and of
one with a tenth of the rows and prompts twenty times as long, of which some tokens are counted.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

from common import (
    Sample,
    argument_parser,
    be_child,
    measure,
    medians,
    run_child,
    run_sample,
    times,
    versions,
)
from write import OPTIONS, generate, load_arrow, save

LONGER = 20
CAVEAT = """
x: each round's time of the check over that of reading, the median of the rounds.

What this does not show: importing the libraries is outside the clock, the first use of DuckDB and
loading what counts tokens are inside. All files are in the page cache. The requests have one model
and no faults, so that each kind of request is judged once; a file in which many lines have faults
takes longer. It is one machine and one kind of text."""


def write(source: str, times: str) -> None:
    """Write one file of requests, each with its text so many times."""
    import batch_frames as bf

    options = {**OPTIONS, "prompt_column": bf.fmt("{review} " * int(times))}
    target = Path(source).with_suffix(".jsonl")
    save(bf.from_dataframe(load_arrow(Path(source)), **options), target)


def check(path: Path) -> None:
    import batch_frames as bf

    found = bf.check_requests(path)
    # That the file is too large for one batch, and where prompts are long, what that costs.
    assert {*found["code"]} <= {"file_too_large", "too_many_tasks", "prompt_cache_writes"}


def read(path: Path) -> None:
    import batch_frames as bf

    bf.read_requests(path)


WORK: dict[str, Callable[[Path], None]] = {"check": check, "read": read}


def work(key: str, path: str) -> Sample:
    import batch_frames as bf

    assert all([bf.check_requests, bf.read_requests])  # loads what is not to be measured
    return measure(lambda: WORK[key](Path(path)))


TASKS: dict[str, Callable[..., Sample | None]] = {
    "generate": generate,
    "write": write,
    "work": work,
}


def show(folder: Path, rows: int, longer: int, repeat: int, seed: int) -> None:
    """Measure one file, and print a line for each way."""
    source = folder / f"{longer}.parquet"
    path = source.with_suffix(".jsonl")
    run_child("generate", source, rows, seed)
    run_child("write", source, longer)
    found: dict[str, list[Sample]] = {key: [] for key in WORK}
    for _ in range(repeat):
        for key, samples in found.items():
            samples.append(run_sample("work", key, path))
    size = path.stat().st_size
    print(f"{rows:,} requests of {size / rows:,.0f} bytes, {size / 1e6:,.0f} MB")
    for key, samples in found.items():
        one = medians(samples)
        print(f"{f'{key}_requests':<18}{one.cpu:>8.2f}{one.wall:>9.2f}{one.rise / 1e6:>9.0f}")
    pairs = list(zip(*found.values(), strict=True))
    for name in ("cpu", "wall"):
        ratio = median(getattr(one, name) / getattr(other, name) for one, other in pairs)
        print(f"x {name:<16}{times(ratio, 1):>8}")
    print()


def main() -> None:
    given = argument_parser(__doc__, 200_000, 5).parse_args()
    if given.child:
        be_child(TASKS, *given.child)
        return
    print(versions(), f"median of {given.repeat} rounds", sep=", ", end="\n\n")
    print(f"{'':<18}{'CPU s':>8}{'wall s':>9}{'rise MB':>9}")
    with tempfile.TemporaryDirectory() as name:
        for rows, longer in ((given.rows, 1), (given.rows // 10, LONGER)):
            show(Path(name), rows, longer, given.repeat, given.seed)
    print(CAVEAT)


if __name__ == "__main__":
    main()
