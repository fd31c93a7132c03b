"""Kernels over Arrow columns: bytes, JSON text, and SQL over them."""

from batch_frames.arrow.encode import (
    check_type,
    decode_runs,
    is_plain,
    to_json,
    to_prompt,
    to_text,
)
from batch_frames.arrow.json_text import INT64_END, JsonText, PythonText, check_json, dumps
from batch_frames.arrow.parse import read_type, to_ids
from batch_frames.arrow.query import extract, in_threads, select
from batch_frames.arrow.spill import NOWHERE, BestRows, Lookup
from batch_frames.arrow.text import (
    NULL,
    TEXT,
    bytes_of,
    constant,
    digests,
    escape,
    first,
    has_repeats,
    hash_text,
    join,
    keep_freed_memory,
    offsets_of,
    repeats,
    split_hashes,
)

__all__ = [
    "INT64_END",
    "NOWHERE",
    "NULL",
    "TEXT",
    "BestRows",
    "JsonText",
    "Lookup",
    "PythonText",
    "bytes_of",
    "check_json",
    "check_type",
    "constant",
    "decode_runs",
    "digests",
    "dumps",
    "escape",
    "extract",
    "first",
    "has_repeats",
    "hash_text",
    "in_threads",
    "is_plain",
    "join",
    "keep_freed_memory",
    "offsets_of",
    "read_type",
    "repeats",
    "select",
    "split_hashes",
    "to_ids",
    "to_json",
    "to_prompt",
    "to_text",
]
