"""What CSV and Parquet files have in common: ids, errors, samples and memory."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import textwrap
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import batch_frames as bf
from tests.support.marks import slow
from tests.support.table_files import (
    NO_PROMPT,
    Read,
    batch_of,
    error_of,
    field,
    line,
    rows_of,
    save,
    save_parquet,
    warns,
    written,
)

DATA = Path(__file__).parents[2] / "data"


@pytest.mark.parametrize(
    ("read", "kind"), [(bf.from_csv, "CSV"), (bf.from_parquet, "Parquet")], ids=["CSV", "Parquet"]
)
def test_a_file_needs_an_id_column(tmp_path: Path, read: Read, kind: str) -> None:
    """A file has no index, so that the ids' column must be named."""
    save(tmp_path / "a.csv", "id,text\n1,x\n")
    save_parquet(tmp_path / "a.parquet", {"id": ["1"], "text": ["x"]})
    error = error_of(tmp_path / f"a.{kind.lower()}", read, id_column=None)
    assert isinstance(error, bf.ColumnError)
    assert str(error) == f"a {kind} file has no index to take the ids from; pass id_column="


# Which files


def test_errors_among_several_csv_files_name_the_file(tmp_path: Path) -> None:
    """Rows are counted in their own file, and the file is named."""
    first = save(tmp_path / "1.csv", "id,text\na,x\nb,y\n")
    second = save(tmp_path / "2.csv", "text;id\nx;c\n;d\n")
    error = error_of([first, second])
    assert str(error) == f"row 1 of '{second}' (custom_id 'd'): {NO_PROMPT}"
    assert isinstance(error, bf.RequestError)
    assert error.row == 1
    with warns(f"skipped 1 row without a prompt: row 1 of '{second}' (custom_id 'd')"):
        assert rows_of([first, second], na="skip") == [("a", "x"), ("b", "y"), ("c", "x")]
    save(second, "id,text\nc,x\nb,y\n")
    assert str(error_of([first, second])) == (
        f"custom_id must be unique: 'b' in row 1 of '{first}' and row 1 of '{second}'"
    )
    save(second, "id,text\nc,x\nd\n")
    assert str(error_of([first, second])) == (
        f"row 1 of '{second}': it has 1 fields, and the header has 2; "
        "quote the fields that hold ','"
    )
    save(second, "id,txt\nc,x\n")
    assert str(error_of([first, second])) == (
        f"'{second}' has no column 'text'; did you mean 'txt'?"
    )


def test_errors_among_several_parquet_files_name_the_file(tmp_path: Path) -> None:
    """Rows of Parquet files are counted in their own file too."""
    first = save_parquet(tmp_path / "1.parquet", {"id": ["a", "b"], "text": ["x", "y"]})
    second = save_parquet(tmp_path / "2.pq", {"id": ["c", "d"], "text": ["x", None]})
    read = bf.from_parquet
    error = error_of([first, second], read)
    assert str(error) == f"row 1 of '{second}' (custom_id 'd'): {NO_PROMPT}"
    with warns(f"skipped 1 row without a prompt: row 1 of '{second}' (custom_id 'd')"):
        assert rows_of(tmp_path, read, na="skip") == [("a", "x"), ("b", "y"), ("c", "x")]
    save_parquet(second, {"id": ["b"], "text": ["x"]})
    assert str(error_of(tmp_path, read)) == (
        f"custom_id must be unique: 'b' in row 1 of '{first}' and row 0 of '{second}'"
    )
    save_parquet(second, {"id": ["c"], "txt": ["x"]})
    assert str(error_of(tmp_path, read)) == f"'{second}' has no column 'text'; did you mean 'txt'?"


def test_files_are_read_anew_each_time(path: Path) -> None:
    """A batch over a file can be counted, looked into and saved as often as one likes."""
    save(path, "id,text\n1,x\n2,y\n")
    batch = batch_of(path)
    first, second = io.BytesIO(), io.BytesIO()
    batch.save_to_file(first, progress=False)
    assert batch.get_entry_count() == 2
    assert batch.preview_entry(1)["custom_id"] == "2"
    batch.save_to_file(second, progress=False)
    assert first.getvalue() == second.getvalue() == line("1", "x") + line("2", "y")


# The sample


TYPES = {"stars": "integer", "price": "number", "verified": "boolean"}
FACTS = bf.fmt("{title}: {review}")


def sample(read: Read, source: Any, **types: str) -> bytes:
    """Write the sample's requests with values of every type in them."""
    body: dict[str, Any] = {name: bf.col(name, type=types.get(name)) for name in TYPES}
    body["metadata"] = {"date": bf.col("date"), "product": bf.col("product")}
    with warns("skipped 1 row without a prompt: row 41 (custom_id '0042')"):
        return written(source, read, prompt_column=FACTS, na="skip", body=body)


