"""Load from wrk, an ordinary tool (`apt-get install wrk`), by small Lua scripts."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

# Random users, each a request; `pause` ms on average between an answer and the next request.
RECOMMEND = """
math.randomseed({seed})
request = function()
  return wrk.format("GET", "/v1/recommendations?user=" .. math.random(0, {users} - 1))
end
"""
PAUSE = """
delay = function() return math.floor(-math.log(1 - math.random()) * {pause} + 0.5) end
"""
# Events with ids of their own, `size` a call; bodies differ in their ids only.
EVENTS = """
math.randomseed({seed})
local count = 0
local headers = {{["Content-Type"] = "application/json"}}
local function event()
  count = count + 1
  return '{{"event_id":"{seed}-' .. count .. '","user":"' .. math.random(0, {users} - 1)
    .. '","item":"' .. math.random(0, {items} - 1) .. '","behavior":"{behavior}"}}'
end
request = function()
  if {size} == 1 then return wrk.format("POST", "/v1/events", headers, event()) end
  local all = {{}}
  for n = 1, {size} do all[n] = event() end
  local body = '{{"events":[' .. table.concat(all, ",") .. ']}}'
  return wrk.format("POST", "/v1/events", headers, body)
end
"""
UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


class Load(NamedTuple):
    """Answers a second, latencies in ms, and answers that were none or not 2xx."""

    rate: float
    p50: float
    p99: float
    failed: int


def run(url: str, script: str, *, folder: Path, connections: int, seconds: float) -> Load:
    """One thread of wrk with so many connections."""
    file = folder / "load.lua"
    file.write_text(script)
    command = [
        program(), "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency",
        "--timeout", "10s", "-s", str(file), url,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"wrk: {done.stdout}{done.stderr}")
    return parse(done.stdout)


def program() -> str:
    found = shutil.which("wrk")
    if not found:
        raise SystemExit("wrk is missing: apt-get install wrk")
    return found


def parse(text: str) -> Load:
    """What wrk says of a run."""
    rate = float(_one(r"Requests/sec:\s+([\d.]+)", text))
    p50, p99 = (_ms(_one(rf"\b{each}%\s+([\d.]+[a-z]+)", text)) for each in (50, 99))
    failed = sum(map(int, re.findall(r"(?:connect|read|write|timeout) (\d+)", text)))
    failed += sum(map(int, re.findall(r"Non-2xx or 3xx responses: (\d+)", text)))
    return Load(rate, p50, p99, failed)


def _one(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if not found:
        raise RuntimeError(f"wrk said something else than usual:\n{text}")
    return found[1]


def _ms(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)([a-z]+)", text).groups()  # type: ignore[union-attr]
    return float(number) * UNITS[unit]
