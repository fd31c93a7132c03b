"""Write Arrow arrays as JSON text, and say what ``json.dumps`` writes."""

import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from batch_frames.arrow import JsonText, to_json
from batch_frames.arrow.text import TEXT
from batch_frames.errors import CellError, ColumnError

Write = Callable[[pa.Array], pa.Array]
MIXED = pa.array([[{"a": 1, "b": ['x"', None]}], None, [], [None, {"a": None, "b": None}]])


def write(array: pa.Array, writer: Write = to_json) -> list[str | None]:
    """Write an array, check what every result must hold, and give it as a list."""
    text = writer(array)
    text.validate(full=True)
    assert text.type == TEXT
    rows: list[str | None] = text.to_pylist()
    return rows


def whole(value: Any) -> Any:
    """Make whole floats integers, at any depth."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return int(value)
    if isinstance(value, dict):
        return {key: whole(child) for key, child in value.items()}
    return [whole(child) for child in value] if isinstance(value, list) else value


def oracle(values: list[Any]) -> list[str | None]:
    """Write Python values row by row."""
    return [None if value is None else compact(whole(value)) for value in values]


def compact(value: Any) -> str:
    """Write one Python value as the standard library does."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def json_text(rows: list[str | None]) -> pa.Array:
    """Make a column of values that are JSON already."""
    return pa.ExtensionArray.from_storage(JsonText(), pa.array(rows, TEXT))


def problem(writer: Write, array: pa.Array) -> tuple[int, str]:
    """Give the index and the problem of the cell that is refused."""
    with pytest.raises(CellError) as caught:
        writer(array)
    return caught.value.index, caught.value.problem


def refusal(writer: Write, array: pa.Array) -> str:
    """Give the message with which the column is refused."""
    with pytest.raises(ColumnError) as caught:
        writer(array)
    return str(caught.value)
