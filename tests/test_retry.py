"""Requests without an answer are copied as they are, each once, into files that replace nothing."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import batch_frames as bf
from tests.service.server import BatchServer

STATUSES = [
    *("ok", "truncated", "refused", "filtered", "invalid_json"),
    *("http_error", "expired", "cancelled", "missing", "malformed", "skipped"),
]
DEFAULT = ["http_error", "expired", "cancelled", "missing", "malformed"]
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
FORMAT = {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": SCHEMA}}
ODD = [
    '{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"m"}}\n',
    '{ "body" : {"input": "é漢😊\u2028\\u00e9"}, "url": "/v1/responses",\t"custom_id": "b" }\r\n',
    '  {"custom_id": "c", "url": "/v1/embeddings", "body": {"n": 1.50, "n": 1e2}}  \n',
    '{"custom_id": 7, "method": "POST", "url": "/v1/moderations", "body": {}, "extra": null}\n',
    '{"custom_id": "é", "method": "POST", "url": "/v1/completions", "body": {"x": "\\ud83d"}}\n',
    '{"custom_id": "last", "method": "POST", "url": "/v1/chat/completions", "body": {}}',
]


def request(custom_id: str, prompt: str = "hi", **others: Any) -> str:
    """Write a request."""
    body = {"model": "m", "messages": [{"role": "user", "content": prompt}], **others}
    line = {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(line) + "\n"


def result(custom_id: str, status: str) -> str:
    """Write a result that has a status, or that is malformed."""
    if status == "malformed":
        return f'{{"custom_id": "{custom_id}", \n'
    value: dict[str, Any] = {"custom_id": custom_id, "response": None, "error": None}
    if status in ("expired", "cancelled"):
        value["error"] = {"code": f"batch_{status}", "message": "no"}
    elif status == "http_error":
        value["response"] = {"status_code": 429, "body": {"error": {"message": "wait"}}}
    else:
        finish = {"truncated": "length", "filtered": "content_filter"}.get(status, "stop")
        said = {"content": "x", "refusal": "no" if status == "refused" else None}
        choices = [{"index": 0, "message": said, "finish_reason": finish}]
        value["response"] = {"status_code": 200, "body": {"model": "m", "choices": choices}}
    return json.dumps(value) + "\n"


def write(path: Path, lines: Sequence[str]) -> Path:
    """Write lines as they are."""
    path.write_bytes("".join(lines).encode())
    return path


def files_in(folder: Path) -> dict[str, bytes]:
    """Read all that stands in a folder, hidden files too."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def three(folder: Path, name: str = "reviews.jsonl") -> tuple[Path, Path]:
    """Write requests of which the second has expired, and their results."""
    requests = write(folder / name, [request("a"), request("b"), request("c")])
    results = [result("c", "ok"), result("b", "expired"), result("a", "ok")]
    return requests, write(folder / "output.jsonl", results)


@pytest.fixture(params=["files", "frame"])
def given_as(request: pytest.FixtureRequest) -> Any:
    """Give results as their files, or as the DataFrame that was read of them."""
    return bf.read_results if request.param == "frame" else lambda paths: paths


def test_lines_are_copied_byte_for_byte(tmp_path: Path, given_as: Any) -> None:
    """Spaces, escapes, key order and line ends stay; a last line without one is ended."""
    requests = write(tmp_path / "odd.jsonl", ["\ufeff", *ODD[:2], "\n \r\n", *ODD[2:]])
    results = write(tmp_path / "output.jsonl", [result("a", "ok"), result("c", "http_error")])
    shards = bf.retry_requests(requests, given_as(results))
    wanted = ("".join(ODD[1:]) + "\n").encode()
    assert shards == [bf.Shard(tmp_path / "odd.round-2.jsonl", 5, len(wanted))]
    assert shards[0].path.read_bytes() == wanted


def test_numbers_and_escapes_in_ids_are_understood(tmp_path: Path, given_as: Any) -> None:
    """An id is compared by its value: 7 is ``"7"``, and é is ``\\u00e9``."""
    requests = write(tmp_path / "odd.jsonl", ODD)
    results = [result(key, "ok") for key in ("7", "é", "last", "a")]
    output = write(tmp_path / "output.jsonl", results)
    assert "\\u00e9" in output.read_text()
    shards = bf.retry_requests(requests, given_as(output))
    assert shards[0].path.read_bytes() == "".join(ODD[1:3]).encode()


