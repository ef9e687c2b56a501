"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="CONFIG", help="A YAML file, or a shipped config such as copy/ntm-lstm."
    ),
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; can be repeated."),
]
DeviceOption = Annotated[str, typer.Option(help="The device: auto, cpu or cuda.")]
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
