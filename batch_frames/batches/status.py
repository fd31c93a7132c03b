"""Find jobs again, show where they stand, and cancel them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch_frames.batches.client import NoBatchError, Service, batch_facts, settled_batch
from batch_frames.batches.failures import failure_text, failures
from batch_frames.batches.job import ENDED, Job, Jobs
from batch_frames.batches.ledger import Ledger, Ledgers
from batch_frames.errors import BatchFramesError
from batch_frames.files import LEDGER, RESULT_ENDINGS, Paths, find_files, ledger_path

if TYPE_CHECKING:
    import pandas as pd
    from openai import OpenAI

__all__ = ["cancel", "fresh", "job_list", "job_rows", "load_jobs", "retrieve", "status"]


COUNTS = ("total", "completed", "failed")

STATUS_COLUMNS = ("shard", "batch_id", "status", *COUNTS, "age", "expires", "errors")


def load_jobs(path: Paths) -> list[Job]:
    """Load jobs from the ledger beside their shards, as it last knew them.

    Args:
        path: A ledger (``"out/reviews.jobs.jsonl"``), the path that was saved to
            (``"out/reviews.jsonl"``), shards, a folder, a glob, or a list of these.

    Returns:
        The jobs in the order in which they were submitted; ``status`` and ``wait`` ask the service
        for news of them.

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
            raise BatchFramesError(f"'{path}' was not submitted; submit it first")
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
    """List jobs that a user passed.

    Raises:
        TypeError: If it is something else.
    """
    if isinstance(jobs, Job):
        return [jobs]
    listed = [jobs] if isinstance(jobs, (str, os.PathLike)) else list(jobs)
    for job in listed:
        if not isinstance(job, Job):
            kind = type(job).__name__
            raise TypeError(f"{verb} takes jobs, not {kind}; pass load_jobs(path)")
    return [job for job in listed if isinstance(job, Job)]


def fresh(service: Service, jobs: Iterable[Job]) -> list[Job]:
    """Ask the service how the batches stand that had not ended when it was last asked."""
    asked: dict[str, dict[str, Any]] = {}
    listed = list(jobs)
    for job in listed:
        if (job.in_flight or _may_name_more(job)) and job.token not in asked:
            asked[job.token] = retrieve(service, job)
    return [replace(job, **asked.get(job.token, {})) for job in listed]


def _may_name_more(job: Job) -> bool:
    """Tell whether the service counts what should be in a file that it has not named so far."""
    lacks_output = bool(job.completed) and job.output_file_id is None
    lacks_errors = bool(job.failed) and job.error_file_id is None
    return job.has_ended and job.batch_id is not None and (lacks_output or lacks_errors)


def retrieve(service: Service, job: Job, **how: Any) -> dict[str, Any]:
    """Ask for one batch, as ``Service.call`` does, and give what a job knows of it."""
    facts = service.call(
        lambda api: _facts_of(job.batch_id, api.batches.retrieve(job.batch_id)),
        is_quick=True,
        **how,
    )
    return {**facts, "errors": tuple(facts["errors"])}


def _facts_of(batch_id: str | None, batch: Any) -> dict[str, Any]:
    facts = batch_facts(batch)
    if facts["batch_id"] != batch_id:
        raise NoBatchError(f"asked for {batch_id}, the service answers {facts['batch_id']}")
    return facts


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
    ledgers = Ledgers()
    listed = [_as_known(job, ledgers) for job in job_list(jobs, "status")]
    now = datetime.now(UTC)
    with Service(client, "status") as service:
        return [_row(job, now) for job in fresh(service, listed)]


def _row(job: Job, now: datetime) -> dict[str, Any]:
    found = failures(job) if job.status == "failed" else []
    more = f"; and {len(found) - 1:,} more" if len(found) > 1 else ""
    created, expires = map(_moment, (job.created_at, job.expires_at))
    age = created and max(timedelta(seconds=int((now - created).total_seconds())), timedelta(0))
    errors = failure_text(found[0]) + more if found else None
    counts = (job.total, job.completed, job.failed)
    values = (job.path.name, job.batch_id, job.state, *counts, age, expires, errors)
    return dict(zip(STATUS_COLUMNS, values, strict=True))


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _as_known(job: Job, ledgers: Ledgers) -> Job:
    """Take what the ledger knows, which may be more than when the job was loaded."""
    known = ledgers.job_of(job.path)
    return job if known is None else replace(known, path=job.path)


def cancel(jobs: Job | Iterable[Job], *, client: OpenAI | None = None) -> list[Job]:
    """Cancel batches that have not ended, and shards that wait for their turn.

    What was answered before can be downloaded once the service has the batch ``cancelled``.

    Args:
        jobs: What ``submit`` or ``load_jobs`` returned.
        client: As for ``submit``.

    Returns:
        The jobs as they stand now.

    Raises:
        BatchFramesError: If another process is at work on the ledger.
        openai.APIError: As the SDK says it.
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
        batch = settled_batch(service, ledger, job)
        if batch is not None:
            job = ledger.note("created", job, **batch_facts(batch))
    if job.is_unsent or job.is_refused:
        job = ledger.note("status", job, status="cancelled", batch_id=None, errors=[])
    [job] = fresh(service, [job])
    if job.in_flight and job.status != "cancelling":
        facts = service.call(lambda api: _cancel_call(api, job.batch_id))
        job = ledger.note("status", job, **facts)
    return replace(job, path=path)


def _cancel_call(api: Any, batch_id: str | None) -> dict[str, Any]:
    """Cancel a batch, unless it has ended meanwhile, which the service answers with an error."""
    try:
        return _facts_of(batch_id, api.batches.cancel(batch_id))
    except Exception as error:
        if getattr(error, "status_code", None) not in (400, 409):
            raise
        facts = _facts_of(batch_id, api.batches.retrieve(batch_id))
        if facts["status"] not in ENDED:
            raise
        return facts
