"""Numbers as people read them."""

from __future__ import annotations

import math
from datetime import UTC, datetime

THIN = "\N{NARROW NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
LEAST = 0.0001  # a share below it is said to be below it


def percent(share: float | None) -> str:
    """A share with two digits that say something: 0.7441 is 74 %, 0.00254 is 0.25 %."""
    if share is None or not math.isfinite(share):
        return "–"
    size = abs(share)
    if 0 < size < LEAST:
        return f"{'<' if share > 0 else '>' + MINUS}{THIN}0.01{THIN}%"
    digits = 0 if size >= 0.0995 or not size else 1 if size >= 0.00995 else 2
    return f"{share * 100:.{digits}f}".replace("-", MINUS) + f"{THIN}%"


def metric(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.3f}"


def score(value: float) -> str:
    return f"{value:.2f}".replace("-", MINUS)


def fall(size: float) -> str:
    """How far a score falls, with two digits that say something: 1.06, 0.035, 0.0043."""
    if size < LEAST:
        return f"<{THIN}{LEAST}"
    return MINUS + (f"{size:.2f}" if size >= 0.0995 else f"{float(f'{size:.2g}'):.5f}".rstrip("0"))


def count(number: float) -> str:
    return f"{number:,.0f}".replace(",", THIN)


def price(value: object) -> str:
    """Of a catalogue, which may hold text; no currency is known."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:,.2f}".replace(",", THIN)
    return str(value)


def seconds(value: float) -> str:
    """A duration, to two digits: 2.5 ms, 0.1 s."""
    return f"{value * 1000:.3g}{THIN}ms" if value < 0.1 else f"{value:.3g}{THIN}s"


def p_value(value: float | None) -> str:
    if value is None:
        return "–"
    return f"<{THIN}0.001" if value < 0.001 else f"{value:.3f}"


def moment(text: str) -> str:
    """An ISO time as date and minute, UTC."""
    try:
        found = datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return text
    return f"{found:%Y-%m-%d %H:%M} UTC"
