"""Who was erased: keyed hashes, from which nobody without the key learns an id."""

from __future__ import annotations

import hmac
import os
import secrets
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Literal

from sqlalchemy import Connection, func, select, update

from nmtr.errors import DamagedError, UsageError
from nmtr.serving.store.database import parts
from nmtr.serving.store.errors import StoreError
from nmtr.serving.store.schema import tombstones
from nmtr.serving.store.values import get, put

SHORTEST = 16  # bytes of a key
CHECK = "erasure_key_check"
Kind = Literal["user", "visitor"]
Person = tuple[Kind, str]


class Tombstones:
    """Makes and recognises the hashes of erased persons with one key."""

    def __init__(self, key: bytes) -> None:
        if len(key) < SHORTEST:
            raise UsageError(
                f"the erasure key: expected at least {SHORTEST} bytes, got {len(key)}; make one "
                "with `openssl rand -hex 32`"
            )
        self._key = key

    def hash(self, person: tuple[str, str]) -> str:
        """HMAC-SHA256 of who it is, in hexadecimal; a user and a visitor of one id differ."""
        return hmac.digest(self._key, "\0".join(person).encode(), "sha256").hex()

    def check(self, connection: Connection, *, where: str) -> None:
        """Keep a sign of the key in a new store; raise DamagedError where another key was used.

        With another key those who were erased would not be recognised.
        """
        mine = self.hash(("check", ""))
        kept = get(connection, CHECK)
        if kept is None:
            put(connection, CHECK, mine)
        elif not hmac.compare_digest(kept, mine):
            raise DamagedError(
                f"{where}: the erasure key is not the one that this store was made with, so "
                "erased persons would not be recognised; give that key"
            )

    def erased(self, connection: Connection, persons: Iterable[Person]) -> dict[Person, str]:
        """Those of `persons` who were erased, with their hashes."""
        hashes = {self.hash(person): person for person in persons}
        found: dict[Person, str] = {}
        for part in parts(hashes):
            query = select(tombstones.c.hash).where(tombstones.c.hash.in_(part))
            found |= {hashes[each]: each for each in connection.execute(query).scalars()}
        return found


def count_refused(connection: Connection, refused: dict[str, int]) -> None:
    """Add events that were not stored to the tombstones of those they are about."""
    for each, events in refused.items():
        user = select(func.coalesce(tombstones.c.user_hash, tombstones.c.hash)).where(
            tombstones.c.hash == each
        )
        connection.execute(
            update(tombstones)
            .where(tombstones.c.hash == user.scalar_subquery())
            .values(refused=tombstones.c.refused + events)
        )


def read_key(path: Path, *, make: bool) -> bytes:
    """The key in a file; `make` one at random, which its owner alone can read, if missing.

    Raises DamagedError where it is missing and must not be made, StoreError where it cannot be.
    """
    try:
        if not path.exists() and make:
            _make_key(path)
        return path.read_bytes().strip()
    except FileNotFoundError as error:
        raise DamagedError(
            f"{path}, the store's erasure key, is missing; put it back, since without it erased "
            "persons are not recognised"
        ) from error
    except OSError as error:
        raise StoreError(f"{path}: no erasure key can be kept there ({error.strerror})") from error


def _make_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(secrets.token_hex(32) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    with suppress(FileExistsError):
        os.link(temporary, path)  # unlike a renaming, never over another server's key
    temporary.unlink()
