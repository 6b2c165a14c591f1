"""What the training loop calls before and after each step of a stage."""

from typing import Protocol

import torch
from torch import Tensor, nn


class TrainingStage(Protocol):
    """What a hook sees of a stage: its name, how many steps it takes, its module, the moving average, the optimizer."""

    name: str
    steps: int
    module: nn.Module
    average: nn.Module | None
    optimizer: torch.optim.Optimizer

    def acting(self) -> nn.Module:
        """The module as it acts: its moving average where there is one."""


class Hook:
    """A hook that does nothing; subclasses override what they need."""

    def begin(self, stage: TrainingStage, start: int) -> None:
        """Called once, before step number `start`."""

    def before(self, stage: TrainingStage, step: int) -> bool:
        """Called before step number `step`; False ends the stage."""
        return True

    def after(self, stage: TrainingStage, taken: int, metrics: dict[str, Tensor]) -> None:
        """Called after a step with its metrics; `taken` steps of the stage are taken now."""

    def end(self, stage: TrainingStage, taken: int) -> None:
        """Called once, when the stage is over."""
