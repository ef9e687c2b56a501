"""How much of the cost of a machine that sorts lies in lists with two priorities close together.

    python studies/near_ties.py runs/reference/priority_sort/ntm-gru

Prints, by the least distance of neighbours among the priorities that decide the answer, the share
of lists and of their cost; how many vectors are wrong in lists that are not exact; and which of the
answer is the first that is.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from ntm.runs.folder import RunDir
from ntm.runs.models import load_model
from ntm.training.streams import Stream, numpy_generator
from ntm.training.task_settings import as_tested
from tasks.priority_sort import PrioritySort

LISTS = 3000
EDGES = [0.0, 0.0003, 0.001, 0.002, 0.004, 2.0]


def main() -> None:
    model, config = load_model(RunDir(Path(sys.argv[1])))
    task = as_tested(config.task, config.validation.task).held_out("test")
    assert isinstance(task, PrioritySort)
    episode = task.sample(numpy_generator(0, Stream.EVALUATION), LISTS)
    with torch.no_grad():
        logits, _ = model(episode.inputs)
    bits = (task.loss.nats(logits, episode) / np.log(2)).numpy()  # [B]
    shown = episode.inputs[: task.items[1], :, task.width].numpy()
    priority = -np.sort(-shown, axis=0)[: task.sorted + 1]
    gap = -np.diff(priority, axis=0).max(axis=0)  # [B]
    print(f"{bits.mean():.2f} bits over {LISTS} lists")
    for low, high in pairwise(EDGES):
        here = (gap >= low) & (gap < high)
        print(f"{low:g} to {high:g}: {here.mean():.1%} of lists, "
              f"{bits[here].sum() / bits.sum():.1%} of the cost")  # fmt: skip
    different = ((logits > 0) != (episode.targets > 0.5)).any(dim=2) & (episode.mask > 0)
    wrong = different.sum(dim=0).numpy()
    for least, most in ((1, 2), (3, 5), (6, task.sorted)):
        lists = ((wrong >= least) & (wrong <= most)).sum()
        print(f"{least} to {most} wrong vectors: {lists} lists")
    first = different.int().argmax(dim=0).numpy()[wrong > 0] - task.items[1]  # after the delimiter
    print("first wrong at 1, 2 ...:", *np.bincount(first, minlength=task.sorted + 1)[1:])


if __name__ == "__main__":
    main()
