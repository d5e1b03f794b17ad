"""Plans that broke a promise once, each with the defect that it brought to light.

Which interleaving breaks it depends on the seed, so each is played with several.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from explore.plans import Action, GraphPlan, Node, Plan, Step, Subscriber, TaskPlan

RUN = Action("run", 0, (("max_workers", 2),))
ONE = GraphPlan((Node(0),))
CHAIN = GraphPlan((Node(0), Node(1, (0,))))
SHUTDOWN = Action("shutdown", 0, (("wait", True),))


def shutdown_at_the_end_of_a_coroutine(random: Random) -> Plan:
    """A subscriber shuts the executor down on the thread of the event loop."""
    task = TaskPlan(is_async=True)
    kind = random.choice(["started", "succeeded"])
    return Plan((task,), (ONE,), ((RUN,),), (Subscriber(kind, SHUTDOWN),))


def odd_value(random: Random) -> Plan:
    """A handler returns an object that cannot say its class."""
    task = TaskPlan((Step("odd"),), is_async=random.random() < 0.5)
    start = random.choice([RUN, Action("execute"), Action("submit")])
    return Plan((task, TaskPlan()), (CHAIN,), ((start,),))


def frozen_exceptions(random: Random) -> Plan:
    """Subscribers and handlers raise exceptions that cannot be changed."""
    task = TaskPlan((Step("frozen"),), is_async=random.random() < 0.5)
    start = random.choice([RUN, Action("execute"), Action("submit")])
    subscriber = Subscriber(random.choice([None, "started"]), Action("raise frozen"), 2)
    return Plan((task, TaskPlan()), (CHAIN,), ((start,),), (subscriber,))


def second_execution_of_a_failing_task(random: Random) -> Plan:
    """Somebody starts a task again that has failed, before that was announced."""
    starts = (Action("execute"),) * 4
    return Plan((TaskPlan((Step("fail"),)),), (), (starts, starts, starts), store=None)


def slow_subscriber_and_cancellation(random: Random) -> Plan:
    """A task is cancelled, and given up, while its STARTED is being delivered."""
    kind = random.choice(["started", "output"])
    return Plan(
        (TaskPlan((Step("ok", 1.0, reports=1),)),),
        (ONE,),
        ((RUN,), (Action("sleep", 1), Action("cancel graph"))),
        (Subscriber(kind, Action("sleep", 6)),),
        log_last=True,
    )


def slow_subscriber_and_timeout(random: Random) -> Plan:
    """A task runs out of time while its output is being delivered."""
    task = TaskPlan((Step("ok", reports=2),), is_async=random.random() < 0.5, timeout=1.0)
    start = random.choice([RUN, Action("execute")])
    return Plan(
        (task,), (ONE,), ((start,),), (Subscriber("output", Action("sleep", 6)),), log_last=True
    )


def cancelled_while_resuming(random: Random) -> Plan:
    """A graph is cancelled while its run looks for the earlier one."""
    run = Action("run", 0, (("max_workers", 2), ("resume", True)))
    graph = GraphPlan((Node(0), Node(1, (0,))), key="k")
    return Plan(
        (TaskPlan(), TaskPlan()),
        (graph,),
        ((run,), (Action("sleep", 1), Action("cancel graph"))),
        earlier_run=True,
        slow_reads=2.0,
    )


def attempts_due_at_once(random: Random) -> Plan:
    """Two attempts of one task run out of time at the same moment."""
    step = Step(random.choice(["fail", "frozen"]))
    task = TaskPlan((step, step, Step("ok", 0.5)), is_async=True, timeout=1.0, attempts=3)
    return Plan((task, TaskPlan()), (CHAIN,), ((RUN,),))


def shared_task(random: Random) -> Plan:
    """Two graphs that run at once share a task; or somebody executes it besides."""
    other = random.choice([Action("run", 1), Action("execute"), Action("submit")])
    return Plan(
        (TaskPlan((Step("ok", 1.0),)), TaskPlan(), TaskPlan()),
        (CHAIN, GraphPlan((Node(0), Node(2, (0,))))),
        ((RUN,), (other,)),
    )


def shared_task_of_two_policies(random: Random) -> Plan:
    """One of two graphs does not run what the other runs."""
    fails = TaskPlan((Step("fail"),))
    return Plan(
        (fails, TaskPlan((Step("ok", 1.0, reports=1),))),
        (GraphPlan((Node(0), Node(1, (0,)))), GraphPlan((Node(1),))),
        ((RUN,), (Action("run", 1),)),
    )


def end_and_timeout_at_once(random: Random) -> Plan:
    """A coroutine ends at the very moment when its time is up; one end counts, and one retry."""
    task = TaskPlan((Step(random.choice(["ok", "fail"]), 1.0),), True, timeout=1.0, attempts=3)
    run = Action("run", 0, (("max_workers", 2), ("retry_budget", 1)))
    return Plan((task,), (ONE,), ((random.choice([RUN, run]),),))


def cancelled_as_its_graph_begins(random: Random) -> Plan:
    """A task is cancelled, and its dependents are told before that was announced."""
    tasks = (TaskPlan(), TaskPlan())
    return Plan(tasks, (CHAIN,), ((RUN,), (Action("cancel"),)))


def retry_of_two_executions(random: Random) -> Plan:
    """Two executions of one task wait for their next attempts at once."""
    task = TaskPlan((Step("fail"),), attempts=3, backoff=1.0)
    start = random.choice(["execute", "submit", "aexecute"])
    return Plan((task,), (), ((Action(start),), (Action("execute"),), (Action("submit"),)))


def graph_in_a_handler_with_a_timeout(random: Random) -> Plan:
    """The outer run waits for the cleanup of the inner one, although its task is out of time."""
    task = TaskPlan((Step("nested", 2.0, random.random() < 0.5),), timeout=1.0)
    return Plan((task, TaskPlan()), (CHAIN,), ((RUN,),))


def ctrl_c_in_execute(random: Random) -> Plan:
    """Ctrl-C at any point of ``execute``, in the end of the task too."""
    task = TaskPlan((Step("ok", random.choice([0.0, 1.0]), reports=1),))
    return Plan((task,), (), ((Action("execute"),),), interrupts=(random.randint(1, 60),))


def ctrl_c_at_a_line_of_execute(random: Random) -> Plan:
    """Ctrl-C before any line of the library in ``execute``."""
    task = TaskPlan((Step("ok", random.choice([0.0, 1.0]), reports=1),))
    return Plan((task,), (), ((Action("execute"),),), interrupt_line=random.randint(1, 600))


def ctrl_c_in_run(random: Random) -> Plan:
    """Ctrl-C at any point of ``run``; the finally task runs."""
    graph = GraphPlan((Node(0), Node(1, (0,), finally_=True)))
    tasks = (TaskPlan((Step("ok", 1.0, reports=1),)), TaskPlan())
    return Plan(tasks, (graph,), ((RUN,),), interrupts=(random.randint(1, 150),))


def ctrl_c_while_a_ledger_is_written(random: Random) -> Plan:
    """Ctrl-C strikes whoever commits for all; the others are not to wait for ever."""
    saves = tuple((Action("save", number), Action("save", number)) for number in range(3))
    line = random.randint(1, 300)
    return Plan((TaskPlan(),) * 3, (), saves, store="ledger", interrupt_line=line)


def place_free_before_the_first_submission(random: Random) -> Plan:
    """A place in a group becomes free while the first submitted task is being taken in."""
    tasks = (TaskPlan(group="g"), TaskPlan((Step("fail"),), group="g"))
    graph = GraphPlan((Node(0), Node(1, finally_=random.random() < 0.5)))
    submit = (Action("submit", 1),)
    return Plan(tasks, (graph,), ((RUN,), submit, submit), limits=(("g", 1),))


def shutdown_as_a_cancellation_is_announced(random: Random) -> Plan:
    """The subscriber is called on the thread that cancels, and the run waits for that thread."""
    task = TaskPlan(is_async=random.random() < 0.5)
    cancel = random.choice([Action("cancel"), Action("cancel graph")])
    return Plan(
        (task, TaskPlan()),
        (CHAIN,),
        ((RUN,), (cancel,)),
        (Subscriber("cancelled", SHUTDOWN, title=0),),
    )


def blocked_while_it_runs_elsewhere(random: Random) -> Plan:
    """A graph would block a task that was submitted by itself, and then succeeds."""
    tasks = (TaskPlan((Step("fail"),)), TaskPlan((Step("ok", 2.0),)), TaskPlan())
    last = Node(2, (1,), finally_=random.random() < 0.5)
    graph = GraphPlan((Node(0), Node(1, (0,)), last))
    run = Action("run", 0, (("max_workers", 2), ("fail_fast", random.random() < 0.5)))
    return Plan(tasks, (graph,), ((run,), (Action("submit", 1),)))


def left_behind_as_it_begins_a_graph(random: Random) -> Plan:
    """A handler is out of time just as it begins a graph of its own; then it is tried again."""
    slow = Subscriber("started", Action("sleep", 1), 2)
    task = TaskPlan((Step("nested", 1.0),), timeout=random.choice([1.0, 1.5]), attempts=2)
    return Plan((task, TaskPlan()), (CHAIN,), ((RUN,),), (slow,) if random.random() < 0.5 else ())


def shutdown_while_submitting(random: Random) -> Plan:
    """What was submitted just before ``shutdown(cancel=True)`` does not begin after it."""
    end = Action("shutdown", 0, (("wait", False), ("cancel", True)))
    submits = (Action("submit", 0), Action("submit", 1))
    tasks = (TaskPlan((Step("ok", 1.0),)), TaskPlan(is_async=random.random() < 0.5))
    return Plan(tasks, (), (submits, (end,)))


FOUND: dict[str, Callable[[Random], Plan]] = {
    plan.__name__: plan
    for plan in (
        shutdown_at_the_end_of_a_coroutine,
        odd_value,
        frozen_exceptions,
        second_execution_of_a_failing_task,
        slow_subscriber_and_cancellation,
        slow_subscriber_and_timeout,
        cancelled_while_resuming,
        attempts_due_at_once,
        shared_task,
        shared_task_of_two_policies,
        end_and_timeout_at_once,
        cancelled_as_its_graph_begins,
        retry_of_two_executions,
        graph_in_a_handler_with_a_timeout,
        ctrl_c_in_execute,
        ctrl_c_at_a_line_of_execute,
        ctrl_c_in_run,
        ctrl_c_while_a_ledger_is_written,
        place_free_before_the_first_submission,
        shutdown_as_a_cancellation_is_announced,
        blocked_while_it_runs_elsewhere,
        left_behind_as_it_begins_a_graph,
        shutdown_while_submitting,
    )
}
"""By name; seeds of these are played as ``name:number``, like those of the families."""
