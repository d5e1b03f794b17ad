"""``ttasks run``: the graph of a file or module."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any, TextIO

from ttasks import sync
from ttasks.cli import ledgers, names
from ttasks.cli.exits import FAILED, NOTHING, OK, SIGNAL, CommandError
from ttasks.cli.parsers import make
from ttasks.cli.targets import Target, load
from ttasks.console.detect import MODES
from ttasks.engine.executor import TaskExecutor
from ttasks.engine.partial import earlier_tasks, partial_graph
from ttasks.errors import DeclarationError, GraphError, did_you_mean
from ttasks.model.checks import near
from ttasks.model.selection import Selection, select

if TYPE_CHECKING:
    from ttasks.model.graph import TaskGraph
    from ttasks.model.task import Task
    from ttasks.report import RunReport
    from ttasks.stores.sqlite import SQLiteStore


def execute(options: Namespace) -> int:
    """Carry out the command."""
    if options.target is None:
        raise CommandError("run needs a TARGET, such as file.py; `ttasks run --help` tells more")
    if options.help:
        return _help(load(options.target))
    _check(options)
    if options.watch:
        from ttasks.cli.watch import watch

        return watch(options)
    stdout = sys.stdout
    with ExitStack() as stack:
        if options.json:  # what the program prints must not get between
            stack.enter_context(redirect_stdout(sys.stderr))
        return run_once(options, stdout)


def _help(target: Target) -> int:
    make().commands["run"].print_help()
    lines = [f"  {item.line()}" for item in target.parameters()]
    print(f"\nparameters of {target.name}:")
    print("\n".join(lines) if lines else "  none")
    return OK


def _check(options: Namespace) -> None:
    """Refuse what can be known to be wrong before anything of the user's runs."""
    if options.console not in MODES:
        hint = did_you_mean(near(options.console, MODES)) or f"; modes are {', '.join(MODES)}"
        raise CommandError(f"there is no console mode {options.console!r}{hint}")
    needs_ledger = [flag for flag in ("resume", "failed") if getattr(options, flag)]
    if options.no_store and needs_ledger:
        raise CommandError(f"--{needs_ledger[0]} needs a ledger, so it cannot go with --no-store")
    if options.cache != "on" and (options.resume or options.failed):
        other = "--resume" if options.resume else "--failed"
        mode = f"--cache={options.cache}"
        raise CommandError(f"{mode} runs tasks again, so it cannot go with {other}")
    if options.json and options.console == "jsonl":
        raise CommandError("--json prints the report, --console jsonl the events; choose one")
    if options.watch and (options.json or options.dry_run):
        other = "--json" if options.json else "--dry-run"
        raise CommandError(f"--watch runs again and again, so it cannot go with {other}")
    if options.report:
        from ttasks.cli.report import check_reports

        check_reports(options.report)


def run_once(options: Namespace, stdout: TextIO) -> int:
    """Load the graph, run what is selected of it, and return the exit code."""
    with ExitStack() as stack:
        if options.console == "jsonl":  # until the console takes it
            with redirect_stdout(sys.stderr):
                target = load(options.target)
                graph = target.graph(options.words)
        else:
            target = load(options.target)
            graph = target.graph(options.words)
        store = None
        if not options.no_store and not (options.dry_run and not _has_ledger(options)):
            store = stack.enter_context(ledgers.open_for_run(options.store))
        try:
            graph.validate()
            part = selected(graph, options, store)
        except GraphError as error:
            raise CommandError(str(error)) from None
        if part is None:
            print("ttasks: nothing is selected, so nothing runs", file=sys.stderr)
            return NOTHING
        if options.dry_run:
            from ttasks.cli.dry_run import show_plan

            return show_plan(part, options, store, stdout)
        executor = stack.enter_context(target.executor(store) or TaskExecutor(store))
        try:
            return _Running(options, target, executor, store, stdout).run(part)
        finally:
            if store is not None:
                names.remember(store, options.target, graph, part)


def _has_ledger(options: Namespace) -> bool:
    return os.path.exists(ledgers.path_of(options.store))


