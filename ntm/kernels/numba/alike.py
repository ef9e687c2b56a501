"""Slots that are alike are carried as one.

Every episode of a memory that is not learned begins with N equal rows, and all heads on slot 0.
What the heads do depends on rows, never on their numbers, but for the shift, which reaches r slots
in a step. So after t steps the slots further than r t from slot 0 are equal, in content and in
every weighting, whatever the heads did. Of them the kernels carry one, and n - 1 more of its kind
in the sums: of the content weighting's softmax, of the sharpening, of a read. That is exact.

A column of the kernels' arrays is a slot: slot 0 at ``home``, slot -1, which is N - 1, to its left.
At step t they work on a run of columns, :class:`Rows`, whose first is the one for all that are
alike. It grows by r on each side with every step, until every slot has a column of its own and the
run is the circle. A state that came from elsewhere begins there.

Derivatives are sums over the slots that are alike, which is all that a chain rule asks for; those
by single slots differ as far as later shifts reach. So where they are clipped one by one, the
forward pass leaves what it found for all slots that may differ by then, up to 2 r T, and the
backward pass works on these at every step.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ntm.kernels.kinds import Array
from ntm.kernels.numba.jit import device_function
from ntm.kernels.numba.records import Rows, Slots

#: Distances are one short of a multiple of this, so that a step works on whole vectors: columns
#: that are left of them would be worked on one by one.
WHOLE = 8


def rows(slots: Any, steps: Any) -> Rows:
    """The columns of a step that finds what so many steps of a call have left."""
    far = max(slots.reach * (slots.begun + steps), slots.least) | (WHOLE - 1)
    if slots.begun < 0 or 2 * far + 1 >= slots.count:
        return Rows(0, slots.count, 1, 1, 0)
    return Rows(slots.home - far - 1, 2 * far + 2, slots.count - 2 * far - 1, 0, slots.least)


rows_at = device_function(rows)


@lru_cache(maxsize=1024)
def place_slots(
    count: int, reach: int, alike: bool, steps: int, clips: bool
) -> tuple[Slots, Slots, int]:
    """Where N slots lie in a sequence of so many steps: forward, backward, and in how many columns.

    clips: whether derivatives are clipped slot by slot.
    """
    far = reach * (2 * steps if clips else steps + 1)  # a step more than there are: see ``extend``
    columns = min(count, 2 * (far | (WHOLE - 1)) + 2)
    if not alike or (clips and columns == count):
        slots = Slots(count, 0, reach, -1, 0)
        return slots, slots, count
    slots = Slots(count, columns // 2, reach, 0, 0)
    return slots, slots._replace(least=far) if clips else slots, columns


@lru_cache(maxsize=1024)
def start(slots: Slots) -> Array:
    """Which of the first two slots each column of the first run is like."""
    run = rows(slots, 0)
    slot = (np.arange(run.first, run.first + run.count) - slots.home) % slots.count
    which: Array = np.minimum(slot, 1)
    return which


@lru_cache(maxsize=1024)
def columns_at(slots: Slots, steps: int) -> slice:
    """The columns of :func:`rows`."""
    run = rows(slots, steps)
    return slice(run.first, run.first + run.count)


def stands_for(slots: Slots, steps: int) -> Array:
    """For every slot [N], which column after so many steps it has, counted from the first."""
    run = rows(slots, steps)
    which = np.zeros(slots.count, np.intp)
    n = np.arange(run.count)
    which[(run.first + n - slots.home) % slots.count] = n
    return which


def fold(derivatives: Array, slots: Slots, steps: int) -> Array:
    """Derivatives [., ., N] by every slot after so many steps -> [., ., n] by every column."""
    if slots.begun < 0:
        return derivatives
    found = np.zeros((*derivatives.shape[:-1], rows(slots, steps).count), derivatives.dtype)
    np.add.at(found.T, stands_for(slots, steps), derivatives.T)
    return found


@device_function
def extend(array: Any, run: Any, wider: Any) -> None:
    """The columns [., N] that are carried from the next step on, from the one that stood for them.

    So what a step finds is as wide as what it leaves.
    """
    lo, hi = run.first, run.first + run.count
    end = wider.first + wider.count
    for j in range(array.shape[0]):
        row = array[j]
        alike = row[lo]
        for i in range(wider.first, lo):
            row[i] = alike
        for i in range(hi, end):
            row[i] = alike


@device_function
def gather(d: Any, run: Any, wider: Any) -> None:
    """The derivatives of :func:`extend`: they add up in the column that all were copied from."""
    lo, hi = run.first, run.first + run.count
    end = wider.first + wider.count
    for j in range(d.shape[0]):
        row = d[j]
        total = row[lo]
        for i in range(wider.first, lo):
            total += row[i]
        for i in range(hi, end):
            total += row[i]
        row[lo] = total
