"""Runs a study: every variant of a config over many seeds, then tests of what was trained.

    python studies/study.py studies/copy.yaml --workers 2

Started again, it does only what is missing and goes on with what was interrupted. The runs land
in runs/studies/NAME/VARIANT/seed-N, one row for each in studies/results/NAME.csv, and validation
while training in NAME-curves.csv.
"""

from __future__ import annotations

import argparse
import csv
import fcntl
import io
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from ntm.analysis.results import read_results
from ntm.files import write_file
from ntm.memory.ntm import NTMConfig
from ntm.runs.folder import Evaluation, RunDir
from ntm.training.load import load_config
from ntm.training.task_settings import task_settings

ROOT = Path(__file__).parents[1]
NTM = ["-m", "ntm.cli"]


def ntm(*arguments: str, alter: str | None = None) -> str:
    """One command, on one thread: two of them keep two cores busy."""
    program = [str(ROOT / "studies" / "altered.py"), alter] if alter else NTM
    done = subprocess.run(
        [sys.executable, *program, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"ntm {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def options(settings: list[str]) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def known(run: RunDir, test: dict[str, Any]) -> Evaluation | None:
    """What a test has found already, if it has been done with these weights."""
    best, memory = run.load_best().state["sequences"], run.config().model.memory
    slots = test.get("slots", memory.slots) if memory else None
    asked = (task_settings(test["set"]), slots, test["episodes"], 0, best)
    for e in run.evaluations():
        if (e.task, e.slots, e.episodes, e.seed, e.sequences) == asked:
            return e
    return None


def one(
    study: dict[str, Any], name: str, variant: str, seed: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Trains one seed of one variant, if that is still to be done, and tests it.

    Its row of the table, and a row for every validation.
    """
    run = RunDir(ROOT / "runs" / "studies" / name / variant / f"seed-{seed}")
    status = run.manifest().get("status")
    about = study["variants"][variant] or {}
    alter = about.get("alter")
    settings, config = about.get("set", []), about.get("config", study["config"])
    if status and run.config() != load_config(config, [*settings, f"seed={seed}"]):
        raise ValueError(f"{run.path}: has another config than the study says by now; move it away")
    if status not in ("solved", "budget"):
        command = [config, "--seed", str(seed), *options(settings), "--run", str(run.path)]
        ntm("train", *command, "--quiet", *(["--resume"] if status else []), alter=alter)
        status = run.manifest()["status"]
        if alter:
            run.update_manifest(alter=alter)  # nothing else tells it from the recipe
    results = {}
    memory = run.config().model.memory
    for label, test in study["tests"].items():
        if "slots" in test and isinstance(memory, NTMConfig) and memory.initial == "learned":
            continue  # it has the slots that it has
        if known(run, test) is None:
            can_grow = "slots" in test and memory is not None
            slots = ["--slots", str(test["slots"])] if can_grow else []
            count = ["--episodes", str(test["episodes"])]
            ntm("evaluate", str(run.path), *options(test["set"]), *slots, *count, alter=alter)
        found = known(run, test)
        assert found is not None
        results[label] = found
    place = {"variant": variant, "seed": seed}
    row: dict[str, Any] = {**place, "status": status}
    row |= {"sequences": "", "seconds": ""}  # until validation was first below solved_bits
    ((trained,), _) = read_results([run.path])
    for end, at in (("", trained.solved), (" in all", trained.validation[-1])):
        if at is not None:
            row |= {f"{name}{end}": f"{at[name]:.0f}" for name in ("sequences", "seconds")}
    for label, result in results.items():
        row[f"{label}: bits"] = f"{result.bits - result.floor:.4f}"
        row[f"{label}: sequence accuracy"] = f"{result.sequence_accuracy:.3f}"
    curve = [
        {**place, "sequences": f"{at['sequences']:.0f}", "bits": f"{bits:.4g}"}
        for at, bits in zip(trained.validation, trained.curve, strict=True)
    ]
    return row, curve


def read(file: Path) -> list[dict[str, Any]]:
    if not file.exists():
        return []
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def record(file: Path, variants: list[str], rows: list[dict[str, Any]]) -> None:
    """Puts the rows of one variant and seed into a table, in place of those that it has of them.

    The table is read anew every time, with a lock: studies of other variants may run beside this
    one. Variants that the study does not name stay, at the end.
    """
    place = (rows[0]["variant"], int(rows[0]["seed"]))
    with (file.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = [row for row in read(file) if (row["variant"], int(row["seed"])) != place] + rows
        order = {variant: i for i, variant in enumerate(variants)}
        kept.sort(key=lambda row: (order.get(row["variant"], len(order)), int(row["seed"])))
        text = io.StringIO()
        fields = list(dict.fromkeys(key for row in kept for key in row))
        writer = csv.DictWriter(text, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
        write_file(file, text.getvalue())


def table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table with a line for each variant: medians, and from least to most."""

    def spread(values: list[float], digits: int) -> str:
        low, middle, high = (f"{f(values):,.{digits}f}" for f in (min, statistics.median, max))
        return f"{middle} ({low}-{high})"

    ends = dict.fromkeys(key for row in rows for key in row if key.endswith(": sequence accuracy"))
    tests = [key.removesuffix(": sequence accuracy") for key in ends]
    heads = ["variant", "solved", "sequences", "seconds", "seconds in all"]
    heads += [f"{what} at {test}" for test in tests for what in ("bits", "sequence_accuracy")]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for variant in dict.fromkeys(row["variant"] for row in rows):
        mine = [row for row in rows if row["variant"] == variant]
        solved = [row for row in mine if row["status"] == "solved"]
        cells = [variant, f"{len(solved)} of {len(mine)}"]
        cells += [
            spread([float(row[name]) for row in solved], 0) if solved else "-"
            for name in ("sequences", "seconds", "seconds in all")
        ]
        for test in tests:
            done = [row for row in mine if row.get(f"{test}: bits")]
            exact = [float(row[f"{test}: sequence accuracy"]) for row in done]
            bits = [float(row[f"{test}: bits"]) for row in done]
            cells.append(spread(bits, 3) if bits else "-")
            cells.append(f"{sum(share == 1 for share in exact)} of {len(done)}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--only", nargs="*", help="variants")
    given = parser.parse_args()
    study, name = yaml.safe_load(given.study.read_text()), given.study.stem
    jobs = [
        (study, name, variant, seed)
        for variant in given.only or study["variants"]
        for seed in (study["variants"][variant] or {}).get("seeds", study["seeds"])
    ]
    file = ROOT / "studies" / "results" / f"{name}.csv"
    failed = 0
    with ThreadPoolExecutor(given.workers) as pool:
        for job, future in [(job, pool.submit(one, *job)) for job in jobs]:
            try:
                row, curve = future.result()
            except (RuntimeError, OSError, ValueError) as error:  # the others go on
                failed += 1
                print(*job[2:], "FAILED", error, flush=True)
                continue
            print(*row.values(), flush=True)
            record(file, list(study["variants"]), [row])
            record(file.with_name(f"{name}-curves.csv"), list(study["variants"]), curve)
    print(table(read(file)))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
