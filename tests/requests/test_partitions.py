"""The workers of Dask write the lines that one process would, and leave only whole sets."""

from __future__ import annotations

import os
import pickle
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import dask
import dask.dataframe as dd
import pandas as pd
import pyarrow as pa
import pytest
from distributed import Client, LocalCluster

import batch_frames as bf
from tests.service.storage import ObjectServer

Limits = bf.Limits
OPTIONS: dict[str, Any] = {"id_column": "id", "prompt_column": "text", "model": "m"}


@pytest.fixture(autouse=True)
def in_this_process() -> Iterator[None]:
    """Have Dask compute in this thread, where nothing else says how."""
    with dask.config.set(scheduler="synchronous"):
        yield


def rows(count: int) -> pd.DataFrame:
    """Make up rows, of which some have characters that JSON escapes."""
    texts = [f'"{n}"\n日本語 {n}' if n % 3 else f"text {n}" * (n % 7) for n in range(count)]
    return pd.DataFrame({"id": [f"r{n}" for n in range(count)], "text": texts, "other": 1})


def parts(frame: pd.DataFrame, *sizes: int) -> Any:
    """Make partitions of these sizes."""
    ends = [sum(sizes[:n]) for n in range(len(sizes) + 1)]
    pieces = [frame.iloc[start:stop] for start, stop in pairwise(ends)]
    return dd.from_map(lambda piece: piece, pieces, meta=frame.iloc[:0])


def alone(frame: pd.DataFrame, folder: Path, **options: Any) -> bytes:
    """Save in one process, and return the lines."""
    batch = bf.from_dataframe(frame, **{**OPTIONS, **options})
    [shard] = batch.save_to_file(folder / "alone" / "x.jsonl", progress=False)
    return shard.path.read_bytes()


def read(shards: list[bf.Shard]) -> bytes:
    """Join the bytes of shards, each of which is as it says."""
    texts = [shard.path.read_bytes() for shard in shards]
    assert [(s.requests, s.nbytes) for s in shards] == [(t.count(b"\n"), len(t)) for t in texts]
    return b"".join(texts)


def stands(folder: Path) -> list[str]:
    """List the files in a folder, hidden ones too, but not the record."""
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def error_of(batch: bf.BatchCreator, path: Path, **options: Any) -> str:
    """Return why a save is refused, after which nothing is there."""
    with pytest.raises(bf.BatchFramesError) as caught:
        batch.save_to_file(path, **options)
    assert not path.parent.exists() or stands(path.parent) == []
    return str(caught.value)


@pytest.mark.parametrize(
    ("sizes", "limits", "requests"),
    [
        ((100,), Limits(), [100]),
        ((30, 30, 40), Limits(), [100]),
        ((30, 30, 40), Limits(requests=60), [60, 40]),
        ((70, 5, 0, 5, 20), Limits(requests=30), [30, 30, 20, 20]),
        ((1, 1, 1, 97), Limits(requests=50), [3, 50, 47]),
        ((0, 100, 0), Limits(requests=99), [99, 1]),
    ],
)
def test_shards_have_the_lines_of_one_process(
    sizes: tuple[int, ...], limits: bf.Limits, requests: list[int], tmp_path: Path
) -> None:
    """In the order of partitions stand the same bytes, small partitions in one file together."""
    batch = bf.from_dataframe(parts(rows(100), *sizes), **OPTIONS)
    shards = batch.save_to_file(tmp_path / "out" / "x.jsonl", limits=limits)
    assert read(shards) == alone(rows(100), tmp_path)
    assert [shard.requests for shard in shards] == requests
    numbered = [f"x-{n + 1:05}.jsonl" for n in range(len(requests))]
    names = ["x.jsonl"] if len(requests) == 1 else numbered
    assert [shard.path.name for shard in shards] == stands(tmp_path / "out") == names


