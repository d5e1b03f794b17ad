"""Schedule: what users see of one schedule."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from ttasks.model.checks import check_int, check_optional_str
from ttasks.schedule.recipe import Recipe
from ttasks.schedule.rules import from_micros

if TYPE_CHECKING:
    from ttasks.schedule.course import Course, Policy
    from ttasks.schedule.rules import Rule


class Keeper(Protocol):
    """What a schedule needs of its scheduler. Thread-safe."""

    def admit(
        self, schedule: Schedule, name: str, rule: Rule, policy: Policy, recipe: Recipe
    ) -> Course:
        """Make the course of a schedule that has something to do."""

    def upcoming(self, course: Course, number: int) -> list[int]:
        """The next slots of a course."""

    def pause(self, course: Course) -> None:
        """Leave out the slots of a course."""

    def resume(self, course: Course) -> None:
        """Go on with a course."""


class Schedule:
    """One schedule: when, and what. Thread-safe. Made by a `Scheduler`.

    Args:
        keeper: the scheduler.
        rule, policy: see `Scheduler.every`.
        name: given by the user; None means that of what it runs.
    """

    def __init__(self, keeper: Keeper, rule: Rule, policy: Policy, name: str | None) -> None:
        self._keeper = keeper
        self._rule = rule
        self._policy = policy
        self._name = check_optional_str("name", name)
        self._course: Course | None = None

    def do(self, factory: object, /, *args: Any, **kwargs: Any) -> Schedule:
        """Say what to run for each slot; from now on the schedule counts.

        Args:
            factory: a function that makes a `Task` or a `TaskGraph`, called anew for each slot on a
                thread of the scheduler; or a function decorated with ``@task``, whose calls are the
                work; or a `Task`, which is copied.
            args, kwargs: for the function.

        Returns:
            The schedule itself.

        Raises:
            TypeError: it can be run once only, or not at all.
            ValueError: another schedule has its name, or it has none: give it one by ``name=``.
            RuntimeError: it has something to do already.
        """
        if self._course is not None:
            raise RuntimeError(f"Schedule {self.name!r} has something to do already")
        recipe = Recipe(factory, args, kwargs)
        name = self._name or recipe.name
        if not name:
            raise ValueError(
                f"what is done {self._rule} has no name of its own; write name=... in front of do()"
            )
        self._course = self._keeper.admit(self, name, self._rule, self._policy, recipe)
        self._name = name
        return self

    @property
    def name(self) -> str | None:
        """Its name, by which ledgers know it; None until it is given one, or something to do."""
        return self._name

    @property
    def is_paused(self) -> bool:
        """True between `pause` and `resume`."""
        return self._course is not None and self._course.is_paused

    @property
    def started(self) -> int:
        """The number of slots that this scheduler has begun to run."""
        return 0 if self._course is None else self._course.started

    @property
    def skipped(self) -> int:
        """The number of slots that were not run because an earlier one was running."""
        return 0 if self._course is None else self._course.skipped

    @property
    def missed(self) -> int:
        """How often slots were not run because they were noticed too late; several that are
        passed over at once may count as one."""
        return 0 if self._course is None else self._course.missed

    def pause(self) -> None:
        """Run nothing until `resume`, in this process. Slots meanwhile are left out; runs go on."""
        self._keeper.pause(self._known())

    def resume(self) -> None:
        """Go on after `pause`, with the next slot."""
        self._keeper.resume(self._known())

    def next(self, number: int = 1) -> list[datetime]:
        """The next slots, without their jitter; fewer if there are no more.

        Args:
            number: how many, at least 1.

        Returns:
            Aware datetimes in the time zone of the schedule, in order.
        """
        check_int("number", number, least=1)
        found = self._keeper.upcoming(self._known(), number)
        return [from_micros(slot).astimezone(self._rule.zone) for slot in found]

    def _known(self) -> Course:
        if self._course is None:
            raise RuntimeError(f"The schedule {self} has nothing to do; call do(...) on it")
        return self._course

    def __str__(self) -> str:
        return str(self._rule)

    def __repr__(self) -> str:
        return f"<Schedule {self.name!r} {self._rule}>"
