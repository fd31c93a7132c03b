"""Paths, globs and folders lead to the files that are meant."""

from __future__ import annotations

import gzip
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd
import pytest

import batch_frames as bf
from batch_frames.files import find
from tests.support.table_files import Read, batch_of, rows_of, save


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder of CSV files, each with one row, and of other things; work beside it."""
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "b.csv": "id,text\nb,x\n",
        "a.csv": "id,text\na,x\n",
        "c.tsv": "text\tid\nx\tc\n",
        "deep/d.csv": "id;text\nd;x\n",
        "deep/.hidden.csv": "nothing",
        "_draft.csv": "nothing",
        ".a.csv": "nothing",
        "_more/e.csv": "nothing",
        ".more/e.csv": "nothing",
        "notes.txt": "nothing",
    }.items():
        save(tmp_path / "data" / name, text)
    (tmp_path / "data" / "z.csv.gz").write_bytes(gzip.compress(b"id,text\nz,x\n"))
    (tmp_path / "data" / "empty.csv").mkdir()
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("paths", "ids"),
    [
        ("data/a.csv", "a"),
        (Path("data/a.csv"), "a"),
        (["data/b.csv", Path("data/a.csv")], "ba"),
        (("data/c.tsv", "data/deep/*.csv"), "cd"),
        ("data/[ab].csv", "ab"),
        ("data/?.csv*", "abz"),
        ("data/**/[a-d].csv", "abd"),
        ("data/*/d.csv", "d"),
        ("data", "abcdz"),
        ("data/", "abcdz"),
        (["data/deep", "data/a.csv"], "da"),
        ("./data/../data/a.csv", "a"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("folder")
def test_paths_lists_globs_and_folders_are_read_in_order(paths: Any, ids: str) -> None:
    """Files come in the order given, those of a glob or a folder sorted, hidden ones never."""
    assert [custom_id for custom_id, _ in rows_of(paths)] == list(ids)


def test_absolute_globs_and_generators_of_paths_are_read(folder: Path) -> None:
    """A glob may begin at the root, and a list may be anything that gives paths."""
    assert [i for i, _ in rows_of(f"{folder}/[ab].csv")] == ["a", "b"]
    assert [i for i, _ in rows_of(folder / name for name in ("b.csv", "a.csv"))] == ["b", "a"]


def test_a_name_with_the_signs_of_a_glob_is_itself_first(tmp_path: Path) -> None:
    """A file whose name looks like a pattern is read by that name."""
    save(tmp_path / "a.csv", "id,text\na,x\n")
    odd = save(tmp_path / "[a].csv", "id,text\nodd,x\n")
    assert rows_of(odd) == [("odd", "x")]


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ("data/nope.csv", "no file 'data/nope.csv'; check the path"),
        ("data/*.nope", "no file 'data/*.nope'; check the path"),
        (["data/a.csv", "nope.csv"], "no file 'nope.csv'; check the path"),
        ([], "the list of paths is empty"),
        (
            "data/empty.csv",
            "no *.csv, *.tsv, *.csv.gz or *.tsv.gz in the folder 'data/empty.csv'; check the path",
        ),
    ],
    ids=["path", "glob", "list", "nothing", "folder"],
)
@pytest.mark.usefixtures("folder")
def test_a_path_without_files_is_refused_at_once(paths: Any, message: str) -> None:
    """A path that finds no file is an error with the path, even when others find some."""
    with pytest.raises(FileNotFoundError) as caught:
        batch_of(paths)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([5], "a path must be text or a Path, not 5"),
        (
            pd.DataFrame({"id": ["1"]}),
            "a path is needed, not a DataFrame; for that, use from_dataframe",
        ),
    ],
    ids=["numbers", "frame"],
)  # fmt: skip
@pytest.mark.parametrize("read", [bf.from_csv, bf.from_parquet], ids=["CSV", "Parquet"])
def test_what_is_no_path_is_refused(read: Read, paths: Any, message: str) -> None:
    """Something else than a path is a TypeError that says what it is."""
    with pytest.raises(TypeError) as caught:
        batch_of(paths, read)
    assert str(caught.value) == message


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names on this system")
@pytest.mark.parametrize(
    "read",
    [
        lambda path: bf.from_csv(path, id_column="id", prompt_column="text", model="m"),
        lambda path: bf.from_parquet(path, id_column="id", prompt_column="text", model="m"),
        bf.read_results,
        bf.read_requests,
    ],
)
def test_a_pipe_is_refused_without_opening_it(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    """Nobody writes to it, so that opening it would never end."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(bf.BatchFramesError) as caught:
        read(path)
    assert str(caught.value) == (
        f"'{path}' is a pipe or a device, which cannot be read twice; save what it holds as a file"
    )


