"""What the tests of the pytest plugin share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Inner = Callable[..., pytest.RunResult]
"""Runs pytest with the text of a file of tests, options, and the text of a conftest."""
