"""Plots show the counts that a loop over the rows finds."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from matplotlib import pyplot

import batch_frames as bf

RESULTS = pd.DataFrame(
    {
        "custom_id": [str(n) for n in range(60)],
        "status": pd.Categorical((["ok"] * 5 + ["http_error"]) * 10),
        "stars": pd.array(([1, 5, 3, 5, None, None]) * 10, "Int64"),
        "mood": pd.Categorical(["good", "bad", "good"] * 20, ["bad", "good", "odd"]),
        "tags": [["a", "b"], ["a"], []] * 20,
        "score": np.linspace(0, 1, 60),
        "fine": pd.array([True, False, None] * 20, "boolean"),
        "input_tokens": pd.array([100, 200, None] * 20, "Int64"),
        "output_tokens": pd.array([10, 20, None] * 20, "Int64"),
        "model": ["m", "n", None] * 20,
    }
)


def bars(axes: Any) -> dict[str, float]:
    """Return the lengths of the bars of a plot by their names."""
    names = [label.get_text() for label in axes.get_yticklabels()]
    return dict(zip(names, [patch.get_width() for patch in axes.patches], strict=True))


def plots(results: Any, column: str | None = None) -> dict[str, Any]:
    """Return the plots of results by their titles."""
    figure = bf.plot_results(results, column)
    figure.draw_without_rendering()
    return {axes.get_title(): axes for axes in figure.axes}


def test_statuses_and_tokens_are_counted() -> None:
    """A bar for each status, a histogram of both kinds of tokens, and their sums by model."""
    drawn = plots(RESULTS)
    assert list(drawn) == ["requests by status", "tokens of a request", "tokens by model"]
    assert bars(drawn["requests by status"]) == {"ok": 50, "http_error": 10}
    legend = drawn["tokens of a request"].get_legend().get_texts()
    assert {one.get_text() for one in legend} == {"input_tokens", "output_tokens"}
    by_model = drawn["tokens by model"]
    assert [one.get_text() for one in by_model.get_yticklabels()] == ["n", "m"]
    widths = [[patch.get_width() for patch in one.patches] for one in by_model.containers]
    assert widths == [[4_000, 2_000], [400, 200]]
    assert [one.get_text() for one in by_model.texts] == ["4,400", "2,200"]
    assert pyplot.get_fignums() == [], "a notebook shows the figure once"


def test_few_requests_have_whole_numbers() -> None:
    """No axis that counts is divided into parts of a request."""
    drawn = plots(RESULTS.head(2))
    counted = [drawn["requests by status"].xaxis, drawn["tokens of a request"].yaxis]
    assert [one for axis in counted for one in axis.get_majorticklocs() if one % 1] == []


def test_the_cost_of_each_model_is_that_of_summarize() -> None:
    """Models have a bar, the dearest first; those without a price are named, and have none."""
    names = ["gpt-4o-mini", "llama", "gpt-4o"]
    results = RESULTS.assign(model=names * 20, input_tokens=9_000, output_tokens=5)
    drawn = plots(results)["cost by model"]
    costs = {
        name: bf.summarize(results[results["model"] == name])["cost"].sum(skipna=False)
        for name in ("gpt-4o", "gpt-4o-mini", "llama")
    }
    assert bars(drawn) == pytest.approx({**costs, "llama": 0})
    assert list(bars(drawn)) == list(costs)
    shown = [f"${costs['gpt-4o']:.4f}", f"${costs['gpt-4o-mini']:.4f}", "unknown"]
    assert [one.get_text() for one in drawn.texts] == shown


def test_costs_that_are_not_known_have_no_plot(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is left out where no model has a price, and where genai-prices is not installed."""
    assert "cost by model" not in plots(RESULTS)
    priced = RESULTS.assign(model="gpt-4o")
    assert "cost by model" in plots(priced)
    monkeypatch.setitem(sys.modules, "genai_prices.data_snapshot", None)
    assert "cost by model" not in plots(priced)


