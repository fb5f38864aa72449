"""The command that makes a run's report for people to look at."""

from __future__ import annotations

from pathlib import Path

from nmtr.cli.show import emit_json, say


def report(
    run: Path, /, *, out: Path | None = None, data: Path | None = None, json: bool = False
) -> None:
    """Write one HTML page on a run: data, learning, metrics, calibration, lists, users, vectors.

    It needs no other file and no network. The test is not read: of tests it shows what `nmtr
    evaluate --test` found.

    Parameters
    ----------
    run
        a finished run.
    out
        the file to write; by default RUN/report.html. An old one is replaced.
    data
        the prepared data set, if it has moved.
    json
        print as JSON.
    """
    from nmtr.reports.report import write_report
    from nmtr.training.run import open_run

    made = write_report(open_run(run, data=data), out)
    if json:
        emit_json({"report": str(made), "bytes": made.stat().st_size})
        return
    say(f"Wrote {made} ({made.stat().st_size / 1e6:.1f} MB); open it in a browser.")
