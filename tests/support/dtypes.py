"""Columns of every dtype that pandas, polars, pyarrow and DuckDB have, as they list them."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

ROWS = 6
NUMBERS = [0, None, 100, 3, 4, 127]
TEXTS = ["1", None, '"é\\n"', "[1, 2]", "12345678901234567", '{"b": 1.10000000000000000001}']

# pyarrow


NAMES = {
    "bool": "bool_",
    "na": "null",
    "half_float": "float16",
    "float": "float32",
    "double": "float64",
    "interval_month_day_nano": "month_day_nano_interval",
    "fixed_size_binary": "binary",
    "fixed_size_list": "list_",
    "list": "list_",
    "map": "map_",
}
"""The functions of pyarrow that make types, where they are not called like the type's id."""

NUMBER, TEXT = pa.int8(), pa.string()
FIELDS = [pa.field("a", NUMBER), pa.field("b", TEXT)]
ARGUMENTS: dict[str, list[Any]] = {
    "dictionary": [(NUMBER, TEXT)],
    "run_end_encoded": [(pa.int32(), TEXT), (pa.int16(), pa.dictionary(NUMBER, TEXT))],
    "struct": [(FIELDS,)],
    "list": [(TEXT,)],
    "fixed_size_list": [(TEXT, 2)],
    "large_list": [(TEXT,)],
    "list_view": [(TEXT,)],
    "large_list_view": [(NUMBER,)],
    "map": [(TEXT, NUMBER), (NUMBER, TEXT)],
    "dense_union": [(FIELDS,)],
    "sparse_union": [(FIELDS,)],
    "timestamp": [("s",), ("ms",), ("us",), ("ns",), ("us", "UTC"), ("s", "+05:30")],
    "time32": [("s",), ("ms",)],
    "time64": [("us",), ("ns",)],
    "duration": [("s",), ("ns",)],
    "decimal32": [(5, 2)],
    "decimal64": [(18, 2)],
    "decimal128": [(38, 5), (10, -2)],
    "decimal256": [(76, 10)],
    "fixed_size_binary": [(16,)],
}
EXTENSIONS = {"json_": (), "uuid": (), "bool8": (), "opaque": (TEXT, "t", "v")}
NOT_IN_PYARROW = ("interval_months", "interval_day_time")


def arrow_types() -> Iterator[pa.DataType]:
    """Yield a type or more of each id that pyarrow knows."""
    ids = [name.removeprefix("Type_").lower() for name in dir(pa.lib) if name.startswith("Type_")]
    if int(pa.__version__.split(".")[0]) < 20:
        # Whether older versions of Arrow take rows of them depends on how many there are.
        ids = [name for name in ids if "list_view" not in name]
    for name in ids:
        for arguments in ARGUMENTS.get(name, [()]):
            if name not in NOT_IN_PYARROW:
                yield getattr(pa, NAMES.get(name, name))(*arguments)
    for name, given in EXTENSIONS.items():
        if hasattr(pa, name):
            yield getattr(pa, name)(*given)


def arrow_column(kind: pa.DataType, null: bool = True) -> pa.Array:
    """Make an array of a type, with a null or without."""
    is_type = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, arrow_column(kind.storage_type, null))
    if is_type.is_dictionary(kind):
        indices = pa.array([0, None, 1, 2, 0, 3], kind.index_type)
        return pa.DictionaryArray.from_arrays(indices, arrow_column(kind.value_type))
    if is_type.is_run_end_encoded(kind):
        ends = pa.array([2, 3, 5, 6], kind.run_end_type)
        return pa.RunEndEncodedArray.from_arrays(ends, arrow_column(kind.value_type).slice(0, 4))
    if is_type.is_nested(kind):
        return nested_column(kind)
    return pa.array(
        [None if null and row == 1 else value for row, value in enumerate(arrow_values(kind))], kind
    )


