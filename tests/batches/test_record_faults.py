"""Let the file system fail at each step of the record: the error names the place, a rerun heals."""

from __future__ import annotations

import builtins
import errno
import io
import os
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import openai
import pytest

import batch_frames as bf
from batch_frames.batches import client as calls
from batch_frames.batches import send
from batch_frames.errors import BatchFramesWarning
from batch_frames.files import locks
from tests.service.server import BatchServer
from tests.support.jobs import ids, save
from tests.support.marks import slow

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="file systems there differ")

ROWS = 4

FAULTS = {
    "no space": errno.ENOSPC,
    "no permission": errno.EACCES,
    "read-only": errno.EROFS,
    "broken disk": errno.EIO,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty folder, with short pauses."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(send, "SETTLE", 0.05)
    monkeypatch.setattr(calls, "FIRST_PAUSE", 0.002)
    return tmp_path


class FaultyDisk:
    """Let the n-th call that changes something in the record fail, or all from there on.

    Args:
        folder: The folder of the shards.
        number: How many calls succeed before.
        code: The number of the error.
        lasting: Whether all later ones fail, too.
    """

    def __init__(self, folder: Path, number: int, code: int, *, lasting: bool) -> None:
        self._left, self._code, self._lasting = number, code, lasting
        self._folder = str(folder / ".batch_frames")
        self.failed: list[str] = []

    def _meet(self, call: str, path: object) -> None:
        if self._folder not in str(Path(str(path)).absolute()):
            return
        self._left -= 1
        if self._left < 0 and (self._lasting or not self.failed):
            self.failed.append(call)
            named = () if call == "fsync" else (str(path),)
            raise OSError(self._code, os.strerror(self._code), *named)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put the faults in front of the system's calls."""
        real_io_open, real_open = io.open, os.open

        def opened(path: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            if not isinstance(path, int) and set(mode) & set("wxa+"):
                self._meet("open", path)
            return real_io_open(path, mode, *args, **options)

        def lock_opened(path: Any, flags: int, *args: Any, **options: Any) -> int:
            if flags & os.O_CREAT:
                self._meet("lock", path)
            return real_open(path, flags, *args, **options)

        def synced(handle: int) -> None:
            self._meet("fsync", Path(f"/proc/self/fd/{handle}").readlink())

        def before(name: str) -> Callable[..., Any]:
            real = getattr(os, name)

            def call(path: Any, *args: Any, **options: Any) -> Any:
                # What is there already, or is not there, is told before any other fault.
                if Path(path).exists() != (name == "mkdir"):
                    self._meet(name, path)
                return real(path, *args, **options)

            return call

        monkeypatch.setattr(io, "open", opened)
        monkeypatch.setattr(builtins, "open", opened)
        monkeypatch.setattr(os, "open", lock_opened)
        monkeypatch.setattr(os, "fsync", synced)
        for name in ("link", "replace", "mkdir", "unlink"):
            monkeypatch.setattr(os, name, before(name))


def fetch(client: openai.OpenAI) -> None:
    """Do all that a user would, from a table to results."""
    jobs = bf.submit(save(count=ROWS), client=client, progress=False)
    jobs = bf.wait(jobs, client=client, poll=0.002, progress=False)
    bf.download(jobs, client=client, progress=False)


def check_paid_once(server: BatchServer, folder: Path, *, earlier: int = 0, sets: int = 1) -> None:
    """Hold that each row of some sets was paid once, after earlier batches, and has come home."""
    server.finish()
    assert sum(batch.paid for batch in server.batches[earlier:]) == sets * ROWS
    found = ids(list(folder.rglob("*.output.jsonl")))
    assert found == Counter([f"r{number}" for number in range(ROWS)] * sets)


def left(folder: Path) -> list[str]:
    """List the temporary files and locks in the record."""
    return [p.name for end in ("tmp", "lock") for p in (folder / ".batch_frames").rglob(f"*.{end}")]


def names_the_place(error: BaseException, folder: Path) -> bool:
    """Return whether a message has a path in the record, or the record itself."""
    return ".batch_frames" in str(error) or str(folder) in str(error)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="handles are named by /proc")
@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_any_step_of_the_record_names_the_place_and_a_rerun_heals(
    folder: Path, fault: str
) -> None:
    """One call to the system after the other fails, from the first save to the last download."""
    steps = fail_at_steps(folder, [FAULTS[fault]], lasting=False, first=0, every=1)
    assert set(steps) == {"lock", "open", "fsync", "link", "replace", "mkdir", "unlink"}
    assert steps.total() >= 70


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="handles are named by /proc")
@pytest.mark.slow
def test_a_lasting_fault_names_the_place_and_a_rerun_heals(folder: Path) -> None:
    """From one call on, all of them fail until the end of the process, of each kind in turn."""
    steps = fail_at_steps(folder, list(FAULTS.values()), lasting=True, first=0, every=1)
    assert steps.total() >= 70


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="handles are named by /proc")
def test_a_fault_at_some_steps_of_the_record_names_the_place_and_a_rerun_heals(
    folder: Path,
) -> None:
    """The same for every seventh call, of each kind in turn."""
    steps = fail_at_steps(folder, list(FAULTS.values()), lasting=False, first=0, every=7)
    assert steps.total() >= 10


