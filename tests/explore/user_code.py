"""User code: handlers, guards and subscribers that do what a plan says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from explore.log import Entry
from explore.plans import Step, Subscriber
from explore.primitives import sleep
from ttasks import Task, TaskCancelled, TaskContext, TaskEvent, TaskGraph, TaskType, TTasksError

if TYPE_CHECKING:
    from explore.world import World

PLAIN = TaskType("explored")
ASYNC = TaskType("explored-async")


LONG = 1_000.0
"""Seconds after which a service that is forgotten ends by itself."""


class Boom(Exception):
    """What handlers and subscribers raise."""


@dataclass(frozen=True)
class Frozen(Exception):
    """An exception that cannot be changed, not even its notes."""

    text: str


class Odd:
    """An object that cannot say its class, like a proxy of something that is gone."""

    @property
    def __class__(self) -> type:
        raise Boom("no class")

    @__class__.setter
    def __class__(self, _kind: type) -> None: ...


EXPECTED = (TTasksError, Boom, Frozen, SystemExit, CancelledError, OSError)
"""What calls of the API may raise here, and RuntimeError of an executor that is shut down."""


class Handlers:
    """What tasks do, and the guard that they pass."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._graphs = 0
        self._inner: dict[str, Step] = {}  # what inner tasks do, by their title

    def guard(self, _context: TaskContext) -> None:
        self._world.user("guard")

    def handle(self, context: TaskContext) -> Any:
        self._world.user("handler")
        step, call = self._enter(context)
        try:
            self._report(context, step)
            if step.kind == "nested":
                self._run_inner(step)
            if step.action is not None:
                self._world.act(step.action, -1)
            if step.seconds and step.kind != "nested":
                if step.stubborn:
                    sleep(step.seconds)
                elif context.wait_cancelled(step.seconds):
                    context.raise_if_cancelled()
            return self._end(step)
        finally:
            self._leave(context, call)

    def handle_service(self, context: TaskContext) -> Any:
        self._world.user("service")
        step, call = self._enter(context)
        try:
            self._report(context, step)
            if step.stubborn:
                sleep(step.seconds)
            elif context.wait_cancelled(LONG if step.kind == "stay" else step.seconds):
                context.raise_if_cancelled()
            return self._end(step)
        finally:
            self._leave(context, call)

    def probe(self, asks: int) -> Callable[[], bool] | None:
        """A probe that is true when it is called for the time that is given."""
        if not asks:
            return None
        asked = 0

        def probe() -> bool:
            nonlocal asked
            self._world.user("probe")
            asked += 1
            if asked % 2 == 0:
                raise Boom("not yet")
            return 0 < asks <= asked

        return probe

    async def handle_async(self, context: TaskContext) -> Any:
        self._world.user("coroutine")
        step, call = self._enter(context)
        try:
            self._report(context, step)
            if step.action is not None:
                self._world.act(step.action, -1)
            if step.seconds:
                await asyncio.sleep(step.seconds)
            return self._end(step)
        finally:
            self._leave(context, call)

    def _enter(self, context: TaskContext) -> tuple[Step, int]:
        inner = self._inner.get(context.title)
        steps = (inner,) if inner else self._world.plan.tasks[int(context.payload)].steps
        kind = "cancelled" if context.cancelled else ""
        call = self._world.new_call()
        self._world.log.append(Entry("call", context.title, kind, context.attempt, call=call))
        return steps[min(context.attempt, len(steps)) - 1], call

    def _leave(self, context: TaskContext, call: int) -> None:
        kind = "cancelled" if context.cancelled else ""
        self._world.log.append(Entry("return", context.title, kind, context.attempt, call=call))

    def _report(self, context: TaskContext, step: Step) -> None:
        for number in range(step.reports):
            if number % 2:
                context.emit_progress(50)
            else:
                context.emit_output(f"line {number}\n")

    def _end(self, step: Step) -> Any:
        if step.kind == "fail":
            raise Boom("failed")
        if step.kind == "cancelled":
            raise TaskCancelled
        if step.kind == "frozen":
            raise Frozen("failed")
        if step.kind == "exit":
            raise SystemExit(3)
        if step.kind == "odd":
            return Odd()
        return "done"

    def _run_inner(self, step: Step) -> None:
        """Run a graph in a handler; its tasks take as long as the step."""
        number = self._graphs = self._graphs + 1
        graph = TaskGraph(f"inner {number}")
        after: list[Task] = []
        for name in ("task", "cleanup"):
            task = Task(f"inner {name} {number}", None, PLAIN)
            self._inner[task.title] = Step("ok", step.seconds, step.stubborn)
            graph.add(task, after=after, finally_=name == "cleanup")
            after = [task]
        graph.run(self._world.executor, 1)
        graph.raise_for_failure()


class Reaction:
    """A subscriber that does what a plan says."""

    def __init__(self, world: World, plan: Subscriber) -> None:
        self._world = world
        self._plan = plan
        self._left = plan.times

    def __call__(self, event: TaskEvent) -> None:
        self._world.user("subscriber")
        plan = self._plan
        if not self._left or event.task is None:
            return
        if plan.kind is not None and plan.kind != event.type.value:
            return
        if plan.title is not None and event.task.title != f"t{plan.title}":
            return
        self._left -= 1
        if plan.action.verb == "raise":
            raise Boom("subscriber")
        if plan.action.verb == "raise frozen":
            raise Frozen("subscriber")
        task = event.task if plan.action.target < 0 else None
        self._world.act(plan.action, -1, task)
