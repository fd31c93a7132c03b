"""Describe a shard with its batch, and show a list of them as a card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from batch_frames.display import bar_html, card_html, counted, printable, table_html
from batch_frames.files.documents import file_hash
from batch_frames.files.rounds import RESULT_ENDINGS
from batch_frames.files.shards import Shard

__all__ = ["ENDED", "NO_BATCH", "Job", "Jobs", "Settings", "clean_facts", "distinct", "is_id"]


ENDED = ("completed", "failed", "expired", "cancelled")

JobStatus = Literal[
    "waiting",
    "validating",
    "in_progress",
    "finalizing",
    "completed",
    "failed",
    "expired",
    "cancelling",
    "cancelled",
]

WAITING: Final = "waiting"

TOKEN_LIMIT = "token_limit_exceeded"

BYTES_A_TOKEN = 4

MOST = (1 << 63) - 1

LATEST = 9_000_000_000
"""The last second that dates of all kinds can hold, in the year 2255."""

COUNTS = ("total", "completed", "failed", "input_tokens", "output_tokens")

TIMES = ("created_at", "expires_at", "started_at")

FILE_IDS = ("output_file_id", "error_file_id")

BATCH_FACTS = ("status", "batch_id", *COUNTS, *TIMES, *FILE_IDS, "errors")
"""What is stored of the service's batch."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a batch is created with, under the service's names.

    Attributes:
        metadata: Texts to attach to the batch.
        completion_window: The time in which it must end.
        output_expires_after: When its result files are deleted, in the service's terms.
        input_expires_after: When the uploaded shard is deleted, in the same terms.
        max_enqueued_tokens: Most tokens to have enqueued at once; None for any number.
    """

    metadata: Mapping[str, str] | None = None
    completion_window: str = "24h"
    output_expires_after: Mapping[str, Any] | None = None
    input_expires_after: Mapping[str, Any] | None = None
    max_enqueued_tokens: int | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Job:
    """A shard and its batch, as last reported by the service.

    The properties that describe its state, by ``status``::

        status                          is_unsent  in_flight  is_refused  has_ended  may_be_paid
        waiting, never tried            yes
        waiting, create was tried       yes                                          yes
        validating, in_progress, …                 yes                               yes
        failed for the token limit                            yes
        failed at validation                                              yes
        failed after it had begun                                         yes        yes
        completed, expired                                                yes        yes
        cancelled                                                         yes        yes
        cancelled before it was sent                                      yes

    Attributes:
        path: The shard.
        requests: Number of its requests.
        nbytes: Its size.
        endpoint: Path of the API that answers its requests.
        status: The service's status, or ``"waiting"`` until the shard is sent.
        batch_id: Id of the batch; None until there is one.
        total: Number of requests counted by the service; None while unknown.
        completed: How many of them were answered.
        failed: How many of them failed.
        output_file_id: Id of the output file; None if there is none.
        error_file_id: Id of the error file; None if there is none.
        created_at: When the batch was created, in seconds since 1970; None if unknown.
        expires_at: When the service gives up; None if unknown.
        input_tokens: Tokens read so far; None if unknown.
        output_tokens: Tokens written so far; None if unknown.
        errors: What the service found wrong with the shard: ``code``, ``line``, ``message`` and
            ``param``.
        token: Text in the metadata of the batch, by which it is found again.
        sha256: Hash of the shard's bytes when it was submitted.
        settings: What the batch is created with.
        file_id: Id of the uploaded shard.
        counted_tokens: How many input tokens its requests have; None if they were not counted.
        uploaded_at: When it was uploaded, by the service's clock, in seconds since 1970.
        tried_at: When creating the batch was first tried, in ISO 8601 and UTC.
        retried_at: When it was last tried.
        files: Names and sizes of the downloaded files.
        hashes: Their SHA-256 hashes by name, where known.
        started_at: When the service began with the requests; None if it has not, or does not say.
        account: Where the batch is: ``base_url`` and, if known, ``organization`` and ``project``.
        names: File names that the shard has had, the present one last.
        earlier: Ids of earlier batches of the same shard.
        earlier_files: Names and sizes of the files that were downloaded of these.
        save_id: What identifies the save for which it was last sent; empty if not known.
        steps: What was done and when, in order.
    """

    path: Path
    requests: int
    nbytes: int
    endpoint: str
    status: JobStatus = WAITING
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
    counted_tokens: int | None = field(default=None, compare=False)
    uploaded_at: int | None = field(default=None, compare=False)
    tried_at: str | None = field(default=None, compare=False)
    retried_at: str | None = field(default=None, compare=False)
    files: Mapping[str, int] = field(default_factory=dict, compare=False)
    hashes: Mapping[str, str] = field(default_factory=dict, compare=False)
    started_at: int | None = field(default=None, compare=False)
    account: Mapping[str, str] = field(default_factory=dict, compare=False)
    names: tuple[str, ...] = field(default=(), compare=False)
    earlier: tuple[str, ...] = field(default=(), compare=False)
    earlier_files: Mapping[str, int] = field(default_factory=dict, compare=False)
    save_id: str = field(default="", compare=False)
    steps: tuple[tuple[str, str], ...] = field(default=(), compare=False)

    @property
    def key(self) -> tuple[Path, str]:
        """What tells a job from all others: the folder of its shard, and the shard's bytes."""
        return self.path.absolute().parent.resolve(), self.sha256

    @property
    def shard(self) -> Shard:
        """The shard, as ``save_to_file`` returns it."""
        return Shard(self.path, self.requests, self.nbytes)

    @property
    def has_ended(self) -> bool:
        """Whether the batch will not change any more."""
        return self.status in ENDED and not self.is_refused

    @property
    def is_refused(self) -> bool:
        """Whether the batch failed only because too many tokens were enqueued."""
        return self.status == "failed" and any(e.get("code") == TOKEN_LIMIT for e in self.errors)

    @property
    def is_rejected(self) -> bool:
        """Whether the batch failed at validation, before any of its requests was answered."""
        has_begun = self.output_file_id or self.completed or self.started_at
        return self.status == "failed" and not has_begun and not self.is_refused

    @property
    def is_withdrawn(self) -> bool:
        """Whether the shard was cancelled before it had a batch."""
        return self.batch_id is None and self.status == "cancelled"

    @property
    def state(self) -> JobStatus:
        """The status, but ``"waiting"`` for a refused batch, which is to be created again."""
        return WAITING if self.is_refused else self.status

    @property
    def may_be_paid(self) -> bool:
        """Whether there is, or may be, a batch whose requests are or will be answered."""
        gone = self.is_rejected or self.is_refused or self.is_withdrawn
        return self.tried_at is not None and not gone

    @property
    def lacks_files(self) -> bool:
        """Whether the service counts answers of an ended batch but has not named their file."""
        named = self.output_file_id or (self.error_file_id and not self.completed)
        return self.has_ended and bool(self.completed or self.failed) and not named

    @property
    def needs_download(self) -> bool:
        """Whether there may be answers that have not been downloaded."""
        named = sum(file_id is not None for file_id in (self.output_file_id, self.error_file_id))
        is_complete = self.has_ended and not self.lacks_files and len(self.files) >= named
        return self.may_be_paid and not is_complete

    def has_file(self, name: str) -> bool:
        """Return whether a downloaded file is there as it was downloaded."""
        if not self._has_size(name):
            return False
        return name not in self.hashes or file_hash(self.path.with_name(name)) == self.hashes[name]

    def _has_size(self, name: str) -> bool:
        path = self.path.with_name(name)
        return path.is_file() and path.stat().st_size == self.files.get(name)

    @property
    def lacks_results(self) -> bool:
        """Whether it is pending, or a downloaded file with answers is gone or was cut."""
        answers = (name for name in self.files if not name.endswith(RESULT_ENDINGS[1]))
        return self.is_pending or not all(map(self._has_size, answers))

    @property
    def is_pending(self) -> bool:
        """Whether its requests may still get answers, or have some that were not downloaded."""
        return self.needs_download or not (self.has_ended or self.is_withdrawn)

    @property
    def is_unsent(self) -> bool:
        """Whether a batch is wanted and none is known."""
        return self.batch_id is None and self.status == WAITING

    @property
    def in_flight(self) -> bool:
        """Whether the service has the batch and is working on it."""
        return self.batch_id is not None and self.status not in ENDED

    @property
    def estimated_tokens(self) -> int:
        """Number of tokens, estimated at four bytes each if they were not counted."""
        rough = self.nbytes // BYTES_A_TOKEN
        return rough if self.counted_tokens is None else self.counted_tokens

    @property
    def place(self) -> str:
        """The shard and its batch, for messages."""
        return f"'{self.path}'" + (f" ({self.batch_id})" if self.batch_id else "")

    @property
    def submitted_text(self) -> str:
        """The beginning of messages about a shard that was submitted."""
        return f"'{self.path}' was submitted" + (f" as {self.batch_id}" if self.batch_id else "")

    def __repr__(self) -> str:
        done = "" if self.completed is None else f", completed={self.completed:,}"
        batch = f"batch_id={self.batch_id!r}, status={self.state!r}"
        return f"Job({self.path.name!r}, {batch}, requests={self.requests:,}{done})"


