"""Parquet files become the lines that a frame of the same rows becomes."""

from __future__ import annotations

import base64
import datetime as dt
import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import batch_frames as bf
from tests.support.table_files import (
    NO_PROMPT,
    batch_of,
    error_of,
    line,
    rows_of,
    save_parquet,
    warns,
    written,
)


def test_parquet_row_groups_are_read_in_order(tmp_path: Path) -> None:
    """All rows of all row groups come out once and in order, with nulls left out."""
    rows = range(12_345)
    texts = [f"{row} é\n" * (row % 5) for row in rows]
    numbers = [None if row % 7 else row for row in rows]
    columns = {"id": list(map(str, rows)), "text": texts, "n": numbers, "unused": list(rows)}
    for size in (1_000, 5_000, 100_000):
        path = save_parquet(tmp_path / f"{size}.parquet", columns, row_group_size=size)
        assert written(path, bf.from_parquet, body={"n": bf.col("n")}) == b"".join(
            line(str(row), texts[row], **({} if row % 7 else {"n": row})) for row in rows
        )


words_or_null = st.none() | st.text(max_size=9)


@given(
    rows=st.lists(
        st.tuples(
            st.text(min_size=1, max_size=5),
            st.text(max_size=9),
            words_or_null,
            st.none() | st.integers(-(2**63), 2**63 - 1),
            st.none() | st.booleans(),
            st.none() | st.floats(allow_nan=False, allow_infinity=False),
            st.none() | st.lists(words_or_null, max_size=3),
        ),
        min_size=1,
        max_size=6,
        unique_by=lambda row: row[0],
    ),
    dictionary=st.booleans(),
    group=st.integers(1, 4),
)
def test_parquet_files_become_the_lines_of_their_frame(
    rows: list[Any], dictionary: bool, group: int
) -> None:
    """A table makes the same bytes from memory and from a Parquet file, however it is laid out."""
    types = [pa.string()] * 3 + [pa.int64(), pa.bool_(), pa.float64(), pa.list_(pa.string())]
    names = ["id", "text", "note", "n", "flag", "x", "list"]
    columns = [pa.array(c, t) for c, t in zip(zip(*rows, strict=True), types, strict=True)]
    table = pa.table(columns, names=names)
    body: dict[str, Any] = {name: bf.col(name) for name in names[2:]}
    body["deep"] = [bf.col(name) for name in names[2:]]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.parquet"
        pq.write_table(table, path, use_dictionary=dictionary, row_group_size=group)
        got = written(path, bf.from_parquet, body=body)
    assert got == written(table, bf.from_dataframe, body=body)
    assert [json.loads(request)["body"]["deep"] for request in got.split(b"\n")[:-1]] == [
        list(row[2:]) for row in rows
    ]


PARQUET: dict[str, tuple[pa.Array, list[Any]]] = {
    "dictionary": (pa.array(["b", None, '"', "b"]).dictionary_encode(), ["b", None, '"', "b"]),
    "dates": (pa.array([dt.date(2024, 1, 2), None] * 2), ["2024-01-02", None] * 2),
    "milliseconds": (
        pa.array([1, None, 0, 1_500], pa.timestamp("ms")),
        ["1970-01-01T00:00:00.001000", None, "1970-01-01T00:00:00", "1970-01-01T00:00:01.500000"],
    ),
    "nanoseconds": (
        pa.array([1, None, 0, -1], pa.timestamp("ns", "UTC")),
        [
            "1970-01-01T00:00:00.000000001+00:00",
            None,
            "1970-01-01T00:00:00+00:00",
            "1969-12-31T23:59:59.999999999+00:00",
        ],
    ),
    "booleans": (pa.array([True, None, False, True]), [True, None, False, True]),
    "floats": (pa.array([1.0, None, 0.1, -0.0]), [1, None, 0.1, 0]),
    "narrow floats": (pa.array([1.0, None, 0.1, 2.5], pa.float32()), [1, None, 0.1, 2.5]),
    "structs": (
        pa.array([{"a": 1, "b": [None]}, None, {"a": None, "b": []}, {"a": 2, "b": None}]),
        [{"a": 1, "b": [None]}, None, {"a": None, "b": []}, {"a": 2, "b": None}],
    ),
    "maps": (
        pa.array([[("k", 1)], None, [], [("a", None)]], pa.map_(pa.string(), pa.int64())),
        [{"k": 1}, None, {}, {"a": None}],
    ),
    "nothing but nulls": (pa.nulls(4), [None] * 4),
}  # fmt: skip


