"""`nmtr` alone: what lies in this folder, and what comes next; told by names and a mark or two."""

from __future__ import annotations

import json as to_json
import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

LOGS = (".csv", ".tsv", ".jsonl", ".parquet", ".inter", ".gz", ".zst")
NO_LOGS = ("items", "users", "catalog", "catalogue", "products", "customers")  # attributes
MOST, SHOWN, LEVELS = 2000, 8, 3
MARKS = {
    "manifest.json": '"nmtr-prepared"', "config.toml": 'nmtr = "', "refresh.toml": "behaviors = [",
}  # fmt: skip


@dataclass
class Found:
    """What lies in a folder, each a path from it. `unfinished` runs may still be training."""

    logs: list[str] = field(default_factory=list)
    data: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    studies: list[str] = field(default_factory=list)
    bundles: list[str] = field(default_factory=list)
    homes: list[str] = field(default_factory=list)
    cut_short: bool = False


WORDS = {
    "logs": "files that may be logs",
    "data": "prepared data sets",
    "runs": "finished runs",
    "unfinished": "unfinished runs",
    "studies": "studies",
    "bundles": "bundles",
    "homes": "homes of nmtr refresh",
}


def look(home: Path) -> Found:
    """What lies in a folder and those inside it, three levels down and 2,000 entries at most."""
    found = Found()
    count = 0
    for folder, files, kind in _folders(home, LEVELS):
        count += len(files) + 1
        if count > MOST:
            found.cut_short = True
            break
        place = str(folder.relative_to(home))
        if kind == "config.toml":
            done = "model.safetensors" in files
            (found.runs if done else found.unfinished).append(place)
        elif kind:
            kinds = {"manifest.json": found.data, "refresh.toml": found.homes}
            kinds.get(kind, found.studies).append(place)
        else:
            paths = [str((folder / each).relative_to(home)) for each in sorted(files)]
            found.bundles += [each for each in paths if each.endswith(".nmtr")]
            found.logs += [each for each in paths if _may_be_log(each)]
    return found


def _may_be_log(path: str) -> bool:
    """Whether a file reads like a log, and is not called like a catalogue."""
    return path.endswith(LOGS) and Path(path).name.partition(".")[0].casefold() not in NO_LOGS


def _kind(folder: Path, files: set[str]) -> str:
    """The file that tells what a folder of ours is; others call theirs by these names too."""
    for name, mark in MARKS.items():
        with suppress(OSError, ValueError):
            if name in files and mark in (folder / name).read_text(encoding="utf-8"):
                return name
    return "study.db" if "study.db" in files else ""


def _folders(folder: Path, levels: int) -> Iterator[tuple[Path, set[str], str]]:
    """Folders, the names of their files, and what tells them ours, none of which is entered.

    A folder comes before those inside; hidden ones are left out.
    """
    try:
        entries = [each for each in folder.iterdir() if not each.name.startswith(".")]
    except OSError:
        return
    files = {each.name for each in entries if each.is_file()}
    kind = _kind(folder, files)
    yield folder, files, kind
    if levels and not kind:
        for each in sorted(entries):
            if each.is_dir() and not each.is_symlink():
                yield from _folders(each, levels - 1)


def next_commands(found: Found, home: Path) -> list[str]:
    """What comes next, the most likely first."""
    commands = [_resume(home, each) for each in found.unfinished[:1]]
    data = _quoted(found.data)
    if found.runs:
        run = _quoted(found.runs)
        if not found.bundles:
            commands.append(f"nmtr recommend {run} --users ID")
            commands.append(f"nmtr bundle {run} --out model.nmtr")
        if len(found.runs) > 1:
            commands.append(f"nmtr compare {shlex.join(found.runs[:4])}")
    elif found.data and not found.unfinished:
        commands += [f"nmtr audit {data}", f"nmtr train {data} --out run"]
    if found.homes:
        commands.append(f"nmtr refresh {_quoted(found.homes)} --status")
        commands.append(f"nmtr serve {shlex.join([f'{found.homes[0]}/current.nmtr'])}")
    elif found.bundles:
        commands.append(f"nmtr serve {_quoted(found.bundles)}")
    if not found.data and found.logs:
        log = _quoted(found.logs)
        commands.append(f"nmtr prepare {log} --behaviors view,cart,buy --out data")
    return commands or [
        "nmtr demo",
        "nmtr prepare YOUR_LOG.csv --behaviors view,cart,buy --out data",
        "nmtr data get beibei --out beibei",
    ]


def _resume(home: Path, run: str) -> str:
    """The command that goes on with an unfinished run."""
    import tomllib

    config = home / run / "config.toml"
    try:
        data = tomllib.loads(config.read_text(encoding="utf-8")).get("data") or "DATA"
    except (OSError, ValueError):
        data = "DATA"
    return (
        f"nmtr train {shlex.join([data])} --config {shlex.join([f'{run}/config.toml'])} --out "
        + (shlex.join([run]))
    )


def _quoted(paths: list[str]) -> str:
    return shlex.join(paths[:1])


def overview(*, json: bool = False) -> None:
    """Print where one is and what comes next; loads no parser and no torch."""
    home = Path.cwd()
    found = look(home)
    commands = next_commands(found, home)
    if json:
        print(to_json.dumps({"folder": str(home), **asdict(found), "next": commands}, indent=2))
        return
    lines = []
    for name, title in WORDS.items():
        paths = getattr(found, name)
        more = f", and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
        if paths and not (name == "logs" and found.data):
            lines.append(f"  {title}: {', '.join(paths[:SHOWN])}{more}")
    print(f"In {home}:")
    print("\n".join(lines) or "  nothing of nmtr's yet")
    if found.cut_short:
        print("  (there is more here than was looked at)")
    print("Next:")
    print("\n".join(f"  {each}" for each in commands))
    print("nmtr --help lists every command.")
