"""Columns and texts with columns in them are checked when they are made."""

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_frames import col, fmt
from batch_frames.errors import TemplateError
from batch_frames.requests.columns import Col, Fmt
from tests.support.templates import TEXTS, contents, table


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
            f"fmt({template!r}): the {brace!r} at character {position} is not paired; "
            f"write {brace * 2!r} for the character itself"
        )

    def test_braces_without_a_name(self) -> None:
        """Empty braces name no column."""
        with pytest.raises(TemplateError) as caught:
            fmt("a {b} {}")
        assert str(caught.value) == "fmt('a {b} {}'): '{}' at character 6 names no column"

    @given(template=st.text("{}ab ", max_size=12), a=TEXTS, b=TEXTS)
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
