"""Keep request files from being changed once they were sent."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from batch_frames.errors import BatchFramesError
from batch_frames.files import file_hash, ledger_path
from batch_frames.jobs import ENDED, Job
from batch_frames.ledger import Ledgers

__all__ = ["spare_in_flight", "spare_submitted"]


def spare_in_flight(changes: Mapping[Path, Path | None]) -> None:
    """Refuse to change or remove shards that the ledger beside them has in flight.

    The same bytes may be written again, and a file may go when its bytes stand under a new name.
    Of a batch that has ended, the results stay beside other requests: that is warned of.

    Args:
        changes: For each file that is replaced the one that comes in its place; None removes it.

    Raises:
        BatchFramesError: If the requests of a batch would be lost.
    """
    lost = list(_lost(changes))
    for path, job in lost:
        if job.status not in ENDED:
            batch = f" as {job.batch_id}" if job.batch_id else ""
            raise BatchFramesError(
                f"'{path}' was submitted{batch} and has not ended; wait for it, save under another "
                "name, or pass overwrite=True"
            )
    for path, job in lost:
        warnings.warn(
            f"'{path}' was submitted as {job.batch_id} with other requests than now, and the "
            "results beside it answer those; better save under another name",
            stacklevel=4,
        )


def spare_submitted(changes: Mapping[Path, Path | None]) -> None:
    """Refuse to change or remove shards that were submitted, whether they have ended or not.

    Args:
        changes: As for ``spare_in_flight``.

    Raises:
        BatchFramesError: If the requests of a batch would be lost.
    """
    for path, job in _lost(changes):
        batch = f" as {job.batch_id}" if job.batch_id else ""
        raise BatchFramesError(
            f"'{path}' was submitted{batch} with other requests than now; choose another path "
            f"(bf.download(bf.load_jobs('{ledger_path(path)}')) brings what those were answered)"
        )


def _lost(changes: Mapping[Path, Path | None]) -> Iterator[tuple[Path, Job]]:
    """List the files whose requests were sent and would be there no more."""
    ledgers, hash_of = Ledgers(), cache(file_hash)
    for path, new in changes.items():
        job = ledgers.job_of(path)
        if job is None or not job.may_be_paid:
            continue
        coming = [new] if new else [file for file in changes.values() if file]
        if job.sha256 not in map(hash_of, coming):
            yield path, job
