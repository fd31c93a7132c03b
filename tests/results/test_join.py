"""Results find the rows that they belong to, and change nothing else about a frame."""

from __future__ import annotations

import copy
import json
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

import batch_frames as bf

STATUSES = [
    *("ok", "truncated", "refused", "filtered", "invalid_json"),
    *("http_error", "expired", "cancelled", "missing", "malformed", "skipped"),
]
MOMENT = datetime(2024, 1, 2, 3, 4, 5, 678_000)

Result = tuple[str, str, str]
"""The custom_id, the status and the content of a result."""


def line_of(custom_id: Any, status: str, content: str) -> str:
    """Write a result as the service does."""
    if status in ("expired", "cancelled"):
        value: Any = {"response": None, "error": {"code": f"batch_{status}", "message": content}}
    elif status == "http_error":
        body = {"error": {"code": "server_error", "message": content}}
        value = {"response": {"status_code": 500, "body": body}, "error": None}
    else:
        finish = {"truncated": "length", "filtered": "content_filter"}.get(status, "stop")
        said: dict[str, Any] = {
            "content": content,
            "refusal": content if status == "refused" else None,
        }
        choices = [{"index": 0, "message": said, "finish_reason": finish}]
        answer = {"model": "m", "choices": choices, "usage": {"prompt_tokens": 12}}
        value = {"response": {"status_code": 200, "body": answer}, "error": None}
    return json.dumps({"custom_id": custom_id, **value})


def results_of(*results: Result, **options: Any) -> pd.DataFrame:
    """Read results out of a file that has them."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "output.jsonl"
        path.write_text("\n".join(line_of(*result) for result in results))
        read: pd.DataFrame = bf.read_results(path, **options)
        return read


def ids_in(path: Path) -> list[str]:
    """Read the ids of a request file with the standard library."""
    return [json.loads(line)["custom_id"] for line in path.read_bytes().splitlines()]


def answered(frame: Any, id_column: str | None, folder: Path) -> pd.DataFrame:
    """Send a frame's rows, and answer the n-th with ``answer n``, the last row first."""
    path = folder / "requests.jsonl"
    batch = bf.from_dataframe(
        frame, id_column=id_column, prompt_column="review", model="m", system_prompt=None
    )
    batch.save_to_file(path, progress=False)
    results = [(key, "ok", f"answer {n}") for n, key in enumerate(ids_in(path))]
    return results_of(*reversed(results))


def answers(count: int) -> list[str]:
    """Say what the rows must have got."""
    return [f"answer {n}" for n in range(count)]


IDS: dict[str, Callable[[], Any]] = {
    "int64": lambda: pd.Series([7, -8, 900]),
    "uint8": lambda: np.array([7, 8, 200], np.uint8),
    "Int64": lambda: pd.array([7, 8, 2**62 + 1], "Int64"),
    "int64[pyarrow]": lambda: pd.Series([7, 8, 2**62 + 1], dtype="int64[pyarrow]"),
    "str": lambda: ["00123", "2024-01-01", "1e5"],
    "odd text": lambda: ['"\\', "é✓ 漢", " \u2028\t"],
    "object": lambda: pd.Series(["a", "b", "c"], dtype=object),
    "string": lambda: pd.array(["a", "b", "c"], "string"),
    "string[pyarrow]": lambda: pd.Series(["a", "b", "c"], dtype="string[pyarrow]"),
    "text and numbers": lambda: pd.Series(["a", 7, 10**30], dtype=object),
    "datetime64[ns]": lambda: pd.to_datetime(["2024-01-01", "2024-01-02", "2024-02-01"]),
    "datetime64[us]": lambda: np.array(["2024-01-01T01:02:03.5", "2024-01-02", "2025"], "M8[us]"),
    "datetime64 in a zone": lambda: pd.date_range("2024-01-01", periods=3, tz="Europe/Berlin"),
    "datetime": lambda: pd.Series(
        [MOMENT, MOMENT.replace(hour=9), MOMENT.replace(day=5)], dtype=object
    ),
    "date": lambda: [date(2024, 1, 1), date(2024, 1, 2), date(2023, 12, 31)],
    "date32[pyarrow]": lambda: pd.Series([date(2024, 1, n) for n in (1, 2, 3)]).astype(
        pd.ArrowDtype(pa.date32())
    ),
    "categorical": lambda: pd.Categorical(["b", "a", "c"], categories=["c", "a", "x", "b"]),
    "categorical of numbers": lambda: pd.Categorical([30, 10, 20]),
    "Decimal": lambda: [Decimal("1.50"), Decimal("2.00"), Decimal("-3.25")],
    "decimal128[pyarrow]": lambda: pd.Series(
        [Decimal("1.50"), Decimal("2.00"), Decimal("-3.25")],
        dtype=pd.ArrowDtype(pa.decimal128(10, 2)),
    ),
    "UUID": lambda: [uuid.UUID(int=n << 90) for n in (1, 2, 3)],
}
FRAMES: dict[str, Callable[[dict[str, list[Any]]], Any]] = {
    "polars": pl.DataFrame,
    "pyarrow": pa.table,
    "pyarrow reader": lambda columns: pa.table(columns).to_reader(),
    "DuckDB": lambda columns: duckdb.from_arrow(pa.table(columns)),
}


