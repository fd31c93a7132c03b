"""Measure what reading result lines costs, beside other ways of reading the same lines.

    python tests/benchmarks/read.py [--rows 200000] [--repeat 5] [--seed 7]
    python tests/benchmarks/read.py --sizes 100 5000 200000 [--repeat 3] [--endpoints chat]

It compares ways of reading one output file of chat completions: into results, into results with
typed answers, and the answers alone. All must read the same, or nothing is printed. With `--sizes`,
it compares more ways, of chat completions and of `/v1/responses`, in one table of ratios.
"""

import itertools
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
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
    positive,
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
    response_row,
)
from typed_readers import (
    read_msgspec_chat,
    read_msgspec_responses,
    read_polars_chat,
    read_polars_responses,
    read_pyarrow_responses,
    read_typed_msgspec_chat,
    read_typed_msgspec_responses,
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

CALLS, LINES = 200, 100_000
"""How often, at most, a child calls a contestant, and how many lines it reads so."""

WARM_UP, CHECKED = 3_000, 1_000_000
"""Lines that each contestant reads before its clock, and of how many the results are compared."""

PAIRED_CAVEAT = """
CPU time of each reader / CPU time of batch_frames in the same round, wall time likewise in
brackets; the lines of batch_frames are its own seconds per call. Medians of the rounds, each
contestant in a process of its own, in turn.

What this does not show: importing the libraries is outside the clock, and so is a call with
{warm_up:,} lines before it, in which the first use of DuckDB falls (with which batch_frames
reads chats from 2,000 lines on). "First call" is batch_frames without that: what a process pays
that reads one file. Of small files the mean of many calls is taken ({calls}).
The file is in the page cache. All lines are well-formed and of one service, which the readers
other than batch_frames count on: polars takes the last item of a response's output for its
message, and pyarrow.json one message and its first part. CPU adds up all threads. Up to {checked:,}
lines, the seventeen columns of all readers (and five of the typed answer) were compared value by
value in the first round: equal. A reader whose process failed, as for want of memory,
has no figure ("failed")."""


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


def make_chat(rng: Any, texts: list[str], name: str) -> dict[str, Any]:
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


def make_response(rng: Any, texts: list[str], name: str) -> dict[str, Any]:
    """Make a response with what it repeats of the request, as the schema of the answer."""
    asked, told, thought = rng.randint(80, 400), rng.randint(40, 200), 64 * rng.randint(0, 3)
    message, reason = make_message(rng, texts, name)
    reasoning = {"id": f"rs_{name[::-1]}", "type": "reasoning", "summary": []}
    form = {"type": "json_schema", "description": None, "name": SCHEMA["title"], "strict": True}
    return {
        "id": f"resp_{name}",
        "object": "response",
        "created_at": 1_793_000_000 + rng.randrange(86_400),
        "status": "incomplete" if reason else "completed",
        "background": False,
        "error": None,
        "incomplete_details": {"reason": reason} if reason else None,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "model": MODEL,
        "output": [reasoning, message] if thought else [message],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": {"effort": "low", "summary": None},
        "safety_identifier": None,
        "service_tier": "default",
        "store": True,
        "temperature": 1.0,
        "text": {"format": {**form, "schema": SCHEMA}, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": {
            "input_tokens": asked,
            "input_tokens_details": {"cached_tokens": rng.choice((0, 64))},
            "output_tokens": told + thought,
            "output_tokens_details": {"reasoning_tokens": thought},
            "total_tokens": asked + told + thought,
        },
        "user": None,
        "metadata": {},
    }


def make_message(rng: Any, texts: list[str], name: str) -> tuple[dict[str, Any], str | None]:
    """Make the message of a response, and why it is incomplete."""
    text = json.dumps(make_answer(rng, texts), ensure_ascii=False)
    part = {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
    reason, chance = None, rng.random()
    if chance < CUT_SHARE:
        part["text"], reason = text[: len(text) // 2], "max_output_tokens"
    elif chance < CUT_SHARE + FILTERED_SHARE:
        part["text"], reason = "", "content_filter"
    elif chance < CUT_SHARE + FILTERED_SHARE + REFUSED_SHARE:
        part = {"type": "refusal", "refusal": REFUSAL}
    status = "incomplete" if reason else "completed"
    message = {"id": f"msg_{name}", "type": "message", "status": status}
    return {**message, "content": [part], "role": "assistant"}, reason


def make_line(
    rng: Any, texts: list[str], number: int, make_body: Callable[..., Any] = make_chat
) -> dict[str, Any]:
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


def generate(target: str, rows: str, seed: str, endpoint: str = "chat") -> None:
    """Write output lines as the service does, which escapes all that is not ASCII."""
    import random

    import numpy as np

    numbers = np.random.default_rng(int(seed))
    texts = fragments(numbers, (".", "!", "…")) + fragments(numbers, MARKS)[: POOL_SIZE // 3]
    rng = random.Random(int(seed))
    with Path(target).open("w", encoding="ascii", newline="\n") as file:
        body = make_response if endpoint == "responses" else make_chat
        lines = (make_line(rng, texts, number, body) for number in range(int(rows)))
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


def pair(reader: str, run: Callable[..., Any], *modules: str) -> Contestant:
    return Contestant(reader, modules + LIBRARY, Path, run)


ORJSON = {"loads": load_orjson}
PAIRS = {
    ("chat", "no"): (
        pair("batch_frames", read_batch_frames, "batch_frames"),
        pair("pyarrow.json", read_pyarrow),
        pair("orjson", partial(read_loop, **ORJSON), "orjson"),
        pair("msgspec", read_msgspec_chat, "msgspec"),
        pair("polars", read_polars_chat, "polars"),
    ),
    ("chat", "yes"): (
        pair("batch_frames", read_typed_batch_frames, "batch_frames"),
        pair("orjson", partial(read_typed_loop, **ORJSON), "orjson"),
        pair("msgspec", read_typed_msgspec_chat, "msgspec"),
    ),
    ("responses", "no"): (
        pair("batch_frames", read_batch_frames, "batch_frames"),
        pair("pyarrow.json", read_pyarrow_responses),
        pair("orjson", partial(read_loop, **ORJSON, to_row=response_row), "orjson"),
        pair("msgspec", read_msgspec_responses, "msgspec"),
        pair("polars", read_polars_responses, "polars"),
    ),
    ("responses", "yes"): (
        pair("batch_frames", read_typed_batch_frames, "batch_frames"),
        pair("orjson", partial(read_typed_loop, **ORJSON, to_row=response_row), "orjson"),
        pair("msgspec", read_typed_msgspec_responses, "msgspec"),
    ),
}
"""By endpoint, and whether a json_schema is given: who reads, first batch_frames."""

FIRST_CALL = "batch_frames, first call"
CONTESTANTS = {
    **RESULTS,
    **TYPED,
    **ANSWERS,
    **{f"{'-'.join(group)}-{one.label}": one for group, all_ in PAIRS.items() for one in all_},
}
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


def contest_often(key: str, source: str, calls: str, warm_up: str, target: str = "") -> Sample:
    """Measure one call as the mean of several, after another one if `warm_up` is a file."""
    contestant = CONTESTANTS[key]
    data = contestant.prepare(Path(source))
    if warm_up:
        contestant.run(contestant.load(Path(warm_up)))
    forget_loading()
    read: list[Any] = []

    def call() -> None:
        for _ in range(int(calls)):
            read.clear()
            read.append(contestant.run(data))

    sample = measure(call)
    if target:
        save(read[0], Path(target))
    return Sample(**{name: value / int(calls) for name, value in asdict(sample).items()})


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
    "often": contest_often,
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


def run_group(folder: Path, group: tuple[str, str], rows: int, repeat: int) -> dict[str, str]:
    """Let the readers of a group read in turn: by the label of each, its figures."""
    source, warm_up = folder / "lines.jsonl", folder / "warm-up.jsonl"
    readers = {one.label: f"{'-'.join(group)}-{one.label}" for one in PAIRS[group]}
    ours = next(iter(readers))
    runs = {
        FIRST_CALL: (readers[ours], 1, ""),
        **{
            label: (key, number_of_calls(rows), warm_up)
            for label, key in readers.items()
            if CONTESTANTS[key].installed()
        },
    }
    rounds = []
    for number in range(repeat):
        is_checked = number == 0 and rows <= CHECKED
        samples = {}
        for label, (key, calls, before) in runs.items():
            target = folder / f"{label}.feather" if is_checked and before else ""
            samples[label] = try_sample("often", key, source, calls, before, target)
            if target and label != ours and samples[label] and samples[ours]:
                run_child("check", key, target, folder / f"{ours}.feather")
                target.unlink()
        rounds.append(samples)
    return {label: figures(rounds, label, ours) for label in runs}


def number_of_calls(rows: int) -> int:
    return min(CALLS, max(1, LINES // rows))


def try_sample(*words: object) -> Sample | None:
    try:
        return run_sample(*words)
    except SystemExit as error:
        print(error, file=sys.stderr)
        return None


def figures(rounds: list[dict[str, Sample | None]], label: str, ours: str) -> str:
    """Write seconds of batch_frames, or how many times these another one takes, with wall time."""
    is_own = label in (ours, FIRST_CALL)
    pairs = [(samples[label], None if is_own else samples[ours]) for samples in rounds]
    if any(one is None or (base is None and not is_own) for one, base in pairs):
        return "failed"
    cpu = median(one.cpu / (base.cpu if base else 1) for one, base in pairs if one)
    wall = median(one.wall / (base.wall if base else 1) for one, base in pairs if one)
    return f"{cpu:.2g} s ({wall:.2g} s)" if is_own else f"{cpu:.2f} ({wall:.2f})"


def compare_sizes(
    folder: Path, endpoints: list[str], sizes: list[int], repeat: int, seed: int
) -> None:
    lines, warm_up = folder / "lines.jsonl", folder / "warm-up.jsonl"
    cells: dict[tuple[str, ...], list[str]] = {}
    for endpoint, rows in itertools.product(endpoints, sizes):
        run_child("generate", warm_up, WARM_UP, seed, endpoint)
        run_child("generate", lines, rows, seed, endpoint)
        for group in (group for group in PAIRS if group[0] == endpoint):
            for label, cell in run_group(folder, group, rows, repeat).items():
                cells.setdefault((*group, label), []).append(cell)
    print(f"{versions()}, median of {repeat} rounds, CPU (wall)\n")
    titles = (f"{rows:,} rows" for rows in sizes)
    print("|", " | ".join(["endpoint", "json_schema", "reader", *titles]), "|")
    print("|", " | ".join(["---"] * 3 + ["---:"] * len(sizes)), "|")
    for names, row in cells.items():
        print("|", " | ".join([*names, *row]), "|")
    calls = ", ".join(f"{number_of_calls(rows)} of {rows:,} lines" for rows in sizes)
    print(PAIRED_CAVEAT.format(warm_up=WARM_UP, calls=calls, checked=CHECKED))


def main() -> None:
    parser = argument_parser(__doc__, 200_000, 5)
    parser.add_argument("--sizes", type=positive, nargs="+", help="compare peers at these sizes")
    endpoints = list(dict.fromkeys(endpoint for endpoint, _ in PAIRS))
    parser.add_argument("--endpoints", choices=endpoints, nargs="+", default=endpoints)
    arguments = parser.parse_args()
    if arguments.child:
        be_child(TASKS, *arguments.child)
        return
    with tempfile.TemporaryDirectory() as name:
        if arguments.sizes:
            compare_sizes(
                Path(name), arguments.endpoints, arguments.sizes, arguments.repeat, arguments.seed
            )
            return
        compare(Path(name), arguments.rows, arguments.repeat, arguments.seed)


if __name__ == "__main__":
    main()
