"""Schedules: tasks and graphs that run every so often, by cron expressions, or at a moment.

Each schedule has slots: the moments at which it is due. With a ledger a slot is run once, whatever
number of processes have the same schedule.

Example:
    >>> from ttasks import Task, TaskExecutor
    >>> from ttasks.testing import FakeClock
    >>> clock = FakeClock()
    >>> with TaskExecutor(clock=clock) as executor:
    ...     scheduler = Scheduler(executor)
    ...     schedule = scheduler.every(60).do(Task.bash("echo tick"))
    ...     clock.advance(60)
    ...     [future.result().outcome for future in scheduler.tick()]
    ['ok']
"""

from ttasks.errors import ScheduleError
from ttasks.schedule.job import SlotFuture
from ttasks.schedule.schedule import Schedule
from ttasks.schedule.scheduler import Scheduler

__all__ = ["Schedule", "ScheduleError", "Scheduler", "SlotFuture"]
