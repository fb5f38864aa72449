"""Who may do what: bearer tokens, each with scopes; kept as hashes, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from nmtr.errors import UsageError

VARIABLE = "NMTR_TOKENS"
SCOPES = ("read", "write")
SHORTEST = 16  # characters
ENTRY = re.compile(r"(?P<scopes>[a-z]+(\+[a-z]+)*):(?P<token>[!-~]+)")


class Caller(NamedTuple):
    """name: a short hash that tells callers apart without telling their tokens."""

    name: str
    scopes: frozenset[str]


class Tokens:
    """The tokens that are accepted; none at all means that nobody needs one."""

    def __init__(self, scopes: Mapping[bytes, frozenset[str]]) -> None:
        """scopes: by the sha256 of each token."""
        self._callers = [
            (digest, Caller(hashlib.sha256(digest).hexdigest()[:12], each))
            for digest, each in scopes.items()
        ]

    def __bool__(self) -> bool:
        return bool(self._callers)

    def caller(self, authorization: bytes) -> Caller | None:
        """Whose token an Authorization header holds."""
        scheme, _, token = authorization.partition(b" ")
        digest = hashlib.sha256(token.strip()).digest()
        found = None
        for each, caller in self._callers:  # all of them: time tells nothing
            if hmac.compare_digest(each, digest):
                found = caller
        return found if scheme.lower() == b"bearer" else None


def read_tokens(file: str, environment: Mapping[str, str]) -> Tokens:
    """Tokens of a file and of the variable NMTR_TOKENS: SCOPES:TOKEN, apart by space or comma.

    SCOPES: read, write or read+write; a line that begins with # is a comment. Raises UsageError,
    which never quotes a token.
    """
    texts = {VARIABLE: environment.get(VARIABLE, "")}
    if file:
        try:
            texts[file] = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"the tokens file {file} cannot be read ({error})") from error
    found: dict[bytes, frozenset[str]] = {}
    for where, text in texts.items():
        lines = [each for each in text.splitlines() if not each.lstrip().startswith("#")]
        for number, entry in enumerate(re.split(r"[\s,]+", " ".join(lines).strip()), 1):
            if entry:
                token, scopes = _entry(entry, f"{where}, entry {number}")
                found[token] = found.get(token, frozenset()) | scopes
    if file and not found:
        raise UsageError(f"the tokens file {file} holds no token; write lines read:TOKEN")
    return Tokens(found)


def _entry(text: str, where: str) -> tuple[bytes, frozenset[str]]:
    match = ENTRY.fullmatch(text)
    scopes = frozenset(match["scopes"].split("+")) if match else frozenset()
    if match is None or not scopes <= set(SCOPES):
        raise UsageError(f"{where}: expected read:TOKEN, write:TOKEN or read+write:TOKEN")
    if len(match["token"]) < SHORTEST:
        raise UsageError(
            f"{where}: expected a token of {SHORTEST} characters or more; make one with "
            "`openssl rand -hex 32`"
        )
    return hashlib.sha256(match["token"].encode()).digest(), scopes
