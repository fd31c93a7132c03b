"""Collect requests by hand or over a table, look at them, and save them again and again."""

from __future__ import annotations

import html
import inspect
import io
import json
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import batch_frames as bf

CHAT = "/v1/chat/completions"
SCHEMA = {"name": "rating", "strict": True, "schema": {"type": "object", "a": [1, 2.5, None]}}
COLUMNS: dict[str, Any] = {"id_column": "id", "prompt_column": "p"}
WARNING = "model is left at its default, 'o4-mini', which OpenAI has retired; pass model="
NEWER = "pass the frame anew, or a table instead of a stream"
USED_UP = f"this frame is a stream, which can be read only once, and it is used up; {NEWER}"

Entry = tuple[str, str]

text = st.text(max_size=30)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda child: st.lists(child, max_size=3) | st.dictionaries(text, child, max_size=3),
    max_leaves=8,
)  # fmt: skip
schemas = st.tuples(text, st.dictionaries(text, json_values, max_size=3)).map(
    lambda parts: {**parts[1], "name": parts[0], "schema": parts[1]}
)


def line_of(
    custom_id: str,
    prompt: str,
    model: str = "o4-mini",
    effort: str | None = "medium",
    schema: Any = None,
    system: str | None = "Rate it.",
    seed: int | None = 334,
) -> bytes:
    """Write the line of one entry with ``json.dumps``, its keys in the order they must have."""
    body: dict[str, Any] = {"model": model}
    if seed is not None:
        body["seed"] = seed
    if effort is not None:
        body["reasoning_effort"] = effort
    if schema is not None:
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    said = [] if system is None else [{"role": "system", "content": system}]
    body["messages"] = [*said, {"role": "user", "content": prompt}]
    request = {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body}
    return json.dumps(request, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def saved(batch: bf.BatchCreator, **options: Any) -> bytes:
    """Save to a file and give its bytes."""
    with TemporaryDirectory() as folder:
        shards = batch.save_to_file(Path(folder) / "x.jsonl", **options)
        return b"".join(shard.path.read_bytes() for shard in shards)


def creator_of(entries: Sequence[Entry], **options: Any) -> bf.BatchCreator:
    """Collect entries by hand."""
    creator = bf.BatchCreator(**{"system_prompt": "Rate it.", **options})
    for entry in entries:
        creator.add_entry(*entry)
    return creator


def entries_of(count: int, first: int = 0) -> list[Entry]:
    """Make up ids and prompts."""
    return [(f"r{n}", f'prompt "{n}"\n') for n in range(first, first + count)]


# The constructor


def test_the_constructor_takes_what_it_always_took() -> None:
    """Names, order and defaults of the parameters; what is new stands behind, by keyword only."""
    parameters = inspect.signature(bf.BatchCreator).parameters.values()
    assert [(p.name, p.default) for p in parameters] == [
        ("model", "o4-mini"),
        ("reasoning_effort", "medium"),
        ("json_schema", None),
        ("system_prompt", inspect.Parameter.empty),
        ("seed", 334),
        ("endpoint", CHAT),
        ("body", None),
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


@settings(deadline=None, max_examples=150)
@given(
    entries=st.lists(
        st.tuples(st.text(min_size=1, max_size=20), text), max_size=6, unique_by=lambda e: e[0]
    ),
    model=text,
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


def test_a_pydantic_model_is_a_schema_too() -> None:
    """A model class becomes a strict schema with its name."""
    pydantic = pytest.importorskip("pydantic")
    rating = pydantic.create_model("Rating", stars=(int, ...), why=(str, ...))
    schema = creator_of([("a", "b")], json_schema=rating).preview_entry()["body"]
    assert schema["response_format"]["type"] == "json_schema"
    schema = schema["response_format"]["json_schema"]
    assert (schema["name"], schema["strict"]) == ("Rating", True)
    assert schema["schema"]["required"] == ["stars", "why"]
    assert schema["schema"]["additionalProperties"] is False


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
        (("\ud800", "x"), "entry 1: index holds a lone surrogate, which is not text"),
        (("a", "x\udfff"), "entry 1: user_prompt holds a lone surrogate, which is not text"),
    ],
)
def test_an_entry_that_cannot_be_sent_is_refused_at_once(entry: Entry, message: str) -> None:
    """The error names the entry, and nothing is added."""
    creator = creator_of([("r", "x")])
    with pytest.raises(bf.RequestError, match=f"^{re.escape(message)}$") as caught:
        creator.add_entry(*entry)
    assert caught.value.row == 1
    assert len(creator) == 1


@pytest.mark.parametrize("kind", ["entries", "frame", "both"])
def test_any_entry_can_be_previewed(kind: str) -> None:
    """Each position gives the object of its line, from the end too, beyond the first chunk."""
    entries = entries_of(5_000)
    split = {"entries": 0, "frame": 5_000, "both": 2_500}[kind]
    frame = pd.DataFrame(entries[:split], columns=["id", "p"])
    batch = bf.from_dataframe(frame, model="m", system_prompt="s", **COLUMNS)
    for entry in entries[split:]:
        batch.add_entry(*entry)
    for index in (0, 1, 511, 512, 2_047, 2_048, 2_499, 2_500, 4_999, -1, -2_501, -5_000):
        expected = json.loads(line_of(*entries[index], model="m", system="s"))
        assert batch.preview_entry(index) == expected
    assert batch.preview_entry() == batch.preview_entry(0)


@pytest.mark.parametrize(
    ("count", "index", "message"),
    [
        (0, 0, "entry 0 is out of range: the number of entries is 0"),
        (0, -1, "entry -1 is out of range: the number of entries is 0"),
        (2, 2, "entry 2 is out of range: the number of entries is 2"),
        (2, -3, "entry -3 is out of range: the number of entries is 2"),
        (1_500, 12_345, "entry 12,345 is out of range: the number of entries is 1,500"),
    ],
)
def test_a_preview_out_of_range_says_how_many_there_are(
    count: int, index: int, message: str
) -> None:
    """The IndexError gives the count."""
    with pytest.raises(IndexError, match=f"^{re.escape(message)}$"):
        creator_of(entries_of(count)).preview_entry(index)


# What it shows of itself


class Shown(HTMLParser):
    """Collect the tags and the text of a piece of HTML."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.open: list[str] = []
        self.text = ""
        self.feed(source)
        self.close()
        assert self.open == [], "all tags are closed"

    def handle_starttag(self, tag: str, attrs: object) -> None:
        """Remember a tag."""
        self.tags.add(tag)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Hold that tags are nested."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Collect text."""
        self.text += data


def test_a_repr_gives_count_endpoint_and_model() -> None:
    """In one line, before and after entries are added."""
    creator = bf.BatchCreator("gpt-x", system_prompt="s")
    facts = "endpoint='/v1/chat/completions', model='gpt-x'"
    assert repr(creator) == f"BatchCreator(entries=0, {facts})"
    for entry in entries_of(1_234):
        creator.add_entry(*entry)
    assert repr(creator) == f"BatchCreator(entries=1,234, {facts})"


def test_a_card_shows_count_endpoint_model_size_and_first_entry() -> None:
    """All of these stand in the HTML, and the size is that of the file."""
    creator = creator_of([("first", "See „this“"), ("second", "not shown")], model="gpt-x")
    shown = Shown(creator._repr_html_())
    size = len(saved(creator))
    for fact in (
        "entries 2", "endpoint '/v1/chat/completions'", "model 'gpt-x'", f"size {size} bytes"
    ):  # fmt: skip
        assert fact in shown.text
    first = json.dumps(creator.preview_entry(0), ensure_ascii=False, indent=2)
    assert first in shown.text
    assert "not shown" not in shown.text


def test_a_card_of_no_entries_says_so() -> None:
    """Nothing is there to be shown, and that is no error."""
    text = Shown(creator_of([])._repr_html_()).text
    assert "entries 0" in text
    assert "size 0 bytes" in text


@settings(deadline=None, max_examples=80)
@given(words=st.text(alphabet="<>&'\"/= scriptb;#é", max_size=30), model=text)
@example(words="<script>alert('&amp;')</script></pre>", model='<b onclick="x">\'')
def test_a_card_escapes_all_text(words: str, model: str) -> None:
    """Whatever model and prompt hold, it is text, not HTML."""
    creator = creator_of([("<i>", words)], model=model, body={"</div>": "<hr>"})
    card = creator._repr_html_()
    shown = Shown(card)
    assert shown.tags == {"div", "b", "span", "pre"}
    first = json.dumps(creator.preview_entry(0), ensure_ascii=False, indent=2)
    assert html.escape(first) in card
    assert html.escape(f"{model!r}") in card


def test_a_card_of_a_table_with_a_problem_shows_the_problem() -> None:
    """A display in a notebook never raises for what is wrong with the rows."""
    frame = pd.DataFrame({"id": ["<a>"], "p": [None]})
    batch = bf.from_dataframe(frame, model="m", **COLUMNS)
    message = "row 0 (custom_id '<a>'): column 'p' is null; drop the row or pass na=\"skip\""
    assert message in Shown(batch._repr_html_()).text


@pytest.mark.parametrize("kind", ["pandas", "pyarrow", "stream", "csv", "parquet"])
def test_a_count_that_is_shown_is_the_count(tmp_path: Path, kind: str) -> None:
    """Rows that na="skip" drops are no entries: what is shown is right, or says that it is not."""
    frame = pd.DataFrame({"id": ["a", "b", "c"], "p": ["x", None, "z"]})
    batch = table_batch(frame, kind, tmp_path, na="skip")
    for _ in range(2):
        for shown in (repr(batch).replace("=", " "), Shown(batch._repr_html_()).text):
            assert re.search(r"entries (2|at most 3|not yet counted)(?![0-9]|,[0-9])", shown)
        assert len(batch) == 2


# Saving


def table_batch(frame: pd.DataFrame, kind: str, folder: Path, **options: Any) -> bf.BatchCreator:
    """Make requests of the same rows from different sources."""
    options = {"system_prompt": "Rate it.", "model": "m", **COLUMNS, **options}
    if kind == "csv":
        frame.to_csv(folder / "in.csv", index=False)
        return bf.from_csv(folder / "in.csv", **options)
    arrow = pa.Table.from_pandas(frame, preserve_index=False)
    if kind == "parquet":
        pq.write_table(arrow, folder / "in.parquet")
        return bf.from_parquet(folder / "in.parquet", **options)
    sources = {"pandas": frame, "pyarrow": arrow, "stream": arrow.to_reader(max_chunksize=700)}
    return bf.from_dataframe(sources[kind], **options)


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
        batch.save_to_file(tmp_path / "x.jsonl")
        batch.add_entry("e", "x")
        repr(batch)
        batch.preview_entry()
    assert [str(w.message) for w in caught] == [WARNING] * count
    assert all(w.category is UserWarning and w.filename == __file__ for w in caught)
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
    ("missing", "message"),
    [
        (1, "skipped 1 row without a prompt: row 0"),
        (5, "skipped 5 rows without a prompt: row 0, row 1, row 2, row 3, row 4"),
        (6, "skipped 6 rows without a prompt: row 0, row 1, row 2, row 3, row 4, …"),
        (1_200, "skipped 1,200 rows without a prompt: row 0, row 1, row 2, row 3, row 4, …"),
    ],
)
def test_skipped_rows_are_counted_in_a_warning(
    tmp_path: Path, kind: str, missing: int, message: str
) -> None:
    """Saving with na="skip" says how many rows were dropped and names five."""
    prompts = [None] * missing + ["x"] * 1_500
    frame = pd.DataFrame({"id": [f"r{n}" for n in range(len(prompts))], "p": prompts})
    batch = table_batch(frame, kind, tmp_path, na="skip")
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}$") as caught:
        shards = batch.save_to_file(tmp_path / "x.jsonl")
    assert [w.filename for w in caught] == [__file__]
    assert sum(shard.requests for shard in shards) == 1_500
    assert json.loads((tmp_path / "x.jsonl").read_bytes().splitlines()[0])["custom_id"] == (
        f"r{missing}"
    )


