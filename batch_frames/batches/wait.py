"""Wait for batches to finish, submitting the shards that are queued."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch_frames.batches.client import Service
from batch_frames.batches.failures import failures, failures_text, job_error
from batch_frames.batches.job import Job, Jobs, distinct
from batch_frames.batches.ledger import Ledger
from batch_frames.batches.status import job_list, retrieve
from batch_frames.batches.submit import send_again, send_waiting
from batch_frames.display import counted
from batch_frames.errors import BatchFramesError, JobError, WaitTimeout
from batch_frames.files import ledger_path
from batch_frames.progress import interrupt_hint, progress_bar

if TYPE_CHECKING:
    from openai import OpenAI

__all__ = ["wait"]


FIRST_POLL, LONGEST_POLL, POLL_GROWTH = 3.0, 60.0, 1.3

REFUSALS, REFUSED_GROWTH, LONGEST_REFUSED = 5, 4, 600.0

NOTED = ("status", "output_file_id", "error_file_id", "errors")


def wait(
    jobs: Job | Iterable[Job],
    *,
    client: OpenAI | None = None,
    timeout: float | None = None,
    poll: float | None = None,
    progress: bool | None = None,
) -> list[Job]:
    """Wait for all batches to finish, submitting queued shards as capacity frees up.

    The process may be stopped and another one continue, with
    ``wait(load_jobs("out/reviews.jsonl"))``. While the service cannot be reached or is overloaded,
    it is asked again with growing pauses. A batch that failed because too many tokens were enqueued
    is created again once others have ended.

    Args:
        jobs: What ``submit`` or ``load_jobs`` returned.
        client: As for ``submit``.
        timeout: Seconds after which to give up; None waits without limit.
        poll: Seconds between polls; None starts at 3 s and backs off to 60 s.
        progress: Whether to show a progress bar; None shows it after two seconds.

    Returns:
        The jobs in the same order, all of them ended: ``completed``, ``expired`` or ``cancelled``.

    Raises:
        JobError: If batches failed at validation, once all the others have ended. It names shard,
            line, ``custom_id`` and row of what the service found wrong, and ``errors`` lists all.
            Or if one is refused for its tokens again and again while no other is running.
        WaitTimeout: If batches are still running at the end of ``timeout``; they continue.
        openai.APIError: Passed through from the SDK, if asking again would not help.
        ValueError: If ``poll`` is not above 0.
    """
    if poll is not None and not poll > 0:
        raise ValueError(f"poll must be a number of seconds above 0, not {poll!r}")
    listed = job_list(jobs, "wait")
    total = sum(job.requests for job in distinct(listed))
    with Service(client, "wait") as service, progress_bar("wait", total, progress) as bar:
        waiter = Waiter(listed, service, bar, timeout, poll)
        with interrupt_hint(f"the batches are still running; to keep waiting, {waiter.again}"):
            found = waiter.run()
    if error := job_error(job for job in found if job.status == "failed"):
        raise error
    return Jobs(found)


@dataclass
class Queue:
    """The shards of one ledger, and what is known of the service's token limit for them.

    Attributes:
        ledger: The ledger.
        pause: Seconds until the next try after a refusal while none of the batches is running.
        shards: File names of the shards.
        unnoted: Tokens of the jobs with news that is not in the ledger yet.
        refused: Tokens of the jobs that were refused at the last poll.
        room: Most tokens that the service is known to take; None while it has not refused any.
        refusals: How many refusals there were since a batch was running or has ended.
        ended: How many batches had ended at the last poll.
        not_before: When to try again after a refusal.
    """

    ledger: Ledger
    pause: float
    shards: list[str] = field(default_factory=list)
    unnoted: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    room: int | None = None
    refusals: int = 0
    ended: int = 0
    not_before: float = 0.0


class Waiter:
    """Follow jobs to their end, whatever ledgers they are in.

    What the service reports is noted in a ledger if no other process holds it, so that two that
    wait do not block each other; each relies on what it was told itself.
    """

    def __init__(
        self, jobs: list[Job], service: Service, bar: Any, timeout: float | None, poll: float | None
    ) -> None:
        self._paths = [job.path for job in jobs]
        self._service, self._bar = service, bar
        self._timeout, self._poll = timeout, poll
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._first_pause = FIRST_POLL if poll is None else poll
        self._reported: dict[str, dict[str, Any]] = {}
        self._queues: dict[Path, Queue] = {}
        for path in map(ledger_path, self._paths):
            if path not in self._queues:
                self._queues[path] = Queue(Ledger(path), self._first_pause)
        for path in self._paths:
            self._queues[ledger_path(path)].shards.append(path.name)

    @property
    def again(self) -> str:
        """The call that waits for the same jobs."""
        paths = ", ".join(f'"{path.as_posix()}"' for path in self._queues)
        return f"call bf.wait(bf.load_jobs({paths if len(self._queues) == 1 else f'[{paths}]'}))"

    def run(self) -> list[Job]:
        """Poll all batches, with pauses in between, until they have ended or time is up."""
        pause = self._first_pause
        while True:
            for queue in self._queues.values():
                self._poll_queue(queue)
            self._show()
            if all(job.has_ended for job in self._jobs()):
                return [self._job_of(path) for path in self._paths]
            self._sleep(pause)
            if self._poll is None:
                pause = min(pause * POLL_GROWTH, LONGEST_POLL)

    def _job_of(self, path: Path) -> Job:
        ledger = self._queues[ledger_path(path)].ledger
        job = ledger.job_of(path.name)
        if job is None:
            raise BatchFramesError(
                f"'{path}' is not in the ledger '{ledger.path}'", hint="submit it first"
            )
        return replace(job, path=path, **self._news_of(job))

    def _news_of(self, job: Job) -> dict[str, Any]:
        news = self._reported.get(job.token, {})
        # Another process may have seen it end, cancelled it, or created another batch.
        is_over = job.has_ended and not job.lacks_files
        return {} if is_over or news.get("batch_id") != job.batch_id else news

    def _jobs(self, queue: Queue | None = None) -> list[Job]:
        """Return the current jobs, each batch once, of one queue or of all."""
        queues = self._queues.values() if queue is None else [queue]
        paths = ([one.ledger.path.with_name(shard) for shard in one.shards] for one in queues)
        return [job for listed in paths for job in distinct(map(self._job_of, listed))]

    def _enqueued(self, queue: Queue) -> int:
        """Return how many tokens of a queue the service has."""
        return sum(job.estimated_tokens for job in self._jobs(queue) if job.in_flight)

    def _poll_queue(self, queue: Queue) -> None:
        """Ask for each batch that is still running; note what is new, and send what is queued."""
        queue.ledger.reload()
        for job in self._jobs(queue):
            if job.in_flight or job.lacks_files:
                # There is no last try: the service may be away for a part of the day.
                first = min(self._first_pause, 1.0)
                facts = retrieve(self._service, job, tries=None, first=first, pause=self._hold)
                self._reported[job.token] = facts
                # Counts alone are not noted: they change at every poll, for a day.
                if any(getattr(job, name) != facts[name] for name in NOTED):
                    queue.unnoted.add(job.token)
        self._learn_room(queue)
        if queue.unnoted or any(job.is_unsent or job.is_refused for job in self._jobs(queue)):
            with ExitStack() as stack:
                try:
                    stack.enter_context(queue.ledger.locked(patience=0))
                except BatchFramesError:
                    return
                self._note(queue)
                self._send(queue)

    def _learn_room(self, queue: Queue) -> None:
        """Take what the service had when it refused more as the most that it takes."""
        jobs, enqueued = self._jobs(queue), self._enqueued(queue)
        refused = {job.token for job in jobs if job.is_refused}
        ended = sum(job.has_ended for job in jobs)
        if ended != queue.ended:
            queue.ended, queue.refusals = ended, 0
        if refused - queue.refused:
            queue.refused = refused
            queue.room = enqueued
            if not enqueued:
                # Other batches of the account take the room: nothing tells when they end.
                queue.not_before = time.monotonic() + queue.pause
                queue.pause = min(REFUSED_GROWTH * queue.pause, LONGEST_REFUSED)
            any_runs = any(job.in_flight for job in self._jobs())
            queue.refusals = 0 if any_runs else queue.refusals + 1
        elif queue.room is not None and all(job.status != "validating" for job in jobs):
            queue.room = max(queue.room, enqueued)
            if enqueued:
                queue.pause, queue.refusals = self._first_pause, 0

    def _note(self, queue: Queue) -> None:
        for job in queue.ledger.jobs:
            if job.token in queue.unnoted and (news := self._news_of(job)):
                queue.ledger.note("status", job, **news)
        queue.unnoted.clear()

    def _send(self, queue: Queue) -> None:
        jobs = queue.ledger.jobs_of(queue.shards)
        # The smallest first, so that one that is never taken does not block the others.
        refused = sorted((j for j in jobs if j.is_refused), key=lambda job: job.estimated_tokens)
        if refused and queue.refusals >= REFUSALS:
            raise _refused_error(refused, queue.refusals)
        if time.monotonic() < queue.not_before:
            return
        try:
            self._send_unsent(queue)
            for job in refused:
                enqueued = self._enqueued(queue)
                fits = queue.room is None or enqueued + job.estimated_tokens <= queue.room
                if fits or not enqueued:
                    send_again(queue.ledger, job)
                    self._send_unsent(queue)
        except Exception as error:
            # The next poll tries again.
            if self._service.retry_pause(error) is None:
                raise

    def _send_unsent(self, queue: Queue) -> None:
        enqueued = self._enqueued(queue)
        send_waiting(self._service, queue.ledger, queue.shards, enqueued, room=queue.room)

    def _hold(self, seconds: float, error: Exception) -> None:
        self._show(f"asking again after: {error}")
        self._sleep(seconds)

    def _sleep(self, seconds: float) -> None:
        """Sleep, but not beyond the end of the time allowed."""
        left = seconds if self._deadline is None else self._deadline - time.monotonic()
        if left <= 0:
            raise self._timed_out() from None
        time.sleep(min(seconds, left))

    def _timed_out(self) -> WaitTimeout:
        jobs = [self._job_of(path) for path in self._paths]
        pending = [job for job in jobs if not job.has_ended]
        first = pending[0] if pending else jobs[0]
        batches = counted(len(jobs), "batch", "batches")
        return WaitTimeout(
            f"{len(pending):,} of {batches} still running after {self._timeout:,g} seconds, "
            f"{first.path.name!r} is {first.state!r}",
            batch_id=first.batch_id,
            status=first.status,
            hint=f"to keep waiting, {self.again}",
        )

    def _show(self, note: str = "") -> None:
        """Show the number of answered requests, the statuses, and what holds the batches up."""
        jobs, bar = self._jobs(), self._bar
        states = Counter(job.state for job in jobs)
        text = ", ".join(f"{count:,} {status}" for status, count in states.items())
        bar.n = min(sum((job.completed or 0) + (job.failed or 0) for job in jobs), bar.total)
        bar.set_postfix_str(f"{text}; {note}" if note else text, refresh=False)
        if not bar.disable and time.time() >= bar.start_t + bar.delay:
            bar.refresh()


def _refused_error(refused: list[Job], refusals: int) -> JobError:
    errors = [error for job in refused for error in failures(job)]
    return JobError(
        f"refused {refusals:,} times with none of these batches running: "
        f"{failures_text(errors[:1])}",
        batch_id=refused[0].batch_id,
        status=refused[0].status,
        errors=errors,
        hint="wait again once others have ended, or save smaller files with "
        "limits=bf.Limits(nbytes=…)",
    )
