"""Which column holds the user, the item, the behaviour and the time."""

from collections.abc import Sequence
from dataclasses import dataclass

from nmtr.data.reading.options import ReadOptions
from nmtr.errors import DataError, UsageError

USER, ITEM, BEHAVIOR, TIME = "user_id", "item_id", "behavior", "timestamp"

# Compared without case, '_', '-' and blanks: `User ID`, `user_id` and `userId` are one.
USUAL = {
    "user": ("user", "userid", "uid", "visitorid", "customerid"),
    "item": ("item", "itemid", "sku", "aid", "productid", "asin"),
    "behavior": (
        *("behavior", "behaviour", "event", "type", "action"),
        *("eventtype", "behaviortype", "behaviourtype"),
    ),
    "time": ("timestamp", "time", "ts", "eventtime", "datetime", "date"),
}
_WORDS = {"user": "user", "item": "item", "behavior": "behaviour", "time": "time"}
_FOLD = str.maketrans("", "", "_- ")


@dataclass(frozen=True)
class Roles:
    """Column names of the four roles.

    behavior is None where the source is of one behaviour, time where the log has none.
    """

    user: str
    item: str
    behavior: str | None
    time: str | None

    def items(self) -> tuple[tuple[str, str], ...]:
        """Pairs of (name in the schema, column in the source)."""
        given = (USER, self.user), (ITEM, self.item), (BEHAVIOR, self.behavior), (TIME, self.time)
        return tuple((name, column) for name, column in given if column is not None)


def folded(name: str) -> str:
    """A column name without what spellings of it differ in."""
    return name.strip().lower().translate(_FOLD)


def find_roles(
    names: Sequence[str], options: ReadOptions, *, source: str, of_one: bool = False
) -> Roles:
    """Find the columns by the options, else by their usual names.

    of_one: every row is of one behaviour that the caller named, so that no column is looked for.
    Raises UsageError for a named column that is not there or is named twice, and DataError when
    no column or several columns fit a role.
    """
    asked = {role: getattr(options, role) for role in USUAL}
    if of_one:
        asked["behavior"] = None
    for role, name in asked.items():
        if name and names.count(name) != 1:
            problem = "is not there" if name not in names else "is there more than once"
            raise UsageError(f"{source}: --{role} {name!r} {problem}; {_came(names)}")
    given = [name for name in asked.values() if name]
    if len(set(given)) < len(given):
        raise UsageError(f"{source}: one column is named for two roles: {given}")
    free = [name for name in names if name not in given]

    def column(role: str) -> str:
        return asked[role] or _usual(role, free, source=source)

    timeless = asked["time"] == "" or not (asked["time"] or _fits("time", free))
    return Roles(
        column("user"),
        column("item"),
        None if of_one else column("behavior"),
        None if timeless else column("time"),
    )


def count_roles(names: Sequence[str]) -> int:
    """How many of the four roles have a usual name among these."""
    folds = {folded(name) for name in names}
    return sum(bool(folds & set(usual)) for usual in USUAL.values())


def _fits(role: str, names: Sequence[str]) -> list[str]:
    return [name for name in names if folded(name) in USUAL[role]]


def _usual(role: str, names: Sequence[str], *, source: str) -> str:
    fits = _fits(role, names)
    if len(fits) == 1:
        return fits[0]
    if fits:
        also = ' (or --time "" to ignore them)' if role == "time" else ""
        raise DataError(
            f"{source}: columns {fits} could all hold the {_WORDS[role]}; "
            f"say which with --{role} NAME{also}; {_came(names)}"
        )
    one = "; if all rows are of one, say so before the file: buy=FILE" if role == "behavior" else ""
    headless = (
        "" if count_roles(names) else "; if the file has no header, name its columns with --columns"
    )
    raise DataError(
        f"{source}: expected a {_WORDS[role]} column under a usual name "
        f"({', '.join(USUAL[role])}), found none; say which it is with --{role} NAME; "
        f"{_came(names)}{one}{headless}"
    )


def _came(names: Sequence[str]) -> str:
    shown = [name if len(name) <= 40 else name[:39] + "…" for name in names[:30]]
    more = f" and {len(names) - 30} more" if len(names) > 30 else ""
    return f"the columns are {shown}{more}"
