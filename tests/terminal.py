"""The command line as a test types it."""

import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from ntm import cli

SMALL = """
task: {kind: copy, width: 3, length: [1, 3]}
model:
  controller: {kind: gru, size: 7}
  memory: {slots: 9, width: 5}
train:
  optimizer: {kind: adam, lr: 1e-3}
  sequences: 40
  report_every: 5
validation: {every: 10, episodes: 3, task: {length: 3}}
"""


class Output(NamedTuple):
    code: int
    out: str
    err: str


class Terminal:
    """Runs ntm as a user would, in a folder of its own, in this process."""

    def __init__(
        self, path: Path, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]
    ) -> None:
        self._patch, self._capture = patch, capture
        (path / "small.yaml").write_text(SMALL)
        patch.chdir(path)

    def __call__(self, *arguments: object) -> Output:
        self._patch.setattr(sys, "argv", ["ntm", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = self._capture.readouterr()
        code = caught.value.code or 0
        assert isinstance(code, int)
        assert "Traceback" not in err
        return Output(code, out, err)


RUN = Path("runs/copy/small/seed-1")
