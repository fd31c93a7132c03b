"""What `batch-frames estimate` prints and writes."""

import json
from pathlib import Path

import pytest

from batch_frames.prices import price_source
from tests.support.commands import CHAT, answer, run

pytestmark = pytest.mark.usefixtures("folder")

PRICE = ("--price", "m=2000,1_000_000")


def chats(name: str, *limits: int) -> None:
    """Save a request for each limit of its answer."""
    requests = [{"custom_id": f"r{limit}", "url": CHAT} for limit in limits]
    body = {"model": "m", "messages": [{"role": "user", "content": "Hello!"}]}
    lines = (
        {**r, "body": {**body, "max_tokens": n}} for r, n in zip(requests, limits, strict=True)
    )
    Path(name).write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_estimate_prints_a_table() -> None:
    """There is a line for each file and for the total, and what prices are from."""
    chats("a.jsonl", 10, 20)
    chats("b.jsonl", 1_000)
    done = run("estimate", "a.jsonl", "b.jsonl", *PRICE, "--max-enqueued-tokens", "9")
    assert done.out.splitlines() == [
        "file     requests  input tokens  counted    output tokens  cost                  days",
        "a.jsonl  2         18            estimated  0 to 30        $0.0360 to $30.04     2",
        "b.jsonl  1         9             estimated  0 to 1,000     $0.0180 to $1,000.02  1",
        "total    3         27            estimated  0 to 1,030     $0.0540 to $1,030.05  3",
        f"prices of {price_source()}, batch",
    ]
    done = run("estimate", "a.jsonl", *PRICE, "--output-tokens", "5")
    assert done.out.splitlines()[-2:] == [
        "total    2         18            estimated  10             $10.04",
        f"prices of {price_source()}, batch",
    ]


def test_estimate_writes_json_and_files() -> None:
    """All columns are printed as JSON, or written to a table."""
    chats("a.jsonl", 10)
    done = run("estimate", "a.jsonl", *PRICE, "--output-tokens", "2-3", "--json")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [(row["file"], row["output_low"], row["output_high"]) for row in rows] == [
        ("a.jsonl", 2, 3),
        ("total", 2, 3),
    ]
    run("estimate", "a.jsonl", *PRICE, "-o", "cost.csv")
    assert Path("cost.csv").read_text().splitlines()[0].startswith('"file","requests","nbytes"')


def test_estimate_takes_a_pilot() -> None:
    """The mean of the results of a pilot is that of the answers."""
    chats("a.jsonl", 100, 100)
    Path("pilot.output.jsonl").write_text("".join(answer(name, "Yes.") for name in "abc"))
    pilot = ("--pilot", "pilot.output.jsonl")
    [first, _] = run("estimate", "a.jsonl", *PRICE, *pilot, "--json").out.splitlines()
    assert json.loads(first)["output_tokens"] == 6


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (
            ("--output-tokens", "many"),
            "--output-tokens 'many' must be a number or a range, as in 50-300",
        ),
        (
            ("--price", "m=2"),
            "--price 'm=2' must be MODEL=INPUT,OUTPUT, as in my-model=0.05,0.25",
        ),
    ],
)
def test_wrong_options(arguments: tuple[str, str], problem: str) -> None:
    """A number or a price that is none is named."""
    chats("a.jsonl", 10)
    done = run("estimate", "a.jsonl", *arguments)
    assert (done.code, done.err.splitlines()[-1]) == (2, f"Error: {problem}")