def test_bytes_are_limited_too(tmp_path: Path) -> None:
    """Partitions are put together only as far as the limit of bytes allows."""
    nbytes = len(alone(rows(100), tmp_path)) // 2
    batch = bf.from_dataframe(parts(rows(100), *[10] * 10), **OPTIONS)
    shards = batch.save_to_file(tmp_path / "x.jsonl", limits=Limits(nbytes=nbytes))
    assert read(shards) == alone(rows(100), tmp_path)
    assert len(shards) == 3
    assert max(shard.nbytes for shard in shards) <= nbytes


def test_the_set_is_one_like_any_other(tmp_path: Path) -> None:
    """A later save replaces the set, and whatever reads or changes sets knows its files."""
    path = tmp_path / "x.jsonl"
    batch = bf.from_dataframe(parts(rows(100), 50, 50), **OPTIONS)
    batch.save_to_file(path, limits=Limits(requests=20))
    shards = batch.save_to_file(path, limits=Limits(requests=50))
    assert stands(tmp_path) == ["x-00001.jsonl", "x-00002.jsonl"]
    assert bf.read_requests(tmp_path)["custom_id"].tolist() == rows(100)["id"].tolist()
    shards[0].path.write_text("changed")
    message = (
        f"'{shards[0].path}' was not saved by an earlier call; move it away, or save under another "
        "name, or pass overwrite=True"
    )
    with pytest.raises(bf.BatchFramesError, match=f"^{re.escape(message)}$"):
        batch.save_to_file(path, limits=Limits(requests=50))
    batch.save_to_file(path, limits=Limits(requests=50), overwrite=True)
    assert bf.read_requests(tmp_path)["custom_id"].tolist() == rows(100)["id"].tolist()


def test_rows_are_read_here_for_what_needs_a_few(tmp_path: Path) -> None:
    """Counting, previewing and checking read one partition after the other."""
    batch = bf.from_dataframe(parts(rows(100), 50, 50), **OPTIONS)
    assert (len(batch), batch.preview_entry(60)["custom_id"]) == (100, "r60")
    assert "not yet counted" in batch._repr_html_()
    assert bf.check_requests(batch).query("severity == 'error'").empty


def test_an_index_with_a_name_holds_the_ids(tmp_path: Path) -> None:
    """A named index is used as that of pandas is; one that only counts is refused."""
    named = rows(10).set_index("id")
    batch = bf.from_dataframe(parts(named, 5, 5), prompt_column="text", model="m")
    assert read(batch.save_to_file(tmp_path / "x.jsonl")) == alone(rows(10), tmp_path)
    message = (
        "the index of this Dask DataFrame has no name, as if it only counted rows; "
        "pass id_column=, or name the index"
    )
    with pytest.raises(bf.ColumnError, match=f"^{re.escape(message)}$"):
        bf.from_dataframe(parts(rows(10), 5, 5), prompt_column="text", model="m")


def test_repeated_ids_are_named_with_their_partitions(tmp_path: Path) -> None:
    """The first three ids that are repeated are named with both places, however far apart."""
    frame = rows(100)
    frame.loc[[98, 3, 40, 50], "id"] = ["r2", "r1", "r39", "r20"]
    frame.loc[0, "text"] = None
    batch = bf.from_dataframe(parts(frame, 10, 30, 60), **OPTIONS, na="skip")
    assert error_of(batch, tmp_path / "x.jsonl", limits=Limits(requests=7)) == (
        "custom_id must be unique: "
        "'r1' in row 1 of 'partition 0' and row 3 of 'partition 0'; "
        "'r39' in row 29 of 'partition 1' and row 0 of 'partition 2'; "
        "'r20' in row 10 of 'partition 1' and row 10 of 'partition 2'; … and 1 more"
    )


