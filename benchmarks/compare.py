"""Compare two source trees: run benchmarks in turns against both and print the ratios.

Each turn starts the script in a fresh process for one tree and then for the other, in changing
order. Ratios say what the new tree costs: 1.1 means 10 % slower, for rates too. Given are the
median of the ratios of all turns, the ratio of the best values, and the range of all turns: where
that is wide, the machine is busy, and more and shorter turns help. The peers are not measured.

    git worktree add ../before HEAD~1
    python benchmarks/compare.py ../before/src src graphs.py ledger.py

Options that compare.py does not know go to the scripts:

    python benchmarks/compare.py OLD NEW graphs.py --shapes layered --sizes 10000
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

FOLDER = Path(__file__).resolve().parent


def measure(source: Path, script: str, options: list[str]) -> dict[str, dict[str, Any]]:
    """The rows of one run of a script against a source tree, by what they measured."""
    inherited = os.environ.get("PYTHONPATH")
    path = [str(source)] if inherited is None else [str(source), inherited]
    command = [sys.executable, str(FOLDER / script), "--alone", "--json", *options]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    if Path(found["source"]) != source:
        sys.exit(f"{script} measured {found['source']} and not {source}")
    return {row["work"]: row for row in found["rows"]}


def cost(before: float, after: float, more_is_better: bool) -> float:
    """The ratio of two values, above 1 if the new tree is slower; nan if it cannot be told."""
    if more_is_better:
        before, after = after, before
    return after / before if before else float("nan")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", type=Path, help="folder that holds the package ttasks")
    parser.add_argument("new", type=Path)
    parser.add_argument("scripts", nargs="+", help="names of scripts in this folder")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--repeat", default="1", help="of the script, in each turn (default 1)")
    known, options = parser.parse_known_args()
    sources = {"old": known.old.resolve(), "new": known.new.resolve()}
    for source in sources.values():
        if not (source / "ttasks" / "__init__.py").exists():
            parser.error(f"{source} holds no package ttasks")
    print(f"{'work':48} {'old':>9} {'new':>9} {'unit':10} {'new/old':>8} {'of best':>8}  range")
    for script in known.scripts:
        turns = []
        for turn in range(known.turns):
            order = list(sources) if turn % 2 == 0 else list(sources)[::-1]
            rows = {
                side: measure(sources[side], script, ["--repeat", known.repeat, *options])
                for side in order
            }
            turns.append((rows["old"], rows["new"]))
        for work in turns[0][0]:
            if all(work in rows for turn in turns for rows in turn):
                print_row(work, [(old[work], new[work]) for old, new in turns])


def print_row(work: str, pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    """Print what all turns have found for one row."""
    first = pairs[0][0]
    more_is_better = first["more_is_better"]
    olds, news = ([median(row["values"]) for row in rows] for rows in zip(*pairs, strict=True))
    costs = [cost(old, new, more_is_better) for old, new in zip(olds, news, strict=True)]
    best = max if more_is_better else min
    fastest = cost(
        *(best(best(row["values"]) for row in rows) for rows in zip(*pairs, strict=True)),
        more_is_better,
    )
    print(
        f"{work:48} {median(olds):9.4g} {median(news):9.4g} {first['unit']:10}"
        f" {median(costs):8.3f} {fastest:8.3f}  {min(costs):.2f} to {max(costs):.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
