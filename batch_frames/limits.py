"""Hold the sizes that the service accepts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import SupportsIndex

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Set how large one request file may become.

    The defaults are what the Batch API accepts: 50,000 requests and 200 MB a file (OpenAI's guide
    to the Batch API). Whether MB means 10^6 or 2^20 bytes is not stated there; the smaller is used.

    Attributes:
        requests: Most requests in one file.
        nbytes: Most bytes in one file.

    Raises:
        ValueError: If one of them is below 1.

    Example:
        >>> Limits(requests=1_000)
        Limits(requests=1000, nbytes=200000000)
    """

    requests: int = 50_000
    nbytes: int = 200_000_000

    def __post_init__(self) -> None:
        for name in ("requests", "nbytes"):
            value = getattr(self, name)
            whole = isinstance(value, SupportsIndex) and not isinstance(value, bool)
            if not whole or value < 1:
                raise ValueError(f"limits: {name} must be a whole number from 1, not {value!r}")
