"""What the system refused in the middle of a command, said with what to do about it."""

from __future__ import annotations

import errno
import os
import re

ADVICE = {
    errno.ENOSPC: "make room, and give the same command again",
    errno.EDQUOT: "make room within the quota, and give the same command again",
    errno.EFBIG: "see the limit on the size of files (`ulimit -f`)",
    errno.EACCES: "see whose it is (`ls -ld`), and as whom nmtr runs",
    errno.EPERM: "see whose it is (`ls -ld`), and as whom nmtr runs",
    errno.EROFS: "choose a place that can be written",
    errno.EMFILE: "raise the number of open files (`ulimit -n`)",
    errno.EIO: "the disk, or what it is reached by, fails: see the system's log",
    errno.ENOTDIR: "a file is where a folder was expected",
    errno.EISDIR: "a folder is where a file was expected",
}
FULL = ("no space left on device", "os error 28", "database or disk is full")
SHORT = re.compile(r"\d+ requested and \d+ written")  # NumPy, which drops the system's reason
MEMORY = ("not enough memory", "can't allocate memory", "cannot allocate memory")


def told(error: Exception) -> str | None:
    """A message for what the system refused, or None for what is no such thing.

    Libraries wrap a full disk, or memory, in errors of their own: these are known by their words.
    """
    if isinstance(error, OSError) and error.errno is not None:
        what = error.strerror or os.strerror(error.errno)
        about = f"{error.filename}: " if error.filename is not None else ""
        advice = ADVICE.get(error.errno)
        return f"{about}{what}" + (f"; {advice}" if advice else "")
    text = str(error).lower()
    if any(each in text for each in FULL):
        return f"No space left on device; {ADVICE[errno.ENOSPC]} ({error})"
    if SHORT.search(text):
        return "a write was cut short; the disk, or a quota, is full: make room"
    if "cannot cache function" in text:
        return "no folder can be written for compiled code: set NUMBA_CACHE_DIR to one that can be"
    if isinstance(error, MemoryError) or any(each in text for each in MEMORY):
        about = f" ({error})" if str(error) else ""
        return f"out of memory{about}: give it more, or less to do at once"
    return f"{type(error).__name__}: {error}" if isinstance(error, OSError) else None
