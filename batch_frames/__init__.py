"""Turn tables into OpenAI Batch API request files, and what comes back into DataFrames."""

from batch_frames.batches.download import download
from batch_frames.batches.job import Job
from batch_frames.batches.local import run_local
from batch_frames.batches.status import cancel, load_jobs, status
from batch_frames.batches.submit import submit
from batch_frames.batches.wait import wait
from batch_frames.errors import (
    BatchFramesError,
    ColumnError,
    JobError,
    LineError,
    MissingExtra,
    RequestError,
    TemplateError,
    WaitTimeout,
)
from batch_frames.files.shards import Limits, Shard
from batch_frames.requests.columns import col, fmt
from batch_frames.requests.creator import BatchCreator
from batch_frames.requests.from_tables import from_csv, from_dataframe, from_parquet
from batch_frames.requests.read import read_requests
from batch_frames.results.join import join_results
from batch_frames.results.read import read_results
from batch_frames.results.summary import summarize
from batch_frames.retry import retry_requests
from batch_frames.run import run

__all__ = [
    "BatchCreator",
    "BatchFramesError",
    "ColumnError",
    "Job",
    "JobError",
    "Limits",
    "LineError",
    "MissingExtra",
    "RequestError",
    "Shard",
    "TemplateError",
    "WaitTimeout",
    "cancel",
    "col",
    "download",
    "fmt",
    "from_csv",
    "from_dataframe",
    "from_parquet",
    "join_results",
    "load_jobs",
    "read_requests",
    "read_results",
    "retry_requests",
    "run",
    "run_local",
    "status",
    "submit",
    "summarize",
    "wait",
]
__version__ = "0.1.0"


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
