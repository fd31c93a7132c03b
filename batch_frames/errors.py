"""Define all errors and warnings, and complete those of Python and the system.

BatchFramesError
├── TemplateError  (ValueError)   the template is wrong, whatever the data
├── ColumnError    (LookupError)  the frame lacks a column, or holds it in a type JSON cannot hold
├── RequestError   (ValueError)   one row cannot become a request
├── LineError      (ValueError)   one line of a file is not what it should be
├── JobError       (RuntimeError) a batch failed, or the service replied wrongly
│   └── WaitTimeout (TimeoutError) batches were still running when the time was up
└── MissingExtra   (ImportError)  a function needs an optional dependency
"""

from __future__ import annotations

import copyreg
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

from batch_frames.display import brief, printable

__all__ = [
    "SECONDS",
    "BatchFramesError",
    "BatchFramesWarning",
    "CellError",
    "ColumnError",
    "JobError",
    "LineError",
    "MissingExtra",
    "RequestError",
    "TemplateError",
    "WaitTimeout",
    "check_argument",
    "naming",
]


class BatchFramesError(Exception):
    """Base class of all errors of this package.

    Attributes:
        hint: The end of the message, which says how to correct the problem in Python; None if the
            message has no such part.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        # A terminal shows texts of the service in messages, too.
        self.hint = hint and printable(hint)
        super().__init__(printable(f"{message}; {hint}" if hint else message))


class BatchFramesWarning(UserWarning):
    """A warning of this package.

    Attributes:
        hint: As for ``BatchFramesError``.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        # A terminal shows texts of the service in messages, too.
        self.hint = hint and printable(hint)
        super().__init__(printable(f"{message}; {hint}" if hint else message))


class TemplateError(BatchFramesError, ValueError):
    """A template that is wrong, whatever the data."""


class ColumnError(BatchFramesError, LookupError):
    """A column that the frame lacks, or holds in a type that JSON cannot hold."""


class RequestError(BatchFramesError, ValueError):
    """A row that cannot become a request.

    Attributes:
        row: Position of the row in its table, from 0 as in ``iloc``; None if it is not one row.
        column: Name of the column, or None.
        custom_id: The row's ``custom_id``, or None if it has none.
    """

    def __init__(
        self,
        message: str,
        *,
        row: int | None = None,
        column: str | None = None,
        custom_id: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.row = row
        self.column = column
        self.custom_id = custom_id


class LineError(BatchFramesError, ValueError):
    """A line of a file that is not what it should be.

    Attributes:
        path: The file.
        line: Number of the line, from 1, or None if it is the whole file.
        problem: The message without file and line.
    """

    def __init__(
        self, problem: str, *, path: Path, line: int | None = None, hint: str | None = None
    ) -> None:
        where = f"{path}" if line is None else f"{path}, line {line:,}"
        super().__init__(f"{where}: {problem}", hint=hint)
        self.path = path
        self.line = line
        self.problem = f"{problem}; {hint}" if hint else problem

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions are usually made anew of their message alone, which is not enough here.
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class JobError(BatchFramesError, RuntimeError):
    """A batch that failed, or a service that replied wrongly.

    Attributes:
        batch_id: Id of the first batch that failed, or None.
        status: The status of that batch, or None.
        errors: What the service found wrong, as dicts with the keys ``shard``, ``line``, ``row``,
            ``custom_id``, ``code``, ``param`` and ``message``; unknown values are None.
    """

    def __init__(
        self,
        message: str,
        *,
        batch_id: str | None = None,
        status: str | None = None,
        errors: Sequence[Mapping[str, Any]] = (),
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.batch_id = batch_id
        self.status = status
        self.errors = list(errors)


class WaitTimeout(JobError, TimeoutError):  # noqa: N818
    """Batches that were still running when the time was up; they continue."""

    if not TYPE_CHECKING:
        # Libraries such as Dask copy errors by it, and that of RuntimeError does not fit.
        __new__ = OSError.__new__

    def advise(self, hint: str) -> None:
        """Replace the hint, as what goes on is the function that the user called."""
        self.args = (f"{str(self).removesuffix(f'; {self.hint}')}; {printable(hint)}",)
        self.hint = printable(hint)


class MissingExtra(BatchFramesError, ImportError):  # noqa: N818
    """An optional dependency that a function needs; the message says how to install it."""


class CellError(Exception):
    """A problem with one cell, raised where row, column and ``custom_id`` are not known yet."""

    def __init__(self, index: int, problem: str) -> None:
        super().__init__(f"element {index:,} {problem}")
        self.index = index
        self.problem = problem

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions are usually made anew of their message alone, which is not enough here.
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


SECONDS = ("a number of seconds", Real, NoneType)
"""What ``timeout`` and ``poll`` must be."""


def check_argument(name: str, value: object, what: str, *kinds: Any) -> None:
    """Check the type of an argument; a boolean is no number.

    Args:
        name: Its name.
        value: Its value.
        what: What it must be, in words.
        kinds: The types that it may have.

    Raises:
        TypeError: If it has another one.

    Example:
        >>> check_argument("timeout", "1h", "a number of seconds", int, float)
        Traceback (most recent call last):
        TypeError: timeout must be a number of seconds, not '1h'
    """
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise TypeError(f"{name} must be {what}, not {brief(value)}")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name a file in the errors of the system that do not."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        if error.errno is None:
            raise OSError(f"'{path}': {error}") from error
        # Arrow has a longer text, with the number in it.
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
