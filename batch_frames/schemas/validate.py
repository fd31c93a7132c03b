"""Read one answer in Python: its values, or the reason why it is invalid."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from batch_frames.arrow import dumps, without_lone_surrogates
from batch_frames.display import some_of
from batch_frames.schemas.types import INTEGERS, PATTERNS, Kind

__all__ = ["read_answer", "validator_of"]


DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

MOMENT = re.compile(
    DATE.pattern + r"[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?([Zz]|[+-][0-9]{2}:?[0-9]{2})?"
)

NOUNS = {
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "a boolean",
    "array": "an array",
    "object": "an object",
    "date": "a date like 2026-03-01",
    "date-time": "a time like 2026-03-01T09:30:00Z",
}

LONGEST = 40

MEMBERS = 10


class AnswerError(Exception):
    """A fault in an answer, which collects the path to it on its way out."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.path: list[str | int] = []

    def __str__(self) -> str:
        """Return the reason."""
        steps = [f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.path[::-1]]
        return f"{repr(''.join(steps)[1:]) if steps else 'the answer'} {self.problem}"


def validator_of(model: Any) -> Callable[[str], Any] | None:
    """Return what checks answers by the functions of a pydantic model, None if it has none."""
    has_functions = "function-" in repr(getattr(model, "__pydantic_core_schema__", ""))
    return model.model_validate_json if has_functions else None


def read_answer(
    text: str, kind: Kind, validator: Callable[[str], Any] | None = None
) -> dict[str, Any]:
    """Read an answer as ``json.loads`` does, and check it against its kind.

    A lone surrogate becomes U+FFFD; an integer may be written as 3.0. Dates and times are returned
    as text, times in UTC.

    Raises:
        ValueError: If the answer is invalid; the message is the reason.
    """
    try:
        answer: dict[str, Any] = _check(_load(text), kind)
        if validator:
            _validate(text, validator)
    except AnswerError as fault:
        raise ValueError(str(fault)) from None
    except RecursionError:
        raise ValueError("nested too deep") from None
    return answer


def _load(text: str) -> Any:
    try:
        return json.loads(without_lone_surrogates(text))
    except json.JSONDecodeError as error:
        problem = f"{error.msg} at character {error.pos:,}"
    except ValueError:
        problem = "a number has too many digits"
    raise ValueError(f"not JSON: {problem}")


def _validate(text: str, validator: Callable[[str], Any]) -> None:
    """Check an answer by a pydantic model."""
    try:
        validator(without_lone_surrogates(text))
    except ValueError as error:
        first = error.errors(include_url=False)[0]  # type: ignore[attr-defined]
        reason = str(first.get("ctx", {}).get("error", first["msg"]))
        fault = AnswerError(f"is not valid: {reason[:1].lower()}{reason[1:]}")
        fault.path = list(reversed(first["loc"]))
        raise fault from None


def _check(value: Any, kind: Kind) -> Any:
    """Return a value as the column holds it."""
    if value is None and kind.nullable:
        return None
    if kind.values is not None:
        return _member(value, kind, kind.values)
    checked = CHECKS[kind.name](value, kind)
    for keyword, limit in kind.limits.items():
        if not ALLOWS[keyword](value, limit):
            raise AnswerError(f"is {_show(value)}, which violates {keyword}={limit!r}")
    return checked


def _wrong(value: Any, kind: Kind) -> AnswerError:
    if kind.values is None:
        return AnswerError(f"is {_show(value)}, not {NOUNS[kind.name]}")
    shown = [v if kind.name == "json" else _show(v) for v in kind.values[:MEMBERS]]
    more = ", …" if len(kind.values) > MEMBERS else ""
    one_of = "one of " if len(kind.values) > 1 else ""
    return AnswerError(f"is {_show(value)}, not {one_of}{', '.join(shown)}{more}")


def _show(value: Any) -> str:
    if isinstance(value, (list, dict)):
        return "an array" if isinstance(value, list) else "an object"
    if isinstance(value, str):
        return repr(value if len(value) <= LONGEST else value[:LONGEST] + "…")
    text = json.dumps(value)
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def _member(value: Any, kind: Kind, values: tuple[Any, ...]) -> Any:
    if kind.name == "json":
        wanted = _canonical(value)
        found = [text for text in values if _canonical(json.loads(text)) == wanted]
    else:
        # To Python, true is 1; to JSON it is not.
        alike = isinstance(value, bool) == (kind.name == "boolean")
        found = [member for member in values if alike and member == value]
    if not found:
        raise _wrong(value, kind)
    return found[0]


