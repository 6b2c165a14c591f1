"""What is asked of each exercise: one file per lesson, one class per exercise.

A check draws inputs, asks an answer with them (`probe`), and names the misconceptions that it recognises. It states
no solution: that is the lesson's own cell. To add exercises to a lesson, mark its cells (`metadata.exercise`) and
write `lesson_NN.py` here; it is found by its name.
"""

import functools
import importlib
import inspect
import pkgutil
import textwrap
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from vqbet_course.core.errors import BadInput

CASES = 3
"""How many times inputs are drawn for one grading."""


@dataclass(frozen=True)
class Misconception:
    """A known way to be wrong: the solution with some of its text replaced, {old: new}; `hint` does not tell how."""

    name: str
    edits: dict[str, str]
    hint: str

    def source(self, solution: str) -> str:
        """The wrong implementation. Raises BadInput when the solution no longer holds the text to replace."""
        for old, new in self.edits.items():
            if solution.count(old) != 1:
                raise BadInput(f"misconception {self.name!r}: the solution holds {old!r} {solution.count(old)} times")
            solution = solution.replace(old, new)
        return solution


class Check:
    """One exercise.

    id: as in the cell's metadata; answer: the name that the cell defines and that is asked; blank: the functions and
    methods whose bodies the student writes (`answer` itself when empty); tolerance: how far a number may be off,
    absolute for small numbers and relative for large ones; whole: whether what is a whole number has to be of such a
    type, because the docstring says so.
    """

    id: ClassVar[str]
    answer: ClassVar[str]
    blank: ClassVar[tuple[str, ...]] = ()
    hint: ClassVar[str]
    tolerance: ClassVar[float] = 1e-4
    whole: ClassVar[bool] = False
    misconceptions: ClassVar[list[Misconception]]

    @staticmethod
    def draw(g: torch.Generator) -> dict[str, Tensor]:
        """Inputs by name, drawn anew from the generator."""
        raise NotImplementedError

    probe: ClassVar[Any]
    """Static: (answer, **inputs) -> numbers, lists or tensors by name. Its source runs in the sandbox, where it may
    use torch, nn, F, np, what the lesson's cells before define, and of `runner` the functions `set_parameters`,
    `gradients`, `parameter_gradients`, `refuses` and `several`."""

    @classmethod
    def blanks(cls) -> tuple[str, ...]:
        """The functions and methods whose bodies the student writes."""
        return cls.blank or (cls.answer,)

    @classmethod
    def probe_source(cls) -> str:
        """The source of `probe`, as the sandbox runs it."""
        return textwrap.dedent(inspect.getsource(cls.probe))

    @classmethod
    def inputs(cls, seed: int) -> dict[str, Tensor]:
        """The inputs of one grading, {`CASE.NAME`: tensor}: the same for the same seed."""
        g = torch.Generator().manual_seed(seed)
        return {f"{case}.{name}": value for case in range(CASES) for name, value in cls.draw(g).items()}


@functools.cache
def all_checks() -> dict[str, type[Check]]:
    """All checks by the id of their exercise."""
    for module in sorted(module.name for module in pkgutil.iter_modules(__path__)):
        importlib.import_module(f"{__name__}.{module}")
    return {check.id: check for check in Check.__subclasses__()}


def normal(g: torch.Generator, *shape: int) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(shape, generator=g)


def integers(g: torch.Generator, low: int, high: int, *shape: int) -> Tensor:
    """Whole numbers in low..high-1."""
    return torch.randint(low, high, shape, generator=g)
