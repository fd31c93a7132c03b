"""The notebooks run from a clean folder and are stored with their outputs."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest

import batch_frames as bf

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_and_prints_what_is_stored(path: Path, tmp_path: Path) -> None:
    """Running a notebook anew prints the same lines as the stored outputs, and draws as much."""
    shutil.copytree(ROOT / "data", tmp_path / "data")
    (tmp_path / "notebooks").mkdir()
    for script in (ROOT / "notebooks").glob("*.py"):
        shutil.copy(script, tmp_path / "notebooks")
    notebook = nbformat.read(path, as_version=4)
    stored = [(printed(cell), drawn(cell)) for cell in notebook.cells]
    client = nbclient.NotebookClient(
        notebook, timeout=120, resources={"metadata": {"path": str(tmp_path / "notebooks")}}
    )
    client.execute()
    assert [(printed(cell), drawn(cell)) for cell in notebook.cells] == stored
    assert [warned(cell) for cell in notebook.cells if warned(cell)] == []
    assert any(text for text, _ in stored)


def printed(cell: nbformat.NotebookNode) -> str:
    """Join what a cell printed; tables and cards differ between versions of pandas."""
    return streamed(cell, "stdout")


def warned(cell: nbformat.NotebookNode) -> str:
    """Join what a cell warned of; matplotlib's note that it looks for fonts is none."""
    lines = streamed(cell, "stderr").splitlines()
    return "\n".join(line for line in lines if "font cache" not in line)


def streamed(cell: nbformat.NotebookNode, name: str) -> str:
    """Join what a cell wrote to one stream."""
    streams = (out for out in cell.get("outputs", []) if out.output_type == "stream")
    return "".join(out.text for out in streams if out.name == name)


def drawn(cell: nbformat.NotebookNode) -> int:
    """Count the pictures below a cell; their bytes differ between versions of matplotlib."""
    return sum("image/png" in out.get("data", {}) for out in cell.get("outputs", []))


def test_the_answering_script_runs(tmp_path: Path) -> None:
    """From the command line, every request but the lost one is answered in one of two files."""
    requests, output, errors = (tmp_path / f"{name}.jsonl" for name in ("asked", "good", "bad"))
    schema = {"type": "object", "properties": {"stars": {"type": "integer"}}}
    bf.from_csv(
        ROOT / "data" / "reviews.csv",
        id_column="id",
        prompt_column="title",
        model="gpt-5.6-luna",
        json_schema={"name": "stars", "schema": schema},
    ).save_to_file(requests, progress=False)
    script = ROOT / "notebooks" / "answer_like_the_service.py"
    written = []
    for _ in range(2):
        subprocess.run([sys.executable, script, requests, output, errors], check=True)
        written.append(output.read_text("ascii") + errors.read_text("ascii"))
    assert written[0] == written[1]
    ids = [json.loads(line)["custom_id"] for line in written[0].splitlines()]
    asked = [json.loads(line)["custom_id"] for line in requests.read_text("utf-8").splitlines()]
    assert len(ids) == len(set(ids)) == len(asked) - 1
    assert set(ids) < set(asked)
    assert ids != [custom_id for custom_id in asked if custom_id in ids]
