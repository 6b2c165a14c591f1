"""The log of a training: log.jsonl, a line for every tenth step, and the progress that is printed."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from vqbet_course.core.hooks import Hook, TrainingStage
from vqbet_course.core.io import append_text, write_text
from vqbet_course.core.progress import progress

EVERY = 10
"""Steps from one line to the next."""

DISTANCES = ("reconstruction", "offset_loss")
"""Metrics that are distances between normalised actions; the log has them in the action's unit."""


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log.jsonl, up to the first that is none: the last may be cut short by a kill."""
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []:
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            break
        if not isinstance(line, dict) or type(line.get("step")) is not int:
            break
        lines.append(line)
    return lines


def in_action_unit(metrics: dict[str, Tensor], size: float, unit: str) -> dict[str, float]:
    """The metrics of a step as numbers: distances multiplied by `size`, one normalised unit of action, with the name of
    its `unit` behind theirs (`reconstruction_px`)."""
    values = {name: round(value.item(), 6) for name, value in metrics.items()}
    for name in DISTANCES:
        if name in values:
            values[f"{name}_{unit}"] = round(values.pop(name) * size, 3)
    return values


class TrainingLog(Hook):
    """Writes the metrics of every tenth step and of the last one to log.jsonl, and prints progress unless `quiet`.

    Args: out, the run directory; action_unit, one normalised unit of action in the action's own, called `unit`."""

    def __init__(self, out: Path, action_unit: float, unit: str, quiet: bool):
        self.path, self.action_unit, self.unit, self.quiet = out / "log.jsonl", action_unit, unit, quiet

    def begin(self, stage: TrainingStage, start: int) -> None:
        """Drop the lines of steps at or after `start`: a killed training wrote them and they will run again."""
        kept = [line for line in read_log(self.path) if line.get("stage") != stage.name or line["step"] < start]
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        self.bar = progress(f"{stage.name:>9}", "step", total=stage.steps, initial=start, quiet=self.quiet)

    def after(self, stage: TrainingStage, taken: int, metrics: dict[str, Tensor]) -> None:
        """Log every tenth step and the last one."""
        self.bar.update()
        if (taken - 1) % EVERY and taken != stage.steps:
            return
        values = in_action_unit(metrics, self.action_unit, self.unit)
        self.bar.set_postfix(values, refresh=False)
        append_text(self.path, json.dumps({"stage": stage.name, "step": taken - 1, **values}) + "\n")

    def end(self, stage: TrainingStage, taken: int) -> None:
        """Close the progress bar."""
        self.bar.close()
