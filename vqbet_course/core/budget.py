"""How long something may train, and the clock that measures it."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vqbet_course.core.errors import BadInput


@dataclass(frozen=True)
class Budget:
    """How long a policy may train: minutes of the machine's time, or else optimizer steps of all stages together.

    Raises BadInput unless exactly one is given and is usable."""

    minutes: float | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        if (self.minutes is None) == (self.steps is None):
            raise BadInput("give either --minutes or --steps")
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise BadInput(f"{self.minutes} minutes: give a number above 0")
        if self.steps is not None and self.steps < 3:
            raise BadInput(f"{self.steps} steps: give at least 3, one for the tokenizer and two for the policy")

    @property
    def seconds(self) -> float | None:
        """The minutes in seconds; None for a budget in steps."""
        return None if self.minutes is None else 60 * self.minutes

    def __str__(self) -> str:
        return f"{self.steps} steps" if self.minutes is None else f"{self.minutes:g} minutes"

    @property
    def option(self) -> str:
        """The budget as an option of the command line."""
        return f"--steps {self.steps}" if self.minutes is None else f"--minutes {self.minutes:g}"


class Clock:
    """A clock: seconds since it was made, without those spent inside `pause`. Args: now, a function that tells the
    time in seconds."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.now, self.paused = now, 0.0
        self.start = now()

    def seconds(self) -> float:
        """Seconds so far."""
        return self.now() - self.start - self.paused

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Stop the clock while the block runs."""
        before = self.now()
        yield
        self.paused += self.now() - before
