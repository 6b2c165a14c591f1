"""Submissions for the tests of grading: student editions, filled in."""

import json
from typing import Any

from vqbet_course.grading.editions import LABS
from vqbet_course.grading.lessons import all_labs


def notebook_of(lab: str) -> dict[str, Any]:
    """The untouched student edition."""
    return json.loads((LABS / f"{lab}.ipynb").read_text(encoding="utf-8"))


def solved_with(lab: str, sources: dict[str, str]) -> dict[str, Any]:
    """The edition with these sources, in which `# <solution>` stands for the solution; the others are solved."""
    notebook, exercises = notebook_of(lab), all_labs()[lab].exercises
    for cell in notebook["cells"]:
        if "exercise" in cell["metadata"]:
            exercise = exercises[cell["metadata"]["exercise"]["id"]]
            cell["source"] = sources.get(exercise.id, "# <solution>").replace("# <solution>", exercise.solution)
    return notebook


def solved(lab: str) -> dict[str, Any]:
    """The edition with every exercise solved."""
    return solved_with(lab, {})
