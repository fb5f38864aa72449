"""Options as data: from text and TOML to frozen dataclasses, with errors that name the option."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from nmtr.errors import UsageError

T = TypeVar("T")


def build(kind: type[T], options: Mapping[str, Any], *, where: str) -> T:
    """Make a dataclass from named values, text or typed; `where` begins the error."""
    hints = get_type_hints(kind)
    known = [each.name for each in fields(kind)]  # type: ignore[arg-type]  # any dataclass
    values = {}
    for name, value in options.items():
        check_name(name, known, where=where)
        try:
            values[name] = _convert(value, hints[name])
        except (TypeError, ValueError) as error:
            raise UsageError(f"{where}, option '{name}': {error}") from error
    try:
        return kind(**values)
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error


def check_name(name: str, known: Sequence[str], *, where: str) -> None:
    """Raise UsageError, with the name that was likely meant, where an option is not known."""
    if name in known:
        return
    close = closest(name, known)
    hint = f"; did you mean '{close}'?" if close else f"; it has {', '.join(known) or 'none'}"
    raise UsageError(f"{where} has no option '{name}'{hint}")


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was likely meant, whatever the case of its letters; None if none is."""
    by_key = {_key(each): each for each in known}
    found = difflib.get_close_matches(_key(name), by_key, 1)
    return by_key[found[0]] if found else None


def unknown(what: str, name: str, known: Collection[str]) -> UsageError:
    """The error for a name that is none of those known, with the one that was likely meant."""
    close = closest(name, known)
    hint = f"did you mean '{close}'? It is " if close else ""
    return UsageError(f"unknown {what} '{name}'; {hint}one of {', '.join(known)}")


def _key(name: str) -> str:
    return name.casefold().replace("_", "-")


def parse_assignments(texts: Sequence[str]) -> dict[str, str]:
    """['a=1', 'b=x'] to {'a': '1', 'b': 'x'}; raises UsageError on any other form."""
    found = {}
    for text in texts:
        name, mark, value = text.partition("=")
        if not mark or not name:
            raise UsageError(f"expected NAME=VALUE, got '{text}'")
        found[name.strip()] = value.strip()
    return found


def _convert(value: Any, hint: Any) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is tuple:
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, Sequence):
            parts = (parts,)
        found = tuple(_convert(each, arguments[0]) for each in parts if each != "")
        return value if found == value else found  # scikit-learn's clone asks for the same object
    if hint is bool and isinstance(value, str):
        if value.lower() not in ("true", "false"):
            raise ValueError(f"expected true or false, got '{value}'")
        return value.lower() == "true"
    if hint in (int, float):
        return _number(value, hint)
    if hint in (str, bool) and not isinstance(value, hint):
        raise ValueError(f"expected {hint.__name__}, got {value!r}")
    return value


def _number(value: Any, hint: type[int] | type[float]) -> int | float:
    expected = ValueError(f"expected a {'whole ' if hint is int else ''}number, got {value!r}")
    if isinstance(value, bool):
        raise expected
    try:
        number = hint(value)
    except (TypeError, ValueError, OverflowError):
        raise expected from None
    if not math.isfinite(number) or (not isinstance(value, str) and value != number):
        raise expected
    return number
