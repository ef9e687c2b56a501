"""The command line: parsing and printing, nothing else. What is heavy is imported late."""

from __future__ import annotations

import json
import logging
import math
import shlex
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ntm.errors import NotFiniteError, NTMError, UsageError

if TYPE_CHECKING:
    from types import FrameType

    from ntm.analysis.evaluate import Scores
    from ntm.training.loop import Watcher

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Neural Turing Machines and their memory tasks.",
)

ConfigArgument = Annotated[
    str, typer.Argument(metavar="CONFIG", help="A YAML file, or a shipped config: copy/ntm-lstm.")
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Another setting; may be given often."),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
ThreadsOption = Annotated[
    int | None, typer.Option(min=1, help="Of the fused engine; all cores, or OMP_NUM_THREADS.")
]
SlotsOption = Annotated[
    int | None, typer.Option(min=1, help="Slots of memory, other than in training.")
]


@app.command("list")
def list_() -> None:
    """List tasks, controllers, memories and shipped configs."""
    from configs import shipped_configs, shipped_families, shipped_studies
    from ntm import registry

    for group, kinds in registry.kinds().items():
        typer.echo(f"{group}: {', '.join(kinds)}")
    typer.echo("configs, for ntm train NAME:")
    _describe(shipped_configs())
    typer.echo("families of models, for ntm sweep NAME; one of them is NAME:MODEL:")
    _describe(shipped_families())
    typer.echo("studies of many seeds, for ntm sweep NAME:")
    _describe(shipped_studies())
    for line in registry.troubles():
        typer.echo(line, err=True)


def _describe(names: list[str]) -> None:
    from configs import describe

    for name in names:
        typer.echo(f"  {name:{max(map(len, names))}}  {describe(name)}")


@app.command()
def train(
    config: ConfigArgument,
    settings: SetOption = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Short for --set seed=N.")] = None,
    run: Annotated[
        Path | None,
        typer.Option(help="The run's folder.", show_default="runs/<task>/<model>/seed-<n>"),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run there.")] = False,
    device: DeviceOption = "auto",
    engine: Annotated[
        str | None, typer.Option(help="auto, reference or fused: short for --set engine=NAME.")
    ] = None,
    threads: ThreadsOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write for TensorBoard, too: RUN/tensorboard.")
    ] = False,
) -> None:
    """Train a model until it has solved its task. Ctrl-C saves; --resume goes on from there."""
    from rich.console import Console

    from ntm.kernels.threads import use_threads
    from ntm.runs.folder import RunDir
    from ntm.runs.models import find_device
    from ntm.runs.start import continue_run, peak_memory_mib, start_run
    from ntm.training.limits import cap_memory
    from ntm.training.load import load_config, usual_folder
    from ntm.training.loop import train as train_run
    from ntm.views.console import TrainingConsole

    if tensorboard:
        from ntm.views.tensorboard import TensorBoard, require

        require()  # before anything is made
    use_threads(threads)
    given = list(settings or ())
    given += [f"seed={seed}"] if seed is not None else []
    given += [f"engine={engine}"] if engine is not None else []
    resolved = load_config(config, given)
    usual = usual_folder(config, resolved.task)
    where = run or Path("runs") / usual / f"seed-{resolved.seed}"
    chosen = find_device(device, resolved)
    if chosen.type == "cpu":
        cap_memory()
    command = shlex.join(["ntm", *sys.argv[1:]])
    console = Console(stderr=True, highlight=False)
    stop = _StopOnSignal()
    with ExitStack() as held:
        if resume:  # locked before anything of the run is touched
            held.enter_context(RunDir.open(where).lock())
            directory, resolved, notes = continue_run(where, given, resolved, chosen, command)
            for note in notes:
                console.print(note, soft_wrap=True)
        else:
            directory = start_run(where, resolved, chosen, command)
            held.enter_context(directory.lock())
        if not quiet:
            manifest = directory.manifest()
            console.print(f"{manifest['engine']} engine: {manifest['engine_reason']}")

        held.enter_context(stop)
        bar = TrainingConsole(console, resolved.train.sequences, quiet)
        watcher: Watcher = held.enter_context(bar)
        if tensorboard:
            watcher = held.enter_context(TensorBoard(directory, watcher))
        try:
            progress = train_run(directory, resolved, chosen, watcher, resume, stop.requested)
        except KeyboardInterrupt:  # the second one
            directory.update_manifest(status="killed")
            raise NTMError(
                f"{directory.path}: stopped at once; --resume goes on from the last checkpoint",
                exit_code=130,
            ) from None
        except NotFiniteError:
            directory.update_manifest(status="failed")
            raise
        except Exception:  # it says nothing of the model: memory, a disk, a text that is gone
            directory.update_manifest(status="stopped by an error")
            raise
        directory.update_manifest(
            status=progress.status,
            sequences=progress.sequences,
            seconds=round(progress.seconds, 1),
            peak_memory_mib=peak_memory_mib(),
        )
    best = progress.best_bits
    typer.echo(
        f"{_STATUS[progress.status]} after {progress.sequences:,} sequences and "
        f"{progress.seconds:,.0f} s"
        + (
            f"; best validation {best:.4f} bits above {resolved.task.bound}"
            if best is not None
            else ""
        )
        + f"\n{directory.path}",
        err=True,
    )
    if progress.status == "interrupted":
        raise typer.Exit(130)


@app.command()
def sweep(
    configs: Annotated[
        list[str],
        typer.Argument(
            metavar="CONFIG...", help="YAML files, shipped configs or families; or one study."
        ),
    ],
    seeds: Annotated[
        int | None,
        typer.Option(min=1, help="Seeds 1 to N of each combination.", show_default="1"),
    ] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE,VALUE", help="Settings to combine; may be given often."),
    ] = None,
    settings: SetOption = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="VARIANT", help="Of a study; may be given often."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Runs at a time.")] = 1,
    retries: Annotated[int, typer.Option(min=0, help="Of a run that fails.")] = 1,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where the runs and the report go.",
            show_default="runs/sweep; of a study runs/studies/NAME",
        ),
    ] = None,
    executor: Annotated[str, typer.Option(help="local, or ray: an optional extra.")] = "local",
    address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster; without one, Ray is started here.")
    ] = None,
    cpus: Annotated[float, typer.Option(min=0, help="For each run, on a Ray cluster.")] = 1,
    gpus: Annotated[float, typer.Option(min=0, help="For each run, on a Ray cluster.")] = 0,
) -> None:
    """Train every combination once. The same command again does only what is missing."""
    from rich.console import Console

    from ntm.runs import study as studies
    from ntm.runs import sweep as many
    from ntm.runs.executor import Executor, LocalExecutor
    from ntm.runs.jobs import plan
    from ntm.views import study as view
    from ntm.views.console import SweepConsole

    if executor not in ("local", "ray"):
        raise UsageError(f"--executor {executor}: should be local or ray")
    study = studies.study_of(configs, {"--seeds": seeds, "--grid": grid, "--set": settings})
    if only and study is None:
        raise UsageError("--only: chooses variants of a study, and this is none")
    out = out or (study.folder if study else Path("runs/sweep"))
    jobs = (
        study.jobs(out, only or ())
        if study
        else plan(configs, seeds or 1, grid or [], settings or [], out)
    )
    console = Console(stderr=True, highlight=False)
    stop = _StopOnSignal()
    with many.lock(out), stop, SweepConsole(console, workers) as shown:
        watcher: many.SweepWatcher = studies.Recorder(study, out, shown) if study else shown
        where: Executor
        if executor == "ray":
            from ntm.runs.cluster import RayExecutor

            where = RayExecutor(address, workers, cpus, gpus)
        else:
            where = LocalExecutor(workers)
        try:
            state = many.sweep(jobs, out, where, watcher, retries, stop.requested)
        finally:
            where.stop()
    done, failed = len(state.done), len(state.failed)
    left = len(jobs) - done - failed
    typer.echo(
        f"{done} of {len(jobs)} runs done ({state.before} of them before)"
        + (f", {failed} failed" if failed else "")
        + (f", {left} to do; the same command goes on" if left else ""),
        err=True,
    )
    for job, error in state.failed:
        typer.echo(f"failed: {job.folder}: {error}", err=True)
    if failed:
        typer.echo("a larger --retries tries again what has failed", err=True)
    if study:
        studies.record(study, out, state.done)
        for path in view.write(study, out):
            typer.echo(path)
    elif done:
        report([out], out / "report")
    if left:
        raise typer.Exit(130)
    if failed:
        raise typer.Exit(1)


