"""Every script of examples/ runs by itself, warnings being errors, and ends with exit code 0."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from chatkit import chat_server, closed_port_url, says

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))

# Arguments of the scripts that need any; None leaves a script out, for the reason beside it.
ARGUMENTS: dict[str, list[str] | None] = {
    # All checks would run this very test suite, and need tools that are not there on every Python.
    "preflight.py": ["--only", "import"],
    "recommend.py": None,  # needs a model; below it gets one
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_exits_with_0_in_an_empty_folder(name: str, tmp_path: Path) -> None:
    arguments = ARGUMENTS.get(name, [])
    if arguments is None:
        pytest.skip("left out in the table of arguments")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / name), *arguments],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{name}:\n{done.stdout}\n{done.stderr}"


def test_the_table_of_arguments_names_scripts_that_exist() -> None:
    if EXAMPLES:
        assert set(ARGUMENTS) <= set(EXAMPLES)


# --- recommend.py -------------------------------------------------------------------------------


def recommend(url: str, folder: Path) -> subprocess.CompletedProcess[str]:
    script = ROOT / "examples" / "recommend.py"
    return subprocess.run(
        [sys.executable, "-W", "error", str(script), "--base-url", url, "--model", "some-model"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_recommend_asks_a_model_about_the_results_of_the_checks(tmp_path: Path) -> None:
    with chat_server(says("Add a ", "changelog.")) as server:
        done = recommend(server.url, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Add a changelog.\n")
    assert "failed    changelog" in done.stdout
    assert "succeeded recommendation" in done.stdout
    (call,) = server.calls
    (text,) = call.texts("user")
    assert "## disk: succeeded" in text
    assert "## changelog: failed" in text
    assert call.texts("system")[0].startswith("You advise")


def test_recommend_is_not_red_because_the_model_is_away(tmp_path: Path) -> None:
    done = recommend(closed_port_url(), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "failed    recommendation (OpenAI-compatible server: connection refused" in done.stdout


# --- integration_tests/ -------------------------------------------------------------------------


def integration_tests(folder: Path, hidden: str = "", **variables: str) -> str:
    """Run a copy of the example by the last command of its README; what it printed.

    Args:
        folder: for the copy.
        hidden: a path that the copy looks for in vain.
        variables: environment variables to set.
    """
    copy = folder / "integration_tests"
    shutil.copytree(ROOT / "examples" / "integration_tests", copy)
    if hidden:
        text = (copy / "servers.py").read_text(encoding="utf-8")
        assert hidden in text
        (copy / "servers.py").write_text(text.replace(hidden, "/nowhere"), encoding="utf-8")
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-p", "ttasks", "-rs"],
        cwd=copy,
        env=environment | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_integration_tests_are_green(tmp_path: Path) -> None:
    printed = integration_tests(tmp_path)
    if "3 skipped" in printed:
        pytest.skip(printed.partition("SKIPPED ")[2].splitlines()[0])
    assert "3 passed" in printed


def test_integration_tests_are_skipped_with_a_reason_without_postgresql(tmp_path: Path) -> None:
    printed = integration_tests(tmp_path, "/usr/lib/postgresql", PATH=str(tmp_path))
    assert "3 skipped" in printed
    assert "PostgreSQL is not installed: get it with your system's package manager" in printed


# --- preflight.py: it is honest -----------------------------------------------------------------


def preflight(folder: Path, test: str, *options: str) -> subprocess.Popen[str]:
    """Start the preflight of a small project of its own that has nothing but this test."""
    script = folder / "examples" / "preflight.py"
    script.parent.mkdir()
    shutil.copy(ROOT / "examples" / "preflight.py", script)
    (folder / "test_it.py").write_text(test, encoding="utf-8")
    # A git that knows no repository, whatever is around the folder.
    environment = os.environ | {
        "GIT_DIR": str(folder / "none"),
        "LANG": "C.UTF-8",
        "CI": "",
        "GITHUB_ACTIONS": "",
        "PYTEST_ADDOPTS": "",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(script), "--only", "tests", *options],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Python sets up Ctrl-C only where it is not ignored, as it is for jobs in the background.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def rest_of(process: subprocess.Popen[str]) -> list[str]:
    """Wait for its end and return the lines that have not been read yet."""
    with process:
        return process.stdout.read().splitlines()


def test_preflight_exits_with_0_and_writes_a_report(tmp_path: Path) -> None:
    process = preflight(tmp_path, "def test_passes():\n    pass\n", "--report", "made.html")
    lines = rest_of(process)
    assert process.returncode == 0, lines
    assert any(re.match(r"✓ +[0-9.]+m?s  tests$", line) for line in lines)
    assert re.match(r"✓ +[0-9.]+m?s  preflight  1 succeeded$", lines[-3])
    assert lines[-2:] == ["Wrote made.html", "All 1 checks passed."]
    assert "preflight" in (tmp_path / "made.html").read_text(encoding="utf-8")


def test_preflight_shows_all_errors_of_a_check_and_says_which_failed(tmp_path: Path) -> None:
    test = "import pytest\n\n@pytest.mark.parametrize('n', range(60))\n"
    lines = rest_of(preflight(tmp_path, test + "def test_fails(n):\n    assert n < 0\n"))
    for number in range(60):
        assert any(f"assert {number} < 0" in line for line in lines)
    assert any(re.match(r"All \d+ lines of tests:", line) for line in lines)
    assert lines[-1] == "1 of 1 checks failed: tests."


def test_preflight_says_that_the_package_cannot_be_imported(tmp_path: Path) -> None:
    package = tmp_path / "ttasks"
    package.mkdir()
    (package / "__init__.py").write_text("from ttasks.missing import name\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "preflight.py")],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "No module named 'ttasks.missing'" in done.stderr
    assert done.stderr.endswith("so no check has run. Mend that first.\n")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--report", "made.foo"), "the suffix of 'made.foo' is not that of a report format"),
        (("--report", "none/made.html"), "there is no folder 'none'"),
        (("--report", "folder.html"), "'folder.html' is a folder"),
        (("--logs", "test_it.py"), "'test_it.py' is not a folder"),
        (("--logs", "test_it.py/logs"), "test_it.py' is not a folder"),
    ],
)
def test_preflight_refuses_files_that_cannot_be_written_before_it_runs(
    tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    (tmp_path / "folder.html").mkdir()
    process = preflight(tmp_path, "def test_passes():\n    pass\n", *options)
    lines = rest_of(process)
    assert process.returncode == 2, lines
    assert said in lines[-1]


def test_preflight_exits_with_1_and_shows_the_tail_of_what_failed(tmp_path: Path) -> None:
    process = preflight(tmp_path, "def test_fails():\n    assert 'this' == 'that'\n")
    lines = rest_of(process)
    assert process.returncode == 1, lines
    assert re.match(r"✗ +[0-9.]+m?s  preflight  1 failed$", lines[-2])
    assert lines[-1] == "1 of 1 checks failed: tests."
    assert any(re.match(r"✗ +[0-9.]+m?s  tests  exit code 1$", line) for line in lines)
    assert any("assert 'this' == 'that'" in line for line in lines)
    assert any("again" in line and line.endswith("--only tests") for line in lines)


def test_preflight_exits_with_130_after_ctrl_c(tmp_path: Path) -> None:
    process = preflight(tmp_path, "import time\n\ndef test_waits():\n    time.sleep(60)\n")
    while not process.stdout.readline().endswith("  tests\n"):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    lines = rest_of(process)
    assert process.returncode == 130, lines
    assert any(re.match(r"⊘ +[0-9.]+m?s  tests  interrupted$", line) for line in lines)
    assert "preflight interrupted" in lines[-2]
    assert lines[-1] == "Interrupted."
