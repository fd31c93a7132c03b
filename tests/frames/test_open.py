"""What is no frame, or lacks a column, is refused; what is one stays as it was."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import batch_frames as bf
from tests.support.frames import (
    ARROW,
    BODY,
    KINDS,
    SCHEMA,
    error_of,
    line,
    objects,
    warns,
    with_text,
    written,
)

NEEDED = "frame must be a pandas DataFrame or have __arrow_c_stream__ (pyarrow, polars, DuckDB)"


COLUMNS = ["id", "title", "review_text", "stars"]


@pytest.mark.parametrize("kind", ["pandas", *ARROW])
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("review_txt", "did you mean 'review_text'?"),
        ("Title", "did you mean 'title'?"),
        ("zzz", "it has 'id', 'title', 'review_text', 'stars'"),
        ("title!r", "there are no formats such as '!r'; format a column first"),
        ("stars:03d", "there are no formats such as ':03d'; format a column first"),
    ],
)
def test_a_missing_column_is_named_with_its_nearest(kind: str, name: str, hint: str) -> None:
    """A column that is not there is a ColumnError with the nearest name, wherever it is asked."""
    frame = KINDS[kind](pa.table({column: ["a"] for column in COLUMNS}))
    message = f"the frame has no column {name!r}; {hint}"
    several: list[dict[str, Any]] = [
        {"prompt_column": name},
        {"prompt_column": bf.fmt(f"{{title}} {{{name}}}")},
        {"id_column": name, "prompt_column": "title"},
        {"prompt_column": "title", "body": {"a": [{"b": bf.col(name)}]}},
    ]
    for options in several:
        with pytest.raises(bf.ColumnError) as caught:
            bf.from_dataframe(frame, **{"id_column": "id", "model": "m", **options})
        assert str(caught.value) == message


@pytest.mark.parametrize("kind", ["pandas", "Arrow"])
def test_a_name_that_stands_twice_is_refused_where_it_is_needed(kind: str) -> None:
    """Of two columns with one name neither is chosen; where nobody asks, they do no harm."""

    def frame(*names: str) -> Any:
        if kind == "pandas":
            return pd.DataFrame([list("abcd")], columns=list(names))
        return pa.table([["a"], ["b"], ["c"], ["d"]], names=list(names))

    for names, twice in (("id id text u", "id"), ("id text text u", "text")):
        error = error_of(frame(*names.split()))
        assert isinstance(error, bf.ColumnError)
        assert str(error) == f"the frame has 2 columns named {twice!r}; rename one"
    assert written(frame("id", "text", "u", "u")) == line("a", "b")


def test_pandas_columns_may_be_named_by_numbers() -> None:
    """A column of a frame without names is found by its number, as text."""
    assert written(pd.DataFrame([["a", "x"]]), id_column="0", prompt_column="1") == line("a", "x")


def test_one_column_may_be_everything() -> None:
    """The ids' column may be the prompt and a value too."""
    frame = pd.DataFrame({"id": ["a", "b"]})
    assert written(frame, prompt_column="id", body={"n": bf.col("id")}) == (
        line("a", "a", n="a") + line("b", "b", n="b")
    )


NO_FRAMES: dict[str, tuple[Any, str]] = {
    "dict": ({"id": ["a"]}, f"{NEEDED}, not dict; make it one with pandas.DataFrame(…)"),
    "list": ([{"id": "a"}], f"{NEEDED}, not list; make it one with pandas.DataFrame(…)"),
    "path": ("reviews.csv", f"{NEEDED}, not str; read a file with from_csv or from_parquet"),
    "LazyFrame": (
        pl.LazyFrame({"id": ["a"], "text": ["x"]}),
        f"{NEEDED}, not LazyFrame; call its collect() first",
    ),
    "None": (None, f"{NEEDED}, not NoneType"),
    "array": (np.zeros((2, 2)), f"{NEEDED}, not ndarray"),
}


