"""World: a plan on a real executor, under the explorer, and the log of what happened."""

from __future__ import annotations

import asyncio
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import Any, NamedTuple

from explore.explorer import Explorer, VirtualThread
from explore.plans import Action, Plan, Step, Subscriber
from explore.primitives import VirtualClock, sleep
from explore.shelf import Shelf
from ttasks import (
    CircuitBreaker,
    RetryPolicy,
    SQLiteStore,
    Task,
    TaskCancelled,
    TaskContext,
    TaskEvent,
    TaskExecutor,
    TaskGraph,
    TaskResult,
    TaskStatus,
    TaskType,
    TTasksError,
)

PLAIN = TaskType("explored")
ASYNC = TaskType("explored-async")


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


class Entry(NamedTuple):
    """One line of the log.

    Attributes:
        what: "event", "call", "return" (of a handler), "begin", "end" (of a call of the API),
            "read" (the store is asked for an earlier run).
        name: title of the task, or the action.
        kind: of the event; else how it went.
    """

    what: str
    name: str
    kind: str = ""
    attempt: int = 0
    status: TaskStatus | None = None
    retry_in: float | None = None
    blocked_by: str | None = None
    actor: int = -1
    call: int = -1


class World:
    """What a plan describes, and what has come of it.

    Attributes:
        log: what happened, in the order in which it did.
        problems: broken promises that were noticed on the way.
        saved: status by id of the task, as the store has it.
        unsaved: ids of the tasks whose latest save failed.
    """

    def __init__(self, plan: Plan, explorer: Explorer) -> None:
        self.plan = plan
        self.explorer = explorer
        self.log: list[Entry] = []
        self.problems = explorer.complaints
        self.saved: dict[str, TaskStatus] = {}
        self.unsaved: set[str] = set()
        self.tasks: list[Task] = []
        self.graphs: list[TaskGraph] = []
        self.futures: list[tuple[Task, Future[TaskResult]]] = []
        self.executor: TaskExecutor
        self._calls = 0
        self._graphs = 0
        self._inner: dict[str, Step] = {}  # what inner tasks do, by their title

    def play(self) -> None:
        """Make everything and let it happen; runs as the main thread of the explorer."""
        self._build()
        others = [
            VirtualThread(self._act_all, f"actor-{number}", (number,))
            for number in range(1, len(self.plan.actors))
        ]
        for other in others:
            other.start()
        if self.plan.actors:
            self._act_all(0)
        for other in others:
            other.join()
        self.executor.shutdown()
        self._look_into_ledger()

    def _look_into_ledger(self) -> None:
        """What a ledger has kept; it still takes what is written."""
        store = self.executor.store
        if isinstance(store, SQLiteStore):
            for task in self.tasks:
                if task in store.tasks:
                    self.saved[task.id] = store.tasks[task.id].status
            for task in self.tasks:
                store.tasks.save(task)
            store.close()

    def user(self, what: str) -> None:
        """Code of the user is called: a point, and no lock may be held."""
        held = self.explorer.current.held
        if held and not self.explorer.dead:
            self.problems.append(f"a lock is held while user code runs ({what})")
            self.explorer.fail(self.problems[-1])
        self.explorer.point(what)

    # Making it

    def _build(self) -> None:
        plan = self.plan
        store: Shelf | SQLiteStore | None = None
        if plan.store == "shelf":
            store = Shelf(self._note_store, plan.broken_saves, plan.slow_reads)
            self.saved, self.unsaved = store.saved, store.unsaved
        elif plan.store == "ledger":
            store = SQLiteStore(":memory:")
        self.executor = TaskExecutor.empty(
            store,
            max_workers=2,
            limits=dict(plan.limits) or None,
            breakers={group: CircuitBreaker(window=2, min_calls=2) for group, _ in plan.limits}
            if plan.breaks
            else None,
            guards=[self._guard] if plan.guards else (),
            strict_persistence=plan.strict,
            clock=VirtualClock(),
        )
        self.executor.register(PLAIN, self._handle)
        self.executor.register(ASYNC, self._handle_async)
        self.tasks = self._make_tasks()
        self.graphs = [self._make_graph(number, self.tasks) for number in range(len(plan.graphs))]
        if plan.earlier_run and store is not None and self.graphs:
            self._run_earlier(store)
        subscribers = [_Reaction(self, subscriber) for subscriber in plan.subscribers]
        at = len(subscribers) if plan.log_last else 0
        for callback in [*subscribers[:at], self._note_event, *subscribers[at:]]:
            self.executor.events.subscribe(callback)

    def _run_earlier(self, store: Shelf | SQLiteStore) -> None:
        """Run the first graph as another process might have; only its first task succeeds."""

        def handle(context: TaskContext) -> str:
            if context.payload:
                raise Boom("failed")
            return "done"

        with TaskExecutor.empty(store, clock=VirtualClock()) as executor:
            executor.register(PLAIN, handle)
            executor.register(ASYNC, handle)
            self._make_graph(0, self._make_tasks()).run(executor, 1)

    def _make_tasks(self) -> list[Task]:
        return [
            Task(
                f"t{number}",
                number,
                ASYNC if task.is_async else PLAIN,
                timeout=task.timeout,
                retry=RetryPolicy(task.attempts, task.backoff) if task.attempts > 1 else None,
                priority=task.priority,
                group=task.group,
            )
            for number, task in enumerate(self.plan.tasks)
        ]

    def _make_graph(self, number: int, tasks: list[Task]) -> TaskGraph:
        plan = self.plan.graphs[number]
        graph = TaskGraph(f"g{number}", key=plan.key)
        for node in plan.nodes:
            graph.add(
                tasks[node.task],
                after=[tasks[other] for other in node.after],
                finally_=node.finally_,
                required=node.required,
                on_dep_failure=node.policy,
            )
        return graph

    # What the user's code does

    def _guard(self, _context: TaskContext) -> None:
        self.user("guard")

    def _handle(self, context: TaskContext) -> Any:
        self.user("handler")
        step, call = self._enter(context)
        try:
            self._report(context, step)
            if step.kind == "nested":
                self._run_inner(step)
            elif step.seconds:
                if step.stubborn:
                    sleep(step.seconds)
                elif context.wait_cancelled(step.seconds):
                    context.raise_if_cancelled()
            return self._end(step)
        finally:
            self._leave(context, call)

    async def _handle_async(self, context: TaskContext) -> Any:
        self.user("coroutine")
        step, call = self._enter(context)
        try:
            self._report(context, step)
            if step.seconds:
                await asyncio.sleep(step.seconds)
            return self._end(step)
        finally:
            self._leave(context, call)

    def _enter(self, context: TaskContext) -> tuple[Step, int]:
        inner = self._inner.get(context.title)
        steps = (inner,) if inner else self.plan.tasks[context.payload].steps
        kind = "cancelled" if context.cancelled else ""
        self._calls += 1
        self.log.append(Entry("call", context.title, kind, context.attempt, call=self._calls))
        return steps[min(context.attempt, len(steps)) - 1], self._calls

    def _leave(self, context: TaskContext, call: int) -> None:
        kind = "cancelled" if context.cancelled else ""
        self.log.append(Entry("return", context.title, kind, context.attempt, call=call))

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
        graph.run(self.executor, 1)
        graph.raise_for_failure()

    def _note_store(self, what: str) -> None:
        self.user(what)
        if what == "read":
            self.log.append(Entry("read", "", actor=self.explorer.current.number))

    def _note_event(self, event: TaskEvent) -> None:
        self.user("event")
        task = event.task
        if task is None:
            return
        kind = event.type.value
        blocked_by = task.blocked_by if kind == "blocked" else None
        self.log.append(
            Entry(
                "event",
                task.title,
                kind,
                event.attempt,
                event.status,
                event.retry_in,
                blocked_by,
                self.explorer.current.number,
            )
        )
        if (
            self.plan.store == "shelf"
            and kind in ENDS
            and task.id not in self.unsaved
            and self.saved.get(task.id) is not event.status
            and not (self.saved.get(task.id) is TaskStatus.CANCELLED and self._is_moved_by_hand())
        ):
            saved = self.saved.get(task.id)
            self.problems.append(f"{task.title} {kind} was announced, but the store says {saved}")

    def _is_moved_by_hand(self) -> bool:
        """True if somebody cancels tasks without an executor: that may come at any moment."""
        verbs = ("cancel task(", "cancel graph(")
        return any(entry.what == "begin" and entry.name.startswith(verbs) for entry in self.log)

    # What the threads do

    def _act_all(self, actor: int) -> None:
        for action in self.plan.actors[actor]:
            self.act(action, actor)

    def act(self, action: Action, actor: int, task: Task | None = None) -> None:
        """Carry out an action, and note how it went."""
        if action.verb == "sleep":
            sleep(action.target)
            return
        name = repr(action)
        self._calls += 1
        call = self._calls
        thread = self.explorer.current.number
        self.log.append(Entry("begin", name, actor=thread, call=call))
        how = "returned"
        try:
            if actor == 0:
                with self.explorer.armed():
                    self._call(action, task)
            else:
                self._call(action, task)
        except EXPECTED as error:
            how = type(error).__name__
        except RuntimeError as error:
            how = str(error)
            if self.explorer.dead:
                raise
            if "shut down" not in how and "event loop" not in how:
                self.problems.append(f"{name} raised {error!r}")
        except KeyboardInterrupt:
            how = "interrupted"
            if not self.explorer.interrupted:
                self.problems.append(f"{name} raised KeyboardInterrupt out of nothing")
        except Exception as error:
            how = type(error).__name__
            self.problems.append(f"{name} raised {error!r}")
        self.log.append(Entry("end", name, how, actor=thread, call=call))

    def _call(self, action: Action, task: Task | None) -> None:
        options: dict[str, Any] = dict(action.options)
        executor, target = self.executor, action.target
        match action.verb:
            case "run":
                self.graphs[target].run(executor, **options)
            case "execute":
                executor.execute(task or self.tasks[target])
            case "submit":
                future = executor.submit(task or self.tasks[target])
                self.futures.append((task or self.tasks[target], future))
            case "cancel":
                executor.cancel(self.tasks[target])
            case "cancel task":
                self.tasks[target].cancel()
            case "cancel graph":
                self.graphs[target].cancel()
            case "arun" | "aexecute":
                asyncio.run(self._await(action))
            case "save":
                assert executor.store is not None
                executor.store.tasks.save(self.tasks[target])
            case "cancel futures":
                for _task, future in self.futures:
                    future.cancel()
            case "shutdown":
                executor.shutdown(**options)
            case "look":
                graph = self.graphs[target]
                graph.statistics()
                _ = graph.ok, graph.failed, graph.errors, executor.abandoned
            case _:
                raise AssertionError(action)

    async def _await(self, action: Action) -> None:
        options: dict[str, Any] = dict(action.options)
        patience = options.pop("patience", None)
        if action.verb == "arun":
            waited: Any = self.graphs[action.target].arun(self.executor, **options)
        else:
            waited = self.executor.aexecute(self.tasks[action.target])
        await asyncio.wait_for(waited, patience)


ENDS = frozenset({"succeeded", "failed", "cancelled", "blocked", "skipped"})


class _Reaction:
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
