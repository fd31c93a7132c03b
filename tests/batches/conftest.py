"""Prepare what the tests of batches need."""

from __future__ import annotations

from pathlib import Path

import pytest

from batch_frames.batches import client as service
from batch_frames.batches import send as finding


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty folder, with short pauses and without a key."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(finding, "SETTLE", 0.05)
    monkeypatch.setattr(service, "FIRST_PAUSE", 0.002)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path
