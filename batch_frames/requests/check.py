"""Check requests before they are sent: what the service will refuse, and likely mistakes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.arrow import TEXT, bytes_of, in_threads, select, without_lone_surrogates
from batch_frames.display import problems_html
from batch_frames.files import (
    Lines,
    Paths,
    files_to_check,
    has_bom,
    load_exactly,
    read_lines,
)
from batch_frames.frames import to_dataframe, with_card
from batch_frames.requests.creator import BatchCreator, rendered_lines
from batch_frames.requests.file_check import FileCheck, Scan
from batch_frames.requests.rendering import LIMITS
from batch_frames.requests.rules import COUNTS, Problem, Shapes

__all__ = ["check_files", "check_requests"]


SEVERITIES = ("error", "warning")

COLUMNS = ("severity", "code", "file", "line", "custom_id", "param", "message")

TYPES = (
    *("$", "$.custom_id", "$.method", "$.url", "$.body", "$.body.model", "$.body.messages"),
    *("$.body.input", "$.body.prompt", "$.body.stream", "$.body.conversation"),
    *("$.body.previous_response_id", "$.body.response_format"),
    *(f"$.body.{key}" for key in COUNTS),
    *("$.body.messages[0].role", "$.body.messages[#-1].role", "$.body.messages[0]"),
)
"""Paths of which types alone decide what is wrong."""

CONSTANTS = (
    *("$.method", "$.url", "$.body.model", "$.body.stream", "$.body.response_format"),
    *("$.body.text.format", "$.body.tools", "$.body.temperature", "$.body.reasoning_effort"),
    *("$.body.reasoning.effort", "$.body.messages[0].role", "$.body.messages[#-1].role"),
    "$.body.prompt_cache_options.mode",
)
"""Paths of which the values decide, too."""

ROOT, ID_TYPE = "types[1]", "types[2]"

TEXTS = ("$.custom_id", "$.body", "$.body.messages[#-1].content", "$.body.input", "$.body.prompt")

ID, BODY, PROMPT = "texts[1]", "texts[2]", "coalesce(texts[3], texts[4], texts[5])"

USUAL_ID = "[A-Za-z0-9_.:|/-]*"
"""Characters that ids in completed batches are known to have had."""

LONGEST_ID = 64

EXTRACTED = {
    "is_json": f"{ROOT} IS NOT NULL",
    "shape": "hash(types, constants)",
    "has_id": f"coalesce({ID_TYPE} = 'VARCHAR', false)",
    "id": f"hash({ID})",
}

FOR_WARNINGS = {
    "body": f"hash({BODY})",
    # Only what is short is trimmed, which takes longer than all else.
    "is_empty": f"CASE WHEN strlen({PROMPT}) < 100 THEN trim({PROMPT}, ' \t\r\n') = '' "
    "ELSE false END",
    "is_long": f"coalesce(length({ID}) > {LONGEST_ID}, false)",
    "is_unusual": f"coalesce(NOT regexp_full_match({ID}, '{USUAL_ID}'), false)",
    "has_image": "contains(line, ';base64,')",
}
"""What is extracted for warnings only."""

SYNTAX = msgspec.json.Decoder(msgspec.Raw)
"""It checks JSON without keeping it, but for UTF-8 and lone surrogates."""

EMPTY = pa.table({name: pa.array([], pa.int64() if name == "line" else TEXT) for name in COLUMNS})

Pieces = Callable[[], Iterable[Lines]]


def check_requests(source: Paths | BatchCreator) -> pd.DataFrame:
    """Check requests offline: what OpenAI's Batch API will refuse, and what is likely a mistake.

    One bad line fails a whole batch, often hours later. Errors are what the service refuses:
    lines that are not JSON, missing keys and those of the wrong type, other methods and endpoints,
    no messages, a first or last one without a known role, negative limits, unknown answer formats,
    several endpoints or models and repeated ids in a file, files over the limits or without
    ``.jsonl``, ``stream``, and schemas that strict mode does not take. Warnings are likely
    mistakes: unusual ids, empty and repeated prompts, parameters that a family of models refuses,
    prompts beyond the context of a model, and those that it writes to its cache at a higher price.
    Tokens are counted up to a megabyte of long requests in a file, if ``batch-frames[tokens]`` is
    installed, and beyond that estimated. Services other than OpenAI's may take more.

    Args:
        source: Request files as for ``read_requests``, the path of a set of several files, or what
            ``from_dataframe`` returns. The limits of a file do not count for the latter, as
            ``save_to_file`` keeps them.

    Returns:
        A DataFrame with a row for each problem, errors first, then in the order of files and lines:
        ``severity`` (a categorical of ``error`` and ``warning``), ``code`` (the service's where it
        has one), ``file``, ``line`` (``Int64``, from 1), ``custom_id``, ``param`` (where in the
        request) and ``message``, all other columns text. What does not apply is missing. An error
        of a schema and a warning have one row for each file, with the first line. Without problems
        there is no row. ``attrs["requests"]`` is the number of requests. In notebooks it is a card.

    Raises:
        FileNotFoundError: If there is no such file.
        RequestError: If a row of a table cannot become a request.

    Example:
        >>> creator = BatchCreator("gpt-5.6-luna", "low", system_prompt=None, seed=None)
        >>> creator.add_entry("a1", "What is a shard?")
        >>> len(check_requests(creator))
        0
        >>> creator.add_entry("a1", "And what is a chunk?")
        >>> check_requests(creator)[["code", "line", "message"]].values.tolist()
        [['duplicate_custom_id', 2, 'the id is that of line 1, too']]
    """
    if isinstance(source, BatchCreator):
        return _checked({None: partial(_lines_of, source)}, {}, warnings=True)
    return check_files({path: path for path in files_to_check(source)}, warnings=True)


def check_files(files: Mapping[Path, Path], *, warnings: bool) -> pd.DataFrame:
    """Check request files as ``check_requests`` does.

    Args:
        files: The names of the files, with where each of them is now.
        warnings: Whether to look for likely mistakes, too.
    """
    sources = {name: partial(read_lines, path) for name, path in files.items()}
    return _checked(sources, files, warnings=warnings)


def _lines_of(creator: BatchCreator) -> Iterator[Lines]:
    done = 0
    for text in rendered_lines(creator):
        yield Lines(Path(), text, np.arange(done + 1, done + len(text) + 1))
        done += len(text)


def _checked(
    sources: Mapping[Any, Pieces], files: Mapping[Path, Path], *, warnings: bool
) -> pd.DataFrame:
    """Check the lines of several files, or of what is not yet a file, under their names."""
    shapes, tables, requests = Shapes(warnings=warnings), [EMPTY], 0
    for path, pieces in sources.items():
        check = FileCheck(shapes, pieces)
        for scan in in_threads(partial(scan_lines, warnings=warnings), pieces()):
            check.add(scan)
        table = check.table(_of_file(path, files[path], check.requests) if path in files else ())
        name = pa.repeat(pa.scalar(None if path is None else str(path), TEXT), len(table))
        tables.append(table.append_column("file", name).select(EMPTY.column_names))
        requests += check.requests
    table = pa.concat_tables(tables).combine_chunks()
    severity = pc.index_in(table["severity"], value_set=pa.array(SEVERITIES, TEXT))
    place = pa.array(np.repeat(np.arange(len(tables)), [len(one) for one in tables]))
    keys = pa.table({"severity": severity, "place": place, "line": table["line"].fill_null(0)})
    order = pc.sort_indices(keys, [(name, "ascending") for name in keys.column_names])
    names = pa.DictionaryArray.from_arrays(severity.combine_chunks(), pa.array(SEVERITIES))
    table = table.set_column(0, "severity", names).take(order)
    frame = to_dataframe(table, None, nullable=True)
    frame.attrs["requests"] = requests
    return with_card(frame, problems_html)


def _of_file(name: Path, path: Path, requests: int) -> Iterator[Problem]:
    """Yield what is wrong with a file as a whole."""
    nbytes = path.stat().st_size
    if not name.name.endswith(".jsonl"):
        problem = "the name must end in .jsonl"
        yield Problem("invalid_file_format", None, problem)
    if nbytes > LIMITS.nbytes:
        problem = f"{nbytes:,} bytes, at most {LIMITS.nbytes:,}"
        yield Problem("file_too_large", None, problem)
    if has_bom(path):
        problem = "the file begins with a byte order mark; save it without"
        yield Problem("invalid_json_line", None, problem)
    if not requests:
        yield Problem("empty_file", None, "the file is empty")
    if requests > LIMITS.requests:
        problem = f"{requests:,} requests, at most {LIMITS.requests:,}"
        yield Problem("too_many_tasks", None, problem)


def scan_lines(lines: Lines, *, warnings: bool) -> Scan:
    """Scan a piece of lines.

    Args:
        lines: The piece.
        warnings: Whether to extract what only warnings need, too.
    """
    wanted = {**EXTRACTED, **(FOR_WARNINGS if warnings else {})}
    columns = _extract(lines.text, wanted)
    is_json = columns.pop("is_json")
    suspects = np.flatnonzero(~is_json) if _is_exact(lines.text) else np.arange(len(is_json))
    broken = {row: problem for row in suspects.tolist() if (problem := _problem(lines.raw(row)))}
    if unread := [row for row in np.flatnonzero(~is_json).tolist() if row not in broken]:
        # DuckDB does not read lone surrogates.
        texts = [without_lone_surrogates(lines.raw(row).decode()) for row in unread]
        again = _extract(pa.array(texts, TEXT), wanted)
        for name, column in columns.items():
            column[unread] = again[name]
    for column in columns.values():
        column[[*broken]] = 0
    return Scan(lines, broken, columns)


def _extract(text: pa.Array, wanted: Mapping[str, str]) -> dict[str, npt.NDArray[Any]]:
    paths = TEXTS if "body" in wanted else TEXTS[:1]
    inner = [f"TRY(json_type(line, {_list(TYPES)})) AS types"]
    inner.append(f"TRY(json_extract_string(line, {_list((*paths, *CONSTANTS))})) AS texts")
    constants = f"texts[{len(paths) + 1}:]"
    found = select(text, [sql.replace("constants", constants) for sql in wanted.values()], inner)
    return {name: np.array(column) for name, column in zip(wanted, found, strict=True)}


def _list(paths: Sequence[str]) -> str:
    return f"{list(paths)}::VARCHAR[]"


def _is_exact(text: pa.Array) -> bool:
    """Return whether all lines together are JSON, and UTF-8."""
    try:
        text.validate(full=True)
        return len(SYNTAX.decode_lines(bytes_of(text).data)) == len(text)
    except (pa.ArrowInvalid, msgspec.DecodeError, RecursionError):
        return False


def _problem(raw: bytes) -> str | None:
    """Say why a line is not JSON, or return None."""
    try:
        load_exactly(raw)
    except ValueError as error:
        return str(error)
    return None
