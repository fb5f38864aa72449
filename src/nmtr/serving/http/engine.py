"""From a question to the bytes of its answer: arm, live events, ranking, exploration, exposure."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

import numpy as np
import orjson

from nmtr.errors import NmtrError
from nmtr.serving.http.arms import Arm, Arms
from nmtr.serving.http.exploration import draw
from nmtr.serving.http.exposures import Exposures
from nmtr.serving.http.live import Known, Live, Person
from nmtr.serving.http.metrics import Metrics
from nmtr.serving.http.problems import Problem
from nmtr.serving.requests import Basis, Event, Request, Slice
from nmtr.serving.rules import Rules
from nmtr.serving.service import Ask, Found
from nmtr.serving.store import Exposure

NOBODY = Known()
SHOWN = ("name", "category", "price", "image_url")  # of the catalogue, where it has them


@dataclass(frozen=True, slots=True)
class Question:
    """Who asks for recommendations, and for what; events: given with the request.

    arm: which is asked, by its name, instead of the one that is dealt. looking: an operator asks,
    so nothing is drawn at random, counted, or remembered as shown.
    """

    person: Person | None
    k: int
    slice: Slice = "all"
    rules: Rules = field(default_factory=Rules)
    events: tuple[Event, ...] = ()
    attributes: bool = False
    arm: str = ""
    looking: bool = False


class Ranking(NamedTuple):
    """One person's candidates, best first, as plain lists; shown: per item, of each behaviour."""

    items: list[str]
    scores: list[float]
    shown: list[list[float]]
    basis: Basis
    unknown: int
    known: bool  # whether the person is in the bundle


