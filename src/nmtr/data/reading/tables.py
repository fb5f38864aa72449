"""What Polars scans: Parquet, here and in object stores, Delta and Iceberg tables, frames."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import polars as pl

from nmtr.data.reading.columns import find_roles
from nmtr.data.reading.faults import Block, Faults
from nmtr.data.reading.options import ReadOptions
from nmtr.data.reading.places import TABLES, Place, hide
from nmtr.data.reading.remote import RemoteFile
from nmtr.data.reading.sources import Source
from nmtr.errors import DataError, NmtrError, UsageError

ROWS = 2**20  # of a block
_STACK = "This error occurred with"  # Polars goes on with a stack of contexts
_NOTHING_FOUND = "expanded paths were empty"


def read_table(source: Source, options: ReadOptions, *, faults: Faults) -> Iterator[Block]:
    """Blocks of rows of a Parquet file, a glob of them in an object store, or a table.

    Only the columns that are asked for are fetched. Raises UsageError where nothing is there or a
    package is missing, DataError where it cannot be read.
    """
    with _explained(str(source.path), source):
        yield from _blocks(
            _scan(source), options, faults=faults, source=source.name, of_one=bool(source.behavior)
        )


def frame_blocks(
    frame: pl.LazyFrame, options: ReadOptions, *, faults: Faults, source: str
) -> Iterator[Block]:
    """A Polars frame as blocks of rows. Raises DataError where it cannot be read."""
    with _explained(source):
        yield from _blocks(frame, options, faults=faults, source=source, of_one=False)


def _blocks(
    frame: pl.LazyFrame, options: ReadOptions, *, faults: Faults, source: str, of_one: bool
) -> Iterator[Block]:
    """Row numbers count from 0."""
    first = 0
    names = frame.collect_schema().names()
    roles = find_roles(names, options, source=source, of_one=of_one)
    rows = frame.select(pl.col(own).alias(name) for name, own in roles.items())
    for batch in rows.collect_batches(chunk_size=ROWS, maintain_order=True):
        faults.rows_read += batch.height
        yield Block(batch, source, first, unit="row")
        first += batch.height


def _scan(source: Source) -> pl.LazyFrame:
    if isinstance(source.path, Path):
        # Without a glob: a file named `log[1].parquet` is that file.
        return pl.scan_parquet(source.path, glob=False)
    if isinstance(source.path, RemoteFile):
        with source.path.open() as file:
            return pl.scan_parquet(file.read())
    place = source.path.url.partition(":")[2]
    if source.kind == "delta":
        import_module("deltalake")  # to be told from what else may be missing
        return pl.scan_delta(place)
    if source.kind == "iceberg":
        import_module("pyiceberg")
        return pl.scan_iceberg(place if "/" in place else _catalogued(place))
    return pl.scan_parquet(source.path.url, extra_columns="ignore")


def _catalogued(name: str) -> Any:
    """The Iceberg table of this name in the catalog that pyiceberg is configured for."""
    from pyiceberg.catalog import load_catalog

    return load_catalog().load_table(name)


@contextmanager
def _explained(shown: str, source: Source | None = None) -> Iterator[None]:
    """Errors about a place as ours, without secrets."""
    place = source.path if source and isinstance(source.path, Place) else None
    try:
        yield
    except NmtrError:
        raise
    except ImportError as error:
        package = "nmtr[lakes]" if source and source.kind in TABLES else str(error)
        raise UsageError(
            f"{shown}: reading this needs a package that is not installed; "
            f"`pip install '{package}'`"
        ) from error
    except (Exception, pl.exceptions.PanicException) as error:
        what = hide(
            " ".join(str(error).partition(_STACK)[0].split())[:300], place.url if place else ""
        )
        if place and (isinstance(error, FileNotFoundError) or _NOTHING_FOUND in what):
            raise UsageError(
                f"{shown}: expected a file, a folder, a table or a glob that matches files, found "
                f"nothing there ({what})"
            ) from None
        if place and isinstance(error, PermissionError):
            raise DataError(
                f"{shown}: no permission ({what}); check the credentials in the environment"
            ) from None
        raise DataError(
            f"{shown}: expected a readable table of events, got an error: {what}"
        ) from None
