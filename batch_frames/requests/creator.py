"""Collect requests, of a table and one by one, and save them as request files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from batch_frames.arrow import TEXT, bytes_of
from batch_frames.batches import refuse_in_flight
from batch_frames.display import card_html, size_text
from batch_frames.errors import BatchFramesError, RequestError, TemplateError
from batch_frames.files import Limits, Shard, ShardWriter, open_store
from batch_frames.frames import Chunk, Position, Source
from batch_frames.requests.columns import Fmt, Value
from batch_frames.requests.duplicates import IdCheck
from batch_frames.requests.endpoints import (
    DefaultNumber,
    DefaultText,
    Part,
    build_template,
    find_endpoint,
)
from batch_frames.requests.rendering import Skipped, TableRequests, warn_of
from batch_frames.requests.template import Rendered, Template
from batch_frames.schemas import to_schema

__all__ = ["CHAT", "LIMITS", "MODEL", "BatchCreator"]


CHAT = "/v1/chat/completions"

MODEL, EFFORT, SEED = DefaultText("o4-mini"), DefaultText("medium"), DefaultNumber(334)

LIMITS = Limits()

ENTRY = "\0entry"

ENTRY_ROWS = 2_048


class BatchCreator:
    """Collect requests and save them as request files for the OpenAI Batch API.

    Args:
        model: The model's name, as the service knows it.
        reasoning_effort: ``"low"``, ``"medium"``, … as the model takes it; None leaves it out.
        json_schema: The schema that answers must follow: the value of ``json_schema`` in the
            service's ``response_format``, as it is, or a pydantic model class, made strict.
        system_prompt: The system message of every request; None leaves it out.
        seed: The seed; None leaves it out.
        endpoint: Path of the API that answers the requests.
        body: More top-level keys of the request body, or others in place of those above.

    Raises:
        TemplateError: If the endpoint's body has no place for what is given, or it is not JSON.

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
        endpoint: str = CHAT,
        body: Mapping[str, Any] | None = None,
    ) -> None:
        self._endpoint, self._body = endpoint, body
        self._parts: dict[Part, Any] = {
            Part.MODEL: model,
            Part.EFFORT: reasoning_effort,
            Part.SCHEMA: None if json_schema is None else to_schema(json_schema),
            Part.SYSTEM: system_prompt,
            Part.SEED: seed,
        }
        self._table: TableRequests | None = None
        self._ids: list[str] = []
        self._prompts: list[str] = []
        key = find_endpoint(endpoint).prompt_key
        self._entries = None if key is None or key in (body or {}) else self._entry_template()
        if self._entries is None:
            self._template(None)

    def add_entry(self, index: str, user_prompt: str) -> None:
        """Add a request, behind those of a table.

        Args:
            index: Its ``custom_id``.
            user_prompt: Its prompt.

        Raises:
            TypeError: If one of them is not text.
            RequestError: If the id is empty, or one of them holds a lone surrogate.
            TemplateError: If the template has no place for a prompt, or takes columns.
        """
        for name, value in (("index", index), ("user_prompt", user_prompt)):
            if not isinstance(value, str):
                kind = type(value).__name__
                raise TypeError(f"{name} must be str, not {kind}; pass str({name})")
        if self._entries is None:
            self._entries = self._entry_template()
        lacking = self._entries.prompt_columns if self._table else self._entries.columns
        for column in lacking:
            if column != ENTRY:
                raise TemplateError(
                    f"add_entry has no column {column!r}, which the template takes; "
                    "use from_dataframe, from_csv or from_parquet"
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
        """Save all requests as one ``.jsonl`` file, or as numbered ones when it would be too large.

        Files are whole or absent: they are written under temporary names beside the final ones, and
        renamed at the end. What an earlier run left under the same names is replaced.

        Args:
            file_path: The file; missing folders are made. ``-`` is standard output, and a binary
                file object is written to as it is: neither is split.
            limits: How large one file may become. Beyond, ``reviews.jsonl`` becomes
                ``reviews-00001.jsonl``, ``reviews-00002.jsonl``, …, each as full as can be.
            overwrite: Whether to change files whose batches have not ended, too. The same bytes
                may always be written again.
            progress: Whether to show a progress bar; None shows it after two seconds.

        Returns:
            The files in order, with their numbers of requests and sizes in bytes.

        Raises:
            RequestError: If a row cannot become a request, or an id stands twice.
            ColumnError: If JSON cannot hold a column.
            BatchFramesError: If another process is writing there, a file that the rows come from
                or whose batch runs would be replaced, or a pipe would need a split.
        """
        check = None if overwrite else refuse_in_flight
        shards, requests, skipped = self._save(file_path, limits, progress, check)
        warn_of(requests, skipped)
        return shards

    def _save(
        self,
        file_path: str | os.PathLike[str] | IO[bytes],
        limits: Limits,
        progress: bool | None,
        check: Callable[[Mapping[Path, Path | None]], None] | None,
    ) -> tuple[list[Shard], int, Skipped]:
        """Save all requests, unless ``check`` refuses to have the files that stand changed."""
        if not isinstance(limits, Limits):
            raise TypeError(f"limits must be Limits(requests=…, nbytes=…), not {limits!r}")
        # The C library takes memory back to the system, page by page, less eagerly once it has seen
        # one large block freed: chunks then reuse what is there, which nearly halves the time.
        np.empty(16 << 20, np.uint8)
        rows = self._table.rows() if self._table else 0
        bar = tqdm(
            desc=str(getattr(file_path, "name", file_path)),
            total=None if rows is None else rows + len(self._ids),
            unit=" requests",
            delay=0 if progress else 2,
            disable=progress is False,
        )
        sources = self._table.paths if self._table else ()
        with ShardWriter(open_store(file_path, sources), limits) as writer, bar:
            ids, requests, skipped = IdCheck(), 0, Skipped()
            for block in self._blocks():
                writer.write(block.lines, block.chunk.error)
                ids.add(block.ids, block.chunk.position)
                requests += len(block.ids)
                skipped.add(block.skipped, block.places)
                bar.update(len(block.ids) + block.skipped)
            ids.check(writer.read_back)
            if check:
                check(writer.changes())
            shards = writer.commit()
        if self._table:
            self._table.saved(shards, requests - len(self._ids))
        return shards, requests, skipped

    def clear_entries(self) -> None:
        """Forget all requests, those of a table too."""
        self._ids, self._prompts, self._table = [], [], None

    def get_entry_count(self) -> int:
        """Count the requests; a CSV file or a stream is read for it."""
        return len(self._ids) + (self._table.count() if self._table else 0)

    def preview_entry(self, index: int = 0) -> dict[str, Any]:
        """Give one request as the dict that its line holds.

        Args:
            index: Its position, from 0; from the end where negative.

        Raises:
            IndexError: If there are not as many.
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
        if self._table and self._table.streams:
            return card_html("BatchCreator", {**facts, "size": "known when saved"}, None)
        try:
            block = next(self._blocks(), None)
            if block is None or not len(block.lines):
                return card_html("BatchCreator", {**facts, "size": "0 bytes"}, None)
            size = self._size_text(block)
            first = json.dumps(json.loads(block.lines[0].as_py()), ensure_ascii=False, indent=2)
        except BatchFramesError as error:
            return card_html("BatchCreator", facts, str(error))
        return card_html("BatchCreator", {**facts, "size": size}, first)

    def _size_text(self, block: Rendered) -> str:
        """Say how large all is, without reading more than the first block."""
        each = len(bytes_of(block.lines)) / len(block.lines)
        rows = self._table.rows() if self._table else 0
        if rows is None:
            return f"about {size_text(each)} each"
        rows += len(self._ids)
        about = "" if rows == len(block.lines) else "about "
        return about + size_text(each * rows)

    def _over(
        self, open_source: Callable[[Sequence[str]], Source], prompt: Value | None, na: str
    ) -> BatchCreator:
        """Put a table before the entries; ``open_source`` gets the columns that are needed."""
        template = self._template(prompt)
        self._table = TableRequests(open_source(template.columns), template, na)
        return self

    def _facts(self) -> dict[str, str]:
        rows = self._table.rows() if self._table else 0
        entries = "not yet counted" if rows is None else f"{rows + len(self._ids):,}"
        if rows and self._table and self._table.skips:
            entries = f"at most {entries}"
        model = (self._body or {}).get("model", self._parts[Part.MODEL])
        return {"entries": entries, "endpoint": repr(self._endpoint), "model": repr(model)}

    def _blocks(self) -> Iterator[Rendered]:
        if self._table:
            yield from self._table.blocks()
        for start in range(0, len(self._ids), ENTRY_ROWS):
            ids = pa.array(self._ids[start : start + ENTRY_ROWS], TEXT)
            assert self._entries is not None
            columns = {name: pa.nulls(len(ids)) for name in self._entries.columns}
            columns[ENTRY] = pa.array(self._prompts[start : start + ENTRY_ROWS], TEXT)
            yield self._entries.render(Chunk(ids, columns, "index", Position(start, noun="entry")))

    def _entry_template(self) -> Template:
        return self._template(Fmt(("", ""), (ENTRY,)))

    def _template(self, prompt: Value | None) -> Template:
        return build_template(self._endpoint, {**self._parts, Part.PROMPT: prompt}, self._body)


def _check_entry(number: int, index: str, user_prompt: str) -> None:
    place = f"entry {number:,}"
    if not index:
        raise RequestError(f"{place}: index is empty; every request needs an id", row=number)
    for name, text in (("index", index), ("user_prompt", user_prompt)):
        try:
            text.encode()
        except UnicodeEncodeError:
            problem = f"{place}: {name} holds a lone surrogate, which is not text"
            raise RequestError(problem, row=number, column=name) from None
