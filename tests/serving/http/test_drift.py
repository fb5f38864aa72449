"""Figures of drift: hand-computed, and as /metrics shows them."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient
from tests.serving.http.conftest import Serve

from nmtr.serving.bundle import open_bundle
from nmtr.serving.http.drift import stability
from nmtr.serving.refresh.purging import write_without


def test_the_stability_index_by_hand() -> None:
    assert stability([10, 30], [100, 300]) == 0
    # (.5 - .25) ln(.5 / .25) + (.5 - .75) ln(.5 / .75)
    expected = 0.25 * math.log(2) - 0.25 * math.log(2 / 3)
    assert stability([1, 1], [1, 3]) == pytest.approx(expected)
    assert stability([1, 3], [1, 1]) == pytest.approx(expected), "it knows no direction"
    assert 1 < stability([0, 1], [1, 1]) < math.inf
    assert math.isnan(stability([0, 0], [1, 1]))


def figure(client: TestClient, name: str) -> float:
    """A metric by its name and labels."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else math.nan


def test_metrics_show_who_asks_what_comes_and_how_old_the_bundle_is(
    client: TestClient, bundled: Path
) -> None:
    bundle = open_bundle(bundled)
    user, item = str(bundle.data.users.ids[0]), str(bundle.data.items.ids[0])
    for who in (f"?user={user}", "?user=nobody-knows", "", ""):
        assert client.get(f"/v1/recommendations{who}").status_code == 200
    for who, count in (("known", 1), ("stranger", 1), ("nobody", 2)):
        assert figure(client, f'nmtr_lists_for_total{{arm="control",who="{who}"}}') == count
    manifest = bundle.manifest
    trained = figure(client, 'nmtr_model_trained_before_timestamp_seconds{arm="control"}')
    assert trained == manifest["trained_before"] / 1000
    assert figure(client, 'nmtr_model_created_timestamp_seconds{arm="control"}') > 1.7e9
    rates = manifest["events_per_day"]
    assert figure(client, 'nmtr_trained_events_per_day{behavior="view"}') == rates["view"]

    assert math.isnan(figure(client, "nmtr_behavior_psi"))
    events = [
        {"user": "a", "item": item if n % 4 else "no-such-thing", "behavior": "buy"}
        for n in range(60)
    ]
    sent = {"events": events}
    for _ in range(2):
        assert client.post("/v1/events", json=sent).status_code == 200
    assert figure(client, 'nmtr_events_by_behavior_total{behavior="buy"}') == 120
    assert figure(client, 'nmtr_event_items_total{item="known"}') == 90
    assert figure(client, 'nmtr_event_items_total{item="unknown"}') == 30
    expected = stability([0, 0, 120], list(rates.values()))
    assert figure(client, "nmtr_behavior_psi") == pytest.approx(expected)
    assert client.post("/v1/reload").status_code == 200
    assert math.isnan(figure(client, "nmtr_behavior_psi")), (
        "a bundle is compared with what came since"
    )


def test_metrics_show_by_when_a_bundle_must_go(serve: Serve, bundled: Path, tmp_path: Path) -> None:
    name = 'nmtr_model_retire_by_timestamp_seconds{arm="control"}'
    assert math.isnan(figure(serve(), name))
    bundle = open_bundle(bundled)
    keep = np.arange(bundle.data.n_users) > 0
    write_without(bundle, keep, tmp_path / "less.nmtr", deadline=1_900_000_000_000)
    marked = serve(bundle=str(tmp_path / "less.nmtr"))
    assert figure(marked, name) == 1.9e9
