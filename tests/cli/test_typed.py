"""Typed answers and joined tables from the command line."""

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.commands import (
    FORMAT,
    RESULTS,
    ROWS_OF_RESULTS,
    SUMMARY,
    TYPED,
    TYPES,
    Done,
    answer,
    answered,
    assert_table,
    embedding,
    http_error,
    put,
    put_results,
    request,
    row,
    run,
    table,
)

pytestmark = pytest.mark.usefixtures("folder")

ANSWER = {
    "stars": 9_007_199_254_740_993,
    "score": 0.5,
    "good": True,
    "mood": "up",
    "tags": ['é "', ","],
    "counts": [1, None, 9_007_199_254_740_993],
    "place": {"city": "Ulm", "code": 9_007_199_254_740_993},
    "day": "2024-02-29",
    "model": "answered",
}
TYPED_WARNING = (
    "Warning: answer column 'model' is renamed 'model_answer', as results already have that name\n"
)


def put_typed() -> list[dict[str, Any]]:
    """Write answers in JSON, one with everything, one with little and one in prose."""
    put("typed.json", json.dumps(TYPED))
    put("asked.jsonl", *(request(key, response_format=FORMAT) for key in "abc"))
    put("output.jsonl", answer("a", json.dumps(ANSWER)), answer("b", '{"stars":2}'))
    with Path("output.jsonl").open("a", encoding="utf-8") as file:
        file.write(answer("c", "Three."))
    names = [name if name != "model" else "model_answer" for name in TYPES]
    answers: list[list[Any]] = [list(ANSWER.values()), [2], []]
    rows = []
    for line, (key, text) in enumerate(zip("abc", answers, strict=True), 1):
        content = [json.dumps(ANSWER), '{"stars":2}', "Three."][line - 1]
        cells = dict(zip(names, [*text, *[None] * (len(names) - len(text))], strict=True))
        whole = answered(key, content, line)
        rows.append({**dict(list(whole.items())[:3]), **cells, **dict(list(whole.items())[3:])})
    rows[2] |= {
        "status": "invalid_json",
        "error_message": "not JSON: Expecting value at character 0",
    }
    return rows


@pytest.mark.parametrize("schema", [("--json-schema", "typed.json"), ("--requests", "asked.jsonl")])
def test_typed_answers_are_written(schema: tuple[str, str]) -> None:
    """By a schema of its own or the requests', each property has a column; CSV nests as JSON."""
    rows = put_typed()
    for name in ("t.csv", "t.parquet"):
        done = run("read", "output.jsonl", *schema, "-o", name)
        printed = f"{name}          3 results\n2 ok, 1 invalid_json\n"
        assert done == Done(0, printed, TYPED_WARNING)
    assert_table("t.csv", rows)
    for values in rows:
        day = values["day"]
        values["day"] = None if day is None else date.fromisoformat(day)
    assert_table("t.parquet", rows)


def test_typed_answers_are_printed_instead_of_their_text() -> None:
    """The terminal has the columns of the schema, and why an answer does not follow it."""
    put("few.json", json.dumps({"type": "object", "properties": {"n": TYPES["stars"]}}))
    put("output.jsonl", answer("a", '{"n":5}'), answer("b", '{"n":"5"}'), answer("c", "{}"))
    assert run("read", "output.jsonl", "--json-schema", "few.json") == Done(
        0,
        "custom_id       status n              error_message\n"
        "        a           ok 5                           \n"
        "        b invalid_json   'n' is '5', not an integer\n"
        "        c           ok                             \n"
        "2 ok, 1 invalid_json\n",
        "",
    )


def test_the_schema_given_wins_over_that_of_the_requests() -> None:
    """With ``--json-schema`` the requests' own schema is not asked."""
    put_typed()
    put("few.json", json.dumps({"type": "object", "properties": {"score": TYPES["score"]}}))
    done = run("read", "output.jsonl", "asked.jsonl", "--json-schema", "few.json", "-o", "t.csv")
    assert done == Done(0, "t.csv          3 results\n2 ok, 1 invalid_json\n", "")
    assert [row["score"] for row in table("t.csv")] == ["0.5", "", ""]
    assert "stars" not in table("t.csv")[0]


