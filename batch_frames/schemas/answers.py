"""Read the JSON text of answers into typed columns, all rows at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.arrow import NULL, TEXT, constant, dumps, join, select
from batch_frames.schemas.types import (
    FORMATS,
    PATTERNS,
    Kind,
    answer_kind,
    column_type,
    plain_type,
)
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
            is_clean = pc.all(braced, min_count=0).as_py()
            lines = text if is_clean else pc.replace_with_mask(text, pc.invert(braced), NULL)
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
        if by_hand or len(values) < len(text):
            values = pa.concat_arrays([values, pa.array(by_hand, values.type)])
            values = values.take(pa.array(places, mask=empty))
        else:
            parts, mask = values.flatten(), pa.array(empty)
            values = pa.StructArray.from_arrays(parts, fields=list(values.type), mask=mask)
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


Marks = npt.NDArray[np.bool_]

LEAVES = {"integer": "BIGINT", "number": "DOUBLE", "boolean": "BOOLEAN", "json": "JSON"}

DATE = (
    r"[1-8][0-9]{3}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])"
    r"|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
)
"""Days that surely exist: the 29th of February and the first and last years are not among them."""

SURE = {
    "date": f"^{DATE}$",
    "date-time": f"^{DATE}T(?:[01][0-9]|2[0-3])(?::[0-5][0-9]){{2}}(?:\\.[0-9]{{1,6}})?"
    r"(?:Z|[+-](?:0[0-9]|1[0-4]):[0-5][0-9])?$",
    **{name: f"^(?:{pattern})$" for name, pattern in PATTERNS.items()},
}

NOT_FINITE = r"(?i)nan|inf|e\+?[0-9]{3}"
"""What is in the JSON text of a number that is not finite, and in many other texts."""

TRAILING_COMMA = r",[ \t\r\n]*[\]}]"
"""What DuckDB reads although it is not JSON; in a string it is text."""


def fits_duckdb(kind: Kind) -> bool:
    """Return whether DuckDB can hold such objects: to it, names that differ in case are equal."""
    if kind.items is not None:
        return fits_duckdb(kind.items)
    if kind.name != "object":
        return True
    distinct = {name.lower() for name in kind.fields} - {""}
    return (
        0 < len(kind.fields) == len(distinct)
        and not any("\0" in name for name in distinct)
        and all(map(fits_duckdb, kind.fields.values()))
    )


def read_fast(lines: pa.Array, kind: Kind) -> tuple[pa.Array, Marks]:
    """Read answers of a kind, and mark those that are not proven to be of it.

    DuckDB makes strings of numbers and numbers of strings, and passes over what is missing or too
    much. What it read is right where, written back, it is the same JSON, but for ``3`` and ``3.0``.

    Args:
        lines: ``large_string``, one answer per row.
        kind: What the answers must be, such that ``fits_duckdb``.
    """
    structure = dumps(_structure(kind)).replace("'", "''")
    inner = [f"TRY(from_json(line, '{structure}')) AS found"]
    read, written = "json(line)::VARCHAR", "to_json(found)::VARCHAR"
    is_proven = f"TRY(replace({read}, '.0', '') = replace({written}, '.0', ''))"
    values, proven = select(lines, ["found", is_proven], inner)
    doubts = ~np.asarray(proven.fill_null(False)) | _matches(lines, TRAILING_COMMA)
    return values, doubts | _forbidden(kind, values)


def _structure(kind: Kind) -> Any:
    """Describe an answer to DuckDB."""
    if kind.items is not None:
        return [_structure(kind.items)]
    if kind.name == "object":
        return {name: _structure(child) for name, child in kind.fields.items()}
    return LEAVES.get(kind.name, "VARCHAR")


def _forbidden(kind: Kind, values: pa.Array) -> Marks:
    """Mark values of the right type that are not what null, an enum, a format or JSON allows."""
    is_null = np.asarray(values.is_null())
    doubts = np.zeros(len(values), np.bool_)
    if kind.items is not None:
        inner = _forbidden(kind.items, values.flatten())
        doubts[np.asarray(pc.list_parent_indices(values))[inner]] = True
    elif kind.name == "object":
        for child, part in zip(kind.fields.values(), values.flatten(), strict=True):
            doubts |= _forbidden(child, part)
    elif kind.name in FORMATS:
        doubts = ~_matches(values, SURE[kind.name])
    elif kind.name == "json":
        doubts = _matches(values, NOT_FINITE)
    elif kind.name == "number":
        doubts = ~np.isfinite(values.to_numpy(zero_copy_only=False))
    for keyword, limit in kind.limits.items():
        within = PROVEN.get(keyword, _never)(values, limit)
        doubts |= ~np.asarray(within.fill_null(False))
    if kind.values is not None:
        doubts |= ~np.asarray(pc.is_in(values, pa.array(kind.values, values.type)))
    marks: Marks = (doubts & ~is_null) if kind.nullable else (doubts | is_null)
    return marks


def _floats(numbers: pa.Array) -> pa.Array:
    return numbers.cast(pa.float64(), safe=False)


def _never(values: pa.Array, limit: Any) -> pa.Array:
    return pa.repeat(False, len(values))


def _match(text: pa.Array, pattern: str) -> pa.Array:
    try:
        return pc.match_substring_regex(text, pattern)
    except pa.ArrowInvalid:  # a pattern that RE2 does not know
        return _never(text, pattern)


PROVEN: dict[str, Callable[[pa.Array, Any], pa.Array]] = {
    "minimum": lambda numbers, least: pc.greater_equal(_floats(numbers), least),
    "maximum": lambda numbers, most: pc.less_equal(_floats(numbers), most),
    "exclusiveMinimum": lambda numbers, least: pc.greater(_floats(numbers), least),
    "exclusiveMaximum": lambda numbers, most: pc.less(_floats(numbers), most),
    "minLength": lambda text, least: pc.greater_equal(pc.utf8_length(text), least),
    "maxLength": lambda text, most: pc.less_equal(pc.utf8_length(text), most),
    "pattern": _match,
    "format": lambda text, name: _match(text, SURE[name]),
    "minItems": lambda lists, least: pc.greater_equal(pc.list_value_length(lists), least),
    "maxItems": lambda lists, most: pc.less_equal(pc.list_value_length(lists), most),
}
"""For each keyword which values are surely within its limit."""


def _matches(text: pa.Array, pattern: str) -> Marks:
    return np.asarray(pc.match_substring_regex(text, pattern).fill_null(False))
