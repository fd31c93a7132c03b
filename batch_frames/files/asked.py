"""Tell which requests were asked, or may have been, so that none is sent twice."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from batch_frames.display import counted
from batch_frames.errors import BatchFramesError
from batch_frames.files.documents import file_hash
from batch_frames.files.find import LIVE_ENDINGS, PUT_ASIDE
from batch_frames.files.job import Job, Settings
from batch_frames.files.locks import refuse_in_use
from batch_frames.files.record import Record, Records
from batch_frames.files.sets import Replaced, SavedSet
from batch_frames.files.shards import RequestFile, read_shard
from batch_frames.progress import warn

__all__ = [
    "LIVE_ID",
    "are_among",
    "first_asked",
    "lines_of",
    "live_hashes",
    "live_lines",
    "pending_lines",
    "refuse_asked",
    "refuse_in_flight",
    "refuse_submitted",
    "sent_lines",
    "wanted_job",
    "was_begun_since",
]


Hashes = npt.NDArray[np.uint64]


LIVE_ID = "local-"
"""How the ids of live answers begin; the hash of the request's line follows, in hexadecimal."""

LIVE_LINE = f'{{"id":"{LIVE_ID}'.encode()

DIGITS = 16


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
    records = Records()
    coming: set[str] | None = None
    for path, new in changes.items():
        job = records.of(path).job_of(path)
        if job is None or (new and file_hash(new) == job.sha256):
            continue
        if new is None and coming is None:
            coming = {file_hash(file) for file in changes.values() if file}
        if new or job.sha256 not in (coming or ()):
            yield job


def pending_lines(record: Record) -> Iterator[tuple[Job, Hashes]]:
    """Yield the jobs that may bring answers, still or again, each with the hashes of its lines.

    Args:
        record: The record of a folder.
    """
    return _with_lines(record, (job for job in record.jobs() if job.lacks_results))


def sent_lines(record: Record, but: Collection[str] = ()) -> Iterator[tuple[Job, Hashes]]:
    """Yield the jobs that were answered, or may be, each with the hashes of its lines.

    This is what decides whether a request has been asked, or may have been asked.

    Args:
        record: The record of a folder.
        but: The hashes of shards that do not count.
    """
    jobs = (job for job in record.jobs() if job.sha256 not in but)
    return _with_lines(
        record, (job for job in jobs if job.is_pending or job.may_be_paid or job.earlier_files)
    )


def _refuse_unknown(record: Record, files: Sequence[RequestFile]) -> None:
    """Refuse shards with requests of another shard whose document is damaged: it may be sent.

    Raises:
        LineError: If there is one; it names the document.
    """
    for error, lines in record.damaged():
        if any(np.isin(file.lines, lines).any() for file in files):
            raise error


def _with_lines(record: Record, jobs: Iterable[Job]) -> Iterator[tuple[Job, Hashes]]:
    for job in (job for job in jobs if not _cannot_be_sent(job)):
        lines = lines_of(record, job)
        if lines is not None:
            yield job, lines
        elif job.is_pending:
            warn(f"the requests of '{job.path}', which may still be answered, are not known")


def lines_of(record: Record, job: Job) -> Hashes | None:
    """Return the hashes of a shard's lines, and of those in whose place they are.

    They are from the record, or else from the shard; None if they are unknown.
    """
    lines = record.lines(job)
    if lines is None and job.path.is_file() and file_hash(job.path) == job.sha256:
        lines = read_shard(job.path).lines
    return None if lines is None else record.replaced.with_earlier(lines)


def wanted_job(file: RequestFile, settings: Settings) -> Job:
    """Return the job of a shard that was never to be sent."""
    facts = (file.path, file.requests, file.nbytes, file.endpoint)
    return Job(*facts, sha256=file.sha256, settings=settings)


def _refuse_answering(shard: Path) -> None:
    """Refuse a shard that another process is answering live.

    Raises:
        BatchFramesError: If there is one.
    """
    output = shard.with_name(shard.name.removesuffix(".jsonl") + LIVE_ENDINGS[0])
    refuse_in_use(output, f"'{shard.name}' is being answered by {{owner}}")


def live_lines(
    folder: Path, endings: Sequence[str] = LIVE_ENDINGS[:1]
) -> Iterator[tuple[Path, Hashes]]:
    """Yield the files of live answers in a folder, each with the hashes of the lines it is for.

    Args:
        folder: The folder.
        endings: How the names of the files end; those with errors hold no answers.
    """
    names = [f"*{ending}" for ending in (*endings, f"{LIVE_ENDINGS[0]}{PUT_ASIDE}")]
    replaced = Replaced([folder])
    for path in sorted(path for name in names for path in folder.glob(name)):
        hashes = b"".join(digest for _, digest in live_hashes(path))
        yield path, replaced.with_earlier(np.frombuffer(hashes, "<u8").astype(np.uint64))


