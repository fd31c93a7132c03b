"""Read what went wrong with requests, out of the places where services write errors."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.arrow import TEXT, Mask, extract, is_text, is_true, non_empty, spread, where
from batch_frames.results.fields import RANKS
from batch_frames.results.line import CANCELLED, EXPIRED

__all__ = ["PLACES", "Failures", "read_failures"]


BODY = "$.response.body"

PLACES = ("$.error", f"{BODY}.error")

MEMBERS = [f"{place}.{name}" for place in PLACES for name in ("code", "message", "type", "error")]

TYPES = [BODY, *(f"{place}{name}" for place in PLACES for name in ("", ".code", ".type"))]

USAGE = f"{BODY}.usage"

TOKENS = [
    *(f"{USAGE}.{name}" for name in ("input_tokens", "output_tokens", "cached_tokens")),
    *(f"{USAGE}.{name}" for name in ("input_tokens_details", "output_tokens_details")),
]
"""Tokens where chat does not have them; what failed may have used some too."""

REQUEST_ID = f"{BODY}.request_id"

NOTHING = ("", "{}")


@dataclass(frozen=True)
class Failures:
    """Hold the errors of some rows.

    Attributes:
        there: Where an error stands.
        odd: Where it has to be read by hand.
        code: Its code, or its type where the code is only a number.
        message: Its message.
        request_id: The id that the body gives to the request.
    """

    there: Mask
    odd: Mask
    code: pa.Array
    message: pa.Array
    request_id: pa.Array

    def columns(self) -> dict[str, pa.Array]:
        """Give the columns of results that errors fill."""
        ranks = np.full(len(self.there), RANKS["http_error"], np.int8)
        ranks[is_text(self.code, *EXPIRED)] = RANKS["expired"]
        ranks[is_text(self.code, *CANCELLED)] = RANKS["cancelled"]
        status = pa.array(ranks, pa.int8(), mask=~self.there)
        return {
            "status": status,
            "error_code": self.code,
            "error_message": self.message,
            "request_id": non_empty(self.request_id),
        }


def read_failures(
    text: pa.Array,
    found: dict[str, pa.Array],
    connection: duckdb.DuckDBPyConnection,
) -> Failures:
    """Read errors, the line's own before that of its body.

    Args:
        text: The lines.
        found: What stands at ``PLACES``, as text.
        connection: Where queries run.
    """
    outer, inner = (is_true(found[p].is_valid()) & ~is_text(found[p], *NOTHING) for p in PLACES)
    there = outer | inner
    if not there.any():
        nothing = pa.nulls(len(text), TEXT)
        return Failures(there, there, nothing, nothing, nothing)
    rows = pa.array(there)
    paths = [*MEMBERS, *TOKENS, REQUEST_ID]
    columns = extract(text.filter(rows), paths, TYPES, connection=connection)
    own, of_body = (_read(found[p].filter(rows), columns, p) for p in PLACES)
    # A body that is a text may be JSON too, with a model and tokens in it.
    unusual = is_text(columns[f"type of {BODY}"], "VARCHAR")
    unusual |= np.where(outer[there], own[0], of_body[0])
    for path in TOKENS:
        unusual |= is_true(columns[path].is_valid())
    odd = there.copy()
    odd[there] = unusual
    is_own = pa.array(outer[there])
    code, message = (spread(pc.if_else(is_own, own[n], of_body[n]), there) for n in (1, 2))
    return Failures(there, odd, code, message, spread(columns[REQUEST_ID], there))


def _read(
    whole: pa.Array, columns: dict[str, pa.Array], place: str
) -> tuple[Mask, pa.Array, pa.Array]:
    """Read errors that are a text, or an object with code, type and message."""
    code, message, kind = (columns[f"{place}.{name}"] for name in ("code", "message", "type"))
    code_is_text, kind_is_text, is_object, is_plain = (
        is_text(columns[f"type of {name}"], wanted)
        for name, wanted in (
            (f"{place}.code", "VARCHAR"),
            (f"{place}.type", "VARCHAR"),
            (place, "OBJECT"),
            (place, "VARCHAR"),
        )
    )
    inner = is_true(columns[f"{place}.error"].is_valid())
    named = code_is_text & ~is_true(pc.utf8_is_digit(code))
    name = pc.coalesce(
        non_empty(where(named, code)), non_empty(where(kind_is_text, kind)), non_empty(code)
    )
    return ~(is_object | is_plain) | inner, name, pc.coalesce(message, whole)
