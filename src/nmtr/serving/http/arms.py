"""The bundles that are served side by side, and who gets which."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from nmtr.errors import UsageError
from nmtr.serving.bundle import Bundle, open_bundle
from nmtr.serving.requests import Event, Request
from nmtr.serving.service import Service

CONTROL = "control"
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
Signature = tuple[int, int, int]  # of a file: another one has another
NONE = (0, 0, 0)


@dataclass(frozen=True)
class Side:
    """One side of an experiment, before its bundle is opened."""

    name: str
    path: Path
    share: float


@dataclass(frozen=True)
class Arm:
    """One side of an experiment.

    label: what exposures are logged under; share: of the users.
    """

    name: str
    label: str
    share: float
    bundle: Bundle
    service: Service

    @property
    def model(self) -> str:
        return self.service.fingerprint


class Arms:
    """Deals users out by a hash of the experiment's name and theirs, so that each keeps an arm."""

    def __init__(self, arms: Sequence[Arm], experiment: str = "") -> None:
        self.arms, self.experiment = tuple(arms), experiment

    def of(self, who: str) -> Arm:
        """The arm of one person: the same for the same shares, in every process."""
        left = point(self.experiment, who)
        for each in self.arms:
            left -= each.share
            if left < 0:
                return each
        return self.arms[-1]

    def named(self, name: str) -> Arm:
        """The arm of this name; UsageError where there is none."""
        for each in self.arms:
            if each.name == name:
                return each
        names = ", ".join(each.name for each in self.arms)
        raise UsageError(f"arm: expected one of {names}, got {name!r}")

    def restock(self, items: Collection[str] | None) -> dict[str, int]:
        """Keep to the items in stock (None: all); how many of them each arm knows."""
        listed = None if items is None else sorted(items)
        return {each.name: each.service.stock(listed) for each in self.arms}

    def warm(self, k: int) -> None:
        """Answer first requests by each, so that no user waits for what is compiled then."""
        for each in self.arms:
            data, service = each.bundle.data, each.service
            k = min(k, data.n_items)
            service.recommend_many([Request(user, k=k) for user in data.users.ids[:2].to_list()])
            event = Event(data.items.ids[0], service.behaviors[0])
            service.recommend(Request(events=(event,), k=k))

    @property
    def behaviors(self) -> tuple[str, ...]:
        """Those that any arm knows."""
        return tuple(dict.fromkeys(name for each in self.arms for name in each.service.behaviors))


def point(experiment: str, who: str) -> float:
    """A number from 0 to 1, even over persons and different from experiment to experiment."""
    found = blake2b(f"{experiment}\0{who}".encode(), digest_size=8).digest()
    return int.from_bytes(found, "big") / 2**64


def sides(bundle: str, others: Sequence[str]) -> list[Side]:
    """The control and others, each NAME=BUNDLE:SHARE; UsageError where that does not add up."""
    found = [_side(each) for each in others]
    rest = 1 - sum(each.share for each in found)
    if rest <= 1e-9 and found:
        raise UsageError(f"arms: expected shares that leave some to {CONTROL}, they sum to 1")
    found.insert(0, Side(CONTROL, Path(bundle), rest))
    names = [each.name for each in found]
    if len(set(names)) < len(names):
        raise UsageError(f"arms: expected a name each, got {', '.join(names)}")
    return found


def _side(text: str) -> Side:
    name, _, rest = text.partition("=")
    path, _, share = rest.rpartition(":")
    try:
        number = float(share)
    except ValueError:
        number = 0
    if not (NAME.fullmatch(name) and path and 0 < number < 1):
        raise UsageError(f"expected an arm NAME=BUNDLE:SHARE, as new=new.nmtr:0.1, got '{text}'")
    return Side(name, Path(path), number)


def open_arms(wanted: Sequence[Side], experiment: str) -> Arms:
    """Open every bundle; raises what open_bundle does."""
    return Arms([_open(each, experiment) for each in wanted], experiment)


def _open(side: Side, experiment: str) -> Arm:
    bundle = open_bundle(side.path)
    label = f"{experiment}/{side.name}" if experiment else side.name
    return Arm(side.name, label, side.share, bundle, Service.of(bundle))


def signature(path: Path) -> Signature:
    """What tells a file from the one that was there before; NONE where there is none."""
    try:
        found = path.stat()
    except OSError:
        return NONE
    return (found.st_ino, found.st_mtime_ns, found.st_size)
