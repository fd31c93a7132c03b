"""Take URLs of object storage as paths, whose files and folders are objects and their prefixes."""

from __future__ import annotations

import errno
import fnmatch
import io
import os
import re
import secrets
import stat
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any, TypeVar

import pyarrow as pa

from batch_frames.errors import BatchFramesError, MissingExtra

if sys.platform == "win32":
    from pathlib import WindowsPath as LocalPath
else:
    from pathlib import PosixPath as LocalPath

__all__ = ["CloudPath", "arrow_source", "as_path", "open_stream"]


URL = re.compile(r"(s3|gs|az):/|[A-Za-z][A-Za-z0-9+.-]+://")
"""Also without the second slash, as a ``pathlib.Path`` of a URL has it."""

CODECS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".lz4": "lz4"}
LEAST, MOST = 1 << 18, 16 << 20
"""Sizes of the pieces in which a file is read: a small one first, as often that is enough."""

PAUSE, QUICK = 0.1, 5.0
T = TypeVar("T")

ASKED_MACHINE = re.compile("/latest/(api/token|meta-data)|/computeMetadata/|/metadata/identity")
NO_CREDENTIALS = "the environment has no credentials (AWS_…, GOOGLE_…, AZURE_…; not in ~/.aws)"
"""What is wrong where those of the machine are asked for, as on a server of the service."""


def as_path(path: str | os.PathLike[str]) -> Path:
    """Return a path on disk, or in object storage if it is a URL.

    Raises:
        BatchFramesError: If it is another URL, or one without a bucket.
        MissingExtra: If obstore is not installed.
    """
    text = os.fspath(path)
    if isinstance(path, CloudPath) or not (found := URL.match(text)):
        return path if isinstance(path, Path) else Path(text)
    if not found[1]:
        problem = f"'{text}' is a URL that cannot be read or written"
        raise BatchFramesError(problem, hint="pass a path, or a URL of s3://, gs:// or az://")
    cloud = CloudPath(text)
    if len(cloud.parts) < 2:
        raise BatchFramesError(f"'{text}' names no bucket", hint="as in 's3://bucket/out.jsonl'")
    open_bucket(str(cloud.bucket))
    return cloud


@cache
def open_bucket(root: str) -> Any:
    """Open a bucket, by what the environment says of its address and keys."""
    try:
        from obstore.store import from_url
    except ImportError:
        hint = "install it with pip install 'batch-frames[cloud]'"
        raise MissingExtra(f"'{root}' needs obstore", hint=hint) from None
    with _named(root):
        return from_url(root)


@contextmanager
def _named(path: object) -> Iterator[None]:
    """Raise what object storage says as errors of the system, in one line and with the object."""
    from obstore import exceptions as said

    try:
        yield
    except FileNotFoundError:
        raise OSError(errno.ENOENT, "no such object", str(path)) from None
    except (said.AlreadyExistsError, said.PreconditionError):
        raise OSError(errno.EEXIST, "there is another such object", str(path)) from None
    except (OSError, said.BaseError) as error:
        is_refused = isinstance(error, (said.PermissionDeniedError, said.UnauthenticatedError))
        number, problem = errno.EACCES if is_refused else errno.EIO, str(error).partition("\n")[0]
        if ASKED_MACHINE.search(problem):
            number, problem = errno.EACCES, NO_CREDENTIALS
        raise OSError(number, problem, str(path)) from None


