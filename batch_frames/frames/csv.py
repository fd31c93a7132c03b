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
from batch_frames.files import Paths, open_stream
from batch_frames.frames.arrow import FileSource, find_columns
from batch_frames.frames.quotes import QuoteCheck

__all__ = ["BufferTracker", "CsvBytes", "CsvFile", "CsvSource"]


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


class BufferTracker:
    """Track the objects that Arrow's read-ahead threads hold, and wait until they are released.

    If the stream were closed while such a thread is reading, it could read from whatever is opened
    next; and if the thread releases a Python object after the interpreter has exited, the process
    aborts. So no Python object is left with it, not even an error.
    """

    def __init__(self, source: CsvBytes, separator: str) -> None:
        self._source, self._quotes = source, QuoteCheck(separator)
        self._reading = threading.Lock()
        self._over = False
        self._held: list[weakref.ref[Any]] = []
        self.error: Exception | None = None
        self.bad_row: pacsv.InvalidRow | None = None

    def track(self, thing: Thing) -> Thing:
        """Note one object that Arrow will hold."""
        self._held = [*(ref for ref in self._held if ref() is not None), weakref.ref(thing)]
        return thing

    def file(self) -> _TrackedFile:
        """Make the file that Arrow reads from."""
        return self.track(_TrackedFile(self))

    def read(self, size: int) -> memoryview:
        """Read a part; nothing after ``end`` or an error."""
        with self._reading:
            data = b""
            try:
                if not self._over:
                    data = self._source.read(size)
                    self._quotes.feed(data, last=not data)
            except (OSError, UnicodeError, csv.Error) as error:
                self.error, self._over = error.with_traceback(None), True
            return self.track(memoryview(data))

    def refuse(self, row: pacsv.InvalidRow) -> str:
        """Note a row with too few or too many fields, and let Arrow stop there."""
        self.bad_row = self.bad_row or row
        return "error"

    def end(self) -> None:
        """Stop reading, and wait until Arrow has released all it holds."""
        with self._reading:
            self._over = True
        until = time.monotonic() + LONGEST_RETURN
        # An event would not do: its thread would still be in Python while setting it.
        while any(ref() is not None for ref in self._held) and time.monotonic() < until:
            time.sleep(PAUSE)


class _TrackedFile:
    """The methods of a file that Arrow calls."""

    closed = False

    def __init__(self, tracker: BufferTracker) -> None:
        self._tracker = tracker

    def readable(self) -> bool:
        """Return that this can be read."""
        return True

    def read(self, size: int) -> memoryview:
        """Read a part."""
        return self._tracker.read(size)

    def close(self) -> None:
        """Leave the stream to whoever opened it."""


BLOCK = 4 << 20

LARGEST_BLOCK = 1 << 30

HEADER = 1 << 20

UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def _start(path: Path) -> bytes:
    try:
        with open_stream(path) as stream:
            start: bytes = stream.read(HEADER)
    except OSError as error:
        raise BatchFramesError(f"'{path}' cannot be read: {error}") from None
    return start


def _header(path: Path, start: bytes, needed: list[str]) -> tuple[str, list[str]]:
    """Find the separator of a CSV file, and its columns."""
    if not start.strip():
        raise ColumnError(f"'{path}' is empty", hint="its first line must name the columns")
    if start.startswith(b"PAR1"):
        # Without hint=, as the command line has other words for it than for hints in general.
        raise BatchFramesError(f"'{path}' is a Parquet file; read it with from_parquet")
    text = start.decode("utf-16" if start[:2] in UTF16 else "utf-8-sig", "replace")
    headers = {mark: _first_record(text, mark) for mark in ",;\t|"}
    fits = [mark for mark, names in headers.items() if set(needed) <= set(names)]
    if not fits and (call := _conversion(path, start)):
        raise BatchFramesError(f"'{path}' is not a CSV file; make it one with {call}")
    best = fits[0] if fits else max(headers, key=lambda mark: len(headers[mark]))
    if not headers[best] or any("\0" in name for name in headers[best]):
        problem = "its first line is not a list of columns"
        raise BatchFramesError(f"'{path}' is not a CSV file: {problem}")
    find_columns(headers[best], needed, f"'{path}'")
    if any("\ufffd" in name for name in headers[best]):
        problem = f"'{path}' has column names that are not UTF-8"
        raise BatchFramesError(problem, hint="save it as UTF-8")
    return best, headers[best]


