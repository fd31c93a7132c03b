"""What seldom happens, and must not go wrong then."""

import csv
import datetime as dt
import io
import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import batch_frames as bf
from tests.support.marks import slow

OPTIONS: dict[str, Any] = {"id_column": "id", "prompt_column": "p", "model": "m"}


def prompts(batch: bf.BatchCreator) -> list[Any]:
    """Save and give back the content of each line's last message."""
    file = io.BytesIO()
    limits = bf.Limits(requests=10**9, nbytes=10**12)
    batch.save_to_file(file, limits=limits, progress=False)
    lines = file.getvalue().split(b"\n")[:-1]
    return [json.loads(line)["body"]["messages"][-1]["content"] for line in lines]


def objects(*values: Any) -> pd.DataFrame:
    """Make a frame whose column ``p`` holds any objects."""
    column = np.empty(len(values), object)
    column[:] = values
    return pd.DataFrame({"id": [f"r{n}" for n in range(len(values))], "p": column})


@pytest.mark.parametrize("shift", [0, slow(1), slow(2)])
def test_line_ends_in_quotes_survive_the_borders_of_blocks(tmp_path: Path, shift: int) -> None:
    """A quoted CR LF is kept whole wherever the reader cuts the file."""
    text = "x" * (3 + shift) + "\r\n" * 600
    rows = [(f"r{n}", text) for n in range(7_000)]
    path = tmp_path / "big.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "p"), *rows])
    assert path.stat().st_size > 8 << 20
    assert prompts(bf.from_csv(path, **OPTIONS)) == [text] * len(rows)


def test_what_is_missing_inside_objects_is_null() -> None:
    """NaT and NA inside a list are null, never their names."""
    frame = objects([pd.NaT, pd.NA, None], [np.datetime64("NaT", "ns")])
    assert prompts(bf.from_dataframe(frame, **OPTIONS)) == [[None, None, None], [None]]


def test_a_decimal_that_is_no_number_is_refused() -> None:
    """NaN inside an object is refused for decimals as it is for floats."""
    batch = bf.from_dataframe(objects([Decimal("NaN")]), **OPTIONS)
    with pytest.raises(bf.RequestError) as caught:
        prompts(batch)
    assert str(caught.value) == (
        "row 0 (custom_id 'r0'): column 'p' has no JSON form: JSON cannot hold NaN"
    )


def test_arrays_of_moments_are_written_as_moments() -> None:
    """NumPy arrays of dates inside objects become ISO text, not numbers of nanoseconds."""
    moments = [np.array(["2024-01-02T03:04:05", "NaT"], "datetime64[ns]"), dt.date(2024, 1, 2)]
    assert prompts(bf.from_dataframe(objects(moments), **OPTIONS)) == [
        [["2024-01-02T03:04:05", None], "2024-01-02"]
    ]


@pytest.mark.skipif(not hasattr(pa, "json_"), reason="this pyarrow has no such type")
def test_null_in_a_column_of_json_is_missing() -> None:
    """JSON's null is refused as a prompt and leaves a key out, as a missing value does."""
    column = pa.json_().wrap_array(pa.array(['{"a":1}', " null "], pa.string()))
    table = pa.table({"id": ["a", "b"], "p": column, "q": ["x", "y"]})
    options = {**OPTIONS, "prompt_column": "q", "body": {"x": bf.col("p")}}
    batch = bf.from_dataframe(table, **options)
    assert batch.preview_entry(0)["body"]["x"] == {"a": 1}
    assert "x" not in batch.preview_entry(1)["body"]
    with pytest.raises(bf.RequestError) as caught:
        prompts(bf.from_dataframe(table, **OPTIONS))
    assert str(caught.value) == (
        "row 1 (custom_id 'b'): column 'p' is null; drop the row or pass na=\"skip\""
    )


def test_many_small_and_empty_batches_are_put_together() -> None:
    """Thousands of batches, empty ones between, give every row once and in order."""
    rows = [pa.table({"id": [f"r{n}"], "p": [str(n)]}) for n in range(6_000)]
    table = pa.concat_tables([part for row in rows for part in (row, row[:0])])
    assert prompts(bf.from_dataframe(table, **OPTIONS)) == [str(n) for n in range(6_000)]


def test_dictionaries_without_room_for_each_other() -> None:
    """Chunks whose categories do not fit into one small index are read all the same."""
    tables = []
    for start in (0, 100):
        words = [f"w{n}" for n in range(start, start + 100)]
        column = pa.DictionaryArray.from_arrays(pa.array(range(100), pa.int8()), words)
        tables.append(pa.table({"id": words, "p": column}))
    expected = [f"w{n}" for n in range(200)]
    assert prompts(bf.from_dataframe(pa.concat_tables(tables), **OPTIONS)) == expected


