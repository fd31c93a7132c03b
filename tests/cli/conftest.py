"""Prepare the folder in which commands run."""

import csv
import json
from pathlib import Path

import pandas as pd
import pytest

from tests.support.commands import ROWS, SCHEMA


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder with a table, and the files that options take."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    with Path("reviews.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("id", "title", "review"), *ROWS])
    frame = pd.DataFrame(ROWS, columns=["id", "title", "review"])
    frame.to_parquet("reviews.parquet", index=False)
    Path("schema.json").write_text(json.dumps(SCHEMA), encoding="utf-8")
    Path("system.txt").write_text("Be brief: é\nYes.\n", encoding="utf-8")
    return tmp_path
