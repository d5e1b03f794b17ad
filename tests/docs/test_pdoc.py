"""pdoc documents every public name, though `ttasks` imports them only when they are used."""

from __future__ import annotations

import pytest

import ttasks
from ttasks import *  # noqa: F403 - pdoc finds only the names that have been used

doc = pytest.importorskip("pdoc.doc", reason="pdoc belongs to another group than the tests")


def test_every_public_name_is_resolved() -> None:
    module = doc.Module(ttasks)  # a name that it cannot resolve is a warning, and so an error here
    assert set(module.members) == set(ttasks.__all__)
    undocumented = [name for name, member in module.members.items() if not member.docstring]
    assert undocumented == ["__version__"]
