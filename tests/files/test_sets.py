"""The record of saved sets: commits are finished by whoever comes, and foreign files stay."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import batch_frames as bf
from batch_frames.errors import BatchFramesError
from batch_frames.files.find import find_shards
from batch_frames.files.sets import Sets, finish_commits
from tests.support.marks import slow

STEPS = ("open", "os.rename", "os.remove", "os.link")

linux = pytest.mark.skipif(sys.platform != "linux", reason="it needs fork and SIGKILL")


def save(folder: Path, tag: str, count: int, name: str = "q.jsonl") -> list[bf.Shard]:
    """Save requests that bear a tag, one a file."""
    creator = bf.BatchCreator("m", None, system_prompt=None, seed=None)
    for number in range(count):
        creator.add_entry(f"r{number}", f"{tag} {number}")
    return creator.save_to_file(folder / name, limits=bf.Limits(requests=1))


def tags(paths: list[Path]) -> list[str]:
    """Tell from which save each file is."""
    texts = [path.read_text("utf-8") for path in paths]
    return ["old" if "old " in text else "new" for text in texts]


def save_and_die(folder: Path, step: int, most: int) -> None:
    """Save over what is there, and die before a step on the files."""
    done = count()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in STEPS and str(folder) in str(arguments[0]) and next(done) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    save(folder, "new", most)


@linux
@pytest.mark.parametrize(("before", "after"), [slow(3, 3), (4, 2), (1, 3), slow(3, 1)])
def test_a_glob_after_a_kill_at_any_step_never_sees_a_mixed_set(
    tmp_path: Path, before: int, after: int
) -> None:
    """Either all shards are of the earlier save or all of the later one, whole sets of each."""
    save(tmp_path, "loaded", 1, "x.jsonl")  # names are loaded when first used
    context = multiprocessing.get_context("fork")
    seen = set()
    for step in count(0, 2):
        folder = tmp_path / str(step)
        folder.mkdir()
        save(folder, "old", before)
        process = context.Process(target=save_and_die, args=(folder, step, after))
        process.start()
        process.join()
        found = find_shards(folder / "q*.jsonl")
        [tag] = set(tags(found))
        assert len(found) == {"old": before, "new": after}[tag]
        assert not list((folder / ".batch_frames" / "commits").glob("*.json"))
        seen.add(tag)
        # The next save needs nothing to be tidied up, and leaves nothing of the dead one.
        save(folder, "new", after)
        assert tags(find_shards(folder)) == ["new"] * after
        assert not list(folder.glob("*.tmp"))
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
    assert seen == {"old", "new"}


def leave_unfinished(folder: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Save, and stop when it is noted what is to be renamed."""

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Sets, "_finish", fail)
        patch.setattr("batch_frames.files.stores.FolderStore.close", lambda store: None)
        with pytest.raises(KeyboardInterrupt):
            save(folder, "new", count)
    for lock in folder.rglob("*.lock"):
        lock.unlink()


def retry(path: Path) -> list[str]:
    """Take the ids of the requests that are written again."""
    shards = bf.retry_requests(path, path=path.with_name("again.jsonl"))
    return list(bf.read_requests([shard.path for shard in shards])["custom_id"])


READING: dict[str, Callable[[Path], Iterable[str]]] = {
    "read_requests": lambda path: bf.read_requests(path)["custom_id"],
    "retry_requests": retry,
    "read_results": lambda path: bf.read_results(requests=path)["custom_id"],
}


