"""Measure what writing costs beside other libraries, by endpoint, schema and number of rows.

    python tests/benchmarks/peers.py [--sizes 100 5000 200000 5000000] [--repeat 3] [--seed 7]

All write the same requests of rows that are in memory, in turn, each in a process of its own, and
the first lines of all files are compared. `read.py --sizes` does the same for reading.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from common import (
    Contestant,
    Sample,
    argument_parser,
    be_child,
    forget_loading,
    measure,
    medians,
    positive,
    run_child,
    run_sample,
    versions,
)
from readers import SCHEMA
from write import MODEL, SYSTEM_PROMPT, generate, load_arrow, load_duckdb, same_line, save

ENDPOINTS = {"chat": "/v1/chat/completions", "responses": "/v1/responses"}
KINDS = [f"{name}{schema}" for name in ENDPOINTS for schema in ("", ", schema")]
ENOUGH, COMPARED = 20_000, 200_000

CAVEAT = """
Each figure is CPU time beside that of batch_frames, and wall time in brackets. What this does not
show: importing the libraries, loading the rows and a first call are outside the clock; files are in
the page cache. Of few rows, the same are written again and again. It is one machine and one kind of
text, about 290 characters. DuckDB uses all processors, and takes the schema as JSON text."""

Write = Callable[[Any, dict[str, Any], Path], object]


def options_of(kind: str) -> dict[str, Any]:
    name, _, schema = kind.partition(", ")
    return {
        "id_column": "id",
        "prompt_column": "review",
        "model": MODEL,
        "reasoning_effort": "low",
        "system_prompt": SYSTEM_PROMPT,
        "seed": None,
        "endpoint": ENDPOINTS[name],
        "json_schema": SCHEMA if schema else None,
    }


@cache
def request_of(kind: str) -> dict[str, Any]:
    """Return a request of this kind, of which the others change id and prompt."""
    import pyarrow as pa

    import batch_frames as bf

    row = pa.table({"id": ["-"], "review": ["-"]})
    request: dict[str, Any] = bf.from_dataframe(row, **options_of(kind)).preview_entry()
    return request


def prompt_key(request: dict[str, Any]) -> str:
    return "messages" if "messages" in request["body"] else "input"


def write_batch_frames(frame: Any, kind: str, target: Path) -> None:
    import batch_frames as bf

    save(bf.from_dataframe(frame, **options_of(kind)), target)


def requests(frame: Any, kind: str) -> Iterator[dict[str, Any]]:
    like = request_of(kind)
    key, body = prompt_key(like), like["body"]
    for custom_id, prompt in zip(frame["id"].tolist(), frame["review"].tolist(), strict=True):
        value = prompt if key == "input" else [body[key][0], {"role": "user", "content": prompt}]
        yield {**like, "custom_id": custom_id, "body": {**body, key: value}}


def write_json(frame: Any, kind: str, target: Path) -> None:
    with target.open("w", encoding="utf-8", newline="\n") as file:
        for request in requests(frame, kind):
            file.write(json.dumps(request, ensure_ascii=False, separators=(",", ":")) + "\n")


def write_orjson(frame: Any, kind: str, target: Path) -> None:
    import orjson

    with target.open("wb") as file:
        for request in requests(frame, kind):
            file.write(orjson.dumps(request, option=orjson.OPT_APPEND_NEWLINE))


def sql_of(value: Any, key: str = "") -> str:
    """Return a constant as DuckDB has it; a schema is JSON already."""
    if isinstance(value, dict) and key not in ("json_schema", "format"):
        members = ", ".join(f"'{name}': {sql_of(inner, name)}" for name, inner in value.items())
        return f"{{{members}}}"
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return f"'{text}'" + ("" if isinstance(value, str) else "::JSON")


def write_duckdb(connection: Any, kind: str, target: Path) -> None:
    like = request_of(kind)
    body, key = like["body"], prompt_key(like)
    prompt = "review"
    if key == "messages":
        prompt = f"[{sql_of(body[key][0])}, {{'role': 'user', 'content': review}}]"
    members = [f"'{name}': {sql_of(v, name)}" for name, v in body.items() if name != key]
    made = ", ".join([*members, f"'{key}': {prompt}"])
    connection.execute(f"""
        COPY (
            SELECT id AS custom_id, 'POST' AS method, '{like["url"]}' AS url, {{{made}}} AS body
            FROM reviews
        ) TO '{target}' (FORMAT json)
    """)


OURS, REFERENCE = "batch_frames", "json.dumps loop"
CONTESTANTS = {
    one.label: one
    for one in (
        Contestant(OURS, ("batch_frames",), load_arrow, write_batch_frames),
        Contestant(REFERENCE, ("batch_frames",), load_arrow, write_json),
        Contestant("orjson.dumps loop", ("orjson", "batch_frames"), load_arrow, write_orjson),
        Contestant("DuckDB COPY", ("duckdb", "batch_frames"), load_duckdb, write_duckdb),
    )
}


def contest(label: str, kind: str, source: str, target: str, rows: str) -> Sample:
    """Write once, or many times where that is quick, to a new file each."""
    contestant, path = CONTESTANTS[label], Path(target)
    data = contestant.prepare(Path(source))
    calls = max(1, ENOUGH // int(rows))

    def write() -> None:
        for _ in range(calls):
            path.unlink(missing_ok=True)
            contestant.run(data, kind, path)

    if calls > 1:
        contestant.run(data, kind, path)
    path.unlink(missing_ok=True)
    forget_loading()
    sample = measure(write)
    return Sample(**{name: value / calls for name, value in asdict(sample).items()})


TASKS: dict[str, Callable[..., Sample | None]] = {"generate": generate, "contest": contest}


def check(label: str, written: Path, reference: Path) -> None:
    with written.open("rb") as lines, reference.open("rb") as expected:
        pairs = zip(lines, expected, strict=True)
        for number, (ours, theirs) in enumerate(islice(pairs, COMPARED), start=1):
            if not same_line(ours, theirs, json.loads):
                sys.exit(f"error: {label}: line {number} differs from the {REFERENCE}")


def compare(folder: Path, kind: str, rows: int, repeat: int) -> dict[str, Sample]:
    """Run the contestants in turn, and compare what they wrote in the first round."""
    source, samples = folder / f"{rows}.parquet", {label: list[Sample]() for label in CONTESTANTS}
    installed = [label for label, one in CONTESTANTS.items() if one.installed()]
    reference, target = folder / "reference.jsonl", folder / "lines.jsonl"
    for number in range(repeat):
        for label in sorted(installed, key=lambda label: label != REFERENCE):
            path = reference if label == REFERENCE else target
            samples[label].append(run_sample("contest", label, kind, source, path, rows))
            if number == 0 and label != REFERENCE:
                check(label, path, reference)
            target.unlink(missing_ok=True)
    return {label: medians(runs) for label, runs in samples.items() if runs}


def cell(sample: Sample | None, base: Sample) -> str:
    if sample is None:
        return "-"
    if sample is base:
        return f"{base.cpu:.3g} s ({base.wall:.3g} s)"
    return f"{sample.cpu / base.cpu:.1f} ({sample.wall / base.wall:.1f})"


def main() -> None:
    parser = argument_parser(__doc__, None, 3)
    parser.add_argument("--sizes", type=positive, nargs="+", default=[100, 5_000, 200_000])
    arguments = parser.parse_args()
    if arguments.child:
        be_child(TASKS, *arguments.child)
        return
    with tempfile.TemporaryDirectory() as name:
        for rows in arguments.sizes:
            run_child("generate", Path(name, f"{rows}.parquet"), rows, arguments.seed)
        print(versions(), end="\n\n")
        print("| | " + " | ".join(f"{rows:,} rows" for rows in arguments.sizes) + " |")
        print("| --- |" + " ---: |" * len(arguments.sizes))
        for kind in KINDS:
            found = [compare(Path(name), kind, n, arguments.repeat) for n in arguments.sizes]
            for label in CONTESTANTS:
                cells = [cell(one.get(label), one[OURS]) for one in found]
                print(f"| {kind}: {label} | " + " | ".join(cells) + " |", flush=True)
    print(CAVEAT)


if __name__ == "__main__":
    main()
