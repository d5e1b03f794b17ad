"""What the documentation of ttasks 0.3 shows, page by page, in the API of today."""

from __future__ import annotations

import threading
from datetime import datetime
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from ttasks import (
    InMemoryStore,
    RetryPolicy,
    SQLiteStore,
    Task,
    TaskCancelled,
    TaskContext,
    TaskEvent,
    TaskEventType,
    TaskExecutionError,
    TaskExecutor,
    TaskGraph,
    TaskTimeoutError,
    TaskType,
)
from ttasks.testing import FakeHandler, FakePromptHandler

# The first example of its README, word for word.
FIRST_EXAMPLE = """
from ttasks import Task, TaskExecutor

executor = TaskExecutor()
task = Task.bash("echo hello", title="Say hello")

result = executor.execute(task)

assert task.is_done
assert result.output == "hello\\n"
assert task.result is result
"""


def test_the_first_example_runs_word_for_word() -> None:
    exec(compile(FIRST_EXAMPLE, "README.md of 0.3", "exec"), {})


# Task execution


def test_a_result_has_all_its_fields() -> None:
    with TaskExecutor() as executor:
        result = executor.execute(Task.bash("pwd", title="where", description="the folder"))
    assert result.status.value == "succeeded"
    assert result.error is None
    assert result.returncode == 0
    assert isinstance(result.started_at, datetime)
    assert result.started_at <= result.finished_at
    assert result.duration > 0
    assert isinstance(result.raw, CompletedProcess)


def test_a_handler_replaces_the_one_for_a_type() -> None:
    executor = TaskExecutor()
    executor.register(TaskType.BASH, lambda context: "handled")
    assert executor.execute(Task.bash("ls")).output == "handled"


def test_upstream_tasks_are_passed_by_hand() -> None:
    executor = TaskExecutor()
    executor.register(
        TaskType.PROMPT, lambda context: [task.title for task in context.upstream.values()]
    )
    parent, child = Task.bash("true", title="parent"), Task.prompt("what came before?")
    result = executor.execute(child, upstream={parent.id: parent})
    assert result.value == ["parent"]


def test_a_prompt_gives_its_text() -> None:
    with TaskExecutor() as executor:
        executor.register(TaskType.PROMPT, FakePromptHandler(["A graph without circles."]))
        task = Task.prompt("What is a DAG?", title="DAGs")
        assert executor.execute(task).output == "A graph without circles."


def test_a_store_holds_tasks_and_graphs(tmp_path: Path) -> None:
    store = InMemoryStore()
    task = Task.bash("echo hi", title="hello")
    store.tasks.save(task)
    assert store.tasks[task.id] is task
    graph = TaskGraph(title="build")
    graph.add(task)
    store.graphs.save(graph)
    assert graph in store.graphs
    with SQLiteStore(tmp_path / "ledger.db") as ledger, TaskExecutor(ledger) as executor:
        graph.run(executor)
        assert ledger.tasks[task.id].is_succeeded


def test_a_stored_task_is_cancelled_by_its_id() -> None:
    store = InMemoryStore()
    task = Task.bash("true")
    store.tasks.save(task)
    store.tasks.cancel(task.id)
    assert task.is_cancelled


def test_a_failing_command_says_what_it_printed() -> None:
    task = Task.bash("echo boom >&2; exit 7", title="fails")
    with TaskExecutor() as executor, pytest.raises(TaskExecutionError):
        executor.execute(task)
    assert task.is_failed
    assert task.result is not None
    assert (task.result.error, task.result.returncode) == ("boom\n", 7)


# Graphs


def pipeline() -> tuple[TaskGraph, list[Task]]:
    tasks = [Task.bash(f"echo {name}", title=name) for name in ("build", "test", "package")]
    graph = TaskGraph(title="pipeline")
    graph.add(tasks[0])
    graph.add(tasks[1], after=[tasks[0]])
    graph.add(tasks[2], after=[tasks[1]])
    return graph, tasks


def test_a_graph_runs_in_order() -> None:
    graph, tasks = pipeline()
    with TaskExecutor() as executor:
        graph.run(executor)
    assert graph.ok
    assert graph.succeeded == tasks
    assert graph.created_at <= datetime.now(graph.created_at.tzinfo)


def test_edges_may_be_assigned() -> None:
    build, test = Task.bash("true"), Task.bash("true")
    graph = TaskGraph()
    graph[build] = []
    graph[test] = [build]
    with TaskExecutor() as executor:
        assert graph.run(executor).succeeded == [build, test]
    assert (graph.roots(), graph.leaves()) == ([build], [test])


def test_a_handler_sees_its_direct_dependencies_only() -> None:
    seen: list[list[str]] = []

    def handler(context: TaskContext) -> str:
        seen.append([task.title for task in context.upstream.values()])
        return context.title

    executor = TaskExecutor.empty()
    executor.register(TaskType.BASH, handler)
    graph, _ = pipeline()
    graph.run(executor)
    assert seen == [[], ["build"], ["test"]]