@pytest.mark.parametrize("verb", READING)
def test_what_reads_requests_finishes_an_unfinished_commit(
    tmp_path: Path, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads the later set whole, or says that this is not there, but never a mixed one."""
    save(tmp_path, "old", 3)
    leave_unfinished(tmp_path, 2, monkeypatch)
    assert list(READING[verb](tmp_path / "q-*.jsonl")) == ["r0", "r1"]
    assert tags(sorted(tmp_path.glob("q-*.jsonl"))) == ["new", "new"]
    leave_unfinished(tmp_path, 3, monkeypatch)
    max(tmp_path.glob(".q.jsonl.*.tmp")).unlink()
    with pytest.raises(BatchFramesError, match="was not completely saved"):
        READING[verb](tmp_path / "q-*.jsonl")


@pytest.mark.parametrize("read", [*READING.values(), find_shards], ids=[*READING, "find_shards"])
def test_a_glob_finds_the_files_of_a_first_save_once_it_is_finished(
    tmp_path: Path, read: Callable[[Path], Iterable[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it matches none before."""
    leave_unfinished(tmp_path, 2, monkeypatch)
    assert len(list(read(tmp_path / "q-*.jsonl"))) == 2


@pytest.mark.parametrize("read", [retry, READING["read_results"], find_shards])
def test_the_path_of_a_first_save_stands_for_its_files_once_it_is_finished(
    tmp_path: Path, read: Callable[[Path], Iterable[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then none of them has its name."""
    leave_unfinished(tmp_path, 2, monkeypatch)
    assert not list(tmp_path.glob("*.jsonl"))
    assert len(list(read(tmp_path / "q.jsonl"))) == 2


def test_a_commit_whose_temporary_file_is_gone_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot be finished; the error names the file, and saving again is the way out."""
    leave_unfinished(tmp_path, 2, monkeypatch)
    gone = max(tmp_path.glob(".q.jsonl.*.tmp"))
    gone.unlink()
    with pytest.raises(BatchFramesError) as caught:
        find_shards(tmp_path / "q-*.jsonl")
    assert str(caught.value) == (
        f"'{tmp_path}/q-00002.jsonl' was not completely saved, and '{gone}' is gone; "
        "save 'q.jsonl' again"
    )
    assert len(save(tmp_path, "new", 3)) == 3
    assert tags(find_shards(tmp_path / "q-*.jsonl")) == ["new"] * 3


FOREIGN = ["q.jsonl", "q-00001.jsonl", "q-00002.jsonl"]


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("count", [1, 2])
def test_foreign_files_are_refused_by_name_and_left_as_they_were(
    tmp_path: Path, name: str, count: int
) -> None:
    """A file under a name that is to be replaced, and that no save has left, is the user's."""
    path = tmp_path / name
    path.write_text("notes", "utf-8")
    finals = ["q.jsonl"] if count == 1 else ["q-00001.jsonl", "q-00002.jsonl", "q.jsonl"]
    if name in finals:
        with pytest.raises(BatchFramesError) as caught:
            save(tmp_path, "new", count)
        assert str(caught.value) == (
            f"'{path}' was not saved by an earlier call; move it away, or save under another name, "
            "or pass overwrite=True"
        )
    else:
        save(tmp_path, "new", count)
    assert path.read_text("utf-8") == "notes"


@pytest.mark.parametrize("name", ["z.jobs.jsonl", "z.output.jsonl", "z.errors.jsonl"])
def test_files_under_names_of_results_stay(tmp_path: Path, name: str) -> None:
    """A ledger of an earlier version or paid answers are not replaced by requests."""
    (tmp_path / name).write_text("precious", "utf-8")
    with pytest.raises(BatchFramesError, match="has the name of a file with results"):
        save(tmp_path, "new", 1, name)
    assert (tmp_path / name).read_text("utf-8") == "precious"


def test_a_saved_file_that_the_user_has_changed_is_theirs(tmp_path: Path) -> None:
    """A shard that has grown since is neither replaced nor removed."""
    shards = save(tmp_path, "old", 3)
    with shards[2].path.open("a", encoding="utf-8") as file:
        file.write("\n")
    changed = shards[2].path.read_bytes()
    save(tmp_path, "new", 2)
    assert shards[2].path.read_bytes() == changed
    with pytest.raises(BatchFramesError, match="was not saved by an earlier call"):
        save(tmp_path, "new", 3)
    assert shards[2].path.read_bytes() == changed


names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=40
).filter(lambda text: not text.startswith(("-", ".")) and len(text.encode()) < 100)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30
)
@given(name=names, first=st.integers(1, 3), then=st.integers(1, 3))
def test_sets_of_any_name_are_replaced_whole(
    tmp_path: Path, name: str, first: int, then: int
) -> None:
    """Of any Unicode name the later save is what is left, and the record says so."""
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    folder.mkdir()
    save(folder, "old", first, f"{name}.jsonl")
    shards = save(folder, "new", then, f"{name}.jsonl")
    assert sorted(folder.glob("*.jsonl")) == sorted(shard.path for shard in shards)
    saved = Sets(folder).get(f"{name}.jsonl")
    assert saved.id == shards[0].save_id
    assert dict(saved.sizes) == {shard.path.name: shard.nbytes for shard in shards}
    assert dict(saved.requests) == {shard.path.name: 1 for shard in shards}
    assert not finish_commits(folder)