def _conversion(path: Path, start: bytes) -> str | None:
    """Return the call of pandas that makes CSV of JSON or Excel, None for other files."""
    if start.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        read = f"read_excel('{path}', dtype=str)"
    elif (mark := start.lstrip()[:1]) in (b"{", b"["):
        read = f"read_json('{path}', {'lines=True, ' * (mark == b'{')}dtype=False)"
    else:
        return None
    return f"pandas.{read}.to_csv('{path.with_suffix('.csv')}', index=False)"


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
        # A header alone is not passed to Arrow, which may refuse it; UTF-16 has zeros beside ends.
        lines = start.strip(b"\r\n\0")
        self._has_rows = len(start) == HEADER or b"\n" in lines or b"\r" in lines

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Read; once more with larger blocks where a row is longer than one, from where it was."""
        done, block = 0, BLOCK
        while self._has_rows:
            row = 0
            try:
                for batch in self._open(block):
                    new = batch.slice(max(done - row, 0))
                    row += len(batch)
                    if len(new):
                        done = row
                        yield _as_text(new)
            except pa.ArrowInvalid as error:
                block = self._larger(block, row, error)
            else:
                break

    def _open(self, block: int) -> Iterator[pa.RecordBatch]:
        """Let Arrow parse the file, and wait for its threads at the end."""
        try:
            with open_stream(self._path) as stream:
                tracker = BufferTracker(CsvBytes(stream, self._encoding), self._separator)
                try:
                    yield from self._parsed(tracker, block)
                except pa.ArrowInvalid:
                    # An error of the stream cuts the text off, which Arrow then reports instead.
                    if tracker.error is None and tracker.bad_row is None:
                        raise
                finally:
                    tracker.end()
                if tracker.error is not None:
                    raise tracker.error
                if (bad := tracker.bad_row) is not None:
                    fields = f"{bad.actual_columns} fields"
                    problem = f"it has {fields}, and the header has {bad.expected_columns}"
                    hint = f"quote the fields that hold {self._separator!r}"
                    raise self._error(bad.number - 2, problem, hint)
        except csv.Error as error:
            problem, position = error.args
            row = self._row_at(position)
            if row < 0:
                raise BatchFramesError(f"'{self._path}', in its first line: {problem}") from None
            raise self._error(row, problem, "close it, or double it") from None
        except (OSError, UnicodeError) as error:
            raise BatchFramesError(f"'{self._path}' is damaged: {error}") from None

    def _parsed(self, tracker: BufferTracker, block: int) -> pacsv.CSVStreamingReader:
        # A variable would be kept alive by the traceback of an error.
        return pacsv.open_csv(
            pa.PythonFile(tracker.file(), "r"),
            # Without threads, Arrow knows the numbers of the rows.
            pacsv.ReadOptions(block_size=block, use_threads=False),
            pacsv.ParseOptions(
                delimiter=self._separator,
                newlines_in_values=True,
                invalid_row_handler=tracker.track(tracker.refuse),
            ),
            self._conversion(),
        )

    def _row_at(self, position: int) -> int:
        """Count the rows before a position, where a quote opens a field."""
        last = ""

        def lines() -> Iterator[str]:
            nonlocal last
            for line in self._lines(position):
                last = line.decode("utf-8" if last else "utf-8-sig", "replace")
                yield last

        limit = csv.field_size_limit(position + 1)
        try:
            rows = sum(1 for row in csv.reader(lines(), delimiter=self._separator) if row)
        finally:
            csv.field_size_limit(limit)
        # The header is no row; the field itself may be the first of its row.
        return rows - (not last.endswith(("\n", "\r"))) - 1

    def _lines(self, position: int) -> Iterator[bytes]:
        """Yield the lines before a position, the last of which may end there."""
        rest = b""
        with open_stream(self._path) as stream:
            file, left = CsvBytes(stream, self._encoding), position
            while left > 0 and (data := file.read(BLOCK)):
                *whole, rest = (rest + data[:left]).splitlines(keepends=True)
                left -= len(data)
                yield from whole
        yield rest

    def _conversion(self) -> pacsv.ConvertOptions:
        """Take columns as bytes: what is not UTF-8 is found by code that can name its row."""
        columns = self._needed
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
            hint = "a quote may have been left open"
            raise self._error(row, f"it is longer than {block:,} bytes", hint) from None
        return min(block * 8, LARGEST_BLOCK)

    def _error(self, row: int, problem: str, hint: str) -> RequestError:
        return RequestError(f"row {row:,} of '{self._path}': {problem}", row=row, hint=hint)


def _as_text(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = [column.view(pa.large_string()) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, batch.schema.names)


class CsvSource(FileSource):
    """Rows of CSV files, one file after the other; every column is text.

    An empty field is null, a quoted empty one is ``""``. The separator is the one of ``,`` ``;``
    tab and ``|`` that gives a header with the needed columns.
    """

    kind = "CSV"

    def __init__(
        self, paths: Paths, id_column: str | Sequence[str] | None, columns: Sequence[str]
    ) -> None:
        super().__init__(paths, [".csv", ".tsv", ".csv.gz", ".tsv.gz"], id_column, columns)
        self._files = {path: CsvFile(path, self._needed) for path in self.paths}
        self.names = next(iter(self._files.values())).header

    def rows(self) -> None:
        """Return None, as the rows cannot be counted without reading them."""

    def _batches(self, path: Path) -> Iterator[pa.RecordBatch]:
        return self._files[path].batches()
