"""Describe a shard and its batch as a value, and a list of them as a card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from batch_frames.display import bar_html, card_html

__all__ = ["BATCH_FACTS", "ENDED", "Job", "Jobs", "Settings", "counted"]


ENDED = ("completed", "failed", "expired", "cancelled")

BATCH_FACTS = (
    "status",
    "batch_id",
    "total",
    "completed",
    "failed",
    "output_file_id",
    "error_file_id",
    "created_at",
    "expires_at",
    "input_tokens",
    "output_tokens",
    "errors",
)
"""What the service tells of a batch, by the names that a job has for it."""

WAITING = "waiting"

TOKEN_LIMIT = "token_limit_exceeded"

BYTES_A_TOKEN = 4

SHOWN = 20


@dataclass(frozen=True, slots=True)
class Settings:
    """Hold what a batch is created with, under the service's names.

    Attributes:
        metadata: Texts to attach to the batch.
        completion_window: The time in which it must end.
        output_expires_after: When its files may go, as the service takes it.
        max_enqueued_tokens: How many tokens may be with the service at once; None for any number.
    """

    metadata: Mapping[str, str] | None = None
    completion_window: str = "24h"
    output_expires_after: Mapping[str, Any] | None = None
    max_enqueued_tokens: int | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Job:
    """Know one shard and its batch, as the service last told.

    Attributes:
        path: The shard.
        requests: How many requests it holds.
        nbytes: Its size.
        endpoint: The path of the API that answers its requests.
        status: The service's word, or ``"waiting"`` while the shard waits for its turn.
        batch_id: The service's name of the batch; None until there is one.
        total: How many requests the service counts; None while it tells nothing.
        completed: How many of them were answered.
        failed: How many of them failed.
        output_file_id: The service's name of the output file; None if there is none.
        error_file_id: The service's name of the error file; None if there is none.
        created_at: When the batch was made, in seconds since 1970; None if not known.
        expires_at: When the service gives up; None if not known.
        input_tokens: Tokens read so far; None if not known.
        output_tokens: Tokens written so far; None if not known.
        errors: What the service found wrong with the shard: ``code``, ``line``, ``message`` and
            ``param``.
        token: What the batch carries in its metadata, so that it is found again.
        sha256: The hash of the shard's bytes when it was submitted.
        settings: What the batch is created with.
        file_id: The service's name of the uploaded shard, and
        uploaded_at: when it came, by the service's clock in seconds since 1970.
        tried_at: When it was first tried to create the batch, and
        retried_at: when last; ISO 8601 in UTC.
        files: Names and sizes of the files that were downloaded.
    """

    path: Path
    requests: int
    nbytes: int
    endpoint: str
    status: str = WAITING
    batch_id: str | None = None
    total: int | None = None
    completed: int | None = None
    failed: int | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: int | None = None
    expires_at: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    errors: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    token: str = ""
    sha256: str = ""
    settings: Settings = field(default_factory=Settings, hash=False)
    file_id: str | None = None
    uploaded_at: int | None = field(default=None, compare=False)
    tried_at: str | None = field(default=None, compare=False)
    retried_at: str | None = field(default=None, compare=False)
    files: Mapping[str, int] = field(default_factory=dict, compare=False)

    @property
    def has_ended(self) -> bool:
        """Tell whether nothing more will come of the batch."""
        return self.status in ENDED and not self.is_refused

    @property
    def is_refused(self) -> bool:
        """Tell whether the batch only had to go back because too many tokens were enqueued."""
        return self.status == "failed" and any(e.get("code") == TOKEN_LIMIT for e in self.errors)

    @property
    def state(self) -> str:
        """Give the status, which is ``"waiting"`` also when a batch has to be made once more."""
        return WAITING if self.is_refused else self.status

    @property
    def may_be_paid(self) -> bool:
        """Tell whether there is, or may be, a batch whose requests are or will be answered."""
        was_called_off = self.batch_id is None and self.status == "cancelled"
        return self.tried_at is not None and self.status != "failed" and not was_called_off

    @property
    def lacks_files(self) -> bool:
        """Tell whether the service counts answers of an ended batch, but names no file of them."""
        named = self.output_file_id or (self.error_file_id and not self.completed)
        return self.has_ended and bool(self.completed or self.failed) and not named

    @property
    def is_awaited(self) -> bool:
        """Tell whether there may be answers that have not been downloaded."""
        has_files = self.output_file_id is not None or self.error_file_id is not None
        is_brought = self.has_ended and not self.lacks_files and (self.files or not has_files)
        return self.may_be_paid and not is_brought

    @property
    def is_unsent(self) -> bool:
        """Tell whether no batch is known of, and one is wanted."""
        return self.batch_id is None and self.status == WAITING

    @property
    def in_flight(self) -> bool:
        """Tell whether the service has the batch and works on it."""
        return self.batch_id is not None and self.status not in ENDED

    @property
    def estimated_tokens(self) -> int:
        """Guess how many tokens the service will count, at four bytes each."""
        return self.nbytes // BYTES_A_TOKEN

    def __repr__(self) -> str:
        done = "" if self.completed is None else f", completed={self.completed:,}"
        batch = f"batch_id={self.batch_id!r}, status={self.state!r}"
        return f"Job({self.path.name!r}, {batch}, requests={self.requests:,}{done})"


class Jobs(list[Job]):
    """List jobs; a notebook shows them as a card."""

    def _repr_html_(self) -> str:
        states = Counter(job.state for job in self)
        requests = Counter(dict.fromkeys(states, 0))
        for job in self:
            requests[job.state] += job.requests
        lines = [_line(job) for job in self[:SHOWN]]
        if len(self) > SHOWN:
            lines.append(f"… and {len(self) - SHOWN:,} more")
        title = f"Jobs: {counted(len(self), 'batch', 'batches')}"
        return card_html(title, self._facts(states), "\n".join(lines), bar_html(requests))

    def _facts(self, states: Mapping[str, int]) -> dict[str, str]:
        facts = {state: f"{count:,}" for state, count in states.items()}
        facts["requests"] = f"{sum(job.requests for job in self):,}"
        for name in ("completed", "failed"):
            counts = [getattr(job, name) for job in self]
            if any(count is not None for count in counts):
                facts[f"requests {name}"] = f"{sum(count or 0 for count in counts):,}"
        for name in ("input_tokens", "output_tokens"):
            tokens = [getattr(job, name) for job in self]
            if any(tokens):
                facts[name.replace("_", " ")] = f"{sum(count or 0 for count in tokens):,}"
        open_until = [job.expires_at for job in self if job.in_flight and job.expires_at]
        if open_until:
            first = datetime.fromtimestamp(min(open_until), UTC)
            facts["expires"] = f"{first:%Y-%m-%d %H:%M} UTC"
        return facts


def _line(job: Job) -> str:
    done = (job.completed or 0) + (job.failed or 0)
    return f"{job.path.name}  {job.batch_id or '-'}  {job.state}  {done:,} of {job.requests:,}"


def counted(count: int, one: str, many: str) -> str:
    """Write a number with its noun.

    Example:
        >>> counted(1_200, "batch", "batches")
        '1,200 batches'
    """
    return f"{count:,} {one if count == 1 else many}"
