"""A stream of results has the rows of a table of them, in pieces, and joins as it does."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

import batch_frames as bf
from batch_frames.arrow import BestRows, Lookup, spill
from tests.support.results import chat, choice, embeddings, failed, responses, result, text, write
from tests.support.results import message as said


class Rating(BaseModel):
    """What an answer holds."""

    stars: int
    mood: str | None
    tags: list[str]


LINES = [
    result(chat(choice('{"stars": 3, "mood": null, "tags": ["a"]}')), "a"),
    result(chat(choice("no JSON")), "b"),
    failed({"code": "batch_expired", "message": "late"}, custom_id="c"),
    result(responses(said(text("hello"))), "d"),
    result(embeddings([0.5, 1.0]), "e"),
    b"not a line",
    result(chat(choice("one"), choice("two", index=1)), "f"),
]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let few rows be many, so that all paths are taken."""
    monkeypatch.setattr(spill, "BUCKET", 2_000)
    monkeypatch.setattr(spill, "MOST_PLACES", 7)


def plain(frame: Any) -> list[dict[str, Any]]:
    """Return rows as dicts without what is missing."""
    table = frame if isinstance(frame, pa.Table) else pa.Table.from_pandas(frame)
    return [{n: v for n, v in row.items() if v is not None} for row in table.to_pylist()]