@app.command()
def evaluate(
    run: RunArgument,
    settings: SetOption = None,
    slots: SlotsOption = None,
    episodes: Annotated[int, typer.Option(min=1, help="Sequences to score.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the episodes.")] = 0,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, nothing else.")] = False,
) -> None:
    """Score a trained run on fixed episodes: longer ones with --set task.length=120.

    What is found is kept in the run, for reports.
    """
    from ntm.analysis.evaluate import evaluate as score
    from ntm.kernels.threads import use_threads
    from ntm.runs.folder import Evaluation, RunDir
    from ntm.runs.models import find_device, load_model
    from ntm.runs.start import settings_of_test
    from ntm.training.limits import cap_memory
    from ntm.training.task_settings import as_tested, task_settings

    use_threads(threads)
    directory = RunDir.open(run)
    chosen = find_device(device, directory.config())
    if chosen.type == "cpu":
        cap_memory()
    model, config = load_model(directory, chosen, slots)
    others = task_settings(settings or ())
    task = as_tested(config.task, others)
    others = settings_of_test(directory, task, others)
    scores = score(model, task, episodes, seed)
    summary, memory = scores.summary(), config.model.memory
    weights = directory.load_best().state
    sequences = weights.get("sequences", weights.get("progress", {}).get("sequences"))
    found = Evaluation(
        task=others,
        slots=memory.slots if memory else None,
        seed=seed,
        sequences=sequences,
        **summary,
    )
    if math.isfinite(found.bits):  # weights that are no numbers are not worth keeping
        try:
            directory.keep_evaluation(found)
        except NTMError as error:  # a folder that is only to be read
            typer.echo(f"not kept: {error}", err=True)
    if as_json:
        typer.echo(json.dumps({**summary, "slots": found.slots}, allow_nan=False))
        return
    title = f"{run} ({directory.manifest().get('status', 'of unknown status')}), weights of "
    title += f"{sequences:,} sequences" + (
        f", {memory.slots} slots" if memory and memory.slots else ""
    )
    _print_scores(scores, f"{title}; {config.task.unit}")


