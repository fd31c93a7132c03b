"""What a call would send is known before it, and nothing is written or sent for it."""

from __future__ import annotations

import inspect
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import batch_frames as bf
from tests.service.answers import chat, error_body
from tests.service.server import BatchServer, reply
from tests.support.price_tables import price_tables

ASK: dict[str, Any] = {"id_column": "id", "prompt_column": "text", "model": "m", "na": "skip"}
QUICK: dict[str, Any] = {"poll": 0.002, "progress": False, "retries": 0}
FRAME = pd.DataFrame(
    {"id": ["a", "b", "c", "d", "e", "f"], "text": ["fine", "lost", "bad", "old", "-", None]},
    index=[6, 5, 4, 3, 2, 1],
)
STATES = ["answered", "under_way", "new", "changed", "failed", "skipped"]


@pytest.fixture
def path(server: BatchServer, tmp_path: Path) -> Path:
    """Have a set of which two requests have failed, one for good, and one is under way."""
    path = tmp_path / "r.jsonl"
    codes = {"lost": (500, "server_error"), "bad": (400, "invalid_image")}

    def answer(body: Any) -> Any:
        code, kind = codes.get(body["messages"][-1]["content"], (200, ""))
        return code, error_body("No.", kind=kind) if kind else chat(body)

    server.settings.answer = answer
    with pytest.warns(UserWarning, match="2 of 4 requests have no answer"):
        bf.run(FRAME[:4], path, client=server.client(), **ASK, **QUICK)
    server.settings.endings["r.round-2.jsonl"] = "in_progress"
    waiting = FRAME[4:5].assign(text="slow")
    with pytest.raises(bf.WaitTimeout):
        bf.run(waiting, path, client=server.client(), timeout=0, **ASK, **QUICK)
    return path


@pytest.fixture
def frame() -> pd.DataFrame:
    """Have a table with a row in each state."""
    texts = pd.Series(["fine", "lost", "bad", "changed", "slow", None], FRAME.index)
    changed = FRAME.assign(text=texts)
    new = pd.DataFrame({"id": ["g", "h"], "text": ["one", "two"]}, index=[0, 7])
    return pd.concat([changed, new])


@pytest.mark.filterwarnings("ignore:skipped 1 row")
def test_each_row_has_its_state(server: BatchServer, path: Path, frame: pd.DataFrame) -> None:
    """A plan counts rows by what would happen to them, and sends and writes nothing."""
    files, log = sorted(path.parent.rglob("*")), list(server.requests_log)
    plan = bf.plan(frame, path, limits=bf.Limits(requests=3), **ASK)
    assert {name: getattr(plan, name) for name in (*STATES, "asked_again")} == {
        **dict.fromkeys(STATES, 1),
        "new": 2,
        "failed": 2,
        "asked_again": 1,
    }
    shards = [(shard.path.name, shard.requests) for shard in plan.shards]
    assert shards == [("r.round-3-00001.jsonl", 3), ("r.round-3-00002.jsonl", 1)]
    assert (plan.requests, plan.nbytes) == (4, sum(shard.nbytes for shard in plan.shards))
    assert [one["custom_id"] for one in plan.sample] == ["b", "d", "g"]
    rows = plan.to_frame()
    pd.testing.assert_index_equal(rows.index, frame.index)
    states = ["answered", "failed", "failed", "changed", "under_way", "skipped", "new", "new"]
    assert rows["plan"].tolist() == states
    assert rows["plan"].cat.categories.tolist() == STATES
    assert rows["asked"].tolist() == [False, True, False, True, False, False, True, True]
    assert rows["custom_id"].fillna("").tolist() == ["a", "b", "c", "d", "e", "", "g", "h"]
    assert repr(plan) == (
        f"Plan(4 requests to send, {plan.nbytes} bytes in 2 files; 1 answered; 1 under_way; 2 new; "
        "1 changed; 2 failed; 1 skipped; 1 asked again)"
    )
    card = plan._repr_html_()
    for part in ("<b>asked again</b> 1", "changed 1", "<td>r.round-3-00002.jsonl</td>"):
        assert part in card
    assert re.findall("<details(.*?)><summary>(.*?)</summary>", card) == [
        (" open", "b"),
        ("", "d"),
        ("", "g"),
    ]
    assert (sorted(path.parent.rglob("*")), server.requests_log) == (files, log)