def test_skipped_rows_are_named_across_chunks_and_files(tmp_path: Path) -> None:
    """The five are the first of the whole input, each with its file when there are several."""
    for name in "ab":
        rows = [f"{name}{n},{'' if n in (3, 1_800, 2_900) else 'x'}" for n in range(3_000)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["id,p", *rows]))
    one, two = tmp_path / "a.csv", tmp_path / "b.csv"
    places = [f"row {n} of '{one}'" for n in ("3", "1,800", "2,900")]
    places += [f"row {n} of '{two}'" for n in ("3", "1,800")]
    batch = bf.from_csv([one, two], model="m", na="skip", **COLUMNS)
    message = f"skipped 6 rows without a prompt: {', '.join(places)}, …"
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
        "skipped 2 rows without a prompt: row 0, row 1",
        "there are no requests: the file is empty",
    ]
    assert shards == [bf.Shard(tmp_path / "x.jsonl", 0, 0)]


# Streams that can be read only once


class Stream:
    """Make a one-shot stream that tells how many of its batches were read."""

    def __init__(self, entries: Sequence[Entry], size: int = 400) -> None:
        self.entries = entries
        self.read = 0
        self.size = size
        schema = pa.schema([("id", pa.string()), ("p", pa.string())])
        self.reader = pa.RecordBatchReader.from_batches(schema, self._batches(schema))

    def _batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        for start in range(0, len(self.entries), self.size):
            self.read += 1
            part = self.entries[start : start + self.size]
            arrays = [pa.array([e[n] for e in part], pa.string()) for n in (0, 1)]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    def batch(self, **options: Any) -> bf.BatchCreator:
        """Make requests of it."""
        options = {"model": "m", "system_prompt": "Rate it.", **COLUMNS, **options}
        return bf.from_dataframe(self.reader, **options)

    def content(self) -> bytes:
        """Say what must be written."""
        return b"".join(line_of(*entry, model="m") for entry in self.entries)


