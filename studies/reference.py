"""Makes the median seed of a study's recipe, or of another variant, its config's reference run.

    python studies/reference.py studies/copy.yaml
    python studies/reference.py studies/associative_recall.yaml LSTM

Into runs/reference/TASK/MODEL: small, without the checkpoint that training would resume from.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from ntm.analysis.results import find_runs, group, read_results
from ntm.runs.folder import RunDir

ROOT = Path(__file__).parents[1]


def main() -> None:
    file = Path(sys.argv[1])
    variant = sys.argv[2] if len(sys.argv) > 2 else "recipe"
    study = yaml.safe_load(file.read_text())
    config = (study["variants"][variant] or {}).get("config", study["config"])
    results, _ = read_results(find_runs([ROOT / "runs" / "studies" / file.stem / variant]))
    ((runs,),) = group(results).values()
    source, seed = runs.median.run, runs.median.config.seed
    target = RunDir(ROOT / "runs" / "reference" / config)
    shutil.rmtree(target.path, ignore_errors=True)
    ignored = shutil.ignore_patterns(
        "last.safetensors", "previous.safetensors", "plots", ".lock", "trace.npz"
    )
    shutil.copytree(source.path, target.path, ignore=ignored)
    command = shlex.join(["ntm", "train", config, "--seed", str(seed)])
    again = target.manifest().get("resumed", [])
    again = [{**entry, "command": f"{command} --resume"} for entry in again]
    target.update_manifest(command=command, **({"resumed": again} if again else {}))
    place = str(target.path.relative_to(ROOT))
    subprocess.run([sys.executable, "-m", "ntm.cli", "plot", place], cwd=ROOT, check=True)
    print(f"{place}: seed {seed}, the median of {len(runs.results)}")


if __name__ == "__main__":
    main()
