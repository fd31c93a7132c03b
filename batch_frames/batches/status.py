"""Load jobs, return their statuses, and cancel them."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch_frames.batches.client import Service
from batch_frames.batches.replies import Places, ReplyError, batch_facts, failures, failures_text
from batch_frames.batches.send import Sender
from batch_frames.errors import BatchFramesError
from batch_frames.files import (
    ENDED,
    LEDGER,
    NO_BATCH,
    Job,
    Jobs,
    Paths,
    Record,
    Records,
    as_path,
    distinct,
    find_files,
    holds_requests,
    recorded_folders,
    set_name,
    sets_of,
)

if TYPE_CHECKING:
    import pandas as pd
    from openai import OpenAI

__all__ = [
    "cancel",
    "job_list",
    "job_rows",
    "load_jobs",
    "news_of",
    "refreshed",
    "retrieve",
    "status",
]


COUNTS = ("total", "completed", "failed")

PATIENCE = 60.0
"""Seconds to wait for another process that is sending a shard that is to be cancelled."""

POLL = 5.0

EVERY = "/"

GLOB = re.compile(r"[*?\[]")

STATUS_COLUMNS = ("shard", "batch_id", "status", *COUNTS, "age", "expires", "errors")


def load_jobs(path: Paths) -> list[Job]:
    """Load jobs from the record next to their shards, as last noted there.

    Args:
        path: The path passed to ``save_to_file`` or ``run`` (``"out/reviews.jsonl"``), which stands
            for all rounds, shards, a folder, a glob, or a list of these.

    Returns:
        The jobs in the order in which they were submitted; ``status`` and ``wait`` refresh them
        from the service.

    Raises:
        FileNotFoundError: If there are none.
        BatchFramesError: If a shard was never submitted.
    """
    given = [path] if isinstance(path, (str, os.PathLike)) else list(path)
    records, jobs_in = Records(), cache(_jobs_by_set)
    jobs = {job.key: job for one in given for job in _jobs_of(as_path(one), records, jobs_in)}
    if not jobs:
        names = ", ".join(f"'{os.fspath(one)}'" for one in given) or "an empty list"
        raise FileNotFoundError(f"no jobs in {names}; submit the request files first")
    return Jobs(jobs.values())


def _jobs_by_set(record: Record) -> dict[str, list[Job]]:
    """Return the jobs of each set by its name, and all by a name that no set has."""
    found: dict[str, list[Job]] = {}
    for job in record.jobs():
        for name in (EVERY, *sets_of(job.path.name)):
            found.setdefault(name, []).append(job)
    return found


def _jobs_of(
    path: Path, records: Records, jobs_in: Callable[[Record], Mapping[str, list[Job]]]
) -> list[Job]:
    if path.is_dir():
        folders = ((folder, records.of(folder / "any")) for folder in recorded_folders(path))
        return [
            _in(folder, j) for folder, record in folders for j in jobs_in(record).get(EVERY, ())
        ]
    is_shard = path.is_file() and not path.name.endswith(LEDGER)
    own = _shard_jobs(path, records) if is_shard else []
    if is_shard and (not own or set_name(path)[1] is not None):
        return own
    keys = {job.key for job in own}
    name = path.name.removesuffix(LEDGER).removesuffix(".jsonl")
    named = [job for job in jobs_in(records.of(path)).get(name, ()) if job.key not in keys]
    if own or named or not GLOB.search(path.name):
        return own + [_in(path.parent, job) for job in named]
    known = (records.of(file).job_of(file) for file in find_files(path, [".jsonl"]))
    return [job for job in known if job]


def _in(folder: Path, job: Job) -> Job:
    """Return a job with the path that its shard has by the user's own way to the folder."""
    return replace(job, path=folder / job.path.name)


def _shard_jobs(path: Path, records: Records) -> list[Job]:
    job = records.of(path).job_of(path)
    if job is None and holds_requests(path):
        raise BatchFramesError(f"'{path}' was not submitted", hint="submit it first")
    return [] if job is None else [job]


def job_list(jobs: Job | Iterable[Job], verb: str) -> list[Job]:
    """Return the jobs that a user passed to a function, as a list.

    Raises:
        TypeError: If it is something else.
    """
    listed = [jobs] if isinstance(jobs, (Job, str, os.PathLike)) else list(jobs)
    for job in listed:
        if not isinstance(job, Job):
            kind = type(job).__name__
            raise TypeError(f"{verb} takes jobs, not {kind}; pass load_jobs(path)")
    return [job for job in listed if isinstance(job, Job)]


def news_of(service: Service, job: Job) -> dict[str, Any]:
    """Ask the service for a batch that may have changed; return nothing for one that has not."""
    lacks_output = bool(job.completed) and job.output_file_id is None
    lacks_errors = bool(job.failed) and job.error_file_id is None
    # Files may be named some time after the end.
    may_name_more = job.has_ended and job.batch_id is not None and (lacks_output or lacks_errors)
    return retrieve(service, job) if job.in_flight or may_name_more else {}


def retrieve(service: Service, job: Job, **how: Any) -> dict[str, Any]:
    """Ask for one batch, as ``Service.call`` does, and return what a job stores of it."""
    service.check_account(job)
    return service.call(
        lambda api: _facts_of(job.batch_id, api.batches.retrieve(job.batch_id)),
        job=job,
        is_quick=True,
        **how,
    )


