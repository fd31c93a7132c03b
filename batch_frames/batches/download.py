"""Download the result files of ended batches next to their shards."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from batch_frames.batches.client import Service
from batch_frames.batches.job import Job, distinct
from batch_frames.batches.ledger import Ledger
from batch_frames.batches.status import job_list, news_of
from batch_frames.display import counted
from batch_frames.errors import JobError
from batch_frames.files import RESULT_ENDINGS, file_hash, ledger_path, whole
from batch_frames.progress import interrupt_hint, progress_bar, warn

if TYPE_CHECKING:
    from openai import OpenAI

__all__ = ["download"]


BLOCK = 1 << 20

NO_SIZE = dict.fromkeys((404, 405, 501))
"""Replies of services that have batches but do not describe their files."""

Progress = Callable[[int], object]


def download(
    jobs: Job | Iterable[Job], *, client: OpenAI | None = None, progress: bool | None = None
) -> list[Path]:
    """Download the output and error files of batches next to their shards.

    The files of ``reviews-00001.jsonl`` are ``reviews-00001.output.jsonl`` and
    ``reviews-00001.errors.jsonl``, where they exist. Batches that expired or were cancelled have
    files as well, with the requests finished before. A file gets its name once it is complete, and
    is not downloaded again.

    Args:
        jobs: What ``wait``, ``submit`` or ``load_jobs`` returned.
        client: As for ``submit``; not needed when all files are there.
        progress: Whether to show a progress bar; None shows it after two seconds.

    Returns:
        The files, in the order of the jobs.

    Raises:
        JobError: If a batch is still running, once the files of the others are downloaded; or if a
            file's size differs from the one reported or, if none is reported, it has too few lines.
        BatchFramesError: If another process is using the ledger.
        openai.APIError: Passed through from the SDK.
    """
    by_ledger: dict[Path, list[Job]] = {}
    for job in job_list(jobs, "download"):
        by_ledger.setdefault(ledger_path(job.path), []).append(job)
    bar = progress_bar("download", None, progress, unit="B")
    paths: dict[Path, None] = {}
    latest: list[Job] = []
    hint = interrupt_hint("complete files are kept; to continue, download again")
    with Service(client, "download") as service, hint, bar:
        for path, listed in by_ledger.items():
            with Ledger(path).locked() as ledger:
                known = distinct(ledger.job_of(job.path.name) or job for job in listed)
                for job in [_refreshed(service, ledger, job) for job in known]:
                    paths |= dict.fromkeys(_download_all(service, ledger, job, bar.update))
                    latest.append(job)
    _check_complete(latest)
    return list(paths)


def _refreshed(service: Service, ledger: Ledger, job: Job) -> Job:
    """Ask for a batch that may have changed, and note what is new."""
    news = news_of(service, job)
    return job if replace(job, **news) == job else ledger.note("status", job, **news)


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


def _download_all(service: Service, ledger: Ledger, job: Job, progress: Progress) -> list[Path]:
    """Download the files of an ended batch, except those that are there already."""
    if not job.has_ended:
        return []
    stem = job.path.name.removesuffix(".jsonl")
    if job.path.is_file() and file_hash(job.path) != job.sha256:
        changed = f"'{job.path}' has changed since it was submitted as {job.batch_id}"
        warn(f"{changed}; the results belong to its earlier requests")
    found = []
    for ending, file_id in zip(
        RESULT_ENDINGS, (job.output_file_id, job.error_file_id), strict=True
    ):
        if file_id is None:
            continue
        names = [name for name in job.files if name.endswith(ending)]
        path = job.path.with_name(names[0] if names else stem + ending)
        if not (path.is_file() and path.stat().st_size == job.files.get(path.name)):
            least = _least_lines(job) if ending == RESULT_ENDINGS[0] else 0
            size = _download(service, file_id, path, least, progress)
            job = ledger.note("downloaded", job, name=path.name, size=size)
        found.append(path)
    return found


def _least_lines(job: Job) -> int:
    """Return how many lines the output file has at least."""
    completed = job.completed or 0
    # Some services count failed requests as completed.
    return completed if job.total is None else min(completed, job.total - (job.failed or 0))


def _download(service: Service, file_id: str, path: Path, least: int, progress: Progress) -> int:
    """Download one file, and return its size.

    Args:
        service: The service that has the file.
        file_id: Its id.
        path: The name that it gets once it is complete.
        least: Its least number of lines, which is checked where the service reports no size.
        progress: Called with each number of bytes received.
    """
    reply = service.call(lambda api: api.files.retrieve(file_id), instead=NO_SIZE)
    nbytes = getattr(reply, "bytes", None)
    reported = nbytes if isinstance(nbytes, int) and nbytes > 0 else None
    with whole(path, sync=True) as file:
        service.call(lambda api: _stream(api, file_id, file, reported, progress))
        size = file.tell()
        problem = None
        if reported is None:
            problem = _line_problem(file, least)
        elif size != reported:
            problem = f"received {size:,} of {reported:,} bytes"
        if problem:
            raise JobError(f"{path.name!r}: {problem}", hint="download it again")
    return size


def _line_problem(file: IO[bytes], least: int) -> str | None:
    """Describe why a file of unknown size cannot be the result file of a batch."""
    lines, start, last = 0, b"", b"\n"
    file.seek(0)
    while block := file.read(BLOCK):
        lines += block.count(b"\n")
        start, last = start or block.removeprefix(codecs.BOM_UTF8).lstrip(), block[-1:]
    lines += last != b"\n"
    if start and not start.startswith(b"{"):
        return "the content does not begin with '{'"
    return f"received {lines:,} of {counted(least, 'line')}" if lines < least else None


def _stream(
    api: Any, file_id: str, file: IO[bytes], reported: int | None, progress: Progress
) -> None:
    """Append what is missing to a file, or start over if the service sends all of it again."""
    start = file.tell() if reported else 0
    if start and start == reported:
        return
    # A compressed body cannot be resumed.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    ask = api.files.with_streaming_response.content(file_id, extra_headers=headers)
    with ask as response:
        if response.status_code != 206:
            progress(-file.tell())
            file.seek(0)
            file.truncate()
        for block in response.iter_bytes(BLOCK):
            file.write(block)
            progress(len(block))