def test_compressed_requests_and_results_are_read(tmp_path: Path) -> None:
    """Gzip makes no difference; the new file is plain."""
    packed, results = tmp_path / "odd.jsonl.gz", tmp_path / "output.jsonl.gz"
    packed.write_bytes(gzip.compress("".join(ODD).encode()))
    results.write_bytes(gzip.compress(result("b", "ok").encode()))
    (shard,) = bf.retry_requests(packed, results)
    assert shard.path == tmp_path / "odd.round-2.jsonl"
    assert shard.path.read_bytes() == ("".join([ODD[0], *ODD[2:]]) + "\n").encode()


def test_what_failed_for_good_is_sent_again_on_demand(tmp_path: Path, given_as: Any) -> None:
    """An error that would only come again is left out, unless all of them are asked for."""
    requests = write(tmp_path / "sent.jsonl", [request("a"), request("b")])
    lasting = result("a", "http_error").replace("429", "400")
    output = write(tmp_path / "errors.jsonl", [lasting, result("b", "expired")])
    for permanent, wanted in ((False, [request("b")]), (True, [request("a"), request("b")])):
        path = tmp_path / f"{permanent}.jsonl"
        bf.retry_requests(requests, given_as(output), path, permanent=permanent)
        assert path.read_text("utf-8") == "".join(wanted)


def test_four_statuses_above_400_are_worth_another_try(tmp_path: Path, given_as: Any) -> None:
    """A timeout, a conflict, too early and too many; no other error of the request itself is."""
    codes = [code for code in range(300, 600) if code != 429]
    lines = [result(str(code), "http_error").replace("429", str(code)) for code in codes]
    requests = write(tmp_path / "sent.jsonl", [request(str(code)) for code in [*codes, 429]])
    output = write(tmp_path / "errors.jsonl", [*lines, result("429", "http_error")])
    bf.retry_requests(requests, given_as(output), tmp_path / "new.jsonl")
    lines = (tmp_path / "new.jsonl").read_text("utf-8").splitlines()
    again = [json.loads(line)["custom_id"] for line in lines]
    wanted = [*range(300, 400), 408, 409, 425, *range(500, 600), 429]
    assert again == [str(code) for code in wanted]


def unanswered(requests: Sequence[str], results: Sequence[str], statuses: Sequence[str]) -> str:
    """Choose the lines that must be sent again, by a loop over dicts."""
    best: dict[str, str] = {}
    for line in results:
        try:
            value = json.loads(line)
        except json.JSONDecodeError:
            continue
        status = next(s for s in STATUSES if line == result(value["custom_id"], s))
        before = best.get(value["custom_id"], "missing")
        best[value["custom_id"]] = min(status, before, key=STATUSES.index)
    last = {json.loads(line)["custom_id"]: line for line in requests}
    chosen = {
        line: None
        for line in requests
        if line in last.values() and best.get(json.loads(line)["custom_id"], "missing") in statuses
    }
    return "".join(chosen)


READ = [s for s in STATUSES if s not in ("invalid_json", "missing", "skipped")]
SOME_REQUESTS = st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(["x", "é", "\n"])))
SOME_RESULTS = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(READ)))


@given(
    rounds=st.lists(SOME_REQUESTS, min_size=1, max_size=3),
    back=st.lists(SOME_RESULTS, min_size=1, max_size=3),
    statuses=st.one_of(st.just(DEFAULT), st.lists(st.sampled_from(STATUSES), unique=True)),
)
@pytest.mark.filterwarnings("ignore:none of the", "ignore:.* several requests")
def test_what_lacks_an_answer_is_sent_again(
    rounds: list[list[tuple[str, str]]], back: list[list[tuple[str, str]]], statuses: Any
) -> None:
    """Of all rounds together: the last line of each id whose best status is among the wanted."""
    requests = [[request(*entry) for entry in one] for one in rounds]
    results = [[result(*entry) for entry in one] for one in back]
    wanted = unanswered([*chain(*requests)], [*chain(*results)], statuses)
    with TemporaryDirectory() as name:
        folder = Path(name)
        sent = [write(folder / f"r{n}.jsonl", lines) for n, lines in enumerate(requests)]
        came = [write(folder / f"o{n}.jsonl", lines) for n, lines in enumerate(results)]
        for source in (came, bf.read_results(came)):
            shards = bf.retry_requests(sent, source, folder / "new.jsonl", statuses=statuses)
            assert "".join(shard.path.read_bytes().decode() for shard in shards) == wanted
            assert [shard.requests for shard in shards] == [wanted.count("\n")] * bool(wanted)


