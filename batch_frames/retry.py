"""Copy the request lines that still lack an answer into new request files."""

from __future__ import annotations

import filecmp
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.arrow import bytes_of, constant, join
from batch_frames.batches import Job, Ledgers
from batch_frames.errors import RequestError
from batch_frames.files import (
    LEDGER,
    Limits,
    Lines,
    Paths,
    Shard,
    ShardWriter,
    open_store,
    request_files,
    result_files,
)
from batch_frames.requests import lines_with_ids, read_asked
from batch_frames.results import (
    NOWHERE,
    RANKS,
    STATUSES,
    UNANSWERED,
    best_rows,
    empty_piece,
    read_pieces,
    result_ids,
    result_ranks,
)
from batch_frames.schemas import Answers

__all__ = ["retry_requests"]


LIMITS = Limits()


def retry_requests(
    requests: Paths,
    results: pd.DataFrame | Paths,
    path: str | Path | None = None,
    *,
    statuses: Sequence[str] = UNANSWERED,
    limits: Limits = LIMITS,
) -> list[Shard]:
    """Copy the requests that still lack a usable answer, byte for byte, into new request files.

    Of several results of a request the best one counts, so that requests and results of earlier
    rounds may all be given together. Memory does not grow with the files but for the ids. Requests
    that the ledgers beside the files have in flight, or ended but not yet downloaded, are left out
    with a warning: they are paid.

    Args:
        requests: The request files; results that a glob catches are passed over.
        results: What ``read_results`` returned, or the output and error files; request files that a
            glob catches are passed over.
        path: The new file; it is split as ``save_to_file`` splits. None takes the next free of
            ``reviews.retry-1.jsonl``, ``reviews.retry-2.jsonl``, … beside the first request file,
            unless the last of them already holds just these requests, and ``results`` have nothing
            of it yet.
        statuses: What is to be sent again. ``"missing"`` are requests without any result; a
            malformed result has no id, so that its request is missing.
        limits: How large one file may become.

    Returns:
        The new files; none when there is nothing to retry.

    Raises:
        FileNotFoundError: If there is no such file.
        LineError: If a request file holds something else, or a result file does.
        ValueError: If there is no such status.
    """
    statuses = [statuses] if isinstance(statuses, str) else list(statuses)
    for status in statuses:
        if status not in RANKS:
            raise ValueError(f"statuses: there is no {status!r}; there are {', '.join(STATUSES)}")
    files = request_files(requests)
    wanted = [RANKS[status] for status in statuses]
    if isinstance(results, pd.DataFrame):
        sources, ids, ranks = [], result_ids(results), result_ranks(results)
        names = results["file"].dropna().unique().tolist() if "file" in results else []
    else:
        sources = result_files(results)
        names = list(map(str, sources))
        ids, ranks = _read(
            sources, _answers(files) if {"ok", "invalid_json"} & set(statuses) else None
        )
    best = _best(ids, ranks)
    running = _running(files)
    lines = _unanswered(files, best, wanted, _coming(running, best[0]))
    target = _next_round(files[0]) if path is None else Path(path)
    shards = _save(lines, target, [*files, *sources], limits)
    if path is None and not shards and (again := _last_round(files[0], running)):
        return again
    if running:
        listed = ", ".join(f"'{job.path}'" for job in running)
        problem = f"what {listed} may still answer is left out; wait for it, and download it"
        warnings.warn(problem, stacklevel=2)
    return _reused(shards, files, names) if path is None else shards


def _read(files: Sequence[Path], answers: Answers | None) -> tuple[pa.Array, npt.NDArray[np.int8]]:
    """Read ids and statuses alone out of result files."""
    pieces = (p.select(["custom_id", "status"]) for p in read_pieces(files, answers))
    table = pa.concat_tables([empty_piece().select(["custom_id", "status"]), *pieces])
    return table["custom_id"].combine_chunks(), table["status"].to_numpy().astype(np.int8)


def _answers(files: Sequence[Path]) -> Answers | None:
    schema = read_asked(files).schema
    return None if schema is None else Answers(schema)


def _best(ids: pa.Array, ranks: npt.NDArray[np.int8]) -> tuple[pa.Array, npt.NDArray[np.int8]]:
    """Give each id once, with its best status."""
    unique = ids.drop_null().unique()
    index = pc.index_in(ids, value_set=unique, skip_nulls=True).fill_null(NOWHERE)
    best = best_rows(np.asarray(index).astype(np.int64), ranks, len(unique))
    return unique, ranks[best]


def _unanswered(
    files: Sequence[Path],
    best: tuple[pa.Array, npt.NDArray[np.int8]],
    wanted: Sequence[int],
    given: set[str],
) -> Iterator[Lines]:
    """Give the lines whose best status is a wanted one, each id once, but those given already."""
    known, ranks = best
    for lines, ids in lines_with_ids(files):
        index = pc.index_in(ids, value_set=known, skip_nulls=True)
        found = pa.array(ranks).take(index).fill_null(RANKS["missing"])
        lacking = np.flatnonzero(np.isin(np.asarray(found), wanted)).tolist()
        rows = [row for row in lacking if _first_time(given, ids[row].as_py())]
        if rows:
            yield Lines(lines.path, lines.text.take(pa.array(rows)), lines.numbers[rows])


