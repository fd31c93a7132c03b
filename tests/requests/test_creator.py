"""Collect requests by hand or over a table, and save them again and again."""

from __future__ import annotations

import inspect
import json
import re
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import batch_frames as bf
from tests.support.creators import (
    CHAT,
    COLUMNS,
    Entry,
    creator_of,
    entries_of,
    line_of,
    saved,
    table_batch,
    text,
)

SCHEMA = {"name": "rating", "strict": True, "schema": {"type": "object", "a": [1, 2.5, None]}}
WARNING = "model is left at its default, 'o4-mini', which OpenAI has retired; pass model="
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda child: st.lists(child, max_size=3) | st.dictionaries(text, child, max_size=3),
    max_leaves=8,
)  # fmt: skip
schemas = st.tuples(text, st.dictionaries(text, json_values, max_size=3)).map(
    lambda parts: {**parts[1], "name": parts[0], "schema": parts[1]}
)


# The constructor


def test_the_constructor_takes_what_it_always_took() -> None:
    """Names, order and defaults of the parameters; what is new stands behind, by keyword only."""
    parameters = inspect.signature(bf.BatchCreator).parameters.values()
    assert [(p.name, repr(p.default)) for p in parameters] == [
        ("model", "'o4-mini'"),
        ("reasoning_effort", "'medium'"),
        ("json_schema", "None"),
        ("system_prompt", repr(inspect.Parameter.empty)),
        ("seed", "334"),
        ("endpoint", repr(CHAT)),
        ("body", "None"),
    ]
    kinds = [p.kind for p in parameters]
    assert kinds[:3] == [inspect.Parameter.POSITIONAL_OR_KEYWORD] * 3
    assert kinds[3:] == [inspect.Parameter.KEYWORD_ONLY] * 4


@pytest.mark.parametrize("arguments", [(), ("m",), ("m", "low", SCHEMA)])
def test_a_system_prompt_is_required(arguments: tuple[Any, ...]) -> None:
    """Without a system prompt there is a TypeError that names it."""
    with pytest.raises(TypeError, match=r"missing 1 required keyword-only .* 'system_prompt'$"):
        bf.BatchCreator(*arguments)  # type: ignore[call-arg]


def test_the_names_of_all_parameters_are_kept() -> None:
    """Everything can be said by the names it always had."""
    creator = bf.BatchCreator(
        model="m", reasoning_effort="low", json_schema=SCHEMA, system_prompt="Be brief."
    )
    creator.add_entry(index="a", user_prompt="b")
    assert creator.preview_entry(index=0)["custom_id"] == "a"
    with TemporaryDirectory() as folder:
        creator.save_to_file(file_path=f"{folder}/x.jsonl")
        content = Path(folder, "x.jsonl").read_bytes()
    assert content == line_of("a", "b", "m", "low", SCHEMA, "Be brief.")


def test_three_parameters_may_be_given_by_position() -> None:
    """The first three are model, effort and schema."""
    creator = bf.BatchCreator("m", "low", SCHEMA, system_prompt="s")
    creator.add_entry("a", "b")
    assert saved(creator) == line_of("a", "b", "m", "low", SCHEMA, "s")


