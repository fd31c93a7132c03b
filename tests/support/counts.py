"""Count what some work does, as a measure of it that no other process changes."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest

import batch_frames

PACKAGE = str(Path(batch_frames.__file__).parent)

COUNTS: list[Counter[str]] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if COUNTS and event == "open":
        COUNTS[-1]["files opened"] += 1


sys.addaudithook(_hook)


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count calls of functions of the package, files opened, and values that are looked up."""
    counts: Counter[str] = Counter()

    def profile(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            counts["calls"] += 1

    def sized(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(values: Any, among: Any = (), **options: Any) -> Any:
            counts["values"] += len(values) + len(options.get("value_set", among))
            return function(values, *([] if "value_set" in options else [among]), **options)

        return wrapper

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "isin", sized(np.isin))
        patch.setattr(pc, "index_in", sized(pc.index_in))
        COUNTS.append(counts)
        before = sys.getprofile()
        sys.setprofile(profile)
        try:
            yield counts
        finally:
            sys.setprofile(before)
            COUNTS.remove(counts)
