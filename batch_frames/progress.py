"""Tell a user who interrupts how to go on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["how_to_go_on"]


@contextmanager
def how_to_go_on(text: str) -> Iterator[None]:
    """Print a text to standard error when the code inside is interrupted from the keyboard."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"interrupted: {text}", file=sys.stderr)
        raise
