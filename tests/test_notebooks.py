"""The notebooks run from a clean folder and are stored with their outputs."""

import json
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import nbclient
import nbformat
import pyarrow as pa
import pytest

import batch_frames as bf
from batch_frames.requests import count_tokens
from tests.service.server import BatchServer
from tests.support.creators import CHAT
from tests.support.marks import slow

ROOT = Path(__file__).parents[1]
SUBMIT = ROOT / "notebooks" / "03_submit.ipynb"
PAY = ROOT / "notebooks" / "04_before_you_pay.ipynb"
QUICKSTART = ROOT / "notebooks" / "01_quickstart.ipynb"
SCALE = ROOT / "notebooks" / "05_scale.ipynb"
OFFLINE = sorted(set((ROOT / "notebooks").glob("*.ipynb")) - {SUBMIT, PAY, SCALE})
ENGINES = {"pyspark": "spark", "ray": "ray"}


@contextmanager
def service() -> Iterator[BatchServer]:
    """Serve what 03_submit asks for: it sees its batches at work once, then they end at once."""

    def hurry() -> None:
        server.settings.polls = 0

    with BatchServer(fail_every=11) as server:
        server.when("GET /batches/{id}", "done", hurry, after=1)
        yield server


@contextmanager
def stand_in() -> Iterator[BatchServer]:
    """Serve what 04_before_you_pay asks for: answers by keywords, a few of them refused or cut."""
    answered = runpy.run_path(str(ROOT / "notebooks" / "answer_like_the_service.py"))["answered"]

    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        line = json.dumps({"custom_id": "a", "method": "POST", "url": CHAT, "body": body})
        read = count_tokens(pa.array([line], pa.large_string()))["input_tokens"][0].as_py()
        random = Random(f"5 {body['messages'][-1]['content']}")
        trouble = random.choices([None, "refused", "cut"], [30, 1, 1])[0]
        made = answered(body, "chatcmpl-1", trouble)
        said = made["choices"][0]["message"]
        thought = round(random.gammavariate(4, 20))
        written = thought + len((said["content"] or said["refusal"]).encode()) // 4
        made["usage"] |= {"prompt_tokens": read, "completion_tokens": written}
        made["usage"]["completion_tokens_details"]["reasoning_tokens"] = thought
        return 200, made

    with BatchServer(polls=0, answer=answer) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have a checkout's data and scripts, nothing of earlier runs, and no key."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    shutil.copytree(ROOT / "data", tmp_path / "data")
    (tmp_path / "notebooks").mkdir()
    for script in (ROOT / "notebooks").glob("*.py"):
        shutil.copy(script, tmp_path / "notebooks")
    return tmp_path / "notebooks"


def opened(path: Path) -> nbformat.NotebookNode:
    """Read a notebook."""
    read: Callable[..., nbformat.NotebookNode] = nbformat.read
    return read(path, as_version=4)


def execute(path: Path, folder: Path) -> list[nbformat.NotebookNode]:
    """Run a notebook in a folder, without a warning, and give its cells with their new outputs."""
    cells = run(opened(path), folder)
    assert [warned(cell) for cell in cells if warned(cell)] == []
    return cells


def run(notebook: nbformat.NotebookNode, folder: Path) -> list[nbformat.NotebookNode]:
    """Run a notebook in a folder, and give its cells with their new outputs."""
    for cell in notebook.cells:
        # The pause before a retry is as many polls as ever.
        cell.source = cell.source.replace('prefix="title_")', 'prefix="title_", poll=0.01)')
    where = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=where).execute()
    return list(notebook.cells)


def stored(path: Path) -> list[tuple[str, int]]:
    """Tell what the cells of a notebook printed and drew when it was stored."""
    return shown(opened(path).cells)


@pytest.mark.parametrize(
    "path",
    [path if path == QUICKSTART else slow(path) for path in OFFLINE],
    ids=lambda path: path.stem,
)
def test_notebook_runs_and_prints_what_is_stored(path: Path, folder: Path) -> None:
    """Running a notebook anew prints the same lines as the stored outputs, and draws as much."""
    assert shown(execute(path, folder)) == stored(path)
    assert any(text for text, _ in stored(path))


