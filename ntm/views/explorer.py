"""One episode as an interactive page: the memory, every head, input and output at every step."""

from __future__ import annotations

import base64
from dataclasses import fields
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np

from ntm.analysis.trace import Array, NTMTrace, Trace
from ntm.errors import NTMError
from ntm.files import write_file


def explorer(trace: Trace, title: str, symbols: str = "") -> str:
    """The page, self-contained. A baseline shows its inputs and outputs only.

    symbols: the characters that the inputs' channels stand for, in a task on text, whose outputs
    are the probabilities of the characters that came.

    Of the memory the page holds only the first step. It computes each later one from the one
    before, by equations 3 and 4, from the weightings, the erase and the add vectors.
    """
    arrays = {name: getattr(trace, name) for name in ("inputs", "targets", "mask", "outputs")}
    if ntm := trace.ntm:
        arrays |= {f.name: getattr(ntm, f.name) for f in fields(NTMTrace)}
        arrays["memory"] = ntm.memory[0]
        arrays["low"], arrays["high"] = ntm.memory.min(), ntm.memory.max()
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
