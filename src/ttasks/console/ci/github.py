"""GitHub Actions: groups, annotations, the summary of the step."""

from __future__ import annotations

from pathlib import Path

from ttasks.console.ci.form import Form, Limits, Problem


class GitHub(Form):
    """Groups cannot be open from the start, so what failed stands outside of them."""

    limits = Limits(errors=10, warnings=10, summary_bytes=1024 * 1024)

    def open(self, title: str, number: int, now: float, *, failed: bool) -> list[str]:
        """See `Form`."""
        return [title if failed else f"::group::{_data(title)}"]

    def close(self, title: str, number: int, now: float, *, failed: bool) -> list[str]:
        """See `Form`."""
        return [] if failed else ["::endgroup::"]

    def problem(self, problem: Problem) -> str:
        """See `Form`."""
        properties = {"file": problem.file, "line": problem.line, "title": problem.title}
        shown = ",".join(
            f"{name}={_property(str(value))}"
            for name, value in properties.items()
            if value is not None
        )
        kind = "warning" if problem.is_warning else "error"
        return f"::{kind} {shown}::{_data(problem.message)}"

    def room_for_summary(self) -> int:
        """See `Form`. Other commands of the step may have written something already."""
        path = self.environment.get("GITHUB_STEP_SUMMARY")
        if not path:
            return 0
        try:
            return max(0, self.limits.summary_bytes - Path(path).stat().st_size)
        except OSError:
            return self.limits.summary_bytes

    def summary(self, markdown: str) -> list[str]:
        """See `Form`."""
        with open(self.environment["GITHUB_STEP_SUMMARY"], "a", encoding="utf-8") as file:
            file.write(markdown)
        return []


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
