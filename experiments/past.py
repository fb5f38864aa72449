"""Past the paper: NMTR with the observed funnel beside memory and linear models, with paired tests.

    python experiments/past.py test [DATA]        choose on validation, then read the test
    python experiments/past.py counts tmall       one seed of it without items' counts
    python experiments/past.py ablation [DATA]    validation: what each part adds
    python experiments/past.py write              results/past.md from all of these

DATA: beibei, tmall (as-published, discovery), retailrocket, or shop, a simulated one of 10^6 events
(time). Settings: contenders.py. Three seeds of nmtr-funnel; the sealed half of the test's users,
the open half and all stand beside each other, and all users cut by their records of the target.
A read of the test is logged in TEST_READS.md; what was read stays under runs/DATA/past, so that a
run that was ended goes on.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from common import BEHAVIORS, RESULTS, WORK, log_read, machine, prepared, source
from contenders import BY_TIME, OURS, OWN, REPLAYS, Contender, Oracle, chosen, own
from past_page import page

from nmtr.data.events import ReadOptions, read_events
from nmtr.data.interactions import Interactions, load
from nmtr.data.prepare import prepare
from nmtr.data.simulator import SimulatorConfig, simulate
from nmtr.data.split import Split, split
from nmtr.evaluation.groups import by_activity
from nmtr.evaluation.metrics import per_user
from nmtr.evaluation.ranking import ranks
from nmtr.evaluation.report import interval
from nmtr.evaluation.significance import difference, seed_mean
from nmtr.models.base import Model
from nmtr.training.selection import sample_users

Values = Mapping[str, npt.NDArray[np.float64]]
SEEDS = (0, 1, 2)
SHOP = "shop"
SHOP_CONFIG = SimulatorConfig(users=10_000, items=4_000, events=1_000_000)
PROTOCOLS = {"retailrocket": ("time",), SHOP: ("time",)}  # of the others: as-published, discovery
METRICS = ("hr@10", "ndcg@10", "ndcg@20", "hr@100", "ndcg@100")
GROUPS, BY = 5, "ndcg@100"
THREE = {"members": ("ease", "ease-all", "ials-all")}
ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    "whole": {},
    "without iALS of the target": THREE,
    "three members, the funnel not observed": {**THREE, "observed": False},
    "three members, items' counts too": {**THREE, "counts": True},
    "three members, nothing hidden": {**THREE, "hide": 0.0},
    "three members, hide = .3": {**THREE, "hide": 0.3},
    "three members, all hidden": {**THREE, "hide": 1.0},
    "without iALS at all": {"members": ("ease", "ease-all")},
    "without EASE of all and iALS of the target": {"members": ("ease", "ials-all")},
    "members of the target": {"members": ("ease", "ials")},
    "EASE of the target alone": {"members": ("ease",)},
}


def opened(name: str) -> Interactions:
    """A log, prepared once: with its own hold-out, or cut in time."""
    out = WORK.parent / name / ("data" if name not in PROTOCOLS else "timed")
    if name not in PROTOCOLS:
        return prepared(name)
    if not out.exists():
        if name == SHOP:
            events = simulate(SHOP_CONFIG, _home(name) / "simulated") / "events-*.parquet"
        else:
            events = source(name) / "events.parquet"
        options = ReadOptions(behaviors=BEHAVIORS)
        log = read_events([events], options)
        prepare(log, behaviors=BEHAVIORS, holdout="time:0.9", options=options).save(out)
    return load(out)


def _home(name: str) -> Path:
    return WORK.parent / name


def test(name: str) -> None:
    """Train on all but the test, rank it, test the differences."""
    data = opened(name)
    result: dict[str, Any] = {"machine": machine(), "data": name, "reports": {}}
    protocols = PROTOCOLS.get(name, ("as-published", "discovery"))
    contenders = {each: chosen(name, data, each) for each in protocols}
    log_read(f"python experiments/past.py test {name}", "the table past the paper")
    for protocol in protocols:
        parts = split(data, protocol)
        found = {}
        for title, each in contenders[protocol].items():
            random = each.model in (OWN, "nmtr-gmf")
            found[title] = [
                _cell(name, protocol, f"{title}-{seed}", each, parts, data, seed)
                for seed in (SEEDS if random else SEEDS[:1])
            ]
        if protocol in ("as-published", "time"):
            plain = contenders[protocol]["EASE"]
            for title, kind in (REPLAYS | (BY_TIME if protocol == "time" else {})).items():
                found[title] = [_cell(name, protocol, title, (plain, kind), parts, data, 0)]
        if name == SHOP:
            oracle = Oracle(data, _home(name) / "simulated")
            told = oracle.told(parts.evaluation)
            found["the shop's truth"] = [per_user(ranks(oracle, told), told.truth.indptr)]
        settings = {
            title: {"model": each.model, "options": dict(each.options), "epochs": each.epochs}
            for title, each in contenders[protocol].items()
        }
        report = _parts(parts, found) | {"settings": settings}
        result["reports"][protocol] = report
        _keep(f"past-{name}", result)


def counts(name: str) -> None:
    """What the settings that validation chose give on the test without items' counts: one seed."""
    data, result = opened(name), {"machine": machine(), "data": name}
    log_read(f"python experiments/past.py counts {name}", "what rests on items' counts?")
    for protocol in PROTOCOLS.get(name, ("as-published", "discovery")):
        best = chosen(name, data, protocol)[OWN]
        bare = Contender(OWN, {**best.options, "counts": False})
        title = f"{OWN}, without counts-0"
        values = _cell(name, protocol, title, bare, split(data, protocol), data, 0)
        result[protocol] = {each: float(values[each].mean()) for each in METRICS}
    _keep(f"counts-{name}", result)


