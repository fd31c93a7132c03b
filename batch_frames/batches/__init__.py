"""A batch of each shard: submitted once, followed, downloaded; or answered live."""

from batch_frames.batches.client import NO_KEY, make_client
from batch_frames.batches.download import download
from batch_frames.batches.local import run_local
from batch_frames.batches.replies import refuse_errors
from batch_frames.batches.status import cancel, job_rows, load_jobs, refreshed, status
from batch_frames.batches.submit import submit
from batch_frames.batches.wait import FIRST_POLL, wait

__all__ = [
    "FIRST_POLL",
    "NO_KEY",
    "cancel",
    "download",
    "job_rows",
    "load_jobs",
    "make_client",
    "refreshed",
    "refuse_errors",
    "run_local",
    "status",
    "submit",
    "wait",
]
