from __future__ import annotations

import csv
import html.parser
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ntm.analysis.results import Trouble, find_runs, group, read_results
from ntm.runs.evaluations import Evaluation
from ntm.runs.folder import RunDir
from ntm.views.report import markdown, number, section, write
from tests.small import edit_manifest, new_run, small_config

HOSTILE = "<script>alert(1)</script>|`x`"


def made(path: Path, bits: list[float], **changes: Any) -> RunDir:
    config = small_config(train={"solved_bits": 0.5}, **changes)
    run = new_run(path, config)
    for i, value in enumerate(bits, 1):
        row = {"sequences": 100 * i, "seconds": 4 * i, "bits": value, "floor": 0.0}
        run.append(run.validation_file, {**row, "bit_errors": 0, "sequence_accuracy": 0.5})
    edit_manifest(run, status="budget", peak_memory_mib=200, command=f"ntm train\r\r{HOSTILE}")
    best = 100 * (int(np.argmin(bits)) + 1)
    for length in (8, 16):
        entry = Evaluation(
            task={"length": length}, slots=9, episodes=5, seed=0, sequences=best, bits=length / 8,
            floor=0.0, bit_errors=1.0, sequence_accuracy=0.5, conditions=[],
        )  # fmt: skip
        run.keep_evaluation(entry)
    conditions = [
        {
            "length": n,
            "episodes": 3,
            "bits": n / 10,
            "floor": 0.0,
            "bit_errors": 0.0,
            "sequence_accuracy": 1.0,
        }
        for n in (1, 2, 3)
    ]
    run.keep_evaluation(
        Evaluation(
            task={}, slots=9, episodes=9, seed=0, sequences=best, bits=0.2, floor=0.0,
            bit_errors=0.0, sequence_accuracy=1.0, conditions=conditions,
        )
    )  # fmt: skip
    return run


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models with three seeds each on copy, one of them in a folder of a hostile name."""
    runs = tmp_path_factory.mktemp("runs")
    for seed in (1, 2, 3):
        made(runs / "lstm" / str(seed), [8, 0.4 / seed], seed=seed)
        gru = {"controller": {"kind": "gru", "size": 11}}
        made(runs / HOSTILE.replace("/", "") / str(seed), [9, 5, seed], seed=seed, model=gru)
    found, troubles = read_results(find_runs([runs]))
    assert not troubles
    sections = [section(task, groups, {}) for task, groups in group(found).items()]
    out = tmp_path_factory.mktemp("out")
    write(out, sections, [Trouble(Path(HOSTILE), HOSTILE)], f"6 runs {HOSTILE}")
    return out


class Reader(html.parser.HTMLParser):
    """What a browser would find."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts = 0
        self.images: list[str] = []
        self.open: list[str] = []
        self.cells: list[list[str]] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.scripts += tag == "script"
        assert not {"onclick", "onerror", "onload"} & given.keys()
        for name in ("src", "href"):
            value = given.get(name) or "#"
            assert value.startswith(("#", "data:image/svg+xml;base64,")), value
        if tag == "img":
            assert given["alt"]
            self.images.append(given["src"] or "")
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "tr":
            self.cells.append([])

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "td":
            self.cells[-1].append(data)


def test_the_page_is_whole_self_contained_and_harmless(report: Path) -> None:
    page = Reader()
    page.feed((report / "report.html").read_text())
    assert not page.open  # every element is closed
    assert page.scripts == 1  # ours
    assert len(page.images) >= 5
    text = (report / "report.html").read_text()
    assert "&lt;script&gt;alert(1)" in text
    assert not re.search(r"https?://(?!www\.w3\.org)", text)


