"""Measure what planning a table costs of which nearly all rows are answered.

    python tests/benchmarks/plan.py [--rows 1000000] [--new 1000] [--repeat 3] [--seed 7]

It compares `plan` with writing the requests of all rows: before any `run` has kept what the results
say, and after it. Memory is measured for a quarter of the rows, too.
"""

import random
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from common import (
    MARKS,
    Sample,
    argument_parser,
    be_child,
    forget_loading,
    fragments,
    measure,
    medians,
    positive,
    run_child,
    run_sample,
    times,
    versions,
)
from read import make_line
from write import OPTIONS, generate, load_arrow

POOL = 5_000
NAME = "reviews.jsonl"
CAVEAT = """
rise MB: peak memory over what the process held just before the clock, which has the frame; bytes a
row: how much more it is for all rows than for a quarter of them, for each row more.

What this does not show: importing the libraries and reading the rows are outside the clock, and all
files are in the page cache. It is one machine, one kind of text and of answers; the longer these
are, the longer the first plan takes, which reads them. Ids are text; whole numbers take some bytes
more, as they are written as text."""


def answer(source: str, new: str, seed: str) -> None:
    """Save the requests of all rows but some, and what the service would answer."""
    import batch_frames as bf

    frame = load_arrow(Path(source))
    path = Path(source).with_name(NAME)
    batch = bf.from_dataframe(frame[: len(frame) - int(new)], **OPTIONS)
    heads, tails = make_pool(int(seed))
    start = 0
    for shard in batch.save_to_file(path, progress=False):
        output = shard.path.with_suffix(".output.jsonl")
        ids = frame["id"][start : start + shard.requests]
        write_answers(output, ids, heads, tails)
        note_ended(shard.path, output)
        start += shard.requests


def make_pool(seed: int) -> tuple[Any, Any]:
    """Make output lines without their ids."""
    import json

    import numpy as np
    import pyarrow as pa

    texts = fragments(np.random.default_rng(seed), (".", "!", "…", *MARKS))
    rng = random.Random(seed)
    lines = [json.dumps(make_line(rng, texts, number)) + "\n" for number in range(POOL)]
    pairs = [line.split(f"r{number:07d}", 1) for number, line in enumerate(lines)]
    heads, tails = (pa.array(part, pa.large_string()) for part in zip(*pairs, strict=True))
    return heads, tails


def write_answers(output: Path, ids: Any, heads: Any, tails: Any) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    picks = pa.array(np.arange(len(ids)) % POOL)
    texts = pa.array(ids, pa.large_string())
    empty = pa.scalar("", pa.large_string())
    lines = pc.binary_join_element_wise(heads.take(picks), texts, tails.take(picks), empty)
    with output.open("wb") as file:
        for line in lines.to_pylist():
            file.write(line.encode())


def note_ended(shard: Path, output: Path) -> None:
    """Write the document of a batch that has ended and was downloaded."""
    from batch_frames.files import Record, Settings, read_shard, wanted_job

    file, record = read_shard(shard), Record(shard.parent)
    job = record.begin(wanted_job(file, Settings()), file.lines)
    counts = {"total": file.requests, "completed": file.requests, "failed": 0}
    facts = {"batch_id": f"batch_{job.sha256}", "output_file_id": "file_1", "tried_at": "now"}
    files = {output.name: output.stat().st_size}
    record.note(job, "downloaded", status="completed", files=files, **counts, **facts)


def write(frame: Any, path: Path) -> None:
    import batch_frames as bf

    target = path.with_name("all") / NAME
    bf.from_dataframe(frame, **OPTIONS).save_to_file(target, progress=False)


def plan(frame: Any, path: Path) -> None:
    import batch_frames as bf

    bf.plan(frame, path, progress=False, **OPTIONS)


def run(frame: Any, path: Path) -> None:
    """Run the rows that were sent, and stop before those are sent again that have failed."""
    import batch_frames as bf

    with suppress(bf.BatchFramesError):
        bf.run(frame, path, progress=False, max_requests=0, **OPTIONS)


WORK: dict[str, Callable[[Any, Path], None]] = {"write": write, "plan": plan, "run": run}


def work(key: str, source: str, rows: str) -> Sample:
    import batch_frames as bf

    assert all([bf.plan, bf.run])  # loads what is not to be measured
    frame = load_arrow(Path(source))[: int(rows)]
    path = Path(source).with_name(NAME)
    forget_loading()
    return measure(lambda: WORK[key](frame, path))


TASKS: dict[str, Callable[..., Sample | None]] = {
    "generate": generate,
    "answer": answer,
    "work": work,
}

LABELS = {
    "write": "save_to_file, all rows",
    "first": "plan, before any run",
    "plan": "plan, after a run",
}


def measured(folder: Path, rows: int, new: int, repeat: int, seed: int) -> dict[str, Sample]:
    """Measure one number of rows, each way in turn."""
    source = folder / "rows.parquet"
    run_child("generate", source, rows, seed)
    run_child("answer", source, new, seed)
    found: dict[str, list[Sample]] = {label: [] for label in LABELS}
    for _ in range(repeat):
        found["first"].append(run_sample("work", "plan", source, rows))
    run_child("work", "run", source, rows - new)
    for _ in range(repeat):
        for key in ("write", "plan"):
            found[key].append(run_sample("work", key, source, rows))
            shutil.rmtree(folder / "all", ignore_errors=True)
    return {key: medians(samples) for key, samples in found.items()}


def main() -> None:
    parser = argument_parser(__doc__, 1_000_000, 3)
    parser.add_argument("--new", type=positive, default=1_000)
    given = parser.parse_args()
    if given.child:
        be_child(TASKS, *given.child)
        return
    figures: dict[int, dict[str, Sample]] = {}
    for rows in (given.rows // 4, given.rows):
        with tempfile.TemporaryDirectory() as name:
            figures[rows] = measured(Path(name), rows, given.new, given.repeat, given.seed)
    few, many = figures.values()
    print(f"{given.rows:,} rows, {given.new:,} of them new, median of {given.repeat} rounds")
    print(versions(), end="\n\n")
    head = f"{'CPU s':>8}{'wall s':>9}{'x CPU':>8}{'x wall':>8}{'rise MB':>9}{'bytes a row':>13}"
    print(f"{'':<25}{head}")
    for key, label in LABELS.items():
        one, base = many[key], many["write"]
        ratios = f"{times(one.cpu, base.cpu):>8}{times(one.wall, base.wall):>8}"
        slope = (one.rise - few[key].rise) / (given.rows - given.rows // 4)
        memory = f"{one.rise / 1e6:>9.1f}{slope:>13.1f}"
        print(f"{label:<25}{one.cpu:>8.2f}{one.wall:>9.2f}{ratios}{memory}")
    print(CAVEAT)


if __name__ == "__main__":
    main()
