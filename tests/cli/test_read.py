"""What `batch-frames read` prints and writes."""

import csv
import os
import shutil
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import batch_frames as bf
from tests.support.commands import (
    IN_ORDER,
    OLD_LEDGER,
    RESULTS,
    ROWS_OF_RESULTS,
    SENT,
    SUMMARY,
    Done,
    answer,
    assert_table,
    embedding,
    http_error,
    make_bad_files,
    put,
    put_results,
    request,
    result,
    row,
    run,
    table,
    write_requests,
)
from tests.support.marks import slow

pytestmark = pytest.mark.usefixtures("folder")


def test_read_prints_a_table() -> None:
    """Without an output the requests are printed with how many they are."""
    write_requests("Fine", "two\nlines")
    assert run("read", "requests.jsonl") == Done(
        0,
        "custom_id model system_prompt user_prompt\n"
        "      000     m             S        Fine\n"
        "      001     m             S  two\\nlines\n"
        "2 requests\n",
        "",
    )


def test_read_counts_one_request() -> None:
    """A single request is counted in the singular."""
    write_requests("Fine")
    assert run("read", "requests.jsonl").out.splitlines()[-1] == "1 request"


def test_read_prints_only_the_first_rows() -> None:
    """Of many requests the first twenty are printed, and what is left is said."""
    write_requests(*(f"prompt {n}" for n in range(1_234)))
    printed = run("read", "requests.jsonl").out.splitlines()
    assert len(printed) == 1 + 20 + 2
    assert printed[20].split() == ["0019", "m", "S", "prompt", "19"]
    assert printed[21:] == ["… and 1,214 more; -o table.csv writes them all", "1,234 requests"]


ODD = [
    "Fine",
    "two\nlines",
    "a\rb",
    "a\r\nb",
    'say "x"',
    "x,y;z",
    " lead",
    "\ufeff茶 😀",
    "NA",
    "\0",
]


@pytest.mark.parametrize("name", ["t.parquet", "t.pq", "new/folder/t.parquet"])
def test_read_writes_parquet(name: str) -> None:
    """A Parquet file holds the columns of the DataFrame, text as text."""
    write_requests(*ODD, "")
    done = run("read", "requests.jsonl", "-o", name)
    assert done == Done(0, f"{name}         11 requests\n", "")
    expected = bf.read_requests("requests.jsonl")
    assert pq.read_table(name).to_pydict() == {
        column: expected[column].tolist() for column in expected.columns
    }
    assert [path.name for path in Path(name).parent.glob("*t.p*")] == [Path(name).name]


