"""Screen: writes bytes to a reader that may be slow, stop or go away."""

from __future__ import annotations

import os
import select
import stat
from typing import TextIO

from ttasks import sync

_SLICE_SECONDS = 0.1  # how long a wait for the reader may overlook that it is to end
_TO_FILE_BYTES = 1 << 20


class Screen:
    """Where a console writes to. Used by one thread, but for ``stop`` and the attributes.

    A real file is written through a descriptor of its own, so that nothing of ``sys`` is locked
    meanwhile, and no other file is hit if the program closes its own. Of a terminal it opens
    another one, which can be told never to block without doing that to other programs. Before it
    writes to a pipe it waits until that takes something, and gives it no more than it then takes.

    Attributes:
        gone: True once nobody reads any more; whatever is written then is dropped.
        written: bytes so far.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.gone = stream is None
        self.written = 0
        self._stopped = False
        self._stream = stream
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._fd: int | None = None
        self._poll: select.poll | None = None
        self._piece = _TO_FILE_BYTES
        if stream is None:
            return
        try:
            stream.flush()
            self._fd = _own_descriptor(stream.fileno())
        except Exception:  # StringIO, a test's capture, closed, or a class of the user's
            self.gone = bool(getattr(stream, "closed", False))
            return
        if not stat.S_ISREG(os.fstat(self._fd).st_mode) and hasattr(select, "poll"):
            self._poll = select.poll()
            self._poll.register(self._fd, select.POLLOUT)
            self._piece = select.PIPE_BUF

    def write(self, text: str) -> None:
        """Write all of a text, however long that takes, until somebody calls ``stop``."""
        if self.gone or self._stream is None or not text:
            return
        try:
            if self._fd is None:
                self._write_to(self._stream, text)
            else:
                self._write(self._fd, memoryview(text.encode(self._encoding, "replace")))
        except BaseException:  # nobody reads, it is closed, or a class of the user's has failed
            self.gone = True

    def _write_to(self, stream: TextIO, text: str) -> None:
        """Write to a stream without a descriptor, with ``?`` for what it cannot encode."""
        try:
            stream.write(text)
        except UnicodeEncodeError:
            try:
                stream.write(_encodable(text, self._encoding))
            except UnicodeEncodeError:  # it does not say what it encodes to
                stream.write(_encodable(text, "ascii"))
        stream.flush()
        self.written += len(text)

    def _write(self, fd: int, rest: memoryview) -> None:
        while rest and not self._stopped:
            if self._poll is not None and not self._poll.poll(_SLICE_SECONDS * 1000):
                continue
            try:
                size = os.write(fd, rest[: self._piece])
            except BlockingIOError:
                sync.sleep(_SLICE_SECONDS / 10)
                continue
            self.written += size
            rest = rest[size:]

    def size(self) -> tuple[int, int]:
        """Columns and rows of the terminal; 80 x 24 if it does not say."""
        try:
            columns, rows = os.get_terminal_size(self._fd if self._fd is not None else -1)
        except OSError:
            columns, rows = 0, 0
        return columns or 80, rows or 24

    def stop(self) -> None:
        """Give up: from now on nothing is waited for. Callable from any thread."""
        self._stopped = self.gone = True

    def close(self) -> None:
        """Let go of the file. By the thread that writes, or when that is gone."""
        self.gone = True
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


def _own_descriptor(fd: int) -> int:
    """Another descriptor of the same file; of a terminal one that does not block."""
    if os.isatty(fd):
        try:
            return os.open(os.ttyname(fd), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
        except (AttributeError, OSError):  # of somebody else, without a name, or on Windows
            pass
    return os.dup(fd)


def _encodable(text: str, encoding: str) -> str:
    return text.encode(encoding, "replace").decode(encoding)
