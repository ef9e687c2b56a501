from __future__ import annotations

import csv
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import configs
from ntm import cli
from ntm.runs.folder import RunDir
from ntm.runs.study import find_study, load_study, read_table, study_of
from ntm.views.study import curves_of, sizes_of, table

CONFIG = """
task: {kind: copy, width: 3, length: [1, 3]}
model:
  controller: {kind: gru, size: 7}
  memory: {slots: 9, width: 5}
train: {optimizer: {kind: adam, lr: 1e-3}, sequences: 60, solved_bits: 1e3}
validation: {every: 20, episodes: 3}
"""
STUDY = """
config: small.yaml
seeds: [1, 4]
variants:
  recipe:
  "learned, 6 units": {set: [model.memory.initial=learned, model.controller.size=6], seeds: [3]}
  too large a step: {set: [train.optimizer.lr=1e6, train.sequences=400], seeds: [2]}
sizes: {name: length, trained: 3}
tests:
  "4": {set: [task.length=4], episodes: 2}
  "5": {set: [task.length=5], slots: 16, episodes: 3}
"""


@pytest.fixture
def ntm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Runs a command line here, in a folder with a study: its exit code, and standard error."""
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(CONFIG)
    Path("tiny.yaml").write_text(STUDY)

    def call(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["ntm", *words])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return int(caught.value.code or 0), capsys.readouterr().err

    return call


def rows(name: str) -> dict[tuple[str, str], dict[str, str]]:
    with Path("runs/studies/tiny", name).open(newline="") as stream:
        return {(row["variant"], row["seed"]): row for row in csv.DictReader(stream)}


@pytest.mark.system
def test_a_study_is_trained_tested_and_tabulated(ntm: Callable[..., tuple[int, str]]) -> None:
    out = Path("runs/studies/tiny")
    code, error = ntm("sweep", "tiny.yaml", "--workers", "2", "--retries", "0")
    assert code == 1  # one variant cannot be trained; the others are done
    assert "3 of 4 runs done (0 of them before), 1 failed" in error
    assert "failed: runs/studies/tiny/too large a step/seed-2: the " in error
    found = rows("results.csv")
    assert list(found) == [("recipe", "1"), ("recipe", "4"), ("learned, 6 units", "3")]
    for (variant, seed), row in found.items():
        run = RunDir(out / variant / f"seed-{seed}")
        validation = run.rows(run.validation_file)
        assert row["status"] == "solved"
        assert row["sequences"] == f"{validation[0]['sequences']:.0f}"  # 1,000 bits are solved
        assert row["sequences in all"] == f"{validation[-1]['sequences']:.0f}"
        for test in run.evaluations():
            label = str(test.task["length"])
            assert float(row[f"{label}: bits"]) == pytest.approx(test.bits - test.floor, abs=1e-4)
            assert float(row[f"{label}: sequence accuracy"]) == test.sequence_accuracy
        manifest = run.manifest()
        assert row["commit"] == (manifest["commit"] or "")
        assert (row["engine"], row["processor"]) == (manifest["engine"], manifest["processor"])
        assert row["version"] == manifest["versions"]["ntm-suite"]
    # What has a slot's first contents learned keeps its slots, and has no test with others.
    tests = {name: RunDir(out / name).evaluations() for name in ("recipe/seed-1", "recipe/seed-4")}
    for evaluations in tests.values():
        asked = [(e.task, e.slots, e.episodes, e.seed) for e in evaluations]
        assert asked == [({"length": 4}, 9, 2, 0), ({"length": 5}, 16, 3, 0)]
    learned = RunDir(out / "learned, 6 units" / "seed-3")
    assert [e.task for e in learned.evaluations()] == [{"length": 4}]
    assert found["learned, 6 units", "3"]["5: bits"] == ""
    assert learned.config().model.controller.size == 6

    curves = curves_of(read_table(out / "curves.csv"), ["learned, 6 units", "recipe", "none"])
    assert {name: len(seeds) for name, seeds in curves.items()} == {
        "learned, 6 units": 1, "recipe": 2,
    }  # fmt: skip
    validation = learned.rows(learned.validation_file)
    assert np.array_equal(curves["learned, 6 units"][0].x, [v["sequences"] for v in validation])
    bits = [v["bits"] - v["floor"] for v in validation]
    assert np.allclose(curves["learned, 6 units"][0].bits, bits, rtol=1e-3)
    assert {path.name for path in out.iterdir() if path.suffix in (".md", ".png")} == {
        "results.md", "curves.png", "sizes.png",
    }  # fmt: skip

    # Again: nothing is done twice, but what was taken away is, and only where it is asked for.
    times = {file: file.stat().st_mtime_ns for file in out.rglob("last.safetensors")}
    shutil.rmtree(out / "recipe" / "seed-1")
    (out / "recipe" / "seed-4" / "evaluations.json").unlink()
    code, error = ntm("sweep", "tiny.yaml", "--only", "learned, 6 units")
    assert (code, error) == (0, "1 of 1 runs done (1 of them before)\n")
    assert not (out / "recipe" / "seed-1").exists()
    code, error = ntm("sweep", "tiny.yaml", "--only", "recipe", "--workers", "2")
    assert code == 0
    assert "2 of 2 runs done (0 of them before)" in error
    gone = out / "recipe" / "seed-1" / "checkpoint" / "last.safetensors"
    for file, time in times.items():
        assert (file.stat().st_mtime_ns == time) == (file != gone)
    again = rows("results.csv")
    assert list(again) == list(found)
    same = ("4: bits", "5: bits", "5: sequence accuracy")
    for key, row in again.items():
        assert [row[name] for name in same] == [found[key][name] for name in same]


#: Made by hand: two variants, of which one has a seed that was not tested.
ROWS = [
    dict(zip(("variant", "seed", "status", "sequences", "seconds", "seconds in all",
              "7: bits", "7: sequence accuracy", "odd: bits", "odd: sequence accuracy"),
             values, strict=True))
    for values in (
        ("a", "1", "solved", "3000", "5", "11", "0.5", "1.000", "150.4", "0.2"),
        ("a", "2", "solved", "1000", "9", "12", "0.25", "0.999", "2149.6", "1.000"),
        ("a", "3", "budget", "", "", "40", "8", "0.000", "", ""),
        ("b", "1", "budget", "", "", "50", "", "", "1.23456", "0.5"),
    )
]  # fmt: skip


def test_the_table_has_medians_and_counts() -> None:
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table(ROWS).splitlines()]
    assert lines[0] == [
        "variant", "solved", "sequences", "seconds", "seconds in all",
        "bits at 7", "exact at 7", "bits at odd", "exact at odd",
    ]  # fmt: skip
    assert lines[2:] == [
        ["a", "2 of 3", "2,000 (1,000-3,000)", "7 (5-9)", "11.5 (11-12)",
         "0.5 (0.25-8)", "1 of 3", "1,150 (150-2,150)", "1 of 2"],
        ["b", "0 of 1", "-", "-", "-", "-", "-", "1.23 (1.23-1.23)", "0 of 1"],
    ]  # fmt: skip


def test_sizes_are_the_tests_that_are_numbers() -> None:
    assert sizes_of(ROWS, ["b", "a"]) == {"a": {7.0: [0.5, 0.25, 8.0]}}
    assert sizes_of(ROWS, ["b"]) == {}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds: [1, 4]", "seeds: [1, 4, 1]", "variants.recipe: seed 1 is there twice"),
        ("config: small.yaml", "confg: small.yaml", "confg: no such key; did you mean config?"),
        ("seeds: [3]", "seed: [3]", "units.seed: no such key; did you mean seeds?"),
        ("tests:", "curves: [recipes]\ntests:", "recipes: no such variant; did you mean recipe?"),
        ("episodes: 2", "episodes: 0", "tests.4.episodes: should be greater than or equal to 1"),
        ("recipe:", "a/b:", "variants.a/b: names a folder, so it should have no slash"),
        ("size=6", "sise=6", "tiny.yaml: variants.learned, 6 units: "),
        ("task.length=5", "task.lenght=5", "tiny.yaml: tests.5: "),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    old: str, new: str, message: str, ntm: Callable[..., tuple[int, str]]
) -> None:
    assert STUDY.count(old) == 1
    Path("tiny.yaml").write_text(STUDY.replace(old, new))
    code, error = ntm("sweep", "tiny.yaml")
    assert code == 2
    assert message in error
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tiny.yaml", "--only", "recipes"], "no such variant; did you mean recipe?"),
        (["tiny.yaml", "--seeds", "3"], "--seeds: tiny.yaml is a study, and its file sets that"),
        (["tiny.yaml", "--set", "train.batch=2"], "--set: tiny.yaml is a study"),
        (["tiny.yaml", "small.yaml"], "tiny.yaml: is a study, and is swept alone"),
        (["small.yaml", "--only", "recipe"], "--only: chooses variants of a study"),
        (["study/cpoy"], "did you mean study/copy?"),
    ],
)
def test_options_that_a_study_does_not_have_are_refused(
    words: list[str], message: str, ntm: Callable[..., tuple[int, str]]
) -> None:
    code, error = ntm("sweep", *words)
    assert code == 2
    assert message in error
    assert not Path("runs").exists()


def test_a_study_is_not_trained_as_a_config(ntm: Callable[..., tuple[int, str]]) -> None:
    for source in ("study/copy", "tiny.yaml"):
        code, error = ntm("train", source)
        assert code == 2
        assert f"{source}: is a study; ntm sweep {source} runs it" in error
    assert study_of(["copy/ntm-lstm"], {}) is None
    assert find_study("compare/copy") is None


@pytest.mark.parametrize("name", configs.shipped_studies())
def test_a_shipped_study_can_be_run(name: str) -> None:
    study = load_study(name)
    assert name == f"study/{study.name}"
    assert configs.describe(name)
    jobs = study.jobs(Path("out"))
    seeds = sum(len(v.seeds or study.settings.seeds) for v in study.variants.values())
    assert len(jobs) == len({job.folder for job in jobs}) == seeds
    assert all(job.folder.parent.name in study.variants for job in jobs)


@pytest.mark.parametrize("name", configs.shipped_studies())
def test_the_kept_tables_are_those_of_the_study(name: str) -> None:
    """Every seed of every variant that is named has its row, but for what RESULTS.md explains."""
    study = load_study(name)
    kept = read_table(Path(configs.FOLDER).parent / study.folder / "results.csv")
    places = [(row["variant"], row["seed"]) for row in kept]
    assert len(places) == len(set(places))
    assert set(study.variants) <= {variant for variant, _ in places}
    labels = {key.rpartition(": ")[0] for row in kept for key in row if ": " in key}
    assert labels == set(study.settings.tests)
    for row in kept:
        for key, value in row.items():
            if key.endswith(": sequence accuracy") and value:
                assert 0 <= float(value) <= 1
