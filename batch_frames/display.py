"""Draw cards for notebooks, and format sizes, counts and lists for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

__all__ = ["NAMED", "bar_html", "brief", "card_html", "counted", "size_text", "some_of"]


NAMED = 3
"""How many items a message names."""

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
"""Colors by the status of a batch."""


def bar_html(parts: Mapping[str, float]) -> str:
    """Draw statuses as a bar, each in proportion to its number.

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
    """Draw a card with a title, a bar, named facts and a text, all escaped but the bar."""
    cells = "".join(
        f"<span style='margin-right:1.5em'><b>{escape(name)}</b> {escape(fact)}</span>"
        for name, fact in facts.items()
    )
    shown = "" if text is None else text[:SHOWN] + "…" * (len(text) > SHOWN)
    pre = f"<pre style='{TEXT}'>{escape(shown)}</pre>" if shown else ""
    return f"<div style='{BOX}'><div><b>{escape(title)}</b></div>{bar}<div>{cells}</div>{pre}</div>"


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