@pytest.mark.parametrize("status", [s for s in READ if s != "malformed"])
def test_statuses_choose_what_is_sent_again(status: Any, tmp_path: Path, given_as: Any) -> None:
    """Each status can be asked for alone; by default, answers of any kind are not sent again."""
    ids = [s for s in READ if s != "malformed"]
    requests = write(tmp_path / "all.jsonl", [request(key) for key in [*ids, "missing"]])
    results = given_as(write(tmp_path / "output.jsonl", [result(key, key) for key in ids]))
    (shard,) = bf.retry_requests(requests, results, statuses=[status])
    assert shard.path.read_text() == request(status)
    (shard,) = bf.retry_requests(requests, results)
    wanted = ["http_error", "expired", "cancelled", "missing"]
    assert shard.path.read_text() == "".join(map(request, wanted))


def test_a_malformed_result_leaves_its_request_missing(tmp_path: Path, given_as: Any) -> None:
    """A result cut in the middle of its line has no id; its request is sent again."""
    requests, _ = three(tmp_path)
    results = write(tmp_path / "cut.jsonl", [result("a", "ok"), result("b", "ok"), '{"custom_id'])
    (shard,) = bf.retry_requests(requests, given_as(results))
    assert shard.path.read_text() == request("c")


def test_answers_that_break_their_schema_can_be_sent_again(tmp_path: Path) -> None:
    """``invalid_json`` is judged by the requests' own schema, or as the DataFrame has it."""
    lines = [request(key, response_format=FORMAT) for key in "abc"]
    requests = write(tmp_path / "typed.jsonl", lines)
    said = {"a": "1", "b": '{"n": 1}', "c": '{"n": "one"}'}
    answers = [result(key, "ok").replace('"x"', json.dumps(text)) for key, text in said.items()]
    results = write(tmp_path / "output.jsonl", answers)
    for source in (results, bf.read_results(results, requests=requests)):
        (shard,) = bf.retry_requests(requests, source, statuses=["invalid_json"])
        assert shard.path.read_text() == lines[0] + lines[2]
        assert bf.retry_requests(requests, source) == []
    untyped = bf.read_results(results)
    assert bf.retry_requests(requests, untyped, statuses=["invalid_json"]) == []


def test_results_as_a_frame_need_only_id_and_status(tmp_path: Path) -> None:
    """Any DataFrame with these two columns says what is answered, with numbers as ids too."""
    requests = write(tmp_path / "n.jsonl", [request("7"), request("8")])
    frame = pd.DataFrame({"status": ["ok"], "custom_id": [8]})
    (shard,) = bf.retry_requests(requests, frame)
    assert shard.path.read_text() == request("7")


def test_a_request_that_stands_twice_is_sent_once(tmp_path: Path, given_as: Any) -> None:
    """Of equal ids, in one file or several, the last line is copied, with a word about it."""
    first = write(tmp_path / "one.jsonl", [request("a", "1"), request("b", "2"), request("a", "3")])
    second = write(tmp_path / "two.jsonl", [request("b", "4"), request("c", "5")])
    results = given_as(write(tmp_path / "output.jsonl", [result("x", "ok")]))
    with pytest.warns(UserWarning, match="several requests") as caught:
        (shard,) = bf.retry_requests([first, second, first], results)
    assert [str(warning.message) for warning in caught] == [
        "2 custom_ids have several requests, of which the last counts: 'a', 'b'"
    ]
    assert shard.path.read_text() == request("a", "3") + request("b", "4") + request("c", "5")


def test_rounds_are_given_together(tmp_path: Path) -> None:
    """With all requests and all results so far, each round asks for less, and the last for none."""
    first = write(tmp_path / "reviews.jsonl", [request(key) for key in "abcd"])
    write(tmp_path / "out-1.jsonl", [result("a", "ok"), result("b", "expired")])
    sent = [first]
    for number, back in enumerate(["b", "c", "d"], 1):
        files = sorted(tmp_path.glob("out-*.jsonl"))
        (shard,) = bf.retry_requests(sent, files)
        assert shard.path == tmp_path / f"reviews.round-{number + 1}.jsonl"
        assert shard.path.read_text() == "".join(map(request, "bcd"[number - 1 :]))
        sent.append(shard.path)
        write(tmp_path / f"out-{number + 1}.jsonl", [result(back, "ok")])
        # What failed before does not count against an answer, in whatever order they are read.
        write(tmp_path / f"out-{number + 1}-errors.jsonl", [result(back, "expired")])
    files = sorted(tmp_path.glob("out-*.jsonl"))
    assert bf.retry_requests(sent, files) == []
    # Read together, all have their answer; the warning tells of the errors that are left out.
    with pytest.warns(UserWarning, match="dropped"):
        together = bf.read_results(files, requests=sent)
    assert together["status"].tolist() == ["ok"] * 4