def live_hashes(path: Path) -> Iterator[tuple[int, bytes]]:
    """Read the hashes of the lines that live answers are for, with the numbers of their own."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            digits = raw[len(LIVE_LINE) : len(LIVE_LINE) + DIGITS]
            if raw.startswith(LIVE_LINE):
                with suppress(ValueError):
                    yield number, bytes.fromhex(digits.decode())


def _cannot_be_sent(job: Job) -> bool:
    """Return whether a shard was never sent, and is not there any more."""
    is_there = job.path.is_file() and job.path.stat().st_size == job.nbytes
    return job.is_unsent and job.tried_at is None and not is_there


def are_among(groups: Sequence[Hashes], hashes: Hashes) -> npt.NDArray[np.bool_]:
    """Return which groups have a hash in common with some others."""
    owners = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    found = np.isin(np.concatenate([np.zeros(0, np.uint64), *groups]), hashes)
    return np.bincount(owners[found], minlength=len(groups)) > 0


def first_asked(
    asked: Iterable[tuple[Job | Path, Hashes]],
    files: Sequence[RequestFile],
    *,
    among: bool = False,
) -> str | None:
    """Return what is wrong with the first file that has requests which were asked already.

    Args:
        asked: The shards that may still be answered, or the files of live answers, each with the
            hashes of the lines.
        files: The files to be sent.
        among: Whether they must have no requests in common with each other.
    """
    asked = list(asked)
    every = [*(lines for _, lines in asked), *(np.unique(file.lines) for file in files)]
    if not files:
        return None
    lines = np.concatenate(every)
    order = np.argsort(lines, kind="stable")
    lines = lines[order]
    owners = np.repeat(np.arange(len(every)), list(map(len, every)))[order]
    is_first = np.ones(len(lines), bool)
    is_first[1:] = lines[1:] != lines[:-1]
    firsts = owners[is_first][np.cumsum(is_first) - 1]
    found = (owners >= len(asked)) & (firsts != owners) & (among | (firsts < len(asked)))
    if not found.any():
        return None
    number = owners[found].min()
    by = firsts[found & (owners == number)].min()
    file, count = files[number - len(asked)], int(np.isin(every[number], every[by]).sum())
    where = _where([*(owner for owner, _ in asked), *files][by])
    return f"{count:,} of {counted(file.requests, 'request')} of '{file.path}' {where}"


def _where(owner: Job | Path | RequestFile) -> str:
    if isinstance(owner, Path):
        return f"are answered in '{owner}'"
    batch = f" ({owner.batch_id})" if isinstance(owner, Job) and owner.batch_id else ""
    is_done = isinstance(owner, Job) and not owner.is_pending
    return f"{'were' if is_done else 'may still be'} answered in '{owner.path}'{batch}"


def was_begun_since(job: Job, saved: SavedSet) -> bool:
    """Return whether a shard was begun, or begun again, after a set was saved."""
    begun = [at for at, step in job.steps if step in ("begun", "to be sent again")]
    return max(begun, default="") > saved.saved_at


def _was_written_since(path: Path, saved: SavedSet) -> bool:
    """Return whether live answers were written after a set was saved to be asked again."""
    if not saved.again or not saved.saved_at:
        return False
    at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return at > datetime.fromisoformat(saved.saved_at)


def refuse_asked(record: Record, files: list[RequestFile], sets: Mapping[Path, SavedSet]) -> None:
    """Refuse shards with requests that were, or may be, answered in another shard, or live.

    Args:
        record: The record of their folder.
        files: The shards.
        sets: What each of them was saved with; what is to be asked again, is as of then.

    Raises:
        BatchFramesError: If there is one.
    """
    if not files:
        return
    _refuse_unknown(record, files)
    sent = list(sent_lines(record, {file.sha256 for file in files}))
    pending = [(job, lines) for job, lines in sent if job.is_pending]
    if problem := first_asked(pending, files, among=True):
        hint = "wait for it and download it; retry_requests writes what is left"
        raise BatchFramesError(problem, hint=hint)
    for file in files:
        _refuse_answering(file.path)
    hint = "retry_requests writes what is left, or move that file away to ask all again"
    _refuse_since(list(live_lines(record.folder)), files, sets, _was_written_since, hint)
    hint = "retry_requests writes what is left; in another folder, all are asked again"
    _refuse_since(sent, files, sets, was_begun_since, hint)


def _refuse_since(
    asked: Sequence[tuple[Any, Hashes]],
    files: Sequence[RequestFile],
    sets: Mapping[Path, SavedSet],
    is_since: Callable[[Any, SavedSet], bool],
    hint: str,
) -> None:
    """Refuse shards with requests that were asked, at all or since they were saved to be again."""
    problem = first_asked(asked, [file for file in files if not sets[file.path].again])
    for file in files:
        since = [one for one in asked if is_since(one[0], sets[file.path])]
        problem = problem or (first_asked(since, [file]) if since else None)
    if problem:
        raise BatchFramesError(problem, hint=hint)
