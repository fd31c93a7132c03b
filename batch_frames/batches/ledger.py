"""Remember what was sent, in a file beside the shards, and keep it from being overwritten."""

from __future__ import annotations

import json
import os
import secrets
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from batch_frames.batches.job import ENDED, Job, Jobs, Settings
from batch_frames.errors import BatchFramesError, LineError
from batch_frames.files import file_hash, ledger_path, locked

__all__ = ["Ledger", "Ledgers", "refuse_in_flight", "refuse_submitted"]


FACTS = frozenset(field.name for field in fields(Job)) - {"path", "token", "settings", "files"}

SETTINGS = frozenset(field.name for field in fields(Settings))

PATIENCE = 1.0


class Ledger:
    """Hold what a ledger file says, one event a line, and append to it.

    What was appended is on the disk before the next call to the service is made. A last line that a
    crash cut short never happened: it is passed over, and cut off before the next is written.

    Args:
        path: The file; it need not be there.

    Raises:
        LineError: If a line is not an event.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None
        self.reload()

    @property
    def jobs(self) -> Jobs:
        """List the jobs as they stand, one for each batch that is wanted."""
        return self.jobs_of(self._tokens)

    def jobs_of(self, shards: Iterable[str]) -> Jobs:
        """List the jobs of some shards, none twice."""
        tokens = dict.fromkeys(self._tokens[shard] for shard in shards if shard in self._tokens)
        return Jobs(self._jobs[token] for token in tokens)

    @property
    def batch_ids(self) -> set[str]:
        """Collect the ids of all batches ever made, also of those that were given up."""
        return set(self._batch_ids)

    def job_of(self, shard: str) -> Job | None:
        """Find the job of a shard by its file name."""
        token = self._tokens.get(shard)
        return None if token is None else self._jobs[token]

    def reload(self) -> None:
        """Read the file again."""
        self._jobs: dict[str, Job] = {}
        self._tokens: dict[str, str] = {}
        self._batch_ids: set[str] = set()
        for number, raw in enumerate(_whole_lines(self.path), 1):
            try:
                self._apply(json.loads(raw))
            except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
                problem = "not an event of a ledger; take the line out, or bring the file back"
                raise LineError(problem, path=self.path, line=number) from None

    @contextmanager
    def locked(self, patience: float = PATIENCE) -> Iterator[Ledger]:
        """Keep other processes from writing, and read what they wrote before.

        Args:
            patience: Seconds in which the lock may still become free.

        Raises:
            BatchFramesError: If another process has the ledger.
        """
        # Whoever waits for batches has the lock for moments only.
        with locked(self.path, f"'{self.path.name}' is in use by {{owner}}", patience=patience):
            try:
                self.reload()
                yield self
            finally:
                if self._handle is not None:
                    os.close(self._handle)
                    self._handle = None

    def intend(self, job: Job, *, anew: bool = False) -> Job:
        """Note that a shard is to be sent, or sent anew; it gets a token if it has none."""
        token = secrets.token_hex(16) if anew or not job.token else job.token
        return self._append(
            "intent",
            job.path.name,
            token,
            sha256=job.sha256,
            nbytes=job.nbytes,
            requests=job.requests,
            endpoint=job.endpoint,
            settings={key: value for key, value in asdict(job.settings).items() if value},
        )

    def note(self, event: str, job: Job, **facts: Any) -> Job:
        """Append an event in the life of a job, and give the job as it stands after it."""
        return self._append(event, job.path.name, job.token, **facts)

    def _append(self, event: str, shard: str, token: str, **facts: Any) -> Job:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        entry = {"event": event, "at": now, "shard": shard, "token": token, **facts}
        if self._handle is None:
            self._handle = _open(self.path)
        # In ASCII, since what services say may hold surrogates that are not text.
        data = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
        while data:
            data = data[os.write(self._handle, data) :]
        os.fsync(self._handle)
        self._apply(json.loads(json.dumps(entry)))
        return self._jobs[token]

    def _apply(self, entry: Mapping[str, Any]) -> None:
        """Bring the jobs up to date with one event."""
        event, token = entry["event"], entry["token"]
        facts = {key: value for key, value in entry.items() if key in FACTS}
        if "errors" in facts:
            facts["errors"] = tuple(facts["errors"])
        if event == "intent":
            given = entry["settings"]
            facts["settings"] = Settings(**{k: given[k] for k in SETTINGS & given.keys()})
            path = self.path.with_name(entry["shard"])
            known = self._jobs.get(token)
            # A token seen before: another name for the same bytes, or other settings.
            job = replace(known, path=path, **facts) if known else Job(path, token=token, **facts)
            self._tokens[entry["shard"]] = token
        else:
            job = self._jobs[token]
            if event == "creating":
                facts = {"tried_at": job.tried_at or entry["at"], "retried_at": entry["at"]}
            elif event == "downloaded":
                facts = {"files": {**job.files, entry["name"]: entry["size"]}}
            job = replace(job, **facts)
        self._jobs[token] = job
        if job.batch_id:
            self._batch_ids.add(job.batch_id)


class Ledgers(dict[Path, Ledger]):
    """Read each ledger once, when it is first asked for by its path."""

    def __missing__(self, path: Path) -> Ledger:
        return self.setdefault(path, Ledger(path))

    def job_of(self, shard: Path) -> Job | None:
        """Find the job of a shard in the ledger beside it."""
        return self[ledger_path(shard)].job_of(shard.name)


def _whole_lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []


def _open(path: Path) -> int:
    """Open a ledger for appending, behind its last whole line."""
    is_new = not path.exists()
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags, 0o666)
    size = sum(len(line) + 1 for line in _whole_lines(path))
    if size != os.fstat(handle).st_size:
        os.ftruncate(handle, size)
    if is_new and sys.platform != "win32":
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    return handle


def refuse_in_flight(changes: Mapping[Path, Path | None]) -> None:
    """Refuse to change or remove shards that the ledger beside them has in flight.

    The same bytes may be written again, and a file may go when its bytes stand under a new name.
    Of a batch that has ended, the results stay beside other requests: that is warned of.

    Args:
        changes: For each file that is replaced the one that comes in its place; None removes it.

    Raises:
        BatchFramesError: If the requests of a batch would be lost.
    """
    lost = list(_lost(changes))
    for path, job in lost:
        if job.status not in ENDED:
            batch = f" as {job.batch_id}" if job.batch_id else ""
            raise BatchFramesError(
                f"'{path}' was submitted{batch} and has not ended; wait for it, save under another "
                "name, or pass overwrite=True"
            )
    for path, job in lost:
        warnings.warn(
            f"'{path}' was submitted as {job.batch_id} with other requests than now, and the "
            "results beside it answer those; better save under another name",
            stacklevel=4,
        )


def refuse_submitted(changes: Mapping[Path, Path | None]) -> None:
    """Refuse to change or remove shards that were submitted, whether they have ended or not.

    Args:
        changes: As for ``refuse_in_flight``.

    Raises:
        BatchFramesError: If the requests of a batch would be lost.
    """
    for path, job in _lost(changes):
        batch = f" as {job.batch_id}" if job.batch_id else ""
        raise BatchFramesError(
            f"'{path}' was submitted{batch} with other requests than now; choose another path "
            f"(bf.download(bf.load_jobs('{ledger_path(path)}')) brings what those were answered)"
        )


def _lost(changes: Mapping[Path, Path | None]) -> Iterator[tuple[Path, Job]]:
    """List the files whose requests were sent and would be there no more."""
    ledgers, hash_of = Ledgers(), cache(file_hash)
    for path, new in changes.items():
        job = ledgers.job_of(path)
        if job is None or not job.may_be_paid:
            continue
        coming = [new] if new else [file for file in changes.values() if file]
        if job.sha256 not in map(hash_of, coming):
            yield path, job
