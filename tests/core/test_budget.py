"""Budgets that can be kept, and a clock that can be stopped."""

from typing import Any

import pytest

from vqbet_course.core.budget import Budget, Clock
from vqbet_course.core.errors import BadInput


@pytest.mark.parametrize(
    ("budget", "why"),
    [
        ({}, "either"),
        ({"minutes": 1, "steps": 9}, "either"),
        ({"minutes": 0}, "above 0"),
        ({"minutes": float("nan")}, "above 0"),
        ({"steps": 2}, "at least 3"),
    ],
)
def test_budgets_that_are_none(budget: dict[str, Any], why: str) -> None:
    with pytest.raises(BadInput, match=why):
        Budget(**budget)


def test_a_budget_is_steps_or_seconds() -> None:
    assert Budget(minutes=0.5).seconds == 30 and Budget(steps=7).seconds is None
    assert Budget(minutes=0.5).option == "--minutes 0.5" and Budget(steps=7).option == "--steps 7"


def test_measuring_does_not_cost_training_time() -> None:
    now = [0.0]
    clock = Clock(lambda: now[0])
    with clock.pause():
        now[0] += 50
    now[0] += 2
    assert clock.seconds() == 2
