"""Reports of real runs: live, finished, and from a ledger, with equal content."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reportkit import check_json
from support import CUSTOM, Gate, bounded, make
from ttasks import (
    GraphError,
    InMemoryStore,
    RetryPolicy,
    RunReport,
    SQLiteStore,
    Task,
    TaskContext,
    TaskExecutor,
    TaskGraph,
    TaskStatus,
    task,
)

SECRET = "hunter2"


@task
def divide(number: int, by: int) -> float:
    return number / by


def build(key: str | None = "checks", by: int = 0) -> TaskGraph:
    """A graph with a bit of everything."""
    graph = TaskGraph("checks", key=key)
    first = graph.add(Task.bash("echo one; echo two >&2", title="first", group="db"))
    flaky = make("flaky", retry=RetryPolicy(max_attempts=2))
    graph.add(flaky, after=first)
    wrong = graph.add(divide.task(1, by), after=first)
    graph.add(Task.bash("exit 3", title="exit 3"), required=False)
    graph.add(Task.bash("true", title="behind"), after=wrong)
    graph.add(Task.bash("echo clean", title="clean"), after=[wrong, flaky], finally_=True)
    return graph


def fails_once(context: TaskContext) -> str:
    if context.attempt == 1:
        raise ValueError("not yet")
    return "done"


@pytest.fixture
def executor() -> Iterator[TaskExecutor]:
    with TaskExecutor(InMemoryStore()) as made:
        made.register(CUSTOM, fails_once)
        yield made


def test_a_finished_graph_has_a_report_in_every_format(executor: TaskExecutor) -> None:
    graph = build()
    report = bounded(lambda: graph.run(executor)).report()
    assert isinstance(report, RunReport)
    check_json(report)
    assert {entry.title for entry in report.failed} == {"divide", "exit 3"}
    assert [entry.title for entry in report.blocked] == ["behind"]
    by_title = {entry.title: entry for entry in report.entries.values()}
    assert by_title["first"].output == "one"
    assert len(by_title["flaky"].attempts) == 2
    assert "ZeroDivisionError" in by_title["divide"].message
    assert by_title["divide"].function.endswith("divide")
    assert by_title["behind"].blocked_by == by_title["divide"].id
    assert by_title["clean"].is_finally
    assert report.exit_code == 1
    for name in ("text", "json", "junit", "markdown", "html", "mermaid", "dot", "trace"):
        assert "divide" in getattr(report, f"to_{name}")()


def test_graph_run_and_store_give_equal_reports(tmp_path: Path) -> None:
    with SQLiteStore(tmp_path / "ledger.db") as store, TaskExecutor(store) as executor:
        executor.register(CUSTOM, fails_once)
        graph = build()
        run = graph.start(executor)
        assert run.wait(30)
        reports = {
            "graph": graph.report(),
            "class": RunReport.from_graph(graph),
            "run": run.report(),
            "store": RunReport.from_store(store),
            "id": RunReport.from_store(store, run=run.id),
            "prefix": RunReport.from_store(store, run=run.id[:8]),
            "key": RunReport.from_store(store, key="checks"),
        }
    with SQLiteStore(tmp_path / "ledger.db") as again:
        reports["another time"] = RunReport.from_store(again)
    wrong = {name: report.select(["divide"]).failed[0] for name, report in reports.items()}
    assert {entry.arguments for entry in wrong.values()} == {"1, 0"}
    assert all(entry.function.endswith("divide") for entry in wrong.values())
    documents = {name: comparable(report) for name, report in reports.items()}
    for name, document in documents.items():
        assert document == documents["graph"], name
    for name in ("junit", "markdown", "mermaid", "dot", "trace"):
        texts = {getattr(report, f"to_{name}")() for report in reports.values()}
        assert len(texts) == 1, name


def comparable(report: RunReport) -> dict[str, Any]:
    """The JSON of a report, without what a ledger keeps of failed tasks only."""
    document = check_json(report)
    for item in document["tasks"]:
        for name in ("function", "arguments"):
            del item[name]
    return document


def test_a_live_report_shows_what_runs_and_what_waits(executor: TaskExecutor) -> None:
    gate = Gate()
    executor.register(CUSTOM, gate)
    graph = TaskGraph("live")
    first = graph.add(make("first"))
    second = graph.add(make("second"), after=first)
    run = graph.start(executor)
    try:
        gate.wait_reached()
        report = graph.report()
        check_json(report)
        assert report.entries[first.id].status is TaskStatus.RUNNING
        assert report.entries[second.id].spans[-1].because == (first.id,)
        assert "live is running" in report.to_text(100, False)
        assert "second" in report.to_html()
    finally:
        gate.open()
        assert run.wait(30)
    assert graph.report().ok


def test_earlier_runs_tell_what_was_slower(tmp_path: Path) -> None:
    def run(executor: TaskExecutor, seconds: str) -> None:
        graph = TaskGraph("slow", key="slow")
        graph.add(Task.bash(f"sleep {seconds}", title="sleeper"))
        bounded(lambda: graph.run(executor))

    with SQLiteStore(tmp_path / "ledger.db") as store, TaskExecutor(store) as executor:
        run(executor, "0")
        run(executor, "0")
        run(executor, "0.2")
        report = RunReport.from_store(store)
        (slower,) = report.numbers.slower
        assert report.entries[slower.task_id].title == "sleeper"
        assert slower.median < 0.15 < slower.seconds
        first = list(store.runs)[-1]
        assert RunReport.from_store(store, run=first).numbers.slower == ()
        found = report.compare(RunReport.from_store(store, run=first))
        assert [change.title for change in found.slower] == ["sleeper"]


# Secrets


def test_nothing_that_is_redacted_gets_into_any_format(tmp_path: Path) -> None:
    with (
        SQLiteStore(tmp_path / "ledger.db") as store,
        TaskExecutor(store, redact=[SECRET], capture_locals=True) as executor,
    ):

        @executor.handler(CUSTOM)
        def leak(context: TaskContext) -> str:
            password = context.payload
            context.emit_output(f"using {password}\n")
            raise ValueError(f"wrong password {password}")

        graph = TaskGraph(f"graph of {SECRET}", key="secret")
        graph.add(Task.bash(f"echo {SECRET}"))
        graph.add(Task.bash(f"echo {SECRET} >&2; exit 1", title=f"say {SECRET}"))
        graph.add(make(f"leak {SECRET}", SECRET, retry=RetryPolicy(max_attempts=2)))
        graph.add(Task.python(echo, (SECRET,), {"again": SECRET}, title="echo"))
        bounded(lambda: graph.run(executor))
        check_hidden(graph.report(), tmp_path)
        # A ledger keeps values as handlers returned them, and what to show in place of some.
        stored = RunReport.from_store(store)
        assert [entry.value for entry in stored.entries.values() if entry.value] == ["'******'"]
        check_hidden(stored, tmp_path)


@pytest.mark.parametrize("code", ["\x1b[1m", "\x1b]0;title\x07", "\0", "\u200b"])
def test_a_secret_with_a_code_in_it_gets_into_no_format(tmp_path: Path, code: str) -> None:
    marked = SECRET[:4] + code + SECRET[4:]

    def leak() -> None:
        print(f"printed {marked[:6]}", end="")
        print(f"{marked[6:]}.")
        raise ValueError(f"raised {marked}")

    with TaskExecutor(redact=[SECRET]) as executor:
        graph = TaskGraph(f"graph of {marked}")
        graph.add(Task.bash("cat; exit 1", stdin=f"written {marked}", title=f"write {marked}"))
        graph.add(Task.python(leak, capture_print=True))
        bounded(lambda: graph.run(executor))
    report = graph.report()
    check_hidden(report, tmp_path)
    assert [entry.title for entry in report.entries.values()] == ["write ***", "leak"]
    assert [entry.output for entry in report.entries.values()] == ["written ***", "printed ***."]
    assert [entry.error for entry in report.entries.values()][1] == "raised ***"


def check_hidden(report: RunReport, folder: Path) -> None:
    for suffix in (".txt", ".json", ".xml", ".md", ".html", ".mmd", ".dot", ".trace.json"):
        assert SECRET not in report.write(folder / f"report{suffix}").read_text(), suffix


def echo(text: str, again: str) -> str:
    return text + again


# What is not there


def test_a_store_without_runs_says_so(tmp_path: Path) -> None:
    with SQLiteStore(tmp_path / "ledger.db") as ledger:
        check_empty(ledger)
    check_empty(InMemoryStore())


def check_empty(store: InMemoryStore | SQLiteStore) -> None:
    with pytest.raises(LookupError, match="the store has no run"):
        RunReport.from_store(store)
    with pytest.raises(LookupError, match="no run of a graph with the key 'nightly'"):
        RunReport.from_store(store, key="nightly")
    with pytest.raises(LookupError, match="no run whose id is or begins with '123'; it has 0"):
        RunReport.from_store(store, run="123")


@pytest.mark.parametrize("version", [1, 2])
def test_a_ledger_from_before_there_were_runs_says_so(tmp_path: Path, version: int) -> None:
    source = Path(__file__).parents[2] / "fixtures" / f"ledger-v{version}.db"
    path = tmp_path / "ledger.db"
    path.write_bytes(source.read_bytes())
    with SQLiteStore(path) as store, pytest.raises(LookupError, match="the store has no run"):
        RunReport.from_store(store)


def test_a_wrong_key_names_the_keys_that_there_are(executor: TaskExecutor) -> None:
    bounded(lambda: build("nightly").run(executor))
    with pytest.raises(LookupError, match=r"key 'nighly'; it has runs of 'nightly'"):
        RunReport.from_store(executor.store, key="nighly")


def test_run_and_key_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="run or key, not both"):
        RunReport.from_store(InMemoryStore(), run="1", key="2")


@pytest.mark.parametrize("name", ["run", "key"])
def test_ids_and_keys_are_strs(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        RunReport.from_store(InMemoryStore(), **{name: 3})
    with pytest.raises(ValueError, match=name):
        RunReport.from_store(InMemoryStore(), **{name: ""})


def test_a_store_is_what_has_runs() -> None:
    with pytest.raises(TypeError, match="store must be a store with runs"):
        RunReport.from_store({})  # type: ignore[arg-type]


def test_several_runs_that_begin_alike_are_named(executor: TaskExecutor) -> None:
    for _ in range(17):  # more than there are first digits
        bounded(lambda: build(None).run(executor))
    runs = list(executor.store.runs)
    digit = next(d for d in "0123456789abcdef" if sum(r.startswith(d) for r in runs) > 1)
    with pytest.raises(LookupError, match=f"runs have ids that begin with '{digit}'"):
        RunReport.from_store(executor.store, run=digit)


def test_graph_report_before_the_first_run_is_an_error() -> None:
    with pytest.raises(GraphError, match="has not run in this process"):
        TaskGraph("new").report()
