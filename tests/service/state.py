"""Keep files and batches as the Batch API does, and lead each batch through its life."""

from __future__ import annotations

import json
import mmap
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.service.answers import Body, error_body, respond
from tests.service.checks import REQUIRED, Checks, Error, fault
from tests.service.values import (
    DAY,
    FINAL,
    Batch,
    Clock,
    OnDisk,
    Refusal,
    Repeated,
    Settings,
    StoredFile,
)


class Service:
    """Take files and batches, and lead each batch through its life."""

    def __init__(self, folder: Path, settings: Settings, clock: Clock) -> None:
        self.folder = folder
        self.settings = settings
        self.clock = clock
        self.files: dict[str, StoredFile] = {}
        self.batches: list[Batch] = []
        self.lock = threading.RLock()

    def new_path(self) -> Path:
        """Name a file in the folder that no other has."""
        return self.folder / uuid4().hex

    def take_file(self, path: Path, filename: str, purpose: str, sha256: str) -> StoredFile:
        """Keep an uploaded file, unless its name or its size is wrong."""
        nbytes = path.stat().st_size
        try:
            if purpose == "batch" and not filename.endswith(".jsonl"):
                raise Refusal(400, "Invalid file format for Batch API. Must be .jsonl")
            if nbytes > self.settings.most_nbytes:
                raise Refusal(400, "File is too large.")
        except Refusal:
            path.unlink()
            raise
        return self.keep(OnDisk(path, nbytes), filename, purpose, sha256)

    def keep(
        self, content: OnDisk | Repeated, filename: str, purpose: str, sha256: str = ""
    ) -> StoredFile:
        """Give a content an id."""
        file = StoredFile(content, filename, purpose, self.clock.now(), sha256)
        with self.lock:
            self.files[file.id] = file
        return file

    def present_files(self) -> list[StoredFile]:
        """List the files that are not deleted, newest first."""
        with self.lock:
            return [file for file in self.files.values() if not file.deleted][::-1]

    def delete(self, file_id: str) -> None:
        """Forget a file; what was made of it stays."""
        self.file(file_id).deleted = True

    def file(self, file_id: str) -> StoredFile:
        """Find a file."""
        if file_id not in self.files or self.files[file_id].deleted:
            raise Refusal(404, f"No such File object: {file_id}", param="id")
        return self.files[file_id]

    def batch(self, batch_id: str) -> Batch:
        """Find a batch."""
        for batch in self.batches:
            if batch.id == batch_id:
                return batch
        raise Refusal(404, f"No batch found with id '{batch_id}'.")

    def create(self, asked: Body) -> Batch:
        """Make a batch; whether its file is there and right turns out later."""
        _check_create(asked)
        source = self.files.get(asked["input_file_id"])
        batch = Batch(
            endpoint=asked["endpoint"],
            input_file_id=asked["input_file_id"],
            input_name=source.filename if source else "",
            input_sha256=source.sha256 if source else "",
            metadata=asked.get("metadata"),
            created_at=self.clock.now(),
            entered=self.clock.advanced,
            listings=self.settings.unlisted,
            listed_from=time.monotonic() + self.settings.list_lag,
        )
        with self.lock:
            self.batches.append(batch)
        return batch

    def listed(self) -> list[Batch]:
        """List the batches that can be seen yet, newest first."""
        with self.lock:
            now = time.monotonic()
            seen = [b for b in self.batches if b.listings == 0 and b.listed_from <= now]
            for batch in self.batches:
                batch.listings = max(0, batch.listings - 1)
        return seen[::-1]

    def retrieve(self, batch: Batch) -> Body:
        """Show a batch, which is also what moves it."""
        with self.lock:
            batch.ticks += 1
            while self._due(batch):
                self._step(batch)
            return batch.shown(self.settings)

    def cancel(self, batch: Batch) -> Body:
        """Begin to cancel a batch."""
        with self.lock:
            if batch.status in FINAL:
                message = f"Cannot cancel a batch with status '{batch.status}'."
                raise Refusal(409, message)
            self._enter(batch, "cancelling")
            return batch.shown(self.settings)

    def finish(self) -> None:
        """Lead every batch to its end, as if it were asked for until then."""
        with self.lock:
            for batch in self.batches:
                while batch.status not in FINAL and self._next(batch) != batch.status:
                    self._step(batch)

    def _next(self, batch: Batch) -> str:
        ending = self.settings.endings.get(batch.input_name, "completed")
        after = {
            "validating": "in_progress",
            "in_progress": "finalizing" if ending == "completed" else ending,
            "finalizing": "completed",
            "cancelling": "cancelled",
        }
        return after[batch.status]

    def _due(self, batch: Batch) -> bool:
        if batch.status in FINAL or self._next(batch) == batch.status:
            return False
        if self.settings.polls is not None:
            return batch.ticks >= self.settings.polls
        seconds = self.settings.stage_seconds
        if self._next(batch) == "expired":
            seconds = DAY - seconds
        return self.clock.advanced - batch.entered >= seconds

    def _step(self, batch: Batch) -> None:
        before, after = batch.status, self._next(batch)
        seconds = DAY if after == "expired" else self.settings.stage_seconds
        if before == "validating":
            batch.errors = self._validate(batch)
            if batch.errors:
                after = "failed"
        elif after in ("finalizing", "expired", "cancelled", "failed"):
            self._run(batch, after)
        self._enter(batch, after, batch.entered + seconds)

    def _enter(self, batch: Batch, status: str, moment: float | None = None) -> None:
        batch.status = status
        batch.ticks = 0
        batch.entered = self.clock.advanced if moment is None else moment
        batch.moments[status] = self.clock.now()

    def _validate(self, batch: Batch) -> list[Error]:
        source = self.files.get(batch.input_file_id)
        if source is None or source.deleted or not isinstance(source.content, OnDisk):
            return [fault("invalid_request", f"Cannot find file {batch.input_file_id}.")]
        checks = Checks(batch.endpoint, self.settings.models, self.settings.most_requests)
        with source.content.path.open("rb") as lines:
            errors = checks.run(lines)
        batch.model, batch.tokens = checks.model, source.content.nbytes // 4
        errors = errors or self._token_errors(batch)
        batch.requests = 0 if errors else checks.requests
        return errors

    def _token_errors(self, batch: Batch) -> list[Error]:
        limit = self.settings.enqueued_tokens
        running = [b for b in self.batches if b.requests and b.status not in FINAL]
        if limit is None or sum(b.tokens for b in running) + batch.tokens <= limit:
            return []
        message = (
            f"Enqueued token limit reached for {batch.model} in organization test. "
            f"Limit: {limit:,} enqueued tokens. Please try again once some in_progress batches "
            "have been completed."
        )
        return [fault("token_limit_exceeded", message)]

    def _run(self, batch: Batch, status: str) -> None:
        """Answer the requests of a batch into its two files."""
        source = self.files[batch.input_file_id].content
        assert isinstance(source, OnDisk)
        whole = status in ("finalizing", "failed")
        lines = source.lines() if batch.requests else []
        order = list(range(len(lines)))
        random.Random(f"{self.settings.seed} {batch.input_name}").shuffle(order)
        done = len(order) if whole else round(len(order) * self.settings.done)
        output, errors = _Lines(self.new_path()), _Lines(self.new_path())
        with output, errors, _mapped(source.path, lines) as text:
            for position, index in enumerate(order):
                start, end = lines[index]
                request = json.loads(text[start:end])
                if position < done:
                    self._answer(batch, index, request, output, errors)
                elif status == "expired" or self.settings.cancelled_lines:
                    errors.add(request["custom_id"], None, _STOPPED[status])
        stem = Path(batch.input_name).stem
        batch.output_file_id = self._keep_lines(output, f"{batch.id}_{stem}_output.jsonl")
        batch.error_file_id = self._keep_lines(errors, f"{batch.id}_{stem}_error.jsonl")
        if batch.error_file_id is None:
            batch.error_file_id = self.settings.no_error_file

    def _answer(
        self, batch: Batch, index: int, request: Body, output: _Lines, errors: _Lines
    ) -> None:
        settings, number = self.settings, index + 1
        if settings.fail_every and number % settings.fail_every == 0:
            message = "The server had an error while processing your request."
            status, body = 500, error_body(message, kind="server_error")
        elif settings.zero_every and number % settings.zero_every == 0:
            status, body = 0, {}
        else:
            status, body = self.respond(batch.endpoint, request["body"])
        good = status == 0 or 200 <= status < 300
        response = {
            "status_code": status,
            "request_id": str(uuid4()) if status else "",
            "body": body,
        }
        (output if good else errors).add(request["custom_id"], response, None)
        batch.completed += good
        batch.failed += not good
        batch.paid += 200 <= status < 300
        batch.usage = _sum_usage(batch.usage, body)

    def respond(self, url: str, body: Body) -> tuple[int, Any]:
        """Answer one request with the test's own answer, or a made up one."""
        return self.settings.answer(body) if self.settings.answer else respond(url, body)

    def _keep_lines(self, lines: _Lines, filename: str) -> str | None:
        if not lines.path.stat().st_size:
            lines.path.unlink()
            return None
        content = OnDisk(lines.path, lines.path.stat().st_size)
        return self.keep(content, filename, "batch_output").id


