"""A request with columns in it becomes one line per row, equal to what ``json.dumps`` writes."""

import datetime as dt
import io
import json
import math
import string
import uuid
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_frames import BatchCreator, col, fmt, from_dataframe
from batch_frames.errors import ColumnError, RequestError, TemplateError
from batch_frames.frames.chunks import Chunk, Position
from batch_frames.requests.columns import Col, Fmt
from batch_frames.requests.endpoints import DefaultNumber, DefaultText, Part, build_template
from batch_frames.requests.template import Template

NOT_UTF8 = "is not valid UTF-8; read the file with its own encoding, or save it as UTF-8"
CHAT = "/v1/chat/completions"
OTHER = "/v1/anything"
MODEL = "gpt-5.6-luna"
SCHEMA = {"name": "rating", "schema": {"type": "object"}, "strict": True}
SCHEMA_JSON = '"name":"rating","schema":{"type":"object"},"strict":true'
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
    chunk = Chunk(pa.array([f"r{n}" for n in range(len(column))]), {"c": column})
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


def wrong(message: str, *args: Any, **options: Any) -> None:
    """Check with what message a template is refused."""
    with pytest.raises(TemplateError) as caught:
        build(*args, **options)
    assert str(caught.value) == message


def build(endpoint: str = CHAT, body: Any = None, **parts: Any) -> Template:
    """Build a template of parts by their names."""
    return build_template(endpoint, {Part(name): part for name, part in parts.items()}, body)


class TestCol:
    """``col`` stands for a column's value."""

    @pytest.mark.parametrize("type", [None, "number", "integer", "boolean"])
    def test_it_keeps_what_is_said(self, type: str | None) -> None:
        """Name and type are kept, and equal ones are equal."""
        value = col("a b", type=type)
        assert (value.name, value.type, value.names) == ("a b", type, ("a b",))
        assert value == Col("a b", type)
        assert hash(value) == hash(Col("a b", type))

    @pytest.mark.parametrize("name", ["", 5, None, ["a"]])
    def test_a_name_is_text(self, name: Any) -> None:
        """What cannot name a column is refused at once."""
        with pytest.raises(TemplateError) as caught:
            col(name)
        assert str(caught.value) == f"col() takes the name of a column, not {name!r}"

    @pytest.mark.parametrize("type", ["float", "text", "", float, 1])
    def test_a_type_is_one_of_three(self, type: Any) -> None:
        """The message lists the types that there are."""
        with pytest.raises(TemplateError) as caught:
            col("t", type=type)
        expected = f"col('t', type={type!r}): type must be 'number', 'integer' or 'boolean'"
        assert str(caught.value) == expected


class TestFmt:
    """``fmt`` stands for a text with columns in it."""

    @pytest.mark.parametrize(
        ("template", "texts", "names"),
        [
            ("", ("",), ()),
            ("no columns", ("no columns",), ()),
            ("{a}", ("", ""), ("a",)),
            ("{a}{b}", ("", "", ""), ("a", "b")),
            ("x{a}y{a}z", ("x", "y", "z"), ("a", "a")),
            ("{{a}}", ("{a}",), ()),
            ("{{}}", ("{}",), ()),
            ("{{{a}}}", ("{", "}"), ("a",)),
            ("a\n{b c}\n", ("a\n", "\n"), ("b c",)),
            ("{タイトル}: {x.y[0]!r:>5}", ("", ": ", ""), ("タイトル", "x.y[0]!r:>5")),
        ],
    )
    def test_it_is_taken_apart(
        self, template: str, texts: tuple[str, ...], names: tuple[str, ...]
    ) -> None:
        """All between single braces is a column's name, doubled braces are braces."""
        assert fmt(template) == Fmt(texts, names)

    @pytest.mark.parametrize("template", [5, None, ["{a}"], b"{a}"])
    def test_it_takes_text(self, template: Any) -> None:
        """What is no text is refused."""
        with pytest.raises(TemplateError) as caught:
            fmt(template)
        assert str(caught.value) == f"fmt() takes text, not {template!r}"

    @pytest.mark.parametrize(
        ("template", "brace", "position"),
        [
            ("{", "{", 0),
            ("}", "}", 0),
            ("a {b", "{", 2),
            ("a b}", "}", 3),
            ("{{}", "}", 2),
            ("{a{b}}", "{", 0),
            ("{a}}", "}", 3),
            ("{a} {{{", "{", 6),
        ],
    )
    def test_a_brace_alone(self, template: str, brace: str, position: int) -> None:
        """A brace without its other is found, with its place and what would be right."""
        with pytest.raises(TemplateError) as caught:
            fmt(template)
        assert str(caught.value) == (
            f"fmt({template!r}): the {brace!r} at character {position} stands alone; "
            f"write {brace * 2!r} for the character itself"
        )

    def test_braces_without_a_name(self) -> None:
        """Empty braces name no column."""
        with pytest.raises(TemplateError) as caught:
            fmt("a {b} {}")
        assert str(caught.value) == "fmt('a {b} {}'): '{}' at character 6 names no column"

    @given(template=st.text("{}ab ", max_size=12), a=TEXTS, b=TEXTS)
    @settings(deadline=None, max_examples=400)
    def test_it_is_str_format_for_names(self, template: str, a: str, b: str) -> None:
        """Where Python's own ``format`` takes the template, the text is the same."""
        names = {"a": a, "b": b}
        try:
            parsed = [name for _, name, _, _ in string.Formatter().parse(template)]
            expected = template.format(**names)
        except (KeyError, ValueError, IndexError):
            parsed, expected = [""], ""
        if all(name is None or name in names for name in parsed):
            assert contents(table(a=[a], b=[b]), fmt(template)) == [expected]


