"""Collect requests, from a table and one by one, and save them as request files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import IO, Any

import pyarrow as pa

from batch_frames.arrow import TEXT, bytes_of
from batch_frames.display import card_html, note_html, request_html, size_text
from batch_frames.errors import BatchFramesError, RequestError, TemplateError
from batch_frames.files import Limits, Shard, refuse_in_flight
from batch_frames.frames import TABLE, Chunk, Position
from batch_frames.progress import warn
from batch_frames.requests.columns import Fmt, Value
from batch_frames.requests.endpoints import (
    CHAT,
    EFFORT,
    MODEL,
    SEED,
    Endpoint,
    build_template,
    find_body,
)
from batch_frames.requests.partitions import save_partitions
from batch_frames.requests.rendering import LIMITS, TableRequests, save_requests
from batch_frames.requests.template import NEEDS_ID, Rendered

__all__ = ["BatchCreator", "check_model", "rendered_lines", "table_of", "with_table"]


ENTRY = "\0entry"
"""A column that no table has, for the prompts of entries."""

PROMPT = Fmt(("", ""), (ENTRY,))

ENTRY_ROWS = 2_048


class BatchCreator:
    """Collect requests and save them as request files for the OpenAI Batch API.

    Args:
        model: The name of the model.
        reasoning_effort: ``"low"``, ``"medium"`` or another effort of the model; None leaves it
            out, as does the default for models from before there were efforts, such as gpt-4o.
        json_schema: The schema of the answers: a dict with ``name`` and ``schema``, which is sent
            unchanged, or a bare JSON schema or pydantic model class, which is made strict.
        system_prompt: The system message of every request; None leaves it out.
        seed: The seed for sampling; None leaves it out.
        endpoint: The API path that the requests are for.
        body: Top-level keys of the request body, added to or replacing those above.

    Raises:
        TemplateError: If an argument has no place in the endpoint's body, or is not JSON.

    Example:
        >>> creator = BatchCreator("gpt-5.6-luna", "low", system_prompt="Be brief.", seed=None)
        >>> creator.add_entry("a1", "What is a shard?")
        >>> creator.preview_entry()["body"]["messages"][1]
        {'role': 'user', 'content': 'What is a shard?'}
    """

    def __init__(
        self,
        model: str | Value = MODEL,
        reasoning_effort: str | Value | None = EFFORT,
        json_schema: Any = None,
        *,
        system_prompt: str | Value | None,
        seed: int | Value | None = SEED,
        endpoint: Endpoint = CHAT,
        body: Mapping[str, Any] | None = None,
    ) -> None:
        given = locals()
        self._options = {name: given[name] for name in given if name != "self"}
        self._table: TableRequests | None = None
        self._ids: list[str] = []
        self._prompts: list[str] = []
        _, key = find_body(endpoint)
        prompt = PROMPT if key is not None and key not in (body or {}) else None
        self._template = build_template(**self._options, prompt_column=prompt)

    def add_entry(self, index: str, user_prompt: str) -> None:
        """Append a request after those of the table.

        Args:
            index: The ``custom_id``.
            user_prompt: The prompt.

        Raises:
            TypeError: If an argument is not text.
            RequestError: If the ``custom_id`` is empty, or an argument has a lone surrogate.
            TemplateError: If the body has no place for a prompt, or needs columns.
        """
        for name, value in (("index", index), ("user_prompt", user_prompt)):
            if not isinstance(value, str):
                kind = type(value).__name__
                raise TypeError(f"{name} must be str, not {kind}; pass str({name})")
        if ENTRY not in self._template.columns:
            # Raises the error that says why there is no place for a prompt.
            build_template(**self._options, prompt_column=PROMPT)
        needed = self._template.prompt_columns if self._table else self._template.columns
        for column in needed:
            if column != ENTRY:
                raise TemplateError(
                    f"add_entry has no column {column!r}, which the template takes",
                    hint="use from_dataframe, from_csv or from_parquet",
                )
        _check_entry(len(self._ids), index, user_prompt)
        self._ids.append(index)
        self._prompts.append(user_prompt)

    def save_to_file(
        self,
        file_path: str | os.PathLike[str] | IO[bytes],
        *,
        limits: Limits = LIMITS,
        overwrite: bool = False,
        progress: bool | None = None,
    ) -> list[Shard]:
        """Save all requests as a ``.jsonl`` file, or as several if one would be too large.

        Files are written under temporary names and renamed at the end, so that each is complete or
        absent. Files of an earlier save under the same name are replaced.

        Args:
            file_path: The file, or its URL; missing folders are created. ``-`` is standard output.
                Standard output and binary file objects take only what fits in one file.
            limits: The largest file. If the requests exceed it, ``reviews.jsonl`` becomes
                ``reviews-00001.jsonl``, ``reviews-00002.jsonl``, …, each as full as possible.
            overwrite: Whether to replace files whose batches are still running, and files that were
                not saved under this name before. The same requests may always be saved again.
            progress: Whether to show a progress bar; None shows it after two seconds. For a Dask
                DataFrame there is only that of Dask.

        Returns:
            The files in order, with their numbers of requests and sizes in bytes.

        Raises:
            RequestError: If a row cannot become a request, or a ``custom_id`` is not unique.
            ColumnError: If a column cannot be written as JSON.
            BatchFramesError: If another process is writing there, a file that the rows are read
                from or whose batch is running would be replaced, standard output or a file object
                would need more than one file, or a stream has already been read.
        """
        check = None if overwrite else refuse_in_flight
        if self._table and self._table.in_parts:
            if self._ids:
                problem = "add_entry and a Dask DataFrame cannot be saved together"
                raise BatchFramesError(problem, hint="save the entries under another name")
            return save_partitions(
                self._table, file_path, limits=limits, check=check, overwrite=overwrite
            )
        shards = save_requests(
            self._blocks(),
            file_path,
            rows=self._rows(),
            sources=self._table.paths if self._table else (),
            limits=limits,
            progress=progress,
            check=check,
            overwrite=overwrite,
        )
        if self._table and (path := shards[0].path).suffix not in ("", ".jsonl"):
            warn(
                f"'{path}' does not end in .jsonl, as the service requires", "save to another name"
            )
        return shards

    def row_ids(self, frame: Any = None) -> pa.Array:
        """Return the ``custom_id`` of each row of the table, null for a skipped row.

        Args:
            frame: Another table whose rows ask likewise; None takes the own one.
        """
        if self._table:
            return self._table.row_ids(frame)
        return pa.nulls(0 if frame is None else len(frame), TEXT)

    def clear_entries(self) -> None:
        """Remove all requests, including those of the table."""
        self._ids, self._prompts, self._table = [], [], None

    def get_entry_count(self) -> int:
        """Return the number of requests, for which CSV files, streams and Dask are read."""
        return len(self._ids) + (self._table.count() if self._table else 0)

    def preview_entry(self, index: int = 0) -> dict[str, Any]:
        """Return one request as a dict.

        Args:
            index: The position of the request; negative counts from the end.

        Raises:
            IndexError: If there is no such request.
        """
        if self._table:
            self._table.keep()
        position = index if index >= 0 else index + self.get_entry_count()
        for block in self._blocks() if position >= 0 else ():
            if position < len(block.lines):
                request: dict[str, Any] = json.loads(block.lines[position].as_py())
                return request
            position -= len(block.lines)
        count = self.get_entry_count()
        raise IndexError(f"entry {index:,} is out of range: the number of entries is {count:,}")

    def __len__(self) -> int:
        return self.get_entry_count()

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        facts = ", ".join(f"{name}={value}" for name, value in self._facts().items())
        return f"BatchCreator({facts})"

    def _repr_html_(self) -> str:
        facts = self._facts()
        if self._table and (self._table.streams or self._table.in_parts):
            return card_html("BatchCreator", facts)
        try:
            block = next(self._blocks(), None)
            if block is None or not len(block.lines):
                return card_html("BatchCreator", {**facts, "size": "0 bytes"})
            facts["size"] = self._size_text(block)
            first = request_html(json.loads(block.lines[0].as_py()))
        except BatchFramesError as error:
            first = note_html(str(error))
        return card_html("BatchCreator", facts, first)

    def _size_text(self, block: Rendered) -> str:
        """Return the size of all requests, estimated from the first block."""
        each = len(bytes_of(block.lines)) / len(block.lines)
        rows = self._rows()
        if rows is None:
            return f"about {size_text(each)} each"
        about = "" if rows == len(block.lines) else "about "
        return about + size_text(each * rows)

    def _rows(self) -> int | None:
        """Return the most requests there can be, or None if that takes reading the rows."""
        rows = self._table.rows() if self._table else 0
        return None if rows is None else rows + len(self._ids)

    def _facts(self) -> dict[str, str]:
        rows = self._rows()
        entries = "not yet counted" if rows is None else f"{rows:,}"
        if rows and self._table and self._table.skips:
            entries = f"at most {entries}"
        model = (self._options["body"] or {}).get("model", self._options["model"])
        return {
            "entries": entries,
            "endpoint": repr(self._options["endpoint"]),
            "model": repr(model),
        }

    def _blocks(self) -> Iterator[Rendered]:
        if self._table:
            yield from self._table.blocks()
        for start in range(0, len(self._ids), ENTRY_ROWS):
            ids = pa.array(self._ids[start : start + ENTRY_ROWS], TEXT)
            columns = {name: pa.nulls(len(ids)) for name in self._template.columns}
            columns[ENTRY] = pa.array(self._prompts[start : start + ENTRY_ROWS], TEXT)
            yield self._template.render(
                Chunk({"index": ids}, columns, Position(start, noun="entry"))
            )


def with_table(table: TableRequests, options: Mapping[str, Any]) -> BatchCreator:
    """Return a ``BatchCreator`` that begins with the requests of a table."""
    creator = BatchCreator(**options)
    creator._table = table
    return creator


def table_of(creator: BatchCreator) -> tuple[TableRequests, Any]:
    """Return the requests of a creator's table, and the schema of their answers.

    Raises:
        TypeError: If there is no table, or requests were added one by one.
        BatchFramesError: If the table is a stream, or a Dask DataFrame.
        TemplateError: If no model was named.
    """
    table, options = creator._table, creator._options
    if table is None or creator._ids:
        hint = "pass what from_dataframe returns, or the files that save_to_file wrote"
        raise TypeError(f"a row is needed for each request, and add_entry has none; {hint}")
    if table.streams:
        raise BatchFramesError("this frame is a stream, which can be read only once", hint=TABLE)
    if table.in_parts:
        problem = "run and plan take no Dask DataFrame, as they need its rows in one process"
        hint = "use save_to_file, submit, wait and download, or pass what its compute() returns"
        raise BatchFramesError(problem, hint=hint)
    check_model(options)
    return table, options["json_schema"]


def rendered_lines(creator: BatchCreator) -> Iterator[pa.Array]:
    """Yield the lines of a creator, piece by piece; those of a stream can be read again."""
    if creator._table:
        creator._table.keep()
    return (block.lines for block in creator._blocks())


def check_model(options: Mapping[str, Any]) -> None:
    """Refuse to leave the model at its default, which is retired.

    Raises:
        TemplateError: If no model was named.
    """
    body = options["body"] if isinstance(options["body"], Mapping) else {}
    if body.get("model", options["model"]) is MODEL:
        raise TemplateError("there is no model", hint="pass model=")


def _check_entry(number: int, index: str, user_prompt: str) -> None:
    place = f"entry {number:,}"
    if not index:
        raise RequestError(f"{place}: index is empty", row=number, hint=NEEDS_ID)
    for name, text in (("index", index), ("user_prompt", user_prompt)):
        try:
            text.encode()
        except UnicodeEncodeError:
            problem = f"{place}: {name} contains a lone surrogate, which is not text"
            raise RequestError(problem, row=number, column=name) from None