def test_pandas_reads_typed_answers_back() -> None:
    """In Parquet nullable whole numbers stay whole for pandas, lists are lists, and enums enums."""
    put_typed()
    for more in ((), ("--join", "reviews.parquet", "--id-column", "id")):
        put("output.jsonl", answer("007", json.dumps(ANSWER)), answer("9", "No."))
        schema = ("--json-schema", "typed.json", "-o", "t.parquet")
        assert run("read", "output.jsonl", *schema, *more).code == 0
        frame = pd.read_parquet("t.parquet")
        kinds = {name: str(frame[name].dtype) for name in ("stars", "input_tokens", "status")}
        assert kinds == {"stars": "Int64", "input_tokens": "Int64", "status": "category"}
        assert [str(frame[name].dtype) for name in ("good", "mood")] == ["boolean", "category"]
        assert frame["stars"].tolist() == [ANSWER["stars"], pd.NA]
        assert list(frame["tags"][0]) == ANSWER["tags"]
        assert frame["status"].tolist() == ["ok", "invalid_json"]


def test_the_types_of_columns_do_not_depend_on_the_answers() -> None:
    """A file without a single valid answer has the types of one with answers of all kinds."""
    put_typed()
    schema = ("--json-schema", "typed.json")
    assert run("read", "output.jsonl", *schema, "-o", "full.parquet").code == 0
    put("output.jsonl", answer("a", "Nothing."))
    assert run("read", "output.jsonl", *schema, "-o", "none.parquet").code == 0
    assert pq.read_schema("none.parquet").equals(pq.read_schema("full.parquet"))


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_vectors_are_written(name: str) -> None:
    """An embedding is JSON text in CSV, and a list of 32-bit floats in Parquet."""
    put("output.jsonl", embedding("a", [0.5, -2]), http_error("b", "x", "y"))
    assert run("read", "output.jsonl", "-o", name).code == 0
    vectors = [row["embedding"] for row in table(name)]
    assert vectors == (["[0.5,-2]", ""] if name == "t.csv" else [[0.5, -2], None])
    if name == "t.parquet":
        # A list of fixed size is what older versions of Arrow could not write.
        assert pq.read_schema(name).field("embedding").type == pa.large_list(
            pa.field("element", pa.float32())
        )
        assert list(pd.read_parquet(name)["embedding"][0]) == [0.5, -2]


TITLES = [("c", "Mug"), ("007", "Tea; hot, 茶"), ("b", "Cup"), ("x", ""), ("9", "")]
"""Ids in an order of their own, one of which nobody asked; the last title is missing."""


def put_titles(name: str) -> None:
    """Write the table that requests were made of."""
    if name.endswith(".parquet"):
        titles = [title for _, title in TITLES[:-1]]
        columns = {"id": [key for key, _ in TITLES], "title": [*titles, None]}
        pq.write_table(pa.table(columns), name)
        return
    mark = {"titles.csv": ";", "titles.tsv": "\t"}.get(name, ",")
    rows = [("id", "title"), *TITLES]
    lines = [mark.join(f'"{value}"' for value in row) for row in rows]
    put(name, "\n".join(lines).removesuffix('""') + "\n")


@pytest.mark.parametrize("output", ["t.csv", "t.parquet"])
@pytest.mark.parametrize(
    "source", ["titles.csv", "titles.tsv", "comma.csv", "titles.csv.gz", "titles.parquet"]
)
def test_results_are_joined_to_their_table(source: str, output: str) -> None:
    """Each row of the table has its result behind it, ids as they are written, others skipped."""
    put_results()
    put_titles(source)
    join = ("--join", source, "--id-column", "id", "--prefix", "my_", "-o", output)
    done = run(*RESULTS, "--requests", "sent.jsonl", *join)
    assert done == Done(0, f"{output}          5 rows\n{SUMMARY}", "")
    rows = []
    for key, title in TITLES:
        found = ROWS_OF_RESULTS.get(key, row(key, "skipped"))
        result = {f"my_{name}": value for name, value in found.items() if name != "custom_id"}
        rows.append({"id": key, "title": None if key == "9" else title, **result})
    assert_table(output, rows)
    if output == "t.csv":
        whole = Path(output).read_text(encoding="utf-8")
        assert '\n"x","",' in whole
        assert '\n"9",,' in whole


