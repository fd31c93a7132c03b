"""Read the answers of the Responses API and of embeddings, all rows at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.arrow import (
    NULL,
    TEXT,
    Mask,
    bytes_of,
    coalesce,
    extract,
    is_text,
    is_true,
    offsets_of,
    select,
    spread,
    where,
)
from batch_frames.results.fields import RANKS, VECTORS

__all__ = ["Outputs", "read_embeddings", "read_responses", "whole_numbers"]


BODY = "$.response.body"

STATE, REASON = f"{BODY}.status", f"{BODY}.incomplete_details.reason"

FIRST, NEXT, THIRD = (f"{BODY}.output[{n}].type" for n in range(3))

LAST = f"{BODY}.output[#-1]"

KIND, SAID, MORE = f"{LAST}.content[0].type", f"{LAST}.content[0].text", f"{LAST}.content[1].type"

USAGE = f"{BODY}.usage"

TOKENS = {
    "input_tokens": f"{USAGE}.input_tokens",
    "cached_tokens": f"{USAGE}.input_tokens_details.cached_tokens",
    "output_tokens": f"{USAGE}.output_tokens",
    "reasoning_tokens": f"{USAGE}.output_tokens_details.reasoning_tokens",
}

PATHS = (STATE, REASON, FIRST, NEXT, THIRD, KIND, SAID, MORE, *TOKENS.values())

BASE64 = '"[A-Za-z0-9+/]+={0,2}"'

VECTOR, SECOND = f"{BODY}.data[0].embedding", f"{BODY}.data[1]"


@dataclass(frozen=True)
class Outputs:
    """Hold what was read, and which lines were of the usual shape.

    Attributes:
        columns: The columns that these answers have, by name.
        usual: Where they hold; other lines have to be read by hand.
    """

    columns: dict[str, pa.Array]
    usual: Mask


def read_responses(text: pa.Array, connection: duckdb.DuckDBPyConnection) -> Outputs:
    """Read outputs that are one message of one text, with or without a reasoning item before it.

    Args:
        text: Lines whose body is a ``response``.
        connection: Where the query runs.
    """
    found = extract(text, PATHS, connection=connection)
    state = found[STATE]
    alone = is_text(found[FIRST], "message") & is_true(found[NEXT].is_null())
    after = is_text(found[FIRST], "reasoning") & is_text(found[NEXT], "message")
    alone |= after & is_true(found[THIRD].is_null())
    told = is_text(found[KIND], "output_text") & is_true(found[SAID].is_valid())
    incomplete = is_text(state, "incomplete")
    ended = incomplete | is_text(state, "completed") | is_true(state.is_null())
    usual = alone & told & is_true(found[MORE].is_null()) & ended
    ranks = np.where(incomplete, RANKS["truncated"], RANKS["ok"])
    ranks[incomplete & is_text(found[REASON], "content_filter")] = RANKS["filtered"]
    reason = pc.if_else(pa.array(incomplete), found[REASON], state)
    columns = {
        "status": pa.array(ranks, pa.int8(), mask=~usual),
        "content": where(usual, found[SAID]),
        "finish_reason": where(usual, reason),
        **{name: whole_numbers([found[path]]) for name, path in TOKENS.items()},
    }
    return Outputs(columns, usual)


def read_embeddings(text: pa.Array, connection: duckdb.DuckDBPyConnection) -> Outputs:
    """Read one vector of each line, a list of numbers or the base64 of 32-bit floats.

    Args:
        text: Lines whose body is a ``list`` without an error.
        connection: Where the query runs.
    """
    inner = [f"TRY(json_extract(line, ['{VECTOR}', '{SECOND}'])) AS found"]
    listed = "TRY(CAST(found[1] AS FLOAT[]))"
    packed = "TRY(from_base64(json_extract_string(found[1], '$')))"
    columns = [
        f"CASE WHEN starts_with(CAST(found[1] AS VARCHAR), '[') THEN {listed} END",
        f"CASE WHEN regexp_full_match(CAST(found[1] AS VARCHAR), '{BASE64}') THEN {packed} END",
        "found[2] IS NULL",
    ]
    vectors, blobs, is_alone = select(connection, text, columns, inner)
    vectors, blobs = vectors.cast(VECTORS.value_type), blobs.cast(pa.large_binary())
    if blobs.null_count < len(blobs):
        vectors = pc.coalesce(vectors, _unpacked(blobs))
    usual = np.asarray(vectors.is_valid()) & np.asarray(is_alone)
    if (gaps := _holders_of_null(vectors)) is not None:
        usual[gaps] = False
    return Outputs(
        {"status": pa.array(np.zeros(len(text), np.int8)), "embedding": _alone(vectors)}, usual
    )


def _alone(vectors: pa.Array) -> pa.Array:
    """Put each vector into a list of its own, for other lines may have several."""
    offsets = np.arange(len(vectors) + 1)
    lists = pa.LargeListArray.from_arrays(pa.array(offsets), vectors)
    return pc.if_else(vectors.is_valid(), lists, pa.scalar(None, VECTORS))


def _unpacked(blobs: pa.Array) -> pa.Array:
    """View bytes as little-endian 32-bit floats; what does not divide by four is null."""
    whole = is_true(pc.equal(pc.bit_wise_and(pc.binary_length(blobs), 3), 0))
    packed = blobs.filter(pa.array(whole)).view(TEXT)
    offsets = offsets_of(packed)
    floats = pa.array(np.frombuffer(bytes_of(packed).tobytes(), "<f4"), pa.float32())
    starts = pa.array((offsets - offsets[0]) // 4)
    return spread(pa.LargeListArray.from_arrays(starts, floats), whole)


def _holders_of_null(vectors: pa.Array) -> npt.NDArray[np.int64] | None:
    numbers = vectors.flatten()
    if not numbers.null_count:
        return None
    holders = np.asarray(pc.list_parent_indices(vectors))
    return np.unique(holders[np.asarray(numbers.is_null())])


def whole_numbers(columns: Sequence[pa.Array]) -> pa.Array:
    """Read the first of some columns that has a number; nothing but whole ones from 0 count."""
    text = coalesce(columns)
    if text.null_count == len(text):
        return pa.nulls(len(text), pa.int64())
    if not _is_short_number(text):
        whole = pc.match_substring_regex(text, r"^[0-9]{1,18}$")
        long = pc.match_substring_regex(text, r"^[0-9]{19}$")
        whole = pc.or_(whole, pc.and_(long, pc.less_equal(text, str(2**63 - 1))))
        text = pc.if_else(whole, text, NULL)
    return text.cast(pa.int64())


def _is_short_number(text: pa.Array) -> bool:
    """Tell whether all there is are digits, too few of them to leave 64 bits."""
    lengths = np.diff(offsets_of(text))[np.asarray(text.is_valid())]
    data = bytes_of(text)
    return bool(lengths.min() > 0 and lengths.max() < 19 and ((data - 0x30) < 10).all())
