"""Azure Pipelines: groups, issues, the summary."""

from __future__ import annotations

import tempfile

from ttasks.console.ci.form import Form, Limits, Problem


class Azure(Form):
    """Groups are collapsed, so what failed stands outside of them."""

    limits = Limits(errors=10, warnings=10, summary_bytes=1024 * 1024)

    def open(self, title: str, number: int, now: float, *, failed: bool) -> list[str]:
        """See `Form`."""
        return [title if failed else f"##[group]{title}"]

    def close(self, title: str, number: int, now: float, *, failed: bool) -> list[str]:
        """See `Form`."""
        return [] if failed else ["##[endgroup]"]

    def problem(self, problem: Problem) -> str:
        """See `Form`."""
        properties = {
            "type": "warning" if problem.is_warning else "error",
            "sourcepath": problem.file,
            "linenumber": problem.line,
        }
        shown = "".join(
            f"{name}={_escaped(str(value))};"
            for name, value in properties.items()
            if value is not None
        )
        return f"##vso[task.logissue {shown}]{_escaped(f'{problem.title}: {problem.message}')}"

    def room_for_summary(self) -> int:
        """See `Form`. Without the agent's folder nobody would remove the file again."""
        return self.limits.summary_bytes if self.environment.get("AGENT_TEMPDIRECTORY") else 0

    def summary(self, markdown: str) -> list[str]:
        """See `Form`. The agent reads the file at the end of the step, and empties its folder."""
        folder = self.environment["AGENT_TEMPDIRECTORY"]
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", suffix=".md", prefix="ttasks-", dir=folder, delete=False
        ) as file:
            file.write(markdown)
        return [f"##vso[task.uploadsummary]{_escaped(file.name)}"]


def _escaped(text: str) -> str:
    for sign, code in (
        ("%", "%AZP25"),
        (";", "%3B"),
        ("\r", "%0D"),
        ("\n", "%0A"),
        ("]", "%5D"),
    ):
        text = text.replace(sign, code)
    return text