@pytest.mark.parametrize(
    ("name", "others", "new"),
    [
        ("reviews.jsonl", [], "reviews.round-2.jsonl"),
        ("reviews.jsonl", ["reviews.round-2.jsonl"], "reviews.round-3.jsonl"),
        ("reviews.jsonl", ["reviews.round-10.jsonl"], "reviews.round-11.jsonl"),
        (
            "reviews.jsonl",
            ["reviews.round-11.jsonl", "reviews.round-10.jsonl"],
            "reviews.round-12.jsonl",
        ),
        ("reviews.jsonl", ["reviews.round-4-00001.jsonl"], "reviews.round-5.jsonl"),
        ("reviews.jsonl", ["reviews.round-3.jobs.jsonl"], "reviews.round-4.jsonl"),
        ("reviews-00001.jsonl", ["reviews-00002.jsonl"], "reviews.round-2.jsonl"),
        ("reviews.round-2.jsonl", [], "reviews.round-3.jsonl"),
        ("reviews.round-5-00002.jsonl", ["reviews.round-6.jsonl"], "reviews.round-7.jsonl"),
        ("reviews-20261124.jsonl", [], "reviews-20261124.round-2.jsonl"),
        ("a+b (1).v2.jsonl", ["a+b (1).v2.round-2.jsonl"], "a+b (1).v2.round-3.jsonl"),
        ("requests.txt", [], "requests.txt.round-2.jsonl"),
        (
            "reviews.jsonl",
            ["my.reviews.round-6.jsonl", "reviews2.round-6.jsonl", "reviews.round-6.output.jsonl"],
            "reviews.round-2.jsonl",
        ),
    ],
)
def test_new_files_take_the_next_free_name(
    name: str, others: list[str], new: str, tmp_path: Path
) -> None:
    """Rounds are counted by the files that stand beside the first request file, none replaced."""
    requests = write(tmp_path / name, [request("a")])
    results = write(tmp_path / "output.jsonl", [result("z", "ok")])
    for other in others:
        write(tmp_path / other, [] if "jobs" in other else [request("z")])
    before = files_in(tmp_path)
    (shard,) = bf.retry_requests(requests, results)
    assert shard.path == tmp_path / new
    assert files_in(tmp_path) == {**before, new: request("a").encode()}


def test_an_equal_round_that_was_not_submitted_is_kept(tmp_path: Path, given_as: Any) -> None:
    """Running again gives the same file, until it is submitted; other requests make a new one."""
    requests, results = three(tmp_path)
    results = given_as(results)
    first = bf.retry_requests(requests, results)
    standing = files_in(tmp_path)
    assert bf.retry_requests(requests, results) == first
    assert files_in(tmp_path) == standing
    (other,) = bf.retry_requests(requests, results, statuses=["ok"])
    assert other.path.name == "reviews.round-3.jsonl"
    assert bf.retry_requests(requests, results, statuses=["ok"]) == [other]
    assert files_in(tmp_path) == {**standing, other.path.name: other.path.read_bytes()}


@pytest.mark.parametrize("as_frame", [False, True])
def test_a_round_is_over_once_it_has_results(tmp_path: Path, as_frame: bool) -> None:
    """A round that was sent stays the round until there are results of it; then comes the next."""
    requests, results = three(tmp_path)
    (first,) = bf.retry_requests(requests, results)
    assert bf.retry_requests(requests, results) == [first]
    write(tmp_path / "reviews.round-2.errors.jsonl", [results.read_text("utf-8").splitlines()[-1]])
    both = [results, tmp_path / "reviews.round-2.errors.jsonl"]
    (second,) = bf.retry_requests(requests, bf.read_results(both) if as_frame else both)
    assert second.path.name == "reviews.round-3.jsonl"
    assert second.path.read_bytes() == first.path.read_bytes()


def test_an_equal_round_of_several_files_is_kept(tmp_path: Path) -> None:
    """Several files are the same round if each is; other limits make another one."""
    requests = write(tmp_path / "reviews.jsonl", [request(key) for key in "abcde"])
    results = write(tmp_path / "output.jsonl", [result("c", "ok")])
    two = bf.Limits(requests=2)
    shards = bf.retry_requests(requests, results, limits=two)
    names = ["reviews.round-2-00001.jsonl", "reviews.round-2-00002.jsonl"]
    assert [shard.path.name for shard in shards] == names
    standing = files_in(tmp_path)
    assert bf.retry_requests(requests, results, limits=two) == shards
    assert files_in(tmp_path) == standing
    (whole,) = bf.retry_requests(requests, results)
    assert whole.path.name == "reviews.round-3.jsonl"


