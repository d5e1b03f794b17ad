"""TaskType: the name of a kind of task."""

from __future__ import annotations

from typing import ClassVar

from ttasks.model.checks import check_str


class TaskType:
    """The name of a kind of task, which chooses its handler.

    The set is open: ``TaskType("http")`` makes a new kind. Equal names are the same object, so
    types compare by identity.

    Args:
        value: the name, not blank.

    Raises:
        TypeError: the name is no str.
        ValueError: the name is blank.
    """

    __slots__ = ("_value",)

    BASH: ClassVar[TaskType]
    POWERSHELL: ClassVar[TaskType]
    PROMPT: ClassVar[TaskType]
    AGENT: ClassVar[TaskType]
    PYTHON: ClassVar[TaskType]
    SERVICE: ClassVar[TaskType]

    _value: str
    _interned: ClassVar[dict[str, TaskType]] = {}

    def __new__(cls, value: str) -> TaskType:
        check_str("value", value, empty=False)
        known = cls._interned.get(value)
        if known is None:
            made = object.__new__(cls)
            object.__setattr__(made, "_value", value)
            # setdefault is atomic: of two racing threads both get the object of the first.
            known = cls._interned.setdefault(value, made)
        return known

    @property
    def value(self) -> str:
        """The name."""
        return self._value

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"TaskType is immutable; cannot set {name!r}")

    def __reduce__(self) -> tuple[type[TaskType], tuple[str]]:
        return TaskType, (self._value,)

    def __repr__(self) -> str:
        return f"TaskType({self._value!r})"

    def __str__(self) -> str:
        return self._value


TaskType.BASH = TaskType("bash")
TaskType.POWERSHELL = TaskType("powershell")
TaskType.PROMPT = TaskType("prompt")
TaskType.AGENT = TaskType("agent")
TaskType.PYTHON = TaskType("python")
TaskType.SERVICE = TaskType("service")
