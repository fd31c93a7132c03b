"""Submit, follow and download batches from the command line."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batch_frames.cli.terminal import json_option, plain_errors, print_json, print_table
from batch_frames.display import size_text

if TYPE_CHECKING:
    from datetime import timedelta

    from batch_frames.files import Job

__all__ = [
    "COMMANDS",
    "RESULT_COLUMNS",
    "check_option",
    "exit_for",
    "poll_option",
    "timeout_option",
    "with_client",
]


Paths = tuple[str, ...]

RESULT_COLUMNS = ("custom_id", "status", "content", "error_message")

FAILED = ("failed", "expired", "cancelled")

timeout_option = click.option("--timeout", type=float, help="Seconds after which to give up.")

check_option = click.option(
    "--no-check", "check", is_flag=True, default=True, flag_value=False,
    help="Send requests even if the service would refuse them.",
)  # fmt: skip

poll_option = click.option("--poll", type=float, help="Seconds between polls.")


def with_client(command: Callable[..., None]) -> Callable[..., None]:
    """Add PATHS and the options that say where the service is; pass a client made from these."""

    @click.option(
        "--api-key-env", metavar="NAME", help="Environment variable that holds the API key."
    )
    @click.option("--base-url", help="Address of a compatible service, with its version.")
    @click.argument("paths", nargs=-1, required=True)
    @wraps(command)
    def call(base_url: str | None, api_key_env: str | None, **options: Any) -> None:
        with plain_errors(), ExitStack() as stack:
            client = None
            # Without these options, the SDK finds out itself what it needs.
            if base_url or api_key_env:
                import batch_frames.batches as batches

                key = os.environ.get(api_key_env or "OPENAI_API_KEY")
                if key is None and api_key_env:
                    problem = f"the environment variable {api_key_env!r} is not set"
                    raise click.UsageError(problem)
                made = batches.make_client("this command", base_url, key or batches.NO_KEY)
                client = stack.enter_context(made)
            command(client=client, **options)

    return call


@click.command()
@with_client
@click.option("--metadata", multiple=True, metavar="KEY=TEXT", help="Attach a text; repeatable.")
@click.option(
    "--completion-window", default="24h", show_default=True, help="Time a batch may take."
)
@click.option(
    "--output-expires-after",
    type=click.IntRange(1),
    metavar="SECONDS",
    help="Let the service delete result files this long after they were made.",
)
@click.option(
    "--max-enqueued-tokens",
    type=click.IntRange(1),
    help="Maximum number of tokens enqueued at once; 'wait' sends the rest later.",
)
@timeout_option
@check_option
@json_option
def submit(
    paths: Paths,
    metadata: tuple[str, ...],
    output_expires_after: int | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Upload request files (PATHS) and create exactly one batch per file.

    What was sent is noted in .batch_frames next to them; run again, nothing is sent twice.

    \b
    Example:
      batch-frames submit out/reviews-*.jsonl --metadata project=reviews
    """
    import batch_frames.batches as batches

    if output_expires_after is not None:
        expiry = {"anchor": "created_at", "seconds": output_expires_after}
        options["output_expires_after"] = expiry
    pairs = dict(map(_pair, metadata))
    _print_jobs(batches.submit(paths, metadata=pairs or None, **options), as_json)


@click.command()
@with_client
@timeout_option
@poll_option
@json_option
def wait(paths: Paths, as_json: bool, **options: Any) -> None:
    """Wait for the batches of PATHS to finish.

    PATHS are request files, the name that they were saved to, or folders.

    \b
    Example:
      batch-frames wait out/reviews.jsonl --timeout 3600
    """
    import batch_frames.batches as batches

    jobs = batches.wait(batches.load_jobs(paths), **options)
    _print_jobs(jobs, as_json)
    exit_for(job.status for job in jobs)


@click.command()
@with_client
@click.option("--watch", is_flag=True, help="Refresh the table until all batches have ended.")
@click.option("--poll", type=float, default=10, show_default=True, help="Seconds between polls.")
@json_option
def status(paths: Paths, client: Any, watch: bool, poll: float, as_json: bool) -> None:
    """Show the status of the batches of PATHS.

    PATHS are request files, the name that they were saved to, or folders.

    \b
    Example:
      batch-frames status out/reviews.jsonl --watch
    """
    import batch_frames.batches as batches
    from batch_frames.files import ENDED

    jobs = batches.load_jobs(paths)
    while True:
        jobs = batches.refreshed(jobs, client=client)
        if as_json:
            _print_jobs(jobs, as_json)
        else:
            _print_status(batches.job_rows(jobs), clear=watch)
        if not watch or all(job.state in ENDED for job in jobs):
            break
        time.sleep(poll)
    exit_for(job.state for job in jobs)


