"""Request files read back into DataFrames, compared with a plain ``json.loads`` per line."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

import batch_frames as bf
from batch_frames.requests import read_asked
from tests.support.marks import slow
from tests.support.requests import (
    CHAT,
    IMAGE,
    TEXTS,
    Row,
    chat,
    check,
    dumps,
    part,
    request,
    rows_of,
)
from tests.support.shards import content_of, entries_of

REAL = Path(__file__).parents[3] / "shared" / "real"
COLUMNS = [*TEXTS, "file", "line"]
DEEP = "[" * 100_000 + "]" * 100_000
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the real files are not here")


def write(path: Path, *values: Any) -> Path:
    """Write JSON values, or bytes as they are, as lines."""
    lines = [v if isinstance(v, bytes) else dumps(v).encode() for v in values]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def read_one(folder: Path, value: Any) -> Row:
    """Read a single request, without its body and place."""
    frame = bf.read_requests(write(folder / "one.jsonl", value))
    assert len(frame) == 1
    return next(rows_of(frame[list(TEXTS[:-1])]))


@pytest.mark.parametrize(
    ("backend", "text", "number"),
    [
        (None, pd.Series(["a"]).dtype, "int64"),
        ("numpy_nullable", "string", "Int64"),
        ("pyarrow", pd.ArrowDtype(pa.large_string()), pd.ArrowDtype(pa.int64())),
    ],
)
@pytest.mark.parametrize("errors", ["raise", "column"])
@pytest.mark.parametrize("values", [(), (request({}),), (request(chat(("user", "x"))),) * 3])
def test_columns_and_dtypes(
    tmp_path: Path, backend: str | None, text: Any, number: Any, errors: str, values: tuple[Row]
) -> None:
    """Columns and dtypes are the same whether all, some or none of the values are there."""
    path = write(tmp_path / "a.jsonl", *values)
    frame = bf.read_requests(path, errors=errors, dtype_backend=backend)
    assert list(frame.columns) == [*COLUMNS, *(["error"] if errors == "column" else [])]
    assert len(frame) == len(values)
    for name in frame.columns:
        assert frame[name].dtype == (number if name == "line" else text), name
    assert frame.index.equals(pd.RangeIndex(len(values)))


@pytest.mark.parametrize(
    ("url", "body", "found"),
    [
        (CHAT, chat(("user", "u")), ["m", None, "u", None]),
        (CHAT, chat(("system", "s"), ("user", "u")), ["m", "s", "u", None]),
        (CHAT, chat(("developer", "d"), ("user", "u")), ["m", "d", "u", None]),
        (CHAT, chat(("user", "u"), reasoning_effort="low"), ["m", None, "u", "low"]),
        (CHAT, chat(("user", "u"), ("system", "s")), ["m", None, "u", None]),
        (CHAT, chat(("system", "s")), ["m", "s", None, None]),
        (CHAT, chat(), ["m", None, None, None]),
        (CHAT, {}, ["m", None, None, None]),
        (CHAT, {"messages": "u"}, ["m", None, None, None]),
        (CHAT, chat(("system", ""), ("user", "")), ["m", "", "", None]),
        (CHAT, chat(("user", None)), ["m", None, None, None]),
        (
            CHAT,
            chat(("system", "s"), ("user", "q1"), ("assistant", "a1"), ("user", "q2")),
            ["m", "s", "q2", None],
        ),
        (
            CHAT,
            chat(("system", "s"), ("user", "q"), ("assistant", "It is")),
            ["m", "s", "q", None],
        ),
        (
            CHAT,
            chat(("user", "q"), ("assistant", None), ("tool", "42")),
            ["m", None, "q", None],
        ),
        (CHAT, chat(("user", [part("a"), IMAGE, part("b")])), ["m", None, "a\nb", None]),
        (CHAT, chat(("system", [part("s")]), ("user", "u")), ["m", "s", "u", None]),
        (CHAT, chat(("user", [IMAGE])), ["m", None, None, None]),
        (CHAT, {"messages": [{"content": "whose?"}]}, ["m", None, None, None]),
        (
            "/v1/responses",
            {"instructions": "s", "input": "u", "reasoning": {"effort": "high"}},
            ["m", "s", "u", "high"],
        ),
        ("/v1/responses", {"input": "u", "reasoning": {}}, ["m", None, "u", None]),
        (
            "/v1/responses",
            {"instructions": None, "input": "u", "reasoning": None},
            ["m", None, "u", None],
        ),
        (
            "/v1/responses",
            {
                "input": [
                    {"role": "developer", "content": "d"},
                    {"role": "user", "content": [part("q", "input_text")]},
                ]
            },
            ["m", "d", "q", None],
        ),
        ("/v1/embeddings", {"input": "u"}, ["m", None, "u", None]),
        ("/v1/embeddings", {"input": ["a", "b"]}, ["m", None, "a\nb", None]),
        ("/v1/embeddings", {"input": [15_496, 995]}, ["m", None, None, None]),
        ("/v1/completions", {"prompt": "u"}, ["m", None, "u", None]),
        ("/v1/completions", {"prompt": ["a", "b"]}, ["m", None, "a\nb", None]),
        ("/v1/moderations", {"input": "u"}, ["m", None, "u", None]),
        (
            "/v1/moderations",
            {"input": [part("a"), IMAGE]},
            ["m", None, "a", None],
        ),
        ("/v1/images/generations", {"prompt": "u", "size": "1024x1024"}, ["m", None, "u", None]),
        ("/v1/videos", {"seconds": "4"}, ["m", None, None, None]),
        ("/v4/chat/completions", chat(("user", "u")), ["m", None, "u", None]),
    ],
)
def test_every_endpoint_has_its_prompts(
    tmp_path: Path, url: str, body: Row, found: list[str | None]
) -> None:
    """Prompts, model and effort are found where each endpoint's bodies have them."""
    row = read_one(tmp_path, request({"model": "m", **body}, url=url))
    names = ["model", "system_prompt", "user_prompt", "reasoning_effort"]
    assert row == {"custom_id": "a", "url": url, **dict(zip(names, found, strict=True))}