def test_repeated_values_do_not_fill_the_memory(tmp_path: Path) -> None:
    """A Parquet file that is small because its values repeat is read in small pieces."""
    path = tmp_path / "small.parquet"
    long = ["a" * 20_000, "b" * 20_000]
    table = pa.table({"id": [f"r{n}" for n in range(8_000)], "p": long * 4_000})
    pq.write_table(table, path)
    assert path.stat().st_size < 1 << 20
    pool = pa.default_memory_pool()
    before = pool.bytes_allocated()
    batch = bf.from_parquet(path, **OPTIONS)
    assert all(
        pool.bytes_allocated() - before < 120 << 20 for block in batch._blocks() if block.lines
    )


def test_a_frame_changed_before_it_is_saved_is_read_as_it_was_or_is() -> None:
    """An id never meets the prompt of another moment."""
    frame = pd.DataFrame({"id": [1, 2], "p": ["one", "two"]})
    batch = bf.from_dataframe(frame, **OPTIONS)
    frame["id"] = [10, 20]
    frame["p"] = ["ten", "twenty"]
    assert batch.preview_entry()["custom_id"] == "1"
    assert prompts(batch) == ["one", "two"]


def test_a_relation_leaves_its_connection_free() -> None:
    """Between making a batch of a relation and saving it, its connection can be used."""
    connection = duckdb.connect()
    relation = connection.sql("SELECT 'r' || i AS id, 'p' || i AS p FROM range(5) t(i)")
    batch = bf.from_dataframe(relation, **OPTIONS)
    assert connection.sql("SELECT 42").fetchall() == [(42,)]
    assert prompts(batch) == [f"p{n}" for n in range(5)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04\0\0,id,p", "'{}' is not a CSV file: its first line is not a list of columns"),
        (b"PAR1", "'{}' is a Parquet file; read it with from_parquet"),
        (b"id,p,caf\xe9\n1,2,3\n", "'{}' has column names that are not UTF-8; save it as UTF-8"),
    ],
)
def test_files_that_are_no_csv_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    """What cannot be read as CSV is an error with the file's name."""
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(bf.BatchFramesError) as caught:
        bf.from_csv(path, **OPTIONS)
    assert str(caught.value) == message.format(path)


def test_the_target_of_a_link_is_written(tmp_path: Path) -> None:
    """Saving to a symbolic link writes what it points to, and leaves the link."""
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.jsonl"
    link.symlink_to(tmp_path / "real" / "file.jsonl")
    (tmp_path / "real" / "file.jsonl").write_bytes(b"")
    bf.from_dataframe(objects("x"), **OPTIONS).save_to_file(link)
    assert link.is_symlink()
    assert (tmp_path / "real" / "file.jsonl").read_bytes().startswith(b'{"custom_id":"r0"')


def test_shards_behind_a_gap_are_gone_too(tmp_path: Path) -> None:
    """Of an earlier set that lost a file, none is left beside the new one; strangers stay."""
    stranger = tmp_path / "g-90210.jsonl"
    stranger.write_text("mine\n", encoding="utf-8")
    batch = bf.from_dataframe(objects(*"abcdef"), **OPTIONS)
    batch.save_to_file(tmp_path / "g.jsonl", limits=bf.Limits(requests=1))
    (tmp_path / "g-00001.jsonl").unlink()
    batch.save_to_file(tmp_path / "g.jsonl")
    assert sorted(path.name for path in tmp_path.glob("[!.]*")) == ["g-90210.jsonl", "g.jsonl"]


def test_a_folder_in_the_way_stops_the_commit_before_it_begins(tmp_path: Path) -> None:
    """When one of several names is taken by a folder, none of the others is used."""
    (tmp_path / "d-00002.jsonl").mkdir()
    batch = bf.from_dataframe(objects("x", "y"), **OPTIONS)
    with pytest.raises(IsADirectoryError) as caught:
        batch.save_to_file(tmp_path / "d.jsonl", limits=bf.Limits(requests=1))
    assert str(caught.value) == f"'{tmp_path / 'd-00002.jsonl'}' is a folder; move it away"
    assert [path.name for path in tmp_path.iterdir()] == ["d-00002.jsonl"]


