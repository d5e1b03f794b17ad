"""Reports: progress and output of a handler, on their way to journal and subscribers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ttasks import sync
from ttasks.model.context import CHUNK_LIMIT, PRINTS
from ttasks.model.event import TaskEventType, make_event

if TYPE_CHECKING:
    from ttasks.engine.recorder import Recorder
    from ttasks.model.redact import Redactor
    from ttasks.model.run import Run
    from ttasks.model.task import Task

EMIT_PATIENCE = 10.0
"""Seconds that the end of an attempt waits for reports that are being delivered. Only a subscriber
that takes longer can see that end before its report has been delivered."""


class Reports:
    """The reports of one attempt: a `ttasks.model.context.Reporter`. Thread-safe.

    No report begins after `close`, and `close` waits for those that have begun. So nothing is
    announced after the last event of the attempt.

    Attributes:
        latest: percentage and message of the last progress.
    """

    def __init__(
        self,
        recorder: Recorder,
        redactor: Redactor | None,
        task: Task,
        number: int,
        run: Run | None = None,
        *,
        is_open: bool = True,
    ) -> None:
        self._recorder = recorder
        self._redactor = redactor
        self._task = task
        self._number = number
        self._run = run
        self.latest: tuple[float | None, str | None] = (None, None)
        # Owns the fields below; it is not held while subscribers run.
        self._lock = sync.Lock()
        self._emitting = 0  # reports that are being delivered
        self._closed = not is_open
        self._drained: sync.Event | None = None
        self._emitted: dict[str, list[str]] | None = None
        self._streams: dict[str, Any] | None = None
        self._shown: Task | None = None  # what events show of the task

    def progress(self, percent: float | None, message: str | None) -> None:
        """See `ttasks.model.context.Reporter`."""
        if not self._enter():
            return
        try:
            if message is not None and self._redactor is not None:
                message = self._redactor.text(message)
            self.latest = percent, message
            if self._recorder.wants(TaskEventType.PROGRESS):
                self._publish(
                    TaskEventType.PROGRESS, progress_percent=percent, progress_message=message
                )
        finally:
            self._exit()

    def output(self, stream: str, text: str) -> None:
        """See `ttasks.model.context.Reporter`."""
        if not self._enter():
            return
        try:
            if self._redactor is not None:
                with self._lock:
                    if self._streams is None:
                        self._streams = {}
                    if stream not in self._streams:
                        self._streams[stream] = self._redactor.stream()
                    text = self._streams[stream].feed(text)
            self._emit(stream, text)
        finally:
            self._exit()

    def sink(self, stream: str) -> Callable[[str], None] | None:
        """See `ttasks.model.context.Reporter`."""
        if not self._recorder.wants(TaskEventType.OUTPUT):
            return None

        def announce(chunk: str) -> None:
            if self._enter():
                try:
                    self._publish(TaskEventType.OUTPUT, output_stream=stream, output_chunk=chunk)
                finally:
                    self._exit()

        return announce

    def transition(self, announce: Callable[[], None]) -> None:
        """Announce something else of the attempt, unless that has ended."""
        if not self._enter():
            return
        token = PRINTS.set(None)
        try:
            announce()
        finally:
            PRINTS.reset(token)
            self._exit()

    def _enter(self) -> bool:
        """Begin a report; False if the attempt has ended. `_exit` follows."""
        with self._lock:
            if self._closed:
                return False
            self._emitting += 1
            return True

    def _exit(self) -> None:
        """End a report."""
        with self._lock:
            self._emitting -= 1
            if self._drained is not None and not self._emitting:
                self._drained.set()

    def close(self) -> None:
        """Accept no more reports, wait for those under way, and deliver what was held back."""
        with self._lock:
            self._closed = True
            if self._emitting:
                self._drained = sync.Event()
        if self._drained is not None:
            self._drained.wait(EMIT_PATIENCE)
        if self._streams is None:
            return
        for stream, filtered in self._streams.items():
            self._emit(stream, filtered.finish())

    def texts(self) -> dict[str, str] | None:
        """What was emitted, by stream; None if nothing was."""
        if self._emitted is None:
            return None
        return {stream: "".join(chunks) for stream, chunks in self._emitted.items()}

    def _emit(self, stream: str, text: str) -> None:
        if not text:
            return
        with self._lock:
            if self._emitted is None:
                self._emitted = {}
            self._emitted.setdefault(stream, []).append(text)
        if self._recorder.wants(TaskEventType.OUTPUT):
            for piece in pieces(text):
                self._publish(TaskEventType.OUTPUT, output_stream=stream, output_chunk=piece)

    def _publish(self, kind: TaskEventType, **fields: Any) -> None:
        status = self._task.status
        if self._shown is None:
            self._shown = self._recorder.shown(self._task)
        event = make_event(
            kind,
            self._task.id,
            self._shown,
            datetime.now(UTC),
            status,
            status,
            attempt=self._number,
            run=self._run,
            **fields,
        )
        token = PRINTS.set(None)  # what subscribers print is not the task's
        try:
            self._recorder.report(event)
        finally:
            PRINTS.reset(token)


def pieces(text: str) -> list[str]:
    """Cut text into pieces of at most ``CHUNK_LIMIT`` bytes of UTF-8, after newlines if possible.

    Joined, they are the text again.
    """
    if len(text) * 4 <= CHUNK_LIMIT:
        return [text]
    found = []
    longest = CHUNK_LIMIT // 4  # characters: none takes more than four bytes
    at = 0
    while at < len(text):
        end = at + longest
        if end < len(text):
            newline = text.rfind("\n", at, end)
            if newline >= 0:
                end = newline + 1
        found.append(text[at:end])
        at = end
    return found
