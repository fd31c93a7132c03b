"""Let the file system fail at each step of the record: the error names the place, a rerun heals."""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import batch_frames as bf
from batch_frames.batches import client as calls
from batch_frames.batches import send
from batch_frames.errors import BatchFramesWarning
from batch_frames.files import locks
from tests.service.server import BatchServer
from tests.support.jobs import save

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
    monkeypatch.setattr(calls, "FIRST_PAUSE", 0.01)
    return tmp_path


class FaultyDisk:
    """Let the n-th call that changes something in the record fail, or all from there on.

    Args:
        folder: The folder of the shards.
        number: How many calls succeed before.
        code: The number of the error.
        lasting: Whether all later ones fail, too.
        only: Names of the calls that may fail; None for all.
    """

    def __init__(
        self, folder: Path, number: int, code: int, *, lasting: bool, only: str | None = None
    ) -> None:
        self._left, self._code, self._lasting, self._only = number, code, lasting, only
        self._folder = str(folder / ".batch_frames")
        self.failed: list[str] = []

    def _meet(self, call: str, path: object) -> None:
        if self._only not in (None, call) or self._folder not in str(Path(str(path)).absolute()):
            return
        self._left -= 1
        if self._left < 0 and (self._lasting or not self.failed):
            self.failed.append(call)
            named = () if call in ("fsync", "write") else (str(path),)
            raise OSError(self._code, os.strerror(self._code), *named)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put the faults in front of the system's calls."""
        real_io_open, real_fsync = io.open, os.fsync

        def opened(path: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            if not isinstance(path, int) and set(mode) & set("wxa+"):
                self._meet("open", path)
            return real_io_open(path, mode, *args, **options)

        def synced(handle: int) -> None:
            self._meet("fsync", Path(f"/proc/self/fd/{handle}").readlink())
            real_fsync(handle)

        def before(name: str) -> Callable[..., Any]:
            real = getattr(os, name)

            def call(path: Any, *args: Any, **options: Any) -> Any:
                self._meet(name, path)
                return real(path, *args, **options)

            return call

        monkeypatch.setattr(io, "open", opened)
        monkeypatch.setattr(builtins, "open", opened)
        monkeypatch.setattr(os, "fsync", synced)
        for name in ("link", "replace", "mkdir"):
            monkeypatch.setattr(os, name, before(name))


def fetch(server: BatchServer) -> None:
    """Do all that a user would, from a table to results."""
    shards = save(count=ROWS)
    jobs = bf.submit(shards, client=server.client(), progress=False)
    jobs = bf.wait(jobs, client=server.client(), poll=0.002, progress=False)
    bf.download(jobs, client=server.client(), progress=False)


def check_paid_once(server: BatchServer, folder: Path) -> None:
    """Hold that each row was paid once and has come home."""
    server.finish()
    assert sum(batch.paid for batch in server.batches) == ROWS
    lines = [
        json.loads(line)["custom_id"]
        for path in folder.glob("*.output.jsonl")
        for line in path.read_text("utf-8").splitlines()
    ]
    assert Counter(lines) == Counter(f"r{number}" for number in range(ROWS))
    left = [path.name for path in (folder / ".batch_frames").rglob("*.tmp")]
    assert not left


def names_the_place(error: BaseException, folder: Path) -> bool:
    """Return whether a message has a path in the record, or the record itself."""
    return ".batch_frames" in str(error) or str(folder) in str(error)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="handles are named by /proc")
@pytest.mark.slow
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_any_step_of_the_record_names_the_place_and_a_rerun_heals(
    folder: Path, fault: str, lasting: bool
) -> None:
    """One call to the system after the other fails, from the first save to the last download."""
    steps = fail_at_steps(folder, FAULTS[fault], lasting=lasting, first=0, every=1)
    assert set(steps) == {"open", "fsync", "link", "replace", "mkdir"}
    assert steps.total() >= 40


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="handles are named by /proc")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_some_steps_of_the_record_names_the_place_and_a_rerun_heals(
    folder: Path, fault: str
) -> None:
    """The same for every twelfth call, other ones for each fault."""
    first = list(FAULTS).index(fault) * 3
    steps = fail_at_steps(folder, FAULTS[fault], lasting=False, first=first, every=12)
    assert steps.total() >= 4


def fail_at_steps(
    folder: Path, code: int, *, lasting: bool, first: int, every: int
) -> Counter[str]:
    """Let calls fail in runs of their own, and count them by their names."""
    steps = Counter[str]()
    number = first
    while True:
        place = folder / f"{number}"
        place.mkdir()
        os.chdir(place)
        disk = FaultyDisk(place, number, code, lasting=lasting)
        with BatchServer(polls=0) as server:
            with pytest.MonkeyPatch.context() as patch:
                disk.install(patch)
                error = None
                try:
                    fetch(server)
                except (OSError, bf.BatchFramesError) as found:
                    error = found
            if error is not None:
                assert names_the_place(error, place), (disk.failed, repr(error))
            fetch(server)
            check_paid_once(server, place)
        os.chdir(folder)
        steps.update(disk.failed[:1])
        if not disk.failed:
            return steps
        number += every


LIMITED = """
import resource, signal, sys
import openai
import batch_frames as bf
from batch_frames.batches import client as calls, send
from tests.support.jobs import save

send.SETTLE, calls.FIRST_PAUSE = 0.05, 0.01
assert bf.BatchCreator and bf.submit and bf.wait and bf.download
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = int(sys.argv[2])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
with openai.OpenAI(base_url=sys.argv[1], api_key="test") as client:
    try:
        jobs = bf.submit(save(count=4), client=client)
        jobs = bf.wait(jobs, client=client, poll=0.002)
        bf.download(jobs, client=client)
    except OSError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it needs RLIMIT_FSIZE")
@pytest.mark.parametrize(
    "limit", [700, *(pytest.param(n, marks=pytest.mark.slow) for n in (17, 300, 1_000))]
)
def test_a_full_disk_pays_nothing_twice(folder: Path, limit: int) -> None:
    """Documents are cut off at a size by the system itself; the next run heals that."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with BatchServer(polls=0) as server:
        for most in (limit, 0):
            command = [sys.executable, "-c", LIMITED, server.url, str(most)]
            done = subprocess.run(
                command, capture_output=True, text=True, check=True, env=environment
            )
            assert not done.stdout or "File too large: '" in done.stdout
        check_paid_once(server, folder)


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
        fetch(server)
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


def test_lock_files_follow_no_links(folder: Path) -> None:
    """A link under the name of a lock is an error, and what it points to stays as it was."""
    victim = folder / "victim"
    victim.write_text("precious", "utf-8")
    (folder / ".x.lock").symlink_to(victim)
    with pytest.raises(OSError, match=r"\.x\.lock"), locks.locked(folder / "x", "{owner}"):
        pass
    assert victim.read_text("utf-8") == "precious"


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
