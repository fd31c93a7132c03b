"""Copy the request lines that still lack an answer into new request files."""

from __future__ import annotations

import filecmp
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.arrow import NOWHERE, bytes_of, constant, hash_text, join
from batch_frames.display import some_of
from batch_frames.errors import RequestError
from batch_frames.files import (
    Job,
    Limits,
    Lines,
    Paths,
    Records,
    Shard,
    ShardWriter,
    are_among,
    as_path,
    line_hashes,
    next_round,
    note_replaced,
    open_store,
    pending_lines,
    refuse_in_flight,
    result_files,
    rounds_of,
    set_of,
)
from batch_frames.progress import warn
from batch_frames.requests import LIMITS, Asked, answers_of, body_texts, read_asked, with_body
from batch_frames.results import (
    RANKS,
    STATUSES,
    UNANSWERED,
    KnownResults,
    Outcomes,
    Status,
    best_rows,
    empty_piece,
    is_frame,
    is_lasting,
    own_results,
    read_pieces,
    result_ids,
    result_ranks,
)
from batch_frames.schemas import Answers

__all__ = ["retry_requests"]


Mask = npt.NDArray[np.bool_]
COLUMNS = ["custom_id", "status", "status_code", "file", "line"]
SETTLED = -1  # the rank of what is not to be sent again


def retry_requests(
    requests: Paths,
    results: pd.DataFrame | Paths | None = None,
    path: str | Path | None = None,
    *,
    statuses: Status | Sequence[Status] | None = None,
    permanent: bool = False,
    body: Mapping[str, Any] | None = None,
    limits: Limits = LIMITS,
) -> list[Shard]:
    """Copy the requests that still lack a usable answer, byte for byte, into new request files.

    Of several results of a request the best one counts, so requests and results of earlier rounds
    may be passed together; all results that the record next to the files knows count in any case.
    Memory grows with the number of ids only, not with the size of the files. Requests whose batch
    still runs, or whose results are not there, are skipped with a warning: they are paid for.

    Args:
        requests: The request files, or the path of a set for those of all its rounds; results that
            a glob matches as well are ignored.
        results: What ``read_results``, ``join_results`` or ``run`` returned, or the output and
            error files; request files that a glob matches as well are ignored. None, or no files,
            takes those that the record knows.
        path: The new file; it is split as ``save_to_file`` splits. None takes the next free of
            ``reviews.round-2.jsonl``, ``reviews.round-3.jsonl``, … next to the first request file,
            unless the last of them already holds just these requests, and has no results yet.
        statuses: What is to be sent again; None takes all that are no usable answer. ``"missing"``
            are requests without any result; a malformed result has no id, so that its request is
            missing.
        permanent: Whether to send what failed for good, too: with an HTTP status from 400 to 499
            other than 408, 409, 425 and 429. It is sent in any case where ``statuses`` names
            ``"http_error"``.
        body: Top-level keys of the request bodies to replace or add, as in
            ``retry_requests(path, statuses=["truncated"], body={"max_completion_tokens": 4_000})``;
            all else stays byte for byte. The record notes which requests these are sent in the
            place of, so that their answers count for those, too: of all answers the best.
        limits: How large one file may become.

    Returns:
        The new files; none when there is nothing to retry.

    Raises:
        FileNotFoundError: If there is no such file.
        LineError: If a request file or a result file holds something else.
        TemplateError: If ``body`` is not a dict of JSON values.
        ValueError: If there is no such status.
    """
    wanted, texts = _ranks(statuses), body_texts(body or {})
    asked = read_asked(requests)
    files, own, records = asked.files, set_of(asked.files[0]), Records()
    # A round of which only the record is left counts as well.
    names = [own.name, *records.of(files[0]).names()]
    rounds = rounds_of(own, names)
    last = max(rounds)
    without_lasting = statuses is None and not permanent
    found, sources = _returned(asked, results, wanted)
    pending = _pending(files, records)
    failed = _failed(asked, records) if without_lasting and found.lasting.any() else None
    lines = _unanswered(asked, _best(found, without_lasting), wanted, pending, failed)
    target = next_round(own, names) if path is None else as_path(path)
    shards = _save(lines, target, [*files, *map(as_path, sources)], limits, texts)
    before = rounds[last] if path is None and last > 1 else []
    earlier = set(before)
    again = [one.job.shard for one in pending if one.job.path in earlier and one.job.is_pending]
    if again and not shards:
        return again
    if left_out := [f"'{one.job.path}'" for one in pending if one.counts]:
        listed = some_of(left_out)
        hint = "wait for the batches and download them"
        warn(f"left out the requests of {listed}, which were answered, or may be", hint)
    name = f"{own.stem}.round-{last}"
    is_over = any(Path(n).name.startswith((f"{name}.", f"{name}-")) for n in sources)
    jobs = map(records.of(files[0]).job_of, before)
    is_over |= files[0] in earlier or any(job.has_ended for job in jobs if job)
    return shards if is_over else _reused(shards, before)