def test_read_writes_csv() -> None:
    """A CSV file holds all columns, read back by the standard library as they were."""
    write_requests(*ODD)
    done = run("read", "requests.jsonl", "-o", "t.csv")
    assert done == Done(0, "t.csv         10 requests\n", "")
    with Path("t.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    expected = bf.read_requests("requests.jsonl").astype(str)
    assert list(rows[0]) == list(expected.columns)
    assert [row["user_prompt"] for row in rows] == ODD
    assert rows == expected.to_dict("records")


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
@pytest.mark.parametrize("prompts", [ODD, ["", "x"]], ids=["odd", "empty"])
def test_what_read_writes_can_be_written_again(name: str, prompts: list[str]) -> None:
    """The table of a file's requests makes the same file again, byte for byte."""
    write_requests(*prompts)
    assert run("read", "requests.jsonl", "-o", name).code == 0
    options = ("--prompt-column", "user_prompt", "--system-prompt", "S", "--model", "m")
    done = run("write", name, "again.jsonl", "--id-column", "custom_id", *options)
    assert (done.code, done.err) == (0, "")
    assert Path("again.jsonl").read_bytes() == Path("requests.jsonl").read_bytes()


def test_read_takes_many_files() -> None:
    """Files, globs and folders are read one after the other; a file named twice is read once."""
    Path("more").mkdir()
    write_requests("a")
    for name in ("more/1.jsonl", "more/2.jsonl"):
        Path(name).write_bytes(Path("requests.jsonl").read_bytes())
    arguments = ("requests.jsonl", "more", "more/*.jsonl", "-o", "t.csv")
    assert run("read", *arguments) == Done(0, "t.csv          3 requests\n", "")
    with Path("t.csv").open(encoding="utf-8", newline="") as file:
        names = [Path(row["file"]).name for row in csv.DictReader(file)]
    assert names == ["requests.jsonl", "1.jsonl", "2.jsonl"]


def test_read_leaves_an_earlier_table_when_it_fails() -> None:
    """A table that stands is replaced by a whole one, or not at all."""
    make_bad_files()
    write_requests("a")
    assert run("read", "requests.jsonl", "-o", "t.csv").code == 0
    earlier = Path("t.csv").read_bytes()
    assert run("read", "cut.jsonl", "-o", "t.csv").code == 1
    assert Path("t.csv").read_bytes() == earlier
    write_requests("a", "b")
    assert run("read", "requests.jsonl", "-o", "t.csv").code == 0
    assert [row["user_prompt"] for row in table("t.csv")] == ["a", "b"]


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_read_replaces_only_what_an_earlier_read_wrote(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of the user's stays, and so does a table that they changed, if only in one place."""
    write_requests("a")
    refused = Done(
        1,
        "",
        f"Error: '{name}' was not saved by an earlier call; move it away, or save under another "
        "name\n",
    )
    read = ("read", "requests.jsonl", "-o", name)
    put(name, "notes")
    assert run(*read) == refused
    assert Path(name).read_text("utf-8") == "notes"
    Path(name).unlink()
    for _ in range(2):
        assert run(*read).code == 0
    written = Path(name).read_bytes()
    changed = written.replace(b"a", b"b", 1)
    Path(name).write_bytes(changed)
    assert run(*read) == refused
    assert Path(name).read_bytes() == changed
    Path(name).write_bytes(written)
    shutil.copytree(folder, folder / "copied")
    monkeypatch.chdir("copied")
    assert run(*read).code == 0


def test_run_refuses_to_replace_a_file_before_it_sends() -> None:
    """And not once the answers are paid for: here the service would not be reached."""
    write_requests("a")
    put("t.csv", "notes")
    done = run("run", "requests.jsonl", "-o", "t.csv", "--base-url", "http://127.0.0.1:9/v1")
    assert (done.code, done.err) == (
        1,
        "Error: 't.csv' was not saved by an earlier call; move it away, or save under another "
        "name\n",
    )
    assert Path("t.csv").read_text("utf-8") == "notes"


def test_read_of_an_empty_file_counts_none() -> None:
    """A file without requests is no error."""
    Path("none.jsonl").write_bytes(b"")
    done = run("read", "none.jsonl")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[-1] == "0 requests"


def test_read_prints_results() -> None:
    """The rows of output and error files are printed, what is missing blank, and summed up."""
    put_results()
    assert run(*RESULTS) == Done(
        0,
        "custom_id     status    content error_message\n"
        '        9         ok Say "é"\\n,              \n'
        "      007  truncated   Good, bu              \n"
        "        b http_error               Slow down.\n"
        "        c    expired                Too late.\n" + SUMMARY,
        "",
    )


@pytest.mark.parametrize(
    "arguments",
    [
        (*RESULTS, "--requests", "sent.jsonl"),
        ("read", "errors.jsonl", "output.jsonl", "--requests", "sent.jsonl"),
        (*RESULTS, "sent.jsonl"),
        (*RESULTS, "sent.jsonl", "--requests", "sent.jsonl"),
        ("read", "sent.jsonl", *RESULTS[1:], "a.jobs.jsonl"),
        (*RESULTS, *RESULTS[1:], "sent.jsonl", "empty.jsonl"),
        (*RESULTS, "--requests", "parts/1.jsonl", "--requests", "parts/2.jsonl.gz"),
        (*RESULTS, "--requests", "parts/*"),
        (*RESULTS, "--requests", "parts"),
        (*RESULTS, "parts/1.jsonl", "--requests", "sent.jsonl"),
        ("read", "."),
        ("read", "*.jsonl"),
        ("read", "[eos]*.jsonl"),
    ],
)
def test_requests_may_be_given_in_every_way(arguments: tuple[str, ...]) -> None:
    """Request files are named by an option or lie among the others; each request has its row."""
    put_results()
    put("parts/1.jsonl", *map(request, SENT[:2]))
    put("parts/2.jsonl.gz", *map(request, SENT[2:]))
    put("a.jobs.jsonl", OLD_LEDGER)
    put("empty.jsonl")
    assert run(*arguments) == Done(0, IN_ORDER, "")


def test_results_may_be_packed() -> None:
    """Gzip makes no difference."""
    put_results()
    for name in ("output.jsonl", "errors.jsonl"):
        put(f"{name}.gz", Path(name).read_text(encoding="utf-8"))
    packed = ("read", "output.jsonl.gz", "errors.jsonl.gz", "--requests", "sent.jsonl")
    assert run(*packed) == Done(0, IN_ORDER, "")


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "new/t.pq"])
def test_results_are_written_whole(name: str) -> None:
    """A file has all columns, and each value as it came."""
    put_results()
    done = run(*RESULTS, "--requests", "sent.jsonl", "-o", name)
    assert done == Done(0, f"{name}          4 results\n{SUMMARY}", "")
    assert_table(name, list(ROWS_OF_RESULTS.values()))
    hidden = [path.name for path in Path(name).parent.iterdir() if path.name[0] == "."]
    assert hidden == [".batch_frames"]