class CloudPath(LocalPath):
    """A path in object storage, with what this package needs of a path on disk.

    A folder is there once it has a file, and need not be made. A file appears once it is whole,
    also in the place of another.
    """

    def __str__(self) -> str:
        return "//".join([*self.parts[:1], "/".join(self.parts[1:])])

    __fspath__ = as_posix = __str__

    @property
    def bucket(self) -> CloudPath:
        """The bucket, as a path."""
        return CloudPath(*self.parts[:2])

    @property
    def key(self) -> str:
        """The name of the object."""
        return "/".join(self.parts[2:])

    def _do(self, call: Callable[[Any], T], tries: int = 4) -> T:
        """Ask the bucket; what a broken connection has spoilt is asked again."""
        began = time.monotonic()
        try:
            with _named(self):
                return call(open_bucket(str(self.bucket)))
        except OSError as error:
            # Where the store is away, obstore itself has asked it for longer.
            if error.errno != errno.EIO or tries == 1 or time.monotonic() - began > QUICK:
                raise
        time.sleep(PAUSE)
        return self._do(call, tries - 1)

    def resolve(self, strict: bool = False) -> CloudPath:
        """Return the path itself."""
        return self

    absolute = resolve

    def meta(self) -> Any:
        """Return the facts of a file: its size, time and tag, which changes when it is replaced."""
        if not self.key:
            raise FileNotFoundError(errno.ENOENT, "no such object", str(self))
        return self._do(lambda bucket: bucket.head(self.key))

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Return the size and the time of a file, and a number made of its tag."""
        found, kinds = self.meta(), ("st_atime_ns", "st_mtime_ns", "st_ctime_ns")
        number = int.from_bytes(blake2b(found["e_tag"].encode(), digest_size=8).digest())
        at = int(found["last_modified"].timestamp())
        facts = (stat.S_IFREG, number, 0, 0, 0, 0, found["size"], at, at, at)
        return os.stat_result(facts, dict.fromkeys(kinds, at * 10**9))

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Return whether there is an object."""
        with suppress(FileNotFoundError):
            return bool(self.meta())
        return False

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Return whether there is anything in the folder."""
        return not self.key or self._do(lambda bucket: any(map(bool, bucket.list(self.key))))

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Return whether there is a file or a folder."""
        return self.is_file() or self.is_dir()

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Do nothing, as a folder needs no making."""

    def iterdir(self) -> Generator[CloudPath]:
        """Yield the files and folders in a folder."""
        found = self._do(lambda bucket: bucket.list_with_delimiter(self.key))
        keys = [*found["common_prefixes"], *(one["path"] for one in found["objects"])]
        yield from (self.bucket / key for key in keys)

    def _all(self) -> Iterator[CloudPath]:
        """Yield all that is below a folder, each folder once."""
        pages, seen = self._do(lambda bucket: list(bucket.list(self.key))), {self, *self.parents}
        for path in (self.bucket / one["path"] for page in pages for one in page):
            yield from (folder for folder in reversed(path.parents) if folder not in seen)
            seen.update(path.parents)
            yield path

    def glob(self, pattern: str, **options: Any) -> Iterator[CloudPath]:  # type: ignore[override]
        """Yield what matches a pattern, in which ``**`` stands for any folders."""
        parts = [part for part in pattern.split("/") if part]
        fixed = next((n for n, part in enumerate(parts) if re.search(r"[*?[]", part)), len(parts))
        base = self.joinpath(*parts[:fixed])
        found = base.iterdir() if len(parts) == fixed + 1 and parts[-1] != "**" else base._all()
        for path in found:
            if _match(path.parts[len(base.parts) :], parts[fixed:]):
                yield path

    def rglob(self, pattern: str, **options: Any) -> Iterator[CloudPath]:  # type: ignore[override]
        """Yield what matches a pattern in any folder below."""
        return self.glob(f"**/{pattern}")

    def open(self, mode: str = "r", *args: Any, **options: Any) -> IO[Any]:  # type: ignore[override]
        """Open a file for reading or writing bytes, or for reading text."""
        if mode in ("wb", "xb"):
            return _Writer(self)  # type: ignore[return-value]
        raw = io.BufferedReader(_Reader(self), LEAST)
        return raw if mode == "rb" else io.TextIOWrapper(raw, options.get("encoding"))

    def read_tagged(self, **options: Any) -> tuple[bytes, str]:
        """Return what a small file holds, or a part of one, and its tag."""

        def get(bucket: Any) -> tuple[bytes, str]:
            found = bucket.get(self.key, options=options)
            return bytes(found.bytes()), str(found.meta["e_tag"])

        return self._do(get)

    def read_bytes(self) -> bytes:
        """Return what a small file holds."""
        return self.read_tagged()[0]

    def put(self, data: bytes, tag: str | None) -> str | None:
        """Write a small file: a new one, in the place of the one with a tag, or of any (``"*"``).

        Of all who try, one does. Where a reply is lost, what the store holds tells who it was, so
        no two may write the same.

        Returns:
            Its new tag; None if it was not written.
        """
        mode: Any = "create" if tag is None else "overwrite" if tag == "*" else {"e_tag": tag}
        how = {"mode": mode, "use_multipart": False}
        try:
            return str(self._do(lambda bucket: bucket.put(self.key, data, **how))["e_tag"])
        except FileExistsError:
            with suppress(FileNotFoundError):
                held, new = self.read_tagged()
                return new if held == data else None
            return None

    def upload(self, file: IO[bytes]) -> None:
        """Write all that a file on disk holds."""
        file.flush()
        self._do(lambda bucket: bucket.put(self.key, Path(file.name)))

    def touch(self, mode: int = 0o666, exist_ok: bool = True) -> None:
        """Make a file, of all who try at the same time only one."""
        if not self.put(secrets.token_hex(16).encode(), None) and not exist_ok:
            raise FileExistsError(errno.EEXIST, "there is another such object", str(self))

    def replace(self, target: Any) -> CloudPath:
        """Give a file another name; killed in between, it has both."""
        other = CloudPath(target)
        self._do(lambda bucket: bucket.copy(self.key, other.key))
        self.unlink()
        return other

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove a file."""
        with suppress(*[FileNotFoundError] * missing_ok):
            self._do(lambda bucket: bucket.delete(self.key))


