"""Write request lines with the workers of Dask, kill one of them, and compare with one process.

    python tests/benchmarks/partitions.py [--rows 10000000] [--workers 4] [--seed 7]

Each row group of a Parquet file is a partition. The lines of each have to hash as those that one
process makes of the same rows, and the memory of each worker is read while it works.
"""

import hashlib
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from common import argument_parser, be_child, positive, run_child, versions
from write import GROUP_ROWS, OPTIONS, generate


def hashes_of(chunks: Iterable[bytes]) -> Iterator[str]:
    """Hash the lines of each partition; a chunk ends with a line."""
    lines = (line for chunk in chunks for line in chunk.splitlines(keepends=True))
    while group := b"".join(islice(lines, GROUP_ROWS)):
        yield hashlib.sha256(group).hexdigest()


def in_one_process(source: str, target: str) -> None:
    import batch_frames as bf
    from batch_frames.arrow import bytes_of
    from batch_frames.requests import rendered_lines

    lines = rendered_lines(bf.from_parquet(source, **OPTIONS))
    Path(target).write_text("\n".join(hashes_of(bytes_of(part).tobytes() for part in lines)))


class Watch(threading.Thread):
    """Read the memory of workers until it is stopped, and kill one in the middle."""

    def __init__(self, cluster: Any, folder: Path, partitions: int) -> None:
        super().__init__(daemon=True)
        self.cluster, self.folder, self.partitions = cluster, folder, partitions
        self.peaks: dict[int, list[int]] = {}
        self.killed = 0
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.2):
            finished = len(list(self.folder.glob(".*-ids.tmp")))
            quarter = min(4 * finished // self.partitions, 3)
            pids = {nanny.pid for nanny in self.cluster.workers.values() if nanny.pid}
            if not self.killed and finished > self.partitions // 3:
                self.killed = pids.pop()
                os.kill(self.killed, signal.SIGKILL)
            for pid in pids:
                with suppress(OSError):
                    peaks = self.peaks.setdefault(pid, [0] * 4)
                    peaks[quarter] = max(peaks[quarter], resident(pid))


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def in_workers(source: str, folder: str, workers: str) -> None:
    import dask.dataframe as dd
    from distributed import Client, LocalCluster

    import batch_frames as bf

    cluster = LocalCluster(n_workers=int(workers), threads_per_worker=1, dashboard_address=None)
    with cluster, Client(cluster):
        rows = dd.read_parquet(source, split_row_groups=True)
        watch = Watch(cluster, Path(folder), rows.npartitions)
        watch.start()
        start = time.perf_counter()
        shards = bf.from_dataframe(rows, **OPTIONS).save_to_file(Path(folder, "lines.jsonl"))
        wall = time.perf_counter() - start
        watch.done.set()
        watch.join()
    requests, nbytes = (sum(getattr(s, name) for s in shards) for name in ("requests", "nbytes"))
    stray = [path for path in Path(folder).iterdir() if path.name.startswith(".lines")]
    report = [
        f"{workers} workers, {rows.npartitions} partitions, process {watch.killed} killed",
        f"{requests:,} requests, {nbytes / 1e6:,.0f} MB in {len(shards)} files, {wall:.1f} s",
        f"{len(stray)} stray files",
        "peak MB of each process, in each quarter of the partitions:",
    ]
    for pid, peaks in watch.peaks.items():
        report.append(f"{pid:>10}" + "".join(f"{peak / 1e6:8.0f}" for peak in peaks))
    Path(folder, "report").write_text("\n".join(report))
    Path(folder, "hashes").write_text("\n".join(hashes_of(s.path.read_bytes() for s in shards)))


TASKS = {"generate": generate, "one": in_one_process, "workers": in_workers}


def main() -> None:
    parser = argument_parser(__doc__, 10_000_000, 1)
    parser.add_argument("--workers", type=positive, default=4)
    arguments = parser.parse_args()
    if arguments.child:
        be_child(TASKS, *arguments.child)
        return
    with tempfile.TemporaryDirectory() as name:
        source, folder = Path(name, "rows.parquet"), Path(name, "out")
        folder.mkdir()
        run_child("generate", source, arguments.rows, arguments.seed)
        print(versions())
        run_child("workers", source, folder, arguments.workers)
        print((folder / "report").read_text())
        for shard in folder.glob("*.jsonl"):
            shard.unlink()
        run_child("one", source, folder / "expected")
        found, expected = ((folder / name).read_text().split() for name in ("hashes", "expected"))
        same = sum(a == b for a, b in zip(found, expected, strict=True))
        print(f"{same:,} of {len(expected):,} partitions have the lines of one process")


if __name__ == "__main__":
    main()
