"""All that stands on disk: which files are meant, lines in, shards out, locks."""

from batch_frames.files.asked import (
    first_asked,
    pending_lines,
    refuse_in_flight,
    refuse_submitted,
)
from batch_frames.files.documents import RECORD, now
from batch_frames.files.find import (
    ENDINGS,
    LEDGER,
    RESULT_ENDINGS,
    Paths,
    find_files,
    find_shards,
    holds_requests,
    recorded_folders,
    request_files,
    result_files,
    set_name,
)
from batch_frames.files.job import BATCH_FACTS, ENDED, NO_BATCH, Job, Jobs, Settings, distinct
from batch_frames.files.jsonl import (
    Lines,
    kind_of,
    load_line,
    load_request,
    load_text,
    read_lines,
    without_lone_surrogates,
)
from batch_frames.files.locks import InUseError, locked
from batch_frames.files.record import Record, Records, new_token, wanted_job
from batch_frames.files.sets import SavedSet, Sets, finish_commits
from batch_frames.files.shards import (
    Limits,
    RequestFile,
    Shard,
    ShardWriter,
    file_hash,
    line_hashes,
    read_shard,
)
from batch_frames.files.stores import open_store, whole

__all__ = [
    "BATCH_FACTS",
    "ENDED",
    "ENDINGS",
    "LEDGER",
    "NO_BATCH",
    "RECORD",
    "RESULT_ENDINGS",
    "InUseError",
    "Job",
    "Jobs",
    "Limits",
    "Lines",
    "Paths",
    "Record",
    "Records",
    "RequestFile",
    "SavedSet",
    "Sets",
    "Settings",
    "Shard",
    "ShardWriter",
    "distinct",
    "file_hash",
    "find_files",
    "find_shards",
    "finish_commits",
    "first_asked",
    "holds_requests",
    "kind_of",
    "line_hashes",
    "load_line",
    "load_request",
    "load_text",
    "locked",
    "new_token",
    "now",
    "open_store",
    "pending_lines",
    "read_lines",
    "read_shard",
    "recorded_folders",
    "refuse_in_flight",
    "refuse_submitted",
    "request_files",
    "result_files",
    "set_name",
    "wanted_job",
    "whole",
    "without_lone_surrogates",
]
