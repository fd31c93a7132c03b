"""From a frame to its answers in one call, again and again."""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pydantic import BaseModel

import batch_frames as bf
from batch_frames.errors import BatchFramesWarning
from tests.service.answers import respond
from tests.service.server import BatchServer
from tests.support.jobs import save_lines
from tests.support.price_tables import price_tables

FRAME = pd.DataFrame({"id": [7, 3, 5], "text": ["seven", "three", "five"]}, index=["x", "y", "z"])
ASK: dict[str, Any] = {"id_column": "id", "prompt_column": "text", "model": "m", "poll": 0.005}


RESULTS = pd.DataFrame({"custom_id": ["7"], "status": ["ok"], "content": ["x"]})

WRONG: dict[str, tuple[Callable[..., Any], dict[str, Any], str]] = {
    "run timeout": (bf.run, {"timeout": "1h"}, "timeout must be a number of seconds, not '1h'"),
    "run poll": (bf.run, {"poll": "1"}, "poll must be a number of seconds, not '1'"),
    "run limits": (bf.run, {"limits": 9}, "limits must be Limits(requests=…, nbytes=…), not 9"),
    "run confirm": (
        bf.run,
        {"confirm": "yes"},
        "confirm must be True, False or a function, not 'yes'",
    ),
    "run prefix": (bf.run, {"prefix": 5}, "prefix must be text, not 5"),
    "run columns": (
        bf.run,
        {"columns": 5},
        "columns must be names of columns of the results, not 5",
    ),
    "plan limits": (bf.plan, {"limits": 9}, "limits must be Limits(requests=…, nbytes=…), not 9"),
    "join prefix": (bf.join_results, {"prefix": 5}, "prefix must be text, not 5"),
    "join columns": (
        bf.join_results,
        {"columns": ["status", None]},
        "columns must be names of columns of the results, not None",
    ),
    "join requests": (
        bf.join_results,
        {"requests": FRAME},
        "requests must be what from_dataframe made with dedupe=True, not a DataFrame",
    ),
    "wait timeout": (bf.wait, {"timeout": True}, "timeout must be a number of seconds, not True"),
    "submit timeout": (
        bf.submit,
        {"timeout": "1h"},
        "timeout must be a number of seconds, not '1h'",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_arguments_of_a_wrong_type_are_refused(name: str) -> None:
    """Such an error says what would be right, and nothing is written or sent."""
    call, wrong, message = WRONG[name]
    asked: dict[str, Any] = {"id_column": "id", "prompt_column": "text", "model": "m"}
    args: dict[Any, tuple[tuple[Any, ...], dict[str, Any]]] = {
        bf.join_results: ((FRAME, RESULTS), {"id_column": "id"}),
        bf.wait: (([],), {}),
        bf.submit: ((save_lines("s.jsonl", {}),), {}),
    }
    own, options = args.get(call, ((FRAME, "out/r.jsonl"), asked))
    with pytest.raises(TypeError) as caught:
        call(*own, **options, **wrong)
    assert str(caught.value) == message
    assert list(Path.cwd().rglob("*.json*")) == [Path.cwd() / "s.jsonl"]


class Rating(BaseModel):
    """Shape an answer."""

    stars: int


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty folder, without a key."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return tmp_path


def test_a_frame_comes_back_with_its_answers(server: BatchServer) -> None:
    """Every row keeps its place, its index and its columns, and has its answer beside them."""
    rated = bf.run(FRAME, "out/reviews.jsonl", client=server.client(), **ASK)
    pd.testing.assert_frame_equal(rated[["id", "text"]], FRAME)
    assert list(rated["status"]) == ["ok"] * 3
    assert list(rated["content"]) == ["You said: seven", "You said: three", "You said: five"]


def test_what_comes_back_says_what_it_cost(server: BatchServer) -> None:
    """The price of all tokens is noted, unless a model has none."""
    with price_tables():
        options = {**ASK, "client": server.client(), "model": "luna"}
        rated = bf.run(FRAME, "out/reviews.jsonl", **options)
        [cost] = bf.summarize(rated)["cost"]
        assert rated.attrs["cost"] == cost > 0
        assert bf.run(["out/reviews.jsonl"], client=server.client()).attrs["cost"] == cost
        assert "cost" not in bf.run(FRAME, "m.jsonl", **{**options, "model": "nova"}).attrs


def test_called_again_it_returns_at_once(server: BatchServer) -> None:
    """The second call needs neither client nor key, and pays nothing."""
    first = bf.run(FRAME, "out/reviews.jsonl", client=server.client(), **ASK)
    log = list(server.requests_log)
    pd.testing.assert_frame_equal(bf.run(FRAME, "out/reviews.jsonl", **ASK), first)
    assert server.requests_log == log


def test_it_goes_on_after_a_timeout(server: BatchServer) -> None:
    """What was begun is not begun again, and the error says what to call."""
    server.settings.endings["reviews.jsonl"] = "in_progress"
    options = {**ASK, "client": server.client()}
    with pytest.raises(bf.WaitTimeout) as caught:
        bf.run(FRAME, "reviews.jsonl", timeout=0, **options)
    assert (str(caught.value), caught.value.hint) == (
        "1 of 1 batch still running after 0 seconds, 'reviews.jsonl' is 'in_progress'; "
        "to continue, call run again",
        "to continue, call run again",
    )
    server.settings.endings.clear()
    assert list(bf.run(FRAME, "reviews.jsonl", **options)["status"]) == ["ok"] * 3
    assert len(server.batches) == 1


def test_answers_with_a_shape_have_columns(server: BatchServer) -> None:
    """The schema that is sent is the one that the answers are read by."""
    rated = bf.run(FRAME, "r.jsonl", client=server.client(), json_schema=Rating, **ASK)
    [line, *_] = Path("r.jsonl").read_text("utf-8").splitlines()
    assert json.loads(line)["body"]["response_format"]["json_schema"]["name"] == "Rating"
    assert str(rated["stars"].dtype) == "Int64"
    assert rated["stars"].notna().all()


class Stop(BaseModel):
    """A part of it."""

    stars: int


class Trip(BaseModel):
    """An answer whose types pandas has only as objects."""

    day: date | None
    tags: list[str]
    first: Stop | None


def test_types_of_answers_do_not_depend_on_them(folder: Path) -> None:
    """Frames that are not of pandas get the types of the schema, also where all is empty."""

    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        status, reply = respond("/v1/chat/completions", body)
        content = '{"day":null,"tags":[],"first":null}'
        reply["choices"][0]["message"]["content"] = content
        return status, reply

    FRAME.to_csv("t.csv", index=False)
    with BatchServer(answer=answer, polls=0) as server:
        how: dict[str, Any] = {**ASK, "json_schema": Trip, "client": server.client()}
        table = bf.run("t.csv", "r.jsonl", **how)
        frame = bf.run(pl.from_pandas(FRAME), "r.jsonl", **how)
    assert [str(table.schema.field(name).type) for name in Trip.model_fields] == [
        "date32[day]",
        "large_list<item: large_string>",
        "struct<stars: int64>",
    ]
    expected = [pl.Date(), pl.List(pl.String), pl.Struct({"stars": pl.Int64})]
    assert [frame.schema[name] for name in Trip.model_fields] == expected


def test_the_path_may_be_a_link(server: BatchServer) -> None:
    """The record is next to the file that it leads to, and is found there again."""
    Path("disk").mkdir()
    Path("r.jsonl").symlink_to(Path("disk/r.jsonl").absolute())
    for _ in range(2):
        rated = bf.run(FRAME, "r.jsonl", client=server.client(), **ASK)
        assert rated["status"].tolist() == ["ok"] * 3
    assert len(server.batches) == 1


def test_failures_are_rows_too(server: BatchServer) -> None:
    """A request that failed and one that never ran have their status beside the row."""
    server.settings.fail_every = 2
    with pytest.warns(UserWarning, match="no answer") as caught:
        failed = bf.run(FRAME, "a.jsonl", client=server.client(), retries=0, **ASK)
    assert [str(one.message) for one in caught] == [
        "1 of 3 requests have no answer (2 ok, 1 http_error (1× server_error)); retry_requests "
        "writes them again"
    ]
    assert caught[0].filename == __file__
    assert list(failed["status"]) == ["ok", "http_error", "ok"]
    server.settings.fail_every = None
    server.settings.done = 0
    server.settings.endings["b.jsonl"] = "expired"
    other = FRAME.assign(text=FRAME["text"] + "?")
    with pytest.warns(UserWarning, match="3 of 3 requests have no answer"):
        expired = bf.run(other, "b.jsonl", client=server.client(), retries=0, **ASK)
    assert list(expired["status"]) == ["expired"] * 3


def test_streams_and_shards(server: BatchServer) -> None:
    """A stream of Arrow batches is read once; request files give their results alone."""
    table = pa.Table.from_pandas(FRAME, preserve_index=False)
    rated = bf.run(table.to_reader(), "r.jsonl", client=server.client(), **ASK)
    assert rated["id"].to_pylist() == [7, 3, 5]
    results = bf.run("r.jsonl")
    assert list(results["custom_id"]) == ["7", "3", "5"]
    assert list(results["content"]) == rated["content"].to_pylist()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((FRAME,), "run needs a path to save the requests of a table to"),
        (("reviews.csv",), "run needs a path to save the requests of a table to"),
        (
            ([{"id": 1}], "r.jsonl"),
            "frame must be a pandas DataFrame or have __arrow_c_stream__ (pyarrow, polars, "
            "DuckDB), not list; make it one with pandas.DataFrame(…)",
        ),
    ],
)
def test_a_path_goes_with_a_frame(arguments: tuple[Any, ...], text: str) -> None:
    """What is missing or too much is said before anything is done."""
    with pytest.raises(TypeError) as caught:
        bf.run(*arguments, prompt_column="text", id_column="id", model="m")
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ({"retries": -1}, "retries must be a whole number from 0, not -1"),
        ({"max_requests": "5"}, "max_requests must be a whole number from 0, not '5'"),
    ],
)
def test_counts_are_whole_numbers(option: dict[str, Any], text: str) -> None:
    """Another value is refused before anything is written."""
    with pytest.raises(ValueError) as caught:
        bf.run(FRAME, "r.jsonl", **option, **ASK)
    assert str(caught.value) == text
    assert not list(Path().iterdir())


