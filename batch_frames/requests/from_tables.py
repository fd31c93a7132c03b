"""Make a request from each row of a frame, or of CSV or Parquet files."""

from __future__ import annotations

import difflib
import inspect
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Never, cast

import pyarrow as pa

from batch_frames.arrow import TEXT
from batch_frames.display import brief
from batch_frames.errors import BatchFramesError, TemplateError
from batch_frames.files import Paths
from batch_frames.frames import (
    CsvSource,
    DaskSource,
    ParquetSource,
    Source,
    is_parquet,
    only_counts,
    open_frame,
)
from batch_frames.progress import warn
from batch_frames.requests.columns import Col, Value
from batch_frames.requests.creator import BatchCreator, check_model, rendered_lines, with_table
from batch_frames.requests.endpoints import (
    CHAT,
    EFFORT,
    MODEL,
    SEED,
    Endpoint,
    build_template,
    find_body,
)
from batch_frames.requests.rendering import TableRequests

__all__ = ["from_any", "from_csv", "from_dataframe", "from_parquet", "render", "table_requests"]


Read = Callable[[Any, str | Sequence[str] | None, Sequence[str]], Source]


def from_dataframe(
    frame: Any,
    *,
    id_column: str | Sequence[str] | None = None,
    prompt_column: str | Value | None = None,
    na: Literal["raise", "skip"] = "raise",
    model: str | Value = MODEL,
    reasoning_effort: str | Value | None = EFFORT,
    json_schema: Any = None,
    system_prompt: str | Value | None = None,
    seed: int | Value | None = SEED,
    endpoint: Endpoint = CHAT,
    body: Mapping[str, Any] | None = None,
    dedupe: bool = False,
    **unknown: Never,
) -> BatchCreator:
    """Make a request from each row of a frame.

    Args:
        frame: A pandas DataFrame, or anything with ``__arrow_c_stream__``, such as a pyarrow or
            polars table, a DuckDB relation, or a ``RecordBatchReader``. A reader is read only
            once, while it is saved; to save it several times, pass a table. The partitions of a
            Dask DataFrame are saved by its workers.
        id_column: The column with the ``custom_id``s: unique text, whole numbers, dates, decimals
            or UUIDs, without missing values. Several columns are joined by ``|``. None takes the
            index of a pandas DataFrame.
        prompt_column: The column with the prompts, or ``fmt("Title: {title}\\n{review}")``.
        na: What to do with rows without a prompt: ``"raise"`` an error or ``"skip"`` them.
        model: The name of the model.
        reasoning_effort: ``"low"``, ``"medium"`` or another effort of the model; None leaves it
            out, as does the default for models from before there were efforts, such as gpt-4o.
        json_schema: The schema of the answers, as for ``BatchCreator``.
        system_prompt: The system message of every request.
        seed: The seed for sampling; None leaves it out.
        endpoint: The API path that the requests are for.
        body: Top-level keys of the request body, added to or replacing those above. It may contain
            ``col("name")`` and ``fmt("… {name} …")`` at any depth, as may all the others but
            ``json_schema`` and ``endpoint``. If the value of a top-level key is missing in a row,
            the request of that row has no such key.
        dedupe: Whether rows that ask the same get one request. The ids are then made of what is
            asked; ``join_results(requests=…)`` finds the rows.
        unknown: Nothing; other names are an error that says what was meant.

    Returns:
        A ``BatchCreator``, which reads the rows when it saves.

    Raises:
        TypeError: If ``frame`` is not a frame.
        ColumnError: If a column does not exist, or there is no index to take the ids from.
        TemplateError: If the template is wrong.

    Example:
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"review": ["Fits well."]}, index=["r7"])
        >>> batch = from_dataframe(frame, prompt_column="review", model="gpt-5.6-luna")
        >>> batch.preview_entry()["body"]["messages"]
        [{'role': 'user', 'content': 'Fits well.'}]
    """
    options = locals()
    creator = _from_table(open_frame, options.pop("frame"), **options)
    if id_column is None and not dedupe and only_counts(frame):
        problem = "the ids only count the rows: once these are sorted and numbered anew"
        warn(f"{problem}, answers meet other rows", hint="pass id_column=, or name the index")
    return creator


