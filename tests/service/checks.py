"""Check a request file as the Batch API does once a batch has been made of it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

REQUIRED = {
    "/v1/chat/completions": ("model", "messages"),
    "/v1/responses": ("model", "input"),
    "/v1/completions": ("model", "prompt"),
    "/v1/embeddings": ("model", "input"),
    "/v1/moderations": ("input",),
    "/v1/images/generations": ("prompt",),
    "/v1/images/edits": ("prompt",),
    "/v1/videos": ("prompt",),
}
"""The endpoints of the service, each with the keys that a body needs."""

MOST_ERRORS = 100

Error = dict[str, Any]


def fault(code: str, message: str, line: int | None = None, param: str | None = None) -> Error:
    """Shape an entry of a failed batch's `errors.data`."""
    return {"code": code, "line": line, "message": message, "param": param}


@dataclass
class Checks:
    """Go through the lines of one file and collect what is wrong."""

    endpoint: str
    models: Collection[str] | None = None
    most_requests: int = 50_000
    model: str | None = None
    requests: int = 0
    errors: list[Error] = field(default_factory=list)
    _ids: set[str] = field(default_factory=set)

    def run(self, lines: Iterable[bytes]) -> list[Error]:
        """List the errors of a file, at most a hundred."""
        for number, line in enumerate(lines, start=1):
            self.requests = number
            error = self._line(line, number)
            if error is not None and len(self.errors) < MOST_ERRORS:
                self.errors.append(error)
        if self.requests == 0:
            return [fault("empty_file", "The input file is empty.")]
        if self.requests > self.most_requests:
            message = f"The file holds {self.requests} requests; at most {self.most_requests}."
            return [fault("too_many_tasks", message)]
        return self.errors

    def _line(self, line: bytes, number: int) -> Error | None:
        try:
            request = json.loads(line)
        except ValueError:
            request = None
        if not isinstance(request, dict):
            message = "This line is not parseable as valid JSON."
            return fault("invalid_json_line", message, number)
        missing = self._missing(request)
        if missing:
            message = f"Missing required parameter: '{missing.rpartition('.')[2]}'."
            return fault("missing_required_parameter", message, number, missing)
        if not isinstance(request["body"], dict):
            return fault("invalid_type", "The body must be an object.", number, "body")
        return self._contents(request, number)

    def _missing(self, request: dict[str, Any]) -> str | None:
        for key in ("custom_id", "method", "url", "body"):
            if key not in request:
                return key
        if isinstance(request["body"], dict):
            for key in REQUIRED[self.endpoint]:
                if key not in request["body"]:
                    return f"body.{key}"
        return None

    def _contents(self, request: dict[str, Any], number: int) -> Error | None:
        custom_id, model = request["custom_id"], request["body"].get("model")
        if not isinstance(custom_id, str):
            message = "The custom_id must be a string."
            return fault("invalid_type", message, number, "custom_id")
        if custom_id in self._ids:
            message = (
                f"The custom_id '{custom_id}' stands on an earlier line too; each must differ."
            )
            return fault("duplicate_custom_id", message, number, "custom_id")
        self._ids.add(custom_id)
        if request["method"] != "POST":
            message = "The method must be POST."
            return fault("invalid_method", message, number, "method")
        if request["url"] != self.endpoint:
            message = f"The url '{request['url']}' is not the batch's '{self.endpoint}'."
            return fault("url_mismatch", message, number, "url")
        if request["body"].get("stream"):
            message = "A batch cannot stream."
            return fault("streaming_unsupported", message, number, "body.stream")
        return self._model(model, number)

    def _model(self, model: str | None, number: int) -> Error | None:
        if number == 1:
            self.model = model
        if model != self.model:
            message = f"The model '{model}' is not that of the first line, '{self.model}'."
            return fault("mismatched_model", message, number, "body.model")
        if self.models is not None and model not in self.models:
            message = f"The provided model '{model}' is not supported by the Batch API."
            return fault("model_not_found", message, number, "body.model")
        return None
