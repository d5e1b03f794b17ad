"""The path of one task: the Python calls a worker makes for it in a graph run with a ledger.

200 no-op tasks of a custom type run on one worker, with a SQLiteStore and without subscribers. A
period goes from one call of the handler to the next: the end of one task and the begin of another.
The period with the median number of calls is shown. Calls are counted on the worker's thread, in
the order in which they are made; a change of file is a call in another file than the call before
it. The handler itself does not count, nor do functions written in C.

Two counts are given. "all Python" counts every call of Python code, that of the standard library
and generated constructors included. "library" counts the code of ttasks alone.

    python benchmarks/path.py [--src FOLDER] [--trace]
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

TASKS = 200
TARGET = "70 / 40 / 12 / 30"


class Call(NamedTuple):
    """A call, and how deep in the stack it was made, counted from where profiling began."""

    code: CodeType
    depth: int


def noop(_context: object) -> None:
    """Do nothing: the handler."""


def periods() -> list[list[Call]]:
    """The calls between each two calls of the handler, on the thread that made them."""
    from ttasks import SQLiteStore, Task, TaskExecutor, TaskGraph, TaskType

    calls: defaultdict[int, list[Call]] = defaultdict(list)
    depths: Counter[int] = Counter()

    def note(frame: FrameType, event: str, _argument: Any) -> None:
        thread = threading.get_ident()
        if event == "call":
            calls[thread].append(Call(frame.f_code, depths[thread]))
            depths[thread] += 1
        elif event == "return":
            depths[thread] -= 1

    kind = TaskType("noop")
    graph = TaskGraph("path")
    for at in range(TASKS):
        graph.add(Task(f"task {at}", None, kind))
    with (
        tempfile.TemporaryDirectory() as folder,
        SQLiteStore(Path(folder, "ledger")) as store,
        TaskExecutor(store) as executor,
    ):
        executor.register(kind, noop)
        threading.setprofile(note)  # for the threads that begin from now on
        sys.setprofile(note)
        try:
            graph.run(executor, max_workers=1)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    assert graph.ok
    found = []
    for made in calls.values():
        starts = [at for at, call in enumerate(made) if call.code is noop.__code__]
        found += [made[a + 1 : b] for a, b in pairwise(starts)]
    assert len(found) > TASKS / 2, "the handler was not called on one worker's thread"
    return found


def count(calls: Iterable[Call]) -> tuple[int, int, int, int]:
    """Calls, distinct functions, distinct files, changes of file."""
    codes = [call.code for call in calls]
    files = [code.co_filename for code in codes]
    changes = sum(file != before for before, file in pairwise(files))
    return len(codes), len(set(codes)), len(set(files)), changes


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--src", type=Path, help="folder to import ttasks from")
    options.add_argument("--trace", action="store_true", help="print the calls, indented")
    chosen = options.parse_args()
    if chosen.src is not None:
        sys.path.insert(0, str(chosen.src.resolve()))
    import ttasks

    root = Path(ttasks.__file__).parent

    def is_library(call: Call) -> bool:
        return Path(call.code.co_filename).is_relative_to(root)

    def file_of(call: Call) -> str:
        path = Path(call.code.co_filename)
        return str(path.relative_to(root)) if is_library(call) else f"({path.name})"

    calls = sorted(periods(), key=len)[TASKS // 2]
    own = [call for call in calls if is_library(call)]
    if chosen.trace:
        least = min(call.depth for call in calls)
        for call in calls:
            print(f"{'  ' * (call.depth - least)}{call.code.co_qualname}  {file_of(call)}")
        print()
    for file, number in Counter(map(file_of, calls)).most_common():
        print(f"{number:4}  {file}")
    print(f"\nPython {platform.python_version()}; calls / functions / files / changes of file")
    for name, which in (("all Python", calls), ("library", own)):
        print(f"{name:12} {' / '.join(map(str, count(which)))}")
    print(f"{'target':12} {TARGET}")


if __name__ == "__main__":
    main()