def test_equal_hashes_of_other_ids_are_no_repetition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids are compared themselves where their hashes are equal."""
    name = "batch_frames.requests.partitions.hash_text"
    monkeypatch.setattr(name, lambda ids: pa.compute.utf8_length(ids).to_numpy().astype("<u8"))
    batch = bf.from_dataframe(parts(rows(20), 5, 15), **OPTIONS)
    assert read(batch.save_to_file(tmp_path / "x.jsonl")) == alone(rows(20), tmp_path)


def test_a_bad_row_is_named_in_its_partition(tmp_path: Path) -> None:
    """The error has the row in its partition, its column and its id, and nothing is left."""
    frame = rows(100)
    frame.loc[75, "text"] = None
    with pytest.raises(bf.RequestError) as caught:
        bf.from_dataframe(parts(frame, 50, 50), **OPTIONS).save_to_file(tmp_path / "x.jsonl")
    error = caught.value
    assert str(error) == (
        "row 25 of 'partition 1' (custom_id 'r75'): column 'text' is null; "
        'drop the row or pass na="skip"'
    )
    assert (error.row, error.column, error.custom_id) == (25, "text", "r75")
    assert stands(tmp_path) == []


def test_skipped_rows_are_warned_of(tmp_path: Path) -> None:
    """Rows without a prompt are counted over all partitions; nothing at all is an empty file."""
    frame = rows(10)
    frame.loc[[1, 8], "text"] = None
    batch = bf.from_dataframe(parts(frame, 5, 5), **OPTIONS, na="skip")
    where = "row 1 of 'partition 0' (custom_id 'r1'), row 3 of 'partition 1' (custom_id 'r8')"
    message = f"skipped 2 rows without a prompt: {where}"
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}$"):
        shards = batch.save_to_file(tmp_path / "x.jsonl")
    assert read(shards) == alone(frame.dropna(subset="text"), tmp_path)
    empty = bf.from_dataframe(parts(rows(0), 0, 0), **OPTIONS)
    with pytest.warns(UserWarning, match="^there are no requests: the file is empty$"):
        assert read(empty.save_to_file(tmp_path / "x.jsonl")) == b""


DEDUPE = (
    "dedupe compares all rows, and those of a Dask DataFrame are in partitions; "
    "call its drop_duplicates() or its compute() first"
)
ONE_PROCESS = (
    "run and plan take no Dask DataFrame, as they need its rows in one process; use save_to_file, "
    "submit, wait and download, or pass what its compute() returns"
)
JOINED = (
    "a Dask DataFrame has its rows in other processes; pass what its compute() returns, or join "
    "Parquet files of it with out="
)


def test_what_needs_all_rows_says_what_to_do(tmp_path: Path) -> None:
    """Whatever needs the rows in one process is refused, with the way that there is."""
    frame, path = parts(rows(10), 5, 5), tmp_path / "x.jsonl"
    results = pd.DataFrame({"custom_id": ["r1"], "status": ["ok"], "content": ["x"]})
    with pytest.raises(bf.BatchFramesError, match=f"^{re.escape(DEDUPE)}$"):
        bf.from_dataframe(frame, **OPTIONS, dedupe=True)
    for send in (bf.run, bf.plan):
        with pytest.raises(bf.BatchFramesError, match=f"^{re.escape(ONE_PROCESS)}$"):
            send(frame, path, **OPTIONS)
    several: list[dict[str, Any]] = [{}, {"out": tmp_path / "x.parquet"}]
    for more in several:
        with pytest.raises(TypeError, match=f"^{re.escape(JOINED)}$"):
            bf.join_results(frame, results, id_column="id", **more)
    batch = bf.from_dataframe(frame, **OPTIONS)
    batch.add_entry("one", "more")
    assert error_of(batch, path) == (
        "add_entry and a Dask DataFrame cannot be saved together; "
        "save the entries under another name"
    )


def test_results_in_partitions_are_refused(tmp_path: Path) -> None:
    """Results as a Dask DataFrame are refused in one sentence, wherever results are taken."""
    frame, path = rows(10), tmp_path / "x.jsonl"
    bf.from_dataframe(frame, **OPTIONS).save_to_file(path)
    results = dd.from_pandas(pd.DataFrame({"custom_id": ["r1"], "status": ["ok"]}), npartitions=1)
    takers: list[Callable[[], Any]] = [
        lambda: bf.summarize(results),
        lambda: bf.plot_results(results),
        lambda: bf.retry_requests(path, results),
        lambda: bf.join_results(frame, results, id_column="id"),
        lambda: bf.join_results(frame, results, id_column="id", out=tmp_path / "x.parquet"),
        lambda: bf.read_results(requests=path, like=results),
    ]
    for take in takers:
        with pytest.raises(TypeError) as caught:
            take()
        assert str(caught.value) == (
            "a Dask DataFrame has its rows in other processes; pass what its compute() returns"
        )


def test_workers_write_to_no_pipe(tmp_path: Path) -> None:
    """A file object or standard output belongs to one process."""
    batch = bf.from_dataframe(parts(rows(10), 5, 5), **OPTIONS)
    with (tmp_path / "x").open("wb") as file, pytest.raises(bf.BatchFramesError) as caught:
        batch.save_to_file(file)
    assert str(caught.value) == (
        "the workers of a Dask DataFrame cannot write into a pipe or a file object; "
        "pass a path that all of them see"
    )


def test_workers_write_to_no_object_storage(lake: ObjectServer) -> None:
    """A URL is refused in a sentence, before anything is written there."""
    batch = bf.from_dataframe(parts(rows(10), 5, 5), **OPTIONS)
    with pytest.raises(bf.BatchFramesError) as caught:
        batch.save_to_file("s3://lake/x.jsonl")
    assert str(caught.value) == (
        "'s3://lake/x.jsonl': the workers of a Dask DataFrame write to a folder on disk only; "
        "save there, and copy the files"
    )
    assert not lake.objects


def test_a_folder_that_others_do_not_see_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a worker says it has written must be here, and be as long as it says."""
    monkeypatch.setattr(
        "batch_frames.requests.partitions.ShardWriter.commit",
        lambda writer: [bf.Shard(tmp_path / "far" / "x.tmp", 10, 100)],
    )
    batch = bf.from_dataframe(parts(rows(10), 10), **OPTIONS)
    assert error_of(batch, tmp_path / "x.jsonl") == (
        f"'{tmp_path / 'far' / 'x.tmp'}', which a worker has written, is not here; "
        "save to a folder that all workers see"
    )