def test_rows_without_a_prompt_are_skipped_with_a_word(server: BatchServer) -> None:
    """The warning points at the call, and the status of the row says that it was not asked."""
    frame = FRAME.assign(text=FRAME["text"].replace("three", pd.NA))
    with pytest.warns(UserWarning, match="skipped 1 row without a prompt") as caught:
        rated = bf.run(frame, "r.jsonl", client=server.client(), na="skip", **ASK)
    assert [warning.filename for warning in caught] == [__file__]
    assert list(rated["status"]) == ["ok", "skipped", "ok"]


@pytest.mark.parametrize(
    ("frame", "path", "text"),
    [
        (
            FRAME.assign(model="x", status="y"),
            "r.jsonl",
            "the frame and the results both have 'status', 'model'; pass prefix=\"answer_\", or "
            "columns= with those that you need",
        ),
        (
            FRAME,
            "r.csv",
            "'r.csv' must end in .jsonl, as the service requires; name a file such as "
            "'out/reviews.jsonl'",
        ),
    ],
    ids=["names", "path"],
)
def test_what_would_fail_later_fails_before(
    server: BatchServer, frame: pd.DataFrame, path: str, text: str
) -> None:
    """What would spoil the answers is found out before anything is sent."""
    with pytest.raises(bf.BatchFramesError) as caught:
        bf.run(frame, path, client=server.client(), **ASK)
    assert str(caught.value) == text
    assert server.requests_log == []