@pytest.mark.filterwarnings("ignore:skipped 1 row")
def test_run_sends_what_the_plan_said(server: BatchServer, path: Path, frame: pd.DataFrame) -> None:
    """The function that confirms receives the same plan, and decides."""
    server.settings.endings.clear()
    plan = bf.plan(frame, path, **ASK)
    seen: list[bf.Plan] = []
    options = {**ASK, **QUICK, "client": server.client()}
    before = server.batches[:]

    def refuse(plan: bf.Plan) -> bool:
        seen.append(plan)
        return False

    with pytest.raises(bf.BatchFramesError) as caught:
        bf.run(frame, path, confirm=refuse, **options)
    assert str(caught.value) == "nothing was sent, as it was not confirmed"
    assert (seen, server.batches) == ([plan], before)
    with pytest.warns(UserWarning, match="2 of 7 requests have no answer"):
        bf.run(frame, path, confirm=lambda plan: True, **options)
    assert plan.shards == [
        bf.Shard(file, len(file.read_bytes().splitlines()), file.stat().st_size)
        for file in sorted(path.parent.glob("r.round-3.jsonl"))
    ]


@pytest.mark.parametrize("answer", ["y", "n"])
def test_a_person_is_asked(
    server: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    """With ``confirm=True``, Python asks; where nothing would be sent, it does not."""
    asked: list[str] = []

    def ask(text: str) -> str:
        asked.append(text)
        return answer

    monkeypatch.setattr("builtins.input", ask)
    options = {**ASK, **QUICK, "client": server.client(), "confirm": True}
    if answer == "n":
        with pytest.raises(bf.BatchFramesError):
            bf.run(FRAME[:1], tmp_path / "r.jsonl", **options)
    for _ in range(2 * (answer == "y")):
        bf.run(FRAME[:1], tmp_path / "r.jsonl", **options)
    assert asked == [
        "Plan(1 request to send, 169 bytes in 1 file; 1 new)\nSend? [y/N] ",
    ]
    assert len(server.batches) == (answer == "y")


def test_nothing_is_sent_where_nobody_can_be_asked(
    server: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of standard input is a no."""
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(bf.BatchFramesError) as caught:
        bf.run(FRAME[:1], tmp_path / "r.jsonl", confirm=True, client=server.client(), **ASK)
    assert str(caught.value) == "nothing was sent, as it was not confirmed"
    assert not server.requests_log


def test_options_of_run_alone_are_named_as_such(path: Path) -> None:
    """The advice is never to put them into the body of the requests."""
    own = inspect.signature(bf.plan).parameters
    for name in inspect.signature(bf.run).parameters.keys() - own - {"frame_or_shards"}:
        with pytest.raises(TypeError) as caught:
            bf.plan(FRAME, path, **{**ASK, name: None})
        assert str(caught.value) == f"{name!r} is an option of run alone; leave it out"


def test_any_table_goes(server: BatchServer, tmp_path: Path) -> None:
    """Frames come back as they came, and files as Arrow; each is asked the same."""
    table = pa.Table.from_pandas(FRAME[:3], preserve_index=False)
    csv, parquet = tmp_path / "t.csv", tmp_path / "t.parquet"
    FRAME[:3].to_csv(csv, index=False)
    FRAME[:3].to_parquet(parquet)
    path = tmp_path / "out" / "r.jsonl"
    options = {**QUICK, "client": server.client()}
    asked = {name: value for name, value in ASK.items() if name != "na"}
    polars = pl.DataFrame(table)
    for given, kind in (
        (FRAME[:3], pd.DataFrame),
        (polars, pl.DataFrame),
        (polars.lazy(), pl.DataFrame),
        (table, pa.Table),
        (table.to_reader(), pa.Table),
        (csv, pa.Table),
        (str(parquet), pa.Table),
    ):
        rated = bf.run(given, path, columns=["content"], prefix="my_", **asked, **options)
        assert type(rated) is kind
        answers: Any = rated["my_content"]
        assert list(answers.to_pylist() if kind is pa.Table else answers) == [
            "You said: fine",
            "You said: lost",
            "You said: bad",
        ]
    for batch, kind in (
        (bf.from_dataframe(FRAME[:3], **asked), pd.DataFrame),
        (bf.from_csv(csv, **asked), pa.Table),
    ):
        assert type(bf.run(batch, path, **options)) is kind
    assert len(server.batches) == 1


def test_rows_that_ask_the_same_have_one_state(server: BatchServer, tmp_path: Path) -> None:
    """With ``dedupe=True``, a row whose request stands in another row has its state."""
    frame = FRAME.assign(text=["fine", "more", "fine", "more", "fine", "new"])
    options = {**ASK, "dedupe": True}
    bf.run(frame[:5], tmp_path / "r.jsonl", client=server.client(), **options, **QUICK)
    plan = bf.plan(frame, tmp_path / "r.jsonl", **options)
    assert (plan.answered, plan.new, plan.skipped, plan.requests) == (5, 1, 0, 1)
    assert plan.to_frame()["plan"].tolist() == ["answered"] * 5 + ["new"]


def test_columns_of_answers_are_chosen(server: BatchServer, tmp_path: Path) -> None:
    """What ``read_results`` and ``join_results`` have is there in ``run`` as well."""
    options = {**ASK, **QUICK, "client": server.client()}
    frame = FRAME[:2].assign(status="mine")
    path = tmp_path / "r.jsonl"
    rated = bf.run(frame, path, columns=["content"], dtype_backend="pyarrow", **options)
    assert list(rated.columns) == ["id", "text", "status", "content"]
    assert str(rated["content"].dtype).startswith("string") or "pyarrow" in str(
        rated["content"].dtype
    )
    rated = bf.run(frame, path, prefix="my_", usage=False, **options)
    assert "my_output_tokens" not in rated
    assert "my_content" in rated


@pytest.mark.parametrize(
    ("given", "options", "kind", "text"),
    [
        (
            bf.BatchCreator("m", None, system_prompt=None),
            {},
            TypeError,
            "a row is needed for each request, and add_entry has none; pass what from_dataframe "
            "returns, or the files that save_to_file wrote",
        ),
        (
            bf.from_dataframe(FRAME, prompt_column="text", model="m", na="skip"),
            {"model": "n"},
            TypeError,
            "model is passed to what made the requests, not beside them",
        ),
        (
            FRAME,
            {"id_column": "id", "prompt_column": "text"},
            bf.TemplateError,
            "there is no model; pass model=",
        ),
    ],
    ids=["entries", "options", "model"],
)
def test_what_is_no_table_is_refused(
    tmp_path: Path, given: Any, options: dict[str, Any], kind: type[Exception], text: str
) -> None:
    """What cannot be asked row by row is told before anything is written."""
    for verb in (bf.plan, bf.run):
        with pytest.raises(kind) as caught:
            verb(given, tmp_path / "out" / "r.jsonl", **options)
        assert str(caught.value) == text
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_cannot_be_is_refused(tmp_path: Path, frame: pd.DataFrame) -> None:
    """Neither ``plan`` nor ``run`` begins with a set that has no folder."""
    wrong: Any = None
    with pytest.raises(TypeError) as caught:
        bf.plan(frame, wrong, **ASK)
    assert str(caught.value) == "plan needs the path that run saves the requests to"
    file = tmp_path / "t.csv"
    file.write_text("id\n")
    call: Any
    for call in (bf.plan, bf.run):
        with pytest.raises(bf.BatchFramesError) as error:
            call(frame, file / "r.jsonl", **ASK)
        assert str(error.value) == f"'{file}' is not a folder; save to another path"


def _refused(server: BatchServer) -> None:
    """Let the service refuse the upload, as with a wrong key."""
    server.when("POST /files", "asked", reply(401))


def _no_room(server: BatchServer) -> None:
    """Let the batch of the first file go on, so that the second waits for room."""
    server.settings.endings["r-00001.jsonl"] = "in_progress"


@pytest.mark.parametrize("hindered", [_refused, _no_room])
def test_what_waits_in_saved_files_is_still_to_be_sent(
    server: BatchServer, tmp_path: Path, hindered: Callable[[BatchServer], None]
) -> None:
    """It is planned, limited and confirmed like new requests, and sent as it was saved."""
    frame, path = FRAME[:4], tmp_path / "r.jsonl"
    limits = bf.Limits(requests=2)
    ask = {**ASK, "model": "luna", "body": {"max_completion_tokens": 9}}
    options = {**ask, **QUICK, "client": server.client(), "limits": limits}
    hindered(server)
    with pytest.raises((bf.WaitTimeout, openai.AuthenticationError)):
        bf.run(frame, path, max_enqueued_tokens=1, timeout=0, **options)
    saved = sorted(path.parent.glob("r-*.jsonl"))[-(4 - 2 * len(server.batches)) // 2 :]
    plan = bf.plan(frame, path, limits=limits, **ask)
    assert [shard.path for shard in plan.shards] == saved
    left = 2 * len(saved)
    assert (plan.requests, plan.new, plan.under_way) == (left, left, 4 - left)
    assert plan.to_frame()["asked"].tolist() == [False] * (4 - left) + [True] * left
    assert plan.estimate["requests"].tolist() == [2] * len(saved) + [left]
    sent = len(server.batches)
    for limit, text in (
        ({"max_requests": left - 1}, f"{left} requests would be sent, but max_requests={left - 1}"),
        ({"max_cost": 0}, "max_cost"),
        ({"confirm": plan.__ne__}, "nothing was sent, as it was not confirmed"),
    ):
        with price_tables(), pytest.raises(bf.BatchFramesError, match=f"^{re.escape(text)}"):
            bf.run(frame, path, **options, **limit)
    assert len(server.batches) == sent
    server.settings.endings.clear()
    rated = bf.run(frame, path, max_requests=left, **options)
    assert rated["status"].tolist() == ["ok"] * 4
    assert len(server.batches) == 2
