"""The shipped configs: ``<task>/<model>.yaml``, trained by ``ntm train <task>/<model>``."""
