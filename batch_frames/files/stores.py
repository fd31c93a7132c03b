"""Keep the files of a run under temporary names until all are whole, then name them at once."""

from __future__ import annotations

import io
import os
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from batch_frames.errors import BatchFramesError
from batch_frames.files.cloud import CloudPath, as_path
from batch_frames.files.documents import temporary_path
from batch_frames.files.locks import locked
from batch_frames.files.rounds import refuse_result_name, refuse_undecodable, set_name
from batch_frames.files.sets import Sets

__all__ = ["DryStore", "FolderStore", "PipeStore", "open_store", "whole"]


@contextmanager
def whole(path: Path, *, sync: bool = False) -> Iterator[IO[bytes]]:
    """Open a file for writing that gets its name once it is whole; after an error nothing is left.

    Args:
        path: The final name; a file that has it is replaced.
        sync: Whether its bytes must be on the disk before it has its name.
    """
    if isinstance(path, CloudPath):
        with tempfile.NamedTemporaryFile() as file:
            yield file
            path.upload(file)
        return
    temporary = temporary_path(path)
    with temporary.open("x+b") as file:
        try:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
            file.close()
            temporary.replace(path)
        finally:
            file.close()
            temporary.unlink(missing_ok=True)


def open_store(
    target: str | os.PathLike[str] | IO[bytes],
    sources: Sequence[Path] = (),
    *,
    overwrite: bool = False,
    again: bool = False,
    hashed: bool = False,
) -> FolderStore:
    """Return a store that writes files in a folder, or one that writes through a pipe.

    Args:
        target: Where the requests go; ``-`` is standard output.
        sources: Files that are being read, and must not be replaced.
        overwrite: Whether to replace files that were not saved by this package, too.
        again: Whether the requests are to be asked once more, if they were asked before.
        hashed: Whether to tell the files of an earlier save by their hashes, not only by their
            sizes: a person may have changed them.

    Raises:
        BatchFramesError: If a file would replace a source or has the name of one of results, or
            someone else is writing there.
        TypeError: If bytes cannot be written to the target.
    """
    if isinstance(target, (str, os.PathLike)):
        if os.fspath(target) == "-":
            return PipeStore(_standard_output(), Path("-"))
        path = as_path(target)
        refuse_undecodable(path)
        refuse_result_name(path)
        if path.is_dir():
            raise IsADirectoryError(f"'{path}' is a folder; name a file in it, as in 'out.jsonl'")
        if path.suffix in (".gz", ".zst"):
            raise BatchFramesError(f"'{path}' would not be compressed", hint="name a .jsonl file")
        is_device = path.is_absolute() and path.parts[1] in ("dev", "proc")
        is_device = is_device and path.parts[2:3] != ("shm",)
        if is_device or (path.exists() and not path.is_file()):
            return PipeStore(path.open("wb"), path, owned=True)
        # What a link points to is replaced, not the link.
        path = path.resolve() if path.is_symlink() else path
        _refuse_source(path, sources)
        return FolderStore(path, overwrite=overwrite, again=again, hashed=hashed)
    if not callable(getattr(target, "write", None)) or isinstance(target, io.TextIOBase):
        raise TypeError(f"path must be a path or a binary file, not {type(target).__name__}")
    return PipeStore(target, Path(str(getattr(target, "name", "-"))))


def _standard_output() -> IO[bytes]:
    buffer: IO[bytes] | None = getattr(sys.stdout, "buffer", None)
    if buffer is None:
        raise TypeError("standard output takes no bytes here; pass a path instead of '-'")
    return buffer


def _refuse_source(path: Path, sources: Sequence[Path]) -> None:
    own = re.compile(rf"{re.escape(path.stem)}(-[0-9]{{5,}})?{re.escape(path.suffix)}")
    for source in sources:
        if own.fullmatch(source.name) and source.resolve().parent == path.resolve().parent:
            problem = f"'{path}' would replace '{source}', which the rows come from"
            raise BatchFramesError(problem, hint="choose another name")


