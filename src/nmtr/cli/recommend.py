"""The command that recommends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from nmtr.cli.show import bar, console, emit_json, say, words

if TYPE_CHECKING:
    import polars as pl

    from nmtr.training.run import Run


def recommend(
    run: Path,
    /,
    *,
    users: str | None = None,
    all: bool = False,
    k: Annotated[int, Parameter(name=["--k", "-k"])] = 20,
    out: Path | None = None,
    repeats: bool | None = None,
    exclude_seen: bool = False,
    data: Path | None = None,
    json: bool = False,
) -> None:
    """Recommend items: user, rank, item, score, and the score of each behaviour.

    Parameters
    ----------
    run
        a finished run.
    users
        ids, comma-separated, or @FILE with one a line.
    all
        every user of the log; needs --out.
    k
        how many items each.
    out
        write to this Parquet (or .csv) file instead of the screen.
    repeats
        let bought items come back (by default as the data were prepared).
    exclude_seen
        leave out everything that the user has any record of.
    data
        the prepared data set, if it has moved.
    json
        print as JSON.
    """
    from nmtr.errors import UsageError
    from nmtr.serving.batch import write
    from nmtr.serving.recommender import Recommender
    from nmtr.training.run import open_run

    if bool(users) == all:
        raise UsageError("say whom to recommend to: --users ID,ID or --users @FILE, or --all")
    if all and not out:
        raise UsageError("--all needs a file to write to: --out recs.parquet")
    opened = open_run(run, data=data)
    recommender = Recommender.of(opened)
    ids = opened.data.users.ids if all else _ids(users or "", opened)
    if out:
        with bar("recommend") as progress:
            rows = write(
                recommender,
                ids,
                out,
                k=k,
                repeats=repeats,
                exclude_seen=exclude_seen,
                progress=progress,
            )
        if json:
            emit_json({"rows": rows, "users": len(ids), "out": str(out)})
        else:
            say(f"{rows:,} rows for {len(ids):,} users in {out}")
        return
    _show(recommender.recommend(ids, k=k, repeats=repeats, exclude_seen=exclude_seen), json=json)


def _ids(users: str, opened: Run) -> pl.Series:
    """User ids from the command line, of the type that the log has them in."""
    import polars as pl

    from nmtr.errors import UsageError

    if users.startswith("@"):
        file = Path(users[1:])
        if not file.is_file():
            raise UsageError(f"--users {users}: no such file")
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise UsageError(f"--users {users}: expected UTF-8 text, an id a line") from error
        texts: Sequence[str] = [each.strip() for each in lines if each.strip()]
    else:
        texts = words(users)
    if not texts:
        raise UsageError("--users names no user")
    found = pl.Series(list(texts), dtype=pl.String)
    typed = found.cast(opened.data.users.ids.dtype, strict=False)
    return found if typed.null_count() else typed


def _show(frame: pl.DataFrame, *, json: bool) -> None:
    if json:
        print(frame.write_json())
        return
    from rich.table import Table
    from rich.text import Text

    popular = (
        frame.filter(frame.get_column("basis") == "popular")
        .get_column("user_id")
        .unique(maintain_order=True)
    )
    for each in popular.to_list():
        say(f"user {each} is not in the log; these are popular items")
    shown = Table()
    for name in frame.columns:
        shown.add_column(
            name, justify="left" if name in ("user_id", "item_id", "basis") else "right"
        )
    for row in frame.iter_rows():
        # As Text: an id may hold brackets, which Rich would take for markup.
        cells = (f"{each:.4f}" if isinstance(each, float) else str(each) for each in row)
        shown.add_row(*map(Text, cells))
    console.print(shown)
