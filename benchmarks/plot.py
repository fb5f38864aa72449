"""Plot what a sample costs as a log grows, from size.csv: python benchmarks/plot.py FOLDER."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import matplotlib.pyplot as plt
from harness.measurements import Summary, by_round, read

METRIC = "samples_per_second"
NAME = re.compile(r"(?P<who>.+), (?P<events>[\d,]+) events$")


def main(folder: Path) -> None:
    found = read(folder / "size.csv")
    lines: dict[str, list[tuple[int, Summary]]] = {}
    for name in dict.fromkeys(each.contestant for each in found):
        match = NAME.match(name)
        summary = Summary.of(list(by_round(found, name, METRIC).values()))
        if match and summary:
            events = int(match["events"].replace(",", ""))
            lines.setdefault(match["who"], []).append((events, summary))
    figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
    for who, points in lines.items():
        sizes = [each for each, _ in points]
        cost = [1e6 / each.median for _, each in points]
        spread = [
            [1e6 / each.median - 1e6 / each.high for _, each in points],
            [1e6 / each.low - 1e6 / each.median for _, each in points],
        ]
        axes.errorbar(sizes, cost, yerr=spread, marker="o", capsize=3, label=who)
    axes.set(xscale="log", xlabel="events in the log", ylabel="µs a sample, whole epochs")
    axes.set_ylim(bottom=0)
    axes.legend()
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(folder / "size.png", dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