def test_an_id_of_a_skipped_row_is_found_twice_before(server: BatchServer) -> None:
    """Rows that are not asked need ids of their own as well, for the join at the end."""
    frame = pd.DataFrame({"id": [1, 2, 2], "text": ["one", None, "two"]})
    with pytest.raises(bf.RequestError) as caught:
        bf.run(frame, "r.jsonl", client=server.client(), na="skip", **ASK)
    assert str(caught.value) == "custom_id must be unique: '2' in row 1 and row 2"
    assert server.requests_log == []


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"columns": ["nope"]}, "the table of results has no column 'nope'; it has 'custom_id', "),
        ({"columns": "contents"}, "the table of results has no column 'contents'; did you mean "),
        ({"dtype_backend": "nope"}, "dtype_backend must be 'numpy_nullable', 'pyarrow' or None, "),
    ],
)
def test_wrong_names_of_options_fail_before(
    server: BatchServer, options: dict[str, Any], text: str
) -> None:
    """What the answers are to look like is checked before anything is sent."""
    with pytest.raises((bf.ColumnError, ValueError)) as caught:
        bf.run(FRAME, "r.jsonl", client=server.client(), **ASK, **options)
    assert str(caught.value).startswith(text)
    assert server.requests_log == []


@pytest.mark.parametrize(
    "options",
    [
        {"max_requests": 1},
        {"retries": 0},
        {"model": "m"},
        {"prefix": "a_"},
        {"confirm": True},
        {"no": 1},
    ],
)
def test_options_of_tables_are_not_ignored_for_request_files(
    server: BatchServer, options: dict[str, Any]
) -> None:
    """What would have no effect is refused before anything is sent."""
    ask = {name: value for name, value in ASK.items() if name != "poll"}
    shards = bf.from_dataframe(FRAME, **ask).save_to_file("r.jsonl")
    [name] = options
    with pytest.raises(TypeError) as caught:
        bf.run(shards, client=server.client(), **options)
    assert str(caught.value) == f"{name} is for a table with a path, not for request files"
    assert server.requests_log == []


