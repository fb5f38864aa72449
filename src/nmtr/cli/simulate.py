"""The command that makes a shop."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from nmtr.cli.show import bar, emit_json, remark


def simulate(
    out: Path,
    /,
    *,
    users: int = 2000,
    items: int = 800,
    events: int = 200_000,
    days: int = 60,
    until: str | None = None,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Simulate a shop with a true funnel, its truth beside it.

    Parameters
    ----------
    out
        folder to write: events-*.parquet, items.parquet, users.parquet, truth/.
    users
        how many users.
    items
        how many items.
    events
        about how many events.
    days
        how many days the log covers.
    until
        the day with which it ends, 2026-03-01 or `yesterday` (UTC); by default it begins with 2026.
    seed
        the same seed gives the same shop.
    json
        print as JSON.
    """
    from nmtr.data.simulator import SimulatorConfig
    from nmtr.data.simulator import simulate as run

    when: dict[str, Any] = {"start": first_day(until, days)} if until else {}
    config = SimulatorConfig(users=users, items=items, events=events, days=days, seed=seed, **when)
    with bar("simulate") as progress:
        run(config, out, progress=progress)
    log = f"{out}/events-*.parquet"
    if json:
        emit_json({"shop": str(out), "events": log})
    remark(f"Simulated shop in {out}.")
    remark(f"Next: nmtr prepare '{log}' --behaviors view,cart,buy --out DATA")


def first_day(until: str, days: int) -> str:
    """The first of so many days that end with `until`; UsageError where that is no day."""
    from nmtr.errors import UsageError

    try:
        today = datetime.now(UTC).date()
        last = today - timedelta(1) if until == "yesterday" else date.fromisoformat(until)
        return f"{last - timedelta(days - 1)}"
    except (ValueError, OverflowError):
        raise UsageError(
            f"--until: expected a day, as 2026-03-01, or `yesterday`, got '{until}'"
        ) from None
