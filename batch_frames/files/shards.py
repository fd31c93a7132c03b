"""Write lines into ``.jsonl`` files under the limits, whole or not at all."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, SupportsIndex

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batch_frames.arrow import bytes_of, offsets_of
from batch_frames.display import card_html, counted, size_text, table_html
from batch_frames.errors import RequestError, check_argument, naming
from batch_frames.files.find import endpoint_of
from batch_frames.files.stores import FolderStore

__all__ = [
    "Limits",
    "RequestFile",
    "Shard",
    "ShardWriter",
    "Shards",
    "line_hashes",
    "read_shard",
]


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on the size of one request file.

    The defaults are what the Batch API accepts: 50,000 requests and 200 MB a file (OpenAI's guide
    to the Batch API). Whether MB means 10^6 or 2^20 bytes is not stated there; the smaller is used.

    Attributes:
        requests: Most requests in one file.
        nbytes: Most bytes in one file.

    Raises:
        ValueError: If one of them is below 1.

    Example:
        >>> Limits(requests=1_000)
        Limits(requests=1000, nbytes=200000000)
    """

    requests: int = 50_000
    nbytes: int = 200_000_000

    def __post_init__(self) -> None:
        for name in ("requests", "nbytes"):
            value = getattr(self, name)
            whole = isinstance(value, SupportsIndex) and not isinstance(value, bool)
            if not whole or value < 1:
                raise ValueError(f"limits: {name} must be a whole number from 1, not {value!r}")


@dataclass(frozen=True)
class RequestFile:
    """A request file with its size and hash.

    Attributes:
        path: The file.
        requests: How many lines it has.
        nbytes: Its size.
        sha256: Its hash.
        endpoint: The ``url`` of its first line.
        lines: Hashes of its lines, without their line ends and without blank lines.
    """

    path: Path
    requests: int
    nbytes: int
    sha256: str
    endpoint: str
    lines: npt.NDArray[np.uint64] = field(compare=False)


def read_shard(path: Path) -> RequestFile:
    """Read a request file once, from end to end, a line at a time.

    Raises:
        LineError: If it is not a request file.
        OSError: If it cannot be read.
    """
    endpoint = endpoint_of(path)
    digest, nbytes = hashlib.sha256(), 0
    hashes = bytearray()
    with path.open("rb") as file:
        for line in file:
            digest.update(line)
            nbytes += len(line)
            if content := line.rstrip():
                hashes += hashlib.blake2b(content, digest_size=8).digest()
    lines = _numbers(hashes)
    return RequestFile(path, len(lines), nbytes, digest.hexdigest(), endpoint, lines)


def line_hashes(lines: pa.Array) -> npt.NDArray[np.uint64]:
    """Return the hashes of lines as ``RequestFile.lines`` has them.

    Args:
        lines: ``large_string``, none of them blank.
    """
    data, offsets = bytes_of(lines).tobytes(), offsets_of(lines)
    edges = itertools.pairwise((offsets - offsets[0]).tolist())
    contents = (data[start:stop].rstrip() for start, stop in edges)
    return _numbers(b"".join([hashlib.blake2b(c, digest_size=8).digest() for c in contents]))


def _numbers(hashes: bytes | bytearray) -> npt.NDArray[np.uint64]:
    return np.frombuffer(bytes(hashes), "<u8").astype(np.uint64)


@dataclass(frozen=True, slots=True)
class Shard:
    """A request file that was written; it can be passed wherever a path can.

    Attributes:
        path: The file.
        requests: How many lines it has.
        nbytes: Its size.
        save_id: What identifies the save that wrote it; empty if that is not known.
    """

    path: Path
    requests: int
    nbytes: int
    save_id: str = field(default="", compare=False, repr=False)

    def __fspath__(self) -> str:
        return str(self.path)


class Shards(list[Shard]):
    """A list of shards that a notebook shows as a card."""

    def _repr_html_(self) -> str:
        total = counted(sum(shard.requests for shard in self), "request")
        facts = {"in all": total, "size": size_text(sum(shard.nbytes for shard in self))}
        return card_html(f"Shards: {counted(len(self), 'file')}", facts, self.table())

    def table(self) -> str:
        """Draw the shards as the table of a card."""
        rows = [(shard.path.name, shard.requests, size_text(shard.nbytes)) for shard in self]
        return table_html(("file", "requests", "size"), rows)


