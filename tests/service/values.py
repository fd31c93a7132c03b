"""Describe what the service holds, and how it is to behave."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.service.answers import Body, error_body
from tests.service.checks import Error

DAY = 86_400
BLOCK = 1 << 18
FINAL = {"completed", "failed", "expired", "cancelled"}
STEPS = ("in_progress", "finalizing", "cancelling", *sorted(FINAL))

Answer = Callable[[Body], tuple[int, Any]]


class Refusal(Exception):  # noqa: N818
    """Say no with an HTTP status and an error body."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        kind = "server_error" if status >= 500 else None
        self.body = error_body(message, code=code, param=param, kind=kind)


@dataclass
class Settings:
    """Say how the service behaves; a test may change any of it at any time.

    A batch takes one step of its life at every `polls`-th time that it is retrieved, or,
    with `polls=None`, whenever the clock has been advanced by `stage_seconds`.
    `endings` says by the name of an uploaded file which batches end as `"expired"` instead
    of `"completed"`, or as `"failed"` with all their answers, or stay `"in_progress"` for ever.
    """

    polls: int | None = 1
    stage_seconds: float = 60
    endings: dict[str, str] = field(default_factory=dict)
    done: float = 0.5  # the part of the requests that ran before an expiry or a cancellation
    cancelled_lines: bool = False  # whether requests that a cancellation stopped have error lines
    answer: Answer | None = None  # body -> (HTTP status, body), instead of batch_answers
    fail_every: int | None = None  # every n-th request of a file fails with HTTP 500
    zero_every: int | None = None  # every n-th comes back with status 0
    seed: int = 0  # of the order of the lines that come back
    no_error_file: str | None = None  # what error_file_id is when there is none: None or ""
    null_counts: bool = False
    renamed: dict[str, str] = field(default_factory=dict)  # statuses, told under other names
    models: Collection[str] | None = None  # None: all there are
    most_requests: int = 50_000
    most_nbytes: int = 200_000_000
    enqueued_tokens: int | None = None  # the limit; four bytes of the file are a token
    unlisted: int = 0  # in how many listings a new batch is not to be seen yet
    list_lag: float = 0  # after how many seconds a new batch is to be seen in a listing
    fewer_bytes: int = 0  # by how many bytes the size of a result file is told too small
    organization: str | None = None  # named in the headers of every reply
    expiring_uploads: bool = True  # whether uploads take `expires_after`
    key: str | None = None  # None: any
    ranges: bool = True  # whether downloads may begin in the middle


class Clock:
    """Tell the time, ahead or behind by as much as it was moved."""

    def __init__(self) -> None:
        self.advanced = 0.0

    def advance(self, seconds: float) -> None:
        """Move the time; a negative number makes a clock that is slow."""
        self.advanced += seconds

    def now(self) -> int:
        """Tell the time in seconds since 1970."""
        return int(time.time() + self.advanced)


@dataclass(frozen=True)
class OnDisk:
    """Hold a file's content in a file."""

    path: Path
    nbytes: int

    def blocks(self, start: int) -> Iterator[bytes]:
        """Read the content from a byte on."""
        with self.path.open("rb") as file:
            file.seek(start)
            while block := file.read(BLOCK):
                yield block

    def lines(self) -> list[tuple[int, int]]:
        """Find where each line begins and ends, without its newline."""
        found, start = [], 0
        with self.path.open("rb") as file:
            for line in file:
                found.append((start, start + len(line.rstrip(b"\r\n"))))
                start += len(line)
        return found


@dataclass(frozen=True)
class Repeated:
    """Hold a file's content as one line and a number of times."""

    line: bytes
    times: int

    @property
    def nbytes(self) -> int:
        """Count the bytes of the whole."""
        return len(self.line) * self.times

    def blocks(self, start: int) -> Iterator[bytes]:
        """Generate the content from a byte on."""
        per_block = max(1, BLOCK // len(self.line))
        times, skip = self.times - start // len(self.line), start % len(self.line)
        while times > 0:
            count = min(times, per_block)
            yield (self.line * count)[skip:]
            times, skip = times - count, 0


@dataclass
class StoredFile:
    """Describe a file that the service holds."""

    content: OnDisk | Repeated
    filename: str
    purpose: str
    created_at: int
    sha256: str = ""
    deleted: bool = False
    expires_after: dict[str, str] = field(default_factory=dict)
    id: str = field(default_factory=lambda: f"file-{uuid4().hex[:24]}")

    def shown(self, settings: Settings) -> Body:
        """Show the file as the API does."""
        fewer = settings.fewer_bytes if self.purpose == "batch_output" else 0
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.content.nbytes - fewer,
            "created_at": self.created_at,
            "expires_at": self.created_at + 30 * DAY,
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
        }


@dataclass
class Batch:
    """Describe a batch: what it was made of, how far it is, and what it has cost."""

    endpoint: str
    input_file_id: str
    input_name: str
    input_sha256: str
    metadata: dict[str, str] | None
    created_at: int
    entered: float
    status: str = "validating"
    requests: int = 0
    """How many requests passed validation."""
    paid: int = 0
    """How many of them were run with success, which is what costs."""
    completed: int = 0
    failed: int = 0
    model: str | None = None
    usage: Body | None = None
    errors: list[Error] = field(default_factory=list)
    output_file_id: str | None = None
    error_file_id: str | None = None
    moments: dict[str, int] = field(default_factory=dict)
    ticks: int = 0
    listings: int = 0
    listed_from: float = 0
    tokens: int = 0
    id: str = field(default_factory=lambda: f"batch_{uuid4().hex}")

    def shown(self, settings: Settings) -> Body:
        """Show the batch as the API does."""
        counts = {"total": self.requests, "completed": self.completed, "failed": self.failed}
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "model": self.model,
            "errors": {"object": "list", "data": self.errors} if self.errors else None,
            "input_file_id": self.input_file_id,
            "completion_window": "24h",
            "status": settings.renamed.get(self.status, self.status),
            "output_file_id": self.output_file_id,
            "error_file_id": self.error_file_id,
            "created_at": self.created_at,
            "expires_at": self.created_at + DAY,
            **{f"{step}_at": self.moments.get(step) for step in STEPS},
            "request_counts": None if settings.null_counts else counts,
            "usage": self.usage,
            "metadata": self.metadata,
        }
