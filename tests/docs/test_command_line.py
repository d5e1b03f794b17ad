"""The pages on the command line: the reference is what the parsers say, and the snippets run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from argparse import Action
from pathlib import Path

import pytest

from ttasks.cli.exits import CODES
from ttasks.cli.parser import Parser
from ttasks.cli.parsers import make

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference" / "command-line.md"
CI = ROOT / "docs" / "how-to" / "ci.md"
GUIDE = ROOT / "docs" / "how-to" / "command-line.md"

_HEAD = """\
# Command line

`ttasks`, or `python -m ttasks`. {description}

A RUN is an {run_help}.
A TARGET is a file or a module with a `TaskGraph`, or with a function that makes one:

| TARGET | means |
| --- | --- |
| `file.py` | the only graph at the top level of the file, or else its function `build_graph` |
| `file.py:name` | this graph or function |
| `package.module`, `package.module:name` | the same of a module that can be imported from here |

With `--json`, JSON and nothing else goes to standard output. `ttasks.cli.SCHEMA` describes it;
reports have `ttasks.report.SCHEMA`. Text may change, JSON stays: new members may come, and
`version` changes when one goes.

## Exit codes

| code | meaning |
| --- | --- |
{codes}

A reader that goes away (`| head -1`) is no error. A run that `ttasks cancel` stops ends with 1.
"""


def page() -> str:
    """The reference page, from the parsers."""
    parser = make()
    codes = "\n".join(f"| {code} | {text} |" for code, text in CODES.items())
    run_help = "id or its beginning, a key (its latest run), or `latest`"
    parts = [_HEAD.format(description=parser.description, run_help=run_help, codes=codes)]
    for name, command in parser.commands.items():
        parts.append(_section(name, command))
    return "\n".join(parts)


def _section(name: str, command: Parser) -> str:
    usage = re.sub(r"\s+", " ", command.format_usage().removeprefix("usage: ")).strip()
    lines = [f"## ttasks {name}", "", command.description or "", "", "```text", usage, "```", ""]
    rows = [_row(action) for action in command.arguments if action.dest != "help"]
    if rows:
        lines += ["| argument | meaning |", "| --- | --- |", *rows, ""]
    for remark in filter(None, [*command.remarks, command.epilog]):
        lines += [remark, ""]
    return "\n".join(lines)


def _row(action: Action) -> str:
    value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
    if action.option_strings:
        names = ", ".join(f"`{flag}{value}`" for flag in action.option_strings)
    else:
        names = f"`{action.metavar}`"
    return f"| {names} | {(action.help or '').replace('%%', '%').replace('|', chr(92) + '|')} |"


def test_the_reference_is_what_the_parsers_say() -> None:
    if os.environ.get("TTASKS_GOLDEN") == "write":
        REFERENCE.write_text(page(), encoding="utf-8")
    assert REFERENCE.read_text(encoding="utf-8") == page()


def commands_of(page: Path) -> list[list[str]]:
    """The words of every ``ttasks`` command in the code blocks of a page."""
    found = []
    for block in re.findall(
        r"```(?:sh|yaml|console)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL
    ):
        for line in block.splitlines():
            match = re.search(r"(?:^\$ |^\s*(?:- |run: |entry: )?)(ttasks .*)$", line)
            if match:
                found.append(shlex.split(match[1], comments=True)[1:])
    return found


@pytest.mark.parametrize("path", [CI, GUIDE], ids=["ci", "guide"])
def test_every_command_of_a_page_is_one_that_there_is(path: Path) -> None:
    found = commands_of(path)
    assert len(found) > 5
    for words in found:
        ends = [at for at, word in enumerate(words) if word in ("--", "|", ">")]
        make().parse_args(words[: min(ends, default=len(words))])  # ends the test if it is wrong


def program_of(page: Path, name: str) -> str:
    """The Python block of a page that follows the name of a file."""
    text = page.read_text(encoding="utf-8")
    match = re.search(rf"`{re.escape(name)}`[^`]*```python\n(.*?)```", text, re.DOTALL)
    assert match is not None
    return match[1]


def test_the_steps_for_github_do_what_the_page_says(tmp_path: Path) -> None:
    (tmp_path / "checks.py").write_text(program_of(CI, "checks.py"))
    summary = tmp_path / "summary.md"
    run = next(words for words in commands_of(CI) if words[0] == "run" and "junit.xml" in words)
    done = subprocess.run(
        [sys.executable, "-m", "ttasks", *run],
        cwd=tmp_path,
        env={**os.environ, "GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1, done.stderr
    assert "::error" in done.stdout
    assert "types" in summary.read_text()
    assert (tmp_path / "junit.xml").exists()


def test_the_files_for_ci_systems_are_valid_yaml() -> None:
    yaml = pytest.importorskip("yaml")
    blocks = re.findall(r"```yaml\n(.*?)```", CI.read_text(encoding="utf-8"), re.DOTALL)
    assert [sorted(map(str, yaml.safe_load(block))) for block in blocks] == [
        ["True", "jobs", "name"],
        ["checks"],
        ["repos"],
    ]


def normal(text: str) -> set[str]:
    """The lines of a text without times, ids and what depends on which of two tasks was first.

    What a failure blocks is not always known yet when it is printed for the first time.
    """
    text = re.sub(r"\d+(\.\d+)? ?m?s\b", "TIME", text)
    text = re.sub(r"\b[0-9a-f]{8}\b", "ID", text)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "DATE", text)
    lines = (re.sub(r"[ ╰]+", " ", line).strip() for line in text.splitlines())
    return set(filter(None, lines))


def test_the_guide_shows_what_its_commands_print(tmp_path: Path) -> None:
    text = GUIDE.read_text(encoding="utf-8")
    program = tmp_path / "build.py"
    program.write_text(program_of(GUIDE, "build.py"))
    ran = 0
    for block, old, new in re.findall(
        r"```console\n(.*?)```|replace `(.*?)` with `(.*?)`", text, re.DOTALL
    ):
        if old:
            program.write_text(program.read_text().replace(old, new))
        for command, expected in re.findall(r"^\$ ttasks (.*)\n((?:(?!\$ ).*\n)*)", block, re.M):
            done = subprocess.run(
                [sys.executable, "-m", "ttasks", *shlex.split(command)],
                cwd=tmp_path,
                env={name: os.environ[name] for name in os.environ if name != "TTASKS_STORE"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                timeout=60,
            )
            assert normal(done.stdout) == normal(expected), command
            ran += 1
    assert ran >= 9
