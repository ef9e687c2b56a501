"""The command line: parses arguments, calls :mod:`ntm.api`, and prints what it returns."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from ntm.completion import runs as run_folders
from ntm.errors import NTMError, out_of_memory
from ntm.kernels.compiling import ends_process
from ntm.logs import ToStandardError
from ntm.options import (
    ConfigArgument,
    ConfigsArgument,
    DeviceOption,
    JsonOption,
    RepeatsOption,
    RunArgument,
    ScaleOption,
    SetOption,
    SlotsOption,
    ThreadsOption,
    VersionOption,
)
from ntm.shadowing import check_packages
from ntm.terminal import describe, print_problems, print_report, write_anything

# A command imports what it needs when it runs: torch takes seconds, and --help needs nothing.

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def about(
    version: VersionOption = False,
) -> None:
    """Train, test and compare Neural Turing Machines on memory tasks."""


@app.command("list")
def list_() -> None:
    """List tasks, controllers, memories and shipped configs."""
    from ntm.catalogue import kinds

    found = kinds()
    typer.echo(f"tasks: {', '.join(found.tasks)}")
    typer.echo(f"controllers: {', '.join(found.controllers)}")
    typer.echo(f"memories: {', '.join(found.memories)}")
    describe("configs, for ntm train NAME:", found.configs)
    describe("families of models, for ntm sweep NAME; one of them is NAME:MODEL:", found.families)
    describe("studies of many seeds, for ntm sweep NAME:", found.studies)
    for line in found.problems:
        typer.echo(line, err=True)


@app.command()
def train(
    config: ConfigArgument = None,
    settings: SetOption = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Short for --set seed=N.")] = None,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="RUN", help="Begin with a run's weights. Short for --set train.init=RUN."
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            help="The run's folder.",
            show_default="runs/<task>/<model>/seed-<n>",
            autocompletion=run_folders,
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in its folder, or begin it there.")
    ] = False,
    device: DeviceOption = "auto",
    engine: Annotated[
        str | None,
        typer.Option(help="Short for --set engine=NAME: auto, reference or fused."),
    ] = None,
    threads: ThreadsOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write for TensorBoard: RUN/tensorboard.")
    ] = False,
) -> None:
    """Train a model until it has solved its task. Ctrl-C saves; --resume continues.

    To continue, --resume --run DIR is enough.
    """
    from ntm import api
    from ntm.views import tables

    done = api.train(
        config, seed=seed, run=run, settings=settings or [], init=init, resume=resume,
        device=device, engine=engine, threads=threads, progress=not quiet, tensorboard=tensorboard,
    )  # fmt: skip
    typer.echo(tables.ending(done) + ("" if quiet else tables.what_next(done)), err=True)
    raise typer.Exit(130 if done.status is api.Status.INTERRUPTED else 0)


@app.command()
def sweep(
    configs: ConfigsArgument,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, help="Run seeds 1 to N of each combination.", show_default="1"),
    ] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE,VALUE", help="Combine these values of a setting; can be repeated."
        ),
    ] = None,
    settings: SetOption = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="VARIANT", help="Run only this variant of a study; can be repeated."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Runs at a time.")] = 1,
    retries: Annotated[int, typer.Option(min=0, help="Retries of a run that fails.")] = 1,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder of the runs and the report.",
            show_default="runs/sweep, or runs/studies/NAME",
        ),
    ] = None,
    executor: Annotated[
        str, typer.Option(help="Where runs are trained: local, or ray, an optional extra.")
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(help="The address of a Ray cluster.", show_default="Ray is started here"),
    ] = None,
    cpus: Annotated[float, typer.Option(min=0, help="CPUs per run on a Ray cluster.")] = 1,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs per run on a Ray cluster.")] = 0,
) -> None:
    """Train every combination once. Run again, it does only what is missing."""
    from ntm import api
    from ntm.views import tables

    done = api.sweep(
        configs, seeds=seeds, grid=grid or [], settings=settings or [], only=only or [],
        workers=workers, retries=retries, out=out, executor=executor, address=address,
        cpus=cpus, gpus=gpus,
    )  # fmt: skip
    typer.echo(tables.swept(done), err=True)
    if done.report is not None:
        print_report(done.report.files, done.report.left_out)
    raise typer.Exit(130 if done.left else 1 if done.failed else 0)


@app.command()
def evaluate(
    run: RunArgument,
    settings: SetOption = None,
    slots: SlotsOption = None,
    episodes: Annotated[int, typer.Option(min=1, help="Sequences to score.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="The seed of the episodes.")] = 0,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Save the result in this folder, not in the run.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Score a trained run on held-out episodes; --set task.length=120 takes longer ones.

    The result is saved in the run, for reports, unless it is a reference run.
    """
    from ntm import api
    from ntm.views import tables

    task = api.task_settings(settings or [])
    found = api.evaluate(
        run, slots=slots, episodes=episodes, seed=seed, device=device, threads=threads, out=out,
        task=task,
    )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(found.scores(), allow_nan=False))
        return
    typer.echo(tables.title(run, found))
    tables.show(*tables.scores(found))