def _first_time(given: set[str], custom_id: str) -> bool:
    before = len(given)
    given.add(custom_id)
    return len(given) > before


def _save(
    pieces: Iterator[Lines], target: Path, sources: Sequence[Path], limits: Limits
) -> list[Shard]:
    first = next(pieces, None)
    if first is None:
        return []
    with ShardWriter(open_store(target, sources), limits) as writer:
        lines: Lines | None = first
        while lines is not None:
            writer.write(_ended(lines.text), _too_large(lines))
            lines = next(pieces, None)
        return writer.commit()


def _ended(text: pa.Array) -> pa.Array:
    """End the last line of a file that ends without a newline."""
    if bytes_of(text)[-1:].tobytes() == b"\n":
        return text
    last = join([text.slice(len(text) - 1), constant("\n")])
    return pa.concat_arrays([text.slice(0, len(text) - 1), last])


def _too_large(lines: Lines) -> Callable[[int, str], RequestError]:
    def error(index: int, problem: str) -> RequestError:
        return RequestError(f"{lines.path}, line {int(lines.numbers[index]):,}: {problem}")

    return error


def _round_name(request_file: Path) -> tuple[str, re.Pattern[str]]:
    """Give the stem of all rounds, and the pattern of their files' names."""
    name = re.sub(r"\.jsonl(\.gz)?$", "", request_file.name)
    stem = re.sub(r"(\.retry-[0-9]+)?(-[0-9]{5})?$", "", name)
    return stem, re.compile(
        rf"{re.escape(stem)}\.retry-([0-9]+)(-[0-9]{{5}})?\.(jsonl|jobs\.jsonl)"
    )


def _running(files: Sequence[Path]) -> list[Job]:
    """List the jobs, of all rounds, whose batches may bring answers yet."""
    rounds = [path for paths in _rounds(files[0]).values() for path in paths]
    requests = [path for path in rounds if not path.name.endswith(LEDGER)]
    ledgers = Ledgers()
    jobs = map(ledgers.job_of, dict.fromkeys([*files, *requests]))
    return [job for job in jobs if job and job.is_awaited]


def _coming(running: Sequence[Job], known: pa.Array) -> set[str]:
    """Collect the ids of requests that may be answered yet, and are paid."""
    flying = [job.path for job in running if not job.has_ended]
    ended = [job.path for job in running if job.has_ended]
    ids = {one for _, ids in lines_with_ids(flying) for one in ids.to_pylist()}
    for _, more in lines_with_ids(ended):
        # Whoever has results of an ended batch has them from elsewhere than `download`.
        ids.update(more.filter(pc.invert(pc.is_in(more, value_set=known))).to_pylist())
    return ids


def _last_round(request_file: Path, running: Sequence[Job]) -> list[Shard]:
    """Give the files of the last round again, where they are all that is still to come."""
    rounds = _rounds(request_file)
    last = rounds.get(max(rounds, default=0), [])
    jobs = [job for job in running if job.path in last]
    return [Shard(job.path, job.requests, job.nbytes) for job in jobs]


def _rounds(request_file: Path) -> dict[int, list[Path]]:
    """List the files of each earlier round, in order; ledgers of rounds are among them."""
    _, pattern = _round_name(request_file)
    rounds: dict[int, list[Path]] = {}
    for path in sorted(request_file.parent.iterdir()):
        if found := pattern.fullmatch(path.name):
            rounds.setdefault(int(found[1]), []).append(path)
    return rounds


def _next_round(request_file: Path) -> Path:
    stem, _ = _round_name(request_file)
    number = max(_rounds(request_file), default=0) + 1
    return request_file.with_name(f"{stem}.retry-{number}.jsonl")


def _reused(shards: list[Shard], files: Sequence[Path], answered: Iterable[str]) -> list[Shard]:
    """Keep the round before instead of an equal one, as long as nobody speaks of its answers.

    So a cell of a notebook can be run again, and what it retries is not paid twice.
    """
    stem, _ = _round_name(files[0])
    rounds = _rounds(files[0])
    number = max(rounds, default=0) - 1
    before = [path for path in rounds.get(number, []) if not path.name.endswith(LEDGER)]
    name = f"{stem}.retry-{number}"
    is_over = any(Path(one).name.startswith((f"{name}.", f"{name}-")) for one in answered)
    if is_over or len(before) != len(shards) or set(before) & set(files):
        return shards
    if not all(filecmp.cmp(a, b.path, shallow=False) for a, b in zip(before, shards, strict=True)):
        return shards
    for shard in shards:
        shard.path.unlink()
    return [Shard(p, s.requests, s.nbytes) for p, s in zip(before, shards, strict=True)]
