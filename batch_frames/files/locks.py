"""Lock files in a way that the system undoes when a process ends, however it ends."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from batch_frames.errors import BatchFramesError
from batch_frames.progress import warn

__all__ = ["InUseError", "locked", "refuse_in_use"]


PAUSE = 0.02

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What a file system says that has no locks."""


class InUseError(BatchFramesError):
    """A file that another process is using."""


@contextmanager
def locked(path: Path, problem: str, *, patience: float = 0.0) -> Iterator[None]:
    """Keep other processes, and other threads, away from a file while the code inside runs.

    Where the file system has no locks, a file that is created exclusively takes their place. One
    that a dead process has left is passed over on the same machine only.

    Args:
        path: The file; the lock is a hidden file next to it, which is removed at the end.
        problem: What the error says if somebody else has the lock; ``{owner}`` in it becomes
            ``"process 123"``, or ``"another process"`` where that is not known.
        patience: Seconds in which the lock may still become free.

    Raises:
        BatchFramesError: If it does not, or its file is a symbolic link, which is not followed.
    """
    from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

    file = _lock_file(path)
    owner = _owner(file)
    is_soft = _lacks_locks(file.parent)
    lock: BaseFileLock = SoftFileLock(file) if is_soft else FileLock(file, mode=0o666)
    try:
        lock.acquire(timeout=patience, poll_interval=PAUSE)
    except OSError as error:
        if file.is_symlink():
            link = f"'{file}' is a symbolic link, and no lock file"
            raise BatchFramesError(link, hint="remove it") from None
        if not isinstance(error, Timeout):
            raise
        by = owner or _owner(file) or "another process"
        raise InUseError(problem.replace("{owner}", by), hint="wait for it to end") from None
    try:
        if not is_soft:
            _write_owner(file)
        yield
    finally:
        if os.name != "nt" and not is_soft:
            # Whoever waits for it sees, once it is theirs, that the file is gone, and starts anew.
            with suppress(OSError):
                file.unlink()
        lock.release()


def refuse_in_use(path: Path, problem: str) -> None:
    """Raise if another process, or another thread, has the lock of a file.

    Args:
        path: The file.
        problem: As for ``locked``.

    Raises:
        BatchFramesError: If so.
    """
    if os.path.lexists(_lock_file(path)):
        with locked(path, problem):
            pass


def _lock_file(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


@cache
def _lacks_locks(folder: Path) -> bool:
    """Return whether the files in a folder cannot be locked, which is warned of once."""
    if os.name == "nt":
        return False
    import fcntl

    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in NO_LOCKS:
            _warn_once()
            return True
    return False


@cache
def _warn_once() -> None:
    problem = "the file system has no locks; files that are created exclusively take their place"
    warn(problem, hint="remove those that a killed process on another machine leaves")


def _write_owner(file: Path) -> None:
    # It is only for the messages of others.
    with suppress(OSError):
        handle = os.open(file, os.O_WRONLY | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0))
        try:
            os.write(handle, str(os.getpid()).encode())
        finally:
            os.close(handle)


def _owner(file: Path) -> str | None:
    """Read who wrote a lock file last; the try of another process may just have emptied it."""
    try:
        return f"process {int(file.read_bytes().split()[0])}"
    except (IndexError, OSError, ValueError):
        return None
