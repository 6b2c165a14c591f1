"""What kind of mistake a wrong answer holds: told by its numbers alone.

Two ways. The numbers may be those of the solution with one place changed: then the kind of that change is the mistake.
Or they stand in a plain relation to the right ones: all twice as large, one place further, transposed. What fits
neither gets the smallest example with what is expected and what came.
"""

import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vqbet_course.grading.checks import Check
from vqbet_course.grading.lessons import Lab
from vqbet_course.grading.mutation import DETACHED, FACTOR, HINTS, OFF_BY_ONE, SIGN, TRANSPOSE, mutants
from vqbet_course.grading.runner import OTHER_ERROR, Outputs, ask

SECONDS = 3.0
"""Of computing, that the search for a changed solution may take."""

FEW = 8
"""Numbers of a tensor that an example shows."""

Differ = Callable[[Outputs, Outputs], bool]


def diagnose(
    check: type[Check],
    lab: Lab,
    names: dict[str, Any],
    inputs: Outputs,
    expected: Outputs,
    got: Outputs,
    differ: Differ,
) -> tuple[str, str]:
    """The kind of mistake and what to look at; empty where neither way knows it.

    Args: names, what the lesson's module defines; differ, whether two answers differ.
    """
    kind, hint = known_relation(expected, got)
    if kind:
        return kind, hint
    kinds = changed_solutions(check, lab, names, inputs, got, differ)
    if len(kinds) == 1:
        return kinds[0], HINTS[kinds[0]]
    return "", ""


def changed_solutions(
    check: type[Check], lab: Lab, names: dict[str, Any], inputs: Outputs, got: Outputs, differ: Differ
) -> list[str]:
    """The kinds of all changes of the solution that give these outputs."""
    kinds: list[str] = []
    end = time.process_time() + SECONDS
    for mutant in mutants(lab.exercises[check.id].solution, check.blanks()):
        if time.process_time() > end:
            return []  # another kind might fit as well
        if mutant.kind not in kinds and gives(mutant.source, check, names, inputs, got, differ):
            kinds.append(mutant.kind)
    return kinds


def outputs_of(source: str, check: type[Check], names: dict[str, Any], inputs: Outputs) -> Outputs:
    """What another implementation answers; `names`: what the lesson's module defines."""
    names = dict(names)
    exec(source, names)
    return ask(check.probe, names[check.answer], inputs)


