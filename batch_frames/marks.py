"""Mark text columns of which more is known than Arrow can say."""

from __future__ import annotations

import pyarrow as pa

from batch_frames.text import TEXT

__all__ = ["JsonText", "PythonText"]


class Mark(pa.ExtensionType):  # type: ignore[misc]
    """Say something of a text column by its type; marks never leave the process."""

    name: str

    def __init__(self) -> None:
        super().__init__(TEXT, self.name)

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> Mark:
        return cls()


class JsonText(Mark):
    """Mark a column whose every value already is JSON."""

    name = "batch_frames.json"


class PythonText(Mark):
    """Mark a column made of Python strings: it needs no check of its UTF-8."""

    name = "batch_frames.text"
