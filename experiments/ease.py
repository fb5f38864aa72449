"""EASE on buys alone, the linear model to stand beside: writes results/ease.json.

    python experiments/ease.py

Steck, Embarrassingly Shallow Autoencoders for Sparse Data, 2019. The ridge, 200, was chosen on one
random training buy per user by NDCG@100.
"""

from __future__ import annotations

import json

from common import RESULTS, beibei, log_read, machine

from nmtr.data.split import split
from nmtr.evaluation.report import baselines, evaluate, to_json
from nmtr.models import make
from nmtr.models.base import Shape

RIDGE = 200.0


def main() -> None:
    data = beibei()
    log_read("python experiments/ease.py", "the results table")
    reports = {}
    for protocol in ("as-published", "discovery"):
        parts = split(data, protocol)
        model = make("ease", {"ridge": RIDGE}, Shape(data.n_users, data.n_items, data.behaviors))
        model.learn(parts.train)
        own = evaluate(model, parts, name="ease on buys")
        reports[protocol] = to_json([own, *baselines(parts)], parts)
    result = {"experiment": "ease", "ridge": RIDGE, "machine": machine(), "reports": reports}
    (RESULTS / "ease.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