def _ranks(statuses: Status | Sequence[Status] | None) -> list[int]:
    if statuses is None:
        statuses = UNANSWERED
    listed = [statuses] if isinstance(statuses, str) else list(statuses)
    for status in listed:
        if status not in RANKS:
            raise ValueError(f"statuses: there is no {status!r}; there are {', '.join(STATUSES)}")
    return [RANKS[status] for status in listed]


class Returned(NamedTuple):
    """What came back.

    Attributes:
        ids: The ``custom_id``s of the results.
        ranks: Their statuses.
        lasting: Which of them are errors that would only come again.
    """

    ids: pa.Array
    ranks: npt.NDArray[np.int8]
    lasting: Mask


def _returned(
    asked: Asked, results: pd.DataFrame | Paths | None, wanted: Sequence[int]
) -> tuple[Returned, list[str]]:
    """Read what came back for requests, and name the files that it was read from."""
    frame = own_results(results) if is_frame(results) else None
    given = result_files(results) if frame is None and results else []
    known = KnownResults(asked, given)
    files = list({path.resolve(): path for path in [*given, *known.files()]}.values())
    answers = _answers(asked, wanted)
    pieces = read_pieces(files, answers) if files else ()
    table = pa.concat_tables(map(_brief, chain([empty_piece()], pieces)))
    table = table.filter(pa.array(~known.others(table)))
    codes = np.nan_to_num(table["status_code"].to_numpy().astype(float))
    ids, ranks = table["custom_id"].combine_chunks(), table["status"].to_numpy().astype(np.int8)
    names = list(map(str, files))
    if frame is not None:
        of_frame = pd.to_numeric(frame.get("status_code", pd.Series(0, frame.index)))
        codes = np.concatenate([codes, of_frame.to_numpy(float, na_value=0)])
        ids = pa.concat_arrays([ids, result_ids(frame).cast(ids.type)])
        ranks = np.concatenate([ranks, result_ranks(frame)])
        names += frame["file"].dropna().unique().tolist() if "file" in frame else []
    return Returned(ids, ranks, is_lasting(ranks, codes)), names


def _answers(asked: Asked, wanted: Sequence[int]) -> Answers | None:
    """Return how to read the answers, if it matters whether they follow their schema."""
    judged = {RANKS["ok"], RANKS["invalid_json"]}
    return None if judged.isdisjoint(wanted) else answers_of(asked)


def _brief(piece: pa.Table) -> pa.Table:
    """Return the columns that count, with the name of the file once for all its lines."""
    brief = piece.select(COLUMNS)
    return brief.set_column(COLUMNS.index("file"), "file", brief["file"].dictionary_encode())


def _best(found: Returned, without_lasting: bool) -> tuple[pa.Array, npt.NDArray[np.int8]]:
    """Return each id once, with its best status; one that nobody wants for lasting errors."""
    unique = found.ids.drop_null().unique()
    index = pc.index_in(found.ids, value_set=unique, skip_nulls=True).fill_null(NOWHERE)
    best = best_rows(np.asarray(index).astype(np.int64), found.ranks, len(unique))
    ranks = found.ranks[best]
    return unique, np.where(without_lasting & found.lasting[best], SETTLED, ranks).astype(np.int8)


def _failed(asked: Asked, records: Records) -> tuple[Mask, Mask]:
    """Return which lines failed for a passing reason, and which for good.

    A lasting error of a line that was sent in the place of another is none of that other one.
    """
    passing, lasting = np.zeros((2, len(asked.places)), bool)
    for record in {id(record): record for record in map(records.of, asked.files)}.values():
        if len(record.replaced.new):
            of_lines = Outcomes(record).find(hash_text(asked.ids)[asked.places], asked.hashes)
            has_failed = of_lines.sent & (of_lines.ranks == RANKS["http_error"])
            passing |= has_failed & of_lines.passes
            lasting |= has_failed & ~of_lines.passes
    return passing, lasting


