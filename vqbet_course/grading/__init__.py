"""Graded labs: exercises made from the lessons, instant feedback in the notebook, and a grade for a class.

    lessons > checks > judging    what is asked, with which inputs, and whether an answer is right
    runner > sandbox              where a student's code runs
    grader > report               submissions in, grades out
    editions                      the notebooks that students get

Importing the package loads no torch; `check` does.
"""

from collections.abc import Callable
from typing import Any


def check(answer: Callable[..., Any]) -> None:
    """Say whether an exercise is solved, or what is wrong, in words. Never raises."""
    from vqbet_course.grading.feedback import show

    show(answer)