def test_a_path_of_ones_own_belongs_to_the_last_run(tmp_path: Path) -> None:
    """As in ``save_to_file``, a path that is given is written anew, with the folders it needs."""
    requests, results = three(tmp_path)
    path = tmp_path / "deeper" / "again.jsonl"
    assert bf.retry_requests(requests, results, path)[0].path == path
    bf.retry_requests(requests, results, str(path), statuses=["ok"])
    assert files_in(path.parent) == {"again.jsonl": (request("a") + request("c")).encode()}


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_new_files_keep_the_limits(count: int, tmp_path: Path) -> None:
    """Each file is as full as it may be; together they hold all lines in order."""
    lines = [request(f"r{n}", "x" * n) for n in range(7)]
    requests = write(tmp_path / "reviews.jsonl", lines)
    results = write(tmp_path / "output.jsonl", [])
    by_requests = bf.retry_requests(requests, results, limits=bf.Limits(requests=count))
    parts = [lines[n : n + count] for n in range(0, 7, count)]
    assert [shard.path.read_text() for shard in by_requests] == ["".join(part) for part in parts]
    assert [shard.requests for shard in by_requests] == [len(part) for part in parts]
    assert [shard.nbytes for shard in by_requests] == [len("".join(part)) for part in parts]
    largest = max(len("".join(lines[:count])), len(lines[-1]))
    by_size = bf.retry_requests(requests, results, limits=bf.Limits(nbytes=largest))
    full: list[str] = [""]
    for line in lines:
        if len(full[-1]) + len(line) > largest:
            full.append("")
        full[-1] += line
    assert [shard.path.read_text() for shard in by_size] == full


@pytest.mark.parametrize("path", [None, "new.jsonl"])
def test_nothing_to_retry_makes_no_file(
    path: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given_as: Any
) -> None:
    """Where all have their answer there is no new file, not even an empty one."""
    monkeypatch.chdir(tmp_path)
    requests = write(tmp_path / "reviews.jsonl", [request("a"), request("b")])
    results = write(tmp_path / "output.jsonl", [result("b", "ok"), result("a", "truncated")])
    before = files_in(tmp_path)
    assert bf.retry_requests(requests, given_as(results), path) == []
    assert bf.retry_requests(requests, given_as(results), path, statuses=[]) == []
    empty = write(tmp_path / "empty.jsonl", [])
    assert bf.retry_requests(empty, given_as(results), path) == []
    assert files_in(tmp_path) == {**before, "empty.jsonl": b""}


@pytest.mark.parametrize("name", ["reviews.jsonl", "output.jsonl"])
@pytest.mark.parametrize("requests_per_file", [1, 50_000])
def test_sources_are_never_replaced(name: str, requests_per_file: int, tmp_path: Path) -> None:
    """A path that would replace requests or results is refused, and all files stay."""
    requests, results = three(tmp_path)
    before = files_in(tmp_path)
    limits = bf.Limits(requests=requests_per_file)
    with pytest.raises(bf.BatchFramesError) as caught:
        bf.retry_requests(requests, results, tmp_path / name, limits=limits)
    path = tmp_path / name
    assert str(caught.value) == (
        f"'{path}' would replace '{path}', which the rows come from; choose another name"
    )
    assert files_in(tmp_path) == before


def test_numbered_sources_are_never_replaced(tmp_path: Path) -> None:
    """A path is refused whose numbered names are those of the requests."""
    requests, results = three(tmp_path, "reviews-00001.jsonl")
    with pytest.raises(bf.BatchFramesError) as caught:
        bf.retry_requests(requests, results, tmp_path / "reviews.jsonl")
    assert str(caught.value) == (
        f"'{tmp_path / 'reviews.jsonl'}' would replace '{requests}', which the rows come from; "
        "choose another name"
    )


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    """An error after many lines were written leaves no file, and what stood before."""
    lines = [request(f"r{n}") for n in range(25_000)]
    requests = write(tmp_path / "reviews.jsonl", [*lines, "not a request\n"])
    results = write(tmp_path / "output.jsonl", [result("r1", "ok")])
    new = write(tmp_path / "new.jsonl", [request("old")])
    before = files_in(tmp_path)
    for path in (None, new):
        with pytest.raises(bf.LineError) as caught:
            bf.retry_requests(requests, results, path)
        assert str(caught.value) == (
            f"{requests}, line 25,001: not JSON: Expecting value at character 0"
        )
        assert files_in(tmp_path) == before


