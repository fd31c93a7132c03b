"""Write request files from the command line."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from batch_frames.cli.terminal import (
    EXISTING_FILE,
    PARQUET,
    check_csv,
    plain_errors,
    print_shards,
    read_schema,
    read_text,
    schema_source,
)

__all__ = ["write"]


@click.command()
@click.argument("source")
@click.argument("target")
@click.option(
    "--id-column", required=True, multiple=True, help="Column with the custom_ids; repeatable."
)
@click.option("--prompt-column", help="Column with the prompts.")
@click.option("--prompt", help="Prompt with columns in it, such as '{title}: {review}'.")
@click.option("--model", help="Name of the model.")
@click.option("--system-prompt", help="System message of every request.")
@click.option(
    "--system-prompt-file",
    type=EXISTING_FILE,
    help="File with the system message; a newline at its end is dropped.",
)
@click.option(
    "--json-schema",
    type=schema_source,
    metavar="FILE|MODULE:CLASS",
    help="JSON file with the schema of the answers, or the pydantic model class.",
)
@click.option("--endpoint", default="/v1/chat/completions", show_default=True, help="API path.")
@click.option(
    "--body",
    multiple=True,
    metavar="KEY=JSON",
    help="One more top-level key of the request body; repeatable.",
)
@click.option("--reasoning-effort", help="Effort of a reasoning model; '' leaves it out.")
@click.option(
    "--na",
    type=click.Choice(["raise", "skip"]),
    default="raise",
    show_default=True,
    help="What to do with rows whose prompt is missing.",
)
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
def write(
    source: str, target: str, max_requests: int, max_bytes: int, overwrite: bool, **options: Any
) -> None:
    """Write a request file from SOURCE to TARGET, one request per row.

    SOURCE is a CSV or Parquet file, a glob or a folder of either, or - for CSV from standard input.
    TARGET is a .jsonl file, or - for standard output; above the limits it becomes
    TARGET-00001.jsonl, TARGET-00002.jsonl, ….

    \b
    Example:
      batch-frames write reviews.csv out/reviews.jsonl --id-column id \\
          --prompt "{title}: {review}" --model gpt-5.6-luna --body temperature=0.2
    """
    from batch_frames.files import Limits
    from batch_frames.requests import from_csv, from_parquet

    with plain_errors(), _on_disk(source) as path:
        if target != "-" and not target.endswith(".jsonl") and not Path(target).is_dir():
            raise click.ClickException(f"'{target}' must end in .jsonl, as the service requires")
        check_csv(Path(path))
        given = _template_options(options)
        batch = from_parquet(path, **given) if _is_parquet(path) else from_csv(path, **given)
        limits = Limits(max_requests, max_bytes)
        shards = batch.save_to_file(target, limits=limits, overwrite=overwrite)
    print_shards(shards, to_stderr=target == "-")


@contextmanager
def _on_disk(source: str) -> Iterator[str]:
    """Copy standard input to a file, as rows are read more than once."""
    if source != "-":
        yield source
        return
    with TemporaryDirectory() as folder:
        path = Path(folder) / "stdin.csv"
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield str(path)


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
    given["body"] = dict(map(_body_key, options["body"]))
    if given["prompt_column"] is None and not given["body"]:
        raise click.UsageError("there is no prompt; pass --prompt-column or --prompt")
    return given


def _body_key(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise click.UsageError(f"--body {text!r} must be KEY=JSON, as in --body temperature=0.2")
    try:
        return key, json.loads(value)
    except ValueError:
        hint = f"text needs quotes, as in --body '{key}=\"{value}\"'"
        if "{" in value:
            hint = "it is the same for all rows; only --prompt takes columns"
        raise click.UsageError(f"--body {text!r}: the value is not JSON; {hint}") from None


def _is_parquet(source: str) -> bool:
    path = Path(source)
    files = path.rglob("*") if path.is_dir() else [path]
    return any(file.suffix in PARQUET for file in files)
