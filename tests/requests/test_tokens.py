"""Requests count as many tokens as the reference tokenizer and the documented rules say."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_frames import MissingExtra
from batch_frames.requests import tokens
from batch_frames.requests.tokens import count_tokens
from tests.support.tiktoken import ENCODINGS, reference

REAL = Path(__file__).parents[3] / "shared" / "real"
FILES = sorted(path for path in REAL.rglob("*.json*") if path.is_file())

MODELS = {"cl100k_base": "text-embedding-3-small", "o200k_base": "gpt-4o"}
PLANES = [st.characters(min_codepoint=p << 16, max_codepoint=(p << 16) + 0xFFFF) for p in range(17)]
COMMON = st.sampled_from(" \n\r\t'’{}\"\\<|>0aA\u0301\u200d\ufe0f")
CHARACTERS = st.one_of(st.characters(codec="utf-8"), COMMON, *PLANES[1:])
TEXTS = st.lists(CHARACTERS, max_size=60).map("".join)

TOOL = {
    "name": "get_current_weather",
    "description": "Get the current weather in a given location",
    "parameters": {
        "type": "object",
        "properties": {
            "location": {
                "type": "string",
                "description": "The city and state, e.g. San Francisco, CA",
            },
            "unit": {
                "type": "string",
                "description": "The unit of temperature to return",
                "enum": ["celsius", "fahrenheit"],
            },
        },
        "required": ["location"],
    },
}
WEATHER = [
    {
        "role": "system",
        "content": "You are a helpful assistant that can answer to questions about the weather.",
    },
    {"role": "user", "content": "What's the weather like in San Francisco?"},
]
NAMED = [
    {"role": "system", "name": "example_user", "content": "New synergies will help."},
    {"role": "user", "content": "Things working well together will increase revenue."},
]


def counts(*bodies: Any, url: str = "/v1/chat/completions") -> list[dict[str, Any]]:
    """Count requests with these bodies."""
    lines = [json.dumps({"custom_id": "a", "url": url, "body": body}) + "\n" for body in bodies]
    rows: list[dict[str, Any]] = count_tokens(pa.array(lines, pa.large_string())).to_pylist()
    return rows


def total(body: Any, **how: Any) -> int | None:
    """Count one request."""
    tokens: int | None = counts(body, **how)[0]["input_tokens"]
    return tokens


def plain(text: str, encoding: str) -> int:
    """Count a text alone, as the input of an embedding."""
    line = json.dumps({"url": "/v1/embeddings", "body": {"model": MODELS[encoding], "input": text}})
    return int(count_tokens(pa.array([line], pa.large_string()))["input_tokens"][0].as_py())


def texts_of(value: Any) -> Iterator[str]:
    """Yield all texts in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield key
            yield from texts_of(one)
    elif isinstance(value, list):
        for one in value:
            yield from texts_of(one)


def check_counts(encoding: str, texts: list[str]) -> None:
    """Compare the counts of texts with those of tiktoken."""
    body = {"model": MODELS[encoding]}
    found = counts(*({**body, "input": text} for text in texts), url="/v1/embeddings")
    expected = [len(reference(encoding).encode_ordinary(text)) for text in texts]
    assert [row["input_tokens"] for row in found] == expected


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(texts=st.lists(TEXTS, min_size=8, max_size=16))
def test_any_text_counts_as_in_tiktoken(encoding: str, texts: list[str]) -> None:
    """Text of all planes of Unicode has as many tokens as tiktoken says."""
    check_counts(encoding, texts)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ENCODINGS)
@settings(max_examples=1_000)
@given(texts=st.lists(TEXTS, min_size=10, max_size=16))
def test_ten_thousand_texts_count_as_in_tiktoken(encoding: str, texts: list[str]) -> None:
    """So have ten thousand of them."""
    check_counts(encoding, texts)


@pytest.mark.skipif(not FILES, reason="the real files are not here")
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_all_real_texts_count_as_in_tiktoken(encoding: str) -> None:
    """Every text in the files of other people has as many tokens as tiktoken says."""
    texts: set[str] = set()
    for path in FILES:
        for line in path.read_text("utf-8").splitlines():
            try:
                texts.update(texts_of(json.loads(line)))
            except ValueError:
                texts.add(line)
    assert len(texts) > 1_000
    check_counts(encoding, sorted(texts))


