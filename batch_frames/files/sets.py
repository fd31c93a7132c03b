"""Keep the record of saved sets: their files, unfinished renames, and lines that replace others."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from batch_frames.errors import BatchFramesError
from batch_frames.files.documents import RECORD, Documents, file_hash, now
from batch_frames.files.locks import locked
from batch_frames.files.rounds import set_name

__all__ = ["Replaced", "SavedSet", "SavedSets", "Sets", "finish_commits", "note_replaced"]


@dataclass(frozen=True)
class SavedSet:
    """What one save has left.

    Attributes:
        id: A text that no other save has.
        sizes: The names of its files, in order, each with its size in bytes.
        requests: The same names, each with the number of requests.
        again: Whether its requests are to be asked once more, if they were asked before.
        hashes: The names of those files whose SHA-256 is known, with it.
        saved_at: When it was saved, in ISO 8601 and UTC.
    """

    id: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict)
    requests: Mapping[str, int] = field(default_factory=dict)
    again: bool = False
    hashes: Mapping[str, str] = field(default_factory=dict)
    saved_at: str = ""

    def owns(self, path: Path) -> bool:
        """Return whether a file is one of the set, as far as its name, size and hash tell."""
        size = self.sizes.get(path.name)
        is_same = size is not None and path.is_file() and path.stat().st_size == size
        known = self.hashes.get(path.name)
        return is_same and (known is None or known == file_hash(path))


class Sets:
    """The record of the sets in one folder.

    A commit is written down before its first rename and taken out after its last step, so that
    whoever comes upon it can finish it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._sets = Documents(folder, "sets")
        self._commits = Documents(folder, "commits")

    def get(self, name: str) -> SavedSet:
        """Return what was last saved under a name; empty if nothing was.

        Raises:
            LineError: If its document is damaged.
        """
        document = self._sets.read(name)
        if document is None:
            return SavedSet()
        try:
            sizes, requests = (
                {str(one["name"]): int(one[key]) for one in document["shards"]}
                for key in ("nbytes", "requests")
            )
            hashes = {s["name"]: str(s["sha256"]) for s in document["shards"] if "sha256" in s}
            again, saved_at = bool(document.get("again")), str(document.get("saved_at", ""))
            return SavedSet(str(document["id"]), sizes, requests, again, hashes, saved_at)
        except (KeyError, TypeError, ValueError):
            raise self._sets.damaged(name) from None

    def commit(
        self,
        name: str,
        renames: Mapping[Path, Path],
        removed: Sequence[Path],
        requests: Sequence[int],
        *,
        again: bool = False,
        hashed: bool = False,
    ) -> str:
        """Rename temporary files to their final names and remove those of an earlier save.

        Args:
            name: The name that was saved to.
            renames: The temporary files and their final names, in order.
            removed: The files to remove, in order.
            requests: How many requests each of the new files holds.
            again: Whether they are to be asked once more, if they were asked before.
            hashed: Whether to tell the files by their hashes too, not only by their sizes.

        Returns:
            The id of the save.
        """
        saved = secrets.token_hex(8)
        shards = [
            {"name": final.name, "requests": count, "nbytes": temporary.stat().st_size}
            | ({"sha256": file_hash(temporary)} if hashed else {})
            for (temporary, final), count in zip(renames.items(), requests, strict=True)
        ]
        self._commits.replace(
            name,
            {
                "id": saved,
                "saved_at": now(),
                "again": again,
                "shards": shards,
                "renames": [[old.name, new.name] for old, new in renames.items()],
                "removed": [path.name for path in removed],
            },
        )
        self._finish(name)
        return saved

    def has_commit(self, name: str) -> bool:
        """Return whether there is a commit under a name that was begun and not ended."""
        return self._commits.path(name).is_file()

    def finish(self, name: str, *, give_up: bool = False) -> None:
        """Finish a commit under a name, if there is one; the caller has the lock of the name.

        Args:
            name: The name that was saved to.
            give_up: Whether to drop a commit that cannot be finished; what it renamed stays ours.

        Raises:
            BatchFramesError: If a file of the set is gone.
        """
        if self.has_commit(name):
            try:
                self._finish(name)
            except BatchFramesError:
                if not give_up:
                    raise
                self._drop(name)

    def _drop(self, name: str) -> None:
        commit, before = self._commits.read(name), self._sets.read(name)
        assert commit is not None
        shards = {one["name"]: one for one in (before or {"shards": []})["shards"]}
        for one in commit["shards"]:
            path = self.folder / one["name"]
            if path.is_file() and path.stat().st_size == one["nbytes"]:
                shards[one["name"]] = one
        kept = {"id": commit["id"], "saved_at": now(), "shards": list(shards.values())}
        self._sets.replace(name, kept)
        self._commits.remove(name)

    def unfinished(self) -> list[str]:
        """List the names with a commit that was begun and not ended."""
        return self._commits.names()

    def lock_path(self, name: str) -> Path:
        """Return the path whose lock keeps two saves under one name apart."""
        return self.folder / name

    def _finish(self, name: str) -> None:
        document = self._commits.read(name)
        assert document is not None
        sizes = {shard["name"]: shard["nbytes"] for shard in document["shards"]}
        for old, new in document["renames"]:
            temporary, final = self.folder / old, self.folder / new
            if temporary.is_file():
                temporary.replace(final)
            elif not final.is_file() or final.stat().st_size != sizes[new]:
                problem = f"'{final}' was not completely saved, and '{temporary}' is gone"
                raise BatchFramesError(problem, hint=f"save '{name}' again")
        # From the last number down, so that a kill between two leaves no gap in the numbers.
        for gone in reversed(document["removed"]):
            (self.folder / gone).unlink(missing_ok=True)
        kept: dict[str, Any] = {key: document[key] for key in ("id", "saved_at", "again", "shards")}
        self._sets.replace(name, kept)
        self._commits.remove(name)


