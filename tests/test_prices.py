"""What tokens cost: bills worked by hand, and the price library's own computation."""

import sys
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_frames import MissingExtra
from batch_frames.prices import NoPrice, find_rates, price_source
from tests.support.price_tables import price_tables

Row = tuple[int, int, int, int, int]
"""How many requests, and of each the tokens: input, of these cached and written, and output."""


@pytest.fixture
def _tables() -> Iterator[None]:
    with price_tables():
        yield


def bill(model: str, tier: str, rows: list[Row]) -> float:
    """Price requests."""
    repeated = [row[1:] for row in rows for _ in range(row[0])]
    tokens, cached, written, output = np.array(repeated, np.float64).T
    return float(find_rates(model, tier).cost(tokens, output, cached, written).sum())


@pytest.mark.usefixtures("_tables")
@pytest.mark.parametrize(
    ("model", "tier", "rows", "dollars"),
    [
        # 10 million at $0.05 and 2 million at $0.25; twice that live.
        ("luna", "batch", [(1_000, 10_000, 0, 0, 2_000)], 1.00),
        ("luna", "standard", [(1_000, 10_000, 0, 0, 2_000)], 2.00),
        ("luna", "flex", [(1_000, 10_000, 0, 0, 2_000)], 1.00),
        # 27.2 million at $0.05, and with a token more each at $0.10.
        ("luna", "batch", [(100, 272_000, 0, 0, 0)], 1.36),
        ("luna", "batch", [(100, 272_001, 0, 0, 0)], 2.72),
        # $0.68 and $1.50 for the input, $0.25 and $0.375 for a million of output each.
        ("luna", "batch", [(50, 272_000, 0, 0, 20_000), (50, 300_000, 0, 0, 20_000)], 2.805),
        # 2 million at $0.05, 8 million from the cache at $0.005, a million of output at $0.25.
        ("luna", "batch", [(1_000, 10_000, 8_000, 0, 1_000)], 0.39),
        # 10 million at $0.05, and 190 million written at $0.0625.
        ("luna", "batch", [(100_000, 2_000, 0, 1_900, 0)], 12.375),
        # A third each plain at $0.05, cached at $0.005 and written at $0.0625.
        ("luna", "batch", [(100_000, 3_000, 1_000, 1_000, 0)], 11.75),
        # A million at $1, 4 million cached at the $0.50 of live calls, 3 million at $4.
        ("omni", "batch", [(1_000, 5_000, 4_000, 0, 3_000)], 15.00),
        # 800 million at $0.01; live at $0.02.
        ("embed", "batch", [(100_000, 8_000, 0, 0, 0)], 8.00),
        ("embed", "standard", [(100_000, 8_000, 0, 0, 0)], 16.00),
        # Without a batch price in the table, half of the 800 million at $0.02.
        ("vector", "batch", [(100_000, 8_000, 0, 0, 0)], 8.00),
        ("vector", "standard", [(100_000, 8_000, 0, 0, 0)], 16.00),
    ],
)
def test_bills_worked_by_hand(model: str, tier: str, rows: list[Row], dollars: float) -> None:
    """Each request is priced by its own input tokens, cached and written ones apart."""
    assert bill(model, tier, rows) == pytest.approx(dollars, abs=0.0001)


@pytest.mark.usefixtures("_tables")
@pytest.mark.parametrize(
    ("model", "tier", "problem"),
    [
        ("nova", "batch", "no price of 'nova' is known"),
        ("live", "batch", "no batch price of 'live' is known"),
        ("omni", "flex", "no flex price of 'omni' is known"),
        ("vector", "flex", "no flex price of 'vector' is known"),
        ("dear", "batch", "the batch price of 'dear' is above its standard price"),
    ],
)
def test_what_has_no_price(model: str, tier: str, problem: str) -> None:
    """An unknown model has no price, nor has one without a price of the kind, or a wrong one."""
    with pytest.raises(NoPrice) as caught:
        find_rates(model, tier)
    assert str(caught.value) == problem


@pytest.mark.usefixtures("_tables")
def test_tokens_without_a_price_have_no_cost() -> None:
    """Output that the table has no price for makes the cost unknown, not smaller."""
    cost = find_rates("embed").cost(np.array([1e6, 1e6]), np.array([0, 5.0]))
    assert np.array_equal(cost, [0.01, np.nan], equal_nan=True)


@pytest.mark.parametrize(("size", "price"), [("small", 0.01), ("large", 0.065)])
def test_embeddings_have_a_batch_price(size: str, price: float) -> None:
    """In a batch, embeddings cost half of their price of November 2026."""
    pytest.importorskip("genai_prices")
    [[_, found]] = find_rates(f"text-embedding-3-{size}").input
    assert found == pytest.approx(price)


def test_own_prices_count_first() -> None:
    """Prices that are given are those of input, cached or not, and of output."""
    rates = find_rates("gpt-4o", prices={"gpt-4o": (2, 8)})
    cost = rates.cost(np.array([1e6]), np.array([1e6]), 500_000, 500_000)
    assert cost.tolist() == [10]
    for pair in ((1,), (1, 2, 3), (1, -2), ("1", "2"), 5, (True, 1)):
        with pytest.raises(ValueError, match=r"^prices\['m'\] must be two numbers, the prices of"):
            find_rates("m", prices={"m": pair})  # type: ignore[dict-item]


MODELS = ["gpt-6-luna", "gpt-5.6-luna", "gpt-5-mini", "gpt-4o-mini", "o3", "o4-mini", "gpt-4.1"]
CONTEXTS = {"batch": {"processing": "batch"}, "standard": {}, "flex": {"service_tier": "flex"}}


@given(
    model=st.sampled_from(MODELS),
    tier=st.sampled_from(list(CONTEXTS)),
    counts=st.tuples(*[st.integers(0, 300_000)] * 4),
)
def test_prices_are_those_of_the_library(
    model: str, tier: str, counts: tuple[int, int, int, int]
) -> None:
    """A request costs what genai-prices computes for it."""
    genai_prices = pytest.importorskip("genai_prices")
    plain, cached, written, output = counts
    try:
        rates = find_rates(model, tier)
    except NoPrice:
        return
    written *= rates.written is not None
    tokens = plain + cached + written
    usage = genai_prices.Usage(
        input_tokens=tokens,
        cache_read_tokens=cached,
        cache_write_tokens=written,
        output_tokens=output,
    )
    expected = genai_prices.calc_price(
        usage, model, provider_id="openai", price_context=CONTEXTS[tier]
    )
    numbers = (np.array([float(number)]) for number in (tokens, output, cached, written))
    assert rates.cost(*numbers)[0] == pytest.approx(float(expected.total_price))


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without genai-prices the error is the pip command; own prices need none."""
    monkeypatch.setitem(sys.modules, "genai_prices.data_snapshot", None)
    assert find_rates("m", prices={"m": (1, 2)}).input == [(-1, 1.0)]
    for call in (price_source, lambda: find_rates("m")):
        with pytest.raises(MissingExtra) as caught:
            call()
        problem = 'prices need genai-prices; pip install "batch-frames[tokens]"'
        assert str(caught.value) == problem
