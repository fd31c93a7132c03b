"""Make requests of tables from the command line: write, plan or run them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from batch_frames.cli.batches import (
    RESULT_COLUMNS,
    check_option,
    exit_for,
    poll_option,
    timeout_option,
    with_client,
)
from batch_frames.cli.terminal import (
    EXISTING_FILE,
    body_key,
    check_csv,
    check_output,
    file_of,
    json_option,
    output_option,
    plain_errors,
    print_json,
    print_shards,
    read_schema,
    read_text,
    schema_source,
    shard_facts,
)

__all__ = ["plan", "run", "write"]


TEMPLATE = (
    click.option("--prompt-column", help="Column with the prompts."),
    click.option("--prompt", help="Prompt with columns in it, such as '{title}: {review}'."),
    click.option("--model", help="Name of the model."),
    click.option("--system-prompt", help="System message of every request."),
    click.option(
        "--system-prompt-file",
        type=EXISTING_FILE,
        help="File with the system message; a newline at its end is dropped.",
    ),
    click.option(
        "--json-schema",
        type=schema_source,
        metavar="FILE|MODULE:CLASS",
        help="JSON file with the schema of the answers, or the pydantic model class.",
    ),
    click.option("--endpoint", default="/v1/chat/completions", show_default=True, help="API path."),
    click.option(
        "--body",
        multiple=True,
        metavar="KEY=JSON",
        help="One more top-level key of the request body; repeatable.",
    ),
    click.option("--reasoning-effort", help="Effort of a reasoning model; '' leaves it out."),
    click.option(
        "--na",
        type=click.Choice(["raise", "skip"]),
        default="raise",
        show_default=True,
        help="What to do with rows whose prompt is missing.",
    ),
    click.option("--dedupe", is_flag=True, help="Ask once for all rows that ask the same."),
)


SOURCE = (
    click.argument("source"),
    click.argument("target"),
    click.option(
        "--id-column", required=True, multiple=True, help="Column with the custom_ids; repeatable."
    ),
    *TEMPLATE,
)


def _with(
    parameters: Sequence[Callable[[Callable[..., None]], Callable[..., None]]],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add parameters to a command, in their order."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        for parameter in reversed(parameters):
            command = parameter(command)
        return command

    return add


@click.command()
@_with(SOURCE)
@click.option(
    "--max-requests", type=click.IntRange(1), default=50_000, show_default=True,
    help="Maximum number of requests in one file.",
)  # fmt: skip
@click.option(
    "--max-bytes", type=click.IntRange(1), default=200_000_000, show_default=True,
    help="Maximum size of one file.",
)  # fmt: skip
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace files whose batches are still running, or that were not written by this command.",
)
@json_option
def write(
    source: str, target: str, max_requests: int, max_bytes: int, overwrite: bool, as_json: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Write a request file from SOURCE to TARGET, one request per row.

    SOURCE is a CSV or Parquet file, a glob or a folder of either, or - for CSV from standard input.
    TARGET is a .jsonl file, or - for standard output; above the limits it becomes
    TARGET-00001.jsonl, TARGET-00002.jsonl, ….

    \b
    Example:
      batch-frames write reviews.csv out/reviews.jsonl --id-column id \\
          --prompt "{title}: {review}" --model gpt-5.6-luna --body temperature=0.2
    """
    from batch_frames.files import Limits, as_path
    from batch_frames.frames import is_parquet
    from batch_frames.requests import from_csv, from_parquet

    if as_json and target == "-":
        raise click.UsageError("--json has no place on standard output beside the requests")
    with plain_errors(), file_of(source) as path:
        if target != "-" and not target.endswith(".jsonl") and not as_path(target).is_dir():
            raise click.ClickException(f"'{target}' must end in .jsonl, as the service requires")
        check_csv(path)
        given = _template_options(options)
        batch = from_parquet(path, **given) if is_parquet(path) else from_csv(path, **given)
        limits = Limits(max_requests, max_bytes)
        shards = batch.save_to_file(target, limits=limits, overwrite=overwrite)
    print_shards(shards, as_json, to_stderr=target == "-")


@click.command()
@_with(SOURCE)
@json_option
def plan(source: str, target: str, as_json: bool, **options: Any) -> None:
    """Print what 'run' would send of SOURCE, with TARGET as its request file; nothing is sent.

    \b
    Example:
      batch-frames plan reviews.csv out/reviews.jsonl --id-column id \\
          --prompt "{title}: {review}" --model gpt-5.6-luna
    """
    from batch_frames.plans import STATES, plan

    with plain_errors(), file_of(source) as path:
        check_csv(path)
        planned = plan(path, target, **_template_options(options))
    counts = {name: getattr(planned, name) for name in (*STATES, "asked_again")}
    if as_json:
        shards = [shard_facts(shard) for shard in planned.shards]
        print_json([{**counts, "shards": shards, "sample": planned.sample}])
        return
    for name, count in counts.items():
        click.echo(f"{name:11} {count:12,}")
    print_shards(planned.shards, as_json)
    if planned.cost:
        click.echo(f"{'cost':11} {planned.cost:>12}")


