"""Find request files among what stands beside them, and learn what a batch needs to know."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batch_frames.errors import LineError
from batch_frames.files import LEDGER, Paths, find_files
from batch_frames.lines import load_line

__all__ = ["RESULT_ENDINGS", "RequestFile", "file_hash", "find_shards", "read_shard"]


RESULT_ENDINGS = (".output.jsonl", ".errors.jsonl")

BLOCK = 1 << 20

LONGEST_FIRST_LINE = 512 << 20


@dataclass(frozen=True)
class RequestFile:
    """Know a request file by its bytes.

    Attributes:
        path: The file.
        requests: How many lines it has.
        nbytes: Its size.
        sha256: Its hash.
        endpoint: The ``url`` of its first line.
    """

    path: Path
    requests: int
    nbytes: int
    sha256: str
    endpoint: str


def find_shards(shards: Paths) -> list[Path]:
    """List request files, in order and none twice; what a run leaves beside them is passed over.

    Args:
        shards: Paths, globs or folders.

    Raises:
        FileNotFoundError: If there is none.
        LineError: If a file that is named, and not only caught by a glob, holds no requests.
    """
    listed = [shards] if isinstance(shards, (str, os.PathLike)) else list(_iterable(shards))
    found: dict[Path, Path] = {}
    for given in listed:
        by_name = isinstance(given, (str, os.PathLike)) and Path(given).is_file()
        for path in find_files([given], [".jsonl"]):
            if by_name and not _is_beside(path):
                first_request(path)
            elif not _holds_requests(path):
                continue
            found.setdefault(path.resolve(), path)
    if not found:
        names = ", ".join(f"'{os.fspath(given)}'" for given in listed)
        raise FileNotFoundError(f"no request files in {names or 'an empty list'}; check the path")
    return list(found.values())


def _iterable(shards: Any) -> Iterable[Any]:
    # One error for all that is no path: find_files has it.
    return shards if isinstance(shards, Iterable) else find_files(shards, [".jsonl"])


def _is_beside(path: Path) -> bool:
    """Tell a ledger and results by their names, where the content agrees."""
    named = path.name.endswith((LEDGER, *RESULT_ENDINGS))
    return named and not _holds_requests(path)


def _holds_requests(path: Path) -> bool:
    try:
        first_request(path)
    except LineError:
        return False
    return True


def first_request(path: Path) -> str:
    """Read the endpoint out of the first line of a request file.

    Raises:
        LineError: If the file is empty, or its first line is no request.
    """
    if not path.name.endswith(".jsonl"):
        raise LineError("not a .jsonl file, which the service wants", path=path)
    with path.open("rb") as file:
        raw = file.readline(LONGEST_FIRST_LINE)
    if not raw.strip():
        problem = "there are no requests in it" if not raw else "the first line is blank"
        raise LineError(f"{problem}; write it anew", path=path)
    try:
        value = load_line(raw)
    except ValueError:
        raise LineError("not JSON", path=path, line=1) from None
    if not isinstance(value, dict) or not {"custom_id", "body"} <= value.keys():
        hint = "a result" if isinstance(value, dict) and "response" in value else "something else"
        raise LineError(f"{hint}, not a request; pass the request files", path=path, line=1)
    if not isinstance(value.get("url"), str):
        raise LineError("the request has no 'url' that is text", path=path, line=1)
    return str(value["url"])


def read_shard(path: Path) -> RequestFile:
    """Read a request file once, from end to end, in little memory.

    Raises:
        LineError: If it is no request file.
        OSError: If it cannot be read.
    """
    endpoint = first_request(path)
    digest, newlines, nbytes, last = hashlib.sha256(), 0, 0, b"\n"
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            newlines += block.count(b"\n")
            nbytes += len(block)
            last = block[-1:]
    requests = newlines + (last != b"\n")
    return RequestFile(path, requests, nbytes, digest.hexdigest(), endpoint)


def file_hash(path: Path) -> str:
    """Hash the bytes of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
