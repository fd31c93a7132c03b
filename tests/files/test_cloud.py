"""Paths in object storage do what paths on disk do, whatever the store and the network do."""

from __future__ import annotations

import gzip
import io
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import batch_frames as bf
from batch_frames.cli import main
from batch_frames.files import as_path, cloud, locked, locks
from tests.service.server import BatchServer
from tests.service.storage import Moment, ObjectServer

ASK: dict[str, Any] = {"id_column": "id", "prompt_column": "text", "model": "m"}
QUICK: dict[str, Any] = {"poll": 0.002, "progress": False}
NAMED = ("rated", "joined")
NAMES = (
    *("a.jsonl", "b.jsonl", ".hidden.jsonl", "one/a.jsonl", "one/two/c.jsonl", "one/x.csv"),
    "ä ö%20+.jsonl",
)


def table(count: int) -> pd.DataFrame:
    """Make a table of prompts that differ."""
    return pd.DataFrame({"id": range(count), "text": [f"say {n}" for n in range(count)]})


def run(server: BatchServer, count: int = 6) -> None:
    """Answer a table by URL, and hold that each row has its answer."""
    rated = bf.run(
        table(count), "s3://lake/out/r.jsonl",
        client=server.client(), limits=bf.Limits(requests=2), **ASK, **QUICK,
    )  # fmt: skip
    assert rated["content"].tolist() == [f"You said: say {n}" for n in range(count)]


@pytest.mark.parametrize(
    "pattern",
    ["*", "*.jsonl", "one/*.jsonl", "**/*.jsonl", "*/*/c.*", "[ab].jsonl", "o*/**/*", "none/*"],
)
def test_globs_find_what_they_find_on_disk(
    lake: ObjectServer, tmp_path: Path, pattern: str
) -> None:
    """Files and folders, also where names have blanks, umlauts and signs."""
    for name in NAMES:
        lake.put(f"in/{name}", b"")
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    top = as_path("s3://lake/in")
    found = {path.relative_to(top).parts for path in top.glob(pattern)}
    assert found == {path.relative_to(tmp_path).parts for path in tmp_path.glob(pattern)}
    assert {p.name for p in top.iterdir()} == {p.name for p in tmp_path.iterdir()}


def test_a_large_folder_is_listed_whole(lake: ObjectServer) -> None:
    """Also where the store lists it in several pages."""
    for number in range(2_500):
        lake.put(f"in/{number}.jsonl", b"")
    assert len(list(as_path("s3://lake/in").glob("*.jsonl"))) == 2_500
    assert len(list(as_path("s3://lake").rglob("*.jsonl"))) == 2_500


def test_paths_have_their_parts() -> None:
    """Names, folders and URLs are told as on disk."""
    path = as_path("s3://lake/out/r.jsonl")
    assert (str(path), os.fspath(path)) == ("s3://lake/out/r.jsonl",) * 2
    assert (path.name, path.stem, path.suffix) == ("r.jsonl", "r", ".jsonl")
    assert [str(p) for p in (path.parent, path.with_name("q"), path.parent / "x")] == [
        *("s3://lake/out", "s3://lake/out/q", "s3://lake/out/x")
    ]
    assert as_path(Path("s3://lake/out/r.jsonl")) == as_path(str(path)) == path
    assert {path} == {as_path("s3://lake/out//r.jsonl")}


