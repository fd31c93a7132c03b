"""Files that stand where sets and their record are to be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import batch_frames as bf

FRAME = pd.DataFrame({"id": ["a", "b"], "text": ["x", "y"]})
ASK: dict[str, Any] = {"id_column": "id", "prompt_column": "text", "model": "m"}


def test_a_file_in_the_place_of_the_record_is_named(tmp_path: Path) -> None:
    """What writes, plans or runs says that the name is needed for a folder, and leaves the file."""
    (tmp_path / ".batch_frames").write_text("mine")
    path = tmp_path / "r.jsonl"
    batch = bf.from_dataframe(FRAME, **ASK)
    for call in (
        lambda: batch.save_to_file(path),
        lambda: bf.plan(FRAME, path, **ASK),
        lambda: bf.run(FRAME, path, **ASK),
    ):
        with pytest.raises(bf.BatchFramesError) as caught:
            call()
        assert str(caught.value) == (
            f"'{tmp_path / '.batch_frames'}' is a file; "
            "move it away, as the record of what is sent is a folder of this name"
        )
    assert [one.name for one in tmp_path.iterdir()] == [".batch_frames"]
    assert (tmp_path / ".batch_frames").read_text() == "mine"


def test_a_file_of_another_set_is_named_with_it(tmp_path: Path) -> None:
    """A name that is that of a numbered file of a set is not said to be a stranger's."""
    batch = bf.from_dataframe(FRAME, **ASK)
    batch.save_to_file(tmp_path / "x.jsonl", limits=bf.Limits(requests=1))
    with pytest.raises(bf.BatchFramesError) as caught:
        batch.save_to_file(tmp_path / "x-00001.jsonl")
    assert str(caught.value) == (
        f"'{tmp_path / 'x-00001.jsonl'}' belongs to the set '{tmp_path / 'x.jsonl'}'; "
        "move it away, or save under another name, or pass overwrite=True"
    )


def test_an_empty_model_is_refused() -> None:
    """It would fail every request a day later."""
    for options in ({"model": ""}, {"model": "m", "body": {"model": ""}}):
        with pytest.raises(bf.TemplateError) as caught:
            bf.from_dataframe(FRAME, **{**ASK, **options})
        assert str(caught.value) == "model is empty; pass the name of a model"