def test_the_table_says_what_the_runs_found(report: Path) -> None:
    page = Reader()
    page.feed((report / "report.html").read_text())
    rows = {cells[0]: cells for cells in reversed(page.cells) if cells}  # the first table wins
    lstm, gru = rows["NTM with LSTM 11"], rows["NTM with GRU 11"]
    none = "\N{EN DASH}"
    assert lstm[3:8] == ["fused", "3", "3 of 3", "200", "8.00"]
    assert gru[3:8] == ["fused", "3", "0 of 3", none, none]
    assert lstm[8] == "0.2000"  # three seeds are too few for an interval
    assert gru[9] == "2.00"
    assert lstm[10] == "50.00%"
    assert lstm[11:13] == ["1.00", "2.00"]  # at length 8 and 16
    assert lstm[13:] == ["25.0", "200"]


def test_every_run_is_a_row_of_plain_numbers(report: Path) -> None:
    with (report / "results.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 6
    row = next(r for r in rows if r["model"] == "NTM with GRU 11" and r["seed"] == "3")
    assert row["task"] == "copy"
    assert float(row["bits"]) == 3
    assert row["sequences_to_solved"] == ""
    assert float(row["length 16: bits"]) == 2
    assert float(row["as trained: sequence accuracy"]) == 1


def test_the_figures_are_there_twice_and_the_markdown_shows_them(report: Path) -> None:
    names = {p.stem for p in (report / "figures").glob("*.svg")}
    assert names == {p.stem for p in (report / "figures").glob("*.png")}
    assert {
        "copy-curve-sequences", "copy-curve-seconds", "copy-length", "copy-pairs",
        "copy-conditions-0", "copy-conditions-1",
    } == names  # fmt: skip
    text = (report / "report.md").read_text()
    assert set(re.findall(r"figures/([\w-]+)\.svg", text)) == names
    blocks = re.split(r"\n\n+", text)  # only in code, where it is only text
    assert all(block.startswith("    ntm train") for block in blocks if "<script" in block)


def test_the_same_runs_give_the_same_report(report: Path, tmp_path: Path) -> None:
    """To the byte, so that a report can be committed."""
    with (report / "results.csv").open() as stream:
        runs = [Path(row["run"]) for row in csv.DictReader(stream)]
    found, _ = read_results(runs)
    sections = [section(task, groups, {}) for task, groups in group(found).items()]
    write(tmp_path, sections, [Trouble(Path(HOSTILE), HOSTILE)], f"6 runs {HOSTILE}")
    for file in ("report.html", "report.md", "results.csv", "figures/copy-length.svg"):
        assert (tmp_path / file).read_bytes() == (report / file).read_bytes()


def test_of_many_models_the_best_are_told_of_and_all_are_in_the_table(tmp_path: Path) -> None:
    for size in range(3, 12):  # the larger the better, and those of 9 and more solve it
        for seed in (1, 2, 3):
            model = {"controller": {"kind": "gru", "size": size}}
            bits = [9.0, 4.75 - size / 2 - seed / 100]
            made(tmp_path / f"{size}-{seed}", bits, seed=seed, model=model)
    ((_, groups),) = group(read_results(find_runs([tmp_path]))[0]).items()
    part = section("copy", groups, {})
    names = [f"NTM with GRU {size}" for size in range(11, 2, -1)]
    assert [row[0].text for row in part.rows] == names
    assert [line.split(":")[0] for line in part.summary[:3]] == names[:3]
    assert part.summary[3] == "6 more are in the table."
    assert {frozenset(pair[:2]) for pair in part.comparisons} == {
        frozenset((names[0], other)) for other in names[1:]
    }
    assert part.pictures[0].name == "copy-ranking"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (1234567.8, "1,234,568"), (0.012345, "0.0123"), (9.876, "9.88"), (3e-7, "3e-07"),
        (float("inf"), "\N{INFINITY}"), (float("nan"), "\N{EN DASH}"), (-12.34, "-12.3"),
    ],
)  # fmt: skip
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


def test_markdown_is_only_text() -> None:
    assert markdown("a|b <i>`c`_d_\n*e*") == r"a\|b &lt;i&gt;\`c\`\_d\_ \*e\*"
    assert markdown("a\r# b\u2028c") == r"a \# b c"
