"""Fetch one file over HTTP: resumed after a break, checked by its sha256, never half-written."""

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

from nmtr import __version__
from nmtr.errors import DamagedError, NmtrError, UsageError

Progress = Callable[[str, int, int], None]
"""Called with the folder and name of the file, the bytes had and the bytes in all (0: unknown)."""

ATTEMPTS = 4  # without a new byte, after which the connection is given up
BACKOFF = 1.0  # seconds before the second attempt, doubled for each further one
TIMEOUT = 30.0  # seconds without an answer
CHUNK = 1 << 16  # bytes

_PASSING = {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}


class _BrokenError(Exception):
    """The connection failed in a way that another attempt may mend."""


def fetch(
    url: str,
    path: Path,
    *,
    sha256: str,
    progress: Progress | None = None,
    attempts: int = ATTEMPTS,
    backoff: float = BACKOFF,
    timeout: float = TIMEOUT,
) -> Path:
    """Download `url` to `path` and return it; a verified file that is there already is kept.

    The bytes gather in `path` + `.part`, where a later call goes on if the server can (HTTP 206),
    and take their name only once `sha256` (64 hex digits) agrees.

    Raises UsageError for a URL that is not http(s), DamagedError where the checksum differs, and
    NmtrError where the server refuses, cannot be reached, or the disk cannot be written.
    """
    if not url.startswith(("https://", "http://")):
        raise UsageError(f"expected an address that starts with https:// or http://, got {url}")
    if path.exists():
        _verify(path, sha256, advice="delete it and try again")
        return path
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _gather(url, part, sha256, progress, attempts, backoff, timeout)
        try:
            _verify(part, sha256, advice=f"it came from {url} and was deleted: try again")
        except DamagedError:
            part.unlink()
            raise
        return part.replace(path)
    except OSError as error:
        raise NmtrError(
            f"{part}: cannot be written ({error}); make room or choose another folder, then repeat"
        ) from error


def _gather(
    url: str,
    part: Path,
    sha256: str,
    progress: Progress | None,
    attempts: int,
    backoff: float,
    timeout: float,
) -> None:
    """Attempt until `part` is complete; only attempts that brought nothing new are counted."""
    failures, most = 0, _size(part)
    while True:
        try:
            return _receive(url, part, sha256, progress, timeout)
        except _BrokenError as error:
            failures = 1 if _size(part) > most else failures + 1
            most = max(most, _size(part))
            if failures >= attempts:
                raise NmtrError(
                    f"{url}: the connection failed {failures} times in a row, last with: {error}; "
                    f"check the network and try again, it goes on from the {_size(part)} bytes in "
                    f"{part}"
                ) from error
            time.sleep(backoff * 2 ** (failures - 1))


def _receive(url: str, part: Path, sha256: str, progress: Progress | None, timeout: float) -> None:
    """Append what is missing to `part`, or write it anew where the server cannot resume."""
    have = _size(part)
    request = urllib.request.Request(url, headers={"User-Agent": f"nmtr/{__version__}"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
                if _digest(part) == sha256:  # killed between the last byte and the renaming
                    return
                part.unlink()
                raise _BrokenError("the part on disk is longer than the file") from None
            raise _refusal(url, error) from None
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenError(str(getattr(error, "reason", error)) or repr(error)) from error
    with response:
        if response.status == HTTPStatus.PARTIAL_CONTENT:
            if not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                part.unlink(missing_ok=True)
                raise _BrokenError("the server resumed at another place than asked")
        else:
            have = 0
        length = int(response.headers.get("Content-Length") or 0)
        total = have + length if length else 0
        with part.open("ab" if have else "wb") as file:
            for chunk in _chunks(response):
                file.write(chunk)
                have += len(chunk)
                if progress is not None:
                    progress(f"{part.parent.name}/{part.stem}", have, total)
    if total and have != total:
        raise _BrokenError(f"it closed after {have} of {total} bytes")


def _chunks(response: Any) -> Iterator[bytes]:
    while True:
        try:
            chunk: bytes = response.read1(CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise _BrokenError(str(error) or repr(error)) from error
        if not chunk:
            return
        yield chunk


def _refusal(url: str, error: urllib.error.HTTPError) -> Exception:
    said = f"the server answered {error.code} {error.reason}"
    if error.code in _PASSING:
        return _BrokenError(said)
    return NmtrError(
        f"{url}: {said}; if this address opens in no browser either, the file has moved: fetch a "
        f"copy elsewhere, the checksum tells whether it is the same, or point base_url to a mirror"
    )


def _verify(path: Path, sha256: str, *, advice: str) -> None:
    got = _digest(path)
    if got != sha256:
        raise DamagedError(f"{path}: expected sha256 {sha256}, got {got}; {advice}")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
