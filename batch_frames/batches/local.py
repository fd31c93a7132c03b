"""Send request files to a live endpoint, one request after the other, without a batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from batch_frames.batches.job import counted
from batch_frames.batches.ledger import Ledger
from batch_frames.batches.local_calls import Answer, Asker
from batch_frames.batches.local_files import LiveFiles, Request, requests_of
from batch_frames.errors import BatchFramesError, JobError
from batch_frames.files import Paths, find_shards, ledger_path
from batch_frames.progress import how_to_go_on

if TYPE_CHECKING:
    from openai import OpenAI

__all__ = ["run_local"]


TURNED_AWAY = 4
"""After how many requests that were turned away, one after the other, to give up at least."""

PATIENCE = 10.0
"""How many seconds a run that ends early waits for the answers on their way."""

LISTENING = 0.2
"""How many seconds it waits at once. A library may have the system go on with a wait that a signal
interrupted, as polars does; then Ctrl-C is heard only when the wait is over."""


def run_local(
    shards: Paths,
    *,
    client: OpenAI | None = None,
    base_url: str | None = None,
    concurrency: int = 8,
    limit: int | None = None,
    progress: bool | None = None,
) -> list[Path]:
    """Send the requests of files to a live endpoint, and write files like those of a batch.

    Any endpoint that speaks OpenAI's language will do: Ollama, llama.cpp, vLLM, or OpenAI itself,
    for the first five rows before fifty thousand are paid. Each answer is on the disk as soon as it
    has come. Run again, requests that have an answer are passed over; those that failed, or that
    ask something else by now, are sent again. Answers to what was asked before are kept in
    ``.reviews.output.jsonl.old``, and taken back from there when the same is asked again.

    Interrupted, it sends nothing more, waits ten seconds at most for the answers on their way, and
    writes what has come; interrupted once more, it does not wait.

    Args:
        shards: What ``save_to_file`` returned, or paths or globs of request files.
        client: An ``openai.OpenAI`` for the endpoint; None makes one.
        base_url: Where the endpoint is, as in ``"http://localhost:11434/v1"``; it needs no key.
        concurrency: How many requests to have on the way at once.
        limit: How many requests to send at most, the first ones of all files; None sends all.
        progress: Whether to show a progress bar; None shows it after two seconds.

    Returns:
        The files beside the shards, ``reviews.output.jsonl`` and, where requests failed,
        ``reviews.errors.jsonl``.

    Raises:
        MissingExtra: If the openai SDK is not installed.
        JobError: If the endpoint is not reached, or has no time for any request (429 or 503);
            what was answered before is kept.
        LineError: If a line is no request, or its ``url`` is no path of the API.
        BatchFramesError: If a shard has a batch already.
        openai.APIError: As the SDK says it, when the endpoint refuses the key.
    """
    for name, value, least in (("concurrency", concurrency, 1), ("limit", limit, 0)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise TypeError(f"{name} must be a whole number, not {value!r}")
        if value is not None and value < least:
            raise ValueError(f"{name} must be a whole number from {least}, not {value!r}")
    paths = find_shards(shards)
    for path in paths:
        _check_unsent(path)
    bar = tqdm(
        desc="run_local", total=limit, unit=" requests", delay=0 if progress else 2,
        disable=progress is False,
    )  # fmt: skip
    found: list[Path] = []
    left = limit
    told = how_to_go_on("what was answered is kept; to go on, run_local again")
    with Asker(client, base_url) as asker, told, bar:
        run = LiveRun(asker, concurrency)
        for path in paths:
            with LiveFiles(path) as files:
                asked = run.answer(path, left, files, bar.update)
                found += files.paths
            left = None if left is None else left - asked
    return found


def _check_unsent(path: Path) -> None:
    job = Ledger(ledger_path(path)).job_of(path.name)
    if job is not None and job.batch_id and job.status != "failed":
        raise BatchFramesError(
            f"'{path}' was submitted as {job.batch_id}, whose results would be mixed with others; "
            "save the requests under another name"
        )


class LiveRun:
    """Answer shards over one endpoint, and give up when it is not there."""

    def __init__(self, asker: Asker, concurrency: int) -> None:
        self._asker = asker
        self._concurrency = concurrency
        self._answered = 0
        self._turned_away: list[Answer] = []

    def answer(
        self, path: Path, most: int | None, files: LiveFiles, progress: Callable[[], object]
    ) -> int:
        """Answer the requests of one shard, and count them, with those answered before."""
        done = files.answered(requests_of(path), most)
        count = 0

        def lacking() -> Iterator[Request]:
            nonlocal count
            for request in islice(requests_of(path), most):
                count += 1
                if request.custom_id in done:
                    progress()
                else:
                    done.add(request.custom_id)
                    yield request

        self._ask(lacking(), files, progress)
        self._keep(files)
        return count

    def _ask(
        self, requests: Iterable[Request], files: LiveFiles, progress: Callable[[], object]
    ) -> None:
        """Ask with a few requests on the way at once, and write the answers as they come."""
        pool = ThreadPoolExecutor(self._concurrency)
        going: set[Future[Answer]] = set()

        def take() -> None:
            done: set[Future[Answer]] = set()
            while not done:
                done = wait(going, LISTENING, FIRST_COMPLETED).done
            for one in done:
                self._take(one.result(), files)
                going.discard(one)
                progress()

        try:
            for request in requests:
                self._asker.prepare()
                # Known before it begins, so that no interruption comes in between.
                one: Future[Answer] = Future()
                going.add(one)
                pool.submit(self._fill, one, request)
                if len(going) >= self._concurrency:
                    take()
            while going:
                take()
        except BaseException:
            self._rescue(going, files)
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _fill(self, one: Future[Answer], request: Request) -> None:
        if one.set_running_or_notify_cancel():
            try:
                one.set_result(self._asker.ask(request))
            except BaseException as error:
                one.set_exception(error)

    def _rescue(self, going: Iterable[Future[Answer]], files: LiveFiles) -> None:
        """Write what has come, and what comes in a moment: it is paid, whatever ends the run."""
        # Who interrupts again will not wait, but what has come is kept.
        with suppress(KeyboardInterrupt):
            self._asker.stop()
            left, until = {one for one in going if not one.cancel()}, time.monotonic() + PATIENCE
            while left and time.monotonic() < until:
                left = wait(left, LISTENING).not_done
        done = [one for one in going if one.done() and not one.cancelled()]
        came = [one.result() for one in done if one.exception() is None]
        for answer in came:
            if not (answer.is_turned_away or self._is_for_all(answer)):
                files.append(answer.line, is_good=answer.is_good)

    def _is_for_all(self, answer: Answer) -> bool:
        """Tell whether all others would fail as this one did."""
        return answer.is_refused_for_all or (answer.status == 404 and not self._answered)

    def _take(self, answer: Answer, files: LiveFiles) -> None:
        """Write an answer, or give up when all others would fail as this one did.

        Raises:
            JobError: If the endpoint turns away one request after the other.
        """
        if self._is_for_all(answer):
            assert answer.error is not None
            raise answer.error
        if answer.is_turned_away:
            self._turned_away.append(answer)
            if len(self._turned_away) >= max(self._concurrency, TURNED_AWAY):
                raise self._gone()
            return
        self._keep(files)
        files.append(answer.line, is_good=answer.is_good)
        self._answered += 1

    def _keep(self, files: LiveFiles) -> None:
        """Write that requests were not answered, now that others were, or all have been tried."""
        if self._turned_away and not self._answered:
            raise self._gone()
        for answer in self._turned_away:
            files.append(answer.line, is_good=False)
        self._turned_away = []

    def _gone(self) -> JobError:
        last = self._turned_away[-1]
        before = counted(self._answered, "request was", "requests were")
        if not last.is_unreached:
            return JobError(
                f"{self._asker.place} answers {last.status} to one request after the other, and "
                f"{before} answered before; wait, or lower concurrency, and run again"
            )
        return JobError(
            f"{self._asker.place} is not reached ({last.error}) and {before} "
            "answered before; start it, or correct base_url, and run again"
        )
