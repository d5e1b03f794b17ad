"""Plays one seed: the plan, the choices, the run, the checks."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random

from explore.checks import check
from explore.choices import Choices, Priorities
from explore.explorer import Explorer, Problem, Tracer
from explore.families import FAMILIES
from explore.found import FOUND
from explore.lines import InterruptAtLine, Preemption
from explore.log import Entry
from explore.plans import Plan
from explore.seam import virtual
from explore.world import World


@dataclass(frozen=True)
class Played:
    """What came of a seed; nothing is wrong if ``problems`` is empty."""

    family: str
    seed: int
    plan: Plan
    problems: tuple[str, ...]
    trace: tuple[tuple[int, str], ...]
    log: tuple[str, ...]

    def __str__(self) -> str:
        plan = "\n".join(f"  {name} = {value!r}" for name, value in vars(self.plan).items())
        return "\n".join(
            [
                f"family {self.family}, seed {self.seed}, {len(self.trace)} points",
                plan,
                *(f"  {line}" for line in self.log),
                *(f"PROBLEM: {problem}" for problem in self.problems),
                f"again: TTASKS_SEED={self.family}:{self.seed} "
                "pytest -n 0 tests/explore -k reproduce",
            ]
        )


def play(seed: int, family: str | None = None) -> Played:
    """Play a seed; of the family that it stands for if none is named."""
    name = family or list(FAMILIES)[seed % len(FAMILIES)]
    random = Random(f"{name} {seed}")
    plan = (FAMILIES | FOUND)[name](random)
    return play_plan(plan, random, name, seed)


def play_plan(plan: Plan, random: Random, family: str, seed: int) -> Played:
    """Play a plan; ``random`` chooses the interleaving."""
    explorer = Explorer(
        draw_choices(random, may_slip=not plan.tags & {"calm", "punctual"}),
        interrupts=plan.interrupts,
        tracer=draw_tracer(random, plan),
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        problems, log = _play(plan, explorer)
        # Now, so that it is known of which run a coroutine is that nobody awaited.
        gc.collect()
    problems += explorer.complaints
    if explorer.problem is None:  # else all that was under way is in pieces
        problems += [str(warning.message) for warning in caught]
    return Played(family, seed, plan, tuple(problems), tuple(explorer.trace), log)


def _play(plan: Plan, explorer: Explorer) -> tuple[list[str], tuple[str, ...]]:
    """What is wrong, and the log; when this returns nobody holds the world any more."""
    world = World(plan, explorer)
    with virtual():
        try:
            explorer.run(world.play)
        except Problem as problem:
            problems = [str(problem)]
        else:
            problems = check(world)
    return problems, tuple(_line(entry) for entry in world.log)


@contextmanager
def many_plays() -> Iterator[None]:
    """For a ``with`` block with many plays: the collector then looks at what they make alone."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def draw_choices(random: Random, *, may_slip: bool) -> Choices:
    """How a run chooses who goes on; priorities find deep bugs, chance finds the others."""
    slip = random.choice([0.0, 0.0, 0.0, 0.02]) if may_slip else 0.0
    if random.random() < 0.6:
        return Priorities(random, random.randint(0, 4), random.choice([50, 150, 400]), slip)
    return Choices(random, random.choice([0.05, 0.2, 0.5, 1.0]), slip)


def draw_tracer(random: Random, plan: Plan) -> Tracer | None:
    """Who looks at the lines of the library; mostly nobody."""
    if plan.interrupt_line is not None:
        return InterruptAtLine(plan.interrupt_line)
    probability = random.choice([0.0] * 6 + [0.02, 0.2])
    return Preemption(random, probability) if probability else None


def _line(entry: Entry) -> str:
    """An entry of the log, in words."""
    words = [entry.what, entry.name, entry.kind]
    if entry.attempt:
        words.append(f"attempt {entry.attempt}")
    if entry.retry_in is not None:
        words.append(f"again in {entry.retry_in:g} s")
    if entry.actor >= 0:
        words.append(f"on thread {entry.actor}")
    return " ".join(word for word in words if word)
