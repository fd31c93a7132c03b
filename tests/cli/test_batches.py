"""Batches from the command line: what is done, printed, and said by the exit code."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pandas as pd
import pytest
from click.testing import CliRunner

import batch_frames as bf
from batch_frames import progress
from batch_frames.batches import client as service
from batch_frames.batches import local_calls as livecalls
from batch_frames.cli import main
from tests.service.server import BatchServer, reply
from tests.support.commands import NAMES


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty folder, with short pauses, without bars and without a key."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(progress, "DELAY", 60)
    monkeypatch.setattr(service, "FIRST_PAUSE", 0.002)
    monkeypatch.setattr(livecalls, "PAUSE", 0.01)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchServer]:
    """Have a service, which the environment points at."""
    with BatchServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "test")
        yield server


def save(count: int = 4, per_shard: int = 2) -> None:
    """Write request files."""
    creator = bf.BatchCreator("m", None, system_prompt=None, seed=None)
    for number in range(count):
        creator.add_entry(f"r{number}", f"Say {number}.")
    creator.save_to_file("out/reviews.jsonl", limits=bf.Limits(requests=per_shard))


def run(*arguments: str) -> tuple[int, str]:
    """Run a command in this process, and give its exit code and all that it prints."""
    done = CliRunner().invoke(main, arguments, prog_name="batch-frames", catch_exceptions=False)
    return done.exit_code, done.output


def table(text: str) -> list[list[str]]:
    """Take a printed table apart."""
    return [re.split(r"\s{2,}", line) for line in text.splitlines()]


def test_the_whole_way(server: BatchServer) -> None:
    """Each verb prints a table, and ends with 0 as long as all is well."""
    save()
    code, text = run("submit", "out/reviews-*.jsonl", "--metadata", "project=tea")
    one, two = (batch.id for batch in server.batches)
    assert (code, table(text)) == (
        0,
        [
            ["reviews-00001.jsonl", one, "validating", "0 of 2"],
            ["reviews-00002.jsonl", two, "validating", "0 of 2"],
        ],
    )
    assert server.batches[0].metadata is not None
    assert server.batches[0].metadata["project"] == "tea"
    code, text = run("status", "out/reviews.jsonl")
    head, first, second = table(text)
    assert code == 0
    assert head == ["shard", "batch", "status", "completed", "failed", "total", "age", "expires"]
    assert first[:6] == ["reviews-00001.jsonl", one, "in_progress", "0", "0", "2"]
    assert re.fullmatch(r"\d\d:\d\d:\d\d", first[6])
    assert re.fullmatch(r"\d\d-\d\d \d\d:\d\d UTC", first[7])
    assert second[1] == two
    code, text = run("wait", "out/reviews.jsonl", "--poll", "0.01")
    assert (code, [row[2:] for row in table(text)]) == (0, [["completed", "2 of 2"]] * 2)
    code, text = run("download", "out")
    files = sorted(Path("out").glob("*.output.jsonl"))
    assert len(files) == 2
    assert [row[0] for row in table(text)] == [str(file) for file in files]
    assert code == 0


def test_run_does_it_all_and_writes_a_table(server: BatchServer) -> None:
    """One command goes from request files to a table; again, it has nothing to do."""
    save()
    code, text = run("run", "out/reviews-*.jsonl", "--poll", "0.01", "-o", "t.parquet")
    assert (code, text) == (0, "t.parquet          4 rows\n4 ok\n")
    frame = pd.read_parquet("t.parquet")
    assert list(frame["content"]) == [f"You said: Say {n}." for n in range(4)]
    log = list(server.requests_log)
    code, text = run("run", "out/reviews-*.jsonl")
    assert code == 0
    assert [row.split()[:2] for row in text.splitlines()[1:-1]] == [
        [f"r{n}", "ok"] for n in range(4)
    ]
    assert server.requests_log == log


def test_what_is_printed_of_failures(server: BatchServer) -> None:
    """A failed validation is one line on what is wrong, and the exit code 1."""
    save()
    path = Path("out/reviews-00002.jsonl")
    broken = {"custom_id": "r2", "method": "POST", "url": "/v1/chat/completions", "body": {}}
    path.write_text(json.dumps(broken) + "\n", encoding="utf-8")
    code, text = run("submit", "out")
    assert (code, text) == (
        1,
        "Error: the service would refuse reviews-00002.jsonl, line 1 (custom_id 'r2'): there is "
        "no 'body.model' [missing_required_parameter]; reviews-00002.jsonl, line 1 (custom_id "
        "'r2'): there is no 'body.messages' [missing_required_parameter]; correct the requests, "
        "or pass --no-check to send them as they are\n",
    )
    assert run("submit", "out", "--no-check")[0] == 0
    code, text = run("wait", "out/reviews.jsonl", "--poll", "0.01")
    said = server.batches[1].errors[0]
    assert (code, text) == (
        1,
        "Error: 1 batch failed at validation: reviews-00002.jsonl, line 1 (custom_id 'r2'): "
        f"{said['message']} [{said['code']}]; correct the requests, save and submit them again\n",
    )
    code, text = run("status", "out")
    assert code == 1
    assert "line 1 (custom_id 'r2')" in text.splitlines()[2]
    code, text = run("download", "out")
    assert code == 1
    assert [row[0] for row in table(text)] == ["out/reviews-00001.output.jsonl"]


@pytest.mark.parametrize("ending", ["expired", "cancelled"])
def test_an_unhappy_end_is_an_exit_code(server: BatchServer, ending: str) -> None:
    """What expired or was cancelled is not well, though its files are there."""
    save(per_shard=9)
    server.settings.endings["reviews.jsonl"] = ending if ending == "expired" else "in_progress"
    assert run("submit", "out")[0] == 0
    if ending == "cancelled":
        code, text = run("cancel", "out")
        assert (code, table(text)[0][2]) == (0, "cancelling")
    for verb in (["wait", "--poll", "0.01"], ["status"], ["download"], ["run"]):
        assert run(verb[0], "out/reviews.jsonl", *verb[1:])[0] == 1, verb


def test_a_wait_that_takes_too_long(server: BatchServer) -> None:
    """A timeout is one line and the exit code 1."""
    save(per_shard=9)
    server.settings.endings["reviews.jsonl"] = "in_progress"
    run("submit", "out")
    code, text = run("wait", "out", "--timeout", "0.05", "--poll", "0.01")
    assert code == 1
    assert text.startswith("Error: 1 of 1 batch still running after 0.05 seconds")


def test_watching_shows_the_table_until_all_has_ended(server: BatchServer) -> None:
    """The live table is drawn at each look."""
    save(per_shard=9)
    run("submit", "out")
    code, text = run("status", "out", "--watch", "--poll", "0.01")
    assert code == 0
    drawn = [row[2] for row in table(text) if row[0] == "reviews.jsonl"]
    assert drawn == ["in_progress", "finalizing", "completed"]


def test_run_local_from_the_command_line(server: BatchServer) -> None:
    """The first requests go to a live endpoint."""
    save(per_shard=9)
    code, text = run("run-local", "out", "--limit", "3", "--concurrency", "1")
    assert code == 0
    assert table(text)[0][0] == "out/reviews.local.output.jsonl"
    assert len(server.bodies) == 3


def test_address_and_key_may_be_options(
    server: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address needs no key; the name of a variable says where another key stands."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name)
    save(per_shard=9)
    assert run("run-local", "out", "--base-url", server.url, "--limit", "1")[0] == 0
    Path("out/reviews.local.output.jsonl").unlink()
    server.settings.key = "sk-334"
    monkeypatch.setenv("MY_KEY", "sk-334")
    key = ("--base-url", server.url, "--api-key-env", "MY_KEY")
    assert run("submit", "out", *key)[0] == 0
    assert run("wait", "out", "--poll", "0.01", *key)[0] == 0
    written = [path.read_bytes() for path in Path("out").rglob("*") if path.is_file()]
    assert any(b"completed" in text for text in written)
    assert not any(b"sk-334" in text for text in written)


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (
            ("status", "nowhere.jsonl"),
            1,
            "Error: no jobs in 'nowhere.jsonl'; submit the request files first",
        ),
        (
            ("wait", "out/reviews.jsonl"),
            1,
            "Error: 'out/reviews.jsonl' was not submitted; submit it first",
        ),
        (
            ("submit", "out", "--api-key-env", "NOWHERE"),
            2,
            "Error: the environment variable 'NOWHERE' is not set",
        ),
        (
            ("submit", "out", "--metadata", "tea"),
            2,
            "Error: --metadata 'tea' must be KEY=TEXT",
        ),
        (
            ("submit", "out", "--metadata", "batch_frames=1"),
            1,
            "Error: metadata: the key 'batch_frames' is reserved; choose another",
        ),
        (("run", "out", "-o", "t.txt"), 1, "Error: 't.txt' must end in .csv or .parquet"),
        (
            ("run", "t.csv", "out/r.jsonl", "--prompt", "{text}", "--model", "m"),
            2,
            "Error: a table needs --id-column, and the request file to make of it, as in "
            "'run reviews.csv out/reviews.jsonl --id-column id'",
        ),
        (
            ("run", "out", "--max-requests", "5"),
            2,
            "Error: --max-requests is for a table, not for request files",
        ),
    ],
)
def test_errors_are_one_line(arguments: tuple[str, ...], code: int, text: str) -> None:
    """What a user can mend is said in a line, without a traceback."""
    save(per_shard=9)
    done = run(*arguments)
    assert (done[0], done[1].splitlines()[-1]) == (code, text)


def test_the_services_errors_are_one_line_too(server: BatchServer) -> None:
    """What the SDK raises is shown as it says it."""
    save(per_shard=9)
    server.when("POST /files", "asked", reply(401, "No such key."))
    code, text = run("submit", "out")
    assert code == 1
    assert text.splitlines() == [line for line in text.splitlines() if line.startswith("Error: ")]
    assert "No such key." in text


def test_a_write_over_requests_in_flight_names_the_option(server: BatchServer) -> None:
    """What Python has as overwrite=True is --overwrite here."""
    Path("t.csv").write_text("id,text\na,hi\n", encoding="utf-8")
    write = ("write", "t.csv", "out.jsonl", "--id-column", "id", "--prompt-column", "text")
    assert run(*write, "--model", "m")[0] == 0
    assert run("submit", "out.jsonl")[0] == 0
    code, text = run(*write, "--model", "n")
    assert code == 1
    assert text.endswith("save under another name, or pass --overwrite\n")
    assert run(*write, "--model", "n", "--overwrite")[0] == 0


@pytest.mark.parametrize("more", [[], ["--base-url", "http://127.0.0.1:9/v1"]])
def test_without_the_sdk_the_command_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    """The extra is named, also where an address is given."""
    save(per_shard=9)
    monkeypatch.setitem(sys.modules, "openai", None)
    code, text = run("submit", "out", *more)
    assert code == 1
    assert text.endswith('needs the openai SDK; pip install "batch-frames[openai]"\n')


@pytest.mark.parametrize("name", NAMES)
def test_every_option_of_a_command_is_explained(name: str) -> None:
    """There is a line of help for each option."""
    command = main.commands[name]
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
    options = {option for parameter in command.params for option in parameter.opts}
    assert {"--base-url", "--api-key-env", "--json"} <= options


def test_examples_of_the_help_work(server: BatchServer) -> None:
    """What the help shows can be typed as it stands, where its files are."""
    save()
    Path("reviews.csv").write_text("id,review\nr0,Good.\n", encoding="utf-8")
    server.settings.polls = 0

    def type_in(name: str) -> None:
        _, text = run(*name.split(), "--help")
        example = text.split("Example:\n")[1].split("\n\n")[0].replace("\\\n", " ")
        for line in example.splitlines():
            arguments: list[Any] = shlex.split(line)[1:]
            if name == "run-local":
                arguments[-1] = server.url
                save(per_shard=9)
            assert run(*arguments)[0] == 0, line

    for name in ("submit", "wait", "status", "download", "cancel", "run", "run-local"):
        type_in(name)


def test_results_that_are_known_need_not_be_named(server: BatchServer) -> None:
    """All that came back for some requests is retried, and read, by the names of these alone."""
    save()
    server.settings.fail_every = 2
    requests = ("--requests", "out/reviews-*.jsonl")
    assert run("run", "out/reviews-*.jsonl", "--poll", "0.01")[0] == 1
    code, text = run("retry", *requests)
    assert (code, text.split()[:3]) == (0, ["out/reviews.round-2.jsonl", "2", "requests"])
    server.settings.fail_every = None
    assert run("run", "out/reviews.round-2.jsonl", "--poll", "0.01")[0] == 0
    none = "every request has an answer or waits for one, or failed for good (see --permanent)"
    assert run("retry", *requests) == (0, f"nothing to retry: {none}\n")
    code, text = run("read", *requests, "-o", "t.csv")
    assert (code, text.splitlines()[-1]) == (0, "4 ok")
    contents = list(pd.read_csv("t.csv")["content"])
    assert contents == [f"You said: Say {n}." for n in range(4)]


def test_uploads_are_deleted_on_demand(server: BatchServer) -> None:
    """Once their results are here, and not before they are asked for."""
    save(per_shard=9)
    for command in (["submit", "out"], ["wait", "out", "--poll", "0.01"], ["download", "out"]):
        assert run(*command)[0] == 0
    assert [file.deleted for file in server.uploads] == [False]
    code, text = run("download", "out", "--delete-input")
    assert (code, table(text)[0][0]) == (0, "out/reviews.output.jsonl")
    assert [file.deleted for file in server.uploads] == [True]


def test_a_service_that_is_not_reached_is_one_line() -> None:
    """Where nobody listens, a sentence says what to look at, and nothing is lost."""
    save()
    code, text = run("submit", "out/reviews-*.jsonl", "--base-url", "http://127.0.0.1:9/v1")
    assert (code, text) == (
        1,
        "Error: the service is not reached (Connection error.); check the network, or --base-url; "
        "what was done is noted\n",
    )


def test_a_run_with_unanswered_requests_ends_with_one(server: BatchServer) -> None:
    """All was done, but not all is well."""
    save()
    server.settings.fail_every = 2
    code, text = run("run", "out/reviews-*.jsonl", "--poll", "0.01")
    counted = "2 ok, 2 http_error (2× server_error)"
    assert (code, text.splitlines()[-2:]) == (
        1,
        [
            counted,
            f"Warning: 2 of 4 requests have no answer ({counted}); batch-frames retry writes them "
            "again",
        ],
    )
