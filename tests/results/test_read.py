"""Result files become a DataFrame, with their requests and with typed answers."""

import base64
import gzip
import json
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, field_validator

import batch_frames as bf
from batch_frames.arrow import TEXT
from batch_frames.files import jsonl
from batch_frames.requests import Asked, answers_of
from batch_frames.results import parse
from tests.support.marks import slow
from tests.support.oracle import (
    COLUMNS,
    JSON_COLUMNS,
    SOMETIMES,
    STATUSES,
    TOKENS,
    Foreign,
    Row,
    plain,
    read,
    rows_of,
)
from tests.support.result_shapes import SHAPES
from tests.support.results import (
    CALL,
    CALLED,
    FAILED,
    FAULT,
    GOOD,
    OK,
    chat,
    choice,
    chosen,
    dumps,
    embeddings,
    failed,
    malformed,
    message,
    packed,
    responses,
    result,
    text,
    whole,
    without_file,
    write,
)

OURS = "not of the OpenAI Batch API"


VERTEX: list[Row] = [
    {"request": {"contents": []}, "status": "Bad request."},
    {"status": "", "response": {"candidates": []}},
]
REQUESTS: list[Row] = [
    {"method": "POST", "url": "/v1/chat/completions", "body": {"messages": []}},
    {"body": {}},
    {"method": "POST", "url": "/v1/chat/completions"},
]
FOREIGN: list[tuple[Row, str]] = [
    *(
        (
            {"custom_id": "a", "result": {"type": kind, "message": {}}},
            f"a result of Anthropic's Message Batches, {OURS}; use Anthropic's SDK for it",
        )
        for kind in ("succeeded", "errored", "canceled", "expired")
    ),
    *(
        ({"key": "a", name: {}}, f"a result of Gemini's Batch API, {OURS}; use Google's SDK for it")
        for name in ("response", "error")
    ),
    *(
        (
            {"custom_id": "a", **others},
            f"a result of a Vertex AI batch prediction, {OURS}; use Google's SDK for it",
        )
        for others in VERTEX
    ),
    *(
        (
            {"recordId": "a", name: {}},
            f"a record of Amazon Bedrock, {OURS}; use Amazon's SDK for it",
        )
        for name in ("modelOutput", "modelInput")
    ),
    *(
        (
            {"custom_id": "a", **others},
            "a request, not a result; put requests in a file of their own",
        )
        for others in REQUESTS
    ),
    (
        {"id": "batch_1", "object": "batch", "status": "completed", "errors": None},
        "a batch object, not a result; pass the files that it names",
    ),
]


@pytest.mark.parametrize(
    ("value", "problem", "line"),
    [*((*shape, at) for shape in FOREIGN for at in (1, 2)), (*FOREIGN[-1], 3_001)],
)
def test_files_of_another_kind_are_refused(
    tmp_path: Path, value: Row, problem: str, line: int
) -> None:
    """A line of another service, or that is no result, refuses the file wherever it stands."""
    path = tmp_path / "a.jsonl"
    path.write_bytes((GOOD + b"\n") * (line - 1) + dumps(value).encode())
    with pytest.raises(bf.LineError) as caught:
        bf.read_results(path)
    assert str(caught.value) == f"{path}, line {line:,}: {problem}"
    assert (caught.value.path, caught.value.line) == (path, line)
    assert caught.value.hint == problem.rpartition("; ")[2]
    with pytest.raises(Foreign, match=f"^{re.escape(problem)}$"):
        read(path.read_bytes())


def test_a_file_without_results_is_warned_of(tmp_path: Path) -> None:
    """A table that is taken for a result file has its rows, and a word on what it is not."""
    table, torn, output = (tmp_path / name for name in ("a.csv", "b.jsonl", "c.jsonl"))
    table.write_text("id,review\na,good\n\nb,bad\n", encoding="utf-8")
    torn.write_bytes(GOOD[:-1])
    output.write_bytes(GOOD + b"\nnull\n")
    said = f"none of the 3 lines of '{table}' is a result; pass output and error files"
    with pytest.warns(UserWarning, match=f"^{re.escape(said)}$") as caught:
        frame = bf.read_results([output, table, torn])
    assert [warning.filename for warning in caught] == [__file__]
    assert list(frame["status"]) == ["ok", *["malformed"] * 5]


PANDAS_TEXT = pd.Series(["a"]).dtype
ARROW_TEXT = pd.ArrowDtype(pa.large_string())


