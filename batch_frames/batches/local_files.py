"""Keep the result files of live requests, so that an interrupted run can go on."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

from batch_frames.errors import LineError
from batch_frames.files import RESULT_ENDINGS, load_request, locked

__all__ = ["LiveFiles", "Request", "requests_of"]


MARK = "local-"

OLD = ".old"
"""What the name of the answers to earlier prompts ends with; hidden, it is in no glob's results."""

PATH = re.compile(r"(/[\w~:-][\w.~:-]*)+", re.ASCII)
"""A path that stays below the address of the client, however the SDK joins the two."""


@dataclass(frozen=True)
class Request:
    """Hold one line of a request file.

    Attributes:
        custom_id: Its id.
        url: The path of the API that answers it.
        body: What it asks.
        mark: What its result has for an ``id``: a hash of the line, so that an answer to another
            prompt is not taken for one to this.
    """

    custom_id: str
    url: str
    body: dict[str, Any]
    mark: str


def requests_of(path: Path) -> Iterator[Request]:
    """Read a request file, line by line.

    Raises:
        LineError: If a line is no request.
    """
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if not raw.strip():
                continue
            value = load_request(raw, path, number, to_send=True)
            custom_id, url, body = value["custom_id"], value["url"], value["body"]
            if not PATH.fullmatch(url):
                # Elsewhere the SDK would send the key there.
                problem = f"'url' is {url!r}, not a path of the API such as '/v1/chat/completions'"
                raise LineError(problem, path=path, line=number)
            yield Request(
                custom_id, url, body, MARK + blake2b(raw.strip(), digest_size=8).hexdigest()
            )


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
        self._old = self.output.with_name(f".{self.output.name}{OLD}")
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
        """List the files that are there."""
        return [path for path in (self.output, self.errors) if path.exists()]

    def answered(self, requests: Iterable[Request], most: int | None = None) -> set[str]:
        """Collect the ids that have an answer, without answers to what was asked before.

        What a crash left behind the last line is cut off. Answers to other prompts under the same
        ids are put aside, and those put aside before come back where they are asked for again.
        The errors of all that is asked again, or has its answer back, are taken out.

        Args:
            requests: What the shard asks now.
            most: How many of them, the first ones, are to be answered; None for all.
        """
        for path in (self.output, self.errors, self._old):
            _cut_torn(path)
        marks = dict(_answers(self.output))
        if not marks and not self.errors.exists() and not self._old.exists():
            return set()
        asked = {request.custom_id: request.mark for request in requests}
        stale = {key for key, mark in marks.items() if _is_other(mark, asked.get(key))}
        self._put_aside(stale)
        answered = marks.keys() - stale
        back = self._take_back(asked, answered)
        _forget(self.errors, (set(islice(asked, most)) - answered) | back)
        return answered | back

    def _put_aside(self, ids: set[str]) -> None:
        """Move answers to a file of their own, where each stands once: they were paid."""
        if not ids:
            return
        kept = set(_answers(self._old))
        with self.output.open("rb") as file, self._old.open("ab") as old:
            for line in file:
                if (key := _answer(line))[0] in ids and key not in kept:
                    old.write(line)
        _forget(self.output, ids)

    def _take_back(self, asked: Mapping[str, str], answered: Set[str]) -> set[str]:
        """Copy the answers to what is asked by now out of those that were put aside."""
        back: set[str] = set()
        if self._old.exists():
            with self._old.open("rb") as file:
                for line in file:
                    key, mark = _answer(line)
                    if key and asked.get(key) == mark and key not in answered and key not in back:
                        back.add(key)
                        self.append(line, is_good=True)
        return back

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
            # Half a line would spoil the one that is written next.
            os.ftruncate(handle, size)
            raise


def _cut_torn(path: Path) -> None:
    """Cut a file behind its last newline."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        size = sum(len(line) for line in file if line.endswith(b"\n"))
        file.truncate(size)


def _is_other(mark: str, asked: str | None) -> bool:
    """Tell whether an answer is one of ours, to another request than is asked now."""
    return asked is not None and mark.startswith(MARK) and mark != asked


def _forget(path: Path, ids: set[str]) -> None:
    """Take the lines of some ids out of a file; nothing is left of one that is empty then."""
    if not path.exists():
        return
    if not ids.isdisjoint(key for key, _ in _answers(path)):
        temporary = path.with_name(f".{path.name}.tmp")
        with path.open("rb") as old, temporary.open("wb") as new:
            new.writelines(line for line in old if _answer(line)[0] not in ids)
        temporary.replace(path)
    if not path.stat().st_size:
        path.unlink()


def _answers(path: Path) -> Iterator[tuple[str, str]]:
    """Read the ``custom_id`` and the ``id`` of each line that has them."""
    if path.exists():
        with path.open("rb") as file:
            yield from ((key, mark) for key, mark in map(_answer, file) if key is not None)


def _answer(line: bytes) -> tuple[str | None, str]:
    try:
        value = json.loads(line)
        return str(value["custom_id"]), str(value.get("id"))
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        return None, ""
