"""A batch of each shard: submitted once, followed, downloaded; or answered live."""

from batch_frames.batches.client import NO_KEY, make_client
from batch_frames.batches.download import download
from batch_frames.batches.job import ENDED, Job
from batch_frames.batches.ledger import Ledgers, refuse_in_flight, refuse_submitted
from batch_frames.batches.local import run_local
from batch_frames.batches.status import cancel, job_rows, load_jobs, status
from batch_frames.batches.submit import submit
from batch_frames.batches.wait import wait

__all__ = [
    "ENDED",
    "NO_KEY",
    "Job",
    "Ledgers",
    "cancel",
    "download",
    "job_rows",
    "load_jobs",
    "make_client",
    "refuse_in_flight",
    "refuse_submitted",
    "run_local",
    "status",
    "submit",
    "wait",
]
