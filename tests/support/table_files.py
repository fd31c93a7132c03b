"""CSV and Parquet files, and the lines that they become."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import batch_frames as bf

NO_PROMPT = "column 'text' is null; drop the row or pass na=\"skip\""

Read = Callable[..., bf.BatchCreator]


def batch_of(path: Any, read: Read = bf.from_csv, **options: Any) -> bf.BatchCreator:
    """Open files with short options."""
    given = {"id_column": "id", "prompt_column": "text", "model": "m", **options}
    return read(path, **{"seed": None, "reasoning_effort": None, **given})


def written(path: Any, read: Read = bf.from_csv, **options: Any) -> bytes:
    """Give the lines that files become."""
    file = io.BytesIO()
    batch_of(path, read, **options).save_to_file(file, progress=False)
    return file.getvalue()


def rows_of(path: Any, read: Read = bf.from_csv, **options: Any) -> list[tuple[str, Any]]:
    """List the id and the prompt of each line that files become."""
    requests = map(json.loads, written(path, read, **options).split(b"\n")[:-1])
    return [
        (request["custom_id"], request["body"]["messages"][0]["content"]) for request in requests
    ]


def line(custom_id: str, prompt: Any, **body: Any) -> bytes:
    """Write one line with ``json.dumps``."""
    messages = [{"role": "user", "content": prompt}]
    url = "/v1/chat/completions"
    body = {"model": "m", "messages": messages, **body}
    request = {"custom_id": custom_id, "method": "POST", "url": url, "body": body}
    return json.dumps(request, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def error_of(path: Any, read: Read = bf.from_csv, **options: Any) -> bf.BatchFramesError:
    """Give the error that files raise."""
    with pytest.raises(bf.BatchFramesError) as caught:
        written(path, read, **options)
    return caught.value


def warns(message: str) -> Any:
    """Expect one warning with this whole message."""
    return pytest.warns(UserWarning, match=rf"\A{re.escape(message)}\Z")


def save(path: Path, text: str, encoding: str = "utf-8") -> Path:
    """Save a text as it is, whatever its line ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def save_parquet(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    """Save columns as a Parquet file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **options)
    return path


def field(value: str | None) -> str:
    """Write one CSV field: nothing for a null, quotes where they are needed."""
    if value is None or re.fullmatch(r"\w+", value):
        return value or ""
    return '"' + value.replace('"', '""') + '"'
