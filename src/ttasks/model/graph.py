"""TaskGraph: tasks and the order between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from datetime import UTC, datetime
from operator import attrgetter, methodcaller
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, TypeVar

from ttasks.errors import (
    CycleError,
    GraphError,
    GraphFailedError,
    UnknownDependencyError,
    describe,
    did_you_mean,
)
from ttasks.model.call import Call
from ttasks.model.checks import (
    check_bool,
    check_moment,
    check_optional_str,
    check_str,
    wrong_type,
)
from ttasks.model.ids import new_id
from ttasks.model.names import Names
from ttasks.model.policy import DependencyPolicy
from ttasks.model.run import Run
from ttasks.model.running import CACHE_ON, GraphStatistics, Limits, RunOptions, RunState
from ttasks.model.status import TaskStatus
from ttasks.model.task import Task, check_task
from ttasks.model.topology import Topology, in_order, topology

if TYPE_CHECKING:
    from ttasks.model.facts import RunFacts

AnyTask = TypeVar("AnyTask", bound=Task)
Upstream = Task | str
"""A dependency: a task, or the key, title or id of one."""

GOOD = (TaskStatus.SUCCEEDED, TaskStatus.SKIPPED)
"""What a required task may end as in a graph that is ok."""


class Node(NamedTuple):
    """A task in a graph, with its edges and flags."""

    task: Task
    after: tuple[Task, ...]
    finally_: bool
    required: bool
    policy: DependencyPolicy


class GraphRunner(Protocol):
    """What `TaskGraph.run` needs of an executor."""

    @property
    def max_workers(self) -> int:
        """Threads of a run that is not given a number of its own."""

    def run_graph(self, graph: TaskGraph, options: RunOptions) -> None:
        """Run it and return when it has ended."""

    def arun_graph(self, graph: TaskGraph, options: RunOptions) -> Awaitable[None]:
        """Run it off the event loop and return when it has ended."""

    def start_graph(self, graph: TaskGraph, options: RunOptions) -> Run:
        """Run it on a thread of its own, and return when it has begun."""


class TaskGraph:
    """Tasks and the order between them.

    Build it from one thread. While a run is active it cannot be changed (GraphError), and its
    views, ``statistics`` and ``cancel`` may be used from any thread.

    Args:
        title: name for people.
        key: a name that stays the same over several runs of a script; kept in the ledger.

    Attributes:
        id: uuid4 as str.
        created_at: aware UTC; read-only.

    Example:
        >>> graph = TaskGraph("release")
        >>> build = graph.add(Task.bash("make"))
        >>> test = graph.add(Task.bash("make test"), after=[build])
        >>> graph[test] == (build,)
        True
    """

    def __init__(self, title: str = "", *, key: str | None = None) -> None:
        self._id = new_id()
        self.title = check_str("title", title)
        self.key = check_optional_str("key", key)
        self._created_at = datetime.now(UTC)
        self._nodes: dict[str, Node] = {}
        # The dependencies of tasks that name any by key or title; `Node.after` has only the others.
        self._named: dict[str, tuple[Upstream, ...]] = {}
        self._complete: dict[str, Node] | None = None  # with those in place, made on demand
        self._dependents: dict[str, list[Task]] | None = None  # made on demand
        self._topology: Topology | None = None  # left by `validate` for a run
        self._state = RunState()

    @property
    def id(self) -> str:
        """Identity of the graph, a uuid4 as str."""
        return self._id

    @property
    def created_at(self) -> datetime:
        """When the graph was made, aware UTC."""
        return self._created_at

    @classmethod
    def of(cls, tasks: Iterable[Task], title: str = "", *, key: str | None = None) -> Self:
        """Make a graph of tasks whose order follows from their arguments.

        A Python task depends on the tasks among its arguments; they have to be among ``tasks``.

        Args:
            tasks: in any order.
            title, key: see `TaskGraph`.

        Raises:
            TypeError: one of them is no task.
            UnknownDependencyError: a task among the arguments of another is missing.
            CycleError: tasks are arguments of each other.

        Example:
            >>> numbers = Task.python(range, (4,))
            >>> total = Task.python(sum, (numbers,))
            >>> TaskGraph.of([total, numbers])[total] == (numbers,)
            True
        """
        if isinstance(tasks, Task):
            raise wrong_type("tasks", tasks, "an iterable of tasks; for a single one write [task]")
        if isinstance(tasks, (str, bytes)) or not isinstance(tasks, Iterable):
            raise wrong_type("tasks", tasks, "an iterable of tasks")
        graph = cls(title, key=key)
        for position, task in enumerate(tasks):
            check_task(f"tasks[{position}]", task)
            graph.add(task)
        graph.validate()
        return graph

    @classmethod
    def restore(
        cls,
        graph_id: str,
        nodes: Iterable[Node],
        title: str = "",
        key: str | None = None,
        created_at: datetime | None = None,
    ) -> TaskGraph:
        """Make a graph as a store remembers it; for implementers of stores.

        Args:
            graph_id: its ``id``.
            nodes: its tasks with their edges and flags, in insertion order; not checked.
            title, key: see `TaskGraph`.
            created_at: aware; None means now.
        """
        graph = cls(title, key=key)
        graph._id = check_str("graph_id", graph_id, empty=False)
        graph._created_at = check_moment("created_at", created_at) or graph._created_at
        graph._nodes = {node.task.id: node for node in nodes}
        return graph

    # Building

    def add(
        self,
        task: AnyTask,
        *,
        after: Iterable[Upstream] | Upstream = (),
        finally_: bool = False,
        required: bool = True,
        on_dep_failure: DependencyPolicy = DependencyPolicy.BLOCK,
        check: bool = False,
    ) -> AnyTask:
        """Add a task, or replace the edges and flags of one that is there already.

        Args:
            task: the task.
            after: its direct dependencies: tasks, or their keys, titles or ids (looked for in this
                order). They may be added to the graph later; ``validate`` looks. Tasks among the
                arguments of a Python task are dependencies too, before these.
            finally_: run it once all of ``after`` are finished, whatever became of them, also
                when the run is cancelled. A finally task without ``after`` may start at once.
            required: whether its failure makes ``ok`` false.
            on_dep_failure: what it does when a dependency did not succeed; a finally task runs
                in any case.
            check: refuse a cycle at once, not only when the graph is validated. This looks at all
                upstream tasks.

        Returns:
            The task.

        Raises:
            TypeError: an argument has the wrong type.
            CycleError: the arguments of a Python task refer to the task itself; with ``check``,
                for every cycle. Nothing has changed.
            GraphError: a run is active.
        """
        check_task("task", task)
        check_bool("finally_", finally_)
        check_bool("required", required)
        if not isinstance(on_dep_failure, DependencyPolicy):
            raise wrong_type("on_dep_failure", on_dep_failure, "a DependencyPolicy")
        check_bool("check", check)
        edges = _edges(task, after)
        if check:
            ends = [self._if_known(item) for item in edges.given]
            self._check_acyclic(task, [end for end in ends if end is not None])
        self._put(Node(task, edges.tasks, finally_, required, on_dep_failure), edges)
        return task

    def __setitem__(self, task: Task, after: Iterable[Upstream] | Upstream) -> None:
        """Set the dependencies of a task; adds it if need be, keeps its flags otherwise."""
        check_task("task", task)
        known = self._nodes.get(task.id)
        if known is None:
            self.add(task, after=after)
        else:
            edges = _edges(task, after)
            self._put(known._replace(after=edges.tasks), edges)

    def _put(self, node: Node, edges: _Edges) -> None:
        """Add or replace a node."""
        self._change()
        task_id = node.task.id
        if edges.given is not edges.tasks:
            self._named[task_id] = edges.given
        elif self._named:
            self._named.pop(task_id, None)
        self._nodes[task_id] = node

    def _if_known(self, upstream: Upstream) -> Task | None:
        """A dependency, if it is a task or by now the name of one."""
        if isinstance(upstream, Task):
            return upstream
        found = Names(self).called(upstream)
        return found[0] if len(found) == 1 else None

    def _check_acyclic(self, task: Task, after: list[Task]) -> None:
        """Raise CycleError if these dependencies of a task would close a cycle."""
        came_from = _walk(after, self._after)
        if task.id in came_from:
            path = [task]
            while (step := came_from[path[-1].id]) is not None:
                path.append(step)
            raise CycleError([task, *reversed(path[1:])])

    def add_dependency(self, task: Task, dependency: Upstream) -> None:
        """Let ``task`` also wait for ``dependency``; does nothing if it does already.

        The dependency is a task of the graph, or the key or title of one.

        Raises:
            UnknownDependencyError: ``dependency`` is not in the graph.
            CycleError: the edge would close a cycle.
            KeyError: ``task`` is not in the graph.
            GraphError: a run is active. In every case nothing has changed.
        """
        node = self._node(task)
        if isinstance(dependency, str):
            dependency = Names(self).upstream(task, dependency)
        check_task("dependency", dependency)
        if dependency.id not in self._nodes:
            raise UnknownDependencyError(task, dependency)
        self._check_acyclic(task, [dependency])
        if dependency not in node.after:
            after = (*node.after, dependency)
            self._put(node._replace(after=after), _Edges(after, after))

    def remove(self, task: Task) -> None:
        """Remove a task that no other task depends on.

        Raises:
            GraphError: another task depends on it, or a run is active.
            KeyError: it is not in the graph. In every case nothing has changed.
        """
        self._node(task)
        others = [item.title for item in self.dependents(task) if item != task]
        if others:
            more = f" and {len(others) - 1} more" if len(others) > 1 else ""
            raise GraphError(
                f"Task {task.title!r} cannot be removed, because {others[0]!r}{more} depends on "
                "it; remove that first, or add it again with other dependencies"
            )
        self._change()
        del self._nodes[task.id]
        self._named.pop(task.id, None)

    def __delitem__(self, task: Task) -> None:
        """The same as ``remove``."""
        self.remove(task)

    def validate(self) -> None:
        """Check that every dependency is in the graph and that there is no cycle, in linear time.

        Names are looked up here.

        Raises:
            UnknownDependencyError: a dependency is missing, or no task has that key or title.
            CycleError: with the tasks of one cycle in order.
            GraphError: several tasks have a title that stands for a dependency.
        """
        self._topology = self._checked_edges()

    # Reading

    def __getitem__(self, task: Task) -> tuple[Task, ...]:
        return self._node(task).after

    def __contains__(self, task: object) -> bool:
        return isinstance(task, Task) and task.id in self._nodes

    def __iter__(self) -> Iterator[Task]:
        return iter([node.task for node in self._nodes.values()])

    def __len__(self) -> int:
        return len(self._nodes)

    def find(self, name: str) -> Task:
        """The task with this key; or else with this title; or else with this id.

        Raises:
            GraphError: there is none (the message suggests similar names), or several have this
                title.
        """
        check_str("name", name)
        names = Names(self)
        found = names.called(name)
        if len(found) == 1:
            return found[0]
        title = f"Graph {self.title!r}" if self.title else "The graph"
        if found:
            raise GraphError(f"{title} has {len(found)} tasks called {name!r}")
        raise GraphError(f"{title} has no task {name!r}{did_you_mean(names.near(name))}")

    def ordered(self) -> list[Task]:
        """All tasks, each after those that it depends on; raises as ``validate``."""
        nodes = self.nodes()
        return [nodes[number].task for number in in_order(topology_of(self))]

    def items(self) -> list[tuple[Task, tuple[Task, ...]]]:
        """Each task with its direct dependencies, in insertion order."""
        return [(node.task, node.after) for node in self.nodes()]

    def nodes(self) -> list[Node]:
        """Each task with its edges and flags, in insertion order; for implementers of stores.

        Raises like ``validate`` if a dependency that is given by name is not found.
        """
        self._complete = None  # titles and keys may have changed
        return list(self._all().values())

    def _all(self) -> dict[str, Node]:
        """The nodes by id, with dependencies in place of their names."""
        if not self._named:
            return self._nodes
        if self._complete is None:
            nodes, names = dict(self._nodes), Names(self)
            for task_id, after in self._named.items():
                node = nodes[task_id]
                ends = [
                    item if isinstance(item, Task) else names.upstream(node.task, item)
                    for item in after
                ]
                nodes[task_id] = node._replace(after=tuple(dict.fromkeys(ends)))
            self._complete = nodes
        return self._complete

    def dependencies(self, task: Task) -> list[Task]:
        """Direct dependencies of a task, in the order they were named."""
        return list(self._node(task).after)

    def dependents(self, task: Task, transitive: bool = False) -> list[Task]:
        """Tasks that depend on a task, directly or (``transitive``) at all, in insertion order."""
        self._node(task)
        dependents = self._dependents
        if dependents is None:
            dependents = {}
            for node in self.nodes():
                for upstream in node.after:
                    dependents.setdefault(upstream.id, []).append(node.task)
            self._dependents = dependents  # set when complete: other threads may read it
        direct = dependents.get(task.id, [])
        if not transitive:
            return list(direct)
        found = _walk(direct, lambda item: dependents.get(item.id, ()))
        return self._tasks(lambda node: node.task.id in found)

    def roots(self) -> list[Task]:
        """Tasks without dependencies, in insertion order."""
        return [node.task for node in self.nodes() if not node.after]

    def leaves(self) -> list[Task]:
        """Tasks that nothing depends on, in insertion order."""
        used = {upstream.id for node in self.nodes() for upstream in node.after}
        return self._tasks(lambda node: node.task.id not in used)

    def is_finally(self, task: Task) -> bool:
        """True if the task was added with ``finally_=True``."""
        return self._node(task).finally_

    def is_optional(self, task: Task) -> bool:
        """True if the task was added with ``required=False``."""
        return not self._node(task).required

    # Views, each a new list in insertion order

    def _tasks(self, wanted: Callable[[Node], bool]) -> list[Task]:
        return [node.task for node in self._nodes.values() if wanted(node)]

    @property
    def succeeded(self) -> list[Task]:
        """Tasks that are SUCCEEDED."""
        return self._tasks(lambda node: node.task.is_succeeded)

    @property
    def failed(self) -> list[Task]:
        """Tasks that are FAILED."""
        return self._tasks(lambda node: node.task.is_failed)

    @property
    def cancelled(self) -> list[Task]:
        """Tasks that are CANCELLED."""
        return self._tasks(lambda node: node.task.is_cancelled)

    @property
    def blocked(self) -> list[Task]:
        """Tasks that are BLOCKED."""
        return self._tasks(lambda node: node.task.is_blocked)

    @property
    def skipped(self) -> list[Task]:
        """Tasks that are SKIPPED."""
        return self._tasks(lambda node: node.task.is_skipped)

    @property
    def finally_tasks(self) -> list[Task]:
        """Tasks that were added with ``finally_=True``."""
        return self._tasks(lambda node: node.finally_)

    @property
    def optional_tasks(self) -> list[Task]:
        """Tasks that were added with ``required=False``."""
        return self._tasks(lambda node: not node.required)

    @property
    def required_tasks(self) -> list[Task]:
        """Tasks that were not added with ``required=False``."""
        return self._tasks(lambda node: node.required)

    @property
    def required_failed(self) -> list[Task]:
        """Required tasks that are FAILED."""
        return self._tasks(lambda node: node.required and node.task.is_failed)

    @property
    def required_blocked(self) -> list[Task]:
        """Required tasks that are BLOCKED."""
        return self._tasks(lambda node: node.required and node.task.is_blocked)

    @property
    def optional_failed(self) -> list[Task]:
        """Tasks that are FAILED and not required."""
        return self._tasks(lambda node: not node.required and node.task.is_failed)

    @property
    def errors(self) -> dict[str, BaseException]:
        """Exception by task id, of the latest run."""
        return dict(self._state.errors)

    @property
    def run_error(self) -> BaseException | None:
        """What ended the latest run as a whole before its time (a timeout, say), or None."""
        return self._state.error

    @property
    def ok(self) -> bool:
        """True if every required task SUCCEEDED or was SKIPPED and the run itself had no error.

        An empty graph is ok; a graph that has not run yet is not.
        """
        return self._state.error is None and all(
            node.task.status in GOOD for node in self._nodes.values() if node.required
        )

    def raise_for_failure(self) -> None:
        """Return if ``ok``.

        Raises:
            GraphFailedError: it lists every required task that did not succeed, with its error. Its
                cause is the exception of the first task that failed.
        """
        if self.ok:
            return
        required = [
            node.task
            for node in self._nodes.values()
            if node.required and node.task.status not in GOOD
        ]
        shown = self._state.title_of
        failures = [(shown(task), self._reason(task)) for task in required if not task.is_cancelled]
        raised = {task.id for task in required if task.is_failed} or {t.id for t in self.failed}
        exceptions = [error for key, error in self.errors.items() if key in raised]
        error = self._state.error
        raise GraphFailedError(
            shown(self),
            failures,
            None if error is None else describe(error),
            [shown(task) for task in required if task.is_cancelled],
            exceptions,
        ) from next(iter(exceptions), error)

    def _reason(self, task: Task) -> str:
        blocker = self._nodes.get(task.blocked_by or "")
        if task.error is None and blocker is not None:
            return f"blocked by {self._state.title_of(blocker.task)!r}"
        return task.error or task.status.value

    def statistics(self) -> GraphStatistics:
        """Counts and times of the run that is active, or of the latest; from any thread."""
        counts = dict.fromkeys(TaskStatus, 0)
        reasons: Counter[str] = Counter()
        running = []
        for node in list(self._nodes.values()):
            status, result = node.task.status, node.task.result
            counts[status] += 1
            if status is TaskStatus.RUNNING:
                running.append(node.task.title)
            elif result is not None and result.termination_reason and status.is_bad:
                reasons[result.termination_reason] += 1
        handle = self._state.handle
        if handle is None:
            return GraphStatistics(counts, tuple(running), reasons=dict(reasons))
        return GraphStatistics(
            counts,
            tuple(running),
            handle.waiting,
            handle.elapsed,
            handle.retries,
            handle.retry_budget,
            dict(reasons),
            handle.started_at,
            handle.ended_at,
            handle.breakers,
        )

    # Running

    def run(
        self,
        executor: GraphRunner,
        max_workers: int | None = None,
        *,
        fail_fast: bool = False,
        timeout: float | None = None,
        finally_timeout: float | None = None,
        retry_budget: int | None = None,
        limits: Limits | None = None,
        handle_sigterm: bool = False,
        resume: bool = False,
        wait: bool = False,
        cache: str = CACHE_ON,
    ) -> TaskGraph:
        """Run every task in dependency order and return when all is done.

        Tasks that SUCCEEDED before satisfy their dependents and do not run again; FAILED, BLOCKED
        and SKIPPED ones are tried again. Failures of tasks do not raise: look at ``ok`` or call
        ``raise_for_failure``. Blocks; may be called from any thread, also from a handler. If
        another run has begun a task of the graph, this run waits for it and uses its outcome.

        Args:
            executor: whose handlers, store and subscribers to use.
            max_workers: threads at most, at least 1; coroutines and retries take none while they
                wait. None means as many as the executor was given.
            fail_fast: stop as ``cancel`` does at the first failure of a required task.
            timeout: seconds, above 0; then stop as ``cancel`` does. None means no limit.
            finally_timeout: seconds that all finally tasks together may take once the run has been
                stopped; then they are cancelled too. None means no limit.
            retry_budget: retries of all tasks together, at least 0; None means no limit.
            limits: group name or TaskType to how many tasks of it this run may have running at
                once, at least 1, beside the limits of the executor.
            handle_sigterm: treat SIGTERM like Ctrl-C, and SIGHUP (a closed terminal) too unless the
                program ignores it; works in the main thread only. Without it these signals end the
                program at once: its commands go on, and no finally task runs.
            resume: reuse results of the latest graph with the same ``key`` in the executor's store:
                those of tasks with the same key (or unique title) and fingerprint that SUCCEEDED,
                if everything upstream of them is reused as well.
            wait: wait while another run has the graph's ``key``, in this process or in another one
                with the same ledger; otherwise that is an error.
            cache: what becomes of tasks with ``reuse`` whose result is in the store: "on" takes it
                over; "off" runs them; "verify" runs them too, and a task whose files (or value, if
                it declares no ``outputs``) are not the same again fails with DeclarationError,
                since it depends on something that it does not declare.

        Returns:
            The graph itself.

        Raises:
            GraphError: the graph is not valid, a run of it or (without ``wait``) of another graph
                with its key is active, or one of its tasks is running elsewhere. Nothing has
                started, and the store is unchanged.
            TypeError, ValueError: an argument is wrong.
            KeyboardInterrupt: Ctrl-C in the main thread, after running tasks have been ended and
                finally tasks have run; at a second Ctrl-C at once.
            RuntimeError: the executor is shut down; or it was called in a coroutine that this
                executor runs: use ``await graph.arun(executor)`` there.
            TaskCancelled: the caller is a handler that was left behind, or the run was cancelled
                while it waited for the key; nothing has started.
        """
        options = RunOptions(
            _workers(executor, "run_graph", max_workers),
            fail_fast,
            timeout,
            finally_timeout,
            retry_budget,
            limits,
            handle_sigterm,
            resume,
            wait,
            cache,
        )
        executor.run_graph(self, options)
        return self

    async def arun(
        self,
        executor: GraphRunner,
        max_workers: int | None = None,
        *,
        fail_fast: bool = False,
        timeout: float | None = None,
        finally_timeout: float | None = None,
        retry_budget: int | None = None,
        limits: Limits | None = None,
        handle_sigterm: bool = False,
        resume: bool = False,
        wait: bool = False,
        cache: str = CACHE_ON,
    ) -> TaskGraph:
        """Like ``run``, but awaitable; coroutine tasks run on the caller's event loop.

        Cancelling the awaiting coroutine cancels the run, waits for its finally tasks and then
        raises ``asyncio.CancelledError``. ``asyncio.run`` does that at Ctrl-C. Arguments and errors
        as for ``run``; with ``handle_sigterm``, a KeyboardInterrupt ends the event loop once the
        finally tasks have run.
        """
        options = RunOptions(
            _workers(executor, "arun_graph", max_workers),
            fail_fast,
            timeout,
            finally_timeout,
            retry_budget,
            limits,
            handle_sigterm,
            resume,
            wait,
            cache,
        )
        await executor.arun_graph(self, options)
        return self

    def start(
        self,
        executor: GraphRunner,
        max_workers: int | None = None,
        *,
        fail_fast: bool = False,
        timeout: float | None = None,
        finally_timeout: float | None = None,
        retry_budget: int | None = None,
        limits: Limits | None = None,
        resume: bool = False,
        wait: bool = False,
        cache: str = CACHE_ON,
    ) -> Run:
        """Like ``run``, on a thread of its own: return as soon as the run has begun.

        With ``wait`` it returns even before that, while another run has the key. The interpreter
        waits for the thread before it exits. If a handler calls this, the run is not part of that
        task. Arguments and errors as for ``run``.

        Returns:
            The run, which can be waited for, cancelled and examined.
        """
        options = RunOptions(
            _workers(executor, "start_graph", max_workers),
            fail_fast,
            timeout,
            finally_timeout,
            retry_budget,
            limits,
            resume=resume,
            wait=wait,
            cache=cache,
        )
        return executor.start_graph(self, options)

    @property
    def latest_run(self) -> Run | None:
        """The run that is active, or else the latest one in this process; None before the first."""
        return self._state.run

    def facts(self) -> RunFacts:
        """Return what the latest run has done so far, as plain data; see `Run.facts`.

        Raises:
            GraphError: the graph has not run in this process.
        """
        return self._run().facts()

    def why(self, task: Task | str) -> str:
        """Say in one sentence why a task of the latest run waits, ran, did not run or failed.

        Args:
            task: the task, or its id, key or title.

        Raises:
            TypeError, LookupError: as for `Run.why`.
            GraphError: the graph has not run in this process.
        """
        return self._run().why(task)

    def report(self) -> Any:
        """Return a `RunReport` of the latest run as it is now.

        Raises:
            GraphError: the graph has not run in this process.
        """
        return self._run().report()

    def _run(self) -> Run:
        run = self._state.run
        if run is None:
            raise GraphError(
                f"Graph {self.title!r} has not run in this process; "
                "run it, or look for its runs in the store (store.runs)"
            )
        return run

    def cancel(self) -> None:
        """Stop the run: pending tasks become CANCELLED, running ones are cancelled, finally tasks
        run, and ``run`` returns.

        Without an active run the pending tasks become CANCELLED, except finally tasks. Idempotent;
        from any thread, handler or subscriber; does not wait.
        """
        state = self._state
        for node in self._nodes.values():
            if state.active:  # perhaps only since a moment ago
                break
            if not node.finally_ and node.task.is_pending:
                node.task.cancel()
        if state.active and state.handle is not None:
            state.handle.cancel()

    def request_cancel(self) -> None:
        """Ask for ``cancel`` and leave carrying it out to the run's own thread; a second request
        is like a second Ctrl-C. Safe in signal handlers and on event loops: it never waits.
        """
        handle = self._state.handle
        if handle is not None and self._state.active:
            handle.request_cancel()

    def __repr__(self) -> str:
        return f"<TaskGraph {self.id} {self.title!r} {len(self)} tasks>"

    def _node(self, task: Task) -> Node:
        check_task("task", task)
        return self._all()[task.id]

    def _after(self, task: Task) -> tuple[Task, ...]:
        node = self._all().get(task.id)
        return () if node is None else node.after

    def _checked_edges(self) -> Topology:
        """The edges that ``validate`` has left, or new ones. They are not kept for a second run."""
        found, self._topology = self._topology, None
        if found is None or self._named:  # titles and keys may have changed
            nodes = self.nodes()
            found = topology([node.task for node in nodes], [node.after for node in nodes])
        return found

    def _change(self) -> None:
        if self._state.active:
            raise GraphError(f"Graph {self.title!r} cannot be changed while it is running")
        self._dependents = self._complete = self._topology = None


# For the engine and for stores, not for users.

state_of: Callable[[TaskGraph], RunState] = attrgetter("_state")
"""The latest run of a graph."""


topology_of: Callable[[TaskGraph], Topology] = methodcaller("_checked_edges")
"""The checked edges of a graph, as numbers in insertion order; raises as ``validate``."""


class _Edges(NamedTuple):
    """The dependencies of a task: as they were given, and without names.

    The same object twice if there are no names.
    """

    given: tuple[Upstream, ...]
    tasks: tuple[Task, ...]


def _workers(executor: GraphRunner, needed: str, max_workers: int | None) -> int:
    """How many workers to use; ``needed`` is the method that the executor must have."""
    if not hasattr(executor, needed):
        raise wrong_type("executor", executor, "a TaskExecutor")
    return executor.max_workers if max_workers is None else max_workers


def _edges(task: Task, after: Iterable[Upstream] | Upstream) -> _Edges:
    """The dependencies of a task: those among its arguments, then those that are named."""
    edges = _check_upstreams("after", after)
    if type(task.payload) is not Call:
        return edges
    used = task.payload.references()
    if task in used:
        raise CycleError([task])
    lost = [item for item in used if not isinstance(item, Task)]
    if lost:
        raise GraphError(
            f"Task {task.title!r} needs the value of task {lost[0].id}, which was not loaded with "
            "it; load the graph that both are part of"
        )
    if not used:
        return edges
    tasks = tuple(dict.fromkeys((*used, *edges.tasks)))
    if edges.given is edges.tasks:
        return _Edges(tasks, tasks)
    return _Edges(tuple(dict.fromkeys((*used, *edges.given))), tasks)


def _check_upstreams(name: str, value: object) -> _Edges:
    """The dependencies in an argument that takes one or several, each once."""
    if isinstance(value, (Task, str)):
        value = (value,)
    elif not isinstance(value, (tuple, list)) and (
        isinstance(value, bytes) or not isinstance(value, Iterable)
    ):
        raise wrong_type(name, value, "a Task, the key or title of one, or an iterable of them")
    found: dict[str, Task] = {}
    names: dict[str, Upstream] = {}  # with the tasks, if there are names
    for position, item in enumerate(value):
        if isinstance(item, Task):
            found[item.id] = item
            if names:
                names[item.id] = item
        elif isinstance(item, str):
            names = names or {**found}
            names[item] = check_str(f"{name}[{position}]", item, empty=False)
        else:
            raise wrong_type(f"{name}[{position}]", item, "a Task, or the key or title of one")
    tasks = tuple(found.values())
    return _Edges(tuple(names.values()), tasks) if names else _Edges(tasks, tasks)


def _walk(start: Iterable[Task], after: Callable[[Task], Iterable[Task]]) -> dict[str, Task | None]:
    """All tasks that can be reached: id to the task it was reached from, None for the start."""
    came_from: dict[str, Task | None] = {task.id: None for task in start}
    stack = list(start)
    while stack:
        task = stack.pop()
        for item in after(task):
            if item.id not in came_from:
                came_from[item.id] = task
                stack.append(item)
    return came_from
