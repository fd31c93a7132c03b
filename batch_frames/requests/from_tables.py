"""Make a request of each row of a frame, of CSV or of Parquet files."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Any, Unpack

from batch_frames.errors import TemplateError
from batch_frames.files import Paths
from batch_frames.frames import CsvSource, ParquetSource, Source, open_frame
from batch_frames.progress import warn
from batch_frames.requests.columns import Col, Value
from batch_frames.requests.creator import BatchCreator, Options, with_table
from batch_frames.requests.endpoints import CHAT, MODEL, build_template, prompt_key
from batch_frames.requests.rendering import TableRequests

__all__ = ["frame_requests", "from_csv", "from_dataframe", "from_parquet"]


def from_dataframe(
    frame: Any,
    *,
    id_column: str | None = None,
    prompt_column: str | Value | None = None,
    na: str = "raise",
    **options: Unpack[Options],
) -> BatchCreator:
    """Make a request of each row of a frame.

    Args:
        frame: A pandas DataFrame, or anything with ``__arrow_c_stream__``: pyarrow, polars, a
            DuckDB relation, a ``RecordBatchReader``.
        id_column: The column with the ``custom_id``s: text, whole numbers, dates, decimals or
            UUIDs, none missing, none twice. None takes the index of a pandas DataFrame.
        prompt_column: The column with the prompts, or ``fmt("Title: {title}\\n{review}")``.
        na: What to do with rows whose prompt is missing: ``"raise"`` or ``"skip"``.
        options: ``model``, ``reasoning_effort``, ``json_schema``, ``system_prompt``, ``seed``,
            ``endpoint`` and ``body``, as ``BatchCreator`` takes them. Each but ``json_schema`` and
            ``endpoint`` may hold ``col("name")`` and ``fmt("… {name} …")``, ``body`` at any depth;
            a row whose value for a top-level key of the body is missing goes without that key.

    Returns:
        A ``BatchCreator``; rows are read when it saves.

    Raises:
        TypeError: If it is no frame.
        ColumnError: If a column is not there, or there is nothing to take the ids from.
        TemplateError: If the template is wrong.

    Example:
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"review": ["Fits well."]}, index=["r7"])
        >>> batch = from_dataframe(frame, prompt_column="review", model="gpt-5.6-luna")
        >>> batch.preview_entry()["body"]["messages"]
        [{'role': 'user', 'content': 'Fits well.'}]
    """
    table = frame_requests(
        frame, id_column=id_column, prompt_column=prompt_column, na=na, **options
    )
    return with_table(table, options)


def frame_requests(
    frame: Any,
    *,
    id_column: str | None,
    prompt_column: str | Value | None,
    na: str,
    **options: Unpack[Options],
) -> TableRequests:
    """Return the requests that ``from_dataframe`` makes."""
    return _requests(
        lambda columns: open_frame(frame, id_column, columns), id_column, prompt_column, na, options
    )


def from_csv(
    path: Paths,
    *,
    id_column: str | None = None,
    prompt_column: str | Value | None = None,
    na: str = "raise",
    **options: Unpack[Options],
) -> BatchCreator:
    """Make a request of each row of CSV files, which are read as a stream.

    Every column is text: the id ``007`` stays ``007``, and ``col("t", type="number")`` reads a
    number. An empty field is missing, a quoted empty one is empty text. The separator may be
    ``,``, ``;``, a tab or ``|``; files are UTF-8, with or without a byte order mark, or UTF-16 with
    one, and may be compressed (``.csv.gz``).

    Args:
        path: A path, a list of them, a glob such as ``"data/*.csv"``, or a folder.
        id_column: The column with the ids.
        prompt_column: As in ``from_dataframe``, like all that follows.
        na: What to do with rows whose prompt is missing: ``"raise"`` or ``"skip"``.
        options: What ``BatchCreator`` takes.

    Raises:
        FileNotFoundError: If there is no such file.
        ColumnError: If a column is not there.
        TemplateError: If the template is wrong.
    """
    table = _requests(
        lambda columns: CsvSource(path, id_column, columns), id_column, prompt_column, na, options
    )
    return with_table(table, options)


def from_parquet(
    path: Paths,
    *,
    id_column: str | None = None,
    prompt_column: str | Value | None = None,
    na: str = "raise",
    **options: Unpack[Options],
) -> BatchCreator:
    """Make a request of each row of Parquet files, which are read as a stream.

    Args:
        path: A path, a list of them, a glob such as ``"data/*.parquet"``, or a folder.
        id_column: The column with the ids.
        prompt_column: As in ``from_dataframe``, like all that follows.
        na: What to do with rows whose prompt is missing: ``"raise"`` or ``"skip"``.
        options: What ``BatchCreator`` takes.

    Raises:
        FileNotFoundError: If there is no such file.
        ColumnError: If a column is not there.
        TemplateError: If the template is wrong.
    """
    table = _requests(
        lambda names: ParquetSource(path, id_column, names), id_column, prompt_column, na, options
    )
    return with_table(table, options)


def _requests(
    open_source: Callable[[Sequence[str]], Source],
    id_column: str | None,
    prompt_column: str | Value | None,
    na: str,
    options: Options,
) -> TableRequests:
    """Open a table for a template; ``open_source`` gets the columns that the template needs."""
    if na not in ("raise", "skip"):
        raise TemplateError(f"na must be 'raise' or 'skip', not {na!r}")
    if id_column is not None and not isinstance(id_column, str):
        raise TemplateError(f"id_column must be the name of a column, not {id_column!r}")
    for name in options.keys() - Options.__annotations__.keys():
        raise TypeError(f"there is no option {name!r}; {_advice(name)}")
    prompt = Col(prompt_column, "text") if isinstance(prompt_column, str) else prompt_column
    template = build_template(**options, prompt_column=prompt)
    table = TableRequests(open_source(template.columns), template, na)
    by_default = "model" not in options and "model" not in (options.get("body") or {})
    if by_default and prompt_key(options.get("endpoint", CHAT)):
        message = f"model is left at its default, {MODEL!r}, which OpenAI has retired"
        warn(message, hint="pass model=")
    return table


def _advice(name: str) -> str:
    near = difflib.get_close_matches(name, Options.__annotations__, 1)
    return f"did you mean {near[0]!r}?" if near else f"for the request, pass body={{{name!r}: …}}"
