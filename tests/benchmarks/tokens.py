"""Measure how long it takes to estimate 50,000 requests of 300 tokens.

Run it from the folder of the project: ``python -m tests.benchmarks.tokens [requests …]``.
"""

import random
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time

import pandas as pd

import batch_frames as bf

COUNTS = (50_000,)
WORDS = 145

SAMPLE = (Path(__file__).parents[2] / "data" / "reviews.csv").read_text("utf-8").split()


def save(count: int, path: Path) -> list[bf.Shard]:
    """Save requests whose prompts are words of the sample, all of them different."""
    draw = random.Random(334)
    prompts = [" ".join(draw.choices(SAMPLE, k=WORDS)) for _ in range(count)]
    frame = pd.DataFrame({"id": range(count), "prompt": prompts})
    batch = bf.from_dataframe(frame, id_column="id", prompt_column="prompt", model="gpt-6-luna")
    return batch.save_to_file(path)


def main() -> None:
    """Estimate tables of several sizes, and print what that takes."""
    for count in map(int, sys.argv[1:] or COUNTS):
        with tempfile.TemporaryDirectory() as folder:
            shards = save(count, Path(folder, "requests.jsonl"))
            start, used = perf_counter(), process_time()
            total = bf.estimate(shards, output_tokens=100).iloc[-1]
            wall, cpu = perf_counter() - start, process_time() - used
        each = total["input_tokens"] / count
        print(f"{count:,} requests of {each:.0f} tokens: {wall:.2f} s, {cpu:.2f} s of CPU")


if __name__ == "__main__":
    main()
