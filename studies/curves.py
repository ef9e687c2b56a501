"""Draws a study's learning curves: every seed, and the median of each variant.

    python studies/curves.py studies/copy.yaml

Into studies/results/NAME.png. For the median, a seed keeps the bits with which it stopped.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import yaml

mpl.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).parents[1]


def curve(run: Path) -> tuple[np.ndarray, np.ndarray]:
    """Sequences and validation bits above the floor."""
    with (run / "eval.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    sequences = np.array([float(row["sequences"]) for row in rows])
    return sequences, np.array([float(row["bits"]) - float(row["floor"]) for row in rows])


def main() -> None:
    file = Path(sys.argv[1])
    study, name = yaml.safe_load(file.read_text()), file.stem
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    colours = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"]  # Okabe and Ito
    drawn: list[str] = []
    for variant in study["variants"]:
        runs = sorted((ROOT / "runs" / "studies" / name / variant).glob("seed-*/eval.csv"))
        if not runs:
            continue
        colour = colours[len(drawn) % len(colours)]
        curves = [curve(run.parent) for run in runs]
        at = np.unique(np.concatenate([sequences for sequences, _ in curves]))
        held = np.array([bits[np.searchsorted(s, at, side="right") - 1] for s, bits in curves])
        for s, bits in curves:
            axes.plot(s / 1000, bits, color=colour, alpha=0.25, linewidth=0.8)
            axes.plot(s[-1] / 1000, bits[-1], "o", color=colour, markersize=3)
        label = f"{variant}: median of {len(curves)} seeds"
        axes.plot(at / 1000, np.median(held, axis=0), color=colour, linewidth=2, label=label)
        drawn.append(variant)
    axes.set_yscale("log")
    axes.set_xlim(left=0)
    axes.set_xlabel("thousands of sequences")
    axes.set_ylabel("bits a sequence above the floor, validation")
    title = f"{name.replace('_', ' ')}: every seed, until solved or out of sequences"
    axes.set_title(title, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    figure.savefig(ROOT / "studies" / "results" / f"{name}.png", dpi=130)


if __name__ == "__main__":
    main()