def nested_column(kind: pa.DataType) -> pa.Array:
    """Make an array of lists, structs, maps or unions."""
    is_type = pa.types
    if is_type.is_union(kind):
        children = [arrow_column(field.type) for field in kind]
        ids, names = pa.array([0, 1] * 3, pa.int8()), [field.name for field in kind]
        if kind.mode == "sparse":
            return pa.UnionArray.from_sparse(ids, children, names)
        offsets = pa.array([0, 0, 1, 1, 2, 2], pa.int32())
        return pa.UnionArray.from_dense(ids, offsets, children, names)
    mask = pa.array([row == 1 for row in range(ROWS)])
    if is_type.is_struct(kind):
        children = [arrow_column(field.type) for field in kind]
        return pa.StructArray.from_arrays(children, fields=list(kind), mask=mask)
    if is_type.is_map(kind):
        keys, items = arrow_column(kind.key_type, null=False), arrow_column(kind.item_type)
        return pa.MapArray.from_arrays([0, None, 2, 3, 3, 6, 6], keys, items)
    values = arrow_column(kind.value_type)
    if is_type.is_fixed_size_list(kind):
        twice = pa.concat_arrays([values, values])
        return pa.FixedSizeListArray.from_arrays(twice, type=kind, mask=mask)
    if is_type.is_list(kind):
        return pa.ListArray.from_arrays([0, 2, 2, 3, 3, 6, 6], values, mask=mask, type=kind)
    if is_type.is_large_list(kind):
        return pa.LargeListArray.from_arrays([0, 2, 2, 3, 3, 6, 6], values, mask=mask, type=kind)
    # Views may overlap, and stand in any order.
    make = pa.ListViewArray if is_type.is_list_view(kind) else pa.LargeListViewArray
    return make.from_arrays([4, 0, 1, 3, 0, 2], [2, 0, 2, 0, 3, 1], values, mask=mask, type=kind)


def arrow_values(kind: pa.DataType) -> list[Any]:
    """List a value of a plain type for each row."""
    is_type = pa.types
    numbers = [number or 7 * (number is None) for number in NUMBERS]
    texts = [text or "5" for text in TEXTS]
    if is_type.is_null(kind):
        return [None] * ROWS
    if is_type.is_fixed_size_binary(kind):
        return [bytes([number]) * kind.byte_width for number in numbers]
    if kind == pa.month_day_nano_interval():
        return [(number, number, number) for number in numbers]
    if is_type.is_boolean(kind):
        return [number > 3 for number in numbers]
    if is_type.is_floating(kind):
        small = [0.1, 1.0, 3.0, 1e-7, 60_000.0, -0.0]
        return [np.float16(x) for x in small] if is_type.is_float16(kind) else small
    if is_type.is_decimal(kind):
        return [Decimal(number).scaleb(-kind.scale) for number in numbers]
    if is_type.is_integer(kind):
        return numbers
    if is_type.is_temporal(kind):
        days = pa.types.is_date(kind)
        steps = pa.array(numbers, pa.int32() if days or kind.bit_width == 32 else pa.int64())
        return list((steps.cast(pa.date32()) if days else steps).cast(kind))
    return [text.encode() for text in texts] if "binary" in str(kind) else texts


# polars


POLARS: dict[str, list[Any]] = {
    "Array": [(pl.Int8, 2)],
    "Datetime": [("ms",), ("us",), ("ns", "Europe/Berlin")],
    "Decimal": [(10, 2)],
    "Duration": [("us",)],
    "Enum": [(["a", "b"],)],
    "List": [(pl.String,)],
    "Struct": [({"a": pl.Int8, "b": pl.String},)],
    "Map": [(pl.String, pl.Int8)],
}
ABSTRACT = {"DataType", "BaseExtension", "Extension", "Object", "Unknown"}
SEVERAL: list[list[Any]] = [
    NUMBERS,
    [None if n is None else bool(n) for n in NUMBERS],
    ["a", None, "b", "a", "b", "a"],
    [[1, 2], None, [3, None], [4, 5], [6, 7], [8, 9]],
    [["a"], None, [], ["b", None], ["c"], ["d"]],
    [{"a": 1, "b": "x"}, None, {"a": None, "b": "y"}, *[{"a": 2, "b": None}] * 3],
    [{"x": 1}, None, {}, {"y": 2}, {"x": None}, {"z": 3}],
    [b"a", None, b"", b"b", b"c", b"d"],
    ["2024-01-01", None, "2024-01-02", "2024-01-03", "2024-01-04", "2024-01-05"],
]