@pytest.mark.parametrize("url", [CHAT, "/v1/responses"])
def test_what_the_creator_says_comes_back(tmp_path: Path, url: str) -> None:
    """Reading finds the words with which the requests were written."""
    creator = bf.BatchCreator("m", "low", system_prompt="s", seed=None, endpoint=url)
    creator.add_entry("a", "u")
    creator.save_to_file(tmp_path / "a.jsonl")
    frame = bf.read_requests(tmp_path / "a.jsonl")
    assert next(rows_of(frame)) == {
        "custom_id": "a",
        "url": url,
        "model": "m",
        "system_prompt": "s",
        "user_prompt": "u",
        "reasoning_effort": "low",
        "body": dumps(creator.preview_entry()["body"]),
        "file": str(tmp_path / "a.jsonl"),
        "line": 1,
    }


@pytest.mark.parametrize("missing", ["method", "url"])
def test_other_services_leave_keys_out(tmp_path: Path, missing: str) -> None:
    """A request without method or url is read all the same."""
    value = request(chat(("user", "u")))
    del value[missing]
    row = read_one(tmp_path, value)
    assert row["user_prompt"] == "u"
    assert row["url"] == value.get("url")


@pytest.mark.parametrize(
    ("raw", "custom_id"),
    [
        ('"007"', "007"),
        ('""', ""),
        ("7", "7"),
        ("-7", "-7"),
        ("0.5", "0.5"),
        ("18446744073709551616", "18446744073709551616"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ('"\\u0000"', "\0"),
        ('"\\ud83d\\ude00"', "😀"),
        ('"a\\ud83d"', "a\ufffd"),
        ('"\\ude00\\ud83d"', "\ufffd\ufffd"),
        ('"a\u2028b\x7f\x85"', "a\u2028b\x7f\x85"),
    ],
)
@pytest.mark.parametrize("body", ['{"input":"x"}', '{"input":["x"]}', '{"input":"x\\udfff"}'])
def test_ids_are_always_text(tmp_path: Path, raw: str, custom_id: str, body: str) -> None:
    """An id is text as it stands in the file, a number digit by digit."""
    line = f'{{"custom_id":{raw},"body":{body}}}'.encode()
    assert read_one(tmp_path, line)["custom_id"] == custom_id


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (r"a\ud800", "a\ufffd"),
        (r"\udc00\ud800b", "\ufffd\ufffdb"),
        (r"\ud83d\ude00", "😀"),
        (r"\u0000", "\0"),
        (r"a\u0000b\u001f", "a\0b\x1f"),
        (r"\u2028\u0085", "\u2028\u0085"),
        ("a\u2028b\u2029c\u0085d\x7f", "a\u2028b\u2029c\u0085d\x7f"),
        (r"\"\\\/\b\f\n\r\t", '"\\/\b\f\n\r\t'),
        ("", ""),
    ],
)
def test_odd_texts_come_back(tmp_path: Path, raw: str, text: str) -> None:
    """Escapes become what they stand for, a lone surrogate U+FFFD, in prompt and body alike."""
    line = f'{{"custom_id":"a","body":{{"messages":[{{"role":"user","content":"{raw}"}}]}}}}'
    frame = bf.read_requests(write(tmp_path / "a.jsonl", line.encode()))
    assert frame["user_prompt"][0] == text
    assert json.loads(frame["body"][0]) == chat(("user", text))


