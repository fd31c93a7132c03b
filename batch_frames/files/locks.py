"""Lock files in a way that the system undoes when a process ends, however it ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batch_frames.errors import BatchFramesError

__all__ = ["locked"]


PAUSE = 0.02


@contextmanager
def locked(path: Path, problem: str, *, patience: float = 0.0) -> Iterator[None]:
    """Keep other processes, and other threads, away from a file while the code inside runs.

    Args:
        path: The file; the lock is a hidden file next to it, which is removed at the end.
        problem: What the error says if somebody else has the lock; ``{owner}`` in it becomes
            ``"process 123"``, or ``"another process"`` where that is not known.
        patience: Seconds in which the lock may still become free.

    Raises:
        BatchFramesError: If it does not.
    """
    from filelock import FileLock, Timeout

    file = path.with_name(f".{path.name}.lock")
    owner = _owner(file)
    lock = FileLock(file, mode=0o666)
    try:
        lock.acquire(timeout=patience, poll_interval=PAUSE)
    except Timeout:
        by = owner or _owner(file) or "another process"
        raise BatchFramesError(problem.replace("{owner}", by), hint="wait for it to end") from None
    try:
        file.write_bytes(str(os.getpid()).encode())
        yield
    finally:
        if os.name != "nt":
            # Whoever waits for it sees, once it is theirs, that the file is gone, and starts anew.
            file.unlink(missing_ok=True)
        lock.release()


def _owner(file: Path) -> str | None:
    """Read who wrote a lock file last; the try of another process may just have emptied it."""
    try:
        return f"process {int(file.read_bytes())}"
    except (OSError, ValueError):
        return None
