"""The suite from Python: train, evaluate, trace, plot, sample, sweep, report, reproduce.

    import ntm

    run = ntm.train("copy/ntm-lstm", seed=2, settings={"train.batch": 4})
    print(run.status, run.best_bits)
    print(ntm.evaluate(run, length=120, slots=256).bit_errors)
    ntm.plot_memory(ntm.trace(run, length=40))

The command line prints what these functions return. Mistakes that a user can mend raise
:class:`ntm.NTMError`, with one message that names the key or the path. Wherever a run is asked
for, its folder will do. With ``progress``, training shows a live line, or prints lines in a file.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias

from ntm import logs, reproduction
from ntm.analysis import bench as benchmark
from ntm.analysis import evaluate as scoring
from ntm.analysis import results
from ntm.analysis import sample as sampling
from ntm.analysis import scale as scaling
from ntm.analysis.trace import Trace, record
from ntm.arguments import whole
from ntm.catalogue import Kinds, kinds
from ntm.errors import NTMError, UsageError
from ntm.files import user_path
from ntm.model import Model
from ntm.outcomes import Benchmark, Report, Run, Sweep, Trained
from ntm.registry import register
from ntm.reproduction import Reproduction
from ntm.runs import study as studies
from ntm.runs import sweep as sweeping
from ntm.runs.evaluations import Evaluation
from ntm.runs.executor import Executor, LocalExecutor
from ntm.runs.folder import RunDir
from ntm.runs.jobs import plan
from ntm.runs.models import find_device, load_model
from ntm.runs.resources import fused_threads, guarded_memory
from ntm.runs.session import StopOnSignal, begun, train_command, train_recorded
from ntm.runs.start import settings_of_test
from ntm.runs.status import Status
from ntm.training.load import load_config, usual_folder
from ntm.training.loop import Watcher, Watchers, check_watcher
from ntm.training.settings import Grid, Settings, as_axes, as_plain, as_settings
from ntm.training.task_settings import as_tested, task_settings
from ntm.views import plots
from ntm.views import report as page
from ntm.views import study as study_page
from ntm.views import tensorboard as board
from ntm.views.console import SweepConsole, TrainingConsole, measured, standard_error
from ntm.views.drawing import StyledFigure
from ntm.views.run import draw_run, held_out_episode
from tasks import Episode
from tasks.losses import BITS

__all__ = [
    "Benchmark", "Evaluation", "Kinds", "NTMError", "Report", "Reproduction", "Run", "Status",
    "Sweep", "Trace", "Trained", "bench", "evaluate", "kinds", "load", "plot", "plot_memory",
    "register", "report", "reproduce", "sample", "sweep", "task_settings", "trace", "train",
]  # fmt: skip

log = logging.getLogger("ntm")
logs.show_unless_configured()

Folder: TypeAlias = str | os.PathLike[str]


def train(
    config: Folder | None = None,
    *,
    seed: int | None = None,
    run: Folder | None = None,
    settings: Settings = (),
    init: Folder | None = None,
    resume: bool = False,
    device: str = "auto",
    engine: str | None = None,
    threads: int | None = None,
    progress: bool = True,
    tensorboard: bool = False,
    watcher: Watcher | None = None,
) -> Run:
    """Trains a model until it has solved its task, or its budget of sequences is used up.

    config: a YAML file, or a shipped config: ``copy/ntm-lstm``, or ``compare/copy:gru``, of a
        family. To resume a run, its folder alone is enough.
    seed: of the weights and the training sequences; by default the config's.
    run: the folder of the run; by default ``runs/TASK/CONFIG/seed-N``.
    settings: of the config, otherwise: ``{"train.batch": 4}`` or ``["train.batch=4"]``.
    init: a run whose weights training begins with, where they fit by name and shape.
    resume: continues the run in that folder from its last checkpoint, or begins it.
    device: ``auto``, ``cpu``, ``cuda:1``, ``mps``. engine: ``auto``, ``reference`` or ``fused``.
    threads: of the fused engine; by default all cores, or OMP_NUM_THREADS.
    tensorboard: also writes for TensorBoard, into ``RUN/tensorboard``.
    watcher: is shown every row of metrics and of validation, see :class:`ntm.Watcher`.

    The first Ctrl-C saves and returns a run with the status ``interrupted``; a second one raises
    KilledError. Raises RunExistsError where there is a run already, and NotFiniteError where
    training diverges.
    """
    check_watcher(watcher)  # before anything is created
    given = as_settings(settings, seed=seed, engine=engine, **{"train.init": init})
    if config is None and not (resume and run is not None):
        raise UsageError("Missing argument CONFIG; without it, --resume --run DIR continues a run")
    name = None if config is None else os.fspath(config)
    source = name or RunDir.open(run or "").config_file
    resolved = load_config(source, given)
    usual = Path("runs") / usual_folder(str(source), resolved.task) / f"seed-{resolved.seed}"
    folder = user_path(usual if run is None else run)
    if tensorboard:
        board.require(folder)
    command = train_command(name, given, run, device, threads, resume)
    with ExitStack() as stack:
        stop = stack.enter_context(StopOnSignal())
        stack.enter_context(fused_threads(threads))
        where = find_device(device, resolved)
        stack.enter_context(guarded_memory(where))
        started = stack.enter_context(begun(folder, given, resolved, where, command, resume))
        for note in started.notes:
            log.warning(note)
        console = TrainingConsole(standard_error(), started.config.train.sequences, not progress)
        console.starts(started.run.manifest())
        watcher = Watchers(stack.enter_context(console), watcher)
        if tensorboard:
            watcher = stack.enter_context(board.TensorBoard(started.run, watcher))
        train_recorded(started, watcher, resume, stop)
    return Run.open(folder)


def evaluate(
    run: Folder,
    *,
    slots: int | None = None,
    episodes: int = 1000,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    out: Folder | None = None,
    task: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Evaluation:
    """Scores a trained run on held-out episodes, and keeps the result in the run, for reports.

        ntm.evaluate(run, length=120, slots=256)

    slots: of the memory, other than in training. seed: of the episodes.
    settings: of the task, other than in training; ``task`` takes them as a mapping.
    out: a folder that keeps the result instead of the run; in one that should not change, none is.

    Returns the means over all episodes, and for each combination of conditions.
    """
    episodes, seed = whole("episodes", episodes, 1), whole("seed", seed)
    directory, given = RunDir.open(run), as_plain({**(task or {}), **settings})
    where = find_device(device, directory.config())
    with fused_threads(threads), guarded_memory(where):
        model, config = load_model(directory, where, slots)
        tested = as_tested(config.task, given)
        given = settings_of_test(directory, tested, given)
        summary = scoring.evaluate(model, tested, episodes, seed, engine=config.engine).summary()
    weights, memory = directory.load_best().state, config.model.memory
    found = Evaluation(
        task=given,
        slots=memory.slots if memory else None,
        seed=seed,
        sequences=weights.get("sequences", weights.get("progress", {}).get("sequences")),
        **summary,
    )
    if found.is_finite and (problem := directory.keep_or_say_why(found, out)) is not None:
        log.warning("not saved: %s", problem)  # what has diverged is not worth a line in a report
    return found


def load(run: Folder, slots: int | None = None) -> Trained:
    """The trained model of a run, in evaluation mode.

    slots: of the memory, other than in training. Raises NTMError where there is no run, or where
    its files cannot be read.
    """
    return Trained(*load_model(RunDir.open(run), slots=slots)).eval()


def trace(
    source: Model | Folder,
    episode: Episode | None = None,
    index: int = 0,
    *,
    slots: int | None = None,
    seed: int = 0,
    task: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Trace:
    """Records every step of a model on one sequence: what goes in and out, memory and heads.

        ntm.trace(run, length=40)
        ntm.trace(model, episode)

    source: a run, a model that ``load`` returned, or any :class:`NTM`, which needs an episode; its
        outputs are read as bits.
    index: of the sequence within the episode's batch.
    seed: of the episode that is drawn where none is given; settings: of its task, other than in
        training; ``task`` takes them as a mapping.
    """
    model = source if isinstance(source, Model) else load(source, slots)
    if episode is None:
        if not isinstance(model, Trained):
            raise UsageError("episode: is missing; only the model of a run has a task to draw from")
        _, episode = held_out_episode(model.config, {**(task or {}), **settings}, seed)
    loss = model.task.loss if isinstance(model, Trained) else BITS
    return record(model, episode, loss, index, slots if isinstance(source, Model) else None)


def plot_memory(found: Trace, title: str = "", symbols: str = "") -> StyledFigure:
    """The figure of a trace: inputs and writes on the left, outputs and reads on the right.

    symbols: of a task on text, its ``symbols``.
    """
    return plots.memory_figure(found, title, symbols)


def plot(
    run: Folder,
    *,
    slots: int | None = None,
    seed: int = 0,
    explore: bool = False,
    animate: bool = False,
    learning: bool = False,
    out: Folder | None = None,
    task: Mapping[str, Any] | None = None,
    **settings: Any,
) -> list[Path]:
    """Draws a run: its learning curve, and its memory on one episode.

    slots: of the memory, other than in training. seed: of the episode.
    settings: of the task, other than in training; ``task`` takes them as a mapping.
    explore: also a page to step through the episode. animate: also the episode as a GIF.
    learning: also the episode over training as a GIF, for a run with ``train.snapshots``.
    out: a folder; by default RUN/plots, or, of a run that should not change, ``plots`` here.

    Returns the files that were written.
    """
    given = {**(task or {}), **settings}
    return draw_run(RunDir.open(run), given, slots, seed, explore, animate, learning, out)


def sample(
    source: Trained | Folder,
    length: int = 200,
    *,
    temperature: float = 1.0,
    prompt: str = "",
    seed: int = 0,
    slots: int | None = None,
    threads: int | None = None,
) -> str:
    """Text from a model of ``charlm``: the prompt, and ``length`` characters after it.

    temperature: 1 samples from the learned distribution, less is more certain, and 0 takes the
        most likely character each time.

    Raises UsageError for a model of another task.
    """
    with fused_threads(threads):
        model = source if isinstance(source, Trained) else load(source, slots)
        return sampling.sample(model, model.task, length, temperature, prompt, seed)


def sweep(
    configs: Folder | Sequence[Folder],
    *,
    seeds: int | None = None,
    grid: Grid = (),
    settings: Settings = (),
    only: Sequence[str] = (),
    workers: int = 1,
    retries: int = 1,
    out: Folder | None = None,
    executor: str = "local",
    address: str | None = None,
    cpus: float = 1,
    gpus: float = 0,
    progress: bool = True,
) -> Sweep:
    """Trains every combination of configs, settings and seeds once, and reports on the runs.

    Called again, it does only what is missing.

    configs: YAML files, shipped configs, or families, which stand for all their models. Or one
        study, whose variants are also tested; it has its seeds and settings itself.
    seeds: seeds 1 to N of each combination; by default 1.
    grid: settings to combine, ``{"train.batch": [1, 8]}``; settings: of all runs.
    only: variants of a study; by default all.
    out: by default ``runs/sweep``, of a study ``runs/studies/NAME``.
    workers: runs at a time. retries: of a run that fails.
    executor: ``local``, or ``ray``, an optional extra, on the cluster at ``address``, with so many
        ``cpus`` and ``gpus`` for each run.
    """
    if executor not in ("local", "ray"):
        raise UsageError(f"--executor {executor}: should be local or ray")
    sources = [configs] if isinstance(configs, str | os.PathLike) else configs
    names = [os.fspath(source) for source in sources]
    study = studies.study_of(names, {"--seeds": seeds, "--grid": grid, "--set": settings})
    if study is not None:
        folder = study.folder if out is None else user_path(out)
        jobs = study.jobs(folder, only)
    elif only:
        raise UsageError("--only: chooses variants of a study, and this is none")
    else:
        folder = user_path("runs/sweep" if out is None else out)
        jobs = plan(names, seeds or 1, as_axes(grid), as_settings(settings), folder)
    console = SweepConsole(standard_error(), workers, quiet=not progress)
    with sweeping.lock(folder), StopOnSignal() as stop, console as shown:
        watcher: sweeping.SweepWatcher = shown
        if study is not None:
            watcher = studies.Recorder(study, folder, shown)
        where: Executor = LocalExecutor(workers)
        if executor == "ray":
            from ntm.runs.cluster import RayExecutor  # an optional extra

            where = RayExecutor(address, workers, cpus, gpus)
        try:
            state = sweeping.sweep(jobs, folder, where, watcher, retries, stop.requested)
        finally:
            where.stop()
    done = [Run.open(job.folder) for job in state.done]
    failed = {job.folder: error for job, error in state.failed}
    made = None
    if study is not None:
        studies.record(study, folder, state.done)
        made = Report(study_page.write(study, folder), [])
    elif done:
        made = report(folder, out=folder / "report")
    return Sweep(folder, len(jobs), state.before, done, failed, made)


def report(runs: Folder | Sequence[Folder], out: Folder = "report") -> Report:
    """Compares runs: a page that opens offline, the same as Markdown, a table, and the figures.

    runs: folders of runs, or folders that hold runs.
    """
    folders = [runs] if isinstance(runs, str | os.PathLike) else runs
    found, left_out = results.read_results(results.find_runs(map(user_path, folders)))
    if not found:
        problems = "".join(f"\n  {path}: {problem}" for path, problem in left_out)
        raise NTMError(f"no run that has ended is there to report on:{problems}")
    sections, troubles = page.sections(found)
    left_out += troubles
    count = f"{len(found)} run{'s' * (len(found) != 1)}, {results.versions(found)}"
    return Report(page.write(user_path(out), sections, left_out, count), left_out)


def reproduce(
    figures: str | Sequence[str] = "all",
    *,
    runs: Sequence[Folder] = (),
    out: Folder = "figures",
    quick: bool = False,
) -> Reproduction:
    """Draws the paper's figures and tables from runs, and names the runs that are missing.

    figures: ``fig3`` to ``fig18``, ``table1`` to ``table3``, or ``all``.
    runs: folders that hold runs; by default ``runs``.
    quick: trains small versions in minutes, and draws from those.
    """
    names = reproduction.names([figures] if isinstance(figures, str) else figures)
    if quick and runs:
        raise UsageError(
            f"--quick draws from small versions in {reproduction.SMALL}, not from --runs"
        )
    if quick:
        with StopOnSignal() as stop, SweepConsole(standard_error(), workers=1) as watcher:
            reproduction.train_missing(names, reproduction.SMALL, watcher, stop.requested)
    found, left_out = reproduction.read_runs(names, [user_path(run) for run in runs], quick)
    return reproduction.make(names, found, left_out, user_path(out), quick)


def bench(
    *, device: str = "cpu", repeats: int = 5, threads: int | None = None, scale: bool = False,
    progress: bool = True,
) -> Benchmark:  # fmt: skip
    """Measures whole training steps on each engine, the sides of a case in turn.

    repeats: of each measurement, of which the median counts; not of ``scale``.
    scale: measures time and memory against slots and length instead; ``ntm.views.scaling`` draws.
    """
    with fused_threads(threads):
        where = find_device(device, load_config("copy/ntm-lstm"))
        about = benchmark.about(where)
        if scale:
            return Benchmark(about, [], measured(scaling.scale(where), not progress))
        return Benchmark(about, measured(benchmark.bench(where, repeats), not progress))
