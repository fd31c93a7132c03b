"""What became of requests is counted as a loop over their rows counts it."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import batch_frames as bf
from batch_frames.results.summary import summary_line
from tests.support.price_tables import price_tables

STATUSES = [
    *("ok", "truncated", "refused", "filtered", "invalid_json"),
    *("http_error", "expired", "cancelled", "missing", "malformed", "skipped"),
]
TOKENS = ["input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens"]
COLUMNS = ["status", "error_code", "requests", "share", *TOKENS]

Row = tuple[str, str | None, int | None]
"""A status, an error code and a number of tokens."""


def results_of(rows: list[Row]) -> pd.DataFrame:
    """Make results of rows, all token columns alike but for a factor."""
    columns: dict[str, Any] = {
        "custom_id": pd.Series([str(n) for n in range(len(rows))], dtype="string"),
        "status": pd.Categorical([row[0] for row in rows], STATUSES),
        "error_code": pd.Series([row[1] for row in rows], dtype="string"),
    }
    for factor, name in enumerate(TOKENS, 1):
        tokens = [None if row[2] is None else row[2] * factor for row in rows]
        columns[name] = pd.Series(tokens, dtype="Int64")
    return pd.DataFrame(columns)


def bare_summary(results: Any) -> pd.DataFrame:
    """Summarize results without their cost."""
    summary = bf.summarize(results)
    assert summary.columns[-1] == "cost"
    return summary.drop(columns="cost")


def plain(frame: pd.DataFrame) -> list[tuple[Any, ...]]:
    """Give the rows of a frame with None for what is missing."""
    return [tuple(None if pd.isna(v) else v for v in row) for row in frame.itertuples(index=False)]


def counted(rows: list[Row]) -> list[tuple[Any, ...]]:
    """Count rows by status and code in dicts: the better status, the more frequent code first."""
    numbers: Counter[tuple[str, str | None]] = Counter()
    tokens: Counter[tuple[str, str | None]] = Counter()
    for status, code, count in rows:
        numbers[status, code] += 1
        tokens[status, code] += count or 0
    # Among equals, that which occurred first: dicts keep this order, and sorting does too.
    keys = sorted(numbers, key=lambda key: (STATUSES.index(key[0]), -numbers[key]))
    return [
        (*key, numbers[key], numbers[key] / len(rows), *(tokens[key] * n for n in (1, 2, 3, 4)))
        for key in keys
    ]


SOME_ROWS = st.lists(
    st.tuples(
        st.sampled_from(STATUSES),
        st.sampled_from([None, "rate_limit_exceeded", "server_error", ""]),
        st.one_of(st.none(), st.integers(0, 2**50)),
    )
)


@given(rows=SOME_ROWS)
def test_requests_and_tokens_are_counted(rows: list[Row]) -> None:
    """Counts, shares and sums are those of a loop, in an order that does not hang on the rows'."""
    summary = bf.summarize(results_of(rows))
    assert summary.columns.tolist() == COLUMNS
    assert plain(summary) == counted(rows)


def test_a_summary_is_written_out() -> None:
    """Written out: one row for each status and code, the better status first."""
    rows: list[Row] = [
        ("http_error", "server_error", None),
        ("ok", None, 10),
        ("http_error", "rate_limit_exceeded", None),
        ("expired", "batch_expired", None),
        ("ok", None, 5),
        ("http_error", "rate_limit_exceeded", None),
        ("truncated", None, 7),
        ("ok", None, None),
    ]
    assert plain(bf.summarize(results_of(rows))[["status", "error_code", "requests", "share"]]) == [
        ("ok", None, 3, 0.375),
        ("truncated", None, 1, 0.125),
        ("http_error", "rate_limit_exceeded", 2, 0.25),
        ("http_error", "server_error", 1, 0.125),
        ("expired", "batch_expired", 1, 0.125),
    ]


def test_dtypes_of_a_summary() -> None:
    """Numbers are whole but for the share, statuses the same categorical as in results."""
    for rows in ([("ok", None, 1), ("expired", "batch_expired", None)], []):
        summary = bf.summarize(results_of(rows))
        assert summary["status"].cat.categories.tolist() == STATUSES
        assert not summary["status"].cat.ordered
        assert summary["error_code"].dtype == results_of(rows)["error_code"].dtype
        kinds = {name: summary[name].dtype for name in ["requests", "share", *TOKENS]}
        assert kinds == {"requests": np.int64, "share": float, **dict.fromkeys(TOKENS, np.int64)}
        assert summary.index.tolist() == list(range(len(summary)))


