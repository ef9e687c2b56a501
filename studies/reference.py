"""Makes the median seed of a study's recipe the reference run of its config.

    python studies/reference.py studies/copy.yaml

Into runs/reference/TASK/MODEL: small, without the checkpoint that training would resume from.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from ntm.experiment.results import find_runs, group, read_results
from ntm.experiment.rundir import RunDir

ROOT = Path(__file__).parents[1]


def main() -> None:
    file = Path(sys.argv[1])
    study = yaml.safe_load(file.read_text())
    results, _ = read_results(find_runs([ROOT / "runs" / "studies" / file.stem / "recipe"]))
    ((recipe,),) = group(results).values()
    source, seed = recipe.median.run, recipe.median.config.seed
    target = RunDir(ROOT / "runs" / "reference" / study["config"])
    shutil.rmtree(target.path, ignore_errors=True)
    ignored = shutil.ignore_patterns(
        "last.safetensors", "previous.safetensors", "plots", ".lock", "trace.npz"
    )
    shutil.copytree(source.path, target.path, ignore=ignored)
    command = shlex.join(["ntm", "train", study["config"], "--seed", str(seed)])
    again = target.manifest().get("resumed", [])
    again = [{**entry, "command": f"{command} --resume"} for entry in again]
    target.update_manifest(command=command, **({"resumed": again} if again else {}))
    place = str(target.path.relative_to(ROOT))
    subprocess.run([sys.executable, "-m", "ntm.cli", "plot", place], cwd=ROOT, check=True)
    print(f"{place}: seed {seed}, the median of {len(recipe.results)}")


if __name__ == "__main__":
    main()
