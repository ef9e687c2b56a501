"""Draws a study: learning curves of every variant, and how far each generalises.

    python studies/curves.py studies/copy.yaml

Into studies/results/NAME.png and NAME-sizes.png, from what study.py has written beside them.
``curves`` of a study names the variants to draw, where all of them would be too many.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import yaml

from ntm.training.load import load_config
from ntm.views.comparison import Curve, Point, generalisation, learning_curves
from ntm.views.plots import save

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "studies" / "results"


def curves_of(file: Path, variants: list[str]) -> dict[str, list[Curve]]:
    """Validation of every run of the variants, those in order that have any."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    with file.open(newline="") as stream:
        for row in csv.DictReader(stream):
            found[row["variant"], row["seed"]].append((float(row["sequences"]), float(row["bits"])))
    curves: dict[str, list[Curve]] = {variant: [] for variant in variants}
    for (variant, _), points in found.items():
        if variant in curves:
            curves[variant].append(Curve(*np.array(points).T))
    return {variant: each for variant, each in curves.items() if each}


def main() -> None:
    file = Path(sys.argv[1])
    study, name = yaml.safe_load(file.read_text()), file.stem
    title, about = name.replace("_", " "), study.get("sizes")
    drawn = study.get("curves", list(study["variants"]))
    unknown = {*drawn, *(about or {}).get("variants", [])} - set(study["variants"])
    if unknown:
        sys.exit(f"{file}: no such variants: {', '.join(sorted(unknown))}")
    table = RESULTS / f"{name}-curves.csv"
    if table.exists():
        curves = curves_of(table, drawn)
        solved = load_config(study["config"]).train.solved_bits  # of the first, where they differ
        save(learning_curves(curves, title, solved_bits=solved), RESULTS / f"{name}.png")
    else:
        print(f"{table.name} is not there, so {name}.png stays as it is")
    if about is None:
        return
    sizes: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    with (RESULTS / f"{name}.csv").open() as stream:
        for row in csv.DictReader(stream):
            for label in study["tests"]:
                if label.isdigit() and row.get(f"{label}: bits"):
                    sizes[row["variant"]][float(label)].append(float(row[f"{label}: bits"]))
    chosen = about.get("variants", study["variants"])
    sizes = {variant: sizes[variant] for variant in chosen if variant in sizes}
    points = [Point(*point) for point in about.get("points", [])]
    figure = generalisation(sizes, title, about["name"], about["trained"], points)
    save(figure, RESULTS / f"{name}-sizes.png")


if __name__ == "__main__":
    main()
