"""The command that checks an installation."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from nmtr import __version__
from nmtr.cli.show import emit_json, say

EXTRAS = {
    "plots": ("matplotlib",),
    "serve": ("fastapi", "orjson", "prometheus_client", "pydantic", "sqlalchemy", "uvicorn"),
    "postgres": ("psycopg",),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "tensorboard": ("tensorboard",),
    "mlflow": ("mlflow",),
    "ann": ("faiss",),
}
GIB = 2**30


@dataclass(frozen=True)
class Check:
    """What was looked at, how it stands, and what to do where it is not well."""

    name: str
    state: Literal["ok", "note", "failed"]
    found: str
    advice: str = ""


def doctor(*, json: bool = False) -> None:
    """Check the installation: versions, threads, caches, memory, disk, extras, and a tiny training.

    Ends with exit code 1 where something that nmtr needs does not work.

    Parameters
    ----------
    json
        print as JSON.
    """
    from nmtr.errors import NmtrError

    checks = []
    for each in examine():
        checks.append(each)
        if not json:
            advice = f" -> {each.advice}" if each.advice else ""
            say(f"{each.state:<7} {each.name:<12} {each.found}{advice}")
    if json:
        emit_json({"nmtr": __version__, "checks": [asdict(each) for each in checks]})
    failed = [each.name for each in checks if each.state == "failed"]
    if failed:
        raise NmtrError(f"not well: {', '.join(failed)}")
    if not json:
        say("All that nmtr needs works here.")


def examine() -> Iterator[Check]:
    """Every check, in order; one that raises has failed, and the others go on."""
    looks: tuple[tuple[str, Callable[[], Check]], ...] = (
        ("python", _python),
        ("torch", _torch),
        ("packages", _packages),
        ("numba cache", _numba_cache),
        ("memory", _memory),
        ("disk", _disk),
        ("gpu", _gpu),
        ("extras", _extras),
        ("self test", _self_test),
    )
    for name, look in looks:
        try:
            yield look()
        except Exception as error:  # whatever is broken here is what was asked about
            yield Check(name, "failed", f"{type(error).__name__}: {error}", "install nmtr again")


def _python() -> Check:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Check("python", "ok", f"{found}, nmtr {__version__} in {Path(__file__).parent.parent}")


def _torch() -> Check:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = torch.get_num_threads()
    found = f"{torch.__version__}, {threads} thread(s) on {cores} core(s)"
    if threads > (cores or threads):
        return Check("torch", "note", found, f"set OMP_NUM_THREADS={cores}, or --set threads=...")
    return Check("torch", "ok", found)


def _packages() -> Check:
    names = ("numpy", "scipy", "polars", "numba", "optuna", "safetensors", "cyclopts")
    return Check("packages", "ok", ", ".join(f"{each} {metadata.version(each)}" for each in names))


def _numba_cache() -> Check:
    from nmtr import cache

    place = cache.place()
    if place is None or place == cache.provided:
        advice = "set NUMBA_CACHE_DIR to a folder that can be, or each start compiles anew"
        return Check("numba cache", "note", "none that can be written", advice)
    return Check("numba cache", "ok", f"writable, at {place}")


def _memory() -> Check:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        sizes = {each.split(":")[0]: int(each.split()[1]) * 1024 for each in lines}
        free, whole = sizes["MemAvailable"], sizes["MemTotal"]
    except (OSError, KeyError, ValueError):
        return Check("memory", "note", "not known on this system")
    found = f"{free / GIB:.1f} of {whole / GIB:.1f} GiB free"
    if free < GIB:
        return Check("memory", "note", found, "logs of millions of events need a GiB or more")
    return Check("memory", "ok", found)


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free
    if not os.access(Path.cwd(), os.W_OK):
        return Check("disk", "note", f"{Path.cwd()} is not writable", "work in a folder that is")
    if free < GIB:
        return Check("disk", "note", f"{free / GIB:.1f} GiB free here", "make room")
    return Check("disk", "ok", f"{free / GIB:.1f} GiB free here")


def _gpu() -> Check:
    import torch

    if torch.cuda.is_available():
        return Check("gpu", "ok", torch.cuda.get_device_name(0))
    return Check("gpu", "ok", "none that torch can use; nmtr works on the CPU")


def _extras() -> Check:
    there = [name for name, each in EXTRAS.items() if all(map(find_spec, each))]
    lacking = [name for name in EXTRAS if name not in there]
    advice = f"pip install 'nmtr[{lacking[0]}]', as you need it" if lacking else ""
    found = f"{', '.join(there) or 'none'} there; {', '.join(lacking) or 'none'} not"
    return Check("extras", "note" if lacking else "ok", found, advice)


def _self_test() -> Check:
    """Simulate, prepare, train, save, open and rank."""
    from nmtr.data.events import ReadOptions
    from nmtr.data.simulator import SimulatorConfig, simulate
    from nmtr.estimator import NMTR, interactions

    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        simulate(SimulatorConfig(users=80, items=40, events=3000), home / "shop")
        behaviors = ("view", "cart", "buy")
        options = ReadOptions(behaviors=behaviors, unknown="drop")
        data = interactions(f"{home}/shop/events-*.parquet", behaviors=behaviors, options=options)
        NMTR(embedding=4, epochs=2, threads=1).fit(data).save(home / "model")
        found = NMTR.load(home / "model").recommend(data.users.ids.head(1), k=5)
        if found.height != 5:
            raise RuntimeError(f"5 items were asked for, and {found.height} came")
    took = time.perf_counter() - began
    return Check("self test", "ok", f"trained, saved, opened and ranked in {took:.1f} s")
