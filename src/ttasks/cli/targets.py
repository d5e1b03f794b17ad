"""Targets: graphs in files and modules of the user's, loaded without a trace of ours."""

from __future__ import annotations

import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import Any, NamedTuple, TypeVar

from ttasks.cli.exits import FAILED, CommandError, ProgramError
from ttasks.cli.parameters import Parameter, bind, parameters_of
from ttasks.errors import did_you_mean, type_name
from ttasks.model.checks import near
from ttasks.model.graph import TaskGraph
from ttasks.model.task import Task

FACTORY = "build_graph"
"""The function that makes the graph of a module that does not say which it is."""

EXECUTOR = "build_executor"
"""The function, if a module has one, that makes the executor of a run from its store."""

SCHEDULER = "build_scheduler"
"""The function that makes the scheduler of a module, from an executor."""

Imported = TypeVar("Imported")
_NOT_THEIRS = (
    os.path.dirname(os.path.abspath(__file__)) + os.sep,
    os.path.dirname(importlib.__file__) + os.sep,
    "<frozen importlib",
)
"""Where frames of a traceback come from that are not the user's: this package, and the import."""


class Kind(NamedTuple):
    """What a TARGET has to be.

    Attributes:
        type: of the object itself.
        noun: what that is called.
        factory: name of the function that makes one, in a module that does not say which it is.
    """

    type: type
    noun: str
    factory: str


GRAPH = Kind(TaskGraph, "graph", FACTORY)


@dataclass(frozen=True, slots=True)
class Target:
    """What a TARGET stands for, imported.

    Attributes:
        name: as it was given, with the attribute that was found.
        module: imported.
        made_by: the graph (or what else was asked for), or the function that makes it.
    """

    name: str
    module: ModuleType
    made_by: Any

    def parameters(self) -> list[Parameter]:
        """Parameters of the function; none of a graph."""
        if isinstance(self.made_by, TaskGraph):
            return []
        return parameters_of(self.made_by)

    def graph(self, words: Sequence[str]) -> TaskGraph:
        """The graph.

        A graph without a key gets the name of the target, with the arguments, so that its runs are
        known to be of the same graph.

        Args:
            words: ``name=value`` for parameters of the function.

        Raises:
            CommandError: a word fits no parameter, or what was made is no graph with tasks.
            ProgramError: the function raised.
        """
        if isinstance(self.made_by, TaskGraph):
            if words:
                raise CommandError(
                    f"{self.name} is a graph and takes no parameters, got {' '.join(words)!r}"
                )
            made: object = self.made_by
        else:
            arguments = bind(self.name, self.parameters(), words)
            made = self.call(self.made_by, arguments)
        if not isinstance(made, TaskGraph):
            raise CommandError(
                f"{self.name} returned {shown_type(made)}; it has to return a TaskGraph"
            )
        if made.key is None:
            made.key = " ".join([self.name, *sorted(words)])
        made.title = made.title or self.name
        return made

    def executor(self, store: object) -> Any:
        """The executor that the module makes for runs with this store; None if it makes none."""
        build = getattr(self.module, EXECUTOR, None)
        if build is None:
            return None
        made = self.call(build, {"store": store})
        if not hasattr(made, "run_graph"):
            raise CommandError(
                f"{EXECUTOR} of {self.name} returned {shown_type(made)}; it has to return a "
                "TaskExecutor"
            )
        return made

    def call(self, function: Callable[..., object], arguments: Mapping[str, Any]) -> object:
        """Call a function of the user's.

        Raises:
            ProgramError: it raised.
        """
        try:
            return function(**arguments)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise ProgramError(error) from None


def load(text: str, kind: Kind = GRAPH) -> Target:
    """Import what a TARGET names: ``file.py``, ``file.py:attr``, ``package.module:attr``.

    Its ``if __name__ == "__main__"`` part does not run, and its ``sys.argv`` has its own name only.

    Raises:
        CommandError: there is no such file, module or attribute, or it is nothing of the kind.
        ProgramError: the program raised while it was imported.
    """
    where, attribute = _divided(text)
    base, module = _imported(where)
    if attribute is None:
        attribute = _only(base, module, kind)
    name = f"{base}:{attribute}"
    value = _attribute(base, module, attribute)
    if isinstance(value, kind.type) or (callable(value) and not isinstance(value, Task)):
        return Target(name, module, value)
    raise CommandError(
        f"{name} is {shown_type(value)}; a target has to be a {kind.type.__name__}, or a function "
        "that makes one"
    )


def load_attribute(text: str) -> tuple[str, object]:
    """Import what ``file.py:attr`` or ``package.module:attr`` names: its name and the object.

    Raises:
        CommandError: there is no such file, module or attribute, or no attribute is named.
        ProgramError: the program raised while it was imported.
    """
    where, attribute = _divided(text)
    if attribute is None:
        raise CommandError(f"{text!r} names no attribute; write {text}:attribute")
    base, module = _imported(where)
    return f"{base}:{attribute}", _attribute(base, module, attribute)


