"""Templates, with every value escaped, and the files that belong to them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from nmtr import __version__
from nmtr.serving.page import numbers

HERE = Path(__file__).parent
KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
FORMATS = ("percent", "metric", "score", "fall", "count", "price", "seconds", "p_value", "moment")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' https: http:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
VIEWS = {
    "/": ("users", "Users"),
    "/visit": ("visit", "A visit"),
    "/model": ("model", "Model"),
    "/experiment": ("experiment", "A/B"),
    "/health": ("health", "Health"),
}


class File(NamedTuple):
    content: bytes
    kind: str


@cache
def files() -> Mapping[str, File]:
    """The static files, by name."""
    found = sorted(each for each in (HERE / "static").iterdir() if each.suffix in KINDS)
    return {each.name: File(each.read_bytes(), KINDS[each.suffix]) for each in found}


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.filters |= {name: getattr(numbers, name) for name in FORMATS}
    contents = b"".join(each.content for each in files().values())
    made.globals |= {"views": VIEWS, "stamp": sha256(contents).hexdigest()[:12]}
    made.globals |= {"version": __version__}
    return made


def render(name: str, **values: Any) -> str:
    """A template with values; one that is missing is an error, so that none goes unnoticed."""
    return _environment().get_template(f"{name}.html").render(**values)