@pytest.mark.parametrize("kind", IDS)
def test_ids_of_any_type_find_what_was_written_for_them(kind: str, tmp_path: Path) -> None:
    """An id in a column is compared as it was written, and the column stays as it is."""
    frame = pd.DataFrame({"key": IDS[kind](), "review": ["x", "y", "z"]})
    joined = bf.join_results(frame, answered(frame, "key", tmp_path), id_column="key")
    assert joined["content"].tolist() == answers(3)
    assert joined["status"].tolist() == ["ok"] * 3
    assert_frame_equal(joined[["key", "review"]], frame)


@pytest.mark.parametrize("kind", IDS)
@pytest.mark.parametrize("name", [None, "key"])
def test_ids_in_the_index_find_what_was_written_for_them(
    kind: str, name: str | None, tmp_path: Path
) -> None:
    """An id in the index is found likewise, by the index's name too, and the index stays."""
    ids = IDS[kind]()
    index = pd.Index(ids, name=name, dtype=getattr(ids, "dtype", None))
    frame = pd.DataFrame({"review": ["x", "y", "z"]}, index=index)
    results = answered(frame, None, tmp_path)
    for id_column in {None, name}:
        joined = bf.join_results(frame, results, id_column=id_column)
        assert joined["content"].tolist() == answers(3)
        assert_frame_equal(joined[["review"]], frame)


@pytest.mark.parametrize("like", [pl.DataFrame, pa.table])
def test_answers_of_several_types_are_json_outside_pandas(tmp_path: Path, like: Any) -> None:
    """Texts and numbers beside lists become JSON too, as ``scan_results`` has them."""
    any_of: list[Any] = [{"type": one} for one in ("string", "integer", "null")]
    any_of.append({"type": "array", "items": {"type": "integer"}})
    schema = {
        "type": "object",
        "properties": {"v": {"anyOf": any_of}},
        "required": ["v"],
        "additionalProperties": False,
    }
    values = ["x", 3, [1, 2], None]
    lines = [line_of(str(n), "ok", json.dumps({"v": v})) for n, v in enumerate(values)]
    path = tmp_path / "o.jsonl"
    path.write_text("".join(f"{line.rstrip()}\n" for line in lines))
    results = bf.read_results(path, json_schema=schema)
    assert results["v"].tolist() == values
    frame = like({"id": ["3", "0", "1", "2"]})
    joined = bf.join_results(frame, results, id_column="id", columns=["status", "v"])
    assert pa.table(joined)["v"].to_pylist() == [None, '"x"', "3", "[1,2]"]
    streamed = bf.scan_results(path, json_schema=schema).read_all()["v"].to_pylist()
    assert streamed[:3] == ['"x"', "3", "[1,2]"]


