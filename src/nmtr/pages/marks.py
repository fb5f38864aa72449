"""Marks of series: a shape and a colour each, so that either tells them apart."""

from __future__ import annotations

import html

SERIES = 6  # colours in the style; a seventh series has the first one's again
STEPS = 5  # colours of a quantity, from little to much
# Drawn around (0, 0), about ten wide.
SHAPES = (
    "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0z",
    "M-4.4-4.4h8.8v8.8h-8.8z",
    "M0-5.6 5.4 4.2h-10.8z",
    "M0-6 5.6 0 0 6-5.6 0z",
    "M0 5.6 5.4-4.2h-10.8z",
    "M-1.8-5.2h3.6v3.4h3.4v3.6h-3.4v3.4h-3.6v-3.4h-3.4v-3.6h3.4z",
)


def mark(at: int, x: float, y: float, *, title: str = "") -> str:
    """The mark of series `at` around (x, y); title: what a pointer over it is told."""
    at %= SERIES
    told = f"<title>{html.escape(title)}</title>" if title else ""
    place = f'transform="translate({x:.1f} {y:.1f})"'
    return f'<path class="f{at}" {place} d="{SHAPES[at]}">{told}</path>'


def step(at: int, x: float, y: float, *, radius: float = 5) -> str:
    """A dot in the colour of step `at`, of STEPS from little to much."""
    return f'<circle class="q{at}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"/>'
