"""Makes contestants: nmtr with settings of the benchmarks' own, the peers as they advise."""

from __future__ import annotations

import json
import tomllib
from hashlib import sha256
from typing import Any

from workers.worker import Spec

from harness import data
from harness.contest import Contestant
from harness.places import ROOT, WORK
from harness.tasks import Scale

FACTORS = 64
LAYERS = (64, 32, 16)
NEUMF = {
    "mf_embedding_size": FACTORS,
    "mlp_embedding_size": FACTORS,
    "mlp_hidden_size": list(LAYERS),
    "dropout_prob": 0.0,
}
NEGATIVES = {"NeuMF": 4, "BPR": 1}


def chosen(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of a model and of its training."""
    found = tomllib.loads((ROOT / "benchmarks" / f"{name}.toml").read_text())
    wanted = ("optimizer", "learning_rate", "batch_size", "negatives", "epochs", "seed")
    return found["options"], {key: found["training"][key] for key in wanted}


class Roster:
    """Contestants of one scale. What they stand on, logs and weights, preparation.py makes."""

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self.beibei = data.beibei()

    def own(self, name: str, *steps: str, label: str = "", **changes: Any) -> Contestant:
        """A model with the benchmarks' settings of it."""
        options, training = chosen(name)
        given = {"options": options, "training": training, **changes}
        return self.nmtr(f"{name}{label}", *steps, model=name, **given)

    def nmtr(self, label: str, *steps: str, worker: str = "nmtr", **changes: Any) -> Contestant:
        given = changes if "data" in changes else {"data": str(self.beibei.prepared), **changes}
        return Contestant(label, worker=f"{worker}_worker", spec=self._spec(steps, given))

    def peer(self, package: str, label: str, *steps: str, **changes: Any) -> Contestant:
        """A peer, from the environment and by the worker that are named after it."""
        given = changes if "data" in changes else {"data": str(self.beibei.pairs), **changes}
        # implicit's manual asks for a BLAS of one thread beside its own threads.
        environ = {"OPENBLAS_NUM_THREADS": "1"} if package == "implicit" else {}
        spec = self._spec(steps, given)
        return Contestant(label, "peer", package, f"{package}_worker", spec, environ=environ)

    def recbole(self, model: str, label: str, *steps: str, **changes: Any) -> Contestant:
        """RecBole's NeuMF or BPR, sized as ours."""
        options = NEUMF if model == "NeuMF" else {"embedding_size": FACTORS}
        negatives = {"distribution": "uniform", "sample_num": NEGATIVES[model]}
        training = {"train_neg_sample_args": negatives, **changes.pop("training", {})}
        given = {"model": model, "options": options, "training": training, **changes}
        return self.peer("recbole", f"RecBole {model}, {label}", *steps, **given)

    def _spec(self, steps: tuple[str, ...], changes: dict[str, Any]) -> Spec:
        scale = self.scale
        common = {"threads": scale.threads, "device": scale.device, "box": scale.box}
        return Spec(steps, **{**common, "seconds": scale.seconds, **changes})

    def fitted(self, name: str) -> dict[str, Any]:
        """What asks for weights that have learned: what pruning saves depends on them."""
        options, training = chosen(name)
        training["epochs"] = self.scale.epochs or training["epochs"]
        settings = json.dumps([options, training], sort_keys=True).encode()
        path = WORK / "models" / f"{name}-{sha256(settings).hexdigest()[:8]}.safetensors"
        return {"training": training, "weights": str(path), "fitting": self.scale.fitting}
