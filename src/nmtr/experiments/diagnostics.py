"""What stands beside the tables: learning curves, time and memory, the sampled-metrics warning."""

from __future__ import annotations

from pathlib import Path

from nmtr.evaluation.sampled import sampled_ranks
from nmtr.experiments import plots
from nmtr.experiments.documents import Block, Document
from nmtr.experiments.outcomes import Outcomes, cut
from nmtr.pages.blocks import Table

NEGATIVES, SAMPLED_K = 99, 10


def diagnostics(outcomes: Outcomes, out: Path) -> Document:
    """The document and its plots."""
    document = Document("diagnostics", "Learning curves, cost, and a warning about sampled metrics")
    document.blocks += _curves(outcomes, out)
    document.blocks += [_cost(outcomes), *_sampled(outcomes, out)]
    document.data += _lines(outcomes)
    return document


def _curves(outcomes: Outcomes, out: Path) -> list[Block]:
    measured, losses = {}, {}
    for row in outcomes.asked.rows:
        for cell in outcomes.of(row.name)[:1]:
            lines = outcomes.epochs(cell)
            chosen = [each for each in lines if "ndcg@100" in each]
            if chosen:
                x = [float(each["epoch"]) for each in chosen]
                measured[row.name] = (x, [float(each["ndcg@100"]) for each in chosen])
            refit = [each for each in lines if each["phase"] == "refit"]
            if refit:
                first = float(refit[0]["loss"]) or 1.0
                x = [float(each["epoch"]) for each in refit]
                losses[row.name] = (x, [float(each["loss"]) / first for each in refit])
    found: list[Block] = []
    if measured:
        found.append(
            plots.lines(
                out, "curves-validation", measured, xlabel="epoch", ylabel="NDCG@100, validation",
                caption="Validation after each epoch; the best epoch was kept. Rows whose number "
                "of epochs their preset fixes rank no validation here.",
            )
        )  # fmt: skip
    if losses:
        found.append(
            plots.lines(
                out, "curves-loss", losses, xlabel="epoch", ylabel="loss, as a share of the first",
                caption="Training loss of the final fit, over that of its first epoch (losses of "
                "different models do not compare).",
            )
        )  # fmt: skip
    return found


def _cost(outcomes: Outcomes) -> Table:
    rows = []
    for row in outcomes.asked.rows:
        for cell in outcomes.of(row.name)[:1]:
            about = outcomes.about(cell)
            whole, epochs = about["train_seconds"], about["epoch_seconds"]
            read = next(iter(about["read_seconds"].values()), None)
            memory = about["peak_memory_mib"]
            rows.append(
                [
                    row.name,
                    "resumed" if whole is None else f"{whole:,.1f}",
                    f"{epochs:,.1f}" if epochs else "",
                    "" if read is None else f"{read:,.1f}",
                    "" if memory is None else f"{memory:,}",
                    f"{about['parameters']:,}",
                ]
            )
    machines = {
        ", ".join(f"{key} {value}" for key, value in outcomes.about(each)["machine"].items())
        for row in outcomes.asked.rows
        for each in outcomes.of(row.name)
    }
    return Table(
        "Time and memory of one training",
        (
            "model",
            "training, s",
            "of it epochs, s",
            "ranking the test, s",
            "peak MiB",
            "parameters",
        ),
        rows,
        note="Selection and final fit together, first seed; the peak is the whole process's, "
        f"Python, torch and the data included. Measured on {'; '.join(sorted(machines))}; "
        f"{outcomes.asked.threads} thread(s).",
    )


def _sampled(outcomes: Outcomes, out: Path) -> list[Block]:
    """Full ranking beside 99 negatives, of the first protocol that was read."""
    protocol = next(iter(outcomes.protocols()), "")
    full, sampled = {}, {}
    for row in outcomes.asked.rows:
        for cell in outcomes.of(row.name)[:1]:
            found = outcomes.ranks(cell, protocol)
            if found:
                drawn = sampled_ranks(found["ranks"], found["candidates"], negatives=NEGATIVES)
                full[row.name] = float((found["ranks"] <= SAMPLED_K).mean())
                sampled[row.name] = float((drawn <= SAMPLED_K).mean())
    if len(full) < 2:
        return []
    by_full = sorted(full, key=lambda each: -full[each])
    by_sampled = sorted(full, key=lambda each: -sampled[each])
    moved = sum(1 for each in full if by_full.index(each) != by_sampled.index(each))
    rows = [
        [
            row,
            cut(full[row]),
            str(by_full.index(row) + 1),
            cut(sampled[row]),
            str(by_sampled.index(row) + 1),
            f"x {sampled[row] / full[row]:.1f}" if full[row] else "",
        ]
        for row in by_full
    ]
    plot = plots.places(
        out, "sampled", by_full, by_sampled, titles=("all items", f"{NEGATIVES} negatives"),
        caption=f"Places by HR@{SAMPLED_K}, over all items and among {NEGATIVES} sampled ones; "
        "orange falls, blue rises.",
    )  # fmt: skip
    table = Table(
        f"Sampled metrics mislead: HR@{SAMPLED_K} over all items and among {NEGATIVES} negatives",
        ("model", "all items", "place", "sampled", "place", "ratio"),
        rows,
        note=f"{protocol}, per held-out item. {moved} of {len(full)} models change place. Sampled "
        "numbers are no estimate of the others, and need not order models alike (Krichene and "
        "Rendle, KDD 2020): compare with nothing that was measured over all items.",
    )
    return [table, plot]


def _lines(outcomes: Outcomes) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for row in outcomes.asked.rows:
        for cell in outcomes.of(row.name):
            about = outcomes.about(cell)
            found.append(
                {
                    "model": row.name,
                    "seed": cell.settings.training.seed,
                    "epochs": about["epochs"],
                    "parameters": about["parameters"],
                    "train_seconds": about["train_seconds"],
                    "epoch_seconds": about["epoch_seconds"],
                    "peak_memory_mib": about["peak_memory_mib"],
                    "source": about["source"],
                }
            )
    return found