def _unanswered(
    asked: Asked,
    best: tuple[pa.Array, npt.NDArray[np.int8]],
    wanted: Sequence[int],
    pending: Sequence[Pending],
    failed: tuple[Mask, Mask] | None,
) -> Iterator[Lines]:
    """Yield the lines whose best status is a wanted one, each id once, except pending requests."""
    known, ranks = best
    index = pc.index_in(asked.ids, value_set=known, skip_nulls=True)
    found = pa.array(ranks).take(index).fill_null(RANKS["missing"])
    lacking = np.isin(np.asarray(found), wanted)[asked.places]
    if failed is not None:
        passing, lasting = failed
        lacking |= passing & (np.asarray(found) == SETTLED)[asked.places]
        lacking &= ~lasting
    if pending:
        has_result = np.asarray(index.is_valid())[asked.places]
        lacking &= ~_held(pending, asked.originals, has_result)
    if len(asked.places) > len(asked.ids):
        lacking &= asked.originals == asked.lines[asked.places]
        # Of lines that were sent in the place of each other, the last.
        last = np.zeros(len(asked.ids), np.uint64)
        last[asked.places[lacking]] = asked.hashes[lacking]
        lacking &= asked.hashes == last[asked.places]
    rows = np.flatnonzero(lacking)
    lacking[:] = False
    lacking[rows[np.unique(asked.places[rows], return_index=True)[1]]] = True
    for lines, part in asked.pieces() if len(rows) else ():
        own = np.flatnonzero(lacking[part])
        if len(own):
            yield Lines(lines.path, lines.text.take(pa.array(own)), lines.numbers[own])


def _save(
    pieces: Iterator[Lines],
    target: Path,
    sources: Sequence[Path],
    limits: Limits,
    texts: Mapping[str, str],
) -> list[Shard]:
    first = next(pieces, None)
    if first is None:
        return []
    replaced: list[list[npt.NDArray[np.uint64]]] = []
    with ShardWriter(open_store(target, sources, again=True), limits) as writer:
        lines: Lines | None = first
        while lines is not None:
            text = with_body(lines, texts) if texts else lines.text
            if texts:
                replaced.append([line_hashes(text), line_hashes(lines.text)])
            writer.write(_ended(text), _too_large(lines))
            lines = next(pieces, None)
        refuse_in_flight(writer.changes())
        if texts:
            note_replaced(target.parent, *map(np.concatenate, zip(*replaced, strict=True)))
        return writer.commit()


def _ended(text: pa.Array) -> pa.Array:
    """Append a newline to the last line if it has none."""
    if bytes_of(text)[-1:].tobytes() == b"\n":
        return text
    last = join([text.slice(len(text) - 1), constant("\n")])
    return pa.concat_arrays([text.slice(0, len(text) - 1), last])


def _too_large(lines: Lines) -> Callable[[int, str], RequestError]:
    def error(index: int, problem: str) -> RequestError:
        return RequestError(f"{lines.path}, line {int(lines.numbers[index]):,}: {problem}")

    return error


@dataclass
class Pending:
    """A job that may still bring answers.

    Attributes:
        job: The job.
        lines: The hashes of its lines.
        counts: Whether one of its requests was left out for it.
    """

    job: Job
    lines: npt.NDArray[np.uint64]
    counts: bool = False


def _held(pending: Sequence[Pending], hashes: npt.NDArray[np.uint64], has_result: Mask) -> Mask:
    """Return which lines are among those of jobs, and note the jobs that count for it."""
    held = np.zeros(len(hashes), bool)
    for has_ended in (False, True):
        # Results of an ended batch may have come by other means than `download`.
        left = ~(has_result & has_ended)
        group = [one for one in pending if one.job.has_ended == has_ended]
        lines = [one.lines for one in group]
        for number in np.flatnonzero(are_among(lines, hashes[left])):
            group[number].counts = True
        held |= left & np.isin(hashes, np.concatenate([hashes[:0], *lines]))
    return held


def _pending(files: Sequence[Path], records: Records) -> list[Pending]:
    """List the jobs next to request files that may still bring answers."""
    folders = {id(record): record for record in map(records.of, files)}
    return [Pending(*one) for record in folders.values() for one in pending_lines(record)]


def _reused(shards: list[Shard], before: Sequence[Path]) -> list[Shard]:
    """Keep the files of the round before in place of equal new ones.

    A notebook cell can then be run again, and what it retries is not paid for twice.
    """
    if len(before) != len(shards) or not all(
        filecmp.cmp(old, new.path, shallow=False) for old, new in zip(before, shards, strict=True)
    ):
        return shards
    for shard in shards:
        shard.path.unlink()
    return [Shard(p, s.requests, s.nbytes) for p, s in zip(before, shards, strict=True)]