def test_a_compressed_name_is_refused(tmp_path: Path) -> None:
    """Request files are not compressed, and their names do not say so."""
    path = tmp_path / "x.jsonl.gz"
    with pytest.raises(bf.BatchFramesError) as caught:
        bf.from_dataframe(objects("x"), **OPTIONS).save_to_file(path)
    assert str(caught.value) == f"'{path}' would not be compressed; name a .jsonl file"


def test_large_fractions_have_no_exponent() -> None:
    """A float with a fraction is written as Python writes it, however large."""
    values = [10000000000.5, 123456789012345.6, 1e300, -98765432101.25, 0.1]
    frame = objects(*"abcde").assign(x=values)
    batch = bf.from_dataframe(frame, body={"x": bf.fmt("{x}")}, **OPTIONS)
    written = [batch.preview_entry(n)["body"]["x"] for n in range(5)]
    assert written == [repr(value) for value in values]


def test_mixed_objects_are_read_as_numbers() -> None:
    """Text and numbers in one column become numbers where the type says so."""
    frame = objects("a", "b", "c").assign(n=pd.Series(["1", 2, 0.5], dtype=object))
    batch = bf.from_dataframe(frame, body={"n": bf.col("n", type="number")}, **OPTIONS)
    assert [batch.preview_entry(n)["body"]["n"] for n in range(3)] == [1, 2, 0.5]


def slips(**options: Any) -> Any:
    """Hide from the type checker what it would find."""
    return options


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: bf.from_csv("t.csv", **slips(modle="m")),
            "there is no option 'modle'; did you mean 'model'?",
        ),
        (
            lambda: bf.from_dataframe(pd.DataFrame(), **slips(prompt="p")),
            "there is no option 'prompt'; did you mean 'prompt_column'?",
        ),
        (
            lambda: bf.from_parquet("t.parquet", **slips(effort="low")),
            "there is no option 'effort'; did you mean 'reasoning_effort'?",
        ),
        (
            lambda: bf.from_csv("t.csv", **slips(temperature=1)),
            "there is no option 'temperature'; for the request, pass body={'temperature': …}",
        ),
        (
            lambda: bf.read_requests(**slips(paths=pd.DataFrame({"a": [1]}))),
            "a path is needed, not a DataFrame; for that, use from_dataframe",
        ),
        (
            lambda: bf.submit(pd.DataFrame({"a": [1]})),  # type: ignore[arg-type]
            "a path is needed, not a DataFrame; for that, use from_dataframe",
        ),
        (
            lambda: bf.BatchCreator("m", system_prompt=None).save_to_file("x", **slips(limits=50)),
            "limits must be Limits(requests=…, nbytes=…), not 50",
        ),
    ],
)
def test_slips_get_a_hint(call: Any, message: str) -> None:
    """An argument of the wrong name or kind is an error that says what would be right."""
    with pytest.raises(TypeError) as caught:
        call()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "name", ["x.output.jsonl", "x.local.errors.jsonl", "x.jobs.jsonl", "x.errors.jsonl"]
)
def test_names_of_results_are_refused_for_requests(tmp_path: Path, name: str) -> None:
    """Requests under such a name would be taken for results once they are paid for."""
    frame, path = objects("x"), tmp_path / name
    for call in (
        lambda: bf.from_dataframe(frame, **OPTIONS).save_to_file(path),
        lambda: bf.plan(frame, path, **OPTIONS),
        lambda: bf.run(frame, path, **OPTIONS),
    ):
        with pytest.raises(bf.BatchFramesError) as caught:
            call()
        assert str(caught.value) == (
            f"'{path}' has the name of a file with results; name a file such as 'out/reviews.jsonl'"
        )
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_the_service_refuses_is_warned_of(tmp_path: Path) -> None:
    """The requests of a table may be saved as another file, but not sent from there."""
    path = tmp_path / "out.csv"
    message = f"'{path}' does not end in .jsonl, as the service requires; save to another name"
    with pytest.warns(UserWarning, match=rf"\A{re.escape(message)}\Z"):
        bf.from_dataframe(objects("x"), **OPTIONS).save_to_file(path)


def test_shards_are_paths(tmp_path: Path) -> None:
    """What save_to_file returns can be read, opened and listed as paths can."""
    shards = bf.from_dataframe(objects("x", "y"), **OPTIONS).save_to_file(
        tmp_path / "s.jsonl", limits=bf.Limits(requests=1)
    )
    assert bf.read_requests(shards)["user_prompt"].tolist() == ["x", "y"]
    assert [Path(shard) for shard in shards] == [shard.path for shard in shards]
