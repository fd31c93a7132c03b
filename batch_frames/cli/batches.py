"""Submit, follow and download batches from the command line."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import pandas as pd

from batch_frames.batches import (
    ENDED,
    NO_KEY,
    Job,
    cancel,
    download,
    load_jobs,
    make_client,
    run_local,
    status,
    submit,
    wait,
)
from batch_frames.cli.terminal import (
    check_output,
    json_file,
    plain_errors,
    print_frame,
    write_frame,
)
from batch_frames.display import size_text
from batch_frames.results import UNANSWERED, summary_line
from batch_frames.run import run

__all__ = ["COMMANDS"]


RESULT_COLUMNS = ("custom_id", "status", "content", "error_message")

UNWELL = {"failed", *UNANSWERED}


def _with_client(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say where the service is, and the paths."""
    for decorate in (
        click.option(
            "--api-key-env", metavar="NAME", help="Environment variable that holds the API key."
        ),
        click.option("--base-url", help="Address of a compatible service, with its version."),
        click.argument("paths", nargs=-1, required=True),
    ):
        command = decorate(command)
    return command


@contextmanager
def _client(base_url: str | None, api_key_env: str | None) -> Iterator[Any]:
    """Make a client where the user says more than the SDK finds out itself; None otherwise."""
    if base_url is None and api_key_env is None:
        yield None
        return
    key = os.environ.get(api_key_env or "OPENAI_API_KEY")
    if key is None and api_key_env is not None:
        raise click.UsageError(f"the environment variable {api_key_env!r} is not set")
    with make_client("this command", base_url, key or NO_KEY) as client:
        yield client


@click.command("submit")
@_with_client
@click.option("--metadata", multiple=True, metavar="KEY=TEXT", help="Attach a text; repeatable.")
@click.option("--completion-window", default="24h", show_default=True, help="Time to end in.")
@click.option(
    "--output-expires-after",
    type=click.IntRange(1),
    metavar="SECONDS",
    help="Let the service delete result files so long after they were made.",
)
@click.option(
    "--max-enqueued-tokens",
    type=click.IntRange(1),
    help="Most tokens to have with the service; what is beyond waits for 'wait' to send it.",
)
def submit_command(
    paths: tuple[str, ...],
    base_url: str | None,
    api_key_env: str | None,
    metadata: tuple[str, ...],
    output_expires_after: int | None,
    **options: Any,
) -> None:
    """Upload request files (PATHS) and create a batch of each, once and no more.

    What was sent is noted beside the files; run again, nothing is sent twice.

    \b
    Example:
      batch-frames submit out/reviews-*.jsonl --metadata project=reviews
    """
    if output_expires_after is not None:
        expiry = {"anchor": "created_at", "seconds": output_expires_after}
        options["output_expires_after"] = expiry
    with plain_errors(), _client(base_url, api_key_env) as client:
        pairs = dict(map(_pair, metadata))
        _print_jobs(submit(paths, client=client, metadata=pairs or None, **options))


@click.command("wait")
@_with_client
@click.option("--timeout", type=float, help="Seconds after which to give up.")
@click.option("--poll", type=float, help="Seconds between two looks.")
def wait_command(
    paths: tuple[str, ...], base_url: str | None, api_key_env: str | None, **options: Any
) -> None:
    """Wait until the batches of PATHS have ended: request files, or ledgers (*.jobs.jsonl).

    \b
    Example:
      batch-frames wait out/reviews.jobs.jsonl --timeout 3600
    """
    with plain_errors(), _client(base_url, api_key_env) as client:
        jobs = wait(load_jobs(paths), client=client, **options)
        _print_jobs(jobs)
    _exit_for(job.status for job in jobs)


@click.command("status")
@_with_client
@click.option("--watch", is_flag=True, help="Show the table anew until all have ended.")
@click.option(
    "--poll", type=float, default=10, show_default=True, help="Seconds between two looks."
)
def status_command(
    paths: tuple[str, ...],
    base_url: str | None,
    api_key_env: str | None,
    watch: bool,
    poll: float,
) -> None:
    """Show where the batches of PATHS stand: request files, or ledgers (*.jobs.jsonl).

    \b
    Example:
      batch-frames status out/reviews.jobs.jsonl --watch
    """
    with plain_errors(), _client(base_url, api_key_env) as client:
        jobs = load_jobs(paths)
        frame = status(jobs, client=client)
        _print_status(frame, clear=watch)
        while watch and not frame["status"].isin(ENDED).all():
            time.sleep(poll)
            frame = status(jobs, client=client)
            _print_status(frame, clear=True)
    _exit_for(frame["status"])


