"""Read result lines into columns: usual chat answers by SQL, all others by the decoder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.arrow import TEXT, bytes_of, offsets_of, select
from batch_frames.errors import LineError
from batch_frames.files import Lines, read_lines
from batch_frames.results.decode import ForeignLine, is_chat, shared_calls
from batch_frames.results.fields import FIELDS, RANKS
from batch_frames.results.line import LENGTH_REASONS, read_line
from batch_frames.results.responses import NAMES, read_usual

__all__ = ["read_outcomes", "result_lines"]


FEWEST = 2_000
"""With fewer lines, the decoder alone is quicker than DuckDB, which has to be opened first."""

SAMPLES = 8

MOST_FILES, SMALL = 64, 1 << 18
"""So many files, or bytes, are handed to a thread together, as handing over takes time too."""

BODY = "$.response.body"

CHOICE = f"{BODY}.choices[0]"

PATHS = {
    # Enough to know whether there is an answer.
    "id": "$.custom_id",
    "code": "$.response.status_code",
    "finish": f"{CHOICE}.finish_reason",
    "error": "$.error",
    "fault": f"{BODY}.error",
    # The answer.
    "request_id": "$.response.request_id",
    "model": f"{BODY}.model",
    "content": f"{CHOICE}.message.content",
    "calls": f"{CHOICE}.message.tool_calls",
    "asked": f"{BODY}.usage.prompt_tokens",
    "cached": f"{BODY}.usage.prompt_tokens_details.cached_tokens",
    "answered": f"{BODY}.usage.completion_tokens",
    "reasoned": f"{BODY}.usage.completion_tokens_details.reasoning_tokens",
    "written": f"{BODY}.usage.prompt_tokens_details.cache_write_tokens",
    "tier": f"{BODY}.service_tier",
    # What usual answers do not have.
    "notes": f"{CHOICE}.message.annotations",
    "refusal": f"{CHOICE}.message.refusal",
    "call": f"{CHOICE}.message.function_call",
    "second": f"{BODY}.choices[1]",
}
"""What is looked for in each line, at about a fiftieth of the time of all a path."""

BRIEF_PATHS = 5
"""How many of them are enough to know whether there is an answer."""

FOUND = {name: f"found[{n}]" for n, name in enumerate(PATHS, 1)}


def _else(name: str, path: str) -> str:
    """Look elsewhere for what some services write at another place."""
    return f"coalesce({FOUND[name]}, TRY(json_extract_string(line, '{BODY}.{path}')))"


TOKENS = {
    "input_tokens": FOUND["asked"],
    "cached_tokens": _else("cached", "usage.cached_tokens"),
    "output_tokens": FOUND["answered"],
    "reasoning_tokens": FOUND["reasoned"],
    "cache_write_tokens": FOUND["written"],
}

COLUMNS = {
    "custom_id": FOUND["id"],
    "content": FOUND["content"],
    "tool_calls": f"nullif({FOUND['calls']}, '[]')",
    "finish_reason": FOUND["finish"],
    "status": f"""CASE WHEN {FOUND["finish"]} IN {LENGTH_REASONS} THEN {RANKS["truncated"]}
        WHEN {FOUND["finish"]} = 'content_filter' THEN {RANKS["filtered"]}
        ELSE {RANKS["ok"]} END""",
    "status_code": "200",
    "request_id": f"nullif({_else('request_id', 'request_id')}, '')",
    "model": f"nullif({FOUND['model']}, '')",
    "service_tier": f"nullif({FOUND['tier']}, '')",
    **{name: f"TRY_CAST({text} AS UINTEGER)" for name, text in TOKENS.items()},
    "has_choices": "true",
}

UNUSUAL = [FOUND[name] for name in ("refusal", "call", "second", "error", "fault")]

USUAL = " AND ".join(
    [
        f"{FOUND['code']} = '200' AND {FOUND['asked']} IS NOT NULL",
        f"coalesce(nullif({FOUND['notes']}, '[]'), {', '.join(UNUSUAL)}) IS NULL",
        *(f"{COLUMNS[n]}::VARCHAR IS NOT DISTINCT FROM {text}" for n, text in TOKENS.items()),
    ]
)
"""Whether a line is a chat's, without an error, and with whole numbers of tokens."""


BRIEF = {
    "custom_id": FOUND["id"],
    "status": str(RANKS["ok"]),
    "status_code": "200",
}
"""What is read of a line if it matters only whether it is an answer."""

ANSWERED = " AND ".join(
    [
        f"{FOUND['code']} = '200' AND {FOUND['finish']} IS NOT NULL",
        f"{FOUND['error']} IS NULL AND {FOUND['fault']} IS NULL",
    ]
)

ODD_ID = r"^(?:true$|false$|[\[{])"
"""What is no id, but a value of another type."""


BY_USE = [*NAMES, *(name for name in FIELDS if name not in NAMES)]
"""The columns, first those that usual lines of the Responses API have."""


def result_lines(files: Iterable[Path]) -> Iterator[list[Lines]]:
    """Read the lines of files, each file once; those of small files come together."""
    group: list[Lines] = []
    size = 0
    for lines in _lines(files):
        group.append(lines)
        size += bytes_of(lines.text).nbytes
        if len(group) == MOST_FILES or size > SMALL:
            yield group
            group, size = [], 0
    if group:
        yield group


def _lines(files: Iterable[Path]) -> Iterator[Lines]:
    read: set[Path] = set()
    for path in files:
        if (whole := path.resolve()) not in read:
            read.add(whole)
            yield from read_lines(path)


