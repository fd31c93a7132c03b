"""Prepare what the tests of files of tables need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """Name a CSV file that is not there yet, and take it away in the end: some are large."""
    path = tmp_path / "reviews.csv"
    yield path
    path.unlink(missing_ok=True)
