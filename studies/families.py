"""Tables and pictures of a family: every model on one task, from the folder of its sweep.

    python studies/families.py NAME FOLDER

Into studies/results/compare: NAME.csv, a row for each run; NAME.md, a row for each model, the best
first; NAME.png and NAME-learning.png.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

from ntm.analysis.results import Group, effort, find_runs, group, read_results
from ntm.files import write_file
from ntm.views.comparison import curve_of, learning_curves, ranking
from ntm.views.plots import save
from ntm.views.report import number, ylabel

RESULTS = Path(__file__).parent / "results" / "compare"
COLUMNS = (
    "model", "parameters", "state", "solved", "sequences", "bits", "least-most",
    "sequence_accuracy", "us a sequence",
)  # fmt: skip


def row(g: Group) -> list[str]:
    first, bits = g.results[0].manifest, g.final_bits
    taken = [effort(r) for r in g.results if r.solved]
    cost = [1e6 * r.validation[-1]["seconds"] / r.validation[-1]["sequences"] for r in g.results]
    exact = float(np.median([r.best["sequence_accuracy"] for r in g.results]))
    return [
        g.name.rsplit(" [", 1)[0],
        f"{first['parameters']:,}",
        f"{first['state_size']:,}",
        f"{len(taken)} of {len(bits)}",
        f"{np.median(taken):,.0f}" if taken else "-",
        number(float(np.median(bits))),
        f"{number(min(bits))}-{number(max(bits))}",
        f"{exact:.1%}",
        f"{np.median(cost):,.0f}",
    ]


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    results, troubles = read_results(find_runs([folder]))
    for trouble in troubles:
        print(f"{trouble.path}: {trouble.problem}")
    ((_, groups),) = group(results).items()
    groups.sort(key=lambda group: group.standing)
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    lines += [f"| {' | '.join(row(g))} |" for g in groups]
    write_file(RESULTS / f"{name}.md", "\n".join(lines) + "\n")
    RESULTS.mkdir(parents=True, exist_ok=True)
    with (RESULTS / f"{name}.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["model", "seed", "sequences", "seconds", "solved after", "bits", "sequence_accuracy"]
        )
        for g in groups:
            for r in sorted(g.results, key=lambda r: r.config.seed):
                last = r.validation[-1]
                solved = f"{effort(r):.0f}" if r.solved else ""
                bits = r.best["bits"] - r.best["floor"]
                writer.writerow(
                    [g.name, r.config.seed, f"{last['sequences']:.0f}", last["seconds"], solved,
                     f"{bits:.5g}", f"{r.best['exact']:.4g}"]
                )  # fmt: skip
    label = ylabel(groups)
    title = name.replace("_", " ")
    save(ranking({g.name: g.final_bits for g in groups}, title, label), RESULTS / f"{name}.png")
    curves = {g.name: [curve_of(r.validation) for r in g.results] for g in groups}
    figure = learning_curves(curves, title, ylabel=label)
    save(figure, RESULTS / f"{name}-learning.png")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