@app.command()
def sample(
    run: RunArgument,
    length: Annotated[int, typer.Option(min=1, help="Characters to write.")] = 200,
    temperature: Annotated[
        float, typer.Option(help="1 as it was learned; less is more certain, 0 the most likely.")
    ] = 1.0,
    prompt: Annotated[str, typer.Option(help="What the text begins with.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn.")] = 0,
    slots: SlotsOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Write text with a trained run of charlm, a character at a time."""
    from ntm.analysis.sample import sample as write
    from ntm.kernels.threads import use_threads
    from ntm.runs.folder import RunDir
    from ntm.runs.models import load_model

    use_threads(threads)
    model, config = load_model(RunDir.open(run), slots=slots)
    typer.echo(write(model, config.task, length, temperature, prompt, seed))


@app.command()
def plot(
    run: RunArgument,
    settings: SetOption = None,
    slots: SlotsOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the episode.")] = 0,
    explore: Annotated[
        bool, typer.Option("--explore", help="And a page to step through the episode.")
    ] = False,
    animate: Annotated[bool, typer.Option("--animate", help="And the episode as a GIF.")] = False,
    learning: Annotated[
        bool,
        typer.Option("--learning", help="And how it was learned, of a run with train.snapshots."),
    ] = False,
) -> None:
    """Draw a run: its learning curve, and its memory at work on one episode."""
    from ntm.analysis.trace import record
    from ntm.runs.folder import RunDir
    from ntm.runs.models import load_model
    from ntm.training import limits
    from ntm.training.episodes import draw
    from ntm.training.streams import Stream, numpy_generator
    from ntm.training.task_settings import as_tested, task_settings
    from ntm.views import animation, explorer, plots
    from ntm.views.comparison import accuracy, curve_of

    directory = RunDir.open(run)
    model, config = load_model(directory, slots=slots)
    longest = {} if settings else config.validation.task
    task = as_tested(config.task, {**longest, **task_settings(settings or ())})
    task = task.held_out("test")
    limits.check(task, config.model, batch=1, history=False)
    episode = draw(task, numpy_generator(seed, Stream.EVALUATION), 1)
    validation = directory.rows(directory.validation_file)
    moments = directory.snapshots() if learning and validation else []
    if learning and not moments:
        raise NTMError(
            f"{directory.validation_file}: holds no row of validation"
            if directory.snapshots()
            else f"{run}: no snapshots were kept; ntm train --set train.snapshots=24 keeps some"
        )
    trace = record(model, episode, task.loss)
    trace.save(directory.trace_file)

    conditions = ", ".join(f"{name} {int(v[0])}" for name, v in episode.conditions.items())
    cells = config.model.memory
    memory = f", {cells.slots} slots" if cells and cells.slots else ""
    title = f"{config.task.kind}: {conditions}{memory} ({directory.path})"
    options = {**{name: int(v[0]) for name, v in episode.conditions.items()}}
    options |= {"slots": slots} if slots else {}
    options |= {"seed": seed} if seed else {}
    picture = directory.picture("memory", options)
    curve_picture = directory.picture("learning_curve")
    plots.save(plots.memory_figure(trace, title, task.symbols), picture)
    curve = plots.learning_curve(
        directory.rows(directory.metrics_file),
        validation,
        str(directory.path),
        config.train.solved_bits,
        task.unit,
        config.train.curriculum is not None,
    )
    plots.save(curve, curve_picture)
    written = [curve_picture, picture, directory.trace_file]
    kept = directory.evaluations() if config.task.symbols else []
    weights = directory.load_best().state.get("sequences")
    by_step = [e.steps for e in kept if e.steps and not e.task and e.sequences == weights]
    if by_step:
        found = accuracy({config.task.kind: by_step[-1:]}, f"{directory.path}: right answers")
        written.append(directory.picture("accuracy"))
        plots.save(found, written[-1])
    if explore:
        page = directory.picture("explorer", options).with_suffix(".html")
        explorer.write(trace, title, page, task.symbols)
        written.append(page)
    if animate:
        moving = directory.picture("episode", options).with_suffix(".gif")
        animation.write(trace, f"{config.task.kind}: {conditions}", moving)
        written.append(moving)
    if moments:
        traces = {n: record(load_model(directory, slots=slots, snapshot=n)[0], episode, task.loss)
                  for n in moments}  # fmt: skip
        moving = directory.picture("learning", options).with_suffix(".gif")
        animation.write_learning(
            traces,
            curve_of(validation),
            f"{config.task.kind}: {conditions}",
            task.axis_label,
            moving,
        )
        written.append(moving)
    for path in written:
        typer.echo(path)


@app.command()
def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Runs, or folders that hold runs.")
    ],
    out: Annotated[Path, typer.Option(help="Where the report goes.")] = Path("report"),
) -> None:
    """Compare runs: a page that opens offline, the same as Markdown, a table and the figures."""
    from ntm.analysis import results
    from ntm.views import report as view

    found, troubles = results.read_results(results.find_runs(runs))
    if not found:
        problems = "".join(f"\n  {path}: {problem}" for path, problem in troubles)
        raise NTMError(f"no run that has ended is there to report on:{problems}")
    sections = []
    for task, groups in results.group(found).items():
        traces = {}
        for g in (g for g in groups if g.median.has_memory):
            try:
                traces[g.name] = results.trace_of(g.median)
            except NTMError as error:
                path = g.median.run.path
                problem = f"no picture of its memory: {error}".replace(f"{path}/", "")
                troubles.append(results.Trouble(path, problem))
        sections.append(view.section(task, groups, traces))
    count = f"{len(found)} run{'s' * (len(found) != 1)}"
    for path in view.write(out, sections, troubles, f"{count}, {results.versions(found)}"):
        typer.echo(path)
    for path, problem in troubles:
        typer.echo(f"left out: {path}: {problem}", err=True)


@app.command()
def reproduce(
    asked: Annotated[
        list[str],
        typer.Argument(metavar="FIGURE...", help="fig3 ... fig18, table1 ... table3, or all."),
    ],
    runs: Annotated[
        list[Path] | None, typer.Option(help="Folders that hold runs.", show_default="runs")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = Path("figures"),
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Train small versions in minutes, and draw from those."),
    ] = False,
) -> None:
    """Draw the paper's figures and tables from your runs, or say which runs are missing."""
    from rich.console import Console

    from ntm import reproduce as paper
    from ntm.analysis import results
    from ntm.files import write_file
    from ntm.views import plots
    from ntm.views.console import SweepConsole

    names = paper.names(asked)
    small = Path("runs/quick")
    if quick and runs:
        raise UsageError(f"--quick draws from small versions in {small}, not from --runs")
    if quick:
        console, stop = Console(stderr=True, highlight=False), _StopOnSignal()
        with stop, SweepConsole(console, workers=1) as watcher:
            paper.train_missing(names, small, watcher, stop.requested)
    folders = [small] if quick else runs or [Path("runs")]
    there = [folder for folder in folders if runs or any(folder.rglob("config.yaml"))]
    needed = bool(paper.needs(names))
    found, troubles = results.read_results(
        results.find_runs(there) if there and (needed or runs) else []
    )
    for path, problem in troubles:
        if not problem.startswith(results.TWICE):
            typer.echo(f"left out: {path}: {problem}", err=True)
    if not quick:  # they would pass for the paper's where only their training was shorter
        found = [r for r in found if small.resolve() not in r.run.path.resolve().parents]

    written: dict[str, list[str]] = {}
    undrawn = 0
    for name in names:
        if name in paper.TABLES:
            write_file(out / f"{name}.md", paper.table(name) + "\n")
            written[name] = []
            typer.echo(f"{out / name}.md\n\n{paper.table(name)}\n")
            continue
        drawing = paper.draw(name, found, quick)
        if drawing.figure is not None:
            plots.save(drawing.figure, out / f"{name}.png")
            written[name] = drawing.sources
            typer.echo(out / f"{name}.png")
        for wanted in drawing.missing:
            without = "not drawn" if drawing.figure is None else "drawn without it"
            typer.echo(f"{name}: {without}: {paper.command(wanted)}", err=True)
        undrawn += drawing.figure is None
    if written:
        page = out / "figures.md"
        before = page.read_text("utf-8") if page.is_file() else ""
        write_file(page, paper.gallery(written, quick, before))
        typer.echo(page)
    if undrawn:
        raise typer.Exit(1)


@app.command()
def bench(
    device: DeviceOption = "cpu",
    repeats: Annotated[int, typer.Option(min=1, help="Of each measurement.")] = 5,
    threads: ThreadsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, nothing else.")] = False,
) -> None:
    """Measure the engines on this machine: whole training steps, both sides in turn, as ratios."""
    from rich.console import Console
    from rich.table import Table

    from ntm.analysis import bench as measure
    from ntm.kernels.threads import use_threads
    from ntm.runs.models import find_device
    from ntm.training.load import load_config

    use_threads(threads)
    chosen = find_device(device, load_config("copy/ntm-lstm"))
    about = measure.about(chosen)
    table = Table(
        title=", ".join(f"{k} {v}" for k, v in about.items()), title_justify="left",
        caption="Sequences a second in whole training steps, medians; torch.nn.LSTM alone, of the "
        "controller's size.", caption_justify="left",
    )  # fmt: skip
    table.add_column("config")
    for name in ("batch", "steps", "reference", "fused", "ratio", "LSTM", "fused to LSTM"):
        table.add_column(name, justify="right")
    rows = []
    with Console(stderr=True).status("measuring") as status:
        for row in measure.bench(chosen, repeats):
            rows.append({**row._asdict(), "times_reference": row.times_reference,
                         "times_lstm": row.times_lstm})  # fmt: skip
            status.update(f"measured {row.config}, batch {row.batch}")
            table.add_row(
                row.config, str(row.batch), str(row.steps), _speed(row.batch, row.reference),
                _speed(row.batch, row.fused), _ratio(row.times_reference),
                _speed(row.batch, row.lstm), _ratio(row.times_lstm),
            )  # fmt: skip
    if as_json:
        typer.echo(json.dumps({**about, "rows": rows}))
    else:
        out = Console()
        Console(width=max(out.width, 110)).print(table)  # a narrower one would cut off the names


def _speed(batch: int, seconds: float | None) -> str:
    return "-" if seconds is None else f"{batch / seconds:,.0f}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


_STATUS = {
    "solved": "solved",
    "budget": "budget used up, not solved,",
    "interrupted": "interrupted and saved; --resume continues it;",
}


class _StopOnSignal:
    """The first Ctrl-C or SIGTERM asks for a stop at the next step; a second one stops at once."""

    def __init__(self) -> None:
        self._requested = False
        self._previous: dict[int, Any] = {}

    def requested(self) -> bool:
        return self._requested

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._on_signal)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._requested = True
        signal.signal(number, self._previous[number])


