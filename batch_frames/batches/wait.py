"""Follow batches to their end, and send the shards that wait for their turn."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from batch_frames.batches.client import Service, pauses
from batch_frames.batches.failures import failure_text, failures, job_error
from batch_frames.batches.job import Job, Jobs, counted
from batch_frames.batches.ledger import Ledger
from batch_frames.batches.status import job_list, retrieve
from batch_frames.batches.submit import send_anew, send_waiting
from batch_frames.errors import BatchFramesError, JobError, WaitTimeout
from batch_frames.files import ledger_path
from batch_frames.progress import how_to_go_on

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
    """Wait until all batches have ended, and send the shards that wait for their turn meanwhile.

    The process may be stopped and another go on, with ``wait(load_jobs("out/reviews.jsonl"))``.
    While the service is not reached or overloaded, it is asked again with growing pauses. A batch
    that failed because too many tokens were enqueued is made again once others have ended.

    Args:
        jobs: What ``submit`` or ``load_jobs`` returned.
        client: As for ``submit``.
        timeout: Seconds after which to give up; None waits for ever.
        poll: Seconds between two looks; None looks after three seconds, and then less and less
            often, at last every minute.
        progress: Whether to show a progress bar; None shows it after two seconds.

    Returns:
        The jobs in the same order, all of them ended: ``completed``, ``expired`` or ``cancelled``.

    Raises:
        JobError: If batches failed at validation, once all the others have ended. It names shard,
            line, ``custom_id`` and row of what the service found wrong, and ``errors`` lists all.
            Or if one is refused for its tokens again and again while no other is under way.
        WaitTimeout: If they have not ended in time; they go on.
        openai.APIError: As the SDK says it, when asking again is no use.
        ValueError: If ``poll`` is not above 0.
    """
    if poll is not None and not poll > 0:
        raise ValueError(f"poll must be a number of seconds above 0, not {poll!r}")
    listed = job_list(jobs, "wait")
    by_ledger: dict[Path, list[str]] = {}
    for job in listed:
        by_ledger.setdefault(ledger_path(job.path), []).append(job.path.name)
    bar = tqdm(
        desc="wait",
        total=sum(job.requests for job in {job.token: job for job in listed}.values()),
        unit=" requests",
        delay=0 if progress else 2,
        disable=progress is False,
    )
    clock = Clock(timeout, poll, Bar(bar, 0 if progress else 2))
    paths = ", ".join(f'"{path.as_posix()}"' for path in by_ledger)
    go_on = f"bf.wait(bf.load_jobs({paths if len(by_ledger) == 1 else f'[{paths}]'}))"
    told = how_to_go_on(f"the batches go on; to follow them again, {go_on}")
    with Service(client, "wait") as service, told, bar:
        watches = {path: Watch(path, names, service, clock) for path, names in by_ledger.items()}
        clock.run(list(watches.values()), go_on)
    found = [watches[ledger_path(job.path)].job(job.path) for job in listed]
    if error := job_error(job for job in found if job.status == "failed"):
        raise error
    return Jobs(found)


class Bar:
    """Show how far the batches are, and a note on what holds them up."""

    def __init__(self, bar: Any, delay: float) -> None:
        self._bar = bar
        self._from = time.monotonic() + delay

    def show(self, jobs: Iterable[Job], note: str = "") -> None:
        """Show the answered requests, and how many batches stand where."""
        states: dict[str, int] = {}
        done = 0
        for job in {job.token: job for job in jobs}.values():
            states[job.state] = states.get(job.state, 0) + 1
            done += (job.completed or 0) + (job.failed or 0)
        text = ", ".join(f"{count:,} {status}" for status, count in states.items())
        self._bar.n = min(done, self._bar.total)
        self._bar.set_postfix_str(f"{text}; {note}" if note else text, refresh=False)
        if time.monotonic() >= self._from and not self._bar.disable:
            self._bar.refresh()


class Clock:
    """Look at all ledgers in turn, with pauses between, until all has ended or time is up."""

    def __init__(self, timeout: float | None, poll: float | None, bar: Bar) -> None:
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._timeout, self._poll = timeout, poll
        self._bar = bar
        self._watches: list[Watch] = []
        self._go_on = ""
        self.first_pause = FIRST_POLL if poll is None else poll

    def run(self, watches: list[Watch], go_on: str) -> None:
        """Follow the jobs of some ledgers to their end."""
        self._watches, self._go_on = watches, go_on
        pause = self.first_pause
        while True:
            for watch in watches:
                watch.look()
            self._bar.show(self._jobs())
            if all(job.has_ended for job in self._jobs()):
                return
            self.sleep(pause)
            if self._poll is None:
                pause = min(pause * POLL_GROWTH, LONGEST_POLL)

    def hold(self, seconds: float, note: str) -> None:
        """Pause because of something that a user should see."""
        self._bar.show(self._jobs(), note)
        self.sleep(seconds)

    def sleep(self, seconds: float) -> None:
        """Pause, but not beyond the end of the time allowed.

        Raises:
            WaitTimeout: If there is no time left.
        """
        left = seconds if self._deadline is None else self._deadline - time.monotonic()
        if left <= 0:
            raise self._timed_out() from None
        time.sleep(min(seconds, left))

    def is_flying(self) -> bool:
        """Tell whether the service has a batch of any ledger."""
        return any(job.in_flight for job in self._jobs())

    def _jobs(self) -> list[Job]:
        return [job for watch in self._watches for job in watch.jobs()]

    def _timed_out(self) -> WaitTimeout:
        jobs = self._jobs()
        going = [job for job in jobs if not job.has_ended]
        first = going[0] if going else jobs[0]
        batches = counted(len(jobs), "batch", "batches")
        return WaitTimeout(
            f"{len(going):,} of {batches} had not ended after {self._timeout:,g} seconds, "
            f"{first.path.name!r} is {first.state!r}; to wait on, {self._go_on}",
            batch_id=first.batch_id,
            status=first.status,
        )


class Watch:
    """Follow the jobs of one ledger.

    What the service tells is noted in the ledger when no other process has it, so that two that
    wait do not get into each other's way; each goes by what it was told itself.
    """

    def __init__(self, path: Path, shards: list[str], service: Service, clock: Clock) -> None:
        self._ledger = Ledger(path)
        self._shards = shards
        self._service, self._clock = service, clock
        self._told: dict[str, dict[str, Any]] = {}
        self._new: set[str] = set()
        self._refused: set[str] = set()
        self._room: int | None = None
        self._refused_pause = clock.first_pause
        self._refusals = self._ended = 0
        self._not_before = 0.0

    def job(self, path: Path) -> Job:
        """Give the job of a shard as it stands."""
        job = self._ledger.job_of(path.name)
        if job is None:
            raise BatchFramesError(f"'{self._ledger.path}' knows nothing of '{path}'; submit it")
        return replace(job, path=path, **self._news_of(job))

    def _news_of(self, job: Job) -> dict[str, Any]:
        told = self._told.get(job.token, {})
        # Another process may have heard of its end, cancelled it, or made it anew.
        is_over = job.has_ended and not job.lacks_files
        return {} if is_over or told.get("batch_id") != job.batch_id else told

    def jobs(self) -> list[Job]:
        """Give all jobs that are followed."""
        return [self.job(self._ledger.path.with_name(shard)) for shard in self._shards]

    def look(self) -> None:
        """Ask for each batch that has not ended; note what is new, and send what waits."""
        self._ledger.reload()
        for job in {job.token: job for job in self.jobs()}.values():
            if job.in_flight or job.lacks_files:
                self._ask(job)
        self._learn_room()
        waiting = any(job.is_unsent or job.is_refused for job in self.jobs())
        if not self._new and not waiting:
            return
        with ExitStack() as stack:
            try:
                stack.enter_context(self._ledger.locked(patience=0))
            except BatchFramesError:
                return
            self._note()
            self._send()

    def _ask(self, job: Job) -> None:
        """Ask for a batch until there is an answer."""
        for pause in pauses(min(self._clock.first_pause, 1.0)):
            try:
                # One try, since the clock makes the pauses.
                facts = retrieve(self._service, job, tries=1)
                break
            except Exception as error:
                asked = self._service.retry_pause(error)
                if asked is None:
                    raise
                self._clock.hold(max(asked, pause), f"asking again after: {error}")
        self._told[job.token] = facts
        # Counts alone are not noted: they change at every look, for a day.
        if any(getattr(job, name) != facts[name] for name in NOTED):
            self._new.add(job.token)

    def _learn_room(self) -> None:
        """Take what was with the service when it refused more as the most that it takes."""
        jobs = {job.token: job for job in self.jobs()}.values()
        flying = self._flying()
        refused = {job.token for job in jobs if job.is_refused}
        ended = sum(job.has_ended for job in jobs)
        if ended != self._ended:
            self._ended, self._refusals = ended, 0
        if refused - self._refused:
            self._refused = refused
            self._room = flying
            if not flying:
                # Batches that are not ours have the room: nothing tells when they end.
                self._not_before = time.monotonic() + self._refused_pause
                self._refused_pause = min(REFUSED_GROWTH * self._refused_pause, LONGEST_REFUSED)
            self._refusals = 0 if self._clock.is_flying() else self._refusals + 1
        elif self._room is not None and all(job.status != "validating" for job in jobs):
            self._room = max(self._room, flying)
            if flying:
                self._refused_pause = self._clock.first_pause
                self._refusals = 0

    def _note(self) -> None:
        for job in self._ledger.jobs:
            if job.token in self._new and (news := self._news_of(job)):
                self._ledger.note("status", job, **news)
        self._new.clear()

    def _send(self) -> None:
        jobs = self._ledger.jobs_of(self._shards)
        # The smallest first, so that one that is never taken holds up no other.
        refused = sorted((j for j in jobs if j.is_refused), key=lambda job: job.estimated_tokens)
        if refused and self._refusals >= REFUSALS:
            raise self._given_up(refused)
        if time.monotonic() < self._not_before:
            return
        try:
            self._send_unsent()
            for job in refused:
                if self._has_room(job):
                    send_anew(self._ledger, job)
                    self._send_unsent()
        except Exception as error:
            # The next look tries again.
            if self._service.retry_pause(error) is None:
                raise

    def _given_up(self, refused: list[Job]) -> JobError:
        errors = [error for job in refused for error in failures(job)]
        return JobError(
            f"refused {self._refusals:,} times with none of these batches under way: "
            f"{failure_text(errors[0])}; wait again once others have ended, "
            "or save smaller files with limits=bf.Limits(nbytes=…)",
            batch_id=refused[0].batch_id,
            status=refused[0].status,
            errors=errors,
        )

    def _send_unsent(self) -> None:
        send_waiting(
            self._service, self._ledger, self._shards, flying=self._flying(), room=self._room
        )

    def _has_room(self, job: Job) -> bool:
        flying = self._flying()
        return not flying or self._room is None or flying + job.estimated_tokens <= self._room

    def _flying(self) -> int:
        jobs = {job.token: job for job in self.jobs()}.values()
        return sum(job.estimated_tokens for job in jobs if job.in_flight)
