"""The command that bundles a run into one file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nmtr.cli.show import emit_json, remark, say


def bundle(
    run: Path | None = None,
    /,
    *,
    out: Path | None = None,
    items: Path | None = None,
    check: Path | None = None,
    data: Path | None = None,
    json: bool = False,
) -> None:
    """Put a run into one file that recommends and serves without the run and its data set.

    Parameters
    ----------
    run
        a finished run.
    out
        the file to write, such as model.nmtr; an old one is replaced.
    items
        a catalogue, .csv or .parquet: item_id and any columns; name, category, image_url and price
        are shown and used by rules. Without it, what `nmtr prepare --items` was given.
    check
        read a bundle instead, and verify every byte of it.
    data
        the prepared data set, if it has moved.
    json
        print as JSON.
    """
    from nmtr.errors import UsageError
    from nmtr.serving.bundle import check_bundle

    if check:
        if run or out or items or data:
            raise UsageError("--check reads one bundle; give nothing else with it")
        _show(check_bundle(check), check, note="every part is as it was written", json=json)
        return
    if not (run and out):
        raise UsageError("say what to bundle, and where to: nmtr bundle RUN --out model.nmtr")
    from nmtr.data.catalogue import read_catalogue
    from nmtr.serving.bundling import write_bundle
    from nmtr.training.run import open_run

    opened, catalogue, note = open_run(run, data=data), None, "no catalogue"
    if items:
        catalogue, found = read_catalogue(items, opened.data.items)
        note = f"the catalogue has {found:,} of the items"
    elif opened.data.item_attributes is not None:
        catalogue, note = opened.data.item_attributes, "the catalogue is the data set's"
    write_bundle(opened, out, catalogue=catalogue)
    _show(check_bundle(out), out, note=note, json=json)
    if not json:
        remark(f"Next: nmtr recommend {out} --users ID")


def _show(manifest: Mapping[str, Any], path: Path, *, note: str, json: bool) -> None:
    if json:
        emit_json({"path": str(path), "bytes": path.stat().st_size, **manifest})
        return
    say(
        f"{path}: {manifest['model']}, {manifest['users']:,} users, {manifest['items']:,} items, "
        f"{path.stat().st_size / 1e6:,.1f} MB, fingerprint {manifest['fingerprint']}; {note}"
    )