@click.command()
@with_client
@click.option("--id-column", multiple=True, help="Column with the custom_ids; repeatable.")
@_with(TEMPLATE)
@click.option("--max-requests", type=click.IntRange(0), help="Refuse to send more than that.")
@click.option("--max-cost", type=click.FloatRange(0), help="Refuse to pay more dollars than that.")
@click.option(
    "--retries", type=click.IntRange(0), default=2, show_default=True,
    help="How often to send again what failed for a passing reason.",
)  # fmt: skip
@click.option("--yes", is_flag=True, help="Do not ask before requests of a table are sent.")
@click.option("--prefix", default="", help="Prefix for the names of the columns with answers.")
@click.option(
    "--max-enqueued-tokens",
    type=click.IntRange(1),
    help="Maximum number of tokens enqueued at once.",
)
@check_option
@timeout_option
@poll_option
@output_option
@json_option
def run(
    paths: tuple[str, ...], client: Any, output: Path | None, as_json: bool, timeout: float | None,
    poll: float | None, max_enqueued_tokens: int | None, check: bool, **options: Any,
) -> None:  # fmt: skip
    """Answer every row of a table, or request files, and write or print what came back.

    PATHS are the table, a CSV or Parquet file, and the request file to make of it; or request
    files. Requests that were answered before are not sent again. On a terminal, it asks before
    requests of a table are sent.

    \b
    Example:
      batch-frames run reviews.csv out/rated.jsonl --id-column id \\
          --prompt-column review --model gpt-5.6-luna -o rated.parquet
      batch-frames run out/reviews-*.jsonl -o results.parquet
    """
    from batch_frames.cli.tables import show_frame
    from batch_frames.files import ENDINGS
    from batch_frames.frames import to_dataframe
    from batch_frames.results import UNANSWERED, own_results
    from batch_frames.run import run

    check_output(output)
    how: dict[str, Any] = {"client": client, "timeout": timeout, "poll": poll}
    how |= {"max_enqueued_tokens": max_enqueued_tokens, "check": check}
    if paths[0].endswith(ENDINGS) or len(paths) != 2 or not options["id_column"]:
        _refuse_options_of_tables(paths[0], options)
        schema = read_schema(options["json_schema"])
        results = frame = run(list(paths), json_schema=schema, **how)
    else:
        names = ("max_requests", "max_cost", "retries", "prefix")
        table = {name: options.pop(name) for name in names}
        table["confirm"] = _ask if sys.stdin.isatty() and not options["yes"] else False
        del options["yes"]
        with file_of(paths[0]) as path:
            check_csv(path)
            rated = run(path, paths[1], **_template_options(options), **table, **how)
        frame = to_dataframe(rated, "pyarrow")
        results = own_results(frame)
    shown = results[list(RESULT_COLUMNS)]
    show_frame(frame, shown, output, as_json, noun="row", results=results)
    exit_for(results["status"].unique(), UNANSWERED)


def _refuse_options_of_tables(path: str, options: dict[str, Any]) -> None:
    """Refuse a table without its request file or ids, and options without effect."""
    if path == "-" or path.endswith((".csv", ".csv.gz", ".tsv", ".parquet")):
        problem = (
            "a table needs --id-column, and the request file to make of it, as in "
            "'run reviews.csv out/reviews.jsonl --id-column id'"
        )
        raise click.UsageError(problem)
    context = click.get_current_context()
    for name in options.keys() - {"json_schema"}:
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            option = name.replace("_", "-")
            raise click.UsageError(f"--{option} is for a table, not for request files")


def _ask(plan: Any) -> bool:
    try:
        return click.confirm(f"{plan!r}\nSend?", err=True)
    except click.Abort as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            click.echo(err=True)
            raise KeyboardInterrupt from None
        return False


def _template_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return what ``from_csv`` takes; an option that was not given is left out."""
    from batch_frames.requests import fmt

    prompt, column = options.pop("prompt"), options.pop("prompt_column")
    if prompt is not None and column is not None:
        raise click.UsageError("pass --prompt or --prompt-column, not both")
    if prompt is not None and not fmt(prompt).names:
        raise click.UsageError("--prompt has no column in it; write {column}, or --prompt-column")
    if system_file := options.pop("system_prompt_file"):
        if options["system_prompt"] is not None:
            raise click.UsageError("pass --system-prompt or --system-prompt-file, not both")
        options["system_prompt"] = read_text(system_file).removesuffix("\n")
    options["json_schema"] = read_schema(options["json_schema"])
    given = {key: value for key, value in options.items() if value is not None}
    if given.get("reasoning_effort") == "":
        given["reasoning_effort"] = None
    given["prompt_column"] = column if prompt is None else fmt(prompt)
    given["body"] = dict(map(body_key, options["body"]))
    if given["prompt_column"] is None and not given["body"]:
        raise click.UsageError("there is no prompt; pass --prompt-column or --prompt")
    return given
