"""``ttasks schedule``: the schedules of a file or module."""

from __future__ import annotations

import logging
import os
import signal
import sys
from argparse import Namespace
from contextlib import ExitStack, redirect_stdout
from typing import TYPE_CHECKING, Any, TextIO

from ttasks.cli import ledgers
from ttasks.cli.exits import FAILED, OK, SIGNAL, CommandError
from ttasks.cli.output import say_json, say_table, shown
from ttasks.cli.run import ended_by_signals
from ttasks.cli.targets import SCHEDULER, Kind, load, shown_type
from ttasks.engine.executor import TaskExecutor
from ttasks.errors import ScheduleError
from ttasks.model.event import TaskEventType
from ttasks.report.labels import one_line, seconds
from ttasks.schedule import Scheduler

if TYPE_CHECKING:
    from ttasks.model.event import TaskEvent
    from ttasks.model.facts import RunFacts


def execute(options: Namespace) -> int:
    """Carry out the command."""
    stdout = sys.stdout
    with ExitStack() as stack:
        if options.json:  # what the program prints must not get between
            stack.enter_context(redirect_stdout(sys.stderr))
        scheduler, executor = _load(options, stack)
        try:
            coming = scheduler.next(options.next or 1)
            if not options.next:
                each = [(slot, one) for one in scheduler.schedules for slot in one.next()]
                coming = sorted(each, key=lambda item: item[0])
        except RuntimeError as error:
            raise CommandError(str(error)) from None
        _say_next(coming, options.json, stdout)
        if options.next:
            return OK
        return _run(scheduler, executor, _Lines(options.json, stdout))


def _load(options: Namespace, stack: ExitStack) -> tuple[Scheduler, TaskExecutor]:
    """The scheduler of the target, and the executor that it uses."""
    target = load(options.target, Kind(Scheduler, "scheduler", SCHEDULER))
    made = target.made_by
    if isinstance(made, Scheduler):
        if options.store or options.no_store:
            raise CommandError(
                f"{target.name} is a Scheduler, which has an executor with a store of its own; "
                "leave out --store and --no-store, or name a function that makes a scheduler"
            )
        return made, made.executor
    store = None
    is_needed = not options.next or os.path.exists(ledgers.path_of(options.store))
    if is_needed and not options.no_store:
        store = stack.enter_context(ledgers.open_for_run(options.store))
    executor = stack.enter_context(target.executor(store) or TaskExecutor(store))
    found = target.call(made, {"executor": executor} if _names_it(made) else {})
    if not isinstance(found, Scheduler):
        raise CommandError(
            f"{target.name} returned {shown_type(found)}; it has to return a Scheduler"
        )
    return found, found.executor


def _names_it(function: Any) -> bool:
    """True if a function has a parameter ``executor``; otherwise it makes one itself."""
    from inspect import signature

    try:
        return "executor" in signature(function).parameters
    except (TypeError, ValueError):
        return True


def _say_next(coming: list[Any], is_json: bool, stdout: TextIO) -> None:
    if is_json:
        rows = [
            {"slot": slot.isoformat(), "schedule": schedule.name, "rule": str(schedule)}
            for slot, schedule in coming
        ]
        say_json("schedules", {"next": rows}, stdout)
        return
    if not coming:
        print("no slot is to come")
        return
    say_table(
        ("NEXT", "SCHEDULE", "RULE"),
        [(f"{slot:%Y-%m-%d %H:%M:%S %Z}", schedule.name, schedule) for slot, schedule in coming],
    )
    stdout.flush()


class _Lines:
    """A subscriber that prints a line for each run of a schedule that begins or ends."""

    def __init__(self, is_json: bool, stdout: TextIO) -> None:
        self._is_json = is_json
        self._stdout = stdout

    def __call__(self, event: TaskEvent) -> None:
        if event.run is None:
            return
        head = event.run.head()
        if head.schedule is None or head.slot is None:
            return
        if self._is_json:
            say_json("slot", _slot_json(head), self._stdout)
        else:
            print(_line(head) + "\n", end="", file=self._stdout, flush=True)


def _slot_json(head: RunFacts) -> dict[str, Any]:
    assert head.slot is not None
    return {
        "schedule": head.schedule,
        "slot": head.slot.isoformat(),
        "run": head.id,
        "title": head.title,
        "outcome": head.outcome,
        "error": head.error,
        "seconds": head.elapsed,
    }


def _line(head: RunFacts) -> str:
    """A line for people."""
    assert head.slot is not None
    what = f"{shown(head.slot)}  {one_line(head.schedule or '')}"
    run = head.id[: ledgers.SHORT]
    if head.outcome == "running":
        return f"{what}: run {run} has begun"
    why = f": {one_line(head.error)}" if head.error else ""
    return f"{what}: run {run} {head.outcome} after {seconds(head.elapsed)}{why}"


def _run(scheduler: Scheduler, executor: TaskExecutor, lines: _Lines) -> int:
    """Run until a signal comes, or nothing is left to do; the exit code."""
    log = logging.getLogger("ttasks.schedule")
    if not log.hasHandlers():
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("ttasks: %(message)s"))
        log.addHandler(handler)
    kinds = (TaskEventType.RUN_STARTED, TaskEventType.RUN_ENDED)
    unsubscribe = executor.events.subscribe(lines, types=kinds)
    with ended_by_signals() as received:
        try:
            scheduler.start()
            scheduler.wait()
            scheduler.stop()
        except KeyboardInterrupt:
            _stop(scheduler)
            return SIGNAL + (received[0] if received else signal.SIGINT)
        except RuntimeError as error:  # of a schedule that stops at errors, or cannot start
            try:
                scheduler.stop()
            except ScheduleError:
                pass
            print(f"ttasks: {error}", file=sys.stderr)
            return FAILED
        finally:
            unsubscribe()
    return OK


def _stop(scheduler: Scheduler) -> None:
    """Stop and cancel, and wait for the finally tasks; another signal kills what is left."""
    for _ in range(3):
        try:
            scheduler.stop(cancel=True)
            return
        except KeyboardInterrupt:
            continue
        except RuntimeError:
            return  # an error of before