class _Lines:
    """Write result lines as OpenAI does: in ASCII, with these keys in this order."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("wb")

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def add(self, custom_id: str, response: Body | None, error: Body | None) -> None:
        """Write one line."""
        line = {
            "id": f"batch_req_{uuid4().hex}",
            "custom_id": custom_id,
            "response": response,
            "error": error,
        }
        self._file.write(json.dumps(line).encode() + b"\n")


_STOPPED = {
    "expired": {
        "code": "batch_expired",
        "message": "This request could not be executed before the completion window expired.",
    },
    "cancelled": {
        "code": "batch_cancelled",
        "message": "This request was not executed because the batch was cancelled.",
    },
}


@contextmanager
def _mapped(path: Path, lines: list[tuple[int, int]]) -> Iterator[mmap.mmap | bytes]:
    if not lines:
        yield b""
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        yield text


def _sum_usage(total: Body | None, body: Any) -> Body | None:
    """Add the tokens of one answer, under the names that batches have for them."""
    usage = body.get("usage") if isinstance(body, dict) else None
    if not usage:
        return total
    read = usage.get("input_tokens", usage.get("prompt_tokens", 0))
    written = usage.get("output_tokens", usage.get("completion_tokens", 0))
    before = total or {"input_tokens": 0, "output_tokens": 0}
    read, written = before["input_tokens"] + read, before["output_tokens"] + written
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": read + written,
    }


def _check_create(asked: Body) -> None:
    for key in ("input_file_id", "endpoint", "completion_window"):
        if asked.get(key) is None:
            message = f"Missing required parameter: '{key}'."
            raise Refusal(400, message, code="missing_required_parameter", param=key)
    if asked["endpoint"] not in REQUIRED:
        message = f"Invalid value: '{asked['endpoint']}'. Supported values are: {list(REQUIRED)}."
        raise Refusal(400, message, code="invalid_value", param="endpoint")
    if asked["completion_window"] != "24h":
        message = f"Invalid value: '{asked['completion_window']}'. Value must be '24h'."
        raise Refusal(400, message, code="invalid_value", param="completion_window")
    pairs = (asked.get("metadata") or {}).items()
    if len(pairs) > 16 or any(len(key) > 64 or len(value) > 512 for key, value in pairs):
        message = "At most 16 pairs of metadata, keys of 64 and values of 512 characters."
        raise Refusal(400, message, code="invalid_metadata", param="metadata")