@pytest.mark.parametrize("values", [(), (b"null",), (GOOD,), (GOOD, b"", result({}), GOOD)])
@pytest.mark.parametrize("usage", [True, False])
@pytest.mark.parametrize(
    ("backend", "words", "numbers"),
    [
        (None, PANDAS_TEXT, "Int64"),
        ("numpy_nullable", "string", "Int64"),
        ("pyarrow", ARROW_TEXT, pd.ArrowDtype(pa.int64())),
    ],
)
def test_columns_and_dtypes(
    tmp_path: Path, values: tuple[Any], usage: bool, backend: str | None, words: Any, numbers: Any
) -> None:
    """Columns and dtypes are the same whether all, some or none of the values are there."""
    path = write(tmp_path / "a.jsonl", *values)
    frame = bf.read_results(path, usage=usage, dtype_backend=backend)
    assert list(frame.columns) == [n for n in COLUMNS if usage or n not in TOKENS]
    assert frame.index.equals(pd.RangeIndex(sum(value != b"" for value in values)))
    for name in frame.columns.drop("status"):
        is_number = name in (*TOKENS, "status_code", "line")
        assert frame[name].dtype == (numbers if is_number else words), name
    kind = frame["status"].dtype
    assert isinstance(kind, pd.CategoricalDtype)
    assert (tuple(kind.categories), kind.ordered) == (STATUSES, False)


@pytest.mark.parametrize(
    ("backend", "words", "flags"),
    [
        (None, PANDAS_TEXT, "boolean"),
        ("numpy_nullable", "string", "boolean"),
        ("pyarrow", ARROW_TEXT, pd.ArrowDtype(pa.bool_())),
    ],
)
def test_dtypes_of_columns_that_are_there_sometimes(
    tmp_path: Path, backend: str | None, words: Any, flags: Any
) -> None:
    """The columns of single endpoints have the dtypes of their kind, missing values or not."""
    path = write(tmp_path / "a.jsonl", *(value for _, value, _ in SHAPES))
    frame = bf.read_results(path, dtype_backend=backend)
    for name in JSON_COLUMNS:
        assert frame[name].dtype == words, name
    assert frame["flagged"].dtype == flags


@pytest.mark.parametrize(
    ("bodies", "kind"),
    [
        ([embeddings([1, 2]), embeddings(packed(3, 4)), {}], pa.list_(pa.float32(), 2)),
        ([embeddings([1, 2]), embeddings([3]), {}], pa.large_list(pa.float32())),
        (
            [embeddings([1, 2]), embeddings([3, 4], [5, 6]), {}],
            pa.large_list(pa.large_list(pa.float32())),
        ),
    ],
    ids=["regular", "ragged", "several"],
)
def test_embeddings_are_vectors(tmp_path: Path, bodies: list[Row], kind: pa.DataType) -> None:
    """Vectors of one size are a column of fixed size in Arrow, and arrays of NumPy in pandas."""
    path = write(tmp_path / "a.jsonl", *map(result, bodies))
    right = [row["embedding"] for row in read(path.read_bytes())]
    column = bf.read_results(path, dtype_backend="pyarrow")["embedding"]
    assert column.dtype == pd.ArrowDtype(kind)
    assert [plain(value) for value in column] == right
    for backend in (None, "numpy_nullable"):
        column = bf.read_results(path, dtype_backend=backend)["embedding"]
        assert [plain(value) for value in column] == right
        vector = column[0][0] if kind.value_type != pa.float32() else column[0]
        assert (type(vector), vector.dtype) == (np.ndarray, np.dtype("float32"))


def test_damaged_base64_shifts_no_vector(tmp_path: Path) -> None:
    """Vectors beside base64 that is cut short are as they were, however much is missing."""
    cut = [base64.b64encode(b"x" * size).decode() for size in (5, 7, 4, 6, 10)]
    bodies = [embeddings(vector) for one in cut for vector in (packed(1, 2), one)]
    path = write(tmp_path / "a.jsonl", *map(result, [*bodies, embeddings(packed(3, 4))]))
    rows = rows_of(bf.read_results(path))
    assert without_file(rows) == read(path.read_bytes())
    assert [row["embedding"] for row in rows[::2]] == [[1, 2]] * 5 + [[3, 4]]


def test_an_unknown_backend_is_refused(tmp_path: Path) -> None:
    """Another name than the three for the dtypes is an error that lists them."""
    message = "dtype_backend must be 'numpy_nullable', 'pyarrow' or None, not 'polars'"
    with pytest.raises(ValueError, match=f"^{message}$"):
        bf.read_results(write(tmp_path / "a.jsonl", GOOD), dtype_backend="polars")


def test_no_file_is_an_error(tmp_path: Path) -> None:
    """A path that leads nowhere is named."""
    with pytest.raises(FileNotFoundError) as caught:
        bf.read_results(tmp_path / "none.jsonl")
    assert str(caught.value) == f"no file '{tmp_path / 'none.jsonl'}'; check the path"


ENDS = [b"\n", b"\r\n", b"\n\n", b"\r\n \t\r\n\n"]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("last", [b"", b"\n", b'\n{"id":"batch_req_1","cust'])
@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".txt"])
def test_files_of_any_line_ends(
    tmp_path: Path, end: bytes, mark: bytes, last: bytes, ending: str
) -> None:
    """Marks, ends and blank lines change no row, and the numbers of lines still count them."""
    data = mark + end.join([GOOD, b"=======", GOOD]) + last
    path = tmp_path / f"a{ending}"
    path.write_bytes(gzip.compress(data) if ending.endswith("gz") else data)
    step = end.count(b"\n")
    fault = malformed("not JSON: Expecting value at character 0")
    rows = [whole(OK, path, 1), whole(fault, path, 1 + step), whole(OK, path, 1 + 2 * step)]
    if last.strip():
        cut = malformed("not JSON: Unterminated string starting at character 20")
        rows.append(whole(cut, path, 2 + 2 * step))
    assert rows_of(bf.read_results(path)) == rows