def by_hand() -> bytes:
    """Write the sample's requests with the ``csv`` module and ``json.dumps``."""
    lines = []
    with (DATA / "reviews.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            price = float(row["price"])
            values = {
                "stars": int(row["stars"]),
                "price": int(price) if price.is_integer() else price,
                "verified": row["verified"] == "true",
                "metadata": {"date": row["date"], "product": row["product"]},
            }
            if row["review"]:
                lines.append(line(row["id"], f"{row['title']}: {row['review']}", **values))
    return b"".join(lines)


def test_the_sample_makes_the_same_requests_from_every_source() -> None:
    """The sample becomes the same bytes from CSV, Parquet, pandas and Arrow, and by hand."""
    table = pq.read_table(DATA / "reviews.parquet")
    texts = pd.read_csv(DATA / "reviews.csv", dtype={"id": str})
    expected = by_hand()
    assert sample(bf.from_csv, DATA / "reviews.csv", **TYPES) == expected
    assert sample(bf.from_parquet, DATA / "reviews.parquet") == expected
    assert sample(bf.from_dataframe, table) == expected
    assert sample(bf.from_dataframe, table.to_pandas()) == expected
    assert sample(bf.from_dataframe, texts) == expected
    assert sample(bf.from_dataframe, texts.astype(object)) == expected
    assert sample(bf.from_dataframe, pd.read_parquet(DATA / "reviews.parquet")) == expected
    assert expected.count(b"\n") == 59


# Memory


PROGRAM = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    import pyarrow as pa
    import pyarrow.parquet as pq
    import batch_frames as bf

    kind, source, target = sys.argv[1:]

    def stream(path, **options):
        file = pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
        batches = file.iter_batches(2_000)
        reader = pa.RecordBatchReader.from_batches(file.schema_arrow, batches)
        return bf.from_dataframe(reader, **options)

    read = {"CSV": bf.from_csv, "Parquet": bf.from_parquet, "stream": stream}[kind]
    batch = read(source, id_column="id", prompt_column="text", model="m")
    shards = batch.save_to_file(target, progress=False)
    print(sum(shard.requests for shard in shards))
    # Unlike ru_maxrss, this does not begin with the size of the process that started this one.
    status = Path("/proc/self/status")
    print(*(line.split()[1] for line in status.read_text().splitlines() if "VmHWM" in line))
    """
)


def write_rows(path: Path, rows: int) -> None:
    """Write a Parquet or a CSV file with rows of about 340 bytes."""
    texts = [str(row) + 'é, "x" ' * 40 for row in range(30_000)]
    quoted = [f",{field(text)}\n" for text in texts]
    schema = pa.schema([("id", pa.int64()), ("text", pa.string())])
    blocks = (range(first, first + 30_000) for first in range(0, rows, 30_000))
    if path.suffix == ".csv":
        with path.open("w") as file:
            file.write("id,text\n")
            for ids in blocks:
                file.writelines(map("".join, zip(map(str, ids), quoted, strict=True)))
        return
    with pq.ParquetWriter(path, schema, use_dictionary=False, compression="none") as writer:
        for ids in blocks:
            writer.write_table(pa.table({"id": list(ids), "text": texts}, schema))


def peak_memory(kind: str, rows: int) -> int:
    """Save a file's requests in a process of its own, and give the most bytes that took."""
    with TemporaryDirectory() as folder:
        source = Path(folder) / ("rows.csv" if kind == "CSV" else "rows.parquet")
        write_rows(source, rows)
        target = Path(folder) / "out.jsonl"
        command = [sys.executable, "-c", PROGRAM, kind, str(source), str(target)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    requests, kilobytes = map(int, done.stdout.split())
    assert requests == rows
    return kilobytes * 1_024


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
@pytest.mark.parametrize(
    ("kind", "few", "many"),
    # The fewer rows are enough for all pieces that are in memory at once; what the C library keeps
    # of them then still differs by some 40 MB from one run to the next.
    [
        ("Parquet", 60_000, 300_000),
        slow("Parquet", 300_000, 900_000),
        slow("stream", 30_000, 300_000),
        slow("CSV", 300_000, 900_000),
    ],
)
def test_memory_does_not_grow_with_the_rows(kind: str, few: int, many: int) -> None:
    """Many more rows take hardly more memory, far less than what they are themselves."""
    grown = peak_memory(kind, many) - peak_memory(kind, few)
    assert grown < 0.75 * 340 * (many - few)
