"""Lock files in a way that is undone when a process ends, however it ends."""

from __future__ import annotations

import errno
import json
import os
import platform
import secrets
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path

from batch_frames.errors import BatchFramesError
from batch_frames.files.cloud import CloudPath
from batch_frames.progress import warn

__all__ = ["Check", "InUseError", "is_alive", "locked", "refuse_in_use"]


PAUSE = 0.02

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What a file system says that has no locks."""


class InUseError(BatchFramesError):
    """A file that another process is using."""


Check = Callable[[], None]
"""Raises if a lock was lost meanwhile, which happens in object storage only."""


@contextmanager
def locked(path: Path, problem: str, *, patience: float = 0.0) -> Iterator[Check]:
    """Keep other processes, and other threads, away from a file while the code inside runs.

    Where the file system has no locks, a file that is created exclusively takes their place. One
    that a dead process has left is passed over on the same machine only. In object storage, so does
    one that its owner renews all the time; it is passed over everywhere once that ends.

    Args:
        path: The file; the lock is a hidden file next to it, which is removed at the end.
        problem: What the error says if somebody else has the lock; ``{owner}`` in it becomes
            ``"process 123"``, or ``"another process"`` where that is not known.
        patience: Seconds in which the lock may still become free.

    Raises:
        BatchFramesError: If it does not, or its file is a symbolic link, which is not followed.
    """
    file = _lock_file(path)
    if isinstance(file, CloudPath):
        with _Lease(file, problem, patience) as lease:
            yield lease.check
        return
    with _locked_on_disk(file, problem, patience):
        yield lambda: None


@contextmanager
def _locked_on_disk(file: Path, problem: str, patience: float) -> Iterator[None]:
    from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

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


LEASE, RENEWAL = 30.0, 5.0
"""Seconds after which a lock in object storage is void, and after which its owner renews it."""


class _Lease:
    """A lock in object storage: a file that is created by one of all, and renewed by its owner.

    Whoever finds it watches whether it changes, by an own clock, and takes it over if it does not,
    or at once if its owner was a process of this machine and has ended.
    """

    def __init__(self, file: CloudPath, problem: str, patience: float) -> None:
        self._file, self._problem, self._patience = file, problem, patience
        self._owner = {"machine": machine(), "pid": os.getpid(), "id": secrets.token_hex(8)}
        self._renewals, self._ended = count(), threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._tag: str | None = None

    def __enter__(self) -> _Lease:
        began, seen, since, is_alive = time.monotonic(), "", 0.0, False
        while not self._take(None):
            try:
                data, tag = self._file.read_tagged()
            except FileNotFoundError:
                continue
            is_alive |= seen not in ("", tag)
            if tag != seen:
                seen, since = tag, time.monotonic()
            if _has_ended(data) or time.monotonic() - since > LEASE:
                if self._take(tag):
                    break
            elif is_alive and time.monotonic() - began >= self._patience:
                problem = self._problem.replace("{owner}", "another process")
                raise InUseError(problem, hint="wait for it to end")
            time.sleep(RENEWAL / 10)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join()
        # One that may have been taken over is left to whoever did.
        if self._age() < LEASE / 2:
            self._file.unlink(missing_ok=True)

    def check(self) -> None:
        """Refuse to go on after a time in which another process may have taken the lock.

        Raises:
            BatchFramesError: If this process stood still for so long, or the store was away.
        """
        if self._age() > LEASE / 2:
            problem = f"the lock '{self._file}' was not renewed for {self._age():.0f} s"
            raise BatchFramesError(problem, hint="call it again")

    def _age(self) -> float:
        """Return the seconds since the last renewal; one of the clocks stands still in sleep."""
        return max(time.monotonic() - self._taken_at[0], time.time() - self._taken_at[1])

    def _take(self, tag: str | None) -> bool:
        """Write the file if there is none, or in the place of the one with a tag."""
        moment = time.monotonic(), time.time()
        data = json.dumps({**self._owner, "renewal": next(self._renewals)}).encode()
        if new := self._file.put(data, tag):
            self._tag, self._taken_at = new, moment
        return new is not None

    def _renew(self) -> None:
        while not self._ended.wait(RENEWAL):
            # The next time may be better; after too many, check() says so.
            with suppress(OSError):
                self._take(self._tag)


def _has_ended(owner: bytes) -> bool:
    """Return whether what wrote a lock was a process of this machine that has ended."""
    try:
        value = json.loads(owner)
        return value["machine"] == machine() and not is_alive(value["pid"])
    except (KeyError, TypeError, ValueError):
        return False


@cache
def machine() -> str:
    """Return what tells apart machines, each time they are started, and containers on them."""
    found = [platform.node(), f"{uuid.getnode():x}"]
    with suppress(OSError):
        found.append(Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip())
        found.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    return " ".join(found)


def is_alive(pid: int) -> bool:
    """Return whether a process of this machine is running, or cannot be asked."""
    if os.name == "nt":
        return True  # where this question would end the process
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
