"""How an event log is to be read: column names, behaviour names, what to do with bad rows."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from nmtr.data.reading.timestamps import UNITS
from nmtr.errors import UsageError

POLICIES = ("error", "drop")
_SPELLED = {"tab": "\t", "\\t": "\t", "comma": ",", "space": " "}


@dataclass(frozen=True)
class ReadOptions:
    """What the caller knows about a log; everything left at None is found out from the data.

    user, item, behavior, time: column names; None looks for the usual names, and an empty `time`
    ignores every time column. columns: names for a text file without a header. delimiter: one
    ASCII character; None sniffs the first line. rename: behaviour value -> name. undo: behaviour
    -> the value (after rename) that takes it back. behaviors: the ones to keep, target last; None
    keeps all. unknown: 'error' or 'drop', for values not in `behaviors`. malformed: 'error' or
    'drop', for rows that cannot be read. cap: users with more events are dropped. time_unit: 's',
    'ms', 'us', 'ns' or 'iso'; None guesses. query, table: what to read from a database: SQL, or the
    name of a table or view.

    Raises UsageError when the options contradict each other.
    """

    user: str | None = None
    item: str | None = None
    behavior: str | None = None
    time: str | None = None
    columns: tuple[str, ...] | None = None
    delimiter: str | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
    undo: Mapping[str, str] = field(default_factory=dict)
    behaviors: tuple[str, ...] | None = None
    unknown: str = "error"
    malformed: str = "error"
    cap: int | None = None
    time_unit: str | None = None
    query: str | None = None
    table: str | None = None

    def __post_init__(self) -> None:
        for flag in ("unknown", "malformed"):
            if getattr(self, flag) not in POLICIES:
                came = getattr(self, flag)
                raise UsageError(f"--{flag} expects 'error' or 'drop', got {came!r}")
        if self.time_unit is not None and self.time_unit not in UNITS:
            raise UsageError(f"--time-unit expects one of {list(UNITS)}, got {self.time_unit!r}")
        if self.query is not None and self.table is not None:
            raise UsageError("--query and --table both say what to read; give one of them")
        if self.cap is not None and self.cap < 1:
            raise UsageError(f"--cap expects at least 1 event per user, got {self.cap}")
        if self.delimiter is not None:
            self._check_delimiter(_SPELLED.get(self.delimiter, self.delimiter))
        self._check_behaviors()

    def _check_delimiter(self, delimiter: str) -> None:
        if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n':
            raise UsageError(
                "--delimiter expects one ASCII character other than a quote or a line end, "
                f"or 'tab'; got {self.delimiter!r}"
            )
        object.__setattr__(self, "delimiter", delimiter)

    def _check_behaviors(self) -> None:
        values = list(self.undo.values())
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise UsageError(f"--undo gives {twice} to several behaviours; each value undoes one")
        if self.behaviors is None:
            return
        if not self.behaviors or len(set(self.behaviors)) < len(self.behaviors):
            raise UsageError(
                f"--behaviors expects distinct names, target last; got {list(self.behaviors)}"
            )
        both = sorted(set(values) & set(self.behaviors))
        if both:
            raise UsageError(
                f"{both} stand in --undo and in --behaviors; "
                "a value that undoes a behaviour is none itself, leave it out of --behaviors"
            )
        strangers = sorted(set(self.undo) - set(self.behaviors))
        if strangers:
            raise UsageError(
                f"--undo names {strangers}, which are not in --behaviors {list(self.behaviors)}"
            )

    @property
    def known(self) -> frozenset[str] | None:
        """Every behaviour value (after rename) that may occur; None when all may."""
        if self.behaviors is None:
            return None
        return frozenset(self.behaviors) | frozenset(self.undo.values())
