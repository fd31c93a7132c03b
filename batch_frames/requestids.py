"""Read what request files ask for: the ids, and the schema that the answers follow."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.arrow import TEXT, extract, in_threads
from batch_frames.errors import LineError
from batch_frames.files import Lines, Paths, read_lines, request_files
from batch_frames.requests import load_request

__all__ = ["Asked", "lines_with_ids", "read_asked"]


ID, BODY = "$.custom_id", "$.body"

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
        try:
            ids[row] = load_request(lines.raw(int(row)))["custom_id"]
        except ValueError as error:
            number = int(lines.numbers[row])
            raise LineError(str(error), path=lines.path, line=number) from None
    return {**found, ID: pa.array([str(one) for one in ids], TEXT)}


def _only(schemas: set[str | None]) -> dict[str, Any] | None:
    if len(schemas) > 1:
        advice = "pass json_schema= for typed answers"
        warnings.warn(f"the requests do not all ask for the same schema; {advice}", stacklevel=4)
    text = next(iter(schemas), None) if len(schemas) == 1 else None
    return None if text is None else dict(json.loads(text))