TABLE = pd.DataFrame({"id": ["a"], "text": ["x"]})


@pytest.mark.skipif(sys.platform != "linux", reason="paths are text on other systems")
@pytest.mark.parametrize(
    "use",
    [
        lambda path: bf.run(TABLE, path, id_column="id", prompt_column="text", model="m"),
        lambda path: bf.BatchCreator(system_prompt="s").save_to_file(path),
        lambda path: bf.read_results(requests=path),
        bf.read_results,
        bf.read_requests,
        bf.submit,
    ],
)
def test_a_path_that_is_not_utf8_is_refused(tmp_path: Path, use: Callable[[Path], Any]) -> None:
    """Every verb says so at once, in a sentence that can be printed; no file is written."""
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    with pytest.raises(bf.BatchFramesError) as caught:
        use(folder / "r.jsonl")
    expected = f"the path '{tmp_path}/\\udcff/r.jsonl' is not UTF-8; rename it"
    assert str(caught.value) == expected
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("read", [bf.read_requests, bf.check_requests, bf.submit])
def test_a_path_in_a_folder_that_is_not_there_is_named(
    tmp_path: Path, read: Callable[[Path], Any]
) -> None:
    """As that of any file that is not there."""
    path = tmp_path / "no" / "r.jsonl"
    with pytest.raises(FileNotFoundError) as caught:
        read(path)
    assert str(caught.value) == f"no file '{path}'; check the path"


REQUEST = b'{"custom_id":"a","url":"/v1/chat/completions","body":{}}'


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (REQUEST, True),
        (b"\xef\xbb\xbf \t\r\n [1]\n{\n" + REQUEST, True),
        (b'{"custom_id":"a","response":{},"body":{}}\n' + REQUEST, False),
        (b'{"custom_id":"a"}\n' + REQUEST, False),
        (b" " * 61 + b"\n" + REQUEST, True),
        (b" " * 64 + REQUEST, None),
        (b"x" * 64 + REQUEST, None),
        (b"x" * 64 + b"\n" + REQUEST, None),
        (b"", None),
    ],
)
def test_the_first_object_tells_what_a_file_holds(
    tmp_path: Path, data: bytes, expected: bool | None
) -> None:
    """The first line that is an object decides, unless a long line comes first."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(data)
    with patch.object(find, "LONGEST_PART", 64):
        assert find.holds_requests(path) is expected


def test_a_set_of_several_files_goes_by_its_name(tmp_path: Path) -> None:
    """The path that was saved to stands for its files, without those of later rounds."""
    frame = pd.DataFrame({"id": ["a", "b", "c"], "p": ["x", "y", "z"]})
    batch = bf.from_dataframe(frame, id_column="id", prompt_column="p", model="m")
    path = tmp_path / "r.jsonl"
    shards = batch.save_to_file(path, limits=bf.Limits(requests=2))
    (tmp_path / "r.round-2.jsonl").write_bytes(shards[0].path.read_bytes())
    assert find.find_shards(path) == find.find_shards(str(path)) == [one.path for one in shards]
    assert bf.estimate(path, prices={"m": (1, 1)})["requests"].tolist() == [2, 1, 3]
    other = tmp_path / "other.jsonl"
    with pytest.raises(FileNotFoundError, match=f"^no file '{re.escape(str(other))}'; check"):
        find.find_shards(other)