def _facts_of(batch_id: str | None, batch: Any) -> dict[str, Any]:
    facts = batch_facts(batch)
    if facts["batch_id"] != batch_id:
        raise ReplyError(f"the service returned another batch, {facts['batch_id']}")
    return facts


def status(jobs: Job | Iterable[Job], *, client: OpenAI | None = None) -> pd.DataFrame:
    """Return a table of batch statuses, refreshing those still running.

    Args:
        jobs: What ``submit`` or ``load_jobs`` returned.
        client: As for ``submit``; not needed once all batches have ended.

    Returns:
        One row per shard: ``shard``, ``batch_id``, ``status``, ``total``, ``completed``, ``failed``
        (requests), ``age`` (since the batch was created), ``expires`` and ``errors`` (what the
        service found wrong with the shard, or what is wrong with its reply). Unknown values are
        missing.

    Raises:
        JobError: If no reply for any of them is what is expected.
        openai.APIError: Passed through from the SDK.
    """
    import pandas as pd

    frame = pd.DataFrame(job_rows(refreshed(jobs, client=client)), columns=STATUS_COLUMNS)
    for name in COUNTS:
        frame[name] = frame[name].astype("Int64")
    frame["age"] = pd.to_timedelta(frame["age"]).dt.as_unit("s")
    frame["expires"] = pd.to_datetime(frame["expires"], utc=True).dt.as_unit("s")
    return frame


def refreshed(jobs: Job | Iterable[Job], *, client: OpenAI | None = None) -> list[Job]:
    """Return jobs as they are now, asking for those that may have changed.

    What is wrong with the replies for some of them is among their errors.
    """
    records = Records()
    news: dict[tuple[Path, str], dict[str, Any]] = {}
    odd: list[ReplyError] = []
    # The record may know more than when a job was loaded.
    known = [records.of(j.path).job(j.sha256, j.path) or j for j in job_list(jobs, "status")]
    with Service(client, "status") as service:
        for job in distinct(known):
            news[job.key] = {}
            try:
                news[job.key] = news_of(service, job)
            except ReplyError as error:
                odd.append(error)
                news[job.key] = {"errors": ({"message": error.problem},)}
    if odd and len(odd) == len(news):
        raise odd[0]
    return [replace(job, **news[job.key]) for job in known]


def job_rows(jobs: Iterable[Job]) -> list[dict[str, Any]]:
    """Return the rows of the table of ``status`` as dicts; unknown values are None."""
    places, now = Places(), datetime.now(UTC)
    return [_row(job, now, places) for job in jobs]


def _row(job: Job, now: datetime, places: Places) -> dict[str, Any]:
    is_wrong = job.is_rejected or (job.errors and job.in_flight)
    found = failures(job, places) if is_wrong else []
    created, expires = map(_moment, (job.created_at, job.expires_at))
    age = created and max(timedelta(seconds=int((now - created).total_seconds())), timedelta(0))
    errors = failures_text(found) or None
    counts = (job.total, job.completed, job.failed)
    values = (job.path.name, job.batch_id, job.state, *counts, age, expires, errors)
    return dict(zip(STATUS_COLUMNS, values, strict=True))


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def cancel(jobs: Job | Iterable[Job], *, client: OpenAI | None = None) -> list[Job]:
    """Cancel batches that are still running, and shards that are waiting to be sent.

    Requests answered before can be downloaded once the status of the batch is ``cancelled``.

    Args:
        jobs: What ``submit`` or ``load_jobs`` returned.
        client: As for ``submit``.

    Returns:
        The jobs with their new statuses.

    Raises:
        BatchFramesError: If another process is sending a shard for a minute, or a batch is in
            another account.
        JobError: If a reply is not what is expected, once the others are cancelled.
        openai.APIError: Passed through from the SDK.
    """
    records, done = Records(), []
    odd: list[ReplyError] = []
    with Service(client, "cancel") as service:
        sender = Sender(service)
        for job in job_list(jobs, "cancel"):
            record = records.of(job.path)
            with record.locked(job, PATIENCE) as known:
                try:
                    done.append(_cancel(service, sender, record, known))
                except ReplyError as error:
                    odd.append(error)
    if odd:
        raise odd[0]
    return Jobs(done)


def _cancel(service: Service, sender: Sender, record: Record, job: Job) -> Job:
    while job.is_unsent and job.tried_at:
        # A batch that may exist is to be cancelled, too.
        job = sender.found(record, job)
        if job.is_unsent and (seconds := sender.seconds_left(job)):
            sender.look_again()
            time.sleep(min(seconds, POLL))
        elif job.is_unsent:
            break
    if job.is_unsent or job.is_refused:
        job = record.note(job, "withdrawn", **{**NO_BATCH, "status": "cancelled"})
    job = replace(job, **news_of(service, job))
    if job.in_flight and job.status != "cancelling":
        facts = service.call(lambda api: _cancel_call(api, job.batch_id), job=job)
        job = record.note(job, "cancelled", **facts)
    return job


def _cancel_call(api: Any, batch_id: str | None) -> dict[str, Any]:
    """Cancel a batch; the service's error is ignored if the batch has ended in the meantime."""
    try:
        return _facts_of(batch_id, api.batches.cancel(batch_id))
    except Exception as error:
        if getattr(error, "status_code", None) not in (400, 409):
            raise
        facts = _facts_of(batch_id, api.batches.retrieve(batch_id))
        if facts["status"] not in ENDED:
            raise
        return facts
