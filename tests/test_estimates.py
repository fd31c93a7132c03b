"""Tokens, cost and time of requests that were not sent yet."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import batch_frames as bf
from batch_frames import estimates
from batch_frames.errors import BatchFramesWarning
from batch_frames.prices import price_source
from tests.support.marks import slow
from tests.support.price_tables import price_tables

PRICES = {"m": (2.0, 8.0)}
NUMBERS = ["requests", "input_tokens", "output_low", "output_tokens", "output_high"]
COSTS = ["cost_low", "cost", "cost_high"]


@pytest.fixture
def _tables() -> Iterator[None]:
    with price_tables():
        yield


def save(path: Path, *bodies: Any, url: str = "/v1/embeddings", model: str = "m") -> Path:
    """Save a request for each body; a number is an input of so many tokens."""
    lines = []
    for number, body in enumerate(bodies):
        body = {"input": [1] * body} if isinstance(body, int) else body
        request = {"custom_id": f"r{number}", "method": "POST", "url": url}
        lines.append(json.dumps({**request, "body": {"model": model, **body}}) + "\n")
    path.write_text("".join(lines))
    return path


def chats(path: Path, *bodies: Any, system: str = "Be brief.", model: str = "m") -> Path:
    """Save a chat for each body."""
    messages = [{"role": "system", "content": system}, {"role": "user", "content": "Hello!"}]
    every = ({"messages": messages, **body} for body in bodies)
    return save(path, *every, url="/v1/chat/completions", model=model)


def total(frame: pd.DataFrame) -> dict[str, Any]:
    """Return the row of the total, None where something is not known."""
    row = frame.iloc[-1].astype(object)
    return {str(name): None if pd.isna(value) else value for name, value in row.items()}


def test_there_is_a_row_for_each_file_and_one_for_all(tmp_path: Path) -> None:
    """Each file has its requests, bytes, tokens and cost, and the last row has their sums."""
    paths = [save(tmp_path / "a.jsonl", 3, 5), save(tmp_path / "b.jsonl", 7)]
    frame = bf.estimate(paths, prices=PRICES, max_enqueued_tokens=6)
    sizes = [path.stat().st_size for path in paths]
    assert frame["file"].tolist() == [*map(str, paths), "total"]
    assert frame["nbytes"].tolist() == [*sizes, sum(sizes)]
    assert frame[NUMBERS].to_numpy().tolist() == [
        [2, 8, 0, 0, 0],
        [1, 7, 0, 0, 0],
        [3, 15, 0, 0, 0],
    ]
    assert frame["cost"].tolist() == pytest.approx([16e-6, 14e-6, 30e-6])
    assert frame["days"].tolist() == [2, 2, 3]
    assert frame["counted"].tolist() == ["estimated"] * 3
    assert frame.attrs == {"tier": "batch", "prices": price_source()}
    assert bf.estimate(str(tmp_path / "*.jsonl"), prices=PRICES)["file"].tolist() == [
        *map(str, paths),
        "total",
    ]


def test_a_creator_is_estimated_as_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests that were not saved count as they would in their files, also those of a stream."""
    limits = bf.Limits(requests=2)
    monkeypatch.setattr(estimates, "LIMITS", limits)
    table = pa.table({"id": ["a", "b", "c"], "text": ["One.", "One and two.", "Three! 日本語"]})
    stream = pa.RecordBatchReader.from_batches(table.schema, table.to_batches())
    batch = bf.from_dataframe(stream, id_column="id", prompt_column="text", model="gpt-4o")
    batch.add_entry("d", "Four.")
    frame = bf.estimate(batch, prices={"gpt-4o": (1, 1)})
    shards = batch.save_to_file(tmp_path / "x.jsonl", limits=limits)
    expected = bf.estimate(shards, prices={"gpt-4o": (1, 1)})
    pd.testing.assert_frame_equal(frame.drop(columns="file"), expected.drop(columns="file"))
    assert frame["file"].tolist() == ["requests-00001.jsonl", "requests-00002.jsonl", "total"]
    assert frame["requests"].tolist() == [2, 2, 4]
    assert frame["counted"].tolist() == ["exact"] * 3