@click.command()
@with_client
@click.option(
    "--delete-input",
    is_flag=True,
    help="Delete the uploaded request files at the service once their results are here.",
)
@json_option
def download(paths: Paths, client: Any, delete_input: bool, as_json: bool) -> None:
    """Download the result files of the batches of PATHS next to their request files.

    PATHS are request files, the name that they were saved to, or folders.

    \b
    Example:
      batch-frames download out/reviews.jsonl --delete-input
    """
    import batch_frames.batches as batches

    jobs = batches.load_jobs(paths)
    _print_files(batches.download(jobs, client=client, delete_input=delete_input), as_json)
    exit_for(job.status for job in batches.load_jobs(paths))


@click.command()
@with_client
@json_option
def cancel(paths: Paths, client: Any, as_json: bool) -> None:
    """Cancel the batches of PATHS that are still running.

    PATHS are request files, the name that they were saved to, or folders.

    \b
    Example:
      batch-frames cancel out/reviews.jsonl
    """
    import batch_frames.batches as batches

    _print_jobs(batches.cancel(batches.load_jobs(paths), client=client), as_json)


@click.command()
@with_client
@click.option(
    "--concurrency", type=click.IntRange(1), default=8, show_default=True,
    help="Maximum number of requests in flight.",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(0), help="Send only the first requests.")
@json_option
def run_local(paths: Paths, as_json: bool, **options: Any) -> None:
    """Send the requests of PATHS to a live endpoint, without a batch.

    \b
    Example:
      batch-frames run-local out/reviews.jsonl --limit 5 --base-url http://localhost:11434/v1
    """
    import batch_frames.batches as batches

    _print_files(batches.run_local(paths, **options), as_json)


COMMANDS = (submit, wait, status, download, cancel, run_local)
"""All commands of this module, for the group that has them."""


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise click.UsageError(f"--metadata {text!r} must be KEY=TEXT")
    return key, value


def exit_for(statuses: Iterable[str], failed: Iterable[str] = FAILED) -> None:
    """Exit with 1 if one of the statuses is a failure."""
    if not set(statuses).isdisjoint(failed):
        raise click.exceptions.Exit(1)


def _print_jobs(jobs: Sequence[Job], as_json: bool) -> None:
    """List batches; as JSON with the columns of the table of ``status``."""
    if as_json:
        from batch_frames.batches import job_rows

        rows = zip(jobs, job_rows(jobs), strict=True)
        print_json({"path": job.path, **row, "shard": job.path.name} for job, row in rows)
    else:
        print_table([(job.path.name, job.batch_id or "-", job.state, _done(job)) for job in jobs])


def _done(job: Job) -> str:
    text = f"{job.completed or 0:,} of {job.requests:,}"
    return f"{text}, {job.failed:,} failed" if job.failed else text


def _print_status(jobs: Iterable[Mapping[str, Any]], *, clear: bool) -> None:
    if clear:
        click.clear()
    names = ("shard", "batch", "status", "completed", "failed", "total", "age", "expires", "")
    rows: list[tuple[str, ...]] = [names]
    for job in jobs:
        counts = (_known(job[name], "{:,}") for name in ("completed", "failed", "total"))
        texts = (_known(job[name], "{}") for name in ("shard", "batch_id", "status"))
        expires = _known(job["expires"], "{:%m-%d %H:%M} UTC")
        rows.append((*texts, *counts, _age(job["age"]), expires, job["errors"] or ""))
    print_table(rows)


def _age(age: timedelta | None) -> str:
    if age is None:
        return "-"
    days = f"{age.days} days " if age.days else ""
    return days + time.strftime("%H:%M:%S", time.gmtime(age.seconds))


def _known(value: Any, form: str) -> str:
    return "-" if value is None else form.format(value)


def _print_files(files: Iterable[Path], as_json: bool) -> None:
    sizes = [(path, path.stat().st_size) for path in files]
    if as_json:
        print_json({"path": path, "nbytes": nbytes} for path, nbytes in sizes)
    else:
        print_table([(str(path), size_text(nbytes)) for path, nbytes in sizes])
