"""A batch of each shard: submitted once, followed, downloaded; or answered live."""

from batch_frames.batches.client import NO_KEY, make_client
from batch_frames.batches.download import download
from batch_frames.batches.job import ENDED, Job
from batch_frames.batches.ledger import Ledgers, spare_in_flight, spare_submitted
from batch_frames.batches.local import run_local
from batch_frames.batches.status import cancel, load_jobs, status
from batch_frames.batches.submit import submit
from batch_frames.batches.wait import wait

__all__ = [
    "ENDED",
    "NO_KEY",
    "Job",
    "Ledgers",
    "cancel",
    "download",
    "load_jobs",
    "make_client",
    "run_local",
    "spare_in_flight",
    "spare_submitted",
    "status",
    "submit",
    "wait",
]
