"""Frames of every kind, and the lines that they become."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import batch_frames as bf

NO_PROMPT = "column 'text' is null; drop the row or pass na=\"skip\""
NASTY = '"\\\b\f\n\r\t\x00\x1f\x7f\u2028 é 日本語 😀 {x}'

Row = dict[str, Any]
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("note", pa.string()),
        ("n", pa.int64()),
        ("flag", pa.bool_()),
        ("x", pa.float64()),
    ]
)
NULLABLE = {"id": "string", "text": "string", "note": "string", "n": "Int64", "flag": "boolean"}


def arrow_backed(values: Any, kind: pa.DataType) -> Any:
    """Make an array of pandas that Arrow backs."""
    dtype: Any = pd.ArrowDtype(kind)
    return pd.array(values, dtype=dtype)


def as_objects(table: pa.Table) -> pd.DataFrame:
    """Hold each value as the Python object it is."""
    columns = table.to_pydict().items()
    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns})


def as_nullable(table: pa.Table) -> pd.DataFrame:
    """Hold each column in a nullable dtype of pandas, text as Python strings."""
    return as_objects(table).astype({**NULLABLE, "x": "Float64"})


def as_arrow_strings(table: pa.Table) -> pd.DataFrame:
    """Hold text as the Arrow-backed strings of pandas."""
    return as_objects(table).astype(dict.fromkeys(["id", "text", "note"], "string[pyarrow]"))


def as_sliced_chunks(table: pa.Table) -> pa.Table:
    """Hold the rows in chunks of one, each a slice of a longer array."""
    return pa.concat_tables(table.slice(row, 1) for row in range(len(table)))


def as_dictionaries(table: pa.Table) -> pa.Table:
    """Hold each column dictionary-encoded."""
    names = table.column_names
    return pa.table({name: table[name].combine_chunks().dictionary_encode() for name in names})


CONNECTIONS: list[duckdb.DuckDBPyConnection] = []
"""Holds the connection of the last relation, which DuckDB itself need not keep open."""


def as_relation(table: pa.Table) -> Any:
    """Make a relation on a connection of its own, where no other result is open."""
    CONNECTIONS[:] = [duckdb.connect()]
    return CONNECTIONS[0].from_arrow(table)


KINDS: dict[str, Callable[[pa.Table], Any]] = {
    "pandas": lambda table: table.to_pandas(),
    "pandas objects": as_objects,
    "pandas nullable": as_nullable,
    "pandas Arrow strings": as_arrow_strings,
    "pandas Arrow dtypes": lambda table: table.to_pandas(types_mapper=pd.ArrowDtype),
    "pandas categories": lambda table: as_objects(table).astype("category"),
    "pandas other index": lambda table: as_objects(table).set_axis(range(9, 9 + len(table))),
    "polars": pl.from_arrow,
    "Arrow table": lambda table: table,
    "Arrow large strings": lambda table: table.cast(
        pa.schema((f.name, pa.large_string() if f.type == pa.string() else f.type) for f in SCHEMA)
    ),
    "Arrow slices": as_sliced_chunks,
    "Arrow dictionaries": as_dictionaries,
    "Arrow record batch": lambda table: table.combine_chunks().to_batches()[0],
    "Arrow stream": lambda table: table.to_reader(max_chunksize=1 + len(table) // 3),
    "DuckDB relation": as_relation,
}
ARROW = ["polars", "Arrow table", "Arrow stream", "DuckDB relation"]


def written(frame: Any, **options: Any) -> bytes:
    """Give the lines that a frame becomes."""
    file = io.BytesIO()
    given = {"id_column": "id", "prompt_column": "text", "model": "m", **options}
    batch = bf.from_dataframe(frame, **{"seed": None, "reasoning_effort": None, **given})
    batch.save_to_file(file, progress=False)
    return file.getvalue()


def bodies(frame: Any, **options: Any) -> list[Row]:
    """Give the body of each line that a frame becomes."""
    return [json.loads(row)["body"] for row in written(frame, **options).split(b"\n")[:-1]]


def line(custom_id: str, prompt: Any, **body: Any) -> bytes:
    """Write one line with ``json.dumps``."""
    messages = [{"role": "user", "content": prompt}]
    url = "/v1/chat/completions"
    body = {"model": "m", "messages": messages, **body}
    request = {"custom_id": custom_id, "method": "POST", "url": url, "body": body}
    return json.dumps(request, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def number(value: float) -> float:
    """Take the fraction from whole numbers."""
    return int(value) if value.is_integer() else value


def with_text(values: Any) -> pd.DataFrame:
    """Make a pandas frame of a column of prompts."""
    return pd.DataFrame({"id": [chr(ord("a") + i) for i in range(len(values))], "text": values})


def with_ids(values: Any) -> pd.DataFrame:
    """Make a pandas frame of a column of ids."""
    return pd.DataFrame({"id": values, "text": ["x"] * len(values)})


def objects(*values: Any) -> pd.Series:
    """Make a column of Python objects, whatever they are."""
    column = np.empty(len(values), object)
    for row, value in enumerate(values):
        column[row] = value
    return pd.Series(column, dtype=object)


def error_of(frame: Any, **options: Any) -> bf.BatchFramesError:
    """Give the error that a frame raises."""
    with pytest.raises(bf.BatchFramesError) as caught:
        written(frame, **options)
    return caught.value


def warns(message: str) -> Any:
    """Expect one warning with this whole message."""
    return pytest.warns(UserWarning, match=rf"\A{re.escape(message)}\Z")


BODY = {
    "note": bf.col("note"),
    "n": bf.col("n"),
    "flag": bf.col("flag"),
    "x": bf.col("x"),
    "deep": {"list": [bf.col("note"), bf.col("n"), bf.col("flag"), bf.col("x")]},
    "all": bf.fmt("{{{note}|{n}|{flag}|{x}}}"),
}


def ids_written(frame: Any, **options: Any) -> list[str]:
    """List the ids of the lines that a frame becomes."""
    return [json.loads(row)["custom_id"] for row in written(frame, **options).split(b"\n")[:-1]]
