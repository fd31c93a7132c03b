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
from batch_frames.errors import BatchFramesError, ColumnError, RequestError
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
        return [p for p in files if p.is_file() and not _is_hidden(p.relative_to(path))]
    if path.exists():
        return [path]
    matches = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
    return [p for p in matches if path.name[0] == "." or not p.name.startswith(".")]


def _is_hidden(path: Path) -> bool:
    return any(part[0] in "._" for part in path.parts)


class ParquetSource:
    """Read Parquet files, one after the other."""

    once = False
    paths: Sequence[Path]

    def __init__(self, paths: Paths, id_column: str | None, columns: Sequence[str]) -> None:
        self.paths = find_files(paths, [".parquet", ".pq"])
        self._id_column = _needed_id(id_column, "Parquet")
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
                batches = file.iter_batches(_batch_rows(file), columns=needed)
                yield from cut(batches, self._id_column, self._columns, _origin(path, self.paths))


def _batch_rows(file: pq.ParquetFile) -> int:
    """Choose batches of about 2 MB, by the size that the file gives for its rows."""
    groups = [file.metadata.row_group(n) for n in range(file.metadata.num_row_groups)]
    largest = max((g.total_byte_size / max(g.num_rows, 1) for g in groups), default=1)
    return min(max(1, int((2 << 20) / max(largest, 1))), 65_536)


class CsvSource:
    """Read CSV files, one after the other; every column is text.

    An empty field is null, a quoted empty one is ``""``. The separator is that of ``,`` ``;`` tab
    and ``|`` which gives a header with the needed columns.
    """

    once = False
    paths: Sequence[Path]

    def __init__(self, paths: Paths, id_column: str | None, columns: Sequence[str]) -> None:
        self.paths = find_files(paths, [".csv", ".tsv", ".csv.gz", ".tsv.gz"])
        self._id_column = _needed_id(id_column, "CSV")
        self._columns = columns
        needed = list(dict.fromkeys([self._id_column, *columns]))
        self._files = [_CsvFile(path, needed) for path in self.paths]

    def rows(self) -> None:
        """Admit that the number of rows is not known without reading."""
        return

    def chunks(self) -> Iterator[Chunk]:
        """Read the rows from the first one on."""
        for path, file in zip(self.paths, self._files, strict=True):
            origin = _origin(path, self.paths)
            yield from cut(file.batches(), self._id_column, self._columns, origin)


def _needed_id(id_column: str | None, kind: str) -> str:
    if id_column is None:
        raise ColumnError(f"a {kind} file has no index to take the ids from; pass id_column=")
    return id_column


def _origin(path: Path, paths: Sequence[Path]) -> str:
    return str(path) if len(paths) > 1 else ""


def _encoding(path: Path) -> str:
    with pa.input_stream(str(path), compression="detect") as stream:
        return "utf-16" if stream.read(2) in UTF16 else "utf-8"


def _header(path: Path, needed: list[str]) -> tuple[str, list[str]]:
    """Find the separator of a CSV file, and its columns."""
    with pa.input_stream(str(path), compression="detect") as stream:
        start = stream.read(HEADER)
    if not start.strip():
        raise ColumnError(f"'{path}' is empty; its first line must name the columns")
    if start.startswith(b"PAR1"):
        raise BatchFramesError(f"'{path}' is a Parquet file; read it with from_parquet")
    encoding = "utf-16" if start[:2] in UTF16 else "utf-8-sig"
    text = start.decode(encoding, "replace")
    headers = {mark: next(csv.reader(io.StringIO(text), delimiter=mark), []) for mark in ",;\t|"}
    fits = [mark for mark, names in headers.items() if set(needed) <= set(names)]
    best = fits[0] if fits else max(headers, key=lambda mark: len(headers[mark]))
    find_columns(headers[best], needed, f"'{path}'")
    return best, headers[best]


class _CsvFile:
    """Read one CSV file as record batches of text."""

    def __init__(self, path: Path, needed: list[str]) -> None:
        self._path, self._needed = path, needed
        self._separator, header = _header(path, needed)
        # The last column tells whether a quote was left open, which would swallow all that follows.
        self._last = header[-1] if header.count(header[-1]) == 1 else needed[-1]

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Read; once more with larger blocks where a row is longer than one, from where it was."""
        done, block, ends_open = 0, BLOCK, False
        while True:
            row = 0
            try:
                for batch in self._open(block):
                    new = batch.slice(max(done - row, 0))
                    row += len(batch)
                    if len(new):
                        done = row
                        ends_open = "\n" in (new.column(self._last)[-1].as_py() or b"").decode(
                            "latin-1"
                        )
                        yield _as_text(new.select(self._needed))
            except pa.ArrowInvalid as error:
                block = self._larger(block, row, error)
            else:
                break
        if ends_open and not self._tail().endswith('"'):
            raise self._error(
                done - 1, "a quote is opened and never closed; close it, or double it"
            )

    def _open(self, block: int) -> Iterator[pa.RecordBatch]:
        bad_rows: list[pacsv.InvalidRow] = []

        def refuse(row: pacsv.InvalidRow) -> str:
            bad_rows.append(row)
            return "error"

        columns = list(dict.fromkeys([*self._needed, self._last]))
        try:
            with pacsv.open_csv(
                str(self._path),
                # Without threads, Arrow knows the numbers of the rows.
                read_options=pacsv.ReadOptions(
                    block_size=block, encoding=_encoding(self._path), use_threads=False
                ),
                parse_options=pacsv.ParseOptions(
                    delimiter=self._separator, newlines_in_values=True, invalid_row_handler=refuse
                ),
                # Read as bytes: what is not UTF-8 is found later, by code that can name its row.
                convert_options=pacsv.ConvertOptions(
                    include_columns=columns,
                    column_types=dict.fromkeys(columns, pa.large_binary()),
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            ) as reader:
                yield from reader
        except pa.ArrowInvalid:
            if not bad_rows:
                raise
            bad = bad_rows[0]
            fields = f"{bad.actual_columns} fields, and the header has {bad.expected_columns}"
            problem = f"it has {fields}; quote the fields that hold {self._separator!r}"
            raise self._error(bad.number - 2, problem) from None

    def _larger(self, block: int, row: int, error: pa.ArrowInvalid) -> int:
        if "straddl" not in str(error):
            raise BatchFramesError(f"'{self._path}', after {row:,} rows: {error}") from None
        if block >= LARGEST_BLOCK:
            problem = f"it is longer than {block:,} bytes; a quote may have been left open"
            raise self._error(row, problem) from None
        return block * 8

    def _tail(self) -> str:
        tail = b""
        with pa.input_stream(str(self._path), compression="detect") as stream:
            while data := stream.read(BLOCK):
                tail = (tail + data)[-64:]
        encoding = _encoding(self._path).replace("16", "16-le" if tail[-1:] == b"\0" else "16-be")
        return tail.decode(encoding, "replace").rstrip()

    def _error(self, row: int, problem: str) -> RequestError:
        return RequestError(f"row {row:,} of '{self._path}': {problem}", row=row)


def _as_text(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = [column.view(pa.large_string()) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, batch.schema.names)
