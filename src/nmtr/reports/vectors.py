"""A map of the items as the model sees them: their vectors, in the plane where they vary most."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats

from nmtr.data.auditing.figures import percent
from nmtr.data.vocabulary import mix
from nmtr.pages.blocks import Drawing, Section, Text
from nmtr.pages.marks import STEPS
from nmtr.pages.panel import Panel, Scale
from nmtr.reports.subject import Subject

ITEMS = 2000  # dots that are drawn, chosen by hash
MARGIN = 0.03  # around the dots, of what they span
ALIKE = 0.5  # rank correlation from which an axis is called popularity
FloatArray = npt.NDArray[np.float64]


def map_section(subject: Subject) -> Section:
    """The map, or why there is none."""
    with torch.inference_mode():
        vectors = subject.run.model.item_vectors()
    if vectors is None or vectors.shape[1] < 2 or subject.train.n_items < 3:
        words = f"{subject.model} has no vectors of items of which its score is made: no map."
        return Section("map", "Embedding map", [Text(words)])
    counts = subject.train.target.column_counts()
    places, shares = components(vectors.detach().double().cpu().numpy())
    chosen = _chosen(np.asarray(subject.run.data.item_hash))
    x, y = places[:, 0], places[:, 1]
    scales = (_around(x[chosen]), _around(y[chosen]))
    panel = Panel("Items", *scales, "first component", "second component", height=440)
    steps = _steps(counts)
    for at in range(STEPS):
        rows = chosen[steps[chosen] == at]
        panel.dots(at, list(zip(x[rows].tolist(), y[rows].tolist(), strict=True)))
    target = subject.run.data.behaviors[-1]
    caption = (
        f"{len(chosen):,} of {len(counts):,} items: the first two principal components of the "
        f"vectors of which {subject.model} makes its score for {target}, coloured by {target} "
        "records in training."
    )
    names = [f"{_name(counts, steps, at)} {target}" for at in range(STEPS)]
    return Section(
        "map",
        "Embedding map",
        [
            Text(_words(places, shares, counts)),
            Drawing([panel.svg()], caption, names, ordered=True),
        ],
    )


def components(vectors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(N, 2) along the two principal components, and the shares of variance (2,) that they hold."""
    centred = vectors - vectors.mean(0)
    values, axes = np.linalg.eigh(centred.T @ centred)
    first = axes[:, ::-1][:, :2]
    first *= np.where(np.abs(first).max(0) == first.max(0), 1, -1)  # a sign that repeats
    return centred @ first, values[::-1][:2] / max(values.sum(), 1e-300)


def _words(places: FloatArray, shares: FloatArray, counts: npt.NDArray[np.int64]) -> str:
    told = f"Two components hold {percent(float(shares.sum()))} of what the vectors vary by."
    if not np.ptp(counts):
        return told
    alike = [abs(float(stats.spearmanr(places[:, at], counts).statistic)) for at in range(2)]
    at = int(np.argmax(alike))
    name = ("first", "second")[at]
    if alike[at] >= ALIKE:
        return f"{told} The {name} is largely popularity (rank correlation {alike[at]:.2f})."
    return f"{told} Neither is popularity (rank correlation at most {alike[at]:.2f})."


def _steps(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(N,) which fifth of the items each is in, 0 the least popular; equal counts stay together."""
    ranks: npt.NDArray[np.int64] = stats.rankdata(counts, "min").astype(np.int64)
    steps: npt.NDArray[np.int64] = STEPS * (ranks - 1) // len(counts)
    return steps


def _name(counts: npt.NDArray[np.int64], steps: npt.NDArray[np.int64], at: int) -> str:
    inside = counts[steps == at]
    if not len(inside):
        return "–"
    low, high = int(inside.min()), int(inside.max())
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def _chosen(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    return np.sort(np.argsort(mix(hashes, hashes, salt=92))[:ITEMS])


def _around(values: FloatArray) -> Scale:
    low, high = float(values.min()), float(values.max())
    margin = MARGIN * (high - low) or 1.0
    return Scale(low - margin, high + margin)
