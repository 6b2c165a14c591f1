"""Hooks that end a stage in time, and that measure while it trains."""

from collections.abc import Callable

from torch import nn

from vqbet_course.core.budget import Clock
from vqbet_course.core.hooks import Hook, TrainingStage


class Deadline(Hook):
    """Ends a stage at a second of the clock. `stage.steps`, which sets the learning rate, becomes the number of
    steps that fit into the time."""

    def __init__(self, clock: Clock, until: float):
        self.clock, self.until, self.share = clock, until, 0.0

    def begin(self, stage: TrainingStage, start: int) -> None:
        """Note when the stage begins, and how many steps it takes at most."""
        self.began, self.most = self.clock.seconds(), stage.steps

    def before(self, stage: TrainingStage, step: int) -> bool:
        """Set `stage.steps` by the pace so far; False when the time is over."""
        now = self.clock.seconds()
        if now >= self.until:
            return False
        self.share = max(step / self.most, (now - self.began) / (self.until - self.began))
        stage.steps = max(step + 1, min(self.most, round(step / self.share))) if self.share else self.most
        return True


class Measurement(Hook):
    """Measures the acting module `points` times, evenly over a stage, and at its end; the clock is paused meanwhile.

    curve: one row per measurement: seconds, step, error. Comes after a `deadline` in the order of hooks."""

    def __init__(
        self, clock: Clock, measure: Callable[[nn.Module], float], points: int, deadline: Deadline | None = None
    ):
        self.clock, self.measure, self.points, self.deadline = clock, measure, points, deadline
        self.curve: list[dict[str, float]] = []

    def begin(self, stage: TrainingStage, start: int) -> None:
        """Note how many steps the stage takes."""
        self.most = stage.steps

    def before(self, stage: TrainingStage, step: int) -> bool:
        """Measure where the next point of the curve is due."""
        share = self.deadline.share if self.deadline else step / self.most
        if share * self.points >= len(self.curve):
            self.end(stage, step)
        return True

    def end(self, stage: TrainingStage, taken: int) -> None:
        """Measure now."""
        with self.clock.pause():
            seconds = self.clock.seconds()
            self.curve.append({"seconds": seconds, "step": taken, "error": self.measure(stage.acting())})
