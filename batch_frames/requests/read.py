"""Load request files back into a DataFrame, one row per line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.arrow import NULL, TEXT, dumps, extract, in_threads, load_text
from batch_frames.display import NAMED, counted, some_of
from batch_frames.errors import LineError
from batch_frames.files import (
    ENDINGS,
    Lines,
    Paths,
    Replaced,
    line_hashes,
    read_lines,
    request_files,
    whole_files,
)
from batch_frames.frames import to_dataframe
from batch_frames.progress import warn
from batch_frames.schemas import Answers, answer_schema

__all__ = ["Asked", "answers_of", "read_asked", "read_requests"]


SYSTEM_ROLES = ("system", "developer")

ID_TYPES = pa.array(["VARCHAR", "UBIGINT", "BIGINT", "HUGEINT", "UHUGEINT", "DOUBLE"], TEXT)

ID, BODY, RESPONSE, ERROR = "$.custom_id", "$.body", "$.response", "$.error"

KINDS = (ID, BODY, RESPONSE, ERROR)
"""Paths whose types distinguish requests from other lines."""

MESSAGES = "$.body.messages"

FIRST_ROLE, FIRST_TEXT = f"{MESSAGES}[0].role", f"{MESSAGES}[0].content"

LAST_ROLE, LAST_TEXT = f"{MESSAGES}[#-1].role", f"{MESSAGES}[#-1].content"

COLUMNS = {
    "custom_id": [ID],
    "url": ["$.url"],
    "model": ["$.body.model"],
    "system_prompt": ["$.body.instructions", FIRST_TEXT],
    "user_prompt": [LAST_TEXT, "$.body.input", "$.body.prompt"],
    "reasoning_effort": ["$.body.reasoning_effort", "$.body.reasoning.effort"],
    "body": [BODY],
}
"""Where the text of each column is if the prompts are plain texts; the first that is there."""

PROMPTS = [*COLUMNS["system_prompt"], *COLUMNS["user_prompt"]]

PATHS = [FIRST_ROLE, LAST_ROLE, *(path for paths in COLUMNS.values() for path in paths)]

SCHEMAS = ("$.body.response_format.json_schema.schema", "$.body.text.format.schema")


def read_requests(
    paths: Paths, *, errors: str = "raise", dtype_backend: str | None = None
) -> pd.DataFrame:
    """Load request files, for any endpoint and from any program, one row per line.

    Args:
        paths: A path or URL, a list of them, a glob or a folder; ``.jsonl``, ``.gz``, ``.zst``. The
            path of a set of several files, as ``save_to_file`` took it, stands for these.
        errors: ``"raise"`` refuses a line that is not a request; ``"column"`` keeps it as a row,
            with the problem in the column ``error`` and its text in ``body``.
        dtype_backend: ``"numpy_nullable"`` or ``"pyarrow"``, as in ``pandas.read_csv``; None
            returns pandas' own dtypes.

    Returns:
        A DataFrame with the text columns ``custom_id``, ``url``, ``model``, ``system_prompt`` (the
        first message if its role is system or developer, or ``instructions``), ``user_prompt`` (the
        last message of the user, or ``input`` or ``prompt``; the texts of several parts are joined
        with a newline), ``reasoning_effort``, ``body`` (JSON) and ``file``, and the integer column
        ``line``, from 1. What a request does not have is missing.

    Raises:
        FileNotFoundError: If there is no such file.
        LineError: If a line is not a request, or a file holds results.
    """
    if errors not in ("raise", "column"):
        raise ValueError(f"errors must be 'raise' or 'column', not {errors!r}")
    pieces = _pieces(whole_files(paths, ENDINGS))
    tables = in_threads(lambda lines: _table(lines, errors), pieces)
    return to_dataframe(pa.concat_tables([_empty(errors), *tables]), dtype_backend)


def _pieces(files: Iterable[Path]) -> Iterator[Lines]:
    return (lines for path in files for lines in read_lines(path))


def _empty(errors: str) -> pa.Table:
    names = [*COLUMNS, "file", "line", *(["error"] if errors == "column" else [])]
    return pa.table({n: pa.array([], pa.int64() if n == "line" else TEXT) for n in names})


def _table(lines: Lines, errors: str) -> pa.Table:
    found = extract(lines.text, PATHS, (*KINDS, MESSAGES, *PROMPTS))
    columns = _columns(found)
    problems: dict[int, str] = {}
    changed: dict[int, dict[str, str | None]] = {}
    for row in _rows_not(pc.and_(_are_requests(found), _have_plain_prompts(found))):
        try:
            request = lines.request(row)
            body = columns["body"][row].as_py() or dumps(request["body"])
            changed[row] = {**_by_hand(request), "body": body}
        except LineError as error:
            if errors == "raise":
                raise
            problems[row] = error.problem
            raw = lines.raw(row).decode("utf-8", "replace")
            changed[row] = {**dict.fromkeys(COLUMNS), "body": raw}
    table = {
        name: _replaced(columns[name], {row: texts[name] for row, texts in changed.items()})
        for name in COLUMNS
    }
    table["file"] = pa.repeat(pa.scalar(str(lines.path), TEXT), len(lines.text))
    table["line"] = pa.array(lines.numbers, pa.int64())
    if errors == "column":
        table["error"] = _replaced(pa.nulls(len(lines.text), TEXT), problems)
    return pa.table(table)


def _columns(found: dict[str, pa.Array]) -> dict[str, pa.Array]:
    is_system = pc.is_in(found[FIRST_ROLE], pa.array(SYSTEM_ROLES, TEXT))
    found = {**found, FIRST_TEXT: pc.if_else(is_system, found[FIRST_TEXT], NULL)}
    return {name: pc.coalesce(*(found[path] for path in COLUMNS[name])) for name in COLUMNS}


def _are_requests(found: Mapping[str, pa.Array]) -> pa.BooleanArray:
    are = pc.is_in(found[f"type of {ID}"], ID_TYPES)
    are = pc.and_(are, pc.equal(found[f"type of {BODY}"], "OBJECT").fill_null(False))
    for path in (RESPONSE, ERROR):
        are = pc.and_(are, pc.is_null(found[f"type of {path}"]))
    return are


def _have_plain_prompts(found: Mapping[str, pa.Array]) -> pa.BooleanArray:
    """Return whether each line's prompts are texts, the last of them the user's."""
    plain = pc.equal(found[LAST_ROLE], "user").fill_null(False)
    plain = pc.or_(plain, pc.is_null(found[f"type of {MESSAGES}"]))
    for path in PROMPTS:
        is_text = pc.equal(found[f"type of {path}"], "VARCHAR").fill_null(True)
        plain = pc.and_(plain, is_text)
    return plain


def _rows_not(mask: pa.BooleanArray) -> list[int]:
    rows: list[int] = np.flatnonzero(~np.asarray(mask)).tolist()
    return rows


def _by_hand(request: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the columns of any request, without its body."""
    body = request["body"]
    listed = body.get("messages", body.get("input"))
    messages = [m for m in listed if isinstance(m, dict)] if isinstance(listed, list) else []
    system = [m.get("content") for m in messages[:1] if m.get("role") in SYSTEM_ROLES]
    asked = [m.get("content") for m in messages if m.get("role") == "user"]
    reasoning = body.get("reasoning")
    effort = reasoning.get("effort") if isinstance(reasoning, dict) else None
    return {
        "custom_id": _text(request["custom_id"]),
        "url": _text(request.get("url")),
        "model": _text(body.get("model")),
        "system_prompt": _text(body.get("instructions"), *system),
        "user_prompt": _text(*(asked[-1:] or [body.get("input"), body.get("prompt")])),
        "reasoning_effort": _text(body.get("reasoning_effort"), effort),
    }


