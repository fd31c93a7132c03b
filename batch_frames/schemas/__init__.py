"""A JSON schema or pydantic model: strict for the service, typed columns for the reader."""

from batch_frames.schemas.answers import Answers
from batch_frames.schemas.check import format_problems, strict_problems
from batch_frames.schemas.strict import answer_schema, to_schema

__all__ = ["Answers", "answer_schema", "format_problems", "strict_problems", "to_schema"]
