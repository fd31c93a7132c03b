"""Name the columns of results, with their types and when they are shown, and the statuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batch_frames.arrow import TEXT

__all__ = [
    "CHOICE",
    "FIELDS",
    "RANKS",
    "STATUSES",
    "STOPPED",
    "UNANSWERED",
    "Status",
    "answer_field",
    "answer_names",
    "choices_type",
    "names_of",
    "status_array",
]


Status = Literal[
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
    "skipped",
]

STATUSES: tuple[Status, ...] = get_args(Status)

RANKS: Mapping[str, int] = {status: rank for rank, status in enumerate(STATUSES)}

UNANSWERED: tuple[Status, ...] = ("http_error", "expired", "cancelled", "missing", "malformed")

STOPPED = ("expired", "cancelled")
"""Statuses of batches that may end before all requests have a result."""


def status_array(ranks: npt.NDArray[np.int8]) -> pa.DictionaryArray:
    """Make the column of statuses from their ranks; its categories are always all of them.

    Example:
        >>> status_array(np.array([0, 8], np.int8)).to_pylist()
        ['ok', 'missing']
    """
    return pa.DictionaryArray.from_arrays(pa.array(ranks, pa.int8()), pa.array(STATUSES, TEXT))


Shown = Literal["first", "then", "usage", "sometimes", "never"]
"""``first`` is before the columns of answers, ``usage`` and ``sometimes`` only where wanted."""


class Field(NamedTuple):
    """The type of a column of results, and when it is shown."""

    type: pa.DataType
    shown: Shown


CHOICE = pa.struct(
    [(name, TEXT) for name in ("status", "content", "finish_reason", "refusal", "error_message")]
)
"""The type of a choice of requests with ``n``, before its answer is read."""

FIELDS: Mapping[str, Field] = {
    "custom_id": Field(TEXT, "first"),
    "status": Field(pa.int8(), "first"),  # its rank
    "content": Field(TEXT, "first"),
    "finish_reason": Field(TEXT, "then"),
    "refusal": Field(TEXT, "then"),
    "error_code": Field(TEXT, "then"),
    "error_message": Field(TEXT, "then"),
    "status_code": Field(pa.int64(), "then"),
    "input_tokens": Field(pa.int64(), "usage"),
    "cached_tokens": Field(pa.int64(), "usage"),
    "output_tokens": Field(pa.int64(), "usage"),
    "reasoning_tokens": Field(pa.int64(), "usage"),
    "model": Field(TEXT, "then"),
    "request_id": Field(TEXT, "then"),
    "file": Field(TEXT, "then"),
    "line": Field(pa.int64(), "then"),
    "cache_write_tokens": Field(pa.int64(), "sometimes"),
    "service_tier": Field(TEXT, "sometimes"),
    "tool_calls": Field(TEXT, "sometimes"),
    "choices": Field(pa.large_list(CHOICE), "sometimes"),
    "citations": Field(TEXT, "sometimes"),
    "reasoning_summary": Field(TEXT, "sometimes"),
    "embedding": Field(pa.large_list(pa.large_list(pa.float32())), "sometimes"),
    "flagged": Field(pa.bool_(), "sometimes"),
    "categories": Field(TEXT, "sometimes"),
    "category_scores": Field(TEXT, "sometimes"),
    "body": Field(TEXT, "sometimes"),
    "has_choices": Field(pa.bool_(), "never"),
}
"""What may be known of a line, in the order in which it is shown."""


def names_of(*shown: Shown) -> list[str]:
    """List the columns that are shown at some of these times.

    Example:
        >>> names_of("first")
        ['custom_id', 'status', 'content']
    """
    return [name for name, field in FIELDS.items() if field.shown in shown]


def answer_field(name: str) -> str:
    """Name the column of a property, out of the way of all others."""
    return f"answer.{name}"


def answer_names(names: Sequence[str]) -> dict[str, str]:
    """Name the columns of properties; one that is taken by a column of results gives way."""
    taken = names_of("first", "then", "usage", "sometimes")
    columns: dict[str, str] = {}
    for name in names:
        free = name
        while free in taken or (free != name and free in names):
            free += "_answer"
        columns[name] = free
    return columns


def choices_type(names: Sequence[str], types: Sequence[pa.DataType]) -> pa.DataType:
    """Return the type of the choices of requests with ``n``, with the answer of each."""
    shown = answer_names(names).values()
    kinds = [type_.value_type if pa.types.is_dictionary(type_) else type_ for type_ in types]
    return pa.large_list(pa.struct([*CHOICE, *map(pa.field, shown, kinds)]))
