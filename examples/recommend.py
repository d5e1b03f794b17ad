"""A preflight whose last task asks a language model what to do about the results.

Asking is an optional finally task: it runs whatever became of the checks, and a model that cannot
be reached makes nothing red. It asks GitHub Copilot (``pip install 'ttasks[copilot]'``), or with
``--base-url`` any OpenAI-compatible server (``pip install 'ttasks[openai]'``):

    python recommend.py --base-url http://127.0.0.1:11434/v1 --model some-model
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from ttasks import (
    Task,
    TaskContext,
    TaskEvent,
    TaskEventType,
    TaskExecutor,
    TaskGraph,
    TaskType,
    make_openai_prompt_handler,
)

RECOMMEND = TaskType("recommend")
SYSTEM = "You advise on failed checks of a software project. Be brief: at most five sentences."


def build_graph() -> TaskGraph:
    graph = TaskGraph("preflight")
    checks = [
        graph.add(Task.bash("df -Pk .", title="disk")),
        graph.add(Task.bash("bash --version | head -n 1", title="bash")),
        graph.add(Task.bash("test -f CHANGELOG.md", title="changelog"), required=False),
    ]
    graph.add(
        Task("recommendation", "What should be done now?", RECOMMEND, timeout=120),
        after=checks,
        finally_=True,
        required=False,
    )
    return graph


def describe(task: Task) -> str:
    """A check and what became of it, for the model."""
    lines = [f"## {task.title}: {task.status.value}", f"command: {task.payload}"]
    if task.result is not None:
        lines += [f"output: {task.result.output[-1000:]}", f"error: {task.result.error or 'none'}"]
    return "\n".join(lines)


def recommender(executor: TaskExecutor) -> Callable[[TaskContext], str]:
    """A handler that puts the results of the tasks before it into a prompt."""

    def recommend(context: TaskContext) -> str:
        checks = "\n\n".join(describe(task) for task in context.upstream.values())
        prompt = Task.prompt(f"{context.payload}\n\n{checks}", system=SYSTEM, title="ask")
        return executor.execute(prompt).output

    return recommend


def main() -> int:
    parser = argparse.ArgumentParser(description="Check, and ask a model about the results.")
    parser.add_argument("--base-url", help="an OpenAI-compatible server, instead of Copilot")
    parser.add_argument("--model", default="gpt-5.4-mini")
    arguments = parser.parse_args()

    graph = build_graph()
    with TaskExecutor() as executor:
        executor.register(RECOMMEND, recommender(executor))
        if arguments.base_url:
            handler = make_openai_prompt_handler(arguments.model, arguments.base_url)
            executor.register(TaskType.PROMPT, handler)

        def stream(event: TaskEvent) -> None:
            if event.task.type is TaskType.PROMPT:
                print(event.output_chunk, end="", flush=True)

        executor.events.subscribe(stream, types=[TaskEventType.OUTPUT])
        graph.run(executor)
    print()
    for task in graph:
        reason = f" ({task.error})" if task.error else ""
        print(f"{task.status.value:<9} {task.title}{reason}")
    return 0 if graph.ok else 1


if __name__ == "__main__":
    sys.exit(main())