@pytest.mark.parametrize(
    ("bodies", "given", "expected"),
    [
        ([{}, {}], None, [0, None, None]),
        ([{"max_completion_tokens": 100}, {"max_tokens": 50, "n": 2}], None, [0, None, 200]),
        ([{"max_completion_tokens": 100}, {}], None, [0, None, None]),
        ([{}, {}], 40, [80, 80, 80]),
        ([{}, {}], (40, 60), [80, None, 120]),
        ([{"max_completion_tokens": 10}, {}], 40, [50, 50, 50]),
    ],
)
def test_answers_are_as_long_as_is_known(
    tmp_path: Path, bodies: Any, given: Any, expected: list[int | None]
) -> None:
    """The range of the output is what is given, and at most what the bodies allow."""
    path = chats(tmp_path / "a.jsonl", *bodies)
    found = total(bf.estimate(path, output_tokens=given, prices={"m": (0, 1_000_000)}))
    assert [found[name] for name in NUMBERS[2:]] == expected
    assert [found[name] for name in COSTS] == expected


@pytest.mark.usefixtures("_tables")
def test_requests_are_priced_one_by_one(tmp_path: Path) -> None:
    """Only a request that is itself above a number of tokens has the price for that."""
    path = save(tmp_path / "a.jsonl", 150_000, 150_000, 272_000, model="luna")
    assert total(bf.estimate(path))["cost"] == pytest.approx(0.572 * 0.05)
    path = save(tmp_path / "b.jsonl", 272_001, 100, model="luna")
    assert total(bf.estimate(path))["cost"] == pytest.approx(0.272001 * 0.1 + 0.0001 * 0.05)
    assert total(bf.estimate(path, tier="flex"))["cost"] == total(bf.estimate(path))["cost"]
    live = total(bf.estimate(path, tier="standard"))["cost"]
    assert live == pytest.approx(2 * total(bf.estimate(path))["cost"])


@pytest.mark.usefixtures("_tables")
def test_the_range_reaches_from_reads_to_writes_of_the_cache(tmp_path: Path) -> None:
    """Constant beginnings may be read from the cache, and whole prompts be written to it."""
    system = "word " * 2_000
    path = chats(tmp_path / "a.jsonl", *[{}] * 11, system=system, model="luna")
    found = total(bf.estimate(path, output_tokens=0))
    each = found["input_tokens"] / 11
    assert 2_000 < each < 2_048
    assert found["cost"] == pytest.approx(11 * each * 0.05e-6)
    assert found["cost_high"] == pytest.approx(11 * each * 0.0625e-6)
    read = 10 * 1_920
    assert found["cost_low"] == pytest.approx((11 * each - read) * 0.05e-6 + read * 0.005e-6)
    explicit = {"prompt_cache_options": {"mode": "explicit"}}
    path = chats(tmp_path / "b.jsonl", *[explicit] * 11, system=system, model="luna")
    found = total(bf.estimate(path, output_tokens=0))
    assert found["cost_high"] == pytest.approx(found["cost"])


@pytest.mark.usefixtures("_tables")
def test_a_model_without_a_price_has_tokens(tmp_path: Path) -> None:
    """Where there is no price, the cost is missing, and a warning says why."""
    paths = [
        save(tmp_path / f"{model}.jsonl", 5, model=model) for model in ("luna", "nova", "live")
    ]
    with pytest.warns(BatchFramesWarning) as caught:
        frame = bf.estimate(paths)
    assert [str(warning.message) for warning in caught] == [
        f"no price of 'nova' is known; no batch price of 'live' is known ({price_source()}); "
        "pass prices={model: (input, output)}, in dollars per million tokens"
    ]
    assert frame["input_tokens"].tolist() == [5, 5, 5, 15]
    assert frame["cost"].isna().tolist() == [False, True, True, True]
    own = {"nova": (1, 0), "live": (1, 0)}
    assert total(bf.estimate(paths, prices=own))["cost"] == pytest.approx(10.25e-6)


@pytest.mark.usefixtures("_tables")
def test_a_price_of_another_model_is_named(tmp_path: Path) -> None:
    """A name that is in no request is warned of if a request has no price of yours."""
    path = save(tmp_path / "a.jsonl", 5, model="luna")
    with pytest.warns(BatchFramesWarning) as caught:
        bf.estimate(path, prices={"lune": (1, 1)})
    assert [str(warning.message) for warning in caught] == [
        f"prices has 'lune', but the requests are for 'luna' ({price_source()}); "
        "pass prices={model: (input, output)}, in dollars per million tokens"
    ]
    bf.estimate(path, prices={"luna": (1, 1), "nova": (1, 1)})


