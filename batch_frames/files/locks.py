"""Lock files in a way that the system undoes when a process ends, however it ends."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

__all__ = ["lock_owner", "release_lock", "take_lock"]


if sys.platform != "win32":
    import fcntl


def take_lock(path: Path) -> int:
    """Lock a file, which is made for it, and write this process's id into it.

    On Windows the file is made, but nothing is locked.

    Returns:
        The handle that holds the lock.

    Raises:
        BlockingIOError: If someone else holds it.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        if sys.platform == "win32":
            return handle
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise
        # The owner before may have removed the file between the two calls: then it guards nothing.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                os.ftruncate(handle, 0)
                os.write(handle, str(os.getpid()).encode())
                return handle
        os.close(handle)


def lock_owner(path: Path) -> int | None:
    """Tell the id of the process that holds a lock, if it can be read."""
    try:
        return int(path.read_bytes())
    except (OSError, ValueError):
        return None


def release_lock(path: Path, handle: int) -> None:
    """Remove a locked file, and with it the lock."""
    path.unlink(missing_ok=True)
    os.close(handle)
