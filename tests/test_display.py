"""Cards hold what a person asks first, as text, and are legible in light and dark."""

from __future__ import annotations

import html
import json
import pickle
import re
import shutil
import subprocess
from copy import deepcopy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import batch_frames as bf
from batch_frames.display import bar_html, request_html, table_html
from batch_frames.files import Job, Jobs
from batch_frames.prices import price_source
from tests.support.creators import Shown

HOSTILE = "<script>document.title = 'ran'</script><b onclick='x'>'\"&amp;"
LONG = "word " * 2_000
FRAME = pd.DataFrame({"id": ["a" * 300, HOSTILE, "c"], "p": [LONG, HOSTILE, "„short“ 😀"]})
ASK: dict[str, Any] = {"id_column": "id", "prompt_column": "p", "model": "m"}

MEASURE = """
const parse = color => {
  const parts = color.match(/[0-9.]+/g).map(Number);
  return parts.length === 3 ? [...parts, 1] : parts;
};
const blend = (top, under) => [0, 1, 2].map(i => top[i] * top[3] + under[i] * (1 - top[3]));
const light = color => {
  const [r, g, b] = color.map(c => c / 255).map(
    c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const colors = node => {
  let opacity = 1, under = null;
  const above = [];
  for (let one = node; one; one = one.parentElement) {
    above.unshift(one);
  }
  for (const one of above) {
    const style = getComputedStyle(one), color = parse(style.backgroundColor);
    opacity *= Number(style.opacity);
    under = under ? blend(color, under) : color.slice(0, 3);
  }
  const text = parse(getComputedStyle(node).color);
  return [blend([...text.slice(0, 3), text[3] * opacity], under), under];
};
const found = {wide: [], contrast: 99, scripts: 0, cards: 0};
document.querySelectorAll('details').forEach(one => one.open = true);
document.querySelectorAll('.bf-card').forEach(card => {
  found.cards += 1;
  found.scripts += card.querySelectorAll('script, [onclick]').length;
  card.querySelectorAll('*').forEach(one => {
    const scrolls = one.closest('.bf-scroll');
    if (!scrolls && one.getBoundingClientRect().right > card.getBoundingClientRect().right) {
      found.wide.push(one.outerHTML.slice(0, 200));
    }
    if ([...one.childNodes].some(child => child.nodeType === 3 && child.data.trim())
        && one.tagName !== 'STYLE') {
      const [a, b] = colors(one).map(light);
      found.contrast = Math.min(
        found.contrast, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
    }
  });
  if (card.getBoundingClientRect().width > card.parentElement.clientWidth) {
    found.wide.push('the card');
  }
});
document.body.dataset.found = JSON.stringify(found);
"""


def jobs() -> Jobs:
    """Return jobs in four states, more than a card shows, with names of all kinds."""
    states: list[Any] = ["completed", "in_progress", "failed", "waiting"]
    return Jobs(
        Job(
            path=Path(
                f"{HOSTILE.replace('/', '') if number == 2 else 'reviews'}-{number:05d}.jsonl"
            ),
            sha256=str(number),
            endpoint="/v1/chat/completions",
            requests=50_000,
            nbytes=10**8,
            status=states[number % 4],
            batch_id=None if number % 4 == 3 else f"batch_{number:032x}",
            completed=[50_000, 1_234, 0, None][number % 4],
        )
        for number in range(23)
    )


def problems(folder: Path) -> pd.DataFrame:
    """Return more problems than a card shows, with hostile and long texts."""
    lines = [{"custom_id": HOSTILE, "url": LONG, HOSTILE: 1}, *range(25)]
    path = folder / "hostile.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return bf.check_requests(path)


def bill(folder: Path) -> pd.DataFrame:
    """Return an estimate of two files, one with a hostile name and a model without a price."""
    requests = [(HOSTILE.replace("/", ""), "m"), ("reviews", "x")]
    paths = [folder / f"{name}.jsonl" for name, _ in requests]
    for path, (_, model) in zip(paths, requests, strict=True):
        creator = bf.BatchCreator(model, system_prompt=None)
        creator.add_entry("a", LONG)
        creator.save_to_file(path)
    with pytest.warns(UserWarning, match="no price of 'x' is known"):
        return bf.estimate(paths, prices={"m": (1, 2)}, max_enqueued_tokens=1_000)


