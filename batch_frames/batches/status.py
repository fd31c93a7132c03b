"""Load jobs, return their statuses, and cancel them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch_frames.batches.client import NoBatchError, Service, batch_facts, find_batch_with_retry
from batch_frames.batches.failures import failures, failures_text
from batch_frames.batches.job import ENDED, Job, Jobs
from batch_frames.batches.ledger import Ledger, Ledgers
from batch_frames.errors import BatchFramesError
from batch_frames.files import LEDGER, RESULT_ENDINGS, Paths, find_files, ledger_path

if TYPE_CHECKING:
    import pandas as pd
    from openai import OpenAI

__all__ = ["cancel", "job_list", "job_rows", "load_jobs", "news_of", "retrieve", "status"]


COUNTS = ("total", "completed", "failed")

STATUS_COLUMNS = ("shard", "batch_id", "status", *COUNTS, "age", "expires", "errors")


def load_jobs(path: Paths) -> list[Job]:
    """Load jobs from the ledger next to their shards, as last noted there.

    Args:
        path: A ledger (``"out/reviews.jobs.jsonl"``), the path passed to ``save_to_file``
            (``"out/reviews.jsonl"``), shards, a folder, a glob, or a list of these.

    Returns:
        The jobs in the order in which they were submitted; ``status`` and ``wait`` refresh them
        from the service.

    Raises:
        FileNotFoundError: If there is no such ledger.
        BatchFramesError: If a shard was never submitted.
    """
    given = [path] if isinstance(path, (str, os.PathLike)) else list(path)
    jobs: dict[tuple[Path, str], Job] = {}
    ledgers = Ledgers()
    for one in given:
        for job in _jobs_of(Path(one), ledgers):
            jobs.setdefault((job.path.parent.resolve(), job.token), job)
    if not jobs:
        names = ", ".join(f"'{os.fspath(one)}'" for one in given) or "an empty list"
        raise FileNotFoundError(f"no jobs in {names}; submit the request files first")
    return Jobs(jobs.values())


def _jobs_of(path: Path, ledgers: Ledgers) -> list[Job]:
    if path.is_file() and not path.name.endswith(LEDGER):
        job = ledgers.job_of(path)
        if job is None and not path.name.endswith(RESULT_ENDINGS):
            raise BatchFramesError(f"'{path}' was not submitted", hint="submit it first")
        return [] if job is None else [replace(job, path=path)]
    if not path.exists() and ledger_path(path).is_file():
        return ledgers[ledger_path(path)].jobs
    found = find_files(path, [LEDGER])
    listed = [file for file in found if file.name.endswith(LEDGER)]
    if listed:
        return [job for file in listed for job in ledgers[file].jobs]
    known = ((shard, ledgers.job_of(shard)) for shard in found)
    return [replace(job, path=shard) for shard, job in known if job]


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
    return service.call(
        lambda api: _facts_of(job.batch_id, api.batches.retrieve(job.batch_id)),
        is_quick=True,
        **how,
    )


def _facts_of(batch_id: str | None, batch: Any) -> dict[str, Any]:
    facts = batch_facts(batch)
    if facts["batch_id"] != batch_id:
        raise NoBatchError(f"asked for {batch_id}, the service returned {facts['batch_id']}")
    return {**facts, "errors": tuple(facts["errors"])}


def status(jobs: Job | Iterable[Job], *, client: OpenAI | None = None) -> pd.DataFrame:
    """Return a table of batch statuses, refreshing those still running.

    Args:
        jobs: What ``submit`` or ``load_jobs`` returned.
        client: As for ``submit``; not needed once all batches have ended.

    Returns:
        One row per shard: ``shard``, ``batch_id``, ``status``, ``total``, ``completed``, ``failed``
        (requests), ``age`` (since the batch was created), ``expires`` and ``errors`` (what the
        service found wrong with the shard). Unknown values are missing.

    Raises:
        openai.APIError: Passed through from the SDK.
    """
    import pandas as pd

    frame = pd.DataFrame(job_rows(jobs, client=client), columns=STATUS_COLUMNS)
    for name in COUNTS:
        frame[name] = frame[name].astype("Int64")
    frame["age"] = pd.to_timedelta(frame["age"]).dt.as_unit("s")
    frame["expires"] = pd.to_datetime(frame["expires"], utc=True).dt.as_unit("s")
    return frame


def job_rows(jobs: Job | Iterable[Job], *, client: OpenAI | None = None) -> list[dict[str, Any]]:
    """Return the rows of the table of ``status`` as dicts; unknown values are None."""
    ledgers, now = Ledgers(), datetime.now(UTC)
    news: dict[str, dict[str, Any]] = {}
    # The ledger may know more than when a job was loaded.
    known = [
        replace(ledgers.job_of(job.path) or job, path=job.path) for job in job_list(jobs, "status")
    ]
    with Service(client, "status") as service:
        for job in known:
            news[job.token] = news.get(job.token) or news_of(service, job)
    return [_row(replace(job, **news[job.token]), now) for job in known]


def _row(job: Job, now: datetime) -> dict[str, Any]:
    found = failures(job) if job.status == "failed" else []
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
        BatchFramesError: If another process is using the ledger.
        openai.APIError: Passed through from the SDK.
    """
    done: list[Job] = []
    with Service(client, "cancel") as service:
        for job in job_list(jobs, "cancel"):
            with Ledger(ledger_path(job.path)).locked() as ledger:
                known = ledger.job_of(job.path.name)
                done.append(job if known is None else _cancel(service, ledger, known, job.path))
    return Jobs(done)


def _cancel(service: Service, ledger: Ledger, job: Job, path: Path) -> Job:
    if job.is_unsent and job.tried_at:
        batch = find_batch_with_retry(service, ledger, job)
        if batch is not None:
            job = ledger.note("created", job, **batch_facts(batch))
    if job.is_unsent or job.is_refused:
        job = ledger.note("status", job, status="cancelled", batch_id=None, errors=[])
    job = replace(job, **news_of(service, job))
    if job.in_flight and job.status != "cancelling":
        facts = service.call(lambda api: _cancel_call(api, job.batch_id))
        job = ledger.note("status", job, **facts)
    return replace(job, path=path)


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