@pytest.mark.parametrize("kind", FRAMES)
@pytest.mark.parametrize("kept", ["pandas", "polars", "pyarrow"])
def test_frames_of_other_libraries_stay_what_they_are(kind: str, kept: str, tmp_path: Path) -> None:
    """polars gives polars, and all else that speaks Arrow gives pyarrow, whatever results are."""
    columns: dict[str, list[Any]] = {"key": [3, 1, 2], "review": ["x", "y", "z"]}
    results = answered(FRAMES[kind](columns), "key", tmp_path)
    given = {"pandas": results, "polars": pl.DataFrame(results), "pyarrow": pa.table(results)}[kept]
    joined: Any = bf.join_results(FRAMES[kind](columns), given, id_column="key")
    assert type(joined) is (pl.DataFrame if kind == "polars" else pa.Table)
    table: pa.Table = joined.to_arrow() if kind == "polars" else joined
    assert table.column_names == ["key", "review", *results.columns]
    assert table.select(["key", "review"]).to_pydict() == columns
    assert table["custom_id"].to_pylist() == ["3", "1", "2"]
    assert table["content"].to_pylist() == answers(3)
    assert table["input_tokens"].to_pylist() == [12] * 3


def test_types_of_other_libraries_stay() -> None:
    """Columns of polars keep types that pandas does not have, and lists of results theirs."""
    frame = pl.DataFrame(
        {"key": ["a", "b"], "big": [2**60 + 1, None], "day": [date(2024, 1, 1)] * 2}
    )
    frame = frame.with_columns(pl.Series("tone", ["x", "y"], dtype=pl.Enum(["y", "x"])))
    tags = {"tags": {"type": "array", "items": {"type": "integer"}}}
    results = results_of(("a", "ok", '{"tags": [1, 2]}'), json_schema={"properties": tags})
    joined = bf.join_results(frame, results, id_column="key")
    assert joined.select(frame.columns).equals(frame)
    assert joined.select(frame.columns).schema == frame.schema
    assert joined["tags"].to_list() == [[1, 2], None]
    assert joined["tags"].dtype == pl.List(pl.Int64)
    assert joined["status"].to_list() == ["ok", "missing"]


Row = tuple[str, str]
"""A custom_id and a status, of a result."""


@given(
    ids=st.lists(st.sampled_from("abcdef"), unique=True),
    rows=st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(STATUSES)), max_size=20),
)
@pytest.mark.filterwarnings("ignore:no result matches any row")
@pytest.mark.filterwarnings("ignore:.* no row:UserWarning")
def test_each_row_gets_its_best_result(ids: list[str], rows: list[Row]) -> None:
    """The better status wins, then the later result; there are never more rows than before."""
    frame = pd.DataFrame({"key": ids})
    columns = {"custom_id": [row[0] for row in rows], "status": [row[1] for row in rows]}
    results = pd.DataFrame(columns, dtype=object).assign(place=range(len(rows)))
    joined = bf.join_results(frame, results, id_column="key")
    wanted: list[tuple[str, int | None]] = []
    for key in ids:
        best: tuple[str, int | None] = ("missing", None)
        for place, (custom_id, status) in enumerate(rows):
            better = best[1] is None or STATUSES.index(status) <= STATUSES.index(best[0])
            if custom_id == key and better:
                best = (status, place)
        wanted.append(best)
    assert joined["key"].tolist() == ids
    assert joined["status"].tolist() == [status for status, _ in wanted]
    assert joined["place"].astype(object).where(joined["place"].notna(), None).tolist() == [
        place for _, place in wanted
    ]


def test_the_best_of_several_results_wins() -> None:
    """Written out: an answer beats an error before or behind it, a later answer an earlier one."""
    results = results_of(
        ("a", "ok", "first"),
        ("b", "expired", "too late"),
        ("a", "ok", "second"),
        ("b", "truncated", "cut"),
        ("b", "http_error", "broken"),
    )
    joined = bf.join_results(pd.DataFrame({"n": [1, 2]}, index=["b", "a"]), results)
    assert joined["status"].tolist() == ["truncated", "ok"]
    assert joined["content"].tolist() == ["cut", "second"]


def frame_of_many_types() -> pd.DataFrame:
    """Make a frame whose dtypes are easily lost."""
    return pd.DataFrame(
        {
            "key": ["b", "c", "a"],
            "small": np.array([1, 2, 3], np.int8),
            "flag": [True, False, True],
            "half": np.array([0.5, np.nan, 2.0], np.float32),
            "kind": pd.Categorical(["x", None, "y"], categories=["y", "x"], ordered=True),
            "when": pd.date_range("2024-01-01", periods=3, tz="UTC"),
            "maybe": pd.array([1, None, 3], "Int16"),
            "list": [[1, 2], None, []],
            "arrow": pd.Series(
                [[1.5], None, []], dtype=pd.ArrowDtype(pa.list_(pa.float32()))
            ).array,
        },
        index=pd.MultiIndex.from_tuples([("p", 2), ("p", 2), ("q", 1)], names=["letter", "n"]),
    )


