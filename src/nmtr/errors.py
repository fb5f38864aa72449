"""Errors that a user can act on: what was expected, what came, where, what to do."""


class NmtrError(Exception):
    """Something failed: what was expected, what came and what to do (exit code 1)."""

    exit_code = 1


class UsageError(NmtrError):
    """The call itself is wrong: an option, a name, a missing argument (exit code 2)."""

    exit_code = 2


class ElsewhereError(NmtrError):
    """Another process of the group failed, and has said why."""


class UnknownError(UsageError):
    """An id that the model does not know."""


class DataError(NmtrError):
    """The input data are not what was promised."""


class DamagedError(NmtrError):
    """A file that nmtr wrote is incomplete, altered, or of a version that this nmtr cannot read."""
