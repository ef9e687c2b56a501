from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from ntm.analysis.results import find_runs, read_results
from ntm.errors import NTMError, UsageError
from ntm.runs.executor import End, LocalExecutor
from ntm.runs.folder import RunDir
from ntm.runs.jobs import Job, plan
from ntm.runs.sweep import Attempts, SweepState, lock, sweep

SMALL = """
task: {kind: copy, width: 3, length: [1, 3]}
model:
  controller: {kind: gru, size: 7}
  memory: {slots: 9, width: 5}
train: {optimizer: {kind: adam, lr: 1e-3}, sequences: 60, report_every: 5, checkpoint_every: 10}
validation: {every: 30, episodes: 3}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    Path("small.yaml").write_text(SMALL)
    return "small.yaml"


class Watch:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.ends: list[tuple[str, str | None]] = []

    def changed(self, state: SweepState) -> None:
        pass

    def ended(self, job: Job, error: str | None) -> None:
        self.ends.append((job.folder.name, error))


class Fake:
    """Runs that end at once, as they are told to: ``errors`` by seed, one for each attempt."""

    def __init__(self, errors: dict[int, list[str | None]], busy: set[int] | None = None) -> None:
        self.errors, self.busy = errors, busy or set()
        self.started: list[int] = []
        self.running: list[Job] = []

    def free(self) -> bool:
        return len(self.running) < 2

    def start(self, job: Job) -> None:
        job.folder.mkdir(parents=True, exist_ok=True)
        self.started.append(job.seed)
        self.running.append(job)

    def ended(self) -> list[End]:
        if not self.running:
            return []
        job = self.running.pop(0)
        if job.seed in self.busy:
            self.busy.remove(job.seed)
            return [End(job, "another process is training here", again=True)]
        left = self.errors.get(job.seed)
        error = left.pop(0) if left else None
        if error is None:
            finish(job)
        return [End(job, error)]

    def stop(self) -> None:
        self.running.clear()


def finish(job: Job) -> None:
    job.run.save_config(job.resolved)
    job.run.manifest_file.write_text('{"status": "budget"}')


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "Fake" in request.function.__code__.co_names:
        monkeypatch.setattr("ntm.runs.sweep.time.sleep", lambda seconds: None)


def test_every_combination_is_planned_once(config: str) -> None:
    grid = ["train.batch=1,2", "task.length=[1,2],[2,3]"]
    jobs = plan([config, "copy/ntm-ff"], 3, grid, ["train.sequences=50"], Path("out"))
    assert len(jobs) == len({job.folder for job in jobs}) == 2 * 2 * 2 * 3
    assert jobs[4].folder == Path("out/copy/small/batch=1,length=2_3/seed-2")
    assert jobs[4].settings == ("train.sequences=50", "train.batch=1", "task.length=[2,3]")
    assert {job.resolved.train.sequences for job in jobs} == {50}
    words = jobs[4].command(threads=5)
    assert words[:2] == ["train", "small.yaml"]
    assert words[-3:] == ["--threads", "5", "--quiet"]
    assert plan([config], 1, [], [], Path("out"))[0].folder == Path("out/copy/small/seed-1")


@pytest.mark.parametrize(
    ("configs", "grid", "message"),
    [
        (["small.yaml"], ["train.lr=1"], "train.lr: no such key"),
        (["small.yaml"], ["train.batch"], "--grid train.batch: should be key=value,value"),
        (["small.yaml"], ["train.batch=1,,2"], "should be key=value,value"),
        (["small.yaml"], ["seed=1,2"], "--seeds N runs seeds 1 to N"),
        (["small.yaml"], ["train.batch=2,2"], "would share this folder"),
        (["small.yaml"], ["train.batch=1", "train.batch=2"], "train.batch: is there twice"),
        (["small.yaml", "small.yaml"], [], "would share this folder"),
        (["small.yaml"], ["train.batch=1,0"], "train.batch: should be greater than or equal to 1"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_made(
    config: str, configs: list[str], grid: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        plan(configs, 2, grid, [], Path("out"))
    assert not Path("out").exists()


def test_a_failure_is_retried_as_often_as_asked_and_the_others_go_on(config: str) -> None:
    jobs = plan([config], 4, [], [], Path("out"))
    executor = Fake({2: ["broke", "broke again", None], 3: ["broke", None]})
    watch = Watch()
    state = sweep(jobs, Path("out"), executor, watch, retries=1)
    assert Counter(executor.started) == {1: 1, 2: 2, 3: 2, 4: 1}
    assert sorted(job.seed for job in state.done) == [1, 3, 4]
    assert [(job.seed, error) for job, error in state.failed] == [(2, "broke again")]
    assert ("seed-2", "broke again") in watch.ends
    kept = json.loads(Path("out/sweep.json").read_text())
    assert kept["copy/small/seed-2"] == {"failures": 2, "error": "broke again"}

    # Started again: nothing is done twice, and what has failed too often is not tried.
    again = Fake({})
    state = sweep(jobs, Path("out"), again, Watch(), retries=1)
    assert again.started == []
    assert state.before == 3
    assert [(job.seed, error) for job, error in state.failed] == [(2, "broke again")]
    # Asked for more, it is.
    state = sweep(jobs, Path("out"), again, Watch(), retries=2)
    assert again.started == [2]
    assert len(state.done) == 4


def test_a_run_that_says_that_it_ended_well_must_be_done(config: str) -> None:
    class Liar(Fake):
        def ended(self) -> list[End]:
            return [End(self.running.pop(0), None)] if self.running else []

    state = sweep(plan([config], 1, [], [], Path("out")), Path("out"), Liar({}), Watch(), retries=0)
    assert [error for _, error in state.failed] == ["ended without being done"]


def test_a_run_in_which_another_process_trains_is_waited_for(config: str) -> None:
    executor = Fake({}, busy={1})
    jobs = plan([config], 2, [], [], Path("out"))
    state = sweep(jobs, Path("out"), executor, Watch(), retries=0)
    assert executor.started == [1, 2, 1]
    assert len(state.done) == 2
    assert not Path("out/sweep.json").exists()


def test_a_run_with_other_settings_is_not_taken_for_this_one(config: str) -> None:
    jobs = plan([config], 2, [], [], Path("out"))
    sweep(jobs, Path("out"), Fake({}), Watch())
    other = plan([config], 2, [], ["train.batch=3"], Path("out"))
    with pytest.raises(UsageError, match=r"train\.batch is 1, not 3; --out names another folder"):
        sweep(other, Path("out"), Fake({}), Watch())
    # What only says when to stop may be asked anew: then there is more to do.
    longer = plan([config], 2, [], ["train.sequences=90"], Path("out"))
    executor = Fake({})
    assert len(sweep(longer, Path("out"), executor, Watch()).done) == 2
    assert executor.started == [1, 2]
    words = longer[0].command(1)
    assert words[words.index("--resume") :] == [
        "--resume", "--set", "train.sequences=90", "--set", "train.solved_bits=0.1",
    ]  # fmt: skip


def test_a_run_that_was_removed_begins_anew(config: str) -> None:
    (job,) = jobs = plan([config], 1, [], [], Path("out"))
    sweep(jobs, Path("out"), Fake({1: ["broke"]}), Watch(), retries=0)
    finish(job)
    job.run.manifest_file.unlink()
    assert Attempts(Path("out")).failures(job) == 1
    shutil.rmtree(job.folder)
    assert len(sweep(jobs, Path("out"), Fake({}), Watch(), retries=0).done) == 1
    assert Attempts(Path("out")).failures(job) == 0


def test_a_stop_leaves_the_rest_for_the_next_time(config: str) -> None:
    jobs = plan([config], 5, [], [], Path("out"))
    asked = iter([False, False, True])
    state = sweep(jobs, Path("out"), Fake({}), Watch(), should_stop=lambda: next(asked))
    assert 0 < len(state.done) < 5
    rest = Fake({})
    assert len(sweep(jobs, Path("out"), rest, Watch()).done) == 5
    assert len(rest.started) == 5 - len(state.done)


def test_time_left_counts_what_runs_and_what_waits(config: str) -> None:
    jobs = plan([config], 5, [], [], Path("out"))
    now = time.monotonic()
    running = {jobs[0].folder: (jobs[0], now - 6), jobs[1].folder: (jobs[1], now - 30)}
    state = SweepState(jobs[2:], running, [], [], 0, [])
    assert state.left(workers=2) is None
    state.seconds = [8.0, 12.0]
    assert state.left(workers=2) == pytest.approx((4 + 0 + 3 * 10) / 2, abs=0.1)


def test_a_record_that_is_broken_is_named(config: str) -> None:
    Path("out").mkdir()
    for text in ("{", "[1]", '{"a": 1}'):
        Path("out/sweep.json").write_text(text)
        with pytest.raises(NTMError, match=r"out/sweep\.json: cannot be read"):
            Attempts(Path("out"))


def test_two_sweeps_do_not_share_a_folder(tmp_path: Path) -> None:
    refused = pytest.raises(UsageError, match="another sweep is running here")
    with lock(tmp_path / "out"), refused, lock(tmp_path / "out"):
        pass
    with lock(tmp_path / "out"):
        pass


@pytest.mark.system
def test_real_runs_are_trained_and_a_failure_is_recorded_with_its_error(config: str) -> None:
    grid = ["train.optimizer.lr=1e-3,1e6"]
    jobs = plan([config], 2, grid, ["train.sequences=200"], Path("out"))
    watch = Watch()
    state = sweep(jobs, Path("out"), LocalExecutor(2), watch, retries=0)
    assert [job.folder.parent.name for job in state.done] == ["lr=1e-3", "lr=1e-3"]
    assert all(job.steps_left() == 0 for job in state.done)
    assert state.done[0].progress()["sequences"] == 200
    errors = [error for _, error in state.failed]
    assert len(errors) == 2
    assert all("is not finite" in error for error in errors)
    results, troubles = read_results(find_runs([Path("out")]))
    assert len(results) + len(troubles) == 4


def test_the_last_row_of_a_run_is_its_progress(config: str) -> None:
    (job,) = plan([config], 1, [], [], Path("out"))
    assert job.progress() == {}
    job.folder.mkdir(parents=True)
    rows = [f"{n},{n / 10}" for n in range(1000)]
    job.run.metrics_file.write_text("\n".join(["sequences,bits", *rows]) + "\n")
    assert job.progress() == {"sequences": 999, "bits": 99.9}
    job.run.metrics_file.write_text("\n".join(["sequences,bits", *rows]) + "\n10")
    assert job.progress() == {}  # a row that is just being written
    for nothing in ("", "sequences,bits", "sequences,bits\n"):
        job.run.metrics_file.write_text(nothing)
        assert job.progress() == {}


@pytest.mark.system
def test_a_sweep_that_is_asked_to_stop_saves_and_goes_on(config: str) -> None:
    words = [
        sys.executable, "-m", "ntm.cli", "sweep", config, "--seeds", "3", "--workers", "2",
        "--set", "train.sequences=3000", "--out", "out",
    ]  # fmt: skip
    first = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    while len(list(Path("out").rglob("metrics.csv"))) < 2 and first.poll() is None:
        time.sleep(0.05)
    first.send_signal(signal.SIGTERM)
    _, said = first.communicate(timeout=60)
    assert first.returncode == 130, said
    assert b"Traceback" not in said
    statuses = [RunDir(p.parent).manifest()["status"] for p in Path("out").rglob("manifest.json")]
    assert set(statuses) <= {"interrupted", "solved", "budget"}  # nobody was left behind
    assert "interrupted" in statuses
    again = subprocess.run(words, capture_output=True, check=False)
    assert again.returncode == 0, again.stderr
    results, troubles = read_results(find_runs([Path("out")]))
    assert len(results) == 3
    assert not troubles
    assert (Path("out") / "report" / "report.html").read_text().rstrip().endswith("</html>")


@pytest.mark.slow
def test_forty_runs_are_all_done_though_workers_are_killed(config: str) -> None:
    jobs = plan([config], 40, [], ["train.sequences=2000"], Path("out"))
    chance = random.Random(3)
    killed: list[int] = []

    class Killer(Watch):
        def changed(self, state: SweepState) -> None:
            if state.running and chance.random() < 0.02:
                victim = chance.choice(executor._running)
                os.kill(victim.child.pid, signal.SIGKILL)
                killed.append(victim.job.seed)

    executor = LocalExecutor(2)
    state = sweep(jobs, Path("out"), executor, Killer(), retries=20)
    assert len(killed) > 5
    assert len(state.done) == 40
    results, troubles = read_results(find_runs([Path("out")]))
    assert len(results) == 40
    assert not troubles
    assert not list(Path("out").rglob("*.part"))
