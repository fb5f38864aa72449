"""The store of the service. `Store` opens it; the rest is what goes in and comes out."""

from nmtr.serving.store.errors import (
    BusyError,
    ErasedError,
    IdentityConflictError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
)
from nmtr.serving.store.records import Erasure, Event, Exposure, Receipt, Stored
from nmtr.serving.store.stock import Stock
from nmtr.serving.store.store import Store

__all__ = [
    "BusyError",
    "ErasedError",
    "Erasure",
    "Event",
    "Exposure",
    "IdentityConflictError",
    "Receipt",
    "Stock",
    "Store",
    "StoreError",
    "StoreFullError",
    "StoreReadOnlyError",
    "StoreUnavailableError",
    "Stored",
]