def test_results_without_an_id_are_rows_too() -> None:
    """Junk has its rows where no requests are named; with them, one line says what was left out."""
    put_results()
    put("junk.jsonl", "<<<<<<< HEAD\n\n", answer("9", "x")[:30] + "\n", "null")
    done = run("read", "errors.jsonl", "junk.jsonl", "-o", "t.csv")
    assert done == Done(
        0,
        "t.csv          5 results\n3 malformed, 1 http_error (1× rate_limit_exceeded), 1 expired\n",
        "Warning: none of the 3 lines of 'junk.jsonl' is a result; pass output and error files\n",
    )
    problems = (
        "not JSON: Expecting value at character 0",
        "not JSON: Unterminated string starting at character 22",
        "the line is null, not an object",
    )
    junk = [
        row(None, "malformed", error_message=problem, file="junk.jsonl", line=line)
        for problem, line in zip(problems, (1, 3, 4), strict=True)
    ]
    assert_table("t.csv", [ROWS_OF_RESULTS["b"], ROWS_OF_RESULTS["c"], *junk])
    assert run(*RESULTS, "junk.jsonl", "sent.jsonl") == Done(
        0,
        IN_ORDER,
        "Warning: dropped 3 results that are malformed: "
        "junk.jsonl, line 1, junk.jsonl, line 3, junk.jsonl, line 4\n",
    )


@pytest.mark.parametrize(
    ("files", "warning"),
    [
        (
            {"more.jsonl": answer("9", "Old.", "length") + http_error("c", "x", "y")},
            "dropped 2 results superseded by a better or later one with the same custom_id: "
            "'c' in errors.jsonl, line 2, '9' in more.jsonl, line 1",
        ),
        (
            {"more.jsonl": answer("z", "Not asked for.")},
            "dropped 1 result without a request: 'z' in more.jsonl, line 1",
        ),
        (
            {"sent-2.jsonl": request("9", response_format={"json_schema": {"schema": {}}})},
            "the requests do not all ask for the same schema; pass --json-schema for typed answers",
        ),
    ],
)
def test_warnings_are_one_line(files: dict[str, str], warning: str) -> None:
    """What does not fit is said on stderr, in one line that names options as they are here."""
    put_results()
    for name, text in files.items():
        put(name, text)
    done = run(*RESULTS, "sent.jsonl", *files)
    assert (done.code, done.err) == (0, f"Warning: {warning}\n")


def test_a_better_result_wins_over_a_later_file() -> None:
    """Of two results of a request the row is that of the better one, as in Python."""
    put_results()
    put("again.jsonl", answer("b", "Fine."), answer("c", "Fine."), http_error("9", "x", "y"))
    done = run(*RESULTS, "again.jsonl", "sent.jsonl", "-o", "t.csv")
    assert done.out == "t.csv          4 results\n3 ok, 1 truncated\n"
    assert [(r["custom_id"], r["file"]) for r in table("t.csv")] == [
        *(("007", "output.jsonl"), ("9", "output.jsonl")),
        *(("b", "again.jsonl"), ("c", "again.jsonl")),
    ]


def test_an_empty_error_file_is_no_request_file() -> None:
    """A service may write an error file without a line, which changes nothing."""
    put_results()
    put("empty.jsonl")
    plain = run(*RESULTS)
    assert run(*RESULTS, "empty.jsonl") == run("read", "empty.jsonl", *RESULTS[1:]) == plain
    missing = "custom_id  status\n      007 missing\n        9 missing\n"
    put("two.jsonl", *map(request, SENT[:2]))
    alone = ("read", "empty.jsonl", "--requests", "two.jsonl")
    assert run(*alone) == Done(0, f"{missing}2 missing\n", "")
    assert run("read", "empty.jsonl", "--json-schema", "schema.json") == Done(0, "no results\n", "")