@app.command()
def sample(
    run: RunArgument,
    length: Annotated[int, typer.Option(min=1, help="Characters to write.")] = 200,
    temperature: Annotated[
        float, typer.Option(help="1 as learned; less is more certain, 0 takes the most likely.")
    ] = 1.0,
    prompt: Annotated[str, typer.Option(help="The beginning of the text.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="The seed of the characters drawn.")] = 0,
    slots: SlotsOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Write text with a trained run of charlm, a character at a time."""
    from ntm import api

    typer.echo(
        api.sample(
            run, length, temperature=temperature, prompt=prompt, seed=seed, slots=slots,
            threads=threads,
        )
    )  # fmt: skip


@app.command()
def plot(
    run: RunArgument,
    settings: SetOption = None,
    slots: SlotsOption = None,
    seed: Annotated[int, typer.Option(min=0, help="The seed of the episode.")] = 0,
    explore: Annotated[
        bool, typer.Option("--explore", help="Also write a page to step through the episode.")
    ] = False,
    animate: Annotated[
        bool, typer.Option("--animate", help="Also write the episode as a GIF.")
    ] = False,
    learning: Annotated[
        bool,
        typer.Option(
            "--learning", help="Also write a GIF of learning, for a run with train.snapshots."
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder of the pictures.",
            show_default="RUN/plots, or ./plots if the run cannot be written",
        ),
    ] = None,
) -> None:
    """Draw a run: its learning curve, and its memory on one episode."""
    from ntm import api

    task = api.task_settings(settings or [])
    for path in api.plot(
        run, slots=slots, seed=seed, explore=explore, animate=animate, learning=learning, out=out,
        task=task,
    ):  # fmt: skip
        typer.echo(path)


@app.command()
def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...", help="Runs, or folders that hold runs.", autocompletion=run_folders
        ),
    ],
    out: Annotated[Path, typer.Option(help="The folder of the report.")] = Path("report"),
) -> None:
    """Compare runs: a page that opens offline, the same as Markdown, a table and the figures."""
    from ntm import api

    done = api.report(runs, out)
    print_report(done.files, done.left_out)


@app.command()
def reproduce(
    figures: Annotated[
        list[str],
        typer.Argument(metavar="FIGURE...", help="fig3 ... fig18, table1 ... table3, or all."),
    ],
    runs: Annotated[
        list[Path] | None, typer.Option(help="Folders that hold runs.", show_default="runs")
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder of the figures.")] = Path("figures"),
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Train small versions in minutes, and draw from those."),
    ] = False,
) -> None:
    """Draw the paper's figures and tables from your runs, or say which runs are missing."""
    from ntm import api

    done = api.reproduce(figures, runs=runs or [], out=out, quick=quick)
    for path in done.files:
        typer.echo(path)
        if table := done.tables.get(path.stem):
            typer.echo(f"\n{table}\n")
    print_problems(done.left_out)
    for text in done.missing:
        typer.echo(text, err=True)
    raise typer.Exit(1 if done.not_drawn else 0)


@app.command()
def bench(
    device: DeviceOption = "cpu",
    repeats: RepeatsOption = 5,
    threads: ThreadsOption = None,
    scale: ScaleOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure whole training steps of the engines, both sides in turn, as ratios."""
    from ntm import api
    from ntm.views import scaling, tables

    found = api.bench(device=device, repeats=repeats, threads=threads, scale=scale)
    if scale:
        typer.echo(scaling.save(found), err=True)
    if as_json:
        typer.echo(json.dumps(found.as_dict()))
        return
    tables.show(*scaling.grids(found) if scale else [tables.bench(found.about, found.rows)])


@ends_process
def main() -> None:
    """Runs the command line; a mistake that the user can mend is one message, no traceback."""
    write_anything()
    log = logging.getLogger("ntm")
    log.setLevel(logging.INFO)
    log.handlers = [ToStandardError()]
    try:
        check_packages()
        app()
    except (NTMError, MemoryError, RuntimeError) as error:
        found = error if isinstance(error, NTMError) else out_of_memory(error)
        if found is None:
            raise
        typer.echo(f"ntm: {found}", err=True)
        sys.exit(found.exit_code)
    except OSError as error:  # standard output is full, or was closed
        sys.stderr.write(f"ntm: {error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