class TestLines:
    """One line per request, in exactly this key order."""

    @pytest.mark.parametrize(
        ("endpoint", "options", "body"),
        [
            pytest.param(
                CHAT,
                {
                    "model": MODEL,
                    "reasoning_effort": "low",
                    "json_schema": SCHEMA,
                    "system_prompt": "Be brief.",
                },
                '"model":"gpt-5.6-luna","seed":334,"reasoning_effort":"low","response_format":'
                '{"type":"json_schema","json_schema":{' + SCHEMA_JSON + '}},"messages":['
                '{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"}]',
                id="chat with all parts",
            ),
            pytest.param(
                CHAT,
                {"model": MODEL, "system_prompt": "Be brief."},
                '"model":"gpt-5.6-luna","seed":334,"reasoning_effort":"medium","messages":['
                '{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"}]',
                id="chat with defaults",
            ),
            pytest.param(
                CHAT,
                {"model": MODEL, "reasoning_effort": None, "seed": None, "system_prompt": None},
                '"model":"gpt-5.6-luna","messages":[{"role":"user","content":"Hi"}]',
                id="chat with nothing",
            ),
            pytest.param(
                "/v1/responses",
                {
                    "model": MODEL,
                    "reasoning_effort": "low",
                    "json_schema": SCHEMA,
                    "system_prompt": "Be brief.",
                },
                '"model":"gpt-5.6-luna","reasoning":{"effort":"low"},"text":{"format":{"type":'
                '"json_schema",' + SCHEMA_JSON + '}},"instructions":"Be brief.","input":"Hi"',
                id="responses with all parts",
            ),
            pytest.param(
                "/v1/responses",
                {"model": MODEL, "system_prompt": None, "reasoning_effort": None},
                '"model":"gpt-5.6-luna","input":"Hi"',
                id="responses with nothing",
            ),
            pytest.param(
                "/v1/embeddings",
                {"model": "text-embedding-3-small", "system_prompt": None},
                '"model":"text-embedding-3-small","input":"Hi"',
                id="embeddings",
            ),
            pytest.param(
                "/v1/completions",
                {"model": "babbage-002", "system_prompt": None},
                '"model":"babbage-002","seed":334,"prompt":"Hi"',
                id="completions",
            ),
            pytest.param(
                "/v1/completions",
                {"model": "babbage-002", "seed": None, "system_prompt": None},
                '"model":"babbage-002","prompt":"Hi"',
                id="completions without a seed",
            ),
            pytest.param(
                "/v1/moderations",
                {"model": "omni-moderation-latest", "system_prompt": None},
                '"model":"omni-moderation-latest","input":"Hi"',
                id="moderations",
            ),
            pytest.param(
                "/v4/chat/completions",
                {"model": "glm-5", "seed": 1, "reasoning_effort": None, "system_prompt": None},
                '"model":"glm-5","seed":1,"messages":[{"role":"user","content":"Hi"}]',
                id="chat of another version",
            ),
            pytest.param(
                "/chat/completions",
                {"model": "qwen", "seed": None, "reasoning_effort": None, "system_prompt": None},
                '"model":"qwen","messages":[{"role":"user","content":"Hi"}]',
                id="chat without a version",
            ),
        ],
    )
    def test_the_line_of_each_endpoint(
        self, endpoint: str, options: dict[str, Any], body: str
    ) -> None:
        """The whole line, written by hand, from ``add_entry`` as from a frame."""
        head = f'{{"custom_id":"a","method":"POST","url":"{endpoint}","body":{{'
        creator = BatchCreator(endpoint=endpoint, **options)
        creator.add_entry("a", "Hi")
        assert saved(creator) == f"{head}{body}}}}}\n"
        frame = table(p=["Hi"])
        options = {"id_column": "id", "prompt_column": "p", "endpoint": endpoint, **options}
        assert saved(from_dataframe(frame, **options)) == f"{head}{body}}}}}\n"

    def test_an_endpoint_that_is_not_known(self) -> None:
        """The body is the user's alone, without any default."""
        options: dict[str, Any] = {"id_column": "id", "endpoint": "/v1/images/generations"}
        head = '{"custom_id":"a","method":"POST","url":"/v1/images/generations","body":{'
        body = {"model": "gpt-image-2", "prompt": col("p"), "n": 1}
        creator = from_dataframe(table(p=["A cat"]), body=body, **options)
        assert saved(creator) == head + '"model":"gpt-image-2","prompt":"A cat","n":1}}\n'
        del body["model"]
        creator = from_dataframe(table(p=["A cat"]), model="gpt-image-2", body=body, **options)
        assert saved(creator) == head + '"model":"gpt-image-2","prompt":"A cat","n":1}}\n'

    @given(
        rows=st.lists(
            st.tuples(TEXTS.filter(bool), TEXTS, TEXTS),
            min_size=1,
            max_size=8,
            unique_by=lambda r: r[0],
        ),
        system=TEXTS,
        key=TEXTS,
        constant=TEXTS,
    )
    @settings(deadline=None, max_examples=200)
    def test_any_text(
        self, rows: list[tuple[str, str, str]], system: str, key: str, constant: str
    ) -> None:
        """Whatever the texts, a line equals ``json.dumps`` of its request byte for byte."""
        ids, prompts, names = zip(*rows, strict=True)
        frame = pa.table({"id": ids, "p": prompts, "n": names})
        extra = {"metadata": {key: constant, f"{key}x": [col("n"), fmt("<{n}>")]}}
        written = lines(frame, prompt_column="p", system_prompt=system, body=extra)
        system_message = {"role": "system", "content": system}
        expected = [
            dumped(
                custom_id,
                {
                    "model": MODEL,
                    "messages": [system_message, {"role": "user", "content": prompt}],
                    "metadata": {key: constant, f"{key}x": [name, f"<{name}>"]},
                },
            )
            for custom_id, prompt, name in rows
        ]
        assert written == expected

    @given(rows=st.lists(st.tuples(TEXTS.filter(bool), TEXTS), unique_by=lambda row: row[0]))
    @settings(deadline=None, max_examples=100)
    def test_entries_with_any_text(self, rows: list[tuple[str, str]]) -> None:
        """``add_entry`` writes the same bytes."""
        creator = BatchCreator(MODEL, None, seed=None, system_prompt="{s}")
        for custom_id, prompt in rows:
            creator.add_entry(custom_id, prompt)
        system = {"role": "system", "content": "{s}"}
        bodies = [
            {"model": MODEL, "messages": [system, {"role": "user", "content": prompt}]}
            for _, prompt in rows
        ]
        pairs = zip(rows, bodies, strict=True)
        expected = "".join(dumped(custom_id, body) + "\n" for (custom_id, _), body in pairs)
        if rows:
            assert saved(creator) == expected

    def test_many_rows(self) -> None:
        """Rows keep their order over chunks of all sizes."""
        texts = [f"text {n} " + "é" * (n % 977) for n in range(3_000)]
        frame = pa.table({"id": range(3_000), "p": texts})
        expected = [
            dumped(str(n), {"model": MODEL, "messages": [{"role": "user", "content": text}]})
            for n, text in enumerate(texts)
        ]
        assert lines(frame, prompt_column="p") == expected

    def test_no_rows(self) -> None:
        """A chunk without rows has no lines."""
        chunk = Chunk(pa.array([], pa.string()), {"c": pa.array([], pa.string())})
        rendered = Template(CHAT, {"a": col("c"), "b": 1}, None).render(chunk)
        assert (len(rendered.lines), len(rendered.ids), rendered.skipped) == (0, 0, 0)

    def test_a_template_without_columns(self) -> None:
        """Every row may ask the same."""
        chunk = Chunk(pa.array(["x", "y"]), {})
        rendered = Template(OTHER, {}, None).render(chunk)
        assert rendered.lines.to_pylist() == [dumped(i, {}, OTHER) + "\n" for i in "xy"]

    @pytest.mark.parametrize(
        ("ids", "texts"),
        [
            (pa.array([7, 8]), ["7", "8"]),
            (pa.array(["007", 'a"\\\n']), ["007", 'a"\\\n']),
            (pa.array([dt.date(2024, 1, 1), dt.date(2024, 1, 2)]), ["2024-01-01", "2024-01-02"]),
            (pa.array([Decimal("1.0"), Decimal("1.5")]), ["1.0", "1.5"]),
            (pa.array(["b", "a"]).dictionary_encode(), ["b", "a"]),
        ],
    )
    def test_ids(self, ids: pa.Array, texts: list[str]) -> None:
        """An id is text in the line, whatever its column holds."""
        rendered = Template(OTHER, {"k": 1}, None).render(Chunk(ids, {}))
        assert rendered.lines.to_pylist() == [dumped(i, {"k": 1}, OTHER) + "\n" for i in texts]
        assert rendered.ids.to_pylist() == texts