NO_BATCH = {one.name: one.default for one in fields(Job) if one.name in BATCH_FACTS}
"""What is stored of the batch of a shard that has none."""


class Jobs(list[Job]):
    """A list of jobs that a notebook shows as a card."""

    def _repr_html_(self) -> str:
        states = Counter[str](job.state for job in self)
        requests = Counter(dict.fromkeys(states, 0))
        for job in self:
            requests[job.state] += job.requests
        names = ("file", "batch", "status", "requests", "completed", "failed")
        rows = [(j.path.name, j.batch_id, j.state, j.requests, j.completed, j.failed) for j in self]
        title = f"Jobs: {counted(len(self), 'batch', 'batches')}"
        return card_html(title, self._facts(states), bar_html(requests), table_html(names, rows))

    def _facts(self, states: Mapping[str, int]) -> dict[str, str]:
        facts = {state: f"{count:,}" for state, count in states.items()}
        facts["requests"] = f"{sum(job.requests for job in self):,}"
        for name in ("completed", "failed", "input_tokens", "output_tokens"):
            counts = [count for job in self if (count := getattr(job, name)) is not None]
            is_tokens = name.endswith("_tokens")
            if any(counts) or (counts and not is_tokens):
                shown = name.replace("_", " ") if is_tokens else f"requests {name}"
                facts[shown] = f"{sum(counts):,}"
        open_until = [job.expires_at for job in self if job.in_flight and job.expires_at]
        if open_until:
            first = datetime.fromtimestamp(min(open_until), UTC)
            facts["expires"] = f"{first:%Y-%m-%d %H:%M} UTC"
        return facts