def fail_at_steps(
    folder: Path, codes: Sequence[int], *, lasting: bool, first: int, every: int
) -> Counter[str]:
    """Let calls fail in runs of their own, and count them by their names."""
    steps = Counter[str]()
    with BatchServer(polls=0) as server:
        client = server.client()
        for number in count(first, every):
            place = folder / f"{number}"
            place.mkdir()
            os.chdir(place)
            disk = FaultyDisk(place, number, codes[number % len(codes)], lasting=lasting)
            earlier, error = len(server.batches), None
            with pytest.MonkeyPatch.context() as patch:
                disk.install(patch)
                try:
                    fetch(client)
                except (OSError, bf.BatchFramesError) as found:
                    error = found
            if error is not None:
                assert names_the_place(error, place), (disk.failed, repr(error))
            fetch(client)
            check_paid_once(server, place, earlier=earlier)
            if "unlink" not in disk.failed:
                assert not left(place), disk.failed
            os.chdir(folder)
            steps.update(disk.failed[:1])
            if not disk.failed:
                return steps
    raise AssertionError


LIMITED = """
import os, resource, sys
from pathlib import Path

import openai
from batch_frames.batches import client as calls, send
from tests.batches.test_record_faults import fetch

send.SETTLE, calls.FIRST_PAUSE = 0.05, 0.01
with openai.OpenAI(base_url=sys.argv[1], api_key="test") as client:
    for limit in sys.argv[2:]:
        os.chdir(limit)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
        try:
            fetch(client)
        except OSError as error:
            print(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        os.chdir("..")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it needs RLIMIT_FSIZE")
@pytest.mark.parametrize("limits", [["17", "700"], slow(["300", "1000"])], ids="-".join)
def test_a_full_disk_pays_nothing_twice(folder: Path, limits: list[str]) -> None:
    """Documents are cut off at some sizes by the system itself; the next run heals that."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    for limit in limits:
        (folder / limit).mkdir()
    with BatchServer(polls=0) as server:
        command = [sys.executable, "-c", LIMITED, server.url, *limits]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        errors = done.stdout.splitlines()
        assert len(errors) == len(limits)
        assert all("File too large: '" in error for error in errors)
        for limit in limits:
            os.chdir(folder / limit)
            fetch(server.client())
            assert not left(Path())
        check_paid_once(server, folder, sets=len(limits))


# Locks


@pytest.fixture(params=[errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP], ids=errno.errorcode.get)
def no_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have a file system without locks."""
    import fcntl

    def flock(*_: object) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", flock)
    for one in (locks._lacks_locks, locks._warn_once):
        one.cache_clear()
    yield
    for one in (locks._lacks_locks, locks._warn_once):
        one.cache_clear()


@pytest.mark.usefixtures("no_locks")
def test_without_locks_all_goes_on_with_one_warning(folder: Path) -> None:
    """A run takes two dozen locks and warns once; nothing of them is left."""
    with BatchServer(polls=0) as server, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fetch(server.client())
        check_paid_once(server, folder)
    [warning] = [one for one in caught if one.category is BatchFramesWarning]
    assert str(warning.message) == (
        "the file system has no locks; files that are created exclusively take their place; "
        "remove those that a killed process on another machine leaves"
    )
    assert not list(folder.rglob("*.lock"))


@pytest.mark.usefixtures("no_locks")
@pytest.mark.filterwarnings("ignore:the file system has no locks")
def test_without_locks_two_are_still_kept_apart(folder: Path) -> None:
    """The second is told who has the file, and gets it afterwards."""
    path = folder / "x"
    with (
        locks.locked(path, "in use by {owner}"),
        pytest.raises(locks.InUseError, match=f"in use by process {os.getpid()}; "),
        locks.locked(path, "in use by {owner}"),
    ):
        pass
    with locks.locked(path, "in use by {owner}"):
        pass
    assert not list(folder.iterdir())


@pytest.mark.usefixtures("no_locks")
@pytest.mark.filterwarnings("ignore:the file system has no locks")
def test_without_locks_one_of_a_dead_process_is_passed_over(folder: Path) -> None:
    """A kill leaves the file; the next one on the same machine takes it."""
    script = (
        "import os, sys; from filelock import SoftFileLock;"
        "lock = SoftFileLock(sys.argv[1]); lock.acquire(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(folder / ".x.lock")], check=False)
    assert (folder / ".x.lock").exists()
    with locks.locked(folder / "x", "in use by {owner}", patience=5):
        pass
    assert not list(folder.iterdir())


def test_a_lock_of_a_read_only_folder_names_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error of the system has the path."""
    real = os.open

    def opened(path: Any, flags: int, *args: Any, **options: Any) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        return real(path, flags, *args, **options)

    monkeypatch.setattr(os, "open", opened)
    place = r"Read-only file system: '.*\.x\.lock'"
    with pytest.raises(OSError, match=place), locks.locked(folder / "x", "{owner}"):
        pass
