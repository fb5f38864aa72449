"""The attributes of a night's users and items: those that are named, or what is served has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl

from nmtr.data.features import with_attributes
from nmtr.data.interactions import Interactions
from nmtr.data.vocabulary import Vocabulary
from nmtr.errors import UsageError
from nmtr.serving.bundle import Bundle
from nmtr.serving.refresh.options import Options


def described(
    data: Interactions, options: Options, served: Bundle | None, *, say: Callable[[str], None]
) -> Interactions:
    """The data with the attributes in the options' files; without, with the served catalogue.

    Raises UsageError where what is served learned from attributes of users, and none are named.
    """
    items, users = (Path(each) if each else None for each in (options.items, options.users))
    data, notes = with_attributes(data, items=items, users=users)
    for note in notes:
        say(f"note: {note}")
    if served is None:
        return data
    if data.item_attributes is None and served.catalogue is not None:
        carried = _carried(served.catalogue, served.data.items, data.items)
        data = replace(data, item_attributes=carried)
    same = served.settings.model == options.model
    if same and data.user_attributes is None and _by_users(served):
        raise UsageError(
            f"the {options.model} that is served learned from attributes of users; name their file "
            "with --users, and give those of the new users too"
        )
    return data


def _carried(catalogue: pl.DataFrame, old: Vocabulary, new: Vocabulary) -> pl.DataFrame:
    """A catalogue of the old items in the order of the new ones, null where it lacks one."""
    rows = pl.Series("row", old.indices(new.ids))
    return catalogue.select(pl.all().gather(rows.set(rows < 0, None)))


def _by_users(bundle: Bundle) -> bool:
    """Whether a model has learned fields of users."""
    table = bundle.model.state_dict().get("of_user") if bundle.model.describes else None
    return table is not None and len(table) > 0
