"""Digests: those of the content of files, remembered so that unchanged files are not read again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from time import time_ns

RESOLUTION_NS = 2_000_000_000
"""The coarsest clock of a file system: that of FAT. A file that was changed within this time before
it is read may be changed again without getting another time."""

MOST = 200_000
"""Files that are remembered in a file; above that, only those that were asked for."""

SUFFIX = ".digests"

_VERSION = 1
_CHUNK_BYTES = 1024 * 1024

Entry = tuple[int, int, int, int, int, str]
"""Device, inode, size, times of the last change of content and of attributes, and the digest."""


class Digests:
    """The digests of files. Thread-safe: each operation on its dict is atomic.

    A digest is believed as long as the file has the same device, inode, size and times. It is only
    remembered if both times had long passed when the file was read: of a file that was changed just
    now, a later change could have the same time. Times can be set (``touch -d``), but not that of
    the last change of attributes.

    Args:
        path: of the file that keeps them; None keeps them in memory. A file that is missing or
            damaged is an empty one: every file is then read again.
        now: nanoseconds since 1970, by the clock of the file system.
    """

    def __init__(self, path: str | None = None, now: Callable[[], int] = time_ns) -> None:
        self._path = path
        self._now = now
        self._known: dict[str, Entry] | None = None
        self._used: set[str] = set()
        self._is_new = False

    def of(self, path: str, found: os.stat_result) -> str:
        """The digest of the content of a file, and ``x`` if it may be executed.

        Args:
            path: absolute.
            found: its status, as of now.

        Raises:
            OSError: it cannot be read.
        """
        known = self._load() if self._known is None else self._known
        entry, mark = known.get(path), _mark(found)
        self._used.add(path)
        if entry is not None and entry[:5] == mark:
            digest = entry[5]
        else:
            digest = self._read(path, mark, known)
        return f"{digest}x" if found.st_mode & 0o111 else digest

    def _read(self, path: str, mark: tuple[int, ...], known: dict[str, Entry]) -> str:
        began = self._now()
        digest = blake2b(digest_size=16)
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
            after = _mark(os.fstat(file.fileno()))
        text = digest.hexdigest()
        *_, changed, touched = after
        if after == mark and max(changed, touched) + RESOLUTION_NS <= began:
            known[path] = (*after, text)
            self._is_new = True
        else:
            known.pop(path, None)
        return text

    def _load(self) -> dict[str, Entry]:
        known: dict[str, Entry] = {}
        if self._path is not None:
            with suppress(OSError, ValueError, TypeError, AttributeError):
                with open(self._path, "rb") as file:
                    checksum, _, body = file.read().partition(b"\n")
                told = json.loads(body) if checksum == _checksum(body) else {}
                if told.get("version") == _VERSION:
                    known = {path: tuple(entry) for path, entry in told["files"].items()}
        self._known = known
        return known

    def keep(self) -> None:
        """Write what is new to the file. It is a cache: one that cannot be written does no harm."""
        if self._path is None or not self._is_new or self._known is None:
            return
        self._is_new = False
        known = self._known.copy()
        if len(known) > MOST:
            known = {path: entry for path, entry in known.items() if path in self._used}
        body = json.dumps({"version": _VERSION, "files": known}).encode()
        part = f"{self._path}.{os.urandom(4).hex()}"
        with suppress(OSError):
            try:
                with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    file.write(_checksum(body) + b"\n" + body)
                os.replace(part, self._path)
            except OSError:  # such as of a full disk
                os.unlink(part)


def _mark(found: os.stat_result) -> tuple[int, int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _checksum(body: bytes) -> bytes:
    return blake2b(body, digest_size=16).hexdigest().encode()