def test_a_joined_table_is_printed() -> None:
    """The terminal has the columns of the table, then what became of its rows."""
    put_results()
    join = ("--join", "reviews.csv", "--id-column", "id", "--prefix", "my_")
    assert run("read", "output.jsonl", *join) == Done(
        0,
        " id title               review my_status my_content\n"
        '007   Tea A "nice" cup\\nof 茶 😀 truncated   Good, bu\n'
        '  9   Pot               Leaks.        ok Say "é"\\n,\n'
        "1 ok, 1 truncated\n",
        "",
    )


def test_a_join_keeps_the_types_of_the_table() -> None:
    """Whole numbers with gaps stay whole, and what is nested or of a rare type stays what it is."""
    columns = {
        "whole": pa.array([2**60 + 1, None]),
        "small": pa.array([1, None], pa.int8()),
        "large": pa.array([2**64 - 1, None], pa.uint64()),
        "list": pa.array([[1, None], None]),
        "map": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64())),
        "day": pa.array([date(2024, 2, 29), None]),
        "price": pa.array([Decimal("1.50"), None]),
        "bytes": pa.array([b"\xff", None]),
        "flag": pa.array([True, None]),
        "kind": pa.array(["x", None]).dictionary_encode(),
    }
    pq.write_table(pa.table({"id": [7, 8], **columns}), "rare.parquet")
    put("output.jsonl", answer("8", "b"), answer("7", "a"))
    join = ("--join", "rare.parquet", "--id-column", "id")
    done = run("read", "output.jsonl", *join, "-o", "t.parquet")
    assert done == Done(0, "t.parquet          2 rows\n2 ok\n", "")
    written = pq.read_table("t.parquet")
    assert written["content"].to_pylist() == ["a", "b"]
    read = pq.read_table("rare.parquet")
    for name in read.column_names:
        assert written[name].to_pylist() == read[name].to_pylist(), name
    others = [name for name in read.column_names if name not in ("kind", "map")]
    assert [written.schema.field(n).type for n in others] == [
        read.schema.field(n).type for n in others
    ]
    assert pd.read_parquet("t.parquet")["whole"].tolist() == [2**60 + 1, pd.NA]
    pq.write_table(read.drop_columns(["bytes"]), "rare.parquet")
    assert run("read", "output.jsonl", *join, "-o", "t.csv").code == 0
    first, second = ({name: row[name] for name in row if name in columns} for row in table("t.csv"))
    assert first == {
        "whole": str(2**60 + 1),
        "small": "1",
        "large": str(2**64 - 1),
        "list": "[1,null]",
        "map": '{"a":1}',
        "day": "2024-02-29",
        "price": "1.50",
        "flag": "true",
        "kind": "x",
    }
    assert set(second.values()) == {""}


def test_ids_that_pandas_saved_as_an_index_are_not_lost() -> None:
    """A DataFrame with its ids in the index gives them back as the first column."""
    put("output.jsonl", answer("9", "b"), answer("007", "a"))
    frame = pd.DataFrame({"id": ["007", "9"], "n": [1, 2]}).set_index("id")
    frame.to_parquet("index.parquet")
    join = ("--join", "index.parquet", "--id-column", "id", "-o", "t.csv")
    assert run("read", "output.jsonl", *join) == Done(0, "t.csv          2 rows\n2 ok\n", "")
    rows = [list(row.items())[:4] for row in table("t.csv")]
    assert rows == [
        [("id", "007"), ("n", "1"), ("status", "ok"), ("content", "a")],
        [("id", "9"), ("n", "2"), ("status", "ok"), ("content", "b")],
    ]


def test_a_join_on_the_wrong_column_is_warned_of() -> None:
    """Where no row finds a result, one line shows ids of both sides."""
    put_results()
    done = run(*RESULTS, "--join", "reviews.csv", "--id-column", "title", "-o", "t.csv")
    assert done == Done(
        0,
        f"t.csv          2 rows\n{SUMMARY}",
        "Warning: no result matches any row: the frame's ids are like 'Tea', those of the results "
        "like '9'; check --id-column\n",
    )
    assert [row["status"] for row in table("t.csv")] == ["missing", "missing"]
