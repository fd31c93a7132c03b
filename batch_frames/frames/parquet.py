"""Read Parquet files as chunks, only the columns that are needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from batch_frames.errors import BatchFramesError
from batch_frames.files import Paths, find_files
from batch_frames.frames.arrow import cut, find_columns, needed_id, origin_name
from batch_frames.frames.chunks import Chunk

__all__ = ["ParquetSource"]


MOST_ROWS = 2_048


class ParquetSource:
    """Read Parquet files, one after the other."""

    once = False
    paths: Sequence[Path]

    def __init__(self, paths: Paths, id_column: str | None, columns: Sequence[str]) -> None:
        self.paths = find_files(paths, [".parquet", ".pq"])
        self._id_column = needed_id(id_column, "Parquet")
        self._columns = columns
        self._rows = 0
        for path in self.paths:
            try:
                with pq.ParquetFile(path) as file:
                    names, rows = file.schema_arrow.names, file.metadata.num_rows
            except pa.ArrowInvalid as error:
                raise BatchFramesError(f"'{path}' is not a Parquet file: {error}") from None
            find_columns(names, [self._id_column, *columns], f"'{path}'")
            self._rows += rows

    def rows(self) -> int:
        """Count the rows."""
        return self._rows

    def chunks(self) -> Iterator[Chunk]:
        """Read the rows from the first one on."""
        for path in self.paths:
            # Without pre-buffering, and with a small buffer, a row group is never whole in memory.
            with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
                needed = list(dict.fromkeys([self._id_column, *self._columns]))
                batches = _named(path, file.iter_batches(_batch_rows(file), columns=needed))
                yield from cut(
                    batches, self._id_column, self._columns, origin_name(path, self.paths)
                )


def _batch_rows(file: pq.ParquetFile) -> int:
    """Choose batches of about 2 MB, by the size that the file gives for its rows.

    It says little where values repeat, being taken before they are written out: hence a limit.
    """
    groups = [file.metadata.row_group(n) for n in range(file.metadata.num_row_groups)]
    largest = max((g.total_byte_size / max(g.num_rows, 1) for g in groups), default=1)
    return min(max(1, int((2 << 20) / max(largest, 1))), MOST_ROWS)


def _named(path: Path, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Name the file in errors of its reader."""
    try:
        yield from batches
    except (pa.ArrowInvalid, OSError) as error:
        raise BatchFramesError(f"'{path}' is damaged: {error}") from None
