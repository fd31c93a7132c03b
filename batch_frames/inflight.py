"""Keep request files from being changed while their batches run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from batch_frames.errors import BatchFramesError
from batch_frames.jobs import ENDED, Job
from batch_frames.ledger import Ledger, ledger_path
from batch_frames.shardfiles import file_hash

__all__ = ["spare_in_flight"]


def spare_in_flight(changes: Mapping[Path, Path | None]) -> None:
    """Refuse to change or remove shards that the ledger beside them has in flight.

    The same bytes may be written again, and a file may go when its bytes stand under a new name.

    Args:
        changes: For each file that is replaced the one that comes in its place; None removes it.

    Raises:
        BatchFramesError: If the requests of a batch would be lost.
    """
    for path, new in changes.items():
        job = Ledger(ledger_path(path)).job_of(path.name)
        if job is None or not _is_in_flight(job):
            continue
        coming = [new] if new else [file for file in changes.values() if file]
        if job.sha256 not in map(file_hash, coming):
            batch = f" as {job.batch_id}" if job.batch_id else ""
            raise BatchFramesError(
                f"'{path}' was submitted{batch} and has not ended; wait for it, save under another "
                "name, or pass overwrite=True"
            )


def _is_in_flight(job: Job) -> bool:
    return job.tried_at is not None and job.status not in ENDED