class TestBody:
    """The user's own keys are added or take the place of others."""

    def test_keys_are_added_and_replaced(self) -> None:
        """A replaced key stays in its place, a new one comes behind, and values are untouched."""
        body = {"seed": 7, "temperature": 0.0, "stop": ["\n", "é"], "model": col("m"), "x": None}
        (line,) = lines(table(p=["Hi"], m=["m1"]), prompt_column="p", seed=1, body=body)
        assert line == dumped(
            "a",
            {
                "model": "m1",
                "seed": 7,
                "messages": [{"role": "user", "content": "Hi"}],
                "temperature": 0.0,
                "stop": ["\n", "é"],
                "x": None,
            },
        )

    def test_columns_at_any_depth(self) -> None:
        """Few-shot messages, images and metadata by row, of one column in many places too."""
        body = {
            "messages": [
                {"role": "system", "content": "Literal {braces} stay."},
                {"role": "user", "content": fmt("Q: {q}")},
                {"role": "assistant", "content": col("a")},
                {
                    "role": "user",
                    "content": (
                        {"type": "text", "text": col("q")},
                        {"type": "image_url", "image_url": {"url": fmt("https://x/{n}.png")}},
                    ),
                },
            ],
            "max_completion_tokens": col("n"),
            "metadata": {"q": col("q"), "nested": [[col("n")], {"deep": fmt("{n}/{q}")}]},
        }
        frame = table(q=['1"', "2\n"], a=["one", "two"], n=[10, 20])
        expected = []
        for custom_id, q, a, n in zip("ab", ['1"', "2\n"], ["one", "two"], [10, 20], strict=True):
            parts = [
                {"type": "text", "text": q},
                {"type": "image_url", "image_url": {"url": f"https://x/{n}.png"}},
            ]
            messages = [
                {"role": "system", "content": "Literal {braces} stay."},
                {"role": "user", "content": f"Q: {q}"},
                {"role": "assistant", "content": a},
                {"role": "user", "content": parts},
            ]
            metadata = {"q": q, "nested": [[n], {"deep": f"{n}/{q}"}]}
            rest = {"max_completion_tokens": n, "metadata": metadata}
            expected.append(dumped(custom_id, {"model": MODEL, "messages": messages, **rest}))
        assert lines(frame, body=body) == expected

    def test_parts_by_row(self) -> None:
        """Model, effort, seed and system prompt may come from columns too."""
        frame = table(p=["Hi"], m=["m1"], e=["low"], s=[5])
        written = lines(
            frame,
            prompt_column="p",
            model=col("m"),
            reasoning_effort=col("e"),
            seed=col("s"),
            system_prompt=fmt("You are {m}."),
        )
        messages = [
            {"role": "system", "content": "You are m1."},
            {"role": "user", "content": "Hi"},
        ]
        body = {"model": "m1", "seed": 5, "reasoning_effort": "low", "messages": messages}
        assert written == [dumped("a", body)]

    def test_a_column_of_conversations(self) -> None:
        """A column of messages becomes the whole conversation."""
        messages = [[{"content": 'a"', "role": "user"}], [{"content": "b", "role": "user"}]]
        expected = [
            dumped(i, {"model": MODEL, "messages": m}) for i, m in zip("ab", messages, strict=True)
        ]
        assert lines(table(m=messages), body={"messages": col("m")}) == expected
        frame = pd.DataFrame({"id": ["a", "b"], "m": messages})
        assert lines(frame, body={"messages": col("m")}) == expected

    @pytest.mark.parametrize("value", [np.int64(3), np.float64(0.5), np.bool_(True)])
    def test_numpy_constants(self, value: Any) -> None:
        """A number of NumPy is a number."""
        assert values(pa.array(["x"]), [value]) == [f'"k":[{json.dumps(value.item())}]']

    def test_the_body_is_not_changed(self) -> None:
        """What the user passes stays as it is."""
        body = {"messages": [{"role": "user", "content": col("p")}], "a": {"b": [1]}}
        lines(table(p=["x"]), body=body)
        assert body == {"messages": [{"role": "user", "content": Col("p")}], "a": {"b": [1]}}


