"""A value whose attributes raise SystemExit does not keep the end of its task from the ledger."""

from ttasks import SQLiteStore, Task, TaskExecutor, TaskStatus, TaskType


class Exiting:
    def __getattr__(self, name: str) -> object:
        raise SystemExit(name)


def test_end_is_saved_and_announced() -> None:
    kind = TaskType("exiting value")
    seen = []
    with SQLiteStore(":memory:") as store, TaskExecutor(store) as executor:
        executor.register(kind, lambda _context: Exiting())
        executor.events.subscribe(lambda event: seen.append(event.status))
        task = Task("exiting", None, kind)
        executor.execute(task)
        assert store.tasks[task.id].status is TaskStatus.SUCCEEDED
    assert seen == [TaskStatus.RUNNING, TaskStatus.SUCCEEDED]
