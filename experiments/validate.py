"""Trials by hand on Beibei's validation, where `nmtr tune` would take hours; the test is not read.

    python experiments/validate.py '{"model": "walk", "restart": 0.7}' '{"preset": "ease"}' ...
    python experiments/validate.py table

A trial is the selection phase of a run: it trains on the log less test and validation and ranks
4,000 validation users after each epoch; its best epoch by NDCG@100 counts. Protocols: as-published
unless a trial says another. `preset` names one of beibei/as-published. Each trial adds a line to
results/tuning/validation.jsonl; `table` writes them into validation.md beside it.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import torch
from common import RESULTS, beibei

from nmtr.data.interactions import Interactions
from nmtr.evaluation.metrics import per_user
from nmtr.evaluation.ranking import ranks
from nmtr.models.base import Model
from nmtr.training.presets import presets
from nmtr.training.selection import Selection, new_model
from nmtr.training.settings import Settings, override, read_settings
from nmtr.training.trainer import train

LINES = RESULTS / "tuning" / "validation.jsonl"
USERS = 4_000
METRICS = ("hr@10", "ndcg@10", "hr@100", "ndcg@100")


def trial(data: Interactions, given: dict[str, Any]) -> dict[str, Any]:
    """What a trial gave: all users, and by whether lower records of the held-out pair stayed."""
    asked = dict(given)
    preset, protocol = asked.pop("preset", None), asked.pop("protocol", "as-published")
    name = asked.pop("model", None)
    start = Settings(validation_users=USERS)
    if preset:
        start, _ = read_settings(presets()[f"beibei/as-published/{preset}"])
    changes = {key: tuple(each) if isinstance(each, list) else each for key, each in asked.items()}
    always = {"threads": 1, "calibrate": False, "select": "ndcg@100", "validation_users": USERS}
    changes = always | changes
    settings = override(start, changes, model=name, protocol=protocol)
    torch.set_num_threads(1)
    found = Selection.of(data, settings)
    model, began = new_model(data, settings), time.monotonic()
    history: list[dict[str, Any]] = []
    if model.trained:
        how = settings.training
        measure = found.measure("ndcg@100")
        state = train(
            model, found.records, how, phase="trial", epochs=how.epochs, measure=measure,
            report=None,
        )  # fmt: skip
        history = state.history
    else:
        model.learn(found.records)
    seconds = time.monotonic() - began
    return {
        "settings": given,
        "model": settings.model,
        "protocol": protocol,
        "epoch": int(np.argmax([each["ndcg@100"] for each in history])) + 1 if history else None,
        "ndcg@100 by epoch": [round(each["ndcg@100"], 4) for each in history],
        "seconds": round(seconds, 1),
        **measured(model, found),
    }


def measured(model: Model, found: Selection) -> dict[str, Any]:
    evaluation = found.split.evaluation
    values = per_user(ranks(model.eval(), evaluation), evaluation.truth.indptr)
    truth = evaluation.truth
    below = [
        each.contains(truth.row_of_each(), truth.indices) for each in evaluation.histories.items
    ]
    kept = np.any(below, axis=0)
    slices = {"all": np.ones_like(kept), "kept": kept, "removed": ~kept}
    return {
        name: {"users": int(rows.sum())}
        | {metric: round(float(values[metric][rows].mean()), 4) for metric in METRICS}
        for name, rows in slices.items()
        if rows.any()
    }


def table() -> str:
    """All trials, by protocol, best first."""
    lines = [json.loads(line) for line in LINES.read_text().splitlines()]
    parts = []
    for protocol in dict.fromkeys(line["protocol"] for line in lines):
        parts.append(f"### {protocol}, HR/NDCG\n")
        parts.append("| model | settings | epoch | @10 | @100 | kept @100 | removed @100 | s |")
        parts.append("|---|---|---|---|---|---|---|---|")
        own = [line for line in lines if line["protocol"] == protocol]
        for line in sorted(own, key=lambda line: -line["all"]["ndcg@100"]):
            kept = {k: v for k, v in line["settings"].items() if k not in ("model", "protocol")}
            said = ", ".join(f"{key} {_plain(value)}" for key, value in kept.items()) or "defaults"
            epoch = f"{line['epoch']} of {len(line['ndcg@100 by epoch'])}" if line["epoch"] else "-"
            cells = [
                _pair(line["all"], 10),
                *(_pair(line.get(s), 100) for s in ("all", "kept", "removed")),
            ]
            parts.append(
                f"| {line['model']} | {said} | {epoch} | "
                + " | ".join([*cells, f"{line['seconds']:.0f}"])
                + " |"
            )
        parts.append("")
    return "\n".join(parts)


def _pair(values: dict[str, float] | None, k: int) -> str:
    if values is None:
        return "-"
    return "/".join(f"{values[f'{name}@{k}']:.4f}".removeprefix("0") for name in ("hr", "ndcg"))


def _plain(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def main(asked: list[str]) -> None:
    if asked == ["table"]:
        (LINES.parent / "validation.md").write_text(table())
        return
    data = beibei()
    for line in asked:
        text = json.dumps(trial(data, json.loads(line)))
        print(text, flush=True)
        with LINES.open("a") as stream:
            stream.write(text + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