def test_every_warning_points_at_the_call(server: BatchServer) -> None:
    """Whatever part of the package warns, the line that is named is the user's."""

    class Named(BaseModel):
        model: str

    frame = FRAME.assign(text=pd.Series(["seven", None, "five"], index=FRAME.index))
    server.settings.fail_every = 2
    ask = {**ASK, "client": server.client(), "na": "skip", "json_schema": Named, "retries": 0}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bf.run(frame, "a.jsonl", **ask)
        bf.run(FRAME, "b.jsonl", client=server.client(), json_schema=Rating, retries=0, **ASK)
        bf.run(["a.jsonl", "b.jsonl"], client=server.client())
    assert {warning.filename for warning in caught} == {__file__}
    assert {warning.category for warning in caught} == {BatchFramesWarning}
    found = {str(warning.message)[:17] for warning in caught}
    assert found == {
        "skipped 1 row wit",
        "1 of 2 requests h",
        "1 of 3 requests h",
        "2 custom_ids have",
        "answer column 'mo",
        "the requests do n",
    }


@pytest.mark.parametrize("frame", [FRAME[:0], FRAME.assign(text=None)], ids=["empty", "skipped"])
@pytest.mark.filterwarnings("ignore:skipped 3 rows")
def test_a_table_without_requests_has_all_columns(frame: pd.DataFrame) -> None:
    """Where there is nothing to ask, nothing is written or sent, and the columns are there."""
    rated = bf.run(frame, "out/r.jsonl", json_schema=Rating, na="skip", **ASK)
    pd.testing.assert_frame_equal(rated[["id", "text"]], frame)
    assert list(rated["status"]) == ["skipped"] * len(frame)
    assert str(rated["stars"].dtype) == "Int64"
    assert not list(Path().rglob("*.jsonl"))


def test_there_is_no_default_model(server: BatchServer) -> None:
    """The model of the original is retired: a batch with it would fail as a whole."""
    options = {name: value for name, value in ASK.items() if name != "model"}
    with pytest.raises(bf.TemplateError) as caught:
        bf.run(FRAME, "r.jsonl", client=server.client(), **options)
    assert str(caught.value) == "there is no model; pass model="
    with pytest.raises(bf.TemplateError) as caught:
        bf.run(FRAME, "r.jsonl", body="x", **ASK)  # type: ignore[arg-type]
    assert str(caught.value) == "body must be a dict, not 'x'"
    rated = bf.run(FRAME, "r.jsonl", client=server.client(), body={"model": "m"}, **options)
    assert list(rated["status"]) == ["ok"] * 3


def test_the_options_are_seen_by_help_and_tab() -> None:
    """What one looks up stands in the signature, and other names are told what was meant."""
    names = inspect.signature(bf.run).parameters
    assert {"model", "system_prompt", "json_schema", "body", "reasoning_effort"} <= names.keys()
    with pytest.raises(TypeError) as caught:
        bf.run(FRAME, "r.jsonl", prompt="text", id_column="id", model="m")  # type: ignore[arg-type]
    assert str(caught.value) == "there is no option 'prompt'; did you mean 'prompt_column'?"