def _cell(
    name: str, protocol: str, title: str, what: Any, parts: Split, data: Interactions, seed: int
) -> Values:
    """The test's values of each user by one model; read once."""
    path = _home(name) / "past" / f"{protocol}-{title.replace(' ', '_')}.npz"
    if path.exists():
        with np.load(path) as old:
            return {each: old[each] for each in METRICS}
    began = time.monotonic()
    if isinstance(what, Contender):
        model: Model = what.learned(data, parts.train, seed)
    else:
        plain, kind = what
        like = plain.made(data)
        model = kind(like.config, like.shape)
        model.learn(parts.train)
    found = per_user(ranks(model, parts.evaluation), parts.evaluation.truth.indptr)
    means = " ".join(f"{each} {found[each].mean():.4f}" for each in METRICS)
    print(f"{name}, {protocol}, {title}: {means}, {time.monotonic() - began:.0f} s", flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    kept: dict[str, Any] = {each: found[each] for each in METRICS}
    np.savez_compressed(path, **kept)
    return kept


def _parts(parts: Split, found: Mapping[str, Sequence[Values]]) -> dict[str, Any]:
    sealed = parts.evaluation.sealed
    halves = {"sealed": sealed, "open": ~sealed, "all": np.ones_like(sealed)}
    report: dict[str, Any] = {half: _half(found, rows) for half, rows in halves.items()}
    return {"halves": report, "groups": _groups(parts, found)}


def _half(found: Mapping[str, Sequence[Values]], rows: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Means with intervals, seeds averaged for each user; and ours against each of the others."""
    report: dict[str, Any] = {"users": int(rows.sum()), "models": {}, "against": {}}
    means = {
        name: {each: seed_mean([run[each][rows] for run in runs]) for each in METRICS}
        for name, runs in found.items()
    }
    for name, values in means.items():
        report["models"][name] = {each: interval(values[each]) for each in METRICS}
    for ours in (each for each in OURS if each in means):
        report["against"][ours] = {
            name: {each: _gap(means[ours][each], values[each]) for each in METRICS}
            for name, values in means.items()
            if name != ours
        }
    seeds = [{each: float(run[each][rows].mean()) for each in METRICS} for run in found[OWN]]
    return report | {"seeds": seeds}


def _gap(mine: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64]) -> dict[str, float]:
    gap = difference(mine, theirs)
    return {
        "relative": gap.relative, "low": gap.relative_low, "high": gap.relative_high,
        "p": gap.permutation,
    }  # fmt: skip


def _groups(parts: Split, found: Mapping[str, Sequence[Values]]) -> list[dict[str, Any]]:
    """All users cut by their records of the target: ours against the best of the others there."""
    counts = parts.evaluation.histories.items[-1].lengths()
    lines = []
    for group in by_activity(counts, groups=GROUPS):
        means = {
            name: seed_mean([run[BY][group.rows] for run in runs]) for name, runs in found.items()
        }
        others = {k: v for k, v in means.items() if not k.startswith("nmtr") and "truth" not in k}
        best = max(others, key=lambda each: float(others[each].mean()))
        line = {"records": group.name, "users": len(group.rows), "best": best}
        line |= {"value": float(others[best].mean())}
        for ours in (each for each in OURS if each in means):
            line[ours] = {"value": float(means[ours].mean())} | _gap(means[ours], others[best])
        lines.append(line)
    return lines


def ablation(name: str) -> None:
    """On validation: as published, and without the funnel (discovery); what was not done."""
    data = prepared(name)
    path = RESULTS / f"ablation-{name}.json"
    kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    rows: list[dict[str, Any]] = kept.get("rows", [])
    for protocol in ("as-published", "discovery"):
        parts = split(data, protocol, fold="validation")
        ranked = sample_users(data, parts.evaluation, 4000)
        for title, what in _validated(protocol).items():
            if any((row["protocol"], row["what"]) == (protocol, title) for row in rows):
                continue
            began = time.monotonic()
            if isinstance(what, Contender):
                model: Model = what.learned(data, parts.train)
            else:
                plain = Contender("ease", {"ridge": 200.0}).made(data)
                model = what(plain.config, plain.shape)
                model.learn(parts.train)
            values = per_user(ranks(model, ranked), ranked.truth.indptr)
            means = {each: round(float(values[each].mean()), 5) for each in METRICS}
            seconds = round(time.monotonic() - began, 1)
            rows.append({"protocol": protocol, "what": title, **means, "seconds": seconds})
            print(rows[-1], flush=True)
            _keep(f"ablation-{name}", {"machine": machine(), "users": 4000, "rows": rows})


def _validated(protocol: str) -> dict[str, Any]:
    found: dict[str, Any] = {"EASE on the target": Contender("ease", {"ridge": 200.0})}
    if protocol == "as-published":
        found["replay, by EASE"] = REPLAYS["replay, by EASE"]
    for title, change in ABLATIONS.items():
        found[f"{OWN}, {title}"] = Contender(OWN, {**own(protocol), **change})
    return found


def _keep(name: str, found: Mapping[str, Any]) -> None:
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")


def write(_: str) -> None:
    (RESULTS / "past.md").write_text(page(RESULTS))


if __name__ == "__main__":
    commands = {"ablation": ablation, "counts": counts, "test": test, "write": write}
    if len(sys.argv) not in (2, 3) or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]](sys.argv[2] if len(sys.argv) == 3 else "beibei")