def test_a_ledger_among_the_files_is_passed_over() -> None:
    """A shell's ``out/*`` names an old ledger too, which holds neither requests nor results."""
    put_results()
    put("a.jobs.jsonl", OLD_LEDGER)
    assert run(*RESULTS, "a.jobs.jsonl") == run(*RESULTS)
    assert run("read", "sent.jsonl", "a.jobs.jsonl") == run("read", "sent.jsonl")


MODERATION = {"flagged": True, "categories": {"hate": True}, "category_scores": {"hate": 0.5}}
CALLS = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        (
            embedding("a", [0.5, 1]) + embedding("b", [0, 2]),
            "custom_id status  embedding\n"
            "        a     ok [0.5, 1.0]\n"
            "        b     ok [0.0, 2.0]\n"
            "2 ok\n",
        ),
        (
            result("a", 200, {"id": "m", "model": "m", "results": [MODERATION]}),
            "custom_id status flagged    categories category_scores\n"
            '        a     ok    True {"hate":true}    {"hate":0.5}\n1 ok\n',
        ),
        (
            answer("a", None, "tool_calls", tool_calls=CALLS[:0])
            + answer("b", None, refusal="No."),
            "custom_id  status\n        a      ok\n        b refused\n1 ok, 1 refused\n",
        ),
        (
            result("a", 200, {"choices": [{"message": {"content": text}} for text in "xy"]}),
            f"custom_id status content{' ' * 49}choices\n"
            "        a     ok       x [{'status': 'ok', 'content': 'x', 'finish_reason': N...\n"
            "1 ok\n",
        ),
        (
            result("a", 200, {"object": "video", "seconds": 8}),
            "custom_id status                           body\n"
            '        a     ok {"object":"video","seconds":8}\n'
            "1 ok\n",
        ),
        (
            answer("a", "word " * 40),
            "custom_id status                                                         content\n"
            "        a     ok word word word word word word word word word word word word ...\n"
            "1 ok\n",
        ),
    ],
    ids=["embeddings", "moderations", "refusals", "choices", "others", "long"],
)
def test_what_an_endpoint_answers_is_shown(text: str, printed: str) -> None:
    """The table has the columns in which there is something, and is as wide as the terminal."""
    put("output.jsonl", text)
    assert run("read", "output.jsonl") == Done(0, printed, "")


@pytest.mark.parametrize("width", [30, 60, 200])
def test_a_table_fits_the_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long texts are shortened until a row fits in one line, and no further than that."""
    monkeypatch.setenv("COLUMNS", str(width))
    put("output.jsonl", answer("a", "x" * 1_000), answer("b", "y" * 150))
    header, first, second, summary = run("read", "output.jsonl").out.splitlines()
    text = width - len("custom_id status ")
    shown = "y" * 150 if text >= 150 else "y" * (text - 3) + "..."
    assert first == "        a     ok " + "x" * (text - 3) + "..."
    assert second == "        b     ok " + shown.rjust(text)
    assert (header, summary) == ("custom_id status " + "content".rjust(text), "2 ok")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit for the size of files")
@pytest.mark.parametrize("name", ["t.parquet", slow("t.csv"), "new/t.csv"])
def test_a_write_that_fails_leaves_what_stood(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a file cannot become large enough, one line says so and no part of it is left."""
    import resource

    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    put("output.jsonl", *(answer(os.urandom(99).hex(), os.urandom(99).hex()) for _ in range(99)))
    if not name.startswith("new"):
        write_requests("a")
        assert run("read", "requests.jsonl", "-o", name).code == 0
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, limits[1]))
    try:
        done = run("read", "output.jsonl", "-o", name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (done.code, done.out) == (1, "")
    assert done.err == f"Error: [Errno 27] File too large: '{name}'\n"
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_read_that_fails_leaves_what_stood(folder: Path) -> None:
    """No table, and no folder for it, is made before all is read and joined."""
    put_results()
    put("mixed.jsonl", answer("9", "x"), request("9"))
    assert run(*RESULTS, "-o", "t.csv").code == 0
    earlier = Path("t.csv").read_bytes()
    before = sorted(folder.rglob("*"))
    for wrong in (("mixed.jsonl",), ("--join", "reviews.csv", "--id-column", "nr")):
        for name in ("t.csv", "new/t.csv"):
            assert run(*RESULTS, *wrong, "-o", name).code == 1
    assert sorted(folder.rglob("*")) == before
    assert Path("t.csv").read_bytes() == earlier
