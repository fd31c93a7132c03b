"""Read files from the command line, and retry what lacks an answer."""

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
    renamed,
    schema_option,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read", "retry"]


REQUEST_COLUMNS = ("custom_id", "model", "system_prompt", "user_prompt")

UNANSWERED = ("http_error", "expired", "cancelled", "missing", "malformed")

# As in batch_frames.results, which loads pandas, but for "skipped", which has no request.
STATUSES = ("ok", "truncated", "refused", "filtered", "invalid_json", *UNANSWERED)


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
            _show_results(renamed(frame, stdin), output, as_json, **join)
        elif any(options.values()):
            problem = "these are request files; the options are for output and error files"
            raise click.ClickException(problem)
        else:
            frame = renamed(read_requests(kinds), stdin)
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
