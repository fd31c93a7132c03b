"""Draw cards for notebooks, and format sizes, counts and lists for people."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

__all__ = [
    "COLORS",
    "GREY",
    "NAMED",
    "bar_html",
    "brief",
    "card_html",
    "cost_text",
    "counted",
    "estimate_html",
    "estimate_texts",
    "note_html",
    "printable",
    "problems_html",
    "request_html",
    "size_text",
    "some_of",
    "table_html",
]


NAMED = 3
"""How many items a message names."""

SHOWN_TEXT = 1_000
"""How many characters of a text a card shows."""

SHOWN_ROWS = 20
"""How many rows a table of a card shows."""

STYLE = """
.bf-card {border: 1px solid #8886; border-radius: 8px; padding: 10px 14px; max-width: 60em;
  box-sizing: border-box; font: 13px/1.5 system-ui, sans-serif; color: inherit;
  overflow-wrap: anywhere}
.bf-card .bf-title {font-weight: 600; font-size: 14px}
.bf-card .bf-facts, .bf-card .bf-legend {display: flex; flex-wrap: wrap; gap: 2px 20px;
  margin: 6px 0 0}
.bf-card .bf-facts b {display: block; font-weight: 400; font-size: 11px; opacity: .8}
.bf-card .bf-bar {display: flex; height: 10px; border-radius: 5px; overflow: hidden;
  margin: 8px 0 0}
.bf-card .bf-legend i {display: inline-block; width: 9px; height: 9px; border-radius: 5px;
  margin-right: 6px}
.bf-card .bf-scroll {overflow-x: auto; margin: 8px 0 0}
.bf-card table {border-collapse: collapse; font-size: 12px; color: inherit; margin: 0}
.bf-card th, .bf-card td {padding: 2px 20px 2px 0; text-align: left; white-space: nowrap;
  border: 0; background: none; color: inherit}
