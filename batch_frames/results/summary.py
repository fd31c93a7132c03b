"""Count results by status, and draw them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from batch_frames.display import COLORS, GREY, cost_text
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
    from matplotlib.axis import Axis
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
"""How many bars a plot shows."""

LONGEST_NAME = 24
"""How many characters of the name of a bar are shown."""

BINS, TICKS = 30, 4

ABREAST = 3
"""How many plots stand side by side."""


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
        lasts = is_lasting(result_ranks(failed), codes)
        option = " with permanent=True" if lasts.all() else ""
        mixed = lasts.any() and not lasts.all()
        some = ", what failed for good with permanent=True" if mixed else ""
        hint = f"retry_requests{option} writes them again{some}"
        warn(f"{counts} requests have no answer ({summary_line(results)})", hint=hint)


def plot_results(results: Any, column: str | None = None) -> Figure:
    """Draw how many requests have which status, what they used and cost, and what was answered.

    Needs matplotlib: ``pip install "batch-frames[plot]"``.

    Args:
        results: What ``read_results``, ``join_results`` or ``run`` returned.
        column: A column of answers whose values are counted: numbers as a histogram, all else as
            bars, each item of a list for itself.

    Returns:
        A figure with a plot of statuses, of tokens a request and by model where they are known, of
        the cost by model where ``summarize`` knows it, and of the column.

    Raises:
        TypeError: If ``results`` is not a frame.
        ColumnError: If it lacks the column or the statuses.
        MissingExtra: If matplotlib is not installed.
    """
    own = own_results(results)
    if column is not None and column not in own:
        find_columns([str(name) for name in results.columns], [column], RESULTS)
    draw: dict[str, Callable[[Axes], None]] = {
        "requests by status": partial(_draw_statuses, results=own)
    }
    if any(own[name].notna().any() for name in TOKENS if name in own):
        draw["tokens of a request"] = partial(_draw_tokens, results=own)
        if "model" in own and own["model"].notna().any():
            draw["tokens by model"] = partial(_draw_models, results=own)
    if (costs := _model_costs(own)).any():
        draw["cost by model"] = partial(_draw_costs, costs=costs)
    figure = _figure(len(draw) + (column is not None))
    for axes, (title, function) in zip(figure.axes, draw.items(), strict=False):
        axes.set_title(title)
        function(axes)
    if column is not None:
        axes = figure.axes[-1]
        axes.set_title(column, parse_math=False)
        _draw_values(axes, pd.Series(own[column] if column in own else results[column]))
    return figure


def _figure(plots: int) -> Figure:
    """Make a figure with plots in rows, which a notebook shows once."""
    try:
        from matplotlib import pyplot
    except ImportError:
        hint = 'pip install "batch-frames[plot]"'
        raise MissingExtra("plot_results needs matplotlib", hint=hint) from None
    rows = -(-plots // ABREAST)
    columns = -(-plots // rows)
    figure = pyplot.figure(figsize=(4 * columns, 3 * rows), layout="constrained")
    for place in range(plots):
        figure.add_subplot(rows, columns, place + 1).tick_params(labelsize="small")
    pyplot.close(figure)
    return figure


def _draw_statuses(axes: Axes, results: pd.DataFrame) -> None:
    counts = pd.Series(result_ranks(results)).map(dict(enumerate(STATUSES))).value_counts()
    _bars(axes, counts, [[COLORS.get(str(name), GREY) for name in counts.index]])


def _draw_tokens(axes: Axes, results: pd.DataFrame) -> None:
    have = [name for name in TOKENS if name in results]
    used = [results[name].dropna().to_numpy("float64") for name in have]
    colors = [TOKENS[name] for name in have]
    axes.hist(used, BINS, histtype="stepfilled", alpha=0.7, color=colors, label=have)
    axes.set_ylabel("requests")
    axes.margins(y=0.4)  # for the legend
    axes.legend(frameon=False, fontsize="small", loc="upper right")
    _show_counts(axes.xaxis)
    _show_counts(axes.yaxis)


def _draw_models(axes: Axes, results: pd.DataFrame) -> None:
    have = [name for name in TOKENS if name in results]
    sums = results.groupby("model", observed=True)[have].sum().astype(float)
    order = sums.sum(axis=1).sort_values(ascending=False, kind="stable")
    _bars(axes, sums.loc[order.index], [TOKENS[name] for name in have])


def _model_costs(results: pd.DataFrame) -> pd.Series[float]:
    """Return what the results of each model cost, NaN where that is not known."""
    if (costs := result_costs(results)) is None:
        return pd.Series(dtype="float64")
    by_model = pd.Series(costs).groupby(results["model"].astype(object).to_numpy())
    return by_model.agg(lambda own: own.sum(skipna=False))


def _draw_costs(axes: Axes, costs: pd.Series[float]) -> None:
    from matplotlib.ticker import MaxNLocator

    ordered = costs.sort_values(ascending=False, kind="stable")
    _bars(axes, ordered, [BLUE], lambda cost: cost_text(cost, cost))
    axes.xaxis.set_major_locator(MaxNLocator(TICKS))
    axes.xaxis.set_major_formatter("${x:,.4g}")


def _draw_values(axes: Axes, values: pd.Series[Any]) -> None:
    values = values.explode().dropna()
    is_number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if is_number and values.nunique() > MOST_BARS:
        axes.hist(values.astype(float), BINS, color=BLUE)
        axes.set_ylabel("answers")
        _show_counts(axes.yaxis)
        return
    counts = values.astype(str).value_counts()
    if is_number or isinstance(values.dtype, pd.CategoricalDtype):
        counts = values.value_counts().sort_index()
    _bars(axes, counts, [BLUE])


def _bars(
    axes: Axes,
    numbers: pd.Series[Any] | pd.DataFrame,
    colors: Sequence[Any],
    show: Callable[[float], str] = "{:,.0f}".format,
) -> None:
    """Draw a bar for each row, of parts for several columns, the first at the top, with its sum."""
    shown = pd.DataFrame(numbers)[:MOST_BARS]
    places, ends = range(len(shown)), np.zeros(len(shown))
    for (_, part), color in zip(shown.items(), colors, strict=True):
        known = part.fillna(0).to_numpy("float64")
        bars = axes.barh(places, known, left=ends, color=color)
        ends = ends + known
    labels = [show(total) for total in shown.sum(axis=1, skipna=False)]
    axes.bar_label(bars, labels, padding=3, fontsize="small")
    axes.set_yticks(places, [_short(str(name)) for name in shown.index], parse_math=False)
    axes.margins(x=0.35)  # for the numbers
    axes.invert_yaxis()
    _show_counts(axes.xaxis)
    if len(numbers) > MOST_BARS:
        axes.set_xlabel(f"{len(numbers) - MOST_BARS:,} more values are not shown")


def _short(name: str) -> str:
    """Shorten a name in its middle, as names of models differ at both ends."""
    name = " ".join(name.split())
    half = LONGEST_NAME // 2
    return name if len(name) <= LONGEST_NAME else f"{name[: half - 1]}…{name[-half:]}"


def _show_counts(axis: Axis) -> None:
    """Number an axis by few whole numbers, the large ones as thousands and millions."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(TICKS, integer=True))
    axis.set_major_formatter(EngFormatter(sep=""))
