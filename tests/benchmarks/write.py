"""Measure what writing request lines costs, beside other ways of writing the same lines.

    python tests/benchmarks/write.py [--rows 200000] [--repeat 5] [--seed 7]
    python tests/benchmarks/write.py --parquet 5000000 [--seed 7]

The first form compares ways of writing rows that are already in memory. The second writes from
a Parquet file and from one a tenth of its size, to show how memory grows with the rows.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from common import (
    MARKS,
    POOL_SIZE,
    Contestant,
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

MODEL = "gpt-5.6-luna"
SYSTEM_PROMPT = "Rate the review from 1 to 5."
SYSTEM_MESSAGE = {"role": "system", "content": SYSTEM_PROMPT}
OPTIONS: dict[str, Any] = {
    "id_column": "id",
    "prompt_column": "review",
    "model": MODEL,
    "reasoning_effort": "low",
    "seed": 334,
    "system_prompt": SYSTEM_PROMPT,
}

GROUP_ROWS = 100_000
FRAGMENTS_PER_TEXT = 5
MARKED_SHARE = 0.25
REFERENCE = "json"
BASE = "arrow"
CAVEAT = """
rise MB: peak memory over what the process held just before the clock.

What this does not show: importing the libraries and reading the rows are outside the clock. It
is one machine, and a closed file is in the page cache, not yet on the disk. It is one kind of
text, about 290 characters of English, CJK and emoji; shorter, longer or plain ASCII texts would
give other ratios. CPU adds up all threads, so several threads can use more CPU than wall time."""


def make_rows(rng: Any, pool: Any, start: int, count: int) -> Any:
    """Join fragments of the pool, whose second half has characters that JSON escapes."""
    import pyarrow as pa
    import pyarrow.compute as pc

    picks = rng.integers(POOL_SIZE, size=(FRAGMENTS_PER_TEXT, count))
    picks[-1] += POOL_SIZE * (rng.random(count) < MARKED_SHARE)
    texts = pc.binary_join_element_wise(*(pool.take(pa.array(row)) for row in picks), " ")
    ids = pa.array([f"r{n:07d}" for n in range(start, start + count)])
    return pa.table({"id": ids, "review": texts})


def generate(target: str, rows: str, seed: str) -> None:
    """Write the rows as Parquet piece by piece, so that memory does not grow with them."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(int(seed))
    pool = pa.array(fragments(rng, (".", "!", "…")) + fragments(rng, MARKS))
    schema = pa.schema({"id": pa.string(), "review": pa.string()})
    with pq.ParquetWriter(target, schema) as writer:
        for start in range(0, int(rows), GROUP_ROWS):
            count = min(GROUP_ROWS, int(rows) - start)
            writer.write_table(make_rows(rng, pool, start, count))


def load_arrow(source: Path) -> Any:
    import pandas as pd

    if int(pd.__version__.split(".")[0]) >= 3:
        return pd.read_parquet(source)
    return pd.read_parquet(source, dtype_backend="pyarrow")


def load_object(source: Path) -> Any:
    return load_arrow(source).astype(object)


def load_polars(source: Path) -> Any:
    import polars as pl

    return pl.read_parquet(source)


def load_duckdb(source: Path) -> Any:
    import duckdb
    import pyarrow.parquet as pq

    return duckdb.connect().register("reviews", pq.read_table(source))


def load_raw(source: Path) -> bytes:
    return source.with_name(f"{REFERENCE}.jsonl").read_bytes()


def save(batch: Any, target: Path) -> None:
    import batch_frames as bf

    # Limits no run reaches, so that the lines go to one file like everyone else's.
    batch.save_to_file(target, limits=bf.Limits(requests=10**9, nbytes=10**12), progress=False)


def write_batch_frames(frame: Any, target: Path) -> None:
    import batch_frames as bf

    save(bf.from_dataframe(frame, **OPTIONS), target)


def requests(frame: Any) -> Iterator[dict[str, Any]]:
    for custom_id, prompt in zip(frame["id"].tolist(), frame["review"].tolist(), strict=True):
        yield {
            "custom_id": custom_id,
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {
                "model": MODEL,
                "seed": 334,
                "reasoning_effort": "low",
                "messages": [SYSTEM_MESSAGE, {"role": "user", "content": prompt}],
            },
        }


