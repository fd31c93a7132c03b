"""Keep jobs that are followed apart by what is to be done with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from itertools import count
from pathlib import Path

from batch_frames.files import Job

__all__ = ["Followed"]


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
