"""Save rendered requests as request files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from batch_frames.display import NAMED, counted, some_of
from batch_frames.files import Limits, Shard, ShardWriter, open_store
from batch_frames.progress import progress_bar, warn
from batch_frames.requests.duplicates import IdCheck
from batch_frames.requests.template import Rendered

__all__ = ["LIMITS", "save_requests"]


LIMITS = Limits()


def save_requests(
    blocks: Iterable[Rendered],
    target: str | os.PathLike[str] | IO[bytes],
    *,
    rows: int | None,
    sources: Sequence[Path] = (),
    limits: Limits = LIMITS,
    progress: bool | None = None,
    check: Callable[[Mapping[Path, Path | None]], None] | None = None,
) -> list[Shard]:
    """Save requests under the limits, whole or not at all, and warn of rows without one.

    Args:
        blocks: The requests.
        target: The file, ``-`` or a binary file object.
        rows: How many rows there are, or None where that is not known.
        sources: Files that the rows are read from, which must not be replaced.
        limits: How large one file may become.
        progress: Whether to show a progress bar; None shows it after two seconds.
        check: Called with what replaces which files, before anything is replaced.

    Raises:
        RequestError: If a row cannot become a request, or ids are not unique.
        BatchFramesError: As for ``BatchCreator.save_to_file``.
    """
    if not isinstance(limits, Limits):
        raise TypeError(f"limits must be Limits(requests=…, nbytes=…), not {limits!r}")
    # The C library takes memory back to the system, page by page, less eagerly once it has seen
    # one large block freed: chunks then reuse what is there, which nearly halves the time.
    np.empty(16 << 20, np.uint8)
    bar = progress_bar(str(getattr(target, "name", target)), rows, progress)
    ids, skipped = IdCheck(), 0
    places: list[str] = []
    with ShardWriter(open_store(target, sources), limits) as writer, bar:
        for block in blocks:
            writer.write(block.lines, block.chunk.error)
            ids.add(block.ids, block.chunk.position)
            skipped += block.skipped
            places += block.places[: NAMED - len(places)]
            bar.update(len(block.ids) + block.skipped)
        ids.check(writer.read_back)
        if check:
            check(writer.changes())
        shards = writer.commit()
    if skipped:
        warn(f"skipped {counted(skipped, 'row')} without a prompt: {some_of(places, skipped)}")
    if not any(shard.requests for shard in shards):
        warn("there are no requests: the file is empty")
    return shards
