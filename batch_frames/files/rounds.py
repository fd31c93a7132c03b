"""Name the request files of a set and of its rounds, and find them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from batch_frames.errors import BatchFramesError
from batch_frames.files.cloud import as_path

__all__ = [
    "LEDGER",
    "RESULT_ENDINGS",
    "next_round",
    "refuse_result_name",
    "refuse_undecodable",
    "round_of",
    "rounds_of",
    "set_files",
    "set_name",
    "set_of",
    "set_path",
    "sets_of",
]


LEDGER = ".jobs.jsonl"
"""How the ledgers of versions before 0.2 end."""


RESULT_ENDINGS = (".output.jsonl", ".errors.jsonl")


NUMBERED = re.compile(r"(.+)-([0-9]{5}|[1-9][0-9]{5,6})")
"""Shards are numbered in five digits, and in more from 100,000 on; eight are a date."""


def set_name(shard: Path) -> tuple[str, int | None]:
    """Split the name of a shard into that of the set it belongs to, and its number.

    Example:
        >>> set_name(Path("out/reviews-00002.jsonl")), set_name(Path("reviews.round-2.jsonl"))
        (('reviews', 2), ('reviews.round-2', None))
    """
    stem = shard.name.removesuffix(".jsonl")
    found = NUMBERED.fullmatch(stem)
    return (found[1], int(found[2])) if found else (stem, None)


ROUND = re.compile(r"(.+)\.round-([1-9][0-9]*)")


def round_of(name: str, path: Path) -> int | None:
    """Return to which round of the set under a path a request file belongs, None for no round.

    Example:
        >>> path = Path("out/reviews.jsonl")
        >>> [round_of(name, path) for name in ("reviews.round-2-00001.jsonl", "reviews.jsonl")]
        [2, 1]
    """
    stem = path.name.removesuffix(".jsonl")
    own, _ = set_name(Path(name))
    found = ROUND.fullmatch(own)
    if name == path.name or own == stem:
        return 1
    return int(found[2]) if found and found[1] == stem else None


def sets_of(name: str) -> set[str]:
    """Return the names, without the ending, of the sets that a request file belongs to."""
    found = ROUND.fullmatch(own := set_name(Path(name))[0])
    return {name.removesuffix(".jsonl"), own, found[1] if found else own}


def set_of(shard: Path) -> Path:
    """Return the path of the set that a shard belongs to, in whichever round.

    Example:
        >>> set_of(Path("out/reviews.round-3-00002.jsonl")).name
        'reviews.jsonl'
    """
    own, _ = set_name(shard.with_name(shard.name.removesuffix(".gz").removesuffix(".zst")))
    found = ROUND.fullmatch(own)
    return shard.with_name(f"{found[1] if found else own}.jsonl")


def rounds_of(path: Path, names: Iterable[str]) -> dict[int, list[Path]]:
    """Return the request files of each round of a set, in order; none where they are gone.

    Args:
        path: The path of the set.
        names: The names of all that was sent from its folder.
    """
    ledgers = (p.name.replace(LEDGER, ".jsonl") for p in path.parent.glob(f"*{LEDGER}"))
    named = (round_of(name, path) for name in (*names, *ledgers))
    rounds = {number: list[Path]() for number in named if number}
    for file in set_files(path):
        rounds.setdefault(round_of(file.name, path) or 1, []).append(file)
    return rounds


def next_round(path: Path, names: Iterable[str]) -> Path:
    """Return where the next round of a set is saved.

    That is the path of the set until something was sent from there, and then the number after the
    last round, whether that was sent or is only a file.

    Args:
        path: The path of the set.
        names: As for ``rounds_of``.

    Example:
        >>> next_round(Path("reviews.jsonl"), ["reviews-00001.jsonl", "reviews-00002.jsonl"]).name
        'reviews.round-2.jsonl'
    """
    sent = list(names)
    last = max(rounds_of(path, sent), default=1)
    if last == 1 and not any(round_of(name, path) for name in sent):
        return path
    return path.with_name(f"{path.name.removesuffix('.jsonl')}.round-{last + 1}.jsonl")


def refuse_undecodable(path: str | os.PathLike[str]) -> None:
    """Check that a whole path is UTF-8, as Arrow and the record of what was sent need it.

    Raises:
        BatchFramesError: If not.
    """
    whole = str(as_path(path).absolute())
    try:
        whole.encode()
    except UnicodeEncodeError:
        shown = whole.encode(errors="backslashreplace").decode()
        raise BatchFramesError(f"the path '{shown}' is not UTF-8; rename it") from None


def refuse_result_name(path: Path) -> None:
    """Refuse to save requests under a name that is one of results.

    Raises:
        BatchFramesError: If it is.
    """
    if path.name.endswith((*RESULT_ENDINGS, LEDGER)):
        problem = f"'{path}' has the name of a file with results"
        raise BatchFramesError(problem, hint="name a file such as 'out/reviews.jsonl'")


def set_path(path: str | os.PathLike[str]) -> Path:
    """Return the path under which a set is saved.

    Raises:
        BatchFramesError: If the service would refuse its name, it is not UTF-8 or one of results,
            or its folder is a file.
    """
    refuse_undecodable(path)
    if not os.fspath(path).endswith(".jsonl"):
        problem = f"'{os.fspath(path)}' must end in .jsonl, as the service requires"
        raise BatchFramesError(problem, hint="name a file such as 'out/reviews.jsonl'")
    refuse_result_name(as_path(path))
    folder = as_path(path).parent
    if folder.exists() and not folder.is_dir():
        raise BatchFramesError(f"'{folder}' is not a folder", hint="save to another path")
    # Of a link, the record is next to the file that it leads to, as are the requests.
    return as_path(path).resolve() if as_path(path).is_symlink() else as_path(path)


def set_files(path: Path) -> list[Path]:
    """List the request files of all rounds of the set that was saved under a path, in order."""
    if not path.name.endswith(".jsonl") or not path.parent.is_dir():
        return []
    rounds = {
        file: number
        for file in path.parent.iterdir()
        if file.name.endswith(".jsonl") and (number := round_of(file.name, path)) and file.is_file()
    }
    return sorted(rounds, key=lambda file: (rounds[file], set_name(file)[1] or 0))