def test_the_first_of_two_equal_keys_counts(tmp_path: Path) -> None:
    """Where a key stands twice, the first value is taken, and the body keeps both."""
    line = b'{"custom_id":"a","custom_id":"b","body":{"model":"m","model":"n","input":"x"}}'
    frame = bf.read_requests(write(tmp_path / "a.jsonl", line))
    assert (frame["custom_id"][0], frame["model"][0]) == ("a", "m")
    assert frame["body"][0] == '{"model":"m","model":"n","input":"x"}'


def test_the_body_is_compact_json(tmp_path: Path) -> None:
    """The body has no spaces between its parts, and its numbers and keys as they are."""
    line = '{"custom_id": "a", "body": {"b" : [1, -0.5, 1.0, true, null],  "a": {"é": "\\u00e9"} }}'
    frame = bf.read_requests(write(tmp_path / "a.jsonl", line.encode()))
    assert frame["body"][0] == '{"b":[1,-0.5,1.0,true,null],"a":{"é":"é"}}'


def test_deep_nesting_is_no_danger(tmp_path: Path) -> None:
    """Text nested 100,000 deep is read, or refused where its line takes a slower look."""
    deep = f'{{"custom_id":"a","body":{{"input":"x","deep":{DEEP}}}}}'
    slow = deep.replace('"x"', '["x"]')
    path = write(tmp_path / "a.jsonl", deep.encode(), slow.encode())
    first, second = rows_of(bf.read_requests(path, errors="column"))
    assert (first["user_prompt"], first["error"]) == ("x", None)
    assert first["body"] == f'{{"input":"x","deep":{DEEP}}}'
    assert (second["body"], second["error"]) == (slow, "not JSON: nested too deep")


