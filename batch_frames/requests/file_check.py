"""Check the requests of one file piece by piece, keeping a few bytes of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batch_frames.arrow import TEXT, extract, offsets_of, select
from batch_frames.display import counted
from batch_frames.errors import MissingExtra
from batch_frames.files import Lines, load_exactly
from batch_frames.requests.endpoints import without_version
from batch_frames.requests.rules import Problem, Shape, Shapes, text_in
from batch_frames.requests.tokens import count_tokens

__all__ = ["FileCheck", "Scan"]


OF_SCHEMAS = ("invalid_json_schema", "invalid_function_parameters")

MANY = 10
"""How many requests with the same body are worth a warning."""

INPUTS, INPUTS_OF_FILE, REQUESTS = 2_048, 50_000, 50_000
"""Most embedding inputs of one request and of one file, and most requests of a file."""

IMAGES, IMAGES_SHARE = 20_000_000, 0.5
"""From how many bytes and from which share of a file on embedded images are worth a warning."""

COUNTED, BYTES_A_TOKEN, FEWEST_BYTES = 1_000_000, 4, 2
"""Of how many bytes of a file the tokens are counted, which takes a tenth of a second; how many
bytes are a token if none was counted; and how many it has at least in any but random text."""

INPUT_COUNT = (
    "CASE WHEN json_type(line, '$.body.input[0]') IN ('UBIGINT', 'BIGINT') THEN 1 "
    "ELSE greatest(coalesce(json_array_length(line, '$.body.input'), 1), 1) END"
)
"""How many texts an embedding request has; numbers are the tokens of one text."""

BY_FLAG = {
    "is_empty": Problem("empty_prompt", None, "the prompt is empty", "warning"),
    "is_long": Problem("long_custom_id", "custom_id", "the id is over 64 characters", "warning"),
    "is_unusual": Problem(
        "unusual_custom_id",
        "custom_id",
        "the id has other characters than letters, digits and '_.:|/-'",
        "warning",
    ),
}

ID = "$.custom_id"

Rows = npt.NDArray[np.int64]

Places = list[tuple[Problem, Rows]]

Place = tuple[Problem, Rows, Sequence[str | None]]
"""A problem with the numbers of its lines, -1 for the whole file, and their ids."""


@dataclass(frozen=True)
class Scan:
    """What was found in a piece of lines.

    Attributes:
        lines: The piece.
        broken: For the rows that are not JSON why they are not.
        columns: By name a value for each row, 0 for those that are not JSON. Rows with the same
            ``shape`` have the same problems.
    """

    lines: Lines
    broken: Mapping[int, str]
    columns: Mapping[str, npt.NDArray[Any]]


class Lengths:
    """How many tokens requests have: the first are counted, the others estimated by their sizes."""

    def __init__(self) -> None:
        self._room, self._nbytes, self._tokens = COUNTED, 0, 0.0

    def of(self, scan: Scan, rows: Rows) -> tuple[npt.NDArray[np.float64], bool]:
        """Return the tokens of some rows, NaN where that is not known, and whether all are counted.

        Without what counts tokens, all are estimated.
        """
        text = scan.lines.text.take(pa.array(rows))
        sizes = np.diff(offsets_of(text))
        first = int(np.searchsorted(np.cumsum(sizes), self._room, "right"))
        try:
            found = count_tokens(text[:first])["input_tokens"] if first else []
        except MissingExtra:
            first, self._room, found = 0, 0, []
        tokens = np.array(found, np.float64)
        known = ~np.isnan(tokens)
        self._room -= int(sizes[:first].sum())
        self._nbytes += int(sizes[:first][known].sum())
        self._tokens += tokens[known].sum()
        rate = self._tokens / self._nbytes if self._nbytes else 1 / BYTES_A_TOKEN
        has_image = scan.columns["has_image"][rows[first:]].astype(bool)
        others = np.where(has_image, np.nan, sizes[first:] * rate)
        return np.concatenate((tokens, others)), first == len(rows)


class FileCheck:
    """The check of the requests of one file.

    Args:
        shapes: The shapes met so far, in this file or others.
        again: Reads all lines once more.
    """

    def __init__(self, shapes: Shapes, again: Callable[[], Iterable[Lines]]) -> None:
        self._shapes, self._again = shapes, again
        self._rows: list[Place] = []
        self._once: dict[Problem, tuple[int, str | None, int]] = {}
        self._first: dict[str, tuple[str, int]] = {}
        self._kept: dict[str, list[npt.NDArray[Any]]] = {}
        self._last_line = 0
        self._lengths, self._estimated = Lengths(), set[Problem]()

    def add(self, scan: Scan) -> None:
        """Check a piece of lines."""
        self._add_blank(scan.lines.numbers)
        found: Places = [
            (Problem("invalid_json_line", None, problem), np.array([row]))
            for row, problem in scan.broken.items()
        ]
        sizes = np.diff(offsets_of(scan.lines.text))
        embeddings = [np.zeros(0, np.int64)]
        for shape, rows in self._by_shape(scan):
            first = int(scan.lines.numbers[rows[0]])
            problems = (*shape.problems, *self._strange(shape, first))
            found += [(problem, rows) for problem in problems]
            found += self._too_long(scan, shape, rows, sizes[rows])
            if shape.url and without_version(shape.url) == "/embeddings":
                embeddings.append(rows)
        found += self._inputs(scan, np.sort(np.concatenate(embeddings)))
        flags = BY_FLAG if self._shapes.warnings else {}
        found += [(problem, np.flatnonzero(scan.columns[name])) for name, problem in flags.items()]
        self._note(scan.lines, [(problem, rows) for problem, rows in found if len(rows)])
        for name, column in {**scan.columns, "size": sizes, "line": scan.lines.numbers}.items():
            if name not in BY_FLAG:
                self._kept.setdefault(name, []).append(column)

    def _add_blank(self, numbers: Rows) -> None:
        """Note the blank lines before and among some lines."""
        before = np.concatenate(([self._last_line], numbers))
        gaps = np.flatnonzero(np.diff(before) > 1)
        blank = [np.arange(before[gap] + 1, before[gap + 1]) for gap in gaps]
        self._last_line = int(before[-1])
        if blank:
            lines = np.concatenate(blank)
            problem = Problem("invalid_json_line", None, "the line is blank")
            self._rows.append((problem, lines, [None] * len(lines)))

    def _by_shape(self, scan: Scan) -> Iterator[tuple[Shape, Rows]]:
        """Yield the shapes of a piece, in the order of their first rows, each with its rows."""
        good = np.setdiff1d(np.arange(len(scan.lines.numbers)), [*scan.broken])
        numbers, first, inverse = np.unique(
            scan.columns["shape"][good], return_index=True, return_inverse=True
        )
        order = np.argsort(inverse, kind="stable")
        rows = np.split(good[order], np.cumsum(np.bincount(inverse))[:-1])
        for place in np.argsort(first).tolist():
            raw = scan.lines.raw(int(good[first[place]]))
            yield self._shapes.of(int(numbers[place]), raw), rows[place]

    def _strange(self, shape: Shape, line: int) -> Iterator[Problem]:
        """Yield in what a shape differs from the first request of the file."""
        for code, param, value in (
            ("url_mismatch", "url", shape.url),
            ("mismatched_model", "body.model", shape.model),
        ):
            if value is not None:
                first, at = self._first.setdefault(param, (value, line))
                if value != first:
                    problem = f"{param!r} is {value!r}, but {first!r} in line {at:,}"
                    yield Problem(code, param, problem)

    def _inputs(self, scan: Scan, rows: Rows) -> Places:
        """Count the inputs of embedding requests; return those with too many."""
        if not len(rows):
            return []
        counts = np.asarray(select(scan.lines.text.take(pa.array(rows)), [INPUT_COUNT])[0])
        self._kept.setdefault("inputs", []).append(counts)
        param, most = "body.input", f"at most {INPUTS:,}"
        return [
            (Problem("array_above_max_length", param, f"{n:,} inputs, {most}"), np.array([row]))
            for row, n in zip(rows[counts > INPUTS].tolist(), counts[counts > INPUTS], strict=True)
        ]

    def _too_long(self, scan: Scan, shape: Shape, rows: Rows, sizes: Rows) -> Places:
        """Return the requests with more tokens than is good."""
        found: Places = []
        for most, problem in shape.limits:
            large = rows[sizes > FEWEST_BYTES * most]
            if len(large):
                tokens, is_counted = self._lengths.of(scan, large)
                found.append((problem, large[tokens > most]))
                if not is_counted:
                    self._estimated.add(problem)
        return found

    def _note(self, lines: Lines, found: Places) -> None:
        if not found:
            return
        brief = [(p, rows[:1] if _is_once(p) else rows) for p, rows in found]
        ids = _ids(lines, np.concatenate([rows for _, rows in brief]))
        for (problem, rows), (_, every) in zip(brief, found, strict=True):
            own, ids = ids[: len(rows)], ids[len(rows) :]
            if _is_once(problem):
                first = (int(lines.numbers[rows[0]]), own[0], 0)
                line, custom_id, count = self._once.get(problem, first)
                self._once[problem] = (line, custom_id, count + len(every))
            else:
                self._rows.append((problem, lines.numbers[rows], own))

    @property
    def requests(self) -> int:
        """The number of lines that are not blank."""
        return sum(map(len, self._kept.get("line", ())))

    def table(self, whole: Iterable[Problem] = ()) -> pa.Table:
        """Return all problems, one row each, without the name of the file.

        Args:
            whole: Problems of the file as a whole.
        """
        for problem, (line, custom_id, count) in self._once.items():
            about = "about " * (problem in self._estimated)
            more = f" (in {about}{counted(count, 'request')})" if count > 1 or about else ""
            problem = replace(problem, message=problem.message + more)
            self._rows.append((problem, np.array([line]), [custom_id]))
        self._rows += self._repeated_ids()
        for problem in (*whole, *self._of_all()):
            self._rows.append((problem, np.array([-1]), [None]))
        return _table(self._rows)

    def _all(self, name: str) -> npt.NDArray[Any]:
        return np.concatenate(self._kept.get(name) or [np.zeros(0, np.int64)])

    def _repeated_ids(self) -> list[Place]:
        has_id = self._all("has_id").astype(bool)
        hashes, lines = self._all("id")[has_id], self._all("line")[has_id]
        in_order = np.sort(hashes)
        suspects = np.unique(in_order[1:][in_order[1:] == in_order[:-1]])
        if not len(suspects):
            return []
        ids, places = self._read_ids(lines[np.isin(hashes, suspects)])
        first: dict[str | None, int] = {}
        found: list[Place] = []
        for custom_id, line in zip(ids, places.tolist(), strict=True):
            if (at := first.setdefault(custom_id, line)) != line:
                problem = f"the id is that of line {at:,}, too"
                one = Problem("duplicate_custom_id", "custom_id", problem)
                found.append((one, np.array([line]), [custom_id]))
        return found

    def _read_ids(self, wanted: Rows) -> tuple[list[str | None], Rows]:
        """Read the ids of some lines, which are returned with them."""
        ids: list[str | None] = []
        places = [np.zeros(0, np.int64)]
        for lines in self._again():
            rows = np.flatnonzero(np.isin(lines.numbers, wanted))
            ids += _ids(lines, rows)
            places.append(lines.numbers[rows])
        return ids, np.concatenate(places)

    def _of_all(self) -> Iterator[Problem]:
        """Yield what is wrong with all requests together."""
        inputs = self._all("inputs")
        # Of requests that become several files, each file has its own.
        files = (int(inputs[at : at + REQUESTS].sum()) for at in range(0, len(inputs), REQUESTS))
        if (most := max(files, default=0)) > INPUTS_OF_FILE:
            problem = f"{most:,} embedding inputs in a file, at most {INPUTS_OF_FILE:,}"
            yield Problem("too_many_inputs", "body.input", problem)
        if self._shapes.warnings:
            yield from self._warnings(self._all("size"), int(self._all("size").sum()))

    def _warnings(self, sizes: Rows, total: int) -> Iterator[Problem]:
        images = int(sizes[self._all("has_image").astype(bool)].sum())
        if images >= IMAGES and images >= IMAGES_SHARE * total:
            share = f"{images / total:.0%} of the file is in requests with base64 data"
            problem = f"{share}; an image may be a URL, or the id of an uploaded file"
            yield Problem("base64_images", None, problem, "warning")
        bodies = self._all("body")
        _, first, inverse, counts = np.unique(
            bodies, return_index=True, return_inverse=True, return_counts=True
        )
        again = counts[inverse] >= MANY
        again[first] = False
        if again.any():
            share = f"{sizes[again].sum() / total:.0%} of the bytes"
            many = counted(int(again.sum()), "request repeats", "requests repeat")
            problem = f"{many} the body of an earlier one, {share}; dedupe=True asks each once"
            yield Problem("repeated_prompt", "body", problem, "warning")


def _is_once(problem: Problem) -> bool:
    """Return whether a problem of many lines has one row."""
    return problem.severity == "warning" or problem.code in OF_SCHEMAS


def _ids(lines: Lines, rows: Rows) -> list[str | None]:
    """Read the ids of some rows."""
    ids: list[str | None] = extract(lines.text.take(pa.array(rows)), [ID])[ID].to_pylist()
    for place, row in enumerate(rows.tolist()):
        if ids[place] is None:
            try:
                ids[place] = text_in(load_exactly(lines.raw(row)), "custom_id")
            except ValueError:
                continue
    return ids


def _table(rows: Sequence[Place]) -> pa.Table:
    counts = [len(lines) for _, lines, _ in rows]
    which = pa.array(np.repeat(np.arange(len(rows)), counts))
    lines = np.concatenate([np.zeros(0, np.int64), *(lines for _, lines, _ in rows)])
    ids = [custom_id for _, _, own in rows for custom_id in own]
    texts = {
        name: pa.array([getattr(problem, name) for problem, _, _ in rows], TEXT).take(which)
        for name in ("severity", "code", "param", "message")
    }
    return pa.table(
        {**texts, "line": pa.array(lines, mask=lines < 0), "custom_id": pa.array(ids, TEXT)}
    )