@pytest.mark.parametrize("name", PARQUET)
def test_parquet_values_are_those_of_frames(tmp_path: Path, name: str) -> None:
    """Every type of column that Parquet stores keeps its meaning."""
    array, values = PARQUET[name]
    columns = {"id": list("abcd"), "text": ["x"] * 4, "v": array}
    path = save_parquet(tmp_path / "a.parquet", columns, row_group_size=3)
    got = written(path, bf.from_parquet, body={"v": bf.col("v"), "deep": [bf.col("v")]})
    assert got == b"".join(
        line(i, "x", **({} if value is None else {"v": value}), deep=[value])
        for i, value in zip("abcd", values, strict=True)
    )


def test_parquet_ids_may_be_dictionaries_or_numbers(tmp_path: Path) -> None:
    """Ids are read from any type that ids can be of."""
    for ids in (pa.array(["3", "007"]).dictionary_encode(), pa.array(["3", "007"])):
        path = save_parquet(tmp_path / "a.parquet", {"id": ids, "text": ["x", "y"]})
        assert rows_of(path, bf.from_parquet) == [("3", "x"), ("007", "y")]
    path = save_parquet(tmp_path / "a.parquet", {"id": [3, 2**53 + 1], "text": ["x", "y"]})
    assert rows_of(path, bf.from_parquet) == [("3", "x"), (str(2**53 + 1), "y")]


def test_pandas_files_keep_their_nulls_and_their_index(tmp_path: Path) -> None:
    """What pandas saves as Parquet has its NaN as null, and its index as a column."""
    index = pd.Index(["a", "b"], name="key")
    frame = pd.DataFrame(
        {"text": ["x", "y"], "n": [3, None], "c": pd.Categorical([None, "z"])}, index
    )
    path = tmp_path / "a.parquet"
    frame.to_parquet(path)
    body = {"n": bf.col("n"), "c": bf.col("c")}
    expected = line("a", "x", n=3) + line("b", "y", c="z")
    assert written(path, bf.from_parquet, id_column="key", body=body) == expected
    assert written(frame, bf.from_dataframe, id_column=None, body=body) == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinities_in_parquet_files_are_refused(tmp_path: Path, value: float) -> None:
    """A float that JSON cannot hold is refused with its row, counted over row groups."""
    columns = {"id": ["a", "b", "c"], "text": ["x"] * 3, "v": [1.0, None, value]}
    path = save_parquet(tmp_path / "a.parquet", columns, row_group_size=1)
    error = error_of(path, bf.from_parquet, body={"v": bf.col("v")})
    assert str(error) == f"row 2 (custom_id 'c'): column 'v' is {value}, which JSON cannot hold"


def test_errors_far_into_a_parquet_file_name_the_row(tmp_path: Path) -> None:
    """A row number is the position in the file, not in its row group."""
    texts: list[str | None] = ["x" * 50] * 30_000
    texts[27_182] = None
    columns = {"id": np.arange(30_000), "text": texts}
    path = save_parquet(tmp_path / "a.parquet", columns, row_group_size=7_000)
    assert str(error_of(path, bf.from_parquet)) == (f"row 27,182 (custom_id '27182'): {NO_PROMPT}")


@pytest.mark.parametrize("column", ["id", "p"])
def test_invalid_utf8_in_a_parquet_file_is_refused(tmp_path: Path, column: str) -> None:
    """The error names the row, far into the file too, and nothing is written."""
    good = [f"ok {n}" for n in range(9_000)]
    text = pa.array([b"caf\xe9" if n == 7_000 else good[n].encode() for n in range(9_000)])
    invalid = pa.StringArray.from_buffers(len(text), *text.buffers()[1:])
    table = pa.table({"id": good, "p": good, column: invalid})
    pq.write_table(table, tmp_path / "x.parquet")
    batch = bf.from_parquet(tmp_path / "x.parquet", id_column="id", prompt_column="p", model="m")
    with pytest.raises(bf.RequestError) as caught:
        batch.save_to_file(tmp_path / "x.jsonl")
    where = "row 7,000: id" if column == "id" else "row 7,000 (custom_id 'ok 7000'): column 'p'"
    problem = "is not valid UTF-8; read the file with its own encoding, or save it as UTF-8"
    assert str(caught.value) == f"{where} {problem}"
    assert not (tmp_path / "x.jsonl").exists()


def test_an_empty_parquet_file_makes_no_requests(tmp_path: Path) -> None:
    """A Parquet file without rows makes an empty file, and a warning says so."""
    columns = {"id": pa.array([], pa.string()), "text": pa.array([], pa.string())}
    path = save_parquet(tmp_path / "a.parquet", columns)
    with warns("there are no requests: the file is empty"):
        assert written(path, bf.from_parquet) == b""


