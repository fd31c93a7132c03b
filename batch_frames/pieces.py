"""Read output and error files piece by piece, the typed answers beside the rest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.arrow import NULL, TEXT, constant, in_threads
from batch_frames.files import Lines, Paths, find_files, read_lines
from batch_frames.outcomes import COLUMNS, read_outcomes
from batch_frames.schemas import Answers
from batch_frames.statuses import RANKS

__all__ = ["FIELDS", "answer_field", "empty_piece", "read_pieces"]


FIELDS = {**COLUMNS, "file": TEXT, "line": pa.int64()}


def read_pieces(
    paths: Paths, answers: Answers | None = None, *, raw: bool = False
) -> Iterator[pa.Table]:
    """Read files in pieces of some thousand lines, each line a row.

    Args:
        paths: The files, as ``find_files`` takes them; one that is named twice is read once.
        answers: How to read the answers; None leaves them as they are.
        raw: Whether the column ``body`` is wanted for every row.

    Returns:
        Tables with the columns of ``FIELDS`` and, by ``answer_field``, one for each property.

    Raises:
        FileNotFoundError: If there is no such file.
        LineError: If a file holds requests, or results of another service's own format.
    """

    def read(lines: Lines, connection: duckdb.DuckDBPyConnection) -> pa.Table:
        table = read_outcomes(lines, connection, raw=raw)
        name = constant(str(lines.path))
        table = table.append_column("file", pa.repeat(name, len(table)))
        table = table.append_column("line", pa.array(lines.numbers, pa.int64()))
        return table if answers is None else _with_answers(table, answers, connection)

    return in_threads(read, _lines(paths))


def empty_piece(answers: Answers | None = None) -> pa.Table:
    """Make a table of no rows, for files that have none."""
    fields = dict(FIELDS)
    if answers is not None:
        fields |= {answer_field(n): k for n, k in zip(answers.names, answers.types, strict=True)}
    return pa.table({name: pa.nulls(0, kind) for name, kind in fields.items()})


def answer_field(name: str) -> str:
    """Name the column of a property, out of the way of all others."""
    return f"answer.{name}"


def _lines(paths: Paths) -> Iterator[Lines]:
    read: set[Path] = set()
    for path in find_files(paths, [".jsonl", ".jsonl.gz"]):
        if path.resolve() not in read:
            read.add(path.resolve())
            yield from read_lines(path)


def _with_answers(
    table: pa.Table, answers: Answers, connection: duckdb.DuckDBPyConnection
) -> pa.Table:
    """Read the answers of rows that are ``ok``, and mark those that do not follow the schema."""
    content, status = table["content"].combine_chunks(), table["status"].combine_chunks()
    is_ok = pc.equal(status, RANKS["ok"])
    columns, reasons = answers.read(pc.if_else(is_ok, content, NULL), connection)
    silent = pc.and_(
        is_ok, pc.and_(content.is_null(), table["tool_calls"].combine_chunks().is_null())
    )
    reasons = pc.if_else(silent, constant("there is no answer"), reasons)
    invalid = pa.scalar(RANKS["invalid_json"], pa.int8())
    changed = {
        "status": pc.if_else(reasons.is_valid(), invalid, status),
        "error_message": pc.coalesce(table["error_message"].combine_chunks(), reasons),
    }
    for name, column in changed.items():
        table = table.set_column(table.column_names.index(name), name, column)
    for name in answers.names:
        table = table.append_column(answer_field(name), columns[name])
    return table
