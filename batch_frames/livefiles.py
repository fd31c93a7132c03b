"""Keep the result files of live requests, so that an interrupted run can go on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batch_frames.errors import BatchFramesError, LineError
from batch_frames.lines import load_line
from batch_frames.locks import lock_owner, release_lock, take_lock
from batch_frames.shardfiles import RESULT_ENDINGS

__all__ = ["LiveFiles", "Request", "requests_of"]


@dataclass(frozen=True)
class Request:
    """Hold one line of a request file.

    Attributes:
        custom_id: Its id.
        url: The path of the API that answers it.
        body: What it asks.
        line: Its number, from 1.
    """

    custom_id: str
    url: str
    body: dict[str, Any]
    line: int


def requests_of(path: Path) -> Iterator[Request]:
    """Read a request file, line by line.

    Raises:
        LineError: If a line is no request.
    """
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if not raw.strip():
                continue
            try:
                value = load_line(raw)
                custom_id, url, body = value["custom_id"], value["url"], value["body"]
            except (KeyError, TypeError, ValueError):
                problem = "not a request with 'custom_id', 'url' and 'body'"
                raise LineError(problem, path=path, line=number) from None
            if not (isinstance(custom_id, str) and isinstance(url, str) and isinstance(body, dict)):
                problem = "'custom_id' and 'url' must be text, 'body' an object"
                raise LineError(problem, path=path, line=number)
            yield Request(custom_id, url, body, number)


class LiveFiles:
    """Append to the output and error file of a shard, one whole line at a time.

    Use it as a context manager. What a crash left of a last line is cut off. No other process may
    write to the same files meanwhile.

    Args:
        shard: The request file.

    Raises:
        BatchFramesError: If another process is answering the same shard.
    """

    def __init__(self, shard: Path) -> None:
        stem = shard.name.removesuffix(".jsonl")
        self.output, self.errors = (shard.with_name(stem + end) for end in RESULT_ENDINGS)
        self._lock_path = self.output.with_name(f".{self.output.name}.lock")
        try:
            self._lock = take_lock(self._lock_path)
        except BlockingIOError:
            owner = lock_owner(self._lock_path)
            by = "another process" if owner is None else f"process {owner}"
            problem = f"'{shard.name}' is being answered by {by}; wait for it to end"
            raise BatchFramesError(problem) from None
        self._handles: dict[Path, int] = {}

    def __enter__(self) -> LiveFiles:
        return self

    def __exit__(self, *exc: object) -> None:
        for handle in self._handles.values():
            os.close(handle)
        release_lock(self._lock_path, self._lock)

    @property
    def paths(self) -> list[Path]:
        """List the files that are there."""
        return [path for path in (self.output, self.errors) if path.exists()]

    def answered(self) -> set[str]:
        """Collect the ids that have an answer, and cut off what a crash left behind it."""
        _cut_torn(self.output)
        return set(_ids(self.output))

    def forget_errors(self, ids: set[str]) -> None:
        """Take the lines of some ids out of the error file, since they are asked again."""
        _cut_torn(self.errors)
        if not ids.isdisjoint(_ids(self.errors)):
            temporary = self.errors.with_name(f".{self.errors.name}.tmp")
            with self.errors.open("rb") as old, temporary.open("wb") as new:
                new.writelines(line for line in old if _id(line) not in ids)
            temporary.replace(self.errors)
        if self.errors.exists() and not self.errors.stat().st_size:
            self.errors.unlink()

    def append(self, line: bytes, *, is_good: bool) -> None:
        """Write one line to the output or the error file."""
        path = self.output if is_good else self.errors
        if path not in self._handles:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
            self._handles[path] = os.open(path, flags, 0o666)
        while line:
            line = line[os.write(self._handles[path], line) :]


def _cut_torn(path: Path) -> None:
    """Cut a file behind its last newline."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        size = sum(len(line) for line in file if line.endswith(b"\n"))
        file.truncate(size)


def _ids(path: Path) -> Iterator[str]:
    if path.exists():
        with path.open("rb") as file:
            yield from (found for line in file if (found := _id(line)) is not None)


def _id(line: bytes) -> str | None:
    try:
        found = json.loads(line)["custom_id"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    return str(found)