class TestValues:
    """A value is written in its JSON type, and inside a text as text."""

    UUID = uuid.UUID("12345678-9abc-def0-1234-56789abcdef0")

    @pytest.mark.parametrize(
        ("column", "as_value", "in_text"),
        [
            (pa.array(['a"\n']), '"a\\"\\n"', 'a\\"\\n'),
            (pa.array(['a"'], pa.string_view()), '"a\\""', 'a\\"'),
            (pa.array([""]), '""', ""),
            (pa.array([5]), "5", "5"),
            (pa.array([3.0]), "3", "3"),
            (pa.array([0.25]), "0.25", "0.25"),
            (pa.array([True]), "true", "true"),
            (pa.array([Decimal("1.50")]), '"1.50"', "1.50"),
            (pa.array([dt.date(2024, 2, 29)]), '"2024-02-29"', "2024-02-29"),
            (
                pa.array([dt.datetime(2024, 1, 2, 3, 4, 5)]),
                '"2024-01-02T03:04:05"',
                "2024-01-02T03:04:05",
            ),
            (pa.array(["x"]).dictionary_encode(), '"x"', "x"),
            (pa.uuid().wrap_array(pa.array([UUID.bytes], pa.binary(16))), f'"{UUID}"', str(UUID)),
            (pa.array([["a", None]]), '["a",null]', '[\\"a\\",null]'),
            (pa.array([{"a": 'x"'}]), '{"a":"x\\""}', '{\\"a\\":\\"x\\\\\\"\\"}'),
        ],
        ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
    )
    def test_each_kind(self, column: pa.Array, as_value: str, in_text: str) -> None:
        """Bare or in quotes as a value; escaped in a text; a prompt puts words in quotes."""
        assert values(column, col("c")) == [f'"k":{as_value}']
        assert values(column, [col("c"), col("c")]) == [f'"k":[{as_value},{as_value}]']
        assert values(column, fmt("<{c}>{c}")) == [f'"k":"<{in_text}>{in_text}"']
        prompt = as_value if as_value[0] in '"[{' else f'"{as_value}"'
        assert values(column, Col("c", "text")) == [f'"k":{prompt}']

    def test_objects_of_pandas(self) -> None:
        """Columns of Python objects mean the same, row by row."""
        objects = pd.Series([{"a": [1.5, None]}, ["é"], 'x"', 3, None], dtype=object)
        frame = pd.DataFrame({"id": list("abcde"), "p": "Hi", "o": objects})
        rows = [
            json.loads(line)["body"]
            for line in lines(frame, prompt_column="p", body={"k": col("o")})
        ]
        assert [body.get("k", "no key") for body in rows] == [*objects[:4], "no key"]
        rows = [json.loads(line)["body"] for line in lines(frame[:4], prompt_column=fmt("{o}"))]
        texts = [body["messages"][0]["content"] for body in rows]
        assert texts == ['{"a":[1.5,null]}', '["é"]', 'x"', "3"]

    def test_categories_of_polars(self) -> None:
        """A row has its category's text, however many categories there are beside it."""
        names = [f"category {n}" for n in range(700)]
        for kind in (pl.Enum(names), pl.Categorical):
            column = pl.Series(names, dtype=pl.String).cast(kind)
            frame = pl.DataFrame({"id": range(700), "p": column})
            assert contents(frame, "p") == names
            assert contents(frame[5:7], "p") == names[5:7]

    @pytest.mark.parametrize(
        ("type", "texts", "expected"),
        [
            ("number", ["2", " 0.5"], ["2", "0.5"]),
            ("integer", ["2", "007"], ["2", "7"]),
            ("boolean", ["true", "False"], ["true", "false"]),
        ],
    )
    def test_text_read_as_another_type(
        self, type: str, texts: list[str], expected: list[str]
    ) -> None:
        """``type=`` turns text into a bare value; without it text stays text."""
        column = pa.array(texts)
        assert values(column, col("c", type=type)) == [f'"k":{value}' for value in expected]
        assert values(column, [col("c", type=type), col("c")]) == [
            f'"k":[{value},"{text}"]' for value, text in zip(expected, texts, strict=True)
        ]

    @pytest.mark.parametrize(
        ("column", "prompt"),
        [
            (pa.array([5, 6]), ["5", "6"]),
            (pa.array([0.5, 2.0]), ["0.5", "2"]),
            (pa.array([["a"], ["b"]]), [["a"], ["b"]]),
            (pa.array([dt.date(2024, 1, 1)] * 2), ["2024-01-01"] * 2),
        ],
        ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
    )
    def test_prompts(self, column: pa.Array, prompt: list[Any]) -> None:
        """A prompt is text, or the list of parts that the row holds."""
        assert contents(table(p=column), "p") == prompt

    def test_a_name_with_braces(self) -> None:
        """A column's name given as such is never searched for braces."""
        assert contents(table(**{"{p} x": ["Hi"]}), "{p} x") == ["Hi"]


