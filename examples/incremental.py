"""Build only what has changed: inputs, outputs, and why a task ran.

    python incremental.py

Makes two small files in a temporary folder and builds them three times.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from ttasks import SQLiteStore, Task, TaskExecutor, TaskGraph


def build(folder: Path) -> TaskGraph:
    """One task for each source, and one that joins what they make."""
    graph = TaskGraph("build", key="build")
    parts = []
    for source in sorted(folder.glob("*.txt")):
        name = source.stem
        parts.append(
            graph.add(
                Task.bash(
                    f"tr a-z A-Z < {name}.txt > {name}.part",
                    title=name,
                    cwd=folder,
                    reuse=True,
                    inputs=source.name,
                    outputs=f"{name}.part",
                )
            )
        )
    join = Task.bash(
        "cat *.part > all",
        title="join",
        cwd=folder,
        reuse=True,
        inputs=[f"{part.title}.part" for part in parts],
        outputs="all",
    )
    graph.add(join, after=parts)
    return graph


def main() -> None:
    """Build, build again, change a file, and build once more."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "one.txt").write_text("one\n")
        (folder / "two.txt").write_text("two\n")
        with SQLiteStore(folder / "ledger.sqlite") as store, TaskExecutor(store) as executor:
            for number in (1, 2, 3):
                if number == 3:
                    (folder / "two.txt").write_text("zwei\n")
                graph = build(folder).run(executor)
                graph.raise_for_failure()
                print(f"build {number}")
                for task in graph:
                    print("  skipped" if task.result.reused else "  ran    ", task.title)
                if number == 3 and graph.latest_run is not None:
                    print(graph.latest_run.why("two"))
        print((folder / "all").read_text(), end="")


if __name__ == "__main__":
    main()
