"""Mode ``jsonl``: every event as one JSON object on a line of its own."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ttasks.console.views import View
from ttasks.model.event import TaskEvent

if TYPE_CHECKING:
    from ttasks.console.rows import Row, Section
    from ttasks.model.facts import RunFacts
    from ttasks.model.store import Store


class JsonLines(View):
    """Prints JSON and nothing else, for programs. Keys that have nothing to say are left out."""

    def put(self, **fields: Any) -> None:
        """Print an object."""
        known = {name: value for name, value in fields.items() if value is not None}
        self.print(json.dumps(known, ensure_ascii=True, allow_nan=False))

    def begin(self, section: Section, head: RunFacts, store: Store | None) -> None:
        """See `View`."""
        self.put(
            event="run_started",
            time=section.moment.isoformat(),
            run=section.run_id,
            title=section.title,
            total=section.total,
        )

    def event(self, row: Row, event: TaskEvent) -> None:
        """Print an event of a task, output included."""
        result = None if event.status.is_active else event.task.result
        if result is not None and result.attempts != event.attempt:
            result = None  # of another attempt: this line is written later than the event
        self.put(
            event=event.type.value,
            time=event.timestamp.isoformat(),
            run=row.section.run_id or None,
            task=event.task_id,
            title=event.task.title,
            name=row.name,
            status=event.status.value,
            attempt=event.attempt or None,
            error=event.error,
            retry_in=event.retry_in,
            percent=event.progress_percent,
            message=event.progress_message,
            stream=event.output_stream,
            text=event.output_chunk,
            duration=None if result is None else result.duration,
            returncode=None if result is None else result.returncode,
            reason=None if result is None else result.termination_reason,
            log=row.log_file,
        )

    def change(self, row: Row, event: TaskEvent) -> None:
        """Everything is printed by ``event``."""

    def missed(self, row: Row) -> None:
        """See `View`."""
        self.put(event="missed", time=_now(), task=row.task_id, name=row.name, lines=row.missed)

    def printed(self, lines: list[str], *, by_task: bool = False) -> None:
        """See `View`."""
        for line in lines:
            self.put(event="printed", time=_now(), text=line)

    def stopping(self, section: Section) -> None:
        """See `View`."""
        run, error = section.run_id or None, section.stopped
        self.put(event="run_stopping", time=_now(), run=run, error=error)

    def end(self, section: Section, duration: float) -> None:
        """See `View`; a run that goes on has not ended, nor have tasks without a graph."""
        if section.outcome is None:
            return
        counts = {status.value: number for status, number in section.counts.items() if number}
        self.put(
            event="run_ended",
            time=(section.moment + timedelta(seconds=duration)).isoformat(),
            run=section.run_id,
            title=section.title,
            outcome=section.outcome,
            total=section.total,
            counts=counts,
            reused=section.reused,
            duration=round(duration, 6),
        )


def _now() -> str:
    return datetime.now(UTC).isoformat()
