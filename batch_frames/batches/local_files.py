"""Read and write the result files of live requests, so that an interrupted run can continue."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import blake2b
from itertools import compress, islice
from pathlib import Path
from typing import Any

import numpy as np

from batch_frames.errors import BatchFramesError, LineError
from batch_frames.files import (
    LIVE_ENDINGS,
    LIVE_ID,
    PUT_ASIDE,
    RESULT_ENDINGS,
    Job,
    Record,
    holds_requests,
    live_hashes,
    load_line,
    load_request,
    locked,
    sent_lines,
    whole,
)

__all__ = ["LiveFiles", "Request", "requests_of"]


PATH = re.compile(r"(/[\w~:-][\w.~:-]*)+", re.ASCII)
"""A path that is below the address of the client, however the SDK joins the two."""


@dataclass(frozen=True)
class Request:
    """One line of a request file.

    Attributes:
        custom_id: Its id.
        url: Path of the API that answers it.
        body: Its body.
        mark: The ``id`` of its result: a hash of the line, so that the answer to another prompt is
            not taken for the answer to this one.
    """

    custom_id: str
    url: str
    body: dict[str, Any]
    mark: str


def requests_of(path: Path) -> Iterator[Request]:
    """Read a request file, line by line.

    Raises:
        LineError: If a line is not a request.
    """
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if not raw.strip():
                continue
            value = load_request(raw, path, number, to_send=True)
            custom_id, url, body = value["custom_id"], value["url"], value["body"]
            if not PATH.fullmatch(url):
                # The SDK would send the key to any other address.
                problem = f"'url' is {url!r}, not a path of the API such as '/v1/chat/completions'"
                raise LineError(problem, path=path, line=number)
            yield Request(
                custom_id, url, body, LIVE_ID + blake2b(raw.strip(), digest_size=8).hexdigest()
            )


class LiveFiles:
    """The output and error file of a shard, which are appended to by whole lines.

    Use it as a context manager; no other process can write to the files in the meantime.

    Args:
        shard: The request file.
        record: The record of its folder.

    Raises:
        BatchFramesError: If another process is answering the same shard.
    """

    def __init__(self, shard: Path, record: Record) -> None:
        self._record = record
        stem = shard.name.removesuffix(".jsonl")
        self.output, self.errors = (shard.with_name(stem + ending) for ending in LIVE_ENDINGS)
        self._from_batch = shard.with_name(stem + RESULT_ENDINGS[0])
        for path in (self.output, self.errors):
            _refuse_foreign(path)
        self._old = self.output.with_name(f".{self.output.name}{PUT_ASIDE}")
        self._lock = ExitStack()
        self._lock.enter_context(
            locked(self.output, f"'{shard.name}' is being answered by {{owner}}")
        )
        self._handles: dict[Path, int] = {}

    def __enter__(self) -> LiveFiles:
        return self

    def __exit__(self, *exc: object) -> None:
        for handle in self._handles.values():
            os.close(handle)
        self._lock.close()

    @property
    def paths(self) -> list[Path]:
        """The files that exist."""
        return [path for path in (self.output, self.errors) if path.exists()]

    def answered(self, requests: Iterable[Request], most: int | None = None) -> set[str]:
        """Return the ids that have an answer to their current prompt.

        Incomplete last lines are removed. Answers to other prompts under the same ids are put
        aside, and restored if their prompt is asked again, as are answers to the same requests in
        the files of other shards. Errors are removed for all ids that are sent again or whose
        answer is restored.

        Args:
            requests: The current requests of the shard.
            most: How many of them, the first ones, are to be answered; None for all.
        """
        for path in (self.output, self.errors, self._old):
            _end_last_line(path)
        marks = {key: mark for _, key, mark in _results(self.output) if key is not None}
        sent = list(sent_lines(self._record))
        others = self._others() or sent or self._from_batch.is_file()
        if not (marks or others or self.errors.exists()):
            return set()
        asked = {request.custom_id: request.mark for request in requests}
        stale = {
            key
            for key, mark in marks.items()
            if mark.startswith(LIVE_ID) and asked.get(key, mark) != mark
        }
        self._put_aside(stale)
        answered = (marks.keys() - stale) | self._answers_of_batches(asked, sent)
        restored = self._restore(asked, answered)
        _remove(self.errors, (set(islice(asked, most)) - answered) | restored)
        return answered | restored

    def _answers_of_batches(
        self, asked: Mapping[str, str], sent: Sequence[tuple[Job, Any]]
    ) -> set[str]:
        """Return the ids whose requests a batch of the folder, or another program, has answered."""
        found: set[str] = set()
        hashes = np.array([_hash(mark) for mark in asked.values()], np.uint64)
        others = {self._from_batch}
        for job, lines in sent:
            names = [n for n in (*job.files, *job.earlier_files) if n.endswith(RESULT_ENDINGS[0])]
            paths = [job.path.with_name(name) for name in names]
            others -= set(paths)
            if (own := set(compress(asked, np.isin(hashes, lines)))) - found:
                found |= own & {key for path in paths for _, key, _ in _results(path) if key}
        for path in (path for path in others if path.is_file() and not holds_requests(path)):
            found |= asked.keys() & {key for _, key, _ in _results(path) if key}
        return found

    def _put_aside(self, ids: set[str]) -> None:
        """Move answers to a file of their own, once each: they were paid for."""
        if ids:
            kept = {(key, mark) for _, key, mark in _results(self._old)}
            with self._old.open("ab") as old:
                for line, key, mark in _results(self.output):
                    if key in ids and (key, mark) not in kept:
                        old.write(line)
            _remove(self.output, ids)

    def _restore(self, asked: Mapping[str, str], answered: Set[str]) -> set[str]:
        """Copy the answers to current prompts from those put aside and those of other shards."""
        restored: set[str] = set()
        lacking = {mark for key, mark in asked.items() if key not in answered}
        for path in self._others() if lacking else ():
            if lacking.isdisjoint(LIVE_ID + digest.hex() for _, digest in live_hashes(path)):
                continue
            for line, key, mark in _results(path):
                if key and asked.get(key) == mark and not (key in answered or key in restored):
                    restored.add(key)
                    self.append(line.rstrip(b"\r\n") + b"\n", is_good=True)
        return restored

    def _others(self) -> list[Path]:
        """List the files in the folder with live answers, but for those of the shard."""
        names = (f"*{LIVE_ENDINGS[0]}{end}" for end in ("", PUT_ASIDE))
        found = {path for name in names for path in self.output.parent.glob(name)}
        return sorted(found - {self.output})

    def append(self, line: bytes, *, is_good: bool) -> None:
        """Write one line to the output or the error file."""
        path = self.output if is_good else self.errors
        if path not in self._handles:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
            self._handles[path] = os.open(path, flags, 0o666)
        handle = self._handles[path]
        size = os.fstat(handle).st_size
        try:
            while line:
                line = line[os.write(handle, line) :]
        except BaseException:
            # The rest of a line would spoil the next one.
            os.ftruncate(handle, size)
            raise


def _hash(mark: str) -> int:
    """Return the hash of a request's line, as the record has it."""
    return int.from_bytes(bytes.fromhex(mark.removeprefix(LIVE_ID)), "little")


