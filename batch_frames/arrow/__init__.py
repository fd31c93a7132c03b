"""Kernels over Arrow columns: bytes, JSON text, and SQL over them."""

from batch_frames.arrow.compute import (
    Mask,
    coalesce,
    first_bytes,
    is_text,
    is_true,
    mapped,
    non_empty,
    spread,
    where,
)
from batch_frames.arrow.encode import (
    JsonText,
    PythonText,
    dumps,
    is_plain,
    to_json,
    to_prompt,
    to_text,
)
from batch_frames.arrow.parse import read_type, to_ids
from batch_frames.arrow.query import extract, in_threads, select
from batch_frames.arrow.scalars import INT64_END
from batch_frames.arrow.text import (
    NULL,
    TEXT,
    bytes_of,
    constant,
    escape,
    hash_text,
    join,
    offsets_of,
)

__all__ = [
    "INT64_END",
    "NULL",
    "TEXT",
    "JsonText",
    "Mask",
    "PythonText",
    "bytes_of",
    "coalesce",
    "constant",
    "dumps",
    "escape",
    "extract",
    "first_bytes",
    "hash_text",
    "in_threads",
    "is_plain",
    "is_text",
    "is_true",
    "join",
    "mapped",
    "non_empty",
    "offsets_of",
    "read_type",
    "select",
    "spread",
    "to_ids",
    "to_json",
    "to_prompt",
    "to_text",
    "where",
]