@pytest.mark.parametrize("data", [b"", b"\n", b"\xef\xbb\xbf", b" \r\n\t\n"])
def test_a_file_without_lines_has_no_rows(tmp_path: Path, data: bytes) -> None:
    """An empty file, as Azure gives when nothing failed, is a frame with columns and no rows."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(data)
    frame = bf.read_results([path])
    assert list(frame.columns) == list(COLUMNS)
    assert len(frame) == 0


def named(name: str, **others: Any) -> Row:
    """Make a good result of an id."""
    return result(chat(choice(**others)), custom_id=name)


def ids(frame: pd.DataFrame) -> list[str | None]:
    """List the ids of a frame."""
    return [row["custom_id"] for row in rows_of(frame)]


def test_files_stand_in_the_order_in_which_they_are_named(tmp_path: Path) -> None:
    """Paths keep their order; globs and folders are sorted; no line is merged with another."""
    for name in "cab":
        write(tmp_path / f"{name}.jsonl", named(name), named("x"))
    a, b, c = (tmp_path / f"{name}.jsonl" for name in "abc")
    assert ids(bf.read_results([c, str(a), b])) == ["c", "x", "a", "x", "b", "x"]
    for paths in (tmp_path, str(tmp_path / "*.jsonl"), [tmp_path / "[ab].jsonl", c]):
        frame = bf.read_results(paths)
        assert ids(frame) == ["a", "x", "b", "x", "c", "x"]
        assert frame["file"].tolist() == [str(path) for path in (a, a, b, b, c, c)]
        assert frame["line"].tolist() == [1, 2] * 3


def test_request_files_among_results_are_ignored(tmp_path: Path) -> None:
    """A folder or a glob that has requests and retries in it, too, gives the results alone."""
    for name in ("reviews", "reviews.round-2"):
        asked(tmp_path, "a").rename(tmp_path / f"{name}.jsonl")
    write(tmp_path / "reviews.output.jsonl", named("a"))
    for paths in (tmp_path, tmp_path / "*.jsonl", sorted(tmp_path.iterdir())):
        assert ids(bf.read_results(paths)) == ["a"]


def test_a_file_named_twice_is_read_once(tmp_path: Path) -> None:
    """A file that two of the paths lead to does not double its rows."""
    path = write(tmp_path / "a.jsonl", named("a"))
    assert ids(bf.read_results([path, tmp_path / "*.jsonl"])) == ["a"]


def test_many_lines_keep_their_rows(tmp_path: Path) -> None:
    """Rows stand as their lines do, over the borders of what is read at once."""
    values = [named(f"row-{n}", content=f"answer {n}") for n in range(20_000)]
    path = write(tmp_path / "a.jsonl", *values)
    frame = bf.read_results(path)
    assert frame["custom_id"].tolist() == [f"row-{n}" for n in range(20_000)]
    assert frame["content"].tolist() == [f"answer {n}" for n in range(20_000)]
    assert frame["line"].tolist() == list(range(1, 20_001))
    assert set(frame["status"]) == {"ok"}


@pytest.mark.parametrize("size", [5 << 20, slow(200_000_000)])
def test_long_lines_are_read(tmp_path: Path, size: int) -> None:
    """A line of 5 MiB, as images give, or even of 200 MB is a row like any other."""
    body = GOOD.replace(b'"hi"', b'"' + b"x" * size + b'"')
    path = write(tmp_path / "a.jsonl", GOOD, body, GOOD)
    frame = bf.read_results(path)
    assert frame["status"].tolist() == ["ok"] * 3
    assert frame["content"].str.len().tolist() == [2, size, 2]


def request(name: Any, **body: Any) -> Row:
    """Make a request as it was sent."""
    url = "/v1/chat/completions"
    return {"custom_id": name, "method": "POST", "url": url, "body": {"model": "m", **body}}


def asked(folder: Path, *names: Any) -> Path:
    """Write a file of requests with these ids."""
    return write(folder / "requests.jsonl", *map(request, names))


def read_warned(paths: Any, message: str, **options: Any) -> pd.DataFrame:
    """Read results, and compare the whole of the only warning."""
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}$") as caught:
        frame: pd.DataFrame = bf.read_results(paths, **options)
    assert [warning.filename for warning in caught] == [__file__]
    return frame


def test_with_requests_each_request_has_its_row(tmp_path: Path) -> None:
    """Rows follow the requests; one without any result is missing, and has no file and no line."""
    path = write(tmp_path / "a.jsonl", named("c"), failed(FAULT), named("00123"))
    requests = asked(tmp_path, "a", "b", "c", "00123")
    frame = bf.read_results(path, requests=requests)
    missing = {**dict.fromkeys((*COLUMNS, *SOMETIMES)), "custom_id": "b", "status": "missing"}
    assert rows_of(frame) == [
        whole(FAILED, path, 2),
        missing,
        whole({**OK, "custom_id": "c"}, path, 1),
        whole({**OK, "custom_id": "00123"}, path, 3),
    ]
    assert list(frame.columns) == list(COLUMNS)
    assert frame["line"].dtype == "Int64"
    assert frame.index.equals(pd.RangeIndex(4))


def test_requests_may_be_numbered_and_repeated(tmp_path: Path) -> None:
    """An id that is a number finds its text, and a request that stands twice has one row."""
    path = write(tmp_path / "a.jsonl", named("17"), result(chat(), custom_id=18))
    frame = bf.read_results(path, requests=asked(tmp_path, 18, 17, "18"))
    assert ids(frame) == ["18", "17"]
    assert frame["status"].tolist() == ["ok", "ok"]


def test_requests_of_several_files_stand_in_their_order(tmp_path: Path) -> None:
    """Request files are found as result files are; the first place of an id counts."""
    for name, asks in (("a", "zy"), ("b", "xz")):
        write(tmp_path / f"requests-{name}.jsonl", *map(request, asks))
    path = write(tmp_path / "results.jsonl", *map(named, "xyz"))
    assert ids(bf.read_results(path, requests=tmp_path / "requests-*.jsonl")) == ["z", "y", "x"]


def test_no_requests_have_no_rows(tmp_path: Path) -> None:
    """An empty request file asks for nothing, whatever came back."""
    results, requests = write(tmp_path / "a.jsonl"), write(tmp_path / "requests.jsonl")
    frame = bf.read_results(results, requests=requests)
    assert (list(frame.columns), len(frame)) == (list(COLUMNS), 0)


RANKED = [
    ("ok", result(chat())),
    ("truncated", result(chat(choice("hi", "length")))),
    ("refused", result(chat(choice(None, refusal="No.")))),
    ("filtered", result(chat(choice("", "content_filter")))),
    ("http_error", failed(FAULT)),
    ("expired", failed({"code": "batch_expired", "message": ""})),
    ("cancelled", failed({"code": "batch_cancelled", "message": ""})),
]
PAIRS = [(RANKED[better], RANKED[worse]) for worse in range(len(RANKED)) for better in range(worse)]
TWICE = "dropped 1 result superseded by a better or later one with the same custom_id: "


@pytest.mark.parametrize(("better", "worse"), PAIRS, ids=lambda pair: pair[0])
@pytest.mark.parametrize("turned", [False, True])
def test_the_better_of_two_results_wins(
    tmp_path: Path, better: tuple[str, Row], worse: tuple[str, Row], turned: bool
) -> None:
    """Of two results of one request the better status counts, wherever it stands."""
    values = [worse[1], better[1]] if turned else [better[1], worse[1]]
    path = write(tmp_path / "results.jsonl", *values)
    lost = f"'a' in {path}, line {1 if turned else 2}"
    frame = read_warned(path, TWICE + lost, requests=asked(tmp_path, "a"))
    assert frame["status"].tolist() == [better[0]]


def test_of_equal_results_the_later_wins(tmp_path: Path) -> None:
    """Of results with one status, the later line counts, and that of the later file before it."""
    a = write(tmp_path / "a.jsonl", named("a", content="1"), named("a", content="2"))
    b = write(tmp_path / "b.jsonl", named("a", content="3"), b"", named("a", content="4"))
    requests = asked(tmp_path, "a")
    for paths, content, line in (([a, b], "4", 3), ([b, a], "2", 2)):
        lost = [f"'a' in {p}, line {n}" for p in paths for n in ((1, 2) if p == a else (1, 3))][:3]
        lead = "dropped 3 results superseded by a better or later one with the same custom_id: "
        frame = read_warned(paths, lead + ", ".join(lost), requests=requests)
        assert (frame["content"].tolist(), frame["line"].tolist()) == ([content], [line])


def test_results_that_nobody_asked_for_are_warned_of(tmp_path: Path) -> None:
    """Results of other requests stay out; how many there are is said, and where the first stand."""
    path = write(tmp_path / "a.jsonl", *(named(f"x{n}") for n in range(1_500)), named("a"))
    first = ", ".join(f"'x{n}' in {path}, line {n + 1}" for n in range(3))
    lead = "dropped 1,500 results without a request: "
    frame = read_warned(path, f"{lead}{first}, … and 1,497 more", requests=asked(tmp_path, "a"))
    assert rows_of(frame) == [whole(OK, path, 1_501)]


def test_malformed_lines_are_warned_of(tmp_path: Path) -> None:
    """With requests, lines without an id belong to none of them, and are said to be there."""
    path = write(tmp_path / "a.jsonl", b"=======", named("a"), GOOD[:50])
    message = f"dropped 2 results that are malformed: {path}, line 1, {path}, line 3"
    frame = read_warned(path, message, requests=asked(tmp_path, "a"))
    assert rows_of(frame) == [whole(OK, path, 2)]


def test_result_files_as_requests_are_refused(tmp_path: Path) -> None:
    """A file of results in the place of the requests is an error that names it."""
    path = write(tmp_path / "a.jsonl", named("a"))
    with pytest.raises(bf.LineError) as caught:
        bf.read_results(path, requests=path)
    assert str(caught.value) == (
        f"{path}, line 1: a result, not a request; read the file with read_results"
    )


RATING = {
    "type": "object",
    "properties": {"stars": {"type": "integer"}, "tone": {"enum": ["calm", "angry"]}},
    "required": ["stars", "tone"],
    "additionalProperties": False,
}
NAMED = {"name": "rating", "strict": True, "schema": RATING}
OTHER = {"name": "rating", "strict": True, "schema": {**RATING, "title": "Other"}}


def rated(content: Any, name: str = "a", finish: str = "stop", **said: Any) -> Row:
    """Make a result with this answer."""
    return result(chat(choice(content, finish, **said)), custom_id=name)


@pytest.mark.parametrize(
    ("value", "row", "values"),
    [
        (rated('{"stars":5,"tone":"calm"}'), {"status": "ok"}, [5, "calm"]),
        (
            rated('{"stars":"5","tone":"calm"}'),
            {"status": "invalid_json", "error_message": "'stars' is '5', not an integer"},
            [None, None],
        ),
        (
            rated("I would say five."),
            {
                "status": "invalid_json",
                "error_message": "not JSON: Expecting value at character 0",
            },
            [None, None],
        ),
        (
            rated(None),
            {"status": "invalid_json", "error_message": "there is no answer"},
            [None, None],
        ),
        (rated('{"stars":5', finish="length"), {"status": "truncated"}, [None, None]),
        (rated(None, refusal="No."), {"status": "refused"}, [None, None]),
        (rated("", finish="content_filter"), {"status": "filtered"}, [None, None]),
        (rated(None, tool_calls=[CALL]), {"status": "ok"}, [None, None]),
        (failed(FAULT), {"status": "http_error", "error_message": "Bad model."}, [None, None]),
        (
            result(responses(message(text('{"stars":1,"tone":"angry"}')))),
            {"status": "ok"},
            [1, "angry"],
        ),
    ],
)
def test_answers_are_columns(tmp_path: Path, value: Row, row: Row, values: list[Any]) -> None:
    """With a schema, the answers that follow it fill its columns, and the others say why not."""
    path = write(tmp_path / "a.jsonl", rated('{"stars":2,"tone":"calm"}', "x"), value)
    frame = bf.read_results(path, json_schema=NAMED)
    first = ["custom_id", "status", "content", "stars", "tone", "finish_reason"]
    assert list(frame.columns[:6]) == first
    assert str(frame["stars"].dtype) == "Int64"
    assert frame["tone"].cat.categories.tolist() == ["calm", "angry"]
    rows = rows_of(frame)
    assert [rows[0]["stars"], rows[0]["tone"]] == [2, "calm"]
    assert [rows[1].pop("stars"), rows[1].pop("tone")] == values
    (expected,) = without_file(rows_of(bf.read_results(path)))[1:]
    assert without_file(rows[1:]) == [{**expected, **row}]


class Ticket(BaseModel):
    """An answer with a limit and a validator."""

    urgency: int = Field(ge=1, le=5)
    team: str

    @field_validator("team")
    @classmethod
    def check(cls, team: str) -> str:
        """Refuse a team that there is not."""
        if team not in ("web", "shop"):
            raise ValueError("no such team")
        return team


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ('{"urgency":5,"team":"shop"}', None),
        ('{"urgency":9,"team":"shop"}', "'urgency' is 9, which violates maximum=5"),
        ('{"urgency":5,"team":"x"}', "'team' is not valid: no such team"),
    ],
)
def test_limits_and_validators_of_a_model_count(
    tmp_path: Path, answer: str, reason: str | None
) -> None:
    """An answer beyond the limits of a model, or that its validators refuse, says why."""
    frame = bf.read_results(write(tmp_path / "a.jsonl", rated(answer)), json_schema=Ticket)
    assert frame["status"].tolist() == ["invalid_json" if reason else "ok"]
    assert rows_of(frame)[0]["error_message"] == reason
    assert frame["urgency"].notna().tolist() == [reason is None]


@pytest.mark.parametrize("backend", [None, "pyarrow"])
@pytest.mark.parametrize("count", [1, slow(3_000)])
def test_every_choice_has_its_answer(tmp_path: Path, backend: str | None, count: int) -> None:
    """Of requests with ``n``, each choice is typed and judged; ``explode`` makes them rows."""
    good, bad = '{"stars":5,"tone":"calm"}', '{"stars":"x","tone":"calm"}'
    several = chat(
        choice(good), choice(bad, index=1), choice("{", "length", 2), choice(good, index=3)
    )
    lines = [result(several), rated(good, "b"), rated(bad, "c"), failed(FAULT)] * count
    frame = bf.read_results(
        write(tmp_path / "a.jsonl", *lines), json_schema=NAMED, dtype_backend=backend
    )
    assert frame["status"].tolist() == ["ok", "ok", "invalid_json", "http_error"] * count
    fine, reason = {"stars": 5, "tone": "calm"}, "'stars' is 'x', not an integer"
    wrong = {**chosen(bad, status="invalid_json"), "error_message": reason}
    nothing = {"stars": None, "tone": None}
    assert frame["choices"].iloc[0] == [
        {**chosen(good), **fine},
        {**wrong, **nothing},
        {**chosen("{", "length", "truncated"), **nothing},
        {**chosen(good), **fine},
    ]
    assert frame["choices"].iloc[1] == [{**chosen(good), **fine}]
    assert frame["choices"].iloc[-2] == [{**wrong, **nothing}]
    assert frame["choices"].isna().tolist() == [False, False, False, True] * count
    if backend is None:
        each = frame.explode("choices").dropna(subset="choices")
        table = pd.DataFrame(each["choices"].tolist(), index=each["custom_id"])
        assert table.index.tolist() == ["a", "a", "a", "a", "b", "c"] * count
        assert table["stars"].fillna(0).tolist() == [5, 0, 0, 5, 5, 0] * count


def test_calls_are_lists_of_dicts(tmp_path: Path) -> None:
    """Tool calls and citations are Python's lists, and with Arrow's dtypes their JSON."""
    cited = choice("hi", tool_calls=[CALL], annotations=[{"type": "file_citation", "index": 1}])
    path = write(tmp_path / "a.jsonl", result(chat(cited)), GOOD)
    frame = bf.read_results(path)
    assert frame["tool_calls"].tolist() == [[CALLED], None]
    assert frame["citations"].tolist() == [[{"type": "file_citation", "index": 1}], None]
    arrow = bf.read_results(path, dtype_backend="pyarrow")
    assert arrow["tool_calls"].dropna().tolist() == [dumps([CALLED])]


def test_cache_writes_are_usage(tmp_path: Path) -> None:
    """Tokens written to the cache are counted where there are any, and left out with others."""
    usage = {"prompt_tokens": 9, "prompt_tokens_details": {"cache_write_tokens": 7}}
    path = write(tmp_path / "a.jsonl", result(chat(usage=usage)), GOOD)
    frame = bf.read_results(path)
    assert frame["cache_write_tokens"].tolist() == [7, pd.NA]
    assert bf.summarize(frame)["cache_write_tokens"].tolist() == [7]
    assert "cache_write_tokens" not in bf.read_results(path, usage=False)
    assert "cache_write_tokens" not in bf.read_results(write(tmp_path / "b.jsonl", GOOD))


@pytest.mark.parametrize(
    "body",
    [
        {"response_format": {"type": "json_schema", "json_schema": NAMED}},
        {"text": {"format": {"type": "json_schema", **NAMED}}},
    ],
)
def test_the_schema_is_read_from_the_requests(tmp_path: Path, body: Row) -> None:
    """Requests that all ask for one schema give its columns, without being told."""
    path = write(tmp_path / "a.jsonl", rated('{"stars":5,"tone":"calm"}'), rated("?", "b"))
    requests = write(tmp_path / "requests.jsonl", *(request(name, **body) for name in "bca"))
    rows = rows_of(bf.read_results(path, requests=requests))
    assert [(row["status"], row["stars"], row["tone"]) for row in rows] == [
        ("invalid_json", None, None),
        ("missing", None, None),
        ("ok", 5, "calm"),
    ]


def test_a_good_answer_is_better_than_one_that_breaks_the_schema(tmp_path: Path) -> None:
    """Of two answers to one request, the one that follows the schema counts."""
    path = write(tmp_path / "a.jsonl", rated('{"stars":5,"tone":"calm"}'), rated("?"))
    lost = f"'a' in {path}, line 2"
    frame = read_warned(path, TWICE + lost, requests=asked(tmp_path, "a"), json_schema=NAMED)
    assert (frame["status"].tolist(), frame["stars"].tolist()) == (["ok"], [5])


def test_requests_of_several_schemas_give_no_columns(tmp_path: Path) -> None:
    """Where requests ask for different schemas, answers stay text, and a warning says so."""
    formats = [{"type": "json_schema", "json_schema": schema} for schema in (NAMED, OTHER)]
    asks = [request(n, response_format=f) for n, f in zip("ab", formats, strict=True)]
    requests = write(tmp_path / "requests.jsonl", *asks)
    path = write(tmp_path / "a.jsonl", rated("{}"), rated("{}", "b"))
    message = "the requests do not all ask for the same schema; pass json_schema= for typed answers"
    frame = read_warned(path, message, requests=requests)
    assert list(frame.columns) == list(COLUMNS)
    assert frame["status"].tolist() == ["ok", "ok"]


def with_schema(folder: Path, schema: Any) -> Path:
    """Write two requests with a schema."""
    how = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    return write(folder / "requests.jsonl", *(request(n, response_format=how) for n in "ab"))


WRONG_ROOT = (
    "the schema of the requests is not understood: json_schema: the root is not an object; make it "
    "a property of an object; answers stay text; pass json_schema= for typed answers"
)


def test_a_schema_of_requests_that_is_not_understood_leaves_text(tmp_path: Path) -> None:
    """What reads answers warns once, and returns them as text; given by name, it is an error."""
    path = write(tmp_path / "a.jsonl", rated("[]"), rated("{}", "b"))
    requests = with_schema(tmp_path, {"type": "array"})
    frame = read_warned(path, WRONG_ROOT, requests=requests)
    assert list(frame.columns) == list(COLUMNS)
    assert frame["content"].tolist() == ["[]", "{}"]
    with pytest.warns(UserWarning, match=f"^{re.escape(WRONG_ROOT)}$"):
        stream = bf.scan_results(path, requests=requests)
    assert stream.read_all()["content"].to_pylist() == ["[]", "{}"]
    with pytest.warns(UserWarning, match=f"^{re.escape(WRONG_ROOT)}$"):
        assert bf.retry_requests(requests, path, statuses=["invalid_json"]) == []
    with pytest.raises(bf.TemplateError):
        bf.read_results(path, requests=requests, json_schema={"type": "array"})


def test_requests_with_a_schema_of_10_000_levels_are_read(tmp_path: Path) -> None:
    """Even what Python cannot parse is a warning."""
    path = write(tmp_path / "a.jsonl", rated("[]"))
    requests = with_schema(tmp_path, 0)
    deep = b"[" * 10_000 + b"]" * 10_000
    requests.write_bytes(requests.read_bytes().replace(b'"schema":0', b'"schema":' + deep))
    with pytest.warns(UserWarning, match="^the schema of the requests is not understood: "):
        frame = bf.read_results(path, requests=requests)
    assert [row["content"] for row in rows_of(frame)] == ["[]", None]


KEYWORDS = st.sampled_from(
    [
        "type",
        "properties",
        "items",
        "enum",
        "const",
        "required",
        "$ref",
        "anyOf",
        "allOf",
        "minimum",
        "pattern",
        "format",
        "a",
    ]
)
WORDS = st.sampled_from(
    ["object", "array", "string", "number", "date", "#", "#/properties/a", "a", "(", "5"]
)
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYWORDS, inner, max_size=4),
    max_leaves=12,
)


@given(ODD, ODD)
def test_no_schema_of_requests_is_an_error(odd: Any, answer: Any) -> None:
    """Whatever the schema of requests is, answers are read by it or, with a warning, as text."""
    for schema in (odd, {"type": "object", "properties": {"a": odd}}):
        asked = Asked(pa.array(["a"], TEXT), np.zeros(1, np.int64), json.dumps(schema), [], [])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            answers = answers_of(asked)
        assert len(caught) == (answers is None)
        if answers is not None:
            table, reasons = answers.read(pa.array([json.dumps({"a": answer}), None], TEXT))
            assert (len(reasons), table.schema.names) == (2, list(answers.names))


def test_properties_with_names_of_columns_are_renamed(tmp_path: Path) -> None:
    """A property named like a column of results gets a suffix, and a warning tells its name."""
    properties = {name: {"type": "string"} for name in ("status", "model", "stars")}
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    path = write(tmp_path / "a.jsonl", rated('{"status":"s","model":"m","stars":"*"}'))
    message = (
        "answer column 'status' is renamed 'status_answer', 'model' is renamed 'model_answer', "
        "as results already have that name"
    )
    frame = read_warned(path, message, json_schema=schema)
    assert list(frame.columns[2:6]) == ["content", "status_answer", "model_answer", "stars"]
    assert frame.iloc[0, 3:6].tolist() == ["s", "m", "*"]
    assert frame["status"].tolist() == ["ok"]


def test_a_line_above_the_limit_is_malformed(tmp_path: Path) -> None:
    """A line that is too long to be kept has its row, with its size; all others are read."""
    path = tmp_path / "results.jsonl"
    path.write_bytes(GOOD + b"\n" + b"x" * 5_000 + b"\n" + GOOD)
    with patch.multiple(jsonl, BLOCK=1_024, LEAST=1_024, LONGEST=4_096):
        rows = rows_of(bf.read_results(path))
    assert [(row["status"], row["line"]) for row in rows] == [
        ("ok", 1),
        ("malformed", 2),
        ("ok", 3),
    ]
    problem = "the line has 5,001 bytes, more than the 4,096 that are read"
    assert rows[1]["error_message"] == problem


PEAK = """
import re, sys
import batch_frames as bf
frame = bf.read_results(sys.argv[1])
peak = re.search(r"VmHWM:\\s+([0-9]+)", open("/proc/self/status").read())
print(*frame["line"], int(peak[1]) << 10)
"""
"""The peak that ``resource`` has begins with that of the process that started this one."""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is in /proc")
@pytest.mark.parametrize("unit", [b" ", b"\n", b"\r\n", b" \n", b" " * 63 + b"\n"])
@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz"])
def test_blanks_are_read_in_constant_memory(tmp_path: Path, ending: str, unit: bytes) -> None:
    """A gigabyte without any text, packed or not, takes 256 MB at most."""
    path, part = tmp_path / f"results.{ending}", unit * ((8 << 20) // len(unit))
    with gzip.open(path, "wb", 1) if ending.endswith("gz") else path.open("wb") as file:
        for _ in range(128):
            file.write(part)
        file.write(b"\n" + GOOD)
    command = [sys.executable, "-c", PEAK, str(path)]
    found = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    line, peak = map(int, found.split())
    assert line == 2 + 128 * part.count(b"\n")
    assert peak < 256 << 20


@pytest.mark.parametrize("small", [0, 2_000, 1 << 18])
def test_small_files_are_read_in_order(tmp_path: Path, small: int) -> None:
    """Each row has its own file and line, however many files are read together."""
    lines = [result(chat(choice(dumps({"stars": n}))), custom_id=f"r{n}") for n in range(300)]
    paths = [write(tmp_path / f"{n:03}.jsonl", *lines[n : n + 2]) for n in range(0, 300, 2)]
    schema = {"type": "object", "properties": {"stars": {"type": "integer"}}}
    with patch.object(parse, "SMALL", small):
        frame = bf.read_results([*paths, paths[7]], json_schema=schema)
    assert frame["custom_id"].tolist() == [f"r{n}" for n in range(300)]
    assert frame["stars"].tolist() == list(range(300))
    assert frame["file"].tolist() == [str(paths[n // 2]) for n in range(300)]
    assert frame["line"].tolist() == [n % 2 + 1 for n in range(300)]


@pytest.mark.parametrize("raw", [False, True])
def test_small_files_of_all_shapes_are_read_as_one(tmp_path: Path, raw: bool) -> None:
    """Lines of any shape, each in a file of its own, have the rows that one file has."""
    values = [value for _, value, _ in SHAPES]
    one = write(tmp_path / "one.jsonl", *values)
    lines = one.read_bytes().splitlines(keepends=True)
    folder = tmp_path / "many"
    folder.mkdir()
    for number, line in enumerate(lines):
        data = line.rstrip(b"\n") if number % 3 else line
        path = folder / f"{number:04}.jsonl"
        if number % 2:
            path.with_suffix(".jsonl.gz").write_bytes(gzip.compress(data))
        else:
            path.write_bytes(data)
    (folder / "0001-empty.jsonl").touch()
    with warnings.catch_warnings(action="ignore"):
        together, single = (bf.read_results(path, raw=raw) for path in (folder, one))
    assert len(together) == len(values)
    places = ["file", "line"]
    assert rows_of(together.drop(columns=places)) == rows_of(single.drop(columns=places))
    assert [Path(file).name[:4] for file in together["file"]] == [
        f"{number:04}" for number in range(len(values))
    ]


def test_a_request_among_small_files_is_named_by_its_file_and_line(tmp_path: Path) -> None:
    """Files before it, and blank lines in its own, do not shift its place."""
    for name in "abd":
        write(tmp_path / f"{name}.jsonl", GOOD)
    path = write(tmp_path / "c.jsonl", GOOD, b" ", b"", {"custom_id": "x", "body": {}})
    with pytest.raises(bf.LineError) as caught:
        bf.read_results([tmp_path / f"{name}.jsonl" for name in "abcd"])
    assert (caught.value.path, caught.value.line) == (path, 4)


def cut_at(size: int) -> bytes:
    """Write a result of some size whose text, full of escapes, does not end."""
    return GOOD[: GOOD.index(b'"content":') + 11] + rb"abc \n d" * (size // 8)


LONG_LINES: dict[str, Callable[[int], bytes]] = {
    "no JSON": lambda size: b"x" * size,
    "a text that is cut": cut_at,
    "not UTF-8": lambda size: cut_at(size) + b"\xff",
    "arrays without end": lambda size: b"[" * size,
    "a list": lambda size: b"[" + b"{}," * (size // 3),
    "no result": lambda size: b'{"custom_id":"a","text":"' + b"abcd" * (size // 4) + b'"}',
}


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is in /proc")
@pytest.mark.parametrize(
    ("kind", "size"),
    [
        ("a text that is cut", 60 << 20),
        *(pytest.param(kind, 300 << 20, marks=pytest.mark.slow) for kind in LONG_LINES),
    ],
)
def test_a_long_line_that_is_no_result_is_kept_once(tmp_path: Path, kind: str, size: int) -> None:
    """Reading a line that is malformed takes its own size, 256 MB and no more."""
    path = tmp_path / "results.jsonl"
    path.write_bytes(LONG_LINES[kind](size))
    command = [sys.executable, "-c", PEAK, str(path)]
    found = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    line, peak = map(int, found.split())
    assert line == 1
    assert peak < path.stat().st_size + (256 << 20)
