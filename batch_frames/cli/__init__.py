"""The command line: each command parses arguments, calls one function and prints."""

import io
import sys
from typing import Any

import click

from batch_frames.cli.batches import COMMANDS
from batch_frames.cli.check import check, estimate
from batch_frames.cli.read import read, retry
from batch_frames.cli.write import plan, run, write

__all__ = ["main"]


class _Commands(click.Group):
    """Commands that suggest an option for the start of its name."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run, with escapes for characters that the terminal does not have."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        return super().main(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, and name the options that a wrong one may have meant."""
        try:
            return super().invoke(ctx)
        except click.NoSuchOption as error:
            wrong, options = error.option_name, error.ctx.command.params if error.ctx else []
            names = [name for option in options for name in option.opts]
            if near := " or ".join(repr(name) for name in names if name.startswith(wrong)):
                problem = f"No such option {wrong!r}. Did you mean {near}?"
                raise click.UsageError(problem, error.ctx) from None
            raise


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="batch-frames")
def main() -> None:
    """Turn tables into OpenAI Batch API request files, and what comes back into tables.

    \b
    Example:
      batch-frames run reviews.csv out/reviews.jsonl --id-column id --prompt-column review \\
          --model gpt-5.6-luna --system-prompt "Rate the review from 1 to 5." -o rated.parquet

    \b
    The same step by step:
      batch-frames write reviews.csv out/reviews.jsonl --id-column id --prompt-column review \\
          --model gpt-5.6-luna --system-prompt "Rate the review from 1 to 5."
      batch-frames submit out/reviews.jsonl
      batch-frames wait out/reviews.jsonl
      batch-frames download out/reviews.jsonl
      batch-frames read out/reviews.output.jsonl out/reviews.errors.jsonl \\
          --requests out/reviews.jsonl --join reviews.csv --id-column id -o rated.csv
    """


# The commands import what they call when they run, so that help and errors come at once.
for command in (write, check, estimate, plan, run, *COMMANDS, read, retry):
    main.add_command(command)