def from_csv(
    path: Paths,
    *,
    id_column: str | Sequence[str] | None = None,
    prompt_column: str | Value | None = None,
    na: Literal["raise", "skip"] = "raise",
    model: str | Value = MODEL,
    reasoning_effort: str | Value | None = EFFORT,
    json_schema: Any = None,
    system_prompt: str | Value | None = None,
    seed: int | Value | None = SEED,
    endpoint: Endpoint = CHAT,
    body: Mapping[str, Any] | None = None,
    dedupe: bool = False,
    **unknown: Never,
) -> BatchCreator:
    """Make a request from each row of CSV files, which may be larger than memory.

    All columns are text: the id ``007`` stays ``007``, and ``col("t", type="number")`` reads a
    number. An empty field is missing, a quoted empty one is empty text. The separator may be
    ``,``, ``;``, a tab or ``|``; files are UTF-8, with or without a byte order mark, or UTF-16 with
    one, and may be compressed (``.csv.gz``).

    Args:
        path: A path or URL, a list of them, a glob such as ``"data/*.csv"``, or a folder.
        id_column: The column with the ``custom_id``s.
        prompt_column: As for ``from_dataframe``, like all after it.

    Raises:
        FileNotFoundError: If there is no such file.
        ColumnError: If a column does not exist.
        TemplateError: If the template is wrong.
    """
    options = locals()
    return _from_table(CsvSource, options.pop("path"), **options)


def from_parquet(
    path: Paths,
    *,
    id_column: str | Sequence[str] | None = None,
    prompt_column: str | Value | None = None,
    na: Literal["raise", "skip"] = "raise",
    model: str | Value = MODEL,
    reasoning_effort: str | Value | None = EFFORT,
    json_schema: Any = None,
    system_prompt: str | Value | None = None,
    seed: int | Value | None = SEED,
    endpoint: Endpoint = CHAT,
    body: Mapping[str, Any] | None = None,
    dedupe: bool = False,
    **unknown: Never,
) -> BatchCreator:
    """Make a request from each row of Parquet files, which may be larger than memory.

    Args:
        path: A path or URL, a list of them, a glob such as ``"s3://lake/data/*.parquet"``, or a
            folder.
        id_column: The column with the ``custom_id``s.
        prompt_column: As for ``from_dataframe``, like all after it.

    Raises:
        FileNotFoundError: If there is no such file.
        ColumnError: If a column does not exist.
        TemplateError: If the template is wrong.
    """
    options = locals()
    return _from_table(ParquetSource, options.pop("path"), **options)


def render(
    frame: Any,
    *,
    id_column: str | Sequence[str] | None = None,
    prompt_column: str | Value | None = None,
    na: Literal["raise", "skip"] = "raise",
    model: str | Value = MODEL,
    reasoning_effort: str | Value | None = EFFORT,
    json_schema: Any = None,
    system_prompt: str | Value | None = None,
    seed: int | Value | None = SEED,
    endpoint: Endpoint = CHAT,
    body: Mapping[str, Any] | None = None,
    **unknown: Never,
) -> pa.Array:
    """Return the lines of a frame's requests, for an engine that has the rows in pieces.

    With its options in ``functools.partial``, it can be pickled and sent to workers, such as those
    of ``mapInArrow`` (Spark) or ``map_batches`` (Ray Data). Whether ids are unique in all pieces is
    not checked.

    Args:
        frame: A piece of the rows: a pyarrow ``RecordBatch``, or what ``from_dataframe`` takes.
        id_column: As for ``from_dataframe``, like all after it.

    Returns:
        ``large_string``: a line with its newline for each request.

    Raises:
        RequestError: If a row cannot become a request; rows are counted in the piece.
        ColumnError: If a column does not exist, or cannot be written as JSON.
        TemplateError: If the template is wrong.

    Example:
        >>> batch = pa.record_batch({"id": ["r7"], "review": ["Fits well."]})
        >>> options = {"id_column": "id", "prompt_column": "review", "model": "gpt-5.6-luna"}
        >>> render(batch, **options)[0].as_py()[:36]
        '{"custom_id":"r7","method":"POST","u'
    """
    options = locals()
    creator = _from_table(open_frame, options.pop("frame"), dedupe=False, **options)
    return pa.concat_arrays([pa.array([], TEXT), *rendered_lines(creator)])


