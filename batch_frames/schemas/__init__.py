"""A JSON schema or pydantic model: strict for the service, typed columns for the reader."""

from batch_frames.schemas.answers import Answers
from batch_frames.schemas.strict import answer_schema, to_schema

__all__ = ["Answers", "answer_schema", "to_schema"]
