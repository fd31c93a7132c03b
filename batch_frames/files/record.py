"""Keep the record of what was sent: one document for each shard, in a folder next to the shards."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from batch_frames.errors import LineError
from batch_frames.files.documents import RECORD, Documents, file_hash, new_token, now
from batch_frames.files.job import Job, Jobs, Settings, clean_facts
from batch_frames.files.locks import Check, locked
from batch_frames.files.rounds import LEDGER, set_name
from batch_frames.files.sets import Replaced
from batch_frames.progress import warn

__all__ = ["Record", "Records"]


NOT_FACTS = ("path", "sha256", "settings", "names", "earlier", "steps")
FACTS = tuple(field.name for field in fields(Job) if field.name not in NOT_FACTS)
LEDGER_FACTS = {field.name for field in fields(Job)} - {"path", "token", "settings", "files"}
SETTINGS = tuple(field.name for field in fields(Settings))
DOCUMENT = ("names", *(f.name for f in fields(Job) if f.name not in ("path", "sha256", "names")))

OPEN, NO_EFFECT = ".try", ".no"
"""How the files end of tries to create a batch, and of those that certainly created none."""
HASHES = np.dtype("<u8")
"""How the hashes of a shard's lines are stored, next to its document."""


class Record:
    """What was sent of the shards of one folder, each under the SHA-256 of its bytes.

    Args:
        folder: The folder. Ledgers of earlier versions in it are taken over, or only read where
            nothing can be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._jobs = Documents(folder, "jobs")
        self._check: Check = lambda: None
        self._only_read: dict[str, Job] = {}
        self._damaged: dict[Path, LineError] = {}
        self._take_over()

    def job(self, sha256: str, path: Path | None = None) -> Job | None:
        """Return the job of a shard as it is in its document; None if it was never to be sent.

        Args:
            sha256: The hash of the shard.
            path: Where the shard is; None leaves that to the document.

        Raises:
            LineError: If the document is damaged, or a ledger that may tell of the shard.
        """
        document = self._jobs.read(sha256)
        if document is not None:
            return self._job(sha256, document, path)
        for ledger, error in self._damaged.items():
            if _may_tell_of(ledger, sha256, path):
                raise error
        job = self._only_read.get(sha256)
        return replace(job, path=path or job.path) if job else None

    def job_of(self, path: Path) -> Job | None:
        """Return the job of the shard at a path, which is told by the bytes of the file."""
        is_empty = not (self._jobs.folder.is_dir() or self._only_read or self._damaged)
        return None if is_empty or not path.is_file() else self.job(file_hash(path), path)

    def jobs(self) -> list[Job]:
        """List all jobs in the order in which they were begun; what is damaged is warned of."""
        found: list[Job] = []
        for damage in self._damaged.values():
            warn(str(damage))
        # A listing may miss a document while it is replaced, but not the hashes of its lines.
        for name in {*self._jobs.names(".json", ".lines"), *self._only_read}:
            try:
                job = self.job(name)
            except LineError as error:
                warn(str(error))
            else:
                found += [job] if job else []
        found.sort(key=lambda job: (job.steps[:1], job.path.name))
        return Jobs(self._found(found))

    def names(self) -> Iterator[str]:
        """Yield the names that all shards have had whose documents are whole."""
        for name in {*self._jobs.names(), *self._only_read}:
            with suppress(LineError):
                job = self.job(name)
                yield from job.names if job else ()

    @cached_property
    def replaced(self) -> Replaced:
        """The lines that were sent in the place of others."""
        return Replaced([self.folder])

    @contextmanager
    def planning(self, patience: float) -> Iterator[None]:
        """Keep other processes from beginning jobs in this folder.

        What is begun meanwhile is on the disk at the end.

        Raises:
            BatchFramesError: If another process does so for longer than ``patience`` seconds.
        """
        (self.folder / RECORD).mkdir(parents=True, exist_ok=True)
        problem = f"'{self.folder}' is in use by {{owner}}"
        with locked(self.folder / RECORD / "record", problem, patience=patience) as self._check:
            yield
            self._jobs.sync()

    @contextmanager
    def locked(self, job: Job, patience: float = 0.0) -> Iterator[Job]:
        """Keep other processes away from a job, and yield it as it is now.

        Raises:
            BatchFramesError: If another process is at work on it for longer than ``patience``
                seconds, or the record does not have it.
        """
        problem = f"'{job.path}' is in use by {{owner}}"
        with self._jobs.locked(job.sha256, problem, patience):
            known = self.job(job.sha256, job.path) or job
            # On another host, whose locks do not hold here, it may be sent at this moment.
            is_open = known.tried_at is None and self._try(known, self.tries(known)).is_file()
            yield replace(known, tried_at=now()) if is_open else known

    def tries(self, job: Job) -> int:
        """Return how many times the creation of a job's batch was tried, by whomever."""
        number = 0
        while any(self._try(job, number + 1, ending).is_file() for ending in (OPEN, NO_EFFECT)):
            number += 1
        return number

    def begin_try(self, job: Job, number: int) -> bool:
        """Take the right to a try; of all processes, on one host or on several, one has it."""
        try:
            self._try(job, number).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def end_try(self, job: Job, number: int) -> None:
        """Note that a try certainly had no effect, so that there may be another at once."""
        self._try(job, number).replace(self._try(job, number, NO_EFFECT))

    def _try(self, job: Job, number: int, ending: str = OPEN) -> Path:
        return self._jobs.folder / f"{job.token}.{number}{ending}"

    def begin(self, job: Job, lines: npt.NDArray[np.uint64]) -> Job:
        """Note that a shard is to be sent, unless that is noted already; return what is noted.

        Args:
            job: The job, without a token.
            lines: The hashes of the shard's lines.
        """
        new = self.after(job, "begun", token=new_token())
        self._jobs.write_bytes(f"{job.sha256}.lines", lines.astype(HASHES).tobytes())
        self._check()
        if self._jobs.create(new.sha256, _document(new)):
            return new
        known = self.job(job.sha256, job.path)
        assert known is not None
        return known

    def note(self, job: Job, step: str, **facts: Any) -> Job:
        """Note a step in the life of a job, and return the job as it is after it."""
        new = self.after(job, step, **facts)
        self._jobs.replace(new.sha256, _document(new))
        return new

    def after(self, job: Job, step: str, **facts: Any) -> Job:
        """Return a job as it is after a step, which is noted with the next one."""
        names = tuple(name for name in job.names if name != job.path.name)
        steps = (*job.steps, (now(), step))
        return replace(job, names=(*names, job.path.name), steps=steps, **facts)

    def lines(self, job: Job) -> npt.NDArray[np.uint64] | None:
        """Return the hashes of a shard's lines; None if they are not all known."""
        data = self._jobs.read_bytes(f"{job.sha256}.lines")
        if data is None or len(data) != job.requests * HASHES.itemsize:
            return None
        return np.frombuffer(data, HASHES).astype(np.uint64)

    def kept(self, kind: str, name: str) -> bytes | None:
        """Return what was kept under a name; None if nothing was."""
        return Documents(self.folder, kind).read_bytes(name)

    def keep(self, kind: str, name: str, data: bytes) -> None:
        """Keep what can be found out again, whole or not at all."""
        Documents(self.folder, kind).write_bytes(name, data)

    def damaged(self) -> Iterator[tuple[LineError, npt.NDArray[np.uint64]]]:
        """Yield what is wrong with damaged documents, with the hashes of their shards' lines."""
        for name in self._jobs.names():
            try:
                self.job(name)
            except LineError as error:
                data = self._jobs.read_bytes(f"{name}.lines") or b""
                whole = len(data) // HASHES.itemsize * HASHES.itemsize
                yield error, np.frombuffer(data[:whole], HASHES).astype(np.uint64)

    def _job(self, sha256: str, document: Mapping[str, Any], path: Path | None) -> Job:
        try:
            facts = clean_facts({name: document[name] for name in FACTS if name in document})
            given = document.get("settings", {})
            settings = Settings(**{name: given[name] for name in SETTINGS if name in given})
            names, earlier = (
                tuple(map(str, document.get(key, ()))) for key in ("names", "earlier")
            )
            steps = tuple((str(at), str(step)) for at, step in document.get("steps", ()))
            path = path or self.folder / names[-1]
            return Job(
                path=path,
                **facts,
                sha256=sha256,
                settings=settings,
                names=names,
                earlier=earlier,
                steps=steps,
            )
        except (AttributeError, IndexError, TypeError, ValueError):
            raise self._jobs.damaged(sha256) from None

    def located(self, job: Job) -> Job:
        """Return a job with the path where its shard is, or was last if it is gone."""
        return next(self._found([job]))

    def _found(self, jobs: Iterable[Job]) -> Iterator[Job]:
        """Give each job the path where its shard is, also if it was renamed."""
        others: dict[int, list[Path]] | None = None
        hash_of = cache(file_hash)
        for job in jobs:
            paths = [self.folder / name for name in reversed(job.names)]
            path = next((path for path in paths if path.is_file()), None)
            if path is None:
                others = _by_size(self.folder) if others is None else others
                same = (p for p in others.get(job.nbytes, ()) if hash_of(p) == job.sha256)
                path = next(same, paths[0])
            yield replace(job, path=path)

    def _take_over(self) -> None:
        """Make documents of the jobs in ledgers of earlier versions, once for each ledger."""
        taken = Documents(self.folder, "ledgers")
        for path in sorted(self.folder.glob(f"*{LEDGER}")):
            if taken.read(path.name) is not None:
                continue
            try:
                jobs = [self.after(job, "taken over") for job in _ledger_jobs(path)]
            except LineError as error:
                self._damaged[path] = error
                continue
            try:
                for job in jobs:
                    self._jobs.create(job.sha256, _document(job))
                self._jobs.sync()
                taken.create(path.name, {"taken_over_at": now()})
            except OSError:
                # Where nothing can be written, what they say can still be shown and read.
                self._only_read |= {job.sha256: job for job in jobs}


