"""Show progress bars, print hints after Ctrl-C, and issue warnings at the user's line."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch_frames.errors import BatchFramesWarning

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["interrupt_hint", "progress_bar", "warn"]


PACKAGE = str(Path(__file__).parent) + os.sep

DELAY = 2
"""Seconds after which a bar appears unless it was asked for."""


def progress_bar(
    name: str, total: int | None, progress: bool | None, *, unit: str = " requests", **options: Any
) -> tqdm[Any]:
    """Return a progress bar for long work.

    Args:
        name: Text in front of the bar.
        total: Number of units, or None if it is not known.
        progress: True shows the bar at once, None after two seconds, False never.
        unit: Name of the unit; ``"B"`` is shown with prefixes, as in MB.
        options: Further arguments of ``tqdm``.
    """
    from tqdm import tqdm

    return tqdm(
        desc=name,
        total=total,
        unit=unit,
        unit_scale=unit == "B",
        delay=0 if progress else DELAY,
        disable=progress is False,
        **options,
    )


@contextmanager
def interrupt_hint(text: str) -> Iterator[None]:
    """Print a text to standard error when the code inside is interrupted from the keyboard."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"interrupted: {text}", file=sys.stderr)
        raise


def warn(message: str, hint: str | None = None) -> None:
    """Issue a warning that points at the first line outside this package."""
    frame = sys._getframe(1)
    level = 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
        level += 1
    warnings.warn(BatchFramesWarning(message, hint=hint), stacklevel=level)
