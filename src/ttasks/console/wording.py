"""Wording: makes the lines that people read from rows and sections; pure."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from ttasks.console.board import ENDS
from ttasks.console.output import TAIL_LINES
from ttasks.console.style import Style, colour_of_mark
from ttasks.console.text import clean
from ttasks.model.checks import wrong_type
from ttasks.model.event import TaskEvent, TaskEventType
from ttasks.model.redact import MASK
from ttasks.model.status import TaskStatus
from ttasks.model.task import Task
from ttasks.report.labels import count, joined, last_writing, one_line, seconds, shortened

if TYPE_CHECKING:
    from ttasks.console.board import Board
    from ttasks.console.rows import Row, Section
    from ttasks.model.result import TaskResult

Rerun = Callable[[Task], str | None]
"""Returns the command that runs a task again, or None."""

_NOTES = {
    TaskEventType.PERSISTENCE_FAILED: "could not be saved",
    TaskEventType.CIRCUIT_OPENED: "circuit opened",
    TaskEventType.CIRCUIT_CLOSED: "circuit closed",
}
_TIME = 7  # columns
_LONGEST_COMMAND = 4_000  # characters
_LONGEST_LINE = 2_000  # characters, in the excerpt of a failure
_LONGEST_TAIL = 20_000  # characters, all lines of an excerpt together
_STOPPED = ("The graph run was ", "stopped: ")  # how reasons begin that say nothing yet


class Wording:
    """Writes lines in one style.

    Args:
        style: colours and symbols.
        rerun: see `Rerun`.
        tell: called with what ``rerun`` raises.
    """

    def __init__(self, style: Style, rerun: Rerun, tell: Callable[[BaseException], object]) -> None:
        self.style = style
        self._rerun = rerun
        self._tell = tell

    # One line per change

    def change(self, row: Row, event: TaskEvent) -> str | None:
        """The line of an event; None if it is not worth one."""
        kind, style = event.type, self.style
        note = _NOTES.get(kind)
        if note is not None:
            return self._line("note", None, row.name, f"{note}: {one_line(event.error or '')}")
        if kind is TaskEventType.STARTED:
            note = f"attempt {event.attempt}" if event.attempt > 1 else ""
            return self._line("started", None, style.paint(row.name, "dim"), note)
        if kind is TaskEventType.READY:
            return self._line("ready", None, style.paint(row.name, "dim"), "is ready")
        if event.retry_in is not None:
            note = f"{reason(row, None)}; attempt {event.attempt + 1} in {event.retry_in:g}s"
            return self._line("retry", None, row.name, note)
        return self.end(row) if kind in ENDS else None

    def end(self, row: Row) -> str:
        """The line of a task that has ended."""
        result = None if row.task is None else row.task.result
        mark = mark_of(row)
        if row.status is TaskStatus.SUCCEEDED:
            note = "reused" if mark == "reused" else ""
            if row.attempt > 1:
                note = f"attempt {row.attempt}"
        else:
            note = reason(row, result)
            if row.status is TaskStatus.FAILED and row.attempt > 1:
                note += f", attempt {row.attempt}"
            if row.is_optional_failure:
                note += " (optional)"
        ran = row.attempt > 0 and row.status not in (TaskStatus.BLOCKED, TaskStatus.SKIPPED)
        name = row.name
        if row.status is TaskStatus.FAILED:
            name = self.style.paint(name, "bold", colour_of_mark(mark))
        return self._line(mark, result.duration if ran and result else None, name, note)

    def _line(self, mark: str, duration: float | None, name: str, note: str) -> str:
        time = "" if duration is None else seconds(duration)
        note = f"  {self.style.paint(self.style.tell(note), 'dim')}" if note else ""
        return f"{self.style.mark(mark)} {time:>{_TIME}}  {name}{note}"

    # Failures

    def block(self, row: Row, *, output: bool = True, head: bool = True) -> list[str]:
        """All about a task that failed: its line, last output, what it blocked, what to do.

        Args:
            row: a row that FAILED.
            output: with the end of its output, and not only with the traceback.
            head: with its own line.
        """
        style = self.style
        colour = "yellow" if row.is_optional_failure else "red"
        bar = f"  {style.paint(style.sign('bar'), colour)} "
        found = [(bar + line).rstrip() for line in self.tail(row, output=output)]
        facts = self.consequences(row)
        corner = f"  {style.paint(style.sign('corner'), colour)} "
        for position, (label, text) in enumerate(facts):
            edge = corner if position == 0 else "    "
            found.append(f"{edge}{style.paint(f'{label:<7}', 'dim')} {text}")
        return ([self.end(row)] if head else []) + found

    def tail(self, row: Row, *, output: bool = True) -> list[str]:
        """The last lines of what a task printed, and of the traceback of its exception.

        Lines that are too long are cut, and say so.
        """
        result = None if row.task is None else row.task.result
        lines: list[str] = []
        if not output:
            pass
        elif row.lines is not None and row.lines.tail and not row.missed:
            lines += row.lines.tail
        elif result is not None:
            lines += result.output.splitlines()[-TAIL_LINES:]
            if result.returncode is not None:  # else it is the message of the exception
                lines += (result.error or "").splitlines()[-TAIL_LINES:]
        if result is not None and result.termination_reason == "handler" and result.failure:
            lines += result.failure.traceback.splitlines()
        lines = [self._bounded(line) for line in lines[-TAIL_LINES:]]
        while lines and not lines[-1].strip():
            lines.pop()
        found: list[str] = []
        room = _LONGEST_TAIL
        for line in reversed(lines):
            room -= len(line)
            if room < 0:
                break
            found.insert(0, line)
        return found

    def _bounded(self, line: str) -> str:
        """A clean line, cut if it is too long."""
        line = last_writing(line.rstrip("\r\n"))
        shown = clean(line[:_LONGEST_LINE], colour=self.style.colour)  # cut first: it takes time
        more = len(line) - _LONGEST_LINE
        if more <= 0:
            return shown
        return shown + self.style.tell(f"… {count(more, 'more character')}")

    def consequences(self, row: Row) -> list[tuple[str, str]]:
        """What a failure leads to: pairs of a label and a text."""
        found = []
        if row.blocks:
            found.append(("blocked", joined([*row.blocks.values()], 5)))
        if row.log_file is not None:
            found.append(("log", clean(row.log_file)))
        again = None if row.task is None else self._how_again(row.task)
        lines = [
            one_line(line, _LONGEST_COMMAND)
            for line in (again or "").strip().splitlines()[:TAIL_LINES]
        ]
        found += zip(["again", *[""] * len(lines)], lines, strict=False)
        return found

    def _how_again(self, task: Task) -> str | None:
        """What ``rerun`` says; its error is told, and ends nothing."""
        try:
            again: object = self._rerun(task)
            if again is not None and not isinstance(again, str):
                raise wrong_type("the result of rerun", again, "a str or None")
        except BaseException as error:
            self._tell(error)
            return None
        return again

    # The end, and what leads to it

    def summary(self, section: Section, duration: float) -> str:
        """The last line of a run: its outcome, counts and time.

        If the console is closed while the run goes on, it has no outcome yet.
        """
        style, counts, goes_on = self.style, section.counts, section.goes_on
        optional = sum(row.is_optional_failure for row in section.failures)
        left = section.total - section.done - section.running
        numbers = [
            (section.running, "running", "dim"),
            (left if goes_on else 0, "waiting", "dim"),
            (counts[TaskStatus.FAILED] - optional, "failed", "red"),
            (optional, "failed (optional)", "yellow"),
            (counts[TaskStatus.BLOCKED], "blocked", "yellow"),
            (counts[TaskStatus.CANCELLED], "cancelled", "yellow"),
            (counts[TaskStatus.SUCCEEDED] - section.reused, "succeeded", "green"),
            (section.reused, "reused", "cyan"),
            (counts[TaskStatus.SKIPPED], "skipped", "dim"),
            (0 if goes_on else left, "not run", "dim"),
        ]
        parts = [style.paint(f"{number:,} {word}", c) for number, word, c in numbers if number > 0]
        if section.flaky:
            parts.append(style.paint(f"{section.flaky:,} flaky", "yellow"))
        title, found = section.title or "tasks", ", ".join(parts) or "nothing to do"
        outcome = section.outcome or ("failed" if section.has_failed else "ok")
        if section.run is None and section.is_interrupted:
            outcome = "interrupted"
        mark = {"ok": "succeeded", "failed": "failed"}.get(outcome, "cancelled")
        if goes_on:
            mark, found = "started", f"still running: {found}"
        elif outcome not in ("ok", "failed"):
            title += {"timeout": " timed out"}.get(outcome, f" {outcome}")
        title = style.paint(title, "bold", colour_of_mark(mark))
        return f"{style.mark(mark)} {seconds(duration):>{_TIME}}  {title}  {found}"

    def stopping(self, board: Board, section: Section) -> list[str]:
        """What is said when a run is being stopped."""
        style = self.style
        mine = [row for row in board.running.values() if row.section is section]
        ending = [row.name for row in mine if not row.is_finally]
        cleaning = [row.name for row in mine if row.is_finally]
        cleaning += [
            row.name
            for row in board.waiting.values()
            if row.section is section and row.is_finally and row.retry_at is None
        ]
        why = why_stopped(section)
        lines = [self._line("cancelled", None, style.paint(why[:1].upper() + why[1:], "bold"), "")]
        if ending:
            lines.append(f"  ending {count(len(ending), 'task')}: {joined(ending)}")
        if cleaning and why != "killed":
            lines.append(f"  {'then ' if ending else ''}cleaning up: {joined(cleaning)}")
        how = self.how_to_kill(section)
        if how is not None:
            lines.append(f"  {how}")
        return [style.tell(line) for line in lines]

    def how_to_kill(self, section: Section) -> str | None:
        """How to end at once what is being stopped; None if Ctrl-C does not, or it is not needed.

        The second Ctrl-C kills, whatever has stopped the run.
        """
        why = why_stopped(section)
        if why == "killed" or not section.takes_interrupts:
            return None
        often = "again" if why == "interrupted" else "twice"
        return self.style.paint(f"Ctrl-C {often} to kill what is left", "dim")

    def missed(self, row: Row) -> str:
        """A line for output that was dropped."""
        return self.style.paint(
            self.style.tell(
                f"  … {count(row.missed, 'line')} of {row.name} not shown: "
                "they came faster than the console could write them"
            ),
            "yellow",
        )


def why_stopped(section: Section) -> str:
    """Why a run is being stopped: "interrupted", "killed", …"""
    text = one_line(section.stopped or "")
    for start in _STOPPED:
        text = text.removeprefix(start)
    return text


def mark_of(row: Row) -> str:
    """The name of the mark for a task that has ended."""
    if row.status is TaskStatus.SUCCEEDED:
        return "reused" if row.reused else "succeeded"
    return "optional" if row.is_optional_failure else row.status.value


def reason(row: Row, result: TaskResult | None) -> str:
    """Why a task did not succeed, in a few words."""
    if result is not None and row.status is TaskStatus.FAILED:
        code = result.returncode
        if result.termination_reason == "exit_code" and code is not None:
            return f"exit code {code}" if code >= 0 else f"ended by {_signal_name(-code)}"
        failure = result.failure
        if result.termination_reason == "handler" and failure is not None:
            return f"{failure.type.rpartition('.')[2]}: {one_line(failure.message)}".rstrip(": ")
    text = one_line(row.error or "")
    for start in (f"{row.status.value}: ", "Task was ", "Task ", *_STOPPED):
        text = text.removeprefix(start)
    return shortened(text, 160)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def again(task: Task) -> str | None:
    """The command of a Bash or PowerShell task, which runs it again by hand.

    None if that would not do the same: with ``stdin`` or ``env``, with a secret that is hidden, or
    with characters that one line cannot show.
    """
    if task.type.value not in ("bash", "powershell") or not isinstance(task.payload, str):
        return None
    command, options = task.payload.strip(), task.options
    if len(command) > 200 or options.get("stdin") is not None or options.get("env"):
        return None
    if options.get("strict"):
        command = f"bash -euo pipefail -c -- {shlex.quote(command)}"
    folder = options.get("cwd")
    if folder is not None:
        command = f"cd {shlex.quote(str(folder))} && {command}"
    return command if command.isprintable() and MASK not in command else None
