"""Name the columns of results, their types, and the statuses."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batch_frames.arrow import TEXT

__all__ = ["COLUMNS", "FIELDS", "RANKS", "STATUSES", "UNANSWERED", "VECTORS", "status_array"]


STATUSES = (
    "ok",
    "truncated",
    "refused",
    "filtered",
    "invalid_json",
    "http_error",
    "expired",
    "cancelled",
    "missing",
    "malformed",
)

RANKS = {status: rank for rank, status in enumerate(STATUSES)}

UNANSWERED = ("http_error", "expired", "cancelled", "missing", "malformed")


def status_array(ranks: npt.NDArray[np.int8]) -> pa.DictionaryArray:
    """Make the column of statuses from their ranks; it always knows all ten.

    Example:
        >>> status_array(np.array([0, 8], np.int8)).to_pylist()
        ['ok', 'missing']
    """
    return pa.DictionaryArray.from_arrays(pa.array(ranks, pa.int8()), pa.array(STATUSES, TEXT))


VECTORS = pa.large_list(pa.large_list(pa.float32()))


COLUMNS: Mapping[str, pa.DataType] = {
    "custom_id": TEXT,
    "status": pa.int8(),
    "content": TEXT,
    "finish_reason": TEXT,
    "refusal": TEXT,
    "error_code": TEXT,
    "error_message": TEXT,
    "status_code": pa.int64(),
    "input_tokens": pa.int64(),
    "cached_tokens": pa.int64(),
    "output_tokens": pa.int64(),
    "reasoning_tokens": pa.int64(),
    "model": TEXT,
    "request_id": TEXT,
    "tool_calls": TEXT,
    "has_choices": pa.bool_(),
    "choices": pa.large_list(TEXT),
    "embedding": VECTORS,
    "flagged": pa.bool_(),
    "categories": TEXT,
    "category_scores": TEXT,
    "body": TEXT,
}
"""What may be known of a line. The status is its rank; one choice alone is in ``content`` only."""

FIELDS = {**COLUMNS, "file": TEXT, "line": pa.int64()}
