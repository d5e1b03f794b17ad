"""Reports: what a handler reports while it works, on its way to journal and subscribers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from threading import Event, Lock
from typing import TYPE_CHECKING, Any

from ttasks.model.context import CHUNK_LIMIT
from ttasks.model.event import TaskEventType, make_event

if TYPE_CHECKING:
    from ttasks.engine.recorder import Recorder
    from ttasks.model.redact import Redactor
    from ttasks.model.task import Task

EMIT_PATIENCE = 1.0
"""Seconds that the end of an attempt waits for a report of it that is just being delivered."""


class Reports:
    """The reporting half of an attempt: a `ttasks.model.context.Reporter`. Thread-safe.

    Its lock owns ``_closed`` and ``_emitting``: no report starts once the attempt is closed, and
    the end waits for those that have started, so that nothing is announced after the last event.
    The lock is not held while subscribers run.
    """

    # What most attempts never change is kept by the class.
    _closed = False
    _emitting = 0
    _drained: Event | None = None
    _emitted: dict[str, list[str]] | None = None
    _streams: dict[str, Any] | None = None
    _shown: Task | None = None  # what events show of the task

    _lock: Lock
    _task: Task
    _recorder: Recorder
    _redactor: Redactor | None
    number: int

    def progress(self, percent: float | None, message: str | None) -> None:
        """See `ttasks.model.context.Reporter`."""
        if not self._recorder.wants(TaskEventType.PROGRESS) or not self._enter():
            return
        try:
            if message is not None and self._redactor is not None:
                message = self._redactor.text(message)
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
        self._recorder.report(
            make_event(
                kind,
                self._task.id,
                self._shown,
                datetime.now(UTC),
                status,
                status,
                attempt=self.number,
                **fields,
            )
        )

    def _enter(self) -> bool:
        with self._lock:
            if self._closed:
                return False
            self._emitting += 1
            return True

    def _exit(self) -> None:
        with self._lock:
            self._emitting -= 1
            if self._drained is not None and not self._emitting:
                self._drained.set()

    def _close(self) -> None:
        """Let no report start any more, wait for those under way, deliver what was held back."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._emitting:
                self._drained = Event()
        if self._drained is not None:
            self._drained.wait(EMIT_PATIENCE)
        for stream, filtered in (self._streams or {}).items():
            self._emit(stream, filtered.finish())

    def _emitted_text(self) -> dict[str, str] | None:
        """What was emitted, by stream; None if nothing was."""
        if self._emitted is None:
            return None
        return {stream: "".join(chunks) for stream, chunks in self._emitted.items()}


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
