"""Plots of the report: colours that the colour-blind can tell (Okabe and Ito), shapes beside them.

matplotlib is asked for only here; without it, `pip install 'nmtr[plots]'`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nmtr.errors import UsageError
from nmtr.experiments.outcomes import Value
from nmtr.files import replace_file
from nmtr.pages.blocks import Plot

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
STYLE: Any = {
    "font.family": "DejaVu Sans", "font.size": 11, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": "#e3e6ea", "axes.axisbelow": True,
    "svg.hashsalt": "nmtr", "figure.facecolor": "white",
}  # fmt: skip


def check_available() -> None:
    """Raise UsageError where matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "plots need matplotlib, which is not installed: pip install 'nmtr[plots]'"
        ) from error


@contextmanager
def axes(out: Path, name: str, *, columns: int = 1, size: tuple[float, float]) -> Iterator[Any]:
    """Give axes to draw on (a list where there are several), then save plots/NAME.svg and .png."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        made = [figure.add_subplot(1, columns, at + 1) for at in range(columns)]
        yield made if columns > 1 else made[0]
        for kind in ("svg", "png"):
            with replace_file(out / "plots" / f"{name}.{kind}") as temporary:
                about = {"Date": None} if kind == "svg" else {}  # a plot repeats to the byte
                figure.savefig(temporary, format=kind, dpi=160, metadata=about)


def ranking(
    out: Path,
    name: str,
    values: Mapping[str, Value],
    papers: Mapping[str, float],
    *,
    label: str,
    caption: str,
    ours: Sequence[str],
) -> Plot:
    """Rows by value, best on top, with intervals; the paper's numbers as hollow diamonds."""
    order = sorted(values, key=lambda each: values[each].mean)
    with axes(out, name, size=(8.5, 1.6 + 0.3 * len(order))) as ax:
        for at, row in enumerate(order):
            value = values[row]
            color = COLORS[0] if row in ours else "#6b7280"
            ax.plot([value.low, value.high], [at, at], color=color, linewidth=2)
            ax.plot(value.mean, at, "o", color=color, markersize=6)
            if row in papers:
                ax.plot(papers[row], at, "D", color=COLORS[1], markerfacecolor="none", markersize=7)
        ax.set_yticks(range(len(order)), order)
        ax.set_xlabel(label)
        ax.grid(visible=False, axis="y")
        ax.set_ylim(-0.6, len(order) - 0.4)
        ax.plot([], [], "o-", color=COLORS[0], label="NMTR, 95 % interval")
        ax.plot([], [], "o-", color="#6b7280", label="others")
        if papers:
            ax.plot([], [], "D", color=COLORS[1], markerfacecolor="none", label="the paper")
        ax.legend(frameon=False, loc="lower right")
    return Plot(name, caption)


def groups(
    out: Path,
    name: str,
    labels: Sequence[str],
    panels: Mapping[str, Mapping[str, Sequence[Value]]],
    *,
    xlabel: str,
    caption: str,
) -> Plot:
    """A panel per metric: each row's values over groups of users, with intervals."""
    with axes(out, name, columns=len(panels), size=(12, 5)) as made:
        for ax, (metric, rows) in zip(made, panels.items(), strict=True):
            for at, (row, values) in enumerate(rows.items()):
                shift = (at - (len(rows) - 1) / 2) * 0.09
                x = [place + shift for place in range(len(labels))]
                means = [each.mean for each in values]
                reach = [
                    [each.mean - each.low for each in values],
                    [each.high - each.mean for each in values],
                ]
                ax.errorbar(
                    x, means, yerr=reach, color=COLORS[at % 7], marker=MARKERS[at % 7],
                    capsize=3, linewidth=1.5, label=row,
                )  # fmt: skip
            ax.set_xticks(range(len(labels)), labels)
            ax.set_xlabel(xlabel)
            ax.set_title(metric, loc="left")
            ax.set_ylim(bottom=0)
        made[0].legend(frameon=False, ncols=2, loc="lower center")
    return Plot(name, caption)


def lines(
    out: Path,
    name: str,
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    xlabel: str,
    ylabel: str,
    caption: str,
) -> Plot:
    """Curves {name: (x, y)} over whole numbers x."""
    styles = ("-", "--", ":")
    with axes(out, name, size=(10, 5.5)) as ax:
        for at, (row, (x, y)) in enumerate(curves.items()):
            ax.plot(
                x, y, styles[at // 7 % 3], color=COLORS[at % 7], marker=MARKERS[at % 7],
                markersize=4, linewidth=1.5, label=row,
            )  # fmt: skip
        ax.set_xlabel(xlabel)
        ax.set_ylabel(ylabel)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return Plot(name, caption)


def places(
    out: Path, name: str, left: Sequence[str], right: Sequence[str], *, titles: tuple[str, str],
    caption: str,
) -> Plot:  # fmt: skip
    """The same names in two orders, best on top, a line from each place to the other."""
    with axes(out, name, size=(8.5, 1.2 + 0.3 * len(left))) as ax:
        for at, row in enumerate(left):
            other = right.index(row)
            color = "#b6bcc4" if other == at else COLORS[1] if other > at else COLORS[0]
            ax.plot([0, 1], [at, other], "o-", color=color, linewidth=1.8, markersize=5)
            ax.text(-0.03, at, f"{row}  {at + 1}", ha="right", va="center")
            ax.text(1.03, other, f"{other + 1}  {row}", ha="left", va="center")
        for x, title in enumerate(titles):
            ax.text(x, -1.1, title, ha="center", va="center", weight="bold")
        ax.set_xlim(-0.45, 1.45)
        ax.set_ylim(len(left) - 0.5, -1.6)
        ax.axis("off")
    return Plot(name, caption)
