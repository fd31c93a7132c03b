"""Read CSV and Parquet files as chunks: as a stream, and only the columns that are needed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from batch_frames.arrow import TEXT
from batch_frames.chunks import Chunk
from batch_frames.csvfile import CsvFile
from batch_frames.errors import BatchFramesError, ColumnError
from batch_frames.frames import cut, find_columns

__all__ = ["LEDGER", "CsvSource", "ParquetSource", "Paths", "find_files", "read_table"]


Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]

LEDGER = ".jobs.jsonl"

MOST_ROWS = 2_048


def find_files(paths: Paths, endings: Sequence[str]) -> list[Path]:
    """List the files of a path, a list of them, a glob or a folder.

    A folder gives all files in it with one of the endings, deeper ones too, sorted by name; names
    that begin with ``.`` or ``_`` are passed over. So are, in folders and globs, the ledgers of
    batches, ``reviews.jobs.jsonl``, unless theirs is one of the endings.

    Raises:
        FileNotFoundError: If there is none.
    """
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    if not isinstance(paths, Iterable):
        raise TypeError(f"a path must be text or a Path, not {paths!r}")
    if hasattr(paths, "columns"):
        raise TypeError(
            f"a path is needed, not a {type(paths).__name__}; for that, use from_dataframe"
        )
    found: list[Path] = []
    for path in paths:
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"a path must be text or a Path, not {path!r}")
        matches = _expand(Path(path), endings)
        if not matches:
            listed = " or ".join(f"*{ending}" for ending in endings)
            what = f"no {listed} in the folder" if Path(path).is_dir() else "no file"
            raise FileNotFoundError(f"{what} '{path}'; check the path")
        found += matches
    if not found:
        raise FileNotFoundError("the list of paths is empty")
    return found


def _expand(path: Path, endings: Sequence[str]) -> list[Path]:
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.name.endswith(tuple(endings)))
        return [p for p in files if _is_wanted(p, endings) and not _is_hidden(p.relative_to(path))]
    if path.exists():
        return [path]
    matches = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
    hidden = path.name[0] == "."
    return [p for p in matches if _is_wanted(p, endings) and (hidden or not p.name.startswith("."))]


def _is_wanted(path: Path, endings: Sequence[str]) -> bool:
    return path.is_file() and (LEDGER in endings or not path.name.endswith(LEDGER))


def _is_hidden(path: Path) -> bool:
    return any(part[0] in "._" for part in path.parts)


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


class CsvSource:
    """Read CSV files, one after the other; every column is text.

    An empty field is null, a quoted empty one is ``""``. The separator is that of ``,`` ``;`` tab
    and ``|`` which gives a header with the needed columns.
    """

    once = False
    paths: Sequence[Path]

    def __init__(self, paths: Paths, id_column: str | None, columns: Sequence[str]) -> None:
        self.paths = find_files(paths, [".csv", ".tsv", ".csv.gz", ".tsv.gz"])
        self._id_column = needed_id(id_column, "CSV")
        self._columns = columns
        needed = list(dict.fromkeys([self._id_column, *columns]))
        self._files = [CsvFile(path, needed) for path in self.paths]

    def rows(self) -> None:
        """Admit that the number of rows is not known without reading."""
        return

    def chunks(self) -> Iterator[Chunk]:
        """Read the rows from the first one on."""
        for path, file in zip(self.paths, self._files, strict=True):
            origin = origin_name(path, self.paths)
            yield from cut(file.batches(), self._id_column, self._columns, origin)


def read_table(path: Path, id_column: str) -> pa.Table:
    """Read a whole CSV or Parquet file; the columns of CSV are text.

    Raises:
        ColumnError: If there is no column with the ids.
    """
    if path.suffix in (".parquet", ".pq"):
        ParquetSource(path, id_column, [])
        return pq.read_table(path)
    names = CsvFile(path, [id_column]).header
    batches = list(CsvFile(path, names).batches())
    return pa.Table.from_batches(batches, pa.schema([(name, TEXT) for name in names]))


def needed_id(id_column: str | None, kind: str) -> str:
    if id_column is None:
        raise ColumnError(f"a {kind} file has no index to take the ids from; pass id_column=")
    return id_column


def origin_name(path: Path, paths: Sequence[Path]) -> str:
    return str(path) if len(paths) > 1 else ""
