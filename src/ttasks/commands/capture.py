"""What a command printed: bytes in, whole lines and the final text out.

Data flow of one stream::

    bytes -> [redaction filter] -> Capture (memory, or head + tail + spill file)
                                \\-> LineSplitter -> on_output, whole lines
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Protocol

CHUNK_BYTES = 64 * 1024
"""The most that is delivered to a listener at once."""


class TextFilter(Protocol):
    """Rewrites a text that comes in pieces, such as ``Redactor.stream()``."""

    def feed(self, text: str, /) -> str: ...

    def finish(self) -> str: ...


def decode(data: bytes | bytearray | memoryview) -> str:
    """UTF-8 with U+FFFD for what is none."""
    return str(data, "utf-8", "replace")


def character_end(data: bytes | bytearray | memoryview, at: int) -> int:
    """The last position up to ``at`` that does not split a UTF-8 character.

    Decoding both sides of it separately gives the same text as decoding the whole, also for bytes
    that are no UTF-8: a lead byte always begins something new, and no sequence has more than
    three bytes after its lead byte.
    """
    for back in range(1, min(3, at) + 1):
        byte = data[at - back]
        if byte < 0x80:
            return at
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return at - back if length > back else at
    return at


class LineSplitter:
    """Cut bytes as they come into texts of whole lines, at most ``CHUNK_BYTES`` long each.

    A line ends in a newline, or in a carriage return after the last newline that has come so far. A
    longer line comes in pieces; an unfinished last line when the stream is finished.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[str]:
        """Yield the texts that are complete now; must be exhausted before the next call."""
        if self._rest:
            data = self._rest + data
        view = memoryview(data)
        begin, end = 0, data.rfind(b"\n") + 1
        # What a progress bar writes ends in a carriage return, and must not wait for a newline.
        end = max(end, data.rfind(b"\r", end) + 1)
        while end - begin > CHUNK_BYTES or len(data) - max(begin, end) > CHUNK_BYTES:
            cut = data.rfind(b"\n", begin, begin + CHUNK_BYTES) + 1
            if not cut:
                cut = character_end(data, begin + CHUNK_BYTES)
            yield decode(view[begin:cut])
            begin = cut
        if end > begin:
            yield decode(view[begin:end])
            begin = end
        self._rest = data[begin:]

    def finish(self) -> Iterator[str]:
        """Yield the unfinished last line."""
        rest, self._rest = self._rest, b""
        if rest:
            yield decode(rest)


class Capture:
    """Keep the whole of a stream in memory.

    Decoded piece by piece: a command that prints faster than that is held up by its pipe, and no
    pass over all of it is left to do when its time is up but the joining.
    """

    truncated = False
    spill: str | None = None

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._rest = b""

    def add(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
            self._rest = b""
        cut = character_end(data, len(data))
        if cut < len(data):
            self._rest = data[cut:]
            data = data[:cut]
        self._parts.append(decode(data))

    def text(self) -> str:
        """The text of all; nothing may be added afterwards."""
        if self._rest:
            self._parts.append(decode(self._rest))
        parts, self._parts = self._parts, []
        return "".join(parts)

    def close(self) -> None:
        """Release what is held outside of memory."""

    def discard(self) -> None:
        """Nobody will get to know the result: remove what is on disk."""


class LimitedCapture(Capture):
    """Keep the first and last half of ``limit`` bytes in memory, the whole in a spill file.

    The file is made when the limit is passed, in the directory for temporary files, readable by
    its owner only; it belongs to the user, who deletes it. If it cannot be written, the command
    goes on, and the text says that the middle is lost, and why.
    """

    def __init__(self, name: str, limit: int) -> None:
        super().__init__()
        self._name = name
        self._limit = limit
        self._head = bytearray()
        self._tail: bytearray | None = None
        self._total = 0
        self._fd = -1
        self._trouble: str | None = None

    @property
    def truncated(self) -> bool:  # type: ignore[override]
        return self._tail is not None

    def add(self, data: bytes) -> None:
        self._total += len(data)
        if self._tail is None:
            self._head += data
            if self._total > self._limit:
                self._overflow()
            return
        self._write(data)
        self._tail += data
        # Cut now and then, not on every read: moving the tail costs its length.
        if len(self._tail) > self._limit + CHUNK_BYTES:
            self._cut_tail()

    def _overflow(self) -> None:
        try:
            self._fd, self.spill = open_spill(self._name)
        except OSError as error:
            self._trouble = str(error)
        self._write(self._head)
        keep = self._limit - self._limit // 2
        self._tail = self._head[keep:]
        del self._head[keep:]
        self._cut_tail()

    def _cut_tail(self) -> None:
        assert self._tail is not None
        surplus = len(self._tail) - self._limit // 2
        if surplus > 0:
            del self._tail[:surplus]

    def _write(self, data: bytes | bytearray) -> None:
        if self._fd < 0:
            return
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            # Half of a file that says it is the whole would mislead, and holds scarce space.
            self._trouble = str(error)
            self.discard()

    def discard(self) -> None:
        self.close()
        if self.spill is not None:
            with contextlib.suppress(OSError):
                os.unlink(self.spill)
        self.spill = None

    def text(self) -> str:
        if self._tail is None:
            return decode(self._head)
        self._cut_tail()
        head = self._head[: character_end(self._head, len(self._head))]
        tail = self._tail
        # Up to three bytes at the front may be the end of a character whose begin was cut off.
        skip = next((i for i, byte in enumerate(tail[:3]) if byte & 0xC0 != 0x80), 0)
        left_out = self._total - len(head) - (len(tail) - skip)
        where = (
            f"the whole is in {self.spill}"
            if self.spill is not None
            else f"they are lost: {self._trouble}"
        )
        glue = "" if head.endswith(b"\n") else "\n"
        marker = f"{glue}[... {left_out} bytes left out; {where} ...]\n"
        return decode(head) + marker + decode(tail[skip:])

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            with contextlib.suppress(OSError):
                os.close(fd)


def open_spill(name: str) -> tuple[int, str]:
    """Make an empty file for the whole of a stream: its descriptor and path."""
    # Imported when needed: it would cost every user of the library at start.
    import tempfile

    return tempfile.mkstemp(prefix="ttasks-", suffix=f".{name}")


class Stream:
    """One of a command's streams: takes bytes, keeps them, hands lines to the listener."""

    def __init__(
        self,
        name: str,
        *,
        limit: int | None = None,
        on_output: Callable[[str, str], None] | None = None,
        text_filter: TextFilter | None = None,
    ) -> None:
        self.name = name
        self.capture = Capture() if limit is None else LimitedCapture(name, limit)
        self.on_output = on_output
        self._filter = text_filter
        self._before = LineSplitter()
        self._lines = LineSplitter()

    def take(self, data: bytes) -> None:
        """Add what was read."""
        if self._filter is not None:
            feed = self._filter.feed
            data = "".join([feed(text) for text in self._before.feed(data)]).encode()
        self._keep(data)

    def _keep(self, data: bytes) -> None:
        self.capture.add(data)
        if self.on_output is not None:
            for text in self._lines.feed(data):
                self.on_output(self.name, text)

    def finish(self) -> str:
        """Deliver what was held back; returns the text of the whole."""
        if self._filter is not None:
            held = "".join([self._filter.feed(text) for text in self._before.finish()])
            self._keep((held + self._filter.finish()).encode())
            self._filter = None
        if self.on_output is not None:
            for text in self._lines.finish():
                self.on_output(self.name, text)
        self.capture.close()
        return self.capture.text()
