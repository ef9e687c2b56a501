"""One episode as a page to play with: the memory, every head, input and output at every step."""

from __future__ import annotations

import base64
from dataclasses import fields
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np

from ntm.analysis.trace import Array, MachineTrace, Trace
from ntm.errors import NTMError
from ntm.files import write_file


def explorer(trace: Trace, title: str, symbols: str = "") -> str:
    """The page, self-contained. Of a baseline it shows inputs and outputs.

    symbols: what the inputs' channels stand for, of a task on text: its outputs are probabilities
    of what came.

    The memory is not in it but for the first step: the page computes each from the one before, by
    equations 3 and 4, from the weights, the erase and the add vectors.
    """
    arrays = {name: getattr(trace, name) for name in ("inputs", "targets", "mask", "outputs")}
    if machine := trace.machine:
        arrays |= {f.name: getattr(machine, f.name) for f in fields(MachineTrace)}
        arrays["memory"] = machine.memory[0]
        arrays["low"], arrays["high"] = machine.memory.min(), machine.memory.max()
    for name, values in arrays.items():
        if not np.isfinite(values).all():
            raise NTMError(f"the trace holds a number in {name} that is not finite")
    data = {name: _packed(np.asarray(values)) for name, values in arrays.items()}
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ntm.views"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("explorer.html.jinja").render(
        title=title,
        text=bool(symbols),
        data=data,
        colours={name: _colours(name) for name in ("magma", "RdBu_r", "Greys")},
    )


def write(trace: Trace, title: str, path: Path, symbols: str = "") -> None:
    """Writes the page."""
    write_file(path, explorer(trace, title, symbols))


def _packed(values: Array) -> dict[str, Any]:
    """Little-endian float32 in base64, and its shape."""
    small = np.ascontiguousarray(values, "<f4")
    return {"shape": list(small.shape), "base64": base64.b64encode(small.tobytes()).decode()}


def _colours(name: str) -> str:
    """256 colours of a map of matplotlib's, as RGB bytes in base64."""
    table = matplotlib.colormaps[name](np.arange(256), bytes=True)[:, :3]
    return base64.b64encode(np.ascontiguousarray(table).tobytes()).decode()
