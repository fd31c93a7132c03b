"""Answer every row of a table in one call that may be repeated."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import inf
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Never

import pandas as pd
import pyarrow as pa

from batch_frames.batches import FIRST_POLL, download, refuse_errors, submit, wait
from batch_frames.display import counted
from batch_frames.errors import SECONDS, BatchFramesError, check_argument
from batch_frames.files import (
    RECORD,
    Job,
    Limits,
    Record,
    Shard,
    ShardWriter,
    find_shards,
    locked,
    next_round,
    open_store,
    refuse_submitted,
    set_path,
)
from batch_frames.frames import find_columns, to_dataframe, whole_frame
from batch_frames.plans import Plan, Selection, Table, is_wanted, open_table, planned, select
from batch_frames.prices import check_cost
from batch_frames.progress import ask, interrupt_hint, pause
from batch_frames.requests import (
    CHAT,
    EFFORT,
    LIMITS,
    MODEL,
    SEED,
    Asked,
    BatchCreator,
    Endpoint,
    Value,
)
from batch_frames.results import (
    RANKS,
    RESULTS,
    Outcomes,
    check_names,
    is_frame,
    join_results,
    names_in,
    read_answers,
    read_results,
    refuse_names_in_both,
    result_columns,
    row_ids,
    warn_of_unanswered,
    with_cost,
)

if TYPE_CHECKING:
    from openai import OpenAI

__all__ = ["run"]

TABLES = (".csv", ".tsv", ".parquet")

OF_FILES = (
    "frame_or_shards", "unknown", "client", "metadata", "max_enqueued_tokens", "check", "timeout",
    "poll", "progress", "json_schema", "usage", "dtype_backend",
)  # fmt: skip
"""The parameters that matter for request files, too."""

PAUSE = 10
"""How many polls the pause before the first retry takes; each later one takes as many more."""

PATIENCE = 600.0
"""Seconds to wait for another process that is sending requests from the same folder."""


def run(
    frame_or_shards: Any,
    path: str | os.PathLike[str] | None = None,
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
    retries: int = 2,
    max_requests: int | None = None,
    max_cost: float | None = None,
    client: OpenAI | None = None,
    limits: Limits = LIMITS,
    metadata: Mapping[str, str] | None = None,
    max_enqueued_tokens: int | None = None,
    timeout: float | None = None,
    poll: float | None = None,
    progress: bool | None = None,
    confirm: bool | Callable[[Plan], bool] = False,
    check: bool = True,
    columns: Sequence[str] | None = None,
    prefix: str = "",
    usage: bool = True,
    dtype_backend: str | None = None,
    **unknown: Never,
) -> Any:
    """Answer every row of a table: ask what has no answer yet, wait, and join all answers.

    A row has an answer if its very request was answered before, in any call with a path in the same
    folder: rows may be added, removed and sorted, prompts changed and changed back, and only what
    was never answered is sent. Progress is kept in files next to ``path``: requests in
    ``reviews.jsonl``, those of later calls and of retries in ``reviews.round-2.jsonl``, ….
    Interrupted or killed at any moment, it continues when called again.

    Args:
        frame_or_shards: A frame as for ``from_dataframe``, the path of CSV or Parquet files, what
            ``from_dataframe``, ``from_csv`` or ``from_parquet`` returned, or without ``path``
            request files as for ``submit``.
        path: Where to save the requests of a table, as in ``"out/reviews.jsonl"``, or a URL.
        id_column: As for ``from_dataframe``, like all until ``body``.
        prompt_column: The column with the prompts, or ``fmt("… {name} …")``.
        na: What to do with rows without a prompt: ``"raise"`` or ``"skip"``.
        model: The name of the model.
        reasoning_effort: The effort; None leaves it out.
        json_schema: The schema of the answers, which also types their columns.
        system_prompt: The system message.
        seed: The seed for sampling; None leaves it out.
        endpoint: The API path.
        body: Further keys of the request body.
        dedupe: Whether rows that ask the same get one request, whose answer all of them have.
        retries: How often to send again, of a table, what fails for a passing reason: HTTP status
            408, 409, 425, 429 or 5xx, an expired batch, a lost or damaged result; always after all
            batches have ended and, for HTTP statuses, a pause of ten times ``poll`` (30 s), then
            twenty times, …. What fails for good, with another HTTP status from 400 to 499 or a
            refusal, is not sent again, also not by later calls; ``retry_requests`` can do that.
        max_requests: Most requests to send, with what earlier calls have saved and could not send,
            but not counting retries; None sets no limit.
        max_cost: The most dollars that these requests may cost, by the high end of ``estimate``;
            for that, the body must limit the answers. None sets no limit.
        client: As for ``submit``.
        limits: Maximum size of one file.
        metadata: Up to 15 texts to attach to each batch.
        max_enqueued_tokens: As for ``submit``.
        timeout: Seconds after which to give up waiting; None waits without limit.
        poll: Seconds between polls.
        progress: Whether to show progress bars; None shows each after two seconds.
        confirm: Whether to show the plan and ask before anything is sent, retries apart, or a
            function that receives the plan and returns whether to go on.
        check: Whether to refuse requests in which ``check_requests`` finds errors.
        columns: The columns of results to take, as for ``join_results``.
        prefix: Prefix for the names of the columns with answers, as for ``join_results``.
        usage: Whether to return the columns with numbers of tokens.
        dtype_backend: As for ``read_results``; for the columns with answers.
        unknown: Nothing; other names are an error that says what was meant.

    Returns:
        The table with its answers, as from ``join_results``: of pandas or polars where the frame
        is, of pyarrow for other frames and for files. For request files their results, as from
        ``read_results``. ``attrs["cost"]`` of pandas has the dollars that these results cost, as
        ``summarize`` counts them, where that is known; answers that later ones replaced are extra.

    Raises:
        BatchFramesError: If the service would refuse a request, more than ``max_requests`` would be
            sent or ``max_cost`` be paid, or it was not confirmed; nothing is sent then.
        ColumnError: If the frame has a column with the name of a result column; pass ``prefix``.
        TemplateError: If the template is wrong, or there is no model.
        ValueError: If ``retries`` or ``max_requests`` is not a whole number from 0.
        JobError: If batches failed at validation.
        WaitTimeout: If batches are still running after ``timeout`` seconds.
        openai.APIError: Passed through from the SDK.
    """
    given = locals()
    _check_given(given)
    with interrupt_hint("what was sent is noted", "call run again"):
        if path is None:
            return _run_files(_request_files(frame_or_shards, given), given)
        return _run_table(open_table(frame_or_shards, given), set_path(path), given)


def _run_files(shards: list[Path], given: Mapping[str, Any]) -> Any:
    """Answer request files, and return what came back."""
    result_columns(given["json_schema"])  # refuses a wrong schema before anything is sent
    _follow(_submit(shards, given), given)
    how = {name: given[name] for name in ("json_schema", "usage", "dtype_backend")}
    results = read_results(requests=shards, **how)
    warn_of_unanswered(results)
    return with_cost(results, results)


def _submit(shards: Sequence[Shard] | Sequence[Path], given: Mapping[str, Any]) -> list[Job]:
    """Create batches."""
    names = ("client", "metadata", "max_enqueued_tokens", "timeout", "check", "progress")
    return submit(shards, **{name: given[name] for name in names})


def _follow(jobs: Sequence[Job], given: Mapping[str, Any]) -> None:
    """Wait for batches, and download what came back."""
    ended = wait(jobs, **{name: given[name] for name in ("client", "timeout", "poll", "progress")})
    download(ended, client=given["client"], progress=given["progress"])


def _run_table(table: Table, path: Path, given: Mapping[str, Any]) -> Any:
    """Answer a table, and join what came back."""
    frame, prefix = whole_frame(table.requests.source), given["prefix"]
    to_dataframe(pa.table({}), given["dtype_backend"])
    columns = _checked_names(frame, table.schema, given["columns"], prefix)
    same = table.requests if table.requests.dedupe else None
    if same is None and given["na"] == "skip":
        # Writing compares the ids of rows with a prompt alone.
        row_ids(frame, table.requests.source.id_column, None)
    asked = _answer_all(table, path, given)
    # What is not pandas has types of its own, which pandas' would lose on the way.
    backend = given["dtype_backend"] or (None if isinstance(frame, pd.DataFrame) else "pyarrow")
    how = {"json_schema": table.schema, "usage": given["usage"], "dtype_backend": backend}
    results = read_answers(asked, None, [path], **how)
    warn_of_unanswered(results)
    names = {"id_column": table.requests.source.id_column, "columns": columns, "prefix": prefix}
    return with_cost(join_results(frame, results, requests=same, **names), results)


def _check_given(given: Mapping[str, Any]) -> None:
    for name in ("timeout", "poll"):
        check_argument(name, given[name], *SECONDS)
    check_argument("confirm", given["confirm"], "True, False or a function", bool, Callable)
    for name in ("retries", "max_requests"):
        value = given[name]
        if (value is not None or name == "retries") and (type(value) is not int or value < 0):
            raise ValueError(f"{name} must be a whole number from 0, not {value!r}")
    is_number = isinstance(most := given["max_cost"], Real) and not isinstance(most, bool)
    if most is not None and not (is_number and most >= 0):
        raise ValueError(f"max_cost must be a number from 0, not {most!r}")


def _request_files(files: Any, given: Mapping[str, Any]) -> list[Path]:
    """Find request files, which need no path.

    Raises:
        TypeError: If it is a table, which does, or an option is for tables only.
    """
    is_table = isinstance(files, BatchCreator) or hasattr(files, "columns") or is_frame(files)
    if is_table or (isinstance(files, (str, os.PathLike)) and Path(files).suffix in TABLES):
        raise TypeError("run needs a path to save the requests of a table to")
    options = inspect.signature(run).parameters
    of_tables = [n for n in options if n not in OF_FILES and given[n] is not options[n].default]
    for name in (*given["unknown"], *of_tables):
        raise TypeError(f"{name} is for a table with a path, not for request files")
    return find_shards(files)


def _checked_names(
    frame: Any, schema: Any, columns: Sequence[str] | None, prefix: str
) -> Sequence[str] | None:
    """Refuse before anything is sent what would fail once all is paid for.

    Returns:
        The columns of results that are wanted; None for all.
    """
    have = names_in(frame)
    if not isinstance(frame, pd.DataFrame):
        to_dataframe(pa.table(frame).slice(0, 0), None, nullable=True)
    every = [name for name in result_columns(schema) if name != "custom_id"]
    columns = check_names(columns, prefix)
    find_columns(result_columns(schema, sometimes=True), columns or (), RESULTS)
    refuse_names_in_both(have, every if columns is None else columns, prefix)
    return columns


def _answer_all(table: Table, path: Path, given: Mapping[str, Any]) -> Asked:
    """Send what has no answer, round after round, and return what is asked now."""
    selection: Selection | None = None
    for again in range(given["retries"] + 1):
        if selection is not None and not _is_retried(selection, path, again, given):
            break
        with _alone(path.parent) as record:
            outcomes = Outcomes(record, keep=True)
            shards: list[Shard] = []
            with _writer(table, path, outcomes, given["limits"]) as writer:
                how = {"once_more": again > 0, "progress": given["progress"]}
                selection = select(table.requests, outcomes, path, writer, **how)
                changes = writer.changes() if selection.asked.any() else {}
                if given["check"] and not again:
                    refuse_errors({path: new for path, new in changes.items() if new})
                if not again and (changes or selection.waiting):
                    _confirm(planned(selection, writer, table), given)
                if changes:
                    refuse_submitted(changes)
                    shards = writer.commit()
            jobs = _submit(shards, {**given, "check": False}) if shards else []
        if not (jobs := [*jobs, *selection.awaited]):
            break
        _follow(jobs, given)
    assert selection is not None
    return Asked.of_table(selection.custom_ids.combine_chunks(), selection.lines)


def _is_retried(selection: Selection, path: Path, again: int, given: Mapping[str, Any]) -> bool:
    """Return whether some requests are to be sent again, after a pause if the service failed."""
    found = selection.find(Outcomes(Record(path.parent), keep=True))
    wanted = is_wanted(found, once_more=True)
    if failed := int((found.ranks[wanted] == RANKS["http_error"]).sum()):
        most = inf if given["timeout"] is None else given["timeout"]
        seconds = min(again * PAUSE * (given["poll"] or FIRST_POLL), most)
        reason = f"run: {failed:,} of {len(wanted):,} requests failed for a passing reason"
        pause(seconds, reason, given["progress"])
    return bool(wanted.any())


def _writer(table: Table, path: Path, outcomes: Outcomes, limits: Limits) -> ShardWriter:
    target = next_round(path, outcomes.names())
    return ShardWriter(open_store(target, table.requests.paths, again=True), limits)


@contextmanager
def _alone(folder: Path) -> Iterator[Record]:
    """Keep other processes from deciding at the same time what is to be sent from a folder."""
    Record(folder)  # refuses a file in the place of the folder
    (folder / RECORD).mkdir(parents=True, exist_ok=True)
    with locked(folder / RECORD / "run", f"'{folder}' is in use by {{owner}}", patience=PATIENCE):
        yield Record(folder)


def _confirm(plan: Plan, given: Mapping[str, Any]) -> None:
    """Refuse to send more than is allowed, or what is not confirmed.

    Raises:
        BatchFramesError: If that is so.
    """
    most, confirm = given["max_requests"], given["confirm"]
    if most is not None and plan.requests > most:
        sent = counted(plan.requests, "request")
        raise BatchFramesError(f"{sent} would be sent, but max_requests={most:,}")
    if given["max_cost"] is not None:
        total = plan.estimate.iloc[-1]
        check_cost(total["cost_low"], total["cost_high"], given["max_cost"])
    if confirm and not (ask(repr(plan)) if confirm is True else confirm(plan)):
        raise BatchFramesError("nothing was sent, as it was not confirmed")
