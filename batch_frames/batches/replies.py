"""Read what the service sends, and relate what it finds wrong to requests and rows."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

from batch_frames.display import NAMED, counted, some_of
from batch_frames.errors import BatchFramesError, JobError, WaitTimeout
from batch_frames.files import Job, Sets, clean_facts, distinct, file_hash, is_id, set_name

__all__ = [
    "Places",
    "ReplyError",
    "batch_facts",
    "batches_of",
    "content_problem",
    "failures",
    "failures_text",
    "job_error",
    "not_text",
    "number_of",
    "refuse_errors",
    "refused_error",
    "text_of",
    "timeout_error",
    "unknown_error",
]


Answer = TypeVar("Answer")

ALSO_CALLED = {"canceled": "cancelled", "succeeded": "completed"}
"""Other spellings of final statuses, by compatible services."""

NO_LIST = "the service did not return a list of batches"


class ReplyError(JobError):
    """A reply that lacks what every reply of its kind has.

    Attributes:
        problem: The message without the place and the hint.
    """

    def __init__(self, problem: str, *, job: Job | None = None, hint: str | None = None) -> None:
        text = f"{job.place}: {problem}" if job else problem
        super().__init__(text, hint=hint)
        if job:
            self.batch_id, self.status = job.batch_id, job.status
        self.problem = problem


def batch_facts(batch: Any) -> dict[str, Any]:
    """Return what a job stores of the service's batch, whatever is null or missing there.

    Raises:
        ReplyError: If it is no batch.
    """
    batch_id, status = getattr(batch, "id", None), getattr(batch, "status", None)
    if not (is_id(batch_id) and isinstance(status, str) and is_id(status)):
        raise ReplyError("the service did not return a batch")
    counts, usage = getattr(batch, "request_counts", None), getattr(batch, "usage", None)
    errors = getattr(getattr(batch, "errors", None), "data", None)
    found = errors if isinstance(errors, list) else []
    return clean_facts(
        {
            "status": ALSO_CALLED.get(status.lower(), status.lower()),
            "batch_id": batch_id,
            **_read(counts, "total", "completed", "failed"),
            **_read(batch, "output_file_id", "error_file_id", "created_at", "expires_at"),
            "started_at": getattr(batch, "in_progress_at", None),
            **_read(usage, "input_tokens", "output_tokens"),
            "errors": [_read(error, "code", "line", "message", "param") for error in found],
        }
    )


def batches_of(page: Any) -> list[Any]:
    """Return what is in a page of the list of batches, whether it can be read or not.

    Raises:
        ReplyError: If it is no such page, or an empty one that tells of batches.
    """
    data, tells = getattr(page, "data", None), getattr(page, "model_extra", None) or {}
    if data and isinstance(data, list):
        return data
    # An empty list may be null or left out; any other reply does not mean that there is no batch.
    has_others = any(isinstance(value, (dict, list)) for value in tells.values())
    is_left_out = data is None and getattr(page, "object", None) == "list" and not has_others
    has_more = getattr(page, "has_more", None) or tells.get("first_id") or tells.get("last_id")
    if has_more or not (is_left_out or data == []):
        raise ReplyError(NO_LIST)
    return []


def not_text(reply: Answer) -> Answer:
    """Return a reply as it is, unless the SDK took it for text.

    Raises:
        ReplyError: If it did.
    """
    if isinstance(reply, str):
        raise ReplyError("the service returned text that is not JSON")
    return reply


def number_of(reply: Any, name: str) -> int | None:
    """Return an attribute of a reply that is a number above 0; None if it has no such."""
    value = getattr(reply, name, None)
    is_number = isinstance(value, int) and not isinstance(value, bool) and value > 0
    return value if is_number else None


def text_of(reply: Any, name: str) -> str:
    """Return an attribute of a reply that every reply of its kind has as text.

    Raises:
        ReplyError: If it does not.
    """
    value = getattr(not_text(reply), name, None)
    if not isinstance(value, str) or not is_id(value):
        raise ReplyError(f"the service's reply has no {name!r}")
    return value


def _read(source: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(source, name, None) for name in names}


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


def timeout_error(jobs: Sequence[Job], seconds: float) -> WaitTimeout:
    """Return an error for batches that are still running when the time is up."""
    pending = [job for job in jobs if not job.has_ended]
    first = pending[0] if pending else jobs[0]
    batches = counted(len(jobs), "batch", "batches")
    return WaitTimeout(
        f"{len(pending):,} of {batches} still running after {seconds:,g} seconds, "
        f"{first.path.name!r} is {first.state!r}",
        batch_id=first.batch_id,
        status=first.status,
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
    return WaitTimeout(problem, status=jobs[0].status)


def content_problem(file: IO[bytes], least: int) -> str | None:
    """Describe why a file of unknown size cannot be the result file of a batch."""
    lines, start, end = 0, b"", 0
    file.seek(0)
    while block := file.read(BLOCK):
        start = start or block.removeprefix(codecs.BOM_UTF8).lstrip()
        if newlines := block.count(b"\n"):
            lines, end = lines + newlines, file.tell() - len(block) + block.rindex(b"\n") + 1
    file.seek(end)
    rest = file.read()
    if start and not start.startswith(b"{"):
        return "the content does not begin with '{'"
    if rest and not _is_json(rest):
        return f"received {counted(lines, 'line')} and a part of the next"
    lines += bool(rest)
    return f"received {lines:,} of {counted(least, 'line')}" if lines < least else None


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (RecursionError, ValueError):
        return False
    return True
