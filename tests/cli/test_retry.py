"""What `batch-frames retry` writes and prints."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.commands import (
    FORMAT,
    IN_ORDER,
    OLD_LEDGER,
    RESULTS,
    SENT,
    Done,
    answer,
    expired,
    http_error,
    put,
    put_results,
    request,
    result,
    run,
    run_process,
)

pytestmark = pytest.mark.usefixtures("folder")


def put_a_large_batch() -> None:
    """Write 50,000 requests and their results, of which 880 went wrong."""
    line = request("ID")
    put("sent.jsonl", *(line.replace("ID", f"r{n}") for n in range(50_000)))
    good = result("ID", 200, {"choices": [{"message": {"content": "x"}}]})
    put("output.jsonl", *(good.replace("ID", f"r{n}") for n in range(49_120)))
    late = [expired(f"r{n}") for n in range(49_120, 49_920)]
    many = [http_error(f"r{n}", "rate_limit_exceeded", "y") for n in range(49_920, 49_992)]
    long = [http_error(f"r{n}", "context_length_exceeded", "y") for n in range(49_992, 50_000)]
    put("errors.jsonl", *long, *late, *many)


def test_a_large_batch_is_summed_up_and_retried() -> None:
    """One line tells how the 50,000 requests of a batch fared; what failed goes into a new file."""
    put_a_large_batch()
    done = run(*RESULTS, "--requests", "sent.jsonl", "-o", "t.parquet")
    assert done == Done(
        0,
        "t.parquet     50,000 results\n49,120 ok, 800 expired, "
        "80 http_error (72× rate_limit_exceeded, 8× context_length_exceeded)\n",
        "",
    )
    ids = pq.read_table("t.parquet", columns=["custom_id"])["custom_id"]
    assert ids.to_pylist() == [f"r{n}" for n in range(50_000)]
    lines = Path("sent.jsonl").read_bytes().splitlines(keepends=True)
    size = sum(map(len, lines[49_120:]))
    done = run("retry", *RESULTS[1:], "--requests", "sent.jsonl")
    printed = f"sent.round-2.jsonl        880 requests  {size / 1000:>6.1f} kB\n"
    assert done == Done(0, printed, "")
    assert Path("sent.round-2.jsonl").read_bytes() == b"".join(lines[49_120:])


def retried(*arguments: str) -> tuple[Done, dict[str, str]]:
    """Run retry, and give the files that it made, with their text, without those of the record."""

    def files() -> set[Path]:
        found = (path for path in Path().rglob("*") if path.is_file())
        return {path for path in found if ".batch_frames" not in path.parts}

    before = files()
    done = run("retry", *arguments)
    made = sorted(files() - before)
    return done, {str(path): path.read_text(encoding="utf-8") for path in made}


def listed(name: str, text: str) -> Done:
    """Say what is printed of one file, of less than 1,000 bytes."""
    count = len(text.splitlines())
    noun = f"{count:>9,} request{'' if count == 1 else 's'}"
    return Done(0, f"{name}  {noun}  {len(text.encode())} bytes\n", "")


@pytest.mark.parametrize(
    ("files", "requests", "name"),
    [
        (("output.jsonl", "errors.jsonl"), ("sent.jsonl",), "sent.round-2.jsonl"),
        (("*t.jsonl", "er*.jsonl", "empty.jsonl"), ("sent.jsonl",), "sent.round-2.jsonl"),
        (("sent.jsonl", *RESULTS[1:], "a.jobs.jsonl"), ("sent.jsonl",), "sent.round-2.jsonl"),
        ((".",), ("sent.jsonl",), "sent.round-2.jsonl"),
        (RESULTS[1:], ("out/part-0000*.jsonl",), "out/part.round-2.jsonl"),
        (RESULTS[1:], ("out/part-00001.jsonl", "out/part-00002.jsonl"), "out/part.round-2.jsonl"),
        (RESULTS[1:], ("packed.jsonl.gz",), "packed.round-2.jsonl"),
        (RESULTS[1:], ("sent.jsonl", "out/part-00001.jsonl"), "sent.round-2.jsonl"),
    ],
)
def test_retry_names_the_next_round(
    files: tuple[str, ...], requests: tuple[str, ...], name: str
) -> None:
    """The file of a round stands beside the requests; among FILES only results are read."""
    put_results()
    put("packed.jsonl.gz", *map(request, SENT))
    put("out/part-00001.jsonl", *map(request, SENT[:2]))
    put("out/part-00002.jsonl", *map(request, SENT[2:]))
    put("a.jobs.jsonl", OLD_LEDGER)
    put("empty.jsonl")
    wanted = request("b") + request("c")
    options = [word for path in requests for word in ("--requests", path)]
    assert retried(*files, *options) == (listed(name, wanted), {name: wanted})


def test_retry_goes_from_round_to_round() -> None:
    """Twice is as once; after the next results, a new file has what is still without an answer."""
    put_results()
    first, second = request("b") + request("c"), request("b")
    arguments = (*RESULTS[1:], "--requests", "sent.jsonl")
    name = "sent.round-2.jsonl"
    assert retried(*arguments) == (listed(name, first), {name: first})
    assert retried(*arguments) == (listed(name, first), {})
    put("round-1.jsonl", answer("c", "At last."), http_error("b", "server_error", "Again."))
    name = "sent.round-3.jsonl"
    assert retried(*arguments, "round-1.jsonl", "sent.round-2.jsonl") == (
        listed(name, second),
        {name: second},
    )
    put("round-2.jsonl", answer("b", "Now."))
    everything = retried("*.jsonl", "--requests", "sent.jsonl")
    assert everything == (
        Done(
            0,
            "nothing to retry: every request has an answer or waits for one, or failed for good "
            "(see --permanent)\n",
            "",
        ),
        {},
    )


def test_retry_writes_to_the_file_it_is_given() -> None:
    """With ``-o`` the file has that name, in a folder that is made, and replaces an earlier one."""
    put_results()
    wanted = request("b") + request("c")
    arguments = (*RESULTS[1:], "--requests", "sent.jsonl", "-o", "new/again.jsonl")
    assert retried(*arguments) == (listed("new/again.jsonl", wanted), {"new/again.jsonl": wanted})
    put("errors.jsonl", expired("c"))
    put("more.jsonl", answer("b", "Fine."))
    assert run("retry", "more.jsonl", *arguments) == listed("new/again.jsonl", request("c"))
    assert Path("new/again.jsonl").read_text(encoding="utf-8") == request("c")


STATES = {
    "ok": answer("ok", '{"stars":5}'),
    "truncated": answer("truncated", "x", "length"),
    "refused": answer("refused", None, refusal="No."),
    "filtered": answer("filtered", "x", "content_filter"),
    "invalid_json": answer("invalid_json", "Five."),
    "http_error": http_error("http_error", "server_error", "x"),
    "expired": expired("expired"),
    "cancelled": expired("cancelled").replace("batch_expired", "batch_cancelled"),
    "missing": "",
}


@pytest.mark.parametrize(
    "statuses",
    [
        *((name,) for name in STATES if name != "ok"),
        *(("truncated", "missing"), ("malformed", "expired"), ("ok", "invalid_json")),
    ],
)
def test_statuses_say_what_is_sent_again(statuses: tuple[str, ...]) -> None:
    """Exactly the requests of the statuses named are written, in the order of their file."""
    put("sent.jsonl", *(request(name, response_format=FORMAT) for name in STATES))
    put("output.jsonl", *STATES.values())
    options = [word for status in statuses for word in ("--status", status)]
    wanted = "".join(request(n, response_format=FORMAT) for n in STATES if n in statuses)
    done, files = retried("output.jsonl", "--requests", "sent.jsonl", *options)
    assert files == {"sent.round-2.jsonl": wanted}
    assert (done.code, done.err) == (0, "")


ALL_ANSWERED = "every request has an answer or waits for one"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ((), f"{ALL_ANSWERED}, or failed for good (see --permanent)"),
        (("--permanent",), ALL_ANSWERED),
        (("--status", "filtered"), "no request is filtered"),
        (("--status", "refused", "--status", "ok"), "no request is refused or ok"),
        (("-o", "new.jsonl"), f"{ALL_ANSWERED}, or failed for good (see --permanent)"),
    ],
)
def test_nothing_to_retry_makes_no_file(options: tuple[str, ...], reason: str) -> None:
    """Where no request has one of the statuses, a line says so, and that is no error."""
    put("sent.jsonl", request("9"))
    put("output.jsonl", answer("9", "x", "length"))
    done = retried("output.jsonl", "--requests", "sent.jsonl", *options)
    assert done == (Done(0, f"nothing to retry: {reason}\n", ""), {})


def test_what_failed_for_good_is_retried_on_demand() -> None:
    """A request that the service refuses in any case is written with ``--permanent`` only."""
    put("sent.jsonl", request("b"), request("c"))
    put("errors.jsonl", http_error("b", "bad", "No.").replace("429", "400"), expired("c"))
    arguments = ("errors.jsonl", "--requests", "sent.jsonl")
    name, late, both = "sent.round-2.jsonl", request("c"), request("b") + request("c")
    assert retried(*arguments) == (listed(name, late), {name: late})
    Path(name).unlink()
    assert retried(*arguments, "--permanent") == (listed(name, both), {name: both})


def test_retry_splits_where_the_service_does() -> None:
    """Of more than 50,000 requests there are two files, listed with their total."""
    line = '{"custom_id":"ID","body":{}}\n'
    lines = [line.replace("ID", f"{n:>05}") for n in range(50_001)]
    put("one.jsonl", *lines[:30_000])
    put("two.jsonl", *lines[30_000:])
    put("output.jsonl", expired("00000"))
    requests = ("--requests", "one.jsonl", "--requests", "two.jsonl")
    done, files = retried("output.jsonl", *requests, "-o", "again.jsonl")
    assert files == {
        "again-00001.jsonl": "".join(lines[:50_000]),
        "again-00002.jsonl": lines[50_000],
    }
    assert done == Done(
        0,
        "again-00001.jsonl     50,000 requests     1.6 MB\n"
        "again-00002.jsonl          1 request   32 bytes\n"
        "total                 50,001 requests     1.6 MB\n",
        "",
    )


def test_retry_with_another_body() -> None:
    """``--body`` replaces a key or appends one, as JSON."""
    put_results()
    done, files = retried(*RESULTS[1:], "--requests", "sent.jsonl", "--body", "n=[1, 2]")
    assert done.code == 0
    lines = files["sent.round-2.jsonl"].splitlines()
    before = [json.loads(request(name)) for name in "bc"]
    assert list(map(json.loads, lines)) == [
        {**one, "body": {**one["body"], "n": [1, 2]}} for one in before
    ]
    done, files = retried("--requests", "sent.jsonl", "--body", "n")
    assert (done.code, files) == (2, {})
    assert "--body 'n' must be KEY=JSON, as in --body temperature=0.2" in done.err


@pytest.mark.slow
def test_a_process_reads_results_and_retries() -> None:
    """``python -m batch_frames`` prints and writes what the function does."""
    put_results()
    done = run_process(*RESULTS, "--requests", "sent.jsonl")
    assert (done.returncode, done.stdout, done.stderr) == (0, IN_ORDER.encode(), b"")
    done = run_process("retry", *RESULTS[1:], "--requests", "sent.jsonl")
    wanted = request("b") + request("c")
    printed = listed("sent.round-2.jsonl", wanted).out.encode()
    assert (done.returncode, done.stdout, done.stderr) == (0, printed, b"")
    assert Path("sent.round-2.jsonl").read_text(encoding="utf-8") == wanted
