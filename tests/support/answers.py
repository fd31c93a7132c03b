"""Read answers by a schema, and say in the simplest way what they mean."""

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from batch_frames.schemas.answers import Answers

TEXT = pa.large_string()
NULL = {"type": "null"}
Node = dict[str, Any]


def read(
    schema: Node, texts: Sequence[str | None]
) -> tuple[list[dict[str, Any]], list[str | None]]:
    """Read answers, and check what holds of every reading."""
    answers = Answers(schema)
    table, reasons = answers.read(pa.array(texts, TEXT))
    table.validate(full=True)
    reasons.validate(full=True)
    assert table.column_names == list(answers.names)
    assert table.schema.types == list(answers.types)
    assert reasons.type == TEXT
    assert len(reasons) == len(texts)
    return table.to_pylist() if answers.names else [{}] * len(texts), reasons.to_pylist()


def an_object(**properties: Any) -> Node:
    """Write the schema of an object that requires all it has."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def one(node: Any, value: Any) -> Any:
    """Read one value as property ``x``: its cell, or the reason why there is none."""
    rows, reasons = read(an_object(x=node), [json.dumps({"x": value})])
    return rows[0]["x"] if reasons[0] is None else reasons[0]