@pytest.mark.parametrize("size", [10_000_000, slow(100_000_000)])
def test_long_lines_are_read(tmp_path: Path, size: int) -> None:
    """One huge request stands between small ones, whole."""
    big = "0123456789" * (size // 10)
    small = request(chat(("user", "small")))
    path = write(tmp_path / "a.jsonl", small, request(chat(("user", big)), "big"), small)
    frame = bf.read_requests(path)
    assert frame["custom_id"].tolist() == ["a", "big", "a"]
    assert frame["user_prompt"][1] == big
    assert frame["user_prompt"][2] == "small"
    assert len(frame["body"][1]) == len(dumps(chat(("user", big))))


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("last", [b"", b"\n", b"\r\n \n"])
def test_line_ends_blank_lines_and_mark(
    tmp_path: Path, mark: bytes, end: bytes, last: bytes
) -> None:
    """CRLF, blank lines, a byte order mark and a missing last newline change only line numbers."""
    path = tmp_path / "a.jsonl"
    lines = [dumps(request(chat(("user", f"u{n}")), str(n))).encode() for n in range(3)]
    path.write_bytes(mark + lines[0] + end + end + b"\t" + end + lines[1] + end + lines[2] + last)
    frame = bf.read_requests(path)
    assert frame["user_prompt"].tolist() == ["u0", "u1", "u2"]
    assert frame["line"].tolist() == [1, 4, 5]


RESULT = "a result, not a request; read the file with read_results"
NO_ID = "not a request: it has no 'custom_id'"
NO_BODY = "not a request: it has no 'body' that is an object"
NO_KEY = "not JSON: Expecting property name enclosed in double quotes at character 1"
MALFORMED = [
    (b"{", NO_KEY),
    (b'{"custom_id":"a","body":', "not JSON: Expecting value at character 24"),
    (b'{"custom_id":"a","body":{}} x', "not JSON: Extra data at character 28"),
    (b"{'custom_id':'a'}", NO_KEY),
    (b'{"custom_id":"\xe9","body":{}}', "not UTF-8 at byte 14"),
    (b'{"custom_id":"a","body":{"x":"\xed\xa0\x80"}}', "not UTF-8 at byte 30"),
    (b"\x00", "not JSON: Expecting value at character 0"),
    (b"null", "not a request: the line is null, not an object"),
    (b"true", "not a request: the line is a boolean, not an object"),
    (b"-1.5", "not a request: the line is a number, not an object"),
    (b'"text"', "not a request: the line is text, not an object"),
    (b"[]", "not a request: the line is an array, not an object"),
    (b"{}", NO_ID),
    (b'{"body":{}}', NO_ID),
    (b'{"custom_id":null,"body":{}}', NO_ID),
    (b'{"custom_id":true,"body":{}}', NO_ID),
    (b'{"custom_id":["a"],"body":{}}', NO_ID),
    (b'{"custom_id":"a"}', NO_BODY),
    (b'{"custom_id":"a","body":null}', NO_BODY),
    (b'{"custom_id":"a","body":"{}"}', NO_BODY),
    (b'{"custom_id":"a","body":[{}]}', NO_BODY),
    (
        b'{"custom_id":"a","response":{"status_code":200,"body":{}},"error":null}',
        RESULT,
    ),
    (
        b'{"custom_id":"a","response":null,"error":{"code":"batch_expired"}}',
        RESULT,
    ),
    (
        b'{"custom_id":"a","error":"timeout"}',
        RESULT,
    ),
]


@pytest.mark.parametrize(("line", "problem"), MALFORMED)
@pytest.mark.parametrize("before", [0, 1_500])
def test_a_malformed_line_is_named(tmp_path: Path, line: bytes, problem: str, before: int) -> None:
    """The error says which line of which file it is, and what is wrong with it."""
    good = request(chat(("user", "u")))
    write(tmp_path / "a.jsonl", good)
    bad = write(tmp_path / "b.jsonl", *[good] * before, line, b"{")
    with pytest.raises(bf.LineError) as caught:
        bf.read_requests([tmp_path / "a.jsonl", bad])
    assert str(caught.value) == f"{bad}, line {before + 1:,}: {problem}"
    assert (caught.value.path, caught.value.line) == (bad, before + 1)


def test_malformed_lines_stay_as_rows(tmp_path: Path) -> None:
    """With ``errors="column"`` each line has its row, a malformed one its text and its problem."""
    good = request(chat(("user", "u")))
    path = write(tmp_path / "a.jsonl", *[v for line, _ in MALFORMED for v in (good, b"", line)])
    rows = list(rows_of(bf.read_requests(path, errors="column")))
    numbers = range(1, 3 * len(MALFORMED) + 1)
    assert [row["line"] for row in rows] == [n for n in numbers if n % 3 != 2]
    assert [row["user_prompt"] for row in rows[::2]] == ["u"] * len(MALFORMED)
    assert [row["error"] for row in rows[::2]] == [None] * len(MALFORMED)
    for row, (line, problem) in zip(rows[1::2], MALFORMED, strict=True):
        assert row["error"] == problem
        assert row["body"] == line.decode("utf-8", "replace")
        assert row["file"] == str(path)
        assert {row[name] for name in TEXTS[:-1]} == {None}


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"errors": "skip"}, "errors must be 'raise' or 'column', not 'skip'"),
        (
            {"dtype_backend": "polars"},
            "dtype_backend must be 'numpy_nullable', 'pyarrow' or None, not 'polars'",
        ),
    ],
)
def test_options_are_checked(tmp_path: Path, option: dict[str, Any], message: str) -> None:
    """An option that is none is refused with those that are."""
    path = write(tmp_path / "a.jsonl", request({}))
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        bf.read_requests(path, **option)


def test_paths_of_every_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path, a text, a list, a glob and a folder give the files in order, plain or gzip."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out" / "deep").mkdir(parents=True)
    for name in ("out/b.jsonl", "out/a.jsonl", "out/deep/c.jsonl"):
        write(tmp_path / name, request({}, custom_id=name))
    write(tmp_path / "out" / "notes.txt", b"no request")
    packed = gzip.compress(dumps(request({}, custom_id="packed")).encode())
    (tmp_path / "out" / "d.jsonl.gz").write_bytes(packed)
    every = ["out/a.jsonl", "out/b.jsonl", "packed", "out/deep/c.jsonl"]

    def ids(paths: Any) -> list[str]:
        return list(bf.read_requests(paths)["custom_id"])

    assert ids("out/b.jsonl") == ids(Path("out/b.jsonl")) == ["out/b.jsonl"]
    assert ids(["out/b.jsonl", Path("out/a.jsonl")]) == ["out/b.jsonl", "out/a.jsonl"]
    assert ids(iter(["out/a.jsonl"])) == ["out/a.jsonl"]
    assert ids("out/*.jsonl") == ids(str(tmp_path / "out" / "?.jsonl")) == every[:2]
    assert ids("out/d.jsonl.gz") == ["packed"]
    assert sorted(ids("out")) == sorted(ids(tmp_path / "out")) == sorted(every)
    assert list(bf.read_requests("out/b.jsonl")["file"]) == [str(Path("out/b.jsonl"))]


