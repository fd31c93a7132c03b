"""Download the result files of ended batches next to their shards."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from tempfile import gettempdir
from typing import IO, TYPE_CHECKING, Any

from batch_frames.batches.client import Service
from batch_frames.batches.replies import content_problem, number_of
from batch_frames.batches.send import delete_file
from batch_frames.batches.status import job_list, news_of
from batch_frames.display import counted, size_text
from batch_frames.errors import BatchFramesError, JobError
from batch_frames.files import (
    RESULT_ENDINGS,
    CloudPath,
    Job,
    Record,
    Records,
    distinct,
    file_hash,
    whole,
)
from batch_frames.progress import interrupt_hint, progress_bar, warn

if TYPE_CHECKING:
    from openai import OpenAI

__all__ = ["download", "result_path"]


BLOCK = 1 << 20

NO_INPUT = dict.fromkeys((400, 403, 404, 405, 410, 501))
"""Replies of services that do not return what was uploaded, or not any more."""

GONE = {404: -1}
"""What stands for the size of a file that the service does not have."""

NO_SIZE = dict.fromkeys((404, 405, 501))
"""Replies of services that have batches but do not describe their files."""

PATIENCE = 600.0
"""Seconds to wait for another process that downloads the same."""

YOUNG = 60.0

Progress = Callable[[int], object]


def download(
    jobs: Job | Iterable[Job],
    *,
    client: OpenAI | None = None,
    delete_input: bool = False,
    progress: bool | None = None,
) -> list[Path]:
    """Download the output and error files of batches next to their shards.

    The files of ``reviews-00001.jsonl`` are ``reviews-00001.output.jsonl`` and
    ``reviews-00001.errors.jsonl``, where they exist. Batches that expired or were cancelled have
    files as well, with the requests finished before. A file gets its name once it is complete, and
    is downloaded again if it has changed. With the results of a shard that is gone, what was
    uploaded of it is downloaded, too.

    Args:
        jobs: What ``wait``, ``submit`` or ``load_jobs`` returned.
        client: As for ``submit``; not needed when all files are there.
        delete_input: Whether to delete the uploaded shards at the service once their results are
            here; they expire there in any case.
        progress: Whether to show a progress bar; None shows it after two seconds.

    Returns:
        The files, in the order of the jobs.

    Raises:
        JobError: If a batch is still running, a reply is not what is expected, or a file's size
            differs from the one reported or, if none is reported, it has too few lines, or the
            service has a file no more; once the files of the others are downloaded.
        BatchFramesError: If another process is downloading the same, if there is a file in the way
            that was not downloaded, if there is no room, or a batch is in another account.
        openai.APIError: Passed through from the SDK.
    """
    bar = progress_bar("download", None, progress, unit="B")
    records = Records()
    paths: dict[Path, None] = {}
    latest: list[Job] = []
    errors: list[JobError] = []
    hint = interrupt_hint("complete files are kept", "download again")
    with Service(client, "download", progress=progress) as service, hint, bar:
        for job in distinct(job_list(jobs, "download")):
            record = records.of(job.path)
            with record.locked(job, PATIENCE) as known:
                try:
                    known = _refreshed(service, record, known)
                    known, found = _download_all(service, record, known, bar.update)
                except JobError as error:
                    errors.append(error)
                    continue
                if delete_input and known.has_ended and not known.needs_download:
                    _delete_input(service, record, known)
            paths |= dict.fromkeys(found)
            latest.append(known)
    if errors:
        raise errors[0]
    _check_complete(latest)
    return list(paths)


def _refreshed(service: Service, record: Record, job: Job) -> Job:
    """Ask for a batch that may have changed, and note what is new."""
    news = news_of(service, job)
    return job if replace(job, **news) == job else record.note(job, "status", **news)


def _delete_input(service: Service, record: Record, job: Job) -> None:
    """Delete the uploaded shard at the service, once."""
    if job.file_id is not None:
        delete_file(service, job)
        record.note(job, "input deleted", file_id=None)


def _check_complete(jobs: Iterable[Job]) -> None:
    pending = [job for job in jobs if not job.has_ended]
    for job in (job for job in jobs if job.lacks_files):
        raise JobError(
            f"'{job.path}' is {job.status}, but the service has not named a result file of "
            f"{job.batch_id} yet",
            batch_id=job.batch_id,
            status=job.status,
            hint="download it again later",
        )
    if pending:
        first, batches = pending[0], counted(len(pending), "batch is", "batches are")
        raise JobError(
            f"{batches} still running, {first.path.name!r} is {first.status!r}",
            batch_id=first.batch_id,
            status=first.status,
            hint="wait for them first",
        )


def _download_all(
    service: Service, record: Record, job: Job, progress: Progress
) -> tuple[Job, list[Path]]:
    """Download the files of an ended batch, except those that are there already."""
    found: list[Path] = []
    before = job.files
    if not job.has_ended:
        return job, found
    file_ids = (job.output_file_id, job.error_file_id)
    lost: JobError | None = None
    for ending, file_id in zip(RESULT_ENDINGS, file_ids, strict=True):
        if file_id is None:
            continue
        names = [name for name in job.files if name.endswith(ending)]
        path = job.path.with_name(names[0]) if names else result_path(record, job, ending)
        if not job.has_file(path.name):
            try:
                job = _download(service, record, job, file_id, path, progress)
            except JobError as error:
                lost = lost or error
                continue
        found.append(path)
    if job.files != before:
        _bring_back(service, record.located(job), progress)
    if lost:
        raise lost
    return job, found


def _bring_back(service: Service, job: Job, progress: Progress) -> None:
    """Download a shard that is gone, if that is possible, so that its answers have requests."""
    if job.path.exists() or job.file_id is None:
        return
    try:
        with whole(job.path) as file:
            service.call(
                lambda api: _stream(api, str(job.file_id), file, job.nbytes, progress),
                job=job,
                instead=NO_INPUT,
            )
            file.flush()
            if file_hash(Path(file.name)) != job.sha256:
                raise JobError("the service does not return what was uploaded")
    except JobError as error:
        warn(f"'{job.path}' is gone: {error}", hint="save it again to read its requests")


def result_path(record: Record, job: Job, ending: str) -> Path:
    """Choose the path of a result file: with a number where another batch has, or had, the name.

    Args:
        record: The record with all jobs of the folder.
        job: The job, which may have no batch yet.
        ending: How the name ends.

    Raises:
        BatchFramesError: If a file that was not downloaded has it.
    """
    stem = job.path.name.removesuffix(".jsonl")
    path = job.path.with_name(stem + ending)
    if not path.exists() and path.name not in _first_names(record):
        return path
    ours = _result_names(record)
    number = 2
    while path.exists() or path.name in ours:
        if path.name not in ours:
            whose = job.batch_id or f"'{job.path.name}'"
            problem = f"'{path}' is in the way of the results of {whose}"
            raise BatchFramesError(problem, hint="it was not downloaded; move it away")
        path = job.path.with_name(f"{stem}.{number}{ending}")
        number += 1
    return path


def _result_names(record: Record) -> set[str]:
    """Return the names of all result files that the record knows."""
    return {name for one in record.jobs() for name in (*one.files, *one.earlier_files)}


_first_names = lru_cache(maxsize=1)(_result_names)
"""The names that were known at first: what comes later has a file, as long as a verb runs."""


def _least_lines(job: Job) -> int:
    """Return how many lines the output file has at least."""
    completed = job.completed or 0
    # Some services count failed requests as completed.
    return completed if job.total is None else min(completed, job.total - (job.failed or 0))


def _download(
    service: Service, record: Record, job: Job, file_id: str, path: Path, progress: Progress
) -> Job:
    """Download one file, note its name and size, and return the job as it is then.

    Args:
        service: The service that has the file.
        record: Where the job is noted.
        job: The job.
        file_id: The id of the file.
        path: The name that it gets once it is complete.
        progress: Called with each number of bytes received.
    """
    reply = service.call(lambda api: api.files.retrieve(file_id), job=job, instead=NO_SIZE)
    reported = number_of(reply, "bytes")
    _check_room(path, reported or 0)
    # Just after the end of a batch, some services do not let its files be read yet.
    young = _seconds_since_end(job) < YOUNG
    with whole(path, sync=True) as file:
        size = service.call(
            lambda api: _stream(api, file_id, file, reported, progress),
            job=job,
            also_retried=(403,) if young else (),
            instead=GONE,
        )
        if size == GONE[404]:
            raise _lost(job, file_id, path)
        problem = None
        if reported is None:
            least = _least_lines(job) if path.name.endswith(RESULT_ENDINGS[0]) else 0
            problem = content_problem(file, least)
        elif size > reported:
            problem = f"received more than {counted(reported, 'byte')}"
        elif size < reported:
            problem = f"received {size:,} of {counted(reported, 'byte')}"
        if problem:
            raise JobError(f"{path.name!r}: {problem}", hint="download it again")
        file.flush()
        hashes = {**job.hashes, path.name: file_hash(Path(file.name))}
        # Before it has its name, so that it is known as ours from then on.
        return record.note(job, "downloaded", files={**job.files, path.name: size}, hashes=hashes)


def _lost(job: Job, file_id: str, path: Path) -> JobError:
    return JobError(
        f"'{path}' is not here, and the service has no file {file_id!r} for it",
        batch_id=job.batch_id,
        status=job.status,
        hint=f"put a copy of it back, or, to pay for its requests again, copy '{job.path.name}' to "
        "another folder and submit it there",
    )


def _check_room(path: Path, nbytes: int) -> None:
    free = shutil.disk_usage(gettempdir() if isinstance(path, CloudPath) else path.parent).free
    if nbytes > free:
        problem = f"'{path}' needs {size_text(nbytes)}, and {size_text(free)} are free there"
        raise BatchFramesError(problem, hint="make room, and download it again")


def _seconds_since_end(job: Job) -> float:
    """Return how long ago it was noted that the batch has ended."""
    noted = [at for at, step in job.steps if step == "status"]
    if not noted:
        return 0.0
    return (datetime.now(UTC) - datetime.fromisoformat(noted[-1])).total_seconds()


def _stream(
    api: Any, file_id: str, file: IO[bytes], reported: int | None, progress: Progress
) -> int:
    """Append what is missing to a file, or start over if the service sends all of it again.

    Returns:
        How many bytes there are; of more than were reported, the rest is left.
    """
    start = file.tell() if reported else 0
    if start and start == reported:
        return start
    # A compressed body cannot be resumed.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    ask = api.files.with_streaming_response.content(file_id, extra_headers=headers)
    with ask as response:
        if response.status_code != 206:
            progress(-file.tell())
            file.seek(0)
            file.truncate()
        for block in response.iter_bytes(BLOCK):
            if reported and file.tell() + len(block) > reported:
                return file.tell() + len(block)
            file.write(block)
            progress(len(block))
    return file.tell()
