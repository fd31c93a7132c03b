"""All that stands on disk: which files are meant, lines in, shards out, locks."""

from batch_frames.files.find import (
    ENDINGS,
    LEDGER,
    RESULT_ENDINGS,
    Paths,
    find_files,
    find_shards,
    holds_requests,
    ledger_path,
    request_files,
    result_files,
    set_name,
)
from batch_frames.files.jsonl import (
    Lines,
    kind_of,
    load_line,
    load_request,
    load_text,
    read_lines,
    without_lone_surrogates,
)
from batch_frames.files.locks import locked
from batch_frames.files.shards import Limits, RequestFile, Shard, ShardWriter, file_hash, read_shard
from batch_frames.files.stores import open_store, whole

__all__ = [
    "ENDINGS",
    "LEDGER",
    "RESULT_ENDINGS",
    "Limits",
    "Lines",
    "Paths",
    "RequestFile",
    "Shard",
    "ShardWriter",
    "file_hash",
    "find_files",
    "find_shards",
    "holds_requests",
    "kind_of",
    "ledger_path",
    "load_line",
    "load_request",
    "load_text",
    "locked",
    "open_store",
    "read_lines",
    "read_shard",
    "request_files",
    "result_files",
    "set_name",
    "whole",
    "without_lone_surrogates",
]
