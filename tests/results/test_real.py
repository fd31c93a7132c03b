"""Result files written by other people's programs and by real services, read row by row."""

import re
from pathlib import Path

import pytest

import batch_frames as bf
from tests.support.oracle import Foreign, read, rows_of

REAL = Path(__file__).parents[3] / "shared" / "real"
FILES = sorted(path for path in REAL.rglob("*.json*") if path.is_file())

pytestmark = pytest.mark.skipif(not FILES, reason="the real files are not here")
every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)


@every_file
def test_a_real_file_gives_a_row_for_each_line(path: Path) -> None:
    """Each line is the row that the simplest reading gives, or the file is refused by its kind."""
    try:
        expected = read(path.read_bytes(), raw=True)
    except Foreign as foreign:
        message = f"{path}, line {foreign.line}: {foreign}"
        with pytest.raises(bf.LineError, match=f"^{re.escape(message)}$"):
            bf.read_results(path, raw=True)
        return
    frame = bf.read_results(path, raw=True)
    assert rows_of(frame) == [{**row, "file": str(path)} for row in expected]


def test_real_files_are_read_together() -> None:
    """Without bodies, the files of all services give one frame, each row with its file's name."""
    paths, expected = [], []
    for path in FILES:
        try:
            expected += [{**row, "file": str(path)} for row in read(path.read_bytes())]
        except Foreign:
            continue
        paths.append(path)
    assert len(paths) > 10
    frame = bf.read_results(paths)
    assert rows_of(frame) == expected


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("*anthropic*", "a result of Anthropic's Message Batches, not of the OpenAI Batch API"),
        ("*vertex*", "a result of a Vertex AI batch prediction, not of the OpenAI Batch API"),
        ("*_input*", "a request, not a result; put requests in a file of their own"),
        ("*batch_object*", "a batch object, not a result"),
        ("servers/*batch.json", "a batch object, not a result"),
    ],
)
def test_other_real_files_are_named(pattern: str, problem: str) -> None:
    """Files of another kind are refused at their first line, by the name of what they are."""
    paths = [path for path in REAL.glob(pattern) if "failed_batch_object" not in path.name]
    assert paths
    for path in paths:
        with pytest.raises(bf.LineError, match=f"^{re.escape(f'{path}, line 1: {problem}')}"):
            bf.read_results(path)
