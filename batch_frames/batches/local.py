"""Send the requests of files to a live endpoint, without a batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from batch_frames.batches.local_calls import Answer, Asker
from batch_frames.batches.local_files import LiveFiles, Request, requests_of
from batch_frames.display import counted
from batch_frames.errors import BatchFramesError, JobError
from batch_frames.files import (
    CloudPath,
    Paths,
    Records,
    RequestFile,
    find_shards,
    first_asked,
    pending_lines,
    read_shard,
)
from batch_frames.progress import interrupt_hint, progress_bar, warn

if TYPE_CHECKING:
    from openai import OpenAI

__all__ = ["run_local"]


REJECTED = 4
"""Least number of requests rejected in a row after which to give up."""

PATIENCE = 10.0
"""Seconds for which a run that ends early waits for the answers under way."""

SUBMITTING = 600.0
"""Seconds to wait for another process that is submitting shards of the same folder."""

LISTENING = 0.2
"""Seconds of one wait. Some libraries, such as polars, make the system continue a wait that a
signal interrupted; Ctrl-C is then noticed only when the wait is over."""


def run_local(
    shards: Paths,
    *,
    client: OpenAI | None = None,
    base_url: str | None = None,
    concurrency: int = 8,
    limit: int | None = None,
    progress: bool | None = None,
) -> list[Path]:
    """Send the requests of files to a live endpoint, and write result files like those of a batch.

    Any OpenAI-compatible endpoint works: Ollama, llama.cpp, vLLM, or OpenAI itself, to try five
    rows before paying for fifty thousand. Each answer is written as soon as it arrives. Run again,
    requests with an answer are skipped; requests that failed or whose prompt changed are sent
    again. Answers to earlier prompts are kept in ``.reviews.local.output.jsonl.old``, and used
    again if the prompt changes back, as are those of other request files in the folder to the very
    same requests.

    When interrupted, it sends nothing more, waits up to ten seconds for the answers under way, and
    writes those that arrive; when interrupted once more, it does not wait.

    Args:
        shards: What ``save_to_file`` returned, or paths or globs of request files.
        client: An ``openai.OpenAI`` for the endpoint; None makes one.
        base_url: Address of the endpoint, as in ``"http://localhost:11434/v1"``; it needs no key.
        concurrency: Most requests under way at once.
        limit: Most requests to send, the first ones of all files; None sends all.
        progress: Whether to show a progress bar; None shows it after two seconds.

    Returns:
        The files next to the shards, ``reviews.local.output.jsonl`` and, where requests failed,
        ``reviews.local.errors.jsonl``.

    Raises:
        MissingExtra: If the openai SDK is not installed.
        JobError: If the endpoint cannot be reached, or keeps answering 429 or 503; earlier answers
            are kept.
        LineError: If a line is not a request, or its ``url`` is not a path of the API.
        BatchFramesError: If a batch may still answer requests of a shard, or has, and its results
            are not there; or if a shard is in object storage.
        openai.APIError: Passed through from the SDK, if the endpoint refuses the key.
    """
    for name, value, least in (("concurrency", concurrency, 1), ("limit", limit, 0)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise TypeError(f"{name} must be a whole number, not {value!r}")
        if value is not None and value < least:
            raise ValueError(f"{name} must be a whole number from {least}, not {value!r}")
    records, shard_files = Records(), list(map(read_shard, _shards_on_disk(shards)))
    _check_unsent(records, shard_files)
    found: list[Path] = []
    left = limit
    hint = interrupt_hint("answers so far are kept", "call run_local again")
    bar = progress_bar("run_local", limit, progress)
    with Asker(client, base_url) as asker, hint, bar:
        run = LiveRun(asker, concurrency, bar.update)
        for shard in shard_files:
            with _opened(records, shard) as files:
                asked = run.answer(shard.path, left, files)
                found += files.paths
            left = None if left is None else left - asked
    if not found and limit is None:
        where = "read_results(requests=...) returns the answers"
        warn("nothing was sent, as batches have answered all requests", hint=where)
    return found


def _shards_on_disk(shards: Paths) -> list[Path]:
    """List request files; in object storage, an answer cannot be added to a file."""
    found = find_shards(shards)
    if far := next((path for path in found if isinstance(path, CloudPath)), None):
        problem = f"'{far}': run_local takes request files on disk only"
        raise BatchFramesError(problem, hint="copy it to disk, or send it with submit")
    return found


def _opened(records: Records, shard: RequestFile) -> LiveFiles:
    """Open the files of a shard's answers, while no other process begins to submit it."""
    with records.of(shard.path).planning(SUBMITTING):
        _check_unsent(records, [shard])
        return LiveFiles(shard.path, records.of(shard.path))


