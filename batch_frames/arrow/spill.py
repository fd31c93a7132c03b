"""Choose a row for each of many places, and keep rows on disk until they are wanted in order."""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.arrow.text import hash_text
from batch_frames.errors import naming

__all__ = ["NOWHERE", "BestRows", "Lookup"]


Indices = npt.NDArray[np.int64]

NOWHERE = -1

BUCKET = 64 << 20
"""About how many bytes of rows are in memory at once."""

MOST_BUCKETS = 256
"""How many files are open at once."""

MOST_PLACES = 1 << 20
"""How many places are in memory at once, however small their rows are."""

ROW, PLACE = "batch_frames.row", "batch_frames.place"

WORST = np.iinfo(np.int8).max


class Lookup:
    """Find the places of texts among others, with sixteen bytes of memory for each of these.

    Args:
        texts: ``large_string``, each once; nulls are never found.

    Attributes:
        is_ambiguous: Whether two texts have the same hash, as equal ones do.
    """

    def __init__(self, texts: pa.Array) -> None:
        hashes = hash_text(texts)
        known = np.flatnonzero(np.asarray(texts.is_valid()))
        self._order = known[np.argsort(hashes[known], kind="stable")]
        self._hashes = hashes[self._order]
        self._texts = texts
        self.is_ambiguous = bool((self._hashes[1:] == self._hashes[:-1]).any())

    def find(self, texts: pa.Array) -> Indices:
        """Return the place of each text, -1 for those that are not among the others."""
        if not len(self._hashes):
            return np.full(len(texts), NOWHERE, np.int64)
        if self.is_ambiguous:
            index = pc.index_in(texts, value_set=self._texts, skip_nulls=True)
            return np.asarray(index.fill_null(NOWHERE)).astype(np.int64)
        hashes = hash_text(texts)
        order = np.argsort(hashes)
        found = np.empty(len(texts), np.int64)
        # In order, each search begins where the one before it has ended, with what is in the cache.
        found[order] = np.searchsorted(self._hashes, hashes[order])
        places = self._order[found % len(self._hashes)]
        is_equal = pc.equal(self._texts.take(pa.array(places)), texts).fill_null(False)
        return np.where(np.asarray(is_equal), places, NOWHERE)


