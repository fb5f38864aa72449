"""What a store cannot do, each as an error of its own that says what to do."""

from nmtr.errors import NmtrError


class StoreError(NmtrError):
    """The store could not do what was asked; nothing of it was acknowledged.

    After an error a call may still have been stored, where the failure came after the commit or
    during it. A caller who sends event ids may repeat it safely.
    """


class BusyError(StoreError):
    """Too much is waiting, or another process holds the store: ask again in a moment."""


class StoreFullError(StoreError):
    """The disk, or the store's quota, is full."""


class StoreReadOnlyError(StoreError):
    """The store can be read and not written."""


class StoreUnavailableError(StoreError):
    """The store is gone, closed or cannot be reached; it is tried again at the next call."""


class IdentityConflictError(StoreError):
    """The visitor already belongs to another user."""


class ErasedError(StoreError):
    """The person was erased and nothing about them is stored."""
