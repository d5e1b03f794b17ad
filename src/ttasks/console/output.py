"""Output of tasks: whole lines, the last lines, and lines that wait for their turn."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Iterator
from typing import IO

TAIL_LINES = 40
LONGEST_LINE = 256 * 1024
"""The length at which an unfinished line counts as whole, which bounds memory."""

_IN_MEMORY = 64 * 1024  # characters of one task
_IN_MEMORY_TOGETHER = 16 * 1024 * 1024
_READ = 64 * 1024


class Lines:
    """The output of one attempt, from pieces to lines.

    Attributes:
        tail: the last lines of all streams, in the order in which they came.
    """

    __slots__ = ("_rest", "tail")

    def __init__(self) -> None:
        self._rest: dict[str, str] = {}
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)

    def feed(self, stream: str, chunk: str) -> list[str]:
        """Take a piece of a stream; return the lines that it completes."""
        lines = (self._rest.pop(stream, "") + chunk).split("\n")
        self._keep(stream, lines)
        self.tail.extend(lines)
        return lines

    def skim(self, stream: str, chunk: str) -> None:
        """Take a piece of a stream of which only the tail is wanted."""
        lines = (self._rest.pop(stream, "") + chunk).rsplit("\n", TAIL_LINES + 1)
        if len(lines) > TAIL_LINES + 1:
            lines = lines[1:]  # it holds all that came before
        self._keep(stream, lines)
        self.tail.extend(lines)

    def _keep(self, stream: str, lines: list[str]) -> None:
        """Take the last line away again, if it may go on."""
        if len(lines[-1]) <= LONGEST_LINE:
            rest = lines.pop()
            if rest:
                self._rest[stream] = rest

    def finish(self) -> list[str]:
        """The streams have ended; return what was not yet a line."""
        lines = list(self._rest.values())
        self._rest.clear()
        self.tail.extend(lines)
        return lines

    def last(self) -> str:
        """The latest line, also an unfinished one; empty if there is none."""
        for rest in self._rest.values():
            return rest
        return self.tail[-1] if self.tail else ""


class Shelf:
    """Keeps lines of tasks that are not to be shown yet: the first in memory, the rest on disk.

    One file without a name serves all tasks, so that any number of them may wait.
    """

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._end = 0
        self._size = 0  # characters in memory
        self._in_memory: dict[str, list[str]] = {}
        self._sizes: dict[str, int] = {}
        self._on_disk: dict[str, list[tuple[int, int]]] = {}  # begin and end
        self._lost: dict[str, int] = {}
        self._being_read = 0  # pieces of the file

    def put(self, name: str, lines: list[str]) -> None:
        """Keep lines under a name, behind those that are there."""
        text = "".join([f"{line}\n" for line in lines])
        self._in_memory.setdefault(name, []).append(text)
        size = self._sizes[name] = self._sizes.get(name, 0) + len(text)
        self._size += len(text)
        if size > _IN_MEMORY or self._size > _IN_MEMORY_TOGETHER:
            self._write(name)

    def _write(self, name: str) -> None:
        """Move what a name has in memory to disk."""
        text = "".join(self._in_memory.pop(name, ()))
        self._size -= self._sizes.pop(name, 0)
        data = text.encode("utf-8", "surrogatepass")
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 closed by `close`
            self._file.seek(self._end)
            self._file.write(data)
        except OSError:  # the disk is full: the lines are in the log files and in the result
            self._lost[name] = self._lost.get(name, 0) + text.count("\n")
            return
        self._on_disk.setdefault(name, []).append((self._end, self._end + len(data)))
        self._end += len(data)

    def take(self, name: str) -> Iterator[list[str]]:
        """The lines that are kept under a name, in pieces, read one by one; they are forgotten.

        Other calls may come before all of it is read.
        """
        on_disk = self._on_disk.pop(name, [])
        in_memory = self._in_memory.pop(name, [])
        lost = self._lost.pop(name, 0)
        self._size -= self._sizes.pop(name, 0)
        self._being_read += len(on_disk)
        return self._read(on_disk, in_memory, lost)

    def _read(
        self, on_disk: list[tuple[int, int]], in_memory: list[str], lost: int
    ) -> Iterator[list[str]]:
        rest = b""
        for begin, end in on_disk:
            while begin < end:
                assert self._file is not None
                self._file.seek(begin)
                data = self._file.read(min(_READ, end - begin))
                begin += len(data)
                whole, newline, rest = (rest + data).rpartition(b"\n")
                if newline:
                    yield whole.decode("utf-8", "surrogatepass").split("\n")
            self._being_read -= 1
        for text in in_memory:
            yield text[:-1].split("\n")
        if lost:
            yield [f"({lost:,} lines are missing here: the disk was full)"]
        if self._file is not None and not self._on_disk and not self._being_read:
            self._file.truncate(0)
            self._end = 0

    def has(self, name: str) -> bool:
        """True if something is kept under a name."""
        return name in self._in_memory or name in self._on_disk or name in self._lost

    def close(self) -> None:
        """Forget everything."""
        if self._file is not None:
            self._file.close()
            self._file = None