def _refuse_foreign(path: Path) -> None:
    """Refuse to write to a file that run_local has not written."""
    for _, _, mark in _results(path):
        if not mark.startswith(LIVE_ID):
            problem = f"'{path}' was not written by run_local"
            raise BatchFramesError(problem, hint="move it away")
        return


def _end_last_line(path: Path) -> None:
    """End a last line without a newline, or cut it off if it is not complete."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        size, last = 0, b"\n"
        for last in file:
            size += len(last)
        if last.endswith(b"\n"):
            return
        try:
            is_whole = isinstance(load_line(last), dict)
        except ValueError:
            is_whole = False
        if is_whole:
            file.write(b"\n")
        else:
            file.truncate(size - len(last))


def _remove(path: Path, ids: set[str]) -> None:
    """Remove the lines with some ids from a file, and the file itself if it is empty then."""
    if not path.exists():
        return
    if not ids.isdisjoint(key for _, key, _ in _results(path) if key is not None):
        with whole(path) as new:
            new.writelines(line for line, key, _ in _results(path) if key not in ids)
    if not path.stat().st_size:
        path.unlink()


def _results(path: Path) -> Iterator[tuple[bytes, str | None, str]]:
    """Read each line of a file that may not exist, with its ``custom_id`` and ``id``."""
    if path.exists():
        with path.open("rb") as file:
            for line in file:
                try:
                    value = json.loads(line)
                    key, mark = str(value["custom_id"]), str(value.get("id"))
                except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
                    key, mark = None, ""
                yield line, key, mark
