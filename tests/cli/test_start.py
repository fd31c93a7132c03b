"""What is loaded when: quick commands start without pandas, and public names when first used."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import batch_frames as bf
from batch_frames import files, results
from batch_frames.cli import main
from tests.service.server import BatchServer

HEAVY = ("duckdb", "msgspec", "numpy", "openai", "pandas", "pyarrow", "pydantic", "tqdm")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchServer]:
    """Have a service, and a request file in the current folder."""
    monkeypatch.chdir(tmp_path)
    creator = bf.BatchCreator("m", None, system_prompt=None, seed=None)
    creator.add_entry("a", "Hello.")
    creator.save_to_file("a.jsonl")
    with BatchServer(polls=0) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "test")
        yield server


def loaded(script: str, names: tuple[str, ...] = HEAVY) -> list[str]:
    """Run a script in a process of its own, and list which of the modules it has loaded."""
    ending = f"print(json.dumps([name for name in {names!r} if name in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", f"import json, sys\n{script}\n{ending}"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def command(*arguments: str) -> str:
    """Write a script that runs a command."""
    return f"from batch_frames.cli import main\nmain({list(arguments)}, standalone_mode=False)"


def test_help_loads_nothing_heavy() -> None:
    """Help, of whichever command, needs click alone."""
    names = ["", *main.commands]
    assert loaded("\n".join(command(*name.split(), "--help") for name in names)) == []


def test_batches_are_followed_without_pandas(server: BatchServer) -> None:
    """Commands that neither check requests nor make a table do not load what these need."""
    verbs = (("submit", "--no-check"), ("status",), ("wait",), ("download",), ("cancel",))
    assert "pandas" not in loaded("\n".join(command(*verb, "a.jsonl") for verb in verbs))
    assert Path("a.output.jsonl").exists()


def test_importing_loads_nothing_heavy() -> None:
    """The package is imported at once, and lists its names."""
    assert loaded("import batch_frames; dir(batch_frames)") == []


def test_public_names_load_what_tables_need() -> None:
    """Making requests and reading results are imported without what only some calls need."""
    script = "import batch_frames as bf; bf.from_dataframe, bf.read_results, bf.submit, bf.run"
    others = ("filelock", "pyarrow.parquet")
    assert set(loaded(script, (*HEAVY, *others))) == {"msgspec", "numpy", "pandas", "pyarrow"}


def test_constants_of_options_are_those_of_the_functions() -> None:
    """What help shows without loading the functions is what they have."""
    defaults = {option.name: option.default for option in main.commands["write"].params}
    assert (defaults["max_requests"], defaults["max_bytes"]) == (
        files.Limits().requests,
        files.Limits().nbytes,
    )
    module = sys.modules["batch_frames.cli.read"]
    # What was skipped has no request that could be sent again.
    assert tuple(s for s in results.STATUSES if s != "skipped") == module.STATUSES
    assert module.UNANSWERED == results.UNANSWERED
