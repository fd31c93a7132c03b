"""Speak HTTP as the Batch API does: routes, uploads, downloads and errors."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Protocol
from urllib.parse import parse_qs, urlsplit

from tests.service.answers import Body
from tests.service.state import Service
from tests.service.values import BLOCK, OnDisk, Refusal, Repeated, StoredFile

ROUTES = {
    "POST /files": r"/v1/files",
    "GET /files": r"/v1/files",
    "GET /files/{id}": r"/v1/files/([^/]+)",
    "GET /files/{id}/content": r"/v1/files/([^/]+)/content",
    "DELETE /files/{id}": r"/v1/files/([^/]+)",
    "POST /batches": r"/v1/batches",
    "GET /batches": r"/v1/batches",
    "GET /batches/{id}": r"/v1/batches/([^/]+)",
    "POST /batches/{id}/cancel": r"/v1/batches/([^/]+)/cancel",
    "POST /chat/completions": r"/v1/chat/completions",
    "POST /responses": r"/v1/responses",
    "POST /completions": r"/v1/completions",
    "POST /embeddings": r"/v1/embeddings",
    "POST /moderations": r"/v1/moderations",
    "GET /models": r"/v1/models",
}
"""What a request is called in `BatchServer.when` and `BatchServer.requests_log`."""

Moment = Literal["asked", "half", "done", "answered"]
"""When something may happen to a request.

