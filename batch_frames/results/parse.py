"""Read result lines into columns, all rows at once; the few of unusual shape go by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.arrow import (
    TEXT,
    Mask,
    coalesce,
    extract,
    first_bytes,
    is_text,
    is_true,
    mapped,
    non_empty,
    select,
    spread,
    where,
)
from batch_frames.files import Lines
from batch_frames.results.fields import COLUMNS, RANKS
from batch_frames.results.line import CUT, explain
from batch_frames.results.parse_errors import PLACES, read_failures
from batch_frames.results.parse_outputs import (
    Outputs,
    read_embeddings,
    read_responses,
    whole_numbers,
)

__all__ = ["TOKENS", "read_outcomes"]


Columns = dict[str, pa.Array]

BODY = "$.response.body"

ID, CODE, OBJECT, MODEL = "$.custom_id", "$.response.status_code", f"{BODY}.object", f"{BODY}.model"

REQUEST_ID, BODY_REQUEST_ID = "$.response.request_id", f"{BODY}.request_id"

CHOICE = f"{BODY}.choices[0]"

CONTENT, PART = f"{CHOICE}.message.content", f"{CHOICE}.message.content[0]"

REFUSAL, CALLS = f"{CHOICE}.message.refusal", f"{CHOICE}.message.tool_calls"

FINISH, SECOND, COMPLETION = f"{CHOICE}.finish_reason", f"{BODY}.choices[1]", f"{CHOICE}.text"

USAGE = f"{BODY}.usage"


TOKENS: Mapping[str, tuple[str, ...]] = {
    "input_tokens": (f"{USAGE}.prompt_tokens",),
    "cached_tokens": (f"{USAGE}.prompt_tokens_details.cached_tokens", f"{USAGE}.cached_tokens"),
    "output_tokens": (f"{USAGE}.completion_tokens",),
    "reasoning_tokens": (f"{USAGE}.completion_tokens_details.reasoning_tokens",),
}

CACHED, OTHER_CACHED = TOKENS["cached_tokens"]

PATHS = (
    *(ID, CODE, MODEL, REQUEST_ID, *PLACES, CONTENT, REFUSAL, CALLS, FINISH, SECOND),
    *(paths[0] for paths in TOKENS.values()),
)
"""What the lines of most files have; each path costs about a fiftieth of the time of all."""

MORE = (OBJECT, PART, COMPLETION, BODY_REQUEST_ID, OTHER_CACHED)
"""What is looked for in answers that lack some of it."""


def read_outcomes(
    lines: Lines, connection: duckdb.DuckDBPyConnection, *, raw: bool = False
) -> pa.Table:
    """Say what became of each request that some lines tell of.

    One query takes out what chat answers have; what else an answer or an error may hold is looked
    for only in the lines that lack it.

    Args:
        lines: The lines; each has its row.
        connection: Where the queries run.
        raw: Whether the column ``body`` is wanted for every row.

    Returns:
        A table with the columns of ``COLUMNS``.

    Raises:
        LineError: If a line belongs to another service, or is a request.
    """
    if not len(lines.text):
        return pa.table({name: pa.array([], kind) for name, kind in COLUMNS.items()})
    found = extract(lines.text, PATHS, connection=connection)
    codes = mapped(found[CODE], _status_code, pa.int64())
    good = is_true(pc.and_(pc.greater_equal(codes, 200), pc.less(codes, 300)))
    failures = read_failures(lines.text, found, connection)
    message = _has_message(found)
    lacking = ~failures.there & (~message | _is_unclear(found))
    found |= _more(lines.text, lacking, connection)
    odd = _is_odd_id(found[ID]) | failures.odd | ~(good | failures.there)
    body = _bodies(lines.text, connection) if raw else {}
    odd |= first_bytes(body["body"]) == ord('"') if raw else False
    answered = good & ~failures.there & ~odd
    chat = _chat(found, message, answered)
    responses = _read(read_responses, lines.text, is_text(found[OBJECT], "response"), connection)
    lists = answered & ~chat.usual & is_text(found[OBJECT], "list")
    embeddings = _read(read_embeddings, lines.text, lists, connection)
    odd |= answered & ~chat.usual & ~responses.usual & ~embeddings.usual
    stages = (
        _common(found, codes),
        failures.columns(),
        chat.columns,
        responses.columns,
        embeddings.columns,
        body,
    )
    columns = {}
    for name, kind in COLUMNS.items():
        parts = [stage[name] for stage in stages if name in stage]
        columns[name] = coalesce(parts) if parts else pa.nulls(len(odd), kind)
    return pa.table(_by_hand(lines, odd, columns, connection, raw=raw))


def _more(text: pa.Array, lacking: Mask, connection: duckdb.DuckDBPyConnection) -> Columns:
    """Look for the rest in lines where something is missing or unclear."""
    if not lacking.any():
        return dict.fromkeys(MORE, pa.nulls(len(text), TEXT))
    more = extract(text.filter(pa.array(lacking)), MORE, connection=connection)
    return {path: spread(column, lacking) for path, column in more.items()}


def _has_message(found: Columns) -> Mask:
    """Find what has the message of a chat answer: a text, a refusal or calls."""
    refusal = non_empty(found[REFUSAL])
    said = is_true(found[CONTENT].is_valid()) | is_true(refusal.is_valid())
    return said | _has_calls(found[CALLS])


def _is_unclear(found: Columns) -> Mask:
    """Find what may be said in parts, or stand at another place."""
    unclear: Mask = first_bytes(found[CONTENT]) == ord("[")
    for path in (REQUEST_ID, CACHED):
        unclear |= is_true(found[path].is_null())
    return unclear


def _has_calls(calls: pa.Array) -> Mask:
    is_list: Mask = first_bytes(calls) == ord("[")
    return is_list & ~is_text(calls, "[]")


def _chat(found: Columns, message: Mask, mask: Mask) -> Outputs:
    """Read chat answers and completions of one choice."""
    content, refusal, calls = found[CONTENT], non_empty(found[REFUSAL]), found[CALLS]
    no_calls, has_calls = is_true(calls.is_null()) | is_text(calls, "[]"), _has_calls(calls)
    chat = message & (has_calls | no_calls) & is_true(found[PART].is_null())
    chat &= ~is_text(content, "[]") & ~is_text(found[FINISH], "function_call")
    completion = is_true(found[COMPLETION].is_valid()) & ~message
    usual = mask & (chat | completion) & is_true(found[SECOND].is_null())
    if not usual.any():
        return Outputs({}, usual)
    ranks = np.asarray(mapped(found[FINISH], _rank, pa.int8()).fill_null(RANKS["ok"]))
    ranks = np.where(is_true(refusal.is_valid()), RANKS["refused"], ranks)
    columns = {
        "status": pa.array(ranks, pa.int8(), mask=~usual),
        "content": where(usual, coalesce([content, found[COMPLETION]])),
        "finish_reason": where(usual, found[FINISH]),
        "refusal": where(usual, refusal),
        "tool_calls": where(usual & has_calls, calls),
        "has_choices": pa.array(usual),
    }
    return Outputs(columns, usual)


def _read(
    read: Callable[[pa.Array, duckdb.DuckDBPyConnection], Outputs],
    text: pa.Array,
    mask: Mask,
    connection: duckdb.DuckDBPyConnection,
) -> Outputs:
    """Read some of the lines, and put what comes out among all."""
    if not mask.any():
        return Outputs({}, mask)
    outputs = read(text.filter(pa.array(mask)), connection)
    usual = mask.copy()
    usual[mask] = outputs.usual
    return Outputs({n: spread(column, mask) for n, column in outputs.columns.items()}, usual)


def _bodies(text: pa.Array, connection: duckdb.DuckDBPyConnection) -> Columns:
    """Take the bodies out as JSON; where that is a text, it may hold another one."""
    (body,) = select(connection, text, [f"TRY(json_extract(line, '{BODY}'))"])
    return {"body": where(~is_text(body, "null"), body)}


def _common(found: Columns, codes: pa.Array) -> Columns:
    """Read what every kind of line has at the same place."""
    request_ids = [non_empty(found[path]) for path in (REQUEST_ID, BODY_REQUEST_ID)]
    return {
        "custom_id": found[ID],
        "status_code": codes,
        "request_id": coalesce(request_ids),
        "model": non_empty(found[MODEL]),
        **{name: whole_numbers([found[path] for path in paths]) for name, paths in TOKENS.items()},
    }


def _by_hand(
    lines: Lines,
    odd: Mask,
    columns: Columns,
    connection: duckdb.DuckDBPyConnection,
    *,
    raw: bool,
) -> Columns:
    """Replace the rows that no path explains."""
    rows = np.flatnonzero(odd)
    if not len(rows):
        return columns
    text = lines.text.take(pa.array(rows))
    (normal,) = select(connection, text, ["TRY(json_extract(line, '$'))"])
    read = [
        explain(lines, int(row), found, raw=raw)
        for row, found in zip(rows, normal.to_pylist(), strict=True)
    ]
    for row, custom_id in zip(read, columns["custom_id"].take(pa.array(rows)), strict=True):
        # Python reads a number beyond its floats as infinite, and one id as another.
        if type(row.get("custom_id")) is str and custom_id.is_valid:
            row["custom_id"] = custom_id.as_py()
    index = np.arange(len(odd))
    index[rows] = len(odd) + np.arange(len(rows))
    return {
        name: pa.concat_arrays(
            [columns[name], pa.array([row.get(name) for row in read], kind)]
        ).take(pa.array(index))
        for name, kind in COLUMNS.items()
    }


def _status_code(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _rank(finish_reason: str) -> int:
    if finish_reason == "content_filter":
        return RANKS["filtered"]
    return RANKS["truncated" if finish_reason in CUT else "ok"]


def _is_odd_id(ids: pa.Array) -> Mask:
    """Find ids that are missing, or may be something else than text or a number."""
    odd = is_true(ids.is_null()) | is_text(ids, "true", "false")
    return odd | np.isin(first_bytes(ids), list(b"{["))