def test_a_plan_says_what_it_costs(server: BatchServer) -> None:
    """Tokens and cost are of the requests that would be sent; without a price none are shown."""
    options = {**ASK, "model": "luna", "body": {"max_completion_tokens": 1_000}}
    with price_tables():
        bf.run(FRAME[:1], "r.jsonl", client=server.client(), **options)
        plan = bf.plan(FRAME, "r.jsonl", **{n: v for n, v in options.items() if n != "poll"})
        left = bf.from_dataframe(FRAME[1:], **{n: v for n, v in options.items() if n != "poll"})
        found = bf.estimate(left)
        ours, theirs = (one.drop(columns="file") for one in (plan.estimate, found))
        pd.testing.assert_frame_equal(ours, theirs)
        total = found.iloc[-1]
        cost = f"{total['input_tokens']} input tokens, $0.0000 to $0.0005"
        assert cost in repr(plan)
        assert cost in plan._repr_html_()
    assert "input tokens" not in repr(plan)


def test_no_more_is_paid_than_allowed(server: BatchServer) -> None:
    """Above ``max_cost``, or if the cost is not known, nothing is sent."""
    limited = {"body": {"max_completion_tokens": 1_000_000}}
    cases: tuple[tuple[dict[str, Any], float, str], ...] = (
        (limited, 0.7, "max_cost=0.7 is less than the cost, $0.0000 to $0.7500"),
        (
            {},
            5,
            "max_cost=5 needs to know the cost, which is $0.0000 or more; "
            "limit the answers, as with body={'max_completion_tokens': 500}",
        ),
        ({"model": "nova"}, 5, "max_cost=5 needs to know the cost, which is unknown"),
    )
    with price_tables():
        for more, most, message in cases:
            options = {**ASK, "model": "luna", "client": server.client(), **more}
            with pytest.raises(bf.BatchFramesError) as caught:
                bf.run(FRAME, "r.jsonl", max_cost=most, **options)
            assert str(caught.value) == message
        assert not server.batches
        options = {**ASK, "model": "luna", "client": server.client(), **limited}
        assert len(bf.run(FRAME, "r.jsonl", max_cost=np.float64(0.8), **options)) == 3
    wrong: Any
    for wrong in (-1, True, "5", float("nan")):
        with pytest.raises(ValueError, match=f"^max_cost must be a number from 0, not {wrong!r}$"):
            bf.run(FRAME, "r.jsonl", max_cost=wrong, **ASK)


def test_what_the_service_would_refuse_is_not_sent(server: BatchServer) -> None:
    """Nothing is asked, sent or left behind of a table with such requests, unless one insists."""
    frame = FRAME.assign(name=["m", "n", "m"])
    options = {**ASK, "model": bf.col("name"), "client": server.client(), "retries": 0}
    asked: list[bf.Plan] = []

    def confirm(plan: bf.Plan) -> bool:
        asked.append(plan)
        return True

    with pytest.raises(bf.BatchFramesError) as caught:
        bf.run(frame, "out/r.jsonl", confirm=confirm, **options)
    assert str(caught.value) == (
        "the service would refuse r.jsonl, line 2 (custom_id '3'): 'body.model' is 'n', but 'm' "
        "in line 1 [mismatched_model]; a batch is for one model; split the table by model, with a "
        "path for each"
    )
    assert (asked, server.requests_log) == ([], [])
    assert [path.name for path in Path("out").rglob("*.json*")] == []
    with pytest.raises(bf.JobError):
        bf.run(frame, "out/r.jsonl", check=False, **options)


def test_request_files_are_checked(server: BatchServer) -> None:
    """Request files are refused before they are sent, unless one insists."""
    path = save_lines("bad.jsonl", {}, {"method": "GET"})
    with pytest.raises(bf.BatchFramesError, match=r"^the service would refuse bad\.jsonl, line 2 "):
        bf.run(path, client=server.client())
    assert server.requests_log == []
    with pytest.raises(bf.JobError):
        bf.run(path, client=server.client(), poll=0.005, check=False)


def test_a_wrong_schema_is_refused_before_request_files_are_sent(server: BatchServer) -> None:
    """What would fail only when the answers are read costs nothing."""
    bf.from_dataframe(FRAME, id_column="id", prompt_column="text", model="m").save_to_file(
        "r.jsonl"
    )
    with pytest.raises(bf.TemplateError):
        bf.run(["r.jsonl"], client=server.client(), json_schema={"type": "array"})
    assert server.batches == []
