"""Give Arrow the bytes of a CSV file, and know when its threads have given all of them back."""

from __future__ import annotations

import codecs
import threading
import time
import weakref
from typing import Any, TypeVar

__all__ = ["CsvBytes", "Loan"]


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