def write_json(frame: Any, target: Path) -> None:
    with target.open("w", encoding="utf-8", newline="\n") as file:
        for request in requests(frame):
            file.write(json.dumps(request, ensure_ascii=False, separators=(",", ":")) + "\n")


def write_orjson(frame: Any, target: Path) -> None:
    import orjson

    with target.open("wb") as file:
        for request in requests(frame):
            file.write(orjson.dumps(request, option=orjson.OPT_APPEND_NEWLINE))


def write_msgspec(frame: Any, target: Path) -> None:
    import msgspec

    target.write_bytes(msgspec.json.Encoder().encode_lines(list(requests(frame))))


def write_polars(frame: Any, target: Path) -> None:
    import polars as pl

    system = pl.struct(role=pl.lit("system"), content=pl.lit(SYSTEM_PROMPT))
    user = pl.struct(role=pl.lit("user"), content=pl.col("review"))
    body = pl.struct(
        model=pl.lit(MODEL),
        seed=pl.lit(334),
        reasoning_effort=pl.lit("low"),
        messages=pl.concat_list(system, user),
    )
    frame.select(
        custom_id=pl.col("id"),
        method=pl.lit("POST"),
        url=pl.lit("/v1/chat/completions"),
        body=body,
    ).write_ndjson(target)


def write_duckdb(connection: Any, target: Path) -> None:
    path = str(target).replace("'", "''")
    connection.execute(f"""
        COPY (
            SELECT id AS custom_id, 'POST' AS method, '/v1/chat/completions' AS url, {{
                'model': '{MODEL}',
                'seed': 334,
                'reasoning_effort': 'low',
                'messages': [
                    {{'role': 'system', 'content': '{SYSTEM_PROMPT}'}},
                    {{'role': 'user', 'content': review}}
                ]
            }} AS body
            FROM reviews
        ) TO '{path}' (FORMAT json)
    """)


def write_raw(lines: bytes, target: Path) -> None:
    rest = memoryview(lines)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    os.close(descriptor)


CONTESTANTS = {
    BASE: Contestant(
        "batch_frames, Arrow strings", ("batch_frames",), load_arrow, write_batch_frames
    ),
    "object": Contestant(
        "batch_frames, object columns", ("batch_frames",), load_object, write_batch_frames
    ),
    REFERENCE: Contestant("json.dumps loop", (), load_arrow, write_json),
    "orjson": Contestant("orjson loop", ("orjson",), load_arrow, write_orjson),
    "msgspec": Contestant("msgspec encode_lines", ("msgspec",), load_arrow, write_msgspec),
    "polars": Contestant("polars write_ndjson", ("polars",), load_polars, write_polars),
    "duckdb": Contestant("DuckDB COPY", ("duckdb",), load_duckdb, write_duckdb),
    "raw": Contestant("raw write, same bytes", (), load_raw, write_raw),
}


def contest(key: str, source: str, target: str) -> Sample:
    contestant = CONTESTANTS[key]
    data = contestant.prepare(Path(source))
    # Every contestant makes a new file: freeing the pages of an old one costs as much as writing.
    Path(target).unlink(missing_ok=True)
    forget_loading()
    return measure(lambda: contestant.run(data, Path(target)))


def stream(source: str, target: str) -> Sample:
    import batch_frames as bf

    return measure(lambda: save(bf.from_parquet(Path(source), **OPTIONS), Path(target)))


TASKS: dict[str, Callable[..., Sample | None]] = {
    "generate": generate,
    "contest": contest,
    "stream": stream,
}


def same_line(line: bytes | None, expected: bytes | None, parse: Callable[[bytes], Any]) -> bool:
    if line is None or expected is None or not line.endswith(b"\n"):
        return False
    try:
        return bool(parse(line) == parse(expected))
    except ValueError:
        return False


