"""What people see: pictures, pages and tables.

Matplotlib reads MPLBACKEND when it is imported, and refuses a name that it does not know, such as
that of a notebook's kernel which a command started there has inherited. Our pictures need no
backend, so here, before any of our modules, it is imported without one; a name that it knows stays
chosen for the user's own pictures.
"""

from __future__ import annotations

import contextlib
import os
import sys

if "matplotlib" not in sys.modules and (_backend := os.environ.pop("MPLBACKEND", None)) is not None:
    try:
        import matplotlib

        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = _backend
    finally:
        os.environ["MPLBACKEND"] = _backend
