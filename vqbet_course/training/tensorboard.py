"""The metrics of a training for TensorBoard, which draws them while it runs: tensorboard --logdir RUN."""

from pathlib import Path
from typing import Any

from torch import Tensor

from vqbet_course.core.errors import BadInput
from vqbet_course.core.hooks import Hook, TrainingStage
from vqbet_course.core.io import read_json
from vqbet_course.core.specs import Contract
from vqbet_course.core.units import short
from vqbet_course.demos import Normalizer
from vqbet_course.training.integrity import NORMALIZER
from vqbet_course.training.log import EVERY, in_action_unit


class TensorBoard(Hook):
    """Writes what the log has, in the same units, into RUN/tensorboard/STAGE. What a killed training wrote of steps that
    run again is not shown. Raises BadInput where the package tensorboard is not installed.

    Args: out, the run directory."""

    def __init__(self, out: Path):
        self.out, self.writer = out, writer_class()

    def begin(self, stage: TrainingStage, start: int) -> None:
        """Open the file of a stage, and read from the run in which unit its actions are."""
        self.unit = short(read_json(self.out / "contract.json", Contract.from_dict).action.unit)
        self.action_unit = read_json(self.out / NORMALIZER, Normalizer.from_dict).unit("action")
        self.file = self.writer(str(self.out / "tensorboard" / stage.name), purge_step=start)

    def after(self, stage: TrainingStage, taken: int, metrics: dict[str, Tensor]) -> None:
        """Write every tenth step and the last one."""
        if (taken - 1) % EVERY == 0 or taken == stage.steps:
            for name, value in in_action_unit(metrics, self.action_unit, self.unit).items():
                self.file.add_scalar(name, value, taken - 1)

    def end(self, stage: TrainingStage, taken: int) -> None:
        """Close the file."""
        self.file.close()


def writer_class() -> Any:
    """PyTorch's `SummaryWriter`. Raises BadInput where the package that it needs is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise BadInput(
            "--tensorboard needs the package tensorboard; install it with: pip install 'vqbet_course[tensorboard]'"
        ) from None
    return SummaryWriter
