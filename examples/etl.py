"""Functions as tasks, with values between them: extract, transform, load.

A task among the arguments of another stands for its value, and makes it a dependency. Threads are
the default, ``async def`` goes to the event loop, and what computes for long to a process.
"""

from __future__ import annotations

import asyncio
import csv
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from ttasks import (
    PythonTask,
    RetryPolicy,
    TaskExecutor,
    TaskGraph,
    TaskLogFilter,
    current_context,
    task,
)

Row = dict[str, str]


@task(retry=RetryPolicy(3, backoff=0.1, retry_on=(OSError,)))
def extract(path: Path) -> list[Row]:
    """Read a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@task
async def rates() -> dict[str, float]:
    """Ask somebody far away, as it were."""
    await asyncio.sleep(0.01)
    return {"EUR": 1.0, "USD": 0.5}


@task(backend="process", timeout=60)
def transform(rows: list[Row], rate: dict[str, float]) -> dict[str, float]:
    """Sum up by customer. Runs in a process of its own, which a timeout really ends."""
    sums: dict[str, float] = {}
    context = current_context()
    for number, row in enumerate(rows, 1):
        amount = float(row["amount"]) * rate[row["currency"]]
        sums[row["customer"]] = sums.get(row["customer"], 0.0) + amount
        if context is not None:
            context.emit_progress(100 * number / len(rows))
    return sums


class Load(PythonTask[int]):
    """The class form: settings are class attributes, the work is ``run``."""

    timeout = 10
    title = "load the sums"

    def run(self, target: Path, *parts: dict[str, float]) -> int:
        """Write the sums of all parts; returns how many there are."""
        merged: dict[str, float] = {}
        for part in parts:
            for name, amount in part.items():
                merged[name] = merged.get(name, 0.0) + amount
        target.write_text(json.dumps(merged, sort_keys=True), encoding="utf-8")
        return len(merged)


def main() -> None:
    import logging

    handler = logging.StreamHandler()
    handler.addFilter(TaskLogFilter())
    handler.setFormatter(logging.Formatter("[%(task_title)s] %(message)s"))
    logging.basicConfig(handlers=[handler])

    with TemporaryDirectory() as name:
        folder = Path(name)
        for month, amount in (("june", 10), ("july", 20)):
            (folder / f"{month}.csv").write_text(
                f"customer,currency,amount\nann,EUR,{amount}\nbob,USD,{amount}\n", encoding="utf-8"
            )
        graph = TaskGraph("etl")
        rate = graph.add(rates.task())
        sums = []
        for month in ("june", "july"):
            rows = graph.add(extract.having(title=f"extract {month}").task(folder / f"{month}.csv"))
            # As it is for a type checker; `task(rows, rate)` does the same.
            part = transform.having(title=f"sum up {month}")
            sums.append(graph.add(part.task(rows.as_argument, rate.as_argument)))
        load = graph.add(Load(folder / "sums.json", *sums))

        with TaskExecutor() as executor:
            graph.run(executor)
        graph.raise_for_failure()
        for done in graph:
            print(f"{done.status.value:10} {done.title}")
        print(load.value, "customers:", (folder / "sums.json").read_text(encoding="utf-8"))
        assert load.value == 2


if __name__ == "__main__":  # worker processes load this file, and must not run it
    main()
