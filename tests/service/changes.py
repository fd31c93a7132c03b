"""Change replies of the service: values, keys and types anywhere, or the text of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

STATUSES = ("validating", "failed", "in_progress", "finalizing", "completed", "expired")

ODD = [
    *(None, True, False, 0, -1, 4.0, 0.5, 1e308, 10**15, 10**30, -(10**30)),
    *("", "4", "x", "\x1b[2J\u202e", "\ud800", "2026-11-22T10:00:00Z", "Completed"),
    *([], [None], [1], ["x"], {}, {"id": None}, {"message": {"x": 1}}, [{"line": [1]}]),
]
"""Values that are found in the place of others."""

VALUES: st.SearchStrategy[Any] = st.sampled_from(ODD) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2)
    ),
    max_leaves=4,
)

TEXTS = [
    *(b"", b"null", b"[]", b"{}", b"<html>Just a moment</html>", b'{"id": "\xff\xfe"}'),
    *(b'"text"', b"4", b"[null]", b"\xef\xbb\xbf{}", b'{"object": "page"}'),
]

Path = tuple[str | int, ...]


def paths_in(value: Any, path: Path = ()) -> Iterator[Path]:
    """List the paths to all values in a JSON value."""
    yield path
    inside: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, (dict, list)):
        inside = value.items() if isinstance(value, dict) else enumerate(value)
    for step, inner in inside:
        yield from paths_in(inner, (*path, step))


@dataclass(frozen=True)
class Changed:
    """Change a reply in one place.

    Attributes:
        how: "replace", "drop", "rename" or "insert" a value; "cut" the text or send another "text".
        where: Which place, as a part of all of them.
        value: The new value, name or text.
        status: Another HTTP status; None leaves it.
    """

    how: str
    where: float = 0.0
    value: Any = None
    status: int | None = None

    def __call__(self, status: int, data: bytes) -> tuple[int, bytes]:
        """Change a reply; one that is no JSON is cut or becomes another text."""
        status = self.status or status
        if self.how == "text":
            return status, bytes(self.value)
        if self.how != "cut":
            try:
                return status, json.dumps(self._changed(json.loads(data))).encode()
            except ValueError:
                pass
        return status, data[: int(self.where * len(data))]

    def _changed(self, reply: Any) -> Any:
        paths = list(paths_in(reply))
        if self.how != "replace":
            paths = paths[1:] or paths
        path = paths[int(self.where * len(paths))]
        if not path:
            return self.value
        reply = deepcopy(reply)
        inside = reply
        for step in path[:-1]:
            inside = inside[step]
        last = path[-1]
        if self.how == "replace":
            inside[last] = self.value
        elif self.how == "insert" and isinstance(inside, list):
            inside.insert(int(last), self.value)
        else:
            value = inside.pop(last)
            if self.how != "drop" and isinstance(inside, dict):
                inside[str(self.value)] = value
        return reply


WHERE = st.floats(0, 1, exclude_max=True)

CHANGES: st.SearchStrategy[Changed] = st.one_of(
    st.builds(Changed, st.sampled_from(["replace", "insert"]), WHERE, VALUES),
    st.builds(Changed, st.just("drop"), WHERE),
    st.builds(Changed, st.just("rename"), WHERE, st.sampled_from(["items", "results", "Id", "x"])),
    st.builds(Changed, st.just("cut"), WHERE),
    st.builds(Changed, st.just("text"), st.just(0.0), st.sampled_from(TEXTS)),
    st.just(Changed("text", value=b"", status=204)),
)
"""Changes of all kinds."""


def with_values(**values: Any) -> Callable[[int, bytes], tuple[int, bytes]]:
    """Change some values in a reply."""
    return lambda status, data: (status, json.dumps({**json.loads(data), **values}).encode())