def test_rows_order_index_and_dtypes_stay() -> None:
    """All that a frame has stays as it is, even an index that repeats."""
    frame = frame_of_many_types()
    joined = bf.join_results(frame, results_of(("a", "ok", "x"), ("b", "ok", "y")), id_column="key")
    assert_frame_equal(joined[list(frame.columns)], frame)
    assert joined["content"].astype(object).where(joined["content"].notna(), None).tolist() == [
        "y",
        None,
        "x",
    ]


def test_neither_frame_nor_results_are_changed() -> None:
    """What is joined is new: its sources keep their values, also when it is changed."""
    frame, results = frame_of_many_types(), results_of(("a", "ok", "x"), ("b", "ok", "y"))
    before = copy.deepcopy((frame, results))
    joined = bf.join_results(frame, results, id_column="key")
    joined["small"] = 0
    joined.loc[:, "key"] = "changed"
    joined.loc[:, "content"] = "changed"
    assert_frame_equal(frame, before[0])
    assert_frame_equal(results, before[1])


def test_results_keep_their_dtypes() -> None:
    """Among missing rows, whole numbers stay whole, statuses a categorical, lists lists."""
    schema = {
        "type": "object",
        "properties": {
            "stars": {"type": "integer"},
            "tone": {"enum": ["calm", "happy"]},
            "tags": {"type": "array", "items": {"type": "string"}},
            "day": {"type": "string", "format": "date"},
        },
    }
    content = '{"stars": 3, "tone": "calm", "tags": ["a", "b"], "day": "2024-01-01"}'
    for dtype_backend in (None, "numpy_nullable", "pyarrow"):
        options = {"json_schema": schema, "dtype_backend": dtype_backend}
        results = results_of(("a", "ok", content), **options)
        joined = bf.join_results(pd.DataFrame({"n": [1, 2]}, index=["z", "a"]), results)
        assert joined.columns.tolist() == ["n", *results.columns]
        # The missing row makes lists of the reader's own dtype no other.
        assert joined.dtypes[1:].to_dict() == results.dtypes.to_dict()
        assert joined.iloc[1]["stars"] == 3
        assert list(joined.iloc[1]["tags"]) == ["a", "b"]
        assert joined.iloc[0].drop(["n", "custom_id", "status"]).isna().all()
        assert joined["custom_id"].tolist() == ["z", "a"]
        assert joined["status"].cat.categories.tolist() == STATUSES


@pytest.mark.parametrize("dtype_backend", [None, "pyarrow"])
def test_vectors_stay_vectors(dtype_backend: str | None, tmp_path: Path) -> None:
    """Embeddings come to their rows whole; a row without one has none."""
    path = tmp_path / "output.jsonl"
    lines = []
    for key, vector in {"b": [0.5, 1.0], "a": [2.0, -1.0]}.items():
        body = {"object": "list", "model": "e", "data": [{"index": 0, "embedding": vector}]}
        lines.append({"custom_id": key, "response": {"status_code": 200, "body": body}})
    path.write_text("\n".join(map(json.dumps, lines)))
    results = bf.read_results(path, dtype_backend=dtype_backend)
    joined = bf.join_results(pd.DataFrame(index=["a", "x", "b"]), results)
    assert joined.dtypes["embedding"] == results.dtypes["embedding"]
    found = joined["embedding"].tolist()
    assert [list(found[0]), list(found[2])] == [[2.0, -1.0], [0.5, 1.0]]
    assert joined["embedding"].isna().tolist() == [False, True, False]


