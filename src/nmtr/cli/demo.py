"""The main job, end to end, on a simulated shop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rich.text import Text

from nmtr.cli.show import console, say


def demo(*, out: Path = Path("demo"), events: int = 200_000, seed: int = 0) -> None:
    """Simulate a shop, prepare and audit its log, train, evaluate and recommend.

    Parameters
    ----------
    out
        folder to write; it must not exist.
    events
        about how many events to simulate.
    seed
        of the simulated shop.
    """
    from nmtr.cli import logs, recommend, runs
    from nmtr.cli.simulate import simulate
    from nmtr.errors import UsageError

    if out.exists():
        raise UsageError(f"{out} exists already; remove it, or name another folder with --out")
    shop, data, run = out / "shop", out / "data", out / "run"
    steps: tuple[tuple[str, Callable[[], None]], ...] = (
        (
            f"nmtr simulate {shop} --events {events} --seed {seed}",
            lambda: simulate(shop, events=events, seed=seed),
        ),
        (
            f"nmtr prepare {shop}/events-*.parquet --behaviors view,cart,buy --out {data}",
            lambda: logs.prepare([f"{shop}/events-*.parquet"], behaviors="view,cart,buy", out=data),
        ),
        (f"nmtr audit {data}", lambda: logs.audit(data)),
        (
            f"nmtr train {data} --out {run} --model nmtr-gmf",
            lambda: runs.train(data, out=run, model="nmtr-gmf"),
        ),
        (
            f'nmtr evaluate {run} --test --why "demo"',
            lambda: runs.evaluate(run, test=True, why="demo", reads=out / "TEST_READS.md"),
        ),
        (
            f"nmtr recommend {run} --users u000001,u000002,nobody -k 5",
            lambda: recommend.recommend(run, users="u000001,u000002,nobody", k=5),
        ),
    )
    for command, step in steps:
        console.rule(Text(command, "bold"), align="left")
        step()
    console.rule("[bold]What comes next", align="left")
    for line in (
        f"nmtr recommend {run} --all --out {out}/recs.parquet -k 20",
        f"nmtr bundle {run} --out {out}/model.nmtr --items {shop}/items.parquet",
        f"nmtr serve {out}/model.nmtr   (a page at http://127.0.0.1:8000/)",
        f"nmtr train {data} --out {out}/neumf --model nmtr-neumf",
        "nmtr prepare YOUR_LOG.csv --behaviors view,cart,buy --out my-data",
        "nmtr --help",
    ):
        say(f"  {line}")
