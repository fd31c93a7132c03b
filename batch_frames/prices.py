"""Price the tokens of requests, each by its own number of input tokens, in US dollars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt

from batch_frames.display import cost_text, some_of
from batch_frames.errors import BatchFramesError, MissingExtra

__all__ = [
    "NoPrice",
    "Prices",
    "Rates",
    "check_cost",
    "find_rates",
    "price_source",
    "rates_of",
]


Numbers = npt.NDArray[np.float64]

Prices = Mapping[str, tuple[float, float]]
"""For each model the prices of a million input and output tokens."""

TIERS: Mapping[str, Mapping[str, str]] = {
    "batch": {"processing": "batch"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
    "standard": {},
}
"""How genai-prices names what a request is paid as; it takes other names for ``standard``."""

EMBEDDED = 0.5
"""The share of the standard price that embeddings, which have no output tokens, cost in a batch:
genai-prices (0.2.3) has no batch price of them, OpenAI's guide to the Batch API has half of the
standard price, as has LiteLLM's table (1.110.2) for each of them."""

MILLION = 1_000_000


class NoPrice(LookupError):  # noqa: N818
    """A model without a price; the message says why."""


Steps = Sequence[tuple[int, float]]
"""Prices of a million tokens, each with the number of input tokens above which it counts."""


@dataclass(frozen=True)
class Rates:
    """What the tokens of a model cost.

    Attributes:
        input: The price of input tokens.
        output: The price of output tokens; None if that is not known.
        cached: The price of input tokens that are read from the cache; None for that of others.
        written: The price of input tokens that are written to it; None for that of others.
    """

    input: Steps
    output: Steps | None
    cached: Steps | None = None
    written: Steps | None = None

    def cost(
        self,
        tokens: Numbers,
        output: Numbers,
        cached: Numbers | int = 0,
        written: Numbers | int = 0,
    ) -> Numbers:
        """Return the price of each request, NaN where it is not known.

        Args:
            tokens: The input tokens of each, with those of the cache.
            output: The output tokens of each.
            cached: How many of the input tokens are read from the cache.
            written: How many of the others are written to it.
        """
        cached = np.minimum(cached, tokens)
        written = np.minimum(written, tokens - cached)
        total = (tokens - cached - written) * _price(self.input, tokens)
        total += cached * _price(self.cached or self.input, tokens)
        total += written * _price(self.written or self.input, tokens)
        if self.output is None:
            total[output != 0] = np.nan
        else:
            total += output * _price(self.output, tokens)
        return total / MILLION


def _price(steps: Steps, tokens: Numbers) -> Numbers:
    """Return the price of each request, which all of its tokens have."""
    price = np.zeros(len(tokens))
    for start, one in steps:
        price[~(tokens <= start)] = one
    return price


def find_rates(model: str, tier: str = "batch", prices: Prices | None = None) -> Rates:
    """Find what the tokens of a model cost.

    Args:
        model: Its name.
        tier: ``"batch"``, ``"flex"``, ``"priority"`` or ``"standard"``.
        prices: Prices that count instead.

    Raises:
        MissingExtra: If genai-prices is not installed and needed.
        NoPrice: If there is no price of this kind, or it cannot be right.

    Example:
        >>> find_rates("m", prices={"m": (2, 8)}).cost(np.array([1e6]), np.array([5e5])).tolist()
        [6.0]
    """
    if prices and model in prices:
        return _own_rates(model, prices[model])
    known = _known(model)
    if known is None:
        raise NoPrice(f"no price of {model!r} is known")
    context, now = dict(TIERS[tier]), datetime.now(UTC)
    standard = _rates(known.get_prices(now))
    if context and not any(_is_for(variant, context) for variant in known.price_variants or ()):
        if tier == "batch" and standard is not None and standard.output is None:
            return Rates([(start, price * EMBEDDED) for start, price in standard.input], None)
        raise NoPrice(f"no {tier} price of {model!r} is known")
    rates = _rates(known.get_prices(now, context))
    if rates is None:
        raise NoPrice(f"no price of {model!r} for its tokens is known")
    if tier in ("batch", "flex") and standard is not None and _is_above(rates, standard):
        raise NoPrice(f"the {tier} price of {model!r} is above its standard price")
    return rates


