"""Draws a study: learning curves of every variant, and how far each generalises.

    python studies/curves.py studies/copy.yaml

Into studies/results/NAME.png and NAME-sizes.png; from the runs of the study, and its table.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import yaml

from ntm.experiment.config import load_config
from ntm.experiment.rundir import RunDir
from ntm.views.comparison import Curve, Point, generalisation, learning_curves
from ntm.views.plots import save

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "studies" / "results"


def curve(run: RunDir) -> Curve:
    rows = run.rows(run.validation_file)
    x = np.array([row["sequences"] for row in rows])
    return Curve(x, np.array([row["bits"] - row["floor"] for row in rows]))


def main() -> None:
    file = Path(sys.argv[1])
    study, name = yaml.safe_load(file.read_text()), file.stem
    title, about = name.replace("_", " "), study.get("sizes")
    runs = {
        variant: [
            RunDir.open(path.parent)
            for path in sorted((ROOT / "runs/studies" / name / variant).glob("seed-*/eval.csv"))
        ]
        for variant in study["variants"]
    }
    curves = {variant: [curve(run) for run in found] for variant, found in runs.items() if found}
    solved = load_config(study["config"]).train.solved_bits  # of the first, where they differ
    save(learning_curves(curves, title, solved_bits=solved), RESULTS / f"{name}.png")
    if about is None:
        return
    sizes: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    with (RESULTS / f"{name}.csv").open() as stream:
        for row in csv.DictReader(stream):
            for label in study["tests"]:
                if label.isdigit() and row.get(f"{label}: bits"):
                    sizes[row["variant"]][float(label)].append(float(row[f"{label}: bits"]))
    points = [Point(*point) for point in about.get("points", [])]
    figure = generalisation(sizes, title, about["name"], about["trained"], points)
    save(figure, RESULTS / f"{name}-sizes.png")


if __name__ == "__main__":
    main()
