"""What leaves the process without its secrets: text, also in pieces, titles, tasks and graphs."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from ttasks.model.attributes import COMMANDS, title_of
from ttasks.model.call import Call
from ttasks.model.checks import check_str, wrong_type
from ttasks.model.codes import Readable, readings
from ttasks.model.command import stdin_bytes
from ttasks.model.disguises import forms
from ttasks.model.graph import TaskGraph
from ttasks.model.nested import PLAIN
from ttasks.model.patterns import LineSearch
from ttasks.model.task import Task, view_of
from ttasks.model.task_type import TaskType

MASK = "***"
"""What is written in place of a secret."""

PIECE_CHARACTERS = 64 * 1024
"""How much of a longer line a pattern sees at once."""

_Span = tuple[int, int]
_NO_TEXT = PLAIN - {str}
_SHORTEST_PART = 4
"""Characters of the beginning of a secret that are hidden before an ellipsis."""


def check_secrets(redact: object) -> list[str | re.Pattern[str]]:
    """The strs and patterns to hide, as a list; errors name types and never values.

    Raises:
        TypeError: it is not an iterable of strs and compiled patterns of str.
        ValueError: an empty str is among them.
    """
    if isinstance(redact, (str, bytes, re.Pattern)) or not isinstance(redact, Iterable):
        kind = "None" if redact is None else type(redact).__name__
        raise TypeError(f"redact must be an iterable of str and compiled patterns, got {kind}")
    secrets: list[str | re.Pattern[str]] = []
    for position, secret in enumerate(redact):
        if isinstance(secret, str) and not secret:
            raise ValueError(f"redact[{position}] must not be an empty str")
        if not isinstance(secret, str) and not (
            isinstance(secret, re.Pattern) and isinstance(secret.pattern, str)
        ):
            kind = "None" if secret is None else type(secret).__name__
            raise TypeError(
                f"redact[{position}] must be a str or a compiled pattern of str, got {kind}"
            )
        secrets.append(secret)
    return secrets


class Redactor:
    """Replaces secrets by ``***``. Immutable, thread-safe.

    All occurrences are hidden; overlapping ones share one mask.

    - A str is hidden wherever it occurs, also across lines, in the form that it has in a repr, in
      JSON or in base64, and if only its beginning is left before an ellipsis (``…``).
    - Codes for terminals, control characters and characters of no width may stand inside a secret;
      up to 65,536 characters of them are hidden with it.
    - A pattern is applied to whole lines without their newline, and to pieces of at most 65,536
      characters of longer lines: a match across lines, or across such a boundary, is not seen. A
      line that a pattern needs too long for is hidden (see `ttasks.model.patterns`).

    Args:
        secrets: strs and compiled patterns of str. None of them may be an empty str.

    Raises:
        TypeError: something else is among them; the message names its type, not its value.
        ValueError: an empty str is among them.

    Example:
        >>> Redactor(["hunter2", re.compile(r"ghp_[A-Za-z0-9]+")]).text("hunter2 or ghp_Ab1?")
        '*** or ***?'
    """

    __slots__ = ("_literals", "_patterns", "_readable", "_strs")

    def __init__(self, secrets: Iterable[str | re.Pattern[str]]) -> None:
        literals: set[str] = set()
        strs: set[str] = set()
        patterns: list[re.Pattern[str]] = []
        for secret in check_secrets(secrets):
            if isinstance(secret, str):
                strs.add(secret)
                literals.update(forms(secret))
            else:
                patterns.append(secret)
        self._literals = tuple(sorted(literals, key=len, reverse=True))
        # Those that may have codes in them; a secret that has its own is found as it is.
        self._readable = tuple(literal for literal in self._literals if not readings(literal))
        self._patterns = tuple(patterns)
        self._strs = len(strs)

    def __bool__(self) -> bool:
        return bool(self._literals or self._patterns)

    def __repr__(self) -> str:
        return f"<Redactor of {self._strs} strs and {len(self._patterns)} patterns>"

    def text(self, text: str) -> str:
        """The text without the secrets."""
        if not self:
            return text
        return self.stream().finish(text)

    def stream(self) -> RedactingStream:
        """A filter for one text that comes in pieces; of one owner, not thread-safe."""
        return RedactingStream(self._literals, self._readable, self._patterns)


class RedactingStream:
    """Redacts a text that comes in pieces: all it returns, joined, is ``Redactor.text`` of all.

    Holds back only what may still turn out to be (part of) a secret, or of a code inside of one:
    with strs alone at most the length of the longest and the codes in it, with patterns the
    unfinished last line.
    """

    __slots__ = ("_covered", "_literals", "_patterns", "_readable", "_rest")

    def __init__(
        self,
        literals: tuple[str, ...],
        readable: tuple[str, ...],
        patterns: tuple[re.Pattern[str], ...],
    ) -> None:
        self._literals = literals
        self._readable = readable
        self._patterns = LineSearch(patterns) if patterns else None
        self._rest = ""
        # How much of the rest belongs to a secret whose mask has been returned already.
        self._covered = 0

    def feed(self, text: str) -> str:
        """Take more text; returns what is certain by now."""
        return self._take(self._rest + text, last=False)

    def finish(self, text: str = "") -> str:
        """Take the last of the text; returns it with what was held back."""
        return self._take(self._rest + text, last=True)

    def _take(self, text: str, last: bool) -> str:
        units = list(_units(text, last)) if self._patterns else []
        shown = readings(text, last)
        cut = len(text)
        if not last:
            cut = self._undecided(text, shown)
            if self._patterns:
                # Patterns need their unit as a whole: cut at its start. (If that divides a code,
                # all before it is decided nevertheless, so that no secret gets out.)
                cut = max((end for _, end in units if end <= cut), default=0)
        parts = []
        at = covered = self._covered
        if covered > cut:
            cut_covered = covered
        else:
            cut_covered = cut
        for begin, end in self._spans(text, shown, units):
            if begin >= cut:
                break
            if begin >= covered:
                parts.append(text[at:begin])
                parts.append(MASK)
            at = covered = max(covered, end)
            cut_covered = max(cut_covered, covered)
        parts.append(text[at:cut])
        self._rest = text[cut:]
        self._covered = cut_covered - cut
        return "".join(parts)

    def _undecided(self, text: str, shown: list[Readable]) -> int:
        """Where the text must be held back from: a secret may begin there and go on."""
        cut = _begun(text, self._literals)
        if not shown:
            return cut
        cut = min(cut, *(part.at(_begun(part.text, self._readable)) for part in shown))
        # What is held back must be read later as it is now: no code may be divided.
        return shown[0].outside(cut)

    def _spans(self, text: str, shown: list[Readable], units: list[_Span]) -> list[_Span]:
        """Every occurrence of a secret, in the order in which they begin."""
        spans = _found(text, self._literals)
        for part in shown:
            spans.extend(part.span(*span) for span in _found(part.text, self._readable))
        for begin, end in units:
            unit = text[begin:end].removesuffix("\n")
            spans.extend((begin + at, begin + to) for at, to in self._matches(unit))
        spans.sort()
        return spans

    def _matches(self, unit: str) -> list[_Span]:
        """Where the patterns match in a unit."""
        assert self._patterns is not None
        spans = self._patterns.spans(unit)
        for part in readings(unit):
            spans.extend(part.span(*span) for span in self._patterns.spans(part.text))
        return spans


def _begun(text: str, literals: Iterable[str]) -> int:
    """Where the first of the secrets begins that goes on behind the text; else its end."""
    cut = len(text)
    for literal in literals:
        at = text.find(literal[0], max(0, len(text) - len(literal) + 1), cut)
        while at >= 0:
            if literal.startswith(text[at:]):
                cut = at
                break
            at = text.find(literal[0], at + 1, cut)
    return cut


def _found(text: str, literals: Sequence[str]) -> list[_Span]:
    """Where secrets are, or beginnings of them before an ellipsis, such as that of a title."""
    spans = []
    for literal in literals:
        at = text.find(literal)
        while at >= 0:
            spans.append((at, at + len(literal)))
            at = text.find(literal, at + 1)
    end = text.find("…")
    while end >= 0:
        for literal in literals:
            for size in range(min(len(literal) - 1, end), _SHORTEST_PART - 1, -1):
                if text.endswith(literal[:size], 0, end):
                    spans.append((end - size, end))
                    break
        end = text.find("…", end + 1)
    return spans


def _units(text: str, last: bool) -> Iterator[_Span]:
    """The parts of a text that patterns are applied to and that are complete."""
    begin = 0
    while begin < len(text):
        end = text.find("\n", begin, begin + PIECE_CHARACTERS) + 1
        if not end:
            end = begin + PIECE_CHARACTERS
            if end > len(text):
                if not last:
                    return
                end = len(text)
        yield begin, end
        begin = end


_SHORTEST_VALUE = 6
"""Characters of the shortest value of a variable that is a secret."""


def secret_values(names: object, environment: Mapping[str, str]) -> list[str]:
    """The values of the variables of an environment whose names match any of these patterns.

    Args:
        names: shell patterns such as ``"*_TOKEN"``.
        environment: names to values. Values of less than 6 characters, such as "1" and "true", are
            left out: they would hide ordinary text.

    Raises:
        TypeError, ValueError: ``names`` is not an iterable of non-empty strs.
    """
    if isinstance(names, (str, bytes)) or not isinstance(names, Iterable):
        raise wrong_type("redact_env", names, "an iterable of patterns such as ('*_TOKEN',)")
    patterns = [check_str(f"redact_env[{n}]", name, empty=False) for n, name in enumerate(names)]
    if not patterns:
        return []
    from fnmatch import fnmatchcase

    return [
        value
        for name, value in environment.items()
        if len(value) >= _SHORTEST_VALUE and any(fnmatchcase(name, pattern) for pattern in patterns)
    ]


class Titled(Protocol):
    """What has a title that may be made of its payload: a task, or the context of one."""

    @property
    def title(self) -> str: ...
    @property
    def payload(self) -> Any: ...
    @property
    def type(self) -> TaskType: ...


def redacted_title(task: Titled, redactor: Redactor | None) -> str:
    """The title of a task without secrets, for every text that leaves the process.

    A title that was made of the payload is made again, of the payload without secrets: the first
    line, cut after 60 characters, may hold half of a secret.
    """
    title = task.title
    if not redactor:
        return title
    if title == title_of(task.payload, task.type):
        title = title_of(redacted(task.payload, redactor), task.type)
    return redactor.text(title)


def redacted_task(task: Task, redactor: Redactor) -> Task:
    """The task itself, or a view of it (same id, same live status and result) without secrets."""
    hidden = {
        "title": redacted_title(task, redactor),
        "description": redactor.text(task.description),
        "payload": redacted(task.payload, redactor),
        "options": _redacted_options(task, redactor),
    }
    changes = {}
    for name, value in hidden.items():
        given = getattr(task, name)
        if value is not given and value != given:  # `!=` of a foreign class may not give a bool
            changes[name] = value
    return view_of(task, changes) if changes else task


def redacted_graph(graph: TaskGraph, redactor: Redactor) -> TaskGraph:
    """The graph itself, or one of views of its tasks, without secrets."""
    views = {task.id: redacted_task(task, redactor) for task in graph}
    title = redactor.text(graph.title)
    if title == graph.title and all(views[task.id] is task for task in graph):
        return graph
    nodes = [
        node._replace(task=views[node.task.id], after=tuple(views[task.id] for task in node.after))
        for node in graph.nodes()
    ]
    return TaskGraph.restore(graph.id, nodes, title, graph.key, graph.created_at)


def redacted(value: Any, redactor: Redactor) -> Any:
    """A str, or a structure of lists and mappings, without secrets; anything else as it is."""
    if isinstance(value, str):
        hidden = redactor.text(value)
        return value if hidden == value else hidden
    if isinstance(value, Mapping):
        return _redacted_items(value, redactor)
    if type(value) is Call:
        return _redacted_call(value, redactor)
    if type(value) in (list, tuple):
        return type(value)(redacted(item, redactor) for item in value)
    return value


def _redacted_call(call: Call, redactor: Redactor) -> Call:
    """A call without secrets in its strs; an argument that holds one otherwise is left out."""

    def hide(leaf: Any) -> Any:
        return redacted(leaf, redactor) if isinstance(leaf, str) else leaf

    def leave_out(argument: Any) -> Any:
        if type(argument) in PLAIN and type(argument) is not bytes:
            return argument
        try:
            text = repr(argument)
        except BaseException:  # whatever the code of its class raises
            return argument
        return argument if redactor.text(text) == text else MASK

    hidden = call.with_leaves(hide, _NO_TEXT)
    args = [leave_out(argument) for argument in hidden.args]
    kwargs = {name: leave_out(argument) for name, argument in hidden.kwargs.items()}
    before = [*hidden.args, *hidden.kwargs.values()]
    if all(new is old for new, old in zip([*args, *kwargs.values()], before, strict=True)):
        return hidden
    backend = hidden.backend if hidden.is_placed else None
    return Call.restore(hidden.func, tuple(args), kwargs, backend, hidden.capture_print)


def _redacted_options(task: Task, redactor: Redactor) -> dict[str, Any]:
    options: dict[str, Any] = redacted(task.options, redactor)
    stdin = task.options.get("stdin")
    if task.type in COMMANDS and isinstance(stdin, dict):  # bytes, kept in base64
        text = (stdin_bytes(stdin) or b"").decode("utf-8", "surrogateescape")
        hidden = redactor.text(text)
        options["stdin"] = stdin if hidden == text else hidden
    return options


def _redacted_items(items: Mapping[Any, Any], redactor: Redactor) -> dict[Any, Any]:
    """A mapping without secrets in its keys and values; keys that become equal are numbered."""
    hidden: dict[Any, Any] = {}
    for key, value in items.items():
        shown = redacted(key, redactor) if isinstance(key, str) else key
        hidden[unused(shown, hidden)] = redacted(value, redactor)
    return hidden


def unused(name: Any, taken: Container[Any]) -> Any:
    """The name, or the first that is free of "name (2)", "name (3)" and so on."""
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name} ({number})"
    return found


def check_names(tasks: Iterable[Task], redactor: Redactor | None, key: str | None = None) -> None:
    """Refuse secrets in key, version and group, which stores keep unchanged to find tasks again.

    Args:
        tasks: the tasks.
        redactor: knows the secrets; None for nothing.
        key: that of their graph, if there is one.

    Raises:
        ValueError: there is a secret; the message shows no part of it.
    """
    if redactor is None:
        return
    if key is not None and redactor.text(key) != key:
        raise ValueError(
            f"the key of the graph has a secret in it ({redactor.text(key)!r}), and keys are "
            "stored as they are; choose another"
        )
    for task in tasks:
        groups = task.group if isinstance(task.group, tuple) else (task.group,)
        named = {"key": (task.key,), "version": (task.version,), "group": groups}
        for name, values in named.items():
            for value in values:
                if value is not None and redactor.text(value) != value:
                    raise ValueError(
                        f"{name} of task {redacted_title(task, redactor)!r} has a secret in it "
                        f"({redactor.text(value)!r}), and a {name} is stored as it is; choose "
                        "another"
                    )
