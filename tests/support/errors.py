"""Make errors and warnings of all kinds, here and in other processes."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

VALUES: dict[str, Any] = {
    "args": "a line of another service",
    "message": "row 41,203: column 'review' is null",
    "problem": "is null",
    "hint": "drop the row",
    "row": 41_203,
    "column": "réview\x00",
    "custom_id": "a\udc80",
    "path": Path("out/reviews.jsonl"),
    "line": 1_234,
    "index": 5,
    "batch_id": "batch_1",
    "status": "failed",
    "errors": [{"shard": "a.jsonl", "line": None, "code": {"x": [1]}}],
}
"""An argument for each parameter that an error has."""


def made(kind: type[BaseException]) -> BaseException:
    """Make an error with everything that it can have."""
    names = [name for name in inspect.signature(kind.__init__).parameters if name in VALUES]
    named = {name: VALUES[name] for name in names if name != "args"}
    error = kind(**named) if named else kind(VALUES["args"])
    error.add_note("while reading")
    return error


def raise_made(kind: type[BaseException]) -> None:
    """Raise an error, as a task of a pool does."""
    raise made(kind)
