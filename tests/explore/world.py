"""World: a plan on a real executor, under the explorer, and the log of what happened."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Any

from explore.explorer import Explorer
from explore.log import ENDS, Entry
from explore.plans import Action, Plan, TaskPlan
from explore.primitives import VirtualClock, sleep
from explore.shelf import Shelf
from explore.threads import VirtualThread
from explore.user_code import ASYNC, EXPECTED, PLAIN, Boom, Handlers, Reaction
from ttasks import (
    CircuitBreaker,
    RetryPolicy,
    SQLiteStore,
    Task,
    TaskContext,
    TaskEvent,
    TaskExecutor,
    TaskGraph,
    TaskResult,
    TaskStatus,
    TaskType,
)


class World:
    """What a plan describes, and what has come of it.

    Attributes:
        log: what happened, in the order in which it did.
        problems: broken promises that were noticed on the way.
        saved: status by id of the task, as the store has it.
        unsaved: ids of the tasks whose latest save failed.
        late: ids of the tasks of which any save has failed.
    """

    def __init__(self, plan: Plan, explorer: Explorer) -> None:
        self.plan = plan
        self.explorer = explorer
        self.log: list[Entry] = []
        self.problems = explorer.complaints
        self.saved: dict[str, TaskStatus] = {}
        self.unsaved: set[str] = set()
        self.late: set[str] = set()
        self.tasks: list[Task] = []
        self.graphs: list[TaskGraph] = []
        self.futures: list[tuple[Task, Future[TaskResult]]] = []
        self.executors: list[TaskExecutor] = []
        self._handlers = Handlers(self)
        self._calls = 0

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
        for executor in self.executors:
            executor.shutdown()
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

    @property
    def executor(self) -> TaskExecutor:
        """The first of the executors, which is the only one of most plans."""
        return self.executors[0]

    def new_call(self) -> int:
        """The number of a call that begins."""
        self._calls += 1
        return self._calls

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
            self.saved, self.unsaved, self.late = store.saved, store.unsaved, store.late
        elif plan.store == "ledger":
            store = SQLiteStore(":memory:")
        self.executors = [self._make_executor(store) for _ in range(plan.executors)]
        self.tasks = self._make_tasks()
        self.graphs = [self._make_graph(number, self.tasks) for number in range(len(plan.graphs))]
        if plan.earlier_run and store is not None and self.graphs:
            self._run_earlier(store)
        subscribers = [Reaction(self, subscriber) for subscriber in plan.subscribers]
        at = len(subscribers) if plan.log_last else 0
        for callback in [*subscribers[:at], self._note_event, *subscribers[at:]]:
            for executor in self.executors:
                executor.events.subscribe(callback)

    def _make_executor(self, store: Shelf | SQLiteStore | None) -> TaskExecutor:
        plan = self.plan
        executor = TaskExecutor.empty(
            store,
            max_workers=2,
            limits=dict(plan.limits) or None,
            breakers={group: CircuitBreaker(window=2, min_calls=2) for group, _ in plan.limits}
            if plan.breaks
            else None,
            guards=[self._handlers.guard] if plan.guards else (),
            strict_persistence=plan.strict,
            clock=VirtualClock(),
        )
        executor.register(PLAIN, self._handlers.handle)
        executor.register(ASYNC, self._handlers.handle_async)
        executor.register(TaskType.SERVICE, self._handlers.handle_service)
        return executor

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
        return [self._make_task(number, task) for number, task in enumerate(self.plan.tasks)]

    def _make_task(self, number: int, task: TaskPlan) -> Task:
        title = f"t{number}"
        settings: Any = {
            "timeout": task.timeout,
            "retry": RetryPolicy(task.attempts, task.backoff) if task.attempts > 1 else None,
            "priority": task.priority,
            "group": task.group,
        }
        if task.asks is None:
            return Task(title, number, ASYNC if task.is_async else PLAIN, **settings)
        probe = self._handlers.probe(task.asks)
        return Task.service(str(number), title=title, ready=probe, ready_timeout=3.0, **settings)

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
            # A strict executor announces later what was saved later, when the store may be further.
            and not (self.plan.strict and task.id in self.late)
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
        call = self.new_call()
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
        executor, target = self.executors[options.pop("executor", 0)], action.target
        match action.verb:
            case "run":
                self.graphs[target].run(executor, **options)
            case "execute":
                executor.execute(task or self.tasks[target])
            case "submit":
                future = executor.submit(task or self.tasks[target])
                self.futures.append((task or self.tasks[target], future))
                if then := options.get("then"):
                    future.add_done_callback(lambda _: self.act(then, -1))
            case "cancel":
                executor.cancel(self.tasks[target])
            case "cancel task":
                self.tasks[target].cancel()
            case "cancel graph":
                self.graphs[target].cancel()
            case "arun" | "aexecute":
                asyncio.run(self._await(executor, action))
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

    async def _await(self, executor: TaskExecutor, action: Action) -> None:
        options: dict[str, Any] = dict(action.options)
        options.pop("executor", None)
        patience = options.pop("patience", None)
        if action.verb == "arun":
            waited: Any = self.graphs[action.target].arun(executor, **options)
        else:
            waited = executor.aexecute(self.tasks[action.target])
        await asyncio.wait_for(waited, patience)
