"""Load request files back into a DataFrame, one row per line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.arrow import TEXT, dumps, extract, in_threads
from batch_frames.errors import LineError
from batch_frames.files import Lines, Paths, find_files, read_lines, request_files
from batch_frames.frames import to_dataframe
from batch_frames.progress import warn

__all__ = ["Asked", "lines_with_ids", "read_asked", "read_requests"]


TEXT_COLUMNS = (
    "custom_id",
    "url",
    "model",
    "system_prompt",
    "user_prompt",
    "reasoning_effort",
    "body",
)

SYSTEM_ROLES = ("system", "developer")

NUMBERS = ["UBIGINT", "BIGINT", "HUGEINT", "UHUGEINT", "DOUBLE"]

ID, BODY, RESPONSE, ERROR = "$.custom_id", "$.body", "$.response", "$.error"

FIRST_ROLE, FIRST_TEXT = "$.body.messages[0].role", "$.body.messages[0].content"

MESSAGES = "$.body.messages"

LAST_ROLE, LAST_TEXT = "$.body.messages[#-1].role", "$.body.messages[#-1].content"

SYSTEM = "$.body.instructions"

INPUT, PROMPT = "$.body.input", "$.body.prompt"

EFFORT, INNER_EFFORT = "$.body.reasoning_effort", "$.body.reasoning.effort"

PROMPTS = (FIRST_TEXT, LAST_TEXT, SYSTEM, INPUT, PROMPT)

PATHS = (ID, BODY, "$.url", "$.body.model", EFFORT, INNER_EFFORT, FIRST_ROLE, LAST_ROLE, *PROMPTS)


def read_requests(
    paths: Paths, *, errors: str = "raise", dtype_backend: str | None = None
) -> pd.DataFrame:
    """Load request files, of any endpoint and by any program, one row per line.

    Args:
        paths: A path, a list of them, a glob or a folder; ``.jsonl``, also ``.jsonl.gz``.
        errors: ``"raise"`` refuses a line that is no request; ``"column"`` keeps it as a row, with
            what is wrong in the column ``error`` and its text in ``body``.
        dtype_backend: ``"numpy_nullable"`` or ``"pyarrow"``, as in ``pandas.read_csv``; None gives
            pandas' own dtypes.

    Returns:
        A DataFrame with the text columns ``custom_id``, ``url``, ``model``, ``system_prompt`` (the
        first message, where it is the system's, or ``instructions``), ``user_prompt`` (the last
        message of the user, or ``input`` or ``prompt``; the texts of several parts are joined with
        a newline), ``reasoning_effort``, ``body`` (JSON) and ``file``, and the integer column
        ``line``, from 1. What a request lacks is missing.

    Raises:
        FileNotFoundError: If there is no such file.
        LineError: If a line is no request, or a file holds results.
    """
    if errors not in ("raise", "column"):
        raise ValueError(f"errors must be 'raise' or 'column', not {errors!r}")
    files = find_files(paths, [".jsonl", ".jsonl.gz"])
    pieces = (lines for path in files for lines in read_lines(path))
    tables = in_threads(lambda lines, connection: _table(lines, errors, connection), pieces)
    table = pa.concat_tables([_empty(errors), *tables])
    return to_dataframe(table, dtype_backend)


def _empty(errors: str) -> pa.Table:
    names = [*TEXT_COLUMNS, "file", "line", *(["error"] if errors == "column" else [])]
    return pa.table({n: pa.array([], pa.int64() if n == "line" else TEXT) for n in names})


def _table(lines: Lines, errors: str, connection: duckdb.DuckDBPyConnection) -> pa.Table:
    types = (ID, BODY, MESSAGES, RESPONSE, ERROR, *PROMPTS)
    found = extract(lines.text, PATHS, types, connection=connection)
    columns = _columns(found)
    problems: dict[int, str] = {}
    changed: dict[int, Mapping[str, str | None]] = {}
    for index in _irregular(found):
        try:
            changed[index] = _by_hand(lines, index, columns["body"][index].as_py())
        except LineError as error:
            if errors == "raise":
                raise
            problems[index] = error.problem
            raw = lines.raw(index).decode("utf-8", "replace")
            changed[index] = {**dict.fromkeys(TEXT_COLUMNS), "body": raw}
    table = {name: _replaced(columns[name], name, changed) for name in TEXT_COLUMNS}
    table["file"] = pa.repeat(pa.scalar(str(lines.path), TEXT), len(lines.text))
    table["line"] = pa.array(lines.numbers, pa.int64())
    if errors == "column":
        table["error"] = pa.array([problems.get(i) for i in range(len(lines.text))], TEXT)
    return pa.table(table)


def _columns(found: Mapping[str, pa.Array]) -> dict[str, pa.Array]:
    """Read the columns of the lines whose prompts are plain texts."""
    is_system = pc.is_in(found[FIRST_ROLE], pa.array(SYSTEM_ROLES, TEXT))
    from_message = pc.if_else(is_system, found[FIRST_TEXT], pa.scalar(None, TEXT))
    return {
        "custom_id": found[ID],
        "url": found["$.url"],
        "model": found["$.body.model"],
        "system_prompt": pc.coalesce(found[SYSTEM], from_message),
        "user_prompt": pc.coalesce(found[LAST_TEXT], found[INPUT], found[PROMPT]),
        "reasoning_effort": pc.coalesce(found[EFFORT], found[INNER_EFFORT]),
        "body": found[BODY],
    }


def _irregular(found: Mapping[str, pa.Array]) -> list[int]:
    """List the lines that are no requests, or whose prompts take more than a path to find."""
    ids = pc.is_in(found[f"type of {ID}"], pa.array(["VARCHAR", *NUMBERS]))
    regular = pc.and_(ids, pc.equal(found[f"type of {BODY}"], "OBJECT").fill_null(False))
    for path in PROMPTS:
        is_text = pc.equal(found[f"type of {path}"], "VARCHAR").fill_null(True)
        regular = pc.and_(regular, is_text)
    asks = pc.equal(found[LAST_ROLE], "user").fill_null(False)
    regular = pc.and_(regular, pc.or_(asks, pc.is_null(found[f"type of {MESSAGES}"])))
    for path in (RESPONSE, ERROR):
        regular = pc.and_(regular, pc.is_null(found[f"type of {path}"]))
    return [int(index) for index in np.flatnonzero(~np.asarray(regular))]


def _by_hand(lines: Lines, index: int, body: str | None) -> dict[str, str | None]:
    value = lines.request(index)
    found = value["body"]
    reasoning = found.get("reasoning")
    inner = reasoning.get("effort") if isinstance(reasoning, dict) else None
    effort = found.get("reasoning_effort")
    return {
        "custom_id": _text(value["custom_id"]),
        "url": _text(value.get("url")),
        "model": _text(found.get("model")),
        "system_prompt": _system(found),
        "user_prompt": _user(found),
        "reasoning_effort": _text(inner if effort is None else effort),
        "body": body or dumps(found),
    }


def _messages(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    listed = body.get("messages", body.get("input"))
    return (m for m in listed if isinstance(m, dict)) if isinstance(listed, list) else iter(())


def _system(body: Mapping[str, Any]) -> str | None:
    if body.get("instructions") is not None:
        return _text(body["instructions"])
    first = next(_messages(body), {})
    return _text(first.get("content")) if first.get("role") in SYSTEM_ROLES else None


def _user(body: Mapping[str, Any]) -> str | None:
    said = [m.get("content") for m in _messages(body) if m.get("role") == "user"]
    if said:
        return _text(said[-1])
    asked = body.get("input")
    return _text(body.get("prompt") if asked is None else asked)


def _text(value: Any) -> str | None:
    """Write a value as text; of a list of parts, the texts."""
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, list):
        return dumps(value)
    parts = [p.get("text") if isinstance(p, dict) else p for p in value]
    texts = [part for part in parts if isinstance(part, str)]
    return "\n".join(texts) if texts else None


def _replaced(
    column: pa.Array, name: str, changed: Mapping[int, Mapping[str, str | None]]
) -> pa.Array:
    if not changed:
        return column
    mask = np.zeros(len(column), np.bool_)
    mask[list(changed)] = True
    values = pa.array([row[name] for row in changed.values()], TEXT)
    return pc.replace_with_mask(column, pa.array(mask), values)


SCHEMAS = ("$.body.response_format.json_schema.schema", "$.body.text.format.schema")

IDS = pa.array(["VARCHAR", "UBIGINT", "BIGINT", "HUGEINT", "UHUGEINT", "DOUBLE"], TEXT)


@dataclass(frozen=True)
class Asked:
    """Hold what request files ask for.

    Attributes:
        ids: The ``custom_id``s, each once, in the order in which they first stand.
        schema: The JSON schema of all answers, or None where requests have none or several.
    """

    ids: pa.Array
    schema: dict[str, Any] | None


def read_asked(paths: Paths) -> Asked:
    """Read the ids and the schema of request files.

    Raises:
        FileNotFoundError: If there is no such file.
        LineError: If a line is no request.
    """
    ids: list[pa.Array] = []
    schemas: set[str | None] = set()
    for found in in_threads(_found, _lines(request_files(paths))):
        ids.append(found[ID])
        schema = pc.coalesce(*(found[path] for path in SCHEMAS))
        schemas |= set(schema.unique().to_pylist())
    unique = pa.chunked_array(ids, TEXT).unique()
    return Asked(unique, _only(schemas))


def lines_with_ids(files: Iterable[Path]) -> Iterator[tuple[Lines, pa.Array]]:
    """Read request lines piece by piece, each piece with the ids of its lines.

    Raises:
        LineError: If a line is no request.
    """

    def read(lines: Lines, connection: duckdb.DuckDBPyConnection) -> tuple[Lines, pa.Array]:
        return lines, _found(lines, connection)[ID]

    return in_threads(read, _lines(files))


def _lines(files: Iterable[Path]) -> Iterator[Lines]:
    return (lines for path in files for lines in read_lines(path))


def _found(lines: Lines, connection: duckdb.DuckDBPyConnection) -> dict[str, pa.Array]:
    found = extract(lines.text, (ID, *SCHEMAS), (ID, BODY), connection=connection)
    known = pc.is_in(found[f"type of {ID}"], IDS)
    known = pc.and_(known, pc.equal(found[f"type of {BODY}"], "OBJECT").fill_null(False))
    rows = np.flatnonzero(~np.asarray(known))
    if not len(rows):
        return found
    ids = found[ID].to_pylist()
    for row in rows:
        ids[row] = lines.request(int(row))["custom_id"]
    return {**found, ID: pa.array([str(one) for one in ids], TEXT)}


def _only(schemas: set[str | None]) -> dict[str, Any] | None:
    if len(schemas) > 1:
        warn(
            "the requests do not all ask for the same schema",
            hint="pass json_schema= for typed answers",
        )
    text = next(iter(schemas), None) if len(schemas) == 1 else None
    return None if text is None else dict(json.loads(text))