def test_a_graph_is_run_again_and_extended() -> None:
    graph, tasks = pipeline()
    with TaskExecutor() as executor:
        graph.run(executor)
        late = graph.add(Task.bash("echo late"), after=tasks[2])
        graph.run(executor)
    assert late.is_done


def test_finally_tasks_clean_up_and_report_and_optional_ones_may_fail(tmp_path: Path) -> None:
    artifact = tmp_path / "artifact"

    def handler(context: TaskContext) -> str:
        match context.payload:
            case "build":
                artifact.write_text("half")
                raise RuntimeError("compiler failed")
            case "clean":
                artifact.unlink()
                return "clean"
            case "report":
                return ", ".join(f"{t.title}: {t.status.value}" for t in context.upstream.values())
        raise RuntimeError("nobody there to recommend anything")

    executor = TaskExecutor.empty()
    executor.register(TaskType.BASH, handler)
    build, clean, report, recommend = (
        Task.bash(name, title=name) for name in ("build", "clean", "report", "recommend")
    )
    graph = TaskGraph(title="finally")
    graph.add(build)
    graph.add(clean, after=[build], finally_=True)
    graph.add(report, after=[build, clean], finally_=True)
    graph.add(recommend, after=[report], finally_=True, required=False)
    graph.run(executor)
    assert not graph.ok
    assert not artifact.exists()
    assert report.result is not None
    assert report.result.output == "build: failed, clean: succeeded"
    assert graph.required_failed == [build]
    assert graph.optional_failed == graph.optional_tasks == [recommend]
    assert graph.finally_tasks == [clean, report, recommend]


# Progress and output


def test_events_come_in_order_and_a_bad_subscriber_harms_nobody() -> None:
    seen: list[TaskEvent] = []

    def handler(context: TaskContext) -> str:
        context.emit_progress(25, "warming up")
        context.emit_progress(message="still working")
        return "done"

    executor = TaskExecutor.empty()
    executor.register(TaskType.BASH, handler)
    unsubscribe = executor.events.subscribe(lambda event: 1 / 0)
    with executor.events.subscribed(seen.append):
        executor.execute(Task.bash("x"))
    unsubscribe()
    unsubscribe()
    kinds = TaskEventType
    assert [event.type for event in seen] == [
        kinds.STARTED,
        kinds.PROGRESS,
        kinds.PROGRESS,
        kinds.SUCCEEDED,
    ]
    assert (seen[1].progress_percent, seen[2].progress_message) == (25.0, "still working")
    assert len(executor.events.errors) == 4


def test_output_streams_while_the_result_keeps_all_of_it() -> None:
    chunks: list[Any] = []
    with TaskExecutor() as executor:
        executor.events.subscribe(
            lambda event: chunks.append((event.output_stream, event.output_chunk)),
            types=TaskEventType.OUTPUT,
        )
        result = executor.execute(Task.bash("echo out; echo err >&2"))
    assert sorted(chunks) == [("stderr", "err\n"), ("stdout", "out\n")]
    assert (result.output, result.error) == ("out\n", "err\n")


# Retries, timeouts, cancellation


def test_a_policy_is_given_to_one_execution() -> None:
    executor = TaskExecutor.empty()
    handler = FakeHandler(default=[OSError("down"), OSError("down"), "up"])
    executor.register(TaskType.BASH, handler)
    result = executor.execute(
        Task.bash("./flaky"), retry_policy=RetryPolicy(max_attempts=3, backoff=0.0)
    )
    assert (result.attempts, result.output) == (3, "up")


def test_a_timeout_fails_the_task() -> None:
    task = Task.bash("sleep 30", timeout=0.2)
    with TaskExecutor() as executor, pytest.raises(TaskTimeoutError):
        executor.execute(task)
    assert task.is_failed
    assert "timed out" in str(task.error)


def test_submitted_work_is_cancelled_through_the_executor() -> None:
    started = threading.Event()
    task = Task.bash("echo started; sleep 30")
    with TaskExecutor() as executor:
        executor.events.subscribe(lambda event: started.set(), types=TaskEventType.OUTPUT)
        future = executor.submit(task)
        assert started.wait(10)
        executor.cancel(task)
        with pytest.raises(TaskCancelled):
            future.result(10)
    assert executor.is_shutdown


# scripts/preflight.py --recommend


def test_a_handler_hands_a_prompt_of_its_own_to_another_handler() -> None:
    prompts = FakePromptHandler(["Ship it."])

    def recommend(context: TaskContext) -> Any:
        found = "\n".join(f"{task.title} {task.status.value}" for task in context.upstream.values())
        return prompts(TaskContext(Task.prompt(f"What now?\n{found}", title=context.title)))

    check = Task.bash("exit 1", title="lint")
    advice = Task.prompt("made of what came before", title="advice")
    graph = TaskGraph()
    graph.add(check)
    graph.add(advice, after=check, finally_=True, required=False)
    with TaskExecutor() as executor:
        executor.register(TaskType.PROMPT, recommend)
        graph.run(executor)
    assert advice.result is not None
    assert advice.result.output == "Ship it."
    assert prompts.calls[0].text == "What now?\nlint failed"
