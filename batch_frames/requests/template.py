"""Compile a request with columns in it once, then render each chunk as one line per row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.arrow import (
    TEXT,
    constant,
    digests,
    dumps,
    escape,
    first,
    is_plain,
    join,
    read_type,
    to_json,
    to_prompt,
    to_text,
)
from batch_frames.display import NAMED
from batch_frames.errors import TemplateError
from batch_frames.frames import Chunk
from batch_frames.requests.columns import Col, Fmt, Value

__all__ = ["NEEDS_ID", "Rendered", "Template", "constant_json"]


NEEDS_ID = "every request needs an id"


@dataclass(frozen=True)
class Rendered:
    """The request lines of a chunk.

    Attributes:
        lines: ``large_string``, one line with its newline per request.
        ids: ``large_string``, their ``custom_id``.
        chunk: The rows that have a request.
        rows: How many rows there were.
        skipped: How many of them were skipped.
        places: Where the first of them are.
    """

    lines: pa.Array
    ids: pa.Array
    chunk: Chunk
    rows: int
    skipped: int
    places: Sequence[str]

    def take(self, rows: npt.NDArray[np.int64]) -> Rendered:
        """Return the requests at some places."""
        index, mask = pa.array(rows), np.zeros(len(self.ids), bool)
        mask[rows] = True
        lines, ids = self.lines.take(index), self.ids.take(index)
        return replace(self, lines=lines, ids=ids, chunk=self.chunk.keep(mask))

    def spread(self, values: npt.NDArray[Any], skipped: Any) -> npt.NDArray[Any]:
        """Return a value for each row of the chunk, from those of its requests."""
        if self.chunk.position.kept is None:
            return values
        every = np.full(self.rows, skipped, values.dtype)
        every[self.chunk.position.kept] = values
        return every


class Template:
    """A request with columns in it.

    Args:
        url: The endpoint's path.
        body: The request body, with ``Col`` and ``Fmt`` at any depth.
        prompt_key: The key of the body that needs a value in every row.

    Raises:
        TemplateError: If the body cannot be JSON.
    """

    def __init__(self, url: str, body: Mapping[str, Any], prompt_key: str | None) -> None:
        self._members = [_member(key, value) for key, value in body.items()]
        prompts = [m for key, m in zip(body, self._members, strict=True) if key == prompt_key]
        self.prompt_columns = _names(prompts)
        self.columns = _names(self._members)
        self._pieces: list[str | Value] = []
        for position, member in enumerate(self._members):
            self._pieces += [*([","] if position else []), *member]
        self._head = '{"custom_id":"'
        self._middle = f'","method":"POST","url":{dumps(url)},"body":{{'
        self._tail = "}}\n"

    def render(self, chunk: Chunk, *, na: str = "raise", dedupe: bool = False) -> Rendered:
        """Render a line for each row of the chunk.

        Args:
            chunk: The rows.
            na: ``"raise"`` raises for a row without a prompt, ``"skip"`` drops it.
            dedupe: Whether to make the ids of what is asked, so that equal requests have the same.

        Raises:
            RequestError: If a row cannot become a request.
            ColumnError: If a column cannot be written as JSON.
        """
        kept = self.prompted(chunk, na=na)
        cells = _Cells(kept)
        if dedupe:
            ids = digests(self._lines(pa.array([""] * len(kept), TEXT), cells))
        else:
            ids = _ids(kept)
        lines = self._lines(escape(ids), cells)
        if lines.null_count or len(lines) != len(kept):
            raise AssertionError("a line was lost; please report this with the frame's dtypes")
        skipped = len(chunk) - len(kept)
        return Rendered(lines, ids, kept, len(chunk), skipped, _dropped(chunk, kept))

    def prompted(self, chunk: Chunk, *, na: str) -> Chunk:
        """Return the rows that have a prompt, or raise for the first that has none."""
        chunk.check_types()
        holes = [n for n in self.prompt_columns if chunk.columns[n].null_count]
        if not holes:
            return chunk
        missing = [np.asarray(chunk.columns[name].is_null()) for name in holes]
        if na == "skip":
            return chunk.keep(~np.logical_or.reduce(missing))
        index, name = min((int(np.argmax(mask)), n) for mask, n in zip(missing, holes, strict=True))
        hint = 'drop the row or pass na="skip"'
        raise chunk.error(index, f"column {name!r} is null", name, hint=hint)

    def _lines(self, ids: pa.Array, cells: _Cells) -> pa.Array:
        pieces: list[Any] = [self._head, ids, self._middle]
        if any(cells.has_null(piece) for piece in self._pieces if not isinstance(piece, str)):
            pieces.append(self._body_with_nulls(cells))
        else:
            for piece in self._pieces:
                pieces += [piece] if isinstance(piece, str) else cells.parts(piece)
        return join(_merged([*pieces, self._tail]))

    def _body_with_nulls(self, cells: _Cells) -> pa.Array:
        """Leave out, in each row, the keys whose value is null; deeper nulls are JSON's null."""
        texts = []
        for member in self._members:
            pieces: list[Any] = []
            for piece in member:
                if isinstance(piece, str):
                    pieces.append(piece)
                    continue
                text = cells.json(piece)
                # A key with nothing but this value is left out with it.
                pieces.append(text if len(member) == 2 else text.fill_null("null"))
            texts.append(join(_merged(pieces)))
        return join(texts, ",", skip_nulls=True)


