"""Hold consecutive rows of a table with their positions, and open their streams, each once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakSet

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.arrow import check_type, join, mark_checked, to_ids
from batch_frames.errors import BatchFramesError, CellError, ColumnError, RequestError

__all__ = [
    "TABLE",
    "TO_FRAME",
    "Chunk",
    "Position",
    "Source",
    "id_names",
    "open_arrow",
    "use_stream",
]


def id_names(id_column: str | Sequence[str]) -> list[str]:
    """List the columns that an id is made of."""
    return [id_column] if isinstance(id_column, str) else list(id_column)


@dataclass(frozen=True, slots=True)
class Position:
    """The place of consecutive rows in their table.

    Attributes:
        first: Position of the first in its table, from 0.
        origin: Name of the table, such as a file's; empty when there is only one.
        noun: What messages call a row.
        kept: Positions after ``first`` where rows between were dropped; None when none were.
    """

    first: int = 0
    origin: str = ""
    noun: str = "row"
    kept: npt.NDArray[np.int64] | None = None

    def row(self, index: int) -> int:
        """Return the position in the table of the ``index``-th row."""
        return self.first + int(index if self.kept is None else self.kept[index])

    def rows(self, count: int) -> npt.NDArray[np.int64]:
        """Return the positions in the table of all rows, of which there are so many."""
        return self.first + (np.arange(count) if self.kept is None else self.kept)

    def place(self, index: int) -> str:
        """Name the place of the ``index``-th row, as in ``row 1,042``."""
        return f"{self.noun} {self.row(index):,}" + (f" of {self.origin!r}" * bool(self.origin))


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive rows of a table.

    Attributes:
        ids: The columns that the ids are made of, by the names that messages call them.
        columns: The other columns that a template needs, by name.
        position: Where the rows are in their table.
    """

    ids: Mapping[str, pa.Array]
    columns: Mapping[str, pa.Array]
    position: Position = Position()

    def __len__(self) -> int:
        return len(next(iter(self.ids.values())))

    def keep(self, mask: npt.NDArray[np.bool_]) -> Chunk:
        """Drop the rows where the mask is false."""
        kept = self.position.kept
        rows = np.arange(len(self)) if kept is None else kept
        return replace(
            self,
            ids={n: column.filter(pa.array(mask)) for n, column in self.ids.items()},
            columns={n: column.filter(pa.array(mask)) for n, column in self.columns.items()},
            position=replace(self.position, kept=rows[mask]),
        )

    def mark_checked(self) -> Chunk:
        """Mark the text that is UTF-8, so that it is not checked again."""
        ids, columns = (
            {name: mark_checked(column) for name, column in some.items()}
            for some in (self.ids, self.columns)
        )
        return replace(self, ids=ids, columns=columns)

    def error(
        self, index: int, problem: str, column: str | None = None, *, hint: str | None = None
    ) -> RequestError:
        """Make the error that names the row, its column and its ``custom_id``."""
        return RequestError(
            f"{self.place(index)}: {problem}",
            row=self.position.row(index),
            column=column,
            custom_id=self._custom_id(index),
            hint=hint,
        )

    def place(self, index: int) -> str:
        """Name a row with its ``custom_id``, as in ``row 1,042 (custom_id 'a17')``."""
        custom_id = self._custom_id(index)
        return self.position.place(index) + f" (custom_id {custom_id!r})" * bool(custom_id)

    @contextmanager
    def locate(self, what: str, column: str | None = None) -> Iterator[None]:
        """Add row, column and ``custom_id`` to errors about cells of what is named."""
        try:
            yield
        except CellError as error:
            raise self.error(error.index, f"{what} {error.problem}", column) from None
        except ColumnError as error:
            raise ColumnError(f"{what} {error}") from None

    def check_types(self) -> None:
        """Check that JSON can hold the types of all columns, before Arrow does anything with them.

        Raises:
            ColumnError: If it cannot hold one of them.
        """
        for name, column in self.ids.items():
            with self.locate(name):
                check_type(column.type)
        for name, column in self.columns.items():
            with self.locate(f"column {name!r}"):
                check_type(column.type)

    def id_text(self) -> pa.Array:
        """Write the ids as requests have them, null where one of their columns is.

        Those of several columns are joined by ``|``, with a backslash before any ``|`` inside.

        Raises:
            ColumnError: If they cannot be ids.
            RequestError: If one of them cannot.
        """
        self.check_types()
        parts = []
        for name, column in self.ids.items():
            with self.locate(name):
                parts.append(to_ids(column))
        return _joined(parts)

    def _custom_id(self, index: int) -> str | None:
        try:
            parts = [to_ids(column.slice(index, 1)) for column in self.ids.values()]
            text: str | None = _joined(parts)[0].as_py()
        except (CellError, ColumnError):
            return None
        return text


def _joined(parts: Sequence[pa.Array]) -> pa.Array:
    """Join the parts of ids so that no two ids are alike."""
    if len(parts) == 1:
        return parts[0]
    return join([pc.replace_substring_regex(part, r"[\\|]", r"\\\0") for part in parts], "|")


class Source(Protocol):
    """What yields the rows of a table as chunks, in order."""

    once: bool
    """Whether the rows can be read only a single time."""

    paths: Sequence[Path]
    """The files that are read."""

    @property
    def names(self) -> Sequence[str]:
        """The names of all columns."""
        ...

    @property
    def frame(self) -> Any:
        """The frame that is read; None for files."""

    @property
    def id_column(self) -> str | Sequence[str] | None:
        """The column with the ids; None for an index."""

    def rows(self) -> int | None:
        """Count the rows where that needs no reading, else None."""
        ...

    def chunks(self) -> Iterator[Chunk]:
        """Read the rows from the first one on."""
        ...


TABLE = "to use it again, pass a table, as in pyarrow.table(stream)"
"""What to do with a stream."""

USED: WeakSet[pa.RecordBatchReader] = WeakSet()
"""The streams that were read."""


TO_FRAME = "; call its to_frame() first"


def open_arrow(frame: Any) -> pa.RecordBatchReader:
    """Open a frame with ``__arrow_c_stream__``.

    Raises:
        BatchFramesError: If it fails with an error of its own.
        TypeError: If it is a single column.
    """
    try:
        return pa.RecordBatchReader.from_stream(frame)
    except pa.ArrowInvalid as error:
        kind = type(frame).__name__
        advice = TO_FRAME if hasattr(frame, "to_frame") else f": {error}"
        raise TypeError(f"frame must be a table with columns, not {kind}{advice}") from None
    except Exception as error:
        # Some versions of DuckDB compute all rows before they return the first.
        raise BatchFramesError(f"the frame failed after 0 rows: {error}") from error


def use_stream(stream: Any) -> None:
    """Note that a stream is read; other frames without a length may be readable again.

    Raises:
        BatchFramesError: If it was read before.
    """
    if not isinstance(stream, pa.RecordBatchReader):
        return
    if stream in USED:
        problem = "this frame is a stream, which can be read only once, and it has been read"
        raise BatchFramesError(problem, hint=TABLE)
    USED.add(stream)
