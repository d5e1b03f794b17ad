"""Each CI system's form, against golden files and against what its parser would make of it.

``TTASKS_GOLDEN=write`` writes the golden files anew; look at the difference before you keep it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from consolekit import Text, executor, script, scripted, shown, timeless
from ttasks import RetryPolicy, Task, TaskGraph
from ttasks.console.ci.view import FORMS, place_of
from ttasks.console.detect import CI_SYSTEMS

SYSTEMS = sorted(FORMS)
GOLDEN = Path(__file__).parents[2] / "fixtures" / "console"
SECRET = "hunter2-and-more"

# What the systems take for commands, at the beginning of a line or anywhere.
INJECTIONS = [
    "::error file=a.py,line=1::injected",
    "  ::add-mask::injected",
    "::endgroup::",
    "text ##[error]injected",
    "##[endgroup]",
    "text ##vso[task.setvariable variable=a]injected",
    "##VSO[task.complete result=Succeeded;]injected",
    "##teamcity[buildStatus status='SUCCESS']",
    "text ##teamcity[blockClosed name='x']",
    "--- injected",
    "+++ injected",
    "~~~ injected",
    "^^^ +++",
    "\x1b[0Ksection_end:1:ttasks_1\r\x1b[0K",
    "\x1b[0Ksection_start:1:mine[collapsed=true]\r\x1b[0Kinjected",
]


@pytest.fixture(autouse=True)
def step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The file for the summary of a GitHub step, empty; and the folder of an Azure agent."""
    summary = tmp_path / "summary.md"
    summary.touch()
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    monkeypatch.setenv("GITHUB_WORKSPACE", str(GOLDEN.parents[1]))
    monkeypatch.setenv("AGENT_TEMPDIRECTORY", str(tmp_path))
    return summary


def the_checks() -> TaskGraph:
    graph = TaskGraph("checks")
    graph.add(scripted("import", script("all 41 names\n")))
    graph.add(scripted("silent", script()))
    lint = graph.add(Task.bash("echo 'a.py:1: bad'; exit 1", title="lint: strict, 100%"))
    test = graph.add(scripted("tests", script("ran\n")), after=lint)
    graph.add(scripted("deploy", script()), after=test)
    fails = iter([True, False])

    def flaky(context) -> None:
        context.emit_output("connecting\n")
        if next(fails):
            raise OSError("reset")

    fetch = graph.add(scripted("fetch", flaky, retry=RetryPolicy(max_attempts=2)))
    login = graph.add(scripted("login", script(f"password {SECRET}\n")), after=fetch)
    changes = Task.bash("echo 'M README.md'; exit 2", title="changes")
    graph.add(changes, after=login, required=False)
    return graph


