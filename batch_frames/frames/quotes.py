"""Check that the quotes of CSV text are where ``csv`` allows them in strict mode."""

from __future__ import annotations

import codecs
import csv

import numpy as np
import numpy.typing as npt

__all__ = ["QuoteCheck"]


QUOTE = ord('"')

NOWHERE = -2


class QuoteCheck:
    """Follow the quotes of text that is read in parts.

    A quote opens a field at its beginning, and closes it before a separator or a line end; inside,
    two of them are one. In a field without quotes around it, they are like any other character.

    Attributes:
        opened: Position of the quote that is open, None if none is.
    """

    def __init__(self, separator: str) -> None:
        self._is_end = np.zeros(256, bool)
        self._is_end[list(separator.encode() + b"\r\n")] = True
        self._seen = 0
        self._before, self._kept = b"\n", b""
        self._closed = NOWHERE
        self.opened: int | None = None

    def feed(self, data: bytes, *, last: bool = False) -> None:
        """Check a part of the text.

        Raises:
            csv.Error: If other text follows a closing quote, or one is never closed; its second
                argument is the position of the one that opened it.
        """
        if not self._seen and data.startswith(codecs.BOM_UTF8):
            data = b"\n" * len(codecs.BOM_UTF8) + data[len(codecs.BOM_UTF8) :]
        text = self._kept + data
        checked, self._kept = (text, b"") if last else (text[:-1], text[-1:])
        if b'"' in checked:
            around = np.frombuffer(self._before + text + b"\n" * last, np.uint8)
            where = np.flatnonzero(around[1 : len(checked) + 1] == QUOTE)
            if not self._in_turn(around[where], around[where + 2], where):
                self._one_by_one(around, where)
        self._seen += len(checked)
        self._before = checked[-1:] or self._before
        if last and self.opened is not None:
            raise csv.Error("a quote is opened and never closed", self.opened)

    def _in_turn(
        self,
        before: npt.NDArray[np.uint8],
        after: npt.NDArray[np.uint8],
        where: npt.NDArray[np.int64],
    ) -> bool:
        """Follow all quotes at once if they open and close in turn, as they mostly do."""
        closes = (np.arange(len(where)) % 2 == 0) == (self.opened is not None)
        # A quote that follows a closing one directly opens the field again.
        again = before == QUOTE
        again[0] &= self._closed == self._seen + where[0] - 1
        good = np.where(
            closes,
            self._is_end[after] | (after == QUOTE),
            self._is_end[before] | again,
        )
        if not good.all():
            return False
        if closes[-1]:
            self.opened, self._closed = None, self._seen + int(where[-1])
        else:
            self.opened = self._seen + int(where[-1])
        return True

    def _one_by_one(self, around: npt.NDArray[np.uint8], where: npt.NDArray[np.int64]) -> None:
        begins = self._is_end[around[where]].tolist()
        after = around[where + 2]
        ends = (self._is_end[after] | (after == QUOTE)).tolist()
        for place, is_begin, is_end in zip(where.tolist(), begins, ends, strict=True):
            position = self._seen + place
            if self.opened is None:
                if is_begin or self._closed == position - 1:
                    self.opened = position
            elif is_end:
                self.opened, self._closed = None, position
            else:
                raise csv.Error("text follows a closing quote", self.opened)
