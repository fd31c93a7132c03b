"""Read the JSON text of answers into typed columns, all rows at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.arrow import NULL, TEXT, constant, join
from batch_frames.schemas.sql import fits_duckdb, read_fast
from batch_frames.schemas.types import Kind, answer_kind, column_type, plain_type
from batch_frames.schemas.validate import read_answer, validator_of

__all__ = ["Answers"]


WRAPPED = r"(?s)^\s*(?:[^`]*```[A-Za-z]*\s*)?(?P<inside>\{.*\})\s*(?:```[^`]*)?$"

ZONE = r"(?:Z|[+-][0-9]{2}:?[0-9]{2})$"


class Answers:
    """A reader of answers that follow a schema, into typed columns.

    DuckDB reads all rows at once; those that this does not prove valid are read again in Python.

    Attributes:
        names: Names of the properties at the root of the schema, in their order.
        types: Arrow types of their columns, which do not depend on the answers.

    Args:
        schema: A JSON schema whose root is an object.
        model: The pydantic model class of the schema, whose validators are called, too.

    Raises:
        TemplateError: If its root is not an object, or a reference in it leads nowhere.

    Example:
        >>> answers = Answers({"properties": {"stars": {"type": "integer"}}})
        >>> text = pa.array(['{"stars": 5}', '{"stars": "five"}'], TEXT)
        >>> table, reasons = answers.read(text)
        >>> table["stars"].to_pylist(), reasons[1].as_py()
        ([5, None], "'stars' is 'five', not an integer")
    """

    def __init__(self, schema: Mapping[str, Any], model: Any = None) -> None:
        self._kind = answer_kind(schema)
        self._validator = validator_of(model)
        self.names: tuple[str, ...] = tuple(self._kind.fields)
        self.types: tuple[pa.DataType, ...] = tuple(map(column_type, self._kind.fields.values()))

    def is_json(self, name: str) -> bool:
        """Return whether a property has no single type, so that its column is JSON."""
        kind = self._kind.fields[name]
        return kind.name == "json" and kind.values is None

    def read(self, text: pa.Array | pa.ChunkedArray) -> tuple[pa.Table, pa.Array]:
        """Read answers.

        White space around an answer is ignored, as is a Markdown code fence, with or without words
        around it, that contains the whole answer.

        Args:
            text: ``large_string``, null where there is no answer.

        Returns:
            A table with the columns ``names``, null in rows without a valid answer; and the reasons
            why answers are invalid, null in all other rows.
        """
        if isinstance(text, pa.ChunkedArray):
            text = text.combine_chunks()
        text, braced = _tidy(text)
        if fits_duckdb(self._kind) and self._validator is None:
            # A text that DuckDB cannot read slows down those around it.
            lines = pc.replace_with_mask(text, pc.invert(braced), NULL)
            values, doubts = read_fast(lines, self._kind)
            values = values.cast(plain_type(self._kind))
        else:
            values = pa.nulls(0, plain_type(self._kind))
            doubts = np.ones(len(text), np.bool_)
        doubts &= np.asarray(text.is_valid())
        values, reasons = self._settle(text, values, doubts)
        columns = [
            _finish(column, kind)
            for column, kind in zip(values.flatten(), self._kind.fields.values(), strict=True)
        ]
        schema = pa.schema(list(zip(self.names, self.types, strict=True)))
        return pa.table(columns, schema=schema), reasons

    def _settle(
        self, text: pa.Array, values: pa.Array, doubts: npt.NDArray[np.bool_]
    ) -> tuple[pa.Array, pa.Array]:
        """Read the doubtful rows in Python, and insert their values or reasons."""
        if not doubts.any():
            return values, pa.nulls(len(text), TEXT)
        rows = np.flatnonzero(doubts)
        by_hand: list[dict[str, Any]] = []
        reasons: list[str] = []
        places = np.arange(len(text))
        faulty = np.zeros(len(text), np.bool_)
        for row, line in zip(rows, text.take(pa.array(rows)), strict=True):
            try:
                by_hand.append(read_answer(line.as_py(), self._kind, self._validator))
                places[row] = len(values) + len(by_hand) - 1
            except ValueError as error:
                reasons.append(str(error))
                faulty[row] = True
        empty = faulty | np.asarray(text.is_null())
        values = pa.concat_arrays([values, pa.array(by_hand, values.type)])
        values = values.take(pa.array(places, mask=empty))
        numbers = pa.array(np.cumsum(faulty) - 1, mask=~faulty)
        return values, pa.array(reasons, TEXT).take(numbers)


def _tidy(text: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Extract answers from white space and code fences, and mark those that may be objects."""
    braced = pc.and_(pc.starts_with(text, "{"), pc.ends_with(text, "}"))
    odd = pc.invert(braced).fill_null(False)
    given = text.filter(odd)
    if not len(given):
        return text, braced
    inside = pc.struct_field(pc.extract_regex(given, WRAPPED), "inside")
    text = pc.replace_with_mask(text, odd, pc.coalesce(inside, given))
    return text, pc.replace_with_mask(braced, odd, inside.is_valid())


def _finish(column: pa.Array, kind: Kind) -> pa.Array:
    """Convert values as in JSON to those of the property's column."""
    type_ = column_type(kind)
    if kind.name == "date-time":
        naive = pc.invert(pc.match_substring_regex(column, ZONE))
        zoned = join([column.filter(naive), constant("Z")])
        column = pc.replace_with_mask(column, naive, zoned)
    if kind.values is None or kind.name == "boolean":
        return column.cast(type_)
    members = pa.array(kind.values, type_.value_type)
    return pa.DictionaryArray.from_arrays(pc.index_in(column, members), members)
