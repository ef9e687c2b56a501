"""Training in TensorBoard: an optional extra, ``pip install 'ntm-suite[tensorboard]'``."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

from ntm.analysis.trace import record
from ntm.errors import UsageError
from ntm.files import legible
from ntm.runs.folder import RunDir
from ntm.runs.models import load_model
from ntm.training.loop import Watcher
from ntm.training.streams import Stream, numpy_generator
from ntm.views.plots import memory_figure


def require(folder: Path) -> None:
    """Raises UsageError where TensorBoard is not installed, or takes no run of this name."""
    if find_spec("tensorboard") is None:
        raise UsageError(
            "--tensorboard: TensorBoard is not installed; pip install 'ntm-suite[tensorboard]'"
        )
    if legible(str(folder)) != str(folder):
        raise UsageError(f"--tensorboard: {folder} is not UTF-8, as TensorBoard needs a path to be")


class TensorBoard:
    """Writes the rows of training for TensorBoard, RUN/tensorboard, and passes them on.

    Steps are sequences. It writes the scalars of training and of validation; and, whenever
    validation is the best so far, a figure of the memory on one episode of its size.
    """

    def __init__(self, run: RunDir, watcher: Watcher) -> None:
        require(run.path)
        from torch.utils.tensorboard import SummaryWriter

        self.run, self.watcher = run, watcher
        again = None
        if run.last_file.exists():  # resumed: steps that are repeated replace those written before
            before = run.load_checkpoint().state["progress"]
            again = before["sequences"] + 1
        self.writer = SummaryWriter(run.path / "tensorboard", purge_step=again)

    def __enter__(self) -> TensorBoard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.writer.close()

    def reported(self, row: dict[str, float]) -> None:
        self.watcher.reported(row)
        self._scalars("training", row)

    def validated(self, row: dict[str, float]) -> None:
        self.watcher.validated(row)
        self._scalars("validation", row)
        if self.run.load_best().state.get("sequences") == row["sequences"]:
            model, config = load_model(self.run)
            rng = numpy_generator(0, Stream.EVALUATION)
            task = config.validation_task
            trace = record(model, task.sample(rng, 1), task.loss)
            figure = memory_figure(
                trace, f"{task.kind} after {row['sequences']:,.0f} sequences", task.symbols
            )
            self.writer.add_figure("memory", figure, int(row["sequences"]))

    def _scalars(self, group: str, row: dict[str, float]) -> None:
        for name, value in row.items():
            if name != "sequences":
                self.writer.add_scalar(f"{group}/{name}", value, int(row["sequences"]))
