"""Answer every row of a frame in one call that may be repeated."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import pandas as pd

from batch_frames.batches import download, submit, wait
from batch_frames.errors import BatchFramesError, JobError
from batch_frames.files import Job, Limits, Paths, Shard, find_shards, refuse_submitted
from batch_frames.frames import open_frame
from batch_frames.progress import warn
from batch_frames.requests import (
    LIMITS,
    Options,
    TableRequests,
    Value,
    save_requests,
    table_requests,
)
from batch_frames.results import (
    UNANSWERED,
    join_results,
    lasting,
    names_in,
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

    Progress is kept in files next to ``path``. Calling it again with the same rows resumes where it
    stopped and, once all is done, returns immediately; nothing is billed twice.

    Args:
        frame_or_shards: A frame as for ``from_dataframe``, or request files as for ``submit``.
        path: Where to save the requests of a frame, as in ``"out/reviews.jsonl"``.
        id_column: As for ``from_dataframe``, like ``prompt_column``, ``na`` and ``options``.
        prompt_column: The column with the prompts, or ``fmt("… {name} …")``.
        na: What to do with rows whose prompt is missing: ``"raise"`` or ``"skip"``.
        client: As for ``submit``.
        limits: Maximum size of one file.
        metadata: Up to 15 texts to attach to each batch.
        max_enqueued_tokens: Maximum number of tokens enqueued at the service at once.
        timeout: Seconds after which to give up waiting; None waits without limit.
        poll: Seconds between polls.
        progress: Whether to show progress bars; None shows each after two seconds.
        prefix: Prefix for the names of the columns with answers, as for ``join_results``.
        options: As for ``BatchCreator``; ``json_schema`` also types the columns with answers.

    Returns:
        The frame with its answers, as from ``join_results``; for request files their results, as
        from ``read_results``.

    Raises:
        BatchFramesError: If other requests were submitted under this path, or there are none.
        ColumnError: If the frame has a column with the name of a result column; pass ``prefix``.
        JobError: If batches failed at validation, or no request was answered.
        WaitTimeout: If batches are still running after ``timeout`` seconds.
        openai.APIError: Passed through from the SDK.
    """
    schema = options.get("json_schema")

    def answers(shards: Paths) -> pd.DataFrame:
        jobs = submit(
            shards,
            client=client,
            metadata=metadata,
            max_enqueued_tokens=max_enqueued_tokens,
            progress=progress,
        )
        jobs = wait(jobs, client=client, timeout=timeout, poll=poll, progress=progress)
        return _read(jobs, download(jobs, client=client, progress=progress), shards, schema)

    if not _is_frame(frame_or_shards, path):
        return answers(find_shards(frame_or_shards))
    assert path is not None
    frame = lasting(frame_or_shards)
    _check_ahead(frame, Path(path), schema, prefix)
    requests = table_requests(open_frame, frame, id_column, prompt_column, na, options)
    results = answers(_save(requests, path, limits, progress))
    joined: pd.DataFrame = join_results(frame, results, id_column=id_column, prefix=prefix)
    return joined


def _is_frame(given: Any, path: object) -> bool:
    """Return whether it is a frame, which needs a path, or request files, which have theirs."""
    is_frame = hasattr(given, "columns") or hasattr(given, "__arrow_c_stream__")
    if is_frame and path is None:
        raise TypeError("run needs a path to save the requests of a frame to")
    if path is not None and not is_frame:
        raise TypeError("run takes a path only with a frame, not with request files")
    return is_frame


def _check_ahead(frame: Any, path: Path, schema: Any, prefix: str) -> None:
    """Refuse before anything is sent what would fail once all is paid for."""
    if path.suffix != ".jsonl":
        problem = f"'{path}' must end in .jsonl, as the service requires"
        raise BatchFramesError(problem, hint="name a file such as 'out/reviews.jsonl'")
    columns = [name for name in result_columns(schema) if name != "custom_id"]
    refuse_names_in_both(names_in(frame), columns, prefix)


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


def _read(jobs: Sequence[Job], files: Sequence[Path], shards: Paths, schema: Any) -> pd.DataFrame:
    """Read what came back, and warn of requests without an answer."""
    if not files:
        raise JobError(
            f"no request was answered, {jobs[0].path.name!r} is {jobs[0].status!r}",
            batch_id=jobs[0].batch_id,
            status=jobs[0].status,
            hint="submit the requests under another name",
        )
    results = read_results(files, requests=shards, json_schema=schema)
    count = int(results["status"].isin(UNANSWERED).sum())
    if count:
        many = f"{count:,} of {len(results):,} requests have no answer ({summary_line(results)})"
        warn(many, hint="retry_requests writes them again")
    return results
