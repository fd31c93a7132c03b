"""The notebooks run from a clean folder and are stored with their outputs."""

import shutil
from pathlib import Path

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_and_prints_what_is_stored(path: Path, tmp_path: Path) -> None:
    """Running a notebook anew prints the same lines as the stored outputs."""
    shutil.copytree(ROOT / "data", tmp_path / "data")
    (tmp_path / "notebooks").mkdir()
    notebook = nbformat.read(path, as_version=4)
    stored = [printed(cell) for cell in notebook.cells]
    client = nbclient.NotebookClient(
        notebook, timeout=120, resources={"metadata": {"path": str(tmp_path / "notebooks")}}
    )
    client.execute()
    assert [printed(cell) for cell in notebook.cells] == stored
    assert any(stored)


def printed(cell: nbformat.NotebookNode) -> str:
    """Join what a cell printed; tables and cards differ between versions of pandas."""
    outputs = cell.get("outputs", [])
    return "".join(out.text for out in outputs if out.output_type == "stream")