def test_the_path_of_a_set_stands_for_its_files(tmp_path: Path) -> None:
    """What was saved to one path is read by it, also where it became several files."""
    creator = bf.BatchCreator("m", None, system_prompt=None)
    for n in range(5):
        creator.add_entry(f"r{n}", "Hi.")
    path = tmp_path / "r.jsonl"
    assert len(creator.save_to_file(path, limits=bf.Limits(requests=2))) == 3
    for given in (path, str(path), [path]):
        assert bf.read_requests(given)["custom_id"].tolist() == [f"r{n}" for n in range(5)]


@pytest.mark.parametrize("paths", ["out", "out/*", "*/*.jsonl"])
def test_hidden_files_stay_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paths: str) -> None:
    """What a killed run or an editor left under names with a dot is in no folder and no glob."""
    monkeypatch.chdir(tmp_path)
    Path("out/.ipynb_checkpoints").mkdir(parents=True)
    write(Path("out/a.jsonl"), request({}))
    for name in (".a.jsonl", ".a.jsonl.00001.tmp", ".ipynb_checkpoints/a-checkpoint.jsonl"):
        write(Path("out", name), b'{"custom_id":')
    assert bf.read_requests(paths)["file"].tolist() == [str(Path("out/a.jsonl"))]


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ("none.jsonl", "no file 'none.jsonl'; check the path"),
        (["none-*.jsonl"], "no file 'none-*.jsonl'; check the path"),
        (".", "no *.jsonl, *.jsonl.gz or *.jsonl.zst in the folder '.'; check the path"),
        ([], "the list of paths is empty"),
    ],
)
def test_no_file_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paths: Any, message: str
) -> None:
    """A path with no file to it is named."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(message)}$"):
        bf.read_requests(paths)


def test_many_files_make_one_frame(tmp_path: Path) -> None:
    """Rows of all files follow each other, each with its own file and line."""
    for n in range(3):
        name = tmp_path / f"part-{n}.jsonl"
        write(name, *[request({}, custom_id=f"{n}-{i}") for i in range(n * 3)])
    frame = bf.read_requests(tmp_path)
    assert frame["custom_id"].tolist() == [f"{n}-{i}" for n in range(3) for i in range(n * 3)]
    assert frame["line"].tolist() == [1, 2, 3, 1, 2, 3, 4, 5, 6]
    assert [Path(file).name[5] for file in frame["file"]] == list("111222222")


@needs_real
@pytest.mark.parametrize("path", sorted(REAL.glob("*input*.jsonl")), ids=lambda path: path.name)
def test_request_files_of_others_are_read(path: Path) -> None:
    """Files by other programs read as ``json.loads`` reads them."""
    frame = bf.read_requests(path)
    assert len(frame) >= 3
    check(frame, path)


@needs_real
@pytest.mark.parametrize(
    "path",
    sorted(p for p in REAL.rglob("*") if p.is_file() and "input" not in p.name),
    ids=lambda path: path.name,
)
def test_files_of_another_kind_are_refused(path: Path) -> None:
    """Output files, error files and batch objects are no requests, and an error says so."""
    if not path.read_bytes().strip():
        assert len(bf.read_requests(path)) == 0
        return
    with pytest.raises(bf.LineError) as caught:
        bf.read_requests(path)
    assert (caught.value.path, caught.value.line) == (path, 1)
    if re.search("_output|_error|[0-9]{3}|vertex", path.name) and path.suffix == ".jsonl":
        assert str(caught.value) == f"{path}, line 1: {RESULT}"


def test_requests_that_change_while_they_are_read_are_an_error(tmp_path: Path) -> None:
    """Lines that are read again are those of the first time, or an error names their file."""
    path = tmp_path / "reviews.jsonl"
    path.write_bytes(content_of(entries_of(3)))
    asked = read_asked(path)
    assert [(len(lines.numbers), part) for lines, part in asked.pieces()] == [(3, slice(0, 3))]
    path.write_bytes(content_of(entries_of(4)))
    with pytest.raises(bf.LineError) as caught:
        list(asked.pieces())
    assert str(caught.value) == f"{path}: changed while it was read; call again"
