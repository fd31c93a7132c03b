"""A request with columns in it becomes one line per row, equal to what ``json.dumps`` writes."""

import datetime as dt
import json
import math
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_frames import BatchCreator, col, fmt, from_dataframe
from batch_frames.errors import TemplateError
from batch_frames.frames.chunks import Chunk
from batch_frames.requests.columns import Col
from batch_frames.requests.endpoints import Default, build_template
from batch_frames.requests.template import Template
from tests.support.templates import CHAT, MODEL, OTHER, TEXTS, dumped, lines, saved, table, values

SCHEMA = {"name": "rating", "schema": {"type": "object"}, "strict": True}
SCHEMA_JSON = '"name":"rating","schema":{"type":"object"},"strict":true'


def wrong(message: str, *args: Any, **options: Any) -> None:
    """Check with what message a template is refused."""
    with pytest.raises(TemplateError) as caught:
        build(*args, **options)
    assert str(caught.value) == message


def build(endpoint: str = CHAT, body: Any = None, **parts: Any) -> Template:
    """Build a template with nothing in its body that is not asked for."""
    bare = {"model": None, "seed": None, "reasoning_effort": None}
    return build_template(endpoint, body, **{**bare, **parts})


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
        chunk = Chunk({"custom_id": pa.array([], pa.string())}, {"c": pa.array([], pa.string())})
        rendered = Template(CHAT, {"a": col("c"), "b": 1}, None).render(chunk)
        assert (len(rendered.lines), len(rendered.ids), rendered.skipped) == (0, 0, 0)

    def test_a_template_without_columns(self) -> None:
        """Every row may ask the same."""
        chunk = Chunk({"custom_id": pa.array(["x", "y"])}, {})
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
        rendered = Template(OTHER, {"k": 1}, None).render(Chunk({"custom_id": ids}, {}))
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

    @pytest.mark.parametrize("value", [np.int64(3), np.float64(0.5), np.bool_(True)])
    def test_numpy_constants(self, value: Any) -> None:
        """A number of NumPy is a number."""
        assert values(pa.array(["x"]), [value]) == [f'"k":[{json.dumps(value.item())}]']

    def test_the_body_is_not_changed(self) -> None:
        """What the user passes stays as it is."""
        body = {"messages": [{"role": "user", "content": col("p")}], "a": {"b": [1]}}
        lines(table(p=["x"]), body=body)
        assert body == {"messages": [{"role": "user", "content": Col("p")}], "a": {"b": [1]}}


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
        shown = "a list" if isinstance(value, list) else repr(value)
        hint = "; pass it as body={'messages': …}" * ((name, shown) == ("prompt_column", "a list"))
        wrong(f"{name} must be text, not {shown}{hint}", **parts)

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
            "model": Default("m"),
            "seed": Default(1),
            "reasoning_effort": Default("low"),
            "system_prompt": None,
            "json_schema": None,
            "prompt_column": col("p"),
        }
        template = build("/v1/embeddings", **parts)
        chunk = Chunk({"custom_id": pa.array(["x"])}, {"p": pa.array(["y"])})
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
        message = (
            "body={'messages': …} would replace system_prompt; make it the first of the messages"
        )
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
