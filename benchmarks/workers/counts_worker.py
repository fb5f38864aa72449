"""Counts what nmtr's kernels have to do on a log: rows a batch meets, pairs that pruning leaves."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from nmtr_worker import Subject, load, model_of, training_of
from worker import SkippedError, Spec, main

from nmtr.training.sampler import Sampler

USERS = 64  # of whom the share of pairs left is taken


def batch(spec: Spec, subject: Subject) -> Mapping[str, float]:
    """Rows and distinct users and items for each labelled sample of a batch."""
    config = training_of(spec)
    sampler = Sampler.from_records(
        subject.train,
        negatives=config.negatives,
        rule=config.negative_rule,
        batch_size=config.batch_size,
        seed=config.seed,
    )
    found = next(iter(sampler.epoch(0)))
    samples = int((found.weight != 0).sum())
    met = len(torch.unique(found.user)) + len(torch.unique(found.item))
    return {"rows_per_sample": len(found) / samples, "met_per_sample": met / samples}


@torch.inference_mode()
def pruning(spec: Spec, subject: Subject) -> Mapping[str, float]:
    """Share of the pairs whose lower levels must be known, since a bound does not settle them.

    Under eq. 4 the level below adds a number in (0, 1), so what a score is without it, its floor,
    bounds it: for the top k from the k-th best less 1 up, for a rank within 1 below the held-out
    item's score.
    """
    model, evaluation = model_of(spec, subject), subject.evaluation
    if evaluation is None or not spec.weights:
        raise SkippedError("pruning is counted on a fitted model and held-out items")
    users = evaluation.histories.slice(0, USERS)
    levels = model.score_behaviors(model.encode(users), users)  # (B, R, N)
    scores = levels[:, -1]
    floor = scores - torch.sigmoid(levels[:, -2])
    edge = scores.topk(spec.k, dim=1).values[:, -1:]
    first = evaluation.truth.indices[evaluation.truth.indptr[: len(users)]]
    own = scores.gather(1, torch.from_numpy(first.astype(np.int64))[:, None])
    unsettled = (floor >= own - 1) & (floor < own)
    return {
        "top_share": float((floor >= edge - 1).float().mean()),
        "rank_share": float(unsettled.float().mean()),
    }


if __name__ == "__main__":
    main(load, {"batch": batch, "pruning": pruning})
