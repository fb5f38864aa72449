"""A week of nights on a real log: each of a shop's days given to `nmtr refresh`, as it would be.

    python experiments/nights.py            # what is left to run: results/nights.json, nights.md
    python experiments/nights.py write      # the page alone

RetailRocket's log up to a Monday, half past three, trains the first bundle; then the seven days
that follow come one by one, and `nmtr refresh` is called on each through the command line. A day
that is refused is given again with the next. Beside it the checks alone look at every day of the
log until then, as they would have each night. All of it lies before the hold-out of the log's own
split by time, which no night reads. Nothing is chosen by a night's figures.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from common import BEHAVIORS, RESULTS, WORK, machine

from nmtr.serving.refresh.checks import check
from nmtr.serving.refresh.gathering import Gathered
from nmtr.serving.refresh.options import Options

SOURCE = Path(os.environ.get("NMTR_DATA", "../shared/data")) / "retailrocket" / "events.parquet"
HOME = WORK.parent / "nights"
FILE = RESULTS / "nights.json"
FIRST = datetime(2015, 8, 24, 3, 30, tzinfo=UTC)  # a Monday: what came until then is the log
NIGHTS = 7
WINDOW = 7  # days: some 70 people buy in one
OPTIONS = ["--behaviors", ",".join(BEHAVIORS), "--window", str(WINDOW)]
HOMES: dict[str, tuple[str, list[str]]] = {
    "gmf": ("nmtr-gmf, as it comes", []),
    "gmf-5": ("nmtr-gmf, where a loss of 5 % must be ruled out, not 1 %", ["--margin", "0.05"]),
}


def main(words: list[str]) -> None:
    if words != ["write"]:
        log = pl.read_parquet(SOURCE).sort("timestamp", maintain_order=True)
        time_of_day = log.select(
            pl.from_epoch("timestamp", time_unit="s").dt.replace_time_zone("UTC")
        )
        log = log.with_columns(time_of_day["timestamp"].alias("at"))
        _expect_before_the_test(log)
        for name in HOMES:
            week(name, log)
        if "checks" not in (found := kept()):
            FILE.write_text(json.dumps(found | {"checks": checked(log)}, indent=1) + "\n")
    (RESULTS / "nights.md").write_text(page(kept()))


def kept() -> dict[str, Any]:
    """What was found so far: `nights`, a row each, and `checks`."""
    return json.loads(FILE.read_text()) if FILE.exists() else {"nights": []}


def checked(log: pl.DataFrame) -> dict[str, Any]:
    """What the checks would have said of each day's events, from the third week of the log on."""
    frame = log.select(
        pl.col("user_id", "item_id"), pl.col("behavior").cast(pl.String), undo=pl.lit(False),
        timestamp=pl.col("timestamp") * 1000,
    )  # fmt: skip
    options, said, nights = Options(behaviors=BEHAVIORS), [], 0
    now, first = FIRST + timedelta(days=NIGHTS), log["at"][0] + timedelta(days=15)
    while now >= first:
        moment = int(now.timestamp() * 1000)
        gathered = Gathered(frame.filter(pl.col("timestamp") < moment), None, 0, None)
        last, day = int(gathered.frame["timestamp"].max()), 86_400_000  # type: ignore[arg-type]
        before = (last - day, int((gathered.frame["timestamp"] <= last - day).sum()))
        findings, _ = check(gathered, options, before=before, now=moment)
        said += [f"{now:%Y-%m-%d}: {each}" for each in findings]
        nights, now = nights + 1, now - timedelta(days=1)
    return {"nights": nights, "said": said}