class SavedSets:
    """The sets that shards belong to, each read once."""

    def __init__(self) -> None:
        self._named = cache(lambda path: Sets(path.parent).get(path.name))

    def of(self, shard: Path) -> SavedSet:
        """Return the set of a shard; empty if it is not known."""
        saved = self._named(shard.with_name(set_name(shard)[0] + ".jsonl"))
        # A single file may have a name with a number, too.
        own = saved if shard.name in saved.sizes else self._named(shard)
        return own if own.id else saved


def finish_commits(folder: Path) -> bool:
    """Finish the commits in a folder that killed processes have left.

    Returns:
        Whether there were any.

    Raises:
        BatchFramesError: If a process is in the middle of one, or it cannot be finished.
    """
    if not (folder / RECORD / "commits").is_dir():
        return False
    sets = Sets(folder)
    names = sets.unfinished()
    for name in names:
        with locked(sets.lock_path(name), f"{{owner}} is saving '{folder / name}'", patience=10):
            sets.finish(name)
    return bool(names)


Hashes = npt.NDArray[np.uint64]

REPLACED, ENDING = "replaced", ".lines"

PAIR = np.dtype(("<u8", 2))


def note_replaced(folder: Path, new: Hashes, old: Hashes) -> None:
    """Note that lines are about to be sent in the place of others.

    Args:
        folder: The folder of the new lines.
        new: Their hashes.
        old: The hashes of the lines in whose place they are.
    """
    data = np.stack([new, old], 1)[new != old].astype("<u8").tobytes()
    Documents(folder, REPLACED).write_bytes(sha256(data).hexdigest() + ENDING, data)


class Replaced:
    """The lines of some folders that were sent in the place of others, however many times.

    What answers such a line counts for those in whose place it was sent, but not the other way.

    Attributes:
        new: The hashes of lines, one for each line in whose place it was sent.
        old: The hashes of those lines.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        direct: dict[int, set[int]] = {}
        for folder in folders:
            documents = Documents(folder, REPLACED)
            for name in documents.names(ENDING):
                data = documents.read_bytes(name + ENDING) or b""
                whole = len(data) // PAIR.itemsize * PAIR.itemsize
                for new, old in np.frombuffer(data[:whole], PAIR).tolist():
                    direct.setdefault(new, set()).add(old)
        pairs = [(new, old) for new in direct for old in _reached(direct, new)]
        self.new, self.old = np.array(pairs, np.uint64).reshape(-1, 2).T

    def with_earlier(self, lines: Hashes) -> Hashes:
        """Return the hashes of lines with those in whose place they are."""
        return np.concatenate([lines, self.old[np.isin(self.new, lines)]])

    def originals(self, lines: Hashes) -> Hashes:
        """Return for each line the first of the others in whose place it is, or itself."""
        among = np.isin(self.new, lines) & np.isin(self.old, lines)
        if not among.any():
            return lines
        earlier: dict[int, set[int]] = {}
        for new, old in zip(self.new[among].tolist(), self.old[among].tolist(), strict=True):
            earlier.setdefault(new, set()).add(old)
        found = lines.copy()
        for row in np.flatnonzero(np.isin(lines, self.new[among])):
            line = int(lines[row])
            # Of lines that replace each other in turn, all have the same.
            every = sorted({line, *earlier[line]})
            found[row] = min(every, key=lambda one: len(earlier.get(one, ())))
        return found


def _reached(direct: dict[int, set[int]], start: int) -> set[int]:
    """Follow pairs from a line to all in whose place it is."""
    found, waiting = set[int](), [start]
    while waiting:
        further = direct.get(waiting.pop(), set()) - found
        found |= further
        waiting += further
    return found - {start}
