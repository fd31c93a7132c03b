"""Read Parquet files as chunks, only the columns that are needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from batch_frames.errors import BatchFramesError
from batch_frames.files import Paths
from batch_frames.frames.arrow import FileSource, find_columns

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

__all__ = ["ParquetSource"]


MOST_ROWS = 2_048


class ParquetSource(FileSource):
    """Rows of Parquet files, one file after the other."""

    kind = "Parquet"

    def __init__(
        self, paths: Paths, id_column: str | Sequence[str] | None, columns: Sequence[str]
    ) -> None:
        from pyarrow.parquet import ParquetFile

        super().__init__(paths, [".parquet", ".pq"], id_column, columns)
        self._rows = 0
        for path in self.paths:
            try:
                with ParquetFile(path) as file:
                    names, rows = file.schema_arrow.names, file.metadata.num_rows
            except pa.ArrowInvalid as error:
                raise BatchFramesError(f"'{path}' is not a Parquet file: {error}") from None
            find_columns(names, self._needed, f"'{path}'")
            self.names = names
            self._rows += rows

    def rows(self) -> int:
        """Count the rows."""
        return self._rows

    def _batches(self, path: Path) -> Iterator[pa.RecordBatch]:
        from pyarrow.parquet import ParquetFile

        try:
            # Without pre-buffering, and with a small buffer, a row group is never whole in memory.
            with ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
                yield from file.iter_batches(_batch_rows(file), columns=self._needed)
        except (pa.ArrowInvalid, OSError) as error:
            raise BatchFramesError(f"'{path}' is damaged: {error}") from None


def _batch_rows(file: ParquetFile) -> int:
    """Choose batches of about 2 MB, by the size of the rows according to the file.

    The number of rows is limited too, as repeated values are much smaller in a file than in memory.
    """
    groups = [file.metadata.row_group(n) for n in range(file.metadata.num_row_groups)]
    largest = max((g.total_byte_size / max(g.num_rows, 1) for g in groups), default=1)
    return min(max(1, int((2 << 20) / max(largest, 1))), MOST_ROWS)