def _text(*values: Any) -> str | None:
    """Write the first value that is not None as text; of a list of parts, the texts."""
    value = next((one for one in values if one is not None), None)
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, list):
        return dumps(value)
    parts = [part.get("text") if isinstance(part, dict) else part for part in value]
    texts = [part for part in parts if isinstance(part, str)]
    return "\n".join(texts) if texts else None


def _replaced(column: pa.Array, texts: Mapping[int, str | None]) -> pa.Array:
    if not texts:
        return column
    mask = np.zeros(len(column), np.bool_)
    mask[list(texts)] = True
    return pc.replace_with_mask(column, pa.array(mask), pa.array(texts.values(), TEXT))


Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Asked:
    """What request files ask for, or a table.

    Attributes:
        ids: The ``custom_id``s, each once, in the order of their first lines.
        places: For each request, in the order of the files, where its id is among these.
        schema: The JSON schema of all answers as JSON, or None where requests have none or several.
        files: The request files.
        stamps: Size and time of change of each file.
    """

    ids: pa.Array
    places: npt.NDArray[np.int64]
    schema: str | None
    files: list[Path]
    stamps: list[tuple[int, int]]

    @cached_property
    def hashes(self) -> Hashes:
        """The hash of each request's line, in the order of the files, which are read for it."""
        pieces = (line_hashes(lines.text) for lines, _ in self.pieces())
        return np.concatenate([np.zeros(0, np.uint64), *pieces])

    @cached_property
    def originals(self) -> Hashes:
        """The hash of each line, or of the first of them in whose place it was sent."""
        return Replaced({path.parent for path in self.files}).originals(self.hashes)

    @property
    def lines(self) -> Hashes:
        """The hash of the last line of each id, or of that in whose place it was sent."""
        # Not by cached_property, to whose code the warning would point.
        if "found" not in vars(self):
            found = np.zeros(len(self.ids), np.uint64)
            # What is written last stays.
            found[self.places] = self.originals
            vars(self)["found"] = found
            self._warn_of_several(found)
        lines: Hashes = vars(self)["found"]
        return lines

    def _warn_of_several(self, lines: Hashes) -> None:
        several = np.unique(self.places[lines[self.places] != self.originals])
        if len(several):
            many = counted(len(several), "custom_id has", "custom_ids have")
            named = [repr(self.ids[place].as_py()) for place in several[:NAMED].tolist()]
            problem = f"{many} several requests, of which the last counts"
            warn(f"{problem}: {some_of(named, len(several))}")

    @classmethod
    def of_table(cls, ids: pa.Array, hashes: Hashes) -> Asked:
        """Return what a table asks for, by the ids and the hashes of its requests."""
        asked = cls(ids, np.arange(len(ids)), None, [], [])
        vars(asked)["hashes"] = hashes
        return asked

    def pieces(self) -> Iterator[tuple[Lines, slice]]:
        """Read the lines again, piece by piece, each with its part of all requests.

        Raises:
            LineError: If a file has changed since.
        """
        start = 0
        for path, stamp in zip(self.files, self.stamps, strict=True):
            if _stamp(path) != stamp:
                raise LineError("changed while it was read", path=path, hint="call again")
            for lines in read_lines(path):
                yield lines, slice(start, start + len(lines.numbers))
                start += len(lines.numbers)


