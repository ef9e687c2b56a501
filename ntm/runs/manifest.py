"""manifest.json: what made a run, and how it ended. Nothing else writes it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ntm.errors import NTMError
from ntm.files import write_file
from ntm.runs.status import Status

#: Version of what the files of a run mean; raised when a change would misread older ones.
FORMAT = 1


class Manifest(Mapping[str, Any]):
    """The entries of a manifest as they were when it was read; the methods write further ones."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._entries = _read(file)

    def __getitem__(self, key: str) -> Any:
        return self._entries[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def status(self) -> Status | None:
        """How the run stands; None where the manifest does not say, or says something else."""
        with contextlib.suppress(ValueError):
            return Status(self._entries.get("status"))
        return None

    def started(self, command: str, seed: int, facts: Mapping[str, Any]) -> None:
        """A run begins. facts: where and with what it runs, and how large its model is."""
        self._write(
            format=FORMAT, status=Status.RUNNING, command=command, started=_now(), seed=seed,
            **facts,
        )  # fmt: skip

    def resumed(self, command: str, facts: Mapping[str, Any], changes: Mapping[str, Any]) -> None:
        """A run goes on, perhaps under other circumstances.

        changes: of its settings: ``changed``, as they were and as they are, and ``after`` how many
            sequences.
        """
        entry = {"command": command, "started": _now(), **changes}
        resumed = [*self._entries.get("resumed", []), entry]
        self._write(status=Status.RUNNING, resumed=resumed, **facts)

    def rolled_back(self, count: int) -> None:
        """Training has gone back to the best weights, for the ``count``-th time."""
        self._write(rollbacks=count)

    def ended(
        self,
        status: Status,
        sequences: int,
        seconds: float,
        peak_memory_mib: float | None,
        **facts: Any,
    ) -> None:
        """Training came to an end, or was interrupted and saved."""
        self._write(
            status=status,
            sequences=sequences,
            seconds=round(seconds, 1),
            peak_memory_mib=peak_memory_mib,
            **facts,
        )

    def stopped(self, status: Status) -> None:
        """Training broke off."""
        self._write(status=status)

    def set_command(self, command: str) -> None:
        """The command that makes this run here, for one that was trained elsewhere."""
        self._write(command=command)

    def _write(self, **entries: Any) -> None:
        """Sets entries, and keeps the others as they are on disk now."""
        self._entries = {**_read(self.file), **entries}
        write_file(self.file, json.dumps(self._entries, indent=2) + "\n")


def _read(file: Path) -> dict[str, Any]:
    """The entries on disk; none where there is no manifest yet."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise NTMError(f"{file}: cannot be read: {error}") from None
    if not isinstance(data, dict) or not isinstance(data.get("resumed", []), list):
        raise NTMError(f"{file}: is not a run's manifest")
    return data


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