def clean_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return facts about a batch without those that cannot be true, which count as unknown.

    Services write counts as text, times in milliseconds, and more of the like.
    """
    clean = dict(facts)
    counts = (*COUNTS, "counted_tokens")
    clean |= {name: _whole(facts[name], MOST) for name in counts if name in facts}
    clean |= {name: _whole(facts[name], LATEST) for name in TIMES if name in facts}
    for name in FILE_IDS:
        if name in facts and not is_id(facts[name]):
            clean[name] = None
    if "errors" in facts:
        errors = facts["errors"] if isinstance(facts["errors"], (list, tuple)) else ()
        clean["errors"] = tuple(_error(error) for error in errors if isinstance(error, Mapping))
    return clean


def is_id(value: Any) -> bool:
    """Return whether a value can be the id of a batch or of a file."""
    return isinstance(value, str) and value.isprintable() and value.strip() != ""


def _whole(value: Any, most: int) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = int(value)
    except (OverflowError, ValueError):
        return None
    return number if 0 <= number <= most else None


def _error(error: Mapping[str, Any]) -> dict[str, Any]:
    texts = {name: error.get(name) for name in ("code", "message", "param")}
    clean = {name: None if text is None else printable(str(text)) for name, text in texts.items()}
    return {**clean, "line": _whole(error.get("line"), MOST) or None}


def distinct(jobs: Iterable[Job]) -> list[Job]:
    """Return one job for each batch: shards with the same bytes share one."""
    return list({job.key: job for job in jobs}.values())
