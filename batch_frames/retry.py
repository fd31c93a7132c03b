"""Copy the request lines that still lack an answer into new request files."""

from __future__ import annotations

import filecmp
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.arrow import bytes_of, constant, join
from batch_frames.batches import Job, Ledgers
from batch_frames.display import some_of
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
from batch_frames.progress import warn
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

    Of several results of a request the best one counts, so requests and results of earlier rounds
    may be passed together. Memory grows with the number of ids only, not with the size of the
    files. Requests whose batch is still running or not yet downloaded are skipped with a warning:
    they are already paid for.

    Args:
        requests: The request files; results that a glob matches as well are ignored.
        results: What ``read_results`` returned, or the output and error files; request files that a
            glob matches as well are ignored.
        path: The new file; it is split as ``save_to_file`` splits. None takes the next free of
            ``reviews.retry-1.jsonl``, ``reviews.retry-2.jsonl``, … next to the first request file,
            unless the last of them already holds just these requests, and ``results`` has nothing
            of it yet.
        statuses: What is to be sent again. ``"missing"`` are requests without any result; a
            malformed result has no id, so that its request is missing.
        limits: How large one file may become.

    Returns:
        The new files; none when there is nothing to retry.

    Raises:
        FileNotFoundError: If there is no such file.
        LineError: If a request file or a result file holds something else.
        ValueError: If there is no such status.
    """
    statuses = [statuses] if isinstance(statuses, str) else list(statuses)
    for status in statuses:
        if status not in RANKS:
            raise ValueError(f"statuses: there is no {status!r}; there are {', '.join(STATUSES)}")
    files = request_files(requests)
    stem, rounds = _rounds(files[0])
    last = max(rounds, default=0)
    wanted = [RANKS[status] for status in statuses]
    if isinstance(results, pd.DataFrame):
        sources, ids, ranks = [], result_ids(results), result_ranks(results)
        names = results["file"].dropna().unique().tolist() if "file" in results else []
    else:
        sources = result_files(results)
        names = list(map(str, sources))
        ids, ranks = _read(sources, _answers(files, statuses))
    best = _best(ids, ranks)
    running = _running([*files, *chain.from_iterable(rounds.values())])
    lines = _unanswered(files, best, wanted, _pending_ids(running, best[0]))
    target = files[0].with_name(f"{stem}.retry-{last + 1}.jsonl") if path is None else Path(path)
    shards = _save(lines, target, [*files, *sources], limits)
    before = rounds.get(last, []) if path is None else []
    again = [Shard(job.path, job.requests, job.nbytes) for job in running if job.path in before]
    if again and not shards:
        return again
    if running:
        listed = some_of([f"'{job.path}'" for job in running])
        hint = "wait for the batches and download them"
        warn(f"left out the requests of {listed}, which may still be answered", hint)
    name = f"{stem}.retry-{last}"
    is_over = any(Path(n).name.startswith((f"{name}.", f"{name}-")) for n in names)
    return shards if is_over or set(before) & set(files) else _reused(shards, before)


def _read(files: Sequence[Path], answers: Answers | None) -> tuple[pa.Array, npt.NDArray[np.int8]]:
    """Read only ids and statuses from result files."""
    pieces = (p.select(["custom_id", "status"]) for p in read_pieces(files, answers))
    table = pa.concat_tables([empty_piece().select(["custom_id", "status"]), *pieces])
    return table["custom_id"].combine_chunks(), table["status"].to_numpy().astype(np.int8)


def _answers(files: Sequence[Path], statuses: Sequence[str]) -> Answers | None:
    if not {"ok", "invalid_json"} & set(statuses):
        return None
    schema = read_asked(files).schema
    return None if schema is None else Answers(schema)


def _best(ids: pa.Array, ranks: npt.NDArray[np.int8]) -> tuple[pa.Array, npt.NDArray[np.int8]]:
    """Return each id once, with its best status."""
    unique = ids.drop_null().unique()
    index = pc.index_in(ids, value_set=unique, skip_nulls=True).fill_null(NOWHERE)
    best = best_rows(np.asarray(index).astype(np.int64), ranks, len(unique))
    return unique, ranks[best]


def _unanswered(
    files: Sequence[Path],
    best: tuple[pa.Array, npt.NDArray[np.int8]],
    wanted: Sequence[int],
    done: set[str],
) -> Iterator[Lines]:
    """Yield the lines whose best status is a wanted one, each id once, except ids in ``done``."""
    known, ranks = best
    for lines, ids in lines_with_ids(files):
        index = pc.index_in(ids, value_set=known, skip_nulls=True)
        found = pa.array(ranks).take(index).fill_null(RANKS["missing"])
        lacking = np.flatnonzero(np.isin(np.asarray(found), wanted)).tolist()
        rows = [row for row in lacking if _first_time(done, ids[row].as_py())]
        if rows:
            yield Lines(lines.path, lines.text.take(pa.array(rows)), lines.numbers[rows])


def _first_time(done: set[str], custom_id: str) -> bool:
    before = len(done)
    done.add(custom_id)
    return len(done) > before


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
    """Append a newline to the last line if it has none."""
    if bytes_of(text)[-1:].tobytes() == b"\n":
        return text
    last = join([text.slice(len(text) - 1), constant("\n")])
    return pa.concat_arrays([text.slice(0, len(text) - 1), last])


def _too_large(lines: Lines) -> Callable[[int, str], RequestError]:
    def error(index: int, problem: str) -> RequestError:
        return RequestError(f"{lines.path}, line {int(lines.numbers[index]):,}: {problem}")

    return error


def _rounds(request_file: Path) -> tuple[str, dict[int, list[Path]]]:
    """Return the stem of all rounds, and the request files of each earlier one, in order.

    A round of which only the ledger is left counts, with no files.
    """
    name = re.sub(r"\.jsonl(\.gz)?$", "", request_file.name)
    stem = re.sub(r"(\.retry-[0-9]+)?(-[0-9]{5})?$", "", name)
    pattern = re.compile(rf"{re.escape(stem)}\.retry-([0-9]+)(-[0-9]{{5}})?\.(jsonl|jobs\.jsonl)")
    rounds: dict[int, list[Path]] = {}
    for path in sorted(request_file.parent.iterdir()):
        if found := pattern.fullmatch(path.name):
            files = rounds.setdefault(int(found[1]), [])
            files += [] if path.name.endswith(LEDGER) else [path]
    return stem, rounds


def _running(files: Sequence[Path]) -> list[Job]:
    """List the jobs whose batches may still bring answers."""
    jobs = map(Ledgers().job_of, dict.fromkeys(files))
    return [job for job in jobs if job and job.needs_download]


def _pending_ids(running: Sequence[Job], known: pa.Array) -> set[str]:
    """Collect the ids of requests that may still be answered, and are paid for."""
    in_flight = [job.path for job in running if not job.has_ended]
    ended = [job.path for job in running if job.has_ended]
    ids = {one for _, ids in lines_with_ids(in_flight) for one in ids.to_pylist()}
    for _, more in lines_with_ids(ended):
        # Results of an ended batch may have come by other means than `download`.
        ids.update(more.filter(pc.invert(pc.is_in(more, value_set=known))).to_pylist())
    return ids


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
