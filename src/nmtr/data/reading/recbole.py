"""RecBole's typed headers: `user_id:token`, `timestamp:float` (its atomic files, .inter)."""

from collections.abc import Sequence

from nmtr.data.reading.columns import Roles
from nmtr.errors import DataError

TYPES = ("token", "float", "token_seq", "float_seq")


def untyped(fields: Sequence[str]) -> tuple[list[str], list[str]]:
    """The names and the types of a header whose every field is NAME:TYPE; no types of another."""
    pairs = [field.rpartition(":") for field in fields]
    if not all(name and kind in TYPES for name, _, kind in pairs):
        return list(fields), []
    return [name for name, _, _ in pairs], [kind for _, _, kind in pairs]


def refuse_lists(roles: Roles, names: Sequence[str], types: Sequence[str], *, source: str) -> None:
    """Raise DataError where a column that is to be read holds a list of values in each row."""
    kinds = dict(zip(names, types, strict=False))
    for _, column in roles.items():
        if kinds.get(column, "").endswith("_seq"):
            raise DataError(
                f"{source}: expected one value a row in {column}, got {column}:{kinds[column]}, a "
                "list of them; write a row for each value, or name another column with --user, "
                "--item, --behavior or --time"
            )
