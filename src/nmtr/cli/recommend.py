"""The command that recommends."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from nmtr.cli.engine import Engine, ray_workers
from nmtr.cli.show import bar, console, emit_json, say, words

if TYPE_CHECKING:
    import polars as pl

    from nmtr.serving.recommender import Recommender
    from nmtr.serving.rules import Rules


def recommend(
    source: Path,
    /,
    *,
    users: str | None = None,
    all: bool = False,
    k: Annotated[int, Parameter(name=["--k", "-k"])] = 20,
    slice: Literal["all", "new", "in-funnel"] = "all",
    rules: Path | None = None,
    in_stock: Path | None = None,
    out: Path | None = None,
    repeats: bool | None = None,
    exclude_seen: bool = False,
    candidates: int | None = None,
    data: Path | None = None,
    engine: Engine = "here",
    workers: int | None = None,
    json: bool = False,
) -> None:
    """Recommend items: user, rank, item, score, and the score of each behaviour.

    With --out, a command that was killed goes on where it stopped when it is given again.

    Parameters
    ----------
    source
        a finished run, or a bundle.
    users
        ids, comma-separated, or @FILE with one a line.
    all
        every user of the log; needs --out.
    k
        how many items each.
    slice
        all items, those new to the user, or those in-funnel: met, and not bought.
    rules
        a JSON file of rules: what to leave out, allow, deny, spread.
    in_stock
        a file of the items in stock, an id a line; others are left out.
    out
        write to this Parquet (or .csv) file instead of the screen.
    repeats
        let bought items come back (by default as the data were prepared).
    exclude_seen
        leave out everything that the user has any record of.
    candidates
        rank so many of each user's items alone, found by an index of all (pip install
        'nmtr[ann]'); without it every item is ranked.
    data
        a run's prepared data set, if it has moved.
    engine
        ray: score by the actors of a Ray cluster; needs --out, and pip install 'nmtr[ray]'.
    workers
        how many actors; one unless said.
    json
        print as JSON.
    """
    from nmtr.errors import UsageError
    from nmtr.serving.batch import Question, write
    from nmtr.serving.recommender import choose

    if bool(users) == all:
        raise UsageError("say whom to recommend to: --users ID,ID or --users @FILE, or --all")
    if all and not out:
        raise UsageError("--all needs a file to write to: --out recs.parquet")
    chosen = choose(
        repeats=repeats, exclude_seen=exclude_seen, rules=_rules(rules) if rules else None
    )
    workers = ray_workers(engine, workers)
    if workers and not out:
        raise UsageError("--engine ray needs a file to write to: --out recs.parquet")
    if candidates is not None and candidates < k:
        raise UsageError(
            f"--candidates: expected {k} or more, as many as -k asks for, got {candidates}"
        )
    recommender = _open(source, data, in_stock, candidates or 0)
    ids = recommender.users if all else _ids(users or "", recommender.users.dtype)
    if out:
        with bar("recommend") as progress:
            question = Question(k, slice, chosen)
            if workers:
                from nmtr.serving import ray_batch

                rows = ray_batch.write(
                    recommender,
                    None if all else ids,
                    out,
                    question,
                    opened=partial(
                        _open,
                        source.resolve(),
                        data and data.resolve(),
                        in_stock and in_stock.resolve(),
                        candidates or 0,
                    ),
                    workers=workers,
                    progress=progress,
                )
            else:
                rows = write(recommender, ids, out, question, progress=progress)
        if json:
            emit_json({"rows": rows, "users": len(ids), "out": str(out)})
        else:
            say(f"{rows:,} rows for {len(ids):,} users in {out}")
        return
    frame = recommender.recommend(ids, k=k, slice=slice, rules=chosen)
    _show(frame, recommender, json=json)


def _open(source: Path, data: Path | None, in_stock: Path | None, candidates: int) -> Recommender:
    recommender = _opened(source, data, candidates)
    if in_stock:
        _stock(recommender, in_stock)
    return recommender


def _opened(source: Path, data: Path | None, candidates: int) -> Recommender:
    from nmtr.errors import UsageError
    from nmtr.serving.bundle import open_bundle
    from nmtr.serving.recommender import Recommender

    if not source.is_file():
        from nmtr.training.run import open_run

        return Recommender.of(open_run(source, data=data), candidates=candidates)
    if data:
        raise UsageError(f"{source} is a bundle, which needs no --data")
    return Recommender.of(open_bundle(source), candidates=candidates)


def _rules(file: Path) -> Rules:
    import json

    from nmtr.errors import UsageError
    from nmtr.serving.rules import Rules

    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"--rules {file} cannot be read as JSON ({error})") from error
    return Rules.from_json(found)


def _stock(recommender: Recommender, file: Path) -> None:
    from nmtr.errors import UsageError

    known = recommender.service.stock(_lines(file, "--in-stock"))
    if not known:
        raise UsageError(f"--in-stock {file} names none of the items")


def _lines(file: Path, option: str) -> list[str]:
    """The lines of a text file that hold anything."""
    from nmtr.errors import UsageError

    if not file.is_file():
        raise UsageError(f"{option} {file}: no such file")
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UsageError(f"{option} {file}: expected UTF-8 text, an id a line") from error
    return [each.strip() for each in lines if each.strip()]


def _ids(users: str, kind: pl.DataType) -> pl.Series:
    """User ids from the command line, of the type that the log has them in."""
    import polars as pl

    from nmtr.errors import UsageError

    texts = _lines(Path(users[1:]), "--users") if users.startswith("@") else list(words(users))
    if not texts:
        raise UsageError("--users names no user")
    found = pl.Series(texts, dtype=pl.String)
    typed = found.cast(kind, strict=False)
    return found if typed.null_count() else typed


def _show(frame: pl.DataFrame, recommender: Recommender, *, json: bool) -> None:
    if json:
        print(frame.write_json())
        return
    popular = frame.filter(frame["basis"] == "popular")["user_id"].unique(maintain_order=True)
    for each, index in zip(popular, recommender.service.data.users.indices(popular), strict=True):
        why = "is not in the log" if index < 0 else "has no history, or rules that leave nothing"
        say(f"user {each} {why}; these are popular items")
    show_rows(frame)


def show_rows(frame: pl.DataFrame) -> None:
    """Print recommendations as a table; beyond a terminal ids stand whole, however long."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=SIMPLE_HEAD, padding=0, collapse_padding=True)  # to fit 80 columns
    for name in frame.columns:
        text = name in ("user_id", "item_id", "basis")
        shown.add_column(name, justify="left" if text else "right", overflow="fold")
    for row in frame.iter_rows():
        # As Text: an id may hold brackets, which Rich would take for markup.
        shown.add_row(*(Text(_cell(each)) for each in row))
    widest = console.measure(shown, options=console.options.update(max_width=10_000)).maximum
    if not console.is_terminal:
        shown.width = widest
    console.print(shown, crop=False)


def _cell(value: object) -> str:
    """A table's cell; a popular item has no score of a behaviour."""
    if value is None or value != value:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
