"""Find the batch that an earlier try has made, among all that the service has."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import partial
from typing import Any

from batch_frames.jobs import Job
from batch_frames.ledger import Ledger
from batch_frames.service import NoBatchError, Service

__all__ = ["TOKEN_KEY", "settled_batch"]


TOKEN_KEY = "batch_frames"

SETTLE = 5.0
"""Seconds after which a batch that was created stands in the service's list for certain."""

CLOCKS = 15 * 60
"""How many seconds clocks may be apart: the service's own, or that and ours."""

PAGE = 100


def settled_batch(service: Service, ledger: Ledger, job: Job) -> Any:
    """Look for the batch of an earlier try, once more if that try is too young to be listed."""
    batch = find_batch(service, ledger, job)
    if batch is None:
        assert job.retried_at is not None
        age = datetime.now(UTC) - datetime.fromisoformat(job.retried_at)
        left = SETTLE - max(age.total_seconds(), 0)
        if left > 0:
            time.sleep(left)
            batch = find_batch(service, ledger, job)
    return batch


def find_batch(service: Service, ledger: Ledger, job: Job) -> Any:
    """Find the batch that carries a job's token, among all that are not much older than the try.

    A service that keeps no metadata still tells which file a batch reads, and that one is ours.

    Returns:
        The service's batch, or None.
    """
    assert job.tried_at is not None
    # A batch is never older than its file, and both are told by the same clock.
    oldest = job.uploaded_at or datetime.fromisoformat(job.tried_at).timestamp()
    oldest -= CLOCKS
    known = ledger.batch_ids
    page = service.call(_first_page, is_quick=True)
    seen: set[str] = set()
    while page.data:
        new = {batch.id for batch in page.data} - seen
        seen |= new
        for batch in page.data:
            by_token = (batch.metadata or {}).get(TOKEN_KEY) == job.token
            if by_token or (batch.input_file_id == job.file_id and batch.id not in known):
                return batch
        times = [batch.created_at for batch in page.data if batch.created_at] or [oldest]
        # Older ones follow only where the newest come first.
        if (times[0] > times[-1] < oldest) or not page.has_next_page() or not new:
            return None
        page = service.call(partial(_next_page, page))
    return None


def _first_page(api: Any) -> Any:
    return _checked_page(api.batches.list(limit=PAGE))


def _next_page(page: Any, api: Any) -> Any:
    return _checked_page(page.get_next_page())


def _checked_page(page: Any) -> Any:
    # An empty list may be null; anything else without one does not say that there is no batch.
    is_list = isinstance(getattr(page, "data", None), list)
    if not is_list and getattr(page, "object", None) != "list":
        raise NoBatchError(
            "the service answers with something that is no list of batches; check the base URL"
        )
    return page
