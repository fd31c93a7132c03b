"""Read Arrow tables and streams, and Parquet files, as chunks that fit in cache."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from batch_frames.arrow import NULL, TEXT, decode_runs
from batch_frames.errors import BatchFramesError, ColumnError
from batch_frames.files import Paths, arrow_source, find_files
from batch_frames.frames.chunks import Chunk, Position, id_names, open_arrow, use_stream

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

__all__ = [
    "FIRST_ROWS",
    "ArrowSource",
    "FileSource",
    "ParquetSource",
    "cut",
    "find_columns",
    "next_size",
    "normalize",
    "one_array",
    "read_stream",
    "without_views",
]


def normalize(array: pa.Array) -> pa.Array:
    """Cast string views, at any depth, to text; decode runs, and dictionaries that hold a null.

    Example:
        >>> normalize(pa.array([["a"]], pa.list_(pa.string_view()))).type
        ListType(list<item: large_string>)
    """
    is_dictionary = pa.types.is_dictionary(array.type)
    if not is_dictionary or array.dictionary.null_count:
        array = _decoded(array)
    if isinstance(array.type, pa.BaseExtensionType) and array.type.extension_name == "arrow.json":
        return _json_with_nulls(array)
    kind = _without_views(array.type)
    return array if kind == array.type else array.cast(kind)


def _decoded(array: pa.Array) -> pa.Array:
    """Repeat the values of a dictionary or of runs."""
    if pa.types.is_run_end_encoded(array.type):
        return decode_runs(array, normalize(array.values))
    if pa.types.is_dictionary(array.type):
        return normalize(array.dictionary).take(array.indices)
    return array


def _json_with_nulls(array: pa.Array) -> pa.Array:
    """Make JSON's null a missing value, as it is in every other column."""
    text = array.storage.cast(TEXT)
    text = pc.if_else(pc.equal(pc.utf8_trim_whitespace(text), "null"), NULL, text)
    return pa.ExtensionArray.from_storage(array.type, text.cast(array.storage.type))


def without_views(schema: pa.Schema) -> pa.Schema:
    """Return a schema without views of text, of which older versions of Arrow take no rows."""
    return pa.schema([f.with_type(_without_views(f.type)) for f in schema], schema.metadata)


def _without_views(kind: pa.DataType) -> pa.DataType:
    """Return the type of text for views of text, at any depth."""
    if pa.types.is_string_view(kind):
        return TEXT
    if pa.types.is_struct(kind):
        fields = [kind.field(position) for position in range(kind.num_fields)]
        return pa.struct([field.with_type(_without_views(field.type)) for field in fields])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        make = pa.list_ if pa.types.is_list(kind) else pa.large_list
        return make(kind.value_field.with_type(_without_views(kind.value_type)))
    if pa.types.is_fixed_size_list(kind):
        field = kind.value_field.with_type(_without_views(kind.value_type))
        return pa.list_(field, kind.list_size)
    if pa.types.is_dictionary(kind):
        return pa.dictionary(kind.index_type, _without_views(kind.value_type), kind.ordered)
    return kind


CHUNK_BYTES = 3 << 20
"""Larger chunks leave the cache between steps; in smaller ones, the steps themselves cost more."""

FIRST_ROWS = 512


class ArrowSource:
    """Rows of anything with ``__arrow_c_stream__``; what has no length is read only once."""

    paths: Sequence[Path] = ()

    def __init__(
        self, frame: Any, id_column: str | Sequence[str] | None, columns: Sequence[str]
    ) -> None:
        reader = open_arrow(frame)
        if id_column is None:
            problem = f"a {type(frame).__name__} has no index to take the ids from"
            raise ColumnError(problem, hint="pass id_column=")
        self.once = not hasattr(frame, "__len__")
        self.frame, self.id_column = frame, id_column
        self._ids, self._columns = id_names(id_column), columns
        self._reader = reader if self.once else reader.close()
        self.names = reader.schema.names
        find_columns(self.names, [*self._ids, *columns])

    def rows(self) -> int | None:
        """Count the rows where that needs no reading, else None."""
        height = getattr(self.frame, "num_rows", getattr(self.frame, "height", None))
        return height if isinstance(height, int) else None

    def chunks(self) -> Iterator[Chunk]:
        """Read the rows from the first one on."""
        reader = self._reader or open_arrow(self.frame)
        if self.once:
            use_stream(self.frame)
            use_stream(reader)
        try:
            yield from cut(read_stream(reader), self._ids, self._columns)
        finally:
            reader.close()