def _check_unsent(records: Records, files: Sequence[RequestFile]) -> None:
    """Refuse shards with requests that a batch may still answer."""
    for record in {id(one): one for one in (records.of(file.path) for file in files)}.values():
        own = [file for file in files if records.of(file.path) is record]
        if problem := first_asked(pending_lines(record), own):
            raise BatchFramesError(problem, hint="wait for it and download it, or cancel it")


class LiveRun:
    """Answer shards over one endpoint, giving up if it cannot be used."""

    def __init__(self, asker: Asker, concurrency: int, progress: Callable[[], object]) -> None:
        self._asker = asker
        self._concurrency = concurrency
        self._progress = progress
        self._answered = 0
        self._rejected: list[Answer] = []

    def answer(self, path: Path, most: int | None, files: LiveFiles) -> int:
        """Answer the requests of one shard, and count them, including those answered before."""
        done = files.answered(requests_of(path), most)
        count = 0

        def unanswered() -> Iterator[Request]:
            nonlocal count
            for request in islice(requests_of(path), most):
                count += 1
                if request.custom_id in done:
                    self._progress()
                else:
                    done.add(request.custom_id)
                    yield request

        self._ask(unanswered(), files)
        self._write_rejected(files)
        return count

    def _ask(self, requests: Iterable[Request], files: LiveFiles) -> None:
        """Ask with a few requests under way at once, and write the answers as they arrive."""
        pool = ThreadPoolExecutor(self._concurrency)
        pending: set[Future[Answer]] = set()

        def take() -> None:
            done: set[Future[Answer]] = set()
            while not done:
                done = wait(pending, LISTENING, FIRST_COMPLETED).done
            for one in done:
                self._take(one.result(), files)
                pending.discard(one)
                self._progress()

        try:
            for request in requests:
                # Made here, so that the threads do not make several clients.
                assert self._asker.api
                # Added before it is submitted, so that an interrupt in between loses no answer.
                one: Future[Answer] = Future()
                pending.add(one)
                pool.submit(self._fill, one, request)
                if len(pending) >= self._concurrency:
                    take()
            while pending:
                take()
        except BaseException:
            self._rescue(pending, files)
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _fill(self, one: Future[Answer], request: Request) -> None:
        if one.set_running_or_notify_cancel():
            try:
                one.set_result(self._asker.ask(request))
            except BaseException as error:
                one.set_exception(error)

    def _rescue(self, pending: Iterable[Future[Answer]], files: LiveFiles) -> None:
        """Write the answers that are there or arrive soon: they are paid for, however it ends."""
        # A second interrupt ends the waiting, but not the writing.
        with suppress(KeyboardInterrupt):
            self._asker.stop()
            left, until = {one for one in pending if not one.cancel()}, time.monotonic() + PATIENCE
            while left and time.monotonic() < until:
                left = wait(left, LISTENING).not_done
        done = [one for one in pending if one.done() and not one.cancelled()]
        for answer in [one.result() for one in done if one.exception() is None]:
            if not (answer.is_rejected or self._is_for_all(answer)):
                files.append(answer.line, is_good=answer.is_good)

    def _is_for_all(self, answer: Answer) -> bool:
        """Return whether all other requests would fail for the same reason."""
        return answer.is_refused_for_all or (answer.status == 404 and not self._answered)

    def _take(self, answer: Answer, files: LiveFiles) -> None:
        """Write an answer, or give up if all other requests would fail for the same reason."""
        if self._is_for_all(answer):
            assert answer.error is not None
            raise answer.error
        if answer.is_rejected:
            self._rejected.append(answer)
            if len(self._rejected) >= max(self._concurrency, REJECTED):
                raise self._unusable()
            return
        self._write_rejected(files)
        files.append(answer.line, is_good=answer.is_good)
        self._answered += 1

    def _write_rejected(self, files: LiveFiles) -> None:
        """Write the rejected requests as failed, now that others were answered or none is left."""
        if self._rejected and not self._answered:
            raise self._unusable()
        for answer in self._rejected:
            files.append(answer.line, is_good=False)
        self._rejected = []

    def _unusable(self) -> JobError:
        last, place = self._rejected[-1], self._asker.place
        so_far = f"{counted(self._answered, 'request')} answered so far"
        if last.is_unreached:
            hint = "start it, or correct base_url, and run again"
            return JobError(f"{place} cannot be reached ({last.error}), {so_far}", hint=hint)
        hint = "wait, or lower concurrency, and run again"
        return JobError(f"{place} keeps answering {last.status}, {so_far}", hint=hint)
