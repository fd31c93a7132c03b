"""Prompts that are too long for a model, or for a price, compared with tiktoken's counts."""

import sys
from pathlib import Path
from typing import Any

import pytest

import batch_frames as bf
from batch_frames.requests import file_check, tokens
from tests.support.requests import CHAT, dumps
from tests.support.tiktoken import reference

LUNA, EMBEDDING = "gpt-6-luna", "text-embedding-3-small"
OFF = {"prompt_cache_options": {"mode": "explicit"}}
AROUND = 7
"""Tokens around the text of a chat with one message."""

WRITES = (
    f"from 1,024 tokens on '{LUNA}' writes prompts to its cache, at 1.25 times the price; "
    "'prompt_cache_options': {'mode': 'explicit'} turns that off"
)


def words(count: int) -> str:
    """Make a text of so many tokens."""
    text = " a" * count
    assert len(reference("o200k_base").encode_ordinary(text)) == count
    return text


def found(path: Path, model: str, *texts: Any, url: str = CHAT, more: Any = None) -> Any:
    """Check a file of requests to a model, and list line, code and message."""
    lines = []
    for number, text in enumerate(texts):
        chat = {"messages": [{"role": "user", "content": text}]}
        body = {"model": model, **(chat if url == CHAT else {"input": text}), **(more or {})}
        lines.append(dumps({"custom_id": str(number), "method": "POST", "url": url, "body": body}))
    path.write_text("\n".join(lines), "utf-8")
    return bf.check_requests(path)[["line", "code", "message"]].to_numpy().tolist()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where to write a request file."""
    return tmp_path / "r.jsonl"


@pytest.mark.parametrize(
    ("model", "window", "around", "url"),
    [
        (EMBEDDING, 8_192, 0, "/v1/embeddings"),
        ("gpt-4o-mini-2024-07-18", 128_000, AROUND, CHAT),
        pytest.param("o4-mini", 200_000, AROUND - 1, CHAT, marks=pytest.mark.slow),
    ],
)
def test_a_prompt_beyond_the_context_is_warned_of(
    path: Path, model: str, window: int, around: int, url: str
) -> None:
    """The largest prompt that fits is no problem; one with a token more is."""
    texts = [words(window - around + more) for more in (0, 1)]
    problem = f"the prompt is beyond the {window:,} tokens of the context of '{model}'"
    code = "context_length_exceeded"
    assert found(path, model, *texts, url=url) == [[2, code, problem]]


def test_the_longest_context_is_judged_by_the_bytes(path: Path) -> None:
    """A prompt that would take long to count is estimated, and the message says so."""
    texts = ["Hi", "0123456789" * 430_000]
    problem = f"the prompt is beyond the 1,050,000 tokens of the context of '{LUNA}'"
    about = " (in about 1 request)"
    assert found(path, LUNA, *texts, more=OFF) == [[2, "context_length_exceeded", problem + about]]


SCRIPTS = ("word ", "Ωμέγα ", "部屋がとても綺麗でした。", "😀 👍🏽 ", '"\\\n\t', "12345678")


def test_prompts_that_are_written_to_the_cache_are_counted(path: Path) -> None:
    """The first request and the number of those from 1,024 tokens on are tiktoken's."""
    texts = [text * count for count in range(5, 1_000, 45) for text in SCRIPTS]
    count = reference("o200k_base").encode_ordinary
    long = [number for number, text in enumerate(texts, 1) if len(count(text)) + AROUND >= 1_024]
    assert 10 < len(long) < len(texts) - 10
    message = f"{WRITES} (in {len(long)} requests)"
    assert found(path, LUNA, *texts) == [[long[0], "prompt_cache_writes", message]]
    assert found(path, LUNA, *(words(n - AROUND) for n in (1_023, 1_024))) == [
        [2, "prompt_cache_writes", WRITES]
    ]


def test_what_is_not_written_to_the_cache_for_money_is_no_problem(path: Path) -> None:
    """Earlier and unknown models charge nothing for it; the body can turn it off."""
    for model in ("gpt-5.5", "gpt-4o", "gpt-7-sol", "llama-3.1-8b-instant"):
        assert found(path, model, words(1_100)) == []
    assert found(path, LUNA, words(1_100), more=OFF) == []
    assert found(path, LUNA, [words(1_100)], url="/v1/embeddings") == []


def test_many_prompts_are_estimated_by_those_counted(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond some bytes, the tokens of requests are told from their sizes, and it says so."""
    monkeypatch.setattr(file_check, "COUNTED", 9_000)
    texts = [words(2_000 - number) for number in range(50)] + [words(500)] * 3
    image = f"{words(1_000)};base64,{'A' * 9_999}"
    message = f"{WRITES} (in about 50 requests)"
    assert found(path, LUNA, *texts, image) == [[1, "prompt_cache_writes", message]]


def test_without_the_tokenizer_four_bytes_are_a_token(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check needs no extra; without it the number of requests is about right."""
    monkeypatch.setitem(sys.modules, "bpe_openai", None)
    tokens._tokenizer.cache_clear()
    texts = ["x" * (4 * count - 150) for count in (1_000, 1_024, 1_050)]
    message = f"{WRITES} (in about 1 request)"
    assert found(path, LUNA, *texts) == [[3, "prompt_cache_writes", message]]


def test_short_prompts_are_not_counted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has too few bytes for so many tokens needs no tokenizer, which takes time to load."""
    monkeypatch.delattr(file_check, "count_tokens")
    assert found(path, LUNA, *["x" * 1_900] * 3) == []
    assert found(path, "gpt-4o", *["x" * 250_000] * 3) == []
    assert found(path, EMBEDDING, ["x" * 9_000] * 3, url="/v1/embeddings") == []
