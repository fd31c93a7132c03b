"""Load output and error files into a DataFrame, one row per request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.arrow import NULL, TEXT, constant, in_threads
from batch_frames.files import Lines, Paths, result_files
from batch_frames.progress import warn
from batch_frames.requests import Asked, answers_of, read_asked
from batch_frames.results.fields import (
    CHOICE,
    FIELDS,
    OF_ALL,
    RANKS,
    STATUSES,
    answer_field,
    answer_names,
    choices_type,
    names_of,
    note,
    status_array,
    to_frame,
)
from batch_frames.results.known import KnownResults
from batch_frames.results.match import match
from batch_frames.results.parse import read_outcomes, result_lines
from batch_frames.schemas import Answers

__all__ = ["empty_piece", "read_answers", "read_pieces", "read_results", "result_columns"]


def read_pieces(
    files: Iterable[Path], answers: Answers | None = None, *, raw: bool = False
) -> Iterator[pa.Table]:
    """Read files in pieces of some thousand lines, each line a row.

    Args:
        files: The result files; one that is named twice is read once.
        answers: How to read the answers; None leaves them as they are.
        raw: Whether the column ``body`` is wanted for every row.

    Returns:
        Tables with the columns of ``FIELDS`` and, by ``answer_field``, one for each property.

    Raises:
        FileNotFoundError: If there is no such file.
        LineError: If a file holds requests, or results of another service's own format.
    """

    def read(group: list[Lines]) -> pa.Table:
        table = read_outcomes(group, raw=raw)
        return table if answers is None else _with_answers(table, answers)

    return in_threads(read, result_lines(files))


def empty_piece(answers: Answers | None = None) -> pa.Table:
    """Make a table of no rows, for files that have none."""
    types = {name: field.type for name, field in FIELDS.items()}
    if answers is not None:
        types |= {answer_field(n): t for n, t in zip(answers.names, answers.types, strict=True)}
        types["choices"] = choices_type(answers.names, answers.types)
    return pa.table({name: pa.nulls(0, type_) for name, type_ in types.items()})


def _with_answers(table: pa.Table, answers: Answers) -> pa.Table:
    """Read the answers of rows that are ``ok``, and mark those that do not follow the schema."""
    content, status = table["content"].chunk(0), table["status"].chunk(0)
    is_ok = pc.equal(status, RANKS["ok"])
    columns, reasons = answers.read(pc.if_else(is_ok, content, NULL))
    has_nothing = pc.and_(content.is_null(), table["tool_calls"].combine_chunks().is_null())
    silent = pc.and_(is_ok, has_nothing)
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
    choices = _with_choice_answers(table["choices"].combine_chunks(), answers)
    return table.set_column(table.column_names.index("choices"), "choices", choices)


def _with_choice_answers(choices: pa.Array, answers: Answers) -> pa.Array:
    """Read the answers of choices that are ``ok``, and mark those that are not valid."""
    type_ = choices_type(answers.names, answers.types)
    if choices.null_count == len(choices):
        return pa.nulls(len(choices), type_)
    status, content, *others, _ = choices.flatten().flatten()
    columns, reasons = answers.read(pc.if_else(pc.equal(status, "ok"), content, NULL))
    status = pc.if_else(reasons.is_valid(), constant("invalid_json"), status)
    values = _structs([status, content, *others, reasons, *columns.columns], type_.value_type)
    counts = np.asarray(pc.list_value_length(choices).fill_null(0))
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]))
    return pa.LargeListArray.from_arrays(offsets, values, mask=choices.is_null())


def _structs(columns: Sequence[pa.Array | pa.ChunkedArray], type_: pa.DataType) -> pa.Array:
    """Put columns together, categories as their values."""
    whole = [c.combine_chunks() if isinstance(c, pa.ChunkedArray) else c for c in columns]
    arrays = [a.dictionary_decode() if pa.types.is_dictionary(a.type) else a for a in whole]
    return pa.StructArray.from_arrays(arrays, fields=list(type_))


@overload
def read_results(
    paths: Paths | None = ...,
    *,
    requests: Paths | None = ...,
    json_schema: Any = ...,
    usage: bool = ...,
    raw: bool = ...,
    dtype_backend: str | None = ...,
    like: pd.DataFrame | None = ...,
) -> pd.DataFrame: ...
@overload
def read_results(
    paths: Paths | None = ...,
    *,
    requests: Paths | None = ...,
    json_schema: Any = ...,
    usage: bool = ...,
    raw: bool = ...,
    like: Any,
) -> Any: ...
def read_results(
    paths: Paths | None = None,
    *,
    requests: Paths | None = None,
    json_schema: Any = None,
    usage: bool = True,
    raw: bool = False,
    dtype_backend: str | None = None,
    like: Any = None,
) -> Any:
    """Load output and error files, of OpenAI and of services with its format.

    Without ``requests`` every line has its row, in the order of the files. With them, every request
    has its row, in their order, whatever came back: of several results the better status wins, then
    the later one, and results without a request are dropped with a warning. Results of files that
    the record next to them knows count only for a request with the very line that they answer.

    Args:
        paths: A path or URL, a list of them, a glob or a folder; ``.jsonl``, ``.gz``, ``.zst``.
            Output and error files may come in any order; request files among them are ignored. A
            file of several lines without any result triggers a warning. A line above 1 GB, or above
            8 MB and not strictly JSON, is ``malformed``, with its size in ``error_message``. None
            reads all results of ``requests`` that the record knows, retries included.
        requests: The request files that were sent, given likewise; results that a glob matches as
            well are ignored.
        json_schema: The schema that answers follow, as given when writing: a pydantic model class
            or a dict. None takes that of ``requests``, where all of them have the same; if it is
            not understood, answers stay text, with a warning. Unions of several types, in ``anyOf``
            and the like, and schemas in ``additionalProperties`` are not checked.
        usage: Whether to return the columns with numbers of tokens.
        raw: Whether to return the ``body`` of every row, as compact JSON.
        dtype_backend: ``"numpy_nullable"`` or ``"pyarrow"``, as in ``pandas.read_csv``; None
            returns pandas' own dtypes. Whole numbers and booleans are nullable in each of them.
            Lists and objects are Python lists and dicts, and with ``"pyarrow"`` Arrow's.
        like: A frame such as that which the requests were made of: polars returns polars, and all
            but pandas returns a table of pyarrow. None returns pandas.

    Returns:
        A frame with the columns ``custom_id`` (text), ``status`` (a categorical: ``ok``,
        ``truncated``, ``refused``, ``filtered``, ``invalid_json``, ``http_error``, ``expired``,
        ``cancelled``, ``missing``, ``malformed``, ``skipped``) and ``content`` (the answer's
        text); with a schema one for each property of the answer; then ``finish_reason``,
        ``refusal``, ``error_code``, ``error_message``, ``status_code``, ``input_tokens``,
        ``cached_tokens``, ``output_tokens``, ``reasoning_tokens``, ``model``, ``request_id``,
        ``file`` and ``line`` (from 1). Where some row has them, there follow
        ``cache_write_tokens``, ``service_tier``, ``tool_calls`` (a list of dicts with ``id``,
        ``name``, the parsed ``arguments`` and their ``text``), ``choices`` (of requests with ``n``,
        a list of dicts with the ``status`` of each choice and its answer; the row has those of the
        first), ``citations`` (a list of dicts), ``reasoning_summary``, ``embedding`` (32-bit
        floats: NumPy arrays, or with ``"pyarrow"`` a list column of fixed size), ``flagged``,
        ``categories`` and ``category_scores`` (JSON), and ``body`` (JSON, of endpoints that are not
        known).

    Raises:
        TypeError: If there are neither paths nor requests, or ``like`` is not a frame.
        FileNotFoundError: If there is no such file.
        LineError: If there are only requests, or results in another service's own format.
        TemplateError: If ``json_schema`` is not a schema.

    Example:
        >>> import pathlib, tempfile
        >>> line = '{"custom_id": "r7", "response": null, "error": {"code": "batch_expired"}}'
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "errors.jsonl"
        >>> _ = path.write_text(line)
        >>> read_results(path)[["custom_id", "status", "error_code"]].to_numpy().tolist()
        [['r7', 'expired', 'batch_expired']]
    """
    if paths is None and requests is None:
        raise TypeError("read_results takes paths, or requests= whose results are known")
    asked = None if requests is None else read_asked(requests)
    given = None if paths is None else result_files(paths)
    how: dict[str, Any] = {"json_schema": json_schema, "usage": usage, "raw": raw, "like": like}
    return read_answers(asked, given, dtype_backend=dtype_backend, **how)


def read_answers(
    asked: Asked | None,
    given: list[Path] | None,
    near: Iterable[Path] = (),
    *,
    json_schema: Any = None,
    usage: bool = True,
    raw: bool = False,
    dtype_backend: str | None = None,
    like: Any = None,
) -> Any:
    """Load results as ``read_results`` does.

    Args:
        asked: What was asked, or None to take all results.
        given: The result files; None takes those that the record knows.
        near: Files next to which there may be records, beside those that were named.
        json_schema: As for ``read_results``, like all that follow.
        usage: Whether to return the columns with numbers of tokens.
        raw: Whether to return the body of every row.
        dtype_backend: As in ``pandas.read_csv``.
        like: A frame of the kind to return.
    """
    answers = answers_of(asked, json_schema)
    known = None if asked is None else KnownResults(asked, [*(given or []), *near])
    found = known.files() if known and given is None else given
    pieces = read_pieces(found, answers, raw=raw) if found else ()
    table = pa.concat_tables([empty_piece(answers), *pieces])
    if known is not None and asked:
        others = known.others(table)
        table = match(table, asked.ids, others, known.absent(), is_given=given is not None)
        known.warn_of_pending(table["status"].to_numpy())
    else:
        _warn_of_other_files(table)
    names = () if answers is None else answers.names
    shown = answer_names(names).items()
    json_columns = [free for name, free in shown if answers and answers.is_json(name)]
    arranged = _arranged(table, names, usage=usage, raw=raw)
    if asked:
        arranged = arranged.replace_schema_metadata({OF_ALL: str(len(arranged))})
    frame = to_frame(arranged, dtype_backend, like, json_columns)
    if asked and isinstance(frame, pd.DataFrame):
        note(frame, requests=len(frame))
    return frame


def result_columns(json_schema: Any = None, *, sometimes: bool = False) -> list[str]:
    """List the columns that all results have, with those of answers that follow a schema.

    Args:
        json_schema: The schema.
        sometimes: Whether to list those too that only some results have.
    """
    answers = answers_of(None, json_schema)
    names = () if answers is None else answers.names
    every = [*names_of("first"), *answer_names(names).values(), *names_of("then", "usage")]
    return [*every, *names_of("sometimes")] if sometimes else every


def _warn_of_other_files(table: pa.Table) -> None:
    """Warn of files that hold no results at all, such as the table whose rows were sent."""
    malformed = pc.equal(table["status"], RANKS["malformed"])
    if not pc.any(malformed).as_py():
        return
    lines = pa.table({"file": table["file"], "malformed": malformed})
    files = lines.group_by("file", use_threads=False).aggregate(
        [("malformed", "all"), ("malformed", "count")]
    )
    for file in files.filter(files["malformed_all"]).to_pylist():
        if (count := file["malformed_count"]) > 1:
            problem = f"none of the {count:,} lines of '{file['file']}' is a result"
            warn(problem, hint="pass output and error files")


def _arranged(table: pa.Table, answers: Sequence[str], *, usage: bool, raw: bool) -> pa.Table:
    """Put the columns in order, without those that no row has."""
    columns = {name: table[name] for name in FIELDS}
    columns["status"] = status_array(table["status"].to_numpy().astype(np.int8))
    sometimes = [
        name
        for name in names_of("sometimes")
        if (table[name].null_count < len(table) and (usage or name != "cache_write_tokens"))
        or (raw and name == "body")
    ]
    if "choices" in sometimes:
        columns["choices"] = _with_single_choices(table, answers)
    if "embedding" in sometimes:
        columns["embedding"] = _vectors(table["embedding"])
    shown = answer_names(answers)
    renamed = [f"{name!r} is renamed {free!r}" for name, free in shown.items() if name != free]
    if renamed:
        warn(f"answer column {', '.join(renamed)}, as results already have that name")
    then = names_of("then", "usage") if usage else names_of("then")
    return pa.table(
        {
            **{name: columns[name] for name in names_of("first")},
            **{free: table[answer_field(name)] for name, free in shown.items()},
            **{name: columns[name] for name in [*then, *sometimes]},
        }
    )


def _with_single_choices(table: pa.Table, answers: Sequence[str]) -> pa.Array:
    """Make a list for rows of one choice too, where others have several."""
    several = table["choices"].combine_chunks()
    status = pa.array(STATUSES, TEXT).take(table["status"].combine_chunks())
    names = [field.name for field in CHOICE][1:] + [answer_field(name) for name in answers]
    values = _structs([status, *(table[name] for name in names)], several.type.value_type)
    is_single = table["has_choices"].combine_chunks().fill_null(False)
    offsets = pa.array(np.arange(len(table) + 1))
    single = pa.LargeListArray.from_arrays(offsets, values, mask=pc.invert(is_single))
    places = np.arange(len(table)) + len(table) * np.asarray(several.is_null())
    return pa.concat_arrays([several, single]).take(pa.array(places))


def _vectors(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Extract vectors from their lists where each row has one; let them be of fixed size."""
    lists = column.combine_chunks()
    counts = pc.list_value_length(lists)
    if pc.max(counts).as_py() > 1:
        return pa.chunked_array([lists])
    is_there = np.asarray(pc.equal(counts, 1).fill_null(False))
    vectors = lists.flatten().take(pa.array(np.cumsum(is_there) - 1, mask=~is_there))
    sizes = pc.unique(pc.list_value_length(vectors).drop_null())
    if len(sizes) == 1:
        vectors = vectors.cast(pa.list_(pa.float32(), sizes[0].as_py()))
    return pa.chunked_array([vectors])
