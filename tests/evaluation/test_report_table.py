"""The report's table is whole at any usual width of a terminal."""

from __future__ import annotations

from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from nmtr.evaluation.metrics import CUTOFFS
from nmtr.evaluation.report import SLICES, Result, table

USERS = 12_000


@pytest.mark.parametrize("width", [80, 100, 116, 120, 131, 132, 160])
def test_no_name_and_no_number_is_cut_short(width: int) -> None:
    values = {f"{name}@{k}": np.full(USERS, 0.125) for name in ("hr", "ndcg") for k in CUTOFFS}
    users = {part: np.arange(USERS) for part in SLICES}
    results = [
        Result(name, users, dict.fromkeys(SLICES, values))
        for name in ("nmtr-gmf", "popularity", "replay")
    ]
    models = {each.model: each.summary() for each in results}
    report = {"in_words": "time, test", "users": USERS, "models": models}
    stream = StringIO()
    Console(width=width, file=stream).print(table(report, width=width))
    text = stream.getvalue()
    assert "…" not in text
    assert "in-funnel (12,000)" in text
    assert text.count("popularity") == len(SLICES)
    assert max(map(len, text.splitlines())) <= width