def test_no_results_are_an_empty_summary(tmp_path: Path) -> None:
    """An empty file has a summary of no rows, with all its columns, and a line that says so."""
    (tmp_path / "output.jsonl").touch()
    results = bf.read_results(tmp_path / "output.jsonl")
    summary = bf.summarize(results)
    assert summary.columns.tolist() == [*COLUMNS, "cost"]
    assert len(summary) == 0
    assert summary_line(results) == "no results"


def test_results_without_tokens_are_counted(tmp_path: Path) -> None:
    """Token columns that the results lack are lacking in the summary, as are codes missing."""
    path = tmp_path / "output.jsonl"
    path.write_text('{"custom_id": "a", "response": null, "error": {"message": "no"}}\n')
    summary = bf.summarize(bf.read_results(path, usage=False))
    assert plain(summary) == [("http_error", None, 1, 1.0)]
    assert summary.columns.tolist() == COLUMNS[:4]
    bare = pd.DataFrame({"custom_id": ["a", "b"], "status": ["ok", "ok"]})
    assert plain(bf.summarize(bare)) == [("ok", None, 2, 1.0)]


def read_back(folder: Path, **options: Any) -> pd.DataFrame:
    """Read results of four kinds: an answer, a cut one, one that failed, and a torn line."""
    body = {
        "choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 3},
    }
    cut = json.loads(json.dumps(body).replace("stop", "length"))
    error = {"error": {"code": "server_error", "message": "no"}}
    answers = {"a": (200, body), "b": (200, cut), "c": (500, error)}
    lines = [
        json.dumps({"custom_id": key, "response": {"status_code": code, "body": value}})
        for key, (code, value) in answers.items()
    ]
    path = folder / "output.jsonl"
    path.write_text("\n".join([*lines, lines[0][:40]]))
    results: pd.DataFrame = bf.read_results(path, **options)
    return results


OF_FOUR = [
    ("ok", None, 1, 0.25, 12, 0, 3, 0),
    ("truncated", None, 1, 0.25, 12, 0, 3, 0),
    ("http_error", "server_error", 1, 0.25, 0, 0, 0, 0),
    ("malformed", None, 1, 0.25, 0, 0, 0, 0),
]


@pytest.mark.parametrize("dtype_backend", [None, "numpy_nullable", "pyarrow"])
def test_results_of_any_dtypes_have_the_same_summary(
    dtype_backend: str | None, tmp_path: Path
) -> None:
    """Whatever the dtypes of the results, the counts are the same."""
    results = read_back(tmp_path, dtype_backend=dtype_backend)
    assert plain(bare_summary(results)) == OF_FOUR


def test_kept_results_have_the_same_summary(tmp_path: Path) -> None:
    """Results that pandas loads from CSV, tokens as floats, or from Parquet are counted alike."""
    results = read_back(tmp_path)
    results.to_csv(tmp_path / "results.csv", index=False)
    results.to_parquet(tmp_path / "results.parquet")
    assert plain(bare_summary(pd.read_csv(tmp_path / "results.csv"))) == OF_FOUR
    assert plain(bare_summary(pd.read_parquet(tmp_path / "results.parquet"))) == OF_FOUR


@pytest.mark.filterwarnings("ignore:1 result matches no row")
def test_a_joined_frame_has_a_summary(tmp_path: Path) -> None:
    """The frame that results were joined to is counted by its rows, those missing among them."""
    results = read_back(tmp_path)
    frame = pd.DataFrame({"review": ["x", "y", "z"]}, index=["c", "new", "a"])
    assert plain(bare_summary(bf.join_results(frame, results))) == [
        ("ok", None, 1, 1 / 3, 12, 0, 3, 0),
        ("http_error", "server_error", 1, 1 / 3, 0, 0, 0, 0),
        ("missing", None, 1, 1 / 3, 0, 0, 0, 0),
    ]


def test_results_are_not_changed(tmp_path: Path) -> None:
    """Counting leaves the results as they were, and any index will do."""
    results = read_back(tmp_path).set_axis([5, 5, "x", None])
    before = results.copy(deep=True)
    assert plain(bare_summary(results)) == OF_FOUR
    pd.testing.assert_frame_equal(results, before)


