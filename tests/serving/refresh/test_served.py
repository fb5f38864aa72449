"""A real server on a home: nobody notices that what it serves is exchanged, but by the answers."""

from __future__ import annotations

import time
from pathlib import Path

from tests.serving.http.test_process import START, Start, asked, model_of, start
from tests.serving.refresh.conftest import Frames, Nightly

from nmtr.serving.bundle import open_bundle
from nmtr.serving.refresh.home import Home
from nmtr.serving.store import Store

__all__ = ["start"]


def test_a_server_takes_what_is_promoted_and_rolled_back_without_dropping_a_request(
    home: Home, days: Frames, nightly: Nightly, start: Start, tmp_path: Path
) -> None:
    nightly(days(0, 40), 40)
    server = start(home.current, data=tmp_path / "data")

    def comes() -> str:
        """The home's bundle, once the server has taken it."""
        wanted, end = open_bundle(home.current).fingerprint, time.monotonic() + START
        while model_of(server) != wanted:
            assert time.monotonic() < end
            time.sleep(0.02)
        return wanted

    with asked(server, 2) as seen:
        first = comes()
        when = int(days(44, 45)["timestamp"][0])
        items = [str(each) for each in days(0, 40)["item_id"].unique().sort().head(5).to_list()]
        events = [
            {"user": "someone", "item": each, "behavior": "view", "timestamp": when}
            for each in items
        ]
        assert server.ask("POST", "/v1/events", {"events": events})[0] == 200
        with Store(tmp_path / "data" / "store.db") as store:
            assert nightly(days(40, 45), 45, {"store": store}).outcome == "promoted"
        second = comes()
        assert "someone" in open_bundle(home.current).data.users.ids
        home.roll_back()
        assert comes() == first != second
        while len(seen) < 2:
            time.sleep(0.01)
    assert set(seen) == {first, second}
