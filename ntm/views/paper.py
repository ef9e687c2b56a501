"""The paper's own results (arXiv 1410.5401), as far as its text states or its plots show them.

[R] is read off a plot, so rough; [P] is in the text or a table.
"""

from __future__ import annotations

from typing import NamedTuple


class Reading(NamedTuple):
    """One result of the paper: ``bits`` per sequence after so many sequences of training."""

    model: str
    sequences: int
    bits: float


FF, LSTM_NTM, LSTM = "NTM, feedforward", "NTM, LSTM", "LSTM"

#: Learning curves: figures 3, 7, 10, 13 and 18 [R]. "Solved" is drawn as 0.
LEARNING: dict[str, list[Reading]] = {
    "copy": [
        Reading(FF, 100_000, 0.1), Reading(LSTM_NTM, 100_000, 0.1),
        Reading(LSTM, 100_000, 4.8), Reading(LSTM, 500_000, 0.6), Reading(LSTM, 1_000_000, 0.5),
    ],
    "repeat_copy": [
        Reading(FF, 50_000, 45), Reading(FF, 150_000, 0), Reading(LSTM_NTM, 50_000, 5),
        Reading(LSTM_NTM, 150_000, 0), Reading(LSTM, 50_000, 105), Reading(LSTM, 150_000, 0),
    ],
    "associative_recall": [Reading(FF, 30_000, 0), Reading(LSTM_NTM, 30_000, 0)],
    "ngram": [
        Reading(FF, 1_000_000, 134), Reading(LSTM_NTM, 1_000_000, 133.5),
        Reading(LSTM, 1_000_000, 136),
    ],
    "priority_sort": [
        Reading(FF, 200_000, 40), Reading(FF, 1_000_000, 20), Reading(LSTM_NTM, 200_000, 35),
        Reading(LSTM_NTM, 1_000_000, 18), Reading(LSTM, 200_000, 90), Reading(LSTM, 1_000_000, 58),
    ],
}  # fmt: skip

#: The Bayes optimum of n-grams in the paper's figure 13.
NGRAM_OPTIMUM = 133.0

#: Bits of recall by items, trained on 2-6: figure 11 [R]; "< 1" [P] is given as 1.
RECALL_BY_ITEMS: dict[str, dict[int, float]] = {
    FF: {6: 0, 10: 0, 15: 1, 20: 8},
    LSTM_NTM: {6: 0, 10: 1.8, 15: 4.8, 20: 7},
    LSTM: {6: 2, 10: 36, 15: 40, 20: 38},
}


class Row(NamedTuple):
    """A row of tables 1 to 3 [P]; ``size`` is that of the controller, or of the network."""

    task: str
    heads: int | None
    size: str
    lr: str
    parameters: int


#: The memory is 128 x 20 throughout.
TABLES: dict[str, list[Row]] = {
    FF: [
        Row("copy", 1, "100", "1e-4", 17_162), Row("repeat_copy", 1, "100", "1e-4", 16_712),
        Row("associative_recall", 4, "256", "1e-4", 146_845),
        Row("ngram", 1, "100", "3e-5", 14_656), Row("priority_sort", 8, "512", "3e-5", 508_305),
    ],
    LSTM_NTM: [
        Row("copy", 1, "100", "1e-4", 67_561), Row("repeat_copy", 1, "100", "1e-4", 66_111),
        Row("associative_recall", 1, "100", "1e-4", 70_330),
        Row("ngram", 1, "100", "3e-5", 61_749),
        Row("priority_sort", 5, "2 x 100", "3e-5", 269_038),
    ],
    LSTM: [
        Row("copy", None, "3 x 256", "3e-5", 1_352_969),
        Row("repeat_copy", None, "3 x 512", "3e-5", 5_312_007),
        Row("associative_recall", None, "3 x 256", "1e-4", 1_344_518),
        Row("ngram", None, "3 x 128", "1e-4", 331_905),
        Row("priority_sort", None, "3 x 128", "3e-5", 384_424),
    ],
}  # fmt: skip
