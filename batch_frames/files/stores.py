"""Keep the files of a run under temporary names until all are whole, then name them at once."""

from __future__ import annotations

import io
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from batch_frames.errors import BatchFramesError
from batch_frames.files.find import holds_requests
from batch_frames.files.locks import locked

__all__ = ["FolderStore", "PipeStore", "open_store", "whole"]


OUR_LINES = b'{"custom_id":"'


@contextmanager
def whole(path: Path, *, sync: bool = False) -> Iterator[IO[bytes]]:
    """Open a file for writing that gets its name once it is whole; after an error nothing is left.

    Args:
        path: The final name; a file that has it is replaced.
        sync: Whether its bytes must be on the disk before it has its name.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("w+b") as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def open_store(
    target: str | os.PathLike[str] | IO[bytes], sources: Sequence[Path] = ()
) -> FolderStore:
    """Return a store that writes files in a folder, or one that writes through a pipe.

    Args:
        target: Where the requests go; ``-`` is standard output.
        sources: Files that are being read, and must not be replaced.

    Raises:
        BatchFramesError: If a file would replace a source, or someone else is writing there.
        TypeError: If bytes cannot be written to the target.
    """
    if isinstance(target, (str, os.PathLike)):
        if os.fspath(target) == "-":
            return PipeStore(_standard_output(), Path("-"))
        path = Path(target)
        if path.is_dir():
            raise IsADirectoryError(f"'{path}' is a folder; name a file in it, as in 'out.jsonl'")
        if path.suffix == ".gz":
            raise BatchFramesError(f"'{path}' would not be compressed", hint="name a .jsonl file")
        is_device = path.is_absolute() and path.parts[1] in ("dev", "proc")
        if is_device or (path.exists() and not path.is_file()):
            return PipeStore(path.open("wb"), path, owned=True)
        # What a link points to is replaced, not the link.
        path = path.resolve() if path.is_symlink() else path
        _refuse_source(path, sources)
        is_empty = not path.exists() or not path.stat().st_size
        if path.suffix != ".jsonl" and not is_empty and not holds_requests(path):
            problem = f"'{path}' already exists and holds no requests"
            raise BatchFramesError(problem, hint="name a .jsonl file")
        return FolderStore(path)
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
    """Files of one run, counted from 1: written under names that begin with a dot, then renamed.

    A run that is killed before the commit leaves the files of the run before as they were. If it is
    killed during the commit, each file under a final name is whole, old or new, and the next run
    completes the set. That holds for a process that dies, not for a computer that loses its power.

    Args:
        path: The final name of a single file; several get its stem with a number.

    Raises:
        BatchFramesError: If another process is writing to the same path.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = ExitStack()
        self._lock.enter_context(locked(path, f"{{owner}} is writing '{path}'"))
        self._clear()

    def create(self, number: int) -> IO[bytes]:
        """Open a new temporary file for writing."""
        return self._temporary(number).open("wb")

    def reopen(self, number: int) -> IO[bytes]:
        """Open a temporary file for reading."""
        return self._temporary(number).open("rb")

    def changes(self, count: int) -> dict[Path, Path | None]:
        """Map each file that a commit would change to the new one; None where it is removed."""
        new = {path: self._temporary(n) for n, path in enumerate(self._finals(count), 1)}
        return {path: new.get(path) for path in [*new, *self._earlier()]}

    def commit(self, count: int) -> list[Path]:
        """Give the first ``count`` files their final names, and remove others of an earlier run."""
        finals = self._finals(count)
        earlier = [path for path in self._earlier() if path not in finals]
        for final in finals:
            if final.is_dir():
                raise IsADirectoryError(f"'{final}' is a folder; move it away")
        for number, final in enumerate(finals, 1):
            self._temporary(number).replace(final)
        # From the last number down, so that a kill between two leaves no gap in the numbers.
        for path in reversed(earlier):
            path.unlink(missing_ok=True)
        return finals

    def close(self) -> None:
        """Remove all that is still temporary."""
        self._clear()
        self._lock.close()

    def _finals(self, count: int) -> list[Path]:
        return [self._path] if count == 1 else [self._numbered(n + 1) for n in range(count)]

    def _temporary(self, number: int) -> Path:
        return self._path.with_name(f".{self._path.name}.{number:05}.tmp")

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.stem}-{number:05}{self._path.suffix}")

    def _earlier(self) -> Iterator[Path]:
        """List an earlier run's files: those without a gap in their numbers, and those behind one.

        Behind a gap, only what has five digits and begins as our lines do is ours.
        """
        if self._path.exists():
            yield self._path
        number = 1
        while self._numbered(number).exists():
            yield self._numbered(number)
            number += 1
        digits = re.compile(
            rf"{re.escape(self._path.stem)}-([0-9]{{5}}){re.escape(self._path.suffix)}"
        )
        for path in sorted(self._path.parent.iterdir()):
            found = digits.fullmatch(path.name)
            if found and int(found[1]) > number and _is_ours(path):
                yield path

    def _clear(self) -> None:
        prefix = f".{self._path.name}."
        for path in self._path.parent.iterdir():
            digits = path.name.removeprefix(prefix).removesuffix(".tmp")
            if path.name == f"{prefix}{digits}.tmp" and digits.isdigit():
                path.unlink(missing_ok=True)


def _is_ours(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(OUR_LINES)) == OUR_LINES


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

    def commit(self, count: int) -> list[Path]:
        """Copy the file into the pipe."""
        with self.reopen(1) as file:
            shutil.copyfileobj(file, self._pipe)
        self._pipe.flush()
        return [self._name]

    def close(self) -> None:
        """Remove the temporary file, and close the pipe if it was opened here."""
        super().close()
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._owned:
            self._pipe.close()
