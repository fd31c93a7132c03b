"""Tell which requests were asked, or may have been, so that none is sent twice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from batch_frames.display import counted
from batch_frames.errors import BatchFramesError
from batch_frames.files.job import Job
from batch_frames.files.record import Record, Records
from batch_frames.files.shards import RequestFile, file_hash, read_shard
from batch_frames.progress import warn

__all__ = ["first_asked", "pending_lines", "refuse_in_flight", "refuse_submitted"]


def refuse_in_flight(changes: Mapping[Path, Path | None]) -> None:
    """Refuse to replace or remove shards whose requests may still get answers.

    The same bytes may be written again, and a file may go if its bytes get another name.

    Args:
        changes: The new file for each file that is replaced; None for one that is removed.

    Raises:
        BatchFramesError: If the requests of a batch would be lost.
    """
    for job in _lost_jobs(changes):
        if job.is_pending and not job.has_ended:
            state = "is still running" if job.batch_id else "is waiting to be sent"
            hint = "wait for it, save under another name, or pass overwrite=True"
            raise BatchFramesError(f"{job.submitted_text} and {state}", hint=hint)


def refuse_submitted(changes: Mapping[Path, Path | None]) -> None:
    """Refuse to replace or remove shards that were submitted, even if their batches have ended.

    Args:
        changes: As for ``refuse_in_flight``.

    Raises:
        BatchFramesError: If the requests of a batch would be lost.
    """
    for job in _lost_jobs(changes):
        if job.may_be_paid or job.is_pending:
            fetch = f"bf.download(bf.load_jobs('{job.path}'))"
            hint = f"choose another path ({fetch} fetches their answers)"
            raise BatchFramesError(f"{job.submitted_text} with different requests", hint=hint)


def _lost_jobs(changes: Mapping[Path, Path | None]) -> Iterator[Job]:
    """Yield the jobs whose requests would no longer be in any of the files."""
    records, hash_of = Records(), cache(file_hash)
    for path, new in changes.items():
        job = records.of(path).job_of(path)
        if job is not None:
            coming = [new] if new else [file for file in changes.values() if file]
            if job.sha256 not in map(hash_of, coming):
                yield job


def pending_lines(
    record: Record, but: Iterable[str]
) -> Iterator[tuple[Job, npt.NDArray[np.uint64]]]:
    """Yield the jobs that may still bring answers, each with the hashes of its lines.

    This is what decides whether a request has been asked, or may have been asked, and is still
    without an answer here.

    Args:
        record: The record of a folder.
        but: The hashes of shards that do not count.
    """
    passed = set(but)
    for job in record.jobs():
        if job.is_pending and not _cannot_be_sent(job) and job.sha256 not in passed:
            lines = record.lines(job)
            if lines is None and job.path.is_file() and file_hash(job.path) == job.sha256:
                lines = read_shard(job.path).lines
            if lines is None:
                warn(f"the requests of '{job.path}', which may still be answered, are not known")
            else:
                yield job, lines


def _cannot_be_sent(job: Job) -> bool:
    """Return whether a shard was never sent, and is not there any more."""
    is_there = job.path.is_file() and job.path.stat().st_size == job.nbytes
    return job.is_unsent and job.tried_at is None and not is_there


def first_asked(
    pending: Iterable[tuple[Job, npt.NDArray[np.uint64]]],
    files: Sequence[RequestFile],
    *,
    among: bool = False,
) -> str | None:
    """Return what is wrong with the first file that has requests in common with another shard.

    Args:
        pending: The shards that may still be answered, each with the hashes of its lines.
        files: The files to be sent.
        among: Whether they must have no requests in common with each other.
    """
    jobs = list(pending)
    every = [*(lines for _, lines in jobs), *(np.unique(file.lines) for file in files)]
    if not files:
        return None
    lines = np.concatenate(every)
    order = np.argsort(lines, kind="stable")
    lines = lines[order]
    owners = np.repeat(np.arange(len(every)), list(map(len, every)))[order]
    is_first = np.ones(len(lines), bool)
    is_first[1:] = lines[1:] != lines[:-1]
    firsts = owners[is_first][np.cumsum(is_first) - 1]
    found = (owners >= len(jobs)) & (firsts != owners) & (among | (firsts < len(jobs)))
    if not found.any():
        return None
    number = owners[found].min()
    by = firsts[found & (owners == number)].min()
    file, count = files[number - len(jobs)], int(np.isin(every[number], every[by]).sum())
    name = f"'{jobs[by][0].path if by < len(jobs) else files[by - len(jobs)].path}'"
    name += f" ({jobs[by][0].batch_id})" if by < len(jobs) and jobs[by][0].batch_id else ""
    requests = counted(file.requests, "request")
    return f"{count:,} of {requests} of '{file.path}' may still be answered in {name}"
