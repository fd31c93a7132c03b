"""Twelve things that go wrong in other packages, from the frame to its answers."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections import Counter
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import BaseModel

import batch_frames as bf
from tests.service.server import BatchServer

Row = dict[str, Any]

COUNTED = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}


def frame_of(*ids: Any) -> pd.DataFrame:
    """Make a frame with a prompt for each id."""
    return pd.DataFrame({"id": ids, "review": [f"review of {one}" for one in ids]})


def batch_of(frame: pd.DataFrame, id_column: str | None = "id", **options: Any) -> bf.BatchCreator:
    """Ask a model about each row."""
    return bf.from_dataframe(
        frame, id_column=id_column, prompt_column="review", model="m", **options
    )


def answered(custom_id: str, content: str | None = None) -> Row:
    """Answer a request as the service does."""
    message = {"role": "assistant", "content": content or f"answer to {custom_id}"}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    body = {"object": "chat.completion", "model": "m", "choices": choices, "usage": COUNTED}
    response = {"status_code": 200, "request_id": "r", "body": body}
    return {"id": "batch_req_1", "custom_id": custom_id, "response": response, "error": None}


def failed(custom_id: str) -> Row:
    """Refuse a request as the service does in an error file."""
    error = {"message": "Too long.", "type": "invalid", "code": "context_length_exceeded"}
    response = {"status_code": 400, "request_id": "r", "body": {"error": error}}
    return {"id": "batch_req_1", "custom_id": custom_id, "response": response, "error": None}


def expired(custom_id: str) -> Row:
    """Leave a request without an answer when its batch expires."""
    error = {"code": "batch_expired", "message": "Too late."}
    return {"id": "batch_req_1", "custom_id": custom_id, "response": None, "error": error}


def write(path: Path, *results: Row | bytes) -> Path:
    """Write results as lines, or bytes as they are."""
    lines = [r if isinstance(r, bytes) else json.dumps(r).encode() for r in results]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def asked(path: Path) -> list[Row]:
    """Read requests back as plain JSON."""
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def statuses(frame: pd.DataFrame) -> dict[str, str]:
    """Say what became of each id."""
    return dict(zip(frame["custom_id"], frame["status"], strict=True))


def served(paths: bf.Shard | list[bf.Shard], server: BatchServer) -> list[Path]:
    """Submit request files, wait for their batches and download what came of them."""
    jobs = bf.wait(bf.submit(paths, client=server.client()), client=server.client(), poll=0.01)
    return bf.download(jobs, client=server.client())


def test_01_a_row_that_failed_stays_in_its_place(tmp_path: Path) -> None:
    """Three rows, the second only in the error file: three rows again, and none is shifted."""
    reviews = frame_of("a", "b", "c")
    batch_of(reviews).save_to_file(tmp_path / "requests.jsonl", progress=False)
    output = write(tmp_path / "output.jsonl", answered("c"), answered("a"))
    errors = write(tmp_path / "errors.jsonl", failed("b"))
    results = bf.read_results([output, errors], requests=tmp_path / "requests.jsonl")
    assert list(statuses(results).items()) == [("a", "ok"), ("b", "http_error"), ("c", "ok")]
    joined = bf.join_results(reviews, results, id_column="id")
    assert joined["content"].fillna("nothing").tolist() == ["answer to a", "nothing", "answer to c"]
    assert joined["error_code"].fillna("").tolist() == ["", "context_length_exceeded", ""]
    pd.testing.assert_frame_equal(joined[["id", "review"]], reviews)


def test_02_an_expired_batch_keeps_what_it_finished(tmp_path: Path) -> None:
    """Nine of ten rows were answered in time: they stay, and only the tenth is sent again."""
    ids = [f"r{n}" for n in range(10)]
    requests = tmp_path / "requests.jsonl"
    batch_of(frame_of(*ids)).save_to_file(requests, progress=False)
    output = write(tmp_path / "output.jsonl", *(answered(one) for one in ids if one != "r6"))
    errors = write(tmp_path / "errors.jsonl", expired("r6"))
    results = bf.read_results([output, errors], requests=requests)
    assert statuses(results) == {one: "expired" if one == "r6" else "ok" for one in ids}
    for found in (results, [output, errors]):
        (shard,) = bf.retry_requests(requests, found, tmp_path / "again.jsonl")
        assert shard.path.read_bytes() == requests.read_bytes().splitlines(keepends=True)[6]
    again = write(tmp_path / "output-2.jsonl", answered("r6"))
    assert bf.retry_requests(requests, [output, errors, again]) == []


def test_02_an_expired_batch_is_finished_by_a_second(tmp_path: Path, server: BatchServer) -> None:
    """Of a batch that expires at the service, what is lacking goes into one more batch, no more."""
    server.settings.endings["requests.jsonl"] = "expired"
    server.settings.done = 0.9
    reviews = frame_of(*range(10))
    shards = batch_of(reviews).save_to_file(tmp_path / "requests.jsonl", progress=False)
    files = served(shards, server)
    results = bf.read_results(files, requests=shards)
    assert Counter(results["status"]) == {"ok": 9, "expired": 1}
    (late,) = results.loc[results["status"] == "expired", "custom_id"]
    again = bf.retry_requests(shards, results)
    assert [line["custom_id"] for shard in again for line in asked(shard.path)] == [late]
    files += served(again, server)
    with pytest.warns(UserWarning, match="^dropped 1 result superseded by a better or later one"):
        results = bf.read_results(files, requests=shards)
    joined = bf.join_results(reviews, results, id_column="id")
    assert joined["content"].tolist() == [f"You said: review of {one}" for one in range(10)]
    assert [batch.paid for batch in server.batches] == [9, 1]


@pytest.mark.parametrize("name", ["output.jsonl", "errors.jsonl"])
def test_03_status_0_is_an_error_wherever_it_stands(tmp_path: Path, name: str) -> None:
    """A status of 0 with an empty body and no error is no answer, in either file."""
    response = {"status_code": 0, "request_id": "", "body": {}}
    line = {"id": "batch_req_1", "custom_id": "a", "response": response, "error": None}
    results = bf.read_results(write(tmp_path / name, line))
    assert statuses(results) == {"a": "http_error"}
    assert results["error_message"].tolist() == ["HTTP status 0"]
    assert results["content"].isna().all()


def test_04_no_response_and_an_error_of_text_crash_nothing(tmp_path: Path) -> None:
    """A response of null and an error that is a plain text are rows like others."""
    nothing = {"custom_id": "b", "response": None, "error": None}
    text = {"custom_id": "c", "response": {"status_code": 400, "body": None}, "error": "No model."}
    path = write(tmp_path / "output.jsonl", expired("a"), nothing, text, answered("d"))
    results = bf.read_results(path)
    assert list(statuses(results).values()) == ["expired", "http_error", "http_error", "ok"]
    messages = ["Too late.", "no response", "No model.", ""]
    assert results["error_message"].fillna("").tolist() == messages


def test_05_rare_signs_and_long_lines_are_read(tmp_path: Path) -> None:
    """U+2028, U+0085, a lone surrogate, a key that stands twice and a line of 5 MiB harm no row."""
    texts = ["a\u2028b", "a\u0085b", "a\ufffdb", "first", "x" * (5 << 20)]
    lines = [json.dumps(answered(f"r{n}", t), ensure_ascii=False) for n, t in enumerate(texts)]
    lines[2] = lines[2].replace("\ufffd", "\\ud83d")
    lines[3] = lines[3].replace('"content": "first"', '"content": "first", "content": "second"')
    path = write(tmp_path / "output.jsonl", *(line.encode() for line in lines))
    results = bf.read_results(path)
    assert results["status"].tolist() == ["ok"] * 5
    found = results["content"].tolist()
    assert found.pop(3) in ("first", "second")
    assert found == [*texts[:3], texts[4]]


DAYS = [dt.date(2024, 1, 1), dt.date(2024, 1, 2)]


@pytest.mark.parametrize(
    ("ids", "written"),
    [
        (pd.Series(["00123", "2024-01-01"]), ["00123", "2024-01-01"]),
        (pd.Series(["1e5", "100000"]), ["1e5", "100000"]),
        (pd.Series([123, 7]), ["123", "7"]),
        (pd.Series([123, 7], dtype="Int32"), ["123", "7"]),
        (pd.Series(["a", "b"], dtype="category"), ["a", "b"]),
        (pd.Series(pd.to_datetime(["2024-01-01 10:00", "2024-01-02 11:30"])), None),
        (pd.Series(pd.to_datetime(["2024-01-01", "2024-01-02"], utc=True)), None),
        (pd.Series(DAYS), ["2024-01-01", "2024-01-02"]),
    ],
    ids=["zeros", "floats", "int", "Int32", "category", "moment", "utc", "date"],
)
@pytest.mark.parametrize("place", ["column", "index"])
def test_06_ids_come_back_as_they_were(
    tmp_path: Path, ids: pd.Series[Any], written: list[str] | None, place: str
) -> None:
    """Ids of any type find their answers, and have their own type again."""
    reviews = pd.DataFrame({"id": ids, "review": ["x", "y"]})
    if place == "index":
        reviews = reviews.set_index("id")
    name = "id" if place == "column" else None
    requests = tmp_path / "requests.jsonl"
    batch_of(reviews, name).save_to_file(requests, progress=False)
    sent = [line["custom_id"] for line in asked(requests)]
    assert sent == (written or sent)
    output = write(tmp_path / "output.jsonl", *(answered(one) for one in reversed(sent)))
    joined = bf.join_results(reviews, bf.read_results(output), id_column=name)
    assert joined["content"].tolist() == [f"answer to {one}" for one in sent]
    pd.testing.assert_frame_equal(joined[reviews.columns], reviews)


def test_06_an_index_of_several_levels_comes_back(tmp_path: Path) -> None:
    """An index of several levels stays, beside a column of ids and as ids itself."""
    reviews = frame_of("p", "q")
    reviews.index = pd.MultiIndex.from_tuples([("a", 1), ("a", 2)], names=["shop", "no"])
    output = write(tmp_path / "output.jsonl", answered("q"), answered("p"))
    joined = bf.join_results(reviews, bf.read_results(output), id_column="id")
    assert joined["content"].tolist() == ["answer to p", "answer to q"]
    pd.testing.assert_frame_equal(joined[reviews.columns], reviews)
    requests = tmp_path / "requests.jsonl"
    batch_of(reviews, None).save_to_file(requests, progress=False)
    sent = [line["custom_id"] for line in asked(requests)]
    assert sent == ["a|1", "a|2"]
    write(output, *(answered(one) for one in reversed(sent)))
    joined = bf.join_results(reviews, bf.read_results(output))
    assert joined["content"].tolist() == ["answer to a|1", "answer to a|2"]
    pd.testing.assert_frame_equal(joined[reviews.columns], reviews)
    columns = reviews.reset_index()
    joined = bf.join_results(columns, bf.read_results(output), id_column=["shop", "no"])
    assert joined["content"].tolist() == ["answer to a|1", "answer to a|2"]
    pd.testing.assert_frame_equal(joined[columns.columns], columns)


def test_07_ids_that_stand_twice_are_named(tmp_path: Path) -> None:
    """An index with a label twice is refused with its name, when writing and when joining."""
    reviews = pd.DataFrame({"review": ["x", "y", "z"]}, index=["a", "b", "a"])
    message = "custom_id must be unique: 'a' in row 0 and row 2"
    path = tmp_path / "requests.jsonl"
    with pytest.raises(bf.RequestError, match=f"^{message}$"):
        batch_of(reviews, None).save_to_file(path, progress=False)
    assert list(tmp_path.iterdir()) == []
    results = bf.read_results(write(tmp_path / "output.jsonl", answered("a"), answered("b")))
    with pytest.raises(bf.RequestError, match=f"^{message}$"):
        bf.join_results(reviews, results)


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA])
def test_08_a_missing_prompt_is_never_sent(tmp_path: Path, missing: Any) -> None:
    """Without a prompt, a row is an error that names it, or is left out; it is not text."""
    reviews = pd.DataFrame({"id": ["a", "b"], "review": ["good", missing]})
    path = tmp_path / "requests.jsonl"
    message = "row 1 (custom_id 'b'): column 'review' is null; drop the row or pass na=\"skip\""
    with pytest.raises(bf.RequestError, match=f"^{re.escape(message)}$"):
        batch_of(reviews).save_to_file(path, progress=False)
    assert not path.exists()
    with pytest.warns(
        UserWarning, match=r"^skipped 1 row without a prompt: row 1 \(custom_id 'b'\)$"
    ):
        batch_of(reviews, na="skip").save_to_file(path, progress=False)
    assert [line["custom_id"] for line in asked(path)] == ["a"]
    output = write(tmp_path / "output.jsonl", answered("a"))
    joined = bf.join_results(reviews, bf.read_results(output, requests=path), id_column="id")
    assert joined["status"].tolist() == ["ok", "skipped"]


class Tone(Enum):
    """Name how a review sounds."""

    CALM = "calm"
    ANGRY = "angry"


class Part(BaseModel):
    """Hold what a review says of one part."""

    name: str
    broken: bool | None = None


class Rating(BaseModel):
    """Hold what a review says."""

    stars: int
    price: float | None = None
    tone: Tone
    parts: list[Part] = []
    comment: str = "none"


def objects_of(schema: Any) -> list[Mapping[str, Any]]:
    """List all objects that a schema describes."""
    inner = schema.values() if isinstance(schema, dict) else schema
    found = [o for part in inner if isinstance(part, (dict, list)) for o in objects_of(part)]
    is_object = isinstance(schema, dict) and schema.get("type") == "object"
    return [*found, *([schema] if is_object else [])]


def test_09_a_model_makes_a_strict_schema_and_typed_columns(tmp_path: Path) -> None:
    """Optional, nested and enumerated fields are sent as strict mode wants, and come back typed."""
    requests = tmp_path / "requests.jsonl"
    batch_of(frame_of("a", "b", "c"), json_schema=Rating).save_to_file(requests, progress=False)
    sent = asked(requests)[0]["body"]["response_format"]["json_schema"]
    assert sent["strict"] is True
    assert re.fullmatch("[A-Za-z0-9_-]{1,64}", sent["name"])
    described = objects_of(sent["schema"])
    assert len(described) == 2
    for schema in described:
        assert schema["additionalProperties"] is False
        assert schema["required"] == list(schema["properties"])
    assert '"default"' not in json.dumps(sent)
    part = {"name": "lid", "broken": None}
    full = {"stars": 5, "price": 2.5, "tone": "calm", "parts": [part], "comment": "good"}
    bare: Row = {"stars": 1, "price": None, "tone": "angry", "parts": [], "comment": ""}
    wrong = {**full, "tone": "loud"}
    answers = [answered(n, json.dumps(a)) for n, a in zip("cab", (full, bare, wrong), strict=True)]
    output = write(tmp_path / "output.jsonl", *answers)
    for schema_of in ({"json_schema": Rating}, {"requests": requests}, {"json_schema": sent}):
        results = bf.read_results(output, **schema_of).set_index("custom_id").loc[["a", "b", "c"]]
        assert results["status"].tolist() == ["ok", "invalid_json", "ok"]
        assert results["error_message"].fillna("").tolist() == [
            "",
            "'tone' is 'loud', not one of 'calm', 'angry'",
            "",
        ]
        assert str(results["stars"].dtype) == "Int64"
        assert results["stars"].fillna(0).tolist() == [1, 0, 5]
        assert results["price"].fillna(0).tolist() == [0, 0, 2.5]
        assert results["tone"].cat.categories.tolist() == ["calm", "angry"]
        assert results["tone"].astype(object).fillna("").tolist() == ["angry", "", "calm"]
        parts = [None if value is None else list(value) for value in results["parts"]]
        assert parts == [[], None, [part]]


def test_10_50001_requests_are_two_files(tmp_path: Path) -> None:
    """One request above the limit goes into a second file; so it is with inputs to embed."""
    reviews = pd.DataFrame({"id": range(50_001), "review": "x"})
    for options in ({}, {"endpoint": "/v1/embeddings", "reasoning_effort": None, "seed": None}):
        batch = batch_of(reviews, **options)
        shards = batch.save_to_file(tmp_path / "requests.jsonl", progress=False)
        assert [shard.requests for shard in shards] == [50_000, 1]
        assert bf.read_requests([s.path for s in shards])["custom_id"].tolist() == [
            str(n) for n in range(50_001)
        ]


@pytest.mark.slow
def test_10_a_byte_too_many_is_a_second_file(tmp_path: Path) -> None:
    """200,000,000 bytes are one file, and one more are two."""
    path = tmp_path / "requests.jsonl"
    empty = pd.DataFrame({"id": ["a", "b"], "review": ["", ""]})
    (shard,) = batch_of(empty).save_to_file(path, progress=False)
    half = (200_000_000 - shard.nbytes) // 2
    odd = (200_000_000 - shard.nbytes) % 2
    for extra, sizes in ((odd, [200_000_000]), (odd + 1, None)):
        full = empty.assign(review=["x" * half, "x" * (half + extra)])
        shards = batch_of(full).save_to_file(path, progress=False)
        if sizes:
            assert [shard.nbytes for shard in shards] == sizes
        assert sum(shard.nbytes for shard in shards) == 200_000_000 + extra - odd
        assert [shard.requests for shard in shards] == ([2] if sizes else [1, 1])


def test_10_a_row_of_201_mb_is_named(tmp_path: Path) -> None:
    """A row that alone is above the limit is an error with its place, and no file is left."""
    reviews = pd.DataFrame({"id": ["a", "b"], "review": ["x", "x" * 201_000_000]})
    with pytest.raises(bf.RequestError) as caught:
        batch_of(reviews).save_to_file(tmp_path / "requests.jsonl", progress=False)
    assert (caught.value.row, caught.value.custom_id) == (1, "b")
    assert str(caught.value) == (
        "row 1 (custom_id 'b'): the request is 201,000,165 bytes, above the limit of "
        "200,000,000 a file; shorten it"
    )
    assert list(tmp_path.iterdir()) == []


def test_11_running_a_cell_again_doubles_nothing(tmp_path: Path) -> None:
    """Writing, reading and retrying once more leave the same files and the same rows."""
    reviews, requests = frame_of("a", "b", "c"), tmp_path / "requests.jsonl"
    output, errors = tmp_path / "output.jsonl", tmp_path / "errors.jsonl"
    write(output, answered("a"))
    write(errors, failed("b"))
    seen = []
    for _ in range(2):
        shards = batch_of(reviews).save_to_file(requests, progress=False)
        results = bf.read_results([output, errors], requests=[s.path for s in shards])
        retried = bf.retry_requests(requests, results, permanent=True)
        assert len(bf.join_results(reviews, results, id_column="id")) == 3
        files = {path.name: path.read_bytes() for path in tmp_path.glob("[!.]*")}
        seen.append((shards, results, retried, files))
    assert seen[0][0] == seen[1][0]
    pd.testing.assert_frame_equal(seen[0][1], seen[1][1])
    assert seen[0][2:] == seen[1][2:]
    again = [line["custom_id"] for line in asked(tmp_path / "requests.round-2.jsonl")]
    assert again == ["b", "c"]


def test_11_running_all_cells_again_pays_nothing(tmp_path: Path, server: BatchServer) -> None:
    """From the frame to its answers twice: the same files, the same rows, and nothing is sent."""
    server.settings.fail_every = 2
    reviews = frame_of("a", "b", "c")
    seen = []
    for _ in range(2):
        shards = batch_of(reviews).save_to_file(
            tmp_path / "requests.jsonl", limits=bf.Limits(requests=2), progress=False
        )
        results = bf.read_results(served(shards, server), requests=shards)
        if again := bf.retry_requests(shards, results):
            served(again, server)
        files = {path.name: path.read_bytes() for path in tmp_path.glob("[!.]*")}
        seen.append((statuses(results), files, list(server.requests_log)))
    assert seen[0] == seen[1]
    assert seen[0][0] == {"a": "ok", "b": "http_error", "c": "ok"}
    assert [(b.input_name, b.requests, b.paid) for b in server.batches] == [
        ("requests-00001.jsonl", 2, 1),
        ("requests-00002.jsonl", 1, 1),
        ("requests.round-2.jsonl", 1, 1),
    ]


def test_12_all_rows_may_fail_at_the_service(tmp_path: Path, server: BatchServer) -> None:
    """The service then names an error file alone: it is what comes, and every row says why."""
    server.settings.fail_every = 1
    shards = batch_of(frame_of("a", "b")).save_to_file(tmp_path / "all.jsonl", progress=False)
    files = served(shards, server)
    (batch,) = server.batches
    assert batch.output_file_id is None
    assert [path.name for path in files] == ["all.errors.jsonl"]
    results = bf.read_results(files, requests=shards)
    assert statuses(results) == {"a": "http_error", "b": "http_error"}
    assert results["status_code"].tolist() == [500, 500]


@pytest.mark.parametrize("nothing", [None, ""])
def test_12_there_may_be_no_error_file(
    tmp_path: Path, server: BatchServer, nothing: str | None
) -> None:
    """Where the service names no error file, by null or by an empty text, none is asked for."""
    server.settings.no_error_file = nothing
    shards = batch_of(frame_of("a", "b")).save_to_file(tmp_path / "all.jsonl", progress=False)
    files = served(shards, server)
    (batch,) = server.batches
    assert batch.error_file_id == nothing
    assert [path.name for path in files] == ["all.output.jsonl"]
    assert server.requests_log.count("GET /files/{id}/content") == 1
    assert statuses(bf.read_results(files, requests=shards)) == {"a": "ok", "b": "ok"}


def test_12_all_rows_may_fail(tmp_path: Path) -> None:
    """Without an output file, or with an empty error file, every request still has its row."""
    requests = tmp_path / "requests.jsonl"
    batch_of(frame_of("a", "b")).save_to_file(requests, progress=False)
    errors = write(tmp_path / "errors.jsonl", failed("b"), failed("a"))
    results = bf.read_results([errors], requests=requests)
    assert list(statuses(results).items()) == [("a", "http_error"), ("b", "http_error")]
    assert results["content"].isna().all()
    empty = write(tmp_path / "empty.jsonl")
    output = write(tmp_path / "output.jsonl", answered("a"), answered("b"))
    results = bf.read_results([output, empty], requests=requests)
    assert statuses(results) == {"a": "ok", "b": "ok"}
    results = bf.read_results(empty, requests=requests)
    assert statuses(results) == {"a": "missing", "b": "missing"}
