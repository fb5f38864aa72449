"""Items and persons' doings, made ready to be shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

AT_FIRST = 8  # items of a column
FORBIDDEN = frozenset("\\ \"'<>`")


@dataclass(frozen=True)
class Thing:
    """An item as the catalogue has it; name: its id where there is no other."""

    id: str
    name: str
    category: str
    price: object
    picture: str

    @property
    def named(self) -> bool:
        return self.name != self.id


def thing(item: str, attributes: Mapping[str, Any]) -> Thing:
    text = {each: str(attributes.get(each, "")).strip() for each in ("name", "category")}
    address = picture(attributes.get("image_url"))
    return Thing(item, text["name"] or item, text["category"], attributes.get("price"), address)


def picture(address: object) -> str:
    """The address of a picture if it is http, https, or a path of this server; else nothing."""
    if not isinstance(address, str):
        return ""
    found = address.strip()
    if any(each in FORBIDDEN or not each.isprintable() for each in found):
        return ""
    try:
        parts = urlsplit(found)
    except ValueError:
        return ""
    elsewhere = parts.scheme in ("http", "https") and bool(parts.netloc)
    here = not parts.scheme and not parts.netloc and found.startswith("/")
    return found if elsewhere or here else ""


@dataclass(frozen=True)
class Column:
    """What one did of one behaviour: how many items, and some, each with what it went on to."""

    behavior: str
    total: int
    items: Sequence[tuple[Thing, Sequence[str]]]

    @property
    def more(self) -> int:
        return self.total - len(self.items)


def funnel(done: Mapping[str, Sequence[Thing]]) -> list[Column]:
    """Columns by behaviour, up the cascade; items that went on furthest come first."""
    names = list(done)
    sets = {name: {each.id for each in found} for name, found in done.items()}
    columns = []
    for level, name in enumerate(names):
        later = names[level + 1 :]
        rows = [(each, [of for of in later if each.id in sets[of]]) for each in done[name]]
        rows.sort(key=lambda row: -max((names.index(of) for of in row[1]), default=0))
        columns.append(Column(name, len(rows), rows[:AT_FIRST]))
    return columns


@dataclass(frozen=True)
class Bar:
    """One behaviour of a recommended item; width: per cent of the scale, for probabilities."""

    behavior: str
    value: float
    width: float


@dataclass(frozen=True)
class Pick:
    """A recommended item."""

    position: int
    thing: Thing
    score: float
    bars: Sequence[Bar]


def picks(answer: Mapping[str, Any]) -> tuple[list[Pick], float]:
    """The items of a recommendation, and the probability that is the full width of their bars."""
    values = [value for each in answer["items"] for value in each["behaviors"].values()]
    scale = max(values, default=0.0) if answer["calibrated"] else 0.0
    found = []
    for each in answer["items"]:
        bars = [
            Bar(name, value, 100 * value / scale if scale > 0 else 0.0)
            for name, value in each["behaviors"].items()
        ]
        made = thing(each["item"], each.get("attributes", {}))
        found.append(Pick(each["position"], made, each["score"], bars))
    return found, scale
