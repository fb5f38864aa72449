"""A server's writing half: PLACE NAME CALLS THREADS, a line on standard output for each receipt.

Each thread sends calls of one event and of seven in turn, and says so when a call is acknowledged.
CALLS of a thread, or 0 for no end.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading

from nmtr.serving.store import Event, Store

KEY = b"a key that only the tests have"


def events(name: str, call: int) -> list[Event]:
    return [
        Event(f"item-{part}", "view", f"user-{call % 50}", event_id=f"{name}:{call}:{part}")
        for part in range(7 if call % 2 else 1)
    ]


def send(store: Store, name: str, calls: int) -> None:
    for call in range(calls) if calls else itertools.count():
        receipt = store.append(events(name, call))
        os.write(1, f"{name} {call} {receipt.accepted} {receipt.duplicates}\n".encode())


def main() -> None:
    place, name, calls, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    store = Store(place, key=KEY)
    senders = [
        threading.Thread(
            target=send, args=(store, f"{name}.{index}" if threads > 1 else name, calls)
        )
        for index in range(threads)
    ]
    for each in senders:
        each.start()
    for each in senders:
        each.join()
    store.close()


if __name__ == "__main__":
    main()