def cards(folder: Path) -> dict[str, str]:
    """Draw one card of each kind, of hostile, long and short texts."""
    folder.mkdir(exist_ok=True)
    batch = bf.from_dataframe(FRAME, system_prompt=HOSTILE, body={"user": HOSTILE}, **ASK)
    plan = bf.plan(FRAME, folder / "x.jsonl", limits=bf.Limits(requests=1), **ASK)
    broken = bf.from_dataframe(FRAME.assign(p=None), **ASK)
    shown = {"creator": batch, "plan": plan, "shards": plan.shards, "jobs": jobs(), "no": broken}
    shown |= {"problems": problems(folder), "estimate": bill(folder)}
    return {name: one._repr_html_() for name, one in shown.items()}  # type: ignore[attr-defined]


def shown(frame: pd.DataFrame) -> str:
    """Return the text of the card of a frame, without its style."""
    drawn: str = frame._repr_html_()  # type: ignore[operator]
    return Shown(re.sub("<style>.*?</style>", "", drawn, flags=re.DOTALL)).text


def request(body: dict[str, Any]) -> str:
    """Return the text of the card of a request."""
    return Shown(request_html({"custom_id": "a", "body": body})).text


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ({"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]},
         "asystemSuserU"),
        ({"instructions": "S", "input": "U"}, "asystemSuserU"),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "U"},
                                                 {"type": "input_image", "image_url": "data:"}]}]},
         "auserU\n[input_image]"),
        ({"input": ["U", "V"]}, "auserU\nV"),
        ({"prompt": "U", "seed": 1}, "auserUseed 1"),
        ({"input": [1, [2, 3]]}, "auser1\n2\n3"),
        ({"messages": [{"role": "assistant", "tool_calls": []}]},
         'aassistant{"role": "assistant", "tool_calls": []}'),
        ({"messages": "no list"}, "auserno list"),
        ({"model": "m"}, 'amodel "m"'),
        ({"prompt": "x" * 1_001}, f"auser{'x' * 1_000}… (1,001 characters)"),
        ({"tools": "y" * 1_001}, f'atools "{"y" * 999}… (1,003 characters)'),
    ],
)  # fmt: skip
def test_a_request_is_shown_as_a_chat(body: dict[str, Any], shown: str) -> None:
    """Messages of all endpoints have their roles; what is long is cut, and its length told."""
    assert request(body) == shown


def test_tables_line_up_numbers_and_count_what_they_leave_out() -> None:
    """Columns of whole numbers are to the right; twenty rows are shown."""
    card = table_html(("file", "requests"), [(f"f{n}", n * 1_000) for n in range(25)])
    assert "<th>file</th><th class='bf-number'>requests</th>" in card
    assert "<td>f19</td><td class='bf-number'>19,000</td>" in card
    assert "f20" not in card
    assert "… and 5 more" in card
    assert table_html(("file",), []) == ""


def test_a_bar_has_a_piece_and_a_name_for_each_state() -> None:
    """The widths are proportions; states of no rows are left out, unknown ones are grey."""
    bar = bar_html({"answered": 3, "failed": 0, "<x>": 1})
    assert re.findall(r"width:([0-9.]+)%;background:(#[0-9a-f]+)", bar) == [
        ("75.0", "#2a9d5c"), ("25.0", "#888"),
    ]  # fmt: skip
    assert Shown(bar).text == "answered 3<x> 1"


def test_cards_show_hostile_text_as_text(tmp_path: Path) -> None:
    """Ids, prompts, parameters and file names are escaped wherever they stand."""
    drawn = cards(tmp_path)
    for name, text in {
        "creator": HOSTILE,
        "plan": HOSTILE,
        "jobs": HOSTILE.replace("/", ""),
        "problems": HOSTILE,
        "estimate": HOSTILE.replace("/", ""),
    }.items():
        assert html.escape(text) in drawn[name]
    for card in drawn.values():
        assert Shown(card).tags <= {
            *("style", "div", "b", "i", "span", "details", "summary"),
            *("table", "tr", "th", "td"),
        }


