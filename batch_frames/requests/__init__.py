"""Requests with columns in them: made, saved as shards, and read back."""

from batch_frames.requests.columns import Value, col, fmt
from batch_frames.requests.creator import LIMITS, BatchCreator
from batch_frames.requests.from_tables import Options, from_csv, from_dataframe, from_parquet
from batch_frames.requests.read import lines_with_ids, read_asked, read_requests
from batch_frames.requests.rendering import warn_of

__all__ = [
    "LIMITS",
    "BatchCreator",
    "Options",
    "Value",
    "col",
    "fmt",
    "from_csv",
    "from_dataframe",
    "from_parquet",
    "lines_with_ids",
    "read_asked",
    "read_requests",
    "warn_of",
]