class TestMissing:
    """A missing value is never sent as text."""

    @given(
        rows=st.lists(st.tuples(*[st.none() | st.text(max_size=3)] * 3), min_size=1, max_size=6),
        constant=st.booleans(),
        first=st.booleans(),
    )
    @settings(deadline=None, max_examples=200)
    def test_top_level_keys_are_left_out(
        self, rows: list[tuple[str | None, ...]], constant: bool, first: bool
    ) -> None:
        """Any keys may be left out of any row: the first, the last, all of them."""
        columns = {
            n: pa.array(v, pa.string()) for n, v in zip("xyz", zip(*rows, strict=True), strict=True)
        }
        body: dict[str, Any] = {"k": 1} if constant and first else {}
        body |= {"x": col("x"), "y": fmt("<{y}>"), "yz": fmt("{y}{z}"), "z": col("z")}
        body |= {"k": 1} if constant else {}
        ids = pa.array([f"r{n}" for n in range(len(rows))])
        rendered = Template(OTHER, body, None).render(Chunk(ids, columns))
        expected = []
        for number, (x, y, z) in enumerate(rows):
            row = {
                "x": x,
                "y": None if y is None else f"<{y}>",
                "yz": None if y is None or z is None else y + z,
                "z": z,
                "k": 1,
            }
            there = {key: row[key] for key in body if row[key] is not None}
            expected.append(dumped(f"r{number}", there, OTHER) + "\n")
        assert rendered.lines.to_pylist() == expected

    def test_deeper_nulls_are_null(self) -> None:
        """Below the top level a null is JSON's, for values and texts."""
        column = pa.array(["v", None])
        assert values(column, [col("c"), 1]) == ['"k":["v",1]', '"k":[null,1]']
        assert values(column, {"a": col("c")}) == ['"k":{"a":"v"}', '"k":{"a":null}']
        assert values(column, {"a": fmt("<{c}>")}) == ['"k":{"a":"<v>"}', '"k":{"a":null}']
        assert values(column, [{"a": [col("c")]}]) == ['"k":[{"a":["v"]}]', '"k":[{"a":[null]}]']

    @pytest.mark.parametrize(
        "column",
        [
            pa.nulls(2),
            pa.nulls(2, pa.float64()),
            pa.nulls(2, pa.string()),
            pa.nulls(2, pa.list_(pa.string())),
            pa.nulls(2, pa.dictionary(pa.int8(), pa.string())),
            pa.DictionaryArray.from_arrays(pa.array([1, 1]), pa.array(["a", None])),
        ],
        ids=["null", "float", "text", "list", "dictionary", "null in the dictionary"],
    )
    def test_columns_of_nulls(self, column: pa.Array) -> None:
        """Whatever its type, a null is a null."""
        body = {"k": col("c"), "t": fmt("a{c}"), "l": [col("c")]}
        expected = [dumped(i, {"model": MODEL, "l": [None]}, OTHER) for i in "ab"]
        assert lines(table(c=column), endpoint=OTHER, body=body) == expected

    def test_a_missing_number_of_pandas(self) -> None:
        """pandas holds ``[3, None]`` as floats: 3 is written without fraction, NaN is no key."""
        frame = pd.DataFrame({"id": ["a", "b"], "p": ["x", "y"], "n": [3, None]})
        first, second = lines(frame, prompt_column="p", body={"max_completion_tokens": col("n")})
        assert first.endswith(',"max_completion_tokens":3}}')
        assert "max_completion_tokens" not in second

    def test_missing_parts_of_responses(self) -> None:
        """Instructions that a row lacks are left out of it."""
        frame = table(p=["x", "y"], s=["Be brief.", None])
        options = {"prompt_column": "p", "system_prompt": col("s"), "endpoint": "/v1/responses"}
        bodies = [json.loads(line)["body"] for line in lines(frame, **options)]
        assert bodies == [
            {"model": MODEL, "instructions": "Be brief.", "input": "x"},
            {"model": MODEL, "input": "y"},
        ]

    PROMPTS = (
        pytest.param({"prompt_column": "p"}, id="a column"),
        pytest.param({"prompt_column": fmt("Q: {p}")}, id="a text"),
        pytest.param(
            {"body": {"messages": [{"role": "user", "content": col("p")}]}}, id="messages"
        ),
        pytest.param({"body": {"input": [col("p")]}, "endpoint": "/v1/embeddings"}, id="input"),
    )

    @pytest.mark.parametrize("options", PROMPTS)
    def test_no_prompt_is_an_error(self, options: dict[str, Any]) -> None:
        """A null in a prompt is refused with its row and id, wherever the prompt stands."""
        with pytest.raises(RequestError) as caught:
            lines(table(p=["x", "y", None, None]), **options)
        expected = "row 2 (custom_id 'c'): column 'p' is null; drop the row or pass na=\"skip\""
        error = caught.value
        assert str(error) == expected
        assert (error.row, error.column, error.custom_id) == (2, "p", "c")

    @pytest.mark.parametrize("options", PROMPTS)
    def test_rows_without_prompt_skipped(self, options: dict[str, Any]) -> None:
        """With ``na="skip"`` they are dropped, and their number is said."""
        said = "skipped 2 rows without a prompt: row 0, row 2"
        with pytest.warns(UserWarning, match=f"^{said}$"):
            written = lines(table(p=[None, "x", None, "y"]), na="skip", **options)
        assert [json.loads(line)["custom_id"] for line in written] == ["b", "d"]

    def test_the_first_skipped_rows_are_named(self) -> None:
        """Five rows are named at most, of all chunks together."""
        prompts = [None if n >= 500 else "x" for n in range(3_000)]
        frame = pa.table({"id": range(3_000), "p": prompts})
        named = "row 500, row 501, row 502, row 503, row 504, …"
        with pytest.warns(UserWarning, match=f"^skipped 2,500 rows without a prompt: {named}$"):
            assert len(lines(frame, prompt_column="p", na="skip")) == 500

    def test_rows_keep_their_numbers_when_some_are_skipped(self) -> None:
        """An error behind skipped rows names the row of the table, in later chunks too."""
        count = 2_000
        prompts = [None if n % 3 == 0 else "x" for n in range(count)]
        numbers = [0.5] * count
        numbers[1_750] = math.nan
        frame = pa.table({"id": range(count), "p": prompts, "n": numbers})
        with pytest.raises(RequestError) as caught:
            lines(frame, prompt_column="p", na="skip", body={"n": col("n")})
        expected = "row 1,750 (custom_id '1750'): column 'n' is nan, which JSON cannot hold"
        error = caught.value
        assert str(error) == expected
        assert (error.row, error.column, error.custom_id) == (1_750, "n", "1750")

    def test_the_first_of_several_columns_is_named(self) -> None:
        """Of several columns in a prompt the first null by row is reported."""
        frame = table(x=["a", "b", None], y=["a", None, "c"])
        with pytest.raises(RequestError) as caught:
            lines(frame, prompt_column=fmt("{x}{y}"))
        expected = "row 1 (custom_id 'b'): column 'y' is null; drop the row or pass na=\"skip\""
        assert str(caught.value) == expected

    @pytest.mark.parametrize("na", ["raise", "skip"])
    def test_a_null_hidden_in_a_dictionary(self, na: str) -> None:
        """A category that is itself null is a missing prompt like any other."""
        column = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0]), pa.array(["x", None]))
        frame = table(p=column)
        if na == "skip":
            with pytest.warns(UserWarning, match="^skipped 1 row without a prompt: row 1$"):
                assert len(lines(frame, prompt_column="p", na=na)) == 2
        else:
            with pytest.raises(RequestError) as caught:
                lines(frame, prompt_column="p", na=na)
            expected = "row 1 (custom_id 'b'): column 'p' is null; drop the row or pass na=\"skip\""
            assert str(caught.value) == expected

    @pytest.mark.parametrize(
        "column",
        [
            pa.array([["a", None], None, ["b"]], pa.list_(pa.string_view())),
            pa.array([{"a": "x"}, None, {"a": None}], pa.struct([("a", pa.string_view())])),
            pa.array(["a", None, "b"], pa.dictionary(pa.int8(), pa.string())),
            pa.array(["a", None, "b"], pa.string_view()),
            pa.array([{"k": ["v"]}, None, {}], pa.struct([("k", pa.large_list(pa.string_view()))])),
        ],
        ids=lambda column: str(column.type),
    )
    def test_any_column_survives_skipped_rows(self, column: pa.Array) -> None:
        """Columns of every kind are filtered along, as polars hands them over too."""
        frame = table(p=["x", None, "z"], v=column)
        with pytest.warns(UserWarning, match="^skipped 1 row without a prompt: row 1$"):
            written = lines(frame, prompt_column="p", na="skip", body={"v": col("v")})
        found = [json.loads(line)["body"].get("v") for line in written]
        assert found == [column[0].as_py(), column[2].as_py()]

    def test_empty_text_is_a_value(self) -> None:
        """An empty prompt is not a missing one."""
        assert contents(table(p=["", "x"]), "p") == ["", "x"]