def test_problems_are_counted_by_code(tmp_path: Path) -> None:
    """A card of problems has their numbers, then the first; without any it is one line."""
    batch = bf.BatchCreator("m", "low", system_prompt=None, seed=None)
    batch.add_entry("a", "What is a shard?")
    assert shown(bf.check_requests(batch)) == "No problems in 1 request"
    batch.add_entry("a", "")
    assert shown(bf.check_requests(batch)) == (
        "2 problems in 2 requestserror 1warning 1"
        "severitycodeproblemserrorduplicate_custom_id1warningempty_prompt1"
        "severitymessagelinecustom_idparam"
        "errorthe id is that of line 1, too2acustom_id"
        "warningthe prompt is empty2a"
    )
    many = shown(problems(tmp_path))
    assert many.startswith("30 problems in 26 requestserror 28warning 2severitycode")
    assert many.endswith("errorthe line is a number, not an objecthostile.jsonl18… and 10 more")


def test_estimates_have_a_total_and_a_row_for_each_file(tmp_path: Path) -> None:
    """What is not known is said, and what prices are from."""
    assert shown(bill(tmp_path)) == (
        "Estimaterequests 2input tokens 4,016counted estimated"
        "output tokens 0 to ?cost unknowndays 5"
        "filerequestsinput tokenscountedoutput tokenscostdays"
        f"{HOSTILE.replace('/', '')}.jsonl12,008estimated0 to ?$0.0020 or more3"
        f"reviews.jsonl12,008estimated0 to ?unknown3prices of {price_source()}, batch"
    )
    batch = bf.BatchCreator("m", system_prompt=None)
    batch.add_entry("a", "Hi")
    pilot = pd.DataFrame({"custom_id": [*"abc"], "status": "ok", "output_tokens": [10, 20, 30]})
    cost = bf.estimate(batch, pilot=pilot, prices={"m": (0, 50_000)})
    assert "mean cost $1.00file" in shown(cost)


def test_frames_with_a_card_are_plain_frames(tmp_path: Path) -> None:
    """They equal, pickle, join and save as any; copies and other columns are tables."""
    found = problems(tmp_path)
    plain = pd.DataFrame(found)
    pd.testing.assert_frame_equal(plain, found)
    for copy in (plain, found.copy(), deepcopy(found), pickle.loads(pickle.dumps(found))):
        assert type(copy) is type(found) is pd.DataFrame
        pd.testing.assert_frame_equal(copy, found)
        assert "dataframe" in copy._repr_html_()  # type: ignore[operator]
    assert len(pd.concat([found, found])) == 60
    found.to_parquet(tmp_path / "found.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "found.parquet"), plain)
    found["severity"] = "warning"
    assert shown(found).startswith("30 problems in 26 requestswarning 30severity")
    found["seen"] = True
    assert "dataframe" in found._repr_html_()  # type: ignore[operator]


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 1_200])
@pytest.mark.parametrize("theme", ["background:#fff;color:#111", "background:#111;color:#ddd"])
def test_cards_are_legible_in_a_browser(tmp_path: Path, theme: str, width: int) -> None:
    """Nothing is wider than its card, no script runs, and contrast is at least 4.5 to 1."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    drawn = cards(tmp_path / "out")
    page = tmp_path / "page.html"
    page.write_text(
        f"<!doctype html><meta charset='utf-8'><title>not run</title><body style='{theme}'>"
        f"<div style='width:{width}px'>{'<br>'.join(drawn.values())}</div>"
        f"<script>{MEASURE}</script>",
        "utf-8",
    )
    flags = ["headless", "no-sandbox", "disable-gpu", "no-first-run", "disable-sync",
             "disable-background-networking", "disable-component-update", "disable-quic",
             f"user-data-dir={tmp_path / 'profile'}", "dump-dom"]  # fmt: skip
    command = [chromium, *(f"--{flag}" for flag in flags), page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    measured = re.search(r'data-found="([^"]*)"', done.stdout)
    assert measured, done.stderr
    found = json.loads(html.unescape(measured[1]))
    assert "<title>not run</title>" in done.stdout
    assert found.pop("contrast") >= 4.5
    assert found == {"wide": [], "scripts": 0, "cards": len(drawn)}