def expected(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of results in memory as the stream has them."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    rows = plain(table)
    for row, choices in zip(rows, table["choices"].to_pylist(), strict=True):
        if "embedding" in row:
            row["embedding"] = [row["embedding"]]
        if choices and len(choices) == 1:
            del row["choices"]
    return rows


def requests(folder: Path, ids: list[str], name: str = "r.jsonl") -> list[bf.Shard]:
    """Save a request for each id."""
    frame = pd.DataFrame({"id": ids, "p": [f"ask {one}" for one in ids]})
    return bf.from_dataframe(frame, id_column="id", prompt_column="p", model="m").save_to_file(
        folder / name
    )


@pytest.mark.parametrize("schema", [None, Rating])
@pytest.mark.parametrize("usage", [True, False])
def test_a_stream_has_the_rows_of_a_table(tmp_path: Path, schema: Any, usage: bool) -> None:
    """Every line is a row with the same values; all columns are there from the start."""
    path = write(tmp_path / "o.jsonl", *LINES)
    how: dict[str, Any] = {"json_schema": schema, "usage": usage}
    reader = bf.scan_results(path, **how)
    table = bf.read_results(path, dtype_backend="pyarrow", **how)
    names = [*table.columns]
    assert [name for name in reader.schema.names if name in names] == names
    assert plain(reader.read_all()) == expected(table)


@pytest.mark.usefixtures("small")
@pytest.mark.filterwarnings("ignore:dropped")
@settings(max_examples=8)
@given(seed=st.integers(0, 10_000))
def test_a_stream_of_requests_is_in_their_order(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    """Whatever comes back, and how often, each request has one row, and it is the best."""
    folder, rng = tmp_path_factory.mktemp("o"), random.Random(seed)
    ids = [f"r{n}" for n in range(rng.choice([1, 20, 60]))]
    asked = requests(folder, ids)
    lines: list[Any] = []
    for _ in range(rng.randrange(120)):
        one = rng.choice([*ids, "stranger"])
        fine = result(chat(choice(f"answer {len(lines)} {'é' * rng.randrange(40)}")), one)
        lines.append(rng.choice([fine, failed({"code": "x"}, custom_id=one)]))
    write(folder / "o.jsonl", *lines[::2])
    write(folder / "p.jsonl", *lines[1::2])
    paths = [folder / "o.jsonl", folder / "p.jsonl"]
    stream = bf.scan_results(paths, requests=asked).read_all()
    table = bf.read_results(paths, requests=asked, dtype_backend="pyarrow")
    assert plain(stream) == plain(pa.Table.from_pandas(table, preserve_index=False))


def test_what_is_dropped_is_warned_of(tmp_path: Path) -> None:
    """Results that are not used are counted, with the places of the first."""
    asked = requests(tmp_path, ["a", "b"])
    good = result(chat(), "a")
    path = write(tmp_path / "o.jsonl", good, good, result(chat(), "x"), b"broken", good)
    with pytest.warns(bf.errors.BatchFramesWarning) as caught:
        rows = bf.scan_results(path, requests=asked).read_all().to_pylist()
    assert [str(one.message) for one in caught] == [
        f"dropped 1 result that are malformed: {path}, line 4",
        f"dropped 1 result without a request: 'x' in {path}, line 3",
        "dropped 2 results superseded by a better or later one with the same custom_id",
    ]
    assert all(one.filename == __file__ for one in caught)
    assert [(row["custom_id"], row["status"]) for row in rows] == [("a", "ok"), ("b", "missing")]


def test_other_engines_take_a_stream(tmp_path: Path) -> None:
    """DuckDB and polars read it."""
    path = write(tmp_path / "o.jsonl", *LINES)
    with duckdb.connect() as connection:
        connection.register("stream", bf.scan_results(path))
        counts = connection.execute("SELECT status, count(*) FROM stream GROUP BY status")
        assert dict(counts.fetchall()) == {"ok": 5, "expired": 1, "malformed": 1}
    frame: Any = pl.from_arrow(bf.scan_results(path).read_all())
    assert frame["custom_id"].to_list() == [*"abcde", None, "f"]


def test_nothing_to_scan_is_an_error() -> None:
    """Neither files nor requests are named."""
    with pytest.raises(TypeError) as caught:
        bf.scan_results()
    assert str(caught.value) == "scan_results takes paths, or requests= whose results are known"


TABLE = pd.DataFrame(
    {
        "id": [f"{n:03d}" for n in range(50)],
        "number": pd.array([None if n % 7 == 0 else n for n in range(50)], "Int64"),
        "words": [f"„{n}“\n" for n in range(50)],
    }
)


def results(folder: Path, width: int = 3) -> Path:
    """Write results of most rows, in another order, some of them twice."""
    ids = [f"{n:0{width}d}" for n in range(0, 50, 3)] * 2
    ids += ["049", "001"] if width == 3 else []
    random.Random(5).shuffle(ids)
    return write(folder / "o.jsonl", *(result(chat(choice(f"to {one}")), one) for one in ids))


def source(kind: str, folder: Path) -> Any:
    """Return the table as files or frames of a kind."""
    if kind == "csv":
        TABLE.to_csv(folder / "t.csv", index=False)
        return folder / "t.csv"
    if kind == "parquet files":
        (folder / "t").mkdir()
        for number, start in enumerate(range(0, 50, 20)):
            part = TABLE.iloc[start : start + 20]
            part.to_parquet(folder / "t" / f"{number}.parquet", row_group_size=6, index=False)
        return folder / "t"
    frames: dict[str, Any] = {
        "pandas": TABLE,
        "polars": pl.from_pandas(TABLE),
        "stream": pa.Table.from_pandas(TABLE).to_reader(4),
    }
    return frames[kind]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", ["csv", "parquet files", "pandas", "polars", "stream"])
@pytest.mark.parametrize("given_as", ["stream", "files", "pandas"])
def test_a_join_into_a_file_is_that_in_memory(tmp_path: Path, kind: str, given_as: str) -> None:
    """Rows, order and values are those of ``join_results`` with both in memory."""
    path = results(tmp_path)
    how: dict[str, Any] = {"stream": bf.scan_results, "files": Path, "pandas": bf.read_results}
    given = how[given_as](path)
    out = tmp_path / "very" / "deep" / "rated.parquet"
    found = bf.join_results(source(kind, tmp_path), given, id_column="id", prefix="a_", out=out)
    assert found == out
    table = pd.read_csv(tmp_path / "t.csv", dtype=str) if kind == "csv" else TABLE
    columns = [n for n in bf.read_results(path).columns if n != "custom_id"]
    whole = bf.join_results(
        table, bf.read_results(path), id_column="id", prefix="a_", columns=columns
    )
    have = pd.read_parquet(out)
    assert {*have.columns} == {*whole.columns, "a_custom_id"}
    have = have[list(whole.columns)]
    pd.testing.assert_frame_equal(
        have.astype(object).where(have.notna(), None),
        whole.astype(object).where(whole.notna(), None),
    )
    assert have["number"].dtype == ("Int64" if kind != "csv" else have["words"].dtype)
    assert sorted(one.name for one in out.parent.iterdir() if one.is_file()) == [out.name]


def test_ids_of_results_in_a_file(tmp_path: Path) -> None:
    """Each row has its id, also without a result; a table that has the column keeps its own."""
    path, out = write(tmp_path / "o.jsonl", result(chat(), "000")), tmp_path / "o.parquet"
    bf.join_results(TABLE[:2], path, id_column="id", prefix="a_", out=out)
    assert pd.read_parquet(out)["a_custom_id"].tolist() == ["000", "001"]
    table = TABLE[:2].rename(columns={"id": "custom_id"})
    bf.join_results(table, path, id_column="custom_id", out=out)
    have = pd.read_parquet(out)
    assert list(have.columns)[:4] == ["custom_id", "number", "words", "status"]
    assert have["status"].tolist() == ["ok", "missing"]


def test_row_groups_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large table is written piece by piece."""
    monkeypatch.setattr("batch_frames.frames.pandas.ROW_GROUP", 20_000)
    frame = pa.table({"id": [f"{n:04d}" for n in range(5_000)]})
    frame = pa.Table.from_batches(frame.to_batches(500))
    path, out = tmp_path / "t.parquet", tmp_path / "o.parquet"
    pq.write_table(frame, path, row_group_size=500)
    bf.join_results(path, results(tmp_path, width=4), id_column="id", out=out)
    metadata = pq.ParquetFile(out).metadata
    assert metadata.num_rows == 5_000
    assert metadata.num_row_groups > 1


def test_skipped_rows_are_told_from_missing_ones(tmp_path: Path) -> None:
    """A stream of all requests says which rows were never asked."""
    asked = requests(tmp_path, ["000", "001", "002"])
    path = write(tmp_path / "o.jsonl", result(chat(), "000"))
    stream = bf.scan_results(path, requests=asked)
    out = bf.join_results(TABLE[:5], stream, id_column="id", out=tmp_path / "o.parquet")
    assert pd.read_parquet(out)["status"].tolist() == [
        "ok",
        "missing",
        "missing",
        "skipped",
        "skipped",
    ]


def test_a_stream_that_was_read_is_noticed(tmp_path: Path) -> None:
    """A second use of the same stream is an error, as is one of all requests that has lost some."""
    path = results(tmp_path)
    stream, out = bf.scan_results(path), tmp_path / "o.parquet"
    bf.join_results(TABLE, stream, id_column="id", out=out)
    for use in (
        lambda: bf.join_results(TABLE, stream, id_column="id", out=out),
        lambda: bf.join_results(TABLE, stream, id_column="id"),
        lambda: bf.summarize(stream),
    ):
        with pytest.raises(bf.BatchFramesError) as error:
            use()
        assert str(error.value) == (
            "this frame is a stream, which can be read only once, and it has been read; "
            "to use it again, pass a table, as in pyarrow.table(stream)"
        )
    stream = bf.scan_results(path)
    stream.read_all()
    with pytest.warns(bf.errors.BatchFramesWarning) as caught:
        bf.join_results(TABLE, stream, id_column="id", out=out)
    message = "there are no results; pass a stream that was not read before"
    assert [str(one.message) for one in caught] == [message]
    asked = requests(tmp_path, ["000", "003"])
    with pytest.warns(bf.errors.BatchFramesWarning):
        stream = bf.scan_results(path, requests=asked)
    stream.read_next_batch()
    written = out.read_bytes()
    with pytest.raises(bf.BatchFramesError) as error:
        bf.join_results(TABLE, stream, id_column="id", out=out)
    message = "the stream was read before, at least in part; scan the results again"
    assert str(error.value) == message
    assert out.read_bytes() == written


def test_tables_without_rows_and_joins_without_columns(tmp_path: Path) -> None:
    """Both write what there is; lists of files and lazy frames are tables, too."""
    path, out = results(tmp_path), tmp_path / "o.parquet"
    bf.join_results(TABLE[:0], path, id_column="id", out=out)
    assert pd.read_parquet(out)["status"].tolist() == []
    bf.join_results(TABLE, path, id_column="id", columns=[], out=out)
    assert list(pd.read_parquet(out).columns) == list(TABLE.columns)
    TABLE.to_csv(tmp_path / "t.csv", index=False)
    for table in ([tmp_path / "t.csv"], pl.from_pandas(TABLE).lazy()):
        bf.join_results(table, path, id_column="id", out=out)
        assert pd.read_parquet(out)["id"].tolist() == TABLE["id"].tolist()


def test_results_of_no_row_are_warned_of(tmp_path: Path) -> None:
    """They are counted, and where none matches, both kinds of ids are shown."""
    out = tmp_path / "o.parquet"
    path = write(tmp_path / "o.jsonl", *(result(chat(), one) for one in ["000", "x", "y"]))
    with pytest.warns(bf.errors.BatchFramesWarning) as caught:
        bf.join_results(TABLE, path, id_column="id", out=out)
    assert str(caught[0].message) == "2 results match no row: 'x', 'y'; check id_column="
    with pytest.warns(bf.errors.BatchFramesWarning) as caught:
        bf.join_results(TABLE, path, id_column="words", out=out)
    assert str(caught[0].message) == (
        "no result matches any row: the frame's ids are like '„0“\\n', "
        "those of the results like '000'; check id_column="
    )


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"out": "o.csv"}, "'o.csv' does not end in .parquet; name a Parquet file"),
        ({"id_column": "idd"}, "the frame has no column 'idd'; did you mean 'id'?"),
        ({"columns": ["contents"]},
         "the table of results has no column 'contents'; did you mean 'content'?"),
        ({"prefix": ""},
         "the frame and the results both have 'status'; "
         'pass prefix="answer_", or columns= with those that you need'),
    ],
)  # fmt: skip
def test_mistakes_are_found_before_a_file_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, Any], message: str
) -> None:
    """The messages are those of a join in memory."""
    monkeypatch.chdir(tmp_path)
    path = results(tmp_path)
    usual: dict[str, Any] = {"id_column": "id", "prefix": "a_", "out": "o.parquet"}
    with pytest.raises(bf.BatchFramesError) as caught:
        bf.join_results(TABLE.assign(status=1), path, **usual | how)
    assert str(caught.value) == message
    assert [one.name for one in tmp_path.iterdir()] == ["o.jsonl"]


def test_strange_results_are_refused(tmp_path: Path) -> None:
    """Unknown statuses, ids that are twice in the table, and files of others."""
    out = tmp_path / "o.parquet"
    frame = pl.DataFrame({"custom_id": ["000"], "status": ["fine"]})
    with pytest.raises(bf.ColumnError) as caught:
        bf.join_results(TABLE, frame, id_column="id", out=out)
    assert str(caught.value).startswith("results have the status 'fine', which is none of ok, ")
    twice = pd.concat([TABLE, TABLE[3:4]])
    with pytest.raises(bf.RequestError) as error:
        bf.join_results(twice, results(tmp_path), id_column="id", out=out)
    assert str(error.value) == "custom_id must be unique: '003' in row 3 and row 50"
    out.write_bytes(b"of others")
    with pytest.raises(bf.BatchFramesError):
        bf.join_results(TABLE, results(tmp_path), id_column="id", out=out)
    assert out.read_bytes() == b"of others"


@given(
    known=st.lists(st.text(max_size=9), unique=True),
    asked=st.lists(st.text(max_size=9) | st.none()),
)
def test_texts_are_looked_up_as_in_a_dict(known: list[str], asked: list[str | None]) -> None:
    """Each text has its place, and what is not known has none."""
    places = {one: place for place, one in enumerate(known)}
    found = Lookup(pa.array([*known, None], pa.large_string())).find(
        pa.array([*asked, *known], pa.large_string())
    )
    assert found.tolist() == [
        places.get(str(one), -1) if one is not None else -1 for one in asked
    ] + [*range(len(known))]


def test_texts_with_equal_hashes_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hash alone never decides."""
    monkeypatch.setattr(spill, "hash_text", lambda texts: np.zeros(len(texts), np.uint64))
    lookup = Lookup(pa.array(["a", "b"], pa.large_string()))
    assert lookup.find(pa.array(["b", "c", None, "a"], pa.large_string())).tolist() == [
        1,
        -1,
        -1,
        0,
    ]
    one = Lookup(pa.array(["a"], pa.large_string()))
    assert one.find(pa.array(["b", "a"], pa.large_string())).tolist() == [-1, 0]


@pytest.mark.usefixtures("small")
@given(
    places=st.integers(0, 40),
    pieces=st.lists(st.lists(st.tuples(st.integers(-1, 39), st.integers(0, 3)))),
)
def test_the_best_rows_are_those_of_a_loop(
    places: int, pieces: list[list[tuple[int, int]]]
) -> None:
    """The lower rank wins, then the later row; places without rows are null."""
    best = BestRows(places, pa.schema([("number", pa.int64()), ("text", pa.large_string())]))
    chosen: dict[int, tuple[int, int]] = {}
    number, rows = 0, 0
    for piece in pieces:
        piece = [(place, rank) for place, rank in piece if place < places]
        numbers = range(number, number := number + len(piece))
        for (place, rank), own in zip(piece, numbers, strict=True):
            rows += place >= 0
            if place >= 0 and rank <= chosen.get(place, (9, 0))[0]:
                chosen[place] = (rank, own)
        table = pa.table(
            {"number": pa.array(numbers, pa.int64()), "text": [str(n) * 9 for n in numbers]}
        )
        ranks = np.array([rank for _, rank in piece], np.int8)
        best.add(table, np.array([place for place, _ in piece], np.int64), ranks)
    assert best.found == len(chosen)
    assert best.superseded == rows - len(chosen)
    found = [row for table in best.tables() for row in table.to_pylist()]
    best_of = [chosen[place][1] if place in chosen else None for place in range(places)]
    assert found == [{"number": n, "text": None if n is None else str(n) * 9} for n in best_of]


def test_an_empty_piece_says_nothing_of_the_size_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows after it are still kept in files of about the wanted size."""
    monkeypatch.setattr(spill, "BUCKET", 1_000)
    table = pa.table({"text": pa.array(["x" * 100] * 50, pa.large_string())})
    best = BestRows(50, table.schema)
    for rows in (table[:0], table):
        best.add(rows, np.arange(len(rows)), np.zeros(len(rows), np.int8))
    assert [len(one) for one in best.tables()] == [10] * 5


PEAK = """
import json, re, sys
import batch_frames as bf
folder = sys.argv[1]
rows = sum(len(batch) for batch in bf.scan_results(folder + "/o.jsonl"))
stream = bf.scan_results(folder + "/o.jsonl", requests=folder + "/r*.jsonl", progress=False)
bf.join_results(folder + "/t.parquet", stream, id_column="id", out=folder + "/rated.parquet")
peak = re.search(r"VmHWM:\\s+([0-9]+)", open("/proc/self/status").read())
print(json.dumps([rows, int(peak[1]) << 10]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is in /proc")
def test_memory_does_not_grow_with_the_results(tmp_path: Path) -> None:
    """A gigabyte of results is read, put in order and joined in less than that."""
    rows, answer = 250_000, "é" * 2_000
    frame = pd.DataFrame({"id": [f"{n:07d}" for n in range(rows)], "p": "ask"})
    frame.to_parquet(tmp_path / "t.parquet", index=False)
    bf.from_dataframe(frame, id_column="id", prompt_column="p", model="m").save_to_file(
        tmp_path / "r.jsonl", progress=False
    )
    ids = frame["id"].sample(frac=1, random_state=1)
    with (tmp_path / "o.jsonl").open("w") as file:
        line = json.dumps(result(chat(choice(answer)), "ID"), ensure_ascii=False)
        file.writelines(line.replace("ID", one) + "\n" for one in ids)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path)], capture_output=True, text=True, check=True
    )
    count, peak = json.loads(done.stdout)
    assert count == rows
    assert peak < (tmp_path / "o.jsonl").stat().st_size
    rated = pq.read_table(tmp_path / "rated.parquet", columns=["id", "custom_id", "status"])
    assert rated["id"].equals(rated["custom_id"].cast(rated["id"].type))
    assert set(rated["status"].to_pylist()) == {"ok"}


def test_another_file_in_the_place_of_the_joined_one_is_kept(tmp_path: Path) -> None:
    """What no earlier call wrote is not replaced; the hint names no option that is not there."""
    out = tmp_path / "o.parquet"
    out.write_bytes(b"mine")
    with pytest.raises(bf.BatchFramesError) as caught:
        bf.join_results(TABLE, results(tmp_path), id_column="id", out=out)
    assert str(caught.value) == (
        f"'{out}' was not saved by an earlier call; move it away, or save under another name"
    )
    assert out.read_bytes() == b"mine"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit for the size of files")
@pytest.mark.parametrize(("room", "name"), [(500, "kept/.+/0.arrows"), (9_000, "o.parquet")])
def test_a_full_disk_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, name: str
) -> None:
    """The error of the system has the path, and no part of the file is left."""
    import resource

    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "kept").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "kept"))
    read, wide = (
        results(tmp_path),
        TABLE.assign(words=[random.randbytes(99).hex() for _ in range(50)]),
    )
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(OSError, match=rf"\A\[Errno 27\] File too large: '{tmp_path}/{name}'\Z"):
            bf.join_results(wide, read, id_column="id", out=tmp_path / "o.parquet")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "o.parquet").exists()


@pytest.mark.parametrize("out", [None, "o.parquet"])
def test_results_of_a_source_that_fails_are_an_error_with_its_words(
    tmp_path: Path, out: str | None
) -> None:
    """DuckDB computes a relation while it is read."""
    with duckdb.connect() as connection:
        relation = connection.sql(
            "SELECT i::VARCHAR AS custom_id, 'ok' AS status, "
            "CASE WHEN i = 5000 THEN error('no such key') ELSE 'x' END AS content "
            "FROM range(9000) t(i)"
        )
        with pytest.raises(bf.BatchFramesError) as caught:
            bf.join_results(TABLE, relation, id_column="id", out=out and tmp_path / out)
    assert str(caught.value) == "the frame failed after 0 rows: Invalid Input Error: no such key"
