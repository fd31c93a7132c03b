"""Bring the result files of ended batches to stand beside their shards."""

from __future__ import annotations

import codecs
import os
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tqdm import tqdm

from batch_frames.batches.client import Service
from batch_frames.batches.job import BATCH_FACTS, Job, counted
from batch_frames.batches.ledger import Ledger
from batch_frames.batches.status import fresh, job_list
from batch_frames.errors import JobError
from batch_frames.files import RESULT_ENDINGS, file_hash, ledger_path
from batch_frames.progress import how_to_go_on

if TYPE_CHECKING:
    from openai import OpenAI

__all__ = ["download"]


BLOCK = 1 << 20

NOT_THERE = (404, 405, 501)


def download(
    jobs: Job | Iterable[Job], *, client: OpenAI | None = None, progress: bool | None = None
) -> list[Path]:
    """Download the output and error files of batches, to stand beside their shards.

    ``reviews-00001.jsonl`` gets ``reviews-00001.output.jsonl`` and ``reviews-00001.errors.jsonl``,
    as far as there are such files: also of batches that expired or were cancelled, whose finished
    requests are kept. A file stands under its name once it is whole, and is not fetched again.

    Args:
        jobs: What ``wait``, ``submit`` or ``load_jobs`` returned.
        client: As for ``submit``; not needed when all files are there.
        progress: Whether to show a progress bar; None shows it after two seconds.

    Returns:
        The files, in the order of the jobs.

    Raises:
        JobError: If a batch has not ended, once the files of the others are there; or if a file
            has not the size that the service tells or, if it tells none, too few lines.
        BatchFramesError: If another process is at work on the ledger.
        openai.APIError: As the SDK says it.
    """
    by_ledger: dict[Path, list[Job]] = {}
    for job in job_list(jobs, "download"):
        by_ledger.setdefault(ledger_path(job.path), []).append(job)
    bar = tqdm(
        desc="download", unit="B", unit_scale=True, delay=0 if progress else 2,
        disable=progress is False,
    )  # fmt: skip
    paths: dict[Path, None] = {}
    going: list[Job] = []
    unnamed: list[Job] = []
    told = how_to_go_on("finished files are kept; to go on, download again")
    with Service(client, "download") as service, told, bar:
        for path, listed in by_ledger.items():
            with Ledger(path).locked() as ledger:
                for job in _as_they_stand(service, ledger, listed):
                    paths |= dict.fromkeys(_fetch_all(service, ledger, job, bar.update))
                    going += [] if job.has_ended else [job]
                    unnamed += [job] if job.lacks_files else []
    if unnamed:
        first = unnamed[0]
        raise JobError(
            f"'{first.path}' is {first.status}, but the service names no result file of "
            f"{first.batch_id} yet; download it again later",
            batch_id=first.batch_id,
            status=first.status,
        )
    if going:
        raise JobError(_not_ended(going), batch_id=going[0].batch_id, status=going[0].status)
    return list(paths)


def _as_they_stand(service: Service, ledger: Ledger, jobs: Iterable[Job]) -> list[Job]:
    """Ask for the batches that had not ended, and note their news."""
    before = {job.token: job for job in (ledger.job_of(j.path.name) or j for j in jobs)}
    after = fresh(service, before.values())
    for job in after:
        if job != before[job.token]:
            facts = {name: getattr(job, name) for name in BATCH_FACTS}
            ledger.note("status", job, **facts)
    return after


def _not_ended(going: list[Job]) -> str:
    first = going[0]
    batches = counted(len(going), "batch has", "batches have")
    return f"{batches} not ended, {first.path.name!r} is {first.status!r}; wait for them first"


def _fetch_all(
    service: Service, ledger: Ledger, job: Job, progress: Callable[[int], object]
) -> list[Path]:
    """Fetch what a batch has left, but for what is there already."""
    if not job.has_ended:
        return []
    stem = job.path.name.removesuffix(".jsonl")
    if job.path.is_file() and file_hash(job.path) != job.sha256:
        changed = f"'{job.path}' has changed since it was submitted as {job.batch_id}"
        warnings.warn(f"{changed}; the results answer what it asked then", stacklevel=4)
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
            size = _fetch(service, file_id, path, least, progress)
            job = ledger.note("downloaded", job, name=path.name, size=size)
        found.append(path)
    return found


def _least_lines(job: Job) -> int:
    """Tell how many lines an output file has at least."""
    completed = job.completed or 0
    # There are services that count what failed among what is completed.
    return completed if job.total is None else min(completed, job.total - (job.failed or 0))


def _fetch(
    service: Service, file_id: str, path: Path, least: int, progress: Callable[[int], object]
) -> int:
    """Fetch one file to a temporary name, and rename it once it is whole.

    Args:
        service: Where from.
        file_id: What the file is called there.
        path: The name that it gets.
        least: How many lines it has at least, as a check where the service tells no size.
        progress: Gets the number of bytes that have come.
    """
    told = _told_size(service, file_id)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            service.call(lambda api: _stream(api, file_id, file, told, progress))
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        if told is not None and size != told:
            raise JobError(
                f"'{path.name}': {size:,} bytes came of {told:,} that the service tells; "
                "download it again"
            )
        if told is None:
            _check_lines(temporary, path.name, least)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return size


def _check_lines(file: Path, name: str, least: int) -> None:
    """Look whether a file of unknown size can be what a batch has left."""
    lines, start, last = 0, b"", b"\n"
    with file.open("rb") as opened:
        while block := opened.read(BLOCK):
            lines += block.count(b"\n")
            start, last = start or block.removeprefix(codecs.BOM_UTF8).lstrip(), block[-1:]
    lines += last != b"\n"
    if start and not start.startswith(b"{"):
        raise JobError(f"{name!r}: what came does not begin with '{{'; download it again")
    if lines < least:
        came = counted(lines, "line", "lines")
        raise JobError(
            f"{name!r}: {came} came of {least:,} that the service counts; download it again"
        )


def _told_size(service: Service, file_id: str) -> int | None:
    try:
        told = service.call(lambda api: api.files.retrieve(file_id)).bytes
    except Exception as error:
        # Not every service that speaks of batches tells of their files.
        if getattr(error, "status_code", None) in NOT_THERE:
            return None
        raise
    return told if isinstance(told, int) and told > 0 else None


def _stream(
    api: Any, file_id: str, file: IO[bytes], told: int | None, progress: Callable[[int], object]
) -> None:
    """Append what is still missing to a file; a service that gives all again starts it over."""
    start = file.tell() if told else 0
    if start and start == told:
        return
    # Compressed, a body has no place to go on from.
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
