"""Locks keep processes apart, and a file gets its name once it is whole."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import pytest

import batch_frames as bf
from batch_frames.files import locked, locks, whole

COUNTING = """
import sys
from pathlib import Path
from batch_frames.files import locked

path = Path(sys.argv[1])
for _ in range(50):
    with locked(path, "busy", patience=60):
        path.write_text(str(int(path.read_text()) + 1))
"""

KILLED = """
import os, signal, sys
from pathlib import Path
from batch_frames.files import whole

with whole(Path(sys.argv[1])) as file:
    file.write(b"half of the ne")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_lock_file_that_is_removed_meanwhile_guards_nothing(tmp_path: Path) -> None:
    """Four processes that take turns, each removing the lock file, are never inside together."""
    path = tmp_path / "count"
    path.write_text("0")
    command = [sys.executable, "-c", COUNTING, str(path)]
    others = [subprocess.Popen(command) for _ in range(4)]
    assert [other.wait() for other in others] == [0] * 4
    assert path.read_text() == "200"
    assert list(tmp_path.iterdir()) == [path]


def test_a_lock_is_not_taken_twice_in_one_process(tmp_path: Path) -> None:
    """Another lock of the same file in the same process is refused, and names it."""
    path = tmp_path / "x"
    with locked(path, "x is with {owner}"), pytest.raises(bf.BatchFramesError) as caught:
        locked(path, "x is with {owner}").__enter__()
    assert str(caught.value) == f"x is with process {os.getpid()}; wait for it to end"


@pytest.mark.parametrize(("later", "owner"), [(b"77", "process 77"), (b"", "another process")])
def test_the_owner_of_a_lock_may_be_known_only_later(
    tmp_path: Path, later: bytes, owner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has just taken a lock has not written down who that is; if nobody has, none is named."""
    lock, path = tmp_path / ".x.lock", tmp_path / "x"
    acquire: Callable[..., Any] = filelock.FileLock.acquire

    def write_and_acquire(self: Any, **options: Any) -> Any:
        lock.write_bytes(later)
        return acquire(self, **options)

    with locked(path, "{owner}"):
        lock.write_bytes(b"")
        monkeypatch.setattr(filelock.FileLock, "acquire", write_and_acquire)
        with pytest.raises(bf.BatchFramesError) as caught:
            locked(path, "x is with {owner}").__enter__()
    assert str(caught.value) == f"x is with {owner}; wait for it to end"


def test_a_lock_file_names_its_present_owner_alone(tmp_path: Path) -> None:
    """Of the longer number that a killed process has left, nothing stays."""
    lock = tmp_path / ".x.lock"
    lock.write_text("12345678901234")
    with locked(tmp_path / "x", "{owner}"):
        assert lock.read_text() == str(os.getpid())


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_in_place_of_a_lock_that_is_held_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even if it is put there just before the owner is written into the file."""
    lock, victim = tmp_path / ".x.lock", tmp_path / "victim"
    victim.write_text("precious")
    acquire: Callable[..., Any] = filelock.FileLock.acquire

    def acquire_and_lose(self: Any, **options: Any) -> Any:
        held = acquire(self, **options)
        lock.unlink()
        lock.symlink_to(victim)
        return held

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire_and_lose)
    with locked(tmp_path / "x", "{owner}"):
        assert victim.read_text() == "precious"


def test_a_lock_file_that_cannot_be_removed_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock is free afterwards, though its file is still there."""

    def fail(path: str) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    path = tmp_path / "x"
    with monkeypatch.context() as patch, locked(path, "{owner}"):
        patch.setattr(os, "unlink", fail)
        # The lock is released before the patch is undone.
    assert (tmp_path / ".x.lock").exists()
    with locked(path, "{owner}"):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
@pytest.mark.parametrize("has_locks", [True, False])
@pytest.mark.parametrize("target", ["victim", "nowhere"])
def test_a_link_under_the_name_of_a_lock_is_refused(
    tmp_path: Path, target: str, has_locks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named, and what it points to is left alone."""
    if not has_locks:
        monkeypatch.setattr(locks, "_lacks_locks", lambda folder: True)
    (tmp_path / "victim").write_text("precious")
    link = tmp_path / ".x.lock"
    link.symlink_to(target)
    with pytest.raises(bf.BatchFramesError) as caught:
        locked(tmp_path / "x", "busy").__enter__()
    assert str(caught.value) == f"'{link}' is a symbolic link, and no lock file; remove it"
    assert {path.name for path in tmp_path.iterdir()} == {"victim", ".x.lock"}
    assert (tmp_path / "victim").read_text() == "precious"


@pytest.mark.parametrize("sync", [False, True])
def test_a_whole_file_replaces_the_old_one(tmp_path: Path, sync: bool) -> None:
    """Until all is written, the old file is there; then only the new one is."""
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with whole(path, sync=sync) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("before", [None, b"old"])
def test_an_error_leaves_no_new_file(tmp_path: Path, before: bytes | None) -> None:
    """Neither the file nor its temporary one is left, and an old one is as it was."""
    path = tmp_path / "x"
    if before is not None:
        path.write_bytes(before)

    def fail() -> None:
        with whole(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [before] * (before is not None)


def test_a_kill_leaves_the_old_file(tmp_path: Path) -> None:
    """A process that is killed inside leaves the file as it was, and the next one replaces it."""
    path = tmp_path / "x"
    path.write_bytes(b"old")
    assert subprocess.run([sys.executable, "-c", KILLED, str(path)]).returncode == -9
    assert path.read_bytes() == b"old"
    with whole(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]