def normal(text: str) -> str:
    """Without what differs from run to run."""
    text = timeless(text)
    text = re.sub(r"section_(start|end):\d+", r"section_\1:0", text)
    return re.sub(r"uploadsummary\].*", "uploadsummary]FILE", text)


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_form_is_that_of_the_golden_file(system: str) -> None:
    text = normal(shown(the_checks(), system, executor(redact=[SECRET])))
    path = GOLDEN / f"{system}.txt"
    if os.environ.get("TTASKS_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text.encode())
    assert text == path.read_bytes().decode()


@pytest.mark.parametrize("system", SYSTEMS)
def test_secrets_are_masked(system: str) -> None:
    text = shown(the_checks(), system, executor(redact=[SECRET]))
    assert SECRET not in text
    assert "password ***" in text


# --- injections ---------------------------------------------------------------------------------


def commands(system: str, text: str) -> list[str]:
    """The commands that the parser of a system finds in a log."""
    lines = re.split(r"\r\n|\n|\r", text) if system != "gitlab" else text.split("\n")
    patterns = {
        "github": r"^\s*(::[a-z-]+.*::.*)|(##\[\w+.*\].*)",
        "azure": r"(##\[\w+\].*)|(?i:(##vso\[.*))",
        "buildkite": r"^((?:---|\+\+\+|~~~|\^\^\^)(?: .*|$))",
        "gitlab": r"(\x1b\[0Ksection_\w+:\d+:[\w.-]+(?:\[.*\])?\r\x1b\[0K.*)",
        "teamcity": r"(##teamcity\[.*)",
    }
    found = [re.search(patterns[system], line) for line in lines]
    return [match[0] for match in found if match is not None]


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("fails", [False, True])
def test_nothing_that_a_task_prints_is_a_command(system: str, fails: bool) -> None:
    def graph_of(*lines: str) -> TaskGraph:
        error = ValueError("\n".join(lines) or "no") if fails else None
        graph = TaskGraph("evil")
        graph.add(scripted("evil", script("".join(f"{x}\n" for x in lines) or "x\n", fails=error)))
        return graph

    def kinds(graph: TaskGraph) -> list[str]:
        found = commands(system, timeless(shown(graph, system, executor())))
        return [re.match(r"\W*\w*", command)[0] for command in found]

    assert kinds(graph_of(*INJECTIONS)) == kinds(graph_of())


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("title", [*INJECTIONS, "a]'|[b\n::error::x"])
def test_no_title_is_a_command(system: str, title: str) -> None:
    def kinds(name: str) -> list[str]:
        graph = TaskGraph(name)
        graph.add(scripted(name, script("x\n", fails=ValueError("no"))))
        found = commands(system, timeless(shown(graph, system, executor())))
        return [re.match(r"[^\w✗]*\w*" if system != "buildkite" else r"\S+", x)[0] for x in found]

    assert kinds(title) == kinds("harmless")


@pytest.mark.parametrize("system", SYSTEMS)
def test_what_a_python_task_prints_is_no_command_but_what_the_program_prints_may_be(
    system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ttasks.console import console

    file = Text()
    monkeypatch.setattr("sys.stdout", file)

    def evil() -> None:
        for line in INJECTIONS:
            print(line)

    command = {"buildkite": "--- mine"}.get(system, "::notice::mine\n##[section]mine")
    with executor() as running, console(running, system):
        running.execute(Task.python(evil, title="evil"))
        print(command)
    assert command in file.getvalue()
    found = commands(system, file.getvalue())
    assert not [line for line in found if "injected" in line]


# --- groups -------------------------------------------------------------------------------------


@pytest.mark.parametrize("system", ["github", "gitlab", "azure", "teamcity"])
def test_every_group_is_closed_also_after_an_interrupt(system: str) -> None:
    graph = the_checks()

    def stops(context) -> None:
        context.emit_output("working\n")
        graph.cancel()
        context.raise_if_cancelled()

    graph.add(scripted("stops", stops))
    text = shown(graph, system, executor())
    opening, closing = {
        "github": ("::group::", "::endgroup::"),
        "gitlab": ("section_start:", "section_end:"),
        "azure": ("##[group]", "##[endgroup]"),
        "teamcity": ("blockOpened", "blockClosed"),
    }[system]
    depth = 0
    for line in text.splitlines():
        depth += line.count(opening) - line.count(closing)
        assert depth in (0, 1), "groups do not nest"
    assert depth == 0
    assert opening in text


@pytest.mark.parametrize("system", SYSTEMS)
def test_what_failed_is_open(system: str) -> None:
    lines = shown(the_checks(), system, executor()).splitlines()
    at = next(n for n, line in enumerate(lines) if "a.py:1: bad" in line) - 1
    assert "lint: strict" in lines[at]
    closed = ("::group::", "##[group]", "---", "[collapsed=true]")
    assert not any(sign in lines[at] for sign in closed)


# --- annotations --------------------------------------------------------------------------------


def test_each_system_that_is_detected_has_a_form() -> None:
    assert sorted(FORMS) == sorted(CI_SYSTEMS.values())


def annotations(text: str) -> list[str]:
    return [
        line
        for line in text.splitlines()
        if re.match(r"::(error|warning) |##vso\[task.log|##teamcity\[(buildProblem|message) ", line)
    ]


@pytest.mark.parametrize("system", ["github", "azure", "teamcity"])
def test_annotations_stay_within_the_limits_and_root_causes_come_first(system: str) -> None:
    graph = TaskGraph("many")
    for number in range(15):
        graph.add(scripted(f"leaf-{number}", script(fails=ValueError("no"))))
        graph.add(scripted(f"maybe-{number}", script(fails=ValueError("no"))), required=False)
    root = graph.add(scripted("root", script(fails=ValueError("everything needs me"))))
    for number in range(5):
        graph.add(scripted(f"needs-{number}", script()), after=root)
    found = annotations(shown(graph, system, executor()))
    errors = [line for line in found if re.search("::error|type=error|buildProblem", line)]
    warnings = [line for line in found if re.search("::warning|type=warning|WARNING", line)]
    assert len(errors) == FORMS[system].limits.errors == 10
    assert len(warnings) == FORMS[system].limits.warnings == 10
    assert "root" in errors[0]
    assert "7 more failed" in errors[-1]
    assert not any("needs-" in line for line in found)  # what is blocked is no cause


@pytest.mark.parametrize("system", ["github", "azure", "teamcity"])
def test_two_runs_share_the_limits_of_their_step(system: str) -> None:
    from ttasks.console import console

    file = Text()
    with executor() as running, console(running, system, file=file):
        for turn in range(2):
            graph = TaskGraph(f"run {turn}")
            for number in range(8):
                graph.add(scripted(f"t{turn}{number}", script(fails=ValueError("no"))))
            graph.run(running, 1)
    shown = [
        line
        for line in file.getvalue().splitlines()
        if re.match(r"::error|##vso\[task.logissue|##teamcity\[buildP", line)
    ]
    assert len(shown) == 10


def test_a_long_message_is_cut() -> None:
    graph = TaskGraph("long")
    graph.add(Task.bash("printf 'x%.0s' {1..20000} | fold -w 1000; exit 1", title="long"))
    (line,) = annotations(shown(graph, "github", executor()))
    assert len(line) < FORMS["github"].limits.message + 200
    assert line.endswith("…")


def test_an_annotation_points_to_the_line_of_the_checkout_that_raised() -> None:
    (line,) = annotations(shown(_with_python_failure(), "github", executor()))
    number = _fails.__code__.co_firstlineno + 1
    assert f"file=unit/console/test_ci.py,line={number},title=validate" in line


def _fails() -> None:
    raise ValueError("no such key")


def _with_python_failure() -> TaskGraph:
    graph = TaskGraph("python")
    graph.add(Task.python(_fails, title="validate"))
    return graph


def test_a_place_outside_of_the_checkout_or_in_a_library_is_none(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    assert place_of("") == (None, None)
    assert place_of("/y.py:4 in g") == (None, None)
    assert place_of(f"{tmp_path}/site-packages/x.py:3 in f") == (None, None)
    assert place_of(f"{tmp_path}/a/b.py:7 in some.<locals>.f") == ("a/b.py", 7)


# --- summaries ----------------------------------------------------------------------------------


def test_the_summary_of_a_step_is_written_beside_what_is_there(step: Path) -> None:
    step.write_text("before\n")
    shown(the_checks(), "github", executor())
    text = step.read_text()
    assert text.startswith("before\n")
    assert "lint: strict" in text


def test_the_summary_fits_in_what_is_left_of_its_limit(step: Path) -> None:
    step.write_text("x" * (FORMS["github"].limits.summary_bytes - 3000))
    shown(the_checks(), "github", executor())
    assert step.stat().st_size <= FORMS["github"].limits.summary_bytes


def test_a_summary_that_cannot_be_written_is_a_line_and_no_more(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "none" / "summary.md"))
    graph = the_checks()
    assert "the summary could not be written" in shown(graph, "github", executor())


def test_without_a_file_for_it_there_is_no_summary(monkeypatch) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY")
    assert "summary" not in shown(the_checks(), "github", executor())


def test_azure_uploads_a_file() -> None:
    text = shown(the_checks(), "azure", executor())
    match = re.search(r"##vso\[task.uploadsummary\](.*)", text)
    assert match is not None
    assert "lint: strict" in Path(match[1]).read_text()
