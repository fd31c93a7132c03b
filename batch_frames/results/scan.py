"""Read and join results as streams, for tables that do not fit in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.arrow import NOWHERE, TEXT, BestRows, Lookup
from batch_frames.display import NAMED
from batch_frames.errors import BatchFramesError, naming
from batch_frames.files import Paths, as_path, open_store, result_files
from batch_frames.frames import (
    CsvSource,
    ParquetSource,
    find_columns,
    is_parquet,
    open_arrow,
    read_stream,
    read_table,
    to_dataframe,
    use_stream,
    without_views,
    write_parquet,
)
from batch_frames.progress import progress_bar, warn
from batch_frames.requests import Asked, answers_of, read_asked
from batch_frames.results.fields import (
    OF_ALL,
    RANKS,
    RESULTS,
    STATUSES,
    answer_field,
    answer_names,
    is_frame,
    lasting,
    names_of,
    noted,
    own_results,
    status_array,
)
from batch_frames.results.known import KnownResults
from batch_frames.results.match import (
    SUPERSEDED,
    Dropped,
    check_names,
    frame_ids,
    look_up,
    refuse_names_in_both,
    result_ranks,
    warn_of_left,
)
from batch_frames.results.read import empty_piece, read_pieces
from batch_frames.schemas import Answers

__all__ = ["join_files", "scan_results"]


OUT_ROWS = 16_384


def scan_results(
    paths: Paths | None = None,
    *,
    requests: Paths | None = None,
    json_schema: Any = None,
    usage: bool = True,
    raw: bool = False,
    progress: bool | None = None,
) -> pa.RecordBatchReader:
    """Read output and error files as a stream, in memory that does not grow with their size.

    Whatever speaks Arrow takes the stream: DuckDB, polars, a Parquet writer, or ``join_results``
    with ``out=``. Without ``requests`` files are read as the stream is. With them, as
    ``read_results`` has it, the files are read first, and their rows are kept in temporary files
    (below ``TMPDIR``) until they can be returned in order; memory is then about fifty bytes a
    request, beside its ``custom_id``.

    Args:
        paths: As for ``read_results``, as all but the last.
        requests: The request files that were sent.
        json_schema: The schema that answers follow.
        usage: Whether to return the columns with numbers of tokens.
        raw: Whether to return the ``body`` of every row, as compact JSON.
        progress: Whether to show a progress bar; None shows it after two seconds.

    Returns:
        A reader of the columns of ``read_results(dtype_backend="pyarrow")``, those too that no row
        has. ``choices`` is null for requests of one choice, and ``embedding`` is a list of vectors.

    Raises:
        TypeError: If there are neither paths nor requests.
        FileNotFoundError: If there is no such file.
        LineError: If there are only requests, or results in another service's own format.
        TemplateError: If ``json_schema`` is not a schema.

    Example:
        >>> import pathlib, tempfile
        >>> line = '{"custom_id": "r7", "response": null, "error": {"code": "batch_expired"}}'
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "errors.jsonl"
        >>> _ = path.write_text(line)
        >>> scan_results(path).read_all()["status"].to_pylist()
        ['expired']
    """
    if paths is None and requests is None:
        raise TypeError("scan_results takes paths, or requests= whose results are known")
    asked = None if requests is None else read_asked(requests)
    given = None if paths is None else result_files(paths)
    answers = answers_of(asked, json_schema)
    columns = _columns(answers, usage=usage)
    stream = _shown(empty_piece(answers), columns).schema
    tables: Iterator[pa.Table]
    if asked is None:
        tables = (_shown(piece, columns) for piece in read_pieces(given or [], answers, raw=raw))
    else:
        known = KnownResults(asked, given or [])
        files = known.files() if given is None else given
        pieces = read_pieces(files, answers, raw=raw) if files else iter(())
        best = BestRows(len(asked.ids), empty_piece(answers).select(list(columns.values())).schema)
        _read_all(asked, known, pieces, best, is_given=given is not None, progress=progress)
        tables = _in_order(asked, known, best, columns)
        stream = stream.with_metadata({OF_ALL: str(len(asked.ids))})
    batches = (batch for table in tables for batch in table.cast(stream).to_batches(OUT_ROWS))
    return pa.RecordBatchReader.from_batches(stream, batches)


def _columns(answers: Answers | None, *, usage: bool) -> dict[str, str]:
    """Map the columns of the stream to those of a piece."""
    names = answer_names(() if answers is None else answers.names)
    then = names_of("then", "usage") if usage else names_of("then")
    sometimes = [one for one in names_of("sometimes") if usage or one != "cache_write_tokens"]
    typed = {free: answer_field(name) for name, free in names.items()}
    first, others = names_of("first"), [*then, *sometimes]
    return {**{name: name for name in first}, **typed, **{name: name for name in others}}


def _shown(piece: pa.Table, columns: Mapping[str, str]) -> pa.Table:
    table = pa.table({name: piece[column] for name, column in columns.items()})
    status = status_array(piece["status"].to_numpy().astype(np.int8))
    return table.set_column(table.column_names.index("status"), "status", status)


def _read_all(
    asked: Asked,
    known: KnownResults,
    pieces: Iterator[pa.Table],
    best: BestRows,
    *,
    is_given: bool,
    progress: bool | None,
) -> None:
    """Read the results of requests, and warn of those that are dropped."""
    lookup, dropped = Lookup(asked.ids), Dropped(is_given=is_given)
    with progress_bar("reading", len(asked.ids), progress, unit=" results") as bar:
        for piece in pieces:
            places = lookup.find(piece["custom_id"].combine_chunks())
            others = known.others(piece, places)
            places[others] = NOWHERE
            dropped.add(piece, places, others)
            ranks = piece["status"].to_numpy().astype(np.int8)
            best.add(piece.select(best.schema.names), places, ranks)
            bar.update(len(piece))
    dropped.count(SUPERSEDED, best.superseded)
    dropped.warn()


def _in_order(
    asked: Asked, known: KnownResults, best: BestRows, columns: Mapping[str, str]
) -> Iterator[pa.Table]:
    """Yield a row for each request."""
    absent, start = known.absent(), 0
    for rows in best.tables():
        part = slice(start, start := start + len(rows))
        own = dict(zip(rows.column_names, rows.columns, strict=True))
        status = pc.coalesce(own["status"], pa.array(absent[part]))
        yield _shown(pa.table(own | {"custom_id": asked.ids[part], "status": status}), columns)


@dataclass(frozen=True)
class _Table:
    """A table that is read twice: for the ids of its rows, and with all its columns."""

    ids: pa.Array
    names: list[str]
    tables: Callable[[], Iterator[pa.Table]]
    paths: Sequence[Path]


def join_files(
    table: Any,
    results: Any,
    out: str | os.PathLike[str],
    *,
    id_column: str | Sequence[str] | None,
    columns: Sequence[str] | None,
    prefix: str,
    progress: bool | None,
    with_ids: bool = True,
) -> Path:
    """Join results as ``join_results`` does; ``custom_id`` is among all columns only if wanted."""
    target = as_path(out)
    if target.suffix != ".parquet":
        raise BatchFramesError(f"'{target}' does not end in .parquet", hint="name a Parquet file")
    wanted = check_names(columns, prefix)
    left, right = _table(table, id_column), _results(results)
    find_columns(names := list(right.schema.names), ["custom_id", "status"], RESULTS)
    chosen = list(names) if wanted is None else wanted
    if columns is None and (not with_ids or prefix + "custom_id" in left.names):
        chosen.remove("custom_id")
    find_columns(names, chosen, RESULTS)
    rare = set(names_of("sometimes") if columns is None else ())
    refuse_names_in_both(left.names, [name for name in chosen if name not in rare], prefix)
    best, count = _matched(left.ids, right, chosen or ["status"], progress)
    chosen = [name for name in chosen if name not in rare or name in best.filled]
    refuse_names_in_both(left.names, chosen, prefix)
    unanswered = _unanswered(results, right.schema, count, len(left.ids))
    joined = _joined(left, best, chosen, prefix, unanswered)
    target.parent.mkdir(parents=True, exist_ok=True)
    bar = progress_bar("writing", len(left.ids), progress, unit=" rows")
    with bar, closing(open_store(target, left.paths, hashed=True)) as store:
        with naming(target), store.create(1) as file:
            write_parquet(file, joined, bar.update)
        store.commit([len(left.ids)])
    return target


def _table(table: Any, id_column: str | Sequence[str] | None) -> _Table:
    """Open files or a frame; a stream is collected, as it can be read only once."""
    if is_frame(frame := lasting(table)):
        ids = frame_ids(frame, id_column)
        whole = pa.Table.from_pandas(frame) if isinstance(frame, pd.DataFrame) else pa.table(frame)
        whole = whole.cast(without_views(whole.schema)).replace_schema_metadata()
        return _Table(ids, whole.column_names, lambda: iter([whole]), [])
    one = table if isinstance(table, (str, os.PathLike)) else next(iter(table), "")
    kind = ParquetSource if is_parquet(one) else CsvSource
    first = kind(table, id_column, [])
    ids = pa.concat_arrays([pa.array([], TEXT), *(one.id_text() for one in first.chunks())])
    names = list(first.names)

    def tables() -> Iterator[pa.Table]:
        if not len(ids):
            yield read_table(first.paths[0], id_column or ())
        yield from (
            pa.table(dict(chunk.columns)) for chunk in kind(table, id_column, names).chunks()
        )

    return _Table(ids, names, tables, first.paths)


def _results(results: Any) -> pa.RecordBatchReader:
    """Open results: a frame, a stream, or output and error files."""
    if isinstance(results, pd.DataFrame):
        table = pa.Table.from_pandas(own := own_results(results), preserve_index=False)
        return table.replace_schema_metadata({OF_ALL: str(noted(own, "requests"))}).to_reader()
    if not is_frame(results):
        return scan_results(results)
    use_stream(results)
    reader = open_arrow(results)
    return reader.cast(without_views(reader.schema))


def _matched(
    ids: pa.Array, results: pa.RecordBatchReader, columns: Sequence[str], progress: bool | None
) -> tuple[BestRows, int]:
    """Read results, keep the best of each row, and count them."""
    lookup = look_up(ids)
    best = BestRows(len(ids), results.schema.empty_table().select(list(columns)).schema)
    left, count, first = 0, 0, pa.array([], TEXT)
    with progress_bar("reading", len(ids), progress, unit=" results") as bar:
        for batch in read_stream(results):
            rows = pa.Table.from_batches([batch])
            own = rows["custom_id"].cast(TEXT).combine_chunks()
            places = lookup.find(own)
            strange = own.filter(pa.array(places == NOWHERE)).drop_null()
            left, first = left + len(strange), pa.concat_arrays([first, strange[:NAMED]])[:NAMED]
            best.add(rows.select(columns), places, _ranks(rows["status"]))
            bar.update(len(rows))
            count += len(rows)
    if left and len(ids):
        warn_of_left(first, left, ids, is_all=not best.found)
    return best, count


def _ranks(column: pa.ChunkedArray) -> npt.NDArray[np.int8]:
    """Rank statuses, and refuse what is none."""
    ranks = _known_ranks(column)
    if ranks.null_count:
        return result_ranks(to_dataframe(pa.table({"status": column}), None))
    return np.asarray(ranks, np.int8)


def _unanswered(results: Any, schema: pa.Schema, count: int, rows: int) -> str:
    """Return the status of rows without a result, and notice a stream that was read before."""
    total = (schema.metadata or {}).get(OF_ALL)
    if isinstance(results, pa.RecordBatchReader) and total not in (None, b"%d" % count):
        hint = "scan the results again"
        raise BatchFramesError("the stream was read before, at least in part", hint=hint)
    if rows and not count:
        warn("there are no results", hint="pass a stream that was not read before")
    return "skipped" if total == b"%d" % count else "missing"


def _joined(
    left: _Table, best: BestRows, columns: Sequence[str], prefix: str, unanswered: str
) -> Iterator[pa.Table]:
    """Yield the pieces of a table with the columns of results beside their own."""
    found = _with_statuses(best.schema.empty_table(), unanswered)
    more = (_with_statuses(rows, unanswered) for rows in best.tables())
    start = 0
    starts = ((t, n) for t in left.tables() for n in range(0, len(t) or 1, OUT_ROWS))
    for piece in (table[first : first + OUT_ROWS] for table, first in starts):
        while len(found) < len(piece):
            found = pa.concat_tables([found, next(more)])
        rows, found = found[: len(piece)], found[len(piece) :]
        own = {prefix + name: rows[name] for name in columns}
        if prefix + "custom_id" in own:
            own[prefix + "custom_id"] = left.ids[start : start + len(piece)]
        start += len(piece)
        yield pa.table(dict(zip(left.names, piece.columns, strict=True)) | own)


def _with_statuses(rows: pa.Table, unanswered: str) -> pa.Table:
    """Return rows with the status of those that have no result."""
    if "status" not in rows.column_names:
        return rows
    ranks = _known_ranks(rows["status"]).fill_null(RANKS[unanswered])
    status = status_array(np.asarray(ranks).astype(np.int8))
    return rows.set_column(rows.column_names.index("status"), "status", status)


def _known_ranks(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.index_in(column.cast(TEXT), value_set=pa.array(STATUSES, TEXT))