def _from_table(
    read: Read,
    table: Any,
    id_column: str | Sequence[str] | None,
    prompt_column: str | Value | None,
    na: str,
    dedupe: bool,
    unknown: Mapping[str, Any],
    **options: Any,
) -> BatchCreator:
    given = {**options, **unknown}
    rows = table_requests(read, table, id_column, prompt_column, na, given, dedupe=dedupe)
    return with_table(rows, options)


def table_requests(
    read: Read,
    table: Any,
    id_column: str | Sequence[str] | None,
    prompt_column: str | Value | None,
    na: str,
    options: Mapping[str, Any],
    *,
    dedupe: bool = False,
) -> TableRequests:
    """Return the requests of a table, which ``read`` opens with the columns that are needed."""
    if na not in ("raise", "skip"):
        raise TemplateError(f"na must be 'raise' or 'skip', not {na!r}")
    names = id_column if isinstance(id_column, (list, tuple)) else [id_column]
    if id_column is not None and not (names and all(isinstance(name, str) for name in names)):
        problem = f"id_column must be the name of a column, or several, not {brief(id_column)}"
        raise TemplateError(problem)
    for name in options.keys() - inspect.signature(BatchCreator).parameters.keys():
        raise TypeError(f"there is no option {name!r}; {_advice(name)}")
    prompt = Col(prompt_column, "text") if isinstance(prompt_column, str) else prompt_column
    template = build_template(**options, prompt_column=prompt)
    source = read(table, id_column, template.columns)
    if dedupe and isinstance(source, DaskSource):
        problem = "dedupe compares all rows, and those of a Dask DataFrame are in partitions"
        raise BatchFramesError(problem, hint="call its drop_duplicates() or its compute() first")
    _check_braces(options.get("system_prompt"), source.names)
    model = (options.get("body") or {}).get("model", options.get("model", MODEL))
    if model is MODEL and find_body(options.get("endpoint", CHAT))[1]:
        message = f"model is left at its default, {MODEL!r}, which OpenAI has retired"
        warn(message, hint="pass model=")
    return TableRequests(source, template, na, dedupe)


def _check_braces(system_prompt: Any, names: Sequence[str]) -> None:
    """Refuse a column in braces that would be sent as it is: ``system_prompt`` is plain text."""
    if isinstance(system_prompt, str):
        for name in re.findall(r"(?<!\{)\{([^{}]+)\}(?!\})", system_prompt):
            if name in names:
                problem = f"system_prompt is plain text, and '{{{name}}}' in it names a column"
                hint = f"pass fmt(…) for its value, or fmt with '{{{{{name}}}}}' for the braces"
                raise TemplateError(problem, hint=hint)


def _advice(name: str) -> str:
    names = inspect.signature(from_dataframe).parameters
    near = [other for other in names if name in other.split("_")]
    near = near or difflib.get_close_matches(name, names, 1)
    return f"did you mean {near[0]!r}?" if near else f"for the request, pass body={{{name!r}: …}}"


OPTIONS = tuple(inspect.signature(from_dataframe).parameters)[1:-1]


def from_any(table: Any, given: Mapping[str, Any]) -> BatchCreator:
    """Make a request from each row of a frame or of files, or return what was made of them.

    Args:
        table: A frame, the path of CSV or Parquet files, or a ``BatchCreator``.
        given: The arguments of ``from_dataframe``, with ``unknown`` ones, among others.

    Raises:
        TypeError: If it is no table, or arguments are passed beside a ``BatchCreator``.
        TemplateError: If no model was named.
    """
    options = {name: given[name] for name in OPTIONS} | given["unknown"]
    if isinstance(table, BatchCreator):
        defaults = inspect.signature(from_dataframe).parameters
        for name, value in options.items():
            if name not in defaults or value is not defaults[name].default:
                raise TypeError(f"{name} is passed to what made the requests, not beside them")
        return table
    check_model(given)
    make: Any = from_dataframe
    if isinstance(table, (str, os.PathLike)):
        make = from_parquet if is_parquet(table) else from_csv
    return cast(BatchCreator, make(table, **options))
