"""A frame of results is known by its columns, whatever prefix they have and whatever is beside."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import batch_frames as bf
from tests.support.results import chat, choice, result, write

ORDERS = pd.DataFrame(
    {"custom_id": ["a", "b", "c"], "text": ["x", "y", "z"], "status": ["ok", "cancelled", "ok"]}
)
LOST = {"code": "batch_expired", "message": "no"}


def to_csv(frame: pd.DataFrame, folder: Path) -> Any:
    """Keep a frame as CSV."""
    frame.to_csv(folder / "kept.csv", index=False)
    return pd.read_csv(folder / "kept.csv")


def to_parquet(frame: pd.DataFrame, folder: Path) -> Any:
    """Keep a frame as Parquet."""
    frame.to_parquet(folder / "kept.parquet")
    return pd.read_parquet(folder / "kept.parquet")


KEPT: dict[str, Callable[[pd.DataFrame, Path], Any]] = {
    "as it is": lambda frame, folder: frame,
    "in part": lambda frame, folder: frame.drop(columns=["a_content", "a_model"]),
    "sorted": lambda frame, folder: frame.sort_values("text", ascending=False),
    "CSV": to_csv,
    "Parquet": to_parquet,
    "merged": lambda frame, folder: frame.merge(pd.DataFrame({"text": ["x", "y", "z"], "n": 1})),
    "polars": lambda frame, folder: pl.DataFrame(frame),
    "pyarrow": lambda frame, folder: pa.table(frame),
}


def asked(folder: Path) -> tuple[Path, pd.DataFrame]:
    """Ask for three orders, of which the last expires, and join what came back."""
    path = folder / "orders.jsonl"
    bf.from_dataframe(
        ORDERS, id_column="custom_id", prompt_column="text", model="m", system_prompt=None
    ).save_to_file(path, progress=False)
    good = [result(chat(choice(f"to {name}")), custom_id=name) for name in "ab"]
    bad = {"custom_id": "c", "response": None, "error": LOST}
    results = bf.read_results(write(folder / "output.jsonl", *good, bad), requests=path)
    return path, bf.join_results(ORDERS, results, id_column="custom_id", prefix="a_")


@pytest.mark.parametrize("kind", KEPT)
def test_a_joined_frame_goes_where_results_go(tmp_path: Path, kind: str) -> None:
    """Its statuses are counted, retried and joined again; the user's own are never taken."""
    path, joined = asked(tmp_path)
    kept = KEPT[kind](joined, tmp_path)
    summary = bf.summarize(kept)
    assert summary["status"].tolist() == ["ok", "expired"]
    assert summary["requests"].tolist() == [2, 1]
    assert summary["input_tokens"].tolist() == [6, 0]
    (shard,) = bf.retry_requests(path, kept)
    assert [json.loads(line)["custom_id"] for line in shard.path.read_text().splitlines()] == ["c"]
    again = bf.join_results(ORDERS[["text"]].set_axis(["c", "b", "a"]), kept)
    assert again["status"].tolist() == ["expired", "ok", "ok"]
    assert "text_answer" not in again.columns


@pytest.mark.filterwarnings("ignore:1 result matches no row")
def test_the_statuses_that_were_left_out_are_not_made_up(tmp_path: Path) -> None:
    """Where only other columns of the results were joined, nothing else stands for the statuses."""
    _, joined = asked(tmp_path)
    results = joined[["a_custom_id", "a_status", "a_content"]]
    part = bf.join_results(ORDERS, results, id_column="custom_id", columns=["content"])
    with pytest.raises(bf.ColumnError) as caught:
        bf.summarize(part)
    assert str(caught.value) == (
        "the table of results has no column 'status'; "
        "pass what read_results, join_results or run returned"
    )


def test_several_columns_of_statuses_are_asked_about() -> None:
    """Where nothing tells which statuses are those of the results, the error names them."""
    frame = pd.DataFrame({"custom_id": ["a"], "status": ["ok"], "a_status": ["expired"]})
    for use in (bf.summarize, lambda kept: bf.join_results(frame, kept, id_column="custom_id")):
        with pytest.raises(bf.ColumnError) as caught:
            use(frame)
        assert str(caught.value) == (
            "the statuses of the results may be in several columns: 'status', 'a_status'; "
            "drop or rename the others"
        )
    with pytest.raises(bf.ColumnError) as caught:
        bf.summarize(frame.assign(status="closed", a_status="open"))
    assert "several columns: 'status', 'a_status'; " in str(caught.value)
    with pytest.raises(bf.ColumnError) as caught:
        bf.summarize(frame.assign(b_status="open"))
    assert "several columns: 'status', 'a_status'; " in str(caught.value)
    for name, status in (("status", "expired"), ("a_status", "ok")):
        assert bf.summarize(frame.drop(columns=name))["status"].tolist() == [status]
    assert bf.summarize(frame.assign(status="closed"))["status"].tolist() == ["expired"]


