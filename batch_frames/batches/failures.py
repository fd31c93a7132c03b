"""Translate what the service finds wrong with a shard into its request and row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from batch_frames.batches.job import Job, counted
from batch_frames.batches.ledger import Ledger
from batch_frames.errors import JobError, LineError
from batch_frames.files import file_hash, ledger_path, set_name

__all__ = ["failure_text", "failures", "job_error"]


NAMED = 3

BLOCK = 1 << 20


def job_error(failed: Iterable[Job]) -> JobError | None:
    """Make one error of all batches that failed at validation; None if there are none."""
    jobs = list({job.token: job for job in failed}.values())
    if not jobs:
        return None
    errors = [error for job in jobs for error in failures(job)]
    shown = "; ".join(map(failure_text, errors[:NAMED]))
    more = f"; and {len(errors) - NAMED:,} more" if len(errors) > NAMED else ""
    batches = counted(len(jobs), "batch", "batches")
    hint = "correct the requests, save and submit them again"
    message = f"{batches} failed at validation: {shown}{more}; {hint}"
    return JobError(message, batch_id=jobs[0].batch_id, status=jobs[0].status, errors=errors)


def failures(job: Job) -> list[dict[str, Any]]:
    """List what the service found wrong with a shard, one dict each.

    The row is the position of the request in its set of shards, from 0. That is the row of the
    frame as long as none was skipped.
    """
    numbers = {line for error in job.errors if (line := error.get("line"))}
    ids: dict[Any, str] = dict(_custom_ids(job, numbers)) if numbers else {}
    before = _requests_before(job) if numbers else None
    raw: Iterable[Mapping[str, Any]] = job.errors or [{"message": "the service gives no reason"}]
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


def failure_text(error: Mapping[str, Any]) -> str:
    """Write one of these dicts for people."""
    place = str(error["shard"])
    if error["line"]:
        place += f", line {error['line']:,}"
    known = [] if error["custom_id"] is None else [f"custom_id {error['custom_id']!r}"]
    known += [] if error["row"] is None else [f"row {error['row']:,}"]
    place += f" ({', '.join(known)})" if known else ""
    said = " ".join(str(error["message"] or "no message").split())
    code = f" [{error['code']}]" if error["code"] else ""
    return f"{place}: {said}{code}"


def _custom_ids(job: Job, numbers: set[int]) -> Iterator[tuple[int, str]]:
    """Read the ids of some lines, if the shard still is what the service has read."""
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
    """Count the requests in the shards before this one; None if one is gone."""
    name, own = set_name(job.path)
    if own is None:
        return 0
    try:
        ledger = Ledger(ledger_path(job.path))
    except (LineError, OSError):
        return None
    before = 0
    for number in range(1, own):
        count = _requests(ledger, job.path.with_name(f"{name}-{number:05}.jsonl"))
        if count is None:
            return None
        before += count
    return before


def _requests(ledger: Ledger, shard: Path) -> int | None:
    known = ledger.job_of(shard.name)
    if known is not None:
        return known.requests
    try:
        with shard.open("rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(BLOCK), b""))
    except OSError:
        return None
