"""Name what may have become of a request, the best first."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batch_frames.arrow import TEXT

__all__ = ["RANKS", "STATUSES", "UNANSWERED", "status_array"]


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
