"""Train an experiment with its committed settings, read the test once, write results/NAME.json.

    python experiments/run.py nmtr-gmf
    python experiments/run.py --table        the results beside the paper's, as Markdown
    python experiments/run.py --write        the same, into the two READMEs

The read of the test is logged in TEST_READS.md.
"""

from __future__ import annotations

import json
import resource
import shutil
import sys
import time
from dataclasses import asdict
from typing import Any

from common import HERE, RESULTS, WORK, beibei, log_read, machine, names, read

from nmtr.data.split import split
from nmtr.evaluation.report import baselines, evaluate, to_json
from nmtr.evaluation.vectors import save_vectors
from nmtr.training.run import execute

PAPER = {  # HR/NDCG of Table II at K = 50, 80, 100, 200
    "nmtr-gmf": (0.2050, 0.0590, 0.2721, 0.0688, 0.3119, 0.0741, 0.4543, 0.0961),
    "nmtr-mlp": (0.1928, 0.0560, 0.2690, 0.0676, 0.3188, 0.0762, 0.4732, 0.0967),
    "nmtr-neumf": (0.2079, 0.0609, 0.2689, 0.0683, 0.3193, 0.0760, 0.4766, 0.0971),
}
MARK, END = "<!-- results: experiments/run.py --write -->", "<!-- end of results -->"
CUTOFFS = (50, 80, 100, 200)


def main(name: str) -> None:
    began = time.monotonic()
    settings, _ = read(name)
    data = beibei()
    out = WORK / name
    shutil.rmtree(out, ignore_errors=True)
    run = execute(data, settings, out)
    trained = time.monotonic() - began
    log_read(f"python experiments/run.py {name}", "the results table")
    parts = split(data, "as-published")
    own = evaluate(run.model, parts, name=name)
    seconds = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    save_vectors([own], out / "vectors-as-published.npz")
    reports = {"as-published": to_json([own, *baselines(parts)], parts)}
    parts = split(data, "discovery")  # the same training records, other users and mask
    reports["discovery"] = to_json(
        [evaluate(run.model, parts, name=name), *baselines(parts)], parts
    )
    result = {
        "experiment": name,
        "settings": asdict(settings),
        "machine": machine(),
        "train_seconds": round(trained, 1),
        "train_and_evaluate_seconds": round(seconds, 1),
        "peak_memory_mib": peak,
        "reports": reports,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(table())


HEADING = ["| model | @10 | @50 | @80 | @100 | @200 |", "|---|---|---|---|---|---|"]


def table() -> str:
    """Every result under results/, in Markdown."""
    files = {name: RESULTS / f"{name}.json" for name in [*names(), "ease"]}
    found = {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}
    lines = ["### as-published, test, all 21,716 users, train buys masked (HR/NDCG)", "", *HEADING]
    shown: set[str] = set()
    for name, result in found.items():
        models = result["reports"]["as-published"]["models"]
        lines += [_row(model, values) for model, values in models.items() if model not in shown]
        if name in PAPER:
            pairs = zip(PAPER[name][::2], PAPER[name][1::2], strict=True)
            paper = [f"{_cut(hit)}/{_cut(gain)}" for hit, gain in pairs]
            lines.append(f"| {name}, the paper | - | {' | '.join(paper)} |")
        shown |= set(models)
    lines += ["", "### discovery, test, the 7,442 users whose held-out item is new to them,"]
    lines[-1] += " every seen item masked (HR/NDCG)"
    lines += ["", *HEADING]
    shown = set()
    for result in found.values():
        models = result["reports"]["discovery"]["models"]
        lines += [_row(model, values) for model, values in models.items() if model not in shown]
        shown |= set(models)
    lines += ["", "### cost", ""]
    lines += [
        "| experiment | date | threads | train, s | with evaluation, s | peak memory, MiB |",
        "|---|---|---|---|---|---|",
    ]
    for name, each in found.items():
        if "settings" not in each:
            continue
        seconds = f"{each['train_seconds']} | {each['train_and_evaluate_seconds']}"
        date, threads = each["machine"]["date"], each["settings"]["training"]["threads"]
        lines.append(f"| {name} | {date} | {threads} | {seconds} | {each['peak_memory_mib']} |")
    about = ", ".join(f"{key} {value}" for key, value in each["machine"].items() if key != "date")
    lines += ["", f"Measured on {about}; settings chosen on validation, seed 0."]
    return "\n".join(lines)


def write() -> None:
    """Put the table between the marks of both READMEs."""
    for page in (HERE / "README.md", HERE.parent / "README.md"):
        head, _, rest = page.read_text().partition(MARK)
        _, _, tail = rest.partition(END)
        page.write_text(f"{head}{MARK}\n{table()}\n{END}{tail}")


def _row(model: str, summary: dict[str, Any]) -> str:
    values = summary["all"]
    cells = [
        f"{_cut(values[f'hr@{k}']['mean'])}/{_cut(values[f'ndcg@{k}']['mean'])}"
        for k in (10, *CUTOFFS)
    ]
    return f"| {model} | {' | '.join(cells)} |"


def _cut(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")


if __name__ == "__main__":
    if sys.argv[1:] == ["--table"]:
        print(table())
    elif sys.argv[1:] == ["--write"]:
        write()
    else:
        main(sys.argv[1])
