"""The documents of the record: one process creates each, replacing is whole, damage is named."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch_frames.errors import LineError
from batch_frames.files.documents import Documents

PROCESSES = 8

STEPS = ("open", "os.rename", "os.remove", "os.link")

linux = pytest.mark.skipif(sys.platform != "linux", reason="it needs fork and SIGKILL")


def create_all(folder: Path, own: int, start: Any, won: Any) -> None:
    """Try to create all documents, and count those that were this process's."""
    documents = Documents(folder, "jobs")
    start.wait()
    for number in range(30):
        if documents.create(f"d{number}", {"own": own}):
            won.put((number, own))
    won.put(None)


@linux
def test_of_many_processes_one_creates_each_document(tmp_path: Path) -> None:
    """Each document is that of the one process that was told so."""
    context = multiprocessing.get_context("fork")
    start, won = context.Barrier(PROCESSES), context.Queue()
    started = [
        context.Process(target=create_all, args=(tmp_path, own, start, won))
        for own in range(PROCESSES)
    ]
    for process in started:
        process.start()
    told: list[tuple[int, int]] = []
    ended = 0
    while ended < PROCESSES:
        one = won.get(timeout=60)
        ended += one is None
        told += [one] if one else []
    for process in started:
        process.join()
    assert Counter(number for number, _ in told) == Counter(range(30))
    documents = Documents(tmp_path, "jobs")
    for number, own in told:
        assert documents.read(f"d{number}") == {"version": 1, "own": own}
    assert not list(documents.folder.glob(".*"))


def test_what_is_gone_already_is_removed(tmp_path: Path) -> None:
    """Another process may have been quicker."""
    documents = Documents(tmp_path, "commits")
    documents.create("a", {})
    for _ in range(2):
        documents.remove("a")
        assert documents.names() == []


@pytest.mark.parametrize("has_links", [True, False])
def test_create_leaves_what_is_there(
    tmp_path: Path, has_links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the file system has no hard links."""

    def link(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not has_links:
        monkeypatch.setattr(os, "link", link)
    documents = Documents(tmp_path, "jobs")
    assert documents.create("a", {"n": 1})
    assert not documents.create("a", {"n": 2})
    assert documents.read("a") == {"version": 1, "n": 1}
    assert documents.names() == ["a"]


def die_before(step: int, folder: Path) -> None:
    """Die before a step on the files in a folder."""
    done = count()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in STEPS and str(folder) in str(arguments[0]) and next(done) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def create_and_die(folder: Path, step: int) -> None:
    """Create a document where there are no hard links, and die before the step."""
    die_before(step, folder)
    Documents(folder, "jobs").create("a", {"text": "dead" * 50_000})


@linux
def test_a_kill_while_a_document_is_created_leaves_it_whole_or_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where there are no hard links; the next process creates it."""

    def link(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    context = multiprocessing.get_context("fork")
    Documents(tmp_path / "loaded", "jobs").create("a", {})  # names are loaded when first used
    seen = Counter[bool]()
    for step in count():
        folder = tmp_path / str(step)
        process = context.Process(target=create_and_die, args=(folder, step))
        process.start()
        process.join()
        documents = Documents(folder, "jobs")
        found = documents.read("a")
        assert found in (None, {"version": 1, "text": "dead" * 50_000})
        assert documents.create("a", {"text": "next"}) is (found is None)
        assert documents.read("a") == (found or {"version": 1, "text": "next"})
        seen[found is None] += 1
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
    assert seen[True] >= 3
    assert seen[False] >= 2


def replace_and_die(folder: Path, step: int) -> None:
    """Replace a document, and die before the step."""
    die_before(step, folder)
    Documents(folder, "jobs").replace("a", {"text": "new" * 50_000})


@linux
def test_a_kill_before_any_step_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    """A document is never half written, and a temporary file of the dead is no document."""
    context = multiprocessing.get_context("fork")
    seen = Counter[str]()
    for step in count():
        documents = Documents(tmp_path / str(step), "jobs")
        documents.create("a", {"text": "old"})
        process = context.Process(target=replace_and_die, args=(tmp_path / str(step), step))
        process.start()
        process.join()
        found = documents.read("a")
        assert found in ({"version": 1, "text": "old"}, {"version": 1, "text": "new" * 50_000})
        assert found is not None
        seen[found["text"][:3]] += 1
        assert documents.names() == ["a"]
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
    assert seen["old"] >= 2
    assert seen["new"] >= 2


DAMAGED = [b"", b"{", b"null", b"[]", b"{}", b'{"version":"1"}', b"\xff", b"[" * 100_000]


@pytest.mark.parametrize("content", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_document_is_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    """It says which file and what to do."""
    documents = Documents(tmp_path, "jobs")
    documents.create("a", {})
    documents.path("a").write_bytes(content)
    with pytest.raises(LineError) as caught:
        documents.read("a")
    assert str(caught.value) == (
        f"{tmp_path}/.batch_frames/jobs/a.json: not a document of the record; "
        "bring it back from a copy; without it, its shard counts as never sent"
    )


def test_a_document_of_a_later_version_is_refused(tmp_path: Path) -> None:
    """It may say what this version does not understand."""
    documents = Documents(tmp_path, "jobs")
    documents.create("a", {})
    documents.path("a").write_text(json.dumps({"version": 2}), "utf-8")
    with pytest.raises(LineError) as caught:
        documents.read("a")
    assert str(caught.value) == (
        f"{documents.path('a')}: a document of version 2, which is later than 1; "
        "update batch_frames"
    )


def test_what_is_not_there_is_none_and_false(tmp_path: Path) -> None:
    """Nothing is made by looking."""
    documents = Documents(tmp_path, "jobs")
    assert documents.read("a") is None
    assert documents.read_bytes("a.lines") is None
    assert documents.names() == []
    assert not documents
    assert not list(tmp_path.iterdir())
    documents.write_bytes("a.lines", b"x")
    assert not documents
    documents.create("a", {})
    assert documents


texts = st.text(st.characters(), max_size=20)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(value=st.dictionaries(texts.filter(lambda key: key != "version"), texts, max_size=4))
def test_any_text_comes_back(tmp_path: Path, value: dict[str, str]) -> None:
    """Whatever a name or a message of the service has in it, lone surrogates too."""
    documents = Documents(tmp_path, "jobs")
    documents.replace("a", value)
    assert documents.read("a") == {"version": 1, **value}
