"""Go the whole way from a frame to its answers in one call that may be made again."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import pandas as pd
import pyarrow as pa

from batch_frames.batches import Job, download, refuse_submitted, submit, wait
from batch_frames.errors import BatchFramesError, JobError
from batch_frames.files import Limits, Paths, Shard, find_shards
from batch_frames.progress import warn
from batch_frames.requests import (
    LIMITS,
    Options,
    TableRequests,
    Value,
    frame_requests,
    save_requests,
)
from batch_frames.results import (
    UNANSWERED,
    join_results,
    read_results,
    refuse_names_in_both,
    result_columns,
    summary_line,
)

if TYPE_CHECKING:
    from openai import OpenAI

__all__ = ["run"]


def run(
    frame_or_shards: Any,
    path: str | os.PathLike[str] | None = None,
    *,
    id_column: str | None = None,
    prompt_column: str | Value | None = None,
    na: str = "raise",
    client: OpenAI | None = None,
    limits: Limits = LIMITS,
    metadata: Mapping[str, str] | None = None,
    max_enqueued_tokens: int | None = None,
    timeout: float | None = None,
    poll: float | None = None,
    progress: bool | None = None,
    prefix: str = "",
    **options: Unpack[Options],
) -> pd.DataFrame:
    """Write requests, submit them, wait, download, and join the answers to their rows.

    What was done stands in files beside ``path``. Called again with the same rows, in this process
    or another, it goes on where it was, and at last returns at once; nothing is paid twice.

    Args:
        frame_or_shards: A frame as ``from_dataframe`` takes it, or request files as ``submit``
            takes them.
        path: Where the requests of a frame are saved, as in ``"out/reviews.jsonl"``.
        id_column: As in ``from_dataframe``, like ``prompt_column``, ``na`` and ``options``.
        prompt_column: The column with the prompts, or ``fmt("… {name} …")``.
        na: What to do with rows whose prompt is missing: ``"raise"`` or ``"skip"``.
        client: As for ``submit``.
        limits: How large one file may become.
        metadata: Up to 15 texts to attach to each batch.
        max_enqueued_tokens: How many tokens may be with the service at once.
        timeout: Seconds after which to give up waiting; None waits for ever.
        poll: Seconds between two looks.
        progress: Whether to show progress bars; None shows each after two seconds.
        prefix: What the names of the columns with answers get in front, as in ``join_results``.
        options: What ``BatchCreator`` takes; ``json_schema`` also gives the answers' columns.

    Returns:
        For a frame what ``join_results`` gives, for request files what ``read_results`` gives.

    Raises:
        BatchFramesError: If other requests were submitted under this path, or there are none.
        ColumnError: If the frame has a column with a name of those of results; pass ``prefix``.
        JobError: If batches failed at validation, or nothing came back at all.
        WaitTimeout: If the batches have not ended in time; they go on.
        openai.APIError: As the SDK says it.
    """
    both = {"client": client, "progress": progress}
    sending = {**both, "metadata": metadata, "max_enqueued_tokens": max_enqueued_tokens}
    waiting = {**both, "timeout": timeout, "poll": poll}
    schema = options.get("json_schema")
    if not _is_frame(frame_or_shards, path):
        results = _answers(find_shards(frame_or_shards), schema, sending, waiting)
        _warn_of_unanswered(results)
        return results
    assert path is not None
    frame = _lasting(frame_or_shards)
    _check_ahead(frame, Path(path), schema, prefix)
    requests = frame_requests(
        frame, id_column=id_column, prompt_column=prompt_column, na=na, **options
    )
    shards = _save(requests, path, limits, progress)
    results = _answers(shards, schema, sending, waiting)
    _warn_of_unanswered(results)
    return join_results(frame, results, id_column=id_column, prefix=prefix)


def _save(
    requests: TableRequests,
    path: str | os.PathLike[str],
    limits: Limits,
    progress: bool | None,
) -> list[Shard]:
    shards = save_requests(
        requests.blocks(),
        path,
        rows=requests.rows(),
        limits=limits,
        progress=progress,
        check=refuse_submitted,
    )
    if not shards[0].requests:
        raise BatchFramesError("the frame has no rows with a prompt")
    return shards


def _lasting(frame: Any) -> Any:
    """Keep the rows of a stream, which gives them once: they are needed again for the join."""
    return frame if isinstance(frame, pd.DataFrame) else pa.table(frame)


def _check_ahead(frame: Any, path: Path, schema: Any, prefix: str) -> None:
    """Find out before anything is sent what would fail once all is paid."""
    if path.suffix != ".jsonl":
        problem = "is no .jsonl file, which the service wants; name one, as in 'out/reviews.jsonl'"
        raise BatchFramesError(f"'{path}' {problem}")
    names = frame.columns if isinstance(frame, pd.DataFrame) else frame.column_names
    columns = [name for name in result_columns(schema) if name != "custom_id"]
    refuse_names_in_both([str(name) for name in names], columns, prefix)


def _warn_of_unanswered(results: pd.DataFrame) -> None:
    count = int(results["status"].isin(UNANSWERED).sum())
    if count:
        many = f"{count:,} of {len(results):,} requests have no answer ({summary_line(results)})"
        warn(many, hint="retry_requests writes them again")


def _is_frame(given: Any, path: object) -> bool:
    """Tell a frame, with a path for its requests, from request files, without one."""
    is_frame = hasattr(given, "columns") or hasattr(given, "__arrow_c_stream__")
    if is_frame and path is None:
        raise TypeError("run takes a path to save its requests to")
    if path is not None and not is_frame:
        raise TypeError("run takes a path only with a frame, not with shards")
    return is_frame


def _answers(
    shards: Paths, schema: Any, sending: Mapping[str, Any], waiting: Mapping[str, Any]
) -> pd.DataFrame:
    """Submit, wait, download and read."""
    jobs = wait(submit(shards, **sending), **waiting)
    files = download(jobs, client=sending["client"], progress=sending["progress"])
    if not files:
        raise _nothing(jobs)
    return read_results(files, requests=shards, json_schema=schema)


def _nothing(jobs: Iterable[Job]) -> JobError:
    first = next(iter(jobs))
    return JobError(
        f"no request was answered, {first.path.name!r} is {first.status!r}; "
        "submit the requests under another name",
        batch_id=first.batch_id,
        status=first.status,
    )