def test_a_line_above_the_limit_is_an_error(tmp_path: Path) -> None:
    """A request that fits in no file is named by its file and line; the others are not written."""
    lines = [request("a"), "\n", request("b", "x" * 2_000), request("c")]
    requests = write(tmp_path / "reviews.jsonl", lines)
    results = write(tmp_path / "output.jsonl", [])
    before = files_in(tmp_path)
    with pytest.raises(bf.RequestError) as caught:
        bf.retry_requests(requests, results, limits=bf.Limits(nbytes=1_000))
    assert str(caught.value) == (
        f"{requests}, line 3: the request is {len(lines[2]):,} bytes, above the limit of "
        "1,000 a file; shorten it"
    )
    assert files_in(tmp_path) == before


def test_other_statuses_are_an_error(tmp_path: Path) -> None:
    """A misspelt status is answered with all that there are."""
    requests, results = three(tmp_path)
    with pytest.raises(ValueError) as caught:
        bf.retry_requests(requests, results, statuses=["expired", "failed"])  # type: ignore[list-item]
    assert str(caught.value) == (
        "statuses: there is no 'failed'; there are ok, truncated, refused, filtered, "
        "invalid_json, http_error, expired, cancelled, missing, malformed, skipped"
    )


def test_files_of_the_wrong_kind_are_errors(tmp_path: Path) -> None:
    """Requests and results that were mixed up, or are not there, are told apart."""
    requests, results = three(tmp_path)
    with pytest.raises(bf.LineError) as caught:
        bf.retry_requests(requests, requests)
    assert str(caught.value) == (
        f"{requests}, line 1: a request, not a result; put requests in a file of their own"
    )
    with pytest.raises(bf.LineError) as caught:
        bf.retry_requests(results, results)
    assert str(caught.value) == (
        f"{results}, line 1: a result, not a request; read the file with read_results"
    )
    with pytest.raises(FileNotFoundError) as missing:
        bf.retry_requests(requests, tmp_path / "none.jsonl")
    assert str(missing.value) == f"no file '{tmp_path / 'none.jsonl'}'; check the path"


def test_a_frame_without_ids_is_an_error(tmp_path: Path) -> None:
    """A table that has no ``custom_id``, as one of ``join_results``, cannot be matched."""
    requests, _ = three(tmp_path)
    with pytest.raises(bf.ColumnError) as caught:
        bf.retry_requests(requests, pd.DataFrame({"id": ["a"], "status": ["ok"]}))
    assert str(caught.value) == (
        "the table of results has no column 'custom_id'; it has 'id', 'status'"
    )


MEASURED = """
import resource, sys
import batch_frames as bf
shards = bf.retry_requests(*sys.argv[1:])
unit = 1 if sys.platform == "darwin" else 1024
print(sum(s.requests for s in shards), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
"""


