"""Create exactly one batch for each shard."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch_frames.batches.client import TOKEN_KEY, Service, batch_facts, find_batch_with_retry
from batch_frames.batches.failures import job_error
from batch_frames.batches.job import Job, Jobs, Settings
from batch_frames.batches.ledger import Ledger
from batch_frames.display import counted
from batch_frames.errors import BatchFramesError
from batch_frames.files import Paths, RequestFile, Shard, find_shards, ledger_path, read_shard
from batch_frames.progress import interrupt_hint, progress_bar

if TYPE_CHECKING:
    from openai import OpenAI

__all__ = ["send_again", "send_waiting", "submit"]


MOST_METADATA = 15

NO_FILE = {404: None, 405: True, 501: True}
"""What replies to a question about a file mean; services without that call have every file."""


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
    """Upload request files and create exactly one batch per file.

    Each step is noted in a ledger next to the shards, ``reviews.jobs.jsonl``, before and after it
    is taken. Killed at any moment and run again, ``submit`` resumes where it stopped; where it
    cannot know whether a batch was created, it first looks for it among the service's batches.
    Shards that already have a batch are not sent again, nor is the same content under another name
    of the same set, such as ``reviews-00007.jsonl``. A shard that failed at validation is sent
    again once its content has changed, or if what the service found wrong was not in a line.

    Args:
        shards: What ``save_to_file`` returned, or paths or globs of request files. Ledgers and
            results next to them are ignored.
        client: An ``openai.OpenAI``, ``openai.AzureOpenAI`` or similar client; None makes an
            ``openai.OpenAI()``, with the key in ``OPENAI_API_KEY``.
        metadata: Up to 15 texts to attach to each batch.
        completion_window: The time in which a batch must end.
        output_expires_after: When result files are deleted, in the service's terms:
            ``{"anchor": "created_at", "seconds": 86_400}``.
        max_enqueued_tokens: Most tokens to have enqueued at once, at about four bytes of text each;
            the shards beyond are sent by ``wait``. None sends all at once.
        progress: Whether to show a progress bar; None shows it after two seconds.

    Returns:
        A job for each shard, in order; a notebook shows them as a card.

    Raises:
        MissingExtra: If the openai SDK is not installed.
        FileNotFoundError: If there is no such file.
        LineError: If a file holds no requests.
        BatchFramesError: If a shard has changed since it was saved or submitted, or another process
            is using the same ledger.
        JobError: If a shard failed at validation before, and has not changed since.
        openai.APIError: Passed through from the SDK; ``submit`` can be called again to continue.
    """
    settings = Settings(metadata, completion_window, output_expires_after, max_enqueued_tokens)
    _check_settings(settings)
    # An iterator can be consumed only once.
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
        stack.enter_context(interrupt_hint("what was sent is noted; to continue, submit again"))
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
    total = sum(file.requests for _, file in pairs)
    sent = sum(f.requests for ledger, f in pairs if not _job_of(ledger, f.path).is_unsent)
    with progress_bar("submit", total, progress, initial=sent) as bar:
        for ledger in dict.fromkeys(ledger for ledger, _ in pairs):
            send_waiting(
                service,
                ledger,
                [file.path.name for other, file in pairs if other is ledger],
                sum(job.estimated_tokens for job in ledger.jobs if job.in_flight),
                sent=lambda job: bar.update(job.requests),
            )


def _job_of(ledger: Ledger, path: Path) -> Job:
    job = ledger.job_of(path.name)
    assert job is not None
    return replace(job, path=path)


def _check_settings(settings: Settings) -> None:
    metadata, most = settings.metadata or {}, settings.max_enqueued_tokens
    if TOKEN_KEY in metadata:
        raise ValueError(f"metadata: the key {TOKEN_KEY!r} is reserved; choose another")
    if len(metadata) > MOST_METADATA:
        raise ValueError(f"metadata must have at most {MOST_METADATA} keys, not {len(metadata):,}")
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
        raise ValueError(f"max_enqueued_tokens must be a whole number from 1, not {most!r}")


def _check_unchanged(ledger: Ledger, file: RequestFile) -> None:
    job = ledger.job_of(file.path.name)
    if job is None or job.sha256 == file.sha256 or not job.may_be_paid:
        return
    batch = f" as {job.batch_id}" if job.batch_id else ""
    fetch = f"bf.download(bf.load_jobs('{ledger.path}'))"
    raise BatchFramesError(
        f"'{file.path}' has changed since it was submitted{batch}",
        hint=f"save it under another name ({fetch} fetches the answers so far)",
    )


def _check_as_saved(given: Paths, files: Iterable[RequestFile]) -> None:
    """Compare what ``save_to_file`` returned with what its files hold now."""
    found = {file.path.resolve(): file for file in files}
    listed = given if isinstance(given, Iterable) else [given]
    for shard in (one for one in listed if isinstance(one, Shard)):
        file = found.get(shard.path.resolve())
        if file and (shard.nbytes, shard.requests) != (file.nbytes, file.requests):
            raise BatchFramesError(
                f"'{shard.path}' has changed since it was saved, from {_sizes(shard)} to "
                f"{_sizes(file)}",
                hint="save it again, or pass its path to send what is there now",
            )


def _sizes(file: Shard | RequestFile) -> str:
    return f"{counted(file.requests, 'request')} in {counted(file.nbytes, 'byte')}"


def _plan(ledger: Ledger, file: RequestFile, settings: Settings) -> None:
    """Note in the ledger what is to be done for a shard, if anything."""
    job = ledger.job_of(file.path.name)
    wanted = Job(
        file.path, file.requests, file.nbytes, file.endpoint, sha256=file.sha256, settings=settings
    )
    if job is None or job.sha256 != file.sha256:
        twins = (j for j in ledger.jobs if j.sha256 == file.sha256 and j.status != "failed")
        twin = next(twins, None)
        ledger.intend(replace(twin, path=file.path) if twin else wanted)
    elif job.is_refused:
        send_again(ledger, replace(job, settings=settings))
    elif _is_worth_another_try(job):
        ledger.intend(wanted)
    elif job.tried_at is None and job.settings != settings:
        ledger.intend(replace(job, settings=settings))


def _is_worth_another_try(job: Job) -> bool:
    """Return whether a shard has no batch that will be billed, and its lines are not to blame."""
    line_is_wrong = any(error.get("line") for error in job.errors)
    return job.is_withdrawn or (job.status == "failed" and not line_is_wrong)


def send_again(ledger: Ledger, job: Job) -> Job:
    """Note that a shard that is already uploaded is to get another batch."""
    again = ledger.intend(job, anew=True)
    return ledger.note("uploaded", again, file_id=job.file_id, uploaded_at=job.uploaded_at)


def send_waiting(
    service: Service,
    ledger: Ledger,
    shards: Iterable[str],
    enqueued: int,
    *,
    room: int | None = None,
    sent: Callable[[Job], object] = lambda job: None,
) -> None:
    """Send the shards of a ledger that have no batch, as far as the token limits allow.

    Args:
        service: Where to send them.
        ledger: The ledger, locked by the caller.
        shards: File names of the shards that may be sent.
        enqueued: Number of tokens that the service has already.
        room: Most tokens to have there at once; None leaves it to the settings.
        sent: Called with each job once it has its batch.
    """
    unsent = [job for job in ledger.jobs_of(shards) if job.is_unsent]
    # First those that the service may have already: they take room in any case.
    for job in sorted(unsent, key=lambda job: job.tried_at is None):
        limits = [n for n in (room, job.settings.max_enqueued_tokens) if n is not None]
        over = bool(limits) and enqueued + job.estimated_tokens > min(limits)
        if over and enqueued and job.tried_at is None:
            return
        sent(_create(service, ledger, job))
        enqueued += job.estimated_tokens


def _create(service: Service, ledger: Ledger, job: Job) -> Job:
    """Upload a shard and create its batch, unless an earlier try has done so."""
    batch = find_batch_with_retry(service, ledger, job) if job.tried_at else None
    if batch is None and not _is_uploaded(service, job):
        job = _upload(service, ledger, job)

    def create() -> Any:
        nonlocal batch, job
        if batch is None:
            job = ledger.note("creating", job)
            created = service.call(partial(_create_call, job), tries=1)
            batch_facts(created)
            batch = created
        return batch

    def look(seconds: float, error: Exception) -> None:
        """Look for the batch, since the service may have created it in spite of the error."""
        nonlocal batch
        time.sleep(seconds)
        batch = find_batch_with_retry(service, ledger, job)

    facts = batch_facts(service.attempts(create, pause=look))
    return ledger.note("created", job, **facts)


def _is_uploaded(service: Service, job: Job) -> bool:
    """Return whether the upload of an earlier run still exists; the service keeps it a month."""
    if job.file_id is None:
        return False
    found = service.call(
        lambda api: api.files.retrieve(job.file_id), is_quick=True, instead=NO_FILE
    )
    return found is not None


def _upload(service: Service, ledger: Ledger, job: Job) -> Job:
    with job.path.open("rb") as file:
        # The open file stays the same even if another one takes its name in the meantime.
        if hashlib.file_digest(file, "sha256").hexdigest() != job.sha256:
            problem = f"'{job.path}' has changed while it waited to be sent"
            raise BatchFramesError(problem, hint="submit it again")

        def send(api: Any) -> Any:
            file.seek(0)
            return api.files.create(file=(job.path.name, file), purpose="batch")

        uploaded = service.call(send)
    moment = getattr(uploaded, "created_at", None)
    return ledger.note("uploaded", job, file_id=uploaded.id, uploaded_at=moment)


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
