"""Stand for columns in a template: ``col`` for a value, ``fmt`` for a text with values in it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from batch_frames.errors import TemplateError

__all__ = ["Col", "Fmt", "Value", "col", "fmt"]


TYPES = ("number", "integer", "boolean")


@dataclass(frozen=True, slots=True)
class Col:
    """Stand for a column's value; made by ``col``.

    The type ``"text"``, which ``prompt_column=`` makes, puts numbers in quotes too.
    """

    name: str
    type: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """List the one column."""
        return (self.name,)


@dataclass(frozen=True, slots=True)
class Fmt:
    """Stand for a text with columns in it; made by ``fmt``.

    Texts and columns take turns: ``texts[0]``, ``names[0]``, ``texts[1]``, …
    """

    texts: tuple[str, ...]
    names: tuple[str, ...]


Value = Col | Fmt


def col(name: str, *, type: str | None = None) -> Col:
    """Take a column's value in its JSON type, anywhere in ``body=``.

    Args:
        name: The column.
        type: How to read a text column, as all columns of a CSV are: ``"number"``, ``"integer"``
            or ``"boolean"``. None leaves text as text.

    Raises:
        TemplateError: If ``type`` is something else.

    Example:
        >>> col("temperature", type="number")
        Col(name='temperature', type='number')
    """
    if not isinstance(name, str) or not name:
        raise TemplateError(f"col() takes the name of a column, not {name!r}")
    if type is not None and type not in TYPES:
        raise TemplateError(
            f"col({name!r}, type={type!r}): type must be 'number', 'integer' or 'boolean'"
        )
    return Col(name, type)


def fmt(template: str) -> Fmt:
    """Write a text with columns in it: ``{name}`` is the column's value, ``{{`` a brace.

    Raises:
        TemplateError: If a brace is left open, or a name is empty.

    Example:
        >>> fmt("Title: {title}")
        Fmt(texts=('Title: ', ''), names=('title',))
    """
    if not isinstance(template, str):
        raise TemplateError(f"fmt() takes text, not {template!r}")
    texts, names = [""], []
    for match in re.finditer(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+", template):
        piece, name = match.group(), match.group(1)
        if name:
            names.append(name)
            texts.append("")
        elif piece in ("{", "}", "{}"):
            raise TemplateError(_brace_problem(template, piece, match.start()))
        else:
            texts[-1] += piece[0] if piece in ("{{", "}}") else piece
    return Fmt(tuple(texts), tuple(names))


def _brace_problem(template: str, piece: str, position: int) -> str:
    if piece == "{}":
        return f"fmt({template!r}): '{{}}' at character {position} names no column"
    return (
        f"fmt({template!r}): the {piece!r} at character {position} stands alone; "
        f"write {piece * 2!r} for the character itself"
    )
