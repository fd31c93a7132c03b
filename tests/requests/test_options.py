"""The options of all that makes requests: one list of names and defaults, and what is left out."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import batch_frames as bf
from tests.support.creators import table_batch

MAKERS = (bf.from_dataframe, bf.from_csv, bf.from_parquet, bf.render)
OPTIONS: dict[str, Any] = {"id_column": "id", "prompt_column": "p"}
FRAME = pd.DataFrame({"id": ["a"], "p": ["x"]})

NEVER_REASONED = (
    *("gpt-3.5-turbo", "gpt-3.5-turbo-0125", "gpt-4", "gpt-4-0613", "gpt-4-turbo", "gpt-4o"),
    *("gpt-4o-mini-2024-07-18", "gpt-4.1", "gpt-4.1-nano", "gpt-4.5-preview", "chatgpt-4o-latest"),
    "ft:gpt-4o-mini-2024-07-18:org::id",
)
OTHERS = ("o4-mini", "gpt-5.6-luna", "gpt-4.2", "gpt-41", "gpt-4omni", "my-gpt-4o", "deepseek-r1")


def body(**options: Any) -> dict[str, Any]:
    """Make the body of one request."""
    made: dict[str, Any] = bf.from_dataframe(FRAME, **{**OPTIONS, **options}).preview_entry()[
        "body"
    ]
    return made


@pytest.mark.parametrize("make", MAKERS)
def test_options_are_parameters_of_their_own(make: Any) -> None:
    """Each function shows the options of BatchCreator with their defaults."""
    own = inspect.signature(make).parameters
    creators = dict(inspect.signature(bf.BatchCreator).parameters)
    assert creators.pop("system_prompt").default is inspect.Parameter.empty
    assert own["system_prompt"].default is None
    assert {name: own[name].default for name in creators} == {
        name: parameter.default for name, parameter in creators.items()
    }
    for name in ("id_column", "prompt_column", "na", *creators):
        assert own[name].kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize("model", NEVER_REASONED)
def test_the_default_effort_is_not_sent_to_models_without(model: str) -> None:
    """A model from before there were efforts gets one only if it was asked for."""
    assert "reasoning_effort" not in body(model=model)
    assert "reasoning_effort" not in body(model="m", body={"model": model})
    assert "reasoning" not in body(model=model, endpoint="/v1/responses")
    assert body(model=model)["seed"] == 334
    assert body(model=model, reasoning_effort="medium")["reasoning_effort"] == "medium"
    creator = bf.BatchCreator(model, system_prompt=None)
    creator.add_entry("a", "x")
    assert creator.preview_entry()["body"] == body(model=model)


@pytest.mark.parametrize("model", OTHERS)
def test_the_default_effort_is_sent_to_all_other_models(model: str) -> None:
    """Any other model gets the effort by default, whatever it is called."""
    assert body(model=model)["reasoning_effort"] == "medium"
    assert body(model=model, endpoint="/v1/responses")["reasoning"] == {"effort": "medium"}


@pytest.mark.parametrize("kind", ["pandas", "pyarrow", "csv", "parquet"])
def test_columns_in_a_plain_system_prompt_are_refused(tmp_path: Path, kind: str) -> None:
    """Braces around a column's name were meant to be filled in; all others are text."""
    message = (
        "system_prompt is plain text, and '{p}' in it names a column; "
        "pass fmt(…) for its value, or fmt with '{{p}}' for the braces"
    )
    with pytest.raises(bf.TemplateError, match=f"^{re.escape(message)}$"):
        table_batch(FRAME, kind, tmp_path, system_prompt="Say {p}")
    for prompt, sent in (
        (bf.fmt("Say {p}"), "Say x"),
        (bf.fmt("Say {{p}}"), "Say {p}"),
        ("Say {other}, {{p}}, { p }", "Say {other}, {{p}}, { p }"),
    ):
        request = table_batch(FRAME, kind, tmp_path, system_prompt=prompt).preview_entry()
        assert request["body"]["messages"][0]["content"] == sent


IDS = "id_column must be the name of a column, or several"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt_column": FRAME["p"]}, "prompt_column must be text, not a Series"),
        ({"id_column": FRAME["id"]}, f"{IDS}, not a Series"),
        ({"id_column": []}, f"{IDS}, not a list"),
        ({"id_column": ["id", 1]}, f"{IDS}, not a list"),
        ({"system_prompt": FRAME}, "system_prompt must be text, not a DataFrame"),
        (
            {"prompt_column": [{"type": "text"}]},
            "prompt_column must be text, not a list; pass it as body={'messages': …}",
        ),
        (
            {"prompt_column": ["x"], "endpoint": "/v1/responses"},
            "prompt_column must be text, not a list; pass it as body={'input': …}",
        ),
    ],
    ids=["prompts", "ids", "no ids", "other ids", "a frame", "parts", "inputs"],
)
def test_values_in_place_of_names_are_not_shown_whole(
    options: dict[str, Any], message: str
) -> None:
    """A whole column in place of its name is called by its type."""
    with pytest.raises(bf.TemplateError, match=f"^{re.escape(message)}$"):
        body(**{"model": "m", **options})
