"""``ttasks run --watch``: run again whenever files change.

Each run is a process of its own, so that the program of the user is imported anew. Files are
watched from before the first run on, also while one goes on: what changes meanwhile leads to the
next run.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

from ttasks import sync
from ttasks.cli import ledgers
from ttasks.cli.exits import SIGNAL, CommandError
from ttasks.errors import MissingExtraError
from ttasks.report.labels import joined

_DEBOUNCE_MILLISECONDS = 400
_SLICE_MILLISECONDS = 100  # after which Ctrl-C and SIGTERM are noticed
_FLAGS = ("--watch", "-w")

Batches = Iterator[Iterable[str]]
"""Paths that have changed since the last time; an empty one if nothing has for a while."""


def watch(options: Namespace) -> int:
    """Run the command without ``--watch``, again and again until a signal ends it."""
    folders = _folders(options.target)
    changes = Changes(_own_files(options))
    batches = _batches(folders)
    command = [sys.executable, "-P", "-m", "ttasks", *_without_watch(options.argv)]
    with _signals() as received:
        next(batches)  # from here on nothing is missed
        _say(f"watching {joined([str(folder) for folder in folders])}; Ctrl-C ends it")
        loop(lambda: _run(command, received), batches, changes, received)
    return SIGNAL + received[0]


def loop(run: Callable[[], None], batches: Batches, changes: Changes, received: list[int]) -> None:
    """Run, wait for changes, and run again, until a signal has come."""
    run()
    for batch in batches:
        if received:
            return
        changed = changes.real(batch)
        if changed:
            _say(f"changed: {joined([os.path.relpath(path) for path in changed])}")
            run()
            if received:
                return


class Changes:
    """Tells changes that matter from others.

    A file that was written again with the same content has not changed. What git ignores, and what
    a run writes by itself (the ledger, logs, reports), does not matter.

    Args:
        own: how the paths of what a run writes begin.
    """

    def __init__(self, own: Iterable[str]) -> None:
        self._own = tuple(own)
        self._digests: dict[str, bytes | None] = {}

    def real(self, paths: Iterable[str]) -> list[str]:
        """The paths that have changed, sorted."""
        found = sorted({path for path in paths if not path.startswith(self._own)})
        ignored = _ignored_by_git(found)
        return [path for path in found if path not in ignored and self._is_new(path)]

    def _is_new(self, path: str) -> bool:
        """True if the content is another one than when it was seen last."""
        if os.path.isdir(path):
            return False
        try:
            digest = blake2b(Path(path).read_bytes()).digest()
        except OSError:
            digest = None
        if path in self._digests and self._digests[path] == digest:
            return False
        self._digests[path] = digest
        return True


def _folders(target: str) -> list[Path]:
    """The working folder, and that of the target if it is somewhere else."""
    here = Path.cwd()
    file = Path(target.rpartition(":")[0] or target).absolute()
    if file.suffix != ".py" or file.is_relative_to(here) or not file.parent.is_dir():
        return [here]
    return [here, file.parent]


def _own_files(options: Namespace) -> list[str]:
    """What a run writes: the ledger with its companions, logs and reports."""
    ledger = Path(ledgers.path_of(options.store)).absolute()
    own = [str(ledger)]
    if ledger == Path(ledgers.DEFAULT).absolute():
        own.append(f"{ledger.parent}{os.sep}")
    if options.logs:
        own.append(f"{os.path.abspath(options.logs)}{os.sep}")
    for file in map(Path, options.report):
        # A report is written beside its place first.
        own += [str(file.absolute()), str(file.absolute().with_name(f".{file.name}."))]
    return own


def _without_watch(argv: list[str]) -> list[str]:
    """The arguments of one run; what comes after ``--`` stays."""
    at = argv.index("--") if "--" in argv else len(argv)
    return [word for word in argv[:at] if word not in _FLAGS] + argv[at:]


def _batches(folders: Iterable[Path]) -> Batches:
    try:
        from watchfiles import watch as watch_files
    except ImportError:
        raise MissingExtraError("watch", "--watch") from None
    found = watch_files(
        *folders,
        debounce=_DEBOUNCE_MILLISECONDS,
        rust_timeout=_SLICE_MILLISECONDS,
        yield_on_timeout=True,
        raise_interrupt=False,
    )
    return _paths(found)


def _paths(found: Iterator[set[tuple[Any, str]]]) -> Batches:
    try:
        for changes in found:
            yield [path for _, path in changes]
    except OSError as error:
        raise CommandError(f"the files cannot be watched: {error}") from None


def _ignored_by_git(paths: list[str]) -> set[str]:
    """Which of the paths git ignores; none where there is no git."""
    if not paths:
        return set()
    try:
        done = subprocess.run(
            ["git", "check-ignore", "--stdin", "-z"],
            input="\0".join(paths),
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="surrogateescape",
        )
    except OSError:
        return set()
    return set(done.stdout.split("\0")) - {""}


def _run(command: list[str], received: list[int]) -> None:
    """Run once; a signal goes on to that run, whose finally tasks are waited for."""
    passed_on = 0
    # In a process group of its own: Ctrl-C would reach it twice, and the second one kills.
    options: dict[str, Any] = {"process_group": 0} if os.name == "posix" else {}
    with subprocess.Popen(command, **options) as process:
        while True:
            try:
                process.wait(0.1)
                return
            except subprocess.TimeoutExpired:
                pass
            for number in received[passed_on:]:
                passed_on += 1
                process.send_signal(number)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Note the signals that end a program, in place of ending it."""
    received: list[int] = []
    old: dict[int, Any] = {}
    if sync.current_thread() is sync.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", None)):
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                old[number] = signal.signal(number, lambda got, _: received.append(got))
    try:
        yield received
    finally:
        for number, handler in old.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _say(text: str) -> None:
    print(f"ttasks: {text}", file=sys.stderr, flush=True)