def gives(
    source: str, check: type[Check], names: dict[str, Any], inputs: Outputs, got: Outputs, differ: Differ
) -> bool:
    """Whether another implementation gives these outputs: asked with the first case, and if need be with all."""
    first = {key: value for key, value in inputs.items() if key.startswith("0.")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return all(not differ(outputs_of(source, check, names, some), got) for some in (first, inputs))
        except Exception:
            return False


# --- relations ----------------------------------------------------------------------------------------------


def known_relation(expected: Outputs, got: Outputs) -> tuple[str, str]:
    """A plain relation between what is expected and what came, which holds for all outputs that differ."""
    pairs = {
        key: (expected[key], got[key])
        for key in expected
        if key in got and not key.split(".", 1)[1].startswith("input ") and not same(expected[key], got[key])
    }
    if not pairs or any(key not in got for key in expected):
        return "", ""
    slopes = [key for key in pairs if "gradient" in key]
    if len(slopes) == len(pairs):
        zero = all(not bool(got[key].any()) for key in slopes)
        said = (
            "the values are right, but no gradient arrives"
            if zero
            else "the values are right, but their gradients are not"
        )
        return said, HINTS[DETACHED]
    values = [pair for key, pair in pairs.items() if key not in slopes]
    for test, kind, hint in RELATIONS:
        if all(test(right, mine) for right, mine in values):
            return kind, HINTS[hint]
    if all(right.shape == mine.shape and right.is_floating_point() for right, mine in values):
        ratios = [ratio_of(right, mine) for right, mine in values]
        if all(ratio is not None for ratio in ratios):
            equal = max(ratios) - min(ratios) < 1e-3 * abs(ratios[0])  # type: ignore[operator, type-var, arg-type]
            if equal:
                return f"{FACTOR}: every number is {ratios[0]:.4g} times what is expected", HINTS[FACTOR]
            if all(right.numel() > 2 for right, _ in values):
                return f"{FACTOR}: the numbers are off by a factor that changes from case to case", HINTS[FACTOR]
    return "", ""


def same(right: Tensor, mine: Tensor) -> bool:
    """Whether two tensors hold the same numbers, up to rounding."""
    return right.shape == mine.shape and torch.allclose(right.double(), mine.double(), 1e-3, 1e-4, equal_nan=True)


def ratio_of(right: Tensor, mine: Tensor) -> float | None:
    """The one factor between two tensors; None where there is none, or where they are too small to tell."""
    right, mine = right.double().flatten(), mine.double().flatten()
    large = right.abs() > 1e-3
    if not large.any() or not torch.isfinite(mine).all():
        return None
    ratios = mine[large] / right[large]
    factor = ratios.median()
    fits = torch.allclose(mine, factor * right, 1e-3, 1e-4)
    return float(factor) if fits and abs(float(factor) - 1) > 1e-3 and float(factor) != 0 else None


def negated(right: Tensor, mine: Tensor) -> bool:
    """Whether all numbers have the other sign."""
    return right.dtype != torch.bool and bool(right.any()) and same(-right.double(), mine.double())


def transposed(right: Tensor, mine: Tensor) -> bool:
    """Whether two axes, or the two last, have changed places."""
    return any(same(right.transpose(a, b), mine) for a in range(right.ndim) for b in range(a + 1, right.ndim))


def one_off(right: Tensor, mine: Tensor) -> bool:
    """Whether all whole numbers are one too large, or all one too small. Of a single one nothing is said: a count that
    is one too small may have any cause."""
    if right.shape != mine.shape or right.is_floating_point() or right.dtype == torch.bool or right.numel() < 2:
        return False
    step = (mine.double() - right.double()).unique()
    return len(step) == 1 and abs(float(step[0])) == 1


def one_more_or_less(right: Tensor, mine: Tensor) -> bool:
    """Whether the result has one row too many or too few along one axis, and is right else."""
    if right.ndim != mine.ndim or right.ndim == 0:
        return False
    axes = [axis for axis in range(right.ndim) if right.shape[axis] != mine.shape[axis]]
    if len(axes) != 1 or abs(right.shape[axes[0]] - mine.shape[axes[0]]) != 1:
        return False
    n = min(right.shape[axes[0]], mine.shape[axes[0]])
    ends = [(0, 0), (right.shape[axes[0]] - n, mine.shape[axes[0]] - n)]
    return n > 0 and any(same(right.narrow(axes[0], a, n), mine.narrow(axes[0], b, n)) for a, b in ends)


def one_place_further(right: Tensor, mine: Tensor) -> bool:
    """Whether the rows are right, but one place too early or too late along the first axis."""
    if right.shape != mine.shape or right.ndim == 0 or len(right) < 3 or bool((right[1:] == right[:-1]).all()):
        return False
    return same(right[1:], mine[:-1]) or same(right[:-1], mine[1:])


RELATIONS: list[tuple[Callable[[Tensor, Tensor], bool], str, str]] = [
    (negated, SIGN, SIGN),
    (transposed, TRANSPOSE, TRANSPOSE),
    (one_off, f"{OFF_BY_ONE}, in every number", OFF_BY_ONE),
    (one_more_or_less, f"{OFF_BY_ONE}: one too many or too few", OFF_BY_ONE),
    (one_place_further, f"{OFF_BY_ONE}: everything stands one place too early or too late", OFF_BY_ONE),
]
"""How to tell a relation, what it is called, and whose hint it has."""


# --- an example ---------------------------------------------------------------------------------------------


def smallest_example(inputs: Outputs, expected: Outputs, got: Outputs, differ: Callable[[Tensor, Tensor], bool]) -> str:
    """The smallest output that is wrong, among all cases: where, what is expected, and what came; with the inputs of
    that case as far as they are small. Numbers say more than whether something is refused, and values more than their
    gradients; nothing is said of a large output with another shape, which the message names."""
    wrong = [key for key in expected if key in got and differ(expected[key], got[key])]
    wrong = [key for key in wrong if "gradient" not in key] or wrong
    wrong = [key for key in wrong if expected[key].dtype != torch.bool] or wrong
    wrong = [key for key in wrong if expected[key].shape == got[key].shape or expected[key].numel() <= FEW]
    if not wrong:
        return ""
    key = min(
        wrong, key=lambda key: (expected[key].numel(), sum(v.numel() for k, v in inputs.items() if k[0] == key[0]))
    )
    case, name = key.split(".", 1)
    if name.startswith("input "):
        return ""
    right, mine = expected[key], got[key]
    if right.dtype == torch.bool and bool((mine == OTHER_ERROR).any()):
        return ""  # the message says it
    given = ", ".join(
        f"{input_name.split('.', 1)[1]} = {tensor_in_words(value)}"
        for input_name, value in inputs.items()
        if input_name.startswith(f"{case}.") and value.numel() <= FEW
    )
    where = ""
    if right.shape == mine.shape and right.numel() > FEW:
        off = (~torch.isclose(right.double(), mine.double(), 1e-3, 1e-6, equal_nan=True)).nonzero()
        if not len(off):
            return ""
        place = tuple(off[0].tolist())
        where = f"[{', '.join(map(str, place))}]"
        right, mine = right[place], mine[place]
    parts = f"`{name}`{where}: expected {tensor_in_words(right)}, got {tensor_in_words(mine)}"
    return f"{parts} (with {given})" if given else parts


def tensor_in_words(value: Tensor) -> str:
    """A tensor in a few characters."""
    if value.numel() > FEW:
        return f"numbers of shape {tuple(value.shape)}"
    numbers: Any = value.tolist()

    def text(part: Any) -> str:
        if isinstance(part, list):
            return f"[{', '.join(map(text, part))}]"
        return f"{part:.4g}" if isinstance(part, float) else str(part)

    return text(numbers)
