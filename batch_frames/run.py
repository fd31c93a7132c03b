"""Answer every row of a table in one call that may be repeated."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Never

import pandas as pd

from batch_frames.batches import download, submit, wait
from batch_frames.display import counted
from batch_frames.errors import BatchFramesError, TemplateError
from batch_frames.files import (
    RECORD,
    Job,
    Limits,
    Record,
    Shard,
    ShardWriter,
    find_shards,
    locked,
    open_store,
    refuse_submitted,
)
from batch_frames.frames import open_frame
from batch_frames.plan import Selection, is_wanted, next_round, select
from batch_frames.progress import warn
from batch_frames.requests import (
    CHAT,
    EFFORT,
    LIMITS,
    MODEL,
    SEED,
    Asked,
    Endpoint,
    TableRequests,
    Value,
    table_requests,
)
from batch_frames.results import (
    UNANSWERED,
    Outcomes,
    join_results,
    lasting,
    names_in,
    read_answers,
    read_results,
    refuse_names_in_both,
    result_columns,
    summary_line,
)

if TYPE_CHECKING:
    from openai import OpenAI

__all__ = ["run"]


PATIENCE = 600.0
"""Seconds to wait for another process that is sending requests from the same folder."""


def run(
    frame_or_shards: Any,
    path: str | os.PathLike[str] | None = None,
    *,
    id_column: str | Sequence[str] | None = None,
    prompt_column: str | Value | None = None,
    na: Literal["raise", "skip"] = "raise",
    model: str | Value = MODEL,
    reasoning_effort: str | Value | None = EFFORT,
    json_schema: Any = None,
    system_prompt: str | Value | None = None,
    seed: int | Value | None = SEED,
    endpoint: Endpoint = CHAT,
    body: Mapping[str, Any] | None = None,
    dedupe: bool = False,
    retries: int = 2,
    max_requests: int | None = None,
    client: OpenAI | None = None,
    limits: Limits = LIMITS,
    metadata: Mapping[str, str] | None = None,
    max_enqueued_tokens: int | None = None,
    timeout: float | None = None,
    poll: float | None = None,
    progress: bool | None = None,
    prefix: str = "",
    **unknown: Never,
) -> pd.DataFrame:
    """Answer every row of a table: ask what has no answer yet, wait, and join all answers.

    A row has an answer if its very request was answered before, in any call with this path: rows
    may be added, removed and sorted, prompts changed and changed back, and only what was never
    answered is sent. Progress is kept in files next to ``path``: requests in ``reviews.jsonl``,
    those of later calls and of retries in ``reviews.round-2.jsonl``, ``reviews.round-3.jsonl``, ….
    Interrupted or killed at any moment, it continues when called again.

    Args:
        frame_or_shards: A frame as for ``from_dataframe``, or request files as for ``submit``.
        path: Where to save the requests of a frame, as in ``"out/reviews.jsonl"``.
        id_column: As for ``from_dataframe``, like all until ``body``.
        prompt_column: The column with the prompts, or ``fmt("… {name} …")``.
        na: What to do with rows without a prompt: ``"raise"`` or ``"skip"``.
        model: The name of the model.
        reasoning_effort: The effort; None leaves it out.
        json_schema: The schema of the answers, which also types their columns.
        system_prompt: The system message.
        seed: The seed for sampling; None leaves it out.
        endpoint: The API path.
        body: Further keys of the request body.
        dedupe: Whether rows that ask the same get one request, whose answer all of them have.
        retries: How often to send again what fails for a passing reason: HTTP status 408, 409,
            425, 429 or 5xx, an expired batch, a lost or damaged result. Each time, all batches must
            have ended. What fails for good, with another HTTP status from 400 to 499 or a refusal,
            is not sent again, also not by later calls; ``retry_requests`` can do that.
        max_requests: Most requests to send, not counting retries; None sets no limit.
        client: As for ``submit``.
        limits: Maximum size of one file.
        metadata: Up to 15 texts to attach to each batch.
        max_enqueued_tokens: Maximum number of tokens enqueued at the service at once.
        timeout: Seconds after which to give up waiting; None waits without limit.
        poll: Seconds between polls.
        progress: Whether to show progress bars; None shows each after two seconds.
        prefix: Prefix for the names of the columns with answers, as for ``join_results``.
        unknown: Nothing; other names are an error that says what was meant.

    Returns:
        The frame with its answers, as from ``join_results``; for request files their results, as
        from ``read_results``.

    Raises:
        BatchFramesError: If more than ``max_requests`` would be sent; nothing is sent then.
        ColumnError: If the frame has a column with the name of a result column; pass ``prefix``.
        TemplateError: If the template is wrong, or there is no model.
        JobError: If batches failed at validation.
        WaitTimeout: If batches are still running after ``timeout`` seconds.
        openai.APIError: Passed through from the SDK.
    """
    given = locals()
    sending = Sending(client, metadata, max_enqueued_tokens, timeout, poll, progress)
    if not _is_frame(frame_or_shards, path):
        shards = find_shards(frame_or_shards)
        sending.answer(shards)
        return _warned(read_results(requests=shards, json_schema=json_schema))
    frame, target = lasting(frame_or_shards), Path(path or "")
    _check_ahead(frame, target, json_schema, prefix)
    requests = _requests(frame, given)
    asked = _answer_all(requests, target, sending, limits, retries, max_requests)
    results = _warned(read_answers(asked, None, [target], json_schema=json_schema))
    return _joined(frame, results, requests, given)


TABLE = ("id_column", "prompt_column", "na")

TEMPLATE = ("model", "reasoning_effort", "json_schema", "system_prompt", "seed", "endpoint", "body")


@dataclass(frozen=True)
class Sending:
    """How batches are made and followed, as for ``submit`` and ``wait``."""

    client: OpenAI | None
    metadata: Mapping[str, str] | None
    max_enqueued_tokens: int | None
    timeout: float | None
    poll: float | None
    progress: bool | None

    def submit(self, shards: Sequence[Shard] | Sequence[Path]) -> list[Job]:
        """Create batches."""
        return submit(
            shards,
            client=self.client,
            metadata=self.metadata,
            max_enqueued_tokens=self.max_enqueued_tokens,
            progress=self.progress,
        )

    def follow(self, jobs: Sequence[Job]) -> None:
        """Wait for batches, and download what came back."""
        ended = wait(
            jobs,
            client=self.client,
            timeout=self.timeout,
            poll=self.poll,
            progress=self.progress,
        )
        download(ended, client=self.client, progress=self.progress)

    def answer(self, shards: Sequence[Path]) -> None:
        """Create batches, wait for them, and download what came back."""
        self.follow(self.submit(shards))


def _is_frame(given: Any, path: object) -> bool:
    """Return whether it is a frame, which needs a path, or request files, which have theirs."""
    is_frame = hasattr(given, "columns") or hasattr(given, "__arrow_c_stream__")
    if is_frame and path is None:
        raise TypeError("run needs a path to save the requests of a frame to")
    if path is not None and not is_frame:
        raise TypeError("run takes a path only with a frame, not with request files")
    return is_frame


def _check_ahead(frame: Any, path: Path, schema: Any, prefix: str) -> None:
    """Refuse before anything is sent what would fail once all is paid for."""
    if path.suffix != ".jsonl":
        problem = f"'{path}' must end in .jsonl, as the service requires"
        raise BatchFramesError(problem, hint="name a file such as 'out/reviews.jsonl'")
    columns = [name for name in result_columns(schema) if name != "custom_id"]
    refuse_names_in_both(names_in(frame), columns, prefix)


def _requests(frame: Any, given: Mapping[str, Any]) -> TableRequests:
    """Return the requests of a frame, by the arguments of ``run``."""
    if (given["body"] or {}).get("model", given["model"]) is MODEL:
        raise TemplateError("there is no model", hint="pass model=")
    template = {**{name: given[name] for name in TEMPLATE}, **given["unknown"]}
    id_column, prompt_column, na = (given[name] for name in TABLE)
    how = (id_column, prompt_column, na, template)
    return table_requests(open_frame, frame, *how, dedupe=given["dedupe"])


def _joined(
    frame: Any, results: pd.DataFrame, requests: TableRequests, given: Mapping[str, Any]
) -> pd.DataFrame:
    same = requests if given["dedupe"] else None
    how = {"id_column": given["id_column"], "prefix": given["prefix"]}
    joined: pd.DataFrame = join_results(frame, results, requests=same, **how)
    return joined


def _answer_all(
    requests: TableRequests,
    path: Path,
    sending: Sending,
    limits: Limits,
    retries: int,
    max_requests: int | None,
) -> Asked:
    """Send what has no answer, round after round, and return what is asked now."""
    selection: Selection | None = None
    for round_number in range(retries + 1):
        with _alone(path.parent) as record:
            outcomes = Outcomes(record)
            if selection is not None:
                found = outcomes.find(selection.ids, selection.lines)
                if not is_wanted(found, once_more=True).any():
                    break
            target = next_round(path, outcomes.jobs)
            store = open_store(target, requests.paths, again=True)
            with ShardWriter(store, limits) as writer:
                selection = select(
                    requests, outcomes, path, writer,
                    once_more=round_number > 0, progress=sending.progress,
                )  # fmt: skip
                if not round_number:
                    _check_count(int(selection.asked.sum()), max_requests)
                shards = _committed(writer) if selection.asked.any() else []
            jobs = sending.submit(shards) if shards else []
        jobs = [*jobs, *outcomes.waited_for(selection.under_way())]
        if not jobs:
            break
        sending.follow(jobs)
    assert selection is not None
    return Asked.of_table(selection.custom_ids.combine_chunks(), selection.lines)


@contextmanager
def _alone(folder: Path) -> Iterator[Record]:
    """Keep other processes from deciding at the same time what is to be sent from a folder."""
    (folder / RECORD).mkdir(parents=True, exist_ok=True)
    with locked(folder / RECORD / "run", f"'{folder}' is in use by {{owner}}", patience=PATIENCE):
        yield Record(folder)


def _committed(writer: ShardWriter) -> list[Shard]:
    refuse_submitted(writer.changes())
    return writer.commit()


def _check_count(count: int, most: int | None) -> None:
    if most is not None and count > most:
        problem = f"{counted(count, 'request')} would be sent, above max_requests={most:,}"
        raise BatchFramesError(problem, hint="plan says which")


def _warned(results: pd.DataFrame) -> pd.DataFrame:
    """Warn of requests without an answer."""
    count = int(results["status"].isin(UNANSWERED).sum())
    if count:
        many = f"{count:,} of {len(results):,} requests have no answer ({summary_line(results)})"
        warn(many, hint="retry_requests writes them again")
    return results
