"""Prompts and agents of GitHub Copilot: the real SDK and CLI, with a model server of the test's."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from chatkit import calls_tool, chat_server, fails, never, says, use_copilot_cli
from commandkit import wait_until
from ttasks import (
    MissingExtraError,
    PermissionRequest,
    ProviderAuthenticationError,
    ProviderError,
    ProviderStartError,
    Task,
    TaskCancelled,
    TaskContext,
    TaskExecutor,
    TaskTimeoutError,
    TaskType,
    UnknownModelError,
    current_context,
    make_copilot_agent_handler,
    make_copilot_prompt_handler,
)

KEY = "sk-0123456789abcdef"


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The CLI, with a home of its own and nobody signed in."""
    with pytest.MonkeyPatch.context() as patch:
        path = use_copilot_cli(patch, tmp_path_factory.mktemp("copilot"))
        for name in ("COPILOT_GITHUB_TOKEN", "GH_TOKEN", "GITHUB_TOKEN"):
            patch.delenv(name, raising=False)
        yield path


Decide = Callable[[PermissionRequest], Any]


class Unclosed:
    """A handler that outlives its executors."""

    ends_itself = True

    def __init__(self, handler: Callable[[TaskContext], Any]) -> None:
        self._handler = handler

    def __call__(self, context: TaskContext) -> Any:
        return self._handler(context)


class Agent:
    """One agent handler for all tests: its CLI takes seconds to start."""

    def __init__(self) -> None:
        self.decide: Decide | None = None
        self.handler = make_copilot_agent_handler("some-model", permissions=self._permissions)

    def _permissions(self, request: PermissionRequest) -> Any:
        return True if self.decide is None else self.decide(request)

    def executor(self, decide: Decide | None = None) -> TaskExecutor:
        self.decide = decide
        executor = TaskExecutor.empty()
        executor.register(TaskType.AGENT, Unclosed(self.handler))
        return executor


@pytest.fixture(scope="module")
def agent(cli: str) -> Iterator[Agent]:
    agent = Agent()
    try:
        with chat_server() as server:  # started before the tests look what they leave behind
            agent.executor().execute(Task.agent("hello", provider=server.setting()))
        yield agent
    finally:
        agent.handler.close()


def edits(folder: Path) -> Any:
    """A file in the folder, and the model's side of an agent that edits it."""
    path = folder / "notes.txt"
    path.write_text("old\n")
    return calls_tool("edit", {"path": str(path), "old_str": "old", "new_str": "new"})


# --- agents -------------------------------------------------------------------------------------


def test_an_agent_edits_a_file_in_its_folder(agent: Agent, tmp_path: Path) -> None:
    with (
        chat_server(edits(tmp_path), says("All ", "done.")) as server,
        agent.executor() as executor,
    ):
        task = Task.agent("Write new.", cwd=tmp_path, provider=server.setting(), system="Be kind.")
        result = executor.execute(task)
    assert (tmp_path / "notes.txt").read_text() == "new\n"
    assert result.output == "Let me see.\nAll done."
    assert result.value == result.raw["content"] == "All done."
    assert result.usage is not None
    assert result.usage["input_tokens"] == 22  # of two calls of the model
    assert len(server.calls) == 2
    (system,) = server.calls[0].texts("system")
    assert "Be kind." in system
    assert len(system) > 1000  # what the agent is told anyway


def test_what_is_not_permitted_does_not_happen(agent: Agent, tmp_path: Path) -> None:
    asked: list[PermissionRequest] = []
    where: list[Any] = []

    def refuse(request: PermissionRequest) -> bool:
        asked.append(request)
        where.append((threading.current_thread(), current_context()))
        return False

    with (
        chat_server(edits(tmp_path), says("Not done.")) as server,
        agent.executor(refuse) as executor,
    ):
        task = Task.agent("Write new.", cwd=tmp_path, provider=server.setting())
        result = executor.execute(task)
    assert (tmp_path / "notes.txt").read_text() == "old\n"
    assert result.value == "Not done."
    assert {request.kind for request in asked} == {"write"}
    assert asked[0].subject == str(tmp_path / "notes.txt")
    assert "edit" in asked[0].intention.lower()
    thread, context = where[0]
    assert thread.name.startswith("ttasks-execute")  # the handler's own
    assert context is not None
    assert context.id == task.id


