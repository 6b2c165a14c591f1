"""How many steps fit into some minutes on this machine."""

import time
from typing import Any, Protocol


class Steppable(Protocol):
    """What can be timed."""

    def step(self, step: int, seed: int) -> Any:
        """Take step number `step`."""


def seconds_per_step(stage: Steppable, seed: int, steps: int = 20) -> float:
    """How long a step takes on this machine; the first few, which warm the caches, are not counted."""
    for step in range(5):
        stage.step(step, seed)
    start = time.perf_counter()
    for step in range(5, 5 + steps):
        stage.step(step, seed)
    return (time.perf_counter() - start) / steps


def steps_within(seconds: float, first: float, second: float, most: int) -> int:
    """The number of steps of both stages that take `seconds`; a step of the stages takes `first` and `second` seconds.

    Stage 1 has `most` steps, or a third of all where that is less."""
    steps = most + (seconds - most * first) / second
    if steps < 3 * most:
        steps = seconds / (first / 3 + second * 2 / 3)
    return max(3, round(steps))