@pytest.mark.parametrize("kind", ["int8", "int64", "uint32", "uint64"])
def test_whole_numbers_do_not_turn_into_floats(kind: str) -> None:
    """Columns of NumPy's whole numbers and booleans become nullable where a row is missing."""
    largest = np.iinfo(kind).max
    results = pd.DataFrame(
        {
            "custom_id": ["a", "b"],
            "status": "ok",
            "n": np.array([largest, 1], kind),
            "flag": [True, False],
        }
    )
    joined = bf.join_results(pd.DataFrame({"x": range(3)}, index=["b", "z", "a"]), results)
    assert joined["n"].tolist() == [1, pd.NA, largest]
    assert joined["flag"].tolist() == [False, pd.NA, True]


def test_rows_without_a_result_are_missing() -> None:
    """A row that nobody answered has the status and nothing else; so has one without an id."""
    frame = pd.DataFrame({"key": ["x", None, "a", None]})
    joined = bf.join_results(frame, results_of(("a", "ok", "hi")), id_column="key")
    assert joined["status"].tolist() == ["missing", "missing", "ok", "missing"]
    assert joined["content"].notna().tolist() == [False, False, True, False]


def test_rows_without_a_request_are_skipped(tmp_path: Path) -> None:
    """A row of no request was not asked, unless results were taken out: then nobody knows."""
    frame = pd.DataFrame({"id": ["a", "b", "c"], "review": ["good", None, "bad"]})
    path = tmp_path / "requests.jsonl"
    batch = bf.from_dataframe(frame, id_column="id", prompt_column="review", model="m", na="skip")
    with pytest.warns(
        UserWarning, match=r"^skipped 1 row without a prompt: row 1 \(custom_id 'b'\)$"
    ):
        batch.save_to_file(path, progress=False)
    output = tmp_path / "output.jsonl"
    output.write_text(line_of("a", "ok", "yes"))
    results = bf.read_results(output, requests=path)
    joined = bf.join_results(frame, results, id_column="id")
    assert joined["status"].tolist() == ["ok", "skipped", "missing"]
    assert bf.summarize(joined)["status"].tolist() == ["ok", "missing", "skipped"]
    table = bf.read_results(output, requests=path, like=pa.table({}))
    out = tmp_path / "out.parquet"
    for whole in (results, table, bf.scan_results(output, requests=path).read_all()):
        joined = bf.join_results(frame, whole, id_column="id")
        assert joined["status"].tolist() == ["ok", "skipped", "missing"]
        bf.join_results(frame, whole, id_column="id", out=out)
        assert pd.read_parquet(out)["status"].tolist() == ["ok", "skipped", "missing"]
    for left in (results[:1], table[:1], bf.read_results(output), pl.from_arrow(table)):
        joined = bf.join_results(frame, left, id_column="id")
        assert joined["status"].tolist() == ["ok", "missing", "missing"]
        bf.join_results(frame, left, id_column="id", out=out)
        assert pd.read_parquet(out)["status"].tolist() == ["ok", "missing", "missing"]


def test_malformed_results_belong_to_no_row() -> None:
    """A result without an id is nobody's, not even that of a row without an id."""
    frame = pd.DataFrame({"key": [None, "a"]})
    results = results_of(("a", "ok", "hi"), (None, "ok", "stray"))  # type: ignore[arg-type]
    assert results["status"].tolist() == ["ok", "malformed"]
    joined = bf.join_results(frame, results, id_column="key")
    assert joined["status"].tolist() == ["missing", "ok"]


@pytest.mark.parametrize("kind", ["str", "int64", "datetime64[ns]"])
def test_an_empty_frame_stays_empty(kind: str) -> None:
    """No rows get no results; all columns are there."""
    frame = pd.DataFrame({"key": pd.Series([], dtype=kind)})
    results = results_of(("a", "ok", "hi"))
    joined = bf.join_results(frame, results, id_column="key")
    assert joined.columns.tolist() == ["key", *results.columns]
    assert joined.dtypes["key"] == frame.dtypes["key"]
    assert len(joined) == 0


def test_no_results_leave_all_rows_missing(tmp_path: Path) -> None:
    """An empty output file gives every row its status."""
    (tmp_path / "output.jsonl").touch()
    results = bf.read_results(tmp_path / "output.jsonl")
    frame = pd.DataFrame({"x": [1, 2]})
    joined = bf.join_results(frame, results)
    assert joined["status"].tolist() == ["missing", "missing"]
    assert joined.drop(columns=["x", "custom_id", "status"]).isna().all(axis=None)
    assert_frame_equal(joined[["x"]], frame)
    assert len(bf.join_results(frame.head(0), results)) == 0