@pytest.mark.skipif(not FILES, reason="the real files are not here")
def test_the_service_counted_as_much() -> None:
    """All requests of a real batch have as many tokens as the service reported."""
    name = "alexdong__query-reformulation__{}_o3mini.jsonl"
    answers = map(json.loads, (REAL / name.format("output")).read_text("utf-8").split("\n")[:-1])
    billed = {a["custom_id"]: a["response"]["body"]["usage"]["prompt_tokens"] for a in answers}
    lines = (REAL / name.format("input")).read_text("utf-8").split("\n")[:-1]
    found = count_tokens(pa.array(lines, pa.large_string()))["input_tokens"].to_pylist()
    assert found == [billed[json.loads(line)["custom_id"]] for line in lines]


@pytest.mark.parametrize(("model", "tokens"), [("gpt-4", 105), ("gpt-4o", 101)])
def test_functions_count_as_in_the_cookbook(model: str, tokens: int) -> None:
    """Messages and a function have the tokens of the example in the OpenAI Cookbook."""
    body = {"model": model, "messages": WEATHER}
    wrapped = [{"type": "function", "function": TOOL}]
    assert total({**body, "tools": wrapped}) == total({**body, "functions": [TOOL]}) == tokens
    flat = {"model": model, "input": WEATHER, "tools": [{"type": "function", **TOOL}]}
    assert total(flat, url="/v1/responses") == tokens


@pytest.mark.parametrize("model", ["gpt-3.5-turbo-0125", "gpt-4o-mini", "ft:gpt-4o:me::1"])
def test_messages_count_by_the_documented_rule(model: str) -> None:
    """A message has three tokens more than its texts, its name one, and the reply three."""
    encoding = reference("cl100k_base" if "3.5" in model else "o200k_base")
    texts = [text for message in NAMED for text in message.values()]
    expected = sum(len(encoding.encode_ordinary(text)) for text in texts) + 2 * 3 + 1 + 3
    [row] = counts({"model": model, "messages": NAMED})
    assert (row["input_tokens"], row["exact"]) == (expected, True)


@pytest.mark.parametrize(
    ("body", "exact"),
    [
        ({"model": "gpt-4o-2024-08-06", "messages": NAMED}, True),
        ({"model": "gpt-4.1", "messages": NAMED}, False),
        ({"model": "gpt-6-luna", "messages": NAMED}, False),
        ({"model": "llama3", "messages": NAMED}, False),
        ({"model": "gpt-4o", "messages": NAMED, "functions": [TOOL]}, False),
        ({"model": "gpt-4o", "messages": [{"role": "tool", "tool_calls": ["a"]}]}, False),
    ],
)
def test_what_is_not_documented_is_estimated(body: Any, exact: bool) -> None:
    """A count is exact only where encoding and overhead are documented."""
    [row] = counts(body)
    assert row["exact"] is exact
    assert row["input_tokens"] > 0


def test_a_schema_counts_without_its_formal_keys() -> None:
    """A schema has the tokens of its JSON without 'required' and the like, and nine."""
    bare = {"type": "object", "properties": {"stars": {"type": "integer"}}}
    schema = {**bare, "required": ["stars"], "additionalProperties": False}
    expected = plain(json.dumps(bare, separators=(",", ":")), "o200k_base") + 9
    chat = {"model": "gpt-4o", "messages": NAMED}
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    without = total(chat)
    assert without is not None
    assert total({**chat, "response_format": wanted}) == without + expected
    assert total({**chat, "response_format": {"type": "json_object"}}) == without
    responses = {"model": "gpt-4o", "input": NAMED}
    text = {"format": {"type": "json_schema", "name": "a", "schema": schema}}
    assert total({**responses, "text": text}, url="/v1/responses") == without + expected


@pytest.mark.parametrize(
    ("url", "body", "expected"),
    [
        ("/v1/embeddings", {"input": ["Hello!", "Hello!"]}, 4),
        ("/v1/embeddings", {"input": [15, 7, 9]}, 3),
        ("/v1/embeddings", {"input": [[15, 7], [9]]}, 3),
        ("/v1/completions", {"prompt": "Hello!"}, 2),
        ("/v1/moderations", {"input": [{"type": "text", "text": "Hello!"}]}, 2),
        ("/chat/completions", {"messages": [{"role": "user", "content": "Hello!"}]}, 9),
        ("/v1/responses", {"input": "Hello!"}, 9),
        ("/v1/responses", {"input": "Hello!", "instructions": "Hello!"}, 15),
        ("/v1/responses", {"input": [{"type": "function_call", "name": "Hello!"}]}, 9),
    ],
)
def test_endpoints_count_their_own_prompts(url: str, body: Any, expected: int) -> None:
    """Texts, lists of texts and tokens count where the endpoint has its prompt."""
    assert total({"model": "gpt-4o", **body}, url=url) == expected


IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
OUTPUT = {"type": "function_call_output", "call_id": "call_1"}
TEXT = {"type": "input_text", "text": "Hello!"}
AUDIO = {"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}}


@pytest.mark.parametrize(
    ("url", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [IMAGE]}]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [AUDIO]}]}),
        ("/v1/chat/completions", {"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]}),
        ("/v1/chat/completions", {"messages": "Hello!"}),
        ("/v1/chat/completions", {"messages": WEATHER, "tools": [{"type": "custom"}]}),
        ("/v1/responses", {"input": "Hello!", "tools": [{"type": "web_search"}]}),
        ("/v1/responses", {"input": "Hello!", "previous_response_id": "resp_1"}),
        ("/v1/responses", {"input": [{"type": "item_reference", "id": "msg_1"}]}),
        ("/v1/responses", {"input": [{**OUTPUT, "output": [{"type": "input_image"}]}]}),
        ("/v1/responses", {"input": [{**OUTPUT, "output": [TEXT, {"type": "input_file"}]}]}),
        ("/v1/images/generations", {"prompt": "A kettle."}),
        ("/v1/embeddings", {"input": None}),
    ],
)
def test_what_is_no_text_has_no_count(url: str, body: Any) -> None:
    """Images, audio, hosted tools and stored parts make the count unknown, not smaller."""
    [row] = counts({"model": "gpt-4o", **body}, url=url)
    assert (row["model"], row["input_tokens"], row["exact"]) == ("gpt-4o", None, False)


@pytest.mark.parametrize(
    ("url", "body", "expected"),
    [
        ("/v1/chat/completions", {}, None),
        ("/v1/chat/completions", {"max_completion_tokens": 500}, 500),
        ("/v1/chat/completions", {"max_tokens": 500, "n": 3}, 1_500),
        ("/v1/chat/completions", {"max_tokens": 500, "n": -1}, 500),
        ("/v1/chat/completions", {"max_completion_tokens": -5}, None),
        ("/v1/completions", {"prompt": "a", "max_tokens": -5}, 16),
        ("/v1/responses", {"max_output_tokens": 500}, 500),
        ("/v1/completions", {"prompt": ["a", "b"]}, 32),
        ("/v1/embeddings", {}, 0),
    ],
)
def test_the_body_limits_the_answer(url: str, body: Any, expected: int | None) -> None:
    """The longest answer is what the body allows, for each of several answers."""
    assert counts({"model": "gpt-4o", **body}, url=url)[0]["max_output_tokens"] == expected


def test_outputs_of_functions_count_as_text_or_parts() -> None:
    """The output of a function counts alike as a text and as a part with this text."""
    plain, parts = (
        total({"model": "gpt-4o", "input": [{**OUTPUT, "output": output}]}, url="/v1/responses")
        for output in ("Hello!", [TEXT])
    )
    assert plain == parts is not None


def test_what_earlier_lines_began_with_is_repeated() -> None:
    """The tokens that a request begins with like earlier ones can come from the cache."""
    users = [[WEATHER[0], {"role": "user", "content": text}] for text in ("One.", "Two.", "One.")]
    rows = counts(*({"model": "gpt-4o", "messages": messages} for messages in users))
    system = total({"model": "gpt-4o", "messages": [WEATHER[0]]})
    assert system is not None
    # The second message begins with its three tokens and its role.
    assert [row["repeated_tokens"] for row in rows] == [0, system - 3 + 4, system - 3 + 6]
    explicit = {"prompt_cache_options": {"mode": "explicit"}}
    given = [{"model": "gpt-4o", "messages": WEATHER}, {"model": "gpt-4o", **explicit}]
    assert [row["is_cached"] for row in counts(*given)] == [True, False]


def test_lines_that_are_no_requests_have_nothing() -> None:
    """A line without a body or a model has no model; a lone surrogate counts like U+FFFD."""
    lines = ["", "null", '{"body": {}}', "{", '{"body": {"model": 5}}']
    surrogate = r'{"url": "/v1/embeddings", "body": {"model": "m", "input": "a\ud800"}}'
    table = count_tokens(pa.array([*lines, surrogate], pa.large_string()))
    assert table["model"].to_pylist() == [None] * 5 + ["m"]
    assert table["input_tokens"].to_pylist() == [None] * 5 + [plain("a\ufffd", "o200k_base")]


def test_without_the_tokenizer_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without bpe-openai the error is the pip command."""
    monkeypatch.setitem(sys.modules, "bpe_openai", None)
    tokens._tokenizer.cache_clear()
    with pytest.raises(MissingExtra) as caught:
        counts({"model": "gpt-4o", "messages": NAMED})
    problem = 'counting tokens needs bpe-openai; pip install "batch-frames[tokens]"'
    assert str(caught.value) == problem
