"""Check and estimate requests from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batch_frames.cli.terminal import (
    check_output,
    file_of,
    json_option,
    output_option,
    plain_errors,
    renamed,
)
from batch_frames.display import counted

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["check", "estimate"]


SHOWN = 20
"""How many problems are printed."""


@click.command()
@click.argument("files", nargs=-1, required=True)
@output_option
@json_option
def check(files: tuple[str, ...], output: Path | None, as_json: bool) -> None:
    """Check request FILES for what the service would refuse, and for likely mistakes.

    Each problem is a line with its place, the id and the service's code where it has one. The exit
    code is 1 if the service would refuse something. - is standard input.

    \b
    Example:
      batch-frames check out/reviews.jsonl
    """
    from batch_frames.requests import check_requests

    with plain_errors(), file_of("-" if "-" in files else "", ".jsonl") as stdin:
        check_output(output)
        found = check_requests([stdin if name == "-" else name for name in files])
        requests, errors = found.attrs["requests"], int((found["severity"] == "error").sum())
        found = renamed(found, stdin)
        if output or as_json:
            from batch_frames.cli.tables import show_frame

            show_frame(found, found, output, as_json, noun="problem")
        else:
            _print_problems(found)
            counts = (counted(errors, "error"), counted(len(found) - errors, "warning"))
            problems = " and ".join(counts) if len(found) else "no problems"
            click.echo(f"{problems} in {counted(requests, 'request')}")
    if errors:
        raise click.exceptions.Exit(1)


def _print_problems(found: pd.DataFrame) -> None:
    texts = found.head(SHOWN).astype(object)
    for row in texts.where(texts.notna(), None).to_dict("records"):
        place = row["file"] if row["line"] is None else f"{row['file']}:{row['line']}"
        custom_id = "" if row["custom_id"] is None else f" ({row['custom_id']})"
        line = f"{place}: {row['severity']}: {row['message']}{custom_id} [{row['code']}]"
        click.echo(" ".join(line.split()))
    if len(found) > SHOWN:
        click.echo(f"… and {len(found) - SHOWN:,} more; -o table.csv writes them all")


@click.command()
@click.argument("files", nargs=-1, required=True)
@click.option(
    "--output-tokens", metavar="N|LOW-HIGH",
    help="Tokens of an answer; without it, at most what the requests allow.",
)  # fmt: skip
@click.option(
    "--pilot", multiple=True,
    help="Output file with results of some of the requests, whose mean is taken; repeatable.",
)  # fmt: skip
@click.option(
    "--price", "prices", multiple=True, metavar="MODEL=INPUT,OUTPUT",
    help="Dollars for a million input and output tokens of a model; repeatable.",
)  # fmt: skip
@click.option(
    "--tier", type=click.Choice(["batch", "flex", "priority", "standard"]), default="batch",
    show_default=True, help="What the requests are paid as.",
)  # fmt: skip
@click.option(
    "--max-enqueued-tokens", type=click.IntRange(1),
    help="Tokens that may be enqueued at once, for the days that the batches take.",
)  # fmt: skip
@output_option
@json_option
def estimate(
    files: tuple[str, ...], output_tokens: str | None, pilot: tuple[str, ...],
    prices: tuple[str, ...], output: Path | None, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Count the tokens of request files (FILES), and estimate what they cost.

    \b
    Example:
      batch-frames estimate out/reviews-*.jsonl --output-tokens 50-300
    """
    from batch_frames.cli.tables import print_estimate, show_frame
    from batch_frames.estimates import estimate
    from batch_frames.results import read_results

    with plain_errors():
        check_output(output)
        found = estimate(
            files,
            output_tokens=None if output_tokens is None else _range(output_tokens),
            pilot=read_results(list(pilot)) if pilot else None,
            prices=dict(map(_price, prices)) or None,
            **options,
        )
        if output or as_json:
            show_frame(found, found, output, as_json, noun="row")
            return
    print_estimate(found)


def _range(text: str) -> float | tuple[float, float]:
    low, dash, high = text.partition("-")
    try:
        return (float(low), float(high)) if dash else float(low)
    except ValueError:
        problem = f"--output-tokens {text!r} must be a number or a range, as in 50-300"
        raise click.UsageError(problem) from None


def _price(text: str) -> tuple[str, tuple[float, float]]:
    model, _, pair = text.rpartition("=")
    try:
        each, answer = map(float, pair.split(","))
    except ValueError:
        problem = f"--price {text!r} must be MODEL=INPUT,OUTPUT, as in my-model=0.05,0.25"
        raise click.UsageError(problem) from None
    return model, (each, answer)
