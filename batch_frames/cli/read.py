"""Check, estimate and read files from the command line, and retry what lacks an answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batch_frames.cli.terminal import (
    EXISTING_FILE,
    NEW_FILE,
    body_key,
    check_csv,
    check_output,
    file_of,
    json_option,
    output_option,
    plain_errors,
    print_shards,
    read_schema,
    schema_option,
)
from batch_frames.display import counted

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["check", "estimate", "read", "retry"]


SHOWN = 20
"""How many problems are printed."""

REQUEST_COLUMNS = ("custom_id", "model", "system_prompt", "user_prompt")

UNANSWERED = ("http_error", "expired", "cancelled", "missing", "malformed")

# As in batch_frames.results, which loads pandas, but for "skipped", which has no request.
STATUSES = ("ok", "truncated", "refused", "filtered", "invalid_json", *UNANSWERED)


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
        found = _renamed(found, stdin)
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
@click.argument("files", nargs=-1)
@click.option(
    "--requests",
    multiple=True,
    help="Request file that was sent, or a glob; repeatable. Each request then has its row.",
)
@schema_option
@click.option(
    "--join",
    type=EXISTING_FILE,
    help="CSV or Parquet file that the requests were made from; its columns come first.",
)
@click.option(
    "--id-column", multiple=True, help="Column of --join with the custom_ids; repeatable."
)
@click.option("--prefix", default="", help="Prefix for the names of the results' columns.")
@output_option
@json_option
def read(files: tuple[str, ...], output: Path | None, as_json: bool, **options: Any) -> None:
    """Read FILES into a table: request files, or output and error files; - is standard input.

    Request files among output and error files are taken as --requests. With --requests and no
    FILES, all their results are read: of batches, of retries and of run-local.

    \b
    Example:
      batch-frames read out/reviews-*.jsonl -o requests.parquet
      batch-frames read --requests "out/reviews-*.jsonl" -o results.parquet
      batch-frames read out/reviews.output.jsonl out/reviews.errors.jsonl \\
          --requests out/reviews.jsonl --join reviews.csv --id-column id -o rated.parquet
    """
    from batch_frames.cli.tables import show_frame
    from batch_frames.requests import read_requests

    if bool(options["join"]) != bool(options["id_column"]):
        raise click.UsageError("--join and --id-column need each other")
    if options["prefix"] and not options["join"]:
        raise click.UsageError("--prefix needs --join")
    if not files and not options["requests"]:
        raise click.UsageError("name FILES, or --requests whose results are known")
    with plain_errors(), file_of("-" if "-" in files else "") as stdin:
        check_output(output, options["join"])
        kinds = _kinds([stdin if name == "-" else name for name in files]) if files else {}
        asked = [path for path, holds in kinds.items() if holds]
        answers = [path for path, holds in kinds.items() if not holds]
        if False in kinds.values() or (not asked and any(options.values())):
            join = {name: options.pop(name) for name in ("join", "id_column", "prefix")}
            if join["join"] and output and output.suffix == ".parquet" and not stdin:
                _join(answers if files else None, asked, output, as_json, **join, **options)
                return
            frame = _results(answers if files else None, asked, **options)
            _show_results(_renamed(frame, stdin), output, as_json, **join)
        elif any(options.values()):
            problem = "these are request files; the options are for output and error files"
            raise click.ClickException(problem)
        else:
            frame = _renamed(read_requests(kinds), stdin)
            shown = frame[list(REQUEST_COLUMNS)]
            show_frame(frame, shown, output, as_json, noun="request")


def _kinds(files: Sequence[str]) -> dict[Path, bool | None]:
    """Find out which files hold requests; old ledgers, which a glob catches too, are left out."""
    from batch_frames.files import ENDINGS, LEDGER, holds_requests, whole_files

    named = [name for name in files if not name.endswith(LEDGER)]
    if not named:
        problem = "is an old ledger of batches; name request files, or output and error files"
        raise click.ClickException(f"'{files[0]}' {problem}")
    return {path: holds_requests(path) for path in whole_files(named, ENDINGS)}


def _renamed(frame: pd.DataFrame, stdin: str) -> pd.DataFrame:
    """Name standard input, and not its copy, as the file of its lines."""
    return frame.assign(file=frame["file"].replace(stdin, "-")) if stdin else frame


def _results(
    paths: list[Path] | None, asked: list[Path], *, requests: tuple[str, ...], json_schema: Any
) -> pd.DataFrame:
    from batch_frames.results import read_results

    schema, sent = read_schema(json_schema), [*requests, *map(str, asked)] or None
    # pandas' own dtypes make floats of whole numbers in lists, and lose types that no value shows.
    return read_results(paths, requests=sent, json_schema=schema, dtype_backend="pyarrow")


def _join(
    paths: list[Path] | None,
    asked: list[Path],
    output: Path,
    as_json: bool,
    *,
    join: Path,
    id_column: tuple[str, ...],
    prefix: str,
    requests: tuple[str, ...],
    json_schema: Any,
) -> None:
    """Join results to a table in a file, of which neither has to fit in memory."""
    from batch_frames.cli.tables import show_written
    from batch_frames.results import join_files, scan_results

    check_csv(join)
    schema, sent = read_schema(json_schema), [*requests, *map(str, asked)] or None
    stream = scan_results(paths, requests=sent, json_schema=schema)
    how: dict[str, Any] = {"columns": None, "progress": None, "with_ids": False}
    join_files(join, stream, output, id_column=list(id_column), prefix=prefix, **how)
    show_written(output, prefix, as_json)


def _show_results(
    results: pd.DataFrame,
    output: Path | None,
    as_json: bool,
    *,
    join: Path | None,
    id_column: tuple[str, ...],
    prefix: str,
) -> None:
    from batch_frames.cli.tables import show_frame
    from batch_frames.frames import read_table, to_dataframe
    from batch_frames.results import join_results

    shown = _shown_columns(results)
    if join and id_column:
        check_csv(join)
        table = to_dataframe(read_table(join, id_column), "pyarrow")
        if any(table.index.names):
            table = table.reset_index()
        wanted = list(results.columns.drop("custom_id"))
        frame = join_results(table, results, id_column=id_column, columns=wanted, prefix=prefix)
        columns = [*table.columns, *(prefix + name for name in shown)]
    else:
        frame, columns = results, ["custom_id", *shown]
    noun = "row" if join else "result"
    show_frame(frame, frame[columns], output, as_json, noun=noun, results=results)


def _shown_columns(results: pd.DataFrame) -> list[str]:
    """Choose the most useful columns: typed answers rather than their text."""
    names = list(results.columns)
    answers = names[names.index("content") + 1 : names.index("finish_reason")]
    others = names[names.index("line") + 1 :]
    return ["status", *(answers or ["content"]), *others, "error_message"]


@click.command()
@click.argument("files", nargs=-1)
@click.option(
    "--requests", multiple=True, required=True,
    help="Request file that was sent, or a glob; repeatable.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=NEW_FILE,
    help="The new request file; without it, the next free name of NAME.round-2.jsonl, ….",
)  # fmt: skip
@click.option(
    "--status", "statuses", multiple=True, type=click.Choice(STATUSES),
    help=f"Statuses to send again; repeatable.  [default: {', '.join(UNANSWERED)}]",
)  # fmt: skip
@click.option(
    "--body", multiple=True, metavar="KEY=JSON",
    help="Top-level key of the request bodies to replace or add; repeatable.",
)  # fmt: skip
@json_option
@click.option(
    "--permanent", is_flag=True,
    help="Send what failed for good, too: with an HTTP status from 400 to 499 other than 408, "
    "409, 425 and 429.",
)  # fmt: skip
def retry(
    files: tuple[str, ...],
    requests: tuple[str, ...],
    output: Path | None,
    statuses: tuple[str, ...],
    body: tuple[str, ...],
    permanent: bool,
    as_json: bool,
) -> None:
    """Write the requests that still lack an answer to a new request file.

    What is known of the batches, retries and live answers of --requests counts; FILES are further
    output and error files, such as those from elsewhere. Request files among FILES are ignored.

    \b
    Example:
      batch-frames retry out/reviews.output.jsonl out/reviews.errors.jsonl \\
          --requests out/reviews.jsonl
      batch-frames retry --requests "out/reviews-*.jsonl"
      batch-frames retry --requests out/reviews.jsonl --status truncated \\
          --body max_completion_tokens=4000
    """
    from batch_frames.retry import retry_requests

    with plain_errors():
        results = [path for path, holds in _kinds(files).items() if not holds] if files else None
        if results == []:
            problem = "these are request files; name the output and error files"
            raise click.ClickException(problem)
        options: dict[str, Any] = {"statuses": statuses or None, "permanent": permanent}
        options["body"] = dict(map(body_key, body))
        shards = retry_requests(requests, results, output, **options)
    if shards:
        print_shards(shards, as_json)
    else:
        none = f"no request is {' or '.join(statuses)}"
        if set(statuses or UNANSWERED) >= set(UNANSWERED):
            none = "every request has an answer or waits for one"
            none += "" if statuses or permanent else ", or failed for good (see --permanent)"
        click.echo(f"nothing to retry: {none}", err=as_json)


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