def test_what_permissions_raises_fails_the_task(agent: Agent, tmp_path: Path) -> None:
    def broken(_request: PermissionRequest) -> bool:
        raise LookupError("no policy")

    with chat_server(edits(tmp_path)) as server, agent.executor(broken) as executor:
        task = Task.agent("Write new.", cwd=tmp_path, provider=server.setting())
        with pytest.raises(LookupError, match="no policy"):
            executor.execute(task)
    assert (tmp_path / "notes.txt").read_text() == "old\n"


def test_permissions_returns_true_or_false(agent: Agent, tmp_path: Path) -> None:
    with chat_server(edits(tmp_path)) as server, agent.executor(lambda _request: "yes") as executor:
        task = Task.agent("Write new.", cwd=tmp_path, provider=server.setting())
        with pytest.raises(TypeError, match="permissions must return True or False, got str"):
            executor.execute(task)
    assert (tmp_path / "notes.txt").read_text() == "old\n"


def test_cancelling_an_agent_ends_the_command_that_it_runs(agent: Agent, tmp_path: Path) -> None:
    command = "touch running; sleep 321.5"
    tool = calls_tool("bash", {"command": command, "description": "wait"})
    with chat_server(tool) as server, agent.executor() as executor:
        task = Task.agent("Wait.", cwd=tmp_path, provider=server.setting())
        future = executor.submit(task)
        wait_until(lambda: (tmp_path / "running").exists())
        executor.cancel(task)
        with pytest.raises(TaskCancelled):
            future.result(20)
        wait_until(lambda: not [p for p in children() if "321.5" in p])


def test_a_lasting_failure_ends_an_agent_at_once(agent: Agent) -> None:
    with chat_server(fails(404, "gone")) as server, agent.executor() as executor:
        task = Task.agent("hello", provider=server.setting())
        with pytest.raises(UnknownModelError, match="no such model.*: gone"):
            executor.execute(task)
    assert len(server.calls) == 1


def test_a_passing_failure_does_not_end_an_agent(agent: Agent) -> None:
    with chat_server(fails(503), says("fine")) as server, agent.executor() as executor:
        result = executor.execute(Task.agent("hello", provider=server.setting()))
    assert result.output == "fine"


def test_a_turn_leaves_no_session_behind(agent: Agent) -> None:
    state = Path(os.environ["COPILOT_HOME"], "session-state")
    before = set(state.iterdir())  # a CLI that another test has killed leaves its own
    with chat_server() as server, agent.executor() as executor:
        executor.execute(Task.agent("hello", provider=server.setting()))
    assert set(state.iterdir()) <= before


def test_without_an_account_or_a_provider_the_reason_says_to_sign_in(agent: Agent) -> None:
    not_signed_in = pytest.raises(
        ProviderAuthenticationError, match="not signed in to GitHub Copilot"
    )
    with agent.executor() as executor, not_signed_in:
        executor.execute(Task.agent("hello"))


def test_options_that_copilot_does_not_have_are_refused(agent: Agent) -> None:
    with agent.executor() as executor:
        with pytest.raises(ProviderError, match="has no temperature"):
            executor.execute(Task.agent("hello", temperature=0.5))
        with pytest.raises(ProviderError, match="max_tokens only for models of your own"):
            executor.execute(Task.agent("hello", max_tokens=5))


def test_a_key_in_an_environment_variable_that_is_not_set(agent: Agent) -> None:
    with agent.executor() as executor:
        task = Task.agent("hello", provider={"base_url": "http://x", "api_key_env": "NO_SUCH_KEY"})
        with pytest.raises(ProviderAuthenticationError, match="'NO_SUCH_KEY'.* is not set"):
            executor.execute(task)


# --- the life of the CLI ------------------------------------------------------------------------