It was asked, and nothing of its body is read; half of a body has been taken or sent; it is carried
out, and the answer not sent; the answer is sent.
"""

Change = Callable[[int, bytes], tuple[int, bytes]]
"""Make another reply of the status and the body of a reply."""


class Drop(Exception):  # noqa: N818
    """Close the connection without another word."""


class Raw(Exception):  # noqa: N818
    """Answer with these bytes, whatever was asked."""

    def __init__(self, data: bytes, status: int, kind: str) -> None:
        super().__init__()
        self.data, self.status, self.kind = data, status, kind


class Owner(Protocol):
    """What the HTTP side needs of the server."""

    service: Service
    requests_log: list[str]
    bodies: list[Body]
    crashes: list[BaseException]

    def meet(self, route: str, moment: Moment) -> None:
        """Do what a test asked for at this moment."""

    def change_of(self, route: str, ids: tuple[str, ...]) -> Change | None:
        """Return what changes the reply to this request, if a test asked for it."""


class Listener(ThreadingHTTPServer):
    """Listen, and keep what is needed to stop at once."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], owner: Owner) -> None:
        self.owner = owner
        self._open: set[socket.socket] = set()
        super().__init__(address, Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Remember the connection too."""
        connection, address = super().get_request()
        self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        """Forget the connection too."""
        self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """Cut the connections that clients keep open."""
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep an error of the server's own for the test; clients may go as they like."""
        error = sys.exception()
        if error is not None and not isinstance(error, OSError):
            self.owner.crashes.append(error)


class Upstream:
    """Read the body of one request, and say when half of it has come."""

    def __init__(
        self, read: Callable[[int], bytes], nbytes: int, tell_half: Callable[[], None]
    ) -> None:
        self._read = read
        self._left = nbytes
        self._before_half = nbytes // 2
        self._tell_half = tell_half

    def read(self, most: int) -> bytes:
        """Read a block; empty at the end."""
        if self._before_half:
            most = min(most, self._before_half)
        block = self._read(min(most, self._left))
        if not block and self._left:
            raise Drop
        self._left -= len(block)
        if self._before_half:
            self._before_half -= len(block)
            if not self._before_half:
                self._tell_half()
        return block

    def all(self) -> bytes:
        """Read what is left."""
        return b"".join(iter(lambda: self.read(BLOCK), b""))

    def drain(self) -> None:
        """Read what is left and forget it."""
        while self.read(BLOCK):
            pass


def parts(read: Callable[[int], bytes], boundary: bytes) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Take a multipart body apart: the header of each part, and its content in blocks."""
    mark = b"\r\n--" + boundary
    buffer = b"\r\n"

    def until(mark: bytes) -> Iterator[bytes]:
        nonlocal buffer
        while (at := buffer.find(mark)) < 0:
            keep = len(buffer) - len(mark) + 1
            if keep > 0:
                yield buffer[:keep]
                buffer = buffer[keep:]
            block = read(BLOCK)
            if not block:
                raise Refusal(400, "The multipart body ends too early.")
            buffer += block
        yield buffer[:at]
        buffer = buffer[at + len(mark) :]

    b"".join(until(mark))
    while True:
        while len(buffer) < 2:
            buffer += read(BLOCK) or b"--"
        if buffer.startswith(b"--"):
            return
        header = b"".join(until(b"\r\n\r\n")).decode()
        yield header, until(mark)


class Handler(BaseHTTPRequestHandler):
    """Answer the requests of one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Listener

    def log_message(self, *args: object) -> None:
        """Keep quiet; `BatchServer.requests_log` has it."""

    def do_GET(self) -> None:
        """Answer a GET."""
        self._serve("GET")

    def do_POST(self) -> None:
        """Answer a POST."""
        self._serve("POST")

    def do_DELETE(self) -> None:
        """Answer a DELETE."""
        self._serve("DELETE")

    def _serve(self, method: str) -> None:
        self.owner, self.service = self.server.owner, self.server.owner.service
        url = urlsplit(self.path)
        self.query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        self.route, self.args = _find(method, url.path)
        nbytes = int(self.headers.get("Content-Length") or 0)
        self.body = Upstream(self.rfile.read, nbytes, lambda: self._meet("half"))
        self.owner.requests_log.append(self.route)
        try:
            try:
                self._meet("asked")
                result = self._act()
                self.body.drain()
                self._meet("done")
                if isinstance(result, StoredFile):
                    self._send_content(result.content)
                else:
                    self._send(200, result)
            except Raw as raw:
                self.body.drain()
                self._send_bytes(raw.status, raw.data, {"Content-Type": raw.kind})
            except Refusal as refusal:
                self.body.drain()
                self._send(refusal.status, refusal.body, refusal.headers)
            self._meet("answered")
        except (Drop, OSError):
            self.close_connection = True

    def _meet(self, moment: Moment) -> None:
        self.owner.meet(self.route, moment)

    def _act(self) -> Body | StoredFile:
        key = self.service.settings.key
        if key is not None and self.headers.get("Authorization") != f"Bearer {key}":
            raise Refusal(401, "Incorrect API key provided.", code="invalid_api_key")
        actions: dict[str, Callable[..., Body | StoredFile]] = {
            "POST /files": self._upload,
            "GET /files": self._list_files,
            "GET /files/{id}": lambda i: self.service.file(i).shown(self.service.settings),
            "GET /files/{id}/content": self.service.file,
            "DELETE /files/{id}": self._delete,
            "POST /batches": self._create,
            "GET /batches": self._list_batches,
            "GET /batches/{id}": lambda i: self.service.retrieve(self.service.batch(i)),
            "POST /batches/{id}/cancel": lambda i: self.service.cancel(self.service.batch(i)),
            "GET /models": self._list_models,
        }
        if self.route in actions:
            return actions[self.route](*self.args)
        if self.route in ROUTES:
            return self._answer()
        raise Refusal(404, f"Invalid URL ({self.route})")

    def _json(self) -> Body:
        try:
            body = json.loads(self.body.all())
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise Refusal(400, "We could not parse the JSON body of your request.")
        return body

    def _upload(self) -> Body:
        found = re.search(r'boundary="?([^";]+)', self.headers.get("Content-Type", ""))
        if found is None:
            raise Refusal(400, "The body must be multipart/form-data.")
        fields: dict[str, str] = {}
        path, digest = self.service.new_path(), hashlib.sha256()
        for header, blocks in parts(self.body.read, found[1].encode()):
            name = re.search(r'\bname="([^"]*)"', header)
            filename = re.search(r'\bfilename="([^"]*)"', header)
            if filename is None:
                fields[name[1] if name else ""] = b"".join(blocks).decode()
                continue
            fields["filename"] = filename[1]
            with path.open("wb") as file:
                for block in blocks:
                    file.write(block)
                    digest.update(block)
        expiry = {key: value for key, value in fields.items() if key.startswith("expires_after")}
        if expiry and not self.service.settings.expiring_uploads:
            raise Refusal(400, "Unknown parameter: 'expires_after'.", param="expires_after")
        for key in ("filename", "purpose"):
            if key not in fields:
                param = "file" if key == "filename" else key
                raise Refusal(400, f"'{param}' is a required property", param=param)
        stored = self.service.take_file(
            path, fields["filename"], fields["purpose"], digest.hexdigest()
        )
        stored.expires_after = expiry
        return stored.shown(self.service.settings)

    def _create(self) -> Body:
        return self.service.create(self._json()).shown(self.service.settings)

    def _delete(self, file_id: str) -> Body:
        self.service.delete(file_id)
        return {"id": file_id, "object": "file", "deleted": True}

    def _list_files(self) -> Body:
        purpose = self.query.get("purpose")
        files = [file.shown(self.service.settings) for file in self.service.present_files()]
        return self._page(
            [file for file in files if purpose in (None, file["purpose"])], 10_000, 10_000
        )

    def _list_batches(self) -> Body:
        settings = self.service.settings
        return self._page([batch.shown(settings) for batch in self.service.listed()], 20, 100)

    def _list_models(self) -> Body:
        models = self.service.settings.models or ["test-model"]
        return self._page(
            [{"id": model, "object": "model", "created": 0} for model in models], 100, 100
        )

    def _page(self, objects: list[Body], usual: int, most: int) -> Body:
        limit = int(self.query.get("limit", usual))
        if not 1 <= limit <= most:
            raise Refusal(400, f"Invalid 'limit': expected 1 to {most}.", param="limit")
        after = self.query.get("after")
        ids = [found["id"] for found in objects]
        if after is not None and after not in ids:
            raise Refusal(400, f"Invalid 'after': no such object '{after}'.", param="after")
        start = 0 if after is None else ids.index(after) + 1
        page = objects[start : start + limit]
        return {
            "object": "list",
            "data": page,
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
            "has_more": start + limit < len(objects),
        }

    def _answer(self) -> Body:
        body = self._json()
        self.owner.bodies.append(body)
        status, answer = self.service.respond(urlsplit(self.path).path, body)
        if status == 0:
            raise Drop
        if status != 200:
            refusal = Refusal(status, "")
            refusal.body = answer
            raise refusal
        return dict(answer)

    def _send(self, status: int, body: Body, headers: dict[str, str] | None = None) -> None:
        headers = {"Content-Type": "application/json", **(headers or {})}
        data = json.dumps(body).encode()
        if change := self.owner.change_of(self.route, self.args):
            status, data = change(status, data)
        self._send_bytes(status, data, headers)

    def _send_bytes(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        if organization := self.service.settings.organization:
            self.send_header("openai-organization", organization)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _send_content(self, content: OnDisk | Repeated) -> None:
        if change := self.owner.change_of(self.route, self.args):
            self._send_bytes(*change(200, b"".join(content.blocks(0))), {})
            return
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked and self.service.settings.ranges else 0
        whole = content.nbytes
        if start and start >= whole:
            raise Refusal(416, "The range begins after the end.")
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(whole - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        self.end_headers()
        left, half = whole - start, (whole - start) // 2
        for block in content.blocks(start):
            if left > half >= left - len(block):
                self.wfile.write(block[: left - half])
                self._meet("half")
                self.wfile.write(block[left - half :])
            else:
                self.wfile.write(block)
            left -= len(block)


def _find(method: str, path: str) -> tuple[str, tuple[str, ...]]:
    """Find the route of a request, or call it by its own path."""
    for route, pattern in ROUTES.items():
        found = re.fullmatch(pattern, path)
        if found and route.startswith(f"{method} "):
            return route, found.groups()
    return f"{method} {path}", ()
