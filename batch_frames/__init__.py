"""Turn tables into OpenAI Batch API request files, and what comes back into DataFrames."""

from batch_frames.columns import col, fmt
from batch_frames.creator import BatchCreator
from batch_frames.errors import (
    BatchFramesError,
    ColumnError,
    LineError,
    RequestError,
    TemplateError,
)
from batch_frames.joins import join_results
from batch_frames.limits import Limits
from batch_frames.requests import read_requests
from batch_frames.results import read_results
from batch_frames.retries import retry_requests
from batch_frames.rows import from_csv, from_dataframe, from_parquet
from batch_frames.shards import Shard
from batch_frames.summaries import summarize

__all__ = [
    "BatchCreator",
    "BatchFramesError",
    "ColumnError",
    "Limits",
    "LineError",
    "RequestError",
    "Shard",
    "TemplateError",
    "col",
    "fmt",
    "from_csv",
    "from_dataframe",
    "from_parquet",
    "join_results",
    "read_requests",
    "read_results",
    "retry_requests",
    "summarize",
]
__version__ = "0.1.0"


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
