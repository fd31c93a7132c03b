"""Create one batch of each shard, whatever became of earlier tries."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

from batch_frames.batches.client import Service
from batch_frames.batches.replies import ReplyError, batch_facts, batches_of, number_of, text_of
from batch_frames.errors import BatchFramesError, MissingExtra
from batch_frames.files import NO_BATCH, Job, Record, Settings, is_id, new_token, now, read_lines

__all__ = ["TOKEN_KEY", "Sender", "check_settings", "counted_job", "delete_file", "send_again"]


TOKEN_KEY = "batch_frames"
"""The key in the metadata of a batch under which it has its job's token."""

SETTLE = 60.0
"""Seconds after the end of a try by which its batch, if there is one, is in the service's list."""

CLOCKS = 15 * 60
"""Most seconds by which clocks differ: the service's own, or those and ours."""

MOST_METADATA = 15

PAGE = 100

IF_NOT_OURS = "cancel that one, or copy the file to another folder to ask the same again"

NO_EXPIRY = {400: None, 422: None}

NO_FILE = {404: None, 405: True, 501: True}
"""What replies to a question about a file mean; services without that call have every file."""


def check_settings(settings: Settings) -> None:
    """Refuse settings that the service would refuse once shards are uploaded."""
    metadata, most = settings.metadata or {}, settings.max_enqueued_tokens
    texts = chain(*metadata.items()) if isinstance(metadata, Mapping) else [None]
    if not all(isinstance(text, str) for text in texts):
        problem = f"metadata must be a dict of texts, not {metadata!r}"
        raise TypeError(f"{problem}; an example is {{'project': 'reviews'}}")
    if TOKEN_KEY in metadata:
        raise ValueError(f"metadata: the key {TOKEN_KEY!r} is reserved; choose another")
    if len(metadata) > MOST_METADATA:
        raise ValueError(f"metadata must have at most {MOST_METADATA} keys, not {len(metadata):,}")
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
        raise ValueError(f"max_enqueued_tokens must be a whole number from 1, not {most!r}")


def counted_job(job: Job) -> Job:
    """Return a job with its tokens counted if there is a limit for them, and what counts them."""
    if job.settings.max_enqueued_tokens is None or job.counted_tokens is not None:
        return job
    return replace(job, counted_tokens=_counted_tokens(job.path, job.sha256))


@cache
def _counted_tokens(path: Path, sha256: str) -> int | None:
    """Count the tokens of a shard, at four bytes each where a request has images and the like."""
    # The commands start without what this needs.
    import pyarrow.compute as pc

    from batch_frames.requests import count_tokens

    total = 0
    try:
        for lines in read_lines(path) if path.is_file() else ():
            rough = pc.shift_right(pc.binary_length(lines.text), 2)
            tokens = count_tokens(lines.text)["input_tokens"]
            total += pc.sum(pc.coalesce(tokens, rough)).as_py() or 0
    except MissingExtra:
        return None
    return total or None


