"""Read the service's replies, whatever is missing in them or has another type."""

from __future__ import annotations

from typing import Any, TypeVar

from batch_frames.errors import JobError
from batch_frames.files import Job, clean_facts, is_id

__all__ = ["ReplyError", "batch_facts", "batches_of", "not_text", "number_of", "text_of"]


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
