"""Events: everything that happens, as it happens.

Prints every event of a small graph, collects the output of one task, and shows that a subscriber
that fails does no harm.
"""

from __future__ import annotations

from ttasks import Task, TaskEvent, TaskEventType, TaskExecutor, TaskGraph


def show(event: TaskEvent) -> None:
    """Called on the thread that caused the event, so keep it quick."""
    details = event.error or ""
    if event.type is TaskEventType.OUTPUT:
        details = f"{event.output_stream}: {event.output_chunk!r}"
    title = event.task.title if event.task else "run"  # the run itself begins and ends
    print(f"{event.timestamp:%H:%M:%S.%f} {title:<6} {event.type.value:<11} {details}")


def build_graph() -> TaskGraph:
    graph = TaskGraph("events")
    count = graph.add(Task.bash("echo 1; echo 2; echo done >&2", title="count"))
    fail = graph.add(Task.bash("exit 4", title="fail"), after=count)
    graph.add(Task.bash("true", title="never"), after=fail)
    return graph


def main() -> None:
    seen: list[TaskEvent] = []
    graph = build_graph()
    with TaskExecutor() as executor:
        executor.events.subscribe(show)
        # Only some kinds of events; what nobody subscribed to is not even built.
        executor.events.subscribe(lambda event: 1 / 0, types=[TaskEventType.FAILED])
        # Those of runs have no task, and have to be named; the class of the types names all.
        with executor.events.subscribed(seen.append, types=TaskEventType):
            graph.run(executor)
        errors = executor.events.errors

    assert (seen[0].type, seen[-1].type) == (TaskEventType.RUN_STARTED, TaskEventType.RUN_ENDED)
    kinds = [(event.task.title, event.type.name) for event in seen[1:-1]]
    assert kinds[0] == ("count", "STARTED")
    assert kinds[-4:] == [
        ("count", "SUCCEEDED"),
        ("fail", "STARTED"),
        ("fail", "FAILED"),
        ("never", "BLOCKED"),
    ]
    printed = [event.output_chunk or "" for event in seen if event.output_stream == "stdout"]
    assert "".join(printed) == "1\n2\n"
    assert [type(error) for error in errors] == [ZeroDivisionError]
    print("The run went on after:", repr(errors[0]))


if __name__ == "__main__":
    main()
