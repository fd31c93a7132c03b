"""Relate what the service finds wrong with a shard to its requests and rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from batch_frames.batches.job import Job, distinct
from batch_frames.batches.ledger import Ledger
from batch_frames.display import NAMED, counted, some_of
from batch_frames.errors import JobError, LineError
from batch_frames.files import file_hash, ledger_path, set_name

__all__ = ["failures", "failures_text", "job_error"]


BLOCK = 1 << 20


def job_error(failed: Iterable[Job]) -> JobError | None:
    """Return one error for all batches that failed at validation; None if there are none."""
    jobs = distinct(failed)
    if not jobs:
        return None
    errors = [error for job in jobs for error in failures(job)]
    batches = counted(len(jobs), "batch", "batches")
    return JobError(
        f"{batches} failed at validation: {failures_text(errors)}",
        batch_id=jobs[0].batch_id,
        status=jobs[0].status,
        errors=errors,
        hint="correct the requests, save and submit them again",
    )


def failures(job: Job) -> list[dict[str, Any]]:
    """List what the service found wrong with a shard, one dict each.

    The row is the position of the request in its set of shards, from 0, which is the row of the
    frame unless rows were skipped.
    """
    numbers = {line for error in job.errors if (line := error.get("line"))}
    ids: dict[Any, str] = dict(_custom_ids(job, numbers)) if numbers else {}
    before = _requests_before(job) if numbers else None
    raw: Iterable[Mapping[str, Any]] = job.errors or [{"message": "the service gave no reason"}]
    return [
        {
            "shard": job.path.name,
            "line": error.get("line"),
            "row": None if before is None or not error.get("line") else before + error["line"] - 1,
            "custom_id": ids.get(error.get("line")),
            "code": error.get("code"),
            "param": error.get("param"),
            "message": error.get("message"),
        }
        for error in raw
    ]


def failures_text(errors: Sequence[Mapping[str, Any]]) -> str:
    """Describe the first of these dicts, and count the others."""
    return some_of([*map(_text, errors[:NAMED])], len(errors), between="; ")


def _text(error: Mapping[str, Any]) -> str:
    place = str(error["shard"])
    if error["line"]:
        place += f", line {error['line']:,}"
    known = [] if error["custom_id"] is None else [f"custom_id {error['custom_id']!r}"]
    known += [] if error["row"] is None else [f"row {error['row']:,}"]
    place += f" ({', '.join(known)})" if known else ""
    message = " ".join(str(error["message"] or "no message").split())
    code = f" [{error['code']}]" if error["code"] else ""
    return f"{place}: {message}{code}"


def _custom_ids(job: Job, numbers: set[int]) -> Iterator[tuple[int, str]]:
    """Read the ids of some lines, if the shard has not changed since it was submitted."""
    if not job.path.is_file() or file_hash(job.path) != job.sha256:
        return
    last = max(numbers)
    with job.path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if number in numbers:
                try:
                    custom_id = json.loads(raw)["custom_id"]
                except (KeyError, TypeError, ValueError, RecursionError):
                    continue
                yield number, str(custom_id)
            if number >= last:
                return


def _requests_before(job: Job) -> int | None:
    """Count the requests in the shards before this one; None if one is missing."""
    name, own = set_name(job.path)
    if own is None:
        return 0
    shards = (job.path.with_name(f"{name}-{number:05}.jsonl") for number in range(1, own))
    try:
        ledger = Ledger(ledger_path(job.path))
        return sum(_requests(ledger, shard) for shard in shards)
    except (LineError, OSError):
        return None


def _requests(ledger: Ledger, shard: Path) -> int:
    known = ledger.job_of(shard.name)
    if known is not None:
        return known.requests
    with shard.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(BLOCK), b""))
