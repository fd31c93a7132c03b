"""Templates over small tables, and the lines that they become."""

import io
import json
import string
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from batch_frames import BatchCreator, from_dataframe
from batch_frames.frames.chunks import Chunk
from batch_frames.requests.template import Template

CHAT = "/v1/chat/completions"
OTHER = "/v1/anything"
MODEL = "gpt-5.6-luna"
TEXTS = st.text() | st.text('"\\\n\t\x00\x1f{}é😀')


def saved(creator: BatchCreator) -> str:
    """Give what a creator saves."""
    file = io.BytesIO()
    creator.save_to_file(file, progress=False)
    return file.getvalue().decode()


def lines(frame: Any, **options: Any) -> list[str]:
    """Give the lines made of a frame with nothing in their bodies that is not asked for."""
    bare: dict[str, Any] = {"model": MODEL, "seed": None, "reasoning_effort": None}
    creator = from_dataframe(frame, id_column="id", **{**bare, **options})
    return saved(creator).split("\n")[:-1]


def contents(frame: Any, prompt: Any) -> list[Any]:
    """Give the prompts that a frame's lines hold."""
    rows = lines(frame, prompt_column=prompt)
    return [json.loads(row)["body"]["messages"][0]["content"] for row in rows]


def values(column: pa.Array, value: Any, endpoint: str = OTHER) -> list[str]:
    """Give the text of a body's one key for each row, with nothing parsed."""
    chunk = Chunk({"custom_id": pa.array([f"r{n}" for n in range(len(column))])}, {"c": column})
    rendered = Template(endpoint, {"k": value}, None).render(chunk).lines.to_pylist()
    head = '{{"custom_id":"r{}","method":"POST","url":"{}","body":{{'
    for number, line in enumerate(rendered):
        assert line.startswith(head.format(number, endpoint))
        assert line.endswith("}}\n")
    return [line[len(head.format(n, endpoint)) : -3] for n, line in enumerate(rendered)]


def dumped(custom_id: str, body: Mapping[str, Any], url: str = CHAT) -> str:
    """Write one request with the standard library."""
    request = {"custom_id": custom_id, "method": "POST", "url": url, "body": body}
    return json.dumps(request, ensure_ascii=False, separators=(",", ":"))


def table(**columns: Any) -> pa.Table:
    """Make a table with an id for each row, ``a``, ``b``, ``c``, …."""
    length = len(next(iter(columns.values())))
    return pa.table({"id": list(string.ascii_lowercase[:length]), **columns})