class Sender:
    """Upload shards and create their batches.

    After a try whose end is not known, the list of batches is looked at until ``SETTLE`` seconds
    have passed since its end, before there is another. A try of another process counts as ended
    when it is first looked for here. The time is that of a clock that does not jump.

    Args:
        service: Where to send.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._ends: dict[tuple[str, int], float] = {}
        self._tries: dict[str, int] = {}
        self._batches: list[Any] | None = None
        self._listed_at = self._listed_since = 0.0

    def advance(self, record: Record, job: Job) -> Job:
        """Take a job as far towards its batch as is possible now.

        Args:
            record: Where the job is noted; the caller has locked the job.
            job: A job without a batch.

        Returns:
            The job; still without a batch while an earlier try may have created one.

        Raises:
            openai.APIError: As the SDK says it. The job can be advanced again.
        """
        job = counted_job(job)
        tries = self._tries[job.token] = record.tries(job)
        if job.tried_at:
            job = self.found(record, job)
            if job.batch_id or self.seconds_left(job):
                return job
        job = self._uploaded(record, job)
        if record.begin_try(job, tries + 1):
            return self._create(record, job, tries + 1)
        # A process on another host was quicker; whether it has created the batch is not known yet.
        known = record.job(job.sha256, job.path) or job
        if known.file_id != job.file_id:
            delete_file(self._service, job)
        return replace(known, tried_at=known.tried_at or now())

    def found(self, record: Record, job: Job) -> Job:
        """Note the batch that an earlier try has created, if there is one in the list."""
        self._service.check_account(job)
        batch = self._find(record, job)
        # The service may have named the account only now.
        self._service.check_account(job)
        return job if batch is None else record.note(job, "found", **batch_facts(batch))

    def look_again(self) -> None:
        """Ask for the list of batches anew when it is next needed."""
        self._batches = None

    def seconds_left(self, job: Job) -> float:
        """Return for how long a batch may still turn up that an earlier try has created."""
        if not job.tried_at:
            return 0.0
        listed = time.monotonic() if self._batches is None else self._listed_at
        # Of a try by another process the end is not known.
        tries = self._tries.get(job.token, 0)
        end = self._ends.setdefault((job.token, tries), time.monotonic())
        return max(end + SETTLE - listed, 0.0)

    def _create(self, record: Record, job: Job, number: int) -> Job:
        self._tries[job.token] = number
        moment = now()
        job = record.note(job, "creating", tried_at=job.tried_at or moment, retried_at=moment)
        try:
            facts = self._service.call(
                lambda api: batch_facts(_create_call(job, api)), job=job, tries=1
            )
        except Exception as error:
            if not self._service.was_not_received(error):
                self._ends[job.token, number] = time.monotonic()
                raise
            if self._service.retry_pause(error) is None:
                record.note(job, "refused", tried_at=None, file_id=None)
                delete_file(self._service, job)
            else:
                record.note(job, "not created", tried_at=None)
            record.end_try(job, number)
            raise
        return record.note(job, "created", **facts)

    def _uploaded(self, record: Record, job: Job) -> Job:
        if job.file_id is not None:
            # The service keeps uploads for some time only.
            found = self._service.call(
                lambda api: api.files.retrieve(job.file_id),
                job=job,
                is_quick=True,
                instead=NO_FILE,
            )
            if found is not None:
                return job
        return self._upload(record, job)

    def _upload(self, record: Record, job: Job) -> Job:
        with job.path.open("rb") as file:
            # The open file stays the same even if another one takes its name in the meantime.
            if hashlib.file_digest(file, "sha256").hexdigest() != job.sha256:
                problem = f"'{job.path}' has changed while it waited to be sent"
                raise BatchFramesError(problem, hint="submit it again")

            def send(api: Any, **options: Any) -> Any:
                file.seek(0)
                reply = api.files.with_raw_response.create(
                    file=(job.path.name, file), purpose="batch", **options
                )
                self._service.learn_account(reply.headers)
                uploaded = reply.parse()
                return text_of(uploaded, "id"), number_of(uploaded, "created_at")

            expires = {"expires_after": dict(job.settings.input_expires_after or {})}
            uploaded = None
            if job.settings.input_expires_after:
                # Not every service lets uploads expire.
                uploaded = self._service.call(partial(send, **expires), job=job, instead=NO_EXPIRY)
            if uploaded is None:
                uploaded = self._service.call(send, job=job)
        # Before the service is asked for more, it is noted that a batch is being created.
        return record.after(
            job,
            "uploaded",
            file_id=uploaded[0],
            uploaded_at=uploaded[1],
            account=dict(self._service.account),
        )

    def _find(self, record: Record, job: Job) -> Any:
        """Find the batch that carries a job's token, or None.

        A service that keeps no metadata still reports which file a batch reads, and that one is
        ours.

        Raises:
            JobError: If there is none, and one of which neither can be read.
        """
        assert job.tried_at is not None
        # A batch is never older than its file, and both have their times from the same clock.
        tried = datetime.fromisoformat(job.tried_at).timestamp()
        oldest = min(job.uploaded_at or tried, tried) - CLOCKS
        listed = self._list(job, oldest)
        for batch in listed:
            by_file = getattr(batch, "input_file_id", None) == job.file_id
            is_ours = _metadata(batch).get(TOKEN_KEY) == job.token or by_file
            if is_ours and is_id(getattr(batch, "id", None)) and batch.id not in job.earlier:
                return batch
        unclear = [one for one in listed if _may_be(one, job, oldest)]
        known = {one.batch_id for one in record.jobs()} | {*job.earlier} if unclear else set()
        for batch in unclear:
            name = getattr(batch, "id", None)
            if not is_id(name) or name not in known:
                ours = f"{name if is_id(name) else 'one'} in the service's list may be its batch"
                problem = f"{ours}, as neither its metadata nor its file can be read"
                raise ReplyError(problem, job=job, hint=IF_NOT_OURS)
        return None

    def _list(self, job: Job, oldest: float) -> list[Any]:
        """List the batches since a time, which are asked for once until ``look_again``."""
        if self._batches is None or oldest < self._listed_since:
            self._listed_at, self._listed_since = time.monotonic(), oldest
            # One empty list may be a fault of a proxy; it would be paid for with a second batch.
            self._batches = self._all_since(job, oldest) or self._all_since(job, oldest)
        return self._batches

    def _all_since(self, job: Job, oldest: float) -> list[Any]:
        found: list[Any] = []
        ids: dict[str, None] = {}
        while True:
            after = {"after": [*ids][-1]} if ids else {}
            page, batches = self._service.call(partial(self._page, after), job=job, is_quick=True)
            found += batches
            new = [one.id for one in batches if is_id(getattr(one, "id", None))]
            if ids.keys() >= set(new):
                return found
            ids |= dict.fromkeys(new)
            times = [at for one in batches if (at := number_of(one, "created_at"))] or [int(oldest)]
            # Older ones follow only where the newest come first.
            if (times[0] > times[-1] < oldest) or page.has_more is False:
                return found

    def _page(self, after: Mapping[str, str], api: Any) -> tuple[Any, list[Any]]:
        reply = api.batches.with_raw_response.list(limit=PAGE, **after)
        self._service.learn_account(reply.headers)
        page = None
        # The SDK raises this for a reply that is null, text or an array.
        with suppress(AttributeError):
            page = reply.parse()
        return page, batches_of(page)


def _may_be_same(one: str, other: str) -> bool:
    """Return whether two ids may be of the same file, one of them in a longer form."""
    return one in other or other in one


def _metadata(batch: Any) -> dict[str, Any]:
    metadata = getattr(batch, "metadata", None)
    return metadata if isinstance(metadata, dict) else {}


def _may_be(batch: Any, job: Job, oldest: float) -> bool:
    """Return whether nothing tells that a batch in the list is not that of a job."""
    created, file_id = number_of(batch, "created_at"), getattr(batch, "input_file_id", None)
    is_older = created is not None and created < oldest
    tells_file = is_id(file_id) and not _may_be_same(str(file_id), str(job.file_id))
    has_no_answers = False
    with suppress(ReplyError):
        facts = batch_facts(batch)
        begun = facts["completed"] or facts["output_file_id"] or facts["started_at"]
        has_no_answers = facts["status"] in ("cancelled", "failed") and not begun
    return not (is_older or tells_file or has_no_answers or _metadata(batch))


def send_again(record: Record, job: Job) -> Job:
    """Note that a shard whose batch was given up is to get another one."""
    earlier = (*job.earlier, job.batch_id) if job.batch_id else job.earlier
    files = {**job.earlier_files, **job.files}
    facts: dict[str, Any] = {
        **NO_BATCH,
        "token": new_token(job.token),
        "tried_at": None,
        "files": {},
        "hashes": {},
    }
    facts |= {"earlier": earlier, "earlier_files": files}
    return record.note(job, "to be sent again", **facts)


def delete_file(service: Service, job: Job) -> None:
    """Delete an uploaded shard at the service; it expires there if that fails."""
    with suppress(Exception):
        service.call(lambda api: api.files.delete(job.file_id), job=job, tries=1, is_quick=True)


def _create_call(job: Job, api: Any) -> Any:
    options: dict[str, Any] = {"metadata": {**(job.settings.metadata or {}), TOKEN_KEY: job.token}}
    if job.settings.output_expires_after:
        options["output_expires_after"] = dict(job.settings.output_expires_after)
    return api.batches.create(
        input_file_id=job.file_id,
        endpoint=job.endpoint,
        completion_window=job.settings.completion_window,
        **options,
    )
