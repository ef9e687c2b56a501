"""What people see: pictures, pages and tables, built from runs and traces alone.

Matplotlib reads MPLBACKEND when it is imported, and refuses a name that it does not know, such as
that of a notebook's kernel which a command started there has inherited. Our pictures need no
backend, so here, before any of our modules, it is imported without one; a name that it knows stays
chosen for the user's own pictures.
"""

from __future__ import annotations

import contextlib
import os
import sys

from ntm.errors import UsageError


def _import_matplotlib() -> None:
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib

        if backend:
            with contextlib.suppress(ValueError):
                matplotlib.rcParams["backend"] = backend
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"matplotlib cannot read its settings, in a matplotlibrc or MATPLOTLIBRC: {error}"
        ) from None
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend


if "matplotlib" not in sys.modules:
    _import_matplotlib()
