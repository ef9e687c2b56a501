"""Draws a study: learning curves of every variant, and how far each generalises.

    python studies/curves.py studies/copy.yaml

Into studies/results/NAME.png and NAME-sizes.png; from the runs of the study, and its table.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from pathlib import Path

import yaml

from ntm.experiment.config import load_config
from ntm.experiment.results import find_runs, read_results
from ntm.views.comparison import Curve, Point, curve_of, generalisation, learning_curves
from ntm.views.plots import save

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "studies" / "results"


def curves_of(folder: Path) -> list[Curve]:
    """Validation of every run of a variant that has ended."""
    results, _ = read_results(find_runs([folder])) if folder.is_dir() else ([], [])
    return [curve_of(result.validation) for result in results]


def main() -> None:
    file = Path(sys.argv[1])
    study, name = yaml.safe_load(file.read_text()), file.stem
    title, about = name.replace("_", " "), study.get("sizes")
    folder = ROOT / "runs" / "studies" / name
    found = {variant: curves_of(folder / variant) for variant in study["variants"]}
    curves = {variant: each for variant, each in found.items() if each}
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
    sizes = {variant: sizes[variant] for variant in study["variants"] if variant in sizes}
    points = [Point(*point) for point in about.get("points", [])]
    figure = generalisation(sizes, title, about["name"], about["trained"], points)
    save(figure, RESULTS / f"{name}-sizes.png")


if __name__ == "__main__":
    main()
