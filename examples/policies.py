"""Policies: what a task does when one that it depends on did not succeed.

A download fails. One task falls back to a mirror, one goes on with what there is, one is left out
and one runs in any case.
"""

from __future__ import annotations

from ttasks import DependencyPolicy, Task, TaskExecutor, TaskGraph


def main() -> None:
    graph = TaskGraph("policies")
    download = graph.add(Task.bash("exit 1", title="download"), required=False)
    local = graph.add(Task.bash("echo from the cache", title="local"))

    # Runs only if something went wrong.
    mirror = graph.add(
        Task.bash("echo from the mirror", title="mirror"),
        after=download,
        on_dep_failure=DependencyPolicy.ON_FAILURE,
    )
    # Runs if at least one source has worked.
    merge = graph.add(
        Task.bash("echo merged", title="merge"),
        after=[download, mirror, local],
        on_dep_failure=DependencyPolicy.CONTINUE_IF_ANY,
    )
    # Is left out, and that is fine.
    verify = graph.add(
        Task.bash("echo verified", title="verify"),
        after=download,
        on_dep_failure=DependencyPolicy.SKIP,
    )
    # Runs in any case, like a finally task, but not once the run has been stopped.
    notes = graph.add(
        Task.bash("echo notes", title="notes"),
        after=download,
        on_dep_failure=DependencyPolicy.RUN_ANYWAY,
    )
    # The default: cannot run, and the graph is not ok because of it unless it is optional.
    index = graph.add(Task.bash("echo index", title="index"), after=download, required=False)
    # Nothing has gone wrong before this one, so nobody needs the fallback.
    repair = graph.add(
        Task.bash("echo repaired", title="repair"),
        after=local,
        on_dep_failure=DependencyPolicy.ON_FAILURE,
    )

    with TaskExecutor() as executor:
        graph.run(executor)
    for task in graph:
        print(f"{task.status.value:<9} {task.title}")

    assert mirror.is_done
    assert merge.is_done
    assert verify.is_skipped
    assert notes.is_done
    assert index.is_blocked
    assert index.blocked_by == download.id
    assert repair.is_skipped
    assert graph.ok


if __name__ == "__main__":
    main()
