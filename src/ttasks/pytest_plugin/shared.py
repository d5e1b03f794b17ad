"""Membership: graphs that all workers of xdist on a machine use together.

The folder of a run of pytest::

    members/<worker>           the process of each worker that may use a graph
    members/<worker>.ending    the same, once it uses none any more, but owns some
    <graph>/owner.<n>          the process that runs the graph; a higher n replaces one that is gone
    <graph>/state.<n>          what the others get, or why it could not be set up
    <graph>/logs.<n>/          what its tasks print

Files appear whole: they are linked or moved to their names. A worker becomes a member when it has
collected the tests, before any worker runs one; so the owner knows for whom it has to wait.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ttasks import sync
from ttasks.processes import Liveness, ProcessIdentity
from ttasks.pytest_plugin.live import LiveGraph, SetUpFailed
from ttasks.pytest_plugin.roster import identity_of, identity_text, make_below

Begin = Callable[[Path], tuple[LiveGraph, Any]]
"""Starts a graph, with the folder for its logs; returns it and what the tests get."""

_POLL_SECONDS = 0.02
_ENDING = ".ending"


class Membership:
    """The part of one worker in what all workers of a run share. Used by the main thread only.

    Args:
        folder: of the run of pytest.
        worker: name of this worker, such as "gw0".
        sweep: ends what processes that are gone have left.
    """

    def __init__(self, folder: Path, worker: str, sweep: Callable[[], object]) -> None:
        self._folder = folder
        self._sweep = sweep
        self._worker = worker
        self._members = make_below(folder / "members")
        self._owned: list[LiveGraph] = []
        self._is_member = True
        _put(self._members / worker, identity_text())

    def share(self, name: str, begin: Begin) -> tuple[Any, Path]:
        """Run a graph, or use the one that another worker runs.

        Args:
            name: the same in all workers.
            begin: called if no other worker runs it.

        Returns:
            What the tests get, as it comes out of JSON, and the folder with the logs.

        Raises:
            SetUpFailed: it could not be set up, here or in the other worker.
        """
        __tracebackhide__ = True
        place = self._folder / name
        place.mkdir(exist_ok=True)
        while True:
            number, owner = _latest(place)
            if owner is None or owner.liveness() is Liveness.GONE:
                number += 1
                if _claim(place / f"owner.{number}"):
                    return self._own(place, number, begin), place / f"logs.{number}"
                continue
            try:
                state = json.loads((place / f"state.{number}").read_text(encoding="utf-8"))
            except FileNotFoundError:
                sync.sleep(_POLL_SECONDS)
                continue
            if state["error"] is not None:
                raise SetUpFailed(f"{state['error']}\n(in worker {state['worker']})")
            return state["value"], place / f"logs.{number}"

    def _own(self, place: Path, number: int, begin: Begin) -> Any:
        """Run the graph for all workers."""
        __tracebackhide__ = True
        state: dict[str, Any] = {
            "worker": self._worker,
            "value": None,
            "error": "it was interrupted",
        }
        try:
            self._sweep()  # perhaps of the worker that had it before
            live, value = begin(place / f"logs.{number}")
            self._owned.append(live)
            try:
                state["value"] = json.loads(json.dumps(value))
            except (TypeError, ValueError) as error:
                raise SetUpFailed(
                    "with share='run' the value that a factory returns beside its graph must be "
                    f"JSON, since other processes get it too: {error}"
                ) from None
            state["error"] = None
        except Exception as error:
            state["error"] = str(error) or type(error).__name__
            raise
        finally:
            _put(place / f"state.{number}", json.dumps(state))
        return state["value"]

    def leave(self) -> list[str]:
        """Use nothing any more; end what this worker owns once nobody else uses it. Idempotent.

        Returns:
            What went wrong in the graphs that it owns.
        """
        if not self._is_member:
            return []
        self._is_member = False
        mine = self._members / self._worker
        ending = self._members / f"{self._worker}{_ENDING}"
        if not self._owned:
            mine.unlink(missing_ok=True)
            self._clean_up()
            return []
        os.replace(mine, ending)  # nobody waits for this worker any more, so none waits in a circle
        try:
            while self._others(with_ending=False):
                sync.sleep(_POLL_SECONDS)
        finally:
            problems = [problem for live in reversed(self._owned) if (problem := live.stop())]
            ending.unlink(missing_ok=True)
            self._clean_up()
        return problems

    def _others(self, *, with_ending: bool) -> bool:
        """True if another worker is a member; those that are gone are forgotten."""
        found = False
        for path in list(self._members.glob("[!.]*")):
            if path.name == self._worker or (path.name.endswith(_ENDING) and not with_ending):
                continue
            try:
                member = identity_of(path.read_text(encoding="utf-8"))
            except FileNotFoundError:
                continue
            if member is None or member.liveness() is Liveness.GONE:
                path.unlink(missing_ok=True)
            elif path.name != f"{self._worker}{_ENDING}":
                found = True
        return found

    def _clean_up(self) -> None:
        """The last one ends what a killed owner has left, and removes the folder."""
        if not self._others(with_ending=True):
            self._sweep()
            shutil.rmtree(self._folder, ignore_errors=True)


def remove_abandoned(runs: Path) -> None:
    """Remove the folders of runs all of whose workers are gone."""
    for folder in list(runs.iterdir()) if runs.is_dir() else []:
        members = folder / "members"
        try:
            alive = [
                path
                for path in members.glob("[!.]*")
                if (member := identity_of(path.read_text(encoding="utf-8"))) is not None
                and member.liveness() is not Liveness.GONE
            ]
        except OSError:  # it is just being made or removed
            continue
        if not alive:
            shutil.rmtree(folder, ignore_errors=True)


def _latest(place: Path) -> tuple[int, ProcessIdentity | None]:
    """The latest owner's number and process; 0 and None if there was none."""
    numbers = [int(path.suffix[1:]) for path in place.glob("owner.*")]
    if not numbers:
        return 0, None
    number = max(numbers)
    return number, identity_of((place / f"owner.{number}").read_text(encoding="utf-8"))


def _claim(path: Path) -> bool:
    """Make this process the owner; False if another one was faster."""
    draft = path.with_name(f".{os.getpid()}-{path.name}")
    draft.write_text(identity_text(), encoding="utf-8")
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


def _put(path: Path, text: str) -> None:
    """Write a file at once."""
    draft = path.with_name(f".{os.getpid()}-{path.name}")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)
