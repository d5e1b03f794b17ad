"""SQLiteStore does what InMemoryStore does, whatever is done to both in whatever order."""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from ttasks.model.graph import TaskGraph
from ttasks.model.policy import DependencyPolicy, RetryPolicy
from ttasks.model.result import Failure, TaskResult
from ttasks.model.status import TRANSITIONS, TaskStatus
from ttasks.model.task import Task
from ttasks.model.task_type import TaskType
from ttasks.stores.memory import InMemoryStore
from ttasks.stores.sqlite import SQLiteStore

KIND = TaskType("kind")
MOMENT = datetime(2030, 1, 1, tzinfo=UTC)

texts = st.text(st.characters(codec=None), max_size=8)  # lone surrogates included
names = texts.filter(str.strip)
numbers = st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
moments = st.timedeltas(timedelta(days=-20_000), timedelta(days=20_000)).map(MOMENT.__add__)
policies = st.builds(
    RetryPolicy,
    st.integers(1, 9),
    st.floats(0, 9),
    jitter=st.floats(0, 1),
    retry_on=st.sampled_from([OSError, (ValueError, KeyError), (), Exception]),
)
settings = st.fixed_dictionaries(
    {},
    optional={
        "description": texts,
        "timeout": st.floats(0.001, 1e6),
        "retry": policies,
        "priority": numbers,
        "deadline": moments,
        "group": names,
        "key": names,
        "version": names,
        "reuse": st.booleans(),
        "options": st.dictionaries(texts, values, max_size=2),
    },
)
tasks = st.builds(
    lambda title, payload, facts: Task(title, payload, KIND, **facts), names, values, settings
)
failures = st.builds(
    Failure,
    texts,
    texts,
    texts,
    st.dictionaries(texts, texts, max_size=2),
    st.lists(st.tuples(texts, texts), max_size=2).map(tuple),
)
results = st.fixed_dictionaries(
    {"started_at": moments, "finished_at": moments, "duration": st.floats(0, 1e6)},
    optional={
        "output": texts,
        "error": st.none() | texts,
        "returncode": st.integers(-64, 255),
        "value": values,
        "raw": values,
        "attempts": st.integers(0, 9),
        "termination_reason": st.sampled_from(["timeout", "handler"]),
        "failure": failures,
        "reused": st.booleans(),
        "output_truncated": st.booleans(),
        "output_files": st.dictionaries(texts, texts, max_size=2),
        "usage": st.dictionaries(texts, st.integers(0, 9), max_size=2),
    },
)


def facts_of(task: Task) -> dict[str, Any]:
    return task.__getstate__()


def facts_of_graph(graph: TaskGraph) -> tuple[Any, ...]:
    nodes = [
        (facts_of(task), [facts_of(upstream) for upstream in after], *flags)
        for task, after, *flags in graph.nodes()
    ]
    return graph.id, graph.title, graph.key, nodes