class _Cells:
    """The columns of a chunk, each written once for each form that the template needs."""

    def __init__(self, chunk: Chunk) -> None:
        self._chunk = chunk
        self._written: dict[tuple[Any, ...], pa.Array] = {}

    def has_null(self, value: Value) -> bool:
        return any(self._chunk.columns[name].null_count for name in value.names)

    def parts(self, value: Value) -> list[Any]:
        """Return the pieces of a value without nulls."""
        if isinstance(value, Col) and value.type != "text":
            return [self._column(value.name, value.type, to_json)]
        if isinstance(value, Col):
            if not is_plain(self._chunk.columns[value.name].type):
                return [self._column(value.name, None, to_prompt)]
            value = Fmt(("", ""), value.names)
        pieces: list[Any] = ['"' + dumps(value.texts[0])[1:-1]]
        for name, text in zip(value.names, value.texts[1:], strict=True):
            pieces += [self._column(name, None, to_text), dumps(text)[1:-1]]
        return [*pieces, '"']

    def json(self, value: Value) -> pa.Array:
        """Write a value in one piece, null where one of its columns is."""
        return join(_merged(self.parts(value)))

    def _column(
        self, name: str, type: str | None, write: Callable[[pa.Array], pa.Array]
    ) -> pa.Array:
        key = (name, type, write)
        if key not in self._written:
            column = self._chunk.columns[name]
            with self._chunk.locate(f"column {name!r}", name):
                self._written[key] = write(column if type is None else read_type(column, type))
        return self._written[key]


def _dropped(chunk: Chunk, kept: Chunk) -> list[str]:
    if kept.position.kept is None:
        return []
    gone = np.setdiff1d(np.arange(len(chunk)), kept.position.kept)
    return [chunk.place(int(index)) for index in gone[:NAMED]]


def _ids(chunk: Chunk) -> pa.Array:
    ids = chunk.id_text()
    for what, wrong in (("null", ids.is_null()), ("empty", pc.equal(ids, ""))):
        if (index := first(wrong)) is not None:
            missing = [name for name, part in chunk.ids.items() if not part[index].is_valid]
            name = next(iter([*missing, *chunk.ids]))
            raise chunk.error(index, f"{name} is {what}", hint=NEEDS_ID)
    return ids


def _member(key: str, value: Any) -> list[str | Value]:
    """Compile one top-level key of the body: ``"key":``, then constant texts and values."""
    pieces: list[str | Value] = [f"{_key(key)}:"]
    _compile(value, pieces, (key,))
    return pieces


def _compile(node: Any, pieces: list[str | Value], path: tuple[str, ...]) -> None:
    """Append the constant JSON and the values of a node, in the order they are written."""
    if isinstance(node, Fmt) and not node.names:
        pieces.append(constant_json(node.texts[0], path))
    elif isinstance(node, (Col, Fmt)):
        for text in node.texts if isinstance(node, Fmt) else ():
            constant_json(text, path)
        pieces.append(node)
    elif isinstance(node, Mapping):
        pieces.append("{")
        for position, (key, child) in enumerate(node.items()):
            pieces.append(f"{',' if position else ''}{_key(key, path)}:")
            _compile(child, pieces, (*path, key))
        pieces.append("}")
    elif isinstance(node, (list, tuple)):
        pieces.append("[")
        for position, child in enumerate(node):
            pieces += [","] if position else []
            _compile(child, pieces, (*path, str(position)))
        pieces.append("]")
    else:
        pieces.append(constant_json(node, path))


def _key(key: Any, path: tuple[str, ...] = ()) -> str:
    if not isinstance(key, str):
        raise TemplateError(f"{'.'.join(('body', *path))}: key {key!r} is not text")
    return constant_json(key, path)


def constant_json(value: Any, path: tuple[str, ...]) -> str:
    """Write a value at some place of the body as JSON.

    Raises:
        TemplateError: If it is not JSON.
    """
    try:
        text = dumps(value.item() if isinstance(value, np.generic) else value)
        text.encode()
    except (TypeError, ValueError):
        where = ".".join(("body", *path))
        raise TemplateError(f"{where}: {value!r} is not a JSON value") from None
    return text


def _merged(pieces: Iterable[Any]) -> list[Any]:
    """Join neighbouring texts to one constant."""
    merged: list[Any] = []
    for is_text, group in groupby(pieces, lambda piece: isinstance(piece, str)):
        together = list(group)
        merged += [constant("".join(together))] if is_text else together
    return merged


def _names(members: Iterable[Iterable[str | Value]]) -> tuple[str, ...]:
    """List the columns of compiled members, each once."""
    values = (piece for member in members for piece in member if not isinstance(piece, str))
    return tuple(dict.fromkeys(name for value in values for name in value.names))
