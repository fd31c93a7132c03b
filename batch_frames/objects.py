"""Turn Python objects in a pandas column into Arrow: plain values at once, others row by row."""

from __future__ import annotations

import contextlib
import datetime
import json
import uuid
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from batch_frames.arrow import INT64_END, TEXT, JsonText, PythonText, to_json
from batch_frames.errors import CellError

__all__ = ["object_array"]


ARROW_UNITS = ("D", "s", "ms", "us", "ns")

PLAIN = {
    "string",
    "empty",
    "integer",
    "floating",
    "mixed-integer-float",
    "boolean",
    "date",
    "bytes",
}


def object_array(values: npt.NDArray[np.object_], *, whole_floats: bool = True) -> pa.Array:
    """Convert a block of objects; None, NA, NaT and NaN become null.

    Columns of dicts, lists and of mixed types become JSON row by row, as ``json.dumps`` has it.

    Args:
        values: The objects.
        whole_floats: Whether a float such as 3.0, among other kinds, is the whole number 3.

    Raises:
        CellError: If JSON cannot hold a value.
    """
    kind = pd.api.types.infer_dtype(values, skipna=True)
    with contextlib.suppress(pa.ArrowException, OverflowError, UnicodeEncodeError):
        if kind == "string":
            text = pa.array(values, TEXT, from_pandas=True)
            return pa.ExtensionArray.from_storage(PythonText(), text)
        if kind in PLAIN and (whole_floats or kind != "mixed-integer-float"):
            return pa.array(values, from_pandas=True)
    missing = pd.isna(values)
    rows = [
        None if gone else _dumps(i, values[i], whole_floats=whole_floats)
        for i, gone in enumerate(missing)
    ]
    return pa.ExtensionArray.from_storage(JsonText(), pa.array(rows, TEXT))


def _dumps(index: int, value: Any, *, whole_floats: bool) -> str:
    if whole_floats and isinstance(value, float) and value.is_integer() and abs(value) < INT64_END:
        value = int(value)
    try:
        text = json.dumps(
            value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_plain
        )
        text.encode()
    except UnicodeEncodeError:
        raise CellError(index, "holds a lone surrogate, which is not text") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise CellError(index, f"has no JSON form: {error}") from None
    return text


def _plain(value: Any) -> Any:
    """Give ``json.dumps`` something that it knows."""
    if value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, Decimal) and not value.is_finite():
        raise ValueError(f"JSON cannot hold {value}")
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "mM":
        return _moments(value)
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (Decimal, uuid.UUID)):
        return str(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} values are not JSON")


def _moments(value: Any) -> Any:
    if value.dtype.kind == "m":
        raise TypeError("durations are not JSON")
    if np.datetime_data(value.dtype)[0] not in ARROW_UNITS:
        value = value.astype("datetime64[s]")
    text = to_json(pa.array(np.atleast_1d(value).ravel())).to_pylist()
    loaded = [None if moment is None else json.loads(moment) for moment in text]
    return loaded if isinstance(value, np.ndarray) else loaded[0]