def test_an_image_has_no_number_of_tokens(tmp_path: Path) -> None:
    """Where one request has an image, tokens and cost of its file are not known."""
    image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    path = chats(tmp_path / "a.jsonl", {}, {"messages": [{"role": "user", "content": [image]}]})
    frame = bf.estimate(path, output_tokens=5, prices=PRICES, max_enqueued_tokens=10)
    found = total(frame)
    assert (found["requests"], found["counted"], found["output_tokens"]) == (2, "unknown", 10)
    assert [found[name] for name in ("input_tokens", *COSTS, "days")] == [None] * 5


def results(tokens: Any) -> pd.DataFrame:
    """Return results whose answers have these tokens."""
    status = np.where(pd.isna(tokens), "expired", "ok")
    return pd.DataFrame({"status": status, "output_tokens": pd.array(tokens, "Int64")})


def lengths(kind: str, random: np.random.Generator) -> Any:
    """Draw how many tokens the answers of a table have."""
    if kind == "even":
        return random.gamma(4, 60, 1_000)
    if kind == "skewed":
        return random.lognormal(5.5, 1, 1_000)
    is_long = random.random(1_000) < float(kind)
    return np.where(is_long, random.lognormal(8, 0.5, 1_000), random.lognormal(5, 0.5, 1_000))


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        ("even", 10),
        *(slow(*one) for one in [("even", 30), ("skewed", 10), ("skewed", 30)]),
        *(slow(*one) for one in [("0.3", 10), ("0.2", 30), ("0.1", 30), ("0.1", 100)]),
    ],
)
def test_the_interval_of_a_pilot_holds_the_total(kind: str, size: int) -> None:
    """For 93 of 100 tables or more, the interval of a few rows holds the sum of all."""
    random = np.random.default_rng(size)
    held = 0
    for _ in range(300):
        table = np.ceil(lengths(kind, random))
        output = estimates._output(None, results(random.choice(table, size, replace=False)))
        low, mean, high = (each.sum() for each in output.each(np.full(len(table), np.nan)))
        assert low <= mean <= high
        held += low <= table.sum() <= high
    assert held >= 300 * 0.93


def test_a_pilot_gives_mean_and_interval(tmp_path: Path) -> None:
    """Its mean is that of the answers it has; the interval is the same each time."""
    path = chats(tmp_path / "a.jsonl", *[{}] * 100)
    pilot = results([100, 300, None, 200])
    frame = bf.estimate(path, pilot=pilot, prices={"m": (0, 1_000_000)})
    found = total(frame)
    assert found["output_tokens"] == found["cost"] == 20_000
    assert 0 <= found["output_low"] < 15_000 < 25_000 < found["output_high"]
    pd.testing.assert_frame_equal(
        frame, bf.estimate(path, pilot=pilot, prices={"m": (0, 1_000_000)})
    )
    found = total(bf.estimate(path, pilot=results([200, 200, 200]), prices=PRICES))
    assert [found[name] for name in NUMBERS[2:]] == [20_000] * 3
    limited = chats(tmp_path / "b.jsonl", *[{"max_completion_tokens": 220}] * 100)
    assert total(bf.estimate(limited, pilot=pilot, prices=PRICES))["output_high"] == 22_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"tier": "gratis"},
            "tier must be 'batch', 'flex', 'priority', 'standard', not 'gratis'",
        ),
        (
            {"output_tokens": (5, 3)},
            "output_tokens must be a number, or the lowest and the highest, not (5, 3)",
        ),
        (
            {"output_tokens": -1},
            "output_tokens must be a number, or the lowest and the highest, not -1",
        ),
        ({"output_tokens": 5, "pilot": results([5])}, "pass output_tokens= or pilot=, not both"),
        (
            {"pilot": results([5, None, 6])},
            "pilot must have 3 results with output_tokens or more, not 2",
        ),
        ({"max_enqueued_tokens": 0}, "max_enqueued_tokens must be a whole number from 1, not 0"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    """An argument that is not what it should be is named, before anything is read."""
    with pytest.raises(ValueError) as caught:
        bf.estimate("nothing.jsonl", **arguments)
    assert str(caught.value) == message


def test_wrong_lines(tmp_path: Path) -> None:
    """A line that is no request, or names no model, is an error with its place."""
    path = save(tmp_path / "a.jsonl", 5)
    for line, problem in (
        ('{"custom_id": "b"}', "not a request: it has no 'body' that is an object"),
        ('{"custom_id": "b", "url": "/v1", "body": {}}', "it has no 'model' that is text"),
    ):
        path.write_text(path.read_text().split("\n")[0] + "\n\n" + line)
        with pytest.raises(bf.LineError) as caught:
            bf.estimate(path, prices=PRICES)
        assert str(caught.value) == f"{path}, line 3: {problem}"