@pytest.mark.parametrize(("models", "scale"), [(1, 1), (5, 100), (20, 100_000)])
def test_labels_do_not_overlap(models: int, scale: int) -> None:
    """Names, numbers and the legend are legible with any number of models, and long names."""
    names = [f"ft:gpt-4o-2024-08-06:an-organisation:reviews:{n:08}" for n in range(models)]
    names = [name if n % 2 else f"gpt-4o-{n}" for n, name in enumerate(names)]
    names[0] = "gpt-4o-2024-08-06"
    used = [scale * n for n in range(40, 100)]
    results = RESULTS.assign(model=(names * 60)[:60], input_tokens=used, output_tokens=used)
    figure = bf.plot_results(results, "score")
    for _ in range(2):  # as savefig does, for the layout of long names
        figure.draw_without_rendering()
    assert len(figure.axes) == 5
    for axes in figure.axes:
        (left, right), (bottom, top) = sorted(axes.get_xlim()), sorted(axes.get_ylim())
        texts = [one for one in axes.get_xticklabels() if left <= one.get_position()[0] <= right]
        texts += [one for one in axes.get_yticklabels() if bottom <= one.get_position()[1] <= top]
        boxes = [one.get_window_extent() for one in (*texts, *axes.texts)]
        assert [(a, b) for a in boxes for b in boxes if a is not b and a.overlaps(b)] == []
        ends = [end for box in boxes for end in (box.min, box.max)]
        assert [end for end in ends if not figure.bbox.contains(*end)] == []
    legend = figure.axes[1].get_legend()
    assert legend is not None
    highest = max(patch.get_window_extent().ymax for patch in figure.axes[1].patches)
    assert highest < legend.get_window_extent().ymin


def test_text_is_shown_as_it_is() -> None:
    """Dollars are no formula, equal short forms are several bars, and lines are joined."""
    words = ["$a$ and $b", f"{'x' * 20}1{'y' * 20}", f"{'x' * 20}2{'y' * 20}", "two\nlines"]
    axes = plots(RESULTS.assign(word=words * 15), "word")["word"]
    shown = [one.get_text() for one in axes.get_yticklabels()]
    assert sorted(shown) == ["$a$ and $b", "two lines", *[f"{'x' * 11}…{'y' * 12}"] * 2]
    assert [patch.get_width() for patch in axes.patches] == [15] * 4


@pytest.mark.parametrize(
    ("column", "counts"),
    [
        ("stars", Counter({"1": 10, "3": 10, "5": 20})),
        ("mood", Counter({"good": 40, "bad": 20, "odd": 0})),
        ("tags", Counter({"a": 40, "b": 20})),
        ("fine", Counter({"True": 20, "False": 20})),
    ],
)
def test_answers_of_a_column_are_counted(column: str, counts: Counter[str]) -> None:
    """Each value has a bar, as has each item of the lists."""
    assert bars(plots(RESULTS, column)[column]) == counts


def test_many_numbers_are_a_histogram() -> None:
    """The area of the histogram is all rows."""
    axes = plots(RESULTS, "score")["score"]
    assert sum(patch.get_height() for patch in axes.patches) == len(RESULTS)


def test_rare_values_are_counted_not_drawn() -> None:
    """Twelve bars are shown, and how many values are not."""
    names = [f"v{n:02d}" for n in range(60)]
    axes = plots(RESULTS.assign(model=names, word=names), "word")["word"]
    assert len(axes.patches) == 12
    assert axes.get_xlabel() == "48 more values are not shown"


def test_joined_results_and_other_frames_are_understood() -> None:
    """A prefix is found, and a column is named as it stands in the frame, polars too."""
    joined = RESULTS.add_prefix("a_")
    assert bars(plots(joined, "a_stars")["a_stars"]) == {"1": 10, "3": 10, "5": 20}
    assert bars(plots(joined, "stars")["stars"]) == {"1": 10, "3": 10, "5": 20}
    frame = pl.from_pandas(RESULTS.drop(columns="tags"))
    assert bars(plots(frame, "stars")["stars"]) == {"1": 10, "3": 10, "5": 20}


def test_results_without_usage_or_rows_are_drawn() -> None:
    """What is not known is left out."""
    assert list(plots(RESULTS[["custom_id", "status"]])) == ["requests by status"]
    drawn = plots(RESULTS.drop(columns="model"))
    assert list(drawn) == ["requests by status", "tokens of a request"]
    assert len(plots(RESULTS.iloc[:0])["requests by status"].patches) == 0


def test_a_wrong_column_is_named() -> None:
    """The message names the column that may be meant."""
    with pytest.raises(bf.ColumnError) as caught:
        bf.plot_results(RESULTS, "star")
    assert str(caught.value) == "the table of results has no column 'star'; did you mean 'stars'?"


def test_a_missing_matplotlib_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is the command that installs it."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(bf.MissingExtra) as caught:
        bf.plot_results(RESULTS)
    assert str(caught.value) == ('plot_results needs matplotlib; pip install "batch-frames[plot]"')
