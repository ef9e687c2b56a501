"""Runs ``ntm WORDS...`` as a child: python child.py SETUP WORDS..., see ``ntm.runs.launcher``.

SETUP is JSON: the ``path`` to import from, and the ``plugins`` to register, as ``module:Class``;
and whether the child ``stays`` when its standard input ends, as that of a sweep's worker does with
the sweep.
"""

import json
import os
import signal
import sys
import threading


def _end_with_standard_input() -> None:
    """Asks this process to save and stop."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    setup = json.loads(sys.argv[1])
    sys.path[:] = setup["path"]  # instead of the folder of this file, before anything of ours
    if not setup["stays"]:
        threading.Thread(target=_end_with_standard_input, daemon=True).start()
    sys.argv = ["ntm", *sys.argv[2:]]

    from ntm.cli import main
    from ntm.errors import NTMError
    from ntm.registry import register_from

    try:
        for place in setup["plugins"]:
            register_from(place)
    except NTMError as error:
        sys.stderr.write(f"ntm: {error}\n")
        sys.exit(error.exit_code)
    main()