def test_dots_in_the_names_of_columns_are_letters(tmp_path: Path) -> None:
    """A dot in a name neither leads into a struct nor brings columns that begin alike."""
    columns = {"id": ["a"], "text": ["x"], "m": ["1"], "m.x": ["2"], "s": [{"a.b": 1, "c": 2}]}
    path = save_parquet(tmp_path / "a.parquet", columns)
    body = {name: bf.col(name) for name in ("m", "m.x", "s")}
    assert written(path, bf.from_parquet, body=body) == (
        line("a", "x", **{"m": "1", "m.x": "2", "s": {"a.b": 1, "c": 2}})
    )


def overwrite(path: Path, column: int) -> None:
    """Destroy the data of one column of a Parquet file."""
    chunk = pq.read_metadata(path).row_group(0).column(column)
    with path.open("r+b") as file:
        file.seek(chunk.data_page_offset)
        file.write(b"\xff" * chunk.total_compressed_size)


def test_only_the_needed_columns_of_a_parquet_file_are_read(tmp_path: Path) -> None:
    """A column whose data is destroyed does no harm until someone asks for it."""
    columns = {"id": ["a", "b"], "text": ["x", "y"], "other": ["z" * 99, "w" * 99]}
    path = save_parquet(tmp_path / "a.parquet", columns, use_dictionary=False, compression="none")
    overwrite(path, 2)
    assert rows_of(path, bf.from_parquet) == [("a", "x"), ("b", "y")]
    pattern = rf"'{re.escape(str(path))}', row group 0: .+"
    error = error_of(path, bf.from_parquet, prompt_column="other")
    assert re.fullmatch(pattern, str(error))


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
def test_a_damaged_page_is_named_by_its_row_group(tmp_path: Path, compression: str) -> None:
    """What is wrong in one of several row groups names it, with the file."""
    columns = {"id": list(map(str, range(4_000))), "text": [f"{n}" * 9 for n in range(4_000)]}
    path = save_parquet(
        tmp_path / "a.parquet", columns, row_group_size=1_000, compression=compression
    )
    chunk = pq.read_metadata(path).row_group(2).column(1)
    with path.open("r+b") as file:
        file.seek(chunk.dictionary_page_offset or chunk.data_page_offset)
        file.write(b"\xff" * chunk.total_compressed_size)
    error = error_of(path, bf.from_parquet)
    assert type(error) is bf.BatchFramesError
    assert re.fullmatch(rf"'{re.escape(str(path))}', row group 2: .+", str(error))


@pytest.mark.parametrize(
    ("plaintext_footer", "where"), [(False, " cannot be read: "), (True, ", row group 0: ")]
)
def test_an_encrypted_file_is_named(tmp_path: Path, plaintext_footer: bool, where: str) -> None:
    """Without its keys, a file is refused, at once or where the encrypted column begins."""
    import pyarrow.parquet.encryption as pe

    class Kms(pe.KmsClient):  # type: ignore[misc]
        """Wrap keys as text."""

        def __init__(self, config: Any) -> None:
            super().__init__()

        def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
            return base64.b64encode(key_bytes)

    path = tmp_path / "a.parquet"
    table = pa.table({"id": ["a"], "text": ["x"]})
    how = pe.EncryptionConfiguration(
        footer_key="f", column_keys={"k": ["text"]}, plaintext_footer=plaintext_footer
    )
    keys = pe.CryptoFactory(Kms).file_encryption_properties(pe.KmsConnectionConfig(), how)
    with pq.ParquetWriter(path, table.schema, encryption_properties=keys) as writer:
        writer.write_table(table)
    error = error_of(path, bf.from_parquet)
    assert re.fullmatch(rf"'{re.escape(str(path))}'{where}.+", str(error))


@pytest.mark.parametrize("data", [b"", b"id,text\n1,x\n", b"PAR1 and nothing else PAR1"])
def test_what_is_no_parquet_file_is_refused_by_its_name(tmp_path: Path, data: bytes) -> None:
    """A file that is not Parquet is named in the error, at once."""
    path = tmp_path / "a.parquet"
    path.write_bytes(data)
    with pytest.raises(bf.BatchFramesError) as caught:
        batch_of(path, bf.from_parquet)
    pattern = rf"'{re.escape(str(path))}' is not a Parquet file: .+"
    assert re.fullmatch(pattern, str(caught.value), re.DOTALL)


def test_a_parquet_file_for_a_csv_file_is_recognised(tmp_path: Path) -> None:
    """A Parquet file that is given to from_csv names the right function."""
    path = save_parquet(tmp_path / "a.parquet", {"id": ["1"], "text": ["x"]})
    assert str(error_of(path)) == f"'{path}' is a Parquet file; read it with from_parquet"
