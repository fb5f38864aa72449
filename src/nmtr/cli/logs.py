"""Commands on logs: prepare, audit, data get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from nmtr.cli.show import console, emit_json, mapping, remark, say, words


def prepare(
    sources: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    /,
    *,
    out: Path,
    behaviors: str | None = None,
    append: Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")] = None,
    holdout: str = "auto",
    user: str | None = None,
    item: str | None = None,
    behavior: str | None = None,
    time: str | None = None,
    columns: str | None = None,
    delimiter: str | None = None,
    map: str | None = None,
    undo: str | None = None,
    unknown: Literal["error", "drop"] = "error",
    malformed: Literal["error", "drop"] = "error",
    cap: int | None = None,
    time_unit: Literal["s", "ms", "us", "iso"] | None = None,
    query: str | None = None,
    table: str | None = None,
    repurchase: bool = False,
    seed: int = 0,
    items: Path | None = None,
    users: Path | None = None,
    force: bool = False,
    json: bool = False,
) -> None:
    """Turn event logs into a prepared data set.

    Parameters
    ----------
    sources
        files, folders or globs: CSV, TSV, JSON lines, Parquet, RecBole's .inter; .gz and .zst too.
        URLs: s3://bucket/log/*.parquet, gs://, az://, hdfs://, ...; delta:PLACE, iceberg:PLACE;
        databases: postgresql://, sqlite:///, ... env:NAME takes the URL from the environment.
        buy=FILE says that all rows of a file are of one behaviour.
    out
        folder to write, or with --append the prepared data set to append to.
    behaviors
        ordered, the target last: view,cart,buy; or `auto` to have an order proposed, for which the
        log must fit in memory.
    append
        files of a day to append, read as the first ones were; no other option goes with it.
    holdout
        random, last, time:2026-01-31, time:0.9, a file of held-out pairs (buy=FILE too), or auto.
    user
        the user column, if it has no usual name.
    item
        the item column.
    behavior
        the behaviour column.
    time
        the time column.
    columns
        names for a file without a header, comma-separated.
    delimiter
        the field delimiter, if it is not to be guessed; `tab` for a tab.
    map
        rename behaviour values: transaction=buy,addtocart=cart.
    undo
        values that undo a behaviour: cart=remove_from_cart.
    unknown
        what to do with behaviours not named.
    malformed
        what to do with rows that cannot be read.
    cap
        drop users with more events than this (bots).
    time_unit
        the unit of the times, if it is not to be guessed.
    query
        what to read from a database: "SELECT user_id, item_id, behavior, ts FROM events".
    table
        the table or view of a database to read.
    repurchase
        an item that was bought may be recommended again.
    seed
        of the random hold-out.
    items
        attributes of items, .csv or .parquet: item_id and any columns, for nmtr-features.
    users
        attributes of users: user_id and any columns.
    force
        replace a prepared data set.
    json
        print the manifest as JSON.
    """
    from nmtr.data.events import ReadOptions
    from nmtr.data.manifest import check_new
    from nmtr.errors import UsageError

    if append is not None:
        _append(sources, append, out, json=json)
        return
    if not sources or behaviors is None:
        raise UsageError(
            "expected event files and --behaviors: nmtr prepare EVENTS... --behaviors "
            "view,cart,buy --out DIR; or files to append: nmtr prepare --append DAY --out DIR"
        )
    named = None if behaviors == "auto" else words(behaviors)
    options = ReadOptions(
        user=user, item=item, behavior=behavior, time=time, columns=words(columns) or None,
        delimiter=delimiter, rename=mapping(map), undo=mapping(undo), behaviors=named,
        unknown=unknown, malformed=malformed, cap=cap, time_unit=time_unit,
        query=query, table=table,
    )  # fmt: skip
    check_new(out, force=force)
    about: dict[str, Any] = {"holdout": holdout, "repurchase": repurchase, "seed": seed}
    about["options"] = options
    notes: Sequence[str] = ()
    if named is None or items or users:
        from nmtr.data.events import read_events
        from nmtr.data.features import with_attributes
        from nmtr.data.prepare import prepare as build

        log = read_events(sources, options)
        order = named or _propose(log.frame, quiet=json)
        data = build(log, behaviors=order, **about)
        data, notes = with_attributes(data, items=items, users=users)
        data.save(out, force=force)
        manifest = data.manifest
    else:
        from nmtr.data.outofcore import prepare_files

        manifest = prepare_files(sources, out, behaviors=named, force=force, **about)
    if json:
        emit_json(manifest)
        return
    _say_read(manifest["read"], notes)
    counts = ", ".join(
        f"{count:,} {name}" for name, count in manifest["events_per_behavior"].items()
    )
    size = f"{manifest['users']:,} users x {manifest['items']:,} items"
    say(f"{size}; events: {counts}; hold-out: {manifest['holdout']['rule']}")
    remark(f"Prepared in {out}. Next: nmtr audit {out}")


def _append(sources: list[str] | None, files: list[str], out: Path, *, json: bool) -> None:
    """Append files to a prepared data set, and say what they brought."""
    from nmtr.data.appending import append
    from nmtr.errors import UsageError

    if sources:
        raise UsageError(
            f"expected files to prepare or files to --append, got both: {sources} and {files}"
        )
    manifest = append(out, files)
    if json:
        emit_json(manifest or {"appended": None})
        return
    if manifest is None:
        remark(f"{out} has these events already; nothing was appended")
        return
    day = manifest["appended"]
    _say_read(day["read"])
    size = f"{manifest['users']:,} users x {manifest['items']:,} items"
    say(f"{day['events']:,} events appended to {out}: {manifest['events']:,} of {size}")


def _say_read(read: Mapping[str, Any], more: Sequence[str] = ()) -> None:
    """Say what reading a log did."""
    dropped = read["dropped"]
    for note in (*read["notes"], *more):
        remark(f"note: {note}")
    say(
        f"{read['rows_read']:,} rows read, {sum(dropped.values()):,} dropped"
        + "".join(f"; {count:,} {reason}" for reason, count in dropped.items() if count)
    )


def _propose(frame: object, *, quiet: bool) -> tuple[str, ...]:
    """An order from the data, with its reasons; refuses to go on where it is unsure."""
    import polars as pl

    from nmtr.data.ordering import propose_order
    from nmtr.errors import UsageError

    if not isinstance(frame, pl.DataFrame):
        raise AssertionError("a log's frame is a Polars frame")
    proposal = propose_order(frame)
    order = ",".join(proposal.behaviors)
    if not proposal.sure:
        reasons = "; ".join(proposal.why)
        raise UsageError(
            f"--behaviors auto is not sure of the order {order}: {reasons}. "
            "Name those that count with --behaviors, the target last"
        )
    if not quiet:
        say(f"behaviours: {order}")
        for reason in proposal.why:
            say(f"  {reason}")
    return tuple(proposal.behaviors)


def audit(data: Path, /, *, json: bool = False) -> None:
    """Say what the data are: counts, nesting, leakage, shift, and the protocol to use.

    Parameters
    ----------
    data
        a prepared data set.
    json
        print as JSON.
    """
    from nmtr.data.audit import audit as inspect
    from nmtr.data.audit import render
    from nmtr.data.interactions import load

    found = inspect(load(data))
    if json:
        emit_json(found.to_json())
    else:
        console.print(render(found))


def get(name: str, /, *, out: Path, base_url: str | None = None, json: bool = False) -> None:
    """Download a named public data set and verify it.

    Parameters
    ----------
    name
        beibei, tmall or retailrocket (otto and retailrocket-raw: says where to get them).
    out
        folder to write: events.parquet and test.parquet.
    base_url
        a mirror of raw.githubusercontent.com.
    json
        print as JSON.
    """
    from nmtr.cli.show import bar as show
    from nmtr.data.datasets import get as fetch

    with show(f"get {name}") as progress:
        fetch(name, out, base_url=base_url, progress=lambda _, done, of: progress(done, of))
    if json:
        emit_json({"name": name, "events": f"{out}/events.parquet", "test": f"{out}/test.parquet"})
    remark(f"{name} in {out}.")
    remark(
        f"Next: nmtr prepare {out}/events.parquet --behaviors view,cart,buy "
        f"--holdout {out}/test.parquet --out DATA"
    )
