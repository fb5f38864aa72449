"""EASE on buys alone, the linear model to stand beside: writes results/ease.json.

    python experiments/ease.py

Steck, Embarrassingly Shallow Autoencoders for Sparse Data, 2019. The ridge, 200, was chosen on one
random training buy per user by NDCG@100.
"""

from __future__ import annotations

import json

import numpy as np
import torch
from common import RESULTS, beibei, log_read, machine
from scipy.sparse import csr_array
from torch import Tensor

from nmtr.data.records import CSR, Histories, Records
from nmtr.data.split import split
from nmtr.evaluation.report import baselines, evaluate, to_json
from nmtr.models.base import Model, Shape

RIDGE = 200.0


class Ease(Model):
    """Scores of a user: their buys times a matrix with a zero diagonal."""

    def learn(self, records: Records) -> None:
        bought = _matrix(records.target)
        gram = (bought.T @ bought).toarray()
        inverse = np.linalg.inv(gram + RIDGE * np.eye(len(gram), dtype=np.float32))
        weights = -inverse / np.diag(inverse)
        np.fill_diagonal(weights, 0)
        self.weights = weights

    def encode(self, histories: Histories) -> Tensor:
        return torch.zeros(len(histories), 0)

    def score(self, state: Tensor, histories: Histories, items: Tensor | None = None) -> Tensor:
        return torch.from_numpy(_matrix(histories.items[-1]) @ self.weights)


def _matrix(pairs: CSR) -> csr_array:
    ones = np.ones(pairs.nnz, np.float32)
    return csr_array((ones, pairs.indices, pairs.indptr), shape=(pairs.n_rows, pairs.n_columns))


def main() -> None:
    data = beibei()
    log_read("python experiments/ease.py", "the results table")
    reports = {}
    for protocol in ("as-published", "discovery"):
        parts = split(data, protocol)
        model = Ease(None, Shape(data.n_users, data.n_items, data.behaviors))
        model.learn(parts.train)
        own = evaluate(model, parts, name="ease on buys")
        reports[protocol] = to_json([own, *baselines(parts)], parts)
    result = {"experiment": "ease", "ridge": RIDGE, "machine": machine(), "reports": reports}
    (RESULTS / "ease.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
