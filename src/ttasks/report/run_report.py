"""RunReport: what a run did, for people and for programs."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from dataclasses import replace
from importlib import import_module
from operator import attrgetter
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ttasks.model.checks import check_bool, check_optional_str, wrong_type
from ttasks.model.facts import RunFacts
from ttasks.model.graph import TaskGraph
from ttasks.model.status import TaskStatus
from ttasks.report.as_json import EXIT_CODES, to_json
from ttasks.report.compare import RunComparison, compare
from ttasks.report.content import Content, content_of
from ttasks.report.dot import to_dot
from ttasks.report.entries import ReportEntry
from ttasks.report.history import earlier_runs, find_run
from ttasks.report.html import to_html
from ttasks.report.junit import to_junit
from ttasks.report.markdown import LIMIT_BYTES, to_markdown
from ttasks.report.mermaid import to_mermaid
from ttasks.report.numbers import SLOWER_RATIO, SLOWER_SECONDS, RunNumbers
from ttasks.report.text import to_text
from ttasks.report.trace import to_trace

if TYPE_CHECKING:
    from ttasks.model.store import Store


class RunReport:
    """What a run did: entries, numbers, and one text for each format. Immutable, thread-safe.

    All formats are made from the same facts, so they say the same. What the executor's ``redact``
    hides is hidden here too. Escape sequences and control characters of output are left out.

    Args:
        facts: of the run, as returned by `Run.facts`. The run may still be going on.
        history: facts of earlier runs of the same graph, to find tasks that were slower than usual.

    Attributes:
        facts: of the run.

    Raises:
        TypeError: ``facts`` or a member of ``history`` is not a RunFacts.

    Example:
        >>> from ttasks import Task, TaskExecutor, TaskGraph
        >>> graph = TaskGraph("hello")
        >>> hello = graph.add(Task.bash("echo hello"))
        >>> with TaskExecutor() as executor:
        ...     report = graph.run(executor).report()
        >>> report.ok, report.exit_code, report.entries[hello.id].output
        (True, 0, 'hello')
    """

    __slots__ = ("_content", "facts")

    facts: RunFacts
    _content: Content

    def __init__(self, facts: RunFacts, history: Iterable[RunFacts] = ()) -> None:
        if not isinstance(facts, RunFacts):
            raise wrong_type("facts", facts, "RunFacts, as run.facts() gives them")
        earlier = list(history)
        for item in earlier:
            if not isinstance(item, RunFacts):
                raise wrong_type("a member of history", item, "RunFacts")
        self.facts = facts
        self._content = content_of(facts, earlier)

    @classmethod
    def from_graph(cls, graph: TaskGraph) -> RunReport:
        """Report on the latest run of a graph, which may be going on.

        Raises:
            TypeError: it is not a TaskGraph.
            GraphError: the graph never ran in this process.
        """
        if not isinstance(graph, TaskGraph):
            raise wrong_type("graph", graph, "a TaskGraph")
        return cls(graph.facts())

    @classmethod
    def from_store(cls, store: Store, run: str | None = None, key: str | None = None) -> RunReport:
        """Report on a run in a store, which may be going on in another process.

        The latest 20 earlier runs with the same graph key tell which tasks were slower than usual.
        The report of a run whose process was killed stops at the last event that was saved.

        Args:
            store: where to look.
            run: id of the run, or its beginning. None means the latest.
            key: of the graph; the latest run of this key. None means of any graph.

        Raises:
            TypeError, ValueError: an argument is wrong, or both ``run`` and ``key`` are given.
            LookupError: there is no such run, or several ids begin with ``run``.
            StoreError: the ledger cannot be read.
        """
        check_optional_str("run", run)
        check_optional_str("key", key)
        if run is not None and key is not None:
            raise ValueError("give run or key, not both: a run has only one key")
        found = find_run(store, run, key)
        return cls(found, earlier_runs(store, found))

    # Contents

    @property
    def entries(self) -> Mapping[str, ReportEntry]:
        """The tasks of the run by id, in the order of the graph; nested ones after their task."""
        return MappingProxyType(self._content.entries)

    @property
    def numbers(self) -> RunNumbers:
        """Times, use of the workers, and what to speed up; of the whole run."""
        return self._content.numbers

    @property
    def ok(self) -> bool:
        """True if the run ended well."""
        return self.facts.ok

    @property
    def exit_code(self) -> int:
        """0 if the run ended well, 4 if it timed out, else 1, also while it goes on."""
        return EXIT_CODES.get(self.facts.outcome, 1)

    def _of(self, status: TaskStatus) -> list[ReportEntry]:
        return [entry for entry in self._content.entries.values() if entry.status is status]

    @property
    def succeeded(self) -> list[ReportEntry]:
        """Entries that SUCCEEDED, those with reused results too."""
        return self._of(TaskStatus.SUCCEEDED)

    @property
    def failed(self) -> list[ReportEntry]:
        """Entries that FAILED, optional ones too."""
        return self._of(TaskStatus.FAILED)

    @property
    def cancelled(self) -> list[ReportEntry]:
        """Entries that were CANCELLED."""
        return self._of(TaskStatus.CANCELLED)

    @property
    def blocked(self) -> list[ReportEntry]:
        """Entries that are BLOCKED."""
        return self._of(TaskStatus.BLOCKED)

    @property
    def skipped(self) -> list[ReportEntry]:
        """Entries that were SKIPPED."""
        return self._of(TaskStatus.SKIPPED)

    @property
    def reused(self) -> list[ReportEntry]:
        """Entries whose result was taken over from an earlier task."""
        return [entry for entry in self._content.entries.values() if entry.reused]

    def select(self, titles: Iterable[str] | None = None, only_failures: bool = False) -> RunReport:
        """Return a report with some of the tasks; numbers and outcome are those of the whole run.

        Args:
            titles: titles or keys of tasks to keep; None keeps all.
            only_failures: keep only what FAILED, was CANCELLED or is BLOCKED.

        Raises:
            TypeError: ``titles`` is a str, or contains anything but strs.
            LookupError: the run has no task with such a title or key; the message suggests some.
        """
        check_bool("only_failures", only_failures)
        entries = dict(self._content.entries)
        if titles is not None:
            wanted = self._ids_of(titles)
            entries = {key: entry for key, entry in entries.items() if key in wanted}
        if only_failures:
            entries = {key: entry for key, entry in entries.items() if entry.is_failure}
        selected: RunReport = copy(self)
        selected._content = replace(self._content, entries=entries)
        return selected

    def _ids_of(self, titles: Iterable[str]) -> set[str]:
        if isinstance(titles, (str, bytes)) or not isinstance(titles, Iterable):
            raise wrong_type("titles", titles, "an iterable of str")
        ids: dict[str, list[str]] = {}
        for task in self.facts.tasks.values():
            for name in {task.title, task.key or task.title}:
                ids.setdefault(name, []).append(task.id)
        wanted: set[str] = set()
        for title in titles:
            if not isinstance(title, str):
                raise wrong_type("a member of titles", title, "a str")
            # The error suggests similar names.
            wanted.update(ids[title] if title in ids else [self.facts.find(title).id])
        return wanted

    def compare(
        self,
        other: RunReport,
        *,
        ratio: float = SLOWER_RATIO,
        least_seconds: float = SLOWER_SECONDS,
    ) -> RunComparison:
        """Say what has changed since an earlier run of the graph.

        Tasks are matched by key, or without keys by title and the graphs around them.

        Args:
            other: of the earlier run.
            ratio: a task is slower or faster if its duration differs by this factor, above 1.
            least_seconds: and by this many seconds, at least 0.

        Raises:
            TypeError, ValueError: an argument is wrong.
        """
        if not isinstance(other, RunReport):
            raise wrong_type("other", other, "a RunReport")
        return compare(other.facts, self.facts, ratio, least_seconds)

    def notify(
        self,
        *channels: Any,
        only_failures: bool = False,
        tasks: Iterable[str] | None = None,
        timeout: float = 30.0,
    ) -> list[Any]:
        """Send the report now, through each channel at the same time.

        Attempts that fail are repeated as long as there is time. Nothing is raised for a channel
        that fails or hangs.

        Args:
            channels: at least one: a `ttasks.notify.Channel`, a function that is called with a
                `ttasks.notify.Message`, or a URL (see `ttasks.notify.channel_of`).
            only_failures: show only what FAILED, was CANCELLED or is BLOCKED; send nothing, and
                return an empty list, if there is nothing of that.
            tasks: titles or keys of the tasks to show; None shows all.
            timeout: seconds for all, above 0.

        Returns:
            A `ttasks.notify.Delivery` for each channel: what became of it.

        Raises:
            TypeError, ValueError: an argument is wrong.
            LookupError: the run has no task with such a title or key.
            MissingExtraError: a channel needs an extra that is not installed.

        Warns:
            RuntimeWarning: for each channel that did not send it.
        """
        # By name: telling people is made from reports, so reports must not import it.
        send = import_module("ttasks.notify.delivery").notify
        outcomes: list[Any] = send(self, channels, only_failures, tasks, timeout)
        return outcomes

    # Formats

    def to_text(self, width: int | None = None, color: bool | None = None) -> str:
        """Write it for a terminal or a log: the table of tasks, failures with output, numbers.

        Args:
            width: columns, at least 40; None asks the terminal, or takes 100.
            color: whether to colour it; None asks NO_COLOR, FORCE_COLOR and CLICOLOR_FORCE, and
                then whether standard output is a terminal.

        Raises:
            TypeError, ValueError: an argument is wrong.
        """
        return to_text(self._content, width, color)

    def to_json(self) -> str:
        """Write all of it as JSON, for programs.

        `ttasks.report.SCHEMA` describes it. Its ``version`` changes when a member is removed or
        changes its meaning. New members may be added under the same version.
        """
        return to_json(self._content)

    def to_junit(self) -> str:
        """Write JUnit XML as Jenkins, GitLab and others read it.

        Exit codes and exceptions are failures; timeouts, interruptions and refusals are errors;
        what did not run, and optional tasks that failed, are skipped. Earlier attempts are
        ``flakyFailure`` or ``rerunFailure``.
        """
        return to_junit(self._content)

    def to_markdown(self, limit_bytes: int = LIMIT_BYTES) -> str:
        """Write Markdown for a summary on GitHub.

        Args:
            limit_bytes: in UTF-8, at least 1,000. What is too long loses passed tasks first, then
                tails of output, then the rest of its rows, and says so.

        Raises:
            TypeError, ValueError: the limit is wrong.
        """
        return to_markdown(self._content, limit_bytes)

    def to_html(self) -> str:
        """Write one HTML page with timeline, graph, and a table to sort and filter.

        It loads nothing, runs no script but its own, and can be read without scripts.
        """
        return to_html(self._content)

    def to_mermaid(self) -> str:
        """Write the graph as a Mermaid flowchart. GitHub draws up to 500 edges."""
        return to_mermaid(self._content)

    def to_dot(self) -> str:
        """Write the graph in the language of Graphviz, with the critical path in bold."""
        return to_dot(self._content)

    def to_trace(self) -> str:
        """Write a trace for Perfetto or chrome://tracing: a line for each worker, no overlap."""
        return to_trace(self._content)

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write a file in the format of its suffix; an existing file is replaced as a whole.

        A symbolic link stays; the file that it leads to is replaced or made.

        ======================== ==========
        suffix                   format
        ======================== ==========
        ``.txt``                 text, 100 columns, no colour
        ``.json``                JSON
        ``.xml``                 JUnit
        ``.md``                  Markdown
        ``.html``, ``.htm``      HTML
        ``.mmd``, ``.mermaid``   Mermaid
        ``.dot``, ``.gv``        Graphviz
        ``.trace.json``          trace
        ======================== ==========

        Returns:
            The path.

        Raises:
            TypeError: it is not a path.
            ValueError: the suffix is unknown; the message lists those that are known.
            OSError: the file cannot be written; an existing file is unchanged.
        """
        try:
            target = Path(path)
        except TypeError:
            raise wrong_type("path", path, "a str or a path") from None
        text = format_of(target)(self).encode("utf-8", "replace")
        try:
            _replace(target, text)
        except OSError as error:
            reason = f"cannot write the report: {error.strerror or error}"
            raise type(error)(error.errno, reason, str(target)) from None
        return target

    def __repr__(self) -> str:
        return f"<RunReport {self._content.headline!r} {self._content.counts_text()}>"


content_of_report: Callable[[RunReport], Content] = attrgetter("_content")
"""What a report shows; for texts that are made elsewhere."""

_FORMATS: dict[str, Callable[[RunReport], str]] = {
    ".txt": lambda report: report.to_text(100, False),
    ".trace.json": RunReport.to_trace,  # before .json
    ".json": RunReport.to_json,
    ".xml": RunReport.to_junit,
    ".md": RunReport.to_markdown,
    ".html": RunReport.to_html,
    ".htm": RunReport.to_html,
    ".mmd": RunReport.to_mermaid,
    ".mermaid": RunReport.to_mermaid,
    ".dot": RunReport.to_dot,
    ".gv": RunReport.to_dot,
}


def format_of(path: PurePath) -> Callable[[RunReport], str]:
    """What makes the text of a file, by its suffix; see `RunReport.write`.

    Raises:
        ValueError: the suffix is unknown; the message lists those that are known.
    """
    name = path.name.lower()
    for suffix, write in _FORMATS.items():
        if name.endswith(suffix):
            return write
    raise ValueError(
        f"the suffix of {str(path)!r} is not that of a report format; known are "
        f"{', '.join(_FORMATS)}"
    )


def _replace(target: Path, content: bytes) -> None:
    """Write a file beside the target, or beside what links lead to, then put it in its place."""
    if target.exists() and not target.is_file():  # a folder, or a pipe such as /dev/stdout
        target.write_bytes(content)
        return
    target = Path(os.path.realpath(target))
    if target.is_symlink():  # links in a circle lead nowhere
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    # Not `tempfile`: its files are readable by their owner only.
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with open(part, "xb") as file:
            file.write(content)
        if target.exists():
            shutil.copymode(target, part)
        os.replace(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