def _print_scores(scores: Scores, title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    columns = ("episodes", "bits", "floor", "bit_errors", "sequence_accuracy")
    typer.echo(title)
    table = Table("condition", *columns)
    for column in table.columns[1:]:
        column.justify = "right"

    def add(label: str, row: dict[str, Any]) -> None:
        numbers = [f"{row[c]:.4f}" for c in columns[1:4]]
        table.add_row(label, str(row["episodes"]), *numbers, f"{row['sequence_accuracy']:.1%}")

    summary = scores.summary()
    for name in scores.conditions:
        for row in scores.by_condition([name]):
            add(f"{name} {row[name]}", row)
        table.add_section()
    add("all", summary)
    Console().print(table)
    if "accuracy" in summary:
        typer.echo(f"right answers: {summary['accuracy']:.2%}")
    if scores.steps:
        table = Table(*scores.steps[0])
        for column in table.columns:
            column.justify = "right"
        for row in scores.steps:
            label, scored, share, bits = row.values()
            table.add_row(str(label), f"{scored:,}", f"{share:.2%}", f"{bits:.4f}")
        Console().print(table)


class _ToStandardError(logging.Handler):
    """Says what is logged, such as that a kernel is being compiled."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(record.getMessage(), err=True)


def main() -> None:
    """Runs the command line; a mistake that the user can mend is one message, no traceback."""
    log = logging.getLogger("ntm")
    log.setLevel(logging.INFO)
    log.handlers = [_ToStandardError()]
    try:
        app()
    except NTMError as error:
        typer.echo(f"ntm: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:  # standard output is full, or was closed
        sys.stderr.write(f"ntm: {error}\n")
        sys.exit(1)
    except (MemoryError, RuntimeError) as error:  # torch's own error is a RuntimeError
        if not isinstance(error, MemoryError) and "allocate" not in str(error):
            raise
        typer.echo(
            "ntm: not enough memory: a smaller model, a smaller train.batch or shorter sequences "
            f"need less ({(str(error).strip().splitlines() or ['no more was to be had'])[-1]})",
            err=True,
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