def polars_series() -> Iterator[pl.Series]:
    """Yield a series of each data type of polars."""
    for name in dir(pl.datatypes):
        made = getattr(pl.datatypes, name)
        if not isinstance(made, type) or not issubclass(made, pl.DataType):
            continue
        if name in ABSTRACT or (name.endswith("Type") and made is not pl.Int8):
            continue
        for arguments in POLARS.get(name, [()]):
            yield polars_column(made(*arguments))


def polars_column(dtype: pl.DataType) -> pl.Series:
    """Make a series of values that a data type takes."""
    for values in SEVERAL:
        for given in (dtype, None):
            try:
                return pl.Series(values, dtype=given).cast(dtype)
            except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError):
                continue
    raise AssertionError(f"no values for {dtype}")


# DuckDB


DUCKDB = {
    "ARRAY": "INTEGER[2]",
    "DECIMAL": "DECIMAL(10,2)",
    "ENUM": "ENUM('a', 'b')",
    "LIST": "VARCHAR[]",
    "MAP": "MAP(VARCHAR, INTEGER)",
    "NULL": '"NULL"',
    "STRUCT": "STRUCT(a INTEGER, b VARCHAR)",
    "UNION": "UNION(a INTEGER, b VARCHAR)",
}
NOT_A_COLUMN = {"TUPLE", "TYPE"}
LITERALS = [
    *("1", "101", "a", "true", "2024-01-02", "12:30:01", "2024-01-02 03:04:05.678901+00"),
    *("[1, 2]", "{a=1, b=x}", "{'a': 1, 'b': x}", "3 days", "POINT (1 2)"),
    "550e8400-e29b-41d4-a716-446655440000",
]


def duckdb_types() -> list[str]:
    """List the types of DuckDB."""
    with duckdb.connect() as connection:
        rows = connection.sql("SELECT DISTINCT logical_type FROM duckdb_types() ORDER BY 1")
        names = [name for (name,) in rows.fetchall()]
    return [DUCKDB.get(name, name) for name in [*names, "JSON"] if name not in NOT_A_COLUMN]


def duckdb_query(kind: str) -> str:
    """Write a query for what a type makes of several literals; the others are null."""
    values = ", ".join(
        f"({row}, '{text.replace(chr(39), chr(39) * 2)}')" for row, text in enumerate(LITERALS)
    )
    return (
        f"SELECT 'r' || i AS id, TRY_CAST(v AS {kind}) AS v "
        f"FROM (VALUES {values}) AS t(i, v) ORDER BY i"
    )


# pandas


PANDAS: dict[str, list[Any]] = {
    "DatetimeTZDtype": [("ns", "UTC"), ("us", "Europe/Berlin")],
    "PeriodDtype": [("D",)],
    "IntervalDtype": [("int64", "right")],
    "SparseDtype": [("float64",)],
    "ArrowDtype": [(TEXT,), (pa.list_(NUMBER),), (pa.decimal128(9, 2),)],
}


def pandas_series() -> Iterator[pd.Series]:
    """Yield a column of each dtype of NumPy, and of each that pandas registers."""
    for code in np.typecodes["All"]:
        kinds = [f"{code}8[D]", f"{code}8[ns]"] if code in "mM" else [code]
        for dtype in map(np.dtype, kinds):
            numbers = np.array([0, 7, 100, 3, 4, 127])
            moments = numbers.astype("m8[D]" if code == "m" else "M8[D]")
            yield pd.Series((moments if code in "mM" else numbers).astype(dtype))
    registry: Any = pd.api.extensions.register_extension_dtype
    for made in registry.__globals__["_registry"].dtypes:
        for arguments in PANDAS.get(made.__name__, [()]):
            yield pandas_column(made(*arguments))


def pandas_column(dtype: Any) -> pd.Series:
    """Make a column of values that a dtype takes."""
    if isinstance(dtype, pd.IntervalDtype):
        return pd.Series(pd.interval_range(0, ROWS))
    if isinstance(dtype, pd.DatetimeTZDtype):
        return pd.Series(pd.to_datetime(pd.Series(NUMBERS, dtype="Int64"), utc=True)).astype(dtype)
    made: pd.Series
    for values in SEVERAL:
        try:
            made = pd.Series(values, dtype=dtype)
            return made
        except (TypeError, ValueError, NotImplementedError, pa.ArrowException):
            continue
    raise AssertionError(f"no values for {dtype}")