def _expect_before_the_test(log: pl.DataFrame) -> None:
    """The last night's window must end before the last tenth of the purchases (`time:0.9`)."""
    times = log.filter(pl.col("behavior").cast(pl.String) == BEHAVIORS[-1])["at"].sort()
    cut = times[9 * len(times) // 10]
    if not FIRST + timedelta(days=NIGHTS) < cut:
        raise SystemExit(f"the nights reach the hold-out, which begins {cut}")


def week(name: str, log: pl.DataFrame) -> None:
    """The nights of one home that were not run yet, in order."""
    found = kept()
    rows = found["nights"]
    done = [each for each in rows if each["home"] == name]
    if not done:
        shutil.rmtree(HOME / name, ignore_errors=True)
    waiting = log.filter(pl.col("at") < FIRST)
    for night in range(NIGHTS + 1):
        now = FIRST + timedelta(days=night)
        if night:
            day = log.filter((pl.col("at") >= now - timedelta(days=1)) & (pl.col("at") < now))
            waiting = pl.concat([waiting, day])
        if night >= len(done):
            row = once(name, night, now, waiting)
            rows.append(row)
            FILE.write_text(json.dumps(found, indent=1) + "\n")
            done.append(row)
            print(f"{name} {night}: {row['outcome']}: {row['why']}", flush=True)
        if done[night]["outcome"] != "refused":
            waiting = waiting.clear()


def once(name: str, night: int, now: datetime, events: pl.DataFrame) -> dict[str, Any]:
    """One night: the command, what it said, what it took."""
    folder = HOME / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    file = HOME / f"{name}.parquet"
    events.drop("at").write_parquet(file)
    options = [*OPTIONS, *HOMES[name][1]] if night == 0 else []
    command = ["refresh", str(folder), "--events", str(file), "--now", f"{now:%Y-%m-%dT%H:%M}"]
    began = time.monotonic()
    code, said, complained, peak = run([*command, *options, "--json"])
    row: dict[str, Any] = {
        "home": name, "night": night, "now": f"{now:%Y-%m-%d %H:%M}", "given": events.height,
        "seconds": round(time.monotonic() - began, 1), "peak_mib": peak, "machine": machine(),
    }  # fmt: skip
    if code:
        return row | {"outcome": "refused", "why": complained.strip()}
    found = json.loads(said)
    if (
        not found["verdict"] and night
    ):  # it was done, and this program killed before it could say so
        found |= {"outcome": "done before", "why": "its figures were lost"}
    return row | {each: found[each] for each in ("outcome", "why", "verdict")}


def run(words: list[str]) -> tuple[int, str, str, int]:
    """An `nmtr` command in a process of its own: exit code, output, errors, peak memory in MiB."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen([sys.executable, "-m", "nmtr", *words], stdout=out, stderr=err)
        _, status, used = os.wait4(process.pid, 0)
        out.seek(0)
        err.seek(0)
        return os.waitstatus_to_exitcode(status), out.read(), err.read(), used.ru_maxrss // 1024


def page(found: dict[str, Any]) -> str:
    """The table of all homes, and what the checks said."""
    rows = found["nights"]
    lines = [
        "# A week of nights", "",
        f"RetailRocket's log until {FIRST:%Y-%m-%d %H:%M} UTC, and the {NIGHTS} days after it, one "
        f"`nmtr refresh` each, `--window {WINDOW}`; else as it comes. Differences of NDCG@100 are "
        "relative, with 95 % intervals, over those who bought in the window.", "",
    ]  # fmt: skip
    for name, (title, _) in HOMES.items():
        mine = [each for each in rows if each["home"] == name]
        if not mine:
            continue
        lines += [
            f"## {title}", "",
            "| night | events | outcome | buyers | NDCG@100 | against the incumbent | against the "
            "anchor | s | peak MiB |", "|---|---|---|---|---|---|---|---|---|",
        ]  # fmt: skip
        lines += [_line(each) for each in mine]
        lines.append("")
    if checks := found.get("checks"):
        lines += ["## The checks alone", "", f"{checks['nights']} nights of the log; said:", ""]
        lines += [f"- {each}" for each in checks["said"]] or ["- nothing"]
        lines.append("")
    about = rows[-1]["machine"]
    versions = ", ".join(f"{name} {about[name]}" for name in ("python", "nmtr", "torch", "polars"))
    lines += [f"{about['date']}, one thread of {about['cpu']}, at nice 19; {versions}.", ""]
    return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    verdict = row.get("verdict") or {"users": "", "means": {}, "against": {}}
    ours = verdict["means"].get("candidate")
    cells = [
        row["now"][:10], f"{row['given']:,}", row["outcome"], verdict["users"] or "",
        "" if ours is None else f"{ours:.4f}",
        *(_gap(verdict["against"].get(each)) for each in ("incumbent", "anchor")),
        f"{row['seconds']:.0f}", row["peak_mib"],
    ]  # fmt: skip
    return "| " + " | ".join(str(each) for each in cells) + " |"


def _gap(gap: dict[str, Any] | None) -> str:
    if gap is None:
        return ""
    names = ("relative", "relative_low", "relative_high")
    middle, low, high = (f"{100 * gap[each]:+.1f}" for each in names)
    return f"{middle} % ({low} to {high})"


if __name__ == "__main__":
    main(sys.argv[1:])
