"""Wait for batches to finish, submitting the shards that are queued."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch_frames.batches.client import TORN, Service
from batch_frames.batches.replies import ReplyError, job_error, refused_error, timeout_error
from batch_frames.batches.send import Sender, send_again
from batch_frames.batches.status import job_list, retrieve
from batch_frames.batches.submit import send_waiting
from batch_frames.display import printable
from batch_frames.errors import SECONDS, BatchFramesError, check_argument
from batch_frames.files import RECORD, InUseError, Job, Jobs, Records, distinct, set_name
from batch_frames.progress import interrupt_hint, progress_bar, show_progress

if TYPE_CHECKING:
    from openai import OpenAI

__all__ = ["FIRST_POLL", "wait"]


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
    check_argument("poll", poll, *SECONDS)
    if poll is not None and not poll > 0:
        raise ValueError(f"poll must be a number of seconds above 0, not {poll!r}")
    listed = job_list(jobs, "wait")
    total = sum(job.requests for job in distinct(listed))
    how: dict[str, Any] = {"timeout": timeout, "progress": progress}
    bar = progress_bar("wait", total, progress)
    with Service(client, "wait", **how) as service, bar:
        waiter = Waiter(listed, service, bar, timeout, poll)
        with interrupt_hint("the batches are still running", waiter.again):
            found = waiter.run()
    if error := job_error(job for job in found if job.is_rejected):
        raise error
    return Jobs(found)


@dataclass
class Queue:
    """What is known of the service's token limit.

    Attributes:
        pause: Seconds until the next try after a refusal while none of the batches is running.
        room: Most tokens that the service is known to take; None while it has not refused any.
        refusals: How many refusals there were since a batch was running or has ended.
        ended: How many batches had ended at the last poll.
        not_before: When to try again after a refusal.
    """

    pause: float
    room: int | None = None
    refusals: int = 0
    ended: int = 0
    not_before: float = 0.0


class Waiter:
    """Follow jobs to their end, wherever their shards are.

    What the service reports is noted in the record if no other process has the job, so that two
    that wait do not block each other; each relies on what it was told itself.
    """

    def __init__(
        self, jobs: list[Job], service: Service, bar: Any, timeout: float | None, poll: float | None
    ) -> None:
        self._listed = jobs
        self._service, self._bar = service, bar
        self._sender = Sender(service)
        self._records = Records()
        self._jobs = Followed(jobs)
        self._timeout, self._poll = timeout, poll
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._first_pause = FIRST_POLL if poll is None else poll
        self._queue = Queue(self._first_pause)
        self._note = ""

    @property
    def again(self) -> str:
        """The call that waits for the same jobs."""
        paths = dict.fromkeys(
            job.path.with_name(set_name(job.path)[0] + ".jsonl") for job in self._listed
        )
        names = ", ".join(f'"{path.as_posix()}"' for path in paths)
        return f"call bf.wait(bf.load_jobs({names if len(paths) == 1 else f'[{names}]'}))"

    def run(self) -> list[Job]:
        """Poll all batches, with pauses in between, until they have ended or time is up."""
        pause = self._first_pause
        asked = list(self._jobs)
        while True:
            self._note = ""
            for job in asked:
                self._jobs.put(self._polled(job))
            self._learn_room()
            self._send()
            self._show(self._note)
            if self._jobs.ended == len(self._jobs):
                return self._as_listed()
            self._sleep(pause)
            # While none is running, others that wait may have sent or cancelled the rest.
            asked = list(self._jobs.running.values()) or list(self._jobs)
            if self._poll is None:
                pause = min(pause * POLL_GROWTH, LONGEST_POLL)

    def _as_listed(self) -> list[Job]:
        return [replace(self._jobs[job.key], path=job.path) for job in self._listed]

    def _polled(self, job: Job) -> Job:
        """Ask for a batch that is still running, and note what is new."""
        if job.has_ended and not job.lacks_files:
            return job
        record = self._records.of(job.path)
        # Another process may have seen it end, cancelled it, or created another batch.
        known = record.job(job.sha256, job.path)
        if known is None:
            problem = f"'{job.path}' is not in the record '{record.folder / RECORD}'"
            raise BatchFramesError(problem, hint="submit it first")
        if not (known.in_flight or known.lacks_files):
            return known
        # There is no last try: the service may be away for a part of the day.
        first = min(self._first_pause, 1.0)
        try:
            facts = retrieve(self._service, known, tries=None, first=first, pause=self._hold)
        except ReplyError as error:
            # It is asked again with the next poll, and the others are followed meanwhile.
            self._note = f"asking again after: {error}"
            return known
        # Counts alone are not noted: they change at every poll, for a day.
        if any(getattr(known, name) != facts[name] for name in NOTED):
            with suppress(InUseError), record.locked(known) as current:
                if current.batch_id == known.batch_id and not current.has_ended:
                    record.note(current, "status", **facts)
        return replace(known, **facts)

    def _learn_room(self) -> None:
        """Take what the service had when it refused more as the most that it takes."""
        queue, jobs, enqueued = self._queue, self._jobs, self._jobs.enqueued
        if jobs.ended != queue.ended:
            queue.ended, queue.refusals = jobs.ended, 0
        if jobs.is_refused_anew:
            jobs.is_refused_anew = False
            queue.room = enqueued
            if not enqueued:
                # Other batches of the account take the room: nothing tells when they end.
                queue.not_before = time.monotonic() + queue.pause
                queue.pause = min(REFUSED_GROWTH * queue.pause, LONGEST_REFUSED)
            queue.refusals = 0 if enqueued else queue.refusals + 1
        elif queue.room is not None and all(
            job.status != "validating" for job in jobs.running.values()
        ):
            queue.room = max(queue.room, enqueued)
            if enqueued:
                queue.pause, queue.refusals = self._first_pause, 0

    def _send(self) -> None:
        """Send what is waiting and, the smallest first, what was refused and fits by now."""
        queue, jobs = self._queue, self._jobs
        if jobs.refused and queue.refusals >= REFUSALS:
            refused = sorted(jobs.refused.values(), key=lambda job: job.estimated_tokens)
            raise refused_error(refused, queue.refusals)
        if time.monotonic() < queue.not_before:
            return
        self._send_waiting()
        # One that is never taken does not block the others.
        for job in list(jobs.take_refused(queue.room)):
            record = self._records.of(job.path)
            with suppress(InUseError), record.locked(job) as current:
                job = send_again(record, current) if current.is_refused else current
            jobs.put(job)
        self._send_waiting()

    def _send_waiting(self) -> None:
        jobs = self._jobs
        for job in send_waiting(
            self._sender,
            self._records,
            jobs.unsent(),
            enqueued=jobs.enqueued,
            failed=self._failed,
            room=self._queue.room,
        ):
            jobs.put(job)

    def _failed(self, job: Job, error: Exception) -> None:
        """Leave it to the next poll to try again, if that may help."""
        if self._service.retry_pause(error) is None:
            raise error

    def _hold(self, seconds: float, error: Exception) -> None:
        if isinstance(error, (ReplyError, *TORN)):
            raise error
        self._show(f"asking again after: {error}")
        self._sleep(seconds)

    def _sleep(self, seconds: float) -> None:
        """Sleep, but not beyond the end of the time allowed."""
        left = seconds if self._deadline is None else self._deadline - time.monotonic()
        if left <= 0:
            raise timeout_error(self._as_listed(), self._timeout or 0.0) from None
        time.sleep(min(seconds, left))

    def _show(self, note: str = "") -> None:
        """Show the number of answered requests, the statuses, and what holds the batches up."""
        jobs, bar = self._jobs, self._bar
        text = ", ".join(f"{count:,} {state}" for state, count in jobs.states.items() if count)
        done = min(jobs.answered, bar.total)
        show_progress(bar, done, printable(f"{text}; {note}" if note else text))


Key = tuple[Path, str]


class Followed:
    """Jobs by what is to be done with them, so that a poll costs what the running batches do.

    Attributes:
        running: The jobs to ask for.
        refused: Those whose batches were refused.
        is_refused_anew: Whether there are new ones among these since this was set to False.
        states: How many jobs are in each state.
        ended: How many have ended.
        answered: How many of their requests have an answer.
        enqueued: How many tokens of them the service has.
    """

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._jobs: dict[Key, Job] = {}
        self._tried: dict[Key, Job] = {}
        self._untried: dict[Key, Job] = {}
        self._smallest: list[tuple[int, int, Key]] = []
        self._numbers = count()
        self.running: dict[Key, Job] = {}
        self.refused: dict[Key, Job] = {}
        self.is_refused_anew = False
        self.states: Counter[str] = Counter()
        self.ended = self.answered = self.enqueued = 0
        for job in jobs:
            self.put(job)

    def __getitem__(self, key: Key) -> Job:
        return self._jobs[key]

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs.values())

    def __len__(self) -> int:
        return len(self._jobs)

    def put(self, job: Job) -> None:
        """Put a job in place of what was known of it."""
        key = job.key
        before = self._jobs.get(key)
        if before:
            self._count(before, -1)
        self._count(job, 1)
        self._jobs[key] = job
        was_refused = before is not None and before.is_refused and before.batch_id == job.batch_id
        self.is_refused_anew |= job.is_refused and not was_refused
        if job.is_refused and key not in self.refused:
            heappush(self._smallest, (job.estimated_tokens, next(self._numbers), key))
        for group, is_in in (
            (self.running, job.in_flight or job.lacks_files),
            (self.refused, job.is_refused),
            (self._tried, job.is_unsent and job.tried_at is not None),
            (self._untried, job.is_unsent and job.tried_at is None),
        ):
            if is_in:
                group[key] = job
            else:
                group.pop(key, None)

    def _count(self, job: Job, by: int) -> None:
        self.states[job.state] += by
        self.ended += by * job.has_ended
        self.answered += by * ((job.completed or 0) + (job.failed or 0))
        self.enqueued += by * job.in_flight * job.estimated_tokens

    def unsent(self) -> Iterator[Job]:
        """Yield the jobs without a batch: first those that the service may have already."""
        yield from self._tried.values()
        yield from self._untried.values()

    def take_refused(self, room: int | None) -> Iterator[Job]:
        """Take out refused jobs, the smallest first, as long as there is room for their tokens."""
        enqueued = self.enqueued
        while self._smallest:
            tokens, _, key = self._smallest[0]
            if enqueued and room is not None and enqueued + tokens > room:
                return
            heappop(self._smallest)
            if job := self.refused.pop(key, None):
                enqueued += tokens
                yield job
