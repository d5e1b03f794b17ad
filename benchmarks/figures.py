"""What the benchmarks share: options, sides that take turns, and the table of figures."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import ttasks

Side = Callable[[], float]
HEADER = f"{'work':48} {'value':>9} {'unit':10} {'peer':>9} {'ratio':>6} {'best':>6}  budget"


def parser(description: str | None, repeat: int) -> argparse.ArgumentParser:
    """The options that all benchmarks take; a script adds its own.

    Args:
        description: docstring of the script.
        repeat: how often it measures unless told otherwise.
    """
    options = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--quick", action="store_true", help="small sizes, to try a change")
    options.add_argument("--repeat", type=int, default=repeat, help=f"turns (default {repeat})")
    options.add_argument("--alone", action="store_true", help="do not measure the peers")
    options.add_argument("--json", action="store_true", help="print JSON, for compare.py")
    return options


class Table:
    """Measures sides in turns and prints a row for each figure."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._rows: list[dict[str, Any]] = []
        if not options.json:
            load, cores = os.getloadavg()[0], os.cpu_count()
            print(f"Python {platform.python_version()}, load {load:.1f} on {cores} cores")
            print("Medians, their ratio, and that of the best; a busy machine falsifies all three")
            print(HEADER)

    def in_turns(
        self, ours: Mapping[str, Side], peers: Mapping[str, Side] | None = None, times: int = 1
    ) -> dict[str, list[float]]:
        """Measure every side, one after the other, ``times`` x ``--repeat`` times.

        What else the machine does then hits all sides alike. Each round begins with another side.

        Returns:
            The values by side. With ``--alone`` those of the peers are missing.
        """
        sides = {**ours, **({} if self._options.alone else peers or {})}
        values: dict[str, list[float]] = {name: [] for name in sides}
        names = list(sides)
        for turn in range(self._options.repeat * times):
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                values[name].append(sides[name]())
        return values

    def row(
        self,
        work: str,
        unit: str,
        values: list[float],
        peer: list[float] | None = None,
        *,
        at_most: float | None = None,
        at_least: float | None = None,
    ) -> None:
        """Print one figure.

        Args:
            work: what was measured; names the row.
            unit: of the values.
            values: of ttasks, at least one.
            peer: of the named peer. None means that the budget is for the value itself.
            at_most: budget where less is better.
            at_least: budget where more is better, as for rates.
        """
        more_is_better = at_least is not None
        self._rows.append(
            {"work": work, "unit": unit, "values": values, "more_is_better": more_is_better}
        )
        if self._options.json:
            return
        best = max if more_is_better else min
        value, figure = median(values), best(values)
        cells = f"{'':9} {'':6} {figure:6.4g}"
        judged: float | None = value
        if peer:
            judged, figure = value / median(peer), figure / best(peer)
            cells = f"{median(peer):9.4g} {judged:6.2f} {figure:6.2f}"
        elif self._options.alone:
            judged = None
        budget = ""
        if at_least is not None:
            budget = f">= {at_least:g}  {_verdict(judged, judged is None or judged >= at_least)}"
        elif at_most is not None:
            budget = f"<= {at_most:g}  {_verdict(judged, judged is None or judged <= at_most)}"
        print(f"{work:48} {value:9.4g} {unit:10} {cells}  {budget}".rstrip(), flush=True)

    def close(self) -> None:
        """Print what ``--json`` asked for."""
        if self._options.json:
            source = str(Path(ttasks.__file__).resolve().parents[1])
            json.dump({"source": source, "rows": self._rows}, sys.stdout)


def _verdict(judged: float | None, is_met: bool) -> str:
    if judged is None:
        return "not judged"
    return "met" if is_met else "NOT MET"
