"""TeamCity: blocks and build problems."""

from __future__ import annotations

from zlib import crc32

from ttasks.console.ci.form import Form, Limits, Problem
from ttasks.console.text import clean

_ESCAPES = {"|": "||", "'": "|'", "\n": "|n", "\r": "|r", "[": "|[", "]": "|]"}


class TeamCity(Form):
    """A block for each task; what failed is told by build problems as well."""

    limits = Limits(errors=10, warnings=10, message=3900)

    def open(self, title: str, number: int, now: float, *, failed: bool) -> list[str]:
        """See `Form`."""
        return [f"##teamcity[blockOpened name='{_escaped(clean(title))}']"]

    def close(self, title: str, number: int, now: float, *, failed: bool) -> list[str]:
        """See `Form`."""
        return [f"##teamcity[blockClosed name='{_escaped(clean(title))}']"]

    def problem(self, problem: Problem) -> str:
        """See `Form`. Problems of one identity are one problem of the build from run to run."""
        if problem.is_warning:
            text = _escaped(f"{problem.title}: {problem.message}")
            return f"##teamcity[message text='{text}' status='WARNING']"
        identity = f"ttasks{crc32(problem.title.encode('utf-8', 'replace')):08x}"
        text = _escaped(f"{problem.title}: {problem.message}")
        return f"##teamcity[buildProblem description='{text}' identity='{identity}']"


def _escaped(text: str) -> str:
    return "".join([_ESCAPES.get(c) or (c if c.isascii() else _number(c)) for c in text])


def _number(character: str) -> str:
    data = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"|0x{data[at : at + 2].hex()}" for at in range(0, len(data), 2))