@pytest.mark.parametrize("size", [0, 1, 1 << 18, 5_000_000])
def test_reading_in_pieces_is_exact(
    lake: ObjectServer, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """From the first byte to the last, and after any seek."""
    monkeypatch.setattr(cloud, "MOST", 1 << 20)
    data = random.Random(size).randbytes(size)
    with as_path("s3://lake/x").open("xb") as file:
        for start in range(0, size, 777_777):
            file.write(data[start : start + 777_777])
    assert lake.objects["x"].data == data
    with as_path("s3://lake/x").open("rb") as file:
        assert file.read() == data
        for place in (size // 2, 0, size - 1 if size else 0, size + 5):
            file.seek(place)
            assert file.read(70_000) == data[place : place + 70_000]


def test_what_is_replaced_while_it_is_read_is_no_mixture(
    lake: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader is told, and gets no bytes of the other file."""
    monkeypatch.setattr(cloud, "LEAST", 4)
    lake.put("x", b"0123456789")
    with as_path("s3://lake/x").open("rb") as file:
        assert file.read(4) == b"0123"
        lake.put("x", b"abcdefghij")
        with pytest.raises(OSError, match="there is another such object") as caught:
            file.read()
    assert caught.value.filename == "s3://lake/x"


@pytest.mark.parametrize("status", [0, 500, 503])
def test_a_lost_reply_is_no_second_file(lake: ObjectServer, status: int) -> None:
    """Where the reply to an exclusive creation is lost, who created it learns that it has."""
    lost = [status]
    lake.fault = lambda method, key, moment: (
        lost.pop() if lost and (method, moment) == ("PUT", "done") else None
    )
    path = as_path("s3://lake/x.try")
    assert isinstance(path, cloud.CloudPath)
    tag = path.put(b"mine", None)
    assert tag == lake.objects["x.try"].tag
    assert not lost
    assert path.put(b"other", None) is None
    lost.append(status)
    assert path.put(b"mine again", tag) == lake.objects["x.try"].tag
    assert path.put(b"late", tag) is None
    assert lake.objects["x.try"].data == b"mine again"
    with pytest.raises(FileExistsError):
        path.touch(exist_ok=False)


def test_of_all_who_create_a_file_one_does(lake: ObjectServer) -> None:
    """Twenty threads at once, with lost replies."""
    chance = random.Random(1)
    lake.fault = lambda _, key, moment: 0 if moment == "done" and chance.random() < 0.3 else None
    path, won = as_path("s3://lake/x"), list[int]()
    assert isinstance(path, cloud.CloudPath)

    def create(number: int) -> None:
        if path.put(b"%d" % number, None):
            won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [b"%d" % number for number in won] == [lake.objects["x"].data]


def test_a_run_bears_a_bad_network(lake: ObjectServer, server: BatchServer) -> None:
    """With 5xx and dropped connections before, in the middle of and after replies of the store."""
    chance = random.Random(5)
    faults = {"asked": (0, 500, 503), "half": (0,), "done": (0, 502)}

    def fault(method: str, key: str, moment: Moment) -> int | None:
        return chance.choice(faults[moment]) if chance.random() < 0.01 else None

    lake.fault = fault
    run(server)
    run(server)
    assert sum(batch.paid for batch in server.batches) == 6


def test_a_failed_write_leaves_nothing(lake: ObjectServer) -> None:
    """Whether a row or the store was at fault, no name has a file, and a set is whole."""
    frame = table(30)
    bf.from_dataframe(frame, **ASK).save_to_file("s3://lake/out/r.jsonl")
    before = dict(lake.objects)
    with pytest.raises(bf.RequestError):
        bf.from_dataframe(frame.assign(id=[*range(29), 0]), **ASK).save_to_file(
            "s3://lake/out/r.jsonl", limits=bf.Limits(requests=4)
        )
    assert lake.objects == before
    lake.fault = lambda method, key, moment: 403 if method == "PUT" and ".tmp" in key else None
    with pytest.raises(OSError, match="403 Forbidden"):
        bf.from_dataframe(table(4), **ASK).save_to_file("s3://lake/out/r.jsonl")
    lake.fault = lambda *_: None
    assert {k: v for k, v in lake.objects.items() if not k.endswith(".lock")} == before


def test_tables_come_from_object_storage(lake: ObjectServer, tmp_path: Path) -> None:
    """CSV, plain and compressed, and Parquet make the same lines as from disk."""
    frame = table(3_000)
    pq.write_table(pa.Table.from_pandas(frame[:1_000]), tmp_path / "1.parquet")
    pq.write_table(pa.Table.from_pandas(frame[1_000:]), tmp_path / "2.parquet", row_group_size=300)
    frame[:1_500].to_csv(tmp_path / "1.csv", index=False)
    frame[1_500:].to_csv(tmp_path / "2.csv.gz", index=False)
    for path in tmp_path.iterdir():
        lake.put(f"in/{path.name}", path.read_bytes())
    for make, pattern in ((bf.from_parquet, "*.parquet"), (bf.from_csv, "*.csv*")):
        make(str(tmp_path / pattern), **ASK).save_to_file(tmp_path / "disk.jsonl", overwrite=True)
        make(f"s3://lake/in/{pattern}", **ASK).save_to_file("s3://lake/out/cloud.jsonl")
        assert lake.objects["out/cloud.jsonl"].data == (tmp_path / "disk.jsonl").read_bytes()


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_readers_take_urls(
    lake: ObjectServer, server: BatchServer, tmp_path: Path, ending: str
) -> None:
    """Files of object storage, plain and compressed, are read as those on disk are."""
    shards = bf.from_dataframe(table(5), **ASK).save_to_file(tmp_path / "r.jsonl")
    client = server.client()
    bf.download(bf.wait(bf.submit(shards, client=client), client=client, **QUICK), client=client)
    pack: dict[str, Callable[[bytes], bytes]] = {
        "": bytes,
        ".gz": gzip.compress,
        ".zst": lambda data: pa.compress(data, "zstd", asbytes=True),
    }
    for path in tmp_path.glob("*.jsonl"):
        lake.put(f"in/{path.name}{ending}", pack[ending](path.read_bytes()))
    (tmp_path / f"copy.jsonl{ending}").write_bytes(lake.objects[f"in/r.jsonl{ending}"].data)
    results, requests = f"s3://lake/in/r.output.jsonl{ending}", f"s3://lake/in/r.jsonl{ending}"
    local = bf.read_requests(tmp_path / "r.jsonl")
    for packed in (requests, tmp_path / f"copy.jsonl{ending}"):
        read = bf.read_requests(packed)
        pd.testing.assert_frame_equal(read.drop(columns="file"), local.drop(columns="file"))
    read = bf.read_results(results, requests=requests)
    assert read["file"].tolist() == [results] * 5
    expected = bf.read_results(tmp_path / "r.output.jsonl", requests=shards)
    pd.testing.assert_frame_equal(read.drop(columns="file"), expected.drop(columns="file"))
    assert bf.scan_results(results).read_all().num_rows == 5
    assert bf.check_requests(requests).attrs["requests"] == 5


def test_a_lock_is_with_one_at_a_time(lake: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits is next, and who does not is told; while it is renewed, it is not taken over."""
    monkeypatch.setattr(locks, "LEASE", 0.4)
    monkeypatch.setattr(locks, "RENEWAL", 0.05)
    path, inside = as_path("s3://lake/out/x"), list[int]()

    def take(number: int) -> None:
        with locked(path, "busy", patience=30) as check:
            inside.append(number)
            time.sleep(0.6)
            check()
            inside.append(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    while not inside:
        time.sleep(0.01)
    with pytest.raises(bf.BatchFramesError) as caught:
        locked(path, "x is with {owner}").__enter__()
    assert str(caught.value) == "x is with another process; wait for it to end"
    for thread in threads:
        thread.join()
    assert inside[::2] == inside[1::2]
    assert lake.objects == {}


def test_a_lock_that_is_not_renewed_is_taken_over(
    lake: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another machine after a while, and its owner, should it wake up, does not go on."""
    monkeypatch.setattr(locks, "LEASE", 0.4)
    path = as_path("s3://lake/out/x")
    other = '{"machine": "elsewhere", "pid": 1, "id": "a", "renewal": 0}'
    lake.put("out/.x.lock", other.encode())
    with locked(path, "busy") as check:
        assert b"elsewhere" not in lake.objects["out/.x.lock"].data
        check()
        time.sleep(0.3)
        with pytest.raises(bf.BatchFramesError, match=r"'s3://lake/out/.x.lock' was not renewed"):
            check()
        lake.put("out/.x.lock", other.encode())
    assert lake.objects["out/.x.lock"].data == other.encode()


VERBS: dict[str, Any] = {
    "from_csv": lambda url: bf.from_csv(url, **ASK),
    "from_parquet": lambda url: bf.from_parquet(url, **ASK),
    "save_to_file": lambda url: bf.from_dataframe(table(1), **ASK).save_to_file(url),
    "read_requests": bf.read_requests,
    "read_results": bf.read_results,
    "read_results requests": lambda url: bf.read_results(requests=url),
    "scan_results": bf.scan_results,
    "check_requests": bf.check_requests,
    "estimate": bf.estimate,
    "retry_requests": bf.retry_requests,
    "submit": bf.submit,
    "run_local": bf.run_local,
    "load_jobs": bf.load_jobs,
    "run": lambda url: bf.run(table(1), url, **ASK),
    "run files": bf.run,
    "run table": lambda url: bf.run(url, "r.jsonl", **ASK),
    "plan": lambda url: bf.plan(table(1), url, **ASK),
    "join_results": lambda url: bf.join_results(url, "x.jsonl", id_column="id", out="x.parquet"),
    "join_results out": lambda url: bf.join_results(
        table(1), pd.DataFrame({"custom_id": ["0"], "status": ["ok"]}), id_column="id", out=url
    ),
}


@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_takes_another_url_for_a_path(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every function says what is wrong with a URL, and makes no folder of its name."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(bf.BatchFramesError) as caught:
        VERBS[verb]("http://lake/r.jsonl")
    assert str(caught.value) == (
        "'http://lake/r.jsonl' is a URL that cannot be read or written; "
        "pass a path, or a URL of s3://, gs:// or az://"
    )
    assert list(tmp_path.iterdir()) == []


def test_commands_take_urls(lake: ObjectServer, server: BatchServer) -> None:
    """A table is written, run, read and joined by URLs alone."""
    lake.put("in/t.csv", table(4).to_csv(index=False).encode())
    asked = ["--id-column", "id", "--prompt-column", "text", "--model", "m"]
    for command, told in (
        (["write", "s3://lake/in/*.csv", "s3://lake/out/w.jsonl", *asked], "s3://lake/out/w.jsonl"),
        (
            [
                *("run", "s3://lake/in/t.csv", "s3://lake/out/r.jsonl", *asked, "--poll", "0.01"),
                *("-o", "s3://lake/out/rated.parquet", "--base-url", server.url),
            ],
            "s3://lake/out/rated.parquet",
        ),
        (
            [
                *("read", "s3://lake/out/r.output.jsonl", "--requests", "s3://lake/out/r.jsonl"),
                *("--join", "s3://lake/in/t.csv", "--id-column", "id"),
                *("-o", "s3://lake/out/joined.parquet"),
            ],
            "s3://lake/out/joined.parquet",
        ),
        (["check", "s3://lake/out/*.jsonl"], "no problems in 8 requests"),
        (["status", "s3://lake/out/r.jsonl"], "completed"),
    ):
        done = CliRunner().invoke(main, command, catch_exceptions=False)
        assert (done.exit_code, told in done.output) == (0, True), done.output
    rated = [pd.read_parquet(io.BytesIO(lake.objects[f"out/{n}.parquet"].data)) for n in NAMED]
    for frame in rated:
        assert frame["content"].tolist() == [f"You said: say {n}" for n in range(4)]


def test_a_missing_file_is_named_by_the_command(lake: ObjectServer) -> None:
    """As one on disk is."""
    command = ["read", "s3://lake/x.jsonl", "--join", "s3://lake/no.csv", "--id-column", "id"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 2
    assert "File 's3://lake/no.csv' does not exist." in done.output


def test_what_to_set_is_told_where_there_are_no_credentials(lake: ObjectServer) -> None:
    """The error does not tell of the machine's address at which they were asked for."""
    # Without any certificate, no store is opened.
    unset = {"SSL_CERT_DIR", *lake.environment}
    given = {name: value for name, value in os.environ.items() if name not in unset}
    given["AWS_METADATA_ENDPOINT"] = lake.environment["AWS_ENDPOINT_URL"]
    script = "from batch_frames.cli import main; main(['check', 's3://lake/r.jsonl'])"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, env=given)
    told = "the environment has no credentials (AWS_…, GOOGLE_…, AZURE_…; not in ~/.aws)"
    assert done.stderr == f"Error: [Errno 13] {told}: 's3://lake/r.jsonl'\n"
    assert done.returncode == 1


def test_live_answers_stay_on_disk(lake: ObjectServer) -> None:
    """Where no answer can be added to a file, run_local says so."""
    bf.from_dataframe(table(1), **ASK).save_to_file("s3://lake/out/r.jsonl")
    with pytest.raises(bf.BatchFramesError) as caught:
        bf.run_local("s3://lake/out/*.jsonl")
    assert str(caught.value) == (
        "'s3://lake/out/r.jsonl': run_local takes request files on disk only; "
        "copy it to disk, or send it with submit"
    )


def test_the_extra_is_named_where_it_is_missing() -> None:
    """The error has the command that installs it."""
    script = (
        "import sys; sys.modules['obstore'] = None; import batch_frames as bf\n"
        "try: bf.read_requests('s3://lake/r.jsonl')\n"
        "except bf.MissingExtra as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    told = "'s3://lake' needs obstore; install it with pip install 'batch-frames[cloud]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, told, "")
