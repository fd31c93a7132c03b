"""Use columns in a template: ``col`` for a value, ``fmt`` for text with values in it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from batch_frames.errors import TemplateError

__all__ = ["Col", "Fmt", "Value", "col", "fmt"]


TYPES = ("number", "integer", "boolean")


@dataclass(frozen=True, slots=True)
class Col:
    """The value of a column, as made by ``col``.

    The type ``"text"``, made by ``prompt_column=``, writes numbers as text.
    """

    name: str
    type: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The column, as for ``Fmt``."""
        return (self.name,)


@dataclass(frozen=True, slots=True)
class Fmt:
    """A text with columns in it, as made by ``fmt``.

    Texts and columns alternate: ``texts[0]``, ``names[0]``, ``texts[1]``, …
    """

    texts: tuple[str, ...]
    names: tuple[str, ...]


Value = Col | Fmt


def col(name: str, *, type: str | None = None) -> Col:
    """Use a column's value, in its JSON type, in the body of a request.

    Args:
        name: The name of the column.
        type: How to read a column of text, such as one from a CSV: ``"number"``, ``"integer"`` or
            ``"boolean"``. None leaves text as text.

    Raises:
        TemplateError: If ``name`` or ``type`` is something else.

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
    """Build a text from columns: ``{name}`` is the column's value, ``{{`` and ``}}`` are braces.

    Raises:
        TemplateError: If a brace has no partner, or nothing between it and its partner.

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
            raise _brace_error(template, piece, match.start())
        else:
            texts[-1] += piece[0] if piece in ("{{", "}}") else piece
    return Fmt(tuple(texts), tuple(names))


def _brace_error(template: str, piece: str, position: int) -> TemplateError:
    if piece == "{}":
        return TemplateError(f"fmt({template!r}): '{{}}' at character {position} names no column")
    return TemplateError(
        f"fmt({template!r}): the {piece!r} at character {position} is not paired",
        hint=f"write {piece * 2!r} for the character itself",
    )
