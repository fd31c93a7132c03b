"""Make one batch of each shard, and never a second."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from batch_frames.batches.client import (
    TOKEN_KEY,
    TRIES,
    Service,
    batch_facts,
    pauses,
    settled_batch,
)
from batch_frames.batches.failures import job_error
from batch_frames.batches.job import Job, Jobs, Settings, counted
from batch_frames.batches.ledger import Ledger
from batch_frames.errors import BatchFramesError
from batch_frames.files import Paths, RequestFile, Shard, find_shards, ledger_path, read_shard
from batch_frames.progress import how_to_go_on

if TYPE_CHECKING:
    from openai import OpenAI

__all__ = ["send_anew", "send_waiting", "submit"]


MOST_METADATA = 15

UNKNOWN_CALL = (405, 501)


def submit(
    shards: Paths,
    *,
    client: OpenAI | None = None,
    metadata: Mapping[str, str] | None = None,
    completion_window: str = "24h",
    output_expires_after: Mapping[str, Any] | None = None,
    max_enqueued_tokens: int | None = None,
    progress: bool | None = None,
) -> list[Job]:
    """Upload request files and create a batch of each, once and no more.

    What was done is noted in a ledger beside the shards, ``reviews.jobs.jsonl``, before and after
    each step. Killed at any moment and run again, ``submit`` goes on where it was, and where it
    cannot know whether a batch was created, it looks among the service's batches first. A shard
    that has its batch keeps it: run again, nothing is sent. The same content under another name of
    the same set, such as ``reviews-00007.jsonl``, is the same batch too. A shard that failed at
    validation is sent anew once its content has changed, or when what the service found wrong was
    not in one of its lines.

    Args:
        shards: What ``save_to_file`` returned, or paths or globs of request files. Ledgers and
            results beside them are passed over.
        client: An ``openai.OpenAI``, ``openai.AzureOpenAI`` or one of their kind; None makes
            ``openai.OpenAI()``, with the key in ``OPENAI_API_KEY``.
        metadata: Up to 15 texts to attach to each batch.
        completion_window: The time in which a batch must end.
        output_expires_after: When result files may go, as the service takes it:
            ``{"anchor": "created_at", "seconds": 86_400}``.
        max_enqueued_tokens: How many tokens may be with the service at once, about four bytes of
            text each; the shards beyond wait for ``wait`` to send them. None sends all at once.
        progress: Whether to show a progress bar; None shows it after two seconds.

    Returns:
        A job for each shard, in order; it shows as a card in a notebook.

    Raises:
        MissingExtra: If the openai SDK is not installed.
        FileNotFoundError: If there is no such file.
        LineError: If a file holds no requests.
        BatchFramesError: If a shard has changed since it was saved or submitted, or another process
            is at work on the same ledger.
        JobError: If a shard failed at validation before, and has not changed since.
        openai.APIError: As the SDK says it; what was done is noted, and ``submit`` goes on from it.
    """
    settings = Settings(metadata, completion_window, output_expires_after, max_enqueued_tokens)
    _check_settings(settings)
    # A generator of shards can be gone through once only.
    given = list(shards) if isinstance(shards, Iterator) else shards
    files = [read_shard(path) for path in find_shards(given)]
    by_path = {path: Ledger(path) for path in dict.fromkeys(ledger_path(f.path) for f in files)}
    pairs = [(by_path[ledger_path(file.path)], file) for file in files]
    with ExitStack() as stack:
        service = stack.enter_context(Service(client, "submit"))
        for ledger in by_path.values():
            stack.enter_context(ledger.locked())
        for ledger, file in pairs:
            _check_unchanged(ledger, file)
        _check_as_saved(given, files)
        stack.enter_context(how_to_go_on("what was sent is noted; to go on, submit again"))
        for ledger, file in pairs:
            _plan(ledger, file, settings)
        _send_all(service, pairs, progress)
        jobs = Jobs(_job_of(ledger, file.path) for ledger, file in pairs)
    if error := job_error(job for job in jobs if job.status == "failed"):
        raise error
    return jobs


def _send_all(
    service: Service, pairs: list[tuple[Ledger, RequestFile]], progress: bool | None
) -> None:
    there = (f.requests for ledger, f in pairs if not _job_of(ledger, f.path).is_unsent)
    bar = tqdm(
        desc="submit",
        total=sum(file.requests for _, file in pairs),
        initial=sum(there),
        unit=" requests",
        delay=0 if progress else 2,
        disable=progress is False,
    )
    with bar:
        for ledger in dict.fromkeys(ledger for ledger, _ in pairs):
            send_waiting(
                service,
                ledger,
                [file.path.name for other, file in pairs if other is ledger],
                flying=sum(job.estimated_tokens for job in ledger.jobs if job.in_flight),
                sent=lambda job: bar.update(job.requests),
            )


def _job_of(ledger: Ledger, path: Path) -> Job:
    job = ledger.job_of(path.name)
    assert job is not None
    return replace(job, path=path)


def _check_settings(settings: Settings) -> None:
    metadata, most = settings.metadata or {}, settings.max_enqueued_tokens
    if TOKEN_KEY in metadata:
        raise ValueError(f"metadata: the key {TOKEN_KEY!r} is taken; choose another")
    if len(metadata) > MOST_METADATA:
        given = f"{len(metadata):,}"
        raise ValueError(f"metadata: there are {given} keys; the service takes 16, one is ours")
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
        problem = f"must be a whole number from 1, not {most!r}"
        raise ValueError(f"max_enqueued_tokens: {problem}")


def _check_unchanged(ledger: Ledger, file: RequestFile) -> None:
    job = ledger.job_of(file.path.name)
    if job is None or job.sha256 == file.sha256 or not job.may_be_paid:
        return
    batch = f" as {job.batch_id}" if job.batch_id else ""
    raise BatchFramesError(
        f"'{file.path}' has changed since it was submitted{batch}; save it under another name "
        f"(bf.download(bf.load_jobs('{ledger.path}')) brings what it was answered)"
    )


def _check_as_saved(given: Paths, files: Iterable[RequestFile]) -> None:
    """Compare what ``save_to_file`` said of its files with what stands there now."""
    found = {file.path.resolve(): file for file in files}
    listed = given if isinstance(given, Iterable) else [given]
    for shard in (one for one in listed if isinstance(one, Shard)):
        file = found.get(shard.path.resolve())
        if file and (shard.nbytes, shard.requests) != (file.nbytes, file.requests):
            raise BatchFramesError(
                f"'{shard.path}' has changed since it was saved, from {_sizes(shard)} to "
                f"{_sizes(file)}; save it again, or pass its path to send what is there now"
            )


def _sizes(file: Shard | RequestFile) -> str:
    requests = counted(file.requests, "request", "requests")
    return f"{requests} in {counted(file.nbytes, 'byte', 'bytes')}"


def _plan(ledger: Ledger, file: RequestFile, settings: Settings) -> None:
    """Note what is to be done for a shard, if anything is."""
    job = ledger.job_of(file.path.name)
    wanted = Job(
        file.path,
        file.requests,
        file.nbytes,
        file.endpoint,
        sha256=file.sha256,
        settings=settings,
    )
    if job is None or job.sha256 != file.sha256:
        twins = (j for j in ledger.jobs if j.sha256 == file.sha256 and j.status != "failed")
        twin = next(twins, None)
        ledger.intend(replace(twin, path=file.path) if twin else wanted)
    elif job.is_refused:
        send_anew(ledger, replace(job, settings=settings))
    elif _is_worth_another_try(job):
        ledger.intend(wanted)
    elif job.tried_at is None and job.settings != settings:
        ledger.intend(replace(job, settings=settings))


def _is_worth_another_try(job: Job) -> bool:
    """Tell whether a shard has no batch that will be paid, and its lines are not to blame."""
    was_called_off = job.batch_id is None and job.status == "cancelled"
    line_is_wrong = any(error.get("line") for error in job.errors)
    return was_called_off or (job.status == "failed" and not line_is_wrong)


def send_anew(ledger: Ledger, job: Job) -> Job:
    """Note that a shard that is uploaded already is to get another batch."""
    again = ledger.intend(job, anew=True)
    return ledger.note("uploaded", again, file_id=job.file_id, uploaded_at=job.uploaded_at)


def send_waiting(
    service: Service,
    ledger: Ledger,
    shards: Iterable[str],
    *,
    flying: int,
    room: int | None = None,
    sent: Callable[[Job], object] = lambda job: None,
) -> None:
    """Send the shards of a ledger that have no batch, as far as the limits of tokens allow.

    Args:
        service: Where to.
        ledger: Locked by the caller.
        shards: The file names of those that may be sent.
        flying: How many tokens are with the service already.
        room: How many may be there at once; None leaves it to the settings.
        sent: Gets each job once it has its batch.
    """
    unsent = [job for job in ledger.jobs_of(shards) if job.is_unsent]
    # What may be with the service already comes first: it takes room, whatever is decided here.
    for job in sorted(unsent, key=lambda job: job.tried_at is None):
        limits = [n for n in (room, job.settings.max_enqueued_tokens) if n is not None]
        over = bool(limits) and flying + job.estimated_tokens > min(limits)
        if over and flying and job.tried_at is None:
            return
        sent(_create(service, ledger, job))
        flying += job.estimated_tokens


def _upload(service: Service, ledger: Ledger, job: Job) -> Job:
    with job.path.open("rb") as file:
        # The open file stays what it is, even if another takes its name meanwhile.
        if hashlib.file_digest(file, "sha256").hexdigest() != job.sha256:
            problem = f"'{job.path}' has changed while it waited to be sent; submit it again"
            raise BatchFramesError(problem)

        def send(api: Any) -> Any:
            file.seek(0)
            return api.files.create(file=(job.path.name, file), purpose="batch")

        uploaded = service.call(send)
    moment = getattr(uploaded, "created_at", None)
    return ledger.note("uploaded", job, file_id=uploaded.id, uploaded_at=moment)


def _is_uploaded(service: Service, job: Job) -> bool:
    """Tell whether the upload of an earlier run is still there, which ends after a month."""
    if job.file_id is None:
        return False
    try:
        service.call(lambda api: api.files.retrieve(job.file_id), is_quick=True)
    except Exception as error:
        if getattr(error, "status_code", None) == 404:
            return False
        if getattr(error, "status_code", None) not in UNKNOWN_CALL:
            raise
    return True


def _create(service: Service, ledger: Ledger, job: Job) -> Job:
    """Upload a shard and create its batch, as far as no earlier try has done so."""
    is_uploaded = False
    for left, pause in zip(range(TRIES - 1, -1, -1), pauses(), strict=False):
        batch = settled_batch(service, ledger, job) if job.tried_at else None
        if batch is None:
            if not is_uploaded and not _is_uploaded(service, job):
                job = _upload(service, ledger, job)
            is_uploaded = True
            job = ledger.note("creating", job)
            try:
                batch = service.call(partial(_create_call, job), tries=1)
                batch_facts(batch)
            except Exception as error:
                asked = service.retry_pause(error)
                if asked is None or not left:
                    raise
                time.sleep(max(asked, pause))
                continue
        return ledger.note("created", job, **batch_facts(batch))
    raise AssertionError


def _create_call(job: Job, api: Any) -> Any:
    options: dict[str, Any] = {"metadata": {**(job.settings.metadata or {}), TOKEN_KEY: job.token}}
    if job.settings.output_expires_after:
        options["output_expires_after"] = dict(job.settings.output_expires_after)
    return api.batches.create(
        input_file_id=job.file_id,
        endpoint=job.endpoint,
        completion_window=job.settings.completion_window,
        **options,
    )
