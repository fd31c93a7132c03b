"""Draw the cards that notebooks show."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

__all__ = ["bar_html", "card_html", "size_text"]


BOX = "border:1px solid #8884;border-radius:6px;padding:8px 12px;max-width:60em"

TEXT = "white-space:pre-wrap;overflow-wrap:anywhere;max-height:16em;overflow:auto;margin:6px 0 0"

SHOWN = 4_000

COLORS = {
    "completed": "#2a9d5c",
    "in_progress": "#3b82c4",
    "finalizing": "#3b82c4",
    "validating": "#8fb8dd",
    "failed": "#c8453b",
    "expired": "#d9913a",
    "cancelled": "#d9913a",
}
"""By the service's words for the status of a batch."""


def bar_html(parts: Mapping[str, float]) -> str:
    """Draw statuses as a bar, each as wide as its number.

    Example:
        >>> bar_html({"completed": 0})
        ''
    """
    total = sum(parts.values())
    pieces = "".join(
        f"<span title='{escape(name)}' style='width:{100 * part / total:.1f}%;"
        f"background:{COLORS.get(name, '#8888')}'></span>"
        for name, part in parts.items()
        if part
    )
    style = "display:flex;height:8px;border-radius:4px;overflow:hidden;margin:6px 0"
    return f"<div style='{style}'>{pieces}</div>" if pieces else ""


def card_html(title: str, facts: Mapping[str, str], text: str | None, bar: str = "") -> str:
    """Draw a title, facts with their names, and a text, all escaped; a bar stands between."""
    cells = "".join(
        f"<span style='margin-right:1.5em'><b>{escape(name)}</b> {escape(fact)}</span>"
        for name, fact in facts.items()
    )
    shown = "" if text is None else text[:SHOWN] + "…" * (len(text) > SHOWN)
    pre = f"<pre style='{TEXT}'>{escape(shown)}</pre>" if shown else ""
    return f"<div style='{BOX}'><div><b>{escape(title)}</b></div>{bar}<div>{cells}</div>{pre}</div>"


def size_text(nbytes: float) -> str:
    """Write a number of bytes for people.

    Example:
        >>> size_text(1_234_567)
        '1.2 MB'
    """
    for unit in ("bytes", "kB", "MB"):
        if nbytes < 1_000:
            return f"{nbytes:,.0f} {unit}" if unit == "bytes" else f"{nbytes:.1f} {unit}"
        nbytes /= 1_000
    return f"{nbytes:,.1f} GB"
