"""Arguments and options that several commands have."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from ntm.completion import configs, runs, trainable

ConfigArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="CONFIG",
        help="A YAML file, or a shipped config such as copy/ntm-lstm.",
        autocompletion=trainable,
    ),
]
ConfigsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="CONFIG...",
        help="YAML files, shipped configs or families; or one study.",
        autocompletion=configs,
    ),
]
RunArgument = Annotated[
    Path, typer.Argument(metavar="RUN", help="The folder of a run.", autocompletion=runs)
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; can be repeated."),
]
DeviceOption = Annotated[str, typer.Option(help="The device: auto, cpu, cuda, cuda:N or mps.")]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        min=1, help="Threads of the fused engine.", show_default="OMP_NUM_THREADS, or all cores"
    ),
]
SlotsOption = Annotated[
    int | None,
    typer.Option(min=1, help="Slots of the memory.", show_default="as in training"),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object, and nothing else.")
]

RepeatsOption = Annotated[
    int, typer.Option(min=1, help="Repeats of each measurement; --scale ignores them.")
]
ScaleOption = Annotated[
    bool,
    typer.Option(
        "--scale", help="Measure time and memory against slots and length; draw scale.png."
    ),
]


def _show_version(wanted: bool) -> None:
    """Prints the version and ends, if that is what was asked for."""
    if wanted:
        typer.echo(f"ntm-suite {metadata.version('ntm-suite')}")
        raise typer.Exit()


VersionOption = Annotated[
    bool,
    typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version),
]
