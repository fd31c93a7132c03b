"""Read CSV and Parquet files as chunks: as a stream, and only the columns that are needed."""

from __future__ import annotations

import codecs
import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from batch_frames.chunks import Chunk
from batch_frames.errors import BatchFramesError, ColumnError
from batch_frames.frames import cut, find_columns

__all__ = ["CsvSource", "ParquetSource", "Paths", "find_files"]

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]

BLOCK = 4 << 20
LARGEST_BLOCK = 1 << 30
HEADER = 1 << 20
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def find_files(paths: Paths, endings: Sequence[str]) -> list[Path]:
    """List the files of a path, a list of them, a glob or a folder.

    A folder gives all files in it with one of the endings, deeper ones too, sorted by name; names
    that begin with ``.`` or ``_`` are passed over.

    Raises:
        FileNotFoundError: If there is none.
    """
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    found: list[Path] = []
    for path in paths:
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
        return [p for p in files if p.is_file() and p.name[0] not in "._"]
    if path.exists():
        return [path]
    return sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))


class ParquetSource:
    """Read Parquet files, one after the other."""

    once = False

    def __init__(self, paths: Paths, id_column: str | None, columns: Sequence[str]) -> None:
        self._paths = find_files(paths, [".parquet", ".pq"])
        self._id_column = _needed_id(id_column, "Parquet")
        self._columns = columns
        self._rows = 0
        for path in self._paths:
            with pq.ParquetFile(path) as file:
                names = file.schema_arrow.names
                find_columns(names, [self._id_column, *columns], f"'{path}'")
                self._rows += file.metadata.num_rows

    def rows(self) -> int:
        """Count the rows."""
        return self._rows

    def chunks(self) -> Iterator[Chunk]:
        """Read the rows from the first one on."""
        for path in self._paths:
            # Without pre-buffering, and with a small buffer, a row group is never whole in memory.
            with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
                needed = list(dict.fromkeys([self._id_column, *self._columns]))
                batches = file.iter_batches(_batch_rows(file), columns=needed)
                yield from cut(batches, self._id_column, self._columns, _origin(path, self._paths))


def _batch_rows(file: pq.ParquetFile) -> int:
    """Choose batches of about 8 MB, by the size that the file gives for its rows."""
    groups = [file.metadata.row_group(n) for n in range(file.metadata.num_row_groups)]
    largest = max((g.total_byte_size / max(g.num_rows, 1) for g in groups), default=1)
    return min(max(1, int((8 << 20) / max(largest, 1))), 65_536)


class CsvSource:
    """Read CSV files, one after the other; every column is text.

    An empty field is null, a quoted empty one is ``""``. The separator is that of ``,`` ``;`` tab
    and ``|`` which gives a header with the needed columns.
    """

    once = False

    def __init__(self, paths: Paths, id_column: str | None, columns: Sequence[str]) -> None:
        self._paths = find_files(paths, [".csv", ".tsv", ".csv.gz", ".tsv.gz"])
        self._id_column = _needed_id(id_column, "CSV")
        self._columns = columns
        needed = [self._id_column, *columns]
        self._separators = [_separator(path, needed) for path in self._paths]

    def rows(self) -> None:
        """Admit that the number of rows is not known without reading."""
        return

    def chunks(self) -> Iterator[Chunk]:
        """Read the rows from the first one on."""
        needed = list(dict.fromkeys([self._id_column, *self._columns]))
        for path, separator in zip(self._paths, self._separators, strict=True):
            batches = _batches(path, separator, needed)
            yield from cut(batches, self._id_column, self._columns, _origin(path, self._paths))


def _needed_id(id_column: str | None, kind: str) -> str:
    if id_column is None:
        raise ColumnError(f"a {kind} file has no index to take the ids from; pass id_column=")
    return id_column


def _origin(path: Path, paths: list[Path]) -> str:
    return str(path) if len(paths) > 1 else ""


def _encoding(path: Path) -> str:
    with pa.input_stream(str(path), compression="detect") as stream:
        return "utf-16" if stream.read(2) in UTF16 else "utf-8"


def _separator(path: Path, needed: list[str]) -> str:
    with pa.input_stream(str(path), compression="detect") as stream:
        start = stream.read(HEADER)
    if not start.strip():
        raise ColumnError(f"'{path}' is empty; its first line must name the columns")
    encoding = "utf-16" if start[:2] in UTF16 else "utf-8-sig"
    text = start.decode(encoding, "replace")
    headers = {mark: next(csv.reader(io.StringIO(text), delimiter=mark), []) for mark in ",;\t|"}
    fits = [mark for mark, names in headers.items() if set(needed) <= set(names)]
    best = fits[0] if fits else max(headers, key=lambda mark: len(headers[mark]))
    find_columns(headers[best], needed, f"'{path}'")
    return best


def _batches(path: Path, separator: str, needed: list[str]) -> Iterator[pa.RecordBatch]:
    """Read once more with larger blocks where a row is longer than one, from where it stood."""
    done, block = 0, BLOCK
    while True:
        row = 0
        try:
            for batch in _open(path, separator, needed, block):
                if row >= done:
                    yield batch
                    done = row + len(batch)
                elif row + len(batch) > done:
                    yield batch.slice(done - row)
                    done = row + len(batch)
                row += len(batch)
        except pa.ArrowInvalid as error:
            if "straddl" not in str(error):
                raise BatchFramesError(f"'{path}', near row {row:,}: {error}") from None
            if block >= LARGEST_BLOCK:
                raise BatchFramesError(
                    f"'{path}', row {row:,} or one after it is longer than {block:,} bytes; "
                    "a quote may have been left open"
                ) from None
            block *= 8
        else:
            return


def _open(path: Path, separator: str, needed: list[str], block: int) -> Iterator[pa.RecordBatch]:
    # Read as bytes: text that is not UTF-8 is found later, by code that can name its row.
    reader = pacsv.open_csv(
        str(path),
        read_options=pacsv.ReadOptions(
            block_size=block, encoding=_encoding(path), use_threads=False
        ),
        parse_options=pacsv.ParseOptions(delimiter=separator, newlines_in_values=True),
        convert_options=pacsv.ConvertOptions(
            include_columns=needed,
            column_types=dict.fromkeys(needed, pa.large_binary()),
            check_utf8=False,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    with reader:
        for batch in reader:
            columns = [column.view(pa.large_string()) for column in batch.columns]
            yield pa.RecordBatch.from_arrays(columns, needed)