class TestBadRows:
    """An error names row, column and id."""

    @pytest.mark.parametrize(
        ("column", "value", "said"),
        [
            (pa.array([0.5, math.inf]), col("c"), "is inf, which JSON cannot hold"),
            (pa.array([0.5, math.nan]), fmt("{c}"), "is nan, which JSON cannot hold"),
            (
                pa.array([[0.5], [math.nan]]),
                [col("c")],
                "holds a value that is nan, which JSON cannot hold",
            ),
            (pa.array(["1", "x"]), col("c", type="number"), "is 'x', not a number"),
            (pa.array(["1", "1.5"]), col("c", type="integer"), "is '1.5', not an integer"),
            (pa.array(["true", ""]), col("c", type="boolean"), "is '', not a boolean"),
            (
                pa.array([b"a", b"\xff"]).view(pa.string()),
                col("c"),
                NOT_UTF8,
            ),
        ],
    )  # fmt: skip
    def test_a_bad_value(self, column: pa.Array, value: Any, said: str) -> None:
        """The message names the place and what is wrong there."""
        position = Position(41_202, origin="reviews.csv")
        chunk = Chunk(pa.array(["x", 'a"17']), {"c": column}, position=position)
        with pytest.raises(RequestError) as caught:
            Template(OTHER, {"k": value}, None).render(chunk)
        error = caught.value
        place = "row 41,203 of 'reviews.csv' (custom_id 'a\"17')"
        assert str(error) == f"{place}: column 'c' {said}"
        assert (error.row, error.column, error.custom_id) == (41_203, "c", 'a"17')

    @pytest.mark.parametrize(
        ("ids", "message", "custom_id"),
        [
            (pa.array(["a", None]), "row 1: id is null; every request needs an id", None),
            (pa.array(["a", ""]), "row 1: id is empty; every request needs an id", ""),
            (
                pa.array([None, 2.0]),
                "row 1: id is the float 2.0; an id must be text or a whole number",
                None,
            ),
            (
                pa.array([b"a", b"\xff"]).view(pa.string()),
                f"row 1: id {NOT_UTF8}",
                None,
            ),
            (
                pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array(["a", None])),
                "row 1: id is null; every request needs an id",
                None,
            ),
        ],
    )
    def test_a_bad_id(self, ids: pa.Array, message: str, custom_id: str | None) -> None:
        """An id that is null, empty, a float or no text is refused with its row."""
        with pytest.raises(RequestError) as caught:
            Template(OTHER, {"k": 1}, None).render(Chunk(ids, {}, "id"))
        error = caught.value
        assert str(error) == message
        assert (error.row, error.column, error.custom_id or None) == (1, None, custom_id or None)

    def test_a_bad_type(self) -> None:
        """A column that JSON cannot hold is named."""
        with pytest.raises(ColumnError) as caught:
            lines(table(p=["x"], b=[b"y"]), prompt_column="p", body={"k": [col("b")]})
        expected = "column 'b' holds binary values, which JSON cannot hold; make them text first"
        assert str(caught.value) == expected

    def test_a_bad_type_of_ids(self) -> None:
        """So is an id column of a type that names nothing."""
        with pytest.raises(ColumnError) as caught:
            lines(pa.table({"id": [True], "p": ["x"]}), prompt_column="p")
        assert str(caught.value) == "id holds bool values; an id must be text or a whole number"


