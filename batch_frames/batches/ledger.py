"""Record what was sent in a file next to the shards, and keep that from being overwritten."""

from __future__ import annotations

import json
import os
import secrets
import sys
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
from batch_frames.progress import warn

__all__ = ["Ledger", "Ledgers", "refuse_in_flight", "refuse_submitted"]


FACTS = frozenset(field.name for field in fields(Job)) - {"path", "token", "settings", "files"}

SETTINGS = frozenset(field.name for field in fields(Settings))

PATIENCE = 1.0


class Ledger:
    """The jobs of a ledger file, which holds one event per line and is only appended to.

    An event is on the disk before the next call to the service is made. A last line that a crash
    cut short is ignored, and removed before the next is written.

    Args:
        path: The file; it need not exist.

    Attributes:
        batch_ids: The ids of all batches ever created, including those that were replaced.

    Raises:
        LineError: If a line is not an event.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None
        self.reload()

    @property
    def jobs(self) -> Jobs:
        """The current jobs, one for each batch that is wanted."""
        return self.jobs_of(self._tokens)

    def jobs_of(self, shards: Iterable[str]) -> Jobs:
        """Return the jobs of some shards, each once."""
        tokens = dict.fromkeys(self._tokens[shard] for shard in shards if shard in self._tokens)
        return Jobs(self._jobs[token] for token in tokens)

    def job_of(self, shard: str) -> Job | None:
        """Return the job of a shard, by its file name; None if it has none."""
        token = self._tokens.get(shard)
        return None if token is None else self._jobs[token]

    def reload(self) -> None:
        """Read the file again."""
        self._jobs: dict[str, Job] = {}
        self._tokens: dict[str, str] = {}
        self.batch_ids: set[str] = set()
        for number, raw in enumerate(_whole_lines(self.path), 1):
            try:
                self._apply(json.loads(raw))
            except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
                hint = "remove the line, or restore the file"
                raise LineError(
                    "not an event of a ledger", path=self.path, line=number, hint=hint
                ) from None

    @contextmanager
    def locked(self, patience: float = PATIENCE) -> Iterator[Ledger]:
        """Lock the file against other processes, and read what they wrote before.

        Args:
            patience: Seconds to wait for the lock; ``wait`` holds it for moments only.

        Raises:
            BatchFramesError: If another process has the ledger.
        """
        with locked(self.path, f"'{self.path.name}' is in use by {{owner}}", patience=patience):
            try:
                self.reload()
                yield self
            finally:
                if self._handle is not None:
                    os.close(self._handle)
                    self._handle = None

    def intend(self, job: Job, *, anew: bool = False) -> Job:
        """Note that a shard is to be sent, with a new token if ``anew`` or if it has none."""
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
        """Append an event of a job, and return the job after it."""
        return self._append(event, job.path.name, job.token, **facts)

    def _append(self, event: str, shard: str, token: str, **facts: Any) -> Job:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        entry = {"event": event, "at": now, "shard": shard, "token": token, **facts}
        if self._handle is None:
            self._handle = _open(self.path)
        # In ASCII, since texts from services may contain lone surrogates.
        line = json.dumps(entry, separators=(",", ":")) + "\n"
        data = line.encode()
        while data:
            data = data[os.write(self._handle, data) :]
        os.fsync(self._handle)
        self._apply(json.loads(line))
        return self._jobs[token]

    def _apply(self, entry: Mapping[str, Any]) -> None:
        """Update the jobs with one event."""
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
            self.batch_ids.add(job.batch_id)


class Ledgers(dict[Path, Ledger]):
    """Ledgers by their paths, each read once, when first needed."""

    def __missing__(self, path: Path) -> Ledger:
        return self.setdefault(path, Ledger(path))

    def job_of(self, shard: Path) -> Job | None:
        """Return the job of a shard from the ledger next to it."""
        return self[ledger_path(shard)].job_of(shard.name)


def _whole_lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []


def _open(path: Path) -> int:
    """Open a ledger for appending after its last complete line."""
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
    """Refuse to replace or remove shards whose batches are still running.

    The same bytes may be written again, and a file may go if its bytes get another name. A warning
    is given where a batch has ended, since its results stay next to requests that are not theirs.

    Args:
        changes: The new file for each file that is replaced; None for one that is removed.

    Raises:
        BatchFramesError: If the requests of a batch would be lost.
    """
    lost = _lost_jobs(changes)
    for job in lost:
        if job.status not in ENDED:
            hint = "wait for it, save under another name, or pass overwrite=True"
            raise BatchFramesError(f"{job.submitted_text} and is still running", hint=hint)
    for job in lost:
        warn(
            f"{job.submitted_text} with different requests, and the results next to it belong to "
            "those",
            hint="save under another name",
        )


def refuse_submitted(changes: Mapping[Path, Path | None]) -> None:
    """Refuse to replace or remove shards that were submitted, even if their batches have ended.

    Args:
        changes: As for ``refuse_in_flight``.

    Raises:
        BatchFramesError: If the requests of a batch would be lost.
    """
    for job in _lost_jobs(changes):
        fetch = f"bf.download(bf.load_jobs('{ledger_path(job.path)}'))"
        raise BatchFramesError(
            f"{job.submitted_text} with different requests",
            hint=f"choose another path ({fetch} fetches their answers)",
        )


def _lost_jobs(changes: Mapping[Path, Path | None]) -> list[Job]:
    """List the jobs whose requests would no longer be in any of the files."""
    ledgers, hash_of, lost = Ledgers(), cache(file_hash), []
    for path, new in changes.items():
        job = ledgers.job_of(path)
        if job is not None and job.may_be_paid:
            coming = [new] if new else [file for file in changes.values() if file]
            if job.sha256 not in map(hash_of, coming):
                lost.append(replace(job, path=path))
    return lost