class ShardWriter:
    """Write lines into one temporary file after another; ``commit`` gives them their names.

    Use it as a context manager: leaving it without a commit removes what was written.

    Args:
        store: Where the files are made and named.
        limits: How large one may become.

    Raises:
        TypeError: If they are no limits; the store is closed then.
    """

    def __init__(self, store: FolderStore, limits: Limits) -> None:
        try:
            check_argument("limits", limits, "Limits(requests=…, nbytes=…)", Limits)
        except TypeError:
            store.close()
            raise
        self._store = store
        self._limits = limits
        self._file: IO[bytes] | None = None
        self._sizes: list[tuple[int, int]] = []

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self._close()
        self._store.close()

    def write(self, lines: pa.Array, error: Callable[[int, str], RequestError]) -> None:
        """Append lines, each shard filled as far as both limits allow.

        Args:
            lines: ``large_string``, one line with its newline per request.
            error: Makes the error for the line of an index, from what is wrong with it.

        Raises:
            RequestError: If one line alone is above the limit.
        """
        offsets, data = offsets_of(lines), bytes_of(lines)
        offsets = offsets - offsets[0]
        start = 0
        while start < len(lines):
            requests, nbytes = self._sizes[-1] if self._file else (0, 0)
            room = int(offsets[start]) + self._limits.nbytes - nbytes
            stop = int(np.searchsorted(offsets, room, "right")) - 1
            stop = min(stop, start + self._limits.requests - requests, len(lines))
            if stop > start:
                self._append(data[offsets[start] : offsets[stop]], stop - start)
            elif offsets[start + 1] - offsets[start] > self._limits.nbytes:
                raise error(start, self._too_large(int(offsets[start + 1] - offsets[start])))
            else:
                self._next()
            start = stop

    def adopt(self, path: Path, requests: int, nbytes: int) -> None:
        """Append a whole file under the limits that another process has written."""
        self._close()
        self._sizes.append((requests, nbytes))
        self._store.adopt(path, len(self._sizes))

    def commit(self) -> Shards:
        """Give the files their final names, and remove those of an earlier run.

        Returns:
            The files in the order of their lines; one that is empty when nothing was written.
        """
        self._end()
        paths, save_id = self._store.commit([requests for requests, _ in self._sizes])
        sized = zip(paths, self._sizes, strict=True)
        return Shards(Shard(path, *size, save_id) for path, size in sized)

    def planned(self) -> Shards:
        """Return the files that a commit would make; none when nothing was written."""
        paths = self._store.names_of(len(self._sizes)) if self._sizes else []
        return Shards(Shard(path, *size) for path, size in zip(paths, self._sizes, strict=True))

    def changes(self) -> dict[Path, Path | None]:
        """Map each file that a commit would change to the new one; None where it is removed."""
        self._end()
        return self._store.changes(len(self._sizes))

    def read_back(self) -> Iterator[IO[bytes]]:
        """Open each file written so far, in order."""
        self._close()
        return (self._store.reopen(number) for number in range(1, len(self._sizes) + 1))

    def _append(self, data: Any, requests: int) -> None:
        if self._file is None:
            self._next()
        assert self._file is not None
        with naming(Path(self._file.name)):
            self._file.write(data)
        before = self._sizes[-1]
        self._sizes[-1] = (before[0] + requests, before[1] + len(data))

    def _next(self) -> None:
        self._close()
        self._sizes.append((0, 0))
        self._file = self._store.create(len(self._sizes))

    def _end(self) -> None:
        if not self._sizes:
            self._next()
        self._close()

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with naming(Path(file.name)):
                file.close()

    def _too_large(self, nbytes: int) -> str:
        return (
            f"the request is {nbytes:,} bytes, above the limit of "
            f"{self._limits.nbytes:,} a file; shorten it"
        )
