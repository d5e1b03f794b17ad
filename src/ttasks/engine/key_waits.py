"""Which runs wait for the keys of which others, in this process."""

from __future__ import annotations

from collections.abc import Sequence

from ttasks import sync


class KeyWaits:
    """Runs that wait for a key that another run holds. Thread-safe."""

    def __init__(self) -> None:
        # Protects ``_waits``: by the id of a waiting run, the runs that it is part of, which cannot
        # end before it, and the run that has the key.
        self._lock = sync.Lock()
        self._waits: dict[str, tuple[Sequence[str], str]] = {}

    def begin(self, run_id: str, outer: Sequence[str], holder: str) -> bool:
        """Note that a run waits; False, and nothing is noted, if it would wait for itself.

        Args:
            run_id: the run.
            outer: the runs that it is part of.
            holder: the run that has its key.
        """
        with self._lock:
            found, left = {holder}, [holder]
            while left:
                last = left.pop()
                for others, after in self._waits.values():
                    if last in others and after not in found:
                        found.add(after)
                        left.append(after)
            if not found.isdisjoint(outer):
                return False
            self._waits[run_id] = (outer, holder)
            return True

    def end(self, run_id: str) -> None:
        """Forget that a run waits, if it does."""
        with self._lock:
            self._waits.pop(run_id, None)


KEY_WAITS = KeyWaits()
"""The waits of all executors of this process, which may share a store."""