.bf-card th {font-weight: 400; font-size: 11px; opacity: .8}
.bf-card tr {border-bottom: 1px solid #8883; background: none}
.bf-card .bf-number {text-align: right; font-variant-numeric: tabular-nums}
.bf-card .bf-chat {display: flex; flex-direction: column; gap: 6px; margin: 8px 0 0}
.bf-card .bf-says {max-width: 80%; align-self: flex-start; padding: 4px 10px; background: #8882;
  border-radius: 10px; white-space: pre-wrap}
.bf-card .bf-user {align-self: flex-end; background: #3b82c433}
.bf-card .bf-says b {display: block; font-weight: 400; font-size: 11px; opacity: .8}
.bf-card .bf-note {font-size: 11px; opacity: .8; margin: 6px 0 0}
.bf-card details {margin: 8px 0 0}
.bf-card summary {cursor: pointer}
"""
"""Colors are those of the notebook, made paler, so that cards are legible in any theme."""

COLORS = {
    **dict.fromkeys(("completed", "answered", "ok"), "#2a9d5c"),
    **dict.fromkeys(("in_progress", "finalizing", "under_way"), "#3b82c4"),
    **dict.fromkeys(("validating", "new"), "#7da7d1"),
    **dict.fromkeys(("failed", "http_error", "error"), "#c8453b"),
    **dict.fromkeys(("expired", "cancelled", "changed", "warning"), "#d9913a"),
}
"""Colors by the status of a batch, or the state of a row."""

GREY = "#888"

CONTROLS = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Characters that command a terminal or change the order of text, apart from tab and newline."""


def printable(text: str) -> str:
    """Escape control characters, so that a text from elsewhere cannot change what is shown.

    Example:
        >>> printable("\\x1b[2J done")
        '\\\\x1b[2J done'
    """
    return CONTROLS.sub(lambda found: repr(found[0])[1:-1], text)


def card_html(title: str, facts: Mapping[str, str], *parts: str) -> str:
    """Draw a card.

    Args:
        title: The title; it is escaped, as the facts are.
        facts: Named values.
        parts: What the functions below return.
    """
    cells = "".join(
        f"<span><b>{escape(name)}</b> {escape(fact)}</span>" for name, fact in facts.items()
    )
    shown = f"<div class='bf-facts'>{cells}</div>" if cells else ""
    head = f"<style>{STYLE}</style><div class='bf-title'>{escape(title)}</div>"
    return f"<div class='bf-card'>{head}{shown}{''.join(parts)}</div>"


def bar_html(parts: Mapping[str, int]) -> str:
    """Draw a bar with a piece for each state, in proportion to its number, and a legend.

    Example:
        >>> bar_html({"completed": 0})
        ''
    """
    counts = {name: count for name, count in parts.items() if count}
    total = sum(counts.values())
    pieces, legend = "", ""
    for name, count in counts.items():
        color = f"background:{COLORS.get(name, GREY)}"
        pieces += f"<span style='width:{100 * count / total:.1f}%;{color}'></span>"
        legend += f"<span><i style='{color}'></i>{escape(name)} {count:,}</span>"
    if not counts:
        return ""
    return f"<div class='bf-bar'>{pieces}</div><div class='bf-legend'>{legend}</div>"


def table_html(
    names: Sequence[str], rows: Sequence[Sequence[object]], total: int | None = None
) -> str:
    """Draw the first rows of a table, numbers to the right; None is an empty cell.

    Args:
        names: The names of the columns.
        rows: All rows, or at least the first twenty.
        total: Number of rows; None counts them.
    """
    are_numbers = [
        all(value is None or isinstance(value, int) for value in values)
        for values in zip(*rows, strict=True)
    ]
    classes = [" class='bf-number'" if number else "" for number in are_numbers]
    head = _row("th", names, classes or [""] * len(names))
    body = "".join(_row("td", row, classes) for row in rows[:SHOWN_ROWS])
    more = (len(rows) if total is None else total) - SHOWN_ROWS
    note = note_html(f"… and {more:,} more") if more > 0 else ""
    return f"<div class='bf-scroll'><table>{head}{body}</table></div>{note}" if rows else ""


def _row(tag: str, values: Sequence[object], classes: Sequence[str]) -> str:
    cells = (
        f"<{tag}{style}>{escape(_cell(value))}</{tag}>"
        for value, style in zip(values, classes, strict=True)
    )
    return f"<tr>{''.join(cells)}</tr>"


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else _cut(str(value))


def note_html(text: str) -> str:
    """Draw a remark."""
    return f"<div class='bf-note'>{escape(text)}</div>"


def request_html(request: Mapping[str, Any], *, is_open: bool = True) -> str:
    """Draw a request as a chat with its other parameters, folded up or not."""
    body = dict(request["body"])
    bubbles = "".join(_bubble(role, text) for role, text in _messages(body))
    named = (
        f"<span>{escape(name)} {escape(_cut(_json(value)))}</span>" for name, value in body.items()
    )
    head = f"<details{' open' * is_open}><summary>{escape(request['custom_id'])}</summary>"
    rest = f"<div class='bf-note bf-legend'>{''.join(named)}</div>"
    return f"{head}<div class='bf-chat'>{bubbles}</div>{rest}</details>"


def _bubble(role: str, text: str) -> str:
    kind = "bf-says bf-user" if role == "user" else "bf-says"
    return f"<div class='{kind}'><b>{escape(role)}</b>{escape(_cut(text))}</div>"


def _messages(body: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Take the messages out of the body of a request, and yield their roles and texts."""
    if "instructions" in body:
        yield "system", _text(body.pop("instructions"))
    for name in ("messages", "input", "prompt"):
        value = body.pop(name, None)
        messages = value if isinstance(value, list) else [value]
        if all(isinstance(one, dict) and "role" in one for one in messages):
            yield from ((str(one["role"]), _text(one.get("content", one))) for one in messages)
        elif value is not None:
            yield "user", _text(value)


def _text(content: object) -> str:
    """Return the text of a message; of its other parts the kind."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return _json(content)
    return "\n".join(_part(part) for part in content)


def _part(part: object) -> str:
    if isinstance(part, dict):
        return part["text"] if isinstance(part.get("text"), str) else f"[{part.get('type')}]"
    return _text(part)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _cut(text: str) -> str:
    """Shorten a text, and say how long it was."""
    if len(text) <= SHOWN_TEXT:
        return text
    return f"{text[:SHOWN_TEXT]}… ({len(text):,} characters)"


def problems_html(found: Any) -> str:
    """Draw what ``check_requests`` returns."""
    requests = counted(found.attrs["requests"], "request")
    if not len(found):
        return card_html(f"No problems in {requests}", {})
    severities = found["severity"].value_counts().to_dict()
    counts = found.groupby(["severity", "code"], observed=True, sort=False).size()
    codes = table_html(("severity", "code", "problems"), [(*key, n) for key, n in counts.items()])
    names = ["severity", "message", "file", "line", "custom_id", "param"]
    first = (
        _short_names(found)[names].head(SHOWN_ROWS).dropna(axis="columns", how="all").astype(object)
    )
    rows = first.where(first.notna(), None).to_numpy().tolist()
    table = table_html([*first], rows, len(found))
    title = f"{counted(len(found), 'problem')} in {requests}"
    return card_html(title, {}, bar_html(severities), codes, table)


def estimate_html(found: Any) -> str:
    """Draw what ``estimate`` returns."""
    names, *files, total = estimate_texts(_short_names(found))
    facts = dict(zip(names[1:], total[1:], strict=True))
    mean = found["cost"].iloc[-1]
    if mean == mean:
        facts["mean cost"] = cost_text(mean, mean)
    source = note_html(f"prices of {found.attrs['prices']}, {found.attrs['tier']}")
    return card_html("Estimate", facts, table_html(names, files), source)


def _short_names(found: Any) -> Any:
    """Return a frame with the names of its files, without their folders."""
    return found.assign(file=found["file"].map(lambda path: Path(path).name, "ignore"))


def estimate_texts(found: Any) -> list[list[str]]:
    """Return the names, rows and total of what ``estimate`` returns, as text."""
    days = ["days"] if "days" in found else []
    texts = [["file", "requests", "input tokens", "counted", "output tokens", "cost", *days]]
    for row in found.to_dict("records"):
        names = ("input_tokens", "output_low", "output_high", *days)
        tokens, low, high, *of_days = (_count(row[name]) for name in names)
        output = low if low == high else f"{low} to {high}"
        cost = cost_text(row["cost_low"], row["cost_high"])
        requests = f"{row['requests']:,}"
        texts.append([row["file"], requests, tokens, row["counted"], output, cost, *of_days])
    return texts


def _count(number: object) -> str:
    return f"{number:,}" if isinstance(number, int) else "?"


def size_text(nbytes: float) -> str:
    """Format a number of bytes for people.

    Example:
        >>> size_text(1_234_567)
        '1.2 MB'
    """
    for unit in ("bytes", "kB", "MB"):
        if nbytes < 1_000:
            return f"{nbytes:,.0f} {unit}" if unit == "bytes" else f"{nbytes:.1f} {unit}"
        nbytes /= 1_000
    return f"{nbytes:,.1f} GB"


def some_of(items: Sequence[object], total: int | None = None, *, between: str = ", ") -> str:
    """Format the first three items, and how many more there are.

    Args:
        items: All items, or at least the first three.
        total: Number of items; None counts them.
        between: Separator.

    Example:
        >>> some_of(["a", "b", "c", "d", "e"])
        'a, b, c, … and 2 more'
        >>> some_of(["a", "b"])
        'a, b'
    """
    more = (len(items) if total is None else total) - NAMED
    shown = [str(item) for item in items[:NAMED]]
    return between.join([*shown, *([f"… and {more:,} more"] if more > 0 else [])])


def brief(value: object) -> str:
    """Format a number or other short value, and name the type of any other, such as a table.

    Example:
        >>> brief(5), brief([5])
        ('5', 'a list')
    """
    kind = type(value).__name__
    is_short = value is None or isinstance(value, (bool, int, float, str, bytes))
    return repr(value) if is_short else f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def counted(count: int, one: str, many: str | None = None) -> str:
    """Format a count with its noun in the singular or plural.

    Example:
        >>> counted(1, "batch", "batches"), counted(1_234, "row")
        ('1 batch', '1,234 rows')
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def cost_text(low: float, high: float) -> str:
    """Format a range of dollars for people; NaN is not known.

    Example:
        >>> cost_text(0.01234, 1_234.5), cost_text(2, 2), cost_text(2, float("nan"))
        ('$0.0123 to $1,234.50', '$2.00', '$2.00 or more')
        >>> cost_text(float("nan"), 5)
        'unknown'
    """
    texts = [f"${one:,.{2 if one >= 1 else 4}f}" for one in (low, high)]
    if low != low:
        return "unknown"
    if high != high:
        return f"{texts[0]} or more"
    return texts[0] if texts[0] == texts[1] else " to ".join(texts)
