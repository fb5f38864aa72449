"""The main job, end to end, on a simulated shop."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from json import loads
from pathlib import Path

from rich.text import Text

from nmtr.cli.show import console, emit_json, say

Step = tuple[str, Callable[[], None]]


def demo(
    *, out: Path = Path("demo"), events: int = 200_000, seed: int = 0, json: bool = False
) -> None:
    """Simulate a shop, prepare and audit its log, train, evaluate and recommend.

    Parameters
    ----------
    out
        folder to write; it must not exist, and goes again if a step fails.
    events
        about how many events to simulate.
    seed
        of the simulated shop.
    json
        print as JSON: of each step its command, and what that prints with --json.
    """
    from nmtr.errors import UsageError

    if out.exists():
        raise UsageError(f"{out} exists already; remove it, or name another folder with --out")
    try:
        _show(_steps(out, events, seed, json=json), out, json=json)
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)  # else the same command would refuse to begin anew
        raise


def _show(steps: tuple[Step, ...], out: Path, *, json: bool) -> None:
    """Do the steps and tell of each, or all as one JSON document."""
    after = _after(out)
    if json:
        told = [{"command": command, "result": _result(step)} for command, step in steps]
        emit_json({"folder": str(out), "steps": told, "next": after})
        return
    for command, step in steps:
        console.rule(Text(command, "bold"), align="left")
        step()
    console.rule("[bold]What comes next", align="left")
    for line in after:
        say(f"  {line}")


def _steps(out: Path, events: int, seed: int, *, json: bool) -> tuple[Step, ...]:
    """Each command as it would be typed, and what does the same."""
    from nmtr.cli import logs, recommend, runs
    from nmtr.cli.simulate import simulate

    shop, data, run = out / "shop", out / "data", out / "run"
    log, users = f"{shop}/events-*.parquet", "u000001,u000002,nobody"
    return (
        (
            f"nmtr simulate {shop} --events {events} --seed {seed}",
            lambda: simulate(shop, events=events, seed=seed, json=json),
        ),
        (
            f"nmtr prepare {log} --behaviors view,cart,buy --out {data}",
            lambda: logs.prepare([log], behaviors="view,cart,buy", out=data, json=json),
        ),
        (f"nmtr audit {data}", lambda: logs.audit(data, json=json)),
        (
            f"nmtr train {data} --out {run} --model nmtr-gmf",
            lambda: runs.train(data, out=run, model="nmtr-gmf", json=json),
        ),
        (
            f'nmtr evaluate {run} --test --why "demo"',
            lambda: runs.evaluate(
                run, test=True, why="demo", reads=out / "TEST_READS.md", json=json
            ),
        ),
        (
            f"nmtr recommend {run} --users {users} -k 5",
            lambda: recommend.recommend(run, users=users, k=5, json=json),
        ),
    )


def _after(out: Path) -> list[str]:
    return [
        f"nmtr recommend {out}/run --all --out {out}/recs.parquet -k 20",
        f"nmtr bundle {out}/run --out {out}/model.nmtr --items {out}/shop/items.parquet",
        f"nmtr serve {out}/model.nmtr   (a page at http://127.0.0.1:8000/)",
        f"nmtr train {out}/data --out {out}/neumf --model nmtr-neumf",
        "nmtr prepare YOUR_LOG.csv --behaviors view,cart,buy --out my-data",
        "nmtr --help",
    ]


def _result(step: Callable[[], None]) -> object:
    """The JSON that a step prints."""
    printed = StringIO()
    with redirect_stdout(printed):
        step()
    return loads(printed.getvalue())