def read_outcomes(group: Sequence[Lines], *, raw: bool = False, brief: bool = False) -> pa.Table:
    """Read what became of each request that some lines tell of.

    Args:
        group: The lines, of one file or several; each has its row.
        raw: Whether the column ``body`` is wanted for every row.
        brief: Whether ``custom_id``, ``status`` and ``status_code`` are enough, and ``ok`` for
            every answer, also one that was cut or refused.

    Returns:
        A table with the columns of ``FIELDS``.

    Raises:
        LineError: If a line belongs to another service, or is a request.
    """
    if all(len(lines.numbers) < FEWEST for lines in group):
        table = _decoded(group, raw)
    else:
        tables = [_read(lines, raw, brief) for lines in group]
        table = tables[0] if len(tables) == 1 else pa.concat_tables(tables).combine_chunks()
    counts = [len(lines.numbers) for lines in group]
    paths = pa.array([str(lines.path) for lines in group], TEXT)
    places = {
        "file": paths.take(pa.array(np.repeat(np.arange(len(group)), counts))),
        "line": pa.array(np.concatenate([lines.numbers for lines in group])),
    }
    for name, values in places.items():
        table = table.set_column(table.column_names.index(name), name, values)
    return table


def _read(lines: Lines, raw: bool, brief: bool) -> pa.Table:
    """Read lines by SQL where that explains them, and by the decoder where it does not."""
    if len(lines.numbers) < FEWEST or not _holds_chats(lines):
        return _decoded([lines], raw)
    table, usual = _chats(lines.text, raw, brief)
    others = np.flatnonzero(~usual)
    if not len(others):
        return table
    rest = replace(lines, text=lines.text.take(pa.array(others)), numbers=lines.numbers[others])
    both = zip(table.columns, _decoded([rest], raw).columns, strict=True)
    columns = [_merged(chats.chunk(0), decoded.chunk(0), usual) for chats, decoded in both]
    return pa.table(columns, schema=table.schema)


def _merged(chats: pa.Array, decoded: pa.Array, usual: npt.NDArray[np.bool_]) -> pa.Array:
    """Put what was decoded in place of the rows that are not usual."""
    if chats.null_count < len(chats):
        return pc.replace_with_mask(chats, pa.array(~usual), decoded)
    return decoded.take(pa.array(np.cumsum(~usual) - 1, mask=usual))


def _holds_chats(lines: Lines) -> bool:
    """Return whether some lines, taken all over the file, are mostly answers of chats."""
    rows = np.linspace(0, len(lines.numbers) - 1, SAMPLES).astype(int)
    return 2 * sum(is_chat(lines.raw(int(row))) for row in rows) > SAMPLES


def _chats(text: pa.Array, raw: bool, brief: bool) -> tuple[pa.Table, npt.NDArray[np.bool_]]:
    """Read all lines as answers of chats, and mark those that are."""
    expressions = dict(BRIEF if brief else COLUMNS)
    if raw:
        expressions["body"] = f"TRY(json_extract(line, '{BODY}'))"
    paths = list(PATHS.values())[: BRIEF_PATHS if brief else None]
    inner = [f"TRY(json_extract_string(line, {paths}::VARCHAR[])) AS found"]
    condition = ANSWERED if brief else USUAL
    *found, usual = select(text, [*expressions.values(), condition], inner)
    read = dict(zip(expressions, found, strict=True))
    columns = {
        name: read[name].cast(field.type) if name in read else pa.nulls(len(text), field.type)
        for name, field in FIELDS.items()
    }
    usual = pc.and_(usual, pc.invert(pc.match_substring_regex(columns["custom_id"], ODD_ID)))
    if not brief:
        usual = pc.and_(usual, _is_answer(columns["content"], columns["tool_calls"]))
    is_usual = np.asarray(usual.fill_null(False))
    calls = columns["tool_calls"]
    has_calls = is_usual & np.asarray(calls.is_valid())
    if has_calls.any():
        texts = list(map(shared_calls, calls.filter(pa.array(has_calls)).to_pylist()))
        columns["tool_calls"] = pc.replace_with_mask(calls, has_calls, pa.array(texts, calls.type))
        is_usual[has_calls] = [text is not None for text in texts]
    return pa.table(columns), is_usual


def _is_answer(content: pa.Array, calls: pa.Array) -> pa.Array:
    """Return where the content is a text, or missing where there is a list of tool calls."""
    is_text = pc.invert(pc.starts_with(content, "["))
    is_list = pc.starts_with(calls, "[")
    return pc.and_(pc.coalesce(is_text, calls.is_valid()), pc.coalesce(is_list, True))


def _decoded(group: Sequence[Lines], raw: bool) -> pa.Table:
    """Read lines one by one."""
    rows = [row for lines in group for row in _rows(lines, raw)]
    columns = {name: pa.nulls(len(rows), field.type) for name, field in FIELDS.items()}
    # Most rows have no more than the first columns.
    for name, values in zip(BY_USE, zip_longest(*rows), strict=False):
        columns[name] = pa.array(values, FIELDS[name].type)
    return pa.table(columns)


def _rows(lines: Lines, raw: bool) -> Iterator[tuple[Any, ...]]:
    """Read the values of ``BY_USE`` in each line; what is not there at the end is null."""
    data, offsets = bytes_of(lines.text).data, offsets_of(lines.text)
    spans = pairwise((offsets - offsets[0]).tolist())
    for number, (start, end) in zip(lines.numbers.tolist(), spans, strict=True):
        line = data[start:end]
        if usual := None if raw else read_usual(line):
            yield usual
            continue
        try:
            yield tuple(map(read_line(line, keep_body=raw).get, BY_USE))
        except ForeignLine as foreign:
            problem, hint = foreign.args
            raise LineError(problem, path=lines.path, line=number, hint=hint) from None
