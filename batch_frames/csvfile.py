"""Read one CSV file as a stream of text columns, and name the row of what is wrong in it."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv

from batch_frames.csvbytes import CsvBytes, Loan
from batch_frames.errors import BatchFramesError, ColumnError, RequestError
from batch_frames.frames import find_columns

__all__ = ["CsvFile"]


BLOCK = 4 << 20

LARGEST_BLOCK = 1 << 30

HEADER = 1 << 20

UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def _start(path: Path) -> bytes:
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            start: bytes = stream.read(HEADER)
    except OSError as error:
        raise BatchFramesError(f"'{path}' cannot be read: {error}") from None
    return start


def _header(path: Path, start: bytes, needed: list[str]) -> tuple[str, list[str]]:
    """Find the separator of a CSV file, and its columns."""
    if not start.strip():
        raise ColumnError(f"'{path}' is empty; its first line must name the columns")
    if start.startswith(b"PAR1"):
        raise BatchFramesError(f"'{path}' is a Parquet file; read it with from_parquet")
    text = start.decode("utf-16" if start[:2] in UTF16 else "utf-8-sig", "replace")
    headers = {mark: _first_record(text, mark) for mark in ",;\t|"}
    fits = [mark for mark, names in headers.items() if set(needed) <= set(names)]
    best = fits[0] if fits else max(headers, key=lambda mark: len(headers[mark]))
    if not headers[best] or any("\0" in name for name in headers[best]):
        raise BatchFramesError(f"'{path}' is not a CSV file: its first line is no list of columns")
    find_columns(headers[best], needed, f"'{path}'")
    if any("\ufffd" in name for name in headers[best]):
        raise BatchFramesError(f"'{path}' has column names that are not UTF-8; save it as UTF-8")
    return best, headers[best]


def _first_record(text: str, separator: str) -> list[str]:
    try:
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=separator), [])
    except csv.Error:
        return []


class CsvFile:
    """Read one CSV file as record batches of text."""

    def __init__(self, path: Path, needed: list[str]) -> None:
        self._path, self._needed = path, needed
        start = _start(path)
        self._encoding = "utf-16" if start[:2] in UTF16 else "utf-8"
        self._separator, header = _header(path, start, needed)
        self.header = header
        self._has_rows = len(start) == HEADER or b"\n" in start or b"\r" in start
        # The last column tells whether a quote was left open, which would swallow all that follows.
        self._last = header[-1] if header.count(header[-1]) == 1 else None

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Read; once more with larger blocks where a row is longer than one, from where it was."""
        done, block = 0, BLOCK
        last: bytes | None = None
        while self._has_rows:
            row = 0
            try:
                for batch in self._open(block):
                    new = batch.slice(max(done - row, 0))
                    row += len(batch)
                    if len(new):
                        done = row
                        last = new.column(self._last)[-1].as_py() if self._last else None
                        yield _as_text(new.select(self._needed))
            except pa.ArrowInvalid as error:
                block = self._larger(block, row, error)
            else:
                break
        if last and b"\n" in last and self._ends_inside(last):
            raise self._error(
                done - 1, "a quote is opened and never closed; close it, or double it"
            )

    def _open(self, block: int) -> Iterator[pa.RecordBatch]:
        bad_rows: list[pacsv.InvalidRow] = []
        try:
            with pa.input_stream(str(self._path), compression="detect") as stream:
                yield from self._lent(Loan(CsvBytes(stream, self._encoding)), block, bad_rows)
        except (OSError, UnicodeError) as error:
            raise BatchFramesError(f"'{self._path}' is damaged: {error}") from None
        except pa.ArrowInvalid:
            if not bad_rows:
                raise
            bad = bad_rows[0]
            fields = f"{bad.actual_columns} fields, and the header has {bad.expected_columns}"
            problem = f"it has {fields}; quote the fields that hold {self._separator!r}"
            raise self._error(bad.number - 2, problem) from None

    def _lent(
        self, loan: Loan, block: int, bad_rows: list[pacsv.InvalidRow]
    ) -> Iterator[pa.RecordBatch]:
        """Let Arrow parse what is lent to it, until that is over for both."""
        try:
            yield from self._parsed(loan, block, bad_rows)
        except pa.ArrowInvalid:
            # What was cut off by an error of the stream is seldom right.
            if loan.error is None:
                raise
        finally:
            loan.end()
        if loan.error is not None:
            raise loan.error

    def _parsed(
        self, loan: Loan, block: int, bad_rows: list[pacsv.InvalidRow]
    ) -> pacsv.CSVStreamingReader:
        # A variable would keep what is lent for as long as the traceback of an error lives.
        return pacsv.open_csv(
            pa.PythonFile(loan.file(), "r"),
            # Without threads, Arrow knows the numbers of the rows.
            pacsv.ReadOptions(block_size=block, use_threads=False),
            self._parsing(loan, bad_rows),
            self._conversion(),
        )

    def _parsing(self, loan: Loan, bad_rows: list[pacsv.InvalidRow]) -> pacsv.ParseOptions:
        def refuse(row: pacsv.InvalidRow) -> str:
            bad_rows.append(row)
            return "error"

        return pacsv.ParseOptions(
            delimiter=self._separator,
            newlines_in_values=True,
            invalid_row_handler=loan.lend(refuse),
        )

    def _ends_inside(self, value: bytes) -> bool:
        """Tell whether the file ends in a value whose quote was opened and not closed."""
        opened = self._separator.encode() + b'"' + value.replace(b'"', b'""')
        tail = b""
        with pa.input_stream(str(self._path), compression="detect") as stream:
            file = CsvBytes(stream, self._encoding)
            while data := file.read(BLOCK):
                tail = (tail + data)[-len(opened) :]
        return tail == opened

    def _conversion(self) -> pacsv.ConvertOptions:
        """Take columns as bytes: what is not UTF-8 is found by code that can name its row."""
        columns = list(dict.fromkeys([*self._needed, *([self._last] if self._last else [])]))
        return pacsv.ConvertOptions(
            include_columns=columns,
            column_types=dict.fromkeys(columns, pa.large_binary()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )

    def _larger(self, block: int, row: int, error: pa.ArrowInvalid) -> int:
        if "straddl" not in str(error):
            raise BatchFramesError(f"'{self._path}', after {row:,} rows: {error}") from None
        if block >= LARGEST_BLOCK:
            problem = f"it is longer than {block:,} bytes; a quote may have been left open"
            raise self._error(row, problem) from None
        return min(block * 8, LARGEST_BLOCK)

    def _error(self, row: int, problem: str) -> RequestError:
        return RequestError(f"row {row:,} of '{self._path}': {problem}", row=row)


def _as_text(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = [column.view(pa.large_string()) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, batch.schema.names)
