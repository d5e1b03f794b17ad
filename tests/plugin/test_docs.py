"""The page about the plugin does what it says."""

from __future__ import annotations

import re
from pathlib import Path

from pluginkit import Inner

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "pytest.md"


def test_the_blocks_of_the_page_are_green_as_files_of_tests(inner: Inner) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    conftest = "\n".join(block for block in blocks if "graph_fixture(" in block)
    tests = "from ttasks import Task, TaskGraph\n" + "\n".join(
        block for block in blocks if "\ndef test_" in block
    )
    assert len(blocks) == 4
    shared = "def test_shared(shared_web, web):\n    assert shared_web != web\n"
    result = inner(f"{tests}\n{shared}", conftest=conftest)
    result.assert_outcomes(passed=3)