@pytest.mark.parametrize("name", NO_FRAMES)
def test_what_is_no_frame_is_refused_with_advice(name: str) -> None:
    """Something else than a frame is a TypeError at once, which says what would be right."""
    frame, message = NO_FRAMES[name]
    with pytest.raises(TypeError) as caught:
        bf.from_dataframe(frame, id_column="id", prompt_column="text", model="m")
    assert str(caught.value) == message


SERIES: list[Any] = [
    pd.Series(["x"], name="text"),
    pl.Series("text", ["x"]),
    pa.chunked_array([["x"]]),
]


@pytest.mark.parametrize("column", SERIES, ids=["pandas", "polars", "Arrow"])
def test_a_single_column_is_no_frame(tmp_path: Path, column: Any) -> None:
    """A series may speak Arrow too, but it is no table, and the error says so everywhere."""
    results = pd.DataFrame({"custom_id": ["a"], "status": ["ok"]})
    advice = r"; call its to_frame\(\) first" if hasattr(column, "to_frame") else ": .+"
    message = f"frame must be a .+, not {type(column).__name__}{advice}"
    asked: dict[str, Any] = {"id_column": "id", "prompt_column": "text", "model": "m"}
    for call in (
        lambda: bf.from_dataframe(column, **asked),
        lambda: bf.plan(column, tmp_path / "x.jsonl", **asked),
        lambda: bf.run(column, tmp_path / "x.jsonl", **asked),
        lambda: bf.join_results(column, results, id_column="id"),
    ):
        with pytest.raises(TypeError, match=rf"\A{message}\Z"):
            call()


def look_ahead(frame: Any) -> None:
    """Look at the first request of a long frame."""
    batch = bf.from_dataframe(frame, id_column="id", prompt_column="text", model="m")
    assert batch.preview_entry()["custom_id"] == "0"
    raise bf.BatchFramesError("only for the sake of the traceback")


@pytest.mark.parametrize(
    "act",
    [
        lambda frame: written(frame, prompt_column="txt"),
        lambda frame: written(frame, body={"x": bf.col("x")}),
        look_ahead,
    ],
    ids=["missing column", "refused row", "preview"],
)
def test_a_duckdb_connection_is_free_after_an_error(act: Callable[[Any], Any]) -> None:
    """A connection can run its next query even while someone still holds the error."""
    with duckdb.connect() as connection:
        x = "if(range = 5, 'inf'::DOUBLE, 0)"
        frame = connection.sql(f"SELECT range::TEXT id, 't' AS text, {x} x FROM range(100_000)")
        with pytest.raises(bf.BatchFramesError) as held:
            act(frame)
        assert connection.sql("SELECT 1").fetchall() == [(1,)]
        assert held.value.__traceback__ is not None


@pytest.mark.parametrize("kind", [*KINDS, "no batches"])
def test_an_empty_frame_makes_an_empty_file(kind: str) -> None:
    """A frame without rows makes an empty file, and a warning says so."""
    table = SCHEMA.empty_table()
    if kind == "no batches":
        frame = pa.RecordBatchReader.from_batches(SCHEMA, [])
    elif kind == "Arrow slices":
        frame = table
    elif kind == "Arrow record batch":
        frame = pa.RecordBatch.from_pylist([], SCHEMA)
    else:
        frame = KINDS[kind](table)
    with warns("there are no requests: the file is empty"):
        assert written(frame, body=BODY) == b""


def test_the_frame_is_left_as_it_was() -> None:
    """Reading a frame changes neither its values nor its dtypes."""
    frame = with_text(objects("x", [1.5])).assign(n=[1.0, math.nan], c=pd.Categorical(["a", None]))
    before = frame.copy(deep=True)
    body = {"n": bf.col("n"), "c": bf.col("c")}
    assert written(frame, body=body) == written(frame, body=body)
    pd.testing.assert_frame_equal(frame, before)


def test_columns_that_nobody_asks_for_are_not_read() -> None:
    """A column that JSON cannot hold does no harm where the template has no use for it."""
    frame = with_text(["x", "y"]).assign(o=objects(object(), b"x"), c=[1j, 2j])
    assert written(frame) == line("a", "x") + line("b", "y")