def test_render_makes_the_lines_of_a_piece(tmp_path: Path) -> None:
    """With its options it can be pickled, and pieces have the lines of the whole."""
    render = pickle.loads(pickle.dumps(partial(bf.render, **OPTIONS)))
    table = pa.Table.from_pandas(rows(100), preserve_index=False)
    lines = [line for batch in table.to_batches(17) for line in render(batch).to_pylist()]
    assert "".join(lines).encode() == alone(rows(100), tmp_path)
    nothing = pa.RecordBatch.from_pylist([], table.schema)
    assert render(nothing) == pa.array([], pa.large_string())


def die_once(piece: tuple[int, pd.DataFrame], folder: Path) -> pd.DataFrame:
    """Return a partition; of the fourth, the process dies as soon as its first file is there."""

    def die() -> None:
        while not list(folder.glob(".x.jsonl.*.p-3-*")):
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGKILL)

    number, frame = piece
    with suppress(FileExistsError):
        if number == 3:
            (folder / "died").touch(exist_ok=False)
            threading.Thread(target=die).start()
    return frame


@pytest.mark.slow
def test_a_worker_may_be_killed(tmp_path: Path) -> None:
    """Four processes write, one is killed in the middle, and all is as if it had not been."""
    out = tmp_path / "out"
    out.mkdir()
    frame = rows(8_000)
    pieces = [(n, frame.iloc[n * 1_000 : (n + 1) * 1_000]) for n in range(8)]
    cluster = LocalCluster(n_workers=4, threads_per_worker=1, dashboard_address=None)
    with cluster, Client(cluster) as client, dask.config.set(scheduler=client):
        before = set(client.run(os.getpid).values())
        table = dd.from_map(partial(die_once, folder=out), pieces, meta=frame.iloc[:0])
        batch = bf.from_dataframe(table, **OPTIONS)
        shards = batch.save_to_file(out / "x.jsonl", limits=Limits(requests=10))
        assert len(before - set(client.run(os.getpid).values())) == 1
    assert read(shards) == alone(frame, tmp_path)
    assert [shard.path.name for shard in shards] == [f"x-{n + 1:05}.jsonl" for n in range(800)]
    assert stands(out) == ["died", *(shard.path.name for shard in shards)]
