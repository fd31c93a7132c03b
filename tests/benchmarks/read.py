"""Measure what reading result lines costs, beside other ways of reading the same lines.

    python tests/benchmarks/read.py [--rows 200000] [--repeat 5] [--seed 7]

It compares ways of reading one output file of chat completions: into results, into results with
typed answers, and the answers alone. All must read the same, or nothing is printed.
"""

import itertools
import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from common import (
    MARKS,
    POOL_SIZE,
    Contestant,
    Sample,
    argument_parser,
    be_child,
    forget_loading,
    fragments,
    measure,
    medians,
    run_child,
    run_sample,
    times,
    versions,
)
from readers import (
    SCHEMA,
    TONES,
    read_answers_loop,
    read_loop,
    read_pandas,
    read_pyarrow,
    read_typed_loop,
)

MODEL = "gpt-5.6-luna-2026-07-01"
TOPICS = ("breakfast", "staff", "noise", "view", "bed", "価格", "位置")
REFUSAL = "I'm sorry, but I can't help with that request."
ERRORS = (
    (429, "rate_limit_exceeded", "requests", "Rate limit reached for requests per day."),
    (400, None, "invalid_request_error", "Unsupported value: 'seed' is not supported."),
    (500, None, "server_error", "The server had an error while processing your request."),
)
EXPIRED = {
    "code": "batch_expired",
    "message": "This request could not be executed before the completion window expired.",
}
PIECE = 20_000
ERROR_SHARE, CUT_SHARE, FILTERED_SHARE, REFUSED_SHARE, WRONG_SHARE = 0.01, 0.005, 0.001, 0.001, 5e-4

CAVEAT = """
rise: peak memory over what the process held just before the clock; peak: of the whole process,
with the libraries it imported; both also as times the size of the file (or of the answers' text).

What this does not show: importing the libraries is outside the clock, and the file is in the page
cache. It is one machine, one endpoint, and the output of one service, whose lines are all
well-formed and alike: pyarrow.json and the loops are written for just these, where batch_frames
reads any. A fifth of a text's words are not ASCII, each character of them six bytes; other texts
would give other ratios. CPU adds up all threads, so several can use more CPU than wall time."""


def make_answer(rng: Any, texts: list[str]) -> dict[str, Any]:
    complaint = " ".join(rng.choices(texts, k=3)) if rng.random() < 0.8 else None
    return {
        "stars": "five" if rng.random() < WRONG_SHARE else rng.randint(1, 5),
        "complaint": complaint,
        "tone": "sad" if rng.random() < WRONG_SHARE else rng.choice(TONES),
        "score": round(rng.random(), 3),
        "topics": rng.sample(TOPICS, rng.randint(0, 3)),
    }


