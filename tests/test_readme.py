"""The README's code runs, and its console shows what a user would see."""

import re
import shlex
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest

from tests.service.server import BatchServer
from tests.support.commands import run

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Find the code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder that has nothing but the sample."""
    shutil.copytree(ROOT / "data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_working_code_stands_within_the_first_fifteen_lines() -> None:
    """The README says what it is in one sentence and then shows it."""
    assert README.splitlines()[2].endswith(".")
    assert "bf.run(" in "\n".join(README.splitlines()[:15])


@pytest.mark.filterwarnings("ignore:skipped 1 row")
def test_python_blocks_run_from_top_to_bottom(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every Python block runs, in the names that those before it have left; a server answers."""
    names: dict[str, object] = {}
    assert len(blocks("python")) >= 6
    with BatchServer(polls=0) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "test")
        for block in blocks("python"):
            exec(compile(block, "README.md", "exec"), names)
    assert len(list((checkout / "out").glob("*.jsonl"))) >= 2


def shell_words(word: str) -> list[str]:
    """List the files that a glob stands for, as a shell does."""
    return sorted(map(str, Path().glob(word))) if "*" in word else [word]


def test_console_blocks_print_what_they_show(checkout: Path) -> None:
    """Every command of a console block prints the lines below it."""
    for block in blocks("console"):
        for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
            name, *words = shlex.split(command)
            done = run(*chain.from_iterable(map(shell_words, words)))
            assert name == "batch-frames"
            assert (done.err + done.out, done.code) == (expected, 0)


def test_links_lead_to_files() -> None:
    """The notebooks and the picture that the README shows are there."""
    links = [link for link in re.findall(r"\]\(([^)#][^)]*)\)", README) if "://" not in link]
    assert len(links) >= 5
    assert [link for link in links if not (ROOT / link).is_file()] == []


def test_ci_runs_the_two_commands() -> None:
    """The commands that the README promises are those that are checked from a clean checkout."""
    commands = [line for block in blocks("sh") for line in block.splitlines()]
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    wanted = re.findall(r'^from_readme "(.*)"$', script, re.MULTILINE)
    assert len(commands) == 2
    assert [sum(text in line for line in README.splitlines()) for text in wanted] == [1, 1]
    assert [text in command for text, command in zip(wanted, commands, strict=True)] == [True, True]


def test_the_example_script_runs(tmp_path: Path) -> None:
    """The script of examples writes its files and prints its counts."""
    script = ROOT / "notebooks" / "example_usage.py"
    done = subprocess.run(
        [sys.executable, script, tmp_path], stdout=subprocess.PIPE, encoding="utf-8", check=True
    )
    assert [line.split(":")[0] for line in done.stdout.splitlines()][:3] == [
        "with a schema",
        "without",
        "entries",
    ]
    assert sorted(path.name for path in tmp_path.glob("*.jsonl")) == [
        "rated.jsonl",
        "translated.jsonl",
    ]
