"""Where events lie, as a caller writes it: a path, a URL, a table; and what may be shown of it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

from nmtr.errors import UsageError

# What Polars reads by itself, with credentials from the environment.
OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "azure", "adl", "abfs", "abfss", "hf")
TABLES = ("delta", "iceberg")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_TABLE = re.compile(rf"({'|'.join(TABLES)}):(.+)", re.DOTALL)
_HIDDEN = "***"


@dataclass(frozen=True)
class Place:
    """Something that is no local file: objects by a glob, a table, or a database.

    url: as given, which may hold a password; never to be shown. `str` gives what may be.
    """

    url: str = field(repr=False)

    @property
    def name(self) -> str:
        """For messages."""
        return str(self)

    @property
    def suffixes(self) -> list[str]:
        """None: what lies there is told by the URL, not by a name's ends."""
        return []

    def __str__(self) -> str:
        return without_secrets(self.url)


def from_environment(text: str) -> str:
    """The URL that `env:NAME` stands for; any other text as it is.

    Raises UsageError where the variable is not set.
    """
    if not text.startswith("env:"):
        return text
    name = text.removeprefix("env:")
    if not os.environ.get(name):
        raise UsageError(f"{text}: expected a URL in the environment variable {name}, it is empty")
    return os.environ[name]


def scheme_of(text: str) -> str:
    """'s3' of `s3://bucket/log`, 'delta' of `delta:table`, '' of a local path."""
    found = _TABLE.fullmatch(text) or _URL.fullmatch(text)
    return found[1].lower() if found else ""


def without_secrets(text: str) -> str:
    """A place as it may be shown and recorded: without a password, a query or a fragment."""
    table = _TABLE.fullmatch(text)
    if table:
        return f"{table[1]}:{without_secrets(table[2])}"
    found = _URL.fullmatch(text)
    if found is None:
        return text
    scheme, rest = found[1], found[2]
    host, slash, path = rest.partition("/")
    if _is_store(scheme) and "@" not in host:  # an object's name may hold an @
        return f"{scheme}://{_plain(host + slash + path)}"
    marks = [rest.find(mark) for mark in "?#" if mark in rest]
    user, at, host = rest[: min(marks, default=len(rest))].rpartition("@")
    if not at and "@" in rest:  # of a password with a ? no one can tell where it ends
        return f"{scheme}://{_HIDDEN}"
    name = user.partition(":")[0]
    return f"{scheme}://{name}{at}{_plain(host)}"


def hide(text: str, url: str) -> str:
    """A message of another library about a URL, without what `without_secrets` leaves out of it."""
    found = _URL.search(url)
    if found is None:
        return text
    rest = found[2]
    user, at, _ = rest.rpartition("@")
    password = user.partition(":")[2] if at else ""
    _, _, query = rest.partition("?")
    secrets = {password, unquote(password), query, *(value for _, value in parse_qsl(query))}
    for secret in sorted(secrets - {""}, key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    return text


def _is_store(scheme: str) -> bool:
    return scheme.lower() in OBJECT_STORES


def _plain(text: str) -> str:
    return re.split(r"[?#]", text, maxsplit=1)[0]