class BestRows:
    """The best row for each place, of rows that come in any order and do not fit in memory.

    Rows are kept in temporary files, each with those of consecutive places, so that one after the
    other can be put in order. In memory are nine bytes for each place.

    Args:
        places: Number of places.
        schema: The schema of the rows.
    """

    def __init__(self, places: int, schema: pa.Schema) -> None:
        self.schema = schema
        self.superseded = 0
        """How many rows were not the best of their place."""
        self.filled: set[str] = set()
        """The columns that some row has."""
        self._width = 0
        self._best = np.full(places, NOWHERE, np.int64)
        self._ranks = np.full(places, WORST, np.int8)
        self._folder = Path(mkdtemp(prefix="batch_frames-"))
        self._remove = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._files = ExitStack()
        self._writers: dict[int, pa.ipc.RecordBatchStreamWriter] = {}
        self._rows = 0

    @property
    def found(self) -> int:
        """How many places have a row."""
        return int((self._best != NOWHERE).sum())

    def add(self, rows: pa.Table, places: Indices, ranks: npt.NDArray[np.int8]) -> None:
        """Add rows: the lower rank of a place wins, then the later row.

        Args:
            rows: The rows.
            places: Their places; -1 leaves a row out.
            ranks: Their ranks.
        """
        if not len(rows):
            return  # the width of buckets is chosen by the size of rows
        numbers = np.arange(self._rows, self._rows + len(places))
        self._rows += len(places)
        self._choose(places, ranks, numbers)
        self._width = self._width or self._chosen_width(rows)
        buckets = np.where(places == NOWHERE, NOWHERE, places // self._width)
        if len(found := np.unique(buckets)) == 1 and found[0] != NOWHERE:
            self._keep(int(found[0]), rows, places, numbers)
            return
        for bucket in found[found != NOWHERE]:
            own = np.flatnonzero(buckets == bucket)
            self._keep(int(bucket), rows.take(pa.array(own)), places[own], numbers[own])

    def _keep(self, bucket: int, rows: pa.Table, places: Indices, numbers: Indices) -> None:
        """Write rows to the file of their bucket."""
        table = _apart(rows.cast(self.schema))
        self.filled |= {n for n in table.column_names if table[n].null_count < len(table)}
        table = table.append_column(ROW, pa.array(numbers)).append_column(PLACE, pa.array(places))
        with naming(self._path(bucket)):
            self._writer(bucket, table.schema).write_table(table)

    def _chosen_width(self, rows: pa.Table) -> int:
        """Return how many places a bucket has, by the size of the first rows."""
        nbytes = rows.nbytes * len(self._best) // len(rows)
        buckets = min(max(nbytes // BUCKET, 1), MOST_BUCKETS)
        return int(min(max(-(-len(self._best) // buckets), 1), MOST_PLACES))

    def _choose(self, places: Indices, ranks: npt.NDArray[np.int8], numbers: Indices) -> None:
        rows = np.flatnonzero(places != NOWHERE)
        best_first = rows[np.lexsort((-rows, ranks[rows]))]
        own, first = np.unique(places[best_first], return_index=True)
        rows = best_first[first]
        self.superseded += len(best_first) - len(own) + int((self._best[own] != NOWHERE).sum())
        is_better = ranks[rows] <= self._ranks[own]
        self._ranks[own[is_better]] = ranks[rows[is_better]]
        self._best[own[is_better]] = numbers[rows[is_better]]

    def tables(self) -> Iterator[pa.Table]:
        """Yield the best rows in order, one for each place, null where there is none."""
        with naming(self._folder):
            self._files.close()
        width = self._width or MOST_PLACES
        for start in range(0, len(self._best), width):
            yield self._bucket(start // width, self._best[start : start + width])
        self._remove()

    def _bucket(self, bucket: int, best: Indices) -> pa.Table:
        if bucket not in self._writers:
            return pa.table([pa.nulls(len(best), one.type) for one in self.schema], self.schema)
        path = self._path(bucket)
        with pa.ipc.open_stream(path) as stream:
            table = stream.read_all().unify_dictionaries()
        path.unlink()
        places = table[PLACE].to_numpy() - bucket * self._width
        rows = np.flatnonzero(best[places] == table[ROW].to_numpy())
        if np.array_equal(places[rows], np.arange(len(best))) and len(rows) == len(table):
            return table.select(self.schema.names)  # nothing has to be moved or left out
        index = np.full(len(best), NOWHERE, np.int64)
        index[places[rows]] = rows
        return table.select(self.schema.names).take(pa.array(index, mask=index == NOWHERE))

    def _writer(self, bucket: int, schema: pa.Schema) -> pa.ipc.RecordBatchStreamWriter:
        if bucket not in self._writers:
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            writer = pa.ipc.new_stream(self._path(bucket), schema, options=options)
            self._writers[bucket] = self._files.enter_context(writer)
        return self._writers[bucket]

    def _path(self, bucket: int) -> Path:
        return self._folder / f"{bucket}.arrows"


def _apart(table: pa.Table) -> pa.Table:
    """Copy dictionaries, which a writer keeps: with one of a stream it would keep all its rows."""
    for index, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            whole = table.column(index).unify_dictionaries().combine_chunks()
            values = whole.dictionary.take(pa.array(np.arange(len(whole.dictionary))))
            copy = pa.DictionaryArray.from_arrays(
                whole.indices, values, ordered=field.type.ordered, safe=False
            )
            table = table.set_column(index, field, copy)
    return table
