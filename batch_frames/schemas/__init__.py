"""A JSON schema or pydantic model: strict for the service, typed columns for the reader."""

from batch_frames.schemas.answers import Answers
from batch_frames.schemas.rules import (
    Count,
    Uncounted,
    count_functions,
    count_functions_cl100k,
    count_schema,
    format_problems,
    list_objects,
    strict_problems,
)
from batch_frames.schemas.strict import answer_schema, to_schema

__all__ = [
    "Answers",
    "Count",
    "Uncounted",
    "answer_schema",
    "count_functions",
    "count_functions_cl100k",
    "count_schema",
    "format_problems",
    "list_objects",
    "strict_problems",
    "to_schema",
]
