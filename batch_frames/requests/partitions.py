"""Save the requests of a Dask DataFrame from its workers, each partition where it is."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from batch_frames.arrow import hash_text, keep_freed_memory
from batch_frames.display import NAMED
from batch_frames.errors import BatchFramesError
from batch_frames.files import CloudPath, FolderStore, Limits, Shard, ShardWriter, open_store
from batch_frames.frames import DaskSource, Position, partition_chunks
from batch_frames.requests.rendering import (
    TableRequests,
    custom_id_of,
    not_unique,
    warn_empty,
    warn_skipped,
)
from batch_frames.requests.template import Template

__all__ = ["save_partitions"]


@dataclass(frozen=True)
class Task:
    """What a worker needs to write a partition; ``part`` is how its temporary files begin."""

    template: Template
    id_column: str | Sequence[str] | None
    na: str
    limits: Limits
    part: Path


@dataclass(frozen=True)
class Written:
    """What a worker has written: shards under temporary names, and the hashes of their ids.

    Attributes:
        number: The number of the partition.
        shards: Its requests.
        ids: A file with two columns of as many numbers as there are requests, in the order of the
            first: the hash of each ``custom_id``, and its row in the partition.
        skipped: How many rows were skipped.
        places: Where the first of them are.
    """

    number: int
    shards: Sequence[Shard]
    ids: Path
    skipped: int
    places: Sequence[str]

    @property
    def requests(self) -> int:
        """The number of requests."""
        return sum(shard.requests for shard in self.shards)

    def columns(self) -> npt.NDArray[np.uint64]:
        """Map the columns of the file of hashes."""
        return np.memmap(self.ids, "<u8", "r").reshape(2, -1) if self.shards else NOTHING

    def id_at(self, row: int) -> str:
        """Read the ``custom_id`` of a row from its line."""
        line = int(np.searchsorted(np.sort(self.columns()[1]), np.uint64(row)))
        for shard in self.shards:
            if line < shard.requests:
                with shard.path.open("rb") as file:
                    return custom_id_of(next(islice(file, line, None)))
            line -= shard.requests
        raise AssertionError("a row without a line")


NOTHING = np.zeros((2, 0), np.uint64)


def save_partitions(
    table: TableRequests,
    target: str | os.PathLike[str] | IO[bytes],
    *,
    limits: Limits,
    check: Callable[[Mapping[Path, Path | None]], None] | None = None,
    overwrite: bool = False,
) -> list[Shard]:
    """Save the requests of each partition as files under the limits, from the workers of Dask.

    A try of a partition writes files of its own under temporary names, and those that fail or come
    twice are removed at the end. Only here are files put together, checked, and given their names.

    Args:
        table: The requests of a Dask DataFrame.
        target: The file, in a folder that all workers see.
        limits: As for ``save_requests``, like all after it.

    Raises:
        RequestError: If a row cannot become a request, or a ``custom_id`` is not unique.
        BatchFramesError: If the target is not a file that all workers see, or as for
            ``BatchCreator.save_to_file``.
    """
    source = table.source
    assert isinstance(source, DaskSource)
    store = open_store(target, overwrite=overwrite)
    with ShardWriter(store, limits) as writer:
        if type(store) is not FolderStore:
            problem = "the workers of a Dask DataFrame cannot write into a pipe or a file object"
            raise BatchFramesError(problem, hint="pass a path that all of them see")
        if isinstance(part := store.part("p").absolute(), CloudPath):
            problem = (
                f"'{target!s}': the workers of a Dask DataFrame write to a folder on disk only"
            )
            raise BatchFramesError(problem, hint="save there, and copy the files")
        task = Task(table.template, source.id_column, table.na, limits, part)
        rows = source.needed.to_delayed()
        written = _in_workers(write_partition, enumerate(rows), task)
        _check_seen(shard for one in written for shard in one.shards)
        _check_ids(written)
        packs = _packs([shard for one in written for shard in one.shards], limits)
        joined = iter(_in_workers(join_shards, ((pack,) for pack in packs if len(pack) > 1), task))
        for pack in packs:
            shard = next(joined) if len(pack) > 1 else pack[0]
            writer.adopt(shard.path, shard.requests, shard.nbytes)
        if check:
            check(writer.changes())
        shards = writer.commit()
    warn_skipped(sum(one.skipped for one in written), [p for one in written for p in one.places])
    warn_empty(shards)
    return shards


def write_partition(number: int, rows: pd.DataFrame, task: Task) -> Written:
    """Write the requests of a partition, and the hashes of their ids, to temporary files."""
    keep_freed_memory()
    store = PartStore(task.part, f"{number}-{secrets.token_hex(4)}")
    hashes, places, skipped = [NOTHING[0]], [NOTHING[1]], 0
    named: list[str] = []
    with ShardWriter(store, task.limits) as writer:
        for chunk in partition_chunks(rows, number, task.id_column, task.template.columns):
            block = task.template.render(chunk, na=task.na)
            writer.write(block.lines, block.chunk.error)
            hashes.append(hash_text(block.ids))
            places.append(block.chunk.position.rows(len(block.ids)))
            skipped += block.skipped
            named += block.places[: NAMED - len(named)]
        shards = writer.commit() if sum(map(len, hashes)) else []
        columns = np.stack([np.concatenate(hashes), np.concatenate(places)]).astype("<u8")
        if shards:
            columns[:, np.argsort(columns[0], kind="stable")].tofile(store.part("ids"))
    return Written(number, shards, store.part("ids"), skipped, named)


def join_shards(shards: Sequence[Shard], task: Task) -> Shard:
    """Put small files together to one."""
    [path] = PartStore(task.part, f"joined-{secrets.token_hex(4)}").names_of(1)
    with path.open("xb") as file:
        for shard in shards:
            with shard.path.open("rb") as part:
                shutil.copyfileobj(part, file)
    return Shard(path, sum(s.requests for s in shards), sum(s.nbytes for s in shards))


class PartStore(FolderStore):
    """Write files under temporary names of a set that another process commits.

    Args:
        start: How all these names begin.
        name: What follows for this store alone.
    """

    def __init__(self, start: Path, name: str) -> None:
        self._start, self._name = start, name
        self._made, self._whole = 0, False

    def part(self, name: str) -> Path:
        """Return a temporary path for this store alone."""
        return self._start.with_name(f"{self._start.stem}-{self._name}-{name}.tmp")

    def create(self, number: int) -> IO[bytes]:
        """Open a new file for writing."""
        self._made = number
        return super().create(number)

    def names_of(self, count: int) -> list[Path]:
        """Return the names of so many files."""
        return [self.part(f"{n + 1:05}") for n in range(count)]

    def commit(self, requests: Sequence[int]) -> tuple[list[Path], str]:
        """Keep the files under their temporary names."""
        self._whole = True
        return self.names_of(len(requests)), ""

    def close(self) -> None:
        """Remove all files unless they were to be kept."""
        for path in () if self._whole else self.names_of(self._made):
            path.unlink(missing_ok=True)


def _in_workers(function: Callable[..., Any], calls: Iterable[tuple[Any, ...]], last: Any) -> Any:
    """Call a function with each of some arguments and the one that all calls share."""
    import dask

    call, shared = dask.delayed(function, pure=False), dask.delayed(last, traverse=False)
    return dask.compute(*[call(*arguments, shared) for arguments in calls])


def _check_seen(shards: Iterable[Shard]) -> None:
    for shard in shards:
        if not shard.path.is_file() or shard.path.stat().st_size != shard.nbytes:
            problem = f"'{shard.path}', which a worker has written, is not here"
            raise BatchFramesError(problem, hint="save to a folder that all workers see")


def _packs(shards: Sequence[Shard], limits: Limits) -> list[list[Shard]]:
    """Group consecutive shards that fit in one file together."""
    packs: list[list[Shard]] = []
    requests = nbytes = 0
    for shard in shards:
        requests, nbytes = requests + shard.requests, nbytes + shard.nbytes
        if not packs or requests > limits.requests or nbytes > limits.nbytes:
            packs.append([])
            requests, nbytes = shard.requests, shard.nbytes
        packs[-1].append(shard)
    return packs


IDS_EACH = 1 << 22
"""How many ids a worker compares with each other."""

SUSPECTS = 1_024

Place = tuple[int, int]
"""The number of a partition, and of a row in it."""


def _check_ids(written: Sequence[Written]) -> None:
    """Compare all ids: the workers find equal hashes, and whether the ids are is read from lines.

    Raises:
        RequestError: If ids are repeated; it names the first three with both their places.
    """
    shares = sum(one.requests for one in written) // IDS_EACH + 1
    found = _in_workers(find_repeated, ((n, shares) for n in range(shares)), written)
    count = sum(total for total, _ in found)
    twice: list[tuple[str, Position, Position]] = []
    for places in sorted((places for _, some in found for places in some), key=itemgetter(1)):
        first: dict[str, Place] = {}
        for number, row in places:
            custom_id = written[number].id_at(row)
            if custom_id in first:
                twice.append((custom_id, _position(first[custom_id]), _position((number, row))))
                break
            first[custom_id] = (number, row)
        if len(twice) == NAMED:
            break
    if twice:
        raise not_unique(twice, max(count, len(twice)))


def _position(place: Place) -> Position:
    number, row = place
    return Position(row, f"partition {number}")


def find_repeated(
    share: int, shares: int, written: Sequence[Written]
) -> tuple[int, list[list[Place]]]:
    """Find the hashes that are repeated, in one of some shares of their range.

    Returns:
        How many there are, and the first few places of the first of them.
    """
    low, high = (n * (1 << 64) // shares for n in (share, share + 1))
    parts = []
    for one in written:
        hashes, rows = one.columns()
        start = np.searchsorted(hashes, np.uint64(low))
        stop = np.searchsorted(hashes, np.uint64(high - 1), "right")
        number = np.full(stop - start, one.number, np.uint64)
        parts.append(np.stack([rows[start:stop], number, hashes[start:stop]]))
    rows, numbers, hashes = columns = np.concatenate(parts, axis=1)
    order = np.lexsort(columns)
    hashes = hashes[order]
    same = hashes[1:] == hashes[:-1]
    starts = np.flatnonzero(same & ~np.append(False, same[:-1]))
    ends = np.searchsorted(hashes, hashes[starts], "right")
    groups = [
        [(int(numbers[row]), int(rows[row])) for row in order[start : min(end, start + NAMED)]]
        for start, end in zip(starts[:SUSPECTS], ends, strict=False)
    ]
    return len(starts), groups