class Records:
    """The records of folders, each opened once, when it is first asked for."""

    def __init__(self) -> None:
        self._records: dict[Path, Record] = {}

    def of(self, shard: Path) -> Record:
        """Return the record next to a shard, whatever way its folder is named."""
        folder = shard.absolute().parent.resolve()
        if folder not in self._records:
            self._records[folder] = Record(shard.parent)
        return self._records[folder]


def _by_size(folder: Path) -> dict[int, list[Path]]:
    found: dict[int, list[Path]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        found.setdefault(path.stat().st_size, []).append(path)
    return found


def _document(job: Job) -> dict[str, Any]:
    """Return what is written of a job, in an order that reads well."""
    facts = {name: getattr(job, name) for name in DOCUMENT}
    facts["settings"] = {name: getattr(job.settings, name) for name in SETTINGS}
    return {name: value for name, value in facts.items() if value not in (None, {}, ())}


def _may_tell_of(ledger: Path, sha256: str, path: Path | None) -> bool:
    """Return whether a ledger that cannot be read may tell of a shard: of its name or its hash."""
    is_named = path is not None and set_name(path)[0] == ledger.name.removesuffix(LEDGER)
    return is_named or sha256.encode() in ledger.read_bytes()


def _ledger_jobs(path: Path) -> list[Job]:
    """Read what a ledger says of each shard; a last line that was cut short never happened.

    Raises:
        LineError: If a line is not an event.
    """
    jobs: dict[str, Job] = {}
    for number, raw in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            _apply(path, jobs, json.loads(raw))
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
            hint = "take the line out, or bring the file back"
            raise LineError("not an event of a ledger", path=path, line=number, hint=hint) from None
    found: dict[str, Job] = {}
    for job in jobs.values():
        if before := found.get(job.sha256):
            # Of several tries with the same bytes the last one counts, unless it was never made.
            is_made = job.may_be_paid or not before.may_be_paid
            job, other = (job, before) if is_made else (before, job)
            job = replace(job, earlier=(*before.earlier, *filter(None, [other.batch_id])))
        found[job.sha256] = job
    return list(found.values())


def _apply(path: Path, jobs: dict[str, Job], entry: Mapping[str, Any]) -> None:
    """Bring the jobs, which are found by their tokens, up to date with one event."""
    event, token = entry["event"], entry["token"]
    facts = {key: value for key, value in entry.items() if key in LEDGER_FACTS}
    if "errors" in facts:
        facts["errors"] = tuple(facts["errors"])
    if event == "intent":
        given = entry["settings"]
        facts["settings"] = Settings(**{k: given[k] for k in given.keys() & SETTINGS})
        shard = path.with_name(entry["shard"])
        known = jobs.get(token)
        # A token seen before: another name for the same bytes, or other settings.
        job = replace(known, path=shard, **facts) if known else Job(shard, token=token, **facts)
        jobs[token] = replace(job, names=(*job.names, shard.name))
        return
    job = jobs[token]
    if event == "creating":
        facts = {"tried_at": job.tried_at or entry["at"], "retried_at": entry["at"]}
    elif event == "downloaded":
        facts = {"files": {**job.files, entry["name"]: entry["size"]}}
    jobs[token] = replace(job, **facts)
