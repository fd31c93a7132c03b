"""Create one batch of each shard, whatever became of earlier tries."""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from batch_frames.batches.client import ReplyError, Service, batch_facts, text_of
from batch_frames.errors import BatchFramesError
from batch_frames.files import NO_BATCH, Job, Record, new_token, now

__all__ = ["TOKEN_KEY", "Sender", "delete_file", "send_again"]


TOKEN_KEY = "batch_frames"
"""The key in the metadata of a batch under which it has its job's token."""

SETTLE = 60.0
"""Seconds after the end of a try by which its batch, if there is one, is in the service's list."""

CLOCKS = 15 * 60
"""Most seconds by which clocks differ: the service's own, or those and ours."""

PAGE = 100

NO_EXPIRY = {400: None, 422: None}

NO_FILE = {404: None, 405: True, 501: True}
"""What replies to a question about a file mean; services without that call have every file."""


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
            delete_file(self._service, job.file_id)
        return replace(known, tried_at=known.tried_at or now())

    def found(self, record: Record, job: Job) -> Job:
        """Note the batch that an earlier try has created, if there is one in the list."""
        self._service.check_account(job)
        batch = self._find(job)
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
            facts = self._service.call(lambda api: batch_facts(_create_call(job, api)), tries=1)
        except Exception as error:
            if not self._service.was_not_received(error):
                self._ends[job.token, number] = time.monotonic()
                raise
            if self._service.retry_pause(error) is None:
                record.note(job, "refused", tried_at=None, file_id=None)
                delete_file(self._service, job.file_id)
            else:
                record.note(job, "not created", tried_at=None)
            record.end_try(job, number)
            raise
        return record.note(job, "created", **facts)

    def _uploaded(self, record: Record, job: Job) -> Job:
        if job.file_id is not None:
            # The service keeps uploads for some time only.
            found = self._service.call(
                lambda api: api.files.retrieve(job.file_id), is_quick=True, instead=NO_FILE
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
                text_of(uploaded, "id")
                return uploaded

            expires = {"expires_after": dict(job.settings.input_expires_after or {})}
            uploaded = None
            if job.settings.input_expires_after:
                # Not every service lets uploads expire.
                uploaded = self._service.call(partial(send, **expires), instead=NO_EXPIRY)
            if uploaded is None:
                uploaded = self._service.call(send)
        # Before the service is asked for more, it is noted that a batch is being created.
        return record.after(
            job,
            "uploaded",
            file_id=uploaded.id,
            uploaded_at=getattr(uploaded, "created_at", None),
            account=dict(self._service.account),
        )

    def _find(self, job: Job) -> Any:
        """Find the batch that carries a job's token, or None.

        A service that keeps no metadata still reports which file a batch reads, and that one is
        ours.
        """
        assert job.tried_at is not None
        # A batch is never older than its file, and both have their times from the same clock.
        oldest = job.uploaded_at or datetime.fromisoformat(job.tried_at).timestamp()
        for batch in self._list(oldest - CLOCKS):
            metadata = batch.metadata if isinstance(batch.metadata, dict) else {}
            by_file = batch.input_file_id == job.file_id and batch.id not in job.earlier
            if metadata.get(TOKEN_KEY) == job.token or by_file:
                return batch
        return None

    def _list(self, oldest: float) -> list[Any]:
        """List the batches since a time, which are asked for once until ``look_again``."""
        if self._batches is None or oldest < self._listed_since:
            self._listed_at, self._listed_since = time.monotonic(), oldest
            self._batches = self._all_since(oldest)
        return self._batches

    def _all_since(self, oldest: float) -> list[Any]:
        page: Any = None
        found: dict[str, Any] = {}
        while True:
            page = self._service.call(partial(self._next_page, page), is_quick=True)
            batches = [batch for batch in page.data or [] if getattr(batch, "id", None)]
            if found.keys() >= {batch.id for batch in batches}:
                return list(found.values())
            found |= {batch.id: batch for batch in batches}
            times = [batch.created_at for batch in batches if batch.created_at] or [oldest]
            # Older ones follow only where the newest come first.
            if (times[0] > times[-1] < oldest) or not page.has_next_page():
                return list(found.values())

    def _next_page(self, page: Any, api: Any) -> Any:
        if page is None:
            reply = api.batches.with_raw_response.list(limit=PAGE)
            self._service.learn_account(reply.headers)
            ask = reply.parse
        else:
            ask = page.get_next_page
        page = None
        # The SDK raises this for a reply that is null, text or an array.
        with suppress(AttributeError):
            page = ask()
        # An empty list may be null; any other reply does not mean that there is no batch.
        if not isinstance(getattr(page, "data", None), list):
            others = (getattr(page, "model_extra", None) or {}).values()
            is_list = getattr(page, "object", None) == "list"
            if not is_list or any(isinstance(other, list) for other in others):
                problem = "the service did not return a list of batches"
                raise ReplyError(problem, hint="check base_url")
        return page


def send_again(record: Record, job: Job) -> Job:
    """Note that a shard whose batch was given up is to get another one."""
    earlier = (*job.earlier, job.batch_id) if job.batch_id else job.earlier
    files = {**job.earlier_files, **job.files}
    facts: dict[str, Any] = {
        **NO_BATCH,
        "token": new_token(job.token),
        "tried_at": None,
        "files": {},
    }
    facts |= {"earlier": earlier, "earlier_files": files}
    return record.note(job, "to be sent again", **facts)


def delete_file(service: Service, file_id: str | None) -> None:
    """Delete an uploaded file at the service; it expires there if that fails."""
    with suppress(Exception):
        service.call(lambda api: api.files.delete(file_id), tries=1, is_quick=True)


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