def check(key: str, folder: Path) -> None:
    parse = bytes if key == "raw" else json.loads
    written, reference = folder / f"{key}.jsonl", folder / f"{REFERENCE}.jsonl"
    with written.open("rb") as lines, reference.open("rb") as expected:
        for number, (ours, theirs) in enumerate(zip_longest(lines, expected), start=1):
            if not same_line(ours, theirs, parse):
                wrong, right = CONTESTANTS[key].label, CONTESTANTS[REFERENCE].label
                sys.exit(f"error: {wrong}: line {number} differs from the {right}")


def run_rounds(keys: list[str], source: Path, repeat: int) -> dict[str, list[Sample]]:
    """Run the contestants in turn, and check what they wrote in the first round."""
    folder = source.parent
    outputs = {key: folder / f"{key}.jsonl" for key in keys}
    samples = {key: [run_sample("contest", key, source, outputs[key])] for key in keys}
    for key in keys:
        check(key, folder)
    for key in set(keys) - {REFERENCE}:
        outputs[key].unlink()
    again = folder / "again.jsonl"
    for _ in range(repeat - 1):
        for key in keys:
            samples[key].append(run_sample("contest", key, source, again))
            again.unlink()
    return samples


def table_row(label: str, sample: Sample | None, base: Sample | None) -> str:
    if sample is None:
        return f"{label:<29}not installed"
    cpu = times(sample.cpu, base.cpu if base else None)
    wall = times(sample.wall, base.wall if base else None)
    rise = sample.rise / 1e6
    return f"{label:<29}{sample.cpu:>8.3f}{sample.wall:>9.3f}{rise:>9.1f}{cpu:>13}{wall:>14}"


def compare(folder: Path, rows: int, repeat: int, seed: int) -> None:
    source = folder / "rows.parquet"
    run_child("generate", source, rows, seed)
    installed = [key for key, contestant in CONTESTANTS.items() if contestant.installed()]
    samples = run_rounds(installed, source, repeat)
    results = {key: medians(runs) for key, runs in samples.items()}
    size = (folder / f"{REFERENCE}.jsonl").stat().st_size
    print(f"{rows:,} rows, {size / 1e6:,.1f} MB written, median of {repeat} rounds")
    print(versions(), end="\n\n")
    print(f"{'':<29}{'CPU s':>8}{'wall s':>9}{'rise MB':>9}{'x our CPU':>13}{'x our wall':>14}")
    for key, contestant in CONTESTANTS.items():
        print(table_row(contestant.label, results.get(key), results.get(BASE)))
    print(CAVEAT)


def scale(folder: Path, rows: int, seed: int) -> None:
    if not CONTESTANTS[BASE].installed():
        sys.exit("error: batch_frames is not installed")
    samples = []
    print(f"{'rows':>12}{'user s':>10}{'CPU s':>10}{'wall s':>10}{'peak MB':>10}")
    for count in (max(rows // 10, 1), rows):
        source, target = folder / "rows.parquet", folder / "lines.jsonl"
        run_child("generate", source, count, seed)
        sample = run_sample("stream", source, target)
        target.unlink()
        samples.append(sample)
        figures = f"{sample.user:>10.2f}{sample.cpu:>10.2f}{sample.wall:>10.2f}"
        print(f"{count:>12,}{figures}{sample.peak / 1e6:>10.1f}")
    small, large = samples
    names = ("user", "cpu", "wall", "peak")
    ratios = [times(getattr(large, name), getattr(small, name)) for name in names]
    print(f"{'ratio':>12}" + "".join(f"{ratio:>10}" for ratio in ratios))
    print("\nuser s: without the system's own work, most of it the page cache, which slows down as")
    print("it grows; peak MB: of the whole process, with the libraries it imported")


def main() -> None:
    parser = argument_parser(__doc__, 200_000, 5)
    parser.add_argument("--parquet", type=positive, metavar="ROWS", help="write from a file")
    arguments = parser.parse_args()
    if arguments.child:
        be_child(TASKS, *arguments.child)
        return
    with tempfile.TemporaryDirectory() as name:
        if arguments.parquet:
            scale(Path(name), arguments.parquet, arguments.seed)
        else:
            compare(Path(name), arguments.rows, arguments.repeat, arguments.seed)


if __name__ == "__main__":
    main()