class Stores(RuleBasedStateMachine):
    """Does everything twice, and compares."""

    all_tasks: Bundle[Task] = Bundle("all_tasks")
    all_graphs: Bundle[TaskGraph] = Bundle("all_graphs")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.memory = InMemoryStore()
        self.sqlite = SQLiteStore(self.folder / "ledger")
        # Tasks that were deleted while a graph had them come back where they were before, not at
        # the end.
        self.moved: set[str] = set()

    def teardown(self) -> None:
        self.sqlite.close()
        shutil.rmtree(self.folder)

    def save(self, task: Task) -> None:
        self.memory.tasks.save(task)
        self.sqlite.tasks.save(task)

    @initialize(target=all_tasks, task=tasks)
    def first(self, task: Task) -> Task:
        self.save(task)
        return task

    @rule(target=all_tasks, task=tasks)
    def new_task(self, task: Task) -> Task:
        self.save(task)
        return task

    @rule(task=all_tasks)
    def save_again(self, task: Task) -> None:
        self.save(task)

    @rule(task=all_tasks, title=names, payload=values, settings=settings)
    def change(self, task: Task, title: str, payload: Any, settings: dict[str, Any]) -> None:
        if task.is_succeeded:
            return
        task.title, task.payload = title, payload
        for name, value in settings.items():
            setattr(task, name, value)
        self.save(task)

    @rule(
        task=all_tasks, status=st.sampled_from(TaskStatus), error=st.none() | texts, facts=results
    )
    def move(self, task: Task, status: TaskStatus, error: str | None, facts: Any) -> None:
        if status not in TRANSITIONS[task.status]:
            return
        task.transition_to(status, error)
        if status in (TaskStatus.SUCCEEDED, TaskStatus.FAILED):
            result = TaskResult(task.id, status, **facts)
            task.__setstate__(facts_of(task) | {"result": result})
        self.save(task)

    @rule(task=all_tasks)
    def delete_task(self, task: Task) -> None:
        assert (task in self.memory.tasks) == (task in self.sqlite.tasks)
        if task in self.memory.tasks:
            if any(task in graph for graph in self.memory.graphs.values()):
                self.moved.add(task.id)
            del self.memory.tasks[task.id]
            del self.sqlite.tasks[task.id]

    @rule(
        target=all_graphs,
        members=st.lists(all_tasks, min_size=1, max_size=5, unique_by=id),
        title=texts,
        key=st.none() | names,
        data=st.data(),
    )
    def new_graph(
        self, members: list[Task], title: str, key: str | None, data: st.DataObject
    ) -> TaskGraph:
        graph = TaskGraph(title, key=key)
        self.fill(graph, members, data)
        return graph

    @rule(
        graph=all_graphs,
        members=st.lists(all_tasks, min_size=1, max_size=5, unique_by=id),
        data=st.data(),
    )
    def change_graph(self, graph: TaskGraph, members: list[Task], data: st.DataObject) -> None:
        self.fill(graph, members, data)

    def fill(self, graph: TaskGraph, members: list[Task], data: st.DataObject) -> None:
        for at, task in enumerate(members):
            graph.add(
                task,
                after=[task for task in members[:at] if data.draw(st.booleans())],
                finally_=data.draw(st.booleans()),
                required=data.draw(st.booleans()),
                on_dep_failure=data.draw(st.sampled_from(DependencyPolicy)),
            )
        self.memory.graphs.save(graph)
        self.sqlite.graphs.save(graph)

    @rule(graph=all_graphs)
    def delete_graph(self, graph: TaskGraph) -> None:
        assert (graph in self.memory.graphs) == (graph in self.sqlite.graphs)
        if graph in self.memory.graphs:
            del self.memory.graphs[graph.id]
            del self.sqlite.graphs[graph.id]

    @rule()
    def open_again(self) -> None:
        self.sqlite.close()
        self.sqlite = SQLiteStore(self.folder / "ledger")

    @rule(graph=all_graphs)
    def save_what_was_read(self, graph: TaskGraph) -> None:
        if graph.id in self.sqlite.graphs and all(task in self.sqlite.tasks for task in graph):
            self.sqlite.graphs.save(self.sqlite.graphs[graph.id])

    @invariant()
    def both_hold_the_same(self) -> None:
        for mine, theirs in (
            (self.sqlite.tasks, self.memory.tasks),
            (self.sqlite.graphs, self.memory.graphs),
        ):
            assert len(mine) == len(theirs)  # type: ignore[arg-type]
            assert set(mine) == set(theirs)
            assert [key for key in mine if key not in self.moved] == [
                key for key in theirs if key not in self.moved
            ]
        for key, task in self.memory.tasks.items():
            assert facts_of(self.sqlite.tasks[key]) == facts_of(task)
        for key, graph in self.memory.graphs.items():
            assert facts_of_graph(self.sqlite.graphs[key]) == facts_of_graph(graph)


TestStores = Stores.TestCase