LIMITS = bf.Limits(requests=1_000)


@pytest.mark.parametrize("limits", [bf.Limits(), LIMITS], ids=["one file", "several files"])
def test_a_stream_can_be_saved_again(tmp_path: Path, limits: bf.Limits) -> None:
    """A second and third save, to another or to the same path, write the same bytes."""
    stream = Stream(entries_of(2_700))
    batch = stream.batch()
    for name, chosen in [("a", limits), ("b", bf.Limits()), ("b", LIMITS), ("a", limits)]:
        shards = batch.save_to_file(tmp_path / f"{name}.jsonl", limits=chosen)
        assert b"".join(shard.path.read_bytes() for shard in shards) == stream.content()
    assert stream.read == 7


@settings(deadline=None, max_examples=30)
@given(
    entries=st.lists(
        st.tuples(st.text(min_size=1, max_size=12), text),
        min_size=1,
        max_size=8,
        unique_by=lambda e: e[0],
    )
)
@example(entries=[("a\x00b", "\x00"), ('"\\', "\u2028\r\n"), ("\ufeff", "\ufeff"), (" ", " ")])
def test_any_stream_saved_again_is_the_same(entries: list[Entry]) -> None:
    """Whatever its ids and prompts hold, the second save, with an entry on top, is right."""
    stream = Stream(entries, size=3)
    batch = stream.batch()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.jsonl"
        batch.save_to_file(path, limits=bf.Limits(requests=2))
        assert len(batch) == len(entries)
        batch.add_entry("an id longer than those", "x")
        shards = batch.save_to_file(path, limits=bf.Limits(requests=3))
        content = b"".join(shard.path.read_bytes() for shard in shards)
    assert content == stream.content() + line_of("an id longer than those", "x", model="m")