@click.command("download")
@_with_client
def download_command(paths: tuple[str, ...], base_url: str | None, api_key_env: str | None) -> None:
    """Download the result files of PATHS, request files or ledgers, to stand beside them.

    \b
    Example:
      batch-frames download out/reviews.jobs.jsonl
    """
    with plain_errors(), _client(base_url, api_key_env) as client:
        files = download(load_jobs(paths), client=client)
        _print_files(files)
        jobs = load_jobs(paths)
    _exit_for(job.status for job in jobs)


@click.command("cancel")
@_with_client
def cancel_command(paths: tuple[str, ...], base_url: str | None, api_key_env: str | None) -> None:
    """Cancel the batches of PATHS that have not ended, request files or ledgers.

    \b
    Example:
      batch-frames cancel out/reviews.jobs.jsonl
    """
    with plain_errors(), _client(base_url, api_key_env) as client:
        _print_jobs(cancel(load_jobs(paths), client=client))


@click.command("run")
@_with_client
@click.option(
    "--max-enqueued-tokens",
    type=click.IntRange(1),
    help="Most tokens to have with the service at once.",
)
@click.option("--timeout", type=float, help="Seconds after which to give up waiting.")
@click.option("--poll", type=float, help="Seconds between two looks.")
@click.option(
    "--json-schema",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON file with the schema of the answers; without it, that of the requests is used.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write all columns to this .csv or .parquet file instead of the terminal.",
)
def run_command(
    paths: tuple[str, ...],
    base_url: str | None,
    api_key_env: str | None,
    json_schema: Path | None,
    output: Path | None,
    **options: Any,
) -> None:
    """Submit request files (PATHS), wait, download, and read the results into a table.

    Run again, it goes on where it was, and nothing is paid twice.

    \b
    Example:
      batch-frames run out/reviews-*.jsonl -o results.parquet
    """
    with plain_errors(), _client(base_url, api_key_env) as client:
        check_output(output)
        schema = json_file(json_schema) if json_schema else None
        results = run(list(paths), client=client, json_schema=schema, **options)
        if output:
            write_frame(results, output)
        else:
            print_frame(results, RESULT_COLUMNS)
        click.echo(summary_line(results))
        statuses = [job.status for job in load_jobs(paths)]
    _exit_for([*statuses, *results["status"].unique()])


@click.command("run-local")
@_with_client
@click.option(
    "--concurrency", type=click.IntRange(1), default=8, show_default=True,
    help="Most requests to have on the way at once.",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(0), help="Most requests to send, the first ones.")
def run_local_command(
    paths: tuple[str, ...], base_url: str | None, api_key_env: str | None, **options: Any
) -> None:
    """Send the requests of PATHS to a live endpoint, without a batch.

    \b
    Example:
      batch-frames run-local out/reviews.jsonl --limit 5 --base-url http://localhost:11434/v1
    """
    with plain_errors(), _client(base_url, api_key_env) as client:
        _print_files(run_local(paths, client=client, **options))


COMMANDS = (
    submit_command,
    wait_command,
    status_command,
    download_command,
    cancel_command,
    run_command,
    run_local_command,
)
"""All commands of this module, for the group that has them."""


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise click.UsageError(f"--metadata {text!r} must be KEY=TEXT")
    return key, value


def _exit_for(statuses: Iterable[str]) -> None:
    """End with 1 when not all is well."""
    if any(found in UNWELL for found in statuses):
        raise click.exceptions.Exit(1)


def _print_jobs(jobs: Iterable[Job]) -> None:
    _print_table(
        [
            (
                job.path.name,
                job.batch_id or "-",
                job.state,
                _done(job.completed, job.failed, job.requests),
            )
            for job in jobs
        ]
    )


def _done(completed: int | None, failed: int | None, requests: int) -> str:
    text = f"{completed or 0:,} of {requests:,}"
    return f"{text}, {failed:,} failed" if failed else text


def _print_status(frame: pd.DataFrame, *, clear: bool) -> None:
    if clear:
        click.clear()
    names = ("shard", "batch", "status", "completed", "failed", "total", "age", "expires", "")
    rows: list[tuple[str, ...]] = [names]
    for row in frame.to_dict("records"):
        counts = [_known(row[name], "{:,}") for name in ("completed", "failed", "total")]
        age = _known(row["age"], "{}").removeprefix("0 days ")
        expires = _known(row["expires"], "{:%m-%d %H:%M} UTC")
        texts = [_known(row[name], "{}") for name in ("shard", "batch_id", "status")]
        rows.append((*texts, *counts, age, expires, _known(row["errors"], "{}").removesuffix("-")))
    _print_table(rows)


def _known(value: Any, form: str) -> str:
    return "-" if pd.isna(value) else form.format(value)


def _print_files(files: Iterable[Path]) -> None:
    _print_table([(str(path), size_text(path.stat().st_size)) for path in files])


def _print_table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