def test_the_line_names_statuses_and_codes() -> None:
    """The line of a large batch, word for word: what is more frequent stands before."""
    rows: list[Row] = [
        *[("http_error", "context_length_exceeded", None)] * 8,
        *[("ok", None, 1)] * 49_120,
        *[("expired", "batch_expired", None)] * 800,
        *[("http_error", "rate_limit_exceeded", None)] * 72,
    ]
    assert summary_line(results_of(rows)) == (
        "49,120 ok, 800 expired, "
        "80 http_error (72× rate_limit_exceeded, 8× context_length_exceeded)"
    )


def test_the_line_says_codes_only_of_errors() -> None:
    """A code that says no more than its status is left out, as is an error without a code."""
    rows: list[Row] = [
        ("cancelled", "batch_cancelled", None),
        ("http_error", None, None),
        *[("http_error", "server_error", None)] * 1_234,
        ("missing", None, None),
    ]
    assert summary_line(results_of(rows)) == (
        "1,235 http_error (1,234× server_error), 1 cancelled, 1 missing"
    )
    assert summary_line(results_of([("http_error", None, None)])) == "1 http_error"


@pytest.mark.parametrize(
    ("results", "kind", "message"),
    [
        (
            pd.DataFrame({"custom_id": ["a"], "state": ["ok"]}),
            bf.ColumnError,
            "the table of results has no column 'status'; "
            "pass what read_results, join_results or run returned",
        ),
        (
            pd.DataFrame({"custom_id": ["a"], "status": ["done"]}),
            bf.ColumnError,
            "results have the status 'done', which is none of ok, truncated, refused, filtered, "
            "invalid_json, http_error, expired, cancelled, missing, malformed, skipped",
        ),
        (
            "output.jsonl",
            TypeError,
            "results must be the DataFrame that read_results returned, not str",
        ),
    ],
)
def test_what_are_no_results_is_refused(results: Any, kind: type[Exception], message: str) -> None:
    """A table without statuses, or with others, is an error, as is a path."""
    with pytest.raises(kind) as caught:
        bf.summarize(results)
    assert str(caught.value) == message


def costs(**columns: Any) -> list[float | None]:
    """Summarize results with these columns, and return the cost of each status."""
    rows = len(columns["model"])
    results = pd.DataFrame({"status": ["ok"] * rows, "output_tokens": 0, **columns})
    found: list[Any] = bf.summarize(results)["cost"].tolist()
    return [None if pd.isna(one) else one for one in found]


def test_results_cost_what_the_service_reports() -> None:
    """Cached and written tokens have their own price, as have requests with very many."""
    with price_tables():
        million = {"input_tokens": [100_000] * 10, "model": ["luna"] * 10}
        assert costs(**million) == pytest.approx([0.05])
        assert costs(**million, output_tokens=100_000) == pytest.approx([0.30])
        assert costs(**million, cached_tokens=100_000) == pytest.approx([0.005])
        assert costs(**million, cache_write_tokens=100_000) == pytest.approx([0.0625])
        assert costs(model=["luna"], input_tokens=[1_000_000]) == pytest.approx([0.10])


def test_live_answers_cost_more() -> None:
    """Answers of ``run_local`` are priced by their tier, all others as a batch."""
    given = {"model": ["luna"], "input_tokens": [100_000]}
    with price_tables():
        for file, tier, cost in (
            ("x.output.jsonl", "default", 0.005),
            ("x.local.output.jsonl", "default", 0.01),
            ("x.local.output.jsonl", None, 0.01),
            ("x.local.output.jsonl", "flex", 0.005),
        ):
            assert costs(**given, file=[file], service_tier=[tier]) == pytest.approx([cost])
        assert costs(**given) == pytest.approx([0.005])


def test_a_cost_that_is_not_known_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """One model without a price makes the cost missing; what used no tokens costs nothing."""
    with price_tables():
        assert costs(model=["luna", "nova"], input_tokens=[5, 5]) == [None]
        assert costs(model=[None, None], input_tokens=[None, 0]) == [0]
        priced = {"model": ["luna", "nova"], "input_tokens": [100, 5]}
        assert costs(**priced, status=["ok", "truncated"]) == [pytest.approx(5e-6), None]
    monkeypatch.setitem(sys.modules, "genai_prices.data_snapshot", None)
    results = pd.DataFrame(
        {"status": ["ok"], "model": ["m"], "input_tokens": 5, "output_tokens": 5}
    )
    assert "cost" not in bf.summarize(results)
