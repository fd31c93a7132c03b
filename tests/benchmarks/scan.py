"""Measure reading results as a stream, and joining them out of core, beside `read_results`.

    python tests/benchmarks/scan.py [--rows 5000000] [--seed 7]

`read_results` reads a tenth of the lines, as it holds them all in memory. The last two columns are
lines per second of wall and of CPU time, each beside those of `read_results`; what else runs on the
machine changes the second less.
"""

import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import read
import write
from common import (
    Sample,
    argument_parser,
    be_child,
    forget_loading,
    measure,
    run_child,
    run_sample,
    times,
    versions,
)

DIFFERENT = 100_000


def generate(target: str, rows: str, seed: str) -> None:
    """Write output lines, of which so many are different but for their ids."""
    read.generate(target + ".few", str(min(DIFFERENT, int(rows))), seed)
    few = Path(target + ".few").read_bytes().splitlines(keepends=True)
    ends = [(head, tail[7:]) for head, _, tail in (line.partition(b'"r') for line in few)]
    Path(target + ".few").unlink()
    with Path(target).open("wb") as file:
        for start in range(0, int(rows), len(ends)):
            numbered = enumerate(islice(ends, int(rows) - start), start)
            file.writelines(b'%b"r%07d%b' % (head, n, tail) for n, (head, tail) in numbered)


def stream(source: str) -> Sample:
    import batch_frames as bf

    forget_loading()
    return measure(lambda: [len(batch) for batch in bf.scan_results(source)][:0])


def join(table: str, source: str, out: str) -> Sample:
    import batch_frames as bf

    forget_loading()
    return measure(lambda: bf.join_results(table, source, id_column="id", out=out, progress=False))


def whole(source: str) -> Sample:
    import batch_frames as bf

    forget_loading()
    return measure(lambda: bf.read_results(source))


TASKS: dict[str, Callable[..., Sample | None]] = {
    "generate": generate,
    "rows": write.generate,
    "scan_results": stream,
    "join_results(out=)": join,
    "read_results": whole,
}


def main() -> None:
    parser = argument_parser(__doc__, 5_000_000, 1)
    arguments = parser.parse_args()
    if arguments.child:
        be_child(TASKS, *arguments.child)
        return
    rows, seed = arguments.rows, arguments.seed
    with tempfile.TemporaryDirectory() as name:
        many, few, table, out = (
            Path(name, n) for n in ("many.jsonl", "few.jsonl", "rows.parquet", "out.parquet")
        )
        run_child("generate", many, rows, seed)
        run_child("generate", few, max(rows // 10, 1), seed)
        run_child("rows", table, rows, seed)
        sizes = [f"{path.stat().st_size / 1e6:,.0f} MB" for path in (many, table)]
        print(f"{rows:,} results, {sizes[0]}, and rows of Parquet, {sizes[1]}; {versions()}")
        print(
            f"{'':<20}{'lines':>10}{'CPU s':>8}{'wall s':>8}{'lines/s':>9}{'peak MB':>9}{'rate':>6}"
            f"{'by CPU':>8}"
        )
        base: tuple[float, float] | None = None
        for task, count, paths in (
            ("read_results", max(rows // 10, 1), [few]),
            ("scan_results", rows, [many]),
            ("join_results(out=)", rows, [table, many, out]),
        ):
            sample = run_sample(task, *paths)
            rate, by_cpu = count / sample.wall, count / sample.cpu
            base = base or (rate, by_cpu)
            figures = f"{sample.cpu:>8.1f}{sample.wall:>8.1f}{rate:>9,.0f}{sample.peak / 1e6:>9.0f}"
            ratios = f"{times(rate, base[0]):>6}{times(by_cpu, base[1]):>8}"
            print(f"{task:<20}{count:>10,}{figures}{ratios}")


if __name__ == "__main__":
    main()