class Engine:
    """Answers questions, many at once. `arms` may be replaced at any time."""

    def __init__(
        self, arms: Arms, live: Live, exposures: Exposures, metrics: Metrics, *, share: float,
        pool: int,
    ) -> None:  # fmt: skip
        """share, pool: of exploration."""
        self.arms, self.live, self.exposures, self.metrics = arms, live, exposures, metrics
        self.share, self.pool = share, pool
        self.random = Random()

    def answer(self, questions: Sequence[Question]) -> list[bytes | Exception]:
        """The answers as JSON, or why there is none."""
        self.metrics.together.observe(len(questions))
        arms = self.arms
        try:
            known = self.live.of([each.person for each in questions if each.person])
        except NmtrError as error:
            return [error] * len(questions)
        answers: list[bytes | Exception] = [b""] * len(questions)
        groups: dict[str, list[int]] = {}
        ids = [self._name() for _ in questions]
        chosen = [self._arm(arms, each, name) for each, name in zip(questions, ids, strict=True)]
        for row, arm in enumerate(chosen):
            groups.setdefault(arm.name, []).append(row)
        for rows in groups.values():
            arm = chosen[rows[0]]
            for row, found in zip(rows, self._rank(arm, questions, rows, known), strict=True):
                try:
                    answers[row] = self._shown(questions[row], ids[row], arm, known, found)
                except (NmtrError, Problem) as error:
                    answers[row] = error
        return answers

    def about(self, question: Question) -> tuple[Arm, Request]:
        """The arm of who asks, and what it is to be asked; where no list is wanted."""
        person = question.person
        known = self.live.of([person] if person else [])
        arm = self._arm(self.arms, question, self._name())
        return arm, self.request(question, arm, known)

    def _name(self) -> str:
        """A new recommendation id."""
        return f"{self.random.getrandbits(128):032x}"

    def _arm(self, arms: Arms, question: Question, name: str) -> Arm:
        """The one that was named, or a person's; of a list for nobody, by its name."""
        person = question.person
        if question.arm:
            return arms.named(question.arm)
        return arms.of(f"{person.kind}\0{person.id}" if person else name)

    def request(self, question: Question, arm: Arm, known: dict[Person, Known]) -> Request:
        """What an arm's service is asked, all that is known of the person included."""
        person = question.person
        past = known[person] if person else NOBODY
        user = person.id if person and person.kind == "user" and not past.erased else None
        known_ones = arm.service.behaviors  # another bundle than this one may know more
        events = tuple(
            each for each in (*past.events, *question.events) if each.behavior in known_ones
        )
        k = min(question.k, arm.bundle.data.n_items)
        if self.share:
            k = min(max(k, self.pool), arm.bundle.data.n_items)
        return Request(user, events, k, question.slice, question.rules)

    def _rank(
        self, arm: Arm, questions: Sequence[Question], rows: Sequence[int],
        known: dict[Person, Known],
    ) -> list[Ranking | NmtrError]:  # fmt: skip
        """What an arm's model finds for each row."""
        service = arm.service
        try:
            asks = [service.ask(self.request(questions[row], arm, known)) for row in rows]
            found = service.rank(asks)
        except NmtrError as error:
            if len(rows) == 1:
                return [error]
            # One of them asks for what cannot be; the others are not to suffer for it.
            return [self._rank(arm, questions, [row], known)[0] for row in rows]
        return [_ranking(arm, found, at, ask) for at, ask in enumerate(asks)]

    def _shown(
        self, question: Question, name: str, arm: Arm, known: dict[Person, Known],
        found: Ranking | NmtrError,
    ) -> bytes:  # fmt: skip
        """One answer as JSON, remembered in the store."""
        if isinstance(found, NmtrError):
            raise found
        share = 0.0 if question.looking else self.share
        drawn = draw(len(found.items), question.k, share, self.random)
        items = [found.items[place] for place in drawn.places]
        scores = [found.scores[place] for place in drawn.places]
        if not question.looking:
            person = question.person
            if person and known[person].erased:
                person = None
            who = {f"{person.kind}_id": person.id} if person else {}
            self.exposures.add(
                Exposure(
                    name, items, scores, drawn.propensities, arm.model, arm.label,
                    at=time.time_ns() // 1000, **who,
                )
            )  # fmt: skip
            whose = "nobody" if person is None else "known" if found.known else "stranger"
            self.metrics.recommended(arm.name, found.basis, whose, drawn.explored)
        popular, names = found.basis == "popular", arm.service.behaviors
        body: dict[str, Any] = {
            "recommendation_id": name,
            "arm": arm.name,
            "model": arm.model,
            "basis": found.basis,
            "calibrated": arm.service.calibration is not None,
            "explored": drawn.explored,
            "unknown_events": found.unknown,
            "items": [
                {
                    "item": item, "position": n, "score": score, "propensity": chance,
                    "behaviors": {}
                    if popular else dict(zip(names, found.shown[place], strict=True)),
                }
                for n, (place, item, score, chance) in enumerate(
                    zip(drawn.places, items, scores, drawn.propensities, strict=True), 1
                )
            ],
        }  # fmt: skip
        if question.attributes:
            for each in body["items"]:
                each["attributes"] = attributes(arm, each["item"])
        return orjson.dumps(body)


def _ranking(arm: Arm, found: Found, row: int, ask: Ask) -> Ranking:
    index = found.items[row]
    n = int(np.count_nonzero(index >= 0))
    ids = arm.service.ids(index[:n])
    return Ranking(
        list(map(str, ids)), found.scores[row, :n].tolist(),
        found.shown[row, :, :n].T.tolist(), found.bases[row], ask.user.unknown,
        ask.user.index >= 0,
    )  # fmt: skip


def attributes(arm: Arm, item: object) -> dict[str, Any]:
    """What the catalogue says of an item for people to see; nothing where there is none."""
    catalogue = arm.bundle.catalogue
    index = arm.service.filters.items.index(item)
    if catalogue is None or index < 0:
        return {}
    names = [each for each in SHOWN if each in catalogue.columns]
    return {name: value for name in names if (value := catalogue[name][index]) is not None}
