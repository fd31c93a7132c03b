"""Count results by status."""

from __future__ import annotations

from typing import Any

import pandas as pd

from batch_frames.results.fields import FIELDS, STATUSES
from batch_frames.results.frames import own_results
from batch_frames.results.join import result_ranks

__all__ = ["summarize", "summary_line"]


def summarize(results: Any) -> pd.DataFrame:
    """Count requests and tokens by status and error code.

    Args:
        results: What ``read_results``, ``join_results`` or ``run`` returned.

    Returns:
        A DataFrame with a row for each pair of ``status`` and ``error_code``, the better status and
        the more frequent code first; the columns are ``requests``, ``share`` (of all requests, from
        0 to 1), and the sums of those token columns that ``results`` has.

    Raises:
        TypeError: If ``results`` is not a frame.
        ColumnError: If it has no column of statuses, or several that may be it.

    Example:
        >>> frame = pd.DataFrame({"custom_id": ["a", "b", "c"], "status": ["ok", "ok", "expired"]})
        >>> summarize(frame)[["status", "requests"]].to_numpy().tolist()
        [['ok', 2], ['expired', 1]]
    """
    results = own_results(results)
    ranks = result_ranks(results)
    codes = results["error_code"] if "error_code" in results else pd.Series(pd.NA, results.index)
    frame = pd.DataFrame(
        {"status": ranks, "error_code": codes.astype(object).to_numpy(), "requests": 1}
    )
    tokens = [name for name in FIELDS if name.endswith("_tokens") and name in results]
    for name in tokens:
        frame[name] = results[name].to_numpy("int64", na_value=0)
    summed = frame.groupby(["status", "error_code"], dropna=False, sort=False).sum().reset_index()
    summed = summed.sort_values(["status", "requests"], ascending=[True, False], kind="stable")
    summed.insert(3, "share", summed["requests"] / max(len(results), 1))
    names = summed["status"].map(dict(enumerate(STATUSES)))
    summed["status"] = pd.Categorical(names, STATUSES)
    summed["error_code"] = summed["error_code"].astype("string")
    return summed.reset_index(drop=True)


def summary_line(results: pd.DataFrame) -> str:
    """Write the numbers of requests by status, with error codes, in one line.

    Example:
        >>> frame = pd.DataFrame({"custom_id": ["a", "b"], "status": ["ok", "http_error"]})
        >>> summary_line(frame.assign(error_code=[None, "server_error"]))
        '1 ok, 1 http_error (1× server_error)'
    """
    counted = summarize(results)
    parts = []
    totals = counted.groupby("status", observed=True)["requests"].sum()
    for status in totals.sort_values(ascending=False, kind="stable").index:
        rows = counted[counted["status"] == status]
        codes = rows.dropna(subset=["error_code"])
        named = ", ".join(
            f"{n:,}× {code}" for code, n in zip(codes["error_code"], codes["requests"], strict=True)
        )
        # For expired and cancelled requests, the code only repeats the status.
        shown = f" ({named})" if named and status == "http_error" else ""
        parts.append(f"{rows['requests'].sum():,} {status}{shown}")
    return ", ".join(parts) if parts else "no results"
