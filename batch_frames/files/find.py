"""Find the files that a user names, and see what each of them holds."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from batch_frames.errors import BatchFramesError, LineError
from batch_frames.files.cloud import CloudPath, as_path
from batch_frames.files.documents import RECORD
from batch_frames.files.jsonl import (
    BOM,
    is_request,
    is_result,
    load_line,
    load_request,
    open_lines,
)
from batch_frames.files.rounds import (
    LEDGER,
    RESULT_ENDINGS,
    refuse_undecodable,
    round_of,
    set_files,
)
from batch_frames.files.sets import SavedSet, Sets, finish_commits

__all__ = [
    "ENDINGS",
    "LIVE_ENDINGS",
    "PUT_ASIDE",
    "Paths",
    "endpoint_of",
    "files_to_check",
    "find_files",
    "find_shards",
    "holds_requests",
    "recorded_folders",
    "request_files",
    "result_files",
    "whole_files",
]


Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


def find_files(paths: Paths, endings: Sequence[str]) -> list[Path]:
    """List the files of a path, a list of them, a glob or a folder.

    Of a folder, all files with one of the endings are listed, also in folders below it, sorted by
    name; names that begin with ``.`` or ``_`` are skipped. In folders and globs, ledgers such as
    ``reviews.jobs.jsonl`` are skipped too, unless theirs is one of the endings.

    Raises:
        FileNotFoundError: If there is none.
        BatchFramesError: If one is a pipe or a device, or its name is not UTF-8.
    """
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    if not isinstance(paths, Iterable):
        raise TypeError(f"a path must be text or a Path, not {paths!r}")
    if hasattr(paths, "columns"):
        raise TypeError(
            f"a path is needed, not a {type(paths).__name__}; for that, use from_dataframe"
        )
    found: list[Path] = []
    for path in paths:
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"a path must be text or a Path, not {path!r}")
        refuse_undecodable(path)
        matches = _expand(as_path(path), endings)
        if not matches:
            *others, last = (f"*{ending}" for ending in endings)
            listed = f"{', '.join(others)} or {last}" if others else last
            what = f"no {listed} in the folder" if as_path(path).is_dir() else "no file"
            raise FileNotFoundError(f"{what} '{path}'; check the path")
        found += matches
    for path in found:
        refuse_undecodable(path)
    if not found:
        raise FileNotFoundError("the list of paths is empty")
    return found


def _expand(path: Path, endings: Sequence[str]) -> list[Path]:
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.name.endswith(tuple(endings)))
        return [p for p in files if _is_wanted(p, endings) and not _is_hidden(p.relative_to(path))]
    if path.exists():
        if not path.is_file():
            problem = f"'{path}' is a pipe or a device, which cannot be read twice"
            raise BatchFramesError(f"{problem}; save what it holds as a file")
        return [path]
    top = path.bucket if isinstance(path, CloudPath) else Path(path.anchor)
    matches = sorted(top.glob("/".join(path.relative_to(top).parts)))
    hidden = path.name[0] == "."
    return [p for p in matches if _is_wanted(p, endings) and (hidden or not p.name.startswith("."))]


def whole_files(paths: Paths, endings: Sequence[str]) -> list[Path]:
    """List files as ``find_files`` does, once no set among them is half saved.

    The commits of killed processes next to them are finished. The path of a set of several files
    stands for these.

    Raises:
        FileNotFoundError: If there is none.
        BatchFramesError: If a process is in the middle of a commit, or it cannot be finished.
    """
    listed = list(paths) if isinstance(paths, Iterator) else paths
    named = [listed] if isinstance(listed, (str, os.PathLike)) else listed
    for path in named if isinstance(named, Iterable) else ():
        # The first save under a name may be unfinished: then nothing is there yet.
        if isinstance(path, (str, os.PathLike)):
            folder = as_path(path)
            finish_commits(folder if folder.is_dir() else folder.parent)
    if isinstance(named, Iterable) and not hasattr(named, "columns"):
        listed = [file for path in named for file in _set(path)]
    files = find_files(listed, endings)
    finished = list(map(finish_commits, dict.fromkeys(path.parent for path in files)))
    return find_files(listed, endings) if any(finished) else files


def _is_wanted(path: Path, endings: Sequence[str]) -> bool:
    return path.is_file() and (LEDGER in endings or not path.name.endswith(LEDGER))


def _is_hidden(path: Path) -> bool:
    return any(part[0] in "._" for part in path.parts)


ENDINGS = (".jsonl", ".jsonl.gz", ".jsonl.zst")


def request_files(paths: Paths) -> list[Path]:
    """List request files, without results that a glob matches too.

    The path of a set, as in ``"out/reviews.jsonl"``, stands for the files of all its rounds.
    """
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    if isinstance(paths, Iterable) and not hasattr(paths, "columns"):
        paths = [file for path in paths for file in _rounds(path)]
    files = list({path.resolve(): path for path in whole_files(paths, ENDINGS)}.values())
    return [path for path in files if holds_requests(path) is not False] or files


def _rounds(path: Any) -> list[Any]:
    """Return the files of all rounds for the path of a set, and anything else as it is."""
    # A shard, which is a path with more facts, stands for itself.
    if not isinstance(path, (str, Path)) or (own := as_path(path)).is_dir():
        return [path]
    files = _files_of(own)
    is_file = own.is_file()
    later = [file for file in files if not (is_file and round_of(file.name, own) == 1)]
    return [path, *later] if is_file or not later else list(later)


def _set(path: Any) -> list[Any]:
    """Return the files of a set for its path, if no file has it, and anything else as it is."""
    if not isinstance(path, (str, Path)) or (own := as_path(path)).exists():
        return [path]
    return [file for file in _files_of(own) if round_of(file.name, own) == 1] or [path]


def _files_of(path: Path) -> list[Path]:
    """List the files of all rounds of a set, without others that were saved under such a name."""
    finish_commits(path.parent)
    sets = Sets(path.parent)
    own = _saved(sets, path.name).sizes
    return [
        file
        for file in set_files(path)
        if file.name in own or round_of(file.name, path) != 1 or not _saved(sets, file.name).id
    ]


def _saved(sets: Sets, name: str) -> SavedSet:
    """Return what is known to have been saved under a name, if its document is not damaged."""
    try:
        return sets.get(name)
    except LineError:
        return SavedSet()


def result_files(paths: Paths) -> list[Path]:
    """List output and error files, without request files among them."""
    files = find_files(paths, ENDINGS)
    return [path for path in files if not holds_requests(path)] or files


FIRST_LINES, LONGEST_PART = 1_000, 32 << 20

BEFORE_OBJECT = BOM + b" \t\r\n"


def holds_requests(path: Path) -> bool | None:
    """Return whether a file holds requests, by the first JSON object in its first 1,000 lines.

    None is returned if there is no such object, or if a line before its end is above 32 MB.
    """
    first = _first_object(path)
    return None if first is None else is_request(first)


def _first_object(path: Path) -> dict[str, Any] | None:
    with open_lines(path) as stream:
        reader = io.BufferedReader(stream)
        for raw in islice(iter(partial(reader.readline, LONGEST_PART), b""), FIRST_LINES):
            if len(raw) == LONGEST_PART:
                break
            with contextlib.suppress(ValueError):
                value = load_line(raw) if raw.lstrip(BEFORE_OBJECT).startswith(b"{") else None
                if isinstance(value, dict):
                    return value
    return None


TABLES = (".csv", ".csv.gz", ".tsv", ".parquet")

LIVE_ENDINGS = (".local.output.jsonl", ".local.errors.jsonl")

PUT_ASIDE = ".old"
"""Ending of live answers to earlier prompts; the file is hidden, so that no glob matches it."""

LONGEST_FIRST_LINE = 512 << 20


def find_shards(shards: Paths) -> list[Path]:
    """List request files in order, each once; ledgers and results next to them are skipped.

    Args:
        shards: Paths, globs or folders. The path of a set of several files stands for these.

    Raises:
        FileNotFoundError: If there are none.
        LineError: If a file that is named, and not only matched by a glob, holds no requests.
    """
    listed = [shards] if isinstance(shards, (str, os.PathLike)) else list(_iterable(shards))
    found: dict[Path, Path] = {}
    for given in (file for one in listed for file in _set(one)):
        by_name = isinstance(given, (str, os.PathLike)) and as_path(given).is_file()
        for path in whole_files([given], [".jsonl"]):
            if by_name and not path.name.endswith((LEDGER, *RESULT_ENDINGS)):
                endpoint_of(path)
            elif not holds_requests(path):
                continue
            found.setdefault(path.resolve(), path)
    if not found:
        names = ", ".join(f"'{os.fspath(given)}'" for given in listed)
        raise FileNotFoundError(f"no request files in {names or 'an empty list'}; check the path")
    return list(found.values())


def files_to_check(paths: Paths) -> list[Path]:
    """List files that are meant to be request files, right or wrong, each once.

    A file stands for itself, the path of a set of several for the files of all its rounds. Ledgers
    and results next to request files are skipped, as are results that a glob or a folder matches.

    Raises:
        FileNotFoundError: If there are none.
        LineError: If one is a table.
    """
    found: dict[Path, Path] = {}
    for given in [paths] if isinstance(paths, (str, os.PathLike)) else _iterable(paths):
        is_file = isinstance(given, (str, os.PathLike)) and as_path(given).is_file()
        for path in whole_files([given] if is_file else _rounds(given), ENDINGS):
            if path.name.endswith(TABLES):
                hint = "pass the .jsonl file that was made of it"
                raise LineError("this is a table, not a request file", path=path, hint=hint)
            is_other = path.name.endswith((LEDGER, *RESULT_ENDINGS)) or path != as_path(given)
            if not is_other or not is_result(_first_object(path) or {}):
                found.setdefault(path.resolve(), path)
    if not found:
        raise FileNotFoundError(f"no request files in {paths!r}; check the path")
    return list(found.values())


def recorded_folders(folder: Path) -> list[Path]:
    """List a folder and those below it in which something was submitted."""
    records = (path.parent for path in folder.rglob(RECORD) if path.is_dir())
    ledgers = (path.parent for path in folder.rglob(f"*{LEDGER}"))
    return sorted({*records, *ledgers})


def _iterable(shards: Any) -> Iterable[Any]:
    # For anything that is not a path, find_files raises the error.
    is_list = isinstance(shards, Iterable) and not hasattr(shards, "columns")
    return shards if is_list else find_files(shards, [".jsonl"])


def endpoint_of(path: Path) -> str:
    """Read the endpoint from the first line of a request file.

    Raises:
        LineError: If the file is empty, or its first line is not a request.
    """
    if not path.name.endswith(".jsonl"):
        raise LineError("not a .jsonl file, which the service requires", path=path)
    with path.open("rb") as file:
        raw = file.readline(LONGEST_FIRST_LINE)
    if not raw.strip():
        problem = "the first line is blank" if raw else "the file is empty"
        raise LineError(problem, path=path, hint="write it again")
    return str(load_request(raw, path, 1, to_send=True)["url"])
