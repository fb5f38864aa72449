"""Files behind URLs by fsspec, with as much of a path's manners as reading needs."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import IO, Any

from nmtr.data.reading.places import hide, without_secrets
from nmtr.errors import DataError, UsageError

MAGIC = "*?["


@dataclass(frozen=True)
class RemoteFile:
    """One file of a remote system; `path` as that system names it, `url` as it may be shown."""

    system: Any = field(repr=False)  # fsspec has no types
    path: str = field(repr=False)
    url: str
    given: str = field(repr=False)

    @property
    def name(self) -> str:
        """The last part, for messages."""
        return PurePosixPath(self.url).name

    @property
    def suffixes(self) -> list[str]:
        """The ends of the name."""
        return PurePosixPath(self.url).suffixes

    def open(self, _: str = "rb") -> IO[bytes]:
        """Open to read; whatever goes wrong, now or later, is an OSError."""
        with _as_os_error(self.given):
            return io.BufferedReader(_Stream(self.system.open(self.path, "rb"), self.given))

    def __str__(self) -> str:
        return self.url


class _Stream(io.RawIOBase):
    """A file of fsspec whose failures are OSErrors."""

    def __init__(self, file: Any, given: str) -> None:
        self._file, self._given = file, given

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with _as_os_error(self._given):
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def is_file_system(scheme: str) -> bool:
    """Whether fsspec knows a file system by this name, installed or not."""
    from fsspec import available_protocols

    return scheme in available_protocols()


def expand(url: str) -> list[RemoteFile]:
    """The files behind a URL, a glob or a folder of them, by name.

    Raises UsageError where nothing is there or a package is missing, DataError where the place
    cannot be read.
    """
    from fsspec.core import url_to_fs

    shown = without_secrets(url)
    try:
        with _as_os_error(url):
            system, path = url_to_fs(url)
            paths = _list(system, path)
    except ImportError as error:
        raise UsageError(
            f"{shown}: reading this needs a package that is not installed: {error}; "
            "install it with pip"
        ) from error
    except FileNotFoundError:
        paths = []
    except OSError as error:
        raise DataError(f"{shown}: cannot be read: {error}") from error
    if not paths:
        raise UsageError(
            f"{shown}: expected a file, a folder or a glob that matches files, found nothing there"
        )
    return [
        RemoteFile(system, each, without_secrets(system.unstrip_protocol(each)), url)
        for each in paths
    ]


def _list(system: Any, path: str) -> list[str]:
    if any(mark in path for mark in MAGIC):
        found = sorted(each for each in system.glob(path) if not system.isdir(each))
        if not found:  # a glob keeps to itself why it found nothing; a listing tells
            system.ls(re.split(r"[*?\[]", path, maxsplit=1)[0].rpartition("/")[0])
        return found
    details = system.info(path)
    if details["type"] != "directory":
        return [path]
    inside = system.ls(path, detail=True)
    return sorted(each["name"] for each in inside if each["type"] == "file" and each.get("size"))


@contextmanager
def _as_os_error(url: str) -> Iterator[None]:
    """File systems raise what their libraries do; it becomes OSError, without secrets."""
    try:
        yield
    except (FileNotFoundError, ImportError):
        raise
    except PermissionError as error:
        raise PermissionError(
            f"no permission ({_brief(error, url)}); check the credentials in the environment"
        ) from None
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {_brief(error, url)}") from None


def _brief(error: Exception, url: str) -> str:
    return hide(str(error).partition("\n")[0][:300], url)
