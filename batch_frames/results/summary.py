"""Count results by status, and draw them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from batch_frames.display import COLORS, GREY
from batch_frames.errors import MissingExtra
from batch_frames.files import LIVE_ENDINGS
from batch_frames.frames import find_columns
from batch_frames.prices import TIERS, NoPrice, find_rates
from batch_frames.progress import warn
from batch_frames.results.fields import FIELDS, RESULTS, STATUSES, UNANSWERED, own_results
from batch_frames.results.match import result_ranks
from batch_frames.results.outcomes import is_lasting

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "plot_results",
    "result_costs",
    "summarize",
    "summary_line",
    "warn_of_unanswered",
    "with_cost",
]


Numbers = npt.NDArray[np.float64]

TOKEN_COLUMNS = ("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens")


BLUE = "#3b82c4"

TOKENS = {"input_tokens": BLUE, "output_tokens": "#d9913a"}

MOST_BARS = 12
"""How many values a plot of bars shows."""

BINS = 30


def summarize(results: Any) -> pd.DataFrame:
    """Count requests and tokens by status and error code.

    Args:
        results: What ``read_results``, ``join_results`` or ``run`` returned.

    Returns:
        A DataFrame with a row for each pair of ``status`` and ``error_code``, the better status and
        the more frequent code first; the columns are ``requests``, ``share`` (of all requests, from
        0 to 1), the sums of those token columns that ``results`` has and, where genai-prices is
        installed (``batch-frames[tokens]``), ``cost`` in dollars. That is the price of the tokens
        that the service reports, each request by itself: in a batch, or for answers of
        ``run_local`` by their ``service_tier``. It is missing where a model has no price.

    Raises:
        TypeError: If ``results`` is not a frame.
        ColumnError: If it has no column of statuses, or several that may be it.

    Example:
        >>> frame = pd.DataFrame({"custom_id": ["a", "b", "c"], "status": ["ok", "ok", "expired"]})
        >>> summarize(frame)[["status", "requests"]].to_numpy().tolist()
        [['ok', 2], ['expired', 1]]
    """
    results = own_results(results)
    ranks = result_ranks(results)
    codes = results["error_code"] if "error_code" in results else pd.Series(pd.NA, results.index)
    frame = pd.DataFrame(
        {"status": ranks, "error_code": codes.astype(object).to_numpy(), "requests": 1}
    )
    tokens = [name for name in FIELDS if name.endswith("_tokens") and name in results]
    for name in tokens:
        frame[name] = results[name].to_numpy("int64", na_value=0)
    if (costs := result_costs(results)) is not None:
        frame["cost"], frame["unpriced"] = costs, np.isnan(costs)
    summed = frame.groupby(["status", "error_code"], dropna=False, sort=False).sum().reset_index()
    if "cost" in summed:
        summed["cost"] = summed["cost"].mask(summed.pop("unpriced") > 0)
    summed = summed.sort_values(["status", "requests"], ascending=[True, False], kind="stable")
    summed.insert(3, "share", summed["requests"] / max(len(results), 1))
    names = summed["status"].map(dict(enumerate(STATUSES)))
    summed["status"] = pd.Categorical(names, STATUSES)
    summed["error_code"] = summed["error_code"].astype("string")
    return summed.reset_index(drop=True)


def result_costs(results: pd.DataFrame) -> Numbers | None:
    """Return what each result costs, NaN where that is not known, and 0 without tokens.

    Returns:
        The costs; None without the columns of tokens or without genai-prices.
    """
    if not {"model", "input_tokens", "output_tokens"} <= {*results.columns}:
        return None
    counts = {name: _numbers(results, name) for name in TOKEN_COLUMNS}
    tokens, output, cached, written = counts.values()
    costs = np.where((tokens > 0) | (output > 0), np.nan, 0.0)
    tiers = _tiers(results)
    groups: dict[tuple[str, str], list[int]] = {}
    for row, model in enumerate(results["model"].astype(object)):
        if isinstance(model, str):
            groups.setdefault((model, tiers[row]), []).append(row)
    for (model, tier), rows in groups.items():
        try:
            rates = find_rates(model, tier)
        except MissingExtra:
            return None
        except NoPrice:
            continue
        costs[rows] = rates.cost(tokens[rows], output[rows], cached[rows], written[rows])
    return costs


def with_cost(frame: Any, results: pd.DataFrame) -> Any:
    """Note in the ``attrs`` of a frame of pandas what results cost, if that is known."""
    costs = result_costs(results)
    if costs is not None and isinstance(frame, pd.DataFrame) and not np.isnan(costs).any():
        frame.attrs["cost"] = float(costs.sum())
    return frame


def _numbers(results: pd.DataFrame, name: str) -> Numbers:
    if name not in results:
        return np.zeros(len(results))
    numbers: Numbers = results[name].to_numpy(np.float64, na_value=0)
    return numbers


def _tiers(results: pd.DataFrame) -> list[str]:
    """Return what each result was paid as, which a live answer itself says."""
    files = results["file"].astype(object) if "file" in results else [""] * len(results)
    served: Any = [None] * len(results)
    if "service_tier" in results:
        served = results["service_tier"].astype(object)
    live = (tier if tier in TIERS and tier != "batch" else "standard" for tier in served)
    return [
        tier if str(file).endswith(LIVE_ENDINGS) else "batch"
        for file, tier in zip(files, live, strict=True)
    ]


def summary_line(results: pd.DataFrame) -> str:
    """Write the numbers of requests by status, with error codes, in one line.

    Example:
        >>> frame = pd.DataFrame({"custom_id": ["a", "b"], "status": ["ok", "http_error"]})
        >>> summary_line(frame.assign(error_code=[None, "server_error"]))
        '1 ok, 1 http_error (1× server_error)'
    """
    counted = summarize(results[["status", *({"error_code"} & {*results.columns})]])
    parts = []
    totals = counted.groupby("status", observed=True)["requests"].sum()
    for status in totals.sort_values(ascending=False, kind="stable").index:
        rows = counted[counted["status"] == status]
        codes = rows.dropna(subset=["error_code"])
        named = ", ".join(
            f"{n:,}× {code}" for code, n in zip(codes["error_code"], codes["requests"], strict=True)
        )
        # For expired and cancelled requests, the code only repeats the status.
        shown = f" ({named})" if named and status == "http_error" else ""
        parts.append(f"{rows['requests'].sum():,} {status}{shown}")
    return ", ".join(parts) if parts else "no results"


def warn_of_unanswered(results: pd.DataFrame) -> None:
    """Warn of requests without an answer, and say what writes them again."""
    failed = results[results["status"].isin(UNANSWERED)]
    if len(failed):
        counts = f"{len(failed):,} of {len(results):,}"
        codes = failed["status_code"].to_numpy(np.float64, na_value=np.nan)
        lasts = is_lasting(result_ranks(failed), codes).all()
        option = " with permanent=True" if lasts else ""
        hint = f"retry_requests{option} writes them again"
        warn(f"{counts} requests have no answer ({summary_line(results)})", hint=hint)


def plot_results(results: Any, column: str | None = None) -> Figure:
    """Draw how many requests have which status, what they used, and what was answered.

    Needs matplotlib: ``pip install "batch-frames[plot]"``.

    Args:
        results: What ``read_results``, ``join_results`` or ``run`` returned.
        column: A column of answers whose values are counted: numbers as a histogram, all else as
            bars, each item of a list for itself.

    Returns:
        A figure with a plot of statuses, of tokens a request and by model where they are known,
        and of the column.

    Raises:
        TypeError: If ``results`` is not a frame.
        ColumnError: If it lacks the column or the statuses.
        MissingExtra: If matplotlib is not installed.
    """
    own = own_results(results)
    if column is not None and column not in own:
        find_columns([str(name) for name in results.columns], [column], RESULTS)
    draw = {"requests by status": _draw_statuses}
    if any(own[name].notna().any() for name in TOKENS if name in own):
        draw["tokens of a request"] = _draw_tokens
        if "model" in own and own["model"].notna().any():
            draw["tokens by model"] = _draw_models
    figure = _figure(len(draw) + (column is not None))
    for axes, (title, function) in zip(figure.axes, draw.items(), strict=False):
        axes.set_title(title)
        function(axes, own)
    if column is not None:
        axes = figure.axes[-1]
        axes.set_title(column)
        _draw_values(axes, pd.Series(own[column] if column in own else results[column]))
    return figure


def _figure(plots: int) -> Figure:
    """Make a figure with plots side by side, which a notebook shows once."""
    try:
        from matplotlib import pyplot
    except ImportError:
        hint = 'pip install "batch-frames[plot]"'
        raise MissingExtra("plot_results needs matplotlib", hint=hint) from None
    figure, _ = pyplot.subplots(1, plots, figsize=(3.6 * plots, 3), layout="constrained")
    pyplot.close(figure)
    return figure


def _draw_statuses(axes: Axes, results: pd.DataFrame) -> None:
    counts = pd.Series(result_ranks(results)).map(dict(enumerate(STATUSES))).value_counts()
    _bars(axes, counts, [COLORS.get(str(name), GREY) for name in counts.index])


def _draw_tokens(axes: Axes, results: pd.DataFrame) -> None:
    have = [name for name in TOKENS if name in results]
    used = [results[name].dropna().to_numpy("float64") for name in have]
    colors = [TOKENS[name] for name in have]
    axes.hist(used, BINS, histtype="stepfilled", alpha=0.7, color=colors, label=have)
    axes.set_ylabel("requests")
    axes.legend(frameon=False)


def _draw_models(axes: Axes, results: pd.DataFrame) -> None:
    have = [name for name in TOKENS if name in results]
    sums = results.groupby("model", observed=True)[have].sum().astype(float)
    sums.plot.barh(ax=axes, stacked=True, color=[TOKENS[name] for name in have], legend=False)
    axes.set_ylabel("")


def _draw_values(axes: Axes, values: pd.Series[Any]) -> None:
    values = values.explode().dropna()
    is_number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if is_number and values.nunique() > MOST_BARS:
        axes.hist(values.astype(float), BINS, color=BLUE)
        axes.set_ylabel("answers")
        return
    counts = values.astype(str).value_counts()
    if is_number or isinstance(values.dtype, pd.CategoricalDtype):
        counts = values.value_counts().sort_index()
    _bars(axes, counts[:MOST_BARS], BLUE)
    if len(counts) > MOST_BARS:
        axes.set_xlabel(f"{len(counts) - MOST_BARS:,} more values are not shown")


def _bars(axes: Axes, counts: pd.Series[int], color: Any) -> None:
    """Draw a bar for each value, the first at the top, with its number."""
    bars = axes.barh([str(name) for name in counts.index], counts, color=color)
    axes.bar_label(bars, [f"{count:,}" for count in counts], padding=3)
    axes.margins(x=0.2)
    axes.invert_yaxis()