LOOKS: dict[str, tuple[Callable[[bf.BatchCreator], Any], Any]] = {
    "count": (lambda batch: batch.get_entry_count(), 2_700),
    "len": (len, 2_700),
    "preview": (lambda batch: batch.preview_entry(2_000)["custom_id"], "r2000"),
    "last": (lambda batch: batch.preview_entry(-1)["custom_id"], "r2699"),
    "truth": (bool, True),
}


@pytest.mark.parametrize("look", LOOKS)
def test_looking_at_a_stream_keeps_it(tmp_path: Path, look: str) -> None:
    """Counting and previewing, before, between and after saves, leave all its rows to be saved."""
    stream = Stream(entries_of(2_700))
    batch = stream.batch()
    see, expected = LOOKS[look]
    for name in "abc":
        assert see(batch) == expected
        assert see(batch) == expected
        batch.save_to_file(tmp_path / name, limits=LIMITS)
    assert b"".join(p.read_bytes() for p in sorted(tmp_path.glob("c-*"))) == stream.content()
    assert stream.read == 7


def test_a_kept_stream_needs_no_file(tmp_path: Path) -> None:
    """Once it was counted, a stream can be saved again though the first file is gone."""
    stream = Stream(entries_of(900))
    batch = stream.batch()
    assert len(batch) == 900
    batch.save_to_file(tmp_path / "a.jsonl")
    (tmp_path / "a.jsonl").unlink()
    assert saved(batch) == stream.content()