def make_choice(rng: Any, texts: list[str]) -> dict[str, Any]:
    content = json.dumps(make_answer(rng, texts), ensure_ascii=False)
    message: dict[str, Any] = {
        "role": "assistant",
        "content": content,
        "refusal": None,
        "annotations": [],
    }
    finish_reason, chance = "stop", rng.random()
    if chance < CUT_SHARE:
        message["content"], finish_reason = content[: len(content) // 2], "length"
    elif chance < CUT_SHARE + FILTERED_SHARE:
        message["content"], finish_reason = "", "content_filter"
    elif chance < CUT_SHARE + FILTERED_SHARE + REFUSED_SHARE:
        message |= {"content": None, "refusal": REFUSAL}
    return {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}


def make_body(rng: Any, texts: list[str], name: str) -> dict[str, Any]:
    asked, told, thought = rng.randint(80, 400), rng.randint(40, 200), 64 * rng.randint(0, 9)
    unused = {"audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}
    return {
        "id": f"chatcmpl-{name[:29]}",
        "object": "chat.completion",
        "created": 1_793_000_000 + rng.randrange(86_400),
        "model": MODEL,
        "choices": [make_choice(rng, texts)],
        "usage": {
            "prompt_tokens": asked,
            "completion_tokens": told + thought,
            "total_tokens": asked + told + thought,
            "prompt_tokens_details": {"cached_tokens": rng.choice((0, 64)), "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": thought, **unused},
        },
        "service_tier": "default",
        "system_fingerprint": f"fp_{name[:10]}",
    }


def make_line(rng: Any, texts: list[str], number: int) -> dict[str, Any]:
    name = f"{rng.getrandbits(128):032x}"
    line = {"id": f"batch_req_{name}", "custom_id": f"r{number:07d}"}
    if rng.random() >= ERROR_SHARE:
        status_code, body = 200, make_body(rng, texts, name)
    elif rng.random() < 0.25:
        return {**line, "response": None, "error": EXPIRED}
    else:
        status_code, code, kind, message = rng.choice(ERRORS)
        body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    response = {"status_code": status_code, "request_id": name[::-1], "body": body}
    return {**line, "response": response, "error": None}


def generate(target: str, rows: str, seed: str) -> None:
    """Write output lines as the service does, which escapes all that is not ASCII."""
    import random

    import numpy as np

    numbers = np.random.default_rng(int(seed))
    texts = fragments(numbers, (".", "!", "…")) + fragments(numbers, MARKS)[: POOL_SIZE // 3]
    rng = random.Random(int(seed))
    with Path(target).open("w", encoding="ascii", newline="\n") as file:
        lines = (make_line(rng, texts, number) for number in range(int(rows)))
        file.writelines(json.dumps(line) + "\n" for line in lines)


def generate_answers(source: str, target: str) -> None:
    """Keep the text of the answers that are whole."""
    import pyarrow as pa
    import pyarrow.feather as feather

    frame = read_loop(Path(source), json.loads)
    texts = pa.array(frame.loc[frame["status"] == "ok", "content"], pa.large_string())
    feather.write_feather(pa.table({"text": texts}), target, compression="uncompressed")


def load_arrow(source: Path) -> Any:
    import pyarrow.feather as feather

    return feather.read_table(source, memory_map=False)["text"]


def load_texts(source: Path) -> list[str]:
    texts: list[str] = load_arrow(source).to_pylist()
    return texts


def load_orjson(text: Any) -> Any:
    import orjson

    return orjson.loads(text)


def read_batch_frames(source: Path) -> Any:
    import batch_frames as bf

    return bf.read_results(source)


def read_typed_batch_frames(source: Path) -> Any:
    import batch_frames as bf

    return bf.read_results(source, json_schema=SCHEMA)


def read_answers(text: Any) -> Any:
    """Read answers in pieces and threads, as `read_results` does."""
    import pyarrow as pa

    from batch_frames.arrow.query import in_threads
    from batch_frames.schemas.answers import Answers

    answers = Answers(SCHEMA)

    def read(piece: Any) -> Any:
        table, reasons = answers.read(piece)
        return table.append_column("reason", reasons)

    pieces = (text.slice(start, PIECE) for start in range(0, len(text), PIECE))
    return pa.concat_tables(in_threads(read, pieces))


LIBRARY = ("pandas", "pyarrow.compute", "pyarrow.json", "pyarrow.pandas_compat")
OURS = ("batch_frames", *LIBRARY)
RESULTS = {
    "results": Contestant("batch_frames", OURS, Path, read_batch_frames),
    "pyarrow": Contestant("pyarrow.json, schema given", LIBRARY, Path, read_pyarrow),
    "orjson": Contestant(
        "orjson loop", ("orjson", *LIBRARY), Path, partial(read_loop, loads=load_orjson)
    ),
    "json": Contestant("json loop", LIBRARY, Path, partial(read_loop, loads=json.loads)),
    "pandas": Contestant("pandas read_json, once", LIBRARY, Path, read_pandas),
}
TYPED = {
    "typed": Contestant("batch_frames, json_schema=", OURS, Path, read_typed_batch_frames),
    "typed-orjson": Contestant(
        "orjson loop", ("orjson", *LIBRARY), Path, partial(read_typed_loop, loads=load_orjson)
    ),
    "typed-json": Contestant(
        "json loop", LIBRARY, Path, partial(read_typed_loop, loads=json.loads)
    ),
}
ANSWERS = {
    "answers": Contestant("batch_frames", OURS, load_arrow, read_answers),
    "answers-orjson": Contestant(
        "orjson loop, checked",
        ("orjson", *LIBRARY),
        load_texts,
        partial(read_answers_loop, loads=load_orjson),
    ),
    "answers-json": Contestant(
        "json.loads loop, checked",
        LIBRARY,
        load_texts,
        partial(read_answers_loop, loads=json.loads),
    ),
    "bare-json": Contestant(
        "json.loads loop, bare", LIBRARY, load_texts, lambda texts: [*map(json.loads, texts)]
    ),
}
GROUPS = {
    "results": ("output.jsonl", RESULTS, "json"),
    "results with typed answers": ("output.jsonl", TYPED, "typed-json"),
    "typed answers alone": ("answers.arrow", ANSWERS, "answers-json"),
}
"""By title: what is read, by whom, and whose reading the others' must equal."""

CONTESTANTS = {**RESULTS, **TYPED, **ANSWERS}
UNCHECKED, ONCE = ("bare-json",), ("pandas",)


def contest(key: str, source: str, target: str = "") -> Sample:
    contestant = CONTESTANTS[key]
    data = contestant.prepare(Path(source))
    forget_loading()
    read: list[Any] = []
    sample = measure(lambda: read.append(contestant.run(data)))
    if target:
        save(read[0], Path(target))
    return sample


def save(read: Any, target: Path) -> None:
    """Save what was read, in one type for each kind of value."""
    import pyarrow as pa
    import pyarrow.feather as feather

    table = read if isinstance(read, pa.Table) else pa.Table.from_pandas(read)
    kinds = {
        pa.string(): pa.large_string(),
        pa.list_(pa.string()): pa.large_list(pa.large_string()),
    }
    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        is_coded = pa.types.is_dictionary(column.type)
        kind = column.type.value_type if is_coded else column.type
        columns[name] = column.cast(kind).cast(kinds.get(kind, kind))
    feather.write_feather(pa.table(columns), target)


def check(key: str, ours: str, reference: str) -> None:
    """Compare what two contestants read, column by column."""
    import pyarrow.feather as feather

    read, expected = feather.read_table(ours), feather.read_table(reference)
    label = CONTESTANTS[key].label
    if read.schema.names != expected.schema.names or read.schema.types != expected.schema.types:
        sys.exit(f"error: {label}: the columns are\n{read.schema}\nnot\n{expected.schema}")
    for name in read.column_names:
        if not read[name].equals(expected[name]):
            pairs = zip(read[name].to_pylist(), expected[name].to_pylist(), strict=True)
            row, (wrong, right) = next((n, p) for n, p in enumerate(pairs) if p[0] != p[1])
            sys.exit(f"error: {label}: {name!r} of row {row:,} is {wrong!r}, not {right!r}")


TASKS: dict[str, Callable[..., Sample | None]] = {
    "generate": generate,
    "answers": generate_answers,
    "contest": contest,
    "check": check,
}


def run_rounds(folder: Path, keys: dict[str, Path], repeat: int) -> dict[str, list[Sample]]:
    """Run the contestants in turn, and compare what they read in the first round."""
    saved = {key: folder / f"{key}.feather" for key in keys if key not in UNCHECKED}
    samples = {
        key: [run_sample("contest", key, source, saved.get(key, ""))]
        for key, source in keys.items()
    }
    for _, contestants, reference in GROUPS.values():
        for key in saved.keys() & contestants.keys():
            run_child("check", key, saved[key], saved[reference])
    for path in saved.values():
        path.unlink()
    for _, key in itertools.product(range(repeat - 1), keys):
        if key not in ONCE:
            samples[key].append(run_sample("contest", key, keys[key]))
    return samples


def table_row(label: str, sample: Sample | None, base: Sample, size: int) -> str:
    if sample is None:
        return f"{label:<28}not installed"
    figures = f"{label:<28}{sample.cpu:>8.3f}{sample.wall:>9.3f}{sample.rise / 1e6:>9.1f}"
    memory = f"{times(sample.rise, size):>9}{times(sample.peak, size):>9}"
    return f"{figures}{memory}{times(sample.cpu, base.cpu):>11}{times(sample.wall, base.wall):>12}"


def print_group(title: str, results: dict[str, Sample], size: int) -> None:
    contestants = GROUPS[title][1]
    columns = f"{'CPU s':>8}{'wall s':>9}{'rise MB':>9}{'x size':>9}{'peak x':>9}"
    print(f"\n{title:<28}{columns}{'x our CPU':>11}{'x our wall':>12}")
    base = results[next(iter(contestants))]
    for key, contestant in contestants.items():
        print(table_row(contestant.label, results.get(key), base, size))


def compare(folder: Path, rows: int, repeat: int, seed: int) -> None:
    if not RESULTS["results"].installed():
        sys.exit("error: batch_frames is not installed")
    output, answers = folder / "output.jsonl", folder / "answers.arrow"
    run_child("generate", output, rows, seed)
    run_child("answers", output, answers)
    keys = {
        key: folder / source
        for source, contestants, _ in GROUPS.values()
        for key, contestant in contestants.items()
        if contestant.installed()
    }
    samples = run_rounds(folder, keys, repeat)
    results = {key: medians(runs) for key, runs in samples.items()}
    size = output.stat().st_size
    print(f"{rows:,} lines, {size / 1e6:,.1f} MB, median of {repeat} rounds")
    print(versions())
    print("in the first round, what all of a table read was compared, value by value: equal")
    for title, (source, _, _) in GROUPS.items():
        print_group(title, results, (folder / source).stat().st_size)
    print(CAVEAT)


def main() -> None:
    arguments = argument_parser(__doc__, 200_000, 5).parse_args()
    if arguments.child:
        be_child(TASKS, *arguments.child)
        return
    with tempfile.TemporaryDirectory() as name:
        compare(Path(name), arguments.rows, arguments.repeat, arguments.seed)


if __name__ == "__main__":
    main()