def read_stream(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """Read all batches of a frame; whatever it raises half-way has its rows named."""
    rows = 0
    try:
        for batch in reader:
            rows += len(batch)
            yield batch
    except (pa.ArrowException, OSError) as error:
        problem = str(error).partition(". Detail: ")[0]
        raise BatchFramesError(f"the frame failed after {rows:,} rows: {problem}") from error


def find_columns(have: Sequence[str], need: Iterable[str], where: str = "the frame") -> None:
    """Check that each needed column is there once.

    Raises:
        ColumnError: If not; it names the nearest, or what there is.
    """
    for name in need:
        if have.count(name) > 1:
            problem = f"{where} has {have.count(name)} columns named {name!r}"
            raise ColumnError(problem, hint="rename one")
        if name not in have:
            raise ColumnError(f"{where} has no column {name!r}", hint=_hint(name, have))


def _hint(name: str, have: Sequence[str]) -> str:
    base = re.split("[!:]", name)[0]
    if base != name and base in have:
        return f"there are no formats such as {name.removeprefix(base)!r}; format a column first"
    if "{" in name:
        return "a text with columns in it is fmt('… {column} …')"
    if '"' in name or ":" in name:
        return "in fmt, write {{ and }} for braces that stand for themselves"
    near = difflib.get_close_matches(name, have, 1)
    listed = ", ".join(map(repr, have[:20])) or "no columns"
    return f"did you mean {near[0]!r}?" if near else f"it has {listed}"


def cut(
    batches: Iterable[pa.RecordBatch], ids: Sequence[str], columns: Sequence[str], origin: str = ""
) -> Iterator[Chunk]:
    """Cut record batches of any size into chunks of a good one, small batches put together."""
    first, size = 0, FIRST_ROWS
    needed = list(dict.fromkeys([*ids, *columns]))
    for table in _gathered(batches, needed):
        start = 0
        while start < len(table):
            part = table.slice(start, size)
            arrays = {n: _named_array(n, part.column(n)) for n in needed}
            parts, others = ({name: arrays[name] for name in names} for names in (ids, columns))
            yield Chunk(parts, others, Position(first, origin))
            start, first = start + len(part), first + len(part)
            size = next_size(arrays.values())


def _named_array(name: str, column: pa.ChunkedArray) -> pa.Array:
    try:
        return one_array(column)
    except ColumnError as error:
        raise ColumnError(f"column {name!r} {error}") from None


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array in plain layout.

    Raises:
        ColumnError: If Arrow cannot make one array of its chunks.
    """
    if column.num_chunks == 1 and column.type == TEXT:
        return column.chunk(0)  # Arrow would copy even what is one
    try:
        array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    except pa.ArrowException:
        # Dictionaries without room for each other's values, or runs of what Arrow cannot build.
        try:
            array = pa.concat_arrays([_decoded(chunk) for chunk in column.chunks])
        except pa.ArrowException:
            problem = f"holds {column.type} values, which JSON cannot hold"
            raise ColumnError(problem, hint="make them text first") from None
    with contextlib.suppress(pa.ArrowNotImplementedError):
        return normalize(array)
    return array  # It is refused for its type, by code that knows its name.


def next_size(arrays: Iterable[pa.Array]) -> int:
    """Choose how many rows come next by how large the last ones were."""
    arrays = list(arrays)
    per_row = sum(_bytes_per_row(array) for array in arrays)
    return max(1, int(CHUNK_BYTES / max(per_row, 1)))


def _bytes_per_row(array: pa.Array) -> float:
    values = array.dictionary if pa.types.is_dictionary(array.type) else array
    return float(values.nbytes / max(len(values), 1))


def _gathered(batches: Iterable[pa.RecordBatch], needed: list[str]) -> Iterator[pa.Table]:
    pending: list[pa.RecordBatch] = []
    waiting = 0
    for batch in batches:
        if len(batch):
            pending.append(batch.select(needed))
            waiting += pending[-1].get_total_buffer_size()
        if waiting >= CHUNK_BYTES:
            yield pa.Table.from_batches(pending)
            pending, waiting = [], 0
    if pending:
        yield pa.Table.from_batches(pending)


class FileSource:
    """Rows of files, one file after the other."""

    once = False
    frame = None
    kind: str
    names: Sequence[str]

    def __init__(
        self,
        paths: Paths,
        endings: Sequence[str],
        id_column: str | Sequence[str] | None,
        columns: Sequence[str],
    ) -> None:
        self.paths: Sequence[Path] = find_files(paths, endings)
        if id_column is None:
            problem = f"a {self.kind} file has no index to take the ids from"
            raise ColumnError(problem, hint="pass id_column=")
        self.id_column = id_column
        self._ids, self._columns = id_names(id_column), columns
        self._needed = list(dict.fromkeys([*self._ids, *columns]))

    def chunks(self) -> Iterator[Chunk]:
        """Read the rows from the first one on."""
        for path in self.paths:
            origin = str(path) if len(self.paths) > 1 else ""
            yield from cut(self._batches(path), self._ids, self._columns, origin)

    def _batches(self, path: Path) -> Iterator[pa.RecordBatch]:
        raise NotImplementedError


MOST_ROWS = 2_048


class ParquetSource(FileSource):
    """Rows of Parquet files, one file after the other."""

    kind = "Parquet"

    def __init__(
        self, paths: Paths, id_column: str | Sequence[str] | None, columns: Sequence[str]
    ) -> None:
        from pyarrow.parquet import ParquetFile

        super().__init__(paths, [".parquet", ".pq"], id_column, columns)
        self._rows = 0
        for path in self.paths:
            try:
                with ParquetFile(arrow_source(path)) as file:
                    names, rows = file.schema_arrow.names, file.metadata.num_rows
            except PermissionError:
                raise
            except pa.ArrowInvalid as error:
                raise BatchFramesError(f"'{path}' is not a Parquet file: {error}") from None
            except OSError as error:  # its footer is encrypted, or damaged
                raise BatchFramesError(f"'{path}' cannot be read: {error}") from None
            find_columns(names, self._needed, f"'{path}'")
            self.names = names
            self._rows += rows

    def rows(self) -> int:
        """Count the rows."""
        return self._rows

    def _batches(self, path: Path) -> Iterator[pa.RecordBatch]:
        from pyarrow.parquet import ParquetFile

        group = 0
        try:
            # Without pre-buffering, and with a small buffer, a row group is never whole in memory.
            source = arrow_source(path)
            with ParquetFile(source, buffer_size=1 << 20, pre_buffer=False) as file:
                rows = _batch_rows(file)
                for group in range(file.num_row_groups):
                    yield from file.iter_batches(rows, [group], self._needed)
        except (pa.ArrowException, OSError) as error:
            problem = " ".join(str(error).split())
            raise BatchFramesError(f"'{path}', row group {group}: {problem}") from None


def _batch_rows(file: ParquetFile) -> int:
    """Choose batches of about 2 MB, by the size of the rows according to the file.

    The number of rows is limited too, as repeated values are much smaller in a file than in memory.
    """
    groups = [file.metadata.row_group(n) for n in range(file.metadata.num_row_groups)]
    largest = max((g.total_byte_size / max(g.num_rows, 1) for g in groups), default=1)
    return min(max(1, int((2 << 20) / max(largest, 1))), MOST_ROWS)
