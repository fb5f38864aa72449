"""The service's benchmark reads what wrk says, and says what came out."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

SAID = """\
Running 10s test @ http://127.0.0.1:8000
  1 threads and 32 connections
  Latency Distribution
     50%    9.50ms
     75%   12.00ms
     99%    1.25s
  4357 requests in 8.01s, 15.99MB read
  Socket errors: connect 0, read 3, write 0, timeout 2
  Non-2xx or 3xx responses: 7
Requests/sec:    543.61
"""


@pytest.fixture
def serve(benchmark_module: Callable[[str], ModuleType]) -> Any:
    return benchmark_module("serve")


def test_what_wrk_says_is_read(serve: Any) -> None:
    assert serve.wrk.parse(SAID) == (543.61, 9.5, 1250.0, 12)
    with pytest.raises(RuntimeError, match="something else"):
        serve.wrk.parse("no such host")


def test_pauses_make_the_rate_that_is_asked_for(serve: Any) -> None:
    assert serve.pause_for(500) == pytest.approx(32 / 500 * 1000 - 14)
    assert serve.pause_for(1e9) == 1


def test_the_page_gives_the_verdicts(serve: Any) -> None:
    def of(task: str, round_: int, **values: float) -> list[Any]:
        return [
            serve.Measurement(task, serve.SERVER, "ours", 1, round_, name, value)
            for name, value in values.items()
        ]

    found = [
        *of("recommend, nmtr-gmf", 1, per_second=1200.0, half_p99_ms=20.0, failed_requests=0),
        *of("recommend, nmtr-gmf", 2, per_second=900.0, half_p99_ms=60.0, failed_requests=1),
        *of("recommend, nmtr-neumf", 1, per_second=500.0, half_p99_ms=70.0, failed_requests=0),
        *of("events, one by one", 1, per_second=1500.0, p99_ms=9.0),
        *of("soak", 1, seconds=60.0, reloads=11.0, first_third_mb=400.0, last_third_mb=401.0),
    ]
    text = serve.page(found, {"date": "?", "load": "?"})
    gmf = next(line for line in text.splitlines() if "recommend, nmtr-gmf" in line)
    assert gmf.endswith("| yes |"), "1,050 and 40 ms in the middle"
    neumf = next(line for line in text.splitlines() if "nmtr-neumf" in line)
    assert neumf.endswith("| no |"), "99 % wait too long"
    assert "in all: 1." in text
    assert "| one by one | 1,500 | 1,000 |" in text
    assert "| last third mb | 401 |" in text
