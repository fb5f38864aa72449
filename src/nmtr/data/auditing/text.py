"""An audit's verdict in plain words, and the protocol it recommends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from nmtr.data.auditing.figures import (
    Audit,
    HeldOutFigures,
    IdOrder,
    Marginal,
    Shift,
    Times,
    percent,
)

SURE = 3.0  # standard errors from which a difference is called one
APART = 0.1  # shares that lie further apart are called different
FEW = 100  # held-out pairs below which a figure is called uncertain
CROWDED = 0.05  # share of events at one instant that real clocks do not make
UNORDERED = 0.2  # share of events without an order among their user's
MOVED = 1.5  # factor between a test and a draw from training that sampling does not make


def recommend(audit: Audit) -> tuple[str, str]:
    """The protocol to evaluate by, and why."""
    held, times, target = audit.held_out, audit.times, audit.volumes[-1].name
    rule = held.rule if isinstance(held, HeldOutFigures) else None
    dated = isinstance(times, Times) and not _useless(times)
    if rule == "time":
        return "time", "there are times, and a global cut is what a shop will meet"
    if dated:
        return "time", (
            "there are times: prepare again with --holdout time:0.9, since a global cut is what a "
            "shop will meet, and any other hold-out lets training see the future"
        )
    if not isinstance(held, HeldOutFigures):
        return "discovery", (
            "there are no usable times; but first there must be something to hold out: "
            f"users with two {target} pairs, or a file of held-out pairs"
        )
    new = held.slices.get("new", held.pairs if not held.held_out_in else 0)
    reason = "the times are of no use" if isinstance(times, Times) else "there are no times"
    if not held.held_out_in:
        return "discovery", (
            f"{reason}, and without auxiliary behaviours every held-out pair is new to its user"
        )
    if not new:
        return "leak-free", (
            f"{reason}, and every held-out pair has an auxiliary record, so that discovery has no "
            "user; leak-free is a diagnostic, not a bar: a log with times is needed for one"
        )
    few = f"; only {new:,} pairs: expect wide intervals" if new < FEW else ""
    return "discovery", (
        f"{reason}, and the {new:,} held-out pairs ({percent(new / held.pairs)}) without any "
        f"auxiliary record ask whether a model finds what the user had not met{few}"
    )


def verdicts(audit: Audit) -> tuple[str, ...]:
    """What stands out, the most important first."""
    return tuple(_sentences(audit))


def _sentences(audit: Audit) -> Iterator[str]:
    target = audit.volumes[-1].name
    held = audit.held_out
    if isinstance(held, HeldOutFigures):
        yield from _funnel(held, target)
    else:
        yield f"Nothing is held out: {held.skipped}; no leak can be measured."
    if isinstance(audit.times, Times):
        yield from _wrong_times(audit.times, audit)
    if isinstance(audit.id_order, IdOrder):
        yield from _ids(audit.id_order, audit)
    if isinstance(audit.marginal, Marginal):
        yield from _totals(audit.marginal, target)
    if isinstance(audit.shift, Shift):
        yield from _moved(audit.shift, target)
    if isinstance(held, HeldOutFigures):
        yield from _blemishes(held, target)
    yield from _nested(audit.nesting)
    yield from _reading(audit)


def _funnel(held: HeldOutFigures, target: str) -> Iterator[str]:
    if not held.held_out_in:
        yield f"{target} is the only behaviour: no auxiliary record can give a held-out pair away."
        return
    nearest_first = list(held.held_out_in.items())[::-1]
    shares = ", ".join(f"{percent(share)} in {name}" for name, share in nearest_first)
    funnel, new = held.slices.get("in-funnel", 0), held.slices.get("new", 0)
    among = f"{percent(funnel / held.pairs)} of the held-out {target} pairs"
    if held.rule in ("time", "last"):
        yield (
            f"{among} had an auxiliary record of their user before that moment ({shares}): what a "
            f"shop knows too, so no leak; {new:,} pairs are new to their user."
        )
        if held.rule == "last":
            yield "Hold-out last: training sees what other users did after a held-out moment."
        return
    if not funnel:
        yield f"No held-out {target} pair has an auxiliary record: none leaks through the funnel."
    else:
        # The nearest behaviour is the one to tell of, unless a lower one gives much more away.
        most = max(held.held_out_in.values())
        leading = next(each for each in nearest_first if each[1] > most / 2)
        others = [each for each in nearest_first if each is not leading]
        name, share = leading
        also = "".join(f", {percent(each)} in {other}" for other, each in others)
        yield (
            f"{percent(share)} of the held-out {target} pairs are in the user's own {name} "
            f"records{also}: under as-published, repeating those records scores without having "
            f"learned anything; only {new:,} pairs ({percent(new / held.pairs)}) are new to their "
            "user."
        )
    yield from _unlike(held, target)


def _unlike(held: HeldOutFigures, target: str) -> Iterator[str]:
    for name, trained in list(held.trained_in.items())[::-1]:
        share = held.held_out_in[name]
        if abs(trained - share) <= APART:
            continue
        removed = "" if share else f" (removed there, so the other {name} items are sure negatives)"
        yield (
            f"{percent(trained)} of the training {target} pairs are in {name}, but "
            f"{percent(share)} of the held-out ones{removed}: training does not look like the "
            "test, and validation must be treated as the protocol treats test."
        )
        return


def _ids(ids: IdOrder, audit: Audit) -> Iterator[str]:
    for side, shares in (("above", ids.above), ("below", ids.below)):
        share, chance, users = shares["all"], ids.chance["all"], ids.users["all"]
        if share - chance <= max(SURE * (chance * (1 - chance) / users) ** 0.5, 0.25 * chance):
            continue
        slices = ", ".join(
            f"{percent(each)} {name}" for name, each in shares.items() if name != "all"
        )
        held = audit.held_out
        by_time = isinstance(held, HeldOutFigures) and held.rule in ("time", "last")
        cause = " (ids given in order of time would do that)" if by_time else ""
        yield (
            f"Item ids leak: the held-out item's id is {side} every training id of its user for "
            f"{percent(share)} of the users, by chance {percent(chance)}"
            f"{f' ({slices})' if slices else ''}{cause}; id order must never be a feature, a sort "
            "key or a tie-breaker."
        )


def _totals(totals: Marginal, target: str) -> Iterator[str]:
    gaps = {name: totals.by_totals[name] - totals.by_popularity[name] for name in totals.by_totals}
    where = "in-funnel" if "in-funnel" in gaps else "all"
    error = totals.error[where]
    if gaps[where] <= max(SURE * error, 0.01):
        return
    slices = [where, "new"] if "new" in gaps and where != "new" else [where]
    if len(slices) > 1:
        error = (error**2 + totals.error["new"] ** 2) ** 0.5
        if gaps[where] - gaps["new"] <= SURE * error:
            return
    figures = "; ".join(
        f"{name}: {totals.by_totals[name]:.3f} against {totals.by_popularity[name]:.3f}"
        for name in slices
    )
    yield (
        f"Item totals leak: with the held-out pairs gone, ranking by ({totals.below} - {target}) "
        f"records of the item puts more of them in the first {totals.cutoff} than popularity does "
        f"({figures}): leak-free is a diagnostic here, never a bar."
    )


def _moved(shift: Shift, target: str) -> Iterator[str]:
    unlike = shift.train_same < shift.drawn_train_same / MOVED
    if not unlike and shift.held_out <= MOVED * shift.drawn:
        return
    yield (
        f"Popularity shifted: the {shift.top} items held out most make "
        f"{percent(shift.held_out)} of the held-out {target} pairs but "
        f"{percent(shift.train_same)} of the training ones (the {shift.top} trained most make "
        f"{percent(shift.train_top)}); for pairs drawn at random from the same users' training "
        f"it is {percent(shift.drawn)} and {percent(shift.drawn_train_same)}: validation drawn "
        "from training is not the test."
    )


def _useless(times: Times) -> bool:
    return times.instants == 1 or times.busiest > 0.5


def _wrong_times(times: Times, audit: Audit) -> Iterator[str]:
    events = sum(each.events + each.undo_events for each in audit.volumes)
    advice = "check --time and --time-unit"
    if times.instants == 1:
        yield f"Times look wrong: all {events:,} events are at {times.first}; they order nothing."
    elif times.busiest > CROWDED and times.busiest * events > FEW / 5:
        yield (
            f"Times look wrong: {percent(times.busiest)} of the events are dated "
            f"{times.busiest_at} exactly; is that a default?"
        )
    if times.before_1990:
        yield f"Times look wrong: events dated before 1990: {times.before_1990:,}; {advice}."
    if times.future:
        yield f"Times look wrong: events over a day in the future: {times.future:,}; {advice}."
    if times.instants > 1 and times.midnight > 1 - APART:
        yield (
            f"Times are dates: {percent(times.midnight)} of the events are at midnight, so that "
            "what happened on one day has no order."
        )
    elif times.instants > 1 and times.tied > UNORDERED:
        yield (
            f"{percent(times.tied)} of the events share their instant with another of the same "
            "user: their order is that of the file."
        )
    if times.before_training is not None and times.before_training > 0:
        yield (
            f"{percent(times.before_training)} of the held-out pairs with a time precede a "
            "training record of the target by the same user: the model is trained on the future."
        )


def _blemishes(held: HeldOutFigures, target: str) -> Iterator[str]:
    if held.in_target:
        yield (
            f"Held-out pairs that the log holds as {target} records too: {held.in_target:,}; they "
            "are removed from training."
        )
    if held.pairs < FEW:
        yield f"Only {held.pairs:,} pairs are held out: every share above is uncertain."
    for share, what in ((held.cold_items, "items"), (held.cold_users, "users")):
        if share > 0.01:
            yield (
                f"{percent(share)} of the held-out pairs have {what} without any training record: "
                "a model of ids cannot score them."
            )


def _nested(nesting: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    shares = [share for lower in nesting.values() for share in lower.values()]
    if shares and min(shares) == 1:
        chain = " and ".join(
            f"every {name} pair is also in {' and '.join(lower)}" for name, lower in nesting.items()
        )
        yield (
            f"Fully nested: {chain}; a model that sees a user's own records must not see those of "
            'its training positives, or it learns "not there, not taken".'
        )
    elif shares:
        listed = ", ".join(
            f"{percent(share)} of {name} in {other}"
            for name, lower in nesting.items()
            for other, share in lower.items()
        )
        yield f"Not fully nested: {listed}."


def _reading(audit: Audit) -> Iterator[str]:
    dropped = {name: count for name, count in audit.read.get("dropped", {}).items() if count}
    if dropped:
        listed = ", ".join(f"{count:,} {name}" for name, count in dropped.items())
        yield (
            f"{sum(dropped.values()):,} of {audit.read.get('rows_read', 0):,} rows were dropped "
            f"when the log was read: {listed}."
        )
