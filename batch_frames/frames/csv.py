"""Read CSV files as chunks of text columns, and name the row of what is wrong in them."""

from __future__ import annotations

import codecs
import csv
import io
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.csv as pacsv

from batch_frames.errors import BatchFramesError, ColumnError, RequestError
from batch_frames.files import Paths, find_files
from batch_frames.frames.arrow import cut, find_columns, needed_id, origin_name
from batch_frames.frames.chunks import Chunk

__all__ = ["CsvBytes", "CsvFile", "CsvSource", "Loan"]


LONGEST_RETURN = 5.0

PAUSE = 0.001

Thing = TypeVar("Thing")


class CsvBytes:
    """Read what Arrow reads without slips: UTF-8, ended by a newline, no line end cut in two."""

    def __init__(self, stream: Any, encoding: str) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)() if encoding == "utf-16" else None
        self._kept = b""
        self._ended = False
        self._last = b""

    def read(self, size: int) -> bytes:
        """Read a part; a carriage return at its end waits for what follows."""
        data = b""
        while not data and not self._ended:
            # UTF-16 may grow by half when it becomes UTF-8.
            raw = self._stream.read(max(size // 2 if self._decoder else size - 2, 1))
            self._ended = not raw
            data = self._kept + (self._decoded(raw) if self._decoder else raw)
            self._kept = b""
            if self._ended and not data:
                data = b"" if self._last in b"\r\n" else b"\n"
            elif data.endswith(b"\r") and not self._ended:
                data, self._kept = data[:-1], b"\r"
        self._last = data[-1:] or self._last
        return data

    def _decoded(self, raw: bytes) -> bytes:
        assert self._decoder is not None
        return self._decoder.decode(raw, final=not raw).encode()


class Loan:
    """Lend bytes to Arrow's threads, which read ahead, and wait until all is given back.

    Were the stream closed under such a thread, it could read from whatever is opened next; and did
    the thread ask for the interpreter when that has ended, if only to let go of an object, the
    process would be aborted. So nothing of Python is left with it, not even an error.
    """

    def __init__(self, source: CsvBytes) -> None:
        self._source = source
        self._reading = threading.Lock()
        self._over = False
        self._lent: list[weakref.ref[Any]] = []
        self.error: Exception | None = None

    def lend(self, thing: Thing) -> Thing:
        """Note one object that Arrow will hold."""
        self._lent = [*(ref for ref in self._lent if ref() is not None), weakref.ref(thing)]
        return thing

    def file(self) -> _LentFile:
        """Make the file that Arrow reads from."""
        return self.lend(_LentFile(self))

    def read(self, size: int) -> memoryview:
        """Read a part, nothing once the loan is over or a read has failed."""
        with self._reading:
            data = b""
            try:
                if not self._over:
                    data = self._source.read(size)
            except (OSError, UnicodeError) as error:
                self.error, self._over = error.with_traceback(None), True
            return self.lend(memoryview(data))

    def end(self) -> None:
        """Give nothing more, and wait for what is still lent."""
        with self._reading:
            self._over = True
        until = time.monotonic() + LONGEST_RETURN
        # No event could say so: the thread would still be in Python when it is heard.
        while any(ref() is not None for ref in self._lent) and time.monotonic() < until:
            time.sleep(PAUSE)


class _LentFile:
    """Be a file, as far as Arrow asks for one."""

    closed = False

    def __init__(self, loan: Loan) -> None:
        self._loan = loan

    def readable(self) -> bool:
        """Tell that this can be read."""
        return True

    def read(self, size: int) -> memoryview:
        """Read a part."""
        return self._loan.read(size)

    def close(self) -> None:
        """Leave the stream to whoever opened it."""


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