def selected(graph: TaskGraph, options: Namespace, store: SQLiteStore | None) -> TaskGraph | None:
    """The graph, or the part of it that the options ask for; None if that is nothing.

    Raises:
        GraphError: an unknown name, or something is left out that has not succeeded.
    """
    again = None
    if options.failed:
        earlier = earlier_tasks(graph, store)
        if not earlier:
            raise GraphError(
                f"the ledger knows no run of {graph.key!r}, so none that failed; run it first"
            )
        good = {key for key, old in earlier.items() if old.is_succeeded or old.is_skipped}
        again = {task.id for task in graph if task.id not in good}
    selection = Selection(options.only, options.skip, options.from_, options.until, again)
    if not selection:
        return graph if len(graph) else None
    chosen = select(graph, selection)
    return partial_graph(graph, chosen, store) if chosen else None


class _Running:
    """One run from its start to its reports."""

    def __init__(
        self,
        options: Namespace,
        target: Target,
        executor: Any,
        store: SQLiteStore | None,
        stdout: TextIO,
    ) -> None:
        self._options = options
        self._target = target
        self._executor = executor
        self._store = store
        self._stdout = stdout

    def run(self, graph: TaskGraph) -> int:
        """Run a graph, write the reports, and return the exit code."""
        from ttasks.console import console

        options = self._options
        try:
            view = console(
                self._executor,
                options.console,
                logs=options.logs,
                file=sys.stderr if options.json else None,
                rerun=self._again(graph),
            )
        except OSError as error:
            reason = error.strerror or error
            raise CommandError(f"cannot make the folder {options.logs!r}: {reason}") from None
        ended_by = None
        with ended_by_signals() as received:
            try:
                with view:
                    graph.run(
                        self._executor,
                        options.jobs,
                        fail_fast=options.fail_fast,
                        timeout=options.timeout,
                        resume=options.resume or options.failed,
                        wait=options.wait,
                        cache=options.cache,
                    )
            except KeyboardInterrupt:
                ended_by = received[0] if received else signal.SIGINT
            except (GraphError, DeclarationError) as error:
                raise CommandError(str(error)) from None
        report = self._report(graph)
        is_written = report is None or self._write(report)
        if ended_by is not None:
            return SIGNAL + ended_by
        code = OK if report is None else report.exit_code
        return code if is_written else code or FAILED

    def _again(self, graph: TaskGraph) -> Callable[[Task], str | None]:
        """What the console says to run a task again."""
        options = self._options
        words = ["ttasks", "run", options.target]
        if options.store:
            words += ["--store", options.store]
        extra = ["--", *options.words] if options.words else []

        def again(task: Task) -> str | None:
            if task not in graph or self._store is None:
                from ttasks.console.wording import again as command_of

                return command_of(task)
            return shlex.join([*words, "--only", task.key or task.title, *extra])

        return again

    def _report(self, graph: TaskGraph) -> RunReport | None:
        run = graph.latest_run
        if run is None:  # interrupted before it had begun
            return None
        from ttasks.report import RunReport
        from ttasks.report.history import earlier_runs

        facts = run.facts()
        if self._store is None or not (self._options.report or self._options.json):
            return RunReport(facts)
        return RunReport(facts, earlier_runs(self._store, facts))

    def _write(self, report: RunReport) -> bool:
        """Write what was asked for; False if some of it cannot be written."""
        is_written = True
        if self._options.json:
            try:
                print(report.to_json(), end="", file=self._stdout, flush=True)
            except BrokenPipeError:
                pass  # the reader has gone; the exit code still tells what became of the run
        for file in self._options.report:
            try:
                report.write(file)
            except OSError as error:
                is_written = False
                print(f"ttasks: {error}", file=sys.stderr)
        return is_written


@contextmanager
def ended_by_signals() -> Iterator[list[int]]:
    """Treat SIGTERM and SIGHUP as Ctrl-C, in the main thread.

    Yields:
        The numbers of those that have come.
    """
    received: list[int] = []
    old: dict[int, Any] = {}

    def receive(number: int, _frame: object) -> None:
        if number == _HANGUP and number in received:
            return  # a terminal that is closed sends it twice: it is no second Ctrl-C
        received.append(number)
        raise KeyboardInterrupt

    if sync.current_thread() is sync.main_thread():
        for number in (signal.SIGTERM, _HANGUP):
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                old[number] = signal.signal(number, receive)
    try:
        yield received
    finally:
        for number, handler in old.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


_HANGUP = getattr(signal, "SIGHUP", None)  # Windows has none
