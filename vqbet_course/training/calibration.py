"""Calibration: how many training steps fit into a time budget on this machine, and with how many threads."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch


class Steppable(Protocol):
    """A stage whose steps can be timed."""

    def step(self, step: int, seed: int) -> Any:
        """Take step number `step`."""


def seconds_per_step(stage: Steppable, seed: int, steps: int = 20) -> float:
    """Seconds per step on this machine, without the first five steps, which warm the caches."""
    for step in range(5):
        stage.step(step, seed)
    start = time.perf_counter()
    for step in range(5, 5 + steps):
        stage.step(step, seed)
    return (time.perf_counter() - start) / steps


def steps_within(seconds: float, first: float, second: float, most: int) -> int:
    """The number of steps of both stages that fit into `seconds`; a step of stage 1 takes `first` of them, one of
    stage 2 `second`.

    Stage 1 has `most` steps, or a third of all where that is less."""
    steps = most + (seconds - most * first) / second
    if steps < 3 * most:
        steps = seconds / (first / 3 + second * 2 / 3)
    return max(3, round(steps))


@contextmanager
def using_threads(threads: int) -> Iterator[None]:
    """PyTorch works with so many threads inside, and with those of its caller afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
