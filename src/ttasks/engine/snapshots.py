"""Snapshots: how what tasks declare is now, before and after they run.

before ── fingerprint ── equal one in the store, outputs as they were ─→ skipped
                    └─── runs ── outputs there? inputs as before? ────→ recorded
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from ttasks.engine.files import Found, absolute, find, find_again, folder_of, unreadable
from ttasks.errors import DeclarationError
from ttasks.model.attributes import COMMANDS
from ttasks.model.snapshot import Snapshot, file_changes, may_make
from ttasks.stores.digests import SUFFIX, Digests

if TYPE_CHECKING:
    from ttasks.model.store import Store
    from ttasks.model.task import Task


class Snapshots:
    """Takes snapshots for the tasks of an executor. Thread-safe.

    Args:
        store: of the executor; digests of files are kept beside its file, if it has one.
    """

    def __init__(self, store: Store) -> None:
        path = getattr(store, "path", None)
        has_file = isinstance(path, str) and os.path.isabs(path)
        self._digests = Digests(f"{path}{SUFFIX}" if has_file else None)
        self._tools: dict[tuple[Any, ...], str] = {}  # entries are set in one operation each

    def forget_tools(self) -> None:
        """Ask tools again: another run begins."""
        self._tools = {}

    def keep(self) -> None:
        """Keep what is known of files for later processes."""
        self._digests.keep()

    def before(self, task: Task, makers: Callable[[], Iterable[Task]] = tuple) -> Snapshot | None:
        """How what a task declares is now, without its outputs.

        Args:
            task: the task.
            makers: returns the tasks that come before it, and may still make files.

        Returns:
            None if an input is not there yet, and one of those tasks may make it.

        Raises:
            DeclarationError: an input is not there, a file cannot be read, or a tool fails.
        """
        inputs, missing = self._inputs(task)
        for pattern in missing:
            wanted = absolute(task, pattern)
            made = (absolute(maker, name) for maker in makers() for name in maker.outputs)
            if not any(may_make(output, wanted) for output in made):
                raise DeclarationError(
                    task.title,
                    f"its input {pattern!r} matches no file in {folder_of(task)!r}; if another "
                    "task makes it, that one must come before this one and have it in its outputs",
                )
        if missing:
            return None
        if not (task.env_inputs or task.tools):
            return Snapshot(inputs, {}, {}, {})
        given = _given_env(task)
        env = {name: _digest_of_variable(given.get(name)) for name in task.env_inputs}
        tools = {command: self._tool(task, command, given) for command in task.tools}
        return Snapshot(inputs, env, tools, {})

    def after(self, task: Task, before: Snapshot) -> Snapshot | None:
        """``before`` with the outputs of a task that has just succeeded; None if inputs changed.

        Raises:
            DeclarationError: an output is not there, or a file cannot be read.
        """
        made, missing = find(task, task.outputs)
        if missing:
            named = ", ".join(map(repr, missing))
            raise DeclarationError(
                task.title,
                f"it succeeded, but has not made its output {named} in {folder_of(task)!r}",
            )
        inputs, _ = self._inputs(task)
        if inputs != before.inputs:
            return None
        return before._replace(outputs=self._digested(task, made))

    def changed_outputs(self, task: Task, recorded: Snapshot) -> list[str]:
        """Which recorded outputs are not as they were, for people.

        Raises:
            DeclarationError: a file cannot be read.
        """
        found = find_again(task, recorded.outputs)
        return file_changes(self._digested(task, found), recorded.outputs)

    def _inputs(self, task: Task) -> tuple[dict[str, str], list[str]]:
        """Digests of the inputs that are there, and the names and patterns without any."""
        found, missing = find(task, task.inputs)
        if found and task.outputs:
            for name in find(task, task.outputs)[0]:
                found.pop(name, None)
        return self._digested(task, found), missing

    def _digested(self, task: Task, found: Found) -> dict[str, str]:
        digests, of = {}, self._digests.of
        for name, (path, status) in found.items():
            try:
                digests[name] = of(path, status)
            except OSError as error:
                raise unreadable(task, name, error) from None
        return digests

    def _tool(self, task: Task, command: str, env: Mapping[str, str]) -> str:
        """The digest of what a tool prints, asked once in a run."""
        folder = folder_of(task)
        key = (command, folder, str(task.options.get("env")))
        known, tools = self._tools.get(key), self._tools
        if known is None:
            from ttasks.commands.probe import probe

            try:
                known = _digest(probe(command, folder, env))
            except ValueError as error:
                raise DeclarationError(task.title, f"its tool {command!r} {error}") from None
            tools[key] = known
        return known


class Watch:
    """One execution of a task with ``reuse``, from what it depends on to what it has made.

    Args:
        snapshots: of the executor.
        task: the task.
        before: what it declares, before it runs; None if it declares nothing.
        twin: an equal task of the store, whose result has to be the same; None compares nothing.

    Attributes:
        snapshot: to be kept with the result; None if an input has changed meanwhile.
    """

    def __init__(
        self, snapshots: Snapshots, task: Task, before: Snapshot | None, twin: Task | None
    ) -> None:
        self._snapshots = snapshots
        self._task = task
        self._before = before
        self._twin = twin
        self.snapshot: Snapshot | None = None

    def end(self, value: Any) -> DeclarationError | None:
        """Look at what the task has made; returns why that is no success after all."""
        task, twin = self._task, self._twin
        try:
            if self._before is not None:
                self.snapshot = self._snapshots.after(task, self._before)
        except DeclarationError as error:
            return error
        if twin is None or twin.result is None or (self._before and self.snapshot is None):
            return None
        if task.outputs:
            mine, theirs = self.snapshot, twin.result.snapshot
            different = file_changes(mine.outputs, theirs.outputs) if mine and theirs else []
        else:
            different = [] if _is_same(value, twin.result.value) else ["changed value"]
        if not different:
            return None
        self.snapshot = None
        then = f"{twin.result.finished_at:%Y-%m-%d %H:%M:%S} UTC"
        return DeclarationError(
            task.title,
            f"it does not give what it gave on {then} from the same inputs "
            f"({', '.join(different)}): it depends on something that it does not declare, or on "
            "chance",
        )


def _given_env(task: Task) -> dict[str, str]:
    """The environment that a task has."""
    env = dict(os.environ)
    changes = (task.options.get("env") or {}) if task.type in COMMANDS else {}
    for name, value in changes.items():
        if value is None:
            env.pop(name, None)
        else:
            env[name] = value
    return env


def _digest(content: bytes) -> str:
    return blake2b(content, digest_size=8).hexdigest()


def _digest_of_variable(value: str | None) -> str | None:
    return None if value is None else _digest(value.encode("utf-8", "surrogateescape"))


def _is_same(value: Any, earlier: Any) -> bool:
    """True if a handler returned what an earlier result has, or nobody can tell."""
    if getattr(type(earlier), "is_absent", False):
        return True
    returned = getattr(value, "stdout", value) if hasattr(value, "returncode") else value
    try:
        return bool((returned or "") == earlier) or bool(returned == earlier)
    except Exception:  # whatever the comparison of a foreign class raises
        return True
