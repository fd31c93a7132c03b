"""Requests with columns in them: made, saved as shards, and read back."""

from batch_frames.requests.check import check_files, check_requests
from batch_frames.requests.columns import Value, col, fmt
from batch_frames.requests.creator import BatchCreator, rendered_lines, table_of
from batch_frames.requests.endpoints import (
    CHAT,
    EFFORT,
    MODEL,
    SEED,
    Endpoint,
    body_texts,
    with_body,
)
from batch_frames.requests.from_tables import (
    from_any,
    from_csv,
    from_dataframe,
    from_parquet,
    render,
)
from batch_frames.requests.read import Asked, answers_of, read_asked, read_requests
from batch_frames.requests.rendering import (
    LIMITS,
    TableRequests,
    checked_blocks,
    save_requests,
)
from batch_frames.requests.tokens import TOKEN_COLUMNS, count_tokens

__all__ = [
    "CHAT",
    "EFFORT",
    "LIMITS",
    "MODEL",
    "SEED",
    "TOKEN_COLUMNS",
    "Asked",
    "BatchCreator",
    "Endpoint",
    "TableRequests",
    "Value",
    "answers_of",
    "body_texts",
    "check_files",
    "check_requests",
    "checked_blocks",
    "col",
    "count_tokens",
    "fmt",
    "from_any",
    "from_csv",
    "from_dataframe",
    "from_parquet",
    "read_asked",
    "read_requests",
    "render",
    "rendered_lines",
    "save_requests",
    "table_of",
    "with_body",
]