def peak(count: int, folder: Path) -> tuple[int, int]:
    """Retry a quarter of many requests in a process; tell its peak memory and the files' size."""
    again, answered = request("ID", "x" * 250).encode(), result("ID", "ok").encode()
    answered = answered.replace(b'"x"', b'"' + b"x" * 600 + b'"')
    failed = result("ID", "expired").encode()
    requests, output, errors = (folder / f"{n}.jsonl" for n in ("requests", "output", "errors"))
    with requests.open("wb") as asked, output.open("wb") as good, errors.open("wb") as bad:
        for n in range(count):
            key = b"r%07d" % n
            asked.write(again.replace(b"ID", key))
            (good if n % 4 else bad).write((answered if n % 4 else failed).replace(b"ID", key))
    nbytes = sum(path.stat().st_size for path in (requests, output, errors))
    new = folder / "new.jsonl"
    command = [sys.executable, "-c", MEASURED, str(requests), str(folder / "[oe]*.jsonl"), str(new)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    retried, memory = map(int, done.stdout.split())
    assert retried == count // 4
    for path in (requests, output, errors, new):
        path.unlink()
    return memory, nbytes


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no resource module")
def test_memory_does_not_grow_with_the_files(tmp_path: Path) -> None:
    """Of 200,000 requests and results, little more is held at once than of half of them."""
    (little, small), (much, large) = peak(100_000, tmp_path), peak(200_000, tmp_path)
    assert large - small > 100_000_000
    assert much - little < 60_000_000


def test_globs_may_catch_request_files_and_results(tmp_path: Path) -> None:
    """All files of all rounds may be named at once: each is taken for what it holds."""
    requests, results = three(tmp_path)
    output = tmp_path / "reviews.output.jsonl"
    results.rename(output)
    (first,) = bf.retry_requests(tmp_path / "reviews*.jsonl", tmp_path / "reviews*.jsonl")
    assert first.path.name == "reviews.round-2.jsonl"
    write(tmp_path / "reviews.round-2.errors.jsonl", [output.read_text("utf-8").splitlines()[-1]])
    (second,) = bf.retry_requests(tmp_path / "reviews*.jsonl", tmp_path / "reviews*.jsonl")
    assert second.path.name == "reviews.round-3.jsonl"
    assert second.path.read_bytes() == first.path.read_bytes()
    found = bf.read_results(output, requests=tmp_path / "reviews*.jsonl")
    assert found["custom_id"].tolist() == bf.read_requests(requests)["custom_id"].tolist()


def test_what_is_still_coming_is_not_paid_again(tmp_path: Path) -> None:
    """Requests in flight are left out, of the first round and of later ones."""
    creator = bf.BatchCreator("m", None, system_prompt=None)
    for key in "abcd":
        creator.add_entry(key, "hi")
    shards = creator.save_to_file(tmp_path / "reviews.jsonl", limits=bf.Limits(requests=2))
    with BatchServer(fail_every=2, endings={"reviews-00002.jsonl": "expired"}, done=0) as server:
        client = server.client()
        jobs = bf.submit(shards, client=client)
        first = bf.download(bf.wait(jobs[:1], client=client, poll=0.01), client=client)
        left_out = (
            f"left out the requests of '{shards[1].path}', which were answered, or may "
            "be; wait for the batches and download them"
        )
        with pytest.warns(UserWarning, match=f"^{re.escape(left_out)}$"):
            (again,) = bf.retry_requests(shards, first)
        assert lines(again.path) == lines(shards[0].path)[1:]
        (retried,) = bf.submit([again], client=client)
        both = [*first, *bf.download(bf.wait(jobs, client=client, poll=0.01), client=client)]
        with pytest.warns(UserWarning, match="left out the requests"):
            (second,) = bf.retry_requests([*shards, again], both)
        assert (second.path.name, lines(second.path)) == (
            "reviews.round-3.jsonl",
            lines(shards[1].path),
        )
        assert retried.batch_id == server.batches[2].id


def test_what_was_not_downloaded_is_not_paid_again(tmp_path: Path) -> None:
    """Requests of a batch that has ended are left out until its results are here."""
    creator = bf.BatchCreator("m", None, system_prompt=None)
    for key in "abcd":
        creator.add_entry(key, "hi")
    shards = creator.save_to_file(tmp_path / "reviews.jsonl", limits=bf.Limits(requests=2))
    with BatchServer(fail_every=2) as server:
        client = server.client()
        jobs = bf.wait(bf.submit(shards, client=client), client=client, poll=0.01)
        first = bf.download(jobs[:1], client=client)
        with pytest.warns(UserWarning, match="left out the requests of .*-00002.jsonl'"):
            (again,) = bf.retry_requests(shards, first)
        assert lines(again.path) == lines(shards[0].path)[1:]
        both = bf.download(jobs, client=client)
    (again,) = bf.retry_requests(shards, both)
    assert lines(again.path) == [lines(shard.path)[1] for shard in shards]


def test_lost_errors_hold_nothing_back(tmp_path: Path) -> None:
    """A file of errors has no answers, so that what has none is retried without it."""
    creator = bf.BatchCreator("m", None, system_prompt=None)
    for key in "abcd":
        creator.add_entry(key, "hi")
    [shard] = creator.save_to_file(tmp_path / "reviews.jsonl")
    with BatchServer(fail_every=2) as server:
        client = server.client()
        jobs = bf.wait(bf.submit(shard, client=client), client=client, poll=0.01)
        bf.download(jobs, client=client)
    (tmp_path / "reviews.errors.jsonl").unlink()
    (again,) = bf.retry_requests(shard)
    assert lines(again.path) == lines(shard.path)[1::2]


def test_rounds_end_where_results_were_moved_away(tmp_path: Path) -> None:
    """Results that are passed from another folder count as those next to the requests do."""
    creator = bf.BatchCreator("m", None, system_prompt=None)
    for key in "abcd":
        creator.add_entry(key, "hi")
    shards, found = creator.save_to_file(tmp_path / "reviews.jsonl"), []
    with BatchServer(fail_every=2) as server:
        client = server.client()
        for _ in range(3):
            jobs = bf.wait(bf.submit(shards, client=client), client=client, poll=0.01)
            found += bf.download(jobs, client=client)
            shards = bf.retry_requests(tmp_path / "reviews.jsonl")
    assert shards == []
    (tmp_path / "kept").mkdir()
    moved = [path.rename(tmp_path / "kept" / path.name) for path in found]
    assert bf.retry_requests(tmp_path / "reviews.jsonl", moved) == []


def test_a_round_in_flight_is_given_again(tmp_path: Path) -> None:
    """A cell that writes and submits a round may be run twice: the second time changes nothing."""
    creator = bf.BatchCreator("m", None, system_prompt=None)
    for key in "abcd":
        creator.add_entry(key, "hi")
    shards = creator.save_to_file(tmp_path / "reviews.jsonl")
    with BatchServer(fail_every=2) as server:
        client = server.client()
        jobs = bf.wait(bf.submit(shards, client=client), client=client, poll=0.01)
        results = bf.read_results(bf.download(jobs, client=client), requests=shards)
        rounds = [bf.retry_requests(shards, results) for _ in range(2)]
        sent = [bf.submit(bf.retry_requests(shards, results), client=client) for _ in range(2)]
        assert rounds[0] == rounds[1]
        assert [job.path for job in sent[0]] == [shard.path for shard in rounds[0]]
        assert len(server.batches) == 2


def lines(path: Path) -> list[str]:
    """Read the lines of a file."""
    return path.read_text("utf-8").splitlines()


def test_nothing_is_retried_silently_left_out(tmp_path: Path) -> None:
    """Where all that lacks an answer is still with the service, a warning says so."""
    creator = bf.BatchCreator("m", None, system_prompt=None)
    for key in "ab":
        creator.add_entry(key, "hi")
    shards = creator.save_to_file(tmp_path / "reviews.jsonl", limits=bf.Limits(requests=1))
    with BatchServer() as server:
        client = server.client()
        jobs = bf.submit(shards, client=client)
        first = bf.download(bf.wait(jobs[:1], client=client, poll=0.01), client=client)
        with pytest.warns(UserWarning, match="; wait for the batches and download them$"):
            assert bf.retry_requests(shards, first) == []
    assert not list(tmp_path.glob("*.retry-*"))


TYPED = """
import batch_frames as bf

[job] = bf.load_jobs("r.jsonl")
bf.retry_requests("r.jsonl", statuses="truncated")
bf.retry_requests("r.jsonl", statuses=["truncated", "expired"])
print(job.status == "completed", job.state == "waiting")
bf.retry_requests("r.jsonl", statuses="truncate")
bf.retry_requests("r.jsonl", statuses=["expired", "errors"])
print(job.status == "complete")
"""


@pytest.mark.slow
def test_type_checkers_know_the_statuses(tmp_path: Path) -> None:
    """What is misspelt is found before anything is run, both of results and of batches."""
    (tmp_path / "typed.py").write_text(TYPED)
    # Without the types of other packages it takes a third of the time.
    alone = ["--no-site-packages", "--ignore-missing-imports"]
    command = [sys.executable, "-m", "mypy", "--strict", *alone, "typed.py"]
    environment = {**os.environ, "MYPYPATH": str(Path(bf.__file__).parents[1])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    found = re.findall(r"^typed.py:(\d+): error: .*\[(.*)\]$", done.stdout, re.MULTILINE)
    assert found == [("8", "arg-type"), ("9", "list-item"), ("10", "comparison-overlap")]


@pytest.mark.parametrize("kept", [None, 0, 1])
def test_answers_whose_file_is_gone_are_not_paid_again(tmp_path: Path, kept: int | None) -> None:
    """Requests are left out whose results were downloaded and lost, until they are there again."""
    creator = bf.BatchCreator("m", None, system_prompt=None)
    for key in "abc":
        creator.add_entry(key, "hi")
    [shard] = creator.save_to_file(tmp_path / "reviews.jsonl")
    with BatchServer(done=0) as server:
        how: dict[str, Any] = {"client": server.client()}
        [output] = bf.download(bf.wait(bf.submit(shard, **how), poll=0.01, **how), **how)
        whole = output.read_bytes()
        if kept is None:
            output.unlink()
        else:
            output.write_bytes(b"".join(whole.splitlines(keepends=True)[:kept]))
        left_out = (
            f"left out the requests of '{shard.path}', which were answered, or may "
            "be; wait for the batches and download them"
        )
        with pytest.warns(UserWarning, match=f"^{re.escape(left_out)}$"):
            assert bf.retry_requests(shard) == []
        bf.download(bf.load_jobs(shard.path), **how)
        assert output.read_bytes() == whole
        assert bf.retry_requests(shard) == []
