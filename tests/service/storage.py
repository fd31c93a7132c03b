"""An object store that speaks S3: conditional puts, ranges, multipart, listings, and faults."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any, Literal, NamedTuple, Self
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape, unescape

__all__ = ["BUCKET", "Fault", "ObjectServer", "Stored"]


BUCKET = "lake"

PAGE = 1_000

Moment = Literal["asked", "done", "half"]
"""When a fault happens: before a request has an effect, after it, or in the middle of the reply."""

Fault = Callable[[str, str, Moment], int | None]
"""Return the status with which a request fails (0 drops the connection), or None for no fault.

It is called with the method, the key and the moment.
"""


class Stored(NamedTuple):
    """One object."""

    data: bytes
    tag: str
    modified: str


def no_fault(method: str, key: str, moment: Moment) -> int | None:
    """Let all requests succeed."""


class ObjectServer:
    """Keep the objects of one bucket in memory.

    Attributes:
        objects: The objects by their keys.
        counts: How many requests of each method there were.
        fault: Decides which requests fail, and how.
    """

    def __init__(self) -> None:
        self.objects: dict[str, Stored] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.counts: Counter[str] = Counter()
        self.fault: Fault = no_fault
        self.lock = threading.RLock()
        self.numbers = count(1)
        self._listener = _Listener(("127.0.0.1", 0), _Handler)
        self._listener.owner = self
        self._thread = threading.Thread(
            target=self._listener.serve_forever, args=(0.01,), daemon=True
        )

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables with which a client finds the store."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._listener.server_address[1]}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
        }

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._listener.shutdown()
        self._thread.join()
        self._listener.server_close()

    def put(self, key: str, data: bytes) -> Stored:
        """Store an object."""
        # No two of them are the same, as with times: a copy put back is not the first one.
        tag = f'"{hashlib.md5(data).hexdigest()}-{next(self.numbers)}"'
        self.objects[key] = Stored(data, tag, formatdate(usegmt=True))
        return self.objects[key]

    def names(self, folder: str = "") -> list[str]:
        """List the keys below a folder that are not in the record, without the folder."""
        keys = (key.removeprefix(folder) for key in self.objects if key.startswith(folder))
        return sorted(key for key in keys if not key.startswith(".batch_frames/"))


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    owner: ObjectServer


class _Failed(Exception):  # noqa: N818
    """Reply with a status."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""

    def _do(self) -> None:
        owner = self.server.owner  # type: ignore[attr-defined]
        parts = urlsplit(self.path)
        self._query = {k: v[0] for k, v in parse_qs(parts.query, keep_blank_values=True).items()}
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with owner.lock:
            owner.counts[self.command] += 1
        if self._fail(owner.fault(self.command, key, "asked")):
            return
        try:
            if bucket != BUCKET:
                raise _Failed(404, "NoSuchBucket")
            with owner.lock:
                status, headers, data = getattr(self, f"_{self.command.lower()}")(owner, key, body)
        except _Failed as error:
            data = f"<Error><Code>{error.code}</Code><Message>{error.code}</Message></Error>"
            status, headers, data = error.status, {}, data.encode()
        if self._fail(owner.fault(self.command, key, "done")):
            return
        is_half = owner.fault(self.command, key, "half") is not None
        self._answer(status, headers, data, len(data) // 2 if is_half else None)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _do  # noqa: N815

    def _fail(self, status: int | None) -> bool:
        if status == 0:
            self.close_connection = True
        elif status:
            self._answer(status, {}, b"<Error><Code>InternalError</Code></Error>")
        return status is not None

    def _answer(
        self, status: int, headers: dict[str, str], data: bytes, cut: int | None = None
    ) -> None:
        with suppress(OSError):
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(data))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data[:cut])
        self.close_connection |= cut is not None

    def _get(self, owner: ObjectServer, key: str, _: bytes) -> tuple[int, dict[str, str], bytes]:
        if not key:
            return 200, {"Content-Type": "application/xml"}, self._listing(owner)
        found = self._existing(owner, key)
        if self.headers.get("If-Match", found.tag) != found.tag:
            raise _Failed(412, "PreconditionFailed")
        headers = {"ETag": found.tag, "Last-Modified": found.modified, "Accept-Ranges": "bytes"}
        if not (asked := re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))):
            return 200, headers, found.data
        size = len(found.data)
        start = int(asked[1]) if asked[1] else max(size - int(asked[2]), 0)
        stop = min(int(asked[2]) + 1, size) if asked[1] and asked[2] else size
        if start >= size:
            raise _Failed(416, "InvalidRange")
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        return 206, headers, found.data[start:stop]

    def _head(self, owner: ObjectServer, key: str, _: bytes) -> tuple[int, dict[str, str], bytes]:
        found = self._existing(owner, key)
        headers = {"ETag": found.tag, "Last-Modified": found.modified}
        return 200, headers | {"Content-Length": str(len(found.data))}, b""

    def _put(self, owner: ObjectServer, key: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if "uploadId" in self._query:
            if (parts := owner.uploads.get(self._query["uploadId"])) is None:
                raise _Failed(404, "NoSuchUpload")
            parts[int(self._query["partNumber"])] = body
            return 200, {"ETag": f'"{hashlib.md5(body).hexdigest()}"'}, b""
        if source := self.headers.get("x-amz-copy-source"):
            _, _, name = unquote(source).lstrip("/").partition("/")
            stored = owner.put(key, self._existing(owner, name).data)
            result = f"<ETag>{escape(stored.tag)}</ETag>"
            return 200, {}, f"<CopyObjectResult>{result}</CopyObjectResult>".encode()
        self._check(owner, key)
        return 200, {"ETag": owner.put(key, body).tag}, b""

    def _check(self, owner: ObjectServer, key: str) -> None:
        found, wanted = owner.objects.get(key), self.headers.get("If-Match")
        if self.headers.get("If-None-Match") == "*" and found:
            raise _Failed(412, "PreconditionFailed")
        if wanted and not found:
            raise _Failed(404, "NoSuchKey")
        if wanted and found and wanted != found.tag:
            raise _Failed(412, "PreconditionFailed")

    def _post(
        self, owner: ObjectServer, key: str, body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        if "uploads" in self._query:
            name = f"upload-{next(owner.numbers)}"
            owner.uploads[name] = {}
            result = f"<Bucket>{BUCKET}</Bucket><Key>{escape(key)}</Key><UploadId>{name}</UploadId>"
            tag = "InitiateMultipartUploadResult"
        elif "uploadId" in self._query:
            self._check(owner, key)
            if (parts := owner.uploads.pop(self._query["uploadId"], None)) is None:
                raise _Failed(404, "NoSuchUpload")
            stored = owner.put(key, b"".join(parts[number] for number in sorted(parts)))
            tag, result = "CompleteMultipartUploadResult", f"<ETag>{escape(stored.tag)}</ETag>"
        else:
            names = re.findall(r"<Key>(.*?)</Key>", body.decode())
            for name in names:
                owner.objects.pop(unescape(name), None)
            deleted = (f"<Deleted><Key>{name}</Key></Deleted>" for name in names)
            tag, result = "DeleteResult", "".join(deleted)
        return 200, {"Content-Type": "application/xml"}, f"<{tag}>{result}</{tag}>".encode()

    def _delete(self, owner: ObjectServer, key: str, _: bytes) -> tuple[int, dict[str, str], bytes]:
        if "uploadId" in self._query:
            owner.uploads.pop(self._query["uploadId"], None)
        else:
            owner.objects.pop(key, None)
        return 204, {}, b""

    def _existing(self, owner: ObjectServer, key: str) -> Stored:
        if key not in owner.objects:
            raise _Failed(404, "NoSuchKey")
        return owner.objects[key]

    def _listing(self, owner: ObjectServer) -> bytes:
        prefix, delimiter = self._query.get("prefix", ""), self._query.get("delimiter", "")
        after = self._query.get("continuation-token", self._query.get("start-after", ""))
        most = min(int(self._query.get("max-keys", PAGE)), PAGE)
        entries: dict[str, str] = {}
        for key, found in sorted(owner.objects.items()):
            rest = key.removeprefix(prefix)
            if not key.startswith(prefix):
                continue
            if delimiter and delimiter in rest:
                name = prefix + rest.partition(delimiter)[0] + delimiter
                entries[name] = f"<Prefix>{escape(name)}</Prefix>"
            else:
                entries[key] = (
                    f"<Key>{escape(key)}</Key><Size>{len(found.data)}</Size>"
                    "<LastModified>2026-01-01T00:00:00.000Z</LastModified>"
                    f"<ETag>{escape(found.tag)}</ETag>"
                )
        left = [name for name in sorted(entries) if name > after]
        page = left[:most]
        kinds = (
            "CommonPrefixes" if e.startswith("<Prefix>") else "Contents"
            for e in (entries[name] for name in page)
        )
        listed = "".join(
            f"<{kind}>{entries[name]}</{kind}>" for kind, name in zip(kinds, page, strict=True)
        )
        more = (
            f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>"
            if left[most:]
            else ""
        )
        cut = f"<IsTruncated>{str(bool(more)).lower()}</IsTruncated>"
        head = f"<Name>{BUCKET}</Name><KeyCount>{len(page)}</KeyCount>"
        return f"<ListBucketResult>{head}{cut}{more}{listed}</ListBucketResult>".encode()
