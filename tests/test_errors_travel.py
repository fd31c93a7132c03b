"""Errors and warnings are copied, pickled, and cross process pools with all that they say."""

from __future__ import annotations

import copy
import errno
import importlib
import multiprocessing
import pickle
import pkgutil
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import batch_frames as bf
from batch_frames.errors import naming
from tests.support.errors import made, raise_made


def own_kinds() -> Iterator[type[BaseException]]:
    """Find all errors and warnings of the package, internal ones, too."""
    for found in pkgutil.walk_packages(bf.__path__, "batch_frames."):
        if found.name != "batch_frames.__main__":
            importlib.import_module(found.name)
    unseen: list[type[BaseException]] = [BaseException]
    while unseen:
        kind = unseen.pop()
        unseen += type.__subclasses__(kind)
        if kind.__module__.startswith("batch_frames."):
            yield kind


KINDS = sorted(set(own_kinds()), key=lambda kind: kind.__name__)


class OfTheUser(bf.LineError):
    """An error that a user has derived, and gives more than the package does."""


def facts(error: BaseException) -> dict[str, Any]:
    """List all that can be seen of an error, apart from where it was raised."""
    names = [name for name in dir(error) if not name.startswith("_")]
    seen = {name: value for name in names if not callable(value := getattr(error, name, None))}
    return seen | {"type": type(error), "text": str(error), "notes": error.__notes__}


def pickled(protocol: int, error: BaseException) -> Any:
    """Write an error and read it back."""
    return pickle.loads(pickle.dumps(error, protocol))


PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)

WAYS: dict[str, Callable[[BaseException], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{f"pickle {protocol}": partial(pickled, protocol) for protocol in PROTOCOLS},
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_can_be_made_without_its_arguments(kind: type[BaseException]) -> None:
    """Some libraries copy errors by ``__new__`` of their class, and then set what they say."""
    assert type(kind.__new__(kind)) is kind


def test_all_errors_are_found() -> None:
    """Those that users see, and those that stay inside."""
    public = {getattr(bf, name) for name in bf.__all__ if name.endswith(("Error", "Warning"))}
    names = {kind.__name__ for kind in KINDS}
    assert public <= set(KINDS)
    assert {"CellError", "InUseError", "MissingExtra", "ReplyError", "WaitTimeout"} <= names


@pytest.mark.parametrize("kind", [*KINDS, OfTheUser])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_an_error_is_copied_with_all_that_it_says(
    kind: type[BaseException], way: Callable[[BaseException], Any]
) -> None:
    """Its message, hint, attributes and notes are those of the original."""
    error = made(kind)
    assert facts(way(error)) == facts(error)


def test_errors_cross_process_pools() -> None:
    """What a task raises is what the caller gets, and nobody waits for ever."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as executor, context.Pool(1) as pool:
        tasks = [(kind, executor.submit(raise_made, kind)) for kind in KINDS]
        results = [(kind, pool.apply_async(raise_made, [kind])) for kind in KINDS]
        for kind, task in tasks:
            assert facts(task.exception(30) or BaseException()) == facts(made(kind))
        for kind, result in results:
            with pytest.raises(kind) as caught:
                result.get(30)
            assert facts(caught.value) == facts(made(kind))


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError("expected 8 bytes, got 5"), "'out.parquet': expected 8 bytes, got 5"),
        (OSError(errno.ENOSPC, "full"), "[Errno 28] No space left on device: 'out.parquet'"),
        (OSError(errno.ENOSPC, "full", "a.csv"), "[Errno 28] full: 'a.csv'"),
    ],
)
def test_errors_of_the_system_name_a_file(error: OSError, text: str) -> None:
    """One without a file gets one and keeps its words, also if it has no number."""
    with pytest.raises(OSError, match=f"^{re.escape(text)}$"), naming(Path("out.parquet")):
        raise error
