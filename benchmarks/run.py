"""Time nmtr and its peers in turn, and write what was measured.

    python benchmarks/run.py                      every task, at least 5 rounds
    python benchmarks/run.py --only train top-gmf
    python benchmarks/run.py --quick              a smoke test of it all; nothing is kept
    python benchmarks/run.py --table              the table again, from what stands in results/

Environments of the peers are built on the first run. See docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness import environments, tables
from harness.contest import play
from harness.machine import machine
from harness.measurements import read, write
from harness.places import HERE, RESULTS, ROOT, WORK
from harness.preparation import prepare
from harness.programme import TASKS, selected
from harness.roster import Roster
from harness.tasks import QUICK, Scale, Task
from harness.verdicts import judge

from nmtr.errors import NmtrError

LARGE = 10**8
ROOFLINE = "roofline"


def main(arguments: Sequence[str] | None = None) -> None:
    given = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what runs is ended too
    out: Path = given.out or (WORK / "quick" if given.quick else RESULTS)
    roster = Roster(scale(given))
    known = (*TASKS, ROOFLINE)
    wanted = [] if given.table else selected(given.only, known=known)
    machines = _machines(out)
    for name in wanted:
        if name == ROOFLINE:
            continue
        task = TASKS[name](roster)
        try:
            prepare(task)
        except (RuntimeError, NmtrError) as problem:
            print(f"{name}: skipped, {problem}", flush=True)
            continue
        about = machine()  # before the contest, which is a load itself
        found = play(name, task.contestants, rounds=given.pairs, box=given.box)
        write(out / f"{name}.csv", found)
        machines[name] = about
        (out / "machines.json").write_text(json.dumps(machines, indent=1) + "\n")
    if ROOFLINE in wanted:
        quick = ["--quick"] if given.quick else []
        subprocess.run([sys.executable, HERE / "roofline.py", "--out", out, *quick], check=True)
    _plot(out)
    report([TASKS[name](roster) for name in TASKS], out)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Plain)
    parser.add_argument("--only", nargs="+", default=[], metavar="TASK", help="these tasks only")
    parser.add_argument("--pairs", type=int, help="rounds of each task (5)")
    parser.add_argument("--quick", action="store_true", help="one short round, kept apart")
    parser.add_argument("--large", action="store_true", help="a simulated log of 10^8 events too")
    parser.add_argument("--box", type=float, help="seconds that one process may take (600)")
    parser.add_argument("--threads", type=int, default=2, help="of every process (2)")
    parser.add_argument("--device", default="cpu", help="of nmtr and RecBole: cpu or cuda")
    parser.add_argument("--out", type=Path, help="folder of the results (benchmarks/results)")
    parser.add_argument("--table", action="store_true", help="time nothing, write the table again")
    given = parser.parse_args(arguments)
    given.pairs = given.pairs or (1 if given.quick else 5)
    given.box = given.box or (180 if given.quick else 600)
    given.out = given.out and given.out.resolve()
    return given


class _Plain(argparse.RawDescriptionHelpFormatter):
    pass


def scale(given: argparse.Namespace) -> Scale:
    """How long and how large, from the command line."""
    found = replace(QUICK if given.quick else Scale(), device=given.device, threads=given.threads)
    return replace(found, sizes=(*found.sizes, LARGE)) if given.large else found


def report(tasks: Sequence[Task], out: Path) -> None:
    """Write out/README.md from all that stands in the folder, and print the verdicts."""
    found = {task.name: read(out / f"{task.name}.csv") for task in tasks}
    measured = [task for task in tasks if found[task.name]]
    table = tables.verdicts([judge(task, found[task.name]) for task in measured])
    parts = ["# Results", "", _HOW, *(["", table] if measured else [])]
    missing = [task.name for task in tasks if not found[task.name]]
    if missing:
        parts += ["", f"Not measured yet: {', '.join(missing)}."]
    if (out / "size.png").exists():
        parts += ["", "![cost of a sample as the log grows](size.png)"]
    roofline = out / "roofline.md"
    if roofline.exists():
        parts += ["", roofline.read_text().rstrip()]
    if measured:
        parts += ["", "## Every contestant", "", tables.contestants(measured, found)]
        parts += ["", "## Measured on", "", tables.footnotes(_machines(out))]
    out.mkdir(parents=True, exist_ok=True)
    (out / "README.md").write_text("\n".join(parts).rstrip() + "\n")
    print(table)


_HOW = """\
Written by `python benchmarks/run.py`; [how it is measured](../../docs/benchmarks.md). Medians over
rounds in which all contestants ran in turn; figures are taken within a round, their spread in
brackets: how many times as good as the best peer, or what the target speaks of. Every measurement
stands in the CSV file of its task."""


def _machines(out: Path) -> dict[str, dict[str, str]]:
    file = out / "machines.json"
    found: dict[str, dict[str, str]] = json.loads(file.read_text()) if file.exists() else {}
    return found


def _plot(out: Path) -> None:
    """In an environment of its own: nothing of the package needs matplotlib."""
    if not (out / "size.csv").exists():
        return
    problem = environments.build(environments.PLOTS)
    if problem:
        print(f"no plot: {problem}", flush=True)
        return
    command = [environments.python(environments.PLOTS), HERE / "plot.py", out]
    subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, "MPLBACKEND": "Agg"})


if __name__ == "__main__":
    main()
