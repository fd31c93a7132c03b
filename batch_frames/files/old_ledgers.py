"""Read the ledgers that versions before 0.2 kept next to their shards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from batch_frames.errors import LineError
from batch_frames.files.job import Job, Settings
from batch_frames.files.rounds import LEDGER, set_name

__all__ = ["ledger_jobs", "may_tell_of", "old_ledgers"]


FACTS = frozenset(field.name for field in fields(Job)) - {"path", "token", "settings", "files"}

SETTINGS = frozenset(field.name for field in fields(Settings))


def old_ledgers(folder: Path) -> list[Path]:
    """List the ledgers in a folder."""
    return sorted(path for path in folder.glob(f"*{LEDGER}") if path.is_file())


def may_tell_of(ledger: Path, sha256: str, path: Path | None) -> bool:
    """Return whether a ledger that cannot be read may tell of a shard: of its name or its hash."""
    is_named = path is not None and set_name(path)[0] == ledger.name.removesuffix(LEDGER)
    return is_named or sha256.encode() in ledger.read_bytes()


def ledger_jobs(path: Path) -> list[Job]:
    """Read what a ledger says of each shard, by its bytes.

    A last line that was cut short never happened.

    Raises:
        LineError: If a line is not an event.
    """
    jobs: dict[str, Job] = {}
    for number, raw in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            _apply(path, jobs, json.loads(raw))
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
            problem = "not an event of a ledger"
            hint = "take the line out, or bring the file back"
            raise LineError(problem, path=path, line=number, hint=hint) from None
    found: dict[str, Job] = {}
    for job in jobs.values():
        # Of several tries with the same bytes the last one counts, unless it was never made.
        before = found.get(job.sha256)
        if before is not None and before.may_be_paid and not job.may_be_paid:
            job = replace(before, earlier=(*before.earlier, *_batches(job)))
        elif before is not None:
            job = replace(job, earlier=(*before.earlier, *_batches(before)))
        found[job.sha256] = job
    return list(found.values())


def _batches(job: Job) -> tuple[str, ...]:
    return (job.batch_id,) if job.batch_id else ()


def _apply(path: Path, jobs: dict[str, Job], entry: Mapping[str, Any]) -> None:
    """Bring the jobs, which are found by their tokens, up to date with one event."""
    event, token = entry["event"], entry["token"]
    facts = {key: value for key, value in entry.items() if key in FACTS}
    if "errors" in facts:
        facts["errors"] = tuple(facts["errors"])
    if event == "intent":
        given = entry["settings"]
        facts["settings"] = Settings(**{k: given[k] for k in SETTINGS & given.keys()})
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
