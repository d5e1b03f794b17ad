"""Every script of examples/ runs by itself, warnings being errors, and ends with exit code 0."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))

# Arguments of the scripts that need any; None leaves a script out, for the reason beside it.
ARGUMENTS: dict[str, list[str] | None] = {
    "preflight.py": None,  # runs this very test suite
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
