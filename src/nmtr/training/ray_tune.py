"""A search whose trials Ray Tune makes, several at once; the study stays where it is.

Ray Tune asks the study for each trial, gives it a worker, stops what is behind the median, and
starts again what died with its worker.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from optuna.trial import TrialState
from ray import tune
from ray.tune.schedulers import MedianStoppingRule
from ray.tune.search import Searcher

from nmtr.data.interactions import Interactions, load
from nmtr.errors import UsageError
from nmtr.training.ray_engine import cluster
from nmtr.training.search import FAILURES, LEAST_COMPLETE, Budget, Search, Watch
from nmtr.training.settings import Settings, override
from nmtr.training.tune import selection_phase

VALUE = "value"  # what Ray Tune compares: the metric after an epoch


@dataclass(frozen=True)
class RaySearch(Search):
    """A search that leaves its trials to Ray Tune."""

    data: Path = Path()
    workers: int = 1

    @classmethod
    def of(cls, search: Search, data: Interactions, workers: int) -> RaySearch:
        """Raises UsageError for data that are in no folder, where workers could open them."""
        if data.path is None:
            raise UsageError("a search on Ray needs a prepared data set in a folder")
        own = {each.name: getattr(search, each.name) for each in fields(search)}
        return cls(**own, data=data.path.resolve(), workers=workers)

    def run(self, budget: Budget) -> str:
        with cluster(self.workers):
            return super().run(budget)

    def fill(self, share: int, until: float) -> bool:
        while missing := share - len(self.finished()):
            left = until - time.monotonic()
            if left <= 0:
                return False
            with tempfile.TemporaryDirectory() as scratch:
                self._tuner(missing, share, left, scratch).fit()
        return True

    def _tuner(self, missing: int, share: int, left: float, scratch: str) -> tune.Tuner:
        warm_up = max(3, self.base.training.epochs // 5)
        return tune.Tuner(
            partial(trial, str(self.data), self.base),
            tune_config=tune.TuneConfig(
                metric=VALUE,
                mode="max",
                search_alg=Proposer(self, share, left),
                scheduler=MedianStoppingRule(
                    time_attr="training_iteration",
                    grace_period=warm_up,
                    min_samples_required=LEAST_COMPLETE,
                ),
                num_samples=missing,
                max_concurrent_trials=self.workers,
                time_budget_s=None if math.isinf(left) else left,
            ),
            run_config=tune.RunConfig(
                storage_path=scratch,
                failure_config=tune.FailureConfig(max_failures=1),
                verbose=0,
            ),
        )


class Proposer(Searcher):  # type: ignore[misc]  # Ray is read as untyped, whether it is there or not
    """The study as Ray Tune asks it: for trials, and with what came of them."""

    def __init__(self, search: RaySearch, share: int, left: float) -> None:
        super().__init__(metric=VALUE, mode="max")
        self.search, self.share = search, share
        self.until = time.monotonic() + left
        self.running: dict[str, Watch] = {}

    def suggest(self, trial_id: str) -> dict[str, Any]:
        asked, chosen = self.search.propose(len(self.running))
        self.running[trial_id] = Watch(asked, self.search.base.training.select, self.until)
        return {"options": chosen}

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        if trial_id in self.running and "ended" not in result:
            watch = self.running[trial_id]
            del watch.epochs[result["place"] - 1 :]  # of a worker that died, whose trial began anew
            watch.note(dict(result["values"]))

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        watch = self.running.pop(trial_id)
        ended = (result or {}).get("ended")
        if ended == "complete" and result:
            watch.end(TrialState.COMPLETE, result[VALUE], epoch=result["epoch"])
        elif time.monotonic() >= self.until:
            watch.end(TrialState.FAIL, cut="out of time")
        else:
            said = "its worker died twice" if error else str((result or {}).get("error", ""))
            watch.end(TrialState.PRUNED, error=said)
        self.search.tell(watch.trial.number, self.share)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Ray Tune writes itself down to go on later, which the study does instead

    def save(self, checkpoint_path: str) -> None:
        """The study keeps everything itself."""

    def restore(self, checkpoint_path: str) -> None:
        """The study keeps everything itself."""


class Reporter(Watch):
    """A watch in a worker: tells Ray Tune of each epoch."""

    def __init__(self, metric: str) -> None:
        self.metric, self.place = metric, 0

    def step(self) -> None:
        """Ray Tune ends trials itself when the time is over."""

    def epoch(self, values: Mapping[str, float], *, warm_up: int = 0) -> None:
        self.place += 1
        measured = list(values.items())  # as a list: Ray Tune makes one flat mapping of nested ones
        tune.report({"values": measured, "place": self.place, VALUE: values[self.metric]})


def trial(data: str, base: Settings, config: Mapping[str, Any]) -> None:
    """What a worker does: one trial."""
    objective = selection_phase(load(Path(data)), base)
    try:
        settings = override(base, config["options"])
        value, epoch = objective(settings, Reporter(base.training.select))
    except FAILURES as error:
        tune.report({"ended": "failed", "error": str(error) or repr(error), VALUE: 0.0})
    else:
        tune.report({"ended": "complete", VALUE: value, "epoch": epoch})