def _imported(where: str) -> tuple[str, ModuleType]:
    """The file or module that is meant, and its name."""
    if where.endswith(".py") or os.sep in where or os.path.isfile(where):
        return _relative(where), _import_file(where)
    return where, _import_module(where)


def print_error(error: BaseException) -> int:
    """Print the traceback of the user's program, without frames of ours; return the exit code."""
    if isinstance(error, SystemExit):
        print(
            f"ttasks: the program ended itself (SystemExit: {error.code!r}) while its graph was "
            'made; put what is to run as a script below `if __name__ == "__main__":`',
            file=sys.stderr,
        )
        return FAILED
    shown = traceback.TracebackException(type(error), error, _own_frames(error.__traceback__))
    print("".join(shown.format()), end="", file=sys.stderr)
    return FAILED


def _own_frames(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame of the user's program on."""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith(_NOT_THEIRS):
            return trace
        trace = trace.tb_next
    return None


def _divided(text: str) -> tuple[str, str | None]:
    """A TARGET, in file or module, and attribute. ``C:\\file.py`` has a colon of its own."""
    where, colon, attribute = text.rpartition(":")
    if not colon or attribute.startswith(("\\", "/")):
        return text, None
    if not where or not attribute:
        raise CommandError(
            f"{text!r} is no target; write file.py, file.py:attribute or package.module:attribute"
        )
    return where, attribute


def _relative(path: str) -> str:
    """The path as it is below the working folder, however it was written."""
    found = os.path.relpath(path)
    return Path(os.path.abspath(path) if found.startswith("..") else found).as_posix()


class _Script(SourceFileLoader):
    """Loads a file as a script is loaded: bytecode may be older than a change of this second."""

    def get_code(self, fullname: str) -> CodeType:
        """Compile the file as it is now."""
        return self.source_to_code(self.get_data(self.path), self.path)


def _import_file(path: str) -> ModuleType:
    if not os.path.isfile(path):
        raise CommandError(f"there is no file {path!r}{_other_files(path)}")
    full = os.path.abspath(path)
    folder, stem = os.path.dirname(full), Path(full).stem
    sys.path.insert(0, folder)  # as for a script
    name = stem if _is_free(stem) else f"ttasks_target_{stem}"
    loader = _Script(name, full)
    spec = importlib.util.spec_from_file_location(name, full, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # functions are pickled by the name of their module
    _importing([full], lambda: loader.exec_module(module))
    return module


def _is_free(name: str) -> bool:
    """True if a module can have this name: no other has it, so it may also be imported by it."""
    return name.isidentifier() and name not in sys.modules and name not in sys.stdlib_module_names


def _other_files(path: str) -> str:
    folder = os.path.dirname(path) or "."
    try:
        names = [name for name in os.listdir(folder) if name.endswith(".py")]
    except OSError:
        return ""
    return did_you_mean(near(os.path.basename(path), names))


def _import_module(name: str) -> ModuleType:
    sys.path.insert(0, os.getcwd())  # as for `python -m`
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        raise CommandError(f"there is no module {name!r}: {error}") from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # raised by a package around it
        raise ProgramError(error) from None
    if spec is None:
        hint = f"; for a file write {name}.py" if os.path.isfile(f"{name}.py") else ""
        raise CommandError(f"there is no module {name!r} in {os.getcwd()!r} or on sys.path{hint}")
    return _importing([spec.origin or name], lambda: importlib.import_module(name))


def _importing(argv: list[str], work: Callable[[], Imported]) -> Imported:
    """Run the program of the user, with arguments of its own."""
    sys.argv = argv
    try:
        return work()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise ProgramError(error) from None


def _only(base: str, module: ModuleType, kind: Kind) -> str:
    """The attribute that is meant where none is named."""
    found: dict[int, str] = {}
    for name, value in vars(module).items():
        is_factory = name == kind.factory and callable(value)
        if isinstance(value, kind.type) or is_factory:
            found.setdefault(id(value), name)
    names = list(found.values())
    if len(names) == 1:
        return names[0]
    if names:
        raise CommandError(
            f"{base} has {len(names)} {kind.noun}s; say which one is meant: "
            + " or ".join(f"{base}:{name}" for name in names)
        )
    raise CommandError(
        f"{base} has no {kind.noun}: no {kind.type.__name__} at its top level, and no function "
        f"{kind.factory}; name the function that makes one, as in {base}:function"
    )


def _attribute(base: str, module: ModuleType, attribute: str) -> object:
    value: object = module
    for part in attribute.split("."):
        if not hasattr(value, part):
            names = [name for name in dir(value) if not name.startswith("_")]
            raise CommandError(f"{base} has no {attribute!r}{did_you_mean(near(part, names))}")
        value = getattr(value, part)
    return value


def shown_type(value: object) -> str:
    """A value by its type, for a message."""
    kind = type_name(value)
    if value is None:
        return "None"
    if kind == "coroutine":
        getattr(value, "close", int)()
        return "a coroutine (the function is async)"
    return f"{'an' if kind[:1].lower() in 'aeiou' else 'a'} {kind}"
