"""Estimate tokens, cost and time of requests before they are sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.arrow import bytes_of
from batch_frames.display import cost_text, estimate_html
from batch_frames.errors import LineError, MissingExtra, RequestError
from batch_frames.files import DryStore, Paths, Shard, ShardWriter, find_shards, read_lines
from batch_frames.frames import with_card
from batch_frames.prices import TIERS, NoPrice, Prices, Rates, find_rates, price_source, rates_of
from batch_frames.progress import warn
from batch_frames.requests import (
    LIMITS,
    TOKEN_COLUMNS,
    BatchCreator,
    TableRequests,
    count_tokens,
    rendered_lines,
)
from batch_frames.results import own_results

__all__ = ["Tier", "estimate", "estimate_table", "shown_cost"]


Tier = Literal["batch", "flex", "priority", "standard"]

Numbers = npt.NDArray[np.float64]

Range = tuple[float, float]

CACHED_FROM, CACHED_BY = 1_024, 128
"""Prompts are cached from so many tokens on, in steps (OpenAI's guide to prompt caching)."""

SEED, DRAWS, FEWEST = 334, 2_000, 3  # draws of two that differ all have one mean

IN_MEMORY = 1_000_000  # how many numbers are drawn at once

LOW, HIGH = 1.0, 97.5
"""Percentiles of the draws, the lower of which is for the upper end of the interval: as few answers
are much longer than the others, a total is more often above what a pilot shows than below."""

COUNTED = ("exact", "estimated", "unknown")
TOTAL = "total"

AT_ONCE = 10_000_000
"""Up to how many bytes the tokens of requests are counted for what is shown of them."""

NOTHING = pa.table({name: pa.array([], kind) for name, kind in TOKEN_COLUMNS.items()})


def estimate(
    source: Paths | BatchCreator,
    *,
    output_tokens: float | Range | None = None,
    pilot: Any = None,
    prices: Prices | None = None,
    tier: Tier = "batch",
    max_enqueued_tokens: int | None = None,
) -> pd.DataFrame:
    """Estimate tokens and cost of requests, offline, before they are sent.

    Input tokens are counted as the service counts them. Each request is priced by itself, as some
    models cost more above a number of input tokens. The range of the cost reaches from prompts
    whose constant beginning is read from the service's cache to prompts that are all written to it,
    which some models charge for; below 1,024 tokens nothing is cached.

    Args:
        source: Request files as for ``submit``, or a ``BatchCreator``.
        output_tokens: How many tokens an answer has, with those of reasoning: a number, or the
            lowest and the highest. None takes what the body allows, as ``max_completion_tokens``.
        pilot: Results of some of these requests or of similar ones, as ``read_results`` and ``run``
            return them. Their mean is taken, and the range is its 95 % interval, by bootstrap. It
            knows only lengths that are in the pilot: if every tenth answer is far longer than the
            others, 30 rows or more are needed.
        prices: The prices of a million input and output tokens, in dollars, for each model: those
            of ``tier``. Other models have the prices of genai-prices, and embeddings in a batch
            half of their standard price there, as OpenAI's guide says.
        tier: ``"batch"``, or for live calls ``"flex"``, ``"priority"`` or ``"standard"``.
        max_enqueued_tokens: The most input tokens that may be enqueued at once, for the days that
            the batches take, as each may take one.

    Returns:
        A DataFrame with a row for each file and one for the total, and the columns ``file``,
        ``requests``, ``nbytes``, ``input_tokens``, ``counted`` (``exact``, ``estimated`` where the
        encoding or what is around texts is not documented, ``unknown`` where there are images,
        files, audio or hosted tools), ``output_low``, ``output_tokens`` (the mean; missing where
        only the range is known), ``output_high``, ``cost_low``, ``cost`` and ``cost_high`` (in
        dollars), and ``days``. What is not known is missing. ``attrs`` has ``tier``, and in
        ``prices`` what prices are from. In notebooks it is a card.

    Raises:
        MissingExtra: If what counts and prices tokens is not installed.
        FileNotFoundError: If there is no such file.
        LineError: If a line is not a request.
        ValueError: If an argument is not what it should be.

    Example:
        >>> creator = BatchCreator("gpt-4o", system_prompt="Be brief.")
        >>> creator.add_entry("a1", "What is a shard?")
        >>> found = estimate(creator, output_tokens=20, prices={"gpt-4o": (1.25, 5)})
        >>> found[["file", "input_tokens", "cost"]].to_numpy().tolist()[-1]
        ['total', 19, 0.00012375]
    """
    if tier not in TIERS:
        raise ValueError(f"tier must be {', '.join(map(repr, TIERS))}, not {tier!r}")
    output = _output(output_tokens, pilot)
    most = max_enqueued_tokens
    if most is not None and (type(most) is not int or most < 1):
        raise ValueError(f"max_enqueued_tokens must be a whole number from 1, not {most!r}")
    counted = _of_creator(source) if isinstance(source, BatchCreator) else _of_files(source)
    frame = estimate_rows(counted, output, prices=prices, tier=tier, max_enqueued_tokens=most)
    if problems := frame.attrs.pop("problems"):
        hint = "pass prices={model: (input, output)}, in dollars per million tokens"
        warn(f"{'; '.join(problems)} ({price_source()})", hint=hint)
    return frame


@dataclass(frozen=True)
class Output:
    """How many tokens the answer of a request has: the least, the mean, which may be NaN, the most.

    Of a pilot there are the standard deviation (``spread``), how many answers it has (``of``), and
    how many standard errors the mean is from the ``ends`` of its interval.
    """

    low: float = 0.0
    mean: float = np.nan
    high: float = np.inf
    spread: float = 0.0
    of: int = 1
    ends: Range = (0.0, 0.0)

    def each(self, limits: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        """Return the lowest, mean and highest number of each of so many requests.

        Args:
            limits: What each body allows, NaN for any number.
        """
        # Of a few requests, the sum varies more than the mean of all.
        error = self.spread * np.sqrt(1 / self.of + 1 / max(len(limits), 1))
        low = max(self.low - self.ends[0] * error, 0.0)
        high = self.high + self.ends[1] * error
        ends = (np.where(limits < one, limits, one) for one in (low, high))
        is_known = (limits < self.mean) | (limits == 0)
        low_each, high_each = ends
        return low_each, np.where(is_known, limits, self.mean), high_each


def _output(output_tokens: Any, pilot: Any) -> Output:
    """Read what is known of the answers."""
    if pilot is not None:
        if output_tokens is not None:
            raise ValueError("pass output_tokens= or pilot=, not both")
        return _of_pilot(pilot)
    if output_tokens is None:
        return Output()
    is_pair = isinstance(output_tokens, (tuple, list))
    pair = tuple(output_tokens) if is_pair else (output_tokens, output_tokens)
    numbers = [one for one in pair if type(one) in (int, float) and one >= 0]
    if len(pair) != 2 or len(numbers) != 2 or pair[0] > pair[1]:
        form = "a number, or the lowest and the highest"
        raise ValueError(f"output_tokens must be {form}, not {output_tokens!r}")
    low, high = map(float, pair)
    return Output(low, low if low == high else np.nan, high)


def _of_pilot(pilot: Any) -> Output:
    """Find the mean of a pilot and its interval, by a bootstrap of Student's t over its rows.

    Plain percentiles are too narrow for the few rows of a pilot: of ten, every eighth would miss.
    """
    results = own_results(pilot)
    found = results.get("output_tokens", pd.Series(dtype="Int64"))
    tokens = found.dropna().to_numpy(np.float64)
    if len(tokens) < FEWEST:
        problem = f"pilot must have {FEWEST} results with output_tokens or more"
        raise ValueError(f"{problem}, not {len(tokens)}")
    mean, spread = tokens.mean(), tokens.std(ddof=1)
    random = np.random.default_rng(SEED)
    draws: list[Numbers] = [np.zeros(0)]
    for rows in np.array_split(np.arange(DRAWS), 1 + DRAWS * len(tokens) // IN_MEMORY):
        drawn = random.choice(tokens, (len(rows), len(tokens)))
        errors = drawn.std(axis=1, ddof=1) / np.sqrt(len(tokens))
        draws.append((drawn.mean(axis=1) - mean)[errors > 0] / errors[errors > 0])
    every = np.concatenate(draws)
    low, high = np.percentile(every, [HIGH, LOW]) if len(every) else (0.0, 0.0)
    return Output(mean, mean, mean, spread, len(tokens), (low, -high))


@dataclass(frozen=True)
class _Rows:
    """Counted requests of a file, or of a part of it."""

    file: str
    nbytes: int
    table: pa.Table

    def numbers(self, name: str) -> Numbers:
        """Return a column of numbers, NaN where nothing is known."""
        return np.asarray(self.table[name].cast(pa.float64()).fill_null(np.nan))

    @property
    def models(self) -> list[str]:
        """All models."""
        return list(self.table["model"].unique().drop_null().to_pylist())


def count_blocks(blocks: Iterable[pa.Array], shards: Sequence[Shard]) -> Iterator[_Rows]:
    """Count the tokens of lines, and split them into the files that they would be written to."""
    left, file, room = iter(shards), "", 0
    for lines in blocks:
        while len(lines):
            if not room:
                shard = next(left)
                file, room = str(shard.path), shard.requests
            taken = lines.slice(0, room)
            yield _Rows(file, len(bytes_of(taken)), count_tokens(taken))
            room -= len(taken)
            lines = lines.slice(len(taken))


def estimate_table(
    requests: TableRequests, asked: Any, shards: Sequence[Shard], saved: int
) -> pd.DataFrame:
    """Estimate so many saved files, and requests of a table by the others, not written yet."""

    def chosen() -> Iterator[pa.Array]:
        start = 0
        for block in requests.blocks():
            yield block.lines.filter(pa.array(asked[start : start + len(block.ids)]))
            start += len(block.ids)

    of_saved = _of_files(shards[:saved]) if saved else ()
    return estimate_rows(chain(of_saved, count_blocks(chosen(), shards[saved:])), Output())


def shown_cost(
    sample: Sequence[Mapping[str, Any]], nbytes: int, find: Callable[[], pd.DataFrame]
) -> str:
    """Say what requests would cost, where that is known without delay; otherwise nothing."""
    try:
        if nbytes > AT_ONCE or not sample:
            return ""
        find_rates(sample[0]["body"]["model"])
        total = find().iloc[-1]
    except (KeyError, MissingExtra, NoPrice):
        return ""
    cost = cost_text(total["cost_low"], total["cost_high"])
    return f"{total['input_tokens']:,} input tokens, {cost}"


def _of_files(paths: Paths) -> Iterator[_Rows]:
    """Count the requests of files."""
    for path in find_shards(paths):
        for lines in read_lines(path):
            rows = _Rows(str(path), len(bytes_of(lines.text)), count_tokens(lines.text))
            if rows.table["model"].null_count:
                row = int(np.flatnonzero(rows.table["model"].is_null())[0])
                lines.request(row)
                number = int(lines.numbers[row])
                raise LineError("it has no 'model' that is text", path=path, line=number)
            yield rows


def _of_creator(creator: BatchCreator) -> Iterator[_Rows]:
    """Count the requests of a creator, as the files that they would be saved to."""
    with ShardWriter(DryStore(Path("requests.jsonl")), LIMITS) as writer:
        for lines in rendered_lines(creator):
            writer.write(lines, lambda _, problem: RequestError(problem))
        shards = writer.planned()
    return count_blocks(rendered_lines(creator), shards)


def estimate_rows(
    counted: Iterable[_Rows],
    output: Output,
    *,
    prices: Prices | None = None,
    tier: Tier = "batch",
    max_enqueued_tokens: int | None = None,
) -> pd.DataFrame:
    """Estimate counted requests, file by file; ``attrs`` says what has no price."""
    files = [_joined(file, rows) for file, rows in groupby(counted, lambda rows: rows.file)]
    every = [*files, _joined(TOTAL, files)]
    rates, problems = rates_of(every[-1].models, tier, prices)
    frame = pd.DataFrame([_estimated(rows, output, rates) for rows in every])
    frame = frame.replace(np.inf, np.nan)
    for name in ("input_tokens", "output_low", "output_tokens", "output_high"):
        frame[name] = frame[name].round().astype("Int64")
    frame["counted"] = pd.Categorical(frame["counted"], COUNTED)
    if max_enqueued_tokens is not None:
        days = -(-frame["input_tokens"] // max_enqueued_tokens)
        frame["days"] = days.clip(lower=1)
    frame.attrs = {"tier": tier, "prices": price_source(), "problems": problems}
    return with_card(frame, estimate_html)


def _joined(file: str, parts: Iterable[_Rows]) -> _Rows:
    parts = list(parts)
    tables = [NOTHING, *(part.table for part in parts)]
    return _Rows(file, sum(part.nbytes for part in parts), pa.concat_tables(tables))


def _estimated(rows: _Rows, output: Output, rates: Mapping[str, Rates]) -> dict[str, Any]:
    """Return the row of a file."""
    tokens, exact = rows.numbers("input_tokens"), rows.table["exact"]
    outputs = output.each(rows.numbers("max_output_tokens"))
    is_exact = not len(exact) or pc.all(exact).as_py()
    counted = "unknown" if np.isnan(tokens).any() else "exact" if is_exact else "estimated"
    costs = np.full((3, len(tokens)), np.nan)
    is_long = tokens >= CACHED_FROM
    repeated = rows.numbers("repeated_tokens") // CACHED_BY * CACHED_BY
    cached = np.where(is_long & (repeated >= CACHED_FROM), repeated, 0)
    written = np.where(is_long & np.asarray(rows.table["is_cached"].fill_null(True)), tokens, 0)
    for model, rate in rates.items():
        these = np.asarray(pc.equal(rows.table["model"], model).fill_null(False))
        low, mean, high = (one[these] for one in outputs)
        costs[0, these] = rate.cost(tokens[these], low, cached=cached[these])
        costs[1, these] = rate.cost(tokens[these], mean)
        costs[2, these] = rate.cost(tokens[these], high, written=written[these])
    sums = dict(zip(("output_low", "output_tokens", "output_high"), outputs, strict=True))
    sums |= dict(zip(("cost_low", "cost", "cost_high"), costs, strict=True))
    return {
        "file": rows.file,
        "requests": len(tokens),
        "nbytes": rows.nbytes,
        "input_tokens": tokens.sum(),
        "counted": counted,
        **{name: numbers.sum() for name, numbers in sums.items()},
    }