def test_the_default_model_draws_no_warning_here() -> None:
    """``BatchCreator`` itself stays silent, whatever its model."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        creator = creator_of(entries_of(2))
        saved(creator)
        repr(creator)
    assert caught == []


# Lines


def test_a_line_without_schema_is_exactly_this() -> None:
    """The whole bytes of a line, written out."""
    creator = bf.BatchCreator(system_prompt="Rate „it“.")
    creator.add_entry("a1", 'Good\t"stuff" 👍\u2028')
    assert (
        saved(creator)
        == (
            '{"custom_id":"a1","method":"POST","url":"/v1/chat/completions","body":{"model":"o4-mini",'
            '"seed":334,"reasoning_effort":"medium","messages":[{"role":"system","content":'
            '"Rate „it“."},{"role":"user","content":"Good\\t\\"stuff\\" 👍\u2028"}]}}\n'
        ).encode()
    )


def test_a_line_with_a_schema_is_exactly_this() -> None:
    """The schema stands as it was given, between effort and messages."""
    creator = bf.BatchCreator(json_schema={"name": "r", "b": 1, "schema": {}}, system_prompt="s")
    creator.add_entry("a1", "p")
    assert saved(creator) == (
        b'{"custom_id":"a1","method":"POST","url":"/v1/chat/completions","body":{"model":"o4-mini",'
        b'"seed":334,"reasoning_effort":"medium","response_format":{"type":"json_schema",'
        b'"json_schema":{"name":"r","b":1,"schema":{}}},"messages":[{"role":"system","content":"s"},'
        b'{"role":"user","content":"p"}]}}\n'
    )


@given(
    entries=st.lists(
        st.tuples(st.text(min_size=1, max_size=20), text), max_size=6, unique_by=lambda e: e[0]
    ),
    model=text.filter(bool),
    effort=st.none() | text,
    schema=st.none() | schemas,
    system=st.none() | text,
    seed=st.none() | st.integers(),
)
@example(
    entries=[("{0}", "{id} \x00\x1f\x7f\x80\ufeff\uffff\U0010ffff\\u0041"), ('"', "\\")],
    model="{model}",
    effort="",
    schema={"name": "", "schema": {}},
    system="",
    seed=0,
)
def test_lines_are_those_of_json_dumps(
    entries: list[Entry],
    model: str,
    effort: str | None,
    schema: Any,
    system: str | None,
    seed: int | None,
) -> None:
    """For any text, number or schema the bytes are those of a row loop; None leaves keys out."""
    creator = bf.BatchCreator(model, effort, schema, system_prompt=system, seed=seed)
    for entry in entries:
        creator.add_entry(*entry)
    expected = b"".join(line_of(*e, model, effort, schema, system, seed) for e in entries)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "there are no requests")
        content = saved(creator)
    assert content == expected
    previews = [creator.preview_entry(n) for n in range(len(entries))]
    assert previews == [json.loads(line) for line in expected.split(b"\n")[:-1]]


def test_keys_of_body_are_added_or_replace_others() -> None:
    """New keys stand at the end in their order; a known one is replaced where it stands."""
    body = {"temperature": 0.5, "model": "other", "stop": ["é", None], "seed": None}
    line = (
        '{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"other",'
        '"seed":null,"reasoning_effort":"medium","messages":[{"role":"system","content":"s"},'
        '{"role":"user","content":"b"}],"temperature":0.5,"stop":["é",null]}}\n'
    )
    creator = creator_of([("a", "b")], system_prompt="s", body=body)
    assert saved(creator) == line.encode()


def test_a_schema_changed_later_changes_no_line() -> None:
    """What counts is the schema at the time of the constructor."""
    schema: dict[str, Any] = {"name": "r", "schema": {"type": "object"}}
    creator = bf.BatchCreator(json_schema=schema, system_prompt="Rate it.")
    expected = line_of("a", "b", schema=json.loads(json.dumps(schema)))
    schema["schema"]["type"] = "changed"
    creator.add_entry("a", "b")
    assert saved(creator) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 334}, "seed has no place in the body of '/v1/embeddings'; leave it out"),
        (
            {"reasoning_effort": "medium"},
            "reasoning_effort has no place in the body of '/v1/embeddings'; leave it out",
        ),
        (
            {"system_prompt": "s"},
            "system_prompt has no place in the body of '/v1/embeddings'; leave it out",
        ),
        (
            {"json_schema": SCHEMA},
            "json_schema has no place in the body of '/v1/embeddings'; leave it out",
        ),
    ],
)
def test_what_an_endpoint_has_no_place_for_is_refused(
    options: dict[str, Any], message: str
) -> None:
    """What is given explicitly is never dropped, even where it equals the default."""
    with pytest.raises(bf.TemplateError, match=f"^{re.escape(message)}$"):
        bf.BatchCreator(**{"system_prompt": None, "endpoint": "/v1/embeddings", **options})


def test_defaults_go_only_where_they_have_a_place() -> None:
    """The default seed and effort are left out of bodies without them."""
    creator = creator_of([("a", "b")], endpoint="/v1/embeddings", model="e", system_prompt=None)
    assert saved(creator) == (
        b'{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":'
        b'{"model":"e","input":"b"}}\n'
    )


# Entries


def test_entries_are_counted_and_cleared() -> None:
    """The count grows by each entry and is zero after clearing; entries can be added anew."""
    creator = creator_of([])
    assert (creator.get_entry_count(), len(creator), bool(creator)) == (0, 0, True)
    creator.add_entry("a", "x")
    creator.add_entry("b", "y")
    assert (creator.get_entry_count(), len(creator)) == (2, 2)
    creator.clear_entries()
    assert (creator.get_entry_count(), len(creator)) == (0, 0)
    creator.add_entry("a", "z")
    assert saved(creator) == line_of("a", "z")


@pytest.mark.parametrize("value", [5, None, 1.5, b"x", ["x"], pd.NA], ids=repr)
@pytest.mark.parametrize("name", ["index", "user_prompt"])
def test_an_entry_takes_only_text(name: str, value: Any) -> None:
    """Anything else is refused at once, and nothing is added."""
    creator = creator_of([])
    message = f"{name} must be str, not {type(value).__name__}; pass str({name})"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        creator.add_entry(**{"index": "a", "user_prompt": "b", name: value})
    assert len(creator) == 0


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (("", "x"), "entry 1: index is empty; every request needs an id"),
        (("\ud800", "x"), "entry 1: index contains a lone surrogate, which is not text"),
        (("a", "x\udfff"), "entry 1: user_prompt contains a lone surrogate, which is not text"),
    ],
)
def test_an_entry_that_cannot_be_sent_is_refused_at_once(entry: Entry, message: str) -> None:
    """The error names the entry, and nothing is added."""
    creator = creator_of([("r", "x")])
    with pytest.raises(bf.RequestError, match=f"^{re.escape(message)}$") as caught:
        creator.add_entry(*entry)
    assert caught.value.row == 1
    assert len(creator) == 1


# Saving


KINDS = pytest.mark.parametrize("kind", ["pandas", "pyarrow", "stream", "csv", "parquet"])


def test_saving_tells_what_it_wrote(tmp_path: Path) -> None:
    """One value with path and sizes; missing folders are made; a path may be text."""
    path = tmp_path / "new" / "folder" / "x.jsonl"
    shards = creator_of(entries_of(3)).save_to_file(str(path))
    content = b"".join(line_of(*entry) for entry in entries_of(3))
    assert path.read_bytes() == content
    assert shards == [bf.Shard(path, 3, len(content))]
    assert not content.startswith(b"\xef\xbb\xbf")
    assert content.count(b"\n") == 3
    assert content.endswith(b"}\n")


def test_saving_twice_writes_the_same(tmp_path: Path) -> None:
    """Nothing is used up by saving, and later entries come on top."""
    creator = creator_of(entries_of(3))
    first = saved(creator)
    assert saved(creator) == first
    creator.save_to_file(tmp_path / "x.jsonl")
    creator.add_entry("late", "z")
    creator.save_to_file(tmp_path / "x.jsonl")
    assert (tmp_path / "x.jsonl").read_bytes() == first + line_of("late", "z")


@KINDS
def test_a_table_and_entries_give_the_same_lines(tmp_path: Path, kind: str) -> None:
    """Lines do not tell whether they came from add_entry or from a frame, CSV or Parquet."""
    entries = [*entries_of(1_500), ("q", '"\\\n\té👍\u2028'), ("007", "leading zeros")]
    frame = pd.DataFrame(entries, columns=["id", "p"])
    by_hand = creator_of(entries, model="m")
    assert saved(table_batch(frame, kind, tmp_path)) == saved(by_hand)


@KINDS
def test_entries_come_behind_those_of_a_table(tmp_path: Path, kind: str) -> None:
    """Entries on top of any source are counted, previewed and saved, and cleared with it."""
    frame = pd.DataFrame(entries_of(900), columns=["id", "p"])
    batch = table_batch(frame, kind, tmp_path)
    batch.add_entry("e1", "x")
    batch.add_entry("e2", "y")
    assert batch.get_entry_count() == 902
    assert batch.preview_entry(899)["custom_id"] == "r899"
    assert batch.preview_entry(900)["custom_id"] == "e1"
    assert batch.preview_entry(-1)["custom_id"] == "e2"
    entries = [*entries_of(900), ("e1", "x"), ("e2", "y")]
    assert saved(batch) == b"".join(line_of(*entry, model="m") for entry in entries)
    batch.clear_entries()
    assert batch.get_entry_count() == 0
    batch.add_entry("e3", "z")
    assert saved(batch) == line_of("e3", "z", model="m")


def test_an_entry_goes_without_keys_from_columns() -> None:
    """A top-level key that comes from a column is left out where there is no row."""
    frame = pd.DataFrame({"id": ["a"], "p": ["x"], "t": [0.5]})
    body = {"temperature": bf.col("t"), "top_p": 1}
    batch = bf.from_dataframe(frame, model="m", body=body, **COLUMNS)
    batch.add_entry("b", "y")
    a, b = (json.loads(line)["body"] for line in saved(batch).splitlines())
    assert list(a) == ["model", "seed", "reasoning_effort", "messages", "temperature", "top_p"]
    assert list(b) == ["model", "seed", "reasoning_effort", "messages", "top_p"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"prompt_column": "p", "system_prompt": bf.fmt("Say it in {language}.")},
            "add_entry has no column 'language', which the template takes; "
            "use from_dataframe, from_csv or from_parquet",
        ),
        (
            {"body": {"messages": bf.col("p")}},
            "body={'messages': …} would replace the prompt; pass only one of them",
        ),
    ],
)
def test_an_entry_needs_a_place_for_its_prompt(options: dict[str, Any], message: str) -> None:
    """Where the messages need a column, add_entry is refused and adds nothing."""
    frame = pd.DataFrame({"id": ["a"], "p": ["x"], "language": ["French"]})
    batch = bf.from_dataframe(frame, id_column="id", model="m", **options)
    with pytest.raises(bf.TemplateError, match=f"^{re.escape(message)}$"):
        batch.add_entry("b", "y")
    assert len(batch) == 1


def test_columns_need_a_table() -> None:
    """A body with columns and entries added by hand do not go together."""
    creator = creator_of([], body={"temperature": bf.col("t")})
    message = (
        "add_entry has no column 't', which the template takes; "
        "use from_dataframe, from_csv or from_parquet"
    )
    with pytest.raises(bf.TemplateError, match=f"^{re.escape(message)}$"):
        creator.add_entry("b", "y")


# Warnings


@KINDS
@pytest.mark.parametrize(
    ("options", "count"),
    [({}, 1), ({"model": "o4-mini"}, 0), ({"model": "m"}, 0), ({"body": {"model": "m"}}, 0)],
    ids=["none", "the default's name", "another", "in body"],
)
def test_a_default_model_draws_one_warning(
    tmp_path: Path, kind: str, options: dict[str, Any], count: int
) -> None:
    """Once for each table whose model nobody named, not again when it saves or shows itself."""
    frame = pd.DataFrame(entries_of(2), columns=["id", "p"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        batch = table_without_model(frame, kind, tmp_path, options)
        batch.preview_entry()
        batch.save_to_file(tmp_path / "x.jsonl")
        batch.add_entry("e", "x")
        repr(batch)
    assert [str(w.message) for w in caught] == [WARNING] * count
    assert all(issubclass(w.category, UserWarning) for w in caught)
    assert all(w.filename == __file__ for w in caught)
    model = options.get("model") or options.get("body", {}).get("model", "o4-mini")
    assert batch.preview_entry()["body"]["model"] == model


def table_without_model(
    frame: pd.DataFrame, kind: str, folder: Path, options: dict[str, Any]
) -> bf.BatchCreator:
    """Make requests of rows, with a model only where the options have it."""
    frame.to_csv(folder / "in.csv", index=False)
    arrow = pa.Table.from_pandas(frame, preserve_index=False)
    pq.write_table(arrow, folder / "in.parquet")
    sources = {"pandas": frame, "pyarrow": arrow, "stream": arrow.to_reader()}
    if kind == "csv":
        return bf.from_csv(folder / "in.csv", **COLUMNS, **options)
    if kind == "parquet":
        return bf.from_parquet(folder / "in.parquet", **COLUMNS, **options)
    return bf.from_dataframe(sources[kind], **COLUMNS, **options)


@KINDS
@pytest.mark.parametrize(
    ("missing", "rows", "more"),
    [
        (1, "1 row", ""),
        (3, "3 rows", ""),
        (4, "4 rows", ", … and 1 more"),
        (1_200, "1,200 rows", ", … and 1,197 more"),
    ],
)
def test_skipped_rows_are_counted_in_a_warning(
    tmp_path: Path, kind: str, missing: int, rows: str, more: str
) -> None:
    """Saving with na="skip" says how many rows were dropped and names three."""
    prompts = [None] * missing + ["x"] * 1_500
    frame = pd.DataFrame({"id": [f"r{n}" for n in range(len(prompts))], "p": prompts})
    batch = table_batch(frame, kind, tmp_path, na="skip")
    named = ", ".join(f"row {row} (custom_id 'r{row}')" for row in range(min(missing, 3)))
    message = f"skipped {rows} without a prompt: {named}{more}"
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}$") as caught:
        shards = batch.save_to_file(tmp_path / "x.jsonl")
    assert [w.filename for w in caught] == [__file__]
    assert sum(shard.requests for shard in shards) == 1_500
    assert json.loads((tmp_path / "x.jsonl").read_bytes().splitlines()[0])["custom_id"] == (
        f"r{missing}"
    )


def test_skipped_rows_are_named_across_chunks_and_files(tmp_path: Path) -> None:
    """The three are the first of the whole input, each with its file when there are several."""
    for name in "ab":
        skipped = (3, 2_900) if name == "a" else (3, 1_800, 2_900)
        rows = [f"{name}{n},{'' if n in skipped else 'x'}" for n in range(3_000)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["id,p", *rows]))
    one, two = tmp_path / "a.csv", tmp_path / "b.csv"
    places = [
        f"row 3 of '{one}' (custom_id 'a3')",
        f"row 2,900 of '{one}' (custom_id 'a2900')",
        f"row 3 of '{two}' (custom_id 'b3')",
    ]
    batch = bf.from_csv([one, two], model="m", na="skip", **COLUMNS)
    message = f"skipped 5 rows without a prompt: {', '.join(places)}, … and 2 more"
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}$"):
        batch.save_to_file(tmp_path / "x.jsonl")


@KINDS
def test_when_every_row_is_skipped_both_warnings_come(tmp_path: Path, kind: str) -> None:
    """One says that rows were skipped, the other that the file is empty."""
    frame = pd.DataFrame({"id": ["a", "b"], "p": pd.Series([None, None], dtype=object)})
    batch = table_batch(frame, kind, tmp_path, na="skip")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        shards = batch.save_to_file(tmp_path / "x.jsonl")
    assert sorted(str(w.message) for w in caught) == [
        "skipped 2 rows without a prompt: row 0 (custom_id 'a'), row 1 (custom_id 'b')",
        "there are no requests: the file is empty",
    ]
    assert shards == [bf.Shard(tmp_path / "x.jsonl", 0, 0)]
