"""Requests can be looked at before they are saved, one by one and on a card."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import batch_frames as bf
from tests.support.creators import (
    COLUMNS,
    Shown,
    creator_of,
    entries_of,
    line_of,
    saved,
    table_batch,
    text,
)

# Entries


@pytest.mark.parametrize("kind", ["entries", "frame", "both"])
def test_any_entry_can_be_previewed(kind: str) -> None:
    """Each position gives the object of its line, from the end too, beyond the first chunk."""
    entries = entries_of(5_000)
    split = {"entries": 0, "frame": 5_000, "both": 2_500}[kind]
    frame = pd.DataFrame(entries[:split], columns=["id", "p"])
    batch = bf.from_dataframe(frame, model="m", system_prompt="s", **COLUMNS)
    for entry in entries[split:]:
        batch.add_entry(*entry)
    for index in (0, 1, 511, 512, 2_047, 2_048, 2_499, 2_500, 4_999, -1, -2_501, -5_000):
        expected = json.loads(line_of(*entries[index], model="m", system="s"))
        assert batch.preview_entry(index) == expected
    assert batch.preview_entry() == batch.preview_entry(0)


@pytest.mark.parametrize(
    ("count", "index", "message"),
    [
        (0, 0, "entry 0 is out of range: the number of entries is 0"),
        (0, -1, "entry -1 is out of range: the number of entries is 0"),
        (2, 2, "entry 2 is out of range: the number of entries is 2"),
        (2, -3, "entry -3 is out of range: the number of entries is 2"),
        (1_500, 12_345, "entry 12,345 is out of range: the number of entries is 1,500"),
    ],
)
def test_a_preview_out_of_range_says_how_many_there_are(
    count: int, index: int, message: str
) -> None:
    """The IndexError gives the count."""
    with pytest.raises(IndexError, match=f"^{re.escape(message)}$"):
        creator_of(entries_of(count)).preview_entry(index)


# What it shows of itself


def test_a_repr_gives_count_endpoint_and_model() -> None:
    """In one line, before and after entries are added."""
    creator = bf.BatchCreator("gpt-x", system_prompt="s")
    facts = "endpoint='/v1/chat/completions', model='gpt-x'"
    assert repr(creator) == f"BatchCreator(entries=0, {facts})"
    for entry in entries_of(1_234):
        creator.add_entry(*entry)
    assert repr(creator) == f"BatchCreator(entries=1,234, {facts})"


def test_a_card_shows_count_endpoint_model_size_and_first_entry() -> None:
    """All of these stand in the HTML, and the size is that of the file."""
    creator = creator_of([("first", "See „this“"), ("second", "not shown")], model="gpt-x")
    shown = Shown(creator._repr_html_())
    size = len(saved(creator))
    for fact in (
        "entries 2", "endpoint '/v1/chat/completions'", "model 'gpt-x'", f"size {size} bytes"
    ):  # fmt: skip
        assert fact in shown.text
    for part in ("first", "system", "See „this“", "seed 334", 'model "gpt-x"'):
        assert part in shown.text
    assert "not shown" not in shown.text


def test_a_card_of_no_entries_says_so() -> None:
    """Nothing is there to be shown, and that is no error."""
    text = Shown(creator_of([])._repr_html_()).text
    assert "entries 0" in text
    assert "size 0 bytes" in text


@given(words=st.text(alphabet="<>&'\"/= scriptb;#é", max_size=30), model=text.filter(bool))
@example(words="<script>alert('&amp;')</script></pre>", model='<b onclick="x">\'')
def test_a_card_escapes_all_text(words: str, model: str) -> None:
    """Whatever model and prompt hold, it is text, not HTML."""
    creator = creator_of([("<i>", words)], model=model, body={"</div>": "<hr>"})
    card = creator._repr_html_()
    shown = Shown(card)
    assert shown.tags == {"style", "div", "b", "span", "details", "summary"}
    for part in (words, f"{model!r}", json.dumps(model, ensure_ascii=False), '</div> "<hr>"'):
        assert html.escape(part) in card


def test_a_card_of_a_table_with_a_problem_shows_the_problem() -> None:
    """A display in a notebook never raises for what is wrong with the rows."""
    frame = pd.DataFrame({"id": ["<a>"], "p": [None]})
    batch = bf.from_dataframe(frame, model="m", **COLUMNS)
    message = "row 0 (custom_id '<a>'): column 'p' is null; drop the row or pass na=\"skip\""
    assert message in Shown(batch._repr_html_()).text


@pytest.mark.parametrize("kind", ["pandas", "pyarrow", "stream", "csv", "parquet"])
def test_a_count_that_is_shown_is_the_count(tmp_path: Path, kind: str) -> None:
    """Rows that na="skip" drops are no entries: what is shown is right, or says that it is not."""
    frame = pd.DataFrame({"id": ["a", "b", "c"], "p": ["x", None, "z"]})
    batch = table_batch(frame, kind, tmp_path, na="skip")
    for _ in range(2):
        for shown in (repr(batch).replace("=", " "), Shown(batch._repr_html_()).text):
            assert re.search(r"entries (2|at most 3|not yet counted)(?![0-9]|,[0-9])", shown)
        assert len(batch) == 2
