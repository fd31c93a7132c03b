"""Count rows that were skipped for want of a prompt, and warn of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Skipped", "warn_of"]


NAMED = 5


@dataclass
class Skipped:
    """Count rows that were skipped, and name the first."""

    rows: int = 0
    places: list[str] = field(default_factory=list)

    def add(self, rows: int, places: Sequence[str]) -> None:
        """Count more of them."""
        self.rows += rows
        self.places += places[: NAMED - len(self.places)]

    def __str__(self) -> str:
        rows = "1 row" if self.rows == 1 else f"{self.rows:,} rows"
        more = ", …" if self.rows > len(self.places) else ""
        return f"skipped {rows} without a prompt: {', '.join(self.places)}{more}"


def warn_of(requests: int, skipped: Skipped) -> None:
    """Warn the caller of who calls this of rows that were skipped, and of an empty file."""
    if skipped.rows:
        warnings.warn(str(skipped), stacklevel=3)
    if not requests:
        warnings.warn("there are no requests: the file is empty", stacklevel=3)