def test_the_process_serves_all_turns_and_ends_with_the_executor(cli: str) -> None:
    others = clis()
    with chat_server(says("one"), says("two")) as server:
        handler = make_copilot_prompt_handler("m", provider=server.setting(api_key=KEY))
        with TaskExecutor() as executor:
            executor.register(TaskType.PROMPT, handler)
            impatient = Task.prompt("one", timeout=0.2)  # is over before the CLI has started
            with pytest.raises(TaskTimeoutError):
                executor.execute(impatient)
            assert executor.execute(Task.prompt("one")).output == "one"
            (first,) = clis() - others
            # Ctrl-C in a terminal, which goes to a whole group, must leave it to the cleanup.
            assert os.getpgid(first.pid) == first.pid
            first.kill()  # while it does nothing
            first.wait(10)
            assert executor.execute(Task.prompt("two")).output == "two"
            (second,) = clis() - others
            assert second != first
        assert clis() == others
    assert {call.key for call in server.calls} == {KEY}


def clis() -> set[psutil.Process]:
    mine = psutil.Process().children()
    return {process for process in mine if "--headless" in process.cmdline()}


def test_the_end_of_the_cli_in_mid_turn_fails_the_task(cli: str) -> None:
    others = clis()
    with chat_server(never()) as server, TaskExecutor() as executor:
        handler = make_copilot_prompt_handler("m", provider=server.setting())
        executor.register(TaskType.PROMPT, handler)
        future = executor.submit(Task.prompt("hello"))
        assert server.asked.wait(30)
        for process in clis() - others:
            process.kill()
        with pytest.raises(ProviderStartError, match="ended unexpectedly"):
            future.result(20)


def test_an_executor_that_nobody_closes_leaves_no_process(cli: str) -> None:
    with chat_server() as server:
        script = f"""
            from ttasks import Task, TaskExecutor
            executor = TaskExecutor()
            task = Task.prompt("hello", provider={server.setting()!r}, model="m")
            print(executor.execute(task).output)
            """
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hello world\n", "")
    # The process would be found by `no_stray_process`, at the end of the run.


def children() -> list[str]:
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            found.append(" ".join(process.cmdline()))
        except psutil.Error:  # it has ended
            continue
    return found


# --- a CLI that is not there, or is another -----------------------------------------------------


def prompt_error(monkeypatch: pytest.MonkeyPatch, path: Path) -> BaseException:
    monkeypatch.setenv("COPILOT_CLI_PATH", str(path))
    with TaskExecutor() as executor:
        task = Task.prompt("hello", timeout=30)
        with pytest.raises(Exception) as caught:
            executor.execute(task)
    assert task.is_failed
    return caught.value


def fake_cli(folder: Path, text: str) -> Path:
    path = folder / "copilot"
    path.write_text(f"#!{sys.executable}\n{textwrap.dedent(text)}")
    path.chmod(0o755)
    return path


def test_a_missing_cli_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    error = prompt_error(monkeypatch, tmp_path / "nothing")
    assert type(error) is ProviderStartError
    assert "not found" in str(error)
    assert "set COPILOT_CLI_PATH to the CLI of the npm package '@github/copilot'" in str(error)


def test_a_cli_of_another_protocol_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = fake_cli(
        tmp_path,
        """
        import json, sys
        size = int(sys.stdin.readline().split(":")[1])
        sys.stdin.readline()
        request = json.loads(sys.stdin.read(size))
        answer = {"ok": True, "protocolVersion": 99, "version": "99"}
        text = json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": answer})
        sys.stdout.write(f"Content-Length: {len(text)}\\r\\n\\r\\n{text}")
        sys.stdout.flush()
        sys.stdin.read()
        """,
    )
    error = prompt_error(monkeypatch, path)
    assert type(error) is ProviderStartError
    assert "the Copilot CLI is of another version than the SDK" in str(error)
    assert "99" in str(error)


def test_a_cli_that_does_not_start_says_what_it_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = fake_cli(tmp_path, "import sys; sys.exit('libsomething is missing')")
    error = prompt_error(monkeypatch, path)
    assert type(error) is ProviderStartError
    assert "libsomething is missing" in str(error)


def test_without_the_extra_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "copilot", None)
    with TaskExecutor() as executor:
        for task in (Task.prompt("hello"), Task.agent("hello")):
            with pytest.raises(MissingExtraError, match=r"pip install 'ttasks\[copilot\]'"):
                executor.execute(task)
            assert task.is_failed
