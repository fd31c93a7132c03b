"""Read and write the small JSON documents that the record of a folder consists of."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import secrets
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

from batch_frames.errors import BatchFramesError, LineError, naming
from batch_frames.files.cloud import CloudPath
from batch_frames.files.locks import InUseError, is_alive, locked

__all__ = ["RECORD", "Documents", "file_hash", "new_token", "now"]


RECORD = ".batch_frames"
"""The name of the folder beside the shards."""

VERSION = 1

HOST = f"{zlib.crc32(platform.node().encode()):08x}"
"""Tells the temporary files of this machine from those of others in a shared folder."""

PATIENCE = 10.0
"""Seconds to wait for another process that creates the same document."""

HINT = "bring it back from a copy; without it, its shard counts as never sent"


class Documents:
    """Small JSON documents of one kind, each in a file of its own that is replaced as a whole.

    What was written is on the disk before ``replace`` returns, what was created once ``sync`` does.
    In object storage, a document is replaced only if it is as it was last read or written here.

    Args:
        folder: The folder of the shards.
        kind: The name of the folder of the documents in the record: ``"jobs"`` or ``"sets"``.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        if not isinstance(folder, CloudPath) and (folder / RECORD).is_file():
            hint = "move it away, as the record of what is sent is a folder of this name"
            raise BatchFramesError(f"'{folder / RECORD}' is a file", hint=hint)
        self.folder = folder / RECORD / kind
        self._tags: dict[str, str] = {}

    def path(self, name: str) -> Path:
        """Return the path of a document, whether there is one or not."""
        return self.folder / f"{name}.json"

    def read(self, name: str) -> dict[str, Any] | None:
        """Read a document; None if there is none.

        Raises:
            LineError: If it is damaged, or of a later version of this package.
        """
        path = self.path(name)
        try:
            value = json.loads(self._read(name, path))
        except FileNotFoundError:
            return None
        except (RecursionError, ValueError):
            value = None
        if not isinstance(value, dict) or not isinstance(value.get("version"), int):
            raise self.damaged(name)
        if value["version"] > VERSION:
            problem = f"a document of version {value['version']:,}, which is later than {VERSION}"
            raise LineError(problem, path=path, hint="update batch_frames")
        return value

    def _read(self, name: str, path: Path) -> bytes:
        if not isinstance(path, CloudPath):
            return path.read_bytes()
        data, self._tags[name] = path.read_tagged()
        return data

    def damaged(self, name: str) -> LineError:
        """Return the error that says that a document is not what it should be."""
        return LineError("not a document of the record", path=self.path(name), hint=HINT)

    def names(self, *endings: str) -> list[str]:
        """List the names of all documents, or of the files next to them with some endings."""
        try:
            found = [path for path in self.folder.iterdir() if not path.name.startswith(".")]
        except (FileNotFoundError, NotADirectoryError):
            return []
        endings = endings or (".json",)
        return sorted(
            {path.name.removesuffix(e) for path in found for e in endings if path.name.endswith(e)}
        )

    def __bool__(self) -> bool:
        if isinstance(self.folder, CloudPath):
            return bool(self.names())
        try:
            with os.scandir(self.folder) as found:
                return any(entry.name.endswith(".json") for entry in found)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def create(self, name: str, value: Mapping[str, Any]) -> bool:
        """Write a new document, unless there is one; return whether it was written.

        Of several processes, on one machine or on several that share the folder, one creates it.
        """
        if isinstance(path := self.path(name), CloudPath):
            return self._put(name, path, _encoded(value), None)
        with self._written(_encoded(value)) as temporary:
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            except OSError:
                # Not every file system has hard links.
                with self.locked(name, f"'{path}' is in use by {{owner}}", PATIENCE):
                    if path.exists():
                        return False
                    temporary.replace(path)
        return True

    def _put(self, name: str, path: CloudPath, data: bytes, tag: str | None) -> bool:
        if new := path.put(data, tag):
            self._tags[name] = new
        return new is not None

    def sync(self) -> None:
        """Bring the names of all documents to the disk."""
        if self.folder.is_dir():
            _sync(self.folder)

    def replace(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a document in the place of the one there is.

        Raises:
            InUseError: If another process has changed it, in object storage.
        """
        if isinstance(path := self.path(name), CloudPath):
            if not self._put(name, path, _encoded(value), self._tags.get(name, "*")):
                raise InUseError(f"'{path}' was changed by another process", hint="call it again")
            return
        with self._written(_encoded(value)) as temporary:
            temporary.replace(path)
        _sync(self.folder)

    def read_bytes(self, name: str) -> bytes | None:
        """Read a file next to the documents; None if there is none."""
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write a file next to the documents, whole or not at all."""
        if isinstance(path := self.folder / name, CloudPath):
            path.put(data, "*")
            return
        with self._written(data) as temporary:
            temporary.replace(path)

    def remove(self, name: str) -> None:
        """Remove a document."""
        self._tags.pop(name, None)
        self.path(name).unlink(missing_ok=True)
        _sync(self.folder)

    @contextmanager
    def locked(self, name: str, problem: str, patience: float) -> Iterator[None]:
        """Keep others away from a document, as ``files.locked`` does."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.path(name), problem, patience=patience):
            yield

    @contextmanager
    def _written(self, data: bytes) -> Iterator[Path]:
        """Write a file under a temporary name, which is gone at the end."""
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = temporary_path(self.folder / "document")
        try:
            _write(temporary, data)
            yield temporary
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()


def temporary_path(path: Path) -> Path:
    """Return a temporary name next to a path that nobody can guess.

    What dead processes of this machine have left under such names in the folder is removed.
    """
    _remove_dead(path.parent)
    token = secrets.token_hex(4)
    return path.with_name(f".{path.name}.{HOST}-{os.getpid()}-{token}.tmp")


@cache
def _remove_dead(folder: Path) -> None:
    """Remove the temporary files of dead processes in a folder, once."""
    own = re.compile(rf"\..+\.{HOST}-([0-9]+)-[0-9a-f]{{8}}\.tmp")
    for path in folder.iterdir():
        found = own.fullmatch(path.name)
        if found and not is_alive(int(found[1])):
            path.unlink(missing_ok=True)


def _encoded(value: Mapping[str, Any]) -> bytes:
    # In ASCII, since what services say may hold surrogates that are not text.
    return json.dumps({"version": VERSION, **value}, indent=1).encode() + b"\n"


def file_hash(path: Path) -> str:
    """Hash the bytes of a file; in object storage only once, until it is replaced."""
    if isinstance(path, CloudPath):
        return _cloud_hash(path, path.meta()["e_tag"])
    return _hash(path)


@cache
def _cloud_hash(path: Path, tag: str) -> str:
    return _hash(path)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def now() -> str:
    """Return the time as documents have it: ISO 8601 in UTC, with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def new_token(before: str = "") -> str:
    """Return a text by which a batch is found again.

    Args:
        before: The token of the batch that it replaces; all who replace that one get the same.
    """
    return sha256(before.encode()).hexdigest()[:32] if before else secrets.token_hex(16)


def _write(path: Path, data: bytes) -> None:
    """Write a new file, and bring it to the disk."""
    with naming(path), path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    if sys.platform != "win32" and not isinstance(folder, CloudPath):
        handle = os.open(folder, os.O_RDONLY)
        try:
            with naming(folder):
                os.fsync(handle)
        finally:
            os.close(handle)