def to_csv_and_back(results: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Keep results in CSV."""
    results.to_csv(folder / "results.csv", index=False)
    return pd.read_csv(folder / "results.csv")


def to_parquet_and_back(results: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Keep results in Parquet."""
    results.to_parquet(folder / "results.parquet")
    return pd.read_parquet(folder / "results.parquet")


@pytest.mark.parametrize("keep", [to_csv_and_back, to_parquet_and_back])
@pytest.mark.parametrize("ids", [["7", "8", "9"], ["a", "b", "c"]])
def test_kept_results_are_still_found(
    keep: Callable[[pd.DataFrame, Path], pd.DataFrame], ids: list[str], tmp_path: Path
) -> None:
    """Results that were saved and loaded by pandas find their rows, as do numbers read from CSV."""
    results = results_of((ids[1], "ok", "hi"), (ids[0], "http_error", "no"))
    frame = pd.DataFrame({"x": [1, 2, 3]}, index=ids)
    joined = bf.join_results(frame, keep(results, tmp_path))
    assert joined["status"].tolist() == ["http_error", "ok", "missing"]
    assert joined["status"].cat.categories.tolist() == STATUSES
    assert joined["content"].fillna("").tolist() == ["", "hi", ""]
    assert joined["input_tokens"].fillna(0).tolist() == [0, 12, 0]
    again = bf.join_results(frame, results)
    assert joined["error_message"].fillna("").tolist() == again["error_message"].fillna("").tolist()


@pytest.mark.parametrize(
    ("columns", "prefix", "names"),
    [
        (["content"], "", ["content"]),
        (["content", "status"], "", ["content", "status"]),
        ("status", "", ["status"]),
        (["custom_id", "status"], "their_", ["their_custom_id", "their_status"]),
        ([], "", []),
    ],
)
def test_wanted_columns_come_in_their_order(
    columns: Any, prefix: str, names: Iterable[str]
) -> None:
    """``columns`` chooses, and ``prefix`` stands before every name."""
    results = results_of(("a", "ok", "hi"))
    frame = pd.DataFrame({"x": [1]}, index=["a"])
    joined = bf.join_results(frame, results, columns=columns, prefix=prefix)
    assert joined.columns.tolist() == ["x", *names]
    chosen = [columns] if isinstance(columns, str) else columns
    assert list(joined.iloc[0])[1:] == [results.loc[0, name] for name in chosen]


def test_a_prefix_or_fewer_columns_avoid_equal_names() -> None:
    """Names in both are an error that lists them and says what to pass; either advice works."""
    results = results_of(("a", "ok", "hi"))
    frame = pd.DataFrame({"model": ["ours"], "x": [1], "status": ["new"]}, index=["a"])
    with pytest.raises(bf.ColumnError) as caught:
        bf.join_results(frame, results)
    assert str(caught.value) == (
        "the frame and the results both have 'status', 'model'; "
        'pass prefix="answer_", or columns= with those that you need'
    )
    joined = bf.join_results(frame, results, prefix="answer_")
    assert [joined[name].iloc[0] for name in ("status", "answer_status")] == ["new", "ok"]
    assert [joined[name].iloc[0] for name in ("model", "answer_model")] == ["ours", "m"]
    assert bf.join_results(frame, results, columns=["content"])["content"].tolist() == ["hi"]


def test_a_prefix_can_make_names_equal() -> None:
    """The names that will stand are compared, not those of the results."""
    frame = pd.DataFrame({"model": ["m"], "a_status": ["new"]}, index=["a"])
    with pytest.raises(bf.ColumnError) as caught:
        bf.join_results(frame, results_of(("a", "ok", "hi")), prefix="a_")
    assert str(caught.value) == (
        "the frame and the results both have 'a_status'; "
        'pass prefix="answer_", or columns= with those that you need'
    )


def test_the_ids_may_have_the_results_own_name() -> None:
    """A frame whose ids are called ``custom_id`` needs no prefix."""
    frame = pd.DataFrame({"custom_id": ["a"]})
    joined = bf.join_results(frame, results_of(("a", "ok", "hi")), id_column="custom_id")
    assert joined["custom_id"].tolist() == ["a"]
    assert joined["content"].tolist() == ["hi"]


@pytest.mark.parametrize(
    ("ids", "problem"),
    [
        (["b", "a", "b"], "'b' in row 0 and row 2"),
        (
            ["a", "b", "a", "b", "a"],
            "'a' in row 0 and row 2; 'b' in row 1 and row 3; 'a' in row 0 and row 4",
        ),
        ([7, "7"], "'7' in row 0 and row 1"),
        (["a"] * 7, "; ".join(f"'a' in row 0 and row {n}" for n in range(1, 4)) + "; … and 3 more"),
    ],
)
def test_an_id_twice_is_an_error(ids: list[Any], problem: str) -> None:
    """An id that stands twice in the frame, as it is written, is refused with its rows."""
    with pytest.raises(bf.RequestError) as caught:
        bf.join_results(pd.DataFrame({"k": ids}), results_of(("a", "ok", "x")), id_column="k")
    assert str(caught.value) == f"custom_id must be unique: {problem}"
    second = next(n for n, key in enumerate(ids) if str(key) in map(str, ids[:n]))
    assert (caught.value.row, caught.value.custom_id) == (second, str(ids[second]))


def test_an_index_that_repeats_is_an_error() -> None:
    """Ids in the index are no exception, with thousands separators in their rows."""
    frame = pd.DataFrame({"x": 1}, index=[*range(1_500), 3])
    with pytest.raises(bf.RequestError) as caught:
        bf.join_results(frame, results_of(("a", "ok", "x")))
    assert str(caught.value) == "custom_id must be unique: '3' in row 3 and row 1,500"


INDEX = pd.MultiIndex.from_tuples([("a", 1), ("a", 2)])


@pytest.mark.parametrize(
    ("frame", "id_column", "kind", "message"),
    [
        (
            pd.DataFrame({"x": [1, 2]}, index=INDEX[[0, 0]]),
            None,
            bf.RequestError,
            "custom_id must be unique: 'a|1' in row 0 and row 1",
        ),
        (
            pd.DataFrame({"key": ["a"]}),
            "ki",
            bf.ColumnError,
            "the frame has no column 'ki'; it has 'key'",
        ),
        (
            pd.DataFrame({"key": [1.0, 2.5]}),
            "key",
            bf.RequestError,
            'row 0: key is the float 1.0; make them whole numbers, in pandas with .astype("Int64")',
        ),
        (
            pd.DataFrame({"key": [True]}),
            "key",
            bf.ColumnError,
            "key holds bool values; "
            "an id must be text, a whole number, a date, a decimal or a UUID",
        ),
        (
            pl.DataFrame({"key": ["a"]}),
            None,
            bf.ColumnError,
            "a DataFrame has no index to take the ids from; pass id_column=",
        ),
        (
            "reviews.csv",
            "key",
            TypeError,
            "frame must be a pandas DataFrame or have __arrow_c_stream__ (pyarrow, polars, "
            "DuckDB), not str; read a file with from_csv or from_parquet",
        ),
    ],
)
def test_frames_without_good_ids_are_refused(
    frame: Any, id_column: str | None, kind: type[Exception], message: str
) -> None:
    """Where the ids cannot be told, the error says why and what would be right."""
    with pytest.raises(kind) as caught:
        bf.join_results(frame, results_of(("a", "ok", "x")), id_column=id_column)
    assert str(caught.value) == message


def test_ids_of_several_levels_go_into_a_column() -> None:
    """What the error about an index of several levels advises works, and the index stays."""
    frame = pd.DataFrame({"x": [1, 2]}, index=INDEX)
    frame["key"] = [f"{letter}-{n}" for letter, n in frame.index]
    joined = bf.join_results(frame, results_of(("a-2", "ok", "hi")), id_column="key")
    assert joined["status"].tolist() == ["missing", "ok"]
    assert_frame_equal(joined[["x", "key"]], frame)


@pytest.mark.parametrize(
    ("results", "kind", "message"),
    [
        (
            pd.DataFrame({"status": ["ok"]}),
            bf.ColumnError,
            "the table of results has no column 'custom_id'; it has 'status'",
        ),
        (
            pd.DataFrame({"custom_id": ["a"], "state": ["ok"]}),
            bf.ColumnError,
            "the table of results has no column 'status'; "
            "pass what read_results, join_results or run returned",
        ),
        (
            pd.DataFrame({"custom_id": ["a", "b"], "status": ["ok", "done"]}),
            bf.ColumnError,
            "results have the status 'done', which is none of ok, truncated, refused, filtered, "
            "invalid_json, http_error, expired, cancelled, missing, malformed, skipped",
        ),
        (
            ["output.jsonl"],
            TypeError,
            "results must be the DataFrame that read_results returned, not list",
        ),
    ],
)
def test_what_are_no_results_is_refused(results: Any, kind: type[Exception], message: str) -> None:
    """A table that ``read_results`` did not make, or a list of files, is an error."""
    with pytest.raises(kind) as caught:
        bf.join_results(pd.DataFrame({"x": [1]}, index=["a"]), results)
    assert str(caught.value) == message


def test_an_unknown_column_of_the_results_is_an_error() -> None:
    """A misspelt name in ``columns`` is met with the nearest."""
    with pytest.raises(bf.ColumnError) as caught:
        bf.join_results(
            pd.DataFrame({"x": [1]}, index=["a"]),
            results_of(("a", "ok", "x")),
            columns=["contents"],
        )
    assert (
        str(caught.value)
        == "the table of results has no column 'contents'; did you mean 'content'?"
    )


def test_results_of_other_rows_are_told() -> None:
    """Where not a single result belongs to a row, a warning shows the ids of both sides."""
    frame = pd.DataFrame({"review": ["x", "y"]}, index=["0", "1"])
    with pytest.warns(UserWarning, match="check id_column=") as caught:
        joined = bf.join_results(frame, results_of(("r7", "ok", "x"), ("r8", "ok", "y")))
    assert [str(one.message) for one in caught] == [
        "no result matches any row: the frame's ids are like '0', those of the results like 'r7'; "
        "check id_column="
    ]
    assert caught[0].filename == __file__
    assert joined["status"].tolist() == ["missing", "missing"]


def test_results_left_over_are_told() -> None:
    """Where some results belong to no row, a warning names the first of them."""
    frame = pd.DataFrame({"review": ["x"]}, index=["r7"])
    results = results_of(*((f"r{n}", "ok", "x") for n in range(7, 15)))
    with pytest.warns(UserWarning, match="check id_column=") as caught:
        joined = bf.join_results(frame, results)
    assert [str(one.message) for one in caught] == [
        "7 results match no row: 'r8', 'r9', 'r10', … and 4 more; check id_column="
    ]
    assert joined["content"].tolist() == ["x"]


def test_an_index_that_only_counts_is_no_id() -> None:
    """A forgotten id_column is not filled in by numbers that happen to be ids of other rows."""
    frame = pd.DataFrame({"id": ["1", "2"], "review": ["x", "y"]})
    with pytest.raises(bf.ColumnError) as caught:
        bf.join_results(frame, results_of(("1", "ok", "x"), ("2", "ok", "y")))
    assert str(caught.value) == (
        "1 result matches no row: '2'; the index only counts the rows; pass id_column=, or name it"
    )


def test_the_first_rows_of_a_counted_frame_can_be_joined() -> None:
    """Where the ids are the index that counts, results of rows that are not there only warn."""
    results = results_of(*((str(n), "ok", f"{n}!") for n in range(4)))
    with pytest.warns(UserWarning, match="2 results match no row: '2', '3'; check id_column="):
        joined = bf.join_results(pd.DataFrame({"review": ["x", "y"]}), results)
    assert joined["content"].tolist() == ["0!", "1!"]


def test_a_moment_is_written_as_in_its_request() -> None:
    """Written out: dates and moments of each kind have the text that a request has."""
    moments = {
        "2024-01-02T03:04:05.678000": pd.Series([MOMENT]),
        "2024-01-02T03:04:05.678000+00:00": pd.Series([MOMENT.replace(tzinfo=UTC)]),
        "2024-01-02": pd.Series([MOMENT.date()]),
    }
    for text, series in moments.items():
        frame = pd.DataFrame({"key": series})
        joined = bf.join_results(frame, results_of((text, "ok", "hi")), id_column="key")
        assert joined["content"].tolist() == ["hi"], text