def test_the_id_stays_where_the_frame_has_none(tmp_path: Path) -> None:
    """A frame without a ``custom_id`` has it after a join, also of rows without a result."""
    output = write(tmp_path / "output.jsonl", result(chat(), custom_id="7"))
    results = bf.read_results(output)
    for frame, id_column in (
        (pd.DataFrame({"n": [8, 7]}), "n"),
        (pd.DataFrame({"n": [0, 0]}, index=[8, 7]), None),
    ):
        joined = bf.join_results(frame, results, id_column=id_column)
        assert joined["custom_id"].tolist() == ["8", "7"]
        assert joined["custom_id"].dtype == results["custom_id"].dtype
    for frame in (
        pd.DataFrame({"custom_id": [7]}),
        pd.DataFrame({"n": [0]}, index=pd.Index([7], name="custom_id")),
    ):
        joined = bf.join_results(frame, results, id_column="custom_id")
        assert joined.columns.tolist() == [*frame.columns, *results.columns[1:]]


def test_what_a_frame_notes_of_itself_stays(tmp_path: Path) -> None:
    """The attributes of the frame are kept, and neither source gets those of the join."""
    frame = pd.DataFrame({"n": [1]}, index=["a"])
    frame.attrs["source"] = "shop"
    results = bf.read_results(write(tmp_path / "output.jsonl", result(chat())))
    joined = bf.join_results(frame, results)
    assert joined.attrs["source"] == "shop"
    assert (frame.attrs, results.attrs) == ({"source": "shop"}, {})


def test_no_results_at_all_are_retried(tmp_path: Path) -> None:
    """An empty list of files, as of a cancelled batch, adds none to what is known."""
    path, _ = asked(tmp_path)
    (shard,) = bf.retry_requests(path, [])
    assert shard.requests == 3


PERSON = {
    "type": "object",
    "properties": {
        "tags": {"type": "array", "items": {"type": "string"}},
        "years": {"type": "array", "items": {"type": ["integer", "null"]}},
        "home": {"type": "object", "properties": {"zip": {"type": "integer"}}},
        "born": {"type": "string", "format": "date"},
        "more": {"type": "object", "additionalProperties": {"type": "integer"}},
        "label": {"type": ["string", "integer"]},
    },
}
UNTYPED = {"more": {"n": 1}, "label": "x"}
ANSWER = {"tags": ["text 809", "it's"], "years": [2**60 + 1, None], "home": {"zip": 7}}


def people(folder: Path, **options: Any) -> Any:
    """Read an answer with lists and an object, and one that is not valid."""
    answers = [json.dumps({**ANSWER, "born": "2000-02-29", **UNTYPED}), "?"]
    lines = [
        result(chat(choice(text)), custom_id=name) for name, text in zip("ab", answers, strict=True)
    ]
    return bf.read_results(write(folder / "output.jsonl", *lines), json_schema=PERSON, **options)


@pytest.mark.parametrize("dtype_backend", [None, "numpy_nullable"])
def test_lists_and_objects_are_those_of_python(tmp_path: Path, dtype_backend: str | None) -> None:
    """Nested answers are lists and dicts, which CSV, JSON and ``if`` take; missing ones None."""
    frame = people(tmp_path, dtype_backend=dtype_backend)
    for name, value in {**ANSWER, **UNTYPED}.items():
        assert frame[name].dtype == object
        assert frame[name].tolist() == [value, None]
        assert type(frame[name][0]) is type(value)
    frame.to_csv(tmp_path / "kept.csv", index=False)
    kept = pd.read_csv(tmp_path / "kept.csv")
    assert {name: ast.literal_eval(kept[name][0]) for name in ANSWER} == ANSWER
    assert kept["tags"].isna().tolist() == [False, True]
    frame.to_parquet(tmp_path / "kept.parquet")
    assert list(pd.read_parquet(tmp_path / "kept.parquet")["tags"][0]) == ANSWER["tags"]


def test_results_are_read_as_the_kind_of_a_frame(tmp_path: Path) -> None:
    """Like polars they are of polars, like all else that speaks Arrow of pyarrow."""
    nothing = people(tmp_path, like=pd.DataFrame())
    pd.testing.assert_frame_equal(nothing, people(tmp_path))
    table = people(tmp_path, like=pa.table({}))
    frame = people(tmp_path, like=pl.DataFrame())
    assert (type(table), type(frame)) == (pa.Table, pl.DataFrame)
    assert table.column_names == frame.columns == list(nothing.columns)
    of_json = {name: json.dumps(value, separators=(",", ":")) for name, value in UNTYPED.items()}
    for name, value in {**ANSWER, **of_json, "born": date(2000, 2, 29), "status": "ok"}.items():
        assert table[name].to_pylist()[0] == frame[name].to_list()[0] == value
    assert table.schema.field("years").type == pa.large_list(pa.int64())
    with pytest.raises(TypeError) as caught:
        people(tmp_path, like="polars")
    assert str(caught.value) == "like must be a frame, not str"


def test_infinite_arguments_of_tools_go_to_other_frames(tmp_path: Path) -> None:
    """They are no JSON, and stay what the model wrote where columns of lists become text."""
    lines = []
    for name, arguments in (("a", '{"x": Infinity}'), ("b", '{"x": "t"}')):
        call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
        lines.append(result(chat(choice(None, tool_calls=[call])), custom_id=name))
    results = bf.read_results(write(tmp_path / "output.jsonl", *lines))
    joined = bf.join_results(pl.DataFrame({"id": ["a", "b"]}), results, id_column="id")
    assert [json.loads(text)[0]["arguments"]["x"] for text in joined["tool_calls"]] == [
        float("inf"),
        "t",
    ]
