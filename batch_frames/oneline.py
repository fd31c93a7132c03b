"""Show the errors and warnings of a command in one line each."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import click

from batch_frames.errors import BatchFramesError

__all__ = ["plain_errors"]

SPOKEN = {
    'na="skip"': "--na skip",
    "pass model=": "pass --model",
    "overwrite=True": "--overwrite",
    "base_url": "--base-url",
}
"""How Python says what is an option here."""


@contextmanager
def plain_errors() -> Iterator[None]:
    """Show what a user can mend in one line, without a traceback; warnings likewise."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            yield
        except BrokenPipeError:
            raise
        except (BatchFramesError, OSError, TypeError, ValueError) as error:
            raise click.ClickException(_in_options(str(error))) from error
        except Exception as error:
            if not any(kind.__name__ == "OpenAIError" for kind in type(error).__mro__):
                raise
            raise click.ClickException(_in_options(str(error))) from error
        finally:
            for warning in caught:
                click.echo(f"Warning: {_in_options(str(warning.message))}", err=True)


def _in_options(message: str) -> str:
    """Put a message into one line, and name options as the command line does."""
    for said, option in SPOKEN.items():
        message = message.replace(said, option)
    return " ".join(message.split())