class FolderStore:
    """Write next to the final names, under names that begin with a dot; the commit is renames.

    What the commit will rename is written down first. Killed at any moment before that, a run
    leaves the files of the one before as they were; killed later, whoever comes next finishes it.
    That holds for a process that dies, not for a computer that loses its power.

    Args:
        path: The final name of a single file; several get its stem with a number.
        overwrite: Whether to replace files that were not saved under this name before.
        again: As for ``open_store``, like ``hashed``.

    Raises:
        BatchFramesError: If another process is writing to the same path, or a file is in the way.
    """

    def __init__(
        self, path: Path, *, overwrite: bool = False, again: bool = False, hashed: bool = False
    ) -> None:
        self._path = path
        self._overwrite, self._again, self._hashed = overwrite, again, hashed
        self._sets = Sets(path.parent)
        self._token = secrets.token_hex(4)
        self._lock = ExitStack()
        lock_path = self._sets.lock_path(path.name)
        problem = f"{{owner}} is writing '{path}'"
        self._check = self._lock.enter_context(locked(lock_path, problem))
        try:
            self._sets.finish(path.name, give_up=True)
            self._clear()
            self._earlier = self._sets.get(path.name)
            if path.exists():
                self._refuse_foreign(path)
        except BaseException:
            self._lock.close()
            raise

    def create(self, number: int) -> IO[bytes]:
        """Open a new temporary file for writing."""
        return self._temporary(number).open("xb")

    def reopen(self, number: int) -> IO[bytes]:
        """Open a temporary file for reading."""
        return self._temporary(number).open("rb")

    def part(self, name: str) -> Path:
        """Return a temporary path for another process to write to; it is removed at the end."""
        return self._path.with_name(f".{self._path.name}.{self._token}.{name}.tmp")

    def adopt(self, path: Path, number: int) -> None:
        """Take a file that another process has written as the temporary one of a number."""
        path.replace(self._temporary(number))

    def changes(self, count: int) -> dict[Path, Path | None]:
        """Return what a commit would put in place of which files; None removes one."""
        coming = {path: self._temporary(n) for n, path in enumerate(self.names_of(count), 1)}
        return {path: coming.get(path) for path in [*coming, *self._own()]}

    def commit(self, requests: Sequence[int]) -> tuple[list[Path], str]:
        """Rename, then remove what an earlier save left under names that this one does not use."""
        self._check()
        finals = self.names_of(len(requests))
        for final in finals:
            if final.exists():
                self._refuse_foreign(final)
        kept = set(finals)
        removed = [path for path in self._own() if path not in kept]
        renames = {self._temporary(n): final for n, final in enumerate(finals, 1)}
        kinds = {"again": self._again, "hashed": self._hashed}
        return finals, self._sets.commit(self._path.name, renames, removed, requests, **kinds)

    def close(self) -> None:
        """Remove all that is still temporary."""
        # An unfinished commit still needs them.
        if not self._sets.has_commit(self._path.name):
            self._clear()
        self._lock.close()

    def _refuse_foreign(self, path: Path) -> None:
        if path.is_dir():
            raise IsADirectoryError(f"'{path}' is a folder; move it away")
        is_empty = path.is_file() and not path.stat().st_size
        if not (self._overwrite or is_empty or self._earlier.owns(path)):
            problem = f"'{path}' was not saved by an earlier call"
            stem, number = set_name(path)
            if number is not None and self._sets.get(f"{stem}.jsonl").owns(path):
                problem = f"'{path}' belongs to the set '{path.with_name(stem)}.jsonl'"
            hint = "move it away, or save under another name"
            if not (self._again or self._hashed):
                hint += ", or pass overwrite=True"
            raise BatchFramesError(problem, hint=hint)

    def _own(self) -> list[Path]:
        """List the files of the last save that are as it left them."""
        paths = [self._path.with_name(name) for name in self._earlier.sizes]
        return [path for path in paths if self._earlier.owns(path)]

    def names_of(self, count: int) -> list[Path]:
        """Return the final names of so many files."""
        return [self._path] if count == 1 else [self._numbered(n + 1) for n in range(count)]

    def _temporary(self, number: int) -> Path:
        return self.part(f"{number:05}")

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.stem}-{number:05}{self._path.suffix}")

    def _clear(self) -> None:
        """Remove temporary files; those of others are of dead processes, as we have the lock."""
        own = re.compile(rf"\.{re.escape(self._path.name)}\.[0-9a-f]{{8}}\.[0-9a-z-]+\.tmp")
        for path in self._path.parent.iterdir():
            if own.fullmatch(path.name):
                path.unlink(missing_ok=True)


class PipeStore(FolderStore):
    """Write to a temporary file elsewhere and copy it into the pipe once it is whole."""

    def __init__(self, pipe: IO[bytes], name: Path, *, owned: bool = False) -> None:
        self._pipe, self._owned = pipe, owned
        self._name = name
        self._folder = tempfile.mkdtemp(prefix="batch_frames-")
        super().__init__(Path(self._folder, "requests"))

    def create(self, number: int) -> IO[bytes]:
        """Open the temporary file for writing; there is no second."""
        if number > 1:
            problem = "the requests are above the limits of one file, and a pipe cannot be split"
            raise BatchFramesError(problem, hint="write to a path, or raise the limits")
        return super().create(number)

    def changes(self, count: int) -> dict[Path, Path | None]:
        """Return nothing, as no file is replaced."""
        return {}

    def commit(self, requests: Sequence[int]) -> tuple[list[Path], str]:
        """Copy the file into the pipe."""
        with self.reopen(1) as file:
            shutil.copyfileobj(file, self._pipe)
        self._pipe.flush()
        return [self._name], ""

    def close(self) -> None:
        """Remove the temporary file, and close the pipe if it was opened here."""
        super().close()
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._owned:
            self._pipe.close()


class DryStore(FolderStore):
    """Write nothing, but know the names that files would get."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def create(self, number: int) -> IO[bytes]:
        """Open what forgets all that is written to it."""
        return Path(os.devnull).open("wb")

    def close(self) -> None:
        """Do nothing, as nothing is there."""