def _match(names: Sequence[str], patterns: Sequence[str]) -> bool:
    """Return whether the names of folders and of a file match the parts of a pattern."""
    if not patterns or not names:
        return not names and all(pattern == "**" for pattern in patterns)
    if patterns[0] == "**":
        return _match(names, patterns[1:]) or _match(names[1:], patterns)
    return fnmatch.fnmatchcase(names[0], patterns[0]) and _match(names[1:], patterns[1:])


class _Reader(io.RawIOBase):
    """Read an object in pieces, large ones where they follow each other."""

    def __init__(self, path: CloudPath) -> None:
        self.name = str(path)
        self._path = path
        found = path.meta()
        self._size, self._tag = found["size"], found["e_tag"]
        self._position = self._start = 0
        self._piece = memoryview(b"")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer).cast("B")
        if not self._start <= self._position < self._start + len(self._piece):
            self._fetch(len(target))
        piece = self._piece[self._position - self._start :][: len(target)]
        target[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def _fetch(self, least: int) -> None:
        """Read the piece that begins at the position."""
        follows = self._position == self._start + len(self._piece)
        least = max(least, MOST if follows and self._position else LEAST)
        self._start, self._piece = self._position, memoryview(b"")
        stop = min(self._position + least, self._size)
        if stop > self._position:
            part = {"range": (self._position, stop), "if_match": self._tag}
            self._piece = memoryview(self._path.read_tagged(**part)[0])


class _Writer(io.RawIOBase):
    """Write an object in parts, which appears at the end; not at all if it is not closed."""

    def __init__(self, path: CloudPath) -> None:
        from obstore import open_writer

        self.name = str(path)
        self._path, self._written = path, 0
        self._file: Any = open_writer(open_bucket(str(path.bucket)), path.key)

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, data: Any) -> int:
        with _named(self._path):
            self._file.write(data)
        self._written += (size := memoryview(data).nbytes)
        return size

    def close(self) -> None:
        if not self.closed:
            super().close()
            with _named(self._path):
                self._file.close()


def arrow_source(path: Path) -> Any:
    """Return what pyarrow reads a file from."""
    return path.open("rb") if isinstance(path, CloudPath) else path


def open_stream(path: Path) -> Any:
    """Open a file, plain or compressed, as a stream of Arrow's."""
    if not isinstance(path, CloudPath):
        return pa.input_stream(str(path), compression="detect")
    return pa.input_stream(pa.PythonFile(path.open("rb"), "r"), CODECS.get(path.suffix))
