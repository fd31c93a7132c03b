"""What `batch-frames check` prints, and what its exit code says."""

import json
from pathlib import Path

import pytest

from tests.support.commands import COLUMN, WRITE, Done, run, write_requests

pytestmark = pytest.mark.usefixtures("folder")

TWICE = "the id is that of line 1, too"


def spoil(*ids: str) -> None:
    """Write requests to a file, each with one of these ids."""
    write_requests(*ids)
    lines = Path("requests.jsonl").read_text("utf-8").splitlines()
    pairs = zip(map(json.loads, lines), ids, strict=True)
    text = "".join(json.dumps({**line, "custom_id": own}) + "\n" for line, own in pairs)
    Path("requests.jsonl").write_text(text, encoding="utf-8")


def test_good_files_have_one_line() -> None:
    """Without problems, the summary is all that is printed."""
    assert run(*WRITE, *COLUMN).code == 0
    assert run("check", "out.jsonl") == Done(0, "no problems in 2 requests\n", "")


def test_a_table_is_no_request_file() -> None:
    """One sentence says so, in place of a problem for each line."""
    Path("t.csv").write_text("id,text\n1,x\n2,y\n", encoding="utf-8")
    assert run("check", "t.csv") == Done(
        1,
        "",
        "Error: t.csv: this is a table, not a request file; "
        "pass the .jsonl file that was made of it\n",
    )


def test_each_problem_is_a_line() -> None:
    """Errors come before warnings, each with its place, id and code, and the exit code is 1."""
    spoil("a", "b c", "a")
    code = "[duplicate_custom_id]"
    letters = "the id has other characters than letters, digits and '_.:|/-'"
    assert run("check", "requests.jsonl") == Done(
        1,
        f"requests.jsonl:3: error: {TWICE} (a) {code}\n"
        f"requests.jsonl:2: warning: {letters} (b c) [unusual_custom_id]\n"
        "1 error and 1 warning in 3 requests\n",
        "",
    )


def test_warnings_alone_are_no_failure() -> None:
    """Only what the service would refuse makes the exit code 1."""
    spoil("a b")
    done = run("check", "requests.jsonl")
    assert (done.code, done.out.splitlines()[-1]) == (0, "0 errors and 1 warning in 1 request")


def test_only_the_first_problems_are_printed() -> None:
    """Of many problems the first twenty are printed, and all are written."""
    spoil(*["a"] * 30)
    printed = run("check", "requests.jsonl").out.splitlines()
    assert len(printed) == 20 + 2
    assert printed[20] == "… and 10 more; -o table.csv writes them all"
    done = run("check", "requests.jsonl", "-o", "t.csv")
    assert done == Done(1, "t.csv         30 problems\n", "")
    assert len(Path("t.csv").read_text("utf-8").splitlines()) == 31


def test_problems_are_objects() -> None:
    """With --json each problem is an object in a line, and nothing else is on standard output."""
    spoil("a", "a")
    done = run("check", "requests.jsonl", "--json")
    assert (done.code, done.err) == (1, "1 problem\n")
    assert json.loads(done.out) == {
        "severity": "error",
        "code": "duplicate_custom_id",
        "file": "requests.jsonl",
        "line": 2,
        "custom_id": "a",
        "param": "custom_id",
        "message": TWICE,
    }


def test_standard_input_is_checked() -> None:
    """What another command writes can be checked as it comes."""
    spoil("a", "a")
    done = run("check", "-", read=Path("requests.jsonl").read_bytes())
    assert (done.code, done.err) == (1, "")
    assert done.out.splitlines()[0] == f"-:2: error: {TWICE} (a) [duplicate_custom_id]"


def test_a_missing_file_is_an_error() -> None:
    """A file that is not there is named."""
    assert run("check", "none.jsonl").err == "Error: no file 'none.jsonl'; check the path\n"
