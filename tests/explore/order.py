"""Order: what must hold for each task by itself, its events above all."""

from __future__ import annotations

from collections import Counter

from explore.evidence import events_of, moved_by_hand, starts_of
from explore.log import ENDS, REPORTS, RUN_ENDS, Entry
from explore.world import World
from ttasks import Task, TaskStatus

NO_RETRY = "a retry was announced and did not come"


def task_problems(world: World, task: Task) -> list[str]:
    title, events = task.title, events_of(world, task.title)
    shown = ", ".join(f"{event.kind} {event.attempt}" for event in events)
    problems = []
    if task.is_running:
        problems.append(f"{title} is left RUNNING: {shown}")
    if any(executor.is_running(task.id) for executor in world.executors):
        problems.append(f"{title} counts as running: {shown}")
    by_hand = moved_by_hand(world)
    wrong = order_problem(events, once=starts_of(world.plan)[title] <= 1)
    if wrong and not (title in by_hand and wrong == NO_RETRY):
        problems.append(f"events of {title}: {wrong}: {shown}")
    last = next((event for event in reversed(events) if event.kind in ENDS), None)
    if title not in by_hand:
        reused = task.result is not None and task.result.reused
        if task.is_terminal and not reused and (last is None or last.status is not task.status):
            problems.append(f"{title} is {task.status.value} without such an event: {shown}")
        if task.is_pending and last is not None:
            problems.append(f"{title} is pending after events: {shown}")
        saved = world.saved.get(task.id)
        if any(entry.name.startswith("save(") for entry in world.log):
            saved = None  # what another thread saved may be older
        if saved is not None and task.id not in world.unsaved and saved is not task.status:
            problems.append(f"{title} is {task.status.value}, the store says {saved.value}")
        problems += _result_problems(task, events)
    return problems


def order_problem(events: list[Entry], *, once: bool = True) -> str:
    """What breaks the promise about the order of the events of one task; "" if nothing does.

    Args:
        events: of the task, in their order.
        once: it is started by one call alone. Else each call counts its attempts from 1, and a
            call that waits for its next attempt may lose the task to another one.
    """
    running = False
    attempt = 0
    promised: Counter[int] = Counter()  # attempts that have been announced, and have to come
    excused: Counter[int] = Counter()  # the same, but another call has taken the task since
    for event in events:
        if event.kind == "started":
            if running:
                return "started twice"
            running, attempt = True, event.attempt
            if attempt == 1:
                if once and promised:
                    return "the first attempt instead of the next"
                excused += promised
                promised.clear()
            elif promised[attempt]:
                promised -= Counter([attempt])
            elif excused[attempt]:
                excused -= Counter([attempt])
            else:
                return f"attempt {attempt} was not announced"
        elif event.kind in REPORTS:
            if not running or event.attempt != attempt:
                return f"{event.kind} outside of its attempt"
        elif running:
            if event.kind not in RUN_ENDS or event.attempt != attempt:
                return f"{event.kind} while attempt {attempt} runs"
            running = False
            if event.retry_in is not None:
                promised[attempt + 1] += 1
            elif event.kind != "failed":
                promised.clear()
        else:
            if event.kind == "succeeded":
                return "succeeded without a start"
            if once and promised and event.kind != "cancelled":
                return f"{event.kind} instead of another attempt"
            if event.kind != "cancelled":  # by a graph that does not run it, for one that does
                excused += promised
            promised.clear()
    if running:
        return "an attempt has no end"
    return NO_RETRY if promised and once else ""


def _result_problems(task: Task, events: list[Entry]) -> list[str]:
    """What the result says must agree with the events."""
    result = task.result
    ran = [event for event in events if event.kind == "started"]
    if result is None:
        if task.status in (TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.CANCELLED):
            return [f"{task.title} is {task.status.value} without a result"]
        return []
    if result.status is not task.status:
        return [f"{task.title} is {task.status.value}, its result {result.status.value}"]
    if result.reused or not ran:
        return []
    problems = []
    attempts = ran[-1].attempt
    if task.is_succeeded and result.attempts != attempts:
        problems.append(f"{task.title} took {attempts} attempts, its result says {result.attempts}")
    counted = len(result.attempt_durations)
    if counted and counted != result.attempts:
        problems.append(f"{task.title}: {counted} durations of {result.attempts} attempts")
    return problems