def answers_of(asked: Asked | None, json_schema: Any = None) -> Answers | None:
    """Return how to read answers, by a schema or by that of the requests.

    A schema of requests that is not understood triggers a warning, and answers stay text.

    Raises:
        TemplateError: If ``json_schema`` is not a schema.
    """
    if json_schema is not None:
        return Answers(answer_schema(json_schema), json_schema)
    if asked is None or asked.schema is None:
        return None
    try:
        return Answers(answer_schema({"name": "answer", "schema": load_text(asked.schema)}))
    except ValueError as error:
        problem = f"the schema of the requests is not understood: {error}"
        warn(problem, hint="answers stay text; pass json_schema= for typed answers")
        return None


def read_asked(paths: Paths) -> Asked:
    """Read the ids and the schema of request files.

    Raises:
        FileNotFoundError: If there is no such file.
        LineError: If a line is not a request.
    """
    ids: list[pa.Array] = []
    schemas: set[str | None] = set()
    files = request_files(paths)
    stamps = [*map(_stamp, files)]
    for found in in_threads(_found, _pieces(files)):
        ids.append(found[ID])
        of_lines = pc.coalesce(*(found[path] for path in SCHEMAS))
        schemas |= set(of_lines.unique().to_pylist())
    if len(schemas) > 1:
        problem = "the requests do not all ask for the same schema"
        warn(problem, hint="pass json_schema= for typed answers")
    schema = schemas.pop() if len(schemas) == 1 else None
    every = pa.chunked_array([pa.array([], TEXT), *ids]).combine_chunks().dictionary_encode()
    places = np.asarray(every.indices).astype(np.int64)
    return Asked(every.dictionary, places, schema, files, stamps)


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _found(lines: Lines) -> dict[str, pa.Array]:
    """Extract ids and schemas."""
    found = extract(lines.text, (ID, *SCHEMAS), KINDS)
    ids = {row: _text(lines.request(row)["custom_id"]) for row in _rows_not(_are_requests(found))}
    return {**found, ID: _replaced(found[ID], ids)}
