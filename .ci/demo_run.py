"""What the pictures of the documentation show: a release with checks and cleanup."""

from __future__ import annotations

import sys

from ttasks import RetryPolicy, SQLiteStore, Task, TaskExecutor, TaskGraph
from ttasks.console import console

LINT = "sleep 1.1; echo 'app/config.py:12:5: F841 local variable is never used'; exit 1"
UPLOAD = "test -e tried || { touch tried; sleep 0.4; echo '503 try again'; exit 1; }; sleep 0.6"


def build_graph() -> TaskGraph:
    graph = TaskGraph("release", key="release")
    server = graph.add(Task.bash("sleep 0.6", title="start server"))
    build = graph.add(Task.bash("sleep 1.6", title="build"))
    lint = graph.add(Task.bash(LINT, title="lint"))
    tests = [
        graph.add(Task.bash(f"sleep {seconds}", title=f"test {name}"), after=[server, build])
        for name, seconds in (("models", 1.2), ("views", 2.0), ("search", 2.6))
    ]
    retry = RetryPolicy(2, backoff=0.8)
    upload = Task.bash(UPLOAD, title="upload coverage", retry=retry)
    graph.add(upload, after=tests, required=False)
    graph.add(Task.bash("true", title="publish"), after=[*tests, lint])
    graph.add(Task.bash("sleep 0.7", title="stop server"), after=[server, *tests], finally_=True)
    return graph


def main(report: str) -> None:
    with SQLiteStore("ledger.sqlite") as store, TaskExecutor(store, max_workers=3) as executor:
        with console(executor, "live", color=True, rerun=lambda task: f"make {task.title}"):
            graph = build_graph().run(executor)
        graph.report().write(report)


if __name__ == "__main__":
    main(sys.argv[1])
