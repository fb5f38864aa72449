"""What `nmtr serve` can be told, on the command line or in a TOML file."""

from __future__ import annotations

import ipaddress
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmtr.errors import UsageError
from nmtr.options import build, parse_assignments


@dataclass(frozen=True)
class Options:
    """All options of the service; text is taken as on the command line.

    bundle: of the arm `control`, which has the share that the others leave. arm: further ones,
    NAME=BUNDLE:SHARE. experiment: its name; users are dealt out anew under another. data: a folder
    for the embedded store; store: a PostgreSQL URL instead. key_file: the erasure key, which
    PostgreSQL needs. undo: BEHAVIOR=NAME of events that take others back. exploration: share of
    requests whose list is drawn at random from the best exploration_pool items. rate: requests a
    second that one client may make, in bursts of twice as many; 0 for any. max_body: bytes.
    timeout: seconds. workers: threads that score. waiting: requests that may wait for them.
    watch: seconds between looks at the bundles' files; 0 for none.
    """

    bundle: str = ""
    arm: tuple[str, ...] = ()
    experiment: str = ""
    host: str = "127.0.0.1"
    port: int = 8000
    data: str = "nmtr-data"
    store: str = ""
    key_file: str = ""
    tokens_file: str = ""
    undo: tuple[str, ...] = ()
    exploration: float = 0.0
    exploration_pool: int = 100
    rate: float = 1000.0
    max_body: int = 8 * 2**20
    timeout: float = 10.0
    workers: int = 1
    waiting: int = 512
    watch: float = 2.0
    log_level: str = "info"

    def __post_init__(self) -> None:
        if not self.bundle:
            raise ValueError("name a bundle to serve; make one with `nmtr bundle RUN --out FILE`")
        if not 0 <= self.port <= 65_535:
            raise ValueError(f"port: expected 0 to 65535, got {self.port}")
        if not 0 <= self.exploration <= 0.5:
            raise ValueError(f"exploration: expected a share of 0 to 0.5, got {self.exploration}")
        for name, least in LEAST.items():
            value = getattr(self, name)
            if not least <= value < math.inf:
                raise ValueError(f"{name}: expected {least} or more, got {value}")
        if self.log_level not in LEVELS:
            raise ValueError(
                f"log_level: expected one of {', '.join(LEVELS)}, got {self.log_level}"
            )
        self.undone()

    def undone(self) -> dict[str, str]:
        """Behaviours by the names of the events that take them back."""
        try:
            found = {name: kind for kind, name in parse_assignments(self.undo).items()}
        except UsageError as error:
            raise ValueError(f"undo: {error}") from error
        if len(found) < len(self.undo):
            raise ValueError(f"undo: each name takes back one behaviour, got {list(self.undo)}")
        return found

    def is_local(self) -> bool:
        """Whether only this machine can reach the address."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


LEAST = {
    "exploration_pool": 2, "rate": 0, "max_body": 1024, "timeout": 0.1, "workers": 1,
    "waiting": 1, "watch": 0,
}  # fmt: skip
LEVELS = ("debug", "info", "warning", "error")


def read_options(config: Path | None, given: Mapping[str, Any]) -> Options:
    """Options of a TOML file, if any, under those given; UsageError names what is wrong."""
    found: dict[str, Any] = {}
    if config is not None:
        try:
            found = tomllib.loads(config.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"--config {config} cannot be read as TOML ({error})") from error
    where = "serve"
    if config is not None:
        where = f"serve, with {config}" if given else str(config)
    return build(Options, {**found, **given}, where=where)
