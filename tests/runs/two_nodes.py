"""Sweeps on a Ray cluster of two nodes, of which one is killed: python two_nodes.py CONFIG OUT."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - or training waits for whatever else runs

import ray
from ray.cluster_utils import Cluster

from ntm.runs import cluster as module
from ntm.runs.cluster import RayExecutor
from ntm.runs.jobs import Job, plan
from ntm.runs.sweep import SweepState, sweep


class Killer:
    """Takes a node away while both have got somewhere."""

    def __init__(self, nodes: Cluster) -> None:
        self.nodes, self.killed = nodes, False
        self.second = nodes.add_node(num_cpus=1)
        nodes.wait_for_nodes()

    def changed(self, state: SweepState) -> None:
        both = [job for job, _ in state.running.values() if job.progress().get("sequences", 0) > 0]
        if not self.killed and state.done and len(both) == 2:
            self.killed = True
            self.nodes.remove_node(self.second, allow_graceful=False)

    def ended(self, job: Job, error: str | None) -> None:
        pass


def main() -> None:
    config, out = sys.argv[1], Path(sys.argv[2])
    module.EVERY = 0.3
    nodes = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    killer = Killer(nodes)
    jobs = plan([config], 5, [], [], out)
    state = sweep(jobs, out, RayExecutor(nodes.address, workers=2), killer, retries=2)
    ray.shutdown()
    nodes.shutdown()  # type: ignore[no-untyped-call]
    (out / "state").write_text(f"{killer.killed} {len(state.done)}")


if __name__ == "__main__":
    main()