def rates_of(
    models: Sequence[str], tier: str, prices: Prices | None
) -> tuple[dict[str, Rates], list[str]]:
    """Find the prices of models, and list what has none and which of the given are of no use.

    Example:
        >>> rates_of(["m"], "batch", {"m": (2, 8), "n": (1, 2)})[1]
        []
    """
    rates, problems = {}, []
    for model in models:
        try:
            rates[model] = find_rates(model, tier, prices)
        except NoPrice as problem:
            problems.append(str(problem))
    unused = [repr(model) for model in prices or () if model not in models]
    if unused and not all(model in (prices or ()) for model in models):
        asked = some_of([*map(repr, models)])
        problems.append(f"prices has {some_of(unused)}, but the requests are for {asked}")
    return rates, problems


def check_cost(low: float, high: float, most: float) -> None:
    """Refuse a cost above ``most``, or one that is not known.

    Raises:
        BatchFramesError: If it is.
    """
    if high <= most:
        return
    problem, hint = f"max_cost={most:,} is less than the cost, {cost_text(low, high)}", None
    if high != high:
        problem = f"max_cost={most:,} needs to know the cost, which is {cost_text(low, high)}"
        hint = (
            "limit the answers, as with body={'max_completion_tokens': 500}" if low == low else None
        )
    raise BatchFramesError(problem, hint=hint)


def price_source() -> str:
    """Name what the prices are from, with its version, as it does not say their date.

    Raises:
        MissingExtra: If genai-prices is not installed.
    """
    _data()
    return f"genai-prices {version('genai-prices')}"


def _data() -> Any:
    try:
        return import_module("genai_prices.data_snapshot")
    except ImportError:
        hint = 'pip install "batch-frames[tokens]"'
        raise MissingExtra("prices need genai-prices", hint=hint) from None


def _known(model: str) -> Any:
    try:
        return _data().get_snapshot().find_provider_model(model, None, "openai", None)[1]
    except LookupError:
        return None


def _is_for(variant: Any, context: Mapping[str, str]) -> bool:
    is_active = variant.constraint is None or variant.constraint.active(datetime.now(UTC))
    return dict(variant.when) == context and is_active


def _own_rates(model: str, pair: Any) -> Rates:
    pair = tuple(pair) if isinstance(pair, (list, tuple)) else (pair,)
    if len(pair) != 2 or not all(type(p) in (int, float) and p >= 0 for p in pair):
        form = "two numbers, the prices of a million input and output tokens"
        raise ValueError(f"prices[{model!r}] must be {form}, not {pair!r}")
    return Rates([(-1, float(pair[0]))], [(-1, float(pair[1]))])


def _rates(found: Any) -> Rates | None:
    """Read the prices of a million tokens."""
    steps = {
        name: _steps(getattr(found, f"{key}_mtok"))
        for name, key in {
            "input": "input", "output": "output", "cached": "cache_read", "written": "cache_write",
        }.items()
    }  # fmt: skip
    given = steps.pop("input")
    return None if given is None else Rates(given, **steps)


def _steps(price: Any) -> Steps | None:
    if price is None:
        return None
    tiers = [(tier.start, float(tier.price)) for tier in getattr(price, "tiers", ())]
    return [(-1, float(getattr(price, "base", price))), *tiers]


def _is_above(rates: Rates, standard: Rates) -> bool:
    """Return whether a price is above the standard one, for any number of input tokens."""
    for name in ("input", "output", "cached", "written"):
        ours, other = getattr(rates, name), getattr(standard, name)
        if ours and other:
            sizes = np.array([start + 1.0 for start, _ in (*ours, *other)])
            if (_price(ours, sizes) > _price(other, sizes)).any():
                return True
    return False
