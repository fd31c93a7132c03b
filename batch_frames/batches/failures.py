"""Relate what the service finds wrong with a shard to its requests and rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from batch_frames.display import NAMED, counted, some_of
from batch_frames.errors import BatchFramesError, JobError, WaitTimeout
from batch_frames.files import Job, Sets, distinct, file_hash, set_name

__all__ = [
    "Places",
    "failures",
    "failures_text",
    "job_error",
    "refuse_errors",
    "refused_error",
    "timeout_error",
    "unknown_error",
]


BLOCK = 1 << 20


def job_error(failed: Iterable[Job]) -> JobError | None:
    """Return one error for all batches that failed at validation; None if there are none."""
    jobs = distinct(failed)
    if not jobs:
        return None
    places = Places()
    errors = [error for job in jobs for error in failures(job, places)]
    batches = counted(len(jobs), "batch", "batches")
    return JobError(
        f"{batches} failed at validation: {failures_text(errors)}",
        batch_id=jobs[0].batch_id,
        status=jobs[0].status,
        errors=errors,
        hint="correct the requests, save and submit them again",
    )


def refused_error(refused: Sequence[Job], refusals: int) -> JobError:
    """Return an error for batches that were refused again and again, though none is running."""
    places = Places()
    errors = [error for job in refused for error in failures(job, places)]
    return JobError(
        f"refused {refusals:,} times with none of these batches running: "
        f"{failures_text(errors[:1])}",
        batch_id=refused[0].batch_id,
        status=refused[0].status,
        errors=errors,
        hint="wait again once others have ended, or save smaller files with "
        "limits=bf.Limits(nbytes=…)",
    )


def refuse_errors(files: Mapping[Path, Path]) -> None:
    """Refuse request files that the service would refuse.

    Args:
        files: The names of the files, with where each of them is now.

    Raises:
        BatchFramesError: If there is one; it names the first problems and their places.
    """
    if not files:
        return
    # Where nothing is to be sent, the commands start without what this needs.
    from batch_frames.requests import check_files

    found = check_files(files, warnings=False).astype(object)
    problems: list[Any] = found.where(found.notna(), None).to_dict("records")
    named = [{**one, "shard": Path(one["file"]).name, "row": None} for one in problems]
    if named:
        hint = "correct the requests, or pass check=False to send them as they are"
        if any(one["code"] == "mismatched_model" for one in named):
            hint = "a batch is for one model; split the table by model, with a path for each"
        raise BatchFramesError(f"the service would refuse {failures_text(named)}", hint=hint)


def timeout_error(jobs: Sequence[Job], seconds: float, hint: str) -> WaitTimeout:
    """Return an error for batches that are still running when the time is up."""
    pending = [job for job in jobs if not job.has_ended]
    first = pending[0] if pending else jobs[0]
    batches = counted(len(jobs), "batch", "batches")
    return WaitTimeout(
        f"{len(pending):,} of {batches} still running after {seconds:,g} seconds, "
        f"{first.path.name!r} is {first.state!r}",
        batch_id=first.batch_id,
        status=first.status,
        hint=hint,
    )


def failures(job: Job, places: Places) -> list[dict[str, Any]]:
    """List what the service found wrong with a shard, one dict each.

    Args:
        job: The job of the shard.
        places: Where the requests of its set are.

    The row is the position of the request in its set of shards, from 0, which is the row of the
    frame unless rows were skipped.
    """
    numbers = {line for error in job.errors if (line := error.get("line"))}
    ids: dict[Any, str] = dict(_custom_ids(job, numbers)) if numbers else {}
    before = places.start(job.path) if numbers else None
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
    known = "" if error["custom_id"] is None else f"custom_id {error['custom_id']!r}"
    place += f" ({known})" if known else ""
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


class Places:
    """The rows of requests in their sets, for which each set is looked at once."""

    def __init__(self) -> None:
        self._starts: dict[Path, list[int | None]] = {}

    def start(self, shard: Path) -> int | None:
        """Count the requests in the shards of a set before this one; None if one is missing."""
        name, own = set_name(shard)
        if own is None:
            return 0
        path = shard.with_name(f"{name}.jsonl")
        starts = self._starts.setdefault(path, [0])
        if len(starts) < own:
            known = dict(Sets(path.parent).get(path.name).requests)
            while len(starts) < own and (start := starts[-1]) is not None:
                before = path.with_name(f"{name}-{len(starts):05}.jsonl")
                count = known.get(before.name)
                count = _count_lines(before) if count is None else count
                starts.append(None if count is None else start + count)
        return starts[own - 1] if own <= len(starts) else None


def _count_lines(shard: Path) -> int | None:
    try:
        with shard.open("rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(BLOCK), b""))
    except OSError:
        return None


def unknown_error(jobs: Sequence[Job]) -> WaitTimeout:
    """Return the error of jobs that may have a batch when the time is up."""
    files = counted(len(jobs), "file")
    problem = f"it is not known yet whether there is a batch of {files}, as of '{jobs[0].path}'"
    return WaitTimeout(problem, status=jobs[0].status, hint="submit again")