def _canonical(value: Any) -> str:
    whole = isinstance(value, float) and value.is_integer()
    return json.dumps(int(value) if whole else value, sort_keys=True)


def _typed(type_: type) -> Callable[[Any, Kind], Any]:
    def check(value: Any, kind: Kind) -> Any:
        if not isinstance(value, type_):
            raise _wrong(value, kind)
        return value

    return check


def _integer(value: Any, kind: Kind) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(value, kind)
    if value not in INTEGERS:
        raise AnswerError(f"is {_show(value)}, beyond integers of 64 bits")
    return value


def _number(value: Any, kind: Kind) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or value != value:
        raise _wrong(value, kind)
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if number in (float("inf"), float("-inf")):
        raise AnswerError(f"is {_show(value)}, beyond numbers of 64 bits")
    return number


def _json(value: Any, kind: Kind) -> str | None:
    try:
        return None if value is None else dumps(value)
    except ValueError:
        raise AnswerError("holds NaN or a number beyond 64 bits") from None


def _date(value: Any, kind: Kind) -> str:
    try:
        if isinstance(value, str) and DATE.fullmatch(value):
            return date.fromisoformat(value).isoformat()
    except ValueError:
        pass
    raise _wrong(value, kind)


def _moment(value: Any, kind: Kind) -> str:
    try:
        if isinstance(value, str) and MOMENT.fullmatch(value):
            moment = datetime.fromisoformat(value.upper())
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return moment.astimezone(UTC).isoformat(timespec="microseconds")
    except (ValueError, OverflowError):
        pass
    raise _wrong(value, kind)


def _array(value: Any, kind: Kind) -> list[Any]:
    if not isinstance(value, list) or kind.items is None:
        raise _wrong(value, kind)
    values: list[Any] = []
    try:
        for element in value:
            values.append(_check(element, kind.items))  # noqa: PERF401 - counts as it goes
    except AnswerError as fault:
        fault.path.append(len(values))
        raise
    return values


def _object(value: Any, kind: Kind) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(value, kind)
    if others := [name for name in value if kind.is_closed and name not in kind.fields]:
        named = some_of([_show(name) for name in others])
        raise AnswerError(f"has {named}, which the schema does not allow")
    values: dict[str, Any] = {}
    for name, child in kind.fields.items():
        try:
            if name in value:
                values[name] = _check(value[name], child)
            elif name in kind.required:
                raise AnswerError("is missing")
        except AnswerError as fault:
            fault.path.append(name)
            raise
    return values


def _is_multiple(value: float, of: float) -> bool:
    return not of or not Decimal(str(value)) % Decimal(str(of))


def _is_in_format(value: str, name: str) -> bool:
    if name in PATTERNS:
        return re.fullmatch(PATTERNS[name], value) is not None
    try:
        return bool(CHECKS[name](value, Kind(name)))
    except AnswerError:
        return False


ALLOWS: dict[str, Callable[[Any, Any], bool]] = {
    "minimum": operator.ge,
    "maximum": operator.le,
    "exclusiveMinimum": operator.gt,
    "exclusiveMaximum": operator.lt,
    "multipleOf": _is_multiple,
    "minLength": lambda text, least: len(text) >= least,
    "maxLength": lambda text, most: len(text) <= most,
    "pattern": lambda text, pattern: re.search(pattern, text, re.ASCII) is not None,
    "format": _is_in_format,
    "minItems": lambda items, least: len(items) >= least,
    "maxItems": lambda items, most: len(items) <= most,
    "uniqueItems": lambda items, _: len(set(map(_canonical, items))) == len(items),
}
"""For each keyword whether it allows a value."""


CHECKS: dict[str, Callable[[Any, Kind], Any]] = {
    "string": _typed(str),
    "boolean": _typed(bool),
    "integer": _integer,
    "number": _number,
    "json": _json,
    "date": _date,
    "date-time": _moment,
    "array": _array,
    "object": _object,
}