class TestTemplateErrors:
    """A template that is wrong is refused before any row is read."""

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ({1: 2}, "body: key 1 is not text"),
            ({"a": [{None: 2}]}, "body.a.0: key None is not text"),
            ({"a": math.nan}, "body.a: nan is not a JSON value"),
            ({"a": {"b": [1, math.inf]}}, "body.a.b.1: inf is not a JSON value"),
            ({"a": np.float64("nan")}, f"body.a: {np.float64('nan')!r} is not a JSON value"),
            ({"a": b"x"}, "body.a: b'x' is not a JSON value"),
            ({"a": {1}}, "body.a: {1} is not a JSON value"),
            ({"a": dt.date(2024, 1, 1)}, "body.a: datetime.date(2024, 1, 1) is not a JSON value"),
            ({"a": [Decimal("1.5")]}, "body.a.0: Decimal('1.5') is not a JSON value"),
            ({"a": "\ud800"}, "body.a: '\\ud800' is not a JSON value"),
            ({"a": {"\ud800": 1}}, "body.a: '\\ud800' is not a JSON value"),
            ({"a": fmt("\ud800")}, "body.a: '\\ud800' is not a JSON value"),
            ({"a": fmt("{c}\ud800")}, "body.a: '\\ud800' is not a JSON value"),
            ({"model": object}, "body.model: <class 'object'> is not a JSON value"),
        ],
    )
    def test_what_is_not_json(self, body: dict[Any, Any], message: str) -> None:
        """A constant that JSON cannot hold is found, and its place in the body is said."""
        wrong(message, OTHER, body)

    @pytest.mark.parametrize("body", ["x", 5, [("a", 1)], [{"a": 1}]])
    def test_a_body_is_a_dict(self, body: Any) -> None:
        """Other bodies are refused."""
        wrong(f"body must be a dict, not {body!r}", OTHER, body)

    @pytest.mark.parametrize(
        "name", ["model", "reasoning_effort", "system_prompt", "prompt_column"]
    )
    @pytest.mark.parametrize("value", [5, ["x"], True, b"x"])
    def test_parts_that_are_no_text(self, name: str, value: Any) -> None:
        """These parts are text, or columns."""
        parts = {"prompt_column": "p", name: value}
        wrong(f"{name} must be text, not {value!r}", **parts)

    @pytest.mark.parametrize(
        ("endpoint", "part", "value"),
        [
            ("/v1/responses", "seed", 334),
            ("/v1/embeddings", "seed", 0),
            ("/v1/embeddings", "reasoning_effort", "medium"),
            ("/v1/embeddings", "system_prompt", ""),
            ("/v1/embeddings", "json_schema", SCHEMA),
            ("/v1/completions", "reasoning_effort", "low"),
            ("/v1/completions", "system_prompt", "x"),
            ("/v1/completions", "json_schema", SCHEMA),
            ("/v1/moderations", "seed", col("s")),
            ("/v1/moderations", "system_prompt", fmt("{x}")),
            ("/v1/images/generations", "seed", 1),
            ("/v1/images/generations", "reasoning_effort", "low"),
            ("/v1/images/generations", "system_prompt", "x"),
            ("/v1/images/generations", "json_schema", SCHEMA),
        ],
    )
    def test_parts_without_a_place(self, endpoint: str, part: str, value: Any) -> None:
        """A part given where the endpoint has none is refused, were it equal to a default."""
        message = f"{part} has no place in the body of {endpoint!r}; leave it out"
        wrong(message, endpoint, {"input": "x", "prompt": "x"}, **{part: value})
        options = {"system_prompt": None, "endpoint": endpoint, part: value}
        with pytest.raises(TemplateError) as caught:
            BatchCreator(MODEL, **options)
        assert str(caught.value) == message

    def test_defaults_and_none_give_way(self) -> None:
        """A default or None is no wish."""
        parts = {
            "model": DefaultText("m"),
            "seed": DefaultNumber(1),
            "reasoning_effort": DefaultText("low"),
            "system_prompt": None,
            "json_schema": None,
            "prompt_column": col("p"),
        }
        template = build("/v1/embeddings", **parts)
        chunk = Chunk(pa.array(["x"]), {"p": pa.array(["y"])})
        expected = dumped("x", {"model": "m", "input": "y"}, "/v1/embeddings") + "\n"
        assert template.render(chunk).lines.to_pylist() == [expected]

    def test_a_prompt_for_an_endpoint_that_is_not_known(self) -> None:
        """Where the prompt goes is the user's to say."""
        known = "the body of '/v1/images/generations' is not known; "
        example = "put the prompt into it, as in body={'prompt': col('…')}"
        wrong(known + example, "/v1/images/generations", prompt_column=col("p"))
        known = "the body of '/v1/chat/completion' is not known; "
        near = "did you mean '/v1/chat/completions'?"
        wrong(known + near, "/v1/chat/completion", prompt_column=col("p"))

    @pytest.mark.parametrize(
        ("endpoint", "key"),
        [
            (CHAT, "messages"),
            ("/v1/responses", "input"),
            ("/v1/embeddings", "input"),
            ("/v1/completions", "prompt"),
            ("/v1/moderations", "input"),
        ],
    )
    def test_one_prompt_exactly(self, endpoint: str, key: str) -> None:
        """No prompt is refused, and so are two."""
        wrong(f"there is no prompt; pass prompt_column= or body={{{key!r}: …}}", endpoint)
        message = f"body={{{key!r}: …}} would replace the prompt; pass only one of them"
        wrong(message, endpoint, {key: "x"}, prompt_column=col("p"))
        assert build(endpoint, {key: col("p")}).prompt_columns == ("p",)

    def test_messages_beside_a_system_prompt(self) -> None:
        """The system prompt would be lost, so it is refused."""
        message = "body={'messages': …} would replace system_prompt; put it in there"
        wrong(message, CHAT, {"messages": col("m")}, system_prompt="x")
        build("/v1/responses", {"input": col("m")}, system_prompt="x")

    @pytest.mark.parametrize(
        "endpoint",
        ["v1/chat/completions", "", "https://example.com/v1/responses", "/a b", "/é", "/a\n", 5],
    )  # fmt: skip
    def test_an_endpoint_is_a_path(self, endpoint: Any) -> None:
        """A host, a blank or a missing slash is found."""
        message = (
            f"endpoint {endpoint!r} is not a path; "
            "pass the part after the host, such as '/v1/chat/completions'"
        )
        wrong(message, endpoint, prompt_column=col("p"))

    def test_na_has_two_values(self) -> None:
        """Another value of ``na`` is refused."""
        with pytest.raises(TemplateError) as caught:
            lines(table(p=["x"]), prompt_column="p", na="drop")
        assert str(caught.value) == "na must be 'raise' or 'skip', not 'drop'"
