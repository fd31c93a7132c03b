"""A price table for genai-prices that does not change with its versions."""

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest

__all__ = ["price_tables"]

PAST = dt.date(2026, 1, 1)
LONG = {
    "input_mtok": (0.10, 0.20), "cache_read_mtok": (0.01, 0.02),
    "cache_write_mtok": (0.125, 0.25), "output_mtok": (0.50, 0.75),
}  # fmt: skip
"""Prices up to 272,000 input tokens, and above."""

HALF = {name: (low / 2, high / 2) for name, (low, high) in LONG.items()}
TABLES: dict[str, dict[str, dict[str, Any]]] = {
    "luna": {"standard": LONG, "processing": HALF, "service_tier": HALF},
    "omni": {
        "standard": {"input_mtok": 2, "cache_read_mtok": 0.5, "output_mtok": 8},
        "processing": {"input_mtok": 1, "output_mtok": 4},
    },
    "embed": {"standard": {"input_mtok": 0.02}, "processing": {"input_mtok": 0.01}},
    "vector": {"standard": {"input_mtok": 0.02}},
    "dear": {
        "standard": {"input_mtok": 2, "output_mtok": 8},
        "processing": {"input_mtok": 1, "output_mtok": 9},
    },
    "live": {"standard": {"input_mtok": 2, "output_mtok": 8}},
}
"""By model the standard prices, and those in a batch and with flex, where there are some."""


@contextmanager
def price_tables() -> Iterator[None]:
    """Let genai-prices know these tables alone."""
    pytest.importorskip("genai_prices")
    from genai_prices import data_snapshot, types

    def price(value: Any) -> Any:
        if not isinstance(value, tuple):
            return Decimal(str(value))
        base, above = (Decimal(str(one)) for one in value)
        return types.TieredPrices(base, [types.Tier(272_000, above)])

    def prices(table: dict[str, Any]) -> types.ModelPrice:
        return types.ModelPrice(**{name: price(value) for name, value in table.items()})

    names = {"processing": "batch", "service_tier": "flex"}
    models = [
        types.ModelInfo(
            model,
            types.ClauseEquals(model),
            context_window=400_000,
            prices=prices(tables["standard"]),
            price_variants=[
                types.PriceVariant(
                    {key: name}, prices(tables[key]), types.StartDateConstraint(PAST)
                )
                for key, name in names.items()
                if key in tables
            ],
        )
        for model, tables in TABLES.items()
    ]
    provider = types.Provider("openai", "OpenAI", "https://api.openai.com", models=models)
    data_snapshot.set_custom_snapshot(data_snapshot.DataSnapshot([provider], False))
    try:
        yield
    finally:
        data_snapshot.set_custom_snapshot(None)