def test_showing_a_stream_reads_nothing_of_it(tmp_path: Path) -> None:
    """Repr and card leave a stream untouched; once it is saved they know the count."""
    stream = Stream(entries_of(900))
    batch = stream.batch()
    for _ in range(2):
        assert "entries=not yet counted" in repr(batch)
        assert "not yet counted" in Shown(batch._repr_html_()).text
    assert stream.read == 0
    batch.save_to_file(tmp_path / "x.jsonl")
    assert (tmp_path / "x.jsonl").read_bytes() == stream.content()
    assert "entries=900," in repr(batch)
    assert "entries 900" in Shown(batch._repr_html_()).text


def change(path: Path) -> None:
    """Change one byte, not the size."""
    content = path.read_bytes()
    path.write_bytes(content.replace(b"r0", b"rX", 1))


CHANGES: dict[str, Callable[[Path], Any]] = {
    "removed": lambda path: path.unlink(),
    "shorter": lambda path: path.write_bytes(path.read_bytes()[:-10]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\n"),
    "other": change,
}


@pytest.mark.parametrize("how", CHANGES)
def test_a_stream_whose_file_changed_is_not_saved_again(tmp_path: Path, how: str) -> None:
    """The lines of a used-up stream come from its files: changed ones are refused by name."""
    batch = Stream(entries_of(2_700)).batch()
    shards = batch.save_to_file(tmp_path / "a.jsonl", limits=LIMITS)
    time.sleep(0.02)  # some file systems tell times only that exactly
    CHANGES[how](shards[0].path)
    message = (
        "this frame is a stream, which can be read only once, and "
        f"'{shards[0].path}', where its requests went, is changed or gone; {NEWER}"
    )
    for again in (saved, lambda b: b.preview_entry(5)):
        with pytest.raises(bf.BatchFramesError, match=f"^{re.escape(message)}$"):
            again(batch)
    assert Shown(batch._repr_html_()).text.endswith(message)


def test_a_stream_that_went_into_a_pipe_is_used_up() -> None:
    """There is no file to read its lines from again, and the error says what to do."""
    stream = Stream(entries_of(900))
    batch, pipe = stream.batch(), io.BytesIO()
    batch.save_to_file(pipe)
    assert pipe.getvalue() == stream.content()
    with pytest.raises(bf.BatchFramesError, match=f"^{re.escape(USED_UP)}$"):
        saved(batch)


def test_a_stream_that_went_behind_other_lines_is_not_mixed_up_with_them(tmp_path: Path) -> None:
    """Saved into a file object that held lines before, a stream never gives those as its own."""
    path, stream = tmp_path / "x.jsonl", Stream(entries_of(3))
    path.write_bytes(line_of("foreign", "x"))
    batch = stream.batch()
    with path.open("ab") as file:
        batch.save_to_file(file)
    assert path.read_bytes() == line_of("foreign", "x") + stream.content()
    try:
        content = saved(batch)
    except bf.BatchFramesError:
        return
    assert content == stream.content()


def test_a_stream_that_failed_is_used_up(tmp_path: Path) -> None:
    """After an error in its middle, a second save says that the stream is gone."""
    batch = Stream([*entries_of(900), ("r0", "again")]).batch()
    with pytest.raises(bf.RequestError):
        batch.save_to_file(tmp_path / "x.jsonl")
    with pytest.raises(bf.BatchFramesError, match=f"^{re.escape(USED_UP)}$"):
        batch.save_to_file(tmp_path / "x.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_a_cleared_stream_is_forgotten(tmp_path: Path) -> None:
    """After clearing, only later entries count, saved or not."""
    stream = Stream(entries_of(900))
    batch = stream.batch()
    batch.save_to_file(tmp_path / "x.jsonl")
    batch.clear_entries()
    assert len(batch) == 0
    batch.add_entry("e", "x")
    assert saved(batch) == line_of("e", "x", model="m")


def test_a_stream_with_skipped_rows_is_counted_without_them(tmp_path: Path) -> None:
    """Before and after saving, the count is that of the requests."""
    frame = pa.table({"id": ["a", "b", "c"], "p": ["x", None, "z"]})
    expected = line_of("a", "x", model="m") + line_of("c", "z", model="m")
    options: dict[str, Any] = {"model": "m", "system_prompt": "Rate it.", "na": "skip", **COLUMNS}
    batch = bf.from_dataframe(frame.to_reader(), **options)
    with pytest.warns(UserWarning, match="^skipped 1 row without a prompt: row 1$"):
        batch.save_to_file(tmp_path / "x.jsonl")
    assert len(batch) == 2
    assert saved(batch) == expected
    counted = bf.from_dataframe(frame.to_reader(), **options)
    assert len(counted) == 2
    with pytest.warns(UserWarning, match="^skipped 1 row without a prompt: row 1$"):
        assert saved(counted) == expected


def test_a_stream_that_is_only_saved_is_not_kept(tmp_path: Path) -> None:
    """While a long stream is saved, only a small part of it is in memory at a time."""
    schema = pa.schema([("id", pa.string()), ("p", pa.string())])
    held = []

    def batches() -> Iterator[pa.RecordBatch]:
        for n in range(40):
            ids = [f"r{n}-{row}" for row in range(1_000)]
            yield pa.RecordBatch.from_arrays(
                [pa.array(ids), pa.array(["x" * 1_000] * 1_000)], schema=schema
            )
            held.append(pa.total_allocated_bytes())

    before = pa.total_allocated_bytes()
    reader = pa.RecordBatchReader.from_batches(schema, batches())
    batch = bf.from_dataframe(reader, model="m", **COLUMNS)
    (shard,) = batch.save_to_file(tmp_path / "x.jsonl")
    assert shard.nbytes > 40_000_000
    assert max(held) - before < 10_000_000


# Progress


def slow_batch(seconds: float) -> bf.BatchCreator:
    """Make requests of a stream that pauses in its middle."""
    schema = pa.schema([("id", pa.string()), ("p", pa.string())])

    def batches() -> Iterator[pa.RecordBatch]:
        for custom_id in "ab":
            time.sleep(seconds)
            yield pa.RecordBatch.from_pylist([{"id": custom_id, "p": "x" * 1_000_000}], schema)

    reader = pa.RecordBatchReader.from_batches(schema, batches())
    return bf.from_dataframe(reader, model="m", **COLUMNS)


@pytest.mark.parametrize(
    ("progress", "seconds", "shown"), [(True, 0.0, True), (None, 1.1, True), (False, 1.1, False)]
)
def test_a_bar_comes_after_two_seconds_or_when_asked_for(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    progress: bool | None,
    seconds: float,
    shown: bool,
) -> None:
    """On standard error a slow save shows how many requests it has written, unless told not to."""
    slow_batch(seconds).save_to_file(tmp_path / "x.jsonl", progress=progress)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert (" requests" in captured.err) == shown
    assert (captured.err == "") == (not shown)
