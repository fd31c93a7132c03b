"""What commands say when something is wrong, and their exit codes."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import click
import pytest

import batch_frames as bf
from batch_frames.cli import main, terminal
from batch_frames.errors import BatchFramesWarning
from tests.support.commands import CHATS, COLUMN, OUT, WRITE, Done, make_bad_files, run, run_process
from tests.support.marks import slow

pytestmark = pytest.mark.usefixtures("folder")

READ = ("read", "results.jsonl")
RETRY = ("retry", "--requests", "one.jsonl")
REQUESTS_ONLY = "these are request files; the options are for output and error files"
FIRST = len(CHATS.encode().split(b"\n")[0]) + 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("write", "none.csv", *OUT, *COLUMN), "no file 'none.csv'; check the path"),
        (("write", "none/*.pq", *OUT, *COLUMN), "no file 'none/*.pq'; check the path"),
        (
            (*WRITE, "--prompt-column", "reviews"),
            "'reviews.csv' has no column 'reviews'; did you mean 'review'?",
        ),
        (
            (*WRITE, "--prompt", "{tilte}"),
            "'reviews.csv' has no column 'tilte'; did you mean 'title'?",
        ),
        (
            (*WRITE[:4], "nr", *COLUMN),
            "'reviews.csv' has no column 'nr'; it has 'id', 'title', 'review'",
        ),
        (
            (*WRITE, "--prompt", "{title"),
            "fmt('{title'): the '{' at character 0 is not paired; "
            "write '{{' for the character itself",
        ),
        (
            ("write", "empty.csv", *OUT, *COLUMN),
            "'empty.csv' is empty; its first line must name the columns",
        ),
        (
            ("write", "null.csv", *OUT, *COLUMN),
            "row 1 (custom_id 'b'): column 'review' is null; drop the row or pass --na skip",
        ),
        (
            ("write", "twice.csv", *OUT, *COLUMN),
            "custom_id must be unique: 'a' in row 0 and row 2",
        ),
        (
            ("write", "latin.csv", *OUT, *COLUMN),
            "row 1 (custom_id 'b'): column 'review' is not valid UTF-8; "
            "read the file with its own encoding, or save it as UTF-8",
        ),
        (
            (*WRITE, *COLUMN, "--max-bytes", "100"),
            f"row 0 (custom_id '007'): the request is {FIRST} bytes, "
            "above the limit of 100 a file; shorten it",
        ),
        (
            ("write", "reviews.csv", "-", *OUT[1:], *COLUMN, "--max-requests", "1"),
            "the requests are above the limits of one file, and a pipe cannot be split; "
            "write to a path, or raise the limits",
        ),
        (
            ("write", "one.jsonl", *OUT, "--prompt-column", "review"),
            "'one.jsonl' is not a CSV file; make it one with pandas.read_json('one.jsonl', "
            "lines=True, dtype=False).to_csv('one.csv', index=False)",
        ),
        (
            (*WRITE, *COLUMN, "--system-prompt", "Rate {title}"),
            "system_prompt is plain text, and '{title}' in it names a column",
        ),
        (
            (*WRITE, "--prompt", "{title!r}"),
            "'reviews.csv' has no column 'title!r'; "
            "there are no formats such as '!r'; format a column first",
        ),
        (
            ("write", "reviews.csv", "out.json", *OUT[1:], *COLUMN),
            "'out.json' must end in .jsonl, as the service requires",
        ),
        (
            ("write", "reviews.csv", ".", *OUT[1:], *COLUMN),
            "'.' is a folder; name a file in it, as in 'out.jsonl'",
        ),
        (
            (*WRITE, *COLUMN, "--json-schema", "cut.json"),
            "'cut.json' is not JSON: Expecting value: line 1 column 9 (char 8)",
        ),
        (
            (*WRITE, *COLUMN, "--json-schema", "latin.json"),
            "'latin.json' is not UTF-8 at byte 4; save it as UTF-8",
        ),
        (
            (*WRITE, *COLUMN, "--json-schema", "list.json"),
            "a JSON schema must be an object, not [1]",
        ),
        ((*WRITE, *COLUMN, "--body", "top_p=NaN"), "body.top_p: nan is not a JSON value"),
        (
            (*WRITE, *COLUMN, "--endpoint", "chat/completions"),
            "endpoint 'chat/completions' is not a path; "
            "pass the part after the host, such as '/v1/chat/completions'",
        ),
        (
            (*WRITE, *COLUMN, "--endpoint", "/v1/embeddings", "--system-prompt", "S"),
            "system_prompt has no place in the body of '/v1/embeddings'; leave it out",
        ),
        (("read", "none.jsonl"), "no file 'none.jsonl'; check the path"),
        (("read", "cut.jsonl"), "cut.jsonl, line 2: not JSON: Expecting value at character 13"),
        (("read", "cut.jsonl", "-o", "t.xlsx"), "'t.xlsx' must end in .csv or .parquet"),
        (
            (*READ, "-o", "reviews.csv/new/t.csv"),
            "'reviews.csv' is a file, not a folder; choose another name",
        ),
        (
            ("read", "a.jobs.jsonl"),
            "'a.jobs.jsonl' is an old ledger of batches; "
            "name request files, or output and error files",
        ),
        (("read", "reviews.csv"), "reviews.csv, line 1: not JSON: Expecting value at character 0"),
        (
            ("read", "anthropic.jsonl"),
            "anthropic.jsonl, line 1: a result of Anthropic's Message Batches, "
            "not of the OpenAI Batch API; use Anthropic's SDK for it",
        ),
        (
            ("read", "mixed.jsonl"),
            "mixed.jsonl, line 2: a request, not a result; put requests in a file of their own",
        ),
        (
            (*READ, "--requests", "results.jsonl"),
            "results.jsonl, line 1: a result, not a request; read the file with batch-frames read",
        ),
        ((*READ, "--requests", "none/*.jsonl"), "no file 'none/*.jsonl'; check the path"),
        (
            (*READ, "--requests", "cut.jsonl"),
            "cut.jsonl, line 2: not JSON: Expecting value at character 13",
        ),
        (
            (*READ, "--json-schema", "cut.json"),
            "'cut.json' is not JSON: Expecting value: line 1 column 9 (char 8)",
        ),
        (
            (*READ, "--json-schema", "latin.json"),
            "'latin.json' is not UTF-8 at byte 4; save it as UTF-8",
        ),
        ((*READ, "--json-schema", "list.json"), "a JSON schema must be an object, not [1]"),
        (
            (*READ, "--json-schema", "array.json"),
            "json_schema: the root is not an object; make it a property of an object",
        ),
        *(
            (("read", "cut.jsonl", *options), REQUESTS_ONLY)
            for options in (
                ("--requests", "cut.jsonl"),
                ("--json-schema", "schema.json"),
                ("--join", "reviews.csv", "--id-column", "id"),
            )
        ),
        (
            (*READ, "--join", "reviews.csv", "--id-column", "nr"),
            "'reviews.csv' has no column 'nr'; it has 'id', 'title', 'review'",
        ),
        (
            (*READ, "--join", "reviews.parquet", "--id-column", "ids"),
            "'reviews.parquet' has no column 'ids'; did you mean 'id'?",
        ),
        (
            (*READ, "--join", "twice.csv", "--id-column", "id"),
            "custom_id must be unique: 'a' in row 0 and row 2",
        ),
        (
            (*READ, "--join", "model.csv", "--id-column", "id"),
            "the frame and the results both have 'model', 'file'; pass --prefix answer_",
        ),
        (
            (*READ, "--join", "model.csv", "--id-column", "id", "--prefix", "my_"),
            "the frame and the results both have 'my_line'; pass --prefix answer_",
        ),
        (
            (*READ, "--join", "parquet.csv", "--id-column", "id"),
            "'parquet.csv' is a Parquet file; its name must end in .parquet",
        ),
        (
            (*READ, "--join", "reviews.csv", "--id-column", "id", "-o", "./reviews.csv"),
            "'reviews.csv' would replace 'reviews.csv', which the rows come from; "
            "choose another name",
        ),
        (
            ("read", "nan.jsonl", "-o", "t.csv"),
            "row 1: column 'embedding' holds a value that is nan, which JSON cannot hold; "
            "write a .parquet file",
        ),
        (
            (*READ, "--join", "groups.parquet", "--id-column", "id", "-o", "t.csv"),
            "row 1: column 'data' holds a value that is inf, which JSON cannot hold; "
            "write a .parquet file",
        ),
        (
            (*READ, "--join", "bytes.parquet", "--id-column", "id", "-o", "t.csv"),
            "column 'data' holds binary values, which JSON cannot hold; "
            "make them text first, or write a .parquet file",
        ),
        ((*RETRY, "none.jsonl"), "no file 'none.jsonl'; check the path"),
        (
            ("retry", "results.jsonl", "--requests", "none.jsonl"),
            "no file 'none.jsonl'; check the path",
        ),
        (
            ("retry", "results.jsonl", "--requests", "results.jsonl"),
            "results.jsonl, line 1: a result, not a request; read the file with batch-frames read",
        ),
        (
            ("retry", "results.jsonl", "--requests", "cut.jsonl"),
            "cut.jsonl, line 2: not JSON: Expecting value at character 13",
        ),
        ((*RETRY, "one.jsonl"), "these are request files; name the output and error files"),
        (
            (*RETRY, "a.jobs.jsonl"),
            "'a.jobs.jsonl' is an old ledger of batches; "
            "name request files, or output and error files",
        ),
        (
            (*RETRY, "anthropic.jsonl"),
            "anthropic.jsonl, line 1: a result of Anthropic's Message Batches, "
            "not of the OpenAI Batch API; use Anthropic's SDK for it",
        ),
        *(
            (
                (*RETRY, "results.jsonl", "-o", name),
                f"'{name}' would replace '{name}', which the rows come from; choose another name",
            )
            for name in ("one.jsonl", "results.jsonl")
        ),
    ],
)
def test_errors_are_one_line(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    """What a user can mend is one line on stderr with exit code 1, and no file is left behind."""
    make_bad_files()
    before = sorted(path for path in folder.rglob("*") if path.is_file())
    assert run(*arguments) == Done(1, "", f"Error: {message}\n")
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == before


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("write", "junk.parquet", *OUT, *COLUMN), "junk.parquet"),
        (("write", "short.parquet", *OUT, *COLUMN), "short.parquet"),
        (("write", "damaged.parquet", *OUT, *COLUMN), "damaged.parquet"),
        ((*WRITE, *COLUMN, "--system-prompt-file", "latin.txt"), "latin.txt"),
        (("write", "packed.csv.gz", *OUT, *COLUMN), "packed.csv.gz"),
        (("read", "packed.jsonl.gz"), "packed.jsonl.gz"),
        (("read", "cut.jsonl.gz"), "cut.jsonl.gz"),
        (("read", "junk.parquet"), "junk.parquet"),
        ((*READ, "--requests", "packed.jsonl.gz"), "packed.jsonl.gz"),
        ((*READ, "--join", "packed.csv.gz", "--id-column", "id"), "packed.csv.gz"),
        ((*READ, "--join", "junk.parquet", "--id-column", "id"), "junk.parquet"),
        ((*RETRY, "packed.jsonl.gz"), "packed.jsonl.gz"),
        (("retry", "results.jsonl", "--requests", "cut.jsonl.gz"), "cut.jsonl.gz"),
    ],
)
def test_errors_of_other_libraries_name_the_file(arguments: tuple[str, ...], name: str) -> None:
    """A file that cannot be read at all is named in the one line that says why."""
    make_bad_files()
    damaged = bytearray(Path("reviews.parquet").read_bytes())
    damaged[20:60] = b"\xff" * 40
    Path("damaged.parquet").write_bytes(damaged)
    done = run(*arguments)
    assert (done.code, done.out) == (1, "")
    assert re.fullmatch(rf"Error: [^\n]*{re.escape(name)}[^\n]+\n", done.err), done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*WRITE[:3], *COLUMN), "Missing option '--id-column'."),
        (("read",), "name FILES, or --requests whose results are known"),
        ((*WRITE[:3], "--id", "id"), "No such option '--id'. Did you mean '--id-column'?"),
        (
            (*WRITE, "--prom", "x"),
            "No such option '--prom'. Did you mean '--prompt-column' or '--prompt'?",
        ),
        (
            (*WRITE, *COLUMN, "--json-schema", "json:Stars"),
            "Invalid value for '--json-schema': 'json:Stars': module 'json' has no attribute "
            "'Stars'",
        ),
        (
            (*WRITE, *COLUMN, "--json-schema", "no.module:Stars"),
            "Invalid value for '--json-schema': 'no.module:Stars': No module named 'no'",
        ),
        (("frobnicate",), "No such command 'frobnicate'."),
        (WRITE, "there is no prompt; pass --prompt-column or --prompt"),
        ((*WRITE, *COLUMN, "--prompt", "x"), "pass --prompt or --prompt-column, not both"),
        (
            (*WRITE, *COLUMN, "--system-prompt", "", "--system-prompt-file", "system.txt"),
            "pass --system-prompt or --system-prompt-file, not both",
        ),
        (
            (*WRITE, *COLUMN, "--system-prompt-file", "none.txt"),
            "Invalid value for '--system-prompt-file': File 'none.txt' does not exist.",
        ),
        (
            (*WRITE, *COLUMN, "--json-schema", "none.json"),
            "Invalid value for '--json-schema': File 'none.json' does not exist.",
        ),
        (
            (*WRITE, *COLUMN, "--body", "temperature"),
            "--body 'temperature' must be KEY=JSON, as in --body temperature=0.2",
        ),
        (
            (*WRITE, *COLUMN, "--body", "=1"),
            "--body '=1' must be KEY=JSON, as in --body temperature=0.2",
        ),
        (
            (*WRITE, *COLUMN, "--body", "user=ann"),
            "--body 'user=ann': the value is not JSON; text needs quotes, "
            "as in --body 'user=\"ann\"'",
        ),
        (
            (*WRITE, *COLUMN, "--body", "user={id}"),
            "--body 'user={id}': the value is not JSON; it is the same for all rows; "
            "only --prompt takes columns",
        ),
        (
            (*WRITE, "--prompt", "Hello"),
            "--prompt has no column in it; write {column}, or --prompt-column",
        ),
        (
            (*WRITE, *COLUMN, "--na", "drop"),
            "Invalid value for '--na': 'drop' is not one of 'raise', 'skip'.",
        ),
        (
            (*WRITE, *COLUMN, "--max-requests", "0"),
            "Invalid value for '--max-requests': 0 is not in the range x>=1.",
        ),
        (
            (*WRITE, *COLUMN, "--max-bytes", "1e6"),
            "Invalid value for '--max-bytes': '1e6' is not a valid integer range.",
        ),
        ((*READ, "--join", "reviews.csv"), "--join and --id-column need each other"),
        ((*READ, "--id-column", "id"), "--join and --id-column need each other"),
        ((*READ, "--prefix", "answer_"), "--prefix needs --join"),
        (
            (*READ, "--join", "none.csv", "--id-column", "id"),
            "Invalid value for '--join': File 'none.csv' does not exist.",
        ),
        (
            (*READ, "--json-schema", "none.json"),
            "Invalid value for '--json-schema': File 'none.json' does not exist.",
        ),
        ((*READ, "-o", "."), "Invalid value for '-o' / '--output': File '.' is a directory."),
        (("retry", "results.jsonl"), "Missing option '--requests'."),
        (
            (*RETRY, "results.jsonl", "-o", "."),
            "Invalid value for '-o' / '--output': File '.' is a directory.",
        ),
        (
            (*RETRY, "results.jsonl", "--status", "failed"),
            "Invalid value for '--status': 'failed' is not one of 'ok', 'truncated', 'refused', "
            "'filtered', 'invalid_json', 'http_error', 'expired', 'cancelled', 'missing', "
            "'malformed'.",
        ),
    ],
)
def test_wrong_usage_is_code_two(arguments: tuple[str, ...], message: str) -> None:
    """A command that was typed wrongly is told how it is used, and what is wrong."""
    done = run(*arguments)
    assert (done.code, done.out) == (2, "")
    usage, *_, error = done.err.splitlines()
    assert usage.startswith("Usage: batch-frames ")
    assert error == f"Error: {message}"
    assert not Path("out.jsonl").exists()


@pytest.mark.parametrize(
    ("command", "hint", "text"),
    [
        ("write", 'drop the row or pass na="skip"', "drop the row or pass --na skip"),
        ("write", "pass model=", "pass --model"),
        ("write", "wait for it, or pass overwrite=True", "wait for it, or pass --overwrite"),
        ("read", "check id_column=", "check --id-column"),
        ("read", "pass json_schema= for typed answers", "pass --json-schema for typed answers"),
        ("retry", "pass json_schema= for typed answers", None),
        ("read", 'pass prefix="a_", or columns= with some of them', "pass --prefix a_"),
        ("run-local", "start it, or correct base_url", "start it, or correct --base-url"),
        ("run", "retry_requests writes them again", "batch-frames retry writes them again"),
        ("read", "read it with read_results", "read it with batch-frames read"),
        ("write", "read it with from_parquet", None),
        ("wait", "go on, or save less with limits=bf.Limits(nbytes=1)", "go on"),
        (
            "wait",
            'call bf.wait(bf.load_jobs(["a_b.jobs.jsonl", "c d.jobs.jsonl"]))',
            "call batch-frames wait a_b.jobs.jsonl 'c d.jobs.jsonl'",
        ),
        ("read", "check model_answer and custom_id", "check model_answer and custom_id"),
    ],
)
@pytest.mark.parametrize("kind", [bf.BatchFramesError, BatchFramesWarning])
def test_hints_speak_of_options(
    kind: Callable[..., Exception], command: str, hint: str, text: str | None
) -> None:
    """A hint is translated, without what the command does not have; the message is untouched."""
    problem = "row 0: column 'na=\"skip\"' is null"
    with click.Context(main.commands[command]):
        shown = terminal._message(kind(problem, hint=hint))
        assert shown == problem + (f"; {text}" if text else "")
        assert terminal._message(kind(f"{problem}; {hint}")) == f"{problem}; {hint}"


SMILE = "\U0001f600"


@pytest.mark.parametrize(
    "command",
    [
        ("write", f"{SMILE}.csv", f"{SMILE}-new.jsonl", *WRITE[3:], *COLUMN),
        *(slow((name, f"{SMILE}.jsonl")) for name in ("read", "estimate")),
    ],
)
def test_a_terminal_without_emoji_shows_escapes(command: tuple[str, ...], folder: Path) -> None:
    """A console of Windows with its old code page makes no command fail."""
    (folder / f"{SMILE}.jsonl").write_text(CHATS, "utf-8")
    (folder / f"{SMILE}.csv").write_text("id,review\na,x\n", "utf-8")
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    done = run_process(*command, env=environment)
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
    assert rb"\U0001f600" in done.stdout + done.stderr
