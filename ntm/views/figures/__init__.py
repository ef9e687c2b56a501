"""The paper's figures, drawn as its readers know them: white focus on black, time to the right."""

from __future__ import annotations

from ntm.views.figures.curves import by_items, learning, predictions
from ntm.views.figures.episodes import Span, answers, memory_use, repeated_contexts
from ntm.views.figures.sorting import (
    SortLocations,
    SortSelection,
    sort_example,
    sort_locations,
    sort_selection,
    sort_use,
)
from ntm.views.figures.style import GREEN, RED

__all__ = [
    "GREEN",
    "RED",
    "SortLocations",
    "SortSelection",
    "Span",
    "answers",
    "by_items",
    "learning",
    "memory_use",
    "predictions",
    "repeated_contexts",
    "sort_example",
    "sort_locations",
    "sort_selection",
    "sort_use",
]
