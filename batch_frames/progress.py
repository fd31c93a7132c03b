"""Show progress bars, ask before work begins, add hints to interrupts, and issue warnings."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch_frames.errors import BatchFramesWarning, WaitTimeout

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["TO_CONTINUE", "ask", "interrupt_hint", "pause", "progress_bar", "show_progress", "warn"]


PACKAGE = str(Path(__file__).parent) + os.sep

DELAY = 2
"""Seconds after which a bar appears unless it was asked for."""

LONG_PAUSE = 2.0
"""Seconds from which a pause is spoken of."""

TO_CONTINUE = "; to continue, "
"""What stands in the hint of an interrupt between what was done and how to go on."""


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


def show_progress(bar: tqdm[Any], done: int, text: str) -> None:
    """Show how much is done, at a rate that leaves out what was done at the first call."""
    if bar.disable:
        return
    if bar.postfix is None:
        bar.initial = done
    bar.n = done
    bar.set_postfix_str(text, refresh=False)
    if time.time() >= bar.start_t + bar.delay:
        # Without the time, the bar ends without a newline.
        bar.last_print_t = time.time()
        bar.refresh()


def pause(seconds: float, reason: str, progress: bool | None) -> None:
    """Sleep before the next try, and print the reason if it takes long.

    Args:
        seconds: How long.
        reason: The reason.
        progress: Whether to print it; None does.
    """
    from tqdm import tqdm

    if seconds >= LONG_PAUSE and progress is not False:
        # On a terminal, above the bars.
        write = tqdm.write if sys.stderr.isatty() else print
        write(f"{reason}; trying again in {seconds:,.0f} s", file=sys.stderr)
    time.sleep(seconds)


@contextmanager
def interrupt_hint(done: str, again: str) -> Iterator[None]:
    """Note at an interrupt, or when the time is up, how to go on; the outermost note counts.

    Args:
        done: What was done.
        again: What to do to continue.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        error.__notes__ = [f"interrupted: {done}{TO_CONTINUE}{again}"]
        raise
    except WaitTimeout as error:
        error.advise(f"to continue, {again}")
        raise


def ask(what: str) -> bool:
    """Ask on the terminal, or where else Python asks; where it cannot, the answer is no."""
    with suppress(EOFError):
        return input(f"{what}\nSend? [y/N] ").strip().lower() in ("y", "yes")
    return False


def warn(message: str, hint: str | None = None) -> None:
    """Issue a warning that points at the first line outside this package."""
    frame = sys._getframe(1)
    level = 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
        level += 1
    warnings.warn(BatchFramesWarning(message, hint=hint), stacklevel=level)
