"""The command line as a whole: its help, its options, and as a process."""

import os
import re
import shlex
from importlib.metadata import entry_points, version
from pathlib import Path

import click
import pyarrow.parquet as pq
import pytest

import batch_frames as bf
from batch_frames.cli import main
from tests.support.commands import (
    CHATS,
    COLUMN,
    OUT,
    WRITE,
    Done,
    answer,
    expired,
    run,
    run_process,
    write_requests,
)
from tests.support.commands import NAMES as COMMANDS_FOR_BATCHES
from tests.support.marks import slow

pytestmark = pytest.mark.usefixtures("folder")


def commands() -> dict[str, click.Command]:
    """List all commands with the words that call them."""
    return {"": main, **main.commands}


@pytest.mark.parametrize("name", commands())
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_has_an_example(name: str, option: str) -> None:
    """The help of every command shows how it is called."""
    done = run(*name.split(), option)
    assert (done.code, done.err) == (0, "")
    assert re.search(rf"^  Example:\n    batch-frames {name or 'run'} ", done.out, re.MULTILINE)


def test_examples_of_the_help_work() -> None:
    """What the help shows can be typed as it stands, where its files are."""
    Path("out").mkdir()
    assert run("write", "reviews.csv", "out/reviews.jsonl", *OUT[1:], *COLUMN).code == 0
    Path("out/reviews-00001.jsonl").write_bytes(Path("out/reviews.jsonl").read_bytes())
    Path("out/reviews.output.jsonl").write_text(answer("9", "1"), encoding="utf-8")
    Path("out/reviews.errors.jsonl").write_text(expired("007"), encoding="utf-8")
    ran = 0
    for name in ("read", "check", "retry", "", "write"):
        shown = run(*name.split(), "--help").out.replace("\n\n  The same step by step:", "")
        example = shown.split("Example:\n")[1].split("\n\n")[0]
        for line in example.replace("\\\n", " ").splitlines():
            program, *arguments = shlex.split(line)
            assert program == "batch-frames"
            if arguments[0] in COMMANDS_FOR_BATCHES:
                continue
            done = run(*arguments)
            assert (done.code, done.err) == (0, ""), line
            ran += 1
    assert ran == 10
    assert pq.read_table("requests.parquet").num_rows == 2
    assert pq.read_table("rated.parquet")["status"].to_pylist() == ["expired", "ok"]
    assert Path("rated.csv").exists()
    assert bf.read_requests("out/reviews.round-2.jsonl")["custom_id"].tolist() == ["007"]


TEMPLATE = {
    *("--id-column", "--prompt-column", "--prompt", "--model", "--system-prompt"),
    *("--system-prompt-file", "--json-schema", "--endpoint", "--body", "--reasoning-effort"),
    *("--na", "--dedupe"),
}
OPTIONS = {
    "write": {*TEMPLATE, "--max-requests", "--max-bytes", "--overwrite", "--json"},
    "check": {"--output", "--json"},
    "estimate": {
        *("--output-tokens", "--pilot", "--price", "--tier", "--max-enqueued-tokens", "--output"),
        "--json",
    },
    "plan": {*TEMPLATE, "--json"},
    "read": {
        *("--requests", "--json-schema", "--join", "--id-column", "--prefix", "--output"),
        "--json",
    },
    "retry": {"--requests", "--output", "--status", "--permanent", "--body", "--json"},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_is_explained(name: str) -> None:
    """A command has these options and no others, and each has a line of help."""
    options = [p for p in main.commands[name].params if isinstance(p, click.Option)]
    assert {o for option in options for o in option.opts if o.startswith("--")} == OPTIONS[name]
    assert all(option.help for option in options)


def test_every_command_has_its_options_listed() -> None:
    """The options of each command are listed either here or in the tests of those for batches."""
    assert sorted(main.commands) == sorted([*OPTIONS, *COMMANDS_FOR_BATCHES])


def test_version_is_the_package_s() -> None:
    """The version printed is the one that is installed."""
    installed = version("batch-frames")
    assert installed == bf.__version__
    assert run("--version") == Done(0, f"batch-frames, version {installed}\n", "")


def test_the_entry_point_is_the_group() -> None:
    """The command ``batch-frames`` that installing makes calls the same function."""
    (script,) = entry_points(group="console_scripts", name="batch-frames")
    assert script.load() is main


def test_a_process_writes_and_reads() -> None:
    """``python -m batch_frames`` writes files, whole tables and messages as the function does."""
    done = run_process(*WRITE, *COLUMN)
    size = len(CHATS.encode())
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == f"out.jsonl          2 requests  {size} bytes\n".encode()
    assert Path("out.jsonl").read_bytes() == CHATS.encode()
    done = run_process("read", "out.jsonl", "-o", "t.csv")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"t.csv          2 requests\n", b"")


def test_a_process_writes_to_a_pipe() -> None:
    """With ``-`` stdout has the bytes of the file and nothing else; the count is on stderr."""
    done = run_process("write", "reviews.csv", "-", *OUT[1:], *COLUMN)
    assert done.returncode == 0
    assert done.stdout == CHATS.encode()
    assert done.stderr == f"-          2 requests  {len(CHATS.encode())} bytes\n".encode()


def test_a_process_fails_without_a_traceback() -> None:
    """An error is told by words and exit code, never by a traceback."""
    done = run_process("read", "none.jsonl")
    error = b"Error: no file 'none.jsonl'; check the path\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", error)


@pytest.mark.parametrize(
    "arguments",
    [("read", "requests.jsonl"), slow(("write", "reviews.csv", "-", *OUT[1:], *COLUMN))],
)
def test_a_reader_that_has_gone_is_no_error(arguments: tuple[str, ...]) -> None:
    """A pipe that ``head`` closed ends the command in silence."""
    write_requests("Fine")
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = run_process(*arguments, stdout=pipe)
    assert (done.returncode, done.stderr) == (1, b"")