@pytest.mark.slow
def test_the_round_trip_prints_what_is_stored_and_is_paid_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run twice, it prints the same, but for what is left to ask; the second sends nothing."""
    with service() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "test-key")
        assert shown(execute(SUBMIT, folder)) == stored(SUBMIT)
        sent = len(server.requests_log)
        again = [("" if ".round-2.jsonl: " in out else out, n) for out, n in stored(SUBMIT)]
        nothing = "Plan(0 requests to send; 60 answered)"
        again = [(nothing if out.startswith("Plan(") else out, n) for out, n in again]
        assert shown(execute(SUBMIT, folder)) == again
        assert server.requests_log[sent:] == []
    assert len(server.bodies) == 5
    assert [(batch.input_name, batch.requests) for batch in server.batches] == [
        ("customers-00001.jsonl", 40),
        ("customers-00002.jsonl", 19),
        ("customers.round-2.jsonl", 4),
        ("titles.jsonl", 50),
        ("titles.round-2.jsonl", 4),
        ("titles.round-3.jsonl", 10),
    ]


@pytest.mark.slow
def test_before_you_pay_prints_what_is_stored_and_is_paid_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch has the rows that the pilot left, and a second run sends nothing."""
    with stand_in() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "test-key")
        assert shown(execute(PAY, folder)) == stored(PAY)
        assert (folder / "before_you_pay.png").stat().st_size < 60_000
        sent = len(server.requests_log)
        assert shown(execute(PAY, folder)) == stored(PAY)
        assert server.requests_log[sent:] == []
    assert (len(server.bodies), [batch.requests for batch in server.batches]) == (10, [49])


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_other_engines_write_the_lines_of_one_process(
    engine: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Spark and Ray write has the lines that this process writes, and prints what is stored.

    What they log is not compared, as it differs from one version to the next.
    """
    if not find_spec(engine):
        pytest.skip(f"{engine} is not installed")
    if engine == "pyspark" and not shutil.which("java"):
        pytest.skip("Spark needs Java")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    notebook = opened(SCALE)
    other = "import ray" if engine == "pyspark" else "from pyspark"
    notebook.cells = [cell for cell in notebook.cells if other not in cell.source]
    expected = shown(notebook.cells)
    assert shown(run(notebook, folder)) == expected
    files = sorted(Path(folder, "out", ENGINES[engine]).glob("reviews-*.jsonl"))
    lines = [line for path in files for line in path.read_bytes().splitlines(keepends=True)]
    alone = Path(folder, "out", "alone.jsonl").read_bytes()
    assert len(lines) == 59
    assert sorted(lines) == sorted(alone.splitlines(keepends=True))


@pytest.mark.parametrize("path", [*OFFLINE, SUBMIT, PAY, SCALE], ids=lambda path: path.stem)
def test_notebooks_tell_nothing_of_the_machine(path: Path) -> None:
    """What is stored has no address, key or folder of the machine that ran it, and no times."""
    text = path.read_text("utf-8")
    private = r"127\.0\.0\.1|test-key|(?<![\w.])/(?:tmp|home|work|root|Users)\b|\"execution\""
    assert re.findall(private, text) == []


def shown(cells: list[nbformat.NotebookNode]) -> list[tuple[str, int]]:
    """Tell what cells printed and drew."""
    return [(printed(cell), drawn(cell)) for cell in cells]


def printed(cell: nbformat.NotebookNode) -> str:
    """Join what a cell printed; tables and cards differ between versions of pandas."""
    return streamed(cell, "stdout")


def warned(cell: nbformat.NotebookNode) -> str:
    """Join what a cell warned of; neither progress nor matplotlib's note on fonts is a warning."""
    lines = streamed(cell, "stderr").splitlines()
    usual = re.compile(r".*font cache|\S+: .*\[\d\d:\d\d.*\]|\s*$")
    return "\n".join(line for line in lines if not usual.match(line))


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
