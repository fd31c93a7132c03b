"""Create exactly one batch for each shard."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import product, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch_frames.batches.client import LONGEST_PAUSE, TRIES, Service
from batch_frames.batches.download import result_path
from batch_frames.batches.replies import job_error, refuse_errors, unknown_error
from batch_frames.batches.send import Sender, check_settings, counted_job, send_again
from batch_frames.display import counted
from batch_frames.errors import BatchFramesError
from batch_frames.files import (
    RESULT_ENDINGS,
    InUseError,
    Job,
    Jobs,
    Paths,
    Record,
    Records,
    RequestFile,
    SavedSet,
    SavedSets,
    Settings,
    Shard,
    find_shards,
    read_shard,
    refuse_asked,
    wanted_job,
    was_begun_since,
)
from batch_frames.progress import interrupt_hint, progress_bar

if TYPE_CHECKING:
    from openai import OpenAI

__all__ = ["send_waiting", "submit"]


ERRORS = 3  # after so many in a row, to pause before going on with other shards
PATIENCE = 600.0  # seconds to wait for another process that is sending the same shard
WEEK = {"anchor": "created_at", "seconds": 7 * 24 * 60 * 60}


def submit(
    shards: Paths,
    *,
    client: OpenAI | None = None,
    metadata: Mapping[str, str] | None = None,
    completion_window: str = "24h",
    output_expires_after: Mapping[str, Any] | None = None,
    input_expires_after: Mapping[str, Any] | None = WEEK,
    max_enqueued_tokens: int | None = None,
    timeout: float | None = None,
    check: bool = True,
    progress: bool | None = None,
) -> list[Job]:
    """Upload request files and create exactly one batch per file.

    What is sent is noted in a folder next to the shards, ``.batch_frames``, before and after each
    step, under the hash of the shard's bytes. Killed at any moment and run again, ``submit``
    resumes where it stopped; where it cannot know whether a batch was created, it looks for it
    among the service's batches for a minute. A shard that has a batch is not sent again, whatever
    its name is, nor is one with a request that ``run_local`` or the batch of another shard in its
    folder has answered, or may still answer. One that failed at validation is sent again if none of
    its lines was at fault.

    Args:
        shards: What ``save_to_file`` returned, or paths, URLs or globs of request files.
            Ledgers and results next to them are ignored.
        client: An ``openai.OpenAI``, ``openai.AzureOpenAI`` or similar client; None makes an
            ``openai.OpenAI()``, with the key in ``OPENAI_API_KEY``.
        metadata: Up to 15 texts to attach to each batch.
        completion_window: The time in which a batch must end.
        output_expires_after: When result files are deleted, in the service's terms:
            ``{"anchor": "created_at", "seconds": 86_400}``.
        input_expires_after: When the uploaded shards are deleted, in the same terms, where the
            service lets uploads expire. None leaves it to the service, which is a month at OpenAI.
        max_enqueued_tokens: Most tokens to have enqueued at once, as ``estimate`` counts them or,
            without that extra, at four bytes of text each; ``wait`` sends the shards beyond.
        timeout: Seconds after which to give up a service that cannot be reached or is overloaded;
            None gives up a call after six tries, which take half a minute.
        check: Whether to refuse new shards in which ``check_requests`` finds errors.
        progress: Whether to show a progress bar; None shows it after two seconds.

    Returns:
        A job for each shard, in order; a notebook shows them as a card.

    Raises:
        MissingExtra: If the openai SDK is not installed.
        FileNotFoundError: If there is no such file.
        LineError: If a file holds no requests.
        BatchFramesError: If the service would refuse a shard; if one has changed since its save,
            was submitted to another account, is being sent by another process for ten minutes, or
            has requests that ``run_local`` or another shard has answered, or may still answer; if a
            file that was not downloaded has the name of its results.
        JobError: If a shard failed at validation before, and has not changed since.
        WaitTimeout: If it is not known after ``timeout`` whether a batch was created.
        openai.APIError: Passed through from the SDK; ``submit`` can be called again to continue.
    """
    given = list(shards) if isinstance(shards, Iterator) else shards
    settings = Settings(
        metadata, completion_window, output_expires_after, input_expires_after, max_enqueued_tokens
    )
    check_settings(settings)
    files = [read_shard(path) for path in find_shards(given)]
    records = Records()
    _check_as_saved(given, files)
    if check:
        refuse_errors(
            {f.path: f.path for f in files if not records.of(f.path).job(f.sha256, f.path)}
        )
    hint = interrupt_hint("what was sent is noted", "submit again")
    how: dict[str, Any] = {"timeout": timeout, "progress": progress}
    with Service(client, "submit", **how) as service, hint:
        jobs = _planned(records, files, settings)
        for job in jobs if client is not None else ():
            service.check_account(job)
        jobs = _send_all(service, records, jobs, progress)
    found = {job.key: job for job in jobs}
    jobs = [replace(found[wanted_job(f, settings).key], path=f.path) for f in files]
    if error := job_error(job for job in jobs if job.is_rejected):
        raise error
    return Jobs(jobs)


def _check_as_saved(given: Paths, files: Iterable[RequestFile]) -> None:
    """Compare what ``save_to_file`` returned with what its files hold now."""
    found = {file.path.resolve(): file for file in files}
    listed = given if isinstance(given, Iterable) else [given]
    sets = SavedSets()
    for shard in (one for one in listed if isinstance(one, Shard)):
        if (file := found.get(shard.path.resolve())) is None:
            continue
        problem = f"'{shard.path}' has changed since it was saved"
        hint = "save it again, or pass its path to send what is there now"
        if (shard.nbytes, shard.requests) != (file.nbytes, file.requests):
            had, has = (
                f"{counted(f.requests, 'request')} in {counted(f.nbytes, 'byte')}"
                for f in (shard, file)
            )
            raise BatchFramesError(f"{problem}, from {had} to {has}", hint=hint)
        if shard.save_id and sets.of(shard.path).id not in ("", shard.save_id):
            raise BatchFramesError(problem, hint=hint)


def _planned(records: Records, files: Iterable[RequestFile], settings: Settings) -> list[Job]:
    """Note what is to be sent, and return the jobs, each shard once."""
    by_record: dict[Record, dict[str, RequestFile]] = {}
    for file in files:
        by_record.setdefault(records.of(file.path), {}).setdefault(file.sha256, file)
    jobs: list[Job] = []
    known_sets = SavedSets()
    for record, unique in by_record.items():
        with record.planning(PATIENCE):
            known = {sha256: record.job(sha256, file.path) for sha256, file in unique.items()}
            jobs_of = [(file, known[file.sha256]) for file in unique.values()]
            new = [f for f, job in jobs_of if not job or _is_to_check(job)]
            sets = {file.path: known_sets.of(file.path) for file in unique.values()}
            again = [f for f, job in jobs_of if job and _is_again(job, sets[f.path])]
            refuse_asked(record, [*new, *(f for f in again if f not in new)], sets)
            for file, ending in product(new, RESULT_ENDINGS):
                result_path(record, wanted_job(file, settings), ending)
            for file in unique.values():
                wanted = replace(wanted_job(file, settings), save_id=sets[file.path].id)
                job = known[file.sha256] or record.begin(wanted, file.lines)
                jobs.append(_renewed(record, job, settings, sets[file.path]))
    return jobs


def _is_to_check(job: Job) -> bool:
    """Return whether nothing was sent for a shard, so that others may have sent its requests."""
    is_untried = job.is_unsent and job.tried_at is None
    return is_untried or job.is_withdrawn or job.is_rejected


def _renewed(record: Record, job: Job, settings: Settings, saved: SavedSet) -> Job:
    """Note what is to be done once more for a shard that was submitted before, if anything."""
    is_renamed = job.path.name != job.names[-1]
    has_new_settings = job.is_unsent and job.tried_at is None and job.settings != settings
    if not (is_renamed or has_new_settings or _is_to_send_again(job, saved)):
        return job
    with record.locked(job, PATIENCE) as known:
        if _is_to_send_again(known, saved):
            return send_again(record, replace(known, settings=settings, save_id=saved.id))
        untried = known.is_unsent and known.tried_at is None
        return record.note(known, "noted anew", settings=settings if untried else known.settings)


def _is_to_send_again(job: Job, saved: SavedSet) -> bool:
    """Return whether a shard has no batch that will be billed, and its lines are not to blame.

    It is sent again in any case if it was saved since to be asked again, and waits for no answer.
    """
    is_left = job.is_rejected and not any(error.get("line") for error in job.errors)
    return job.is_refused or job.is_withdrawn or is_left or _is_again(job, saved)


def _is_again(job: Job, saved: SavedSet) -> bool:
    is_new = saved.id != job.save_id and not was_begun_since(job, saved)
    return saved.again and is_new and not job.is_pending


def _send_all(
    service: Service, records: Records, jobs: list[Job], progress: bool | None
) -> list[Job]:
    """Send the jobs that have no batch, as far as the token limits allow; return all."""
    sender = Sender(service)
    results = {job.key: job for job in jobs}
    tries: Counter[tuple[Path, str]] = Counter()
    pauses = [service.first_pause]

    def failed(job: Job, error: Exception) -> None:
        asked = service.retry_pause(error)
        tries[job.key] += service.tried
        if asked is None or tries[job.key] >= TRIES or not service.seconds_left:
            raise error
        pauses.append(asked)

    send = partial(send_waiting, sender, records, failed=failed, patience=PATIENCE)
    total = sum(job.requests for job in jobs)
    with progress_bar("submit", total, progress, initial=_sent_requests(jobs)) as bar:
        while True:
            for job in send(_unsent(results), enqueued=_enqueued_tokens(results.values())):
                results[job.key] = job
            bar.update(_sent_requests(results.values()) - bar.n)
            is_next = partial(_is_next, enqueued=_enqueued_tokens(results.values()))
            if not (left := [*takewhile(is_next, map(counted_job, _unsent(results)))]):
                return list(results.values())
            waits = [seconds for job in left if (seconds := sender.seconds_left(job))]
            if not service.seconds_left:
                raise unknown_error(left)
            time.sleep(min([max(pauses), service.seconds_left, *waits]))
            pauses = [min(2 * pauses[0], LONGEST_PAUSE)]


def _unsent(jobs: Mapping[Any, Job]) -> list[Job]:
    """List the jobs without a batch, first those that the service may have, which take room."""
    unsent = [job for job in jobs.values() if job.is_unsent]
    return sorted(unsent, key=lambda job: job.tried_at is None)


def _sent_requests(jobs: Iterable[Job]) -> int:
    return sum(job.requests for job in jobs if not job.is_unsent)


def _enqueued_tokens(jobs: Iterable[Job]) -> int:
    return sum(job.estimated_tokens for job in jobs if job.in_flight)


def _is_next(job: Job, enqueued: int, room: int | None = None) -> bool:
    """Return whether a shard may be sent, or may have been, while the service has some tokens."""
    limits = [n for n in (room, job.settings.max_enqueued_tokens) if n is not None]
    over = bool(limits) and enqueued + job.estimated_tokens > min(limits)
    return not (over and enqueued) or job.tried_at is not None


def send_waiting(
    sender: Sender,
    records: Records,
    unsent: Iterable[Job],
    *,
    enqueued: int,
    failed: Callable[[Job, Exception], object],
    patience: float = 0.0,
    room: int | None = None,
) -> list[Job]:
    """Send the shards that have no batch, as far as the token limits allow.

    Args:
        sender: Where to send them.
        records: Where they are noted.
        unsent: The jobs without a batch, in order.
        enqueued: How many tokens the service has.
        failed: Called with a job and the error that kept it from having a batch.
        patience: Seconds to wait for another process that has a job; 0 leaves it to that one.
        room: Most tokens to have at the service at once; None leaves it to the settings.

    Returns:
        The jobs that were tried, as they are now.
    """
    sender.look_again()
    done, errors = list[Job](), 0
    for job in map(counted_job, unsent):
        if errors >= ERRORS or not _is_next(job, enqueued, room):
            break
        record = records.of(job.path)
        try:
            with record.locked(job, patience) as known:
                job = sender.advance(record, known) if known.is_unsent else known
            done.append(job)
            errors = 0
        except InUseError:
            if patience:
                raise
        except Exception as error:
            errors += 1
            failed(job, error)
            job = record.job(job.sha256, job.path) or job
            done.append(job)
        enqueued += job.estimated_tokens * (job.is_unsent or job.in_flight)
    return done
