"""Where compiled loops are kept from one start to the next.

Numba keeps them in NUMBA_CACHE_DIR, beside the source, or in the user's cache folder, and raises
where it can write none of these: a service's user, who owns nothing, could not import a model.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

provided: Path | None = None  # the folder of this process alone, where one was needed


def place() -> Path | None:
    """The folder that numba will take, or None where none can be written."""
    given = os.environ.get("NUMBA_CACHE_DIR")
    user = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    beside = Path(__file__).parent / "models" / "kernels" / "__pycache__"
    places = [*([Path(given)] if given else []), beside, Path(user) / "numba"]
    return next((each for each in places if each.is_absolute() and _writable(each)), None)


def provide() -> None:
    """Where none can be written, give numba a folder of this process alone, gone when it ends.

    Not one that is shared: whoever writes there runs code here.
    """
    if place() is not None:
        return
    import atexit
    import shutil
    import tempfile

    global provided
    with suppress(OSError):  # nothing at all can be written: numba says so
        folder = tempfile.mkdtemp(prefix="nmtr-numba-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ["NUMBA_CACHE_DIR"] = folder
        provided = Path(folder)
        if "numba" in sys.modules:
            sys.modules["numba"].config.reload_config()


def _writable(folder: Path) -> bool:
    """Whether files can be made in a folder, which may have to be made itself."""
    with suppress(OSError):
        while not folder.exists():
            folder = folder.parent
        return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
    return False
