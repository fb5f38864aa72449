"""Tasks of ranking: the best items of every user, where a held-out item stands, and the memory."""

from __future__ import annotations

from typing import Any

from harness.contest import Contestant
from harness.roster import FACTORS, Roster
from harness.tasks import Target, Task

BATCHES = (1, 16, 128)  # users that RecBole scores at once; 1 is its own choice on Beibei
GIGABYTE = 1e9 / 2**20  # in MiB
SHORT: dict[str, Any] = {"seconds": 1.0, "box": 5.0, "users": 500}  # memory peaks at once


def top_gmf(roster: Roster) -> Task:
    """Implicit's ALS has as many factors as ours, its BPR one more for its bias."""
    options = {"factors": FACTORS}
    peers = [
        roster.peer("implicit", f"implicit {model.upper()}, {label}", "top", model=model,
                    options=options, batch=batch)
        for model in ("als", "bpr")
        for batch, label in ((0, "one call"), (1024, "1,024 users a call"))
    ]  # fmt: skip
    ours = roster.own("nmtr-gmf", "top", **roster.fitted("nmtr-gmf"))
    return Task(
        "top-gmf",
        "top 200 of every user, nmtr-gmf (three cascaded products) against implicit (one product)",
        "users_per_second",
        "more",
        (ours, *peers),
        Target("times", 1),
    )


def top_neumf(roster: Roster) -> Task:
    """In float32."""
    return _top_neumf(roster, "float32", Target("times", 12))


def top_neumf_bfloat16(roster: Roster) -> Task:
    """In bfloat16, the best ranked again in float32."""
    return _top_neumf(roster, "bfloat16", Target("times", 30))


def _top_neumf(roster: Roster, precision: str, target: Target) -> Task:
    how = {**roster.fitted("nmtr-neumf"), "users": roster.scale.users}
    ours = roster.own("nmtr-neumf", "top", precision=precision, **how)
    return Task(
        "top-neumf" if precision == "float32" else f"top-neumf-{precision}",
        f"top 200, nmtr-neumf (three cascaded MLPs, {precision}) against RecBole's NeuMF (one MLP)",
        "users_per_second",
        "more",
        (ours, *_recbole(roster, "top")),
        target,
    )


def rank_neumf(roster: Roster) -> Task:
    """Full-rank metrics of held-out items."""
    how = {**roster.fitted("nmtr-neumf"), "users": roster.scale.users}
    return Task(
        "rank-neumf",
        "rank of a held-out item among all, nmtr-neumf against RecBole's NeuMF",
        "ranked_per_second",
        "more",
        (roster.own("nmtr-neumf", "rank", **how), *_recbole(roster, "rank")),
        Target("times", 5),
    )


def memory(roster: Roster) -> Task:
    """The most that training and then ranking hold, in one process."""
    steps = ("train", "rank", "top")
    ours = [
        roster.own(name, *steps, **roster.fitted(name), **SHORT)
        for name in ("nmtr-gmf", "nmtr-neumf")
    ]
    return Task(
        "memory",
        "peak memory of training and ranking, MiB",
        "peak_mib",
        "less",
        (*ours, *_recbole(roster, "train", "rank", **SHORT)),
        Target("limit", GIGABYTE),
    )


def _recbole(roster: Roster, *steps: str, **changes: Any) -> list[Contestant]:
    """Timed as initialised: its speed does not depend on its weights."""
    given = {"users": roster.scale.users, **changes}
    return [
        roster.recbole("NeuMF", f"{size} user(s) at once", *steps, batch=size, **given)
        for size in BATCHES
    ]
