"""The store that a command was told of: a folder, or a URL with a key."""

from __future__ import annotations

import os
from pathlib import Path

from nmtr.errors import UsageError
from nmtr.serving.store.store import Store

STORE, KEY = "NMTR_STORE", "NMTR_ERASURE_KEY"  # in the environment
FILE = "store.db"


def open_store(data: str, url: str, key_file: str, *, make: bool = True) -> Store:
    """The embedded store in the folder `data`, or the PostgreSQL at `url`, also from NMTR_STORE.

    key_file: holds the erasure key that PostgreSQL needs, also from NMTR_ERASURE_KEY. make: an
    embedded one that is not there. Raises UsageError where one of them is missing, and what Store
    raises.
    """
    url = url or os.environ.get(STORE, "")
    if not url and not (make or (Path(data) / FILE).exists()):
        raise UsageError(f"{data} holds no store ({FILE}); name the folder that `nmtr serve` uses")
    if not url:
        return Store(Path(data) / FILE)
    key = os.environ.get(KEY, "").encode()
    if key_file:
        try:
            key = Path(key_file).read_bytes().strip()
        except OSError as error:
            raise UsageError(f"the key file {key_file} cannot be read ({error})") from error
    if not key:
        raise UsageError(f"a store in PostgreSQL needs an erasure key: give --key-file or {KEY}")
    return Store(url, key=key)
