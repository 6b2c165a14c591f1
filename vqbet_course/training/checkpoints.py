"""Checkpoints of a training in progress, written atomically as one file, and the weights at its end."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vqbet_course.core.errors import BadInput
from vqbet_course.core.hooks import Hook, TrainingStage
from vqbet_course.core.io import write_atomically
from vqbet_course.training.integrity import check_finite

SECONDS_BETWEEN = 20.0
"""A killed training loses at most these seconds and the current step."""


def load_tensors(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Load the tensors of the file `path` into a module. Raises BadInput when they are not its own."""
    # a policy with goals on PushT wrapped its encoders in 0.1
    renamed = {name.replace("encoder.encoder.", "encoder."): value for name, value in tensors.items()}
    check_finite(renamed, path)
    try:
        module.load_state_dict(renamed)
    except RuntimeError as error:
        why = " ".join(str(error).split("\n\t", 1)[-1].split())[:200]
        raise BadInput(f"{path}: does not fit config.json ({why}); was one of them copied from another run?") from None


def save_weights(module: nn.Module, path: Path) -> None:
    """Write the tensors of a module atomically."""
    tensors = {name: value.contiguous() for name, value in module.state_dict().items()}
    write_atomically(path, lambda partial: save_file(tensors, partial))


def load_weights(module: nn.Module, path: Path) -> None:
    """Load what `save_weights` wrote. Raises BadInput for a file that is damaged or of another module."""
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        state = "damaged" if path.exists() else "missing"
        raise BadInput(f"{path}: {state} ({error}); copy it again or train again") from None
    load_tensors(module, tensors, path)


@dataclass(frozen=True)
class Checkpoint:
    """A training in progress: its stage, the next step, and every tensor of its state."""

    path: Path
    stage: int
    step: int
    tensors: dict[str, Tensor]

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors below `name.`, without that prefix."""
        return {k.removeprefix(name + "."): v for k, v in self.tensors.items() if k.startswith(name + ".")}

    def restore(self, stage: TrainingStage) -> int:
        """Restore the optimizer and the moving average of a stage; returns the next step. Raises BadInput for a state that is
        not this stage's."""
        if self.step > stage.steps:
            raise self.of_another(f"step {self.step} is beyond the {stage.steps} of the plan")
        if stage.average is not None:
            load_tensors(stage.average, self.part("average"), self.path)
        state = self.optimizer_state([p for group in stage.optimizer.param_groups for p in group["params"]])
        stage.optimizer.load_state_dict(stage.optimizer.state_dict() | {"state": state})
        return self.step

    def optimizer_state(self, parameters: Sequence[Tensor]) -> dict[int, dict[str, Tensor]]:
        """What an optimizer keeps of each parameter, {its number: {name: tensor}}. Raises BadInput where that is not of these
        parameters."""
        check_finite(self.part("optimizer"), self.path)
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in self.part("optimizer").items():
            index, _, name = key.partition(".")
            known = index.isdecimal() and int(index) < len(parameters)
            if not known or value.shape not in ((), parameters[int(index)].shape):
                raise self.of_another(f"optimizer.{key} fits no parameter")
            state.setdefault(int(index), {})[name] = value
        if len({frozenset(each) for each in state.values()}) > 1:
            raise self.of_another("the optimizer's state is not whole")
        return state

    def of_another(self, why: str) -> BadInput:
        """What is raised for a checkpoint that is not of the run beside it."""
        return BadInput(f"{self.path}: is not of this run ({why}); delete it to start this run again")


def write_checkpoint(out: Path, network: nn.Module, stage: TrainingStage, number: int, step: int) -> None:
    """Write train_state.safetensors: one file, so that a kill cannot leave two that disagree.

    Args: network, all that is trained; number of the stage; step, the next one."""
    tensors = {f"policy.{k}": v for k, v in network.state_dict().items()}
    if stage.average is not None:
        tensors |= {f"average.{k}": v for k, v in stage.average.state_dict().items()}
    for index, state in stage.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v for k, v in state.items()}
    where = {"stage": str(number), "step": str(step)}
    write_atomically(out / "train_state.safetensors", lambda path: save_file(tensors, path, metadata=where))


def read_checkpoint(out: Path) -> Checkpoint | None:
    """The checkpoint of a run directory, or None before the first. Raises BadInput for a damaged one."""
    path = out / "train_state.safetensors"
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            at, tensors = file.metadata(), {k: file.get_tensor(k) for k in file.keys()}
        stage, step = int(at["stage"]), int(at["step"])
        if stage not in (0, 1) or step < 0:
            raise ValueError(f"stage {stage}, step {step}")
        return Checkpoint(path, stage, step, tensors)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path}: damaged ({error}); delete it to start this run again") from None


class SaveCheckpoints(Hook):
    """Writes a checkpoint every SECONDS_BETWEEN seconds and at the end of a stage."""

    def __init__(self, out: Path, network: nn.Module, number: int):
        self.out, self.network, self.number = out, network, number
        self.saved_at = time.monotonic()

    def after(self, stage: TrainingStage, taken: int, metrics: dict[str, Tensor]) -> None:
        """Write a checkpoint where one is due."""
        if time.monotonic() - self.saved_at > SECONDS_BETWEEN or taken == stage.steps:
            write_checkpoint(self.out, self.network, stage, self.number, taken)
            self.saved_at = time.monotonic()
